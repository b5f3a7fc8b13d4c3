"""The installed distributions that a packages grant names, as files.

What: from names such as ``pandas`` to the files and directories of that distribution
and of all that it requires, and to the system's libraries that their extension modules
link to.  Because: a site-packages directory holds whatever was ever installed, and a
grant of one package must not show the others.  Then: each directory that belongs to
granted distributions alone is one entry, and a directory shared with others is taken
apart until that is true.

What was installed is read from the metadata; nothing of it is imported.

Source: PEP 376 and the packaging specifications "Recording installed projects" and
"Dependency specifiers"; PEP 610 (direct_url.json).
"""

from __future__ import annotations

import os

from .._record import Record
from ..errors import PolicyError
from .installed import Installed, Site
from .libraries import resolve, search_rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from packaging.requirements import Requirement

    from .interpreter import Interpreter

    Tree = dict[str, "Tree | None"]
    """Names in a directory; None for a file."""

__all__ = ["PackageSet", "resolve_packages"]

KEY = "grants.packages"
_ORIGIN = "direct_url.json"  # PEP 610


class PackageSet(Record):
    """What a packages grant brings in.

    ``distributions`` are (name, version), sorted.  ``entries`` are (path relative to
    site-packages, path on this host) of files and whole directories, sorted, none inside
    another.  ``libraries`` are (name as asked for, real path) of what their extension
    modules need from the system beyond what the interpreter needs already.  ``missing``
    are (name, path of who asks) of what this host does not have, or what lies in a
    distribution that is not granted.  ``modules`` are (full name, path relative to
    site-packages) of the extension modules among the files, ``bundled`` the paths of shared
    libraries that no import finds.
    """

    distributions: tuple[tuple[str, str], ...] = ()
    entries: tuple[tuple[str, str], ...] = ()
    libraries: tuple[tuple[str, str], ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    modules: tuple[tuple[str, str], ...] = ()
    bundled: tuple[str, ...] = ()


def resolve_packages(
    names: frozenset[str], interpreter: Interpreter, blocked: frozenset[str] = frozenset()
) -> PackageSet:
    """Resolve the distributions ``names`` and all that they require.

    A name may carry extras and a version range, ``pandas[excel]>=2``; what is installed
    is never changed, so a range is only checked.  Distributions are looked for in
    ``interpreter.site_dirs``, first found first taken, and requirements are followed
    where their markers hold for that interpreter.  ``blocked`` names are left out,
    whoever requires them.

    Raises ``PolicyError`` with the key ``grants.packages`` if a name is malformed, if a
    distribution is not installed (the text says who requires it and how to get it), is
    installed in editable mode, or has no list of its files.
    """
    if not names:
        return PackageSet()
    sites = [Site(path) for path in interpreter.site_dirs]
    members = _close(names, interpreter, sites, blocked)
    entries = _entries(members, sites, interpreter.cache_tag)
    native = _native(entries)
    libraries, missing = _libraries([host for _, _, host in native], entries, interpreter)
    modules = {(_module(name), path) for name, path, _ in native}
    return PackageSet(
        tuple(sorted((member.name, member.version) for member in members)),
        entries,
        libraries,
        missing,
        tuple(sorted(pair for pair in modules if pair[0])),
        tuple(sorted(path for name, path in modules if not name)),
    )


def _error(message: str) -> PolicyError:
    return PolicyError(KEY, message)


# -- which distributions ------------------------------------------------------------------


def _close(
    names: Iterable[str], interpreter: Interpreter, sites: list[Site], blocked: frozenset[str]
) -> list[Installed]:
    """The distributions asked for, and those that they require, each once."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    waiting: list[tuple[Requirement, Installed | None]] = []
    for name in sorted(names):
        try:
            asked = Requirement(name)
        except InvalidRequirement:
            raise _error(f"{name!r} is not the name of a distribution") from None
        if asked.url or asked.marker:
            raise _error(f"{name!r} has a URL or a marker; give a name, as pip lists it")
        waiting.append((asked, None))

    environment = _marker_environment(interpreter)
    members: dict[str, Installed] = {}
    done: set[tuple[str, str]] = set()  # (name, extra) whose requirements were followed
    while waiting:
        asked, parent = waiting.pop()
        name = canonicalize_name(asked.name)
        if name in blocked:
            continue
        member = members.get(name)
        if member is None:
            member = _find(name, asked.name, parent, interpreter, sites)
            members[name] = member
        if parent is None:
            _check_asked(asked, member)
        for extra in ("", *sorted(asked.extras)):
            if (name, extra) in done:
                continue
            done.add((name, extra))
            for text in member.requires:
                try:
                    wanted = Requirement(text)
                    marker = wanted.marker
                    if marker is None or marker.evaluate({**environment, "extra": extra}):
                        waiting.append((wanted, member))
                except ValueError as error:  # what packaging raises for all that is malformed
                    raise _error(f"the metadata of {member.name!r} is damaged: {error}") from None
    return [members[name] for name in sorted(members)]


def _marker_environment(interpreter: Interpreter) -> dict[str, str]:
    """What markers are compared with: this machine, but the guest's interpreter."""
    from packaging.markers import default_environment

    environment = {key: str(value) for key, value in default_environment().items()}
    full = ".".join(map(str, interpreter.version))
    environment |= {
        "implementation_name": "cpython",
        "implementation_version": full,
        "platform_machine": interpreter.machine,
        "platform_python_implementation": "CPython",
        "python_full_version": full,
        "python_version": ".".join(map(str, interpreter.version[:2])),
    }
    return environment


def _find(
    name: str, written: str, parent: Installed | None, interpreter: Interpreter, sites: list[Site]
) -> Installed:
    """The installed distribution with the canonical ``name``."""
    for site in sites:
        member = site.find(name)
        if member is not None:
            if member.editable:
                raise _error(
                    f"{written!r} is installed in editable mode: its files are in a source "
                    "tree, not in site-packages; install it with `pip install .` there"
                )
            if not member.files and not member.directories:
                raise _error(
                    f"{written!r} has no list of its files in {member.site}, so they cannot be "
                    "told from those of other distributions; install it with pip"
                )
            return member
        if site.has_egg_link(name):
            raise _error(
                f"{written!r} is installed in editable mode (setup.py develop); install it "
                "with `pip install .` in its source tree"
            )
    what = repr(written) if parent is None else f"{written!r}, which {parent.name!r} requires,"
    hint = f"`{interpreter.command} -m pip install {written}`"
    if parent is None:
        for site in sites:
            owners = site.owners_of_module(written)
            if owners:
                hint = f"the module {written!r} belongs to the distribution {owners[0]!r}"
                break
    raise _error(f"{what} is not installed for {interpreter.command}; {hint}")


def _check_asked(asked: Requirement, member: Installed) -> None:
    """Refuse a range or an extra of the grant itself that what is installed lacks."""
    from packaging.utils import canonicalize_name

    try:
        fits = not asked.specifier or asked.specifier.contains(member.version, prereleases=True)
    except ValueError:  # a version that today's rules do not know
        fits = False
    if not fits:
        raise _error(f"{str(asked)!r} is asked for, and {member.version} is installed")
    for extra in asked.extras:
        if canonicalize_name(extra) not in map(canonicalize_name, member.extras):
            raise _error(f"{member.name!r} {member.version} has no extra {extra!r}")


# -- which files --------------------------------------------------------------------------


def _entries(
    members: list[Installed], sites: list[Site], cache_tag: str
) -> tuple[tuple[str, str], ...]:
    """The fewest files and directories that hold all of ``members`` and nothing of others."""
    trees: dict[str, Tree] = {site.path: {} for site in sites}
    whole: set[tuple[str, str]] = set()  # (site, directory) of members without a list of files
    for member in members:
        for path in member.files:
            _plant(trees, sites, member.site, path)
        for directory in member.directories:
            trees[member.site].setdefault(directory, {})
            whole.add((member.site, directory))

    entries: dict[str, str] = {}
    used = {site: tree for site, tree in trees.items() if tree}
    for site in sites:
        tree = used.get(site.path)
        if tree is None:
            continue
        tops = {name for name, child in tree.items() if child is not None}
        granted = {member.info for member in members if member.site == site.path}
        shared = site.directories_of_others(tops, granted)
        # Says where on this host a local package was installed from: its directory is taken
        # apart, so that it stays behind.
        shared |= {member.info for member in members if f"{member.info}/{_ORIGIN}" in member.files}
        for other, other_tree in used.items():
            if other != site.path:
                shared |= _common(tree, other_tree)
        for directory in sorted(tops & shared):
            if (site.path, directory) in whole:
                raise _error(
                    f"{directory!r} in {site.path} belongs to several distributions, of which one "
                    "has no list of its files; install it with pip"
                )
        for path in sorted(_cut(tree, "", shared)):
            host = f"{site.path}/{path}"
            if path not in entries and os.path.exists(host):
                entries[path] = host
                _add_bytecode(entries, site.path, path, cache_tag)
    return tuple(sorted(entries.items()))


def _plant(trees: dict[str, Tree], sites: list[Site], home: str, path: str) -> None:
    """Put a file that is listed relative to ``home`` into the tree of its directory.

    Passed over are bytecode files (those of a directory come with it), what lies outside
    of every site directory (scripts, manual pages), .pth files: they are code that
    runs at the start of each interpreter, and a grant lends modules only; and the note
    where a distribution was installed from, which may be a path of this host.
    """
    if path.startswith(("/", "../")) or "/../" in path:
        absolute = os.path.normpath(f"{home}/{path}" if path[0] != "/" else path)
        for site in sites:
            if absolute.startswith(site.path + "/"):
                home, path = site.path, absolute[len(site.path) + 1 :]
                break
        else:
            return
    parts = path.split("/")
    if "__pycache__" in parts or path.endswith((".pyc", ".pth")):
        return
    if parts[-1] == _ORIGIN and parts[0].endswith(".dist-info"):
        return
    node = trees[home]
    for part in parts[:-1]:
        child = node.get(part)
        if child is None:
            child = node[part] = {}
        node = child
    node.setdefault(parts[-1], None)


def _common(one: Tree, other: Tree, above: str = "") -> set[str]:
    """The directories that are in both trees: inside, they are merged."""
    found: set[str] = set()
    for name in one.keys() & other.keys():
        first, second = one[name], other[name]
        if first is not None and second is not None:
            found.add(above + name)
            found |= _common(first, second, f"{above}{name}/")
    return found


def _cut(tree: Tree, above: str, shared: set[str]) -> Iterable[str]:
    """The paths at which the tree is cut off: files, and directories that are not shared."""
    for name, child in tree.items():
        path = above + name
        if child and path in shared:
            yield from _cut(child, path + "/", shared)
        else:
            yield path


def _add_bytecode(entries: dict[str, str], site: str, path: str, cache_tag: str) -> None:
    """Add the bytecode of a module that is an entry of its own.

    It lies in a directory with that of other modules.  Without it, each start would
    compile the module again.
    """
    if path.endswith(".py") and cache_tag:
        above, _, name = path.rpartition("/")
        cached = f"{above}/" if above else ""
        cached += f"__pycache__/{name[:-3]}.{cache_tag}.pyc"
        if os.path.isfile(f"{site}/{cached}"):
            entries[cached] = f"{site}/{cached}"


# -- which libraries of the system --------------------------------------------------------


def _native(entries: tuple[tuple[str, str], ...]) -> list[tuple[str, str, str]]:
    """(path as named, path of the file, its path on this host) of the shared objects there.

    The first two are relative to site-packages and differ for a symbolic link.  Looked for on
    the disk, because a list of files does not know what was made later, and what is not known
    here cannot be kept from a guest.
    """
    found: list[tuple[str, str]] = []
    for inside, host in entries:
        if _is_shared_object(inside):
            found.append((inside, host))
        for above, _, names in os.walk(host):
            below = inside + above.removeprefix(host)
            found += [(f"{below}/{name}", f"{above}/{name}") for name in sorted(names)]
    native: list[tuple[str, str, str]] = []
    for name, host in found:
        if not _is_shared_object(name):
            continue
        if not os.path.islink(host):
            native.append((name, name, host))
            continue
        real = os.path.realpath(host)
        for inside, place in entries:
            if real == place or real.startswith(place + "/"):
                native.append((name, inside + real.removeprefix(place), real))
    return native


def _is_shared_object(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.endswith(".so") or ".so." in name


def _module(path: str) -> str:
    """The full name under which a shared object would be imported; empty if under none."""
    above, _, file = path.rpartition("/")
    parts = [*above.split("/"), file.partition(".")[0]] if above else [file.partition(".")[0]]
    fits = file.endswith(".so") and all(part.isidentifier() for part in parts)
    return ".".join(parts) if fits else ""


def _libraries(
    modules: list[str],
    entries: tuple[tuple[str, str], ...],
    interpreter: Interpreter,
) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    """What these shared objects need from outside, found and missing."""
    if not modules:
        return (), ()
    loader = interpreter.loader
    closure = resolve(
        interpreter.executable,
        modules,
        search_rules(interpreter.machine, None if loader is None else loader[0]),
        bundled=[os.path.realpath(host) for _, host in entries],
        withheld=interpreter.site_dirs,
    )
    known = {name for name, _ in (*interpreter.libraries, *interpreter.missing)}
    return (
        tuple(found for found in closure.libraries if found[0] not in known),
        tuple(lost for lost in closure.missing if lost[0] not in known),
    )
