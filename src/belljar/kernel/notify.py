"""Asking a supervisor: a filter that hands some calls to whoever holds its listener.

What: the filter's ``NOTIFY`` makes a call wait until the listener's holder answers.  Because: a
filter is the same for ever, and some calls are to be allowed once, when the host says so.  Then:
the answer is by the kernel's own number of the waiting task and by the registers it came with,
which nobody can change while it waits.  See seccomp_unotify(2).
"""

from __future__ import annotations

import errno
import fcntl
import struct

from .._record import Record
from .libc import address_of, buffer, syscall
from .seccomp import SECCOMP_SET_MODE_FILTER, check_filter, refused_before

_NEW_LISTENER = 8  # SECCOMP_FILTER_FLAG_NEW_LISTENER
_CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_RECEIVE = 0xC050_2100  # SECCOMP_IOCTL_NOTIF_RECV, of 80 bytes
_SEND = 0xC018_2101  # SECCOMP_IOCTL_NOTIF_SEND, of 24 bytes
_PUT = 0x4018_2103  # SECCOMP_IOCTL_NOTIF_ADDFD, of 24 bytes
_AT_NUMBER = 1  # SECCOMP_ADDFD_FLAG_SETFD
_ASKED = struct.Struct("=QIIiIQ6Q")  # id, pid, flags, then seccomp_data


class Asked(Record):
    """One call that waits: its number on the listener, the task, the first argument.

    ``task`` is the thread's number in this process's PID namespace.
    """

    number: int
    task: int
    first: int


def install_listened(program: bytes) -> int:
    """Put a filter on this thread, for ever, and return the listener of its ``NOTIFY``.

    Raises ``OSError``; EBUSY where an older filter has a listener already.
    """
    calls = refused_before()
    code = buffer(program)
    header = struct.pack("HxxxxxxQ", len(program) // 8, address_of(code))
    listener = syscall("seccomp", SECCOMP_SET_MODE_FILTER, _NEW_LISTENER, header)
    check_filter(calls)
    return listener


def receive(listener: int) -> Asked | None:
    """The next call that waits; None where it was given up meanwhile.  Waits for one."""
    space = bytearray(_ASKED.size)
    try:
        fcntl.ioctl(listener, _RECEIVE, space)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINTR):
            return None
        raise
    number, task, _, _, _, _, first, *_ = _ASKED.unpack(space)
    return Asked(number, task, first)


def answer(listener: int, asked: Asked, *, go_on: bool) -> bool:
    """Let the call happen, or fail with EPERM.  False where nobody waits for it any more."""
    return _send(listener, asked, (0, 0, _CONTINUE) if go_on else (0, -errno.EPERM, 0))


def give(listener: int, asked: Asked, descriptors: dict[int, int]) -> bool:
    """Put descriptors into the process that waits, at these numbers, and let its call return 0.

    ``descriptors`` are number there -> descriptor here; what was there is closed.  The call
    itself does not happen.  Linux 5.9.  False where nobody waits for it any more.
    """
    for number, fd in descriptors.items():
        words = (asked.number, _AT_NUMBER, fd, number, 0)
        try:
            fcntl.ioctl(listener, _PUT, bytearray(struct.pack("=QIIII", *words)))
        except OSError as error:
            if error.errno == errno.ENOENT:
                return False
            error.filename = "seccomp_unotify"
            raise
    return _send(listener, asked, (0, 0, 0))


def _send(listener: int, asked: Asked, words: tuple[int, int, int]) -> bool:
    try:
        fcntl.ioctl(listener, _SEND, bytearray(struct.pack("=QqiI", asked.number, *words)))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        error.filename = "seccomp_unotify"
        raise
    return True
