"""The program to run: its bytes, its name, and ``sys.argv``.

What: a file, the text after ``-c``, or standard input, read whole by the command.  Because:
no path of the host goes inside; the guest gets the text and the bare name of the file.
Then: what cannot be read is told as ``python`` tells it, before anything runs.
"""

from __future__ import annotations

import os

from .._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .options import Parsed

MAX_BYTES = 16 * 2**20  # what a run takes (api.run); read no further, because it may be endless
_PIECE = 1 << 16


class Program(Record):
    """What to run: ``code``, the ``name`` that tracebacks show, ``argv`` for ``sys.argv``."""

    code: str | bytes
    name: str
    argv: tuple[str, ...]


class ProgramError(Exception):
    """There is no program to run; the message says why."""


def read_program(parsed: Parsed) -> Program:
    """The program of a ``run`` command line.  Raises ``ProgramError``."""
    arguments = tuple(parsed.arguments)
    for number, argument in enumerate(arguments, 1):
        if not _is_text(argument):
            raise ProgramError(f"argument {number} of the program is not UTF-8: {argument!r}")
    if parsed.source == "code":
        if not _is_text(parsed.program):
            raise ProgramError("the code after -c is not UTF-8")
        # The system bounds an argument at 128 KiB, so there is no length to check.
        return Program(parsed.program, "<string>", ("-c", *arguments))
    if parsed.source == "stdin":
        return Program(_read(0, "standard input"), "<stdin>", ("-", *arguments))
    path = parsed.program
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise ProgramError(f"can't open file {path!r}: {error_text(error)}") from None
    try:
        code = _read(fd, f"file {path!r}")
    finally:
        os.close(fd)
    name = os.path.basename(path).encode("utf-8", "backslashreplace").decode()
    return Program(code, name, (name, *arguments))


def error_text(error: OSError | ValueError) -> str:
    """``[Errno 2] No such file or directory``, as Python's own start-up says it."""
    if isinstance(error, OSError):
        return f"[Errno {error.errno}] {error.strerror}"
    return str(error)


def _read(fd: int, what: str) -> bytes:
    data = bytearray()
    try:
        while len(data) <= MAX_BYTES:
            piece = os.read(fd, _PIECE if len(data) < 2**20 else 2**20)
            if not piece:
                return bytes(data)
            data += piece
    except OSError as error:
        raise ProgramError(f"can't open {what}: {error_text(error)}") from None
    raise ProgramError(f"{what} is larger than {MAX_BYTES >> 20} MiB, the most a program may have")


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
