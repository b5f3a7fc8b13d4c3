"""The value codec on honest values: nothing is lost, and it is MessagePack."""

from __future__ import annotations

import collections
import datetime
import enum
import math
from decimal import Decimal, localcontext
from fractions import Fraction

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.wire.errors import NotConvertible, RemoteError, TooLarge
from belljar.wire.limits import Budget
from belljar.wire.values import decode, encode

from .strategies import PLAIN, VALUES, same


@settings(max_examples=150, deadline=None)
@given(VALUES)
def test_every_value_comes_back_the_same(value):
    assert same(decode(encode(value)), value)


@settings(max_examples=80, deadline=None)
@given(PLAIN)
def test_plain_values_are_encoded_as_msgpack_does(value):
    assert encode(value) == msgpack.packb(value)


@settings(max_examples=80, deadline=None)
@given(PLAIN)
def test_what_msgpack_encodes_is_decoded(value):
    assert same(decode(msgpack.packb(value)), value)


@settings(max_examples=50, deadline=None)
@given(st.floats(width=32))
def test_single_floats_of_other_encoders_are_decoded(value):
    assert same(decode(msgpack.packb(value, use_single_float=True)), value)


@settings(max_examples=50, deadline=None)
@given(VALUES)
def test_every_encoding_is_valid_msgpack(value):
    parts = msgpack.Unpacker(strict_map_key=False, max_ext_len=2**20, use_list=False)
    parts.feed(encode(value))
    parts.skip()
    assert parts.tell() == len(encode(value))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536, 70_000])
def test_sizes_at_the_edges_of_the_format(size):
    for value in ("x" * size, b"x" * size, [None] * size, "é" * size, "\ud800" * size):
        assert decode(encode(value)) == value
    for value in (tuple(range(size)), set(range(size)), dict.fromkeys(range(size))):
        assert same(decode(encode(value)), value)


@pytest.mark.parametrize("power", [5, 7, 8, 15, 16, 31, 32, 63, 64, 65, 4_000])
def test_ints_at_the_edges_of_the_format(power):
    for value in (2**power - 1, 2**power, -(2**power), -(2**power) - 1):
        assert decode(encode(value)) == value


def test_floats_keep_nan_infinity_and_the_sign_of_zero():
    for value in (math.nan, math.inf, -math.inf, -0.0, 5e-324, complex(-0.0, math.nan)):
        assert same(decode(encode(value)), value)


def test_dict_keeps_its_order():
    value = {"z": 1, "a": 2, (1, "x"): 3, None: 4}
    assert list(decode(encode(value))) == list(value)


def test_nan_is_a_key_and_two_are_two():
    decoded = decode(encode({math.nan: 1, float("nan"): 2}))
    assert sorted(decoded.values()) == [1, 2]


def test_decimal_is_kept_to_the_digit_in_any_context():
    value = Decimal("-1234567890.12345678901234567890E+999999")
    encoded = encode([value, Decimal("1e999999999"), Decimal("sNaN12"), Decimal("-Infinity")])
    with localcontext() as context:
        context.prec = 3
        context.clear_traps()
        context.capitals = 0
        decoded = decode(encoded)
    assert [str(part) for part in decoded] == [str(value), "1E+999999999", "sNaN12", "-Infinity"]


def test_fold_and_named_zones_are_kept():
    zone = datetime.timezone(datetime.timedelta(hours=-3, seconds=1), "here")
    value = datetime.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=zone)
    decoded = decode(encode(value))
    assert (decoded, decoded.fold, decoded.tzname()) == (value, 1, "here")
    assert decode(encode(datetime.UTC)) is datetime.UTC


class Loud(int):
    """Everything a subclass can put in the way."""

    def __index__(self):
        raise AssertionError("called")

    __int__ = __repr__ = __eq__ = bit_length = to_bytes = __hash__ = __index__


class LoudList(list):
    def __iter__(self):
        raise AssertionError("called")

    __len__ = __getitem__ = copy = __iter__


class LoudDict(dict):
    def items(self):
        raise AssertionError("called")

    __iter__ = __len__ = __getitem__ = keys = values = copy = items


class LoudText(str):
    def encode(self, *_):
        raise AssertionError("called")

    __str__ = encode


def test_subclasses_cross_as_their_base_and_none_of_their_methods_is_called():
    colour = enum.IntEnum("colour", ["RED"])
    point = collections.namedtuple("point", "x y")
    pairs = [
        (Loud(7), 7),
        (LoudList([1, LoudText("t")]), [1, "t"]),
        (LoudDict({"a": Loud(2**80)}), {"a": 2**80}),
        (LoudText("x\ud800"), "x\ud800"),
        (colour.RED, 1),
        (point(1, 2), (1, 2)),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (type("Bytes", (bytes,), {})(b"b"), b"b"),
        (type("Float", (float,), {})(0.5), 0.5),
        (type("Set", (set,), {})({1}), {1}),
        (type("Frozen", (frozenset,), {})({1}), frozenset({1})),
        (type("Complex", (complex,), {})(1j), 1j),
    ]
    for value, plain in pairs:
        assert same(decode(encode(value)), plain)
    assert same(decode(encode({colour.RED: LoudText("v")})), {1: "v"})


class Stamp(datetime.datetime):
    """Stands for types such as pandas' that know more than their base."""


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (object(), "value"),
        ({"a": [0, 1, 2, print]}, "value['a'][3]"),
        ([{1: {"x": (0, object)}}], "value[0][1]['x'][1]"),
        ({(1, object): 0}, "value key ...[1]"),
        ({object: 0}, "value key ..."),
        ([frozenset({len})], "value[0] element"),
        ([iter(b"x")], "value[0]"),
        ([Stamp(2024, 1, 1)], "value[0]"),
        ([datetime.datetime(2024, 1, 1, tzinfo=type("Z", (datetime.tzinfo,), {})())], "value[0]"),
    ],
)
def test_what_cannot_cross_is_named_by_its_place(value, path):
    with pytest.raises(NotConvertible) as caught:
        encode(value)
    assert caught.value.path == path
    assert not isinstance(caught.value, TooLarge)


def test_the_error_is_a_type_error_that_lists_what_can_cross():
    with pytest.raises(TypeError, match=r"value\[0\] is of type module, .* Decimal, Fraction"):
        encode([math])


def test_a_type_that_only_pretends_is_refused():
    pretender = type("Decimal", (), {"__module__": "decimal"})
    with pytest.raises(NotConvertible):
        encode(pretender())


def test_cycles_are_named_and_shared_parts_are_not_cycles():
    loop = {"a": []}
    loop["a"].append({"b": loop["a"]})
    with pytest.raises(NotConvertible, match=r"value\['a'\] contains itself"):
        encode(loop)
    shared = [1]
    assert decode(encode([shared, shared, {"x": shared}])) == [[1], [1], {"x": [1]}]


class Hashable(list):
    __hash__ = object.__hash__


class Odd(str):
    """Equal to nothing but itself, until it is plain."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__


@pytest.mark.parametrize(
    "value",
    [
        {Hashable(): 1},
        {(Hashable(),): 1},
        {Odd("a"): 1, "a": 2},
        {2**600: 1},
        {(1, Fraction(2**600, 7)): 1},
        {Decimal("1" * 200)},
    ],
    ids=["list", "list in tuple", "equal when plain", "int", "fraction", "decimal"],
)
def test_keys_that_the_other_side_would_refuse_are_refused_here(value):
    with pytest.raises(NotConvertible, match=r"keys? or set elements?"):
        encode(value)


@pytest.mark.parametrize(
    "value",
    [
        [[[[[]]]]],
        [0] * 40,
        ["x" * 3_000],
        ["\U0001f600" * 300],
        2**30_000,
        {str(n): n for n in range(40)},
        b"x" * 3_000,
        [Fraction(1, 3)] * 20,
    ],
    ids=["depth", "nodes", "text", "wide text", "int", "dict", "bytes", "fractions"],
)
def test_the_encoder_keeps_the_budget_and_the_decoder_agrees(value):
    small = Budget(frame_bytes=2_900, depth=4, nodes=30, memory_bytes=2_900)
    with pytest.raises(TooLarge):
        encode(value, small)
    with pytest.raises(RemoteError):
        decode(encode(value), small)


@settings(max_examples=80, deadline=None)
@given(VALUES, st.integers(1, 3_000), st.integers(1, 60), st.integers(1, 5))
def test_what_is_encoded_under_a_budget_is_decoded_under_it(value, memory, nodes, depth):
    budget = Budget(frame_bytes=2_000, depth=depth, nodes=nodes, memory_bytes=memory)
    try:
        encoded = encode(value, budget)
    except TooLarge:
        return
    assert same(decode(encoded, budget), value)


@pytest.mark.parametrize("change", [{"depth": 0}, {"depth": 201}, {"nodes": -1}, {"nodes": 1.5}])
def test_absurd_budgets_are_refused(change):
    with pytest.raises(ValueError, match="budget"):
        Budget(**change)
