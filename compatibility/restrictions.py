"""Why a test that passes outside does not pass inside: names, and how each is recognised.

What: ``RESTRICTIONS``, the table of the page, and ``explain``, which finds the first row
that fits the traceback or the reason for skipping.  Because: "it fails" is no answer to
somebody who wants to run his program inside.  Then: what no row fits has no name and is
listed test by test; a new row is written only for what is meant to be so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Restriction:
    """``what`` in one sentence, the page under ``docs/limitations`` if there is one.

    A difference belongs to it if one of ``texts`` is found in its text, or one of
    ``tests`` in the name of the test: for those that do not say what they ran into.
    """

    name: str
    what: str
    page: str = ""
    texts: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()


# What the tests call by name and every system has.
PROGRAMS = ("cat", "echo", "env", "false", "ls", "sh", "sleep", "sort", "tr", "true")

# Source lines of a traceback that start a process, and what they end in.
_STARTS = (
    r"(?:_fork_exec\(|os\.fork\(\)|os\.forkpty\(\)|pty\.fork\(\)|posix_spawnp?\(|fork_exec\(|"
    r"os\.exec[lv]p?e?\(|spawn_func\(|in _spawnvef|interpreter_requires_environment)"
)
_REFUSED = r"PermissionError: \[Errno 1(?:3)?\]"
# One exception or one frame after the other: no rule looks across two tracebacks.
_FAR = r"(?:(?!Traceback \(most recent)[\s\S])*?"

RESTRICTIONS = (
    Restriction(
        "C module not on the list",
        "modules that exist for CPython's own tests, and those for terminals and old databases, "
        "are not there",
        texts=(
            r"No module named '?(?:_test\w+|_xxtest\w+|xx\w+|_xxsubinterpreters|_xxinterpchannels|"
            r"_interp\w+|_ctypes_test|_tkinter|_curses(?:_panel)?|readline|_dbm|_gdbm|nis|"
            r"ossaudiodev|spwd|syslog)\b",
            r"(?:_testcapi|_testinternalcapi|_testmultiphase|_ctypes_test|_testbuffer|"
            r"_xxsubinterpreters) (?:is )?(?:required|not available|needed)",
            r"(?:requires?|needs?|need) _test\w+",
            # What tests say who tried the import and went on with None.
            r"ndarray object required|legacy Unicode C API|ContainerNoGC extension|_test\w+ lacks|"
            r"need the _test\w+|'NoneType' object has no attribute 'MethInstance'",
            r"_test\w+\.\w+" + _FAR + r"(?:AttributeError: 'NoneType'|NameError: name '_test)",
            r"lib(?:tk|tcl|readline|ncurses|panel|gdbm|db)\S*: cannot open shared object",
        ),
    ),
    Restriction(
        "no ctypes callbacks",
        "a libffi without static trampolines makes callbacks of writable code, which is refused",
        "ctypes-callbacks",
        texts=(
            r"(?:CFUNCTYPE|PYFUNCTYPE|freefunc|WINFUNCTYPE|CMPFUNC|ctypes|prototype|_ctypes)"
            + _FAR
            + r"\nMemoryError",
        ),
    ),
    Restriction(
        "nothing of /work executes",
        "writable places are noexec, so no file there counts as a program",
        texts=(
            r"AssertionError: None != b?'[^']*[Tt]mp[^']*\.[Ee]xe'",
            r"PermissionError: \[Errno 13\] Permission denied: '/(?:tmp|work)/",
        ),
    ),
    Restriction(
        "one /proc",
        "`/proc/self` and `/dev/stdin` are those of the guest's first process in every process",
        "sub-processes",
        tests=(
            r"\.test_(?:devstdin_input|script_as_dev_fd)$",
            r"POSIXProcessTestCase\.test_restore_signals$",
        ),
    ),
    Restriction(
        "built elsewhere",
        "an interpreter that is started under a name that is none of its own looks where it was "
        "built for, and that is not there",
        tests=(r"ProcessTestCase(?:NoPoll)?\.test_executable_without_cwd$",),
    ),
    Restriction(
        "programs not granted",
        "of programs only these are granted to the tests: " + ", ".join(PROGRAMS),
        "sub-processes",
        texts=(
            _STARTS + _FAR + _REFUSED,
            r"working 'id -G'",
            r"requires a shell|requires (?:ip|ifconfig|arp)$|relies on #!|\b(?:bash|ksh|ls) required|does not support pidfds|command (?:is|was) not found",
            r"[Nn]eed(?:s|ed)? (?:the )?(?:tar|gzip|unzip|zip|gcc|bzip2)\b",
            r"(?:[Cc]ould not|Unable to) find (?:libc|C library)|gcc, needed for test",
            r"lib_\w+ not available",
            r"DistutilsExecError: command",
        ),
        tests=(
            r"FindLibraryLinux\.test_find_library_with_(?:gcc|ld)$",  # ask them
            r"test_mailcap\.FindmatchTest\.test_test$",  # os.system
        ),
    ),
    Restriction(
        "no network",
        "no socket reaches anybody, loopback included, and no name is found",
        "no-network",
        texts=(
            r"_socket\.socket\.__init__" + _FAR + r"(?:PermissionError|\[Errno 97\])",
            r"socket\.socket\(" + _FAR + r"(?:PermissionError: \[Errno 13\]|\[Errno 97\])",
            r"IPv6 (?:support )?(?:required|not enabled)|IPv6 required|name lookup failure",
            # asyncio's create_server goes on without a socket that it is refused.
            r"\.sockets\[0\]|assertTrue\(srv_socks\)",
            r"VSOCK sockets required|dualstack_ipv6 not supported",
            r"functional unix bind\(\)|cannot bind (?:AF_UNIX|Unix) socket|"
            r"IPv6 not supported or enabled|no IPv6 support|Can not create socket",
            r"\[Errno 97\] Address family not supported",
            r"(?:\.bind|\.connect|sock_connect|_create_unix_server|create_unix_server)\("
            + _FAR
            + r"\[Errno 1\]",
            r"is already in use.* does not match .*\[Errno 1\]",
            r"self\.assertEqual\(len\(sockets?\), 1\)|len\(server\.sockets\)|assertEqual\(len\(srv_socks\)",
            r"socket\.gaierror",
            r"PermissionError\(13, 'Permission denied'\) != None",
        ),
        tests=(
            r"test_events\.\w+EventLoopTests\.test_create_server(?:_reuse_port)?$",
            r"test_logging\.\w*(?:Socket|Datagram|SysLog)HandlerTest\.",
            r"test_socket\.GeneralModuleTests\.testGetServBy$",
        ),
    ),
    Restriction(
        "read-only library",
        "the standard library cannot be written to; removing a file from it that is not there "
        "says so, too",
        texts=(
            r"\[Errno 30\] Read-only file system: '/usr/lib",
            r"requires write access to the installed location",
        ),
    ),
    Restriction(
        "no bytecode files",
        "imports write no bytecode and read none but the library's and the packages', because "
        "what a guest wrote is never loaded as code",
        texts=(
            r"sys\.dont_write_bytecode is true|only when writing bytecode|byte-compile disabled|"
            r"relies on writing bytecode|bytecode here is not trusted",
        ),
        # These make archives of bytecode alone, or of bytecode that differs from its source.
        tests=(
            r"test_zipimport\.(?:Unc|C)ompressedZipImportTestCase\.test(?:ZipImporterMethods\w*|"
            r"\w*Package|Pyc|BadMagic2|Both|ImporterAttr|InvalidateCaches|GetCompiledSource|"
            r"UncheckedHashBasedPyc)",
            r"test_import\.(?:ImportTests\.test_module_with_large_stack|PycRewritingTests\.\w+)$",
            r"test_modulefinder\.ModuleFinderTest\.test_bytecode$",
            r"test_runpy\.RunPathTestCase\.test_(?:directory|zipfile_compiled)$",
            r"test_compileall\.(?:CommandLine\w+\.test_d_runtime_error|HardlinkDedup\w+\.test_import)$",
            r"CmdLineTest\.test_(?:dash_m_bad_pyc|(?:directory|package|zipfile)_compiled\w*)$",
        ),
    ),
    Restriction(
        "an ordinary user",
        "the guest is one user without privileges: no change of owner, user, group or priority; "
        "tests that need root pass outside only for root",
        texts=(
            r"os\.(?:l|f)?chown\(" + _FAR + _REFUSED,
            r"(?:chown|initgroups|setres[ug]id|setre?[ug]id|setgroups|getgroups)" + _FAR + _REFUSED,
            r"root privileges? required|should be run as root|needs root privilege|"
            r"not enough privileges|requires root",
        ),
        tests=(
            r"test_os\.TestInvalidFD\.test_fchown$",
            r"test_os\.PosixUidGidTests\.test_setre[ug]id_neg1$",
        ),
    ),
    Restriction(
        "no terminal",
        "there is none, and none can be made",
        texts=(r"out of pty devices|[Pp]seudo-terminals|openpty" + _FAR + r"Error",),
        tests=(r"test_os\.TestInvalidFD\.test_tc[gs]etpgrpt?$",),
    ),
    Restriction(
        "fixed limits",
        "limits are set once, from outside; none can be changed, and none is without a bound",
        texts=(
            r"not allowed to raise maximum limit",
            r"resource\.prlimit\b" + _FAR + _REFUSED,
            r"setrlimit\(" + _FAR + "(?:ValueError|PermissionError)",
        ),
        tests=(
            r"test_resource\.ResourceTest\.test_fsize_ismax$",
            r"POSIXProcessTestCase\.test_close_fds_when_max_fd_is_lowered$",
        ),
    ),
    Restriction(
        "memory limit",
        "what is larger than `memory_bytes` (1 GiB here) cannot be mapped",
        "address-space",
        texts=(r"\[Errno 12\] Cannot allocate memory",),
    ),
    Restriction(
        "no set-id bits",
        "no file gets a set-user-id or set-group-id bit",
        texts=(r"Cannot set S_ISGID",),
        tests=(r"test_tarfile\.TestExtractionFilters\.test_modes$",),
    ),
    Restriction(
        "no extended attributes",
        "attributes can be read, not set",
        texts=(r"no non-broken extended attribute support",),
    ),
    Restriction(
        "no build files",
        "the header and the Makefile of the build name the machine it was built on",
        texts=(r"is not true : /usr/\S+(?:pyconfig\.h|Makefile)",),
    ),
    Restriction(
        "root not listed",
        "only granted folders and the library can be listed",
        tests=(r"test_os\.Pep383Tests\.test_listdir$",),
    ),
    Restriction(
        "no site",
        "Python starts without `site`: no `.pth` file, no folder of the user's",
        texts=(r"invoked with -S|need user site",),
    ),
    Restriction(
        "little of /proc",
        "of `/proc` a few harmless files of the guest's own are there",
        texts=(r"^Linux specific$",),
    ),
    Restriction(
        "no clock is set",
        "clocks can be read, not set",
        "signals-and-time",
        tests=(r"test_time\.TimeTestCase\.test_monotonic_settime$",),
    ),
    Restriction(
        "no facts about the machine",
        "load, memory and processors of the host are shown with the grant `system_info` only",
        texts=(r"Load averages are unobtainable",),
    ),
    Restriction(
        "system calls off",
        "calls that few programs make and that reach beyond the guest are refused",
        texts=(
            r"pidfd_open syscall blocked|setsid failed|Not enough privileges to use pidfs",
            r"os\.sendfile\(\) not supported",
            r"(?:sched_\w+|setpriority|splice|fcntl\.fcntl|memfd_create|mlock\w*)\("
            + _FAR
            + _REFUSED,
        ),
    ),
    Restriction(
        "stand-ins in view",
        "an audit hook sees what stands in for `mmap.mmap(-1)` and for the host name",
        tests=(r"test_audit\.AuditTest\.test_(?:mmap|socket)$",),
    ),
    Restriction(
        "no locales",
        "of locales only those are there that are part of the C library",
        texts=(r"No C-with-UTF-8 locale available",),
    ),
    Restriction(
        "our finder in view",
        "a tracer sees the frames of the finder that explains refused imports, but not their file",
        texts=(r"/belljar/guest/imports\.py",),
    ),
    Restriction(
        "no packages",
        "distributions beside the standard library are there only if granted",
        texts=(r"docutils|Numpy",),
    ),
)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def explain(test: str, word: str, text: str) -> str | None:
    """The name of the restriction that this difference comes of, or None.

    ``word`` is what became of the test, ``text`` its traceback or its reason for skipping.
    """
    if word == "passed":
        return None
    for restriction in RESTRICTIONS:
        if any(_compiled(pattern).search(text) for pattern in restriction.texts):
            return restriction.name
        if any(_compiled(pattern).search(test) for pattern in restriction.tests):
            return restriction.name
    return None
