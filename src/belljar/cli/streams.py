"""Descriptors 1 and 2: the guest's bytes as they come, and what we say ourselves.

What: ``Output`` writes each piece at once and keeps what the reader does not take yet.
Because: the thread that writes is the one that watches the guest's clocks, so a reader that
sleeps (a pager, a terminal after Ctrl-S) must not stop it.  Then: a write is made only
where it cannot block, the rest waits in memory (bounded by ``output_bytes``, as the result
itself is) and goes out by a timer while the guest runs, and at the end with all the time
that the reader wants.

A reader that goes away (``| head -1``) ends the guest and this command by SIGPIPE, as it
ends any Unix filter; ``python`` would print a traceback instead.
"""

from __future__ import annotations

import errno
import os
import select

from . import signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .terminal import Harmless

NAMES = {"stdout": 1, "stderr": 2}
_PIPE_PIECE = 4096  # PIPE_BUF: what poll(2) promises to a pipe that it calls writable
_TERMINAL_PIECE = 128  # a terminal is called writable from 256 bytes on; newlines are doubled
_RETRY_S = 0.02  # a person does not see it, and a slow reader gets 3 MB/s


class OutputFailed(Exception):
    """A standard stream of this command does not take what the guest printed."""

    def __init__(self, name: str, error: OSError) -> None:
        super().__init__(name)
        self.name = name
        self.reason = error.strerror or str(error)
        self.broken = error.errno == errno.EPIPE


class _Stream:
    """One descriptor and what is still due to it."""

    def __init__(self, name: str, raw: bool) -> None:
        self.name = name
        self.fd = NAMES[name]
        self.terminal = False
        self.pending = bytearray()
        self.regular = os.fstat(self.fd).st_mode & 0o170000 == 0o100000
        self.harmless: Harmless | None = None
        self.piece = _PIPE_PIECE
        if not self.regular and os.isatty(self.fd):
            self.terminal = True
            self.piece = _TERMINAL_PIECE
            if not raw:
                from .terminal import Harmless

                self.harmless = Harmless()
        self.poll = select.poll()
        self.poll.register(self.fd, select.POLLOUT)

    def add(self, data: bytes, final: bool = False) -> None:
        self.pending += data if self.harmless is None else self.harmless.feed(data, final)

    def pump(self, timeout_ms: int | None = 0) -> None:
        """Write what can be written; ``None`` waits until that is all of it."""
        try:
            while self.pending:
                if self.regular:
                    del self.pending[: os.write(self.fd, self.pending)]
                elif self.poll.poll(timeout_ms):
                    del self.pending[: os.write(self.fd, self.pending[: self.piece])]
                else:
                    return
        except BlockingIOError:
            # Non-blocking, and fuller than poll said: the next round is for it.
            return
        except OSError as error:
            self.pending.clear()
            raise OutputFailed(self.name, error) from None


class Output:
    """Both streams of this command, for the guest's output.

    ``raw`` leaves what the guest prints as it is, on a terminal too.
    """

    def __init__(self, raw: bool = False) -> None:
        self._streams = {name: _Stream(name, raw) for name in NAMES}
        self.in_line = False  # on the terminal, the guest's last line has no end yet
        self._busy = False
        self._timer = False

    def take(self, name: str, data: bytes) -> None:
        """Write a piece of the guest's output, as far as its reader takes it now.

        Raises ``OutputFailed``, which ends the guest.
        """
        stream = self._streams[name]
        if stream.terminal and data:
            self.in_line = data[-1:] != b"\n"
        self._busy = True
        try:
            stream.add(data)
            stream.pump()
        finally:
            self._busy = False
        if stream.pending:
            self._set_timer(_RETRY_S)

    def finish(self) -> None:
        """Write the rest, however long its reader takes."""
        self._set_timer(0)
        for stream in self._streams.values():
            stream.add(b"", final=True)
            while stream.pending:
                stream.pump(None)

    def _set_timer(self, seconds: float) -> None:
        if self._timer != bool(seconds):
            self._timer = bool(seconds)
            signals.call_every(seconds, self._retry)

    def _retry(self) -> None:
        """The timer: while the loop waits, or between any two of its steps."""
        if self._busy:
            return
        for stream in self._streams.values():
            stream.pump()
        if not any(stream.pending for stream in self._streams.values()):
            self._set_timer(0)


def say(text: str) -> None:
    """Write our own text to standard output; raises ``OutputFailed``."""
    _write(1, text)


def complain(text: str) -> None:
    """Write ``belljar: text`` to standard error.  A stderr that is gone is not an error."""
    complain_at_length(f"belljar: {text}\n")


def complain_at_length(text: str, in_line: bool = False) -> None:
    """Write a text of several lines, which may quote the guest, to standard error.

    ``in_line`` starts a new one first, on a terminal: after a carriage return, or a mark that
    reorders a line, the guest's own last line would show in ours.
    """
    if text and os.isatty(2):
        from .terminal import harmless

        text = ("\n" if in_line else "") + harmless(text)
    try:
        _write(2, text)
    except OutputFailed as failed:
        del failed  # there is no place left to say so


def one_line(text: object) -> str:
    """A text that is not ours, for the inside of a line of ours."""
    from .terminal import one_line as on_one_line

    return on_one_line(str(text))


def _write(fd: int, text: str) -> None:
    data = memoryview(text.encode("utf-8", "backslashreplace"))
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            poll.poll()
        except OSError as error:
            raise OutputFailed("stdout" if fd == 1 else "stderr", error) from None
