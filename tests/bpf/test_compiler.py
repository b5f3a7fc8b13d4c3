"""The compiled program answers what the expressions say, for any call whatever.

``decide`` reads a filter directly, by the definition of its words; the emulator runs what
the compiler made of it.  Hypothesis looks for a call on which the two differ.
"""

from __future__ import annotations

import errno
import operator
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.bpf import (
    ALLOW,
    KILL_PROCESS,
    LOG,
    Action,
    Arg,
    Choice,
    Condition,
    Errno,
    Filter,
    FilterError,
    If,
    SeccompData,
    arch,
    compile_filter,
    emulate,
    verify,
)
from belljar.bpf.expr import All, AnyOf, Not, Test

AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7, "i386": 0x40000003, "arm": 0x40000028}
OPERATORS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def holds(condition: Condition, args: tuple[int, ...]) -> bool:
    if isinstance(condition, All):
        return all(holds(part, args) for part in condition.parts)
    if isinstance(condition, AnyOf):
        return any(holds(part, args) for part in condition.parts)
    if isinstance(condition, Not):
        return not holds(condition.part, args)
    assert isinstance(condition, Test)
    arg = condition.value
    value = args[arg.index] % (1 << arg.width)
    if arg.mask is not None:
        value &= arg.mask
    if condition.op == "in":
        return value in condition.numbers
    return bool(OPERATORS[condition.op](value, condition.numbers[0]))


def decide(filter_: Filter, data: SeccompData) -> Action:
    if data.arch != AUDIT[filter_.arch]:
        return KILL_PROCESS
    if filter_.arch == "x86_64" and data.nr >= 0x40000000:
        return KILL_PROCESS
    names = [name for name, number in arch(filter_.arch).table.items() if number == data.nr]
    if not names:
        return filter_.unknown
    rule = filter_.rules.get(names[0], filter_.default)
    while isinstance(rule, Choice):
        rule = rule.then if holds(rule.condition, data.args) else rule.otherwise
    return rule


# -- strategies ------------------------------------------------------------------------

# Numbers near the edges of halves, where 64-bit comparisons go wrong.
_EDGES = [0, 1, 2, 3, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]
_WIDE = sorted({high << 32 | low for high in _EDGES for low in _EDGES})


def numbers(width: int) -> st.SearchStrategy[int]:
    edges = st.sampled_from(_EDGES if width == 32 else _WIDE)
    return edges | st.integers(0, (1 << width) - 1) | st.integers(0, 40)


@st.composite
def comparisons(draw: st.DrawFn) -> Condition:
    width = draw(st.sampled_from([32, 64]))
    arg = Arg(draw(st.integers(0, 2)), width)
    mask = draw(st.none() | numbers(width) | st.integers(0, width - 1).map(lambda bit: 1 << bit))
    if mask is not None:
        arg = arg & mask
    within = numbers(width).map(lambda number: number if mask is None else number & mask)
    op = draw(st.sampled_from([*OPERATORS, "in", "only"]))
    if op == "in":
        return arg.is_in(draw(st.sets(within, min_size=1, max_size=12)))
    if op == "only":
        return arg.has_only(draw(numbers(width)))
    number = draw(within if op in ("==", "!=") else numbers(width))
    result = OPERATORS[op](arg, number)
    assert isinstance(result, Condition)
    return result


conditions = st.recursive(
    comparisons(),
    lambda inner: (
        st.builds(operator.and_, inner, inner)
        | st.builds(operator.or_, inner, inner)
        | st.builds(operator.invert, inner)
    ),
    max_leaves=6,
)
actions = st.sampled_from([ALLOW, LOG, KILL_PROCESS, Errno(1), Errno(38), Errno(4095)])
rules = st.recursive(
    actions,
    lambda inner: st.builds(
        lambda branches, end: _choice(branches, end),
        st.lists(st.tuples(conditions, inner), min_size=1, max_size=3),
        inner,
    ),
    max_leaves=5,
)


def _choice(
    branches: list[tuple[Condition, Action | Choice]], end: Action | Choice
) -> Action | Choice:
    (condition, then), *others = branches
    open_if = If(condition, then)
    for condition, then in others:
        open_if = open_if.elif_(condition, then)
    return open_if.else_(end)


@st.composite
def filters(draw: st.DrawFn) -> Filter:
    name = draw(st.sampled_from(["x86_64", "aarch64"]))
    names = st.sampled_from(sorted(arch(name).table))
    chosen = draw(st.dictionaries(names, rules, max_size=12))
    return Filter(name, chosen, draw(actions), draw(actions))


def _mentioned(condition: Condition) -> set[int]:
    if isinstance(condition, All | AnyOf):
        return {number for part in condition.parts for number in _mentioned(part)}
    if isinstance(condition, Not):
        return _mentioned(condition.part)
    assert isinstance(condition, Test)
    return set(condition.numbers)


def _interesting(rule: Action | Choice) -> set[int]:
    if not isinstance(rule, Choice):
        return set()
    below = _interesting(rule.then) | _interesting(rule.otherwise)
    return below | _mentioned(rule.condition)


@st.composite
def calls(draw: st.DrawFn, filter_: Filter) -> SeccompData:
    table = arch(filter_.arch).table
    named = [table[name] for name in filter_.rules]
    nr = draw(
        st.sampled_from([*named, 0, 1, max(table.values()), max(table.values()) + 1])
        | st.sampled_from([0x3FFFFFFF, 0x40000000, 0x40000001, 0x7FFFFFFF, 0xFFFFFFFF])
        | st.integers(0, 480)
    )
    near = {0, 1}
    for number in {number for rule in filter_.rules.values() for number in _interesting(rule)}:
        near |= {number, number - 1, number + 1, number | 0xDEAD << 32, number ^ 1 << 63}
    value = st.sampled_from(sorted(number % (1 << 64) for number in near)) | numbers(64)
    args = (draw(value), draw(value), draw(value), 0, 0, 0)
    audit = draw(st.sampled_from([AUDIT[filter_.arch]] * 5 + sorted(AUDIT.values())))
    return SeccompData(nr, audit, args)


# -- the claim -------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_the_program_answers_what_the_filter_says(data: st.DataObject) -> None:
    filter_ = data.draw(filters())
    program = compile_filter(filter_)
    verify(program)
    for _ in range(8):
        call = data.draw(calls(filter_))
        assert emulate(program, call) == decide(filter_, call)


@pytest.mark.parametrize("name", ["x86_64", "aarch64"])
@pytest.mark.parametrize("count", [3, 40, 200])
def test_long_jumps_lead_where_short_ones_would(name: str, count: int) -> None:
    """Rules of their own for many calls spread the program over thousands of words."""
    table = arch(name).table
    chosen = sorted(table)[:count]
    rules_ = {
        call: If(Arg(0, width=32).is_in([at, at + 1000]), Errno(at % 4095 + 1))
        .elif_(Arg(1) >= 0x1_0000_0000 + at, ALLOW)
        .else_(Errno(77) if at % 2 else Errno(78))
        for at, call in enumerate(chosen)
    }
    filter_ = Filter(name, rules_)
    program = compile_filter(filter_)
    verify(program)
    if count == 200:
        assert len(program) // 8 > 4 * 255
    for at, call in enumerate(chosen):
        for first in (at, at + 1, at + 1000, 0xBAD << 32 | at):
            for second in (0x1_0000_0000 + at, 0x0_FFFF_FFFF):
                data = SeccompData(table[call], AUDIT[name], (first, second, 0, 0, 0, 0))
                assert emulate(program, data) == decide(filter_, data)


def test_a_program_over_4096_instructions_is_refused() -> None:
    rule = If(Arg(0).is_in(range(0, 9000, 2)), ALLOW).else_(Errno(1))
    with pytest.raises(FilterError, match="the kernel takes 4096"):
        compile_filter(Filter("x86_64", {"read": rule}))


def test_misspelt_and_absent_names_are_errors_unless_optional() -> None:
    with pytest.raises(FilterError, match="no system call 'opne'"):
        compile_filter(Filter("x86_64", {"opne": ALLOW}))
    with pytest.raises(FilterError, match="no system call 'fork'"):
        compile_filter(Filter("aarch64", {"fork": ALLOW}))
    compile_filter(Filter("aarch64", {"fork": ALLOW}, optional=frozenset({"fork"})))


def test_unknown_architectures_are_errors() -> None:
    with pytest.raises(FilterError, match="known: x86_64, aarch64"):
        compile_filter(Filter("riscv64", {}))


def test_equal_rules_are_compiled_once() -> None:
    rule = If(Arg(0) == 5, ALLOW).else_(Errno(errno.EPERM))
    one = compile_filter(Filter("x86_64", {"read": rule}))
    two = compile_filter(Filter("x86_64", {"read": rule, "write": rule}))
    assert len(two) == len(one)


def test_a_filter_that_always_kills_is_one_instruction() -> None:
    kill = Action(0)
    program = compile_filter(Filter("aarch64", {}, kill, kill))
    verify(program)
    assert emulate(program, SeccompData(1, AUDIT["aarch64"])) == kill
    every = compile_filter(Filter("aarch64", {}, KILL_PROCESS, KILL_PROCESS))
    assert every == struct.pack("<HBBI", 6, 0, 0, KILL_PROCESS.value)


@pytest.mark.parametrize("nr", [0x40000000, 0x40000001, 0x7FFFFFFF, 0xFFFFFFFF])
def test_x32_and_negative_numbers_are_killed_on_x86_64(nr: int) -> None:
    """C9: a second table of numbers, or -1, must be no way around the first."""
    program = compile_filter(Filter("x86_64", {}, ALLOW, ALLOW))
    assert emulate(program, SeccompData(nr, AUDIT["x86_64"])) == KILL_PROCESS


@pytest.mark.parametrize("foreign", ["aarch64", "i386", "arm"])
def test_foreign_architectures_are_killed(foreign: str) -> None:
    program = compile_filter(Filter("x86_64", {}, ALLOW, ALLOW))
    assert emulate(program, SeccompData(0, AUDIT[foreign])) == KILL_PROCESS


def test_garbage_above_an_int_is_no_way_around_a_32_bit_test() -> None:
    refuse = If(Arg(1, width=32) == 0x5412, Errno(1)).else_(ALLOW)
    program = compile_filter(Filter("x86_64", {"ioctl": refuse}))
    data = SeccompData(16, AUDIT["x86_64"], (0, 0xDEADBEEF_00005412, 0, 0, 0, 0))
    assert emulate(program, data) == Errno(1)


@pytest.mark.parametrize("op", list(OPERATORS))
def test_every_comparison_at_every_edge(op: str) -> None:
    for number in _WIDE[::5]:
        for arg in (Arg(0), Arg(0) & 0xFFFF_FFFF, Arg(0) & (0xFFFF_FFFF << 32)):
            wanted = number & (arg.mask or number) if op in ("==", "!=") else number
            condition = OPERATORS[op](arg, wanted)
            filter_ = Filter("x86_64", {"read": If(condition, ALLOW).else_(LOG)})
            program = compile_filter(filter_)
            for value in _WIDE:
                data = SeccompData(0, AUDIT["x86_64"], (value, 0, 0, 0, 0, 0))
                assert emulate(program, data) == decide(filter_, data)
