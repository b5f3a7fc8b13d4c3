"""Hostile bytes to values; ``values`` has the format and the rules.

What: one loop over a stack of containers being filled.  Because: the sender chooses the
nesting, and a decoder that calls itself dies of it.  Then: a count is held against the bytes
that are left, and a price against the budget, before anything is made.

Time: 0.15 to 0.6 us per byte-sized value, under a second for a whole default budget of any
one honest type.  The worst of the hostile ones found (``keys``: equal hashes, long walks,
fractions that are slow to compare; fractions whose gcd is slow) take 1 to 1.5 s.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError

from . import late
from .errors import RemoteError
from .limits import (
    ARRAY_BYTES,
    ARRAY_ITEM_BYTES,
    KEY_STEPS,
    KEY_STEPS_PER_KEY,
    MAP_BYTES,
    MAP_ITEM_BYTES,
    NUMBER_BYTES,
    SET_BYTES,
    SET_ITEM_BYTES,
    TABLE_BYTES,
    TEXT_BYTES,
    VALUE,
    Budget,
    text_price,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NewType

    from .bulk import Incoming
    from .keys import KeyGuard

    # What a peer sent.  Not bytes for the type checker, so that only the functions that
    # take hostile input accept it.
    UntrustedBytes = NewType("UntrustedBytes", object)
else:
    UntrustedBytes = bytes

__all__ = ["UntrustedBytes", "decode"]

# Shapes; 1 to 4 are those of a marker.
_LIST, _TUPLE, _SET, _FROZENSET, _TABLE, _DICT, _ROOT = range(7)


def decode(
    data: UntrustedBytes | bytes | memoryview,
    budget: Budget = VALUE,
    incoming: Incoming | None = None,
) -> Any:
    """The value of these bytes, all of them, and of all that came beside them.

    Raises ``RemoteError`` for anything that is not one value of the closed set within the
    budget.  Nothing of the peer's is called: only built-in types and those of ``scalars``
    are made.
    """
    untrusted: Any = data
    raw: bytes = untrusted if type(untrusted) is bytes else bytes(untrusted)
    if len(raw) > budget.frame_bytes:
        raise RemoteError(f"a value of more than {budget.frame_bytes} bytes")
    try:
        value = _decode(raw, budget, incoming)
        if incoming is not None:
            incoming.finish()
        return value
    except (IndexError, StructError, UnicodeDecodeError) as error:
        # From reading past the end, or from bytes that are not UTF-8.  The original error
        # holds what the peer sent, so it is not chained.
        cut = not isinstance(error, UnicodeDecodeError)
    raise RemoteError("a value is cut short" if cut else "a text is not UTF-8")


def _decode(raw: bytes, budget: Budget, incoming: Incoming | None) -> Any:
    size = len(raw)
    pos = 0
    memory = budget.memory_bytes
    nodes = budget.nodes - 1
    depth = budget.depth
    guard: KeyGuard | None = None
    # The container being filled: its parts so far, how many it will have, what it will be.
    parts: list[Any] = []
    want = 1
    shape = _ROOT
    stack: list[tuple[list[Any], int, int]] = []
    value: Any
    while True:
        head = raw[pos]
        pos += 1
        if head < 0x80:
            value = head
        elif 0xA0 <= head < 0xC0 or 0xD9 <= head <= 0xDB:
            if head < 0xC0:
                end = pos + (head & 0x1F)
            else:
                width = _LENGTHS[head]
                end = pos + width + int.from_bytes(raw[pos : pos + width], "big")
                pos += width
            if end > size:
                raise RemoteError("a text is longer than what is left")
            piece = raw[pos:end]
            memory -= TEXT_BYTES + end - pos if piece.isascii() else text_price(piece)
            if memory < 0:
                break
            value = piece.decode()
            pos = end
        elif head >= 0xE0:
            value = head - 256
            memory -= NUMBER_BYTES
        elif head == 0xC0:
            value = None
        elif head == 0xC2:
            value = False
        elif head == 0xC3:
            value = True
        elif head < 0xA0 or head >= 0xDC:
            if head < 0xA0:
                count = head & 0x0F
                kind = _DICT if head < 0x90 else _LIST
            else:
                width = _LENGTHS[head]
                count = int.from_bytes(raw[pos : pos + width], "big")
                pos += width
                kind = _DICT if head >= 0xDE else _LIST
            if kind == _DICT:
                nodes -= 2 * count
                memory -= MAP_BYTES + MAP_ITEM_BYTES * count
                count *= 2
            else:
                if count and raw[pos : pos + 2] == _MARK:
                    kind = raw[pos + 2]
                    if not _TUPLE <= kind <= _TABLE:
                        raise RemoteError("an array is marked as nothing known")
                    pos += 3
                    count -= 1
                nodes -= count
                if kind == _TABLE:
                    memory -= TABLE_BYTES + ARRAY_ITEM_BYTES * count
                    if not count:
                        raise RemoteError("a table is of no known kind")
                elif kind <= _TUPLE:
                    memory -= ARRAY_BYTES + ARRAY_ITEM_BYTES * count
                else:
                    memory -= SET_BYTES + SET_ITEM_BYTES * count
            if count > size - pos:
                raise RemoteError("a container has more parts than there are bytes left")
            if memory < 0 or nodes < 0:
                break
            if len(stack) >= depth:
                raise RemoteError(f"values nest deeper than {depth} levels")
            if count:
                stack.append((parts, want, shape))
                parts = []
                want = count
                shape = kind
                continue
            value = _EMPTY[kind]()
        elif head in _NUMBERS:
            unpack, width = _NUMBERS[head]
            (value,) = unpack(raw, pos)
            pos += width
            memory -= NUMBER_BYTES
        else:
            # bytes C4..C6, extensions C7..C9 and D4..D8, and C1, which is never used
            if head == 0xC1:
                raise RemoteError("a byte that MessagePack does not use")
            if head >= 0xD4:
                end = 1 << (head - 0xD4)
            else:
                width = _LENGTHS[head]
                end = int.from_bytes(raw[pos : pos + width], "big")
                pos += width
            if head <= 0xC6:
                end += pos
                if end > size:
                    raise RemoteError("bytes are longer than what is left")
                memory -= TEXT_BYTES + end - pos
                if memory < 0:
                    break
                value = raw[pos:end]
            else:
                scalars = late.scalars()
                code = raw[pos]
                pos += 1
                end += pos
                if end > size:
                    raise RemoteError("an extension is longer than what is left")
                if code in _LARGE:
                    arrays = late.arrays()
                    memory -= arrays.price(code, raw[pos:end], incoming)
                    if memory < 0:
                        break
                    value = arrays.decode(code, raw[pos:end], incoming)
                else:
                    cost, more = scalars.price(code, end - pos)
                    memory -= cost
                    nodes -= more
                    if memory < 0 or nodes < 0:
                        break
                    value = scalars.decode_scalar(code, raw[pos:end])
            pos = end
        if memory < 0:
            break
        # The value is whole: it may fill its container, which may fill the one around it.
        while True:
            parts.append(value)
            if len(parts) < want:
                break
            if shape == _LIST:
                value = parts
            elif shape == _TUPLE:
                value = tuple(parts)
            elif shape == _TABLE:
                value = late.tables().build(parts, late.arrays().missing)
            elif shape == _ROOT:
                if pos != size:
                    raise RemoteError("bytes are left over after a value")
                return value
            else:
                keys = parts if shape != _DICT else parts[::2]
                if {*map(type, keys)} - _STR_ONLY:
                    guard = guard or _new_guard()
                value = _hashed(shape, keys, parts, guard)
            parts, want, shape = stack.pop()
    if nodes < 0:
        raise RemoteError(f"values with more than {budget.nodes} parts")
    raise RemoteError(f"values that take more than {budget.memory_bytes} bytes of memory")


def _hashed(shape: int, keys: list[Any], parts: list[Any], guard: KeyGuard | None) -> Any:
    """The dict, set or frozenset of these parts."""
    value: Any = None
    try:
        refusal = guard.refusal(keys, in_set=shape != _DICT) if guard is not None else None
        if refusal is None:
            if shape == _DICT:
                value = dict(zip(keys, parts[1::2], strict=True))
            else:
                value = set(parts) if shape == _SET else frozenset(parts)
    except TypeError:  # a signalling NaN: the one value of ours that only hash() refuses
        refusal = "has a key or set element that cannot be hashed"
    if refusal is not None:
        raise RemoteError(f"a container {refusal}")
    if len(value) != len(keys):
        raise RemoteError("a container has the same key or element twice")
    return value


_LARGE = (13, 14, 15)  # of ``arrays``
_EMPTY: dict[int, Callable[[], object]] = {
    _LIST: list,
    _TUPLE: tuple,
    _SET: set,
    _FROZENSET: frozenset,
    _DICT: dict,
}
_MARK = b"\xd4\x01"  # an extension of one byte, of type MARKER
_STR_ONLY: set[Any] = {str}


def _new_guard() -> KeyGuard:
    guard: KeyGuard = late.keys().KeyGuard(KEY_STEPS, KEY_STEPS_PER_KEY)
    return guard


_LENGTHS = {  # bytes of length after the head
    0xC4: 1,
    0xC5: 2,
    0xC6: 4,
    0xC7: 1,
    0xC8: 2,
    0xC9: 4,
    0xD9: 1,
    0xDA: 2,
    0xDB: 4,
    0xDC: 2,
    0xDD: 4,
    0xDE: 2,
    0xDF: 4,
}
_NUMBERS = {
    head: (form.unpack_from, form.size)
    for head, form in (
        (0xCA, Struct(">f")),
        (0xCB, Struct(">d")),
        (0xCC, Struct(">B")),
        (0xCD, Struct(">H")),
        (0xCE, Struct(">I")),
        (0xCF, Struct(">Q")),
        (0xD0, Struct(">b")),
        (0xD1, Struct(">h")),
        (0xD2, Struct(">i")),
        (0xD3, Struct(">q")),
    )
}
