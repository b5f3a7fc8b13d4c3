"""Files that code left in ``/work``, as the host sees them.

What: ``File``, one of them, and ``Files``, those of one run, read when somebody asks.  Because:
the host holds a descriptor of the guest's ``/work`` and asks the kernel; the guest has no say
in what is told, only in what it wrote.  Then: names and contents are the guest's, hostile both,
and where they are written to a disk of the host's this file chooses how.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Mapping

from ._record import Record
from .errors import ClosedError, FileRefused, PolicyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, BinaryIO, NoReturn

__all__ = ["FILE", "KINDS", "File", "Files", "Found", "Saved"]

FILE = "file"
# By the type bits of st_mode.  A guest can make no devices; whatever else there may be is "other".
KINDS = {0o100000: FILE, 0o040000: "directory", 0o120000: "link", 0o010000: "fifo"}
KINDS[0o140000] = "socket"
_PIECE = 1 << 20
_NAME_BYTES = 255  # what every file system of Linux takes, escapes included
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class File:
    """One file in ``/work``.

    ``name`` is its path there, as the guest chose it: it may hold line breaks, terminal escapes,
    and lone surrogates for bytes that are no UTF-8.  ``kind`` is ``"file"``, ``"directory"``,
    ``"link"``, ``"fifo"``, ``"socket"`` or ``"other"``; only a ``"file"`` can be read.  ``size``
    is what it claims to hold, in bytes; there is less in it where it has holes.
    """

    __slots__ = ("_most", "_open", "kind", "name", "size")

    name: str
    kind: str
    size: int

    def __init__(
        self, name: str, kind: str, size: int, most: int, open_: Callable[[], int] | None
    ) -> None:
        self.name = name
        self.kind = kind
        self.size = size
        self._most = most
        self._open = open_

    def __repr__(self) -> str:
        return f"<belljar.File {self.name!r}: {self.kind}, {self.size} bytes>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, File):
            return NotImplemented
        mine, theirs = (self.name, self.kind, self.size), (other.name, other.kind, other.size)
        return mine == theirs

    def __hash__(self) -> int:
        return hash((self.name, self.kind, self.size))

    def __reduce__(self) -> Any:
        return File, (self.name, self.kind, self.size, self._most, None)

    def open(self) -> BinaryIO:
        """Its contents as a binary file that can be read and sought in; close it.

        Raises:
            FileRefused: it is no regular file, or has changed since the run ended.
            OSError: it is gone, or the guest took the right to read it away.
            ClosedError: its ``Files`` were closed, or it comes out of a pickle.
        """
        if self._open is None:
            raise ClosedError(f"{self.name!r} is not held any more")
        return io.BufferedReader(io.FileIO(self._open(), "rb"))

    def read_bytes(self, most_bytes: int | None = None) -> bytes:
        """Its contents.

        Args:
            most_bytes: what it may have; as much as ``/work`` has room for if left out, so that
                only a file with holes is refused.

        Raises:
            FileRefused: it is larger; and as with ``open``.
        """
        most = self._most if most_bytes is None else most_bytes
        with self.open() as file:
            return read_all(file, self.name, most)

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Its contents as text."""
        return self.read_bytes().decode(encoding, errors)

    def save(self, path: str | os.PathLike[str], most_bytes: int | None = None) -> None:
        """Write it to a new file of the host's, with the mode of any new file (0644).

        Raises:
            FileExistsError: there is something at ``path``; it is not replaced.
            FileRefused: as with ``read_bytes``.
        """
        most = self._most if most_bytes is None else most_bytes
        with self.open() as source:
            target = os.open(path, _NEW, 0o644)
            try:
                copy(source, target, self.name, most)
            except BaseException:
                os.unlink(path)
                raise
            finally:
                os.close(target)


class Found(Record):
    """What a look at ``/work`` brought."""

    files: Mapping[str, File]
    deleted: tuple[str, ...] = ()
    complete: bool = True


class Saved(Record):
    """What ``Files.save_all`` did.

    ``files`` maps each name to the path that it was written to, ``left_out`` each name to why it
    was not.
    """

    files: Mapping[str, str]
    left_out: Mapping[str, str]


class Files(Mapping[str, File]):
    """Files that a run created or changed in ``/work``, by name: ``result.files["out.png"]``.

    The look at them is taken, and contents are read, when somebody asks.  Until then ``/work``
    of an interpreter that has ended is held in memory, for as long as this object or ``close``
    lets it, and for the newest 256 of them or 1 GiB in all.  Directories are not listed; links,
    FIFOs and sockets are, and cannot be read.

    ``deleted`` are names of files that were there before the run and are not any more.
    ``complete`` is False where there was more than is looked at: 10,000 names, or in a
    ``Sandbox``, where each run looks, 1,000.
    """

    def __init__(self, look: Callable[[], Found] | None = None) -> None:
        self._look = look
        self._found: Found | None = None if look is not None else Found({})
        self._why = "the files were let go of by close()"

    def _get(self) -> Found:
        if self._found is None:
            if self._look is None:
                raise ClosedError(self._why)
            self._found = self._look()
            self._look = None
        return self._found

    @property
    def deleted(self) -> tuple[str, ...]:
        """Names of files that are gone."""
        return self._get().deleted

    @property
    def complete(self) -> bool:
        """Whether every file was looked at."""
        return self._get().complete

    def __getitem__(self, name: str) -> File:
        return self._get().files[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._get().files)

    def __len__(self) -> int:
        return len(self._get().files)

    def __hash__(self) -> int:
        return hash(Files)

    def __repr__(self) -> str:
        if self._found is None:
            return "<belljar.Files>"
        return f"<belljar.Files: {len(self._found.files)}>"

    def __reduce__(self) -> Any:
        return _without_contents, (self._get(),)

    def close(self) -> None:
        """Let go of ``/work``: contents cannot be read any more, names stay where looked at."""
        self._look = None
        if self._found is not None and self._found.files:
            for file in self._found.files.values():
                file._open = None  # pyright: ignore[reportPrivateUsage]

    def let_go(self, why: str) -> None:
        """``close``, with what is said to whoever asks later."""
        self._why = why
        self.close()

    def save_all(
        self,
        directory: str | os.PathLike[str],
        *,
        most_bytes: int | None = None,
    ) -> Saved:
        """Write all that are regular files to a directory of the host's, in their directories.

        The directory is made; one that exists must be empty, because the guest chooses the
        names: in a folder that is used, ``conftest.py`` or ``.envrc`` would be its way out.
        Nothing is replaced and no link is followed or made.  Files get mode 0644 and directories
        0755, less the umask.  In a name, control characters and bytes that are no UTF-8 are
        written as ``%0A``.

        Args:
            most_bytes: the most to write, in all; what ``/work`` has room for if left out.  Files
                beyond it are left out.

        Raises:
            PolicyError: the directory is not empty.
            OSError: it cannot be made or written to.
        """
        found = self._get()
        saved: dict[str, str] = {}
        left_out: dict[str, str] = {}
        root = _empty_directory(directory)
        base = os.fspath(directory)
        left = most_bytes
        try:
            for name, file in found.files.items():
                if left is None:
                    left = file._most  # pyright: ignore[reportPrivateUsage]
                try:
                    path, size = _save_beneath(root, file, left)
                except (FileRefused, ClosedError, OSError) as error:
                    if isinstance(error, OSError) and error.errno in _OURS:
                        raise
                    left_out[name] = _reason(error)
                    continue
                left -= size
                saved[name] = os.path.join(base, path)
        finally:
            os.close(root)
        return Saved(saved, left_out)


# The host's own disk, not the guest's file.
_OURS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO})


def _without_contents(found: Found) -> Files:
    files = Files()
    files._found = found  # pyright: ignore[reportPrivateUsage]
    return files


def read_all(source: BinaryIO, name: str, most: int) -> bytes:
    """The rest of a file, of at most so many bytes; it may grow meanwhile."""
    data = bytearray()
    while piece := source.read(min(_PIECE, most + 1 - len(data))):
        data += piece
        if len(data) > most:
            too_large(name, most)
    return bytes(data)


def copy(source: BinaryIO, target: int, name: str, most: int) -> int:
    """Copy a file into a descriptor; how many bytes there were."""
    done = 0
    while piece := source.read(min(_PIECE, most + 1 - done)):
        done += len(piece)
        if done > most:
            too_large(name, most)
        view = memoryview(piece)
        while view:
            view = view[os.write(target, view) :]
    return done


def too_large(name: str, most: int) -> NoReturn:
    """Refuse a file that has more than it may."""
    raise FileRefused(errno.EFBIG, f"larger than {most} bytes", name)


def safe_name(name: str) -> str:
    """A path of the guest's as one that can be written to a disk and shown on a terminal.

    Raises ``FileRefused`` where a part of it does not fit.
    """
    parts: list[str] = []
    for part in name.split("/"):
        if part.isprintable() and not any("\ud800" <= one <= "\udfff" for one in part):
            shown = part
        else:
            shown = "".join(_escaped(one) for one in part)
        if shown in ("", ".", "..") or len(shown.encode()) > _NAME_BYTES:
            raise FileRefused(errno.ENAMETOOLONG, "its name cannot be written here", name)
        parts.append(shown)
    return "/".join(parts)


def _escaped(one: str) -> str:
    if one.isprintable() and not "\ud800" <= one <= "\udfff":
        return one
    return "".join(f"%{byte:02X}" for byte in one.encode("utf-8", "surrogateescape"))


def _empty_directory(directory: str | os.PathLike[str]) -> int:
    """A descriptor of a directory that is made, or is there and empty."""
    try:
        os.mkdir(directory, 0o755)
    except FileExistsError:
        pass
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(root) as found:
            if next(found, None) is not None:
                raise PolicyError(
                    "directory",
                    f"{os.fspath(directory)!r} is not empty; the code inside chooses the names, "
                    "so they get a directory of their own",
                )
    except BaseException:
        os.close(root)
        raise
    return root


def _save_beneath(root: int, file: File, most: int) -> tuple[str, int]:
    """Write one file beneath a directory, through no link; its path there and its size."""
    if file.kind != FILE:
        raise FileRefused(errno.EINVAL, _no_file(file.kind), file.name)
    path = safe_name(file.name)
    *above, last = path.split("/")
    with file.open() as source:
        here = os.dup(root)
        try:
            for part in above:
                try:
                    os.mkdir(part, 0o755, dir_fd=here)
                except FileExistsError:
                    pass
                below = os.open(part, _DIRECTORY, dir_fd=here)
                os.close(here)
                here = below
            target = os.open(last, _NEW, 0o644, dir_fd=here)
            try:
                return path, copy(source, target, file.name, most)
            except BaseException:
                os.unlink(last, dir_fd=here)
                raise
            finally:
                os.close(target)
        finally:
            os.close(here)


def _no_file(kind: str) -> str:
    return {"link": "a symbolic link, which is not followed"}.get(kind, f"a {kind}, not a file")


def _reason(error: Exception) -> str:
    if isinstance(error, FileRefused):
        return error.message
    return (isinstance(error, OSError) and error.strerror) or str(error)


def refuse_kind(kind: str, name: str) -> NoReturn:
    """Refuse to read what is no regular file."""
    if kind == "directory":
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    raise FileRefused(errno.ELOOP if kind == "link" else errno.EINVAL, _no_file(kind), name)
