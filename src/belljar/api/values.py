"""Values on their way in: whether they can cross, how large they are, copies of them."""

from __future__ import annotations

from ..wire.bulk import Incoming, Outgoing
from ..wire.limits import VALUE, Budget
from ..wire.values import decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MOST_BYTES = 2**40  # the guest's own memory is the bound, and it says so


def measure(value: object, budget: Budget = VALUE) -> int:
    """How many bytes of a message it takes, without the large parts, which go beside it.

    Raises ``NotConvertible`` where it cannot cross.
    """
    return len(encode(value, budget, Outgoing(_MOST_BYTES, charged=False)))


def copy(value: object, budget: Budget, most_bytes: int) -> tuple[Any, int] | None:
    """What the other side would get, and its size; None where that is over ``most_bytes``.

    Raises ``NotConvertible`` where it cannot cross.
    """
    outgoing = Outgoing(_MOST_BYTES, charged=False)
    encoded = encode(value, budget, outgoing)
    size = len(encoded) + outgoing.size
    if size > most_bytes:
        return None
    pieces = [bytearray(memoryview(piece)) for piece in outgoing.pieces]
    return decode(encoded, budget, Incoming(pieces, charged=False)), size
