"""K1: keys chosen to make a hash table slow are refused, and honest ones are not."""

from __future__ import annotations

import datetime
import itertools
from decimal import Decimal
from fractions import Fraction

import pytest

from belljar.wire import keys as keys_module
from belljar.wire import limits
from belljar.wire.errors import NotConvertible, RemoteError
from belljar.wire.keys import KeyGuard
from belljar.wire.values import decode, encode

PRIME = 2**61 - 1  # of sys.hash_info: numbers equal modulo it have the same hash


def packed(keys: list[int], *, as_set: bool) -> bytes:
    """Encoded without the encoder, which would refuse them."""
    items = b"".join(
        b"\xcf" + key.to_bytes(8, "big") + (b"" if as_set else b"\xc0") for key in keys
    )
    if as_set:
        return b"\xdd" + (len(keys) + 1).to_bytes(4, "big") + b"\xd4\x01\x02" + items
    return b"\xdf" + len(keys).to_bytes(4, "big") + items


def run_in_a_table(size: int, length: int) -> list[int]:
    """Distinct small hashes that fill one walk of a table, and keys that start in it."""
    mask = size - 1
    slots, slot = [], 0
    for _ in range(length):
        slots.append(slot)
        slot = (slot * 5 + 1) & mask
    starts = [slots[0] + size * 2**k for k in range(1, 40) for _ in range(1)]
    taken = set(slots)
    late = []
    for high in range(1, 2**14):
        code = slots[0] + size * high
        at, perturb, met = code & mask, code, 0
        while at in taken and met < length:
            perturb >>= 5
            at = (at * 5 + perturb + 1) & mask
            met += 1
        if met > length // 4:
            late.append(code)
    return slots + late + starts


@pytest.mark.parametrize("as_set", [False, True])
def test_one_hash_for_all_is_refused(as_set):
    # Eight of them fit 64 bits, so the others are tuples of -1 and -2, whose hashes are equal.
    many = list(itertools.islice(itertools.product((-1, -2), repeat=16), 5_000))
    assert len({hash(key) for key in many}) == 1
    items = b"".join(
        b"\xdc\x00\x11\xd4\x01\x01" + bytes(part & 0xFF for part in key) + b"\xc0"[as_set:]
        for key in many
    )
    if as_set:
        data = b"\xdc" + (len(many) + 1).to_bytes(2, "big") + b"\xd4\x01\x02" + items
    else:
        data = b"\xde" + len(many).to_bytes(2, "big") + items
    with pytest.raises(RemoteError, match="collide"):
        decode(data)
    with pytest.raises(NotConvertible, match="collide"):
        encode(set(many[:200]) if as_set else dict.fromkeys(many[:200]))


def test_distinct_hashes_that_walk_one_run_are_refused(monkeypatch):
    monkeypatch.setattr(limits, "KEY_STEPS", 100_000)
    keys = run_in_a_table(2**13, 2_500)
    assert len({key % PRIME for key in keys}) == len(set(keys))
    assert KeyGuard(100_000).refusal(list(dict.fromkeys(keys)), in_set=False) is not None


def test_the_steps_are_counted_over_the_whole_message():
    guard = KeyGuard(3_000)
    keys = [n << 40 for n in range(100)]
    refusals = [guard.refusal(keys, in_set=False) for _ in range(50)]
    assert refusals[0] is None
    assert refusals[-1] is not None


def test_the_walk_is_that_of_a_real_dict():
    """A key of our own counts the comparisons that a dict with equal hashes makes."""
    for count in (17, 100, 1_000):
        hashes = [5] * count
        left = keys_module._walk_dict(hashes, 10**9)
        assert 10**9 - left >= count * (count - 1) // 2
        assert keys_module._pairs_of_equal(hashes) == count * (count - 1) // 2


@pytest.mark.parametrize(
    "keys",
    [
        range(30_000),
        range(-15_000, 15_000),
        [n << 45 for n in range(10_000)],
        [n / 1024 for n in range(30_000)],
        [n * 0.1 for n in range(10_000)],
        [(x, y) for x in range(-60, 60) for y in range(-60, 60)],
        [(x, y, z) for x in range(-9, 9) for y in range(-9, 9) for z in range(-9, 9)],
        [Decimal(n) / 100 for n in range(3_000)],
        [Fraction(n, 7) for n in range(3_000)],
        [datetime.timedelta(minutes=n) for n in range(3_000)],
        [frozenset({n, n + 1}) for n in range(3_000)],
        [2**400 + n for n in range(3_000)],
    ],
    ids=lambda keys: repr(keys[1])[:30],
)
def test_honest_keys_pass(keys):
    table = dict.fromkeys(keys, 0)
    assert decode(encode(table)) == table
    assert decode(encode(set(table))) == set(table)


def test_large_numbers_are_values_but_not_keys():
    for number in (2**600, Decimal("1." + "1" * 300), Fraction(2**600, 7)):
        assert decode(encode([number])) == [number]
        inner = encode(number)
        for data in (b"\x81" + inner + b"\x01", b"\x81\x92\xd4\x01\x01" + inner + b"\x01"):
            with pytest.raises(RemoteError, match="512 bits"):
                decode(data)
