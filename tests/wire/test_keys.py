"""K1: keys chosen to make a hash table slow are refused, and honest ones are not."""

from __future__ import annotations

import datetime
import itertools
from decimal import Decimal
from fractions import Fraction

import pytest

from belljar.wire import keys as keys_module
from belljar.wire.errors import NotConvertible, RemoteError
from belljar.wire.keys import KeyGuard
from belljar.wire.values import decode, encode


def run_in_a_table(size: int, length: int) -> list[int]:
    """Small distinct hashes that fill one walk of a dict's table, then keys that start in it."""
    mask = size - 1
    run, slot = [], 0
    for _ in range(length):
        run.append(slot)
        slot = (slot * 5 + 1) & mask
    taken = set(run)
    late = []
    for high in range(1, 2**14):
        code = size * high
        slot, perturb, met = 0, code, 0
        while slot in taken and met < length:
            perturb >>= 5
            slot = (slot * 5 + perturb + 1) & mask
            met += 1
        if met > length // 4:
            late.append(code)
    return run + late


@pytest.mark.parametrize("as_set", [False, True])
def test_one_hash_for_all_is_refused(as_set):
    # The hashes of -1 and -2 are equal, and so are those of tuples of them.
    many = list(itertools.islice(itertools.product((-1, -2), repeat=16), 1_500))
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


def test_distinct_hashes_that_walk_one_run_are_refused():
    keys = run_in_a_table(2**13, 5_000)[:5_400]
    assert len({hash(key) for key in keys}) == len(keys) == 5_400
    assert KeyGuard(100 * len(keys), 100).refusal(keys, in_set=False) is not None
    assert KeyGuard(100 * len(keys), 100).refusal(range(len(keys)), in_set=False) is None


def test_the_steps_are_counted_over_the_whole_message():
    guard = KeyGuard(3_000, 100)
    keys = [n << 40 for n in range(100)]
    refusals = [guard.refusal(keys, in_set=False) for _ in range(50)]
    assert refusals[0] is None
    assert refusals[-1] is not None


class Counted:
    """A key with a hash of our choice, which counts how often a table compares it."""

    compared = 0

    def __init__(self, code: int) -> None:
        self.code = code

    def __hash__(self) -> int:
        return self.code

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return self is other


@pytest.mark.parametrize(("table", "factor"), [(dict.fromkeys, 1), (set, 3)])
def test_the_guard_sees_every_comparison_that_a_table_makes(table, factor):
    """A set looks at neighbouring slots in runs that overlap, so it may compare a pair again."""
    for count in (17, 100, 300):
        for alike in (7, 16):
            codes = [number // alike << 40 for number in range(count)]
            Counted.compared = 0
            table([Counted(code) for code in codes])
            pairs = keys_module._pairs_of_equal(codes)
            assert pairs <= Counted.compared <= factor * pairs


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
