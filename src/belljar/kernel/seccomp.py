"""Installing a compiled filter.  See seccomp(2); the programs are made in ``bpf``."""

from __future__ import annotations

import errno
import struct

from .libc import address_of, buffer, errno_of_last, libc, syscall
from .process import prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_GET_ACTION_AVAIL = 2
PR_GET_SECCOMP = 21
_MODE_FILTER = 2
RET_KILL_PROCESS = 0x80000000
RET_USER_NOTIF = 0x7FC00000


def install_filter(program: bytes) -> None:
    """Put a filter on this thread, for ever.  ``program`` is packed ``sock_filter``s.

    No new privileges must be set before.  The effect is checked with a call that does
    nothing and that every filter of belljar's answers with EPERM; where an older filter,
    such as a container's, does so already, with another one.
    """
    calls = refused_before()
    code = buffer(program)
    header = struct.pack("HxxxxxxQ", len(program) // 8, address_of(code))
    syscall("seccomp", SECCOMP_SET_MODE_FILTER, 0, header)
    check_filter(calls)


def refused_before() -> list[Callable[[], int]]:
    """The calls by which a new filter shows, because no older one answers them with EPERM."""
    return [call for call in (_unshare_nothing, _lock_nothing) if call() != errno.EPERM]


def check_filter(calls: list[Callable[[], int]]) -> None:
    """Raise ``OSError`` where these calls do not show the new filter."""
    if prctl(PR_GET_SECCOMP) != _MODE_FILTER or any(call() != errno.EPERM for call in calls):
        raise OSError(0, "the filter did not take effect", "seccomp")


def _unshare_nothing() -> int:
    """The errno of unshare(2) without flags: 0 but for filters."""
    return 0 if libc.unshare(0) == 0 else errno_of_last()


def _lock_nothing() -> int:
    """The errno of mlockall(2) without flags: EINVAL but for filters."""
    return 0 if libc.mlockall(0) == 0 else errno_of_last()


def action_available(action: int) -> bool:
    """Whether the kernel knows a filter action; False also where seccomp is missing."""
    try:
        syscall("seccomp", SECCOMP_GET_ACTION_AVAIL, 0, struct.pack("I", action))
    except OSError:
        return False
    return True
