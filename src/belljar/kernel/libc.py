"""System calls with Python errors.

The C library of the running process is reached through ctypes, because belljar ships no
compiled code; then a failed call raises ``OSError`` with errno and the call's name.
System call numbers above 424 are the same on every architecture; the few older ones that
the C library does not wrap stand in a table here.
"""

from __future__ import annotations

import ctypes
import os

from ..errors import UnsupportedError

libc = ctypes.CDLL(None, use_errno=True)
_syscall = libc.syscall
_syscall.restype = ctypes.c_long

MACHINE = os.uname().machine

_BY_MACHINE = {
    "x86_64": {"pivot_root": 155, "seccomp": 317, "capset": 126, "capget": 125, "clone": 56},
    "aarch64": {"pivot_root": 41, "seccomp": 277, "capset": 91, "capget": 90, "clone": 220},
}
_EVERYWHERE = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "pidfd_open": 434,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
}
SYSCALLS: dict[str, int] = {**_EVERYWHERE, **_BY_MACHINE.get(MACHINE, {})}


def check_machine() -> None:
    """Raise ``UnsupportedError`` on an architecture for which no filter is written."""
    if MACHINE not in _BY_MACHINE:
        raise UnsupportedError(
            [f"system call filters for the {MACHINE} architecture"],
            ["run belljar on x86_64 or aarch64"],
        )


def syscall(name: str, *args: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """Call the kernel by name.

    Integers are passed as C ``long``, because a plain Python int would be passed as a
    32-bit ``int`` and leave garbage above it; bytes and buffers as pointers, ``None`` as 0.
    Raises ``OSError`` with the call's name as its file name.
    """
    converted = [ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args]
    result = int(_syscall(ctypes.c_long(SYSCALLS[name]), *converted))
    if result < 0:
        raise failure(name)
    return result


def failure(name: str) -> OSError:
    """The ``OSError`` of the last failed call of this thread."""
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), name)
