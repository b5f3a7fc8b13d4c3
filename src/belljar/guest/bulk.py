"""Large parts of values, on the guest's side: read as bare bytes, or named by their address."""

from __future__ import annotations

import os
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap

from ..wire.bulk import Incoming, Outgoing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_STEP_BYTES = 1 << 20
_WASTE_BYTES = 1 << 16
_BYTES_HEAD = bytes.__basicsize__ - 1  # where CPython has the first byte of a bytes object


def receive(
    link: int,
    sizes: Sequence[int],
    readv: Callable[[int, Any], int] = os.readv,
) -> Incoming | None:
    """The pieces that the host pours; None when it has closed the link.

    What there is no memory for is read and thrown away.
    """
    pieces: list[mmap | None] = []
    for size in sizes:
        piece: mmap | None = None
        waste: Any = None
        try:
            piece = mmap(-1, size, MAP_PRIVATE | MAP_ANONYMOUS)
        except (OSError, MemoryError):
            waste = bytearray(_WASTE_BYTES)
        view = memoryview(piece if piece is not None else waste)
        at = 0
        while at < size:
            start = at if piece is not None else 0
            most = min(size - at, _STEP_BYTES, len(view) - start)
            count = readv(link, [view[start : start + most]])
            if not count:
                return None
            at += count
        pieces.append(piece)
    return Incoming(pieces, charged=False)


def addresses(outgoing: Outgoing) -> tuple[int, ...]:
    """Where the pieces lie.  They stay there as long as ``outgoing`` holds them."""
    found: list[int] = []
    for piece in outgoing.pieces:
        if type(piece) is bytes:
            found.append(id(piece) + _BYTES_HEAD)
        else:
            found.append(piece.__array_interface__["data"][0])
    return tuple(found)
