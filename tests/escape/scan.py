"""A scanner for traces of the host.  It runs inside, as the guest's own code.

    outside, for comparison:  python scan.py < settings.json

What: it searches memory and files for given needles, and asks everything that answers for
facts.  Because: what tells one host from another may stand anywhere, in a code object as well
as in a clock.  Then: standard output has one line of JSON for each finding,
``{"where": ..., "what": ...}``, and the last one says that the scan came to its end.

``NEEDLES`` is a list of ``[label, bytes]``, masked and as hexadecimal digits.  The data is
masked for the search, too, so a needle is never in the scanner's own memory.  A find is ``{"where": "found: <label>", "what": <place>}``; the rest are facts.  ``where`` begins
with ``random:``, ``clock:`` or ``version:`` where two runs, or two releases, differ anyway.

``FILES`` says whether files are searched, too, and ``MODULES`` whether all of the standard
library is imported.  Everything may be refused; a refusal is a fact like any other.
"""

import ctypes
import json
import os
import re
import sys

STARTED_WITH = sorted(sys.modules)
MOST_BYTES = 4 << 20  # of output
MOST_TEXT = 400  # of one finding, characters
MOST_FILE = 64 << 20
MOST_LIVE = 1 << 16  # of one file of /proc or /sys
MOST_NAMES = 3000  # of one place that is walked

if "NEEDLES" not in globals():
    globals().update(json.load(sys.stdin))
FILES = globals().get("FILES", True)
MODULES = globals().get("MODULES", True)
# Masking twice does not undo it, or the masked memory of the scanner would show the needles.
MASK = bytes((byte * 165 + 77) % 256 for byte in range(256))
MASKED = [(label, bytes.fromhex(digits)) for label, digits in globals()["NEEDLES"]]
LONGEST = max((len(needle) for _, needle in MASKED), default=1)

findings = {}


def tell(where, what):
    if isinstance(what, (set, frozenset)):
        what = sorted(what)
    if not isinstance(what, str):
        what = re.sub(r" at 0x[0-9a-f]+", "", repr(what))
    findings.setdefault((where, what[:MOST_TEXT]))


def ask(where, act, *arguments, **named):
    """Tell what a call gives, or how it is refused."""
    try:
        answer = act(*arguments, **named)
    except (Exception, SystemExit) as error:
        tell(where, "refused: " + type(error).__name__)
        return None
    tell(where, answer)
    return answer


def attempt(act, *arguments, **named):
    try:
        return act(*arguments, **named)
    except (Exception, SystemExit):
        return None


def search(data, place):
    """Tell which needles are in ``data``."""
    masked = data.translate(MASK)
    for label, needle in MASKED:
        if needle in masked:
            tell("found: " + label, place)


# -- memory, before anything else is loaded or read -----------------------------------------

libc = ctypes.CDLL(None, use_errno=True)


def maps():
    with open("/proc/self/maps", "rb") as file:
        for line in file.read().splitlines():
            bounds, mode, _, _, inode, *rest = line.split(maxsplit=5)
            low, high = (int(part, 16) for part in bounds.split(b"-"))
            yield low, high, mode, int(inode), rest[0].decode() if rest else ""


def memory(low, high):
    """Pieces of memory, through a pipe: a bad address is an error there and no crash."""
    reader, writer = os.pipe()
    write = libc.write
    write.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
    write.restype = ctypes.c_ssize_t
    for address in range(low, high, 1 << 16):
        got = write(writer, address, min(1 << 16, high - address))
        if got > 0:
            yield os.read(reader, got)
    os.close(reader)
    os.close(writer)


def scan_memory():
    searched = 0
    for low, high, mode, inode, name in list(maps()):
        if b"r" not in mode or name.startswith("[vvar"):
            continue
        place = kind_of(name, b"\x7fELF") if inode and name else name or "heap"
        tail = b""
        for piece in memory(low, high):
            searched += len(piece)
            search(tail + piece, "memory: " + place.replace("[heap]", "heap"))
            tail = piece[-LONGEST:]
    tell("random: searched memory", searched)


def notes(data):
    """(name, type, contents) of the ELF notes in an image; found by their name."""
    for name in (b"GNU", b"Linux", b"FDO"):
        field = name + b"\0" * (4 - len(name) % 4)
        at = data.find(field, 12)
        while at >= 0:
            head = [int.from_bytes(data[at - n : at - n + 4], "little") for n in (12, 8, 4)]
            if head[0] == len(name) + 1 and 0 < head[1] <= 256 and head[2] < 0x10000 << 16:
                start = at + len(field)
                yield name.decode(), head[2], data[start : start + head[1]]
            at = data.find(field, at + 1)


def scan_process():
    """What the kernel and the loader left in memory for this process."""
    getauxval = libc.getauxval
    getauxval.restype = ctypes.c_ulong
    getauxval.argtypes = [ctypes.c_ulong]
    pointers = {3: "AT_PHDR", 7: "AT_BASE", 9: "AT_ENTRY", 25: "AT_RANDOM", 33: "AT_SYSINFO_EHDR"}
    texts = {15: "AT_PLATFORM", 24: "AT_BASE_PLATFORM", 31: "AT_EXECFN"}
    for number in range(1, 52):
        value = getauxval(number)
        if number in texts:
            tell(f"auxv: {texts[number]}", ctypes.string_at(value) if value else None)
        elif value:
            name = pointers.get(number)
            tell(f"random: auxv {name}" if name else f"auxv: {number}", value)
    vdso = getauxval(33)
    if vdso:
        image = b"".join(memory(vdso, vdso + 0x2000))
        for name, kind, contents in notes(image):
            if name == "Linux" and kind == 0 and len(contents) == 4:
                code = int.from_bytes(contents, "little")
                tell("vdso: Linux", f"{code >> 16}.{code >> 8 & 255}.{code & 255}")
            elif name == "GNU" and kind == 3:
                tell("vdso: build id", contents.hex())
    environ = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ")
    number = 0
    while environ and environ[number] is not None:
        tell("environ in C", environ[number])
        number += 1
    for low, high, _, _, name in list(maps()):
        if name == "[stack]":
            # Arguments, environment, name of the program: at the very top, above AT_RANDOM,
            # which is sixteen bytes of chance.  Below it are frames, with addresses that differ
            # from process to process and now and then look like text.
            top = b"".join(memory(max(low, getauxval(25) + 16), high))
            # Its place is a random distance below the rest: AT_PLATFORM, told with the others.
            platform = ctypes.string_at(getauxval(15)) if getauxval(15) else b""
            for text in top.split(b"\0"):
                if len(text) > 3 and text != platform and all(32 <= byte < 127 for byte in text):
                    tell("top of the stack", text)
        elif name:
            tell("mapped: name", name)
    inodes = sorted({str(inode) for _, _, _, inode, name in maps() if inode and name})
    tell("number: inodes of mapped files", " ".join(inodes))
    devices = {line.split()[3] for line in read("/proc/self/maps", MOST_FILE).splitlines()}
    tell("number: devices of mapped files", sorted(devices - {b"00:00"}))


# -- files ----------------------------------------------------------------------------------


def read(path, most, flags=os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW):
    fd = os.open(path, flags)
    try:
        pieces = []
        while most > 0:
            piece = os.read(fd, min(most, 1 << 20))
            if not piece:
                break
            pieces.append(piece)
            most -= len(piece)
        return b"".join(pieces)
    finally:
        os.close(fd)


def kind_of(path, data=b""):
    """The place of a find.  Files that there are hundreds of go under what they are."""
    if path.startswith("/usr/lib/belljar/python/"):
        return "belljar's own files"
    whose = "packages" if "-packages/" in path else "the standard library"
    if path.endswith(".pyc"):
        return f"bytecode of {whose}"
    if data[:4] == b"\x7fELF":
        return "system libraries" if path.startswith(SYSTEM) else f"native code of {whose}"
    if "_sysconfigdata" in path:
        return "build variables"
    if path.endswith(".py"):
        return f"source of {whose}"
    return path if whose == "the standard library" else path.rpartition("/")[2]


SYSTEM = ("/usr/lib/belljar/lib/", "/lib64/", "/lib/")


class Walk:
    """What a tree of files tells, and what is in it, summed up."""

    def __init__(self, top, deep, contents):
        self.top = top
        self.deep = deep
        self.contents = contents
        self.count = 0
        self.sets = {"owners": set(), "modes": set(), "devices": set()}
        self.inodes = []
        self.times = []
        self.names = []
        self.walk(top, 0)
        if self.count:
            import zlib

            digest = zlib.crc32("\n".join(sorted(self.names)).encode("utf-8", "replace"))
            tell(f"names: {top}", f"{self.count} {digest:08x}")
            for word in ("owners", "modes"):
                tell(f"stat: {word} below {top}", sorted(self.sets[word]))
            tell(f"number: devices below {top}", sorted(self.sets["devices"]))
            tell(f"number: inodes below {top}", f"{min(self.inodes)} {max(self.inodes)}")
            tell(f"number: times below {top}", f"{min(self.times)} {max(self.times)}")

    def walk(self, path, depth):
        names = attempt(os.listdir, path)
        if names is None:
            tell(f"list: {path}" if depth == 0 else f"refused below {self.top}", "refused")
            return
        for name in sorted(names):
            below = path.rstrip("/") + "/" + name
            status = attempt(os.lstat, below)
            if self.count >= MOST_NAMES and not self.contents:
                return
            if status is None:
                continue
            self.count += 1
            self.names.append(below)
            search(below.encode("utf-8", "surrogateescape"), f"name below {self.top}")
            self.sets["owners"].add((status.st_uid, status.st_gid))
            self.sets["modes"].add(oct(status.st_mode))
            self.sets["devices"].add(status.st_dev)
            self.inodes.append(status.st_ino)
            self.times += [status.st_mtime_ns, status.st_ctime_ns]
            kind = status.st_mode & 0o170000
            if kind == 0o120000:
                self.link(below)
            elif kind == 0o040000 and depth < self.deep:
                self.walk(below, depth + 1)
            elif kind == 0o100000 and self.contents:
                data = attempt(read, below, MOST_FILE)
                if data is not None:
                    search(data, kind_of(below, data))
                    self.telling(below, name, data)

    def link(self, path):
        target = attempt(os.readlink, path)
        if target:
            search(target.encode("utf-8", "surrogateescape"), f"link below {self.top}")
            if not path.startswith(("/proc/self/fd/", "/usr/")):
                tell(f"link: {path}", target)

    def telling(self, path, name, data):
        if data[:4] == b"\x7fELF":
            for owner, kind, contents in notes(data):
                if owner == "GNU" and kind == 3:
                    tell(f"version: build id of {path}", contents.hex())
                elif owner == "FDO":
                    tell(f"version: package of {path}", contents)
        elif name in ("direct_url.json", "INSTALLER", "REQUESTED") or name.endswith(".pth"):
            tell(f"file: {path}", data.decode("utf-8", "replace"))


LIVE = """
/proc/self/cmdline /proc/self/comm /proc/self/environ /proc/self/auxv /proc/self/cgroup
/proc/self/mountinfo /proc/self/mounts /proc/self/status /proc/self/stat /proc/self/statm
/proc/self/limits /proc/self/io /proc/self/smaps_rollup /proc/self/numa_maps /proc/self/wchan
/proc/self/sched /proc/self/schedstat /proc/self/oom_score /proc/self/oom_score_adj
/proc/self/loginuid /proc/self/sessionid /proc/self/uid_map /proc/self/gid_map
/proc/self/timens_offsets /proc/self/timerslack_ns /proc/self/personality /proc/self/stack
/proc/self/syscall /proc/self/attr/current /proc/self/coredump_filter /proc/self/cpuset
/proc/cpuinfo /proc/meminfo /proc/version /proc/version_signature /proc/uptime /proc/loadavg
/proc/stat /proc/cmdline /proc/filesystems /proc/mounts /proc/partitions /proc/diskstats
/proc/interrupts /proc/devices /proc/modules /proc/misc /proc/swaps /proc/zoneinfo /proc/vmstat
/proc/buddyinfo /proc/slabinfo /proc/iomem /proc/ioports /proc/crypto /proc/keys /proc/locks
/proc/net/dev /proc/net/arp /proc/net/route /proc/net/fib_trie /proc/net/if_inet6 /proc/net/unix
/proc/net/tcp /proc/sys/kernel/hostname /proc/sys/kernel/domainname /proc/sys/kernel/osrelease
/proc/sys/kernel/version /proc/sys/kernel/random/boot_id /proc/sys/kernel/random/uuid
/proc/sys/kernel/pid_max /proc/sys/kernel/threads-max /proc/sys/fs/file-max /proc/config.gz
/etc/hostname /etc/hosts /etc/machine-id /etc/os-release /usr/lib/os-release /etc/issue
/etc/debian_version /etc/resolv.conf /etc/nsswitch.conf /etc/passwd /etc/group /etc/fstab
/etc/timezone /etc/localtime /etc/locale.conf /etc/default/locale /etc/environment /etc/mtab
/etc/ld.so.cache /etc/ld.so.conf /etc/ssl/openssl.cnf /etc/pip.conf /etc/gitconfig
/var/lib/dbus/machine-id /run/systemd/container /.dockerenv /run/.containerenv
/sys/class/dmi/id/product_name /sys/class/dmi/id/sys_vendor /sys/class/dmi/id/board_name
/sys/class/dmi/id/bios_version /sys/devices/system/cpu/online /sys/devices/system/cpu/possible
/sys/devices/system/cpu/present /sys/kernel/mm/transparent_hugepage/enabled
/sys/fs/cgroup/cgroup.controllers /sys/kernel/notes /sys/hypervisor/type
""".split()  # noqa: SIM905
CHANGING = ("/proc/self/stat", "/proc/self/statm", "/proc/self/status")


def scan_live():
    """Files that the kernel makes up, and those in which a system describes itself."""
    interfaces = attempt(os.listdir, "/sys/class/net") or []
    addresses = [f"/sys/class/net/{name}/address" for name in interfaces]
    for path in LIVE + addresses:
        data = attempt(read, path, MOST_LIVE, os.O_RDONLY)
        if data is None:
            continue
        search(data, path)
        if path == "/proc/self/status":
            # Without what one run counts and the next run counts otherwise.
            for line in data.decode().splitlines():
                if not line.startswith(("Vm", "Rss", "vol", "nonvol", "Huge", "Pid", "Tgid", "NS")):
                    tell("/proc/self/status", line)
        elif path not in CHANGING:
            tell(f"file: {path}", data.decode("utf-8", "replace"))
    listed = [name for name in attempt(os.listdir, "/proc") or [] if name.isdecimal()]
    for number in sorted({*map(int, listed), *range(1, 200)}):
        if number != os.getpid():
            for name in ("cmdline", "comm", "environ"):
                data = attempt(read, f"/proc/{number}/{name}", MOST_LIVE)
                if data:
                    search(data, "other processes")
                    tell("other processes", "visible")


def scan_trees():
    """Every place in sight.  Contents only of what holds an installation."""
    # Not one in another: of a directory that cannot be listed those below it may be.
    libraries = {"/usr/lib/belljar", "/lib64", *(p for p in sys.path if p.startswith("/"))}
    for top in sorted(libraries):
        Walk(top, 12, FILES)
    for path in (sys.executable, "/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"):
        data = attempt(read, os.path.realpath(path), MOST_FILE) if FILES else None
        if data is not None:
            search(data, kind_of(path, data))
    for top in ("/", "/proc", "/proc/self", "/proc/self/fd", "/sys", "/etc", "/dev", "/run"):
        Walk(top, 0, False)
    for top in ("/bin", "/sbin", "/boot", "/home", "/root", "/opt", "/srv", "/mnt", "/var"):
        Walk(top, 1, False)
    for top in ("/tmp", "/work", "/usr", "/usr/bin", "/usr/local", "/usr/share", "/.zygote"):
        Walk(top, 0, False)


# -- Python ---------------------------------------------------------------------------------

# These act when they are imported.
NOT_IMPORTED = {"antigravity", "this", "__hello__", "__phello__", "idlelib", "turtledemo", "test"}


def import_all():
    """Every module of the standard library that imports."""
    import contextlib
    import importlib
    import io
    import pkgutil
    import warnings

    waiting = sorted(sys.stdlib_module_names - NOT_IMPORTED, reverse=True)
    failed = []
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while waiting:
            name = waiting.pop()
            try:
                module = importlib.import_module(name)
            except (Exception, SystemExit):
                failed.append(name)
                continue
            for entry in pkgutil.iter_modules(getattr(module, "__path__", ())):
                if entry.name not in ("__main__", "tests", "test", "idle_test"):
                    waiting.append(f"{name}.{entry.name}")
    tell("modules: not importable", " ".join(failed))


def scan_modules():
    """Where modules say that they come from."""
    import gc
    import types

    for name, module in sorted(sys.modules.items()):
        for attribute in ("__file__", "__cached__", "__path__"):
            value = getattr(module, attribute, None)
            if value is not None:
                tell(
                    f"module: {name}.{attribute}", value if isinstance(value, str) else list(value)
                )
        spec = getattr(module, "__spec__", None)
        if spec is not None:
            for attribute in ("origin", "cached", "loader_state"):
                value = getattr(spec, attribute, None)
                if isinstance(value, str):
                    tell(f"module: {name}.__spec__.{attribute}", value)
                elif isinstance(value, types.SimpleNamespace):
                    for key, text in vars(value).items():
                        if isinstance(text, str):
                            tell(f"module: {name}.__spec__.{attribute}.{key}", text)
            path = getattr(spec.loader, "path", None)
            if isinstance(path, str):
                tell(f"module: {name}.__spec__.loader.path", path)
    waiting = [
        thing.__code__ for thing in gc.get_objects() if isinstance(thing, types.FunctionType)
    ]
    frame = sys._getframe()
    while frame is not None:
        waiting.append(frame.f_code)
        frame = frame.f_back
    seen = set()
    while waiting:
        code = waiting.pop()
        if id(code) not in seen:
            seen.add(id(code))
            tell("code objects", code.co_filename)
            waiting += [const for const in code.co_consts if isinstance(const, types.CodeType)]
    tell("random: code objects", len(seen))


PLAIN = (str, int, float, bytes, bool, tuple, list, dict, set, frozenset, type(None))


def scan_interpreter():
    import site
    import sysconfig

    for name in sorted(dir(sys)):
        value = getattr(sys, name, None)
        if isinstance(value, PLAIN) and name not in ("modules", "path_importer_cache", "ps1"):
            changes = name.startswith("last_") or name == "argv"
            tell(f"random: sys.{name}" if changes else f"sys: {name}", value)
    tell("sys: implementation", vars(sys.implementation))
    tell("sys: importers of", sorted(p for p in sys.path_importer_cache if "/" in p))
    tell("random: modules at the start", len(STARTED_WITH))
    for name in ("getsitepackages", "getuserbase", "getusersitepackages"):
        ask(f"site: {name}", getattr(site, name))
    for name in ("PREFIXES", "ENABLE_USER_SITE", "USER_SITE", "USER_BASE"):
        tell(f"site: {name}", getattr(site, name, None))
    ask("sysconfig: platform", sysconfig.get_platform)
    ask("sysconfig: scheme", sysconfig.get_default_scheme)
    ask("sysconfig: makefile", sysconfig.get_makefile_filename)
    ask("sysconfig: header", sysconfig.get_config_h_filename)
    for name, value in (attempt(sysconfig.get_paths) or {}).items():
        tell(f"sysconfig: path {name}", value)
    for name, value in (attempt(sysconfig.get_config_vars) or {}).items():
        data = repr(value).encode("utf-8", "replace")
        search(data, "sysconfig.get_config_vars()")
        tell(f"sysconfig: {name}", value)


def scan_packages():
    import importlib.metadata as metadata

    for distribution in attempt(lambda: list(metadata.distributions())) or []:
        name = distribution.metadata["Name"]
        tell(f"distribution: {name}", distribution.version)
        ask(f"distribution: {name} is in", lambda d=distribution: str(d._path))
        ask(f"distribution: {name} comes from", distribution.read_text, "direct_url.json")
        for file in attempt(lambda d=distribution: d.files) or []:
            if file.name.endswith((".json", ".pth")) or str(file).startswith(("/", "..")):
                tell(f"distribution: {name} has", str(file))


# -- what the system answers ----------------------------------------------------------------


def scan_system():
    import getpass
    import grp
    import locale
    import platform
    import pwd
    import resource
    import shutil
    import socket
    import tempfile
    import time

    tell("os.environ", dict(os.environ))
    tell("os.environb", dict(os.environb))
    named = attempt(os.uname)
    for name in ("sysname", "nodename", "release", "version", "machine"):
        tell(f"uname: {name}", getattr(named, name, "refused"))
    buffer = ctypes.create_string_buffer(6 * 65)
    if libc.uname(buffer) == 0:
        for number, name in enumerate(
            ("sysname", "nodename", "release", "version", "machine", "domain")
        ):
            text = buffer.raw[number * 65 : number * 65 + 65].partition(b"\0")[0]
            tell(f"uname in C: {name}", text.decode("utf-8", "replace"))
    else:
        tell("uname in C: refused", os.strerror(ctypes.get_errno()))
    for name in ("node", "machine", "processor", "system", "release", "version", "platform",
                 "libc_ver", "architecture", "python_build", "python_compiler", "python_branch",
                 "python_revision", "python_version", "freedesktop_os_release", "uname"):  # fmt: skip
        ask(f"platform: {name}", getattr(platform, name))
    for name in ("gethostname", "getfqdn", "if_nameindex"):
        ask(f"socket: {name}", getattr(socket, name))
    ask("socket: localhost", socket.getaddrinfo, "localhost", 80)
    ask("socket: own name", socket.gethostbyname, attempt(socket.gethostname) or "")
    ask("locale: current", locale.setlocale, locale.LC_ALL)
    ask("locale: default", locale.setlocale, locale.LC_ALL, "")
    ask("locale: encoding", locale.getpreferredencoding)
    ask("locale: all", locale.localeconv)
    tell("time: tzname", time.tzname)
    tell("time: offsets", (time.timezone, time.altzone, time.daylight))
    ask("time: zone", time.strftime, "%Z %z")
    for name in dir(time):
        if name.startswith("CLOCK_"):
            ask(f"clock: {name}", time.clock_gettime, getattr(time, name))
            ask(f"time: resolution of {name}", time.clock_getres, getattr(time, name))
    tell("clock: monotonic", time.monotonic())
    for name in ("cpu_count", "getloadavg", "getlogin", "getpid", "getppid", "getpgrp", "getuid",
                 "getgid", "geteuid", "getegid", "getgroups", "getresuid", "getresgid", "getcwd",
                 "ctermid", "get_terminal_size", "get_exec_path"):  # fmt: skip
        ask(f"os: {name}", getattr(os, name))
    ask("os: umask", lambda: oct(os.umask(os.umask(0o22))))
    ask("os: process_cpu_count", getattr(os, "process_cpu_count", os.cpu_count))
    ask("os: affinity", lambda: sorted(os.sched_getaffinity(0)))
    ask("os: priority", os.getpriority, os.PRIO_PROCESS, 0)
    ask("os: scheduler", os.sched_getscheduler, 0)
    ask("os: scheduler's interval", os.sched_rr_get_interval, 0)
    ask("os: session", os.getsid, 0)
    ask("clock: os.times", os.times)
    for fd in range(8):
        ask(f"os: terminal {fd}", os.ttyname, fd)
        status = attempt(os.fstat, fd)
        if status:
            tell(f"number: descriptor {fd}", (status.st_dev, status.st_ino, oct(status.st_mode)))
    for name in sorted(os.sysconf_names):
        # Of the machine's memory, refused, the C library says what it finds on its stack.
        kind = "random: sysconf" if "PHYS_PAGES" in name else "sysconf"
        ask(f"{kind}: {name}", os.sysconf, name)
    for name in sorted(os.confstr_names):
        ask(
            f"version: confstr {name}" if "VERSION" in name else f"confstr: {name}",
            os.confstr,
            name,
        )
    for name in dir(resource):
        if name.startswith("RLIMIT_"):
            ask(f"rlimit: {name}", resource.getrlimit, getattr(resource, name))
    ask("clock: rusage", resource.getrusage, resource.RUSAGE_SELF)
    for path in ("/", "/usr", "/usr/bin", os.__file__, sys.executable, "/dev/null", "/etc/passwd",
                 "/work", "/tmp", "/proc/self/maps"):  # fmt: skip
        ask(f"number: statvfs {path}", lambda path=path: tuple(os.statvfs(path)))
        ask(f"number: stat {path}", lambda path=path: tuple(os.stat(path)[:7]))
        ask(f"xattr: {path}", os.listxattr, path)
    for path in ("/usr", os.__file__):
        ask(f"number: disk usage {path}", shutil.disk_usage, path)
    ask("getpass", getpass.getuser)
    ask("pwd", lambda: [tuple(entry) for entry in pwd.getpwall()])
    ask("grp", lambda: [tuple(entry) for entry in grp.getgrall()])
    ask("pwd: root", pwd.getpwuid, 0)
    ask("home", os.path.expanduser, "~")
    ask("home of root", os.path.expanduser, "~root")
    ask("temporary directory", tempfile.gettempdir)
    ask("realpath", os.path.realpath, sys.executable)
    prctl = libc.prctl
    for number in (3, 7, 11, 15, 16, 21, 23, 25, 27, 30, 39, 42):  # PR_GET_...
        tell(f"prctl: {number}", prctl(number, 0, 0, 0, 0) if number not in (11, 16, 25) else "")
    name = ctypes.create_string_buffer(16)
    prctl(16, name, 0, 0, 0)
    tell("prctl: name", name.value)
    tell("ioprio", libc.syscall(252, 1, 0) if platform.machine() == "x86_64" else "")
    info = ctypes.create_string_buffer(128)
    tell("sysinfo", "refused" if libc.sysinfo(info) else "answers")


def scan_versions():
    """What is a library's own, and the same wherever that library is."""
    modules = {
        "ssl": ("OPENSSL_VERSION",),
        "sqlite3": ("sqlite_version",),
        "zlib": ("ZLIB_VERSION", "ZLIB_RUNTIME_VERSION"),
        "pyexpat": ("EXPAT_VERSION",),
        "_decimal": ("__libmpdec_version__",),
    }
    for module, names in modules.items():
        for name in names:
            tell(f"version: {module}.{name}", getattr(attempt(__import__, module), name, None))
    libc.gnu_get_libc_version.restype = ctypes.c_char_p
    ask("version: C library", libc.gnu_get_libc_version)
    ssl = attempt(__import__, "ssl")
    if ssl is not None:
        ask("ssl: paths", lambda: tuple(ssl.get_default_verify_paths()))
        crypto = attempt(ctypes.CDLL, "libcrypto.so.3")
        if crypto is not None:
            crypto.OpenSSL_version.restype = ctypes.c_char_p
            for number in range(10):
                kind = "processor" if number == 9 else "version"
                ask(f"{kind}: OpenSSL {number}", crypto.OpenSSL_version, number)
    sqlite3 = attempt(__import__, "sqlite3")
    if sqlite3 is not None:
        options = "pragma compile_options"
        ask(
            "version: sqlite options",
            lambda: sqlite3.connect(":memory:").execute(options).fetchall(),
        )


def scan():
    for part in (scan_memory, scan_process, scan_live, scan_trees, *([import_all] if MODULES else []),
                 scan_modules, scan_interpreter, scan_packages, scan_system, scan_versions):  # fmt: skip
        try:
            part()
        except Exception as error:
            tell("incomplete", f"{part.__name__}: {type(error).__name__}: {error}")
    for where, what in list(findings):
        if not where.startswith("found: "):
            search(what.encode("utf-8", "surrogateescape"), where.partition(": ")[0])
    written = 0
    out = sys.__stdout__
    for where, what in findings:
        line = json.dumps({"where": where, "what": what})
        written += len(line) + 1
        if written > MOST_BYTES:
            out.write(json.dumps({"where": "incomplete", "what": "output"}) + "\n")
            break
        out.write(line + "\n")
    out.write(json.dumps({"where": "end", "what": str(len(findings))}) + "\n")
    out.flush()


scan()
