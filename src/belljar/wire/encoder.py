"""Values to bytes; ``values`` has the format and the rules.

What: one loop over a stack of iterators.  Because: it is on the path of every run, and a
call per value costs more than the value; and a value may nest deeper than Python's stack.
Then: the place of a culprit is found by a second walk, so that a clean value pays nothing
for it.
"""

from __future__ import annotations

from _operator import is_not
from itertools import chain
from struct import Struct

from . import late
from .errors import NotConvertible, Refused, TooLarge
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
from .table import Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from .bulk import Outgoing
    from .keys import KeyGuard

__all__ = ["encode"]

_TYPES = (
    "None, bool, int, float, complex, str, bytes, bytearray, memoryview, list, tuple, dict, "
    "set, frozenset, date, time, datetime, timedelta, timezone, Decimal, Fraction, UUID, "
    "dataclasses, enums, pydantic and attrs models, NumPy arrays, Arrow tables, "
    "pandas and polars frames"
)

_U16 = Struct(">BH").pack
_U32 = Struct(">BI").pack
_U64 = Struct(">BQ").pack
_I8 = Struct(">Bb").pack
_I16 = Struct(">Bh").pack
_I32 = Struct(">Bi").pack
_I64 = Struct(">Bq").pack
_F64 = Struct(">Bd").pack


def encode(value: object, budget: Budget = VALUE, outgoing: Outgoing | None = None) -> bytes:
    """One value as bytes that ``decode`` takes under the same budget.

    Large parts go to ``outgoing`` where there is one; else they are encoded like the others.

    Raises ``NotConvertible`` for a value outside the closed set or one that contains itself,
    and its subclass ``TooLarge`` for one over the budget; both name the place.
    """
    out = bytearray()
    append = out.append
    memory = budget.memory_bytes
    nodes = budget.nodes - 1
    stack: list[tuple[Iterator[object], int]] = []
    inside: set[int] = set()  # ids of the containers that the current value lies in
    guard: KeyGuard | None = None
    todo: Iterator[object] = iter((value,))
    ident = 0
    item: object = value
    try:
        while True:
            for item in todo:
                kind = type(item)
                plain: Any = item
                if kind not in _BASES:
                    plain = _as_base(item)
                    kind = _type(plain)
                if kind is str:
                    try:
                        raw: bytes = plain.encode()
                    except UnicodeEncodeError:
                        memory -= _append_extension(out, plain)[0]
                    else:
                        size = len(raw)
                        if size < 32:
                            append(0xA0 | size)
                        elif size < 256:
                            out += b"\xd9%c" % size
                        else:
                            out += _U16(0xDA, size) if size < 65_536 else _U32(0xDB, size)
                        out += raw
                        memory -= TEXT_BYTES + size if raw.isascii() else text_price(raw)
                elif kind is int:
                    memory -= NUMBER_BYTES
                    if -32 <= plain < 128:
                        append(plain & 0xFF)
                    else:
                        memory -= _append_int(out, plain)
                elif plain is None:
                    append(0xC0)
                elif kind is bool:
                    append(0xC3 if plain else 0xC2)
                elif kind is float:
                    memory -= NUMBER_BYTES
                    out += _F64(0xCB, plain)
                elif kind is bytes:
                    size = len(plain)
                    if size >= 65_536 and outgoing is not None and outgoing.takes(size):
                        data, cost = late.arrays().encode_bytes(plain, outgoing)
                        out += bytes((_FIXED[2], late.arrays().BULK))
                        out += data
                        memory -= cost
                    else:
                        memory -= TEXT_BYTES + size
                        if memory < 0:
                            break
                        if size < 256:
                            out += b"\xc4%c" % size
                        else:
                            out += _U16(0xC5, size) if size < 65_536 else _U32(0xC6, size)
                        out += plain
                elif kind in _CONTAINERS:
                    if id(item) in inside:
                        raise Refused("contains itself")
                    if len(stack) >= budget.depth:
                        raise Refused(f"lies deeper than {budget.depth} levels", size=True)
                    # A copy: another thread may be changing ours while its length is sent.
                    parts: Any = list(plain.items() if kind is dict else plain)
                    size = len(parts)
                    each, item_bytes, own_bytes = _PRICES[kind]
                    nodes -= each * size
                    memory -= own_bytes + item_bytes * size
                    if nodes < 0:
                        break
                    if kind is dict:
                        if {*map(type, plain)} - _STR_ONLY:
                            guard = guard or _new_guard()
                            _check_keys([pair[0] for pair in parts], guard, in_set=False)
                        if size < 16:
                            append(0x80 | size)
                        else:
                            out += _U16(0xDE, size) if size < 65_536 else _U32(0xDF, size)
                        parts = chain.from_iterable(parts)
                    else:
                        if kind is list:
                            mark = b""
                            count = size
                        else:
                            mark = _MARKS[kind]
                            count = size + 1
                            if kind is set or kind is frozenset:
                                guard = guard or _new_guard()
                                _check_keys(parts, guard, in_set=True)
                        if count < 16:
                            append(0x90 | count)
                        else:
                            out += _U16(0xDC, count) if count < 65_536 else _U32(0xDD, count)
                        out += mark
                    if size:
                        stack.append((todo, ident))
                        ident = id(item)
                        inside.add(ident)
                        todo = iter(parts)
                        break
                else:
                    cost, more = _append_extension(out, plain, outgoing)
                    memory -= cost
                    nodes -= more
                if memory < 0:
                    break
            else:
                if not stack:
                    break
                inside.discard(ident)
                todo, ident = stack.pop()
            if memory < 0 or nodes < 0:
                break
    except Refused as refused:
        error = TooLarge if refused.size else NotConvertible
        raise error(_path(value, item), refused.reason) from None
    if nodes < 0:
        raise TooLarge("value", f"has more than {budget.nodes} parts")
    if memory < 0:
        raise TooLarge("value", f"takes more than {budget.memory_bytes} bytes of memory")
    if len(out) > budget.frame_bytes:  # no price is below the bytes it pays for
        raise TooLarge("value", f"takes more than {budget.frame_bytes} bytes encoded")
    return bytes(out)


# As Any, because the checkers do not know the parameters of a bare list.
_type: Any = type
_list: Any = list
_tuple: Any = tuple
_dict: Any = dict
_set: Any = set
_frozenset: Any = frozenset
_BASES: dict[Any, Callable[[Any], Any]] = {
    bool: bool,
    int: int.__index__,
    str: str.__str__,
    float: float.__float__,
    complex: complex.__complex__,
    bytes: bytes.__bytes__,
    list: _list.copy,
    tuple: lambda value: tuple(_tuple.__iter__(value)),
    dict: lambda value: dict(_dict.items(value)),
    set: lambda value: set(_set.__iter__(value)),
    frozenset: lambda value: frozenset(_frozenset.__iter__(value)),
    type(None): lambda _: None,
}
_CONTAINERS: tuple[Any, ...] = (list, dict, tuple, set, frozenset, Table)
_MARKS = {kind: b"\xd4\x01%c" % mark for mark, kind in enumerate(_CONTAINERS[2:], 1)}
_PRICES: dict[Any, tuple[int, int, int]] = {  # nodes and bytes per item, own bytes
    list: (1, ARRAY_ITEM_BYTES, ARRAY_BYTES),
    dict: (2, MAP_ITEM_BYTES, MAP_BYTES),
    tuple: (1, ARRAY_ITEM_BYTES, ARRAY_BYTES),
    set: (1, SET_ITEM_BYTES, SET_BYTES),
    frozenset: (1, SET_ITEM_BYTES, SET_BYTES),
    Table: (1, ARRAY_ITEM_BYTES, TABLE_BYTES),
}
_STR_ONLY: set[Any] = {str}


def _new_guard() -> KeyGuard:
    # A margin: hashes of texts differ over there.
    steps, per_key = KEY_STEPS * 3 // 4, KEY_STEPS_PER_KEY * 3 // 4
    guard: KeyGuard = late.keys().KeyGuard(steps, per_key)
    return guard


_U64_MOST = 2**64 - 1


def _as_base(item: object) -> Any:
    """An instance of a built-in type's subclass as that type; what ``records`` knows as plain."""
    kind = type(item)
    for base in kind.__mro__:
        if base in _BASES:
            return _BASES[base](item)
    if kind is Table or kind.__module__ in _SCALAR_MODULES:
        return item
    plain = late.records().as_plain(item)
    return item if plain is item else _as_base(plain)


_SCALAR_MODULES = ("datetime", "decimal", "fractions", "uuid")


def _append_int(out: bytearray, value: int) -> int:
    """Append in the smallest form; the memory it takes beyond a word."""
    if value >= 0:
        if value < 256:
            out += b"\xcc%c" % value
        elif value < 65_536:
            out += _U16(0xCD, value)
        elif value < 2**32:
            out += _U32(0xCE, value)
        elif value <= _U64_MOST:
            out += _U64(0xCF, value)
        else:
            return _append_extension(out, value)[0]
    elif value >= -128:
        out += _I8(0xD0, value)
    elif value >= -32_768:
        out += _I16(0xD1, value)
    elif value >= -(2**31):
        out += _I32(0xD2, value)
    elif value >= -(2**63):
        out += _I64(0xD3, value)
    else:
        return _append_extension(out, value)[0]
    return 0


def _append_extension(
    out: bytearray, value: object, outgoing: Outgoing | None = None
) -> tuple[int, int]:
    """Append as extension; what it costs in memory and in further nodes."""
    scalars = late.scalars()
    cost = -1
    if type(value) is int:
        code, data = scalars.INT, scalars.encode_int(value)
    elif type(value) is str:
        code, data = scalars.TEXT, scalars.encode_text(value)
    else:
        found = scalars.encode_scalar(value)
        if found is None:
            large = late.arrays().encode(value, outgoing)
            if large is not None:
                *found, cost = large
        if found is None:
            kind = type(value)
            name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
            raise Refused(f"is of type {name}, which cannot cross; these can: {_TYPES}")
        code, data = found
    size = len(data)
    if size in _FIXED:
        out += bytes((_FIXED[size], code))
    elif size < 256:
        out += bytes((0xC7, size, code))
    elif size < 65_536:
        out += _U16(0xC8, size)
        out.append(code)
    else:
        out += _U32(0xC9, size)
        out.append(code)
    out += data
    if cost >= 0:
        return cost, 0
    price: tuple[int, int] = scalars.price(code, size)
    return price


_FIXED = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}


def _check_keys(keys: list[object], guard: KeyGuard, *, in_set: bool) -> None:
    """Refuse keys that the decoder would refuse, once they are plain."""
    plain = [key if type(key) in _BASES else _as_base(key) for key in keys]
    refusal = guard.refusal(plain, in_set=in_set)
    if refusal is not None:
        raise Refused(refusal)
    if any(map(is_not, keys, plain)) and len({*plain}) < len(keys):
        raise Refused("has keys or set elements that are equal once they are plain data")


def _path(root: object, culprit: object) -> str:
    """Where in the value the culprit is, in the writing of Python; by a second walk."""
    stack: list[tuple[Any, str]] = [(root, "value")]
    seen: set[int] = set()
    while stack:
        item, path = stack.pop()
        if item is culprit:
            return path
        if id(item) in seen:
            continue
        seen.add(id(item))
        try:
            plain = _as_base(item)
        except Refused:
            continue
        kind = _type(plain)
        if kind is dict:
            fields = not isinstance(item, dict)
            for key, part in reversed(plain.items()):
                name = repr(key)[:40] if type(key) in _NAMED_IN_PATHS else "..."
                if fields:
                    stack.append((part, f"{path}.{key}"))
                    continue
                stack.append((part, f"{path}[{name}]"))
                stack.append((key, f"{path} key {name}"))
        elif kind is list or kind is tuple:
            for index in range(len(plain) - 1, -1, -1):
                stack.append((plain[index], f"{path}[{index}]"))
        elif kind is Table:
            column: Any
            for column, place in zip(plain.parts, plain.places, strict=True):
                stack.append((column, path + place))
                if place and _type(column) is list and len(column) > 1:
                    stack.append((column[1], path + place))  # its rows
        elif kind is set or kind is frozenset:
            stack.extend((part, f"{path} element") for part in plain)
    return "value"  # another thread took it away meanwhile


_NAMED_IN_PATHS = (str, int, bool, float, bytes, type(None))
