"""Filters and programs for the eye.

What: ``describe`` prints a filter's rules, ``disassemble`` a compiled program with the
names of calls, constants and arguments put back.  Because: a filter is reviewed by
people, and a change of it must show up as a readable difference.  Then: the golden files
of the tests and ``belljar explain --filter`` are made of both.
"""

from __future__ import annotations

from .emulator import decode
from .expr import Action
from .syscalls import X32_BIT, arch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from .expr import Filter
    from .syscalls import Arch

    Instruction: TypeAlias = tuple[int, int, int, int]

_WIDTH = 96
_LD, _AND, _JA, _RET = 0x20, 0x54, 0x05, 0x06
_TESTS = {0x15: "==", 0x25: ">", 0x35: ">=", 0x45: "&"}


def describe(filter_: Filter) -> str:
    """The rules of ``filter_`` as text: unconditional calls by action, then the others."""
    table = arch(filter_.arch).table
    by_action: dict[str, list[str]] = {}
    checked: list[str] = []
    for name in sorted(table):
        rule = filter_.rules.get(name)
        if rule is None:
            continue
        if isinstance(rule, Action):
            by_action.setdefault(str(rule), []).append(name)
        else:
            checked.append(f"{name}:")
            checked.extend(f"    {part}" for part in str(rule).split("; "))
    lines = [f"filter for {filter_.arch}"]
    for action in sorted(by_action):
        lines += ["", f"{action}:", *_wrap(by_action[action])]
    lines += ["", "by argument:", *(f"    {line}" for line in checked)]
    lines += ["", f"every other known call: {filter_.default}"]
    lines += [f"numbers without a name: {filter_.unknown}"]
    lines += ["foreign architectures: KILL_PROCESS"]
    return "\n".join(lines) + "\n"


def listing(filter_: Filter) -> str:
    """The whole of a filter for review: its rules, then the program they compile to."""
    from .compiler import compile_filter

    return f"{describe(filter_)}\n{disassemble(compile_filter(filter_), filter_.arch)}"


def disassemble(program: bytes, arch_name: str) -> str:
    """A listing of ``program`` for the architecture: one line per instruction.

    A comment above the first instruction of a rule names the calls that lead to it.
    """
    code = decode(program)
    target = arch(arch_name)
    entries = _entries(code, target)
    holding = _holding(code)
    lines: list[str] = []
    for pc, instruction in enumerate(code):
        names = entries.get(pc)
        if names:
            lines += [f"; {line.strip()}" for line in _wrap(names)]
        lines.append(f"{pc:4}  {_line(pc, instruction, holding[pc], target)}")
    return "\n".join(lines) + "\n"


def _wrap(names: list[str]) -> list[str]:
    lines: list[str] = []
    line = "   "
    for name in names:
        if len(line) + 1 + len(name) > _WIDTH:
            lines.append(line)
            line = "   "
        line += f" {name}"
    return [*lines, line]


def _word(offset: int) -> str:
    """The name of the word at ``offset`` of struct seccomp_data."""
    if offset < 16:
        return ("nr", "arch", "ip.low", "ip.high")[offset // 4]
    half = "high" if offset & 4 else "low"
    return f"arg{(offset - 16) // 8}.{half}"


def _line(pc: int, instruction: Instruction, holding: str, target: Arch) -> str:
    op, jt, jf, k = instruction
    if op == _LD:
        return f"A = {_word(k)}"
    if op == _AND:
        return f"A &= {k:#x}"
    if op == _JA:
        return f"goto {pc + 1 + k}"
    if op == _RET:
        return f"return {Action(k)}"
    if op in _TESTS:
        return (
            f"if {holding} {_TESTS[op]} {_constant(holding, k, target)}"
            f" goto {pc + 1 + jt} else {pc + 1 + jf}"
        )
    return f"code {op:#04x} jt {jt} jf {jf} k {k:#x}"


def _constant(holding: str, k: int, target: Arch) -> str:
    if holding == "arch" and k == target.audit:
        return target.name
    if holding == "nr" and k != X32_BIT:
        name = next((name for name, number in target.table.items() if number == k), "")
        return f"{k} ({name})" if name else str(k)
    return hex(k) if k > 9 else str(k)


def _holding(code: list[Instruction]) -> list[str]:
    """What A holds before each instruction: the name of a word, or ``A`` where unsure."""
    states: list[str | None] = [None] * (len(code) + 1)
    states[0] = "A"
    for pc, (op, jt, jf, k) in enumerate(code):
        before = after = states[pc] or "A"
        following = [pc + 1]
        if op == _LD:
            after = _word(k)
        elif op == _AND:
            after = f"({before} & {k:#x})"
        elif op == _JA:
            following = [pc + 1 + k]
        elif op in _TESTS:
            following = [pc + 1 + jt, pc + 1 + jf]
        elif op == _RET:
            following = []
        else:
            after = "A"
        for place in following:
            states[place] = after if states[place] in (None, after) else "A"
    return [state or "A" for state in states]


def _entries(code: list[Instruction], target: Arch) -> dict[int, list[str]]:
    """First instruction that looks at arguments, or the return -> calls that end up there."""
    found: dict[int, list[str]] = {}
    for name, number in target.table.items():
        pc = value = 0
        while pc < len(code):
            op, jt, jf, k = code[pc]
            if op == _LD and k in (0, 4):
                value = number if k == 0 else target.audit
                pc += 1
            elif op == _JA:
                pc += 1 + k
            elif op in _TESTS:
                yes = (value == k, value > k, value >= k, bool(value & k))
                pc += 1 + (jt if yes[list(_TESTS).index(op)] else jf)
            else:
                break
        found.setdefault(pc, []).append(name)
    for names in found.values():
        names.sort()
    return found
