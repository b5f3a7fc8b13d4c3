"""Large stretches of bytes that do not go through the codec.

What: a value's parts of more than ``BULK_BYTES`` are listed beside its encoding, which says only
"the next one of the list".  Because: a hundred megabytes are copied five times and priced by
the byte when they are encoded; the drivers move them with one copy.  Then: the order is the
only reference, so that there is no offset and no length in the value that could lie.

This module moves nothing.  A sender reads ``Outgoing.pieces`` and a reader hands in
``Incoming`` what has arrived, which is memory of its own that nobody else can change.
"""

from __future__ import annotations

from .errors import RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["BULK_BYTES", "MOST_PIECES", "Incoming", "Outgoing"]

BULK_BYTES = 64 * 2**10  # below it one more message each way costs more than the copies
MOST_PIECES = 1024  # each is a mapping of its own, and a process may have 65,530


class Outgoing:
    """What a value leaves out of its encoding.

    ``charged`` says whether the bytes count against the budget of the value, whose
    ``memory_bytes`` then is ``most_bytes``, the most that may be listed.
    """

    __slots__ = ("charged", "most_bytes", "pieces", "size")

    def __init__(self, most_bytes: int, *, charged: bool = True) -> None:
        self.most_bytes = most_bytes
        self.charged = charged
        self.pieces: list[Any] = []  # bytes, or arrays of bytes
        self.size = 0

    def takes(self, size: int) -> bool:
        """Whether a part of this size goes here."""
        return (
            size > BULK_BYTES
            and len(self.pieces) < MOST_PIECES
            and self.size + size <= self.most_bytes
        )

    def add(self, piece: Any, size: int) -> int:
        """List it; what it costs in memory."""
        self.pieces.append(piece)
        self.size += size
        return size if self.charged else 0

    @property
    def sizes(self) -> list[int]:
        """How long each piece is."""
        return [len(piece) for piece in self.pieces]


class Incoming:
    """What has arrived beside a value: writable buffers, each for one part of it.

    None in place of one says that there was no memory for it.
    """

    __slots__ = ("_at", "_buffers", "_charged", "_sizes")

    def __init__(self, buffers: Sequence[Any], *, charged: bool = True) -> None:
        self._buffers = buffers
        self._sizes = [0 if buffer is None else len(buffer) for buffer in buffers]
        self._charged = charged
        self._at = 0

    def price(self) -> int:
        """What the next one costs.  Raises ``RemoteError`` where there is none."""
        if self._at >= len(self._sizes):
            raise RemoteError("a value refers to bytes that did not come with it")
        return self._sizes[self._at] if self._charged else 0

    def take(self) -> Any:
        """The next one; only one reader gets it."""
        buffer = self._buffers[self._at]
        self._at += 1
        return buffer

    def finish(self) -> None:
        """Raises ``RemoteError`` where some are left."""
        if self._at < len(self._sizes):
            raise RemoteError("bytes came with a value that does not refer to them")
