"""What the metadata in a site-packages directory says is installed there.

What: distributions by name, with their requirements and their files, and which other
distributions have files in the same directories.  Because: ``importlib.metadata``
reads one distribution well, but who shares a directory takes all of them, and parsing
every list of files takes a second where a hundred are installed.  Then: others' lists
are searched as bytes, and only those that name a directory in question are parsed.

Source: packaging specification "Recording installed projects", PEP 610.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Installed", "Site"]


class Installed:
    """One distribution in a site directory.

    ``site`` is the directory and ``info`` the name of its metadata directory there;
    ``files`` are the paths of its files as listed, relative to ``site``; ``directories``
    are whole top-level directories instead, where only a list of modules is kept
    (packages of a Linux distribution).
    """

    def __init__(self, site: str, info: str) -> None:
        from importlib.metadata import Distribution

        self.site = site
        self.info = info
        distribution = Distribution.at(f"{site}/{info}")
        metadata = distribution.metadata
        self.name: str = (metadata.get_all("Name") or [_name_of(info)])[0]
        self.version: str = (metadata.get_all("Version") or ["0"])[0]
        self.extras: list[str] = metadata.get_all("Provides-Extra") or []
        self.requires: list[str] = distribution.requires or []
        self.editable = _is_editable(distribution.read_text("direct_url.json"))
        self.directories: list[str] = []
        listed = _listed_files(site, info)
        self.files: list[str] = self._modules() if listed is None else listed

    def _modules(self) -> list[str]:
        """The files of its top-level modules; packages go to ``directories``."""
        base = f"{self.site}/{self.info}"
        if not os.path.isdir(base) or _read(f"{base}/namespace_packages.txt").strip():
            return []
        names = set(_read(f"{base}/top_level.txt").decode("utf-8", "replace").split())
        files = [f"{self.info}/{name}" for name in sorted(os.listdir(base))]
        found = False
        for name in sorted(os.listdir(self.site)):
            if name in names and os.path.isdir(f"{self.site}/{name}"):
                self.directories.append(name)
                found = True
            elif name.endswith((".py", ".so")) and name.partition(".")[0] in names:
                files.append(name)
                found = True
        return files if found else []


class Site:
    """One site-packages directory."""

    def __init__(self, path: str) -> None:
        self.path = path
        # Canonical name -> metadata directory; .dist-info is preferred over .egg-info.
        self._infos: dict[str, str] = {}
        self._all: list[str] = []
        try:
            names = sorted(os.listdir(path))
        except OSError:
            names = []  # unreadable or gone: nothing is installed there for this user
        for suffix in (".dist-info", ".egg-info"):
            for name in names:
                # A name that begins with ~ is what pip left of an interrupted removal.
                if name.endswith(suffix) and name[0] != "~" and _has_metadata(f"{path}/{name}"):
                    self._all.append(name)
                    self._infos.setdefault(_canonical(_name_of(name)), name)

    def find(self, name: str) -> Installed | None:
        """The distribution with the canonical ``name``, None if it is not here."""
        info = self._infos.get(name)
        return None if info is None else Installed(self.path, info)

    def has_egg_link(self, name: str) -> bool:
        """Whether ``setup.py develop`` left a link to a source tree under the name."""
        try:
            names = os.listdir(self.path)
        except OSError:
            return False
        return any(
            link.endswith(".egg-link") and _canonical(link[: -len(".egg-link")]) == name
            for link in names
        )

    def owners_of_module(self, module: str) -> list[str]:
        """Names of the distributions that bring the top-level module ``module``."""
        wanted = {module, f"{module}.py"}
        return [
            _name_of(info)
            for info in self._all
            if wanted & {path.partition("/")[0] for path in self._claims(info, wanted)}
        ]

    def directories_of_others(self, tops: set[str], granted: set[str]) -> set[str]:
        """Directories below ``tops`` that hold files of distributions not in ``granted``.

        ``granted`` are names of metadata directories; the paths that come back are
        relative to the site directory and include the top-level directories themselves.
        """
        shared: set[str] = set()
        for info in self._all:
            if info in granted:
                continue
            for path in self._claims(info, tops):
                top, slash, _ = path.partition("/")
                if top not in tops:
                    continue
                above = path.rpartition("/")[0] if slash else top
                while above and above not in shared:
                    shared.add(above)
                    above = above.rpartition("/")[0]
        return shared

    def _claims(self, info: str, tops: set[str]) -> list[str]:
        """The files of a distribution if any of them is one of ``tops`` or lies below it.

        Where there is no list of files, its top-level names instead.
        """
        data = _read(f"{self.path}/{info}/RECORD")
        if data:
            # A path with a comma in it is quoted; a file at the top is followed by its hash.
            heads = {line.partition(b"/")[0] for line in data.split(b"\n")}
            heads = {head.partition(b",")[0].strip(b'"') for head in heads}
            if heads.isdisjoint(map(os.fsencode, tops)):
                return []
        listed = _listed_files(self.path, info)
        if listed is None:
            return _read(f"{self.path}/{info}/top_level.txt").decode("utf-8", "replace").split()
        return listed


def _is_editable(direct_url: str | None) -> bool:
    """Whether pip recorded an editable installation (PEP 610)."""
    import json

    try:
        return bool(json.loads(direct_url or "{}")["dir_info"]["editable"])
    except (ValueError, KeyError, TypeError):
        return False


def _listed_files(site: str, info: str) -> list[str] | None:
    """The files of a distribution, relative to ``site``; None if there is no list.

    ``RECORD`` is a CSV file of path, hash, size; ``installed-files.txt``, which old pip
    left in an .egg-info directory, has one path per line, relative to that directory.
    """
    data = _read(f"{site}/{info}/RECORD")
    if data:
        return list(_paths_of_record(data.decode("utf-8", "surrogateescape")))
    data = _read(f"{site}/{info}/installed-files.txt")
    if data:
        lines = data.decode("utf-8", "surrogateescape").splitlines()
        return [os.path.normpath(f"{info}/{line}") for line in lines if line]
    return None


def _paths_of_record(text: str) -> Iterator[str]:
    """The first column of a RECORD file."""
    if '"' in text:
        import csv

        for row in csv.reader(text.splitlines()):
            if row:
                yield row[0]
    else:
        for line in text.splitlines():
            if line:
                yield line.partition(",")[0]


def _has_metadata(path: str) -> bool:
    """Whether there is something to read in a metadata directory; .egg-info may be a file."""
    return path.endswith(".egg-info") or os.path.isfile(f"{path}/METADATA")


def _name_of(info: str) -> str:
    """The distribution's name from the name of its metadata directory.

    ``name-version.dist-info``, ``name-version-py3.11.egg-info`` or ``name.egg-info``;
    in both, dashes inside the name were replaced by underscores.
    """
    return info.rpartition(".")[0].partition("-")[0]


def _canonical(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)


def _read(path: str) -> bytes:
    """The bytes of a file, none if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
