"""Filters as values: what a system call may be asked to do.

Example::

    rules = {
        "read": ALLOW,
        "personality": If(Arg(0, width=32) == 0xFFFFFFFF, ALLOW).else_(Errno(errno.EPERM)),
        "mprotect": If((Arg(2) & PROT_EXEC) == 0, ALLOW).else_(Errno(errno.EPERM)),
    }
    program = compile_filter(Filter("x86_64", rules))

Grammar, in seven lines::

    filter    = Filter(arch, {syscall name: rule}, default=action, unknown=action)
    rule      = action | choice
    choice    = If(condition, rule) {.elif_(condition, rule)} .else_(rule)
    action    = ALLOW | LOG | NOTIFY | TRAP | KILL_PROCESS | KILL_THREAD | Errno(number)
    condition = value (== | != | < | <= | > | >=) number | value.is_in(numbers)
              | value.has_only(bits) | condition & condition
              | condition "|" condition | ~condition
    value     = Arg(n) | Arg(n, width=32) | Arg(...) & mask

**Which width?**  The kernel hands the filter six 64-bit registers.  For a C ``int`` or
``unsigned int`` argument the system call itself reads the low half only, and the upper
half is whatever the caller left there.  A 64-bit comparison on such an argument is a
hole if it *refuses* on equality (garbage above makes it unequal, the call goes on) and a
nuisance if it *allows* on equality.  So: ``width=32`` for int arguments, 64 for
pointers, ``size_t`` and ``unsigned long``.  All comparisons are unsigned.

What: immutable expressions.  Because: a filter is compared, printed, interpreted by the
tests and compiled, so it must be a plain value with no behaviour of its own.  Then:
``compiler`` turns it into classic BPF, ``disasm.describe`` into text.
"""

from __future__ import annotations

import errno as _errno

from .._record import Record
from .features import FilterError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import NoReturn, TypeAlias

    Rule: TypeAlias = "Action | Choice"

MAX_ERRNO = 4095  # the kernel clamps larger numbers to this one (seccomp(2))


class Action(Record):
    """What the kernel does with a call: ``value`` is what the program returns to it."""

    value: int

    def __str__(self) -> str:
        name = _ACTION_NAMES.get(self.value)
        if name is not None:
            return name
        if self.value & 0xFFFF0000 == _RET_ERRNO:
            number = self.value & 0xFFFF
            name = _ALIASED.get(number) or _errno.errorcode.get(number)
            return f"ERRNO({name or number})"
        return f"RETURN({self.value:#010x})"


_RET_ERRNO = 0x0005_0000
_ACTION_NAMES = {
    0x7FFF_0000: "ALLOW",
    0x7FFC_0000: "LOG",
    0x7FC0_0000: "NOTIFY",
    0x0003_0000: "TRAP",
    0x8000_0000: "KILL_PROCESS",
    0x0000_0000: "KILL_THREAD",
}

# Numbers with two names; which one errno.errorcode gives depends on Python's version.
_ALIASED = {11: "EAGAIN", 35: "EDEADLK", 95: "EOPNOTSUPP"}

ALLOW = Action(0x7FFF_0000)
LOG = Action(0x7FFC_0000)  # allowed, and written to the audit log
NOTIFY = Action(0x7FC0_0000)  # the supervisor behind the listener answers
TRAP = Action(0x0003_0000)  # SIGSYS
KILL_PROCESS = Action(0x8000_0000)
KILL_THREAD = Action(0x0000_0000)


def Errno(number: int) -> Action:
    """The call does not happen and fails with ``number`` (1 to 4095).

    Zero is refused: it would tell the caller that a call succeeded that never happened.
    """
    if not 1 <= number <= MAX_ERRNO:
        raise FilterError(f"errno must be 1 to {MAX_ERRNO}, not {number}")
    return Action(_RET_ERRNO | number)


class Condition(Record):
    """Something true or false about one call's arguments."""

    def __and__(self, other: Condition) -> Condition:
        return All((*_parts(All, self), *_parts(All, other)))

    def __or__(self, other: Condition) -> Condition:
        return AnyOf((*_parts(AnyOf, self), *_parts(AnyOf, other)))

    def __invert__(self) -> Condition:
        return self.part if isinstance(self, Not) else Not(self)

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "a condition has no truth value here: write `a & b`, `a | b`, `~a`, not"
            " `a and b`, `a or b`, `not a`, `1 <= a <= 2`; branch with If(condition, rule)"
        )


def _parts(kind: type[All | AnyOf], condition: object) -> tuple[Condition, ...]:
    if not isinstance(condition, Condition):
        raise TypeError(f"expected a condition, got {condition!r}")
    if isinstance(condition, kind):
        return condition.parts
    return (condition,)


class All(Condition):
    """True when every part is (``&``)."""

    parts: tuple[Condition, ...]

    def __str__(self) -> str:
        return " and ".join(_nested(part) for part in self.parts)


class AnyOf(Condition):
    """True when one part is (``|``)."""

    parts: tuple[Condition, ...]

    def __str__(self) -> str:
        return " or ".join(_nested(part) for part in self.parts)


class Not(Condition):
    """True when ``part`` is not (``~``)."""

    part: Condition

    def __str__(self) -> str:
        return f"not {_nested(self.part)}"


def _nested(condition: Condition) -> str:
    return f"({condition})" if isinstance(condition, All | AnyOf) else str(condition)


class Test(Condition):
    """``value op numbers[0]``; for the operator ``in``, all the numbers, ascending."""

    __test__ = False  # not a test case, whatever pytest makes of the name

    value: Arg
    op: str
    numbers: tuple[int, ...]

    if not TYPE_CHECKING:  # made by the hundred at every start: a third of Record's cost

        def __init__(self, value, op, numbers):
            self.__dict__.update(value=value, op=op, numbers=numbers)

    def _key(self) -> tuple[object, ...]:
        return (self.value.index, self.value.width, self.value.mask, self.op, self.numbers)

    def __eq__(self, other: object) -> bool:  # by hand: == of two Arg is no comparison
        return self._key() == other._key() if isinstance(other, Test) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __str__(self) -> str:
        shown = [hex(number) if number > 9 else str(number) for number in self.numbers]
        if self.op == "in":
            return f"{self.value} in {{{', '.join(shown)}}}"
        return f"{self.value} {self.op} {shown[0]}"


class Arg(Record):
    """Argument ``index`` (0 to 5), its low ``width`` bits (64 or 32), under ``mask``.

    Choose ``width=32`` for C ``int`` arguments; the module's docstring says why.
    Comparing gives a ``Condition``, so two ``Arg`` values are told apart by their fields.
    """

    index: int
    width: int = 64
    mask: int | None = None  # None: every bit of the width

    if not TYPE_CHECKING:  # as in Test

        def __init__(self, index, width=64, mask=None):
            self.__dict__.update(index=index, width=width, mask=mask)
            self.__post_init__()

    def __post_init__(self) -> None:
        if not 0 <= self.index <= 5:
            raise FilterError(f"a system call has arguments 0 to 5, not {self.index}")
        if self.width not in (32, 64):
            raise FilterError(f"an argument is 32 or 64 bits wide, not {self.width}")
        if self.mask is not None:
            self._check(self.mask)

    def _check(self, number: int) -> int:
        if not isinstance(number, int) or isinstance(number, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"expected an int, got {number!r}")
        if not 0 <= number < 1 << self.width:
            raise FilterError(
                f"{number} is not an unsigned number of {self.width} bits;"
                " for a negative one write it as the kernel sees it, such as -1 & 0xFFFFFFFF"
            )
        return number

    def __and__(self, mask: int) -> Arg:
        self._check(mask)
        return Arg(self.index, self.width, mask if self.mask is None else mask & self.mask)

    def __rand__(self, number: object) -> NoReturn:
        raise TypeError(
            "a comparison needs parentheses: (Arg(0) == 1) & (Arg(1) == 2), because"
            f" Python reads {number!r} & Arg({self.index}) first"
        )

    __ror__ = __rand__

    def _equal(self, number: int) -> int:
        if self._check(number) & ~(-1 if self.mask is None else self.mask):
            raise FilterError(f"{self} never has the bits of {number:#x}")
        return number

    def __eq__(self, number: int) -> Condition:  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        return Test(self, "==", (self._equal(number),))

    def __ne__(self, number: int) -> Condition:  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        return Test(self, "!=", (self._equal(number),))

    def __lt__(self, number: int) -> Condition:
        return Test(self, "<", (self._check(number),))

    def __le__(self, number: int) -> Condition:
        return Test(self, "<=", (self._check(number),))

    def __gt__(self, number: int) -> Condition:
        return Test(self, ">", (self._check(number),))

    def __ge__(self, number: int) -> Condition:
        return Test(self, ">=", (self._check(number),))

    def is_in(self, numbers: Iterable[int]) -> Condition:
        """True when the value is one of ``numbers`` (at least one)."""
        kept = tuple(sorted({self._equal(number) for number in numbers}))
        if not kept:
            raise FilterError(f"{self} is in no empty set")
        return Test(self, "in", kept)

    def has_only(self, bits: int) -> Condition:
        """True when no bit outside ``bits`` is set: an allow-list of flags."""
        return (self & (((1 << self.width) - 1) & ~self._check(bits))) == 0

    def __hash__(self) -> int:
        return hash((Arg, self.index, self.width, self.mask))

    def __str__(self) -> str:
        name = f"arg{self.index}" if self.width == 64 else f"arg{self.index}:32"
        return name if self.mask is None else f"({name} & {self.mask:#x})"


class Choice(Record):
    """``then`` if ``condition`` holds, else ``otherwise``.  Made by ``If``."""

    condition: Condition
    then: Rule
    otherwise: Rule

    def __str__(self) -> str:
        lines: list[str] = []
        rule: Rule = self
        while isinstance(rule, Choice):
            then = f"({rule.then})" if isinstance(rule.then, Choice) else str(rule.then)
            lines.append(f"{then} if {rule.condition}")
            rule = rule.otherwise
        return "; ".join([*lines, f"else {rule}"])


class If(Record):
    """The open beginning of a choice; ``.else_`` closes it.  A rule always has an else."""

    condition: Condition
    then: Rule
    before: If | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.condition, Condition):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"If needs a condition, got {self.condition!r}")
        _rule(self.then)

    def elif_(self, condition: Condition, then: Rule) -> If:
        return If(condition, then, self)

    def else_(self, otherwise: Rule) -> Choice:
        choice = Choice(self.condition, self.then, _rule(otherwise))
        before = self.before
        while before is not None:
            choice = Choice(before.condition, before.then, choice)
            before = before.before
        return choice


def _rule(value: Rule) -> Rule:
    if isinstance(value, Action | Choice):  # pyright: ignore[reportUnnecessaryIsInstance]
        return value
    if isinstance(value, If):
        raise TypeError("an If without .else_() is no rule: say what happens otherwise")
    raise TypeError(f"expected an action or a choice, got {value!r}")


class Filter(Record):
    """A whole policy over system calls, for one architecture.

    ``rules``: by name.  ``default``: for calls that belljar's table knows and no rule
    names.  ``unknown``: for numbers that the table does not know, such as those of later
    kernels.  ``optional``: names that may be absent from this architecture; any other name
    must be in its table.  A foreign architecture (and x32 on x86_64) always kills.
    """

    arch: str
    rules: Mapping[str, Rule]
    default: Action = Errno(_errno.EPERM)
    unknown: Action = Errno(_errno.ENOSYS)
    optional: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for rule in self.rules.values():
            _rule(rule)
