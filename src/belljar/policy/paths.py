"""Read and write grants on paths, as a small algebra.

What: ``PathGrant`` (a host path and where it appears inside), the places that may not be
granted, and covering, conflict and intersection of sets of grants.  Because: a grant on a
directory means everything beneath it, so "equal", "wider" and "in both" are questions about
trees, not about strings.  Then: ``Policy`` keeps the least set of grants that says the same,
and two policies that mean the same are equal.

The meaning of a set of grants is a map: inside path -> host path and mode (read or write).
It stays a map because an inside path that lies beneath another must show what it would show
anyway; everything else is a conflict.  Paths are compared as text: symbolic links are the
business of the plan, which knows a file system.
"""

from __future__ import annotations

from posixpath import normpath

from .._record import Record
from ..errors import PolicyError
from .checks import as_dict, at, check_count, check_text, is_bunch, kind, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from typing import Any, TypeAlias

    Path: TypeAlias = str | os.PathLike[str]
    PathsWanted: TypeAlias = (
        Sequence["Path | PathGrant"]
        | AbstractSet["Path | PathGrant"]
        | Mapping[Any, Path]  # host -> inside; Any, because the keys of a Mapping are invariant
    )

MAX_PATHS = 256  # each is a bind mount and a Landlock rule in every guest's start-up
MAX_PATH_BYTES = 4095  # PATH_MAX without its final NUL


class PathGrant(Record):
    """One granted place: ``host`` on this machine, ``inside`` where the guest finds it."""

    host: str
    inside: str


# Inside path -> why nothing can be granted there, or beneath it.
RESERVED_TREES: dict[str, str] = {
    "/.covers": "it belongs to belljar itself",
    "/.empty": "it belongs to belljar itself",
    "/.places": "it belongs to belljar itself",
    "/.zygote": "it belongs to belljar itself",
    "/bin": "it belongs to the interpreter's own tree",
    "/dev": "it holds the harmless devices only",
    "/etc": "it is made up, so that it tells nothing about the host",
    "/lib": "it belongs to the interpreter's own tree",
    "/lib32": "it belongs to the interpreter's own tree",
    "/lib64": "it belongs to the interpreter's own tree",
    "/libx32": "it belongs to the interpreter's own tree",
    "/proc": "it shows the guest only itself",
    "/sbin": "it belongs to the interpreter's own tree",
    "/sys": "it stays empty, because it describes the host",
    "/usr": "it belongs to the interpreter's own tree",
}

# Inside path -> why nothing can be granted there; beneath it grants are welcome.
RESERVED_ROOTS: dict[str, str] = {
    "/tmp": "it is the guest's own temporary place",
    "/work": "it is the guest's own current directory",
}

# Host path -> why it cannot be granted, under any alias.
REFUSED_HOST_TREES: dict[str, str] = {
    "/dev": "devices reach past every wall",
    "/proc": "it reaches into other processes: their memory, files and environment",
    "/sys": "it reaches into the kernel's own switches",
}

# Beneath these ordinary files live after all.
REFUSED_HOST_EXCEPTIONS: tuple[str, ...] = ("/dev/shm",)


def below(outer: str, inner: str) -> str | None:
    """What follows ``outer`` in ``inner``: ``""`` if equal, ``"/a"`` beneath, else None."""
    if inner == outer:
        return ""
    if inner.startswith(outer + "/"):
        return inner[len(outer) :]
    return None


def covers(outer: PathGrant, inner: PathGrant) -> bool:
    """Does ``outer`` already show all that ``inner`` shows, at the same inside paths?"""
    rest = below(outer.inside, inner.inside)
    return rest is not None and inner.host == outer.host + rest


def covered(grant: PathGrant, by: Iterable[PathGrant]) -> bool:
    """Is ``grant`` covered by one of ``by``?"""
    return any(covers(outer, grant) for outer in by)


def check_path(value: object, key: str) -> str:
    """``value`` as an absolute, normalised path, judged as text only.

    Raises:
        PolicyError: not a str or ``os.PathLike``, empty, relative, with ``..`` (a symbolic
            link could lead it anywhere), ``/`` itself, longer than the kernel takes.
    """
    fspath = getattr(type(value), "__fspath__", None)
    if fspath is not None and not isinstance(value, str):
        value = fspath(value)
    if isinstance(value, bytes):
        raise PolicyError(key, f"expected a path (str), got bytes {show(value)}")
    text = check_text(value, key, "a path")
    if not text:
        raise PolicyError(key, "the path is empty")
    if text[0] == "~":
        raise PolicyError(key, f"{show(text)} is not absolute; ~ is not expanded, write it out")
    if text[0] != "/":
        raise PolicyError(key, f"{show(text)} is not absolute; a path starts with /")
    if len(text.encode()) > MAX_PATH_BYTES:
        raise PolicyError(key, f"the path is longer than {MAX_PATH_BYTES} bytes")
    if ".." in text.split("/"):
        raise PolicyError(key, f"{show(text)} holds '..'; write where it leads")
    text = "/" + normpath(text).lstrip("/")  # normpath keeps a doubled leading slash
    if text == "/":
        raise PolicyError(key, "/ is the whole machine; grant the directories that are needed")
    return text


def check_host(path: str, key: str) -> str:
    """``path`` if it may be granted at all.  For a plan to ask again once links are resolved.

    Raises:
        PolicyError: it lies in a place of ``REFUSED_HOST_TREES``, or is ``/``.
    """
    if path == "/":
        raise PolicyError(key, "/ is the whole machine; grant the directories that are needed")
    for root, reason in REFUSED_HOST_TREES.items():
        if below(root, path) is not None:
            if any(below(shm, path) for shm in REFUSED_HOST_EXCEPTIONS):
                continue
            raise PolicyError(key, f"{show(path)} cannot be granted: {reason}")
    return path


def check_inside(path: str, host: str, key: str, verb: str) -> str:
    """``path`` if ``host`` may be shown there inside.

    Raises:
        PolicyError: it is reserved; the message shows how to choose another place.
    """
    reason = RESERVED_ROOTS.get(path, "")
    for root, why in RESERVED_TREES.items():
        if below(root, path) is not None:
            reason = why
    if reason:
        raise PolicyError(
            key,
            f"{show(path)} is reserved inside: {reason}; "
            f"show it elsewhere: {verb}={{{show(host)}: '/data'}}",
        )
    return path


def collect(verb: str, wanted: object) -> list[tuple[str, PathGrant]]:
    """The grants that ``allow(read=...)`` or ``allow(write=...)`` asks for, with key paths.

    Args:
        verb: ``"read"`` or ``"write"``.
        wanted: a list, tuple or set of paths or ``PathGrant``, or a dict host -> inside.

    Raises:
        PolicyError: anything else, or a path that cannot be granted.
    """
    key = f"grants.{verb}"
    grants: list[tuple[str, PathGrant]] = []
    table = as_dict(wanted)
    if table is not None:
        check_count(len(table), MAX_PATHS, key, "paths")
        for host, inside in table.items():
            entry = at(key, str(host) if _pathlike(host) else host)
            grants.append((entry, _grant(verb, entry, host, inside)))
        return grants
    if not is_bunch(wanted):
        hint = f"; write {verb}=[{show(wanted)}]" if _pathlike(wanted) else ""
        raise PolicyError(key, f"expected a list of paths, got {kind(wanted)}{hint}")
    check_count(len(wanted), MAX_PATHS, key, "paths")
    for index, item in enumerate(wanted):
        entry = at(key, index)
        if isinstance(item, PathGrant):
            grants.append((entry, _grant(verb, entry, item.host, item.inside)))
        else:
            grants.append((entry, _grant(verb, entry, item, item)))
    return grants


def _pathlike(value: object) -> bool:
    return isinstance(value, str) or hasattr(type(value), "__fspath__")


def _grant(verb: str, key: str, host: object, inside: object) -> PathGrant:
    host = check_host(check_path(host, key), key)
    return PathGrant(host, check_inside(check_path(inside, key), host, key, verb))


def check_conflicts(key: str, grant: PathGrant, others: Iterable[PathGrant]) -> None:
    """Refuse ``grant`` if an inside path would have to show two host paths at once."""
    for other in others:
        for outer, inner in ((other, grant), (grant, other)):
            rest = below(outer.inside, inner.inside)
            if rest is None or inner.host == outer.host + rest:
                continue
            if not rest:
                message = f"{grant.inside} inside already shows {other.host}"
            else:
                message = (
                    f"{inner.inside} inside lies in {outer.inside}, "
                    f"which shows {outer.host}{rest} there"
                )
            raise PolicyError(
                key, f"{message}; it cannot show {grant.host} too, choose another inside path"
            )


def reduce_grants(
    read: Iterable[PathGrant], write: Iterable[PathGrant]
) -> tuple[tuple[PathGrant, ...], tuple[PathGrant, ...]]:
    """The least (read, write) that means the same, sorted by inside path.

    A write grant lends reading too, so a read grant beneath one says nothing new.
    """
    wide_write = _widest(write)
    wide_read = [grant for grant in _widest(read) if not covered(grant, wide_write)]
    return tuple(wide_read), tuple(wide_write)


def _widest(grants: Iterable[PathGrant]) -> list[PathGrant]:
    """The grants that no other one covers.  Sorted, so that an outer path comes first."""
    kept: list[PathGrant] = []
    for grant in sorted(set(grants), key=lambda grant: (grant.inside, grant.host)):
        if not covered(grant, kept):
            kept.append(grant)
    return kept


def intersect(left: Iterable[PathGrant], right: Iterable[PathGrant]) -> list[PathGrant]:
    """What both sides show: of each pair where one covers the other, the inner one."""
    right = list(right)
    both: list[PathGrant] = []
    for a in left:
        for b in right:
            if covers(a, b):
                both.append(b)
            elif covers(b, a):
                both.append(a)
    return both
