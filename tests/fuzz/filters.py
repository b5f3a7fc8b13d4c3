"""Random filters: what the expression says, what the emulator says, what the kernel does.

What: a rule for one harmless system call, made together with a function that decides it; the
rule is compiled, emulated, and installed in a child that makes the call with many arguments.
Because: the emulator is how filters are tested without a kernel, so it must be one.  Then:
all three agree on every call.  Any arguments do: ``getppid`` takes none and ignores them.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import random
import struct
import warnings
from collections.abc import Callable
from typing import Any

from belljar.bpf import ALLOW, Arg, Errno, Filter, If, SeccompData, arch, compile_filter, emulate

CALL = "getppid"
CALLS = 60  # of each filter
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_EDGES = [0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF]

Args = tuple[int, int, int, int, int, int]
Decide = Callable[[Args], bool]


def _number(rng: random.Random, width: int) -> int:
    if rng.random() < 0.3:
        return rng.randrange(1 << width)
    low, high = rng.choice(_EDGES), rng.choice(_EDGES)
    return low if width == 32 else high << 32 | low


def _comparison(rng: random.Random) -> tuple[Any, Decide]:
    width, index = rng.choice([32, 64]), rng.randrange(3)
    arg, mask = Arg(index, width), (1 << width) - 1
    if rng.random() < 0.4:
        mask = rng.choice([_number(rng, width), 1 << rng.randrange(width)])
        arg = arg & mask
    within = [_number(rng, width) & mask for _ in range(rng.randint(1, 6))]
    number = within[0]

    def value(args: Args) -> int:
        return args[index] & mask

    tests: list[tuple[Any, Decide]] = [
        (arg == number, lambda args: value(args) == number),
        (arg != number, lambda args: value(args) != number),
        (arg < number, lambda args: value(args) < number),
        (arg <= number, lambda args: value(args) <= number),
        (arg > number, lambda args: value(args) > number),
        (arg >= number, lambda args: value(args) >= number),
        (arg.is_in(within), lambda args: value(args) in within),
        (arg.has_only(number), lambda args: value(args) & ~number == 0),
    ]
    return rng.choice(tests)


def _condition(rng: random.Random, depth: int) -> tuple[Any, Decide]:
    if not depth or rng.random() < 0.4:
        return _comparison(rng)
    left, a = _condition(rng, depth - 1)
    right, b = _condition(rng, depth - 1)
    made: list[tuple[Any, Decide]] = [
        (left & right, lambda args: a(args) and b(args)),
        (left | right, lambda args: a(args) or b(args)),
        (~left, lambda args: not a(args)),
    ]
    return rng.choice(made)


def _rule(rng: random.Random, depth: int) -> tuple[Any, Callable[[Args], int]]:
    """A rule, and the errno that it gives: 0 where it allows."""
    if not depth or rng.random() < 0.2:
        number = rng.choice([0, 1, 38, 4095])
        return (Errno(number) if number else ALLOW), lambda _: number
    condition, holds = _condition(rng, 3)
    then, a = _rule(rng, depth - 1)
    otherwise, b = _rule(rng, depth - 1)
    return If(condition, then).else_(otherwise), lambda args: a(args) if holds(args) else b(args)


def _arguments(rng: random.Random) -> Args:
    a, b, c, d, e, f = (_number(rng, 64) for _ in range(6))
    return a, b, c, d, e, f


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _in_the_kernel(code: bytes, number: int, calls: list[Args]) -> list[int]:
    """The errno of each call, in a child under the filter."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    program = _Program(len(code) // 8, code)
    r, w = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the watchdog's thread
        pid = os.fork()
    if pid == 0:
        try:
            found = [libc.prctl(38, 1, 0, 0, 0), libc.prctl(22, 2, ctypes.byref(program), 0, 0)]
            for args in calls if not any(found) else ():
                ctypes.set_errno(0)
                result = libc.syscall(ctypes.c_long(number), *map(ctypes.c_ulong, args))
                found.append(ctypes.get_errno() if result < 0 else 0)
            os.write(w, json.dumps(found).encode())
        finally:
            os._exit(0)
    os.close(w)
    with os.fdopen(r, "rb") as file:
        text = file.read()
    os.waitpid(pid, 0)
    installed, found = json.loads(text)[:2], json.loads(text)[2:]
    assert installed == [0, 0], f"the kernel does not take the filter: {installed}"
    return [int(number) for number in found]


def target(rng: random.Random) -> None:
    """One filter, many calls: three answers that agree."""
    machine = platform.machine()
    number = arch(machine).table[CALL]
    rule, decides = _rule(rng, 3)
    code = compile_filter(Filter(machine, {CALL: rule}, default=ALLOW, unknown=ALLOW))
    calls = [_arguments(rng) for _ in range(CALLS)]
    wanted = [decides(args) for args in calls]
    for args, expected in zip(calls, wanted, strict=True):
        action = emulate(code, SeccompData(number, _AUDIT[machine], args))
        said = struct.pack(">I", action.value)
        told = int.from_bytes(said[2:], "big") if said[:2] == b"\x00\x05" else 0
        assert told == expected, f"emulator {action}, expected errno {expected} of {args}: {rule}"
    assert _in_the_kernel(code, number, calls) == wanted, f"the kernel differs: {rule}"
