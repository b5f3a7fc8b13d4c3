"""Namespaces: own views of users, mounts, processes, network, IPC and host name.

See namespaces(7), user_namespaces(7), pid_namespaces(7).
"""

from __future__ import annotations

import os
import sys
import time

from .libc import address, address_of, buffer, failure, libc
from .process import SIGKILL, close_from, die_with_parent, open_pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The C half, which every interpreter has loaded; the Python half would bring ``enum``.
_signal: Any = sys.modules["_signal"]

FLAGS: dict[str, int] = {
    "time": 0x00000080,
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
}
CLONE_PARENT = 0x00008000
CLONE_VM = 0x00000100
CLONE_FILES = 0x00000400
SIGCHLD = 17
_SIG_SETMASK = 2
_SIGNAL_SET_BYTES = 128  # sigset_t of the C library


def unshare(kinds: list[str]) -> None:
    """Leave the named namespaces for new ones, all in one call."""
    flags = 0
    for kind in kinds:
        flags |= FLAGS[kind]
    if libc.unshare(flags) < 0:
        raise failure("unshare " + "+".join(kinds))


def map_identity(
    inside_uid: int, inside_gid: int, outside_uid: int, outside_gid: int, proc_self: int
) -> None:
    """Give a new user namespace its one user and group, and no way to change groups.

    ``proc_self`` is a descriptor of this process's directory in a proc file system.
    """
    _write(proc_self, "setgroups", b"deny")
    _write(proc_self, "uid_map", b"%d %d 1" % (inside_uid, outside_uid))
    _write(proc_self, "gid_map", b"%d %d 1" % (inside_gid, outside_gid))
    if os.getuid() != inside_uid or os.getgid() != inside_gid:
        raise OSError(0, "the identity map did not take effect", "uid_map")


def set_host_name(name: bytes) -> None:
    """Name the machine, in this UTS namespace only."""
    if libc.sethostname(name, len(name)) < 0 or libc.setdomainname(b"(none)", 6) < 0:
        raise failure("sethostname")
    if os.uname().nodename.encode() != name:
        raise OSError(0, "the host name did not take effect", "sethostname")


def set_clocks(start_s: int, proc_self: int) -> float:
    """Let the monotonic and boot clocks show ``start_s`` in the new time namespace, just now.

    The namespace is the one that this process's next child is born into.  Returns how far its
    monotonic clock is ahead of this process's, in seconds.  See time_namespaces(7).
    """
    lines = b""
    ahead_s = 0.0
    for name, clock in ((b"boottime", time.CLOCK_BOOTTIME), (b"monotonic", time.CLOCK_MONOTONIC)):
        ahead_ns = start_s * 10**9 - time.clock_gettime_ns(clock)
        lines += b"%s %d %d\n" % (name, *divmod(ahead_ns, 10**9))
        ahead_s = ahead_ns / 1e9
    _write(proc_self, "timens_offsets", lines)
    with open(
        os.open("timens_offsets", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc_self), "rb"
    ) as file:
        if sorted(map(bytes.split, lines.splitlines())) != sorted(map(bytes.split, file)):
            raise OSError(0, "the clocks were not set", "timens_offsets")
    return ahead_s


class PidNamespaces:
    """New PID namespaces for children, and the way back to one's own.

    After ``enter_new`` the next child of this process is the first of a new namespace;
    ``leave`` returns to the process's own, without which a second namespace could not
    be made.
    """

    def __init__(self, proc: str) -> None:
        self._own = os.open(f"{proc}/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def enter_new(self) -> None:
        unshare(["pid"])

    def leave(self) -> None:
        if libc.setns(self._own, FLAGS["pid"]) < 0:
            raise failure("setns pid")


class ParkedInit:
    """The first process of a PID namespace, as a task that only sleeps.

    What: a clone that shares this process's memory and runs the C library's ``pause``.
    Because: the kernel ignores fatal signals to the first process of a PID namespace, so
    a guest in that place could not be ended by its own ``abort`` or ``kill``, and a crash
    would be told with the wrong signal.  Then: the guest comes second and dies as a
    process should, for 40 microseconds instead of a whole fork.
    Every signal is blocked in it, because it inherits the zygote's handlers and would run
    them in the zygote's memory.  It is reachable only by number from inside: the filter
    refuses that number, and tracing needs a capability that no guest has.
    """

    pidfd = -1  # nobody waits for it
    _STACK_BYTES = 64 * 1024  # pause needs a few hundred bytes; one page is too close

    def __init__(self) -> None:
        self._stack = buffer(self._STACK_BYTES)
        top = (address_of(self._stack) + self._STACK_BYTES - 256) & ~15
        # Descriptors are shared too, because a copy would keep pipes open that the zygote closed.
        flags = CLONE_VM | CLONE_FILES | SIGCHLD
        before = buffer(_SIGNAL_SET_BYTES)
        libc.pthread_sigmask(_SIG_SETMASK, b"\xff" * _SIGNAL_SET_BYTES, before)
        try:
            self.pid = libc.clone(address("pause"), top, flags, None)
            if self.pid < 0:
                raise failure("clone")
        finally:
            libc.pthread_sigmask(_SIG_SETMASK, before, None)

    def end(self) -> float:
        """Kill it, and with it everything in its namespace.  Returns 0: nobody had come to it."""
        os.kill(self.pid, SIGKILL)
        os.waitpid(self.pid, 0)
        return 0.0


class ReapingInit:
    """The first process of a PID namespace in which there will be several more.

    What: a fork of this process that waits for whatever ends in the namespace.  Because:
    processes whose parent has ended come to it, and one that nobody waits for counts against
    the limit for ever.  Then: it holds nothing of the zygote's, and dies with it.
    """

    def __init__(self) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            try:
                wait_for_all()
            finally:
                os._exit(1)
        try:
            self.pidfd = open_pidfd(self.pid)  # readable when all in the namespace have ended
        except OSError:
            os.kill(self.pid, SIGKILL)
            os.waitpid(self.pid, 0)
            raise

    def end(self) -> float:
        """Kill it, and with it everything in its namespace.

        Returns the processor time in seconds of those that had come to it.
        """
        os.close(self.pidfd)
        os.kill(self.pid, SIGKILL)
        _, _, usage = os.wait4(self.pid, 0)
        return usage.ru_utime + usage.ru_stime


def wait_for_all() -> None:
    """Collect every child that there will ever be; does not return."""
    die_with_parent(0)
    close_from(0)
    every = range(1, 65)
    _signal.pthread_sigmask(_signal.SIG_BLOCK, every)  # none shall run a handler of the zygote's
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            _signal.sigwait([_signal.SIGCHLD])


def _write(directory: int, name: str, data: bytes) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
