"""What a process says about itself to the kernel: prctl, pidfd, descriptors, sessions.

See prctl(2), pidfd_open(2), close_range(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import sys

from .libc import address, address_of, buffer, failure, libc, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# The C half, which every interpreter has loaded; the Python half would bring ``enum``.
_signal: Any = sys.modules["_signal"]

PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_TIMERSLACK = 29
PR_GET_TIMERSLACK = 30
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39
PR_SET_THP_DISABLE = 41
PR_GET_THP_DISABLE = 42
SIGKILL = 9
SIGCONT = 18
SIGSTOP = 19
_SIGIO = 29
TIMER_SLACK_NS = 50_000


def prctl(option: int, a: int = 0, b: int = 0) -> int:
    """prctl(2) with unused arguments zero, as the newer options demand."""
    result = libc.prctl(option, a, b, 0, 0)
    if result < 0:
        raise failure("prctl")
    return result


def set_no_new_privs() -> None:
    """No exec can ever raise privileges again; needed by seccomp and Landlock."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    if prctl(PR_GET_NO_NEW_PRIVS) != 1:
        raise OSError(0, "no_new_privs did not take effect", "prctl")


def set_dumpable(dumpable: bool) -> None:
    """Whether others of the same user may trace this process and read its memory."""
    prctl(PR_SET_DUMPABLE, 1 if dumpable else 0)
    if prctl(PR_GET_DUMPABLE) != (1 if dumpable else 0):
        raise OSError(0, "dumpable did not take effect", "prctl")


def die_with_parent(parent_pid: int) -> None:
    """SIGKILL this process when the thread that made it ends.

    ``parent_pid`` is what ``getppid`` must still say afterwards (0 when the parent is in
    an outer PID namespace): a parent that died before the call would never be noticed.
    """
    prctl(PR_SET_PDEATHSIG, SIGKILL)
    if os.getppid() != parent_pid:
        os._exit(1)


def end_with_socket(fd: int) -> None:
    """End this process when the other end of a socket is closed, or sends anything.

    What: SIGIO for the socket, and the C library's ``_exit`` as its handler.  Because: the
    parent-death signal comes when a *thread* ends, a thread of our own would be in the way of
    forks, and the first process of a PID namespace ignores a signal without a handler.  Then:
    code that never returns is ended too.  ``outlive_socket`` takes it back.
    """
    libc.signal(_SIGIO, address("_exit"))
    fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(fd, 0)
    if poll.poll(0):
        os._exit(1)  # closed before anybody told us


def outlive_socket(fd: int) -> None:
    """Take back ``end_with_socket``."""
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_ASYNC)
    if not callable(_signal.getsignal(_signal.SIGIO)):  # else whoever set it wants it
        libc.signal(_SIGIO, 0)


def refuse_huge_pages() -> None:
    """No transparent huge pages, in what this process starts too.

    A guest that keeps one small page of each huge one would hold 512 times what its
    limits count.  See PR_SET_THP_DISABLE in prctl(2).
    """
    prctl(PR_SET_THP_DISABLE, 1)
    if prctl(PR_GET_THP_DISABLE) != 1:
        raise OSError(0, "huge pages are still given", "prctl")


def become(uid: int, gid: int) -> None:
    """Give up being root for an ordinary user, for ever.

    Raises ``OSError`` named ``kill`` where whoever is left behind as root could not end this
    process any more, because that takes ``CAP_KILL``.
    """
    from . import caps  # which needs this module

    can_be_ended = caps.held() & caps.KILL
    try:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        error.filename = "setresuid"
        raise
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        raise OSError(0, "the change of user did not take effect", "setresuid")
    if not can_be_ended:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), "kill")
    set_dumpable(True)  # else the new user could not write its own identity map


def reset_personality() -> None:
    """The plain Linux execution domain, from the next exec on.

    A host started under READ_IMPLIES_EXEC would hand on a flag that makes every readable
    mapping executable, which no filter sees.  See personality(2).
    """
    # Some service managers refuse the call altogether, the question included; then the
    # kernel's own file says whether there was anything to reset.
    libc.personality(0)
    with open("/proc/self/personality", "rb") as file:
        if int(file.read(), 16) != 0:
            raise OSError(0, "the execution domain is not the plain one", "personality")


def set_name(name: bytes) -> None:
    """The name that ``ps`` shows, 15 bytes at most."""
    text = buffer(name[:15] + b"\0")
    prctl(PR_SET_NAME, address_of(text))


def reset_timer_slack() -> None:
    """What most systems have, whatever this host has.  See PR_SET_TIMERSLACK in prctl(2)."""
    prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS)
    if prctl(PR_GET_TIMERSLACK) != TIMER_SLACK_NS:
        raise OSError(0, "the timer slack did not take effect", "prctl")


def open_pidfd(pid: int) -> int:
    """A descriptor for a process: it never names another one, whatever pids are reused."""
    return syscall("pidfd_open", pid, 0)


def signal_pidfd(pidfd: int, number: int) -> bool:
    """Send a signal.  False if the process has ended already."""
    try:
        syscall("pidfd_send_signal", pidfd, number, None, 0)
    except ProcessLookupError:
        return False
    return True


def descriptor_of(pidfd: int, number: int) -> int:
    """A copy of another process's descriptor.  See pidfd_getfd(2); it takes the right to trace."""
    return syscall("pidfd_getfd", pidfd, number, 0)


def close_from(first: int) -> None:
    """Close every descriptor from ``first`` on, without walking ``/proc``."""
    try:
        syscall("close_range", first, 0xFFFFFFFF, 0)
    except OSError:
        os.closerange(first, 1 << 16)


def write_to_guest(fd: int, data: bytes | memoryview) -> int:
    """``os.write`` to a pipe that a guest may close, which must not end the application.

    Where SIGPIPE has its default action, closing a pipe kills whoever writes to it.  Sockets
    have MSG_NOSIGNAL against that, and pipes have nothing.
    """
    if _signal.getsignal(_signal.SIGPIPE) is _signal.SIG_IGN:  # Python's own way
        return os.write(fd, data)
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, [_signal.SIGPIPE])
    try:
        return os.write(fd, data)
    except BrokenPipeError:
        if _signal.SIGPIPE not in before:
            _signal.sigtimedwait([_signal.SIGPIPE], 0)
        raise
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, before)


def keep_only(descriptors: list[int]) -> None:
    """Move these descriptors to 0, 1, 2, … in order and close all others.

    Each comes out inheritable; a listed descriptor may stand anywhere before.
    """
    # Copies above every target first, because a target may be a source still needed.
    lifted = [fcntl.fcntl(fd, fcntl.F_DUPFD, 64) for fd in descriptors]
    for target, fd in enumerate(lifted):
        os.dup2(fd, target, inheritable=True)
    close_from(len(descriptors))


def boot(search: list[str], statement: str) -> str:
    """Code for ``python -c``: a statement, with belljar found in one of the directories."""
    return f"import sys; sys.path[:0] = {search!r}; {statement}"


def fresh_python(statement: str) -> tuple[str, list[str]]:
    """Path and arguments of this program's own Python, isolated, to execute a statement."""
    python: str = getattr(sys, "_base_executable", None) or sys.executable
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    flags = ["-I", "-S", *(["-B"] if sys.dont_write_bytecode else [])]
    return python, [python, *flags, "-X", "utf8", "-c", boot([package], statement)]


def raw_clone(flags: int) -> int:
    """fork with clone(2) flags: 0 in the child, its pid in the parent.

    Python's own fork hooks do not run, so the child may only go on to exec.
    """
    return syscall("clone", flags, 0, 0, 0, 0)
