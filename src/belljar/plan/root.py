"""The canonical root: the small tree that a guest sees, the same on every machine.

Pure: from an interpreter's description and a policy to a list of entries.  The launcher
makes them in this order inside an empty tmpfs.
"""

from __future__ import annotations

from .._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..policy import Policy
    from ..python.distributions import PackageSet
    from ..python.interpreter import Interpreter
    from .steps import Argument

# Mount attributes, as in mount_setattr(2).
RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
READ_ONLY = RDONLY | NOSUID | NODEV
DATA = NOSUID | NODEV | NOEXEC
DEVICE = RDONLY | NOSUID | NOEXEC  # read-only: contents of a device node can still be written

ZYGOTE_PROC = "/.zygote"  # a whole proc file system, for the zygote alone
LIBRARIES = "/usr/lib/belljar/lib"  # shared libraries, by the names the loader asks for
DYNLOAD = "/usr/lib/belljar/dynload"  # extension modules that lie apart from the library
PACKAGE = "/usr/lib/belljar/python"  # belljar itself, for the zygote
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
HIDDEN_STDLIB = ("site-packages", "dist-packages", "ensurepip", "idlelib", "turtledemo")

PASSWD = b"guest:x:1000:1000:guest:/work:/usr/sbin/nologin\nnobody:x:65534:65534:::\n"
GROUP = b"guest:x:1000:\nnogroup:x:65534:\n"
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


def dynload_inside(interpreter: Interpreter) -> tuple[str, ...]:
    """Where the standard extension modules are found inside."""
    inside: list[str] = []
    for number, source in enumerate(interpreter.dynload):
        below = source.removeprefix(interpreter.stdlib + "/")
        apart = below == source
        inside.append(f"{DYNLOAD}/{number}" if apart else f"{stdlib_inside(interpreter)}/{below}")
    return tuple(inside)


def site_inside(interpreter: Interpreter) -> str:
    return f"/usr/local/lib/{python_name(interpreter)}/site-packages"


def make_entries(
    policy: Policy,
    interpreter: Interpreter,
    packages: PackageSet,
    places: tuple[Place, ...],
    belljar: str,
    stdlib_names: tuple[str, ...],
    proc: bool,
    owner: bool,
    landlock: bool,
) -> list[list[Argument]]:
    """The tree as entries, parents first.

    An entry is ``["bind", target, source, attributes, owner]`` (``owner``: map the files'
    owner to the guest where the kernel can), ``["bind?", …]`` (left out where the source
    is missing), ``["place", …]`` (a granted path: mounted last, by descriptors), ``["file", target, contents]``,
    ``["link", target, to]``, ``["dir", target]`` or ``["empty", target]`` (hides what a
    bind brought along).  ``stdlib_names`` are the names in the host's standard library,
    so that only what exists is hidden.
    """
    name = python_name(interpreter)
    stdlib = stdlib_inside(interpreter)
    entries: list[list[Argument]] = []

    def bind(target: str, source: str, attributes: int, owner: bool = False) -> None:
        entries.append(["bind", target, source, attributes, owner])

    def file(target: str, contents: bytes) -> None:
        entries.append(["file", target, contents])

    bind(f"/usr/bin/{name}", interpreter.executable, READ_ONLY)
    bind(stdlib, interpreter.stdlib, READ_ONLY)
    for number, source in enumerate(interpreter.dynload):
        if not source.startswith(interpreter.stdlib + "/"):
            bind(f"{DYNLOAD}/{number}", source, READ_ONLY)
    for part in stdlib_names:
        if hidden(part):
            entries.append(["empty", f"{stdlib}/{part}"])
    for inside, source in packages.entries:
        bind(f"{site_inside(interpreter)}/{inside}", source, READ_ONLY)
    if interpreter.loader is not None:
        bind(interpreter.loader[0], interpreter.loader[1], READ_ONLY)
    seen: set[str] = set()
    for soname, source in (*interpreter.libraries, *packages.libraries):
        if soname not in seen:
            seen.add(soname)
            bind(f"{LIBRARIES}/{soname}", source, READ_ONLY)
    bind(f"{PACKAGE}/belljar", belljar, READ_ONLY | NOEXEC)

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
    file("/etc/passwd", PASSWD)
    file("/etc/group", GROUP)
    file("/etc/hosts", HOSTS)
    if policy.system_info:
        for inside, source in SYSTEM_INFO_FILES.items():
            entries.append(["bind?", inside, source, READ_ONLY | NOEXEC, False])
    entries.append(["dir", site_inside(interpreter)])
    entries.append(["dir", "/work"])
    entries.append(["dir", "/tmp"])
    for place, point in zip(places, mount_points(places), strict=True):
        attributes = DATA if place.writable else READ_ONLY | NOEXEC
        entries.append(["place", point, place.host, attributes, owner])
    return entries
