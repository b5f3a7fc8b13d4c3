"""Attacks at the level of system calls, and the same probes outside for comparison.

What: a prelude that gives guest code ``call(name, ...)``, the raw system call by ctypes, and
ways to run such code: in a guest without the Python layer, in a guest with one wall taken
away, in a plain process.  Because: the attacker has native code, so nothing that happens in
Python is a defence; and because a probe that fails everywhere proves nothing.  Then: an
attack says what the kernel answered, wall by wall, and a harmless probe shows outside that
it can succeed.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import belljar
from belljar import Policy, Result
from belljar.api import machine
from belljar.bpf.syscalls import arch
from belljar.kernel.libc import MACHINE

NUMBERS: dict[str, int] = arch(MACHINE).table
TIMEOUT_S = 120  # of a plain process; only a hang takes so long

PRELUDE = """\
import ctypes as _ctypes, errno as _errno, os

_syscall = _ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = _ctypes.c_long

def call(name, *arguments):
    '''The raw system call: its result, or the name of its error.'''
    if name not in NUMBERS:
        return "ENOSYS"  # the architecture never had it
    words = [_ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = _syscall(_ctypes.c_long(NUMBERS[name]), *words)
    return _errno.errorcode[_ctypes.get_errno()] if result == -1 else result

def attempt(act, *arguments, **named):
    '''What a Python call gave, or the name of its error.'''
    try:
        return act(*arguments, **named)
    except OSError as error:
        return _errno.errorcode.get(error.errno, type(error).__name__)
    except Exception as error:
        return type(error).__name__

def buffer(size_or_bytes):
    return _ctypes.create_string_buffer(size_or_bytes)

AT = -100  # AT_FDCWD
"""

# Every refusal that a missing right can look like.
REFUSED = {"EPERM", "EACCES", "ENOSYS", "ENOENT", "EROFS", "EXDEV", "ESRCH", "EINVAL", "EBADF"}
REFUSED |= {"EAFNOSUPPORT", "EAGAIN", "ENOTDIR", "ENETUNREACH", "ECONNREFUSED", "EOPNOTSUPP"}
REFUSED |= {"ELOOP"}


def attack(code: str, policy: Policy | None = None, **arguments: Any) -> Result:
    """Run code after the prelude in a guest.  ``inputs`` may be given as for ``run``."""
    inputs = {"NUMBERS": NUMBERS, **arguments.pop("inputs", {})}
    return belljar.run(PRELUDE + code, policy, inputs=inputs, name="attack.py", **arguments)


def outcome(code: str, policy: Policy | None = None, **arguments: Any) -> Any:
    """The value of an attack that comes to its end and tells what it found."""
    result = attack(code, policy, **arguments)
    assert result.status == "ok", (result.status, result.limit, result.signal, result.error)
    assert result.value_error is None, result.value_error
    return result.value


_OUTSIDE = """
import json, sys
PRELUDE, NUMBERS, inputs, code = json.load(sys.stdin)
import ast
space = {"NUMBERS": NUMBERS, **inputs}
tree = ast.parse(PRELUDE + code)
last = ast.Expression(tree.body.pop().value)
exec(compile(tree, "probe.py", "exec"), space)
json.dump(eval(compile(last, "probe.py", "eval"), space), sys.stdout)
"""


def outside(code: str, inputs: dict[str, Any] | None = None) -> Any:
    """The value of a *harmless* probe in a plain process, to show that it can succeed."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", _OUTSIDE],
        input=json.dumps([PRELUDE, NUMBERS, inputs or {}, code]),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def without(*verbs: str) -> Iterator[None]:
    """Guests confined by all steps of their plan but these, to test the walls that remain."""
    original = machine._prepare

    def weakened(policy: Policy, support: Any, preload: Any = ()) -> machine.Prepared:
        prepared = original(policy, support)
        kept = [step for step in prepared.steps if step[0] not in verbs]
        assert len(kept) == len(prepared.steps) - len(verbs), "no such step in the plan"
        prepared.steps = kept
        return prepared

    machine._known.prepared.clear()
    machine._prepare = weakened
    try:
        yield
    finally:
        machine._prepare = original
        machine._known.prepared.clear()


@contextmanager
def no_namespaces() -> Iterator[None]:
    """A machine that has no namespaces to give, as far as plans know.

    Guests are confined for real, as on such a machine; only the finding is made up.
    """
    machine._known.prepared.clear()
    before = machine._known.support, machine._known.probed
    machine._known.support = machine.support().replace(
        namespaces=frozenset(), mounts=False, proc=False
    )
    machine._known.probed = True
    try:
        yield
    finally:
        machine._known.support, machine._known.probed = before
        machine._known.prepared.clear()


def landlock_abi() -> int:
    """The kernel's Landlock version, 0 without."""
    return machine.support().landlock_abi


def libc() -> ctypes.CDLL:
    """The C library of the test's own process."""
    return ctypes.CDLL(None, use_errno=True)
