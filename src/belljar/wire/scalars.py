"""The scalar types that MessagePack has no type for.

What: each is one extension type, with an encoder and a decoder of its bytes.  Because: they
are rare, and the modules behind four of them are slow to import.  Then: a type is recognised
by the name of its module, which must already be loaded if such a value exists, and the
decoder imports the module when the first one arrives.

code  type                 bytes, big-endian
 1    marker               kind of the array it opens: 1 tuple, 2 set, 3 frozenset, 4 table (``tables``)
 2    int beyond 64 bits   two's complement
 3    complex              two doubles
 4    str with surrogates  raw-unicode-escape, backslashes escaped: UTF-8 has no lone surrogates
 5    date                 year:2 month day
 6    time                 hour minute second microsecond:4 flags zone
 7    datetime             year:2 month day, then as time
 8    timedelta            days:4 (signed) seconds:4 microseconds:4
 9    timezone             flags zone
10    Decimal              its text
11    Fraction             length of numerator:2 numerator denominator, as 2
12    UUID                 16 bytes; ``is_safe`` is not kept
zone: nothing, or offset in microseconds:8 (signed) and, where named, the name as 4

Only ``datetime.timezone`` crosses as a zone: rules of a ``ZoneInfo`` are files that the other
side may not have.
"""

from __future__ import annotations

import sys
from _codecs import raw_unicode_escape_decode, raw_unicode_escape_encode
from struct import Struct
from struct import error as StructError

from .errors import Refused, RemoteError
from .limits import (
    FRACTION_NODES,
    MAX_DECIMAL_CHARS,
    MAX_FRACTION_BYTES,
    MAX_INT_BYTES,
    NUMBER_BYTES,
    SCALAR_BYTES,
    TEXT_BYTES,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import datetime
    import uuid
    from collections.abc import Callable
    from decimal import Decimal
    from fractions import Fraction
    from typing import Any

__all__ = [
    "INT",
    "MARKER",
    "TEXT",
    "decode_scalar",
    "encode_int",
    "encode_scalar",
    "encode_text",
    "price",
]

MARKER, INT, COMPLEX, TEXT, DATE, TIME, DATETIME, DELTA, ZONE, DECIMAL, FRACTION, UUID = range(
    1, 13
)

_type: Any = type

_FOLD, _ZONED, _NAMED = 1, 2, 4  # flags

_DATE = Struct(">HBB")
_TIME = Struct(">BBBIB")
_DATETIME = Struct(">HBBBBBIB")
_DELTA = Struct(">iII")
_COMPLEX = Struct(">dd")
_OFFSET = Struct(">q")


def price(code: int, size: int) -> tuple[int, int]:
    """What an extension of so many bytes costs: memory in bytes, nodes beyond its own."""
    if code == TEXT:
        return TEXT_BYTES + 4 * size, 0
    if code == INT:
        return NUMBER_BYTES + size + size // 8, 0  # 30 of 32 bits are used
    return SCALAR_BYTES + 2 * size, FRACTION_NODES if code == FRACTION else 0


# Encoding ----------------------------------------------------------------------------------


def encode_int(value: int) -> bytes:
    size = value.bit_length() // 8 + 1
    if size > MAX_INT_BYTES:
        raise Refused(f"is an int of {size} bytes; at most {MAX_INT_BYTES} can cross", size=True)
    return value.to_bytes(size, "big", signed=True)


def encode_text(value: str) -> bytes:
    return raw_unicode_escape_encode(str.replace(value, "\\", "\\u005c"))[0]


def encode_scalar(value: Any) -> tuple[int, bytes] | None:
    """Code and bytes of a value of the types above; None when it is of none of them.

    Subclasses are none of them: what they add, such as the nanoseconds of a pandas
    timestamp, would be lost without a word.
    """
    kind = _type(value)
    if kind is complex:
        return COMPLEX, _COMPLEX.pack(value.real, value.imag)
    name = str(kind.__name__)
    if name not in _ENCODERS:
        return None
    module, encoder = _ENCODERS[name]
    if getattr(sys.modules.get(module), name, None) is not kind:
        return None
    return encoder(value)


def _encode_date(value: datetime.date) -> tuple[int, bytes]:
    return DATE, _DATE.pack(value.year, value.month, value.day)


def _encode_time(value: datetime.time) -> tuple[int, bytes]:
    flags, tail = _zone_bytes(value.tzinfo)
    clock = (value.hour, value.minute, value.second, value.microsecond)
    return TIME, _TIME.pack(*clock, flags | value.fold) + tail


def _encode_datetime(value: datetime.datetime) -> tuple[int, bytes]:
    flags, tail = _zone_bytes(value.tzinfo)
    day = (value.year, value.month, value.day)
    clock = (value.hour, value.minute, value.second, value.microsecond)
    return DATETIME, _DATETIME.pack(*day, *clock, flags | value.fold) + tail


def _encode_delta(value: datetime.timedelta) -> tuple[int, bytes]:
    return DELTA, _DELTA.pack(value.days, value.seconds, value.microseconds)


def _encode_zone(value: datetime.timezone) -> tuple[int, bytes]:
    flags, tail = _zone_bytes(value)
    return ZONE, bytes((flags,)) + tail


def _zone_bytes(zone: Any) -> tuple[int, bytes]:
    if zone is None:
        return 0, b""
    if type(zone) is not sys.modules["datetime"].timezone:
        raise Refused("has a time zone with rules; give it a fixed offset (datetime.timezone)")
    offset, *name = zone.__getinitargs__()
    tail = _OFFSET.pack((offset.days * 86_400 + offset.seconds) * 10**6 + offset.microseconds)
    if not name:
        return _ZONED, tail
    return _ZONED | _NAMED, tail + encode_text(name[0])


def _encode_decimal(value: Decimal) -> tuple[int, bytes]:
    text = str(value).encode("ascii")
    if len(text) > MAX_DECIMAL_CHARS:
        raise Refused(f"is a Decimal of more than {MAX_DECIMAL_CHARS} characters", size=True)
    return DECIMAL, text


def _encode_fraction(value: Fraction) -> tuple[int, bytes]:
    over, under = int.__index__(value.numerator), int.__index__(value.denominator)
    if max(over.bit_length(), under.bit_length()) // 8 >= MAX_FRACTION_BYTES:
        raise Refused(f"is a Fraction with a part of over {MAX_FRACTION_BYTES} bytes", size=True)
    top = encode_int(over)
    return FRACTION, len(top).to_bytes(2, "big") + top + encode_int(under)


def _encode_uuid(value: uuid.UUID) -> tuple[int, bytes]:
    return UUID, value.bytes


_ENCODERS: dict[str, tuple[str, Callable[[Any], tuple[int, bytes]]]] = {
    "date": ("datetime", _encode_date),
    "time": ("datetime", _encode_time),
    "datetime": ("datetime", _encode_datetime),
    "timedelta": ("datetime", _encode_delta),
    "timezone": ("datetime", _encode_zone),
    "Decimal": ("decimal", _encode_decimal),
    "Fraction": ("fractions", _encode_fraction),
    "UUID": ("uuid", _encode_uuid),
}


# Decoding: the caller has paid the price of ``data`` -----------------------------------------


def decode_scalar(code: int, data: bytes) -> object:
    """The value of an extension.  Raises ``RemoteError`` for anything unexpected."""
    decoder = _DECODERS.get(code)
    if decoder is None:
        raise RemoteError(f"extension type {code} is not known or out of place")
    try:
        return decoder(data)
    except (ValueError, ArithmeticError, IndexError, StructError):
        pass  # the constructors' texts may repeat what the peer sent
    raise RemoteError(f"an extension of type {code} is malformed")


def _decode_int(data: bytes) -> int:
    if not 1 <= len(data) <= MAX_INT_BYTES:
        raise ValueError
    return int.from_bytes(data, "big", signed=True)


def _decode_complex(data: bytes) -> complex:
    return complex(*_COMPLEX.unpack(data))


def _decode_text(data: bytes) -> str:
    return raw_unicode_escape_decode(data)[0]


def _decode_date(data: bytes) -> datetime.date:
    import datetime

    return datetime.date(*_DATE.unpack(data))


def _decode_time(data: bytes) -> datetime.time:
    import datetime

    hour, minute, second, microsecond, flags = _TIME.unpack_from(data)
    zone = _zone(flags, data[_TIME.size :])
    return datetime.time(hour, minute, second, microsecond, zone, fold=flags & _FOLD)


def _decode_datetime(data: bytes) -> datetime.datetime:
    import datetime

    year, month, day, *clock, flags = _DATETIME.unpack_from(data)
    hour, minute, second, microsecond = clock
    return datetime.datetime(
        *(year, month, day, hour, minute, second, microsecond),
        tzinfo=_zone(flags, data[_DATETIME.size :]),
        fold=flags & _FOLD,
    )


def _decode_delta(data: bytes) -> datetime.timedelta:
    import datetime

    days, seconds, microseconds = _DELTA.unpack(data)
    if seconds >= 86_400 or microseconds >= 10**6:
        raise ValueError
    return datetime.timedelta(days, seconds, microseconds)


def _decode_zone(data: bytes) -> datetime.timezone:
    zone = _zone(data[0], data[1:])
    if zone is None or data[0] & _FOLD:
        raise ValueError
    return zone


def _zone(flags: int, data: bytes) -> datetime.timezone | None:
    if flags in (0, _FOLD) and not data:
        return None
    if flags & ~(_FOLD | _NAMED) != _ZONED or (not flags & _NAMED and len(data) != _OFFSET.size):
        raise ValueError
    import datetime

    offset = datetime.timedelta(microseconds=_OFFSET.unpack_from(data)[0])
    if not flags & _NAMED:
        return datetime.timezone(offset)
    return datetime.timezone(offset, _decode_text(data[_OFFSET.size :]))


def _decode_decimal(data: bytes) -> object:
    if len(data) > MAX_DECIMAL_CHARS:
        raise ValueError
    from decimal import Decimal

    # Only the text that Decimal itself writes: no underscores, no blanks, and not the NaN
    # that a host context without traps makes of nonsense.
    text = data.decode("ascii")
    value = Decimal(text)
    if str(value).upper() != text.upper():
        raise ValueError
    return value


def _decode_fraction(data: bytes) -> object:
    size = int.from_bytes(data[:2], "big")
    top, bottom = data[2 : 2 + size], data[2 + size :]
    if not 1 <= len(top) <= MAX_FRACTION_BYTES or not 1 <= len(bottom) <= MAX_FRACTION_BYTES:
        raise ValueError
    under = _decode_int(bottom)
    if under < 1:
        raise ValueError
    from fractions import Fraction

    value = Fraction(_decode_int(top), under)
    if value.denominator != under:
        raise ValueError  # not in lowest terms
    return value


def _decode_uuid(data: bytes) -> object:
    if len(data) != 16:
        raise ValueError
    from uuid import UUID as Uuid

    return Uuid(bytes=data)


_DECODERS: dict[int, Callable[[bytes], object]] = {
    INT: _decode_int,
    COMPLEX: _decode_complex,
    TEXT: _decode_text,
    DATE: _decode_date,
    TIME: _decode_time,
    DATETIME: _decode_datetime,
    DELTA: _decode_delta,
    ZONE: _decode_zone,
    DECIMAL: _decode_decimal,
    FRACTION: _decode_fraction,
    UUID: _decode_uuid,
}
