"""Dictionary keys chosen to make the host slow.

What: refuses keys whose insertion into a hash table would cost far more than their size.
Because: hashes of numbers and tuples are not keyed with a secret (only those of str and
bytes are), so a sender can choose a million ints that all walk the same slots: hours of work
for ten megabytes.  Equal hashes are only the simplest case; distinct ones that start in an
occupied run do the same, so counting duplicates is no defence.  Then: the walk is done here
first, on one byte per slot, with CPython's own recurrence
(``Objects/dictobject.c``: perturb shift 5, i*5+perturb+1, tables doubled at two thirds;
``Objects/setobject.c``: nine linear probes first, tables quadrupled at three fifths), and
given up when one message needs more steps than honest ones do.

Cost for honest keys: nothing for str and bytes, 0.5 us per number in tables of more than 16.
"""

from __future__ import annotations

from .limits import MAX_KEY_BITS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

__all__ = ["KeyGuard"]

_UNCHECKED = 16  # keys; the worst case is then 8 comparisons per key
_PAIRS_PER_KEY = 4  # of equal hash; (-1, 2) and (-2, 2) are such a pair, so grids have some
_PAIRS_FREE = 500  # and a small grid may have many: 32 keys of one hash pass
_STEPS_FREE = 4096  # for tables so small that chance decides
_WORD = 2**64 - 1
_KEYED = (str, bytes)  # hashed with the process's secret
_MAX_DECIMAL_CHARS = MAX_KEY_BITS * 3 // 10  # sign, point and exponent included

_type: Any = type
_tuple: Any = tuple

_LARGE = f"has a key or set element with a number of more than {MAX_KEY_BITS} bits"
_UNHASHABLE = "has a key or set element that cannot be hashed as plain data"
_SLOW = "has keys or set elements whose hashes collide too often"


class KeyGuard:
    """Looks at the keys of every dict and set of one message.

    ``steps`` is how many taken slots they may meet in all, ``per_key`` how many for each key
    of one table, so that a small value cannot cost what only a large one may.
    """

    __slots__ = ("_per_key", "_steps")

    def __init__(self, steps: int, per_key: int) -> None:
        self._steps = steps
        self._per_key = per_key

    def refusal(self, keys: Sequence[object], *, in_set: bool) -> str | None:
        """Why these keys are refused; None when they are fine.

        All keys are of the wire's own types.  Raises ``TypeError`` for a signalling NaN.
        """
        unkeyed = [key for key in keys if type(key) not in _KEYED]
        if not unkeyed:
            return None
        refusal = _refused_alone(unkeyed)
        if refusal is not None:
            return refusal
        if len(unkeyed) <= _UNCHECKED:
            return None
        hashes = [hash(key) & _WORD for key in keys]
        allowed = min(self._steps, self._per_key * len(keys) + _STEPS_FREE)
        left = (_walk_set if in_set else _walk_dict)(hashes, allowed)
        self._steps -= allowed - left
        if left < 0:
            return _SLOW
        # The walk of a table of these numbers is now known to be short, so one may be made.
        pairs = 0
        if len(set(hashes) if in_set else dict.fromkeys(hashes)) < len(hashes):
            pairs = _pairs_of_equal(sorted(hashes))
        return _SLOW if pairs > _PAIRS_PER_KEY * len(keys) + _PAIRS_FREE else None


def _pairs_of_equal(hashes: list[int]) -> int:
    """How often a comparison of keys is needed, given their sorted hashes."""
    pairs = met = 0
    before = -1
    for code in hashes:
        met = met + 1 if code == before else 0
        pairs += met
        before = code
    return pairs


def _refused_alone(keys: Iterable[Any]) -> str | None:
    """Why one of the keys, or a part of one that is a tuple, is refused whatever the others are.

    Frozensets are not entered: their elements were looked at when they were made.
    """
    todo: list[Iterable[Any]] = [keys]
    while todo:
        for key in todo.pop():
            if isinstance(key, int):
                large = key.bit_length() > MAX_KEY_BITS
            elif isinstance(key, tuple):
                todo.append(_tuple.__iter__(key))
                continue
            elif isinstance(key, (list, dict, set, bytearray, memoryview)) or _type(
                key
            ).__module__.startswith(("numpy", "pandas", "pyarrow", "polars")):
                return _UNHASHABLE
            elif (name := str(_type(key).__name__)) == "Fraction":
                size = max(key.numerator.bit_length(), key.denominator.bit_length())
                large = size > MAX_KEY_BITS
            else:
                large = name == "Decimal" and len(str(key)) > _MAX_DECIMAL_CHARS
            if large:
                return _LARGE
    return None


def _walk_dict(hashes: list[int], steps: int) -> int:
    """Steps left after walking every table that a dict of these keys passes through."""
    size = 8
    while True:
        usable = size * 2 // 3
        mask = size - 1
        taken = bytearray(size)
        for code in hashes if usable >= len(hashes) else hashes[:usable]:
            slot = code & mask
            if taken[slot]:
                perturb = code
                while taken[slot]:
                    perturb >>= 5
                    slot = (slot * 5 + perturb + 1) & mask
                    steps -= 1
                    if steps < 0:
                        return steps
            taken[slot] = 1
        if usable >= len(hashes):
            return steps
        size *= 2


def _walk_set(hashes: list[int], steps: int) -> int:
    """Steps left after walking every table that a set of these elements passes through.

    A step is one run of up to ten neighbouring slots.
    """
    size = 8
    while True:
        mask = size - 1
        usable = (mask * 3 + 4) // 5
        taken = bytearray(size)
        for code in hashes if usable >= len(hashes) else hashes[:usable]:
            slot = code & mask
            if taken[slot]:
                perturb = code
                while True:
                    free = taken.find(0, slot, slot + 10 if slot + 9 <= mask else slot + 1)
                    if free >= 0:
                        slot = free
                        break
                    perturb >>= 5
                    slot = (slot * 5 + perturb + 1) & mask
                    steps -= 1
                    if steps < 0:
                        return steps
            taken[slot] = 1
        if usable >= len(hashes):
            return steps
        least = usable * (2 if usable > 50_000 else 4)
        while size <= least:
            size *= 2
