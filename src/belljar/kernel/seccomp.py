"""Installing a compiled filter.  See seccomp(2); the programs are made in ``bpf``."""

from __future__ import annotations

import ctypes
import errno
import struct

from .libc import libc, syscall

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_GET_ACTION_AVAIL = 2
RET_KILL_PROCESS = 0x80000000
RET_USER_NOTIF = 0x7FC00000


def install_filter(program: bytes) -> None:
    """Put a filter on this thread, for ever.  ``program`` is packed ``sock_filter``s.

    No new privileges must be set before.  The effect is checked with ``unshare(0)``,
    because that call does nothing and succeeds for everyone without a filter.
    """
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    syscall("seccomp", SECCOMP_SET_MODE_FILTER, 0, header)
    if libc.unshare(0) == 0 or ctypes.get_errno() != errno.EPERM:
        raise OSError(0, "the filter did not take effect", "seccomp")


def action_available(action: int) -> bool:
    """Whether the kernel knows a filter action; False also where seccomp is missing."""
    try:
        syscall("seccomp", SECCOMP_GET_ACTION_AVAIL, 0, struct.pack("I", action))
    except OSError:
        return False
    return True
