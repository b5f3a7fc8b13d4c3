"""A seccomp machine without a kernel.

What: ``verify`` checks a program as the kernel does before it accepts one, ``emulate``
gives its verdict on one call.  Because: a filter must be tested for calls that nobody
dares to make, for the other architecture, and in milliseconds.  Then: the tests compare
``emulate`` with a direct reading of the expressions, and a few real children compare it
with the kernel.

Sources: ``seccomp_check_filter`` in ``kernel/seccomp.c``, ``bpf_check_classic`` and
``check_load_and_stores`` in ``net/core/filter.c``; seccomp(2).
"""

from __future__ import annotations

import struct

from .._record import Record
from .expr import Action
from .features import FilterError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Instruction: TypeAlias = tuple[int, int, int, int]  # code, jt, jf, k

MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS
DATA_SIZE = 64  # sizeof(struct seccomp_data)
_SLOTS = 16  # BPF_MEMWORDS
_WORD = 0xFFFF_FFFF

_LD_ABS, _LD_LEN, _LD_IMM, _LD_MEM = 0x20, 0x80, 0x00, 0x60
_LDX_LEN, _LDX_IMM, _LDX_MEM = 0x81, 0x01, 0x61
_ST, _STX, _TAX, _TXA = 0x02, 0x03, 0x07, 0x87
_RET_K, _RET_A, _JA = 0x06, 0x16, 0x05
# operation bits -> name; the source bit 0x08 says X instead of K
_ALU = {
    0x04: "add",
    0x14: "sub",
    0x24: "mul",
    0x34: "div",
    0x44: "or",
    0x54: "and",
    0x64: "lsh",
    0x74: "rsh",
    0xA4: "xor",
}
_NEG = 0x84
_JUMPS = {0x15: "jeq", 0x25: "jgt", 0x35: "jge", 0x45: "jset"}
_LEGAL = frozenset(
    [
        *(_LD_ABS, _LD_LEN, _LD_IMM, _LD_MEM, _LDX_LEN, _LDX_IMM, _LDX_MEM),
        *(_ST, _STX, _TAX, _TXA, _RET_K, _RET_A, _JA, _NEG),
        *(op | source for op in (*_ALU, *_JUMPS) for source in (0, 8)),
    ]
)


class SeccompData(Record):
    """``struct seccomp_data``: what the kernel shows a filter.  All unsigned."""

    nr: int
    arch: int
    args: tuple[int, int, int, int, int, int] = (0, 0, 0, 0, 0, 0)
    instruction_pointer: int = 0

    def pack(self) -> bytes:
        """The 64 bytes the program loads from (little-endian)."""
        return struct.pack("<IIQ6Q", self.nr, self.arch, self.instruction_pointer, *self.args)


def decode(program: bytes) -> list[Instruction]:
    """The instructions (code, jt, jf, k) of a program.  ``FilterError`` if it is torn."""
    if len(program) % 8:
        raise FilterError(f"a program is a multiple of 8 bytes, this one has {len(program)}")
    return list(struct.iter_unpack("<HBBI", program))


def verify(program: bytes) -> None:
    """Raise ``FilterError`` where the kernel would answer ``EINVAL``; else return."""
    code = decode(program)
    if not 1 <= len(code) <= MAX_INSTRUCTIONS:
        raise FilterError(f"a program has 1 to {MAX_INSTRUCTIONS} instructions, not {len(code)}")
    for pc, (op, jt, jf, k) in enumerate(code):
        problem = _problem(op, jt, jf, k, len(code) - pc - 1)
        if problem:
            raise FilterError(f"instruction {pc}: {problem}")
    if code[-1][0] not in (_RET_K, _RET_A):
        raise FilterError("the last instruction must return")
    _check_memory(code)


def _problem(op: int, jt: int, jf: int, k: int, left: int) -> str:
    """What is wrong with one instruction that has ``left`` others behind it, or nothing."""
    if op not in _LEGAL:
        return f"opcode {op:#x} is not legal in seccomp"
    if op == _LD_ABS and (k % 4 or k >= DATA_SIZE):
        return f"load at {k}, must be a multiple of 4 below {DATA_SIZE}"
    if op in (_LD_MEM, _LDX_MEM, _ST, _STX) and k >= _SLOTS:
        return f"memory slot {k}, there are {_SLOTS}"
    if op == 0x34 and k == 0:
        return "division by zero"
    if op in (0x64, 0x74) and k >= 32:
        return f"shift by {k}"
    if op == _JA and k >= left:
        return f"jump by {k} leaves the program"
    if op & ~8 in _JUMPS and max(jt, jf) >= left:
        return f"jump by {max(jt, jf)} leaves the program"
    return ""


def _check_memory(code: list[Instruction]) -> None:
    """No slot may be read that some path has not written."""
    everything = (1 << _SLOTS) - 1
    written = [everything] * (len(code) + 1)
    written[0] = 0
    for pc, (op, jt, jf, k) in enumerate(code):
        have = written[pc]
        following = [pc + 1]
        if op in (_ST, _STX):
            have |= 1 << k
        elif op in (_LD_MEM, _LDX_MEM):
            if not have >> k & 1:
                raise FilterError(f"instruction {pc}: memory slot {k} may be unwritten")
        elif op == _JA:
            following = [pc + 1 + k]
        elif op & ~8 in _JUMPS:
            following = [pc + 1 + jt, pc + 1 + jf]
        elif op in (_RET_K, _RET_A):
            following = []
        for target in following:
            written[target] &= have


def emulate(program: bytes, data: SeccompData) -> Action:
    """The program's verdict on one call.  ``verify`` it first: this trusts it."""
    code = decode(program)
    words: tuple[int, ...] = struct.unpack("<16I", data.pack())
    a = x = pc = 0
    slots = [0] * _SLOTS
    while True:
        op, jt, jf, k = code[pc]
        pc += 1
        if op == _LD_ABS:
            a = words[k // 4]
        elif op & ~8 in _JUMPS:
            pc += jt if _holds(op & ~8, a, x if op & 8 else k) else jf
        elif op == _RET_K:
            return Action(k)
        elif op == _RET_A:
            return Action(a)
        elif op == _JA:
            pc += k
        elif op & ~8 in _ALU:
            operand = x if op & 8 else k
            if operand == 0 and op & ~8 == 0x34:  # division by X = 0 ends the program with 0
                return Action(0)
            a = _compute(op & ~8, a, operand) & _WORD
        elif op == _NEG:
            a = -a & _WORD
        elif op in (_LD_IMM, _LD_LEN, _LD_MEM):
            a = k if op == _LD_IMM else DATA_SIZE if op == _LD_LEN else slots[k]
        elif op in (_LDX_IMM, _LDX_LEN, _LDX_MEM):
            x = k if op == _LDX_IMM else DATA_SIZE if op == _LDX_LEN else slots[k]
        elif op == _ST:
            slots[k] = a
        elif op == _STX:
            slots[k] = x
        elif op == _TAX:
            x = a
        elif op == _TXA:
            a = x
        else:
            raise FilterError(f"instruction {pc - 1}: opcode {op:#x} is not legal in seccomp")


def _holds(op: int, a: int, operand: int) -> bool:
    if op == 0x15:
        return a == operand
    if op == 0x25:
        return a > operand
    if op == 0x35:
        return a >= operand
    return bool(a & operand)


def _compute(op: int, a: int, operand: int) -> int:
    name = _ALU[op]
    if name == "add":
        return a + operand
    if name == "sub":
        return a - operand
    if name == "mul":
        return a * operand
    if name == "div":
        return a // operand
    if name == "or":
        return a | operand
    if name == "and":
        return a & operand
    if name == "xor":
        return a ^ operand
    shift = operand & 31  # a shift by X takes its low five bits
    return a << shift if name == "lsh" else a >> shift
