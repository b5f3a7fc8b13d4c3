"""Frames: four bytes of length, one of kind, the payload.

What: splits a stream into frames, however it was cut.  Because: a length is the first thing
a hostile peer lies about, so kind and length are judged from the head alone, before a byte
of the payload is kept.  Then: at most one incomplete frame is held, and each byte is copied
a fixed number of times, also when they arrive one by one.

The length counts the payload only, big-endian.
"""

from __future__ import annotations

from struct import Struct

from .errors import LocalError, RemoteError
from .limits import FRAME_HEAD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from .values import UntrustedBytes

__all__ = ["FrameDecoder", "encode_frame"]

_HEAD = Struct(">IB")


def encode_frame(kind: int, payload: bytes, most_bytes: int) -> bytes:
    """One frame.  Raises ``LocalError`` when the payload is over ``most_bytes``."""
    if len(payload) > most_bytes:
        raise LocalError(f"a frame of {len(payload)} bytes; its kind takes {most_bytes}")
    return _HEAD.pack(len(payload), kind) + payload


class FrameDecoder:
    """Bytes in, frames out.

    ``most_bytes`` gives for each kind that may come the largest payload.
    """

    __slots__ = ("_held", "_kind", "_most_bytes", "_need")

    def __init__(self, most_bytes: Mapping[int, int]) -> None:
        self._most_bytes = most_bytes
        self._held = bytearray()  # an incomplete frame
        self._need = FRAME_HEAD  # bytes after which it is complete, or its head is
        self._kind = -1  # of the frame whose head is known

    @property
    def mid_frame(self) -> bool:
        """Whether a part of a frame is held."""
        return bool(self._held)

    def feed(self, data: UntrustedBytes | bytes | memoryview) -> Iterator[tuple[int, bytes]]:
        """Kind and payload of each frame that ``data`` completes.

        To be iterated to its end before the next call.  Raises ``RemoteError`` for a kind
        that may not come or a payload that is too long; the decoder is then of no more use.
        """
        untrusted: Any = data
        view = memoryview(untrusted)
        pos = 0
        size = len(view)
        held = self._held
        while True:
            if not held and size - pos >= FRAME_HEAD:
                # The usual case: whole frames in one piece, nothing to piece together.
                length, kind = _HEAD.unpack_from(view, pos)
                self._judge(kind, length)
                end = pos + FRAME_HEAD + length
                if end <= size:
                    payload = bytes(view[pos + FRAME_HEAD : end])
                    pos = end
                    yield kind, payload
                    continue
            if pos == size:
                return
            taken = view[pos : pos + self._need - len(held)]
            held += taken
            pos += len(taken)
            if len(held) < self._need:
                return
            if self._kind < 0:
                length, kind = _HEAD.unpack_from(held)
                self._judge(kind, length)
                self._kind = kind
                self._need = FRAME_HEAD + length
                if length:
                    continue
            kind = self._kind
            payload = bytes(memoryview(held)[FRAME_HEAD:])
            held = self._held = bytearray()
            self._need = FRAME_HEAD
            self._kind = -1
            yield kind, payload

    def _judge(self, kind: int, length: int) -> None:
        most = self._most_bytes.get(kind)
        if most is None:
            raise RemoteError(f"a frame of kind {kind}, which may not come from there")
        if length > most:
            raise RemoteError(f"a frame of {length} bytes; its kind takes {most}")
