"""Which parts of an order go beside it."""

from __future__ import annotations

from ..wire.bulk import Outgoing
from ..wire.events import Call, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .life import Order

_MOST_BYTES = 2**40  # the guest's own memory is the bound, and it says so


def outgoing_for(order: Order) -> Outgoing | None:
    """The list for what is large in it; None where nothing is, which is the usual case."""
    if isinstance(order, Run):
        if not order.inputs and not order.files:
            return None
    elif not isinstance(order, Call) or (not order.args and not order.kwargs):
        return None
    return Outgoing(_MOST_BYTES, charged=False)


def pieces_of(outgoing: Outgoing | None) -> tuple[Any, ...]:
    """What is to be poured, each a view of bytes."""
    return () if outgoing is None else tuple([memoryview(piece) for piece in outgoing.pieces])
