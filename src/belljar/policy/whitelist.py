"""The C modules of the standard library: which a guest may load by default, and why.

What: every extension and built-in module of CPython 3.11 to 3.14 on Linux, by name, with its
reason.  Because: the kernel's walls hold whatever runs inside them, so a module is allowed if
it computes, parses, or asks the kernel, which refuses; it is blocked if nothing inside can
use it, if only CPython's own tests do, or if it starts what the explaining layer does not see.
Then: operators add and block names by policy; ``docs/reference/modules.md`` prints the table,
and a test compares the two.

A reason is one sentence: what the module reaches, what hostile input it parses in C, and what
memory errors it has had where they are known.  "Has had" is the past: such errors are fixed
when they are found, and they tell where to expect the next one.
"""

from __future__ import annotations

__all__ = ["ALLOWED", "BLOCKED", "FACADES", "reason", "standing"]

ALLOWED: dict[str, str] = {
    "_abc": "registers abstract base classes; the interpreter itself stands on it",
    "_ast": "classes of the nodes of syntax trees; holds data and reaches nothing",
    "_asyncio": "futures and tasks in C; had use-after-free bugs under hostile event loops",
    "_bisect": "searches in sorted lists; computes and reaches nothing",
    "_blake2": "hashes bytes; reaches nothing",
    "_bz2": "unpacks bzip2 data in C; the library once wrote out of bounds",
    "_codecs": "decodes text in C, where UTF-16 once read out of bounds; "
    "the interpreter itself stands on it",
    "_codecs_cn": "decodes Chinese text by tables in C; reaches nothing",
    "_codecs_hk": "decodes Chinese text of Hong Kong by tables in C; reaches nothing",
    "_codecs_iso2022": "decodes the ISO 2022 family of East Asian text in C; reaches nothing",
    "_codecs_jp": "decodes Japanese text by tables in C; reaches nothing",
    "_codecs_kr": "decodes Korean text by tables in C; reaches nothing",
    "_codecs_tw": "decodes Chinese text of Taiwan by tables in C; reaches nothing",
    "_collections": "deques and default dictionaries; holds objects and reaches nothing",
    "_contextvars": "context variables; holds objects and reaches nothing",
    "_crypt": "hashes passwords with libcrypt; reaches nothing",
    "_csv": "parses lines of CSV in C; reaches nothing",
    "_ctypes": "lends native calls in one line, which the kernel's walls are built for; "
    "pandas and NumPy import it; block it where nothing needs it",
    "_datetime": "computes with dates and times, and parses their ISO form in C; reaches nothing",
    "_decimal": "computes with decimal numbers; a huge precision costs the guest's own time",
    "_elementtree": "builds trees of XML in C; had use-after-free bugs where a tree changed "
    "while it was walked",
    "_functools": "partial calls and caches; calls what it is given and reaches nothing",
    "_hashlib": "hashes bytes through OpenSSL, a large C library",
    "_heapq": "keeps lists as heaps; crashed where a comparison changed the list",
    "_hmac": "computes keyed hashes; reaches nothing",
    "_imp": "loads modules, C ones only from files that can be read inside; "
    "the interpreter itself stands on it",
    "_io": "opens and buffers files, of which the kernel shows the granted ones; "
    "the interpreter itself stands on it",
    "_json": "parses JSON in C; once read out of bounds at a negative index",
    "_locale": "asks the C library for locales and message catalogues, which that parses",
    "_lsprof": "counts calls and their time; had use-after-free bugs with hostile timers",
    "_lzma": "unpacks xz data in C with liblzma; a bomb meets the memory limit",
    "_md5": "hashes bytes; reaches nothing",
    "_multibytecodec": "drives the East Asian codecs; decodes bytes in C and reaches nothing",
    "_multiprocessing": "named semaphores, which need /dev/shm, and that is out of reach inside",
    "_opcode": "tells about bytecode; computes and reaches nothing",
    "_operator": "operators as functions; calls what it is given and reaches nothing",
    "_pickle": "runs whatever a pickle names, which stays inside the walls; once had an "
    "integer overflow",
    "_posixshmem": "opens shared memory under /dev/shm, which is out of reach inside",
    "_posixsubprocess": "forks and executes in one call; the kernel refuses what is not granted",
    "_queue": "hands objects from thread to thread; reaches nothing",
    "_random": "makes numbers from a seed of the kernel's random bytes; reaches nothing else",
    "_sha1": "hashes bytes; reaches nothing",
    "_sha2": "hashes bytes; reaches nothing",
    "_sha256": "hashes bytes; reaches nothing",
    "_sha3": "hashes bytes; its code before Python 3.11 had a buffer overflow",
    "_sha512": "hashes bytes; reaches nothing",
    "_signal": "sets handlers and sends signals, which the kernel keeps inside the sandbox; "
    "the interpreter itself stands on it",
    "_socket": "asks for sockets and host names, which the kernel refuses where they are not "
    "granted; once overflowed a buffer",
    "_sqlite3": "runs SQL and parses database files in a large C library that has had many "
    "memory errors; opens only what the kernel shows",
    "_sre": "matches regular expressions; a hostile one takes exponential time, and a limit ends it",
    "_ssl": "parses certificates and TLS in OpenSSL, which has read and written out of bounds; "
    "reaches only sockets that it is given",
    "_stat": "tells what the bits of a file mode mean; reaches nothing",
    "_statistics": "computes one function of the normal distribution; reaches nothing",
    "_string": "parses format strings in C; reaches nothing",
    "_struct": "packs and unpacks bytes by a format in C; reaches nothing",
    "_suggestions": "finds the name that was meant, for error messages; reaches nothing",
    "_symtable": "parses source text in C; very deep text has crashed the parser",
    "_sysconfig": "tells a few settings that the interpreter was built with; reaches nothing",
    "_thread": "starts threads, which a limit counts; the interpreter itself stands on it",
    "_tokenize": "splits source text into tokens in C; reaches nothing",
    "_tracemalloc": "notes where memory was taken, at the cost of the guest's own memory",
    "_types": "names the types of the interpreter; reaches nothing",
    "_typing": "type variables and aliases in C; holds objects and reaches nothing",
    "_uuid": "makes UUIDs in libuuid, whose questions to a daemon and to network cards are refused",
    "_warnings": "filters and prints warnings; the interpreter itself stands on it",
    "_weakref": "makes weak references; the interpreter itself stands on it",
    "_zoneinfo": "computes local times, and parses the rules of time zones in C; reaches nothing",
    "_zstd": "unpacks Zstandard data in C with libzstd; a bomb meets the memory limit",
    "array": "arrays of numbers and their bytes; holds data and reaches nothing",
    "atexit": "calls functions when the interpreter ends, and the limits bound them, too",
    "audioop": "computes on samples of sound in C; had integer overflows and corrupted memory",
    "binascii": "turns bytes into text and back, parsing both in C; reaches nothing",
    "builtins": "compiles and runs code, opens and imports: the language, inside the walls; "
    "the interpreter itself stands on it",
    "cmath": "computes with complex numbers; reaches nothing",
    "errno": "names the numbers of errors; reaches nothing",
    "faulthandler": "prints tracebacks of crashes; can crash on purpose, which ends only the guest",
    "fcntl": "locks files and asks about descriptors; the filter passes a few harmless requests",
    "gc": "hands out every object of the process; one interpreter hides none from itself anyway",
    "grp": "asks for user groups, and sees a made-up list or none",
    "itertools": "iterators in C; tee crashed where it was entered twice; reaches nothing",
    "marshal": "reads code objects from bytes; forged ones crash the process, which ends only "
    "the guest; the interpreter itself stands on it",
    "math": "computes with numbers; reaches nothing",
    "mmap": "maps memory and files, never executable; crashed where a map was closed "
    "while it was used",
    "posix": "lends the calls of os, which the kernel answers under the policy; "
    "the interpreter itself stands on it",
    "pwd": "asks for user accounts, and sees a made-up list or none",
    "pyexpat": "parses XML in libexpat, which has had overflows and use-after-free bugs",
    "resource": "asks for limits and usage; no limit can be raised",
    "select": "waits for descriptors, and the guest has only its own",
    "sys": "frames, hooks and settings of this process; the interpreter itself stands on it",
    "termios": "settings of a terminal, which the filter lets be read and never changed",
    "time": "reads clocks and sleeps; the kernel refuses to set a clock; "
    "the interpreter itself stands on it",
    "unicodedata": "normalises text by tables in C, in quadratic time for hostile text; reaches nothing",
    "zlib": "unpacks deflate data in C; the library has had memory errors; "
    "a bomb meets the memory limit",
}
"""Modules that a guest may load by default, and why."""

BLOCKED: dict[str, str] = {
    "_ctypes_test": "exists for CPython's own tests; native functions for ctypes to call",
    "_curses": "draws on a terminal, and there is none inside; ncurses has had memory errors "
    "in parsing terminal descriptions",
    "_curses_panel": "stacks the windows of curses on a terminal, and there is none inside",
    "_dbm": "C database library that trusts its files; dbm.dumb and sqlite3 do without",
    "_gdbm": "C database library that trusts its files; dbm.dumb and sqlite3 do without",
    "_interpchannels": "channels between sub-interpreters, which are blocked",
    "_interpqueues": "queues between sub-interpreters, which are blocked",
    "_interpreters": "a second interpreter starts without the layer that explains refusals, "
    "and many C modules have crashed in one",
    "_remote_debugging": "reads the memory of other processes, which the kernel refuses here",
    "_testbuffer": "exists for CPython's own tests; buffers of every legal and illegal shape",
    "_testcapi": "exists for CPython's own tests; lends the raw C interface, crashes included",
    "_testclinic": "exists for CPython's own tests; samples of argument parsing",
    "_testclinic_limited": "exists for CPython's own tests; samples of argument parsing",
    "_testexternalinspection": "exists for CPython's own tests; reads the memory of other "
    "processes, which the kernel refuses here",
    "_testimportmultiple": "exists for CPython's own tests; several modules in one file",
    "_testinternalcapi": "exists for CPython's own tests; reads and changes the interpreter's "
    "inner state",
    "_testlimitedcapi": "exists for CPython's own tests; lends the raw C interface",
    "_testmultiphase": "exists for CPython's own tests; modules that break the rules of loading",
    "_testsinglephase": "exists for CPython's own tests; modules that load in the old way",
    "_tkinter": "opens windows; pulls in Tcl, Tk and X11, and there is no display inside",
    "_xxinterpchannels": "channels between sub-interpreters, which are blocked",
    "_xxinterpqueues": "queues between sub-interpreters, which are blocked",
    "_xxsubinterpreters": "a second interpreter starts without the layer that explains refusals, "
    "and many C modules have crashed in one",
    "_xxtestfuzz": "exists for CPython's own tests; entry points for fuzzing",
    "nis": "asks the network for accounts; pulls in RPC and Kerberos libraries",
    "ossaudiodev": "plays on a sound device, and there is none inside",
    "readline": "edits lines on a terminal, and there is none inside",
    "spwd": "reads the shadow password file, which is never inside",
    "syslog": "writes to the log of the system through a socket, and there is none inside",
    "xxlimited": "example of the C interface; of no use to a program",
    "xxlimited_35": "example of the C interface; of no use to a program",
    "xxsubtype": "example of the C interface; of no use to a program",
}
"""Modules that a guest may not load by default, and why."""

FACADES: dict[str, tuple[str, ...]] = {
    "asyncio.tools": ("_remote_debugging",),
    "concurrent.futures.interpreter": ("_interpreters", "_interpqueues"),
    "concurrent.interpreters": ("_interpreters", "_interpqueues"),
    "curses": ("_curses",),
    "curses.panel": ("_curses", "_curses_panel"),
    "dbm.gnu": ("_gdbm",),
    "dbm.ndbm": ("_dbm",),
    "tkinter": ("_tkinter",),
    "turtle": ("_tkinter",),
}
"""Modules in Python that do not import without these blocked ones, nor does what is beneath."""


def standing(name: str) -> bool | None:
    """True if the module called ``name`` is allowed by default, False if it is blocked.

    None if it is not in the table: written in Python, of a distribution, or unknown.
    """
    if name in ALLOWED:
        return True
    return False if name in BLOCKED else None


def reason(name: str) -> str:
    """Why the module called ``name`` has its standing, in one sentence without a full stop.

    Raises:
        KeyError: it is not in the table.
    """
    return ALLOWED[name] if name in ALLOWED else BLOCKED[name]
