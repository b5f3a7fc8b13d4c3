"""Files in and out: what goes into ``/work``, and a live sandbox's own hands in it."""

from __future__ import annotations

import errno
import io
import os
import stat

from .._record import Record
from ..errors import FileRefused, PolicyError, UnsupportedError
from ..wire.limits import ARGUMENTS, NAME_CHARS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, BinaryIO, TypeAlias

    from ..drivers.zygotes import Work
    from ..files import File
    from ..policy import Limits

    Contents: TypeAlias = str | bytes | os.PathLike[str]

WORK = "/work"
# By message a file passes through the guest's memory, and the host's twice.
MESSAGE_FILE_BYTES = 2**20
MESSAGE_BYTES = 4 * 2**20


class Put(Record):
    """A file that the host itself writes: contents, or a path of the host's."""

    name: str
    source: bytes | str
    size: int


# --- files={...} --------------------------------------------------------------------------------


def by_message(files: Mapping[str, Contents]) -> dict[str, bytes]:
    """The small ones, which the run brings along.  Raises ``PolicyError`` naming a bad one."""
    return {one.name: one.source for one in _divide(files)[0] if isinstance(one.source, bytes)}


def by_host(files: Mapping[str, Contents], limits: Limits) -> tuple[Put, ...]:
    """The large ones and those of the host's disk.

    Raises ``PolicyError`` where one of them is not to be had or does not fit.
    """
    puts = _divide(files)[1]
    for one in puts:
        if one.size > limits.file_bytes:
            text = f"{one.size} bytes; limits.file_bytes allows {limits.file_bytes}"
            raise PolicyError(_key(one.name), text)
    together = sum(one.size for one in puts)
    if together > limits.work_bytes:
        text = f"{together} bytes together; limits.work_bytes allows {limits.work_bytes}"
        raise PolicyError("files", text)
    return puts


def put(work: Work, files: tuple[Put, ...], limits: Limits) -> None:
    """Write them.  Raises ``PolicyError`` for one that cannot be."""
    from ..drivers.work import remember, write

    for one in files:
        try:
            if isinstance(one.source, bytes):
                write(work, one.name, one.source, limits.file_bytes)
            else:
                with _open_own(one.source) as source:
                    write(work, one.name, source, limits.file_bytes)
        except FileRefused as error:
            raise PolicyError(_key(one.name), error.message) from error
        except OSError as error:
            raise PolicyError(_key(one.name), error.strerror or str(error)) from error
    remember(work)


def no_work() -> UnsupportedError:
    """What is missing where guests have no ``/work``."""
    return UnsupportedError(
        ["/work: files that the host reads and writes"],
        ["namespaces, which `belljar check` says how to get"],
    )


def _key(name: object) -> str:
    return f"files[{name!r}]"


def _divide(files: Mapping[str, Contents]) -> tuple[list[Put], tuple[Put, ...]]:
    small: list[Put] = []
    large: list[Put] = []
    if len(files) > ARGUMENTS:
        raise PolicyError("files", f"{len(files)} files; at most {ARGUMENTS}")
    room = MESSAGE_BYTES
    for name, contents in files.items():
        _check_relative(_key(name), name)
        one = _described(name, contents)
        if isinstance(one.source, bytes) and one.size <= min(MESSAGE_FILE_BYTES, room):
            room -= one.size
            small.append(one)
        else:
            large.append(one)
    return small, tuple(large)


def _described(name: str, contents: Any) -> Put:
    key = _key(name)
    if isinstance(contents, str):
        try:
            contents = contents.encode()
        except UnicodeEncodeError:
            raise PolicyError(key, "holds a lone surrogate; give bytes") from None
    if isinstance(contents, bytes):
        return Put(name, contents, len(contents))
    if not isinstance(contents, os.PathLike):
        kind = type(contents).__name__
        raise PolicyError(key, f"expected str, bytes or a pathlib.Path, got {kind}")
    path = _text_of(contents)  # pyright: ignore[reportUnknownArgumentType]
    if not isinstance(path, str):
        raise PolicyError(key, "expected a path of text")
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PolicyError(key, f"{path!r}: {reason}") from None
    if stat.S_ISDIR(status.st_mode):
        text = f"{path!r} is a directory; name its files, or grant it with allow(read=[...])"
        raise PolicyError(key, text)
    if not stat.S_ISREG(status.st_mode):
        raise PolicyError(key, f"{path!r} is not a regular file")
    return Put(name, path, status.st_size)


def _text_of(path: Any) -> object:
    """What a ``pathlib.Path`` stands for; anything else as it is."""
    own: Any = getattr(path, "__fspath__", None)
    return path if own is None else own()


def _open_own(path: str) -> BinaryIO:
    """A file of the host's, which may have been exchanged for a FIFO since it was looked at."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return io.BufferedReader(io.FileIO(fd, "rb"))


def _check_relative(key: str, name: object) -> str:
    """A name that cannot be mistaken: parts of text, no ``.`` and ``..``."""
    parts = name.split("/") if isinstance(name, str) else []
    if not isinstance(name, str) or "\0" in name or any(p in ("", ".", "..") for p in parts):
        raise PolicyError(key, "expected a relative path without . and ..")
    if len(name) > NAME_CHARS:
        raise PolicyError(key, f"longer than {NAME_CHARS} characters")
    return str.__str__(name)


def check_path(path: Any, *, directory: bool = False) -> str:
    """A path in ``/work`` as its name there; raises ``PolicyError``.

    ``directory``: ``.``, all of it, will do.
    """
    name: object = _text_of(path)
    if isinstance(name, str):
        if name == WORK or name.startswith(f"{WORK}/"):
            name = name[len(WORK) + 1 :] or "."
        if directory and name == ".":
            return name
        try:
            name.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise PolicyError("path", "holds a surrogate that stands for no byte") from None
    return _check_relative("path", name)


# --- a live sandbox -----------------------------------------------------------------------------


class WorkFiles:
    """The files in ``/work`` of a live sandbox, as the host reads and writes them.

    Each method goes to the kernel and not to the code inside, waits for no run and leads through
    no link.  While code runs it may change what is read.  What the host has written counts as
    changed in no run, and is not in ``history``.
    """

    def _work(self) -> Work:
        """Where they are; raises ``ClosedError`` and ``UnsupportedError``."""
        raise NotImplementedError

    def _most(self) -> int:
        """``file_bytes`` of its policy."""
        raise NotImplementedError

    def read_bytes(self, path: str | os.PathLike[str], most_bytes: int | None = None) -> bytes:
        """The contents of a file in ``/work``.

        Args:
            path: relative to ``/work``, or absolute and in it.
            most_bytes: what it may have; as much as ``/work`` has room for if left out.

        Raises:
            FileNotFoundError, IsADirectoryError, PermissionError: as ``open`` does.
            FileRefused: it is no regular file, or larger, or leads through a link.
            PolicyError, ClosedError: the path makes no sense; the sandbox is closed.
        """
        from ..drivers.work import capacity
        from ..files import read_all

        name, work = check_path(path), self._work()
        with _reading(work, name) as file:
            return read_all(file, name, capacity(work) if most_bytes is None else most_bytes)

    def read_text(
        self, path: str | os.PathLike[str], encoding: str = "utf-8", errors: str = "strict"
    ) -> str:
        """The contents of a file in ``/work`` as text; raises as ``read_bytes``."""
        return self.read_bytes(path).decode(encoding, errors)

    def write_bytes(self, path: str | os.PathLike[str], data: bytes) -> None:
        """Write a file in ``/work``: whole, or not at all.

        What was there under this name is unlinked first; directories on the way are made.  The
        code inside may change it like files of its own.  ``file_bytes``, ``work_bytes`` and
        ``work_files`` hold.

        Raises:
            FileRefused: it does not fit, or leads through a link.
            PolicyError, ClosedError: as with ``read_bytes``.
        """
        from ..drivers.work import write

        if not isinstance(data, (bytes, bytearray, memoryview)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise PolicyError("data", f"expected bytes, got {type(data).__name__}")
        write(self._work(), check_path(path), bytes(data), self._most())

    def write_text(self, path: str | os.PathLike[str], text: str, encoding: str = "utf-8") -> None:
        """Write a file of text in ``/work``; raises as ``write_bytes``."""
        self.write_bytes(path, text.encode(encoding))

    def open_file(self, path: str | os.PathLike[str], mode: str = "rb") -> BinaryIO:
        """A file in ``/work`` as a binary file of the host's, for those too large for memory.

        Args:
            mode: ``"rb"`` to read, or ``"wb"`` for a new one in place of what was there.

        Raises:
            as ``read_bytes`` and ``write_bytes``; writing beyond what fits is an ``OSError``.
        """
        if mode not in ("rb", "wb"):
            raise PolicyError("mode", f'expected "rb" or "wb", got {mode!r}')
        name, work = check_path(path), self._work()
        if mode == "rb":
            return _reading(work, name)
        from ..drivers.work import create, note

        fd = create(work, name)
        return io.BufferedWriter(_Noted(fd, lambda: note(work, name, fd)))

    def list(self, path: str | os.PathLike[str] = ".") -> tuple[File, ...]:
        """The files and directories in a directory of ``/work``, sorted by name.

        Raises:
            FileNotFoundError, NotADirectoryError, PermissionError: as ``os.listdir`` does.
            FileRefused: there are more than 10,000, or it leads through a link.
            PolicyError, ClosedError: as with ``read_bytes``.
        """
        from ..drivers.work import list_in

        return list_in(self._work(), check_path(path, directory=True))

    def delete(self, path: str | os.PathLike[str]) -> None:
        """Remove a file in ``/work``, a link itself, or an empty directory.

        Raises:
            FileNotFoundError, OSError: as ``os.unlink`` and ``os.rmdir`` do.
            PolicyError, ClosedError: as with ``read_bytes``.
        """
        from ..drivers.work import delete

        delete(self._work(), check_path(path))


def _reading(work: Work, name: str) -> BinaryIO:
    from ..drivers.work import open_to_read

    return io.BufferedReader(io.FileIO(open_to_read(work, name), "rb"))


class _Noted(io.FileIO):
    """A file that tells when it is whole."""

    def __init__(self, fd: int, tell: Callable[[], None]) -> None:
        super().__init__(fd, "wb")
        self._tell = tell

    def close(self) -> None:
        if not self.closed:
            self._tell()
        super().close()
