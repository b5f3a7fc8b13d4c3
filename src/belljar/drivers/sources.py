"""What a run reads from standard input: files, iterables, and what is written meanwhile.

What: ``Feed`` by other means.  Because: a file may be larger than memory, and a dialog is not
known beforehand.  Then: more is taken when the guest has room for it, and never before.
"""

from __future__ import annotations

import os
import stat
import threading

from ..errors import PolicyError
from .blocking import Feed
from .interrupts import Counter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Final, Protocol

    class Readable(Protocol):
        """A file object: binary, or text that is encoded as UTF-8."""

        def read(self, size: int, /) -> bytes | str | None: ...

    Stdin = str | bytes | Readable | Iterable[bytes | str]

_PIECE = 1 << 16
_NOT_INPUT = (bytearray, memoryview, dict)  # what goes over them is no bytes
_KINDS = "str, bytes, a file, an iterable of bytes or str, or None"


class Pipe:
    """The type of ``PIPE``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "belljar.PIPE"

    def __reduce__(self) -> str:
        return "PIPE"


PIPE: Final = Pipe()
"""``stdin=belljar.PIPE``: what the code reads is written to the stream while it runs."""


class Pulled(Feed):
    """What the application is called for, piece by piece."""

    def __init__(self, pull: Callable[[], object], *, empty_ends: bool) -> None:
        """``pull`` raises ``StopIteration`` at the end, or with ``empty_ends`` gives nothing."""
        super().__init__()
        self.on_demand = True
        self._pull = pull
        self._empty_ends = empty_ends

    def take(self) -> None:
        """See ``Feed.take``.  Raises what the application raises, and ``PolicyError``."""
        while self.on_demand and not self.pending:
            try:
                given = as_bytes(self._pull())
            except StopIteration:
                given = b""
                self.on_demand = False
            self.pending = memoryview(given)
            if not given and self._empty_ends:
                self.on_demand = False


class Written(Feed):
    """What is written while the code runs, from any thread."""

    def __init__(self) -> None:
        self._counter: Counter | None = Counter()
        super().__init__(fd=self._counter.fd)
        self._lock = threading.Lock()
        self._pieces: list[bytes] = []
        self._closed = False

    def write(self, data: bytes) -> None:
        """Have the code read this; nothing, if it reads no more."""
        with self._lock:
            counter = self._counter  # held, so that it is not closed meanwhile
            if self._closed:
                raise PolicyError("stdin", "it was closed already")
            if counter is not None and data:
                self._pieces.append(data)
                os.eventfd_write(counter.fd, 1)

    def close(self) -> None:
        """Have the code find the end, after what was written."""
        with self._lock:
            counter, self._closed = self._counter, True
            if counter is not None:
                os.eventfd_write(counter.fd, 1)

    def take(self) -> None:
        """See ``Feed.take``."""
        if self.fd is None:
            return
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return
        with self._lock:
            pieces, self._pieces = self._pieces, []
            closed = self._closed
        self.pending = memoryview(b"".join(pieces))
        if closed:
            # Whoever has watched it has to find the same descriptor.
            self.fd = None

    def stop(self) -> None:
        """See ``Feed.stop``."""
        super().stop()
        with self._lock:
            self._pieces.clear()
            self._counter = None


class Kept(Feed):
    """Another feed, of which is remembered what it gave, for ``history``."""

    def __init__(self, feed: Feed, most_bytes: int) -> None:
        self._feed = feed
        self._most_bytes = most_bytes
        self.given: bytearray | None = bytearray()
        super().__init__(bytes(feed.pending), feed.fd)
        self.on_demand = feed.on_demand

    def take(self) -> None:
        """See ``Feed.take``."""
        try:
            self._feed.take()
        finally:
            self.pending, self._feed.pending = self._feed.pending, memoryview(b"")
            self.fd, self.on_demand = self._feed.fd, self._feed.on_demand
            if self.given is not None and len(self.given) + len(self.pending) > self._most_bytes:
                self.given = None
            elif self.given is not None:
                self.given += self.pending

    def stop(self) -> None:
        """See ``Feed.stop``."""
        super().stop()
        self._feed.stop()


def feed_of(stdin: Any, *, streamed: bool = False) -> Feed:
    """Standard input from what a caller gives; raises ``PolicyError``.

    ``streamed``: there is somebody who may write to it while the code runs.
    """
    kind = type(stdin).__name__
    if stdin is PIPE:
        if not streamed:
            raise PolicyError("stdin", "PIPE is for stream(), which can be written to")
        return Written()
    read: Any = getattr(stdin, "read", None)
    if callable(read):
        number = _descriptor(stdin)
        if number is not None:
            return Feed(fd=number)
        return Pulled(lambda: read(_PIECE), empty_ends=True)
    if hasattr(stdin, "__iter__") and not isinstance(stdin, _NOT_INPUT):
        pieces: Iterator[Any] = iter(stdin)
        return Pulled(pieces.__next__, empty_ends=False)
    raise PolicyError("stdin", f"expected {_KINDS}, got {kind}")


def _descriptor(file: object) -> int | None:
    """The descriptor of a file that may have to be waited for; others are read as they are."""
    fileno: Any = getattr(file, "fileno", None)
    try:
        number: object = fileno() if callable(fileno) else None
    except (OSError, ValueError):
        return None  # in memory, or closed: reading it says so
    if not isinstance(number, int) or stat.S_ISREG(os.fstat(number).st_mode):
        return None
    return number


def as_bytes(data: object) -> bytes:
    """What is given as text is UTF-8.  Raises ``PolicyError``."""
    if isinstance(data, str):
        return data.encode("utf-8", "surrogateescape")
    if isinstance(data, (bytes, bytearray)):
        return bytes(data)
    raise PolicyError("stdin", f"expected bytes or str, got {type(data).__name__}")
