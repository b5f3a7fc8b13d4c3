"""The canonical root: the small tree that a guest sees, the same on every machine.

Pure: from an interpreter's description and a policy to a list of entries.  The launcher
makes them in this order inside an empty tmpfs.
"""

from __future__ import annotations

from .._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..policy import Policy
    from ..python.interpreter import Interpreter
    from .code import Code
    from .steps import Argument

# Mount attributes, as in mount_setattr(2).
RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
READ_ONLY = RDONLY | NOSUID | NODEV
DATA = NOSUID | NODEV | NOEXEC
DEVICE = RDONLY | NOSUID | NOEXEC  # read-only: contents of a device node can still be written

ZYGOTE_PROC = "/.zygote"  # a whole proc file system, for the zygote alone
LIBRARIES = "/usr/lib/belljar/lib"  # shared libraries, by the names the loader asks for
DYNLOAD = "/usr/lib/belljar/dynload"  # extension modules, where the library has no place for them
RUNTIME = "/usr/lib/belljar/runtime"  # those that only the zygote may have
STAND_INS = "/usr/lib/belljar/stand-ins"  # the operator's Python files for refused modules
PACKAGE = "/usr/lib/belljar/python"  # belljar itself, for the zygote
LAYER = "/usr/lib/belljar/start/layer"  # the Python layer of interpreters that guests start
SHARED_MEMORY = "/dev/shm"  # what shm_open(3) and sem_open(3) use; in the guest's own tmpfs
DEBIAN_SITE = "/usr/lib/python3/dist-packages"  # where Debian's Python looks for packages
HOST_NAME = b"belljar"
GUEST_PID = 2  # in its own PID namespace, after the parked init
DEVICES = ("null", "zero", "full", "random", "urandom")
DEVICES_WITHOUT_LANDLOCK = ("null", "full", "random", "urandom")
# Live files of /proc/self that ordinary programs read and that say nothing of the host.
# libffi finds its own code through maps; without it ctypes has no callbacks.
PROC_SELF = ("cmdline", "comm", "fd", "maps", "stat", "statm", "status")
SYSTEM_INFO_PROC = ("cpuinfo", "loadavg", "meminfo", "stat", "uptime", "version")
# Where inside -> where on the host; /etc/os-release itself is a link on most systems.
SYSTEM_INFO_FILES = {
    **{f"/proc/{name}": f"/proc/{name}" for name in SYSTEM_INFO_PROC},
    "/etc/os-release": "/usr/lib/os-release",
}
# Parts of a standard library that no program needs and that name the machine it was built on.
HIDDEN_STDLIB = ("site-packages", "dist-packages")
TIME_ZONES = "/usr/share/zoneinfo"  # public data; zoneinfo knows no zone without it

# User 0 is named, because programs ask for it (tarfile), and is nobody's here.
PASSWD = (
    b"root:x:0:0:root:/root:/usr/sbin/nologin\n"
    b"guest:x:1000:1000:guest:/work:/usr/sbin/nologin\n"
    b"nobody:x:65534:65534:::\n"
)
GROUP = b"root:x:0:\nguest:x:1000:\nnogroup:x:65534:\n"
HOSTS = b"127.0.0.1 localhost\n::1 localhost\n"


class Place(Record):
    """A granted path, resolved on the host: no symbolic link is left in ``host``."""

    host: str
    inside: str
    directory: bool
    writable: bool

    @property
    def nested(self) -> bool:
        """Whether it shows inside ``/work`` or ``/tmp``, which each guest mounts anew."""
        return self.inside.startswith(("/work/", "/tmp/"))


def mount_points(places: tuple[Place, ...]) -> tuple[str, ...]:
    """Where each place is mounted; ``places`` are sorted, outer ones first.

    A nested place is mounted apart, and each guest's own ``/work`` or ``/tmp`` gets a
    symbolic link to it.  Mounted within, it would inherit the right to write from the
    Landlock rule of the directory around it.
    """
    points: list[str] = []
    for number, place in enumerate(places):
        point = f"/.places/{number}" if place.nested else place.inside
        for outer, above in zip(places[:number], points, strict=True):
            if place.inside.startswith(outer.inside + "/"):
                point = above + place.inside.removeprefix(outer.inside)
        points.append(point)
    return tuple(points)


def links(places: tuple[Place, ...]) -> list[Argument]:
    """The links that a guest makes: ``[where, to]`` for each outermost nested place."""
    made: list[Argument] = []
    for place, point in zip(places, mount_points(places), strict=True):
        if place.nested and point.count("/") == 2:
            made.append([place.inside, point])
    return made


def hidden(part: str) -> bool:
    """Whether this name in a standard library is none of the guest's business."""
    return part in HIDDEN_STDLIB or part.startswith("config-")


def python_name(interpreter: Interpreter) -> str:
    return f"python{interpreter.version[0]}.{interpreter.version[1]}"


def stdlib_inside(interpreter: Interpreter) -> str:
    """Where the interpreter looks for its library: beside its binary, in its own library name."""
    return f"/usr/{interpreter.platlibdir}/{python_name(interpreter)}"


def dynload_inside(interpreter: Interpreter) -> str:
    """Where the standard extension modules are inside: where the interpreter looks by itself."""
    if f"{interpreter.stdlib}/lib-dynload" in interpreter.dynload:
        return f"{stdlib_inside(interpreter)}/lib-dynload"
    return DYNLOAD


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def runtime_inside(code: Code) -> tuple[str, ...]:
    """Where the extension modules are that a guest lets go of before it meets any code."""
    return tuple(f"{RUNTIME}/{_name(source)}" for _, source in code.whitelist.runtime)


def stand_ins_inside(code: Code) -> dict[str, str]:
    """Module -> the file that takes its place, inside."""
    return {module: f"{STAND_INS}/{module}.py" for module, _ in code.stand_ins}


def site_inside(interpreter: Interpreter) -> str:
    return f"/usr/local/lib/{python_name(interpreter)}/site-packages"


_SITE = ("site-packages",)  # beside the standard library, where ``site`` looks by itself


def loaders(code: Code) -> dict[str, str]:
    """Path -> file of the dynamic loaders of the interpreter and of the granted programs."""
    own = code.interpreter.loader
    found = {} if own is None else dict([own])
    if code.programs is not None:
        found.update(code.programs.loaders)
    return found


def _start_files(policy: Policy, code: Code) -> dict[str, bytes]:
    """What an interpreter that a guest starts reads first: the Python layer.

    ``site`` executes a line of a ``.pth`` file that begins with ``import``.
    """
    interpreter = code.interpreter
    site = site_inside(interpreter)
    stand_ins = stand_ins_inside(code)
    settings = {
        "stand_ins": stand_ins,
        "path": [dynload_inside(interpreter), site],
        "trusted": [stdlib_inside(interpreter), site, *([STAND_INS] if stand_ins else [])],
        "host_name": "" if policy.system_info else HOST_NAME.decode(),
    }
    parent, _, package = LAYER.rpartition("/")
    line = (
        f"import sys; sys.path.insert(0, {parent!r}); "
        f"from {package} import child; child.start(**{settings!r})\n"
    )
    return {"belljar.pth": line.encode()}


def _loader_files(interpreter: Interpreter, sonames: set[str]) -> dict[str, bytes]:
    """How dynamic loaders find the libraries without a variable in the environment.

    See ld.so(8); for musl, ``ldso/dynlink.c``.
    """
    from ..python.ldcache import make_cache  # the launcher needs this file's names only

    paths = {soname: f"{LIBRARIES}/{soname}" for soname in sorted(sonames)}
    return {
        "/etc/ld.so.cache": make_cache(paths, interpreter.machine),
        f"/etc/ld-musl-{interpreter.machine}.path": LIBRARIES.encode() + b"\n",
    }


def make_entries(
    policy: Policy,
    code: Code,
    places: tuple[Place, ...],
    proc: bool,
    owner: bool,
    landlock: bool,
) -> list[list[Argument]]:
    """The tree as entries, parents first.

    An entry is ``["bind", target, source, attributes, owner]`` (``owner``: map the files'
    owner to the guest where the kernel can), ``["bind?", …]`` (left out where the source
    is missing), ``["place", …]`` (a granted path: mounted last, by descriptors), ``["file", target, contents]``,
    ``["link", target, to]``, ``["dir", target]``; or, over what a bind brought along,
    ``["empty", target]`` (a directory without anything in it), ``["folder", target, files]``
    (one of just these files, name -> contents), ``["hide", target]`` (a file
    that nobody can read), ``["cover", target, contents]`` (another file) or
    ``["only", target, names]`` (a directory of just these names, for binds to come).
    """
    interpreter, packages = code.interpreter, code.packages
    name = python_name(interpreter)
    stdlib = stdlib_inside(interpreter)
    entries: list[list[Argument]] = []

    def bind(target: str, source: str, attributes: int, owner: bool = False) -> None:
        entries.append(["bind", target, source, attributes, owner])

    def file(target: str, contents: bytes) -> None:
        entries.append(["file", target, contents])

    bind(f"/usr/bin/{name}", interpreter.executable, READ_ONLY)
    # Not executable, because the only native code in it would be the extension modules: they
    # are shown one by one, so that one that is not allowed is nowhere, and if a way to its
    # file were found it could not be mapped as code.
    bind(stdlib, interpreter.stdlib, READ_ONLY | NOEXEC)
    dynload = dynload_inside(interpreter)
    shown = [source for _, source in code.whitelist.shown]
    if dynload == DYNLOAD:
        entries.append(["dir", DYNLOAD])
    else:
        entries.append(["only", dynload, [_name(source) for source in shown]])
    for source in shown:
        bind(f"{dynload}/{_name(source)}", source, READ_ONLY)
    for _, source in code.whitelist.runtime:
        bind(f"{RUNTIME}/{_name(source)}", source, READ_ONLY)
    starts = _start_files(policy, code) if policy.limits.processes else {}
    for part in code.stdlib_names:
        if hidden(part):
            target = f"{stdlib}/{part}"
            entries.append(
                ["folder", target, starts] if part in _SITE and starts else ["empty", target]
            )
    for part, contents in code.covers:
        if contents is None:
            entries.append(["hide", f"{stdlib}/{part}"])
        else:
            entries.append(["cover", f"{stdlib}/{part}", contents])
    site = site_inside(interpreter)
    native = dict.fromkeys((*(path for _, path in packages.modules), *packages.bundled))
    for inside, source in packages.entries:
        own = [path for path in native if path == inside or path.startswith(inside + "/")]
        lent = [path for path in own if path not in code.whitelist.hidden]
        # Where a part is refused, code is what is allowed by name, and nothing beside it: a
        # copy of what is refused may lie there under a name that says nothing.
        whole = bool(lent) and lent == own
        bind(f"{site}/{inside}", source, READ_ONLY if whole else READ_ONLY | NOEXEC)
        for path in () if whole else lent:
            bind(f"{site}/{path}", source + path.removeprefix(inside), READ_ONLY)
    for path in code.whitelist.hidden:
        entries.append(["hide", f"{site}/{path}"])
    for module, source in code.stand_ins:
        bind(f"{STAND_INS}/{module}.py", source, READ_ONLY | NOEXEC)
    for path, source in loaders(code).items():
        bind(path, source, READ_ONLY)
    seen: set[str] = set()
    programs = code.programs
    lent_libraries = (*interpreter.libraries, *packages.libraries)
    if programs is not None:
        lent_libraries += programs.libraries
    for soname, source in lent_libraries:
        if soname not in seen:
            seen.add(soname)
            bind(f"{LIBRARIES}/{soname}", source, READ_ONLY)
    if policy.limits.processes:
        for program, source in () if programs is None else programs.files:
            bind(f"/usr/bin/{program}", source, READ_ONLY)
        for alias in ("python", f"python{interpreter.version[0]}"):
            entries.append(["link", f"/usr/bin/{alias}", name])
        entries.append(["link", "/bin", "usr/bin"])  # where execvp(3) and shells look first
        for module, text in code.layer:
            file(f"{LAYER}/{module}", text)
        if not any(part in _SITE for part in code.stdlib_names):
            for part, text in starts.items():
                file(f"{DEBIAN_SITE}/{part}", text)
        for path, text in _loader_files(interpreter, seen).items():
            file(path, text)
        entries.append(["dir", SHARED_MEMORY])
    bind(f"{PACKAGE}/belljar", code.belljar, READ_ONLY | NOEXEC)

    # Mapped shared and writable, /dev/zero is memory that no limit counts; Landlock keeps it
    # from being opened so, and without Landlock it is not there.
    for device in DEVICES if landlock else DEVICES_WITHOUT_LANDLOCK:
        bind(f"/dev/{device}", f"/dev/{device}", DEVICE)
    entries.append(["link", "/dev/fd", "/proc/self/fd"])
    for number, stream in enumerate(("stdin", "stdout", "stderr")):
        entries.append(["link", f"/dev/{stream}", f"/proc/self/fd/{number}"])
    for part in PROC_SELF if proc else ():
        if part == "fd":
            entries.append(["dir", "/proc/self/fd"])
        else:
            file(f"/proc/self/{part}", b"")
    if proc:
        entries.append(["link", f"/proc/{GUEST_PID}", "self"])
    file("/etc/passwd", PASSWD)
    file("/etc/group", GROUP)
    file("/etc/hosts", HOSTS)
    entries.append(["bind?", TIME_ZONES, TIME_ZONES, READ_ONLY | NOEXEC, False])
    if policy.system_info:
        for inside, source in SYSTEM_INFO_FILES.items():
            entries.append(["bind?", inside, source, READ_ONLY | NOEXEC, False])
    entries.append(["dir", site])
    entries.append(["dir", "/work"])
    entries.append(["dir", "/tmp"])
    for place, point in zip(places, mount_points(places), strict=True):
        attributes = DATA if place.writable else READ_ONLY | NOEXEC
        entries.append(["place", point, place.host, attributes, owner])
    return entries
