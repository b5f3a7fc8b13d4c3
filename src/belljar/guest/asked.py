"""Standard input that the host is asked for, piece by piece.

What: ``sys.stdin`` of a run whose input comes from the host while it runs.  Because: each run of
an interpreter that stays has an end of its input, and a pipe has one for good.  Then: who reads
waits for an answer as with a host function; who reads descriptor 0 itself finds the end.

Not a wall: the code can ask what it likes, and the host is prepared for it.
"""

from __future__ import annotations

import _thread
import io
import posix

from ..wire.errors import RemoteError
from ..wire.events import STDIN
from ..wire.limits import MESSAGE
from ..wire.values import decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..wire.events import Returned
    from .link import Link

_BUFFER_BYTES = 1 << 16  # what the host gives at a time
_current: Asked | None = None


def open_asked(link: Link, run_id: int) -> io.TextIOWrapper:
    """What is to be ``sys.stdin`` in this run."""
    global _current
    _current = raw = Asked(link, run_id)
    return io.TextIOWrapper(io.BufferedReader(raw, _BUFFER_BYTES), "utf-8", "strict")


def close_asked() -> None:
    """The run is over: what it reads from has come to its end."""
    global _current
    raw, _current = _current, None
    if raw is not None:
        raw.end()


class Asked(io.RawIOBase):
    """The bytes that one run is given."""

    name = "<stdin>"

    def __init__(self, link: Link, run_id: int) -> None:
        self._link = link
        self._arguments: Any = encode(run_id, MESSAGE)
        self._data = b""
        self._asked = False  # and not answered yet, whoever waits
        self._ended = False
        self._readers: list[int] = []  # the threads that wait

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def readinto(self, target: Any, /) -> int:
        """Wait until there is something, unless it is at its end."""
        view = memoryview(target).cast("B")
        if not view:
            return 0
        while not self._data and not self._ended:
            if posix.getpid() != self._link.owner:
                self._ended = True  # only the first process is given something
            elif self._asked:
                self._wait()
            else:
                self._ask()
        data = self._data[: len(view)]
        self._data = self._data[len(data) :]
        view[: len(data)] = data
        return len(data)

    def end(self) -> None:
        """There is no more to come."""
        self._ended = True

    def _ask(self) -> None:
        self._asked = True  # before it, because another thread may read the answer at once
        try:
            self._link.ask(STDIN, self._arguments, self._told)
        except BaseException:
            # By a handler of a signal, before it was asked for or after.
            self._asked = self._asked and self._link.is_asked(self._told)
            raise

    def _wait(self) -> None:
        thread = _thread.get_ident()
        self._readers.append(thread)
        try:
            self._link.wait(self._is_answered)
        finally:
            self._readers.remove(thread)

    def _is_answered(self) -> bool:
        return not self._asked or self._ended

    def _told(self, returned: Returned) -> None:
        """On whatever thread reads; what was waiting for it may be there no more."""
        data = None
        if returned.value is not None:
            try:
                data = decode(returned.value, MESSAGE)
            except RemoteError:
                data = None
        if isinstance(data, bytes) and data:
            self._data += data
        else:
            self._ended = True
        self._asked = False
        for thread in list(self._readers):
            self._link.wake(thread)
