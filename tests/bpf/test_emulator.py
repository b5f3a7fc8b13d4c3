"""The emulator refuses what the kernel refuses and computes what it computes."""

from __future__ import annotations

import struct

import pytest

from belljar.bpf import Action, FilterError, SeccompData, emulate, verify

DATA = SeccompData(1, 0xC000003E, (2, 3 << 32 | 4, 5, 6, 7, 8), instruction_pointer=9)
RET_A = (0x16, 0, 0, 0)


def program(*instructions: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in instructions)


def test_seccomp_data_is_laid_out_as_in_the_kernel() -> None:
    words = struct.unpack("<16I", DATA.pack())
    assert words[:6] == (1, 0xC000003E, 9, 0, 2, 0)
    assert words[6:8] == (4, 3)
    assert [emulate(program((0x20, 0, 0, 4 * at), RET_A), DATA).value for at in range(16)] == list(
        words
    )


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ([(0x00, 0, 0, 7), (0x04, 0, 0, 3)], 10),  # add
        ([(0x00, 0, 0, 7), (0x14, 0, 0, 8)], 0xFFFFFFFF),  # sub wraps
        ([(0x00, 0, 0, 7), (0x24, 0, 0, 3)], 21),  # mul
        ([(0x00, 0, 0, 7), (0x34, 0, 0, 2)], 3),  # div
        ([(0x00, 0, 0, 6), (0x44, 0, 0, 1)], 7),  # or
        ([(0x00, 0, 0, 6), (0x54, 0, 0, 3)], 2),  # and
        ([(0x00, 0, 0, 6), (0xA4, 0, 0, 3)], 5),  # xor
        ([(0x00, 0, 0, 1), (0x64, 0, 0, 31)], 0x80000000),  # lsh
        ([(0x00, 0, 0, 8), (0x74, 0, 0, 2)], 2),  # rsh
        ([(0x00, 0, 0, 1), (0x84, 0, 0, 0)], 0xFFFFFFFF),  # neg
        ([(0x80, 0, 0, 0)], 64),  # len
        ([(0x81, 0, 0, 0), (0x87, 0, 0, 0)], 64),  # ldx len, txa
        ([(0x01, 0, 0, 5), (0x03, 0, 0, 2), (0x60, 0, 0, 2)], 5),  # ldx imm, stx, ld mem
        ([(0x00, 0, 0, 5), (0x02, 0, 0, 1), (0x61, 0, 0, 1), (0x0C, 0, 0, 0)], 10),  # st, ldx mem
        ([(0x00, 0, 0, 4), (0x07, 0, 0, 0), (0x2C, 0, 0, 0)], 16),  # tax, mul X
        ([(0x00, 0, 0, 9), (0x01, 0, 0, 0), (0x3C, 0, 0, 0)], 0),  # div by X = 0 returns 0
    ],
)
def test_arithmetic(code: list[tuple[int, int, int, int]], wanted: int) -> None:
    whole = program(*code, RET_A)
    verify(whole)
    assert emulate(whole, DATA) == Action(wanted)


@pytest.mark.parametrize(
    ("op", "k", "taken"),
    [
        (0x15, 5, True),
        (0x15, 4, False),
        (0x25, 4, True),
        (0x25, 5, False),
        (0x35, 5, True),
        (0x35, 6, False),
        (0x45, 4, True),
        (0x45, 2, False),
    ],
)
def test_conditional_jumps(op: int, k: int, taken: bool) -> None:
    whole = program((0, 0, 0, 5), (op, 1, 0, k), (6, 0, 0, 0), (6, 0, 0, 1))
    verify(whole)
    assert emulate(whole, DATA) == Action(int(taken))


@pytest.mark.parametrize(
    ("code", "complaint"),
    [
        ([], "1 to 4096"),
        ([(6, 0, 0, 0)] * 4097, "1 to 4096"),
        ([(0x20, 0, 0, 0)], "must return"),
        ([(0x05, 0, 0, 1), (6, 0, 0, 0)], "leaves the program"),
        ([(0x05, 0, 0, 0xFFFFFFFF), (6, 0, 0, 0)], "leaves the program"),
        ([(0x15, 1, 0, 0), (6, 0, 0, 0)], "leaves the program"),
        ([(0x15, 0, 1, 0), (6, 0, 0, 0)], "leaves the program"),
        ([(0x20, 0, 0, 2), (6, 0, 0, 0)], "multiple of 4"),
        ([(0x20, 0, 0, 64), (6, 0, 0, 0)], "below 64"),
        ([(0x28, 0, 0, 0), (6, 0, 0, 0)], "not legal"),  # half-word load
        ([(0x94, 0, 0, 3), (6, 0, 0, 0)], "not legal"),  # mod is not in seccomp's list
        ([(0x34, 0, 0, 0), (6, 0, 0, 0)], "division by zero"),
        ([(0x64, 0, 0, 32), (6, 0, 0, 0)], "shift by 32"),
        ([(0x02, 0, 0, 16), (6, 0, 0, 0)], "memory slot 16"),
        ([(0x60, 0, 0, 3), (6, 0, 0, 0)], "unwritten"),
        ([(0x15, 0, 1, 0), (0x02, 0, 0, 3), (0x60, 0, 0, 3), RET_A], "unwritten"),
    ],
)
def test_the_verifier_refuses_what_the_kernel_refuses(
    code: list[tuple[int, int, int, int]], complaint: str
) -> None:
    with pytest.raises(FilterError, match=complaint):
        verify(program(*code))


def test_torn_programs_are_refused() -> None:
    with pytest.raises(FilterError, match="multiple of 8"):
        verify(b"\x06\0\0")
