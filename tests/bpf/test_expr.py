"""The expression language: values compare, print and refuse what cannot be meant."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from belljar.bpf import ALLOW, KILL_PROCESS, Arg, Choice, Errno, Filter, FilterError, If
from belljar.bpf.expr import Action, All, AnyOf, Not
from belljar.errors import BelljarError

EPERM = Errno(errno.EPERM)


def test_equal_expressions_are_equal_and_hash_alike() -> None:
    def rule() -> Choice:
        return If((Arg(0, width=32) & 6) == 2, ALLOW).elif_(Arg(1) > 9, KILL_PROCESS).else_(EPERM)

    assert rule() == rule()
    assert hash(rule()) == hash(rule())
    assert rule() != If((Arg(0) & 6) == 2, ALLOW).elif_(Arg(1) > 9, KILL_PROCESS).else_(EPERM)


def test_expressions_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Arg(0).index = 1  # type: ignore[misc]
    with pytest.raises(AttributeError):
        (Arg(0) == 1).op = "!="  # type: ignore[attr-defined]


def test_and_or_flatten_and_not_cancels() -> None:
    a, b, c = Arg(0) == 1, Arg(1) == 2, Arg(2) == 3
    assert a & b & c == All((a, b, c))
    assert a | b | c == AnyOf((a, b, c))
    assert ~a == Not(a)
    assert ~~a == a


def test_rules_read_as_sentences() -> None:
    rule = If((Arg(0, width=32) & 0xF0) == 0x10, ALLOW).else_(Errno(errno.EOPNOTSUPP))
    assert str(rule) == "ALLOW if (arg0:32 & 0xf0) == 0x10; else ERRNO(EOPNOTSUPP)"
    either = (Arg(1).is_in([3, 1]) | (Arg(2) == 0)) & ~(Arg(3) < 5)
    assert str(either) == "(arg1 in {1, 3} or arg2 == 0) and not arg3 < 5"
    assert str(Action(0x7FF0_0001)) == "RETURN(0x7ff00001)"
    assert str(Errno(4000)) == "ERRNO(4000)"


def test_has_only_is_an_allow_list_of_bits() -> None:
    assert Arg(0, width=32).has_only(3) == ((Arg(0, width=32) & 0xFFFF_FFFC) == 0)
    assert Arg(0).has_only(3) == ((Arg(0) & 0xFFFF_FFFF_FFFF_FFFC) == 0)


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: (Arg(0) == 1) and (Arg(1) == 2),
        lambda: (Arg(0) == 1) or (Arg(1) == 2),
        lambda: not (Arg(0) > 1),
        lambda: 1 <= Arg(0) <= 2,
    ],
)
def test_python_logic_on_conditions_is_refused(misuse: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="no truth value"):
        misuse()


def test_comparisons_without_parentheses_are_refused() -> None:
    with pytest.raises(TypeError, match="needs parentheses"):
        _ = Arg(0) == 1 & Arg(1) == 2  # type: ignore[operator]
    with pytest.raises(TypeError, match="needs parentheses"):
        _ = Arg(0) == 1 | Arg(1) == 2  # type: ignore[operator]
    with pytest.raises(TypeError, match="expected an int"):
        _ = Arg(0) & True


@pytest.mark.parametrize("number", [-1, 1 << 32])
def test_numbers_outside_the_width_are_refused(number: int) -> None:
    with pytest.raises(FilterError, match="unsigned number of 32 bits"):
        _ = Arg(0, width=32) == number


def test_comparisons_that_never_hold_are_refused() -> None:
    with pytest.raises(FilterError, match="never has the bits"):
        _ = (Arg(0) & 6) == 1
    with pytest.raises(FilterError, match="empty set"):
        Arg(0).is_in([])


@pytest.mark.parametrize("number", [0, -1, 4096])
def test_errno_is_a_failure(number: int) -> None:
    with pytest.raises(FilterError, match="1 to 4095"):
        Errno(number)


@pytest.mark.parametrize(("index", "width"), [(6, 64), (-1, 64), (0, 16)])
def test_arguments_exist(index: int, width: int) -> None:
    with pytest.raises(FilterError):
        Arg(index, width)


def test_an_open_if_is_no_rule() -> None:
    with pytest.raises(TypeError, match=r"without \.else_\(\)"):
        Filter("x86_64", {"read": If(Arg(0) == 1, ALLOW)})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="expected an action"):
        If(Arg(0) == 1, True).else_(ALLOW)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="needs a condition"):
        If(True, ALLOW)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a condition"):
        _ = (Arg(0) == 1) & True  # type: ignore[operator]


def test_filter_errors_are_belljars() -> None:
    assert issubclass(FilterError, BelljarError)
    assert issubclass(FilterError, ValueError)
