"""K1: the value decoder on hostile bytes: a value or one RemoteError, within the budget."""

from __future__ import annotations

import sys
import threading
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.wire import limits, scalars
from belljar.wire.errors import RemoteError
from belljar.wire.limits import Budget
from belljar.wire.values import decode, encode

from .strategies import VALUES

SMALL = Budget(frame_bytes=2**20, depth=50, nodes=10_000, memory_bytes=2**20)


def refused(data: bytes, budget: Budget = SMALL) -> str:
    with pytest.raises(RemoteError) as caught:
        decode(data, budget)
    return str(caught.value)


def extension(code: int, data: bytes) -> bytes:
    return b"\xc9" + len(data).to_bytes(4, "big") + bytes((code,)) + data


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_one_error(data):
    with suppress(RemoteError):
        decode(data, SMALL)


@settings(max_examples=150, deadline=None)
@given(VALUES, st.data())
def test_changed_bytes_give_a_value_or_one_error(value, data):
    mutant = bytearray(encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(mutant) - 1))
        mutant[place] = data.draw(st.integers(0, 255))
    with suppress(RemoteError):
        decode(bytes(mutant), SMALL)


@settings(max_examples=100, deadline=None)
@given(VALUES, st.data())
def test_cut_and_overlong_bytes_are_refused(value, data):
    encoded = encode(value)
    refused(encoded[: data.draw(st.integers(0, len(encoded) - 1))])
    refused(encoded + data.draw(st.binary(min_size=1, max_size=3)))


@pytest.mark.parametrize("code", range(256))
def test_every_extension_code_with_bytes_of_every_length(code):
    for length in (*range(26), 300):
        for fill in (b"\x00", b"\x01", b"\x7f", b"\xff", b"1"):
            with suppress(RemoteError):
                decode(extension(code, fill * length), SMALL)


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff\x01\x01",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xffxxxx",
        b"\xc9\xff\xff\xff\xff\x02",
        b"\xdc\xff\xff" + b"\xd4\x01\x02",
        b"\xdd\x00\x00\x00\x05\xd4\x01\x01\x01",
        b"\xdd\x00",
        b"\x8f\x01",
    ],
)
def test_lying_lengths_cost_nothing(data):
    tracemalloc.start()
    try:
        refused(data, Budget())
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**10
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("opening", [b"\x91", b"\x92\xd4\x01\x01", b"\x81\x01", b"\x81"])
def test_deep_nesting_is_refused_on_the_smallest_stack(opening):
    deep = opening * 100_000 + b"\xc0"
    outcomes = []

    def attempt():
        outcomes.append(refused(deep, Budget(depth=limits.MAX_DEPTH)))

    old = threading.stack_size(64 * 2**10)
    try:
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(old)
    assert "deeper" in outcomes[0]


def test_the_deepest_key_can_be_hashed_on_the_smallest_stack():
    key: object = 1
    for _ in range(limits.MAX_DEPTH - 1):
        key = (key,)
    encoded = encode({key: 1}, Budget(depth=limits.MAX_DEPTH))
    values = []

    def attempt():
        values.append(decode(encoded, Budget(depth=limits.MAX_DEPTH)))

    old = threading.stack_size(64 * 2**10)
    try:
        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(old)
    assert values == [{key: 1}]


@pytest.mark.parametrize(
    "item",
    [
        b"\x90",
        b"\x80",
        b"\x91\xd4\x01\x01",
        b"\x91\xd4\x01\x02",
        b"\x91\xc0",
        b"\x81\x01\x01",
        b"\x92\xd4\x01\x02\x01",
        b"\xa1x",
        b"\xa2\xc3\xa9",
        b"\xa4\xf0\x9f\x98\x80",
        b"\xc4\x00",
        b"\xff",
        b"\xca\x00\x00\x00\x00",
        extension(scalars.INT, b"\x7f" * 9),
        extension(scalars.COMPLEX, bytes(16)),
        extension(scalars.TEXT, b"\\U0001f600" * 3),
        extension(scalars.DATE, b"\x07\xe8\x01\x01"),
        extension(scalars.ZONE, b"\x02" + (10**9).to_bytes(8, "big")),
        extension(scalars.DECIMAL, b"1.5"),
        extension(scalars.FRACTION, b"\x00\x01\x01\x03"),
        extension(scalars.UUID, bytes(range(16))),
    ],
    ids=lambda item: item[:12].hex(),
)
def test_bombs_stay_within_the_memory_budget(item):
    budget = Budget(frame_bytes=2**20, nodes=2**20, memory_bytes=2**20)
    count = 2**20 // len(item) - 10
    data = b"\xdd" + count.to_bytes(4, "big") + item * count
    for module in ("datetime", "decimal", "fractions", "uuid"):
        __import__(module)
    decode(b"\x91" + item)
    tracemalloc.start()
    try:
        refused(data, budget)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak <= 2 * budget.memory_bytes + 3 * budget.frame_bytes


@pytest.mark.parametrize(
    "value",
    [
        ["x" * 600_000],
        ["é" * 400_000],
        ["я" * 200_000],
        ["\U0001f600" * 60_000],
        ["x" * 250_000 + "\U0001f600"],
        ["\ud800\\" * 20_000],
        list(range(10**9, 10**9 + 15_000)),
        [(n, float(n)) for n in range(4_000)],
        dict.fromkeys(range(6000)),
        {str(n): n for n in range(3_000)},
        set(range(1_000, 7_000)),
        [{n} for n in range(2_000)],
        [{"a": n} for n in range(2_000)],
        [2**100_000],
    ],
    ids=lambda value: f"{type(value).__name__} of {type(next(iter(value))).__name__}",
)
def test_values_within_the_budget_stay_within_its_factor(value):
    budget = Budget(frame_bytes=2**20, nodes=2**20, memory_bytes=2**20)
    encoded = encode(value, budget)
    decode(encoded, budget)  # imports what it needs
    tracemalloc.start()
    try:
        decoded = decode(encoded, budget)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert decoded == value
    assert peak <= 2 * budget.memory_bytes + 3 * len(encoded)


def price_of(value: object) -> int:
    """The smallest memory budget under which the value is decoded, found by halving."""
    encoded = encode(value)
    low, high = 0, 2**20
    while high - low > 1:
        middle = (low + high) // 2
        try:
            decode(encoded, Budget(memory_bytes=middle))
        except RemoteError:
            low = middle
        else:
            high = middle
    return high


def test_no_price_is_below_what_cpython_takes():
    for value in (2**64 - 1, -1, 1.5, "", "x", "é", "я", "\U0001f600", b"", b"x" * 1_000):
        assert price_of(value) >= sys.getsizeof(value)
    for size in (0, 1, 5, 6, 11, 43, 100, 2_000):
        for value, each, own in (
            (list(range(size)), limits.ARRAY_ITEM_BYTES, limits.ARRAY_BYTES),
            (tuple(range(size)), limits.ARRAY_ITEM_BYTES, limits.ARRAY_BYTES),
            ({(n,): n for n in range(size)}, limits.MAP_ITEM_BYTES, limits.MAP_BYTES),
            (set(range(size)), limits.SET_ITEM_BYTES, limits.SET_BYTES),
        ):
            assert sys.getsizeof(value) <= own + each * size


@pytest.mark.parametrize(
    "data",
    [
        b"\x82\xa1a\x01\xa1a\x02",
        b"\x82\x01\x01\xcb?\xf0\x00\x00\x00\x00\x00\x00\x02",  # 1 and 1.0
        b"\x82\x01\x01\xc3\x02",  # 1 and True
        b"\x93\xd4\x01\x02\x01\xcc\x01",  # {1, 1}
        b"\x82" + extension(scalars.TEXT, b"a") + b"\x01\xa1a\x01",
    ],
)
def test_equal_keys_are_refused(data):
    assert "twice" in refused(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\x90\x01",  # {[]: 1}
        b"\x81\x80\x01",
        b"\x92\xd4\x01\x02\x90",
        b"\x92\xd4\x01\x03\x92\xd4\x01\x01\x90",  # frozenset({([],)})
        b"\x81" + extension(scalars.DECIMAL, b"sNaN") + b"\x01",
        b"\x81\x92\xd4\x01\x01" + extension(scalars.DECIMAL, b"sNaN") + b"\x01",
    ],
)
def test_keys_that_cannot_be_hashed_are_refused(data):
    assert "hashed" in refused(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1",
        b"\xd4\x01\x01",  # a marker alone
        b"\x92\x01\xd4\x01\x01",  # a marker in second place
        b"\x91\xd4\x01\x00",
        b"\x91\xd4\x01\x04",
        b"\x91\xd4\x01\x05",
        b"\x91\xd4\x01",
        b"\xa2\xff\xff",
        b"\xa3\xed\xa0\x80",  # a surrogate in UTF-8
        b"\xc7\x0c\xff" + bytes(12),  # MessagePack's own timestamp
        extension(scalars.INT, b""),
        extension(scalars.INT, b"\x01" * (limits.MAX_INT_BYTES + 1)),
        extension(scalars.TEXT, b"\\ud80"),
        extension(scalars.TEXT, b"\\U00110000"),
        extension(scalars.DATE, b"\x00\x00\x00\x00"),
        extension(scalars.DATE, b"\xff\xff\x01\x01"),
        extension(scalars.DELTA, b"\x7f\xff\xff\xff" + bytes(8)),
        extension(scalars.DELTA, bytes(4) + b"\xff\xff\xff\xff" + bytes(4)),
        extension(scalars.ZONE, b"\x02\x7f" + bytes(7)),
        extension(scalars.ZONE, b"\x00"),
        extension(scalars.ZONE, b"\x80" + bytes(8)),
        extension(scalars.FRACTION, b"\x00\x01\x02\x04"),  # 2/4
        extension(scalars.FRACTION, b"\x00\x01\x01\x00"),  # 1/0
        extension(scalars.FRACTION, b"\x00\x01\x01\xff"),  # 1/-1
        extension(scalars.FRACTION, b"\xff\xff\x01\x01"),
        extension(scalars.FRACTION, b"\x03\xff" + b"\x01" * 1_023 + b"\x01" * 1_025),
        extension(scalars.DECIMAL, b""),
        extension(scalars.DECIMAL, b" 1"),
        extension(scalars.DECIMAL, b"1_0"),
        extension(scalars.DECIMAL, b"1e5"),  # not as Decimal writes it
        extension(scalars.DECIMAL, b"1E+9999999999999999999"),
        extension(scalars.DECIMAL, b"1" * (limits.MAX_DECIMAL_CHARS + 1)),
        extension(scalars.DECIMAL, "١".encode()),
        extension(scalars.UUID, bytes(15)),
        extension(13, b"x"),
    ],
    ids=lambda data: data[:12].hex(),
)
def test_malformed_values_are_refused(data):
    refused(data, Budget())


def test_an_exponent_is_kept_and_never_computed_with():
    data = b"\x92" + extension(scalars.DECIMAL, b"1E+999999999999999999")
    value = decode(data + extension(scalars.DECIMAL, b"1E-999999999"))
    assert [part.adjusted() for part in value] == [999999999999999999, -999999999]


def test_the_error_never_repeats_what_the_peer_sent():
    secret = b"x\x1b[31mowned"
    for data in (
        b"\xab" + secret + b"\xff",
        b"\xac" + secret + b"\xff",
        extension(scalars.DECIMAL, secret),
        extension(scalars.TEXT, secret + b"\\u12"),
    ):
        assert "owned" not in refused(data)
        with pytest.raises(RemoteError) as caught:
            decode(data)
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None


def test_a_value_over_the_frame_cap_is_refused_unread():
    refused(b"\xc1" * (SMALL.frame_bytes + 1))
    assert decode(memoryview(b"\x91\x01")) == [1]
