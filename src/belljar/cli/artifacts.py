"""Artifacts of a run as files of the user's: ``--artifacts DIR``.

What: each representation becomes a file ``NNN-name.ext`` in the directory.  Because: name and
media type are the guest's words, a file's name is made here, of a number, the letters and digits
of that word and an ending from a table.  Then: a new file only, never one that is there, and no
link is followed: numbers go on after the highest one that the directory has.
"""

from __future__ import annotations

import os

from ..artifact import is_text
from .terminal import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..artifact import Artifact

_ENDINGS = {
    "application/json": "json",
    "application/pdf": "pdf",
    "application/vnd.plotly.v1+json": "plotly.json",
    "image/gif": "gif",
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/svg+xml": "svg",
    "image/webp": "webp",
    "text/csv": "csv",
    "text/html": "html",
    "text/latex": "tex",
    "text/markdown": "md",
    "text/plain": "txt",
}
_PLAIN = "text/plain"
_MOST_NAME = 40  # characters; a listing stays readable
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")


class Directory:
    """The directory that ``--artifacts`` names, made if it is not there.

    Raises ``OSError`` where that cannot be, before anything has run.
    """

    def __init__(self, path: str) -> None:
        try:
            os.mkdir(path)
        except FileExistsError:
            pass
        self.path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied", path)
        self._number = _highest(os.listdir(self._fd))

    def save(self, artifact: Artifact) -> dict[str, str]:
        """Write all that it has but the plain text beside something richer: paths by type.

        Raises ``OSError`` when one cannot be written.
        """
        self._number += 1
        saved: dict[str, str] = {}
        for kind, data in artifact.representations.items():
            if kind == _PLAIN and saved:
                continue
            saved[kind] = os.path.join(self.path, self._write(_stem(artifact), kind, data))
        return saved

    def _write(self, stem: str, kind: str, data: bytes) -> str:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        ending = _ending(kind)
        for extra in ("", *(f"-{n}" for n in range(2, 100))):  # two types with the same ending
            name = f"{self._number:03}-{stem}{extra}.{ending}"
            try:
                fd = os.open(name, flags, 0o666, dir_fd=self._fd)
            except FileExistsError:
                continue
            with open(fd, "wb") as file:
                file.write(data)
            return name
        raise FileExistsError(17, "File exists", self.path)


def _highest(names: list[str]) -> int:
    """The highest number that a file of the directory begins with."""
    heads = [name.partition("-")[0] for name in names]
    return max((int(head) for head in heads if head.isdecimal() and len(head) < 9), default=0)


def _stem(artifact: Artifact) -> str:
    """What the guest calls it, in letters and digits."""
    parts = "".join(c if c in _LETTERS else " " for c in artifact.name.lower()).split()
    return "-".join(parts)[:_MOST_NAME].strip("-") or "artifact"


def _ending(kind: str) -> str:
    known = _ENDINGS.get(kind)
    if known is not None:
        return known
    if kind.startswith("application/vnd.vegalite."):
        return "vl.json"
    if kind.endswith("json"):
        return "json"
    if kind.endswith("+xml"):
        return "xml"
    return "txt" if is_text(kind) else "bin"


def describe(artifact: Artifact) -> str:
    """``[image/png 12,345 bytes]``"""
    return f"[{artifact.media_type} {len(artifact.data):,} bytes]"


def report(artifacts: Sequence[Artifact], directory: Directory | None) -> str:
    """Save what was shown, if anywhere, and say so: a line for each, for a person at a prompt."""
    lines: list[str] = []
    for artifact in artifacts:
        if directory is None:
            lines.append(describe(artifact))
        else:
            paths = directory.save(artifact).values()
            lines.append(f"{describe(artifact)} {one_line(', '.join(paths))}")
    return "".join(f"belljar: {line}\n" for line in lines)


def artifact_object(artifact: Artifact, saved: dict[str, str] | None = None) -> dict[str, Any]:
    """An artifact for ``--json``: text as text, all else in base64, or the files that hold it."""
    return {
        "name": artifact.name,
        "media_type": artifact.media_type,
        "metadata": {key: _plain(value) for key, value in artifact.metadata.items()},
        "representations": {
            kind: _data_object(kind, data, saved or {})
            for kind, data in artifact.representations.items()
        },
    }


def _data_object(kind: str, data: bytes, saved: dict[str, str]) -> dict[str, str]:
    if kind in saved:
        return {"file": saved[kind]}
    if is_text(kind):
        return {"text": data.decode("utf-8", "backslashreplace")}
    from binascii import b2a_base64

    return {"base64": b2a_base64(data, newline=False).decode()}


def _plain(value: Any) -> Any:
    """JSON has no word for a float that is not finite."""
    return value if not isinstance(value, float) or value - value == 0 else repr(value)
