"""Messages between host and zygote.

What: a kind and named fields, as frames and values of the wire.  Because: both ends are
trusted, so there is no table of transitions to hold them to; but a message that is cut or
mixed up must still be an error and not a guess.  Then: a message is one frame whose payload
is ``[kind, fields]``.
"""

from __future__ import annotations

from .errors import RemoteError
from .frames import FrameDecoder, encode_frame
from .limits import MESSAGE, Budget
from .values import decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Unpacker", "pack"]

_KIND = 0x43  # not a kind of the guest's wire, so that a mixed-up socket shows at once


def pack(kind: str, /, **fields: object) -> bytes:
    """One message as bytes.  Raises ``NotConvertible`` for a field that cannot cross."""
    return encode_frame(_KIND, encode([kind, fields], MESSAGE), MESSAGE.frame_bytes)


class Unpacker:
    """Bytes in, messages out."""

    __slots__ = ("_budget", "_frames")

    def __init__(self, budget: Budget = MESSAGE) -> None:
        self._budget = budget
        self._frames = FrameDecoder({_KIND: budget.frame_bytes})

    @property
    def mid_message(self) -> bool:
        """Whether a part of a message is held: an end of file now would cut it."""
        return self._frames.mid_frame

    def feed(self, data: bytes | memoryview) -> list[tuple[str, dict[str, Any]]]:
        """The messages that ``data`` completes.  Raises ``RemoteError`` for anything else."""
        messages: list[tuple[str, dict[str, Any]]] = []
        for _, payload in self._frames.feed(data):
            messages.append(_message(decode(payload, self._budget)))
        return messages


_type: Any = type  # so that the checkers leave what it is compared with alone


def _message(parts: Any) -> tuple[str, dict[str, Any]]:
    if _type(parts) is list and [*map(type, parts)] == [str, dict]:
        fields: Any = parts[1]
        if all(type(name) is str for name in fields):
            return parts[0], fields
    raise RemoteError("a control message is not a kind and its named fields")
