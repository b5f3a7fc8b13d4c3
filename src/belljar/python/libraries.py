"""Which shared libraries a set of ELF files pulls in, found as the dynamic loader finds them.

What: from a program and the extension modules it may load to the host path of every
library that they need, and of every library that those need.  Because: the guest's
root is made of bind mounts of exactly these files; one too few and an import fails,
one too many and the guest sees more of the host than its Python needs.  Then: the
search is glibc's (DT_RPATH, DT_RUNPATH, the cache, the default directories) or
musl's, without starting either.

Two things are left out on purpose:

``LD_LIBRARY_PATH``
    The zygote starts with an empty environment, so its loader would not follow the
    variable; and a variable that happens to be set must not change what a guest sees.

``glibc-hwcaps`` directories
    They hold variants of the same libraries for newer processors.  The plain file
    runs on every processor, and one file per name keeps the root the same everywhere.

Source: ld.so(8) "Dependent shared libraries", ldconfig(8), glibc ``dl-cache.h``, musl
``ldso/dynlink.c``.
"""

from __future__ import annotations

import os

from .._record import Record
from .elf import Elf, ElfError, parse_elf
from .ldcache import parse_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Closure", "SearchRules", "read_elf", "resolve", "search_rules"]

CACHE = "/etc/ld.so.cache"

# ldconfig stops far below: a full desktop has 5,000 entries in 400 KiB.
_MAX_CACHE_BYTES = 32 * 1024 * 1024

_MULTIARCH = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}

# musl carries these inside its loader and never looks for a file (reserved names in dynlink.c).
_MUSL_OWN = ("c.", "pthread.", "rt.", "m.", "dl.", "util.", "xnet.")


class SearchRules(Record):
    """Where one machine's loader looks for a library that is named without a directory.

    ``cached`` maps names to paths (``/etc/ld.so.cache``); ``directories`` are searched
    afterwards, in order.  ``musl`` says that the loader is musl's, which lets DT_RUNPATH
    reach the libraries of a library, as only DT_RPATH does with glibc.
    """

    machine: str
    directories: tuple[str, ...] = ()
    cached: dict[str, str] = {}  # noqa: RUF012 - never changed
    musl: bool = False


class Closure(Record):
    """What a set of ELF files needs.

    ``libraries`` are (name as asked for, real path on this host), each name once, in the
    order in which they were found; a name with a slash is a path that was asked for as
    such.  ``missing`` are (name, path of the file that asks for it): whatever needs one
    of these will not load, which for an optional module means that it does not import.
    The loader itself is not listed: it is in memory before it looks for anything.
    """

    libraries: tuple[tuple[str, str], ...] = ()
    missing: tuple[tuple[str, str], ...] = ()


class _Object:
    """One file in the loader's list, with what its own wishes are searched through."""

    __slots__ = ("elf", "origin", "parent", "path")

    def __init__(self, path: str, elf: Elf, parent: _Object | None) -> None:
        self.path = path
        self.elf = elf
        self.origin = path.rpartition("/")[0] or "/"
        self.parent = parent


def read_elf(path: str) -> Elf:
    """The ELF fields of the file at ``path``.

    Raises ``ElfError`` if it is not such a file and ``OSError`` if it cannot be read.
    """
    descriptor = _open(path)
    try:
        pread = os.pread
        return parse_elf(lambda size, offset: pread(descriptor, size, offset))
    finally:
        os.close(descriptor)


def _read_elf_and_path(path: str) -> tuple[Elf, str]:
    """As ``read_elf``, and the file's real path, with all symbolic links followed."""
    descriptor = _open(path)
    try:
        pread = os.pread
        elf = parse_elf(lambda size, offset: pread(descriptor, size, offset))
        try:
            # One system call instead of an lstat per directory, and it names the very
            # file that was read.
            return elf, os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            return elf, os.path.realpath(path)
    finally:
        os.close(descriptor)


def _open(path: str) -> int:
    # What: never block, never leak.  Because: a name in a search directory may be a
    # FIFO.  Then: opening one for reading returns at once and pread refuses it.
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)


def search_rules(machine: str, loader: str | None) -> SearchRules:
    """The rules of the loader at path ``loader`` (PT_INTERP), read from this host's ``/etc``.

    A cache or path file that cannot be read, or that is damaged, counts as empty, as it
    does for the loader itself.
    """
    if loader is not None and loader.rpartition("/")[2].startswith("ld-musl-"):
        listed = _read_file(f"/etc/ld-musl-{machine}.path").decode("utf-8", "surrogateescape")
        paths = listed.replace("\n", ":").split(":") if listed else []
        directories = tuple(path for path in paths if path.startswith("/"))
        return SearchRules(
            machine, directories or ("/lib", "/usr/local/lib", "/usr/lib"), musl=True
        )
    multiarch = _MULTIARCH[machine]
    return SearchRules(
        machine,
        (
            f"/lib/{multiarch}",
            f"/usr/lib/{multiarch}",
            "/lib64",
            "/usr/lib64",
            "/lib",
            "/usr/lib",
        ),
        parse_cache(_read_file(CACHE), machine),
    )


def _read_file(path: str) -> bytes:
    """The bytes of a small file, none if it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        size = os.fstat(descriptor).st_size
        return os.pread(descriptor, size, 0) if 0 < size <= _MAX_CACHE_BYTES else b""
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def resolve(
    program: str,
    modules: Iterable[str],
    rules: SearchRules,
    *,
    extra: Iterable[str] = (),
    bundled: Iterable[str] = (),
    withheld: Iterable[str] = (),
) -> Closure:
    """Every library that ``program`` and ``modules`` need, directly or through one another.

    ``program`` is the path of the executable; its DT_RPATH serves every library in the
    process.  ``modules`` are paths of files that it may load at run time.  ``extra`` are
    names that the C library loads by itself, included where they are found and not
    reported where they are not.  ``bundled`` are real paths of files and directories that
    the guest gets anyway: libraries there are followed but not listed.  ``withheld`` are
    directories that it must not get anything else of: libraries there count as missing.
    A module that is not an ELF file for this machine is passed over: the loader would
    refuse it, too.

    Raises ``ElfError`` or ``OSError`` if ``program`` itself cannot be read.
    """
    elf, real = _read_elf_and_path(program)
    main = _Object(real, elf, None)
    search = _Search(main, rules, tuple(bundled), tuple(withheld))
    search.add(main)
    search.follow()
    for path in modules:
        try:
            elf = read_elf(path)
        except (ElfError, OSError):
            continue
        if elf.machine == rules.machine:
            search.add(_Object(path, elf, main))
            search.follow()
    for name in extra:
        search.add_extra(name)
        search.follow()
    return search.closure()


class _Search:
    """The loader's list while it grows."""

    def __init__(
        self,
        main: _Object,
        rules: SearchRules,
        bundled: tuple[str, ...],
        withheld: tuple[str, ...],
    ) -> None:
        self.main = main
        self.rules = rules
        self.bundled = bundled
        self.withheld = withheld
        self.found: dict[str, str] = {}  # name asked for -> real path
        self.sonames: dict[str, str] = {}  # DT_SONAME -> real path
        self.lost: dict[str, str] = {}  # name asked for -> path of the first that asked
        self.tried: dict[str, _Object | None] = {}  # candidate path -> what is there
        self.everywhere: dict[str, _Object | None] = {}  # name -> outcome of the shared search
        self.seen: set[str] = set()  # real paths
        self.queue: list[_Object] = []

    def add(self, item: _Object) -> None:
        """Put a file into the list, its wishes still to be followed."""
        self.queue.append(item)

    def add_extra(self, name: str) -> None:
        """Put a library into the list that nothing names, if this machine has it."""
        item = self.in_rules(name)
        if item is not None:
            self.keep(name, item)

    def follow(self) -> None:
        """Find what the listed files need until nothing new turns up, breadth first."""
        for item in self.queue:  # grows while it is walked
            for name in item.elf.needed:
                if self.is_loader(name):
                    continue
                library = self.find(name, item)
                if library is not None:
                    self.keep(name, library)
                else:
                    self.lost.setdefault(name, item.path)
        self.queue.clear()

    def keep(self, name: str, library: _Object) -> None:
        """Note what ``name`` led to, and list the library if it is new."""
        real = library.path
        if not _under(real, self.bundled):
            self.found.setdefault(name, real)
        if real not in self.seen:
            self.seen.add(real)
            if library.elf.soname is not None:
                self.sonames.setdefault(library.elf.soname, real)
            self.queue.append(library)

    def find(self, name: str, item: _Object) -> _Object | None:
        """What the loader would find for ``name`` on behalf of ``item``."""
        if "/" in name:
            path = _expand(name, item.origin, self.rules.machine)[0]
            return self.candidate(path, item) if path.startswith("/") else None
        for directory in self.own_directories(item):
            library = self.candidate(f"{directory}/{name}", item)
            if library is not None:
                return library
        return self.in_rules(name)

    def own_directories(self, item: _Object) -> list[str]:
        """What DT_RPATH and DT_RUNPATH say for ``item``, in the loader's order."""
        directories: list[str] = []
        machine = self.rules.machine
        if self.rules.musl:
            step: _Object | None = item
            while step is not None:
                directories += _split(step.elf.runpath or step.elf.rpath, step.origin, machine)
                step = step.parent
        elif item.elf.runpath is None:
            step = item
            while step is not None:
                if step.elf.runpath is None:
                    directories += _split(step.elf.rpath, step.origin, machine)
                step = step.parent
        else:
            directories += _split(item.elf.runpath, item.origin, machine)
        return directories

    def in_rules(self, name: str) -> _Object | None:
        """What the cache and the default directories hold for ``name``."""
        if name in self.everywhere:
            return self.everywhere[name]
        library: _Object | None = None
        cached = self.rules.cached.get(name)
        if cached is not None:
            library = self.candidate(cached, self.main)
        for directory in self.rules.directories:
            if library is not None:
                break
            library = self.candidate(f"{directory}/{name}", self.main)
        self.everywhere[name] = library
        return library

    def candidate(self, path: str, parent: _Object) -> _Object | None:
        """The library at ``path``, None if there is none that this machine can load."""
        if path in self.tried:
            return self.tried[path]
        library: _Object | None = None
        try:
            elf, real = _read_elf_and_path(path)
        except (ElfError, OSError):
            pass  # the loader passes over what it cannot open or map, and looks on
        else:
            if elf.machine == self.rules.machine and (
                _under(real, self.bundled) or not _under(real, self.withheld)
            ):
                library = _Object(real, elf, parent)
                # $ORIGIN is the directory under which it was found, links not followed.
                library.origin = path.rpartition("/")[0] or "/"
        self.tried[path] = library
        return library

    def is_loader(self, name: str) -> bool:
        """Whether ``name`` is the loader itself, which is in memory already."""
        if self.rules.musl:
            return name.startswith("lib") and name[3:].startswith(_MUSL_OWN)
        loader = self.main.elf.interpreter
        return loader is not None and loader.rpartition("/")[2] == name

    def closure(self) -> Closure:
        """The outcome.  What is in the list under its DT_SONAME is not missing."""
        for name in self.lost:
            real = self.sonames.get(name)
            if real is not None and not _under(real, self.bundled):
                self.found.setdefault(name, real)
        return Closure(
            tuple(self.found.items()),
            tuple(
                (name, path)
                for name, path in self.lost.items()
                if name not in self.found and name not in self.sonames
            ),
        )


def _under(path: str, places: tuple[str, ...]) -> bool:
    """Whether ``path`` is one of ``places`` or lies in one."""
    return any(path == place or path.startswith(place + "/") for place in places)


def _split(paths: str | None, origin: str, machine: str) -> list[str]:
    """The absolute directories of a search list.

    Empty and relative entries mean the current directory to the loader; they are
    passed over, because where belljar is started must not decide what a guest loads.
    """
    if not paths:
        return []
    return [
        expanded
        for path in paths.split(":")
        for expanded in _expand(path, origin, machine)
        if expanded.startswith("/")
    ]


def _expand(path: str, origin: str, machine: str) -> list[str]:
    """``path`` with ``$ORIGIN``, ``$LIB`` and ``$PLATFORM`` filled in (ld.so(8))."""
    if "$" not in path:
        return [path]
    for name, value in (("ORIGIN", origin), ("PLATFORM", machine)):
        path = path.replace(f"${{{name}}}", value).replace(f"${name}", value)
    # What: both spellings of $LIB.  Because: each distribution builds its loader with its
    # own value.  Then: the one that does not exist is tried in vain.
    if "$LIB" in path or "${LIB}" in path:
        return [
            path.replace("${LIB}", value).replace("$LIB", value)
            for value in (f"lib/{_MULTIARCH[machine]}", "lib64", "lib")
        ]
    return [path]
