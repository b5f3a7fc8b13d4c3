"""Filters to classic BPF.

What: ``compile_filter`` turns a ``Filter`` into the bytes of a ``sock_filter`` array.
Because: it runs at the start of every ``belljar run``, so it is one pass over cheap data,
and its output is checked by an emulator rather than trusted.  Then: ``kernel`` hands the
bytes to seccomp(2).

The shape of a program::

    architecture check -> x32 check -> binary search over ranges of numbers -> rules

Classic BPF only jumps forward, so the program is written from its end to its beginning:
every target already stands when a jump to it is emitted, and no label is ever patched.
A *target* is either a position (an index into the reversed code, 0 or more) or an action
(negative, see ``_action``), which becomes a ``RET`` within reach of whoever needs it.
Equal instructions with equal targets are emitted once.

A conditional jump reaches 255 instructions; what lies further goes through an
unconditional one (32-bit offset) placed right behind it.

The kernel runs new filters once per number, looking only at number and architecture, and
remembers those that always ALLOW (``seccomp_cache_prepare``), so the search tree costs
nothing at run time for unconditional entries.  Its order is therefore plain, not weighted.

Sources: seccomp(2), ``kernel/seccomp.c``, ``net/core/filter.c``.
"""

from __future__ import annotations

import struct

from .expr import KILL_PROCESS, Action, All, AnyOf, Arg, Choice, Not, Test
from .features import FilterError
from .syscalls import X32_BIT, arch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from .expr import Condition, Filter, Rule

    Word: TypeAlias = tuple[int, int]  # offset into seccomp_data, mask

MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS of the kernel
REACH = 255  # jt and jf are one byte each
_FULL = 0xFFFF_FFFF

# linux/bpf_common.h
LD_ABS = 0x20  # BPF_LD | BPF_W | BPF_ABS
AND_K = 0x54  # BPF_ALU | BPF_AND | BPF_K
JA = 0x05
JEQ_K = 0x15
JGT_K = 0x25
JGE_K = 0x35
JSET_K = 0x45
RET_K = 0x06

# struct seccomp_data, little-endian
_NR: Word = (0, _FULL)
_ARCH: Word = (4, _FULL)
_ARGS = 16


def compile_filter(filter_: Filter) -> bytes:
    """The program of ``filter_``: 8 bytes per instruction (``struct sock_filter``).

    Raises ``FilterError`` for a name that the architecture does not have and that is not
    marked optional, for an unknown architecture, and for a program over 4096 instructions.
    """
    target = arch(filter_.arch)
    code = _Code()
    default = _action(filter_.default)
    unknown = _action(filter_.unknown)
    targets = dict.fromkeys(target.table.values(), default)
    for name, rule in filter_.rules.items():
        number = target.table.get(name)
        if number is not None:
            targets[number] = code.rule(rule)
        elif name not in filter_.optional:
            raise FilterError(
                f"{target.name} has no system call {name!r}: misspelt, or to be marked optional"
            )
    start = code.search(_ranges(targets, unknown))
    if target.x32:  # -1 and every other negative number has the bit, too, and is killed
        start = code.jump(JGE_K, _NR, X32_BIT, _action(KILL_PROCESS), start)
    start = code.jump(JEQ_K, _ARCH, target.audit, start, _action(KILL_PROCESS))
    return code.finish(start)


def _action(action: Action) -> int:
    """An action as a target: below zero, so that it is no position."""
    return ~action.value


def _ranges(targets: dict[int, int], unknown: int) -> list[tuple[int, int]]:
    """(first number, target) over all numbers, neighbours with one target merged."""
    ranges: list[tuple[int, int]] = []
    last = None
    following = 0
    for number in sorted(targets):
        if number != following and last != unknown:
            ranges.append((following, unknown))
            last = unknown
        target = targets[number]
        if target != last:
            ranges.append((number, target))
            last = target
        following = number + 1
    if last != unknown:
        ranges.append((following, unknown))
    return ranges


class _Code:
    """Instructions from the last to the first, and where things stand."""

    def __init__(self) -> None:
        self.code: list[tuple[int, int, int, int]] = []
        self.shared: dict[tuple[int, ...], int] = {}  # (op, k, targets) -> position
        self.wants: dict[int, Word] = {}  # position of a test -> what A must hold on entry
        self.bridges: dict[int, int] = {}  # target -> nearest RET or JA that leads there

    # -- instructions ------------------------------------------------------------------

    def jump(self, op: int, word: Word, k: int, yes: int, no: int) -> int:
        """A test of ``word``, which the instruction expects in A; gives its position.

        Whoever leads there loads the word, unless A holds it already (``enter``).
        """
        if yes == no:
            return yes
        mask = word[1]
        if mask == 0:  # A would be 0: decided here
            return yes if k == 0 and op != JGT_K else no
        if op == JEQ_K and k == 0 and mask != _FULL:  # A & mask == 0, without changing A
            return self.jump(JSET_K, (word[0], _FULL), mask, no, yes)
        if op == JEQ_K and k == mask and not mask & (mask - 1):
            return self.jump(JSET_K, (word[0], _FULL), mask, yes, no)
        yes = self.enter(yes, word)
        no = self.enter(no, word)
        key = (op, word[0], mask, k, yes, no)
        position = self.shared.get(key)
        if position is None:
            code = self.code
            while True:
                here = len(code)
                to_yes = here - self.bridges.get(yes, yes) - 1
                to_no = here - self.bridges.get(no, no) - 1
                # An action without a RET so far is negative, hence "further" than here.
                if to_yes > REACH or to_yes >= here:
                    self.bridge(yes)
                elif to_no > REACH or to_no >= here:
                    self.bridge(no)
                else:
                    break
            code.append((op, to_yes, to_no, k))
            position = self.shared[key] = here
            self.wants[position] = word
        return position

    def bridge(self, target: int) -> None:
        """Put a way to ``target`` right here: the action itself, or a long jump."""
        here = len(self.code)
        if target < 0:
            self.code.append((RET_K, 0, 0, ~target))
        else:
            self.code.append((JA, 0, 0, here - target - 1))
        self.bridges[target] = here

    def enter(self, target: int, holding: Word | None) -> int:
        """``target`` for somebody with ``holding`` in A: behind its load, or at it."""
        word = self.wants.get(target)
        if word is None or word == holding:
            return target
        if word[1] != _FULL:
            target = self.before(AND_K, word[1], target)
        return self.before(LD_ABS, word[0], target)

    def before(self, op: int, k: int, target: int) -> int:
        """``op``, then on to ``target``; at best simply the instruction before it."""
        key = (op, k, target)
        position = self.shared.get(key)
        if position is None:
            if len(self.code) - 1 not in (target, self.bridges.get(target)):
                self.bridge(target)
            position = self.shared[key] = len(self.code)
            self.code.append((op, 0, 0, k))
        return position

    def finish(self, start: int) -> bytes:
        """The program that begins at ``start``, in the kernel's order and format."""
        start = self.enter(start, None)
        if start < 0 or start != len(self.code) - 1:
            self.bridge(start)
        count = len(self.code)
        if count > MAX_INSTRUCTIONS:
            raise FilterError(
                f"the program has {count} instructions, the kernel takes {MAX_INSTRUCTIONS}"
            )
        flat = [field for instruction in reversed(self.code) for field in instruction]
        return struct.pack("<" + "HBBI" * count, *flat)

    # -- expressions -------------------------------------------------------------------

    def search(self, ranges: list[tuple[int, int]]) -> int:
        """A balanced search for the number's range."""
        count = len(ranges)
        if count == 1:
            return ranges[0][1]
        if count == 3 and ranges[0][1] == ranges[2][1] and ranges[2][0] == ranges[1][0] + 1:
            return self.jump(JEQ_K, _NR, ranges[1][0], ranges[1][1], ranges[0][1])
        middle = count // 2
        right = self.search(ranges[middle:])
        left = self.search(ranges[:middle])
        return self.jump(JGE_K, _NR, ranges[middle][0], right, left)

    def rule(self, rule: Rule) -> int:
        """A rule's target, its first load in place (A holds the number before it)."""
        return self.enter(self.decide(rule), _NR)

    def decide(self, rule: Rule) -> int:
        if isinstance(rule, Choice):
            otherwise = self.decide(rule.otherwise)
            return self.condition(rule.condition, self.decide(rule.then), otherwise)
        return _action(rule)

    def condition(self, condition: Condition, yes: int, no: int) -> int:
        if isinstance(condition, Test):
            return self.test(condition, yes, no)
        if isinstance(condition, Not):
            return self.condition(condition.part, no, yes)
        if isinstance(condition, All):
            for part in reversed(condition.parts):
                yes = self.condition(part, yes, no)
            return yes
        if isinstance(condition, AnyOf):
            for part in reversed(condition.parts):
                no = self.condition(part, yes, no)
            return no
        raise FilterError(f"cannot compile {condition!r}")

    def test(self, test: Test, yes: int, no: int) -> int:
        op = test.op
        numbers = test.numbers
        if op in ("==", "in"):
            return self.member(test.value, numbers, yes, no)
        if op == "!=":
            return self.member(test.value, numbers, no, yes)
        if op == ">":
            return self.order(JGT_K, test.value, numbers[0], yes, no)
        if op == ">=":
            return self.order(JGE_K, test.value, numbers[0], yes, no)
        if op == "<":
            return self.order(JGE_K, test.value, numbers[0], no, yes)
        if op == "<=":
            return self.order(JGT_K, test.value, numbers[0], no, yes)
        raise FilterError(f"no comparison is called {op!r}")

    def order(self, op: int, value: Arg, number: int, yes: int, no: int) -> int:
        low, high = _words(value)
        if high is None and number > _FULL:  # a value without upper half is below it
            return no
        yes_low = self.jump(op, low, number & _FULL, yes, no)
        if high is None:
            return yes_low
        # The upper halves decide unless they are equal.
        equal = self.jump(JEQ_K, high, number >> 32, yes_low, no)
        return self.jump(JGT_K, high, number >> 32, yes, equal)

    def member(self, value: Arg, numbers: tuple[int, ...], yes: int, no: int) -> int:
        low, high = _words(value)
        if high is None:
            return self.among(low, numbers, yes, no)
        by_high: dict[int, list[int]] = {}
        for number in numbers:
            by_high.setdefault(number >> 32, []).append(number & _FULL)
        target = no
        for upper, lower in reversed(by_high.items()):
            found = self.among(low, tuple(lower), yes, no)
            target = self.jump(JEQ_K, high, upper, found, target)
        return target

    def among(self, word: Word, numbers: tuple[int, ...], yes: int, no: int) -> int:
        """``word`` is one of ``numbers`` (ascending): a chain if few, else a search."""
        if len(numbers) > 6:
            middle = len(numbers) // 2
            right = self.among(word, numbers[middle:], yes, no)
            left = self.among(word, numbers[:middle], yes, no)
            return self.jump(JGE_K, word, numbers[middle], right, left)
        for number in reversed(numbers):
            no = self.jump(JEQ_K, word, number, yes, no)
        return no


def _words(value: Arg) -> tuple[Word, Word | None]:
    """The low and, for 64 bits, the high half of a value, each with its mask."""
    offset = _ARGS + 8 * value.index
    mask = value.mask
    if value.width == 32:
        return (offset, _FULL if mask is None else mask), None
    if mask is None:
        return (offset, _FULL), (offset + 4, _FULL)
    if mask >> 32 == 0:  # nothing above to look at
        return (offset, mask), None
    return (offset, mask & _FULL), (offset + 4, mask >> 32)
