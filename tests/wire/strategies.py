"""Values to draw, and what it means that two of them are the same."""

from __future__ import annotations

import datetime
import struct
import uuid
from decimal import Decimal
from fractions import Fraction

from hypothesis import strategies as st

TEXTS = st.text(st.characters(exclude_categories=()))  # lone surrogates included
ZONES = st.timedeltas(
    min_value=-datetime.timedelta(hours=23, minutes=59),
    max_value=datetime.timedelta(hours=23, minutes=59),
).map(datetime.timezone) | st.tuples(st.just(datetime.timedelta(hours=2)), TEXTS).map(
    lambda pair: datetime.timezone(*pair)
)
INTS = st.integers() | st.integers(-(2**70), 2**70) | st.integers(-300, 70_000)

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text()
    | st.binary(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=20)
        | st.dictionaries(st.text() | st.integers(-(2**63), 2**64 - 1), inner, max_size=20)
    ),
    max_leaves=40,
)

SCALARS = (
    st.none()
    | st.booleans()
    | INTS
    | st.floats()
    | st.complex_numbers()
    | TEXTS
    | st.binary()
    | st.dates()
    | st.times(timezones=st.none() | ZONES)
    | st.datetimes(timezones=st.none() | ZONES, allow_imaginary=True)
    | st.timedeltas()
    | ZONES
    | st.decimals()
    | st.fractions()
    | st.uuids()
)


def _is_a_key(value: object) -> bool:
    if isinstance(value, Decimal) and value.is_snan():
        return False  # cannot be hashed
    return value == value


# NaN is a legal key, but two of them are two keys, which `same` cannot pair up.
KEY_SCALARS = SCALARS.filter(_is_a_key)
KEYS = st.recursive(
    KEY_SCALARS,
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.frozensets(inner, max_size=4),
    max_leaves=5,
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.lists(inner, max_size=6).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=6)
        | st.sets(KEYS, max_size=6)
        | st.frozensets(KEYS, max_size=6)
    ),
    max_leaves=20,
)


def same(left: object, right: object) -> bool:
    """Equal, of equal types all the way down, NaN and the sign of zero included."""
    if type(left) is not type(right):
        return False
    match left:
        case float():
            return struct.pack(">d", left) == struct.pack(">d", right)
        case complex():
            return same(left.real, right.real) and same(left.imag, right.imag)
        case list() | tuple():
            return len(left) == len(right) and all(map(same, left, right))
        case dict():
            return same([*left.items()], [*right.items()])
        case set() | frozenset():
            by_type = [{(type(item), item) for item in side} for side in (left, right)]
            return by_type[0] == by_type[1]
        case Decimal():
            return str(left) == str(right)
        case datetime.datetime() | datetime.time():
            return repr(left) == repr(right)
        case datetime.timezone():
            return repr(left) == repr(right)
        case Fraction() | uuid.UUID():
            return left == right
    return left == right
