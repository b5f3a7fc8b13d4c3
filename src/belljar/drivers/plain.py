"""A process without walls that executes run after run: started, driven, reaped by this one.

What: the same loop and engine as for a guest; here this process itself is the parent, so it
watches the pidfd and tells the engine what a zygote's status socket would.  Because: a trusted
interpreter has no zygote, and is to behave as a sandboxed one does.  Then: it leads a session
and a process group of its own, and what it has started and left in that group ends with it.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import time
import weakref

from ..engine import events as e
from ..errors import SHORTAGES, SetupFailed, WorkerDied
from ..kernel import fdpass, process
from .blocking import Feed, Loop, broken_off
from .live import Live
from .zygotes import GuestEnds, Work

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any

    from ..engine.life import Order
    from ..policy import Limits
    from ..wire.limits import Budget
    from .desk import Desk

_SIGNALS = [number for number in range(1, 32) if number not in (9, 19)]  # but KILL and STOP
# What is in the current directory is not ours to import; the code finds it as ``python -c`` does.
_BOOT = """
import sys
path = sys.path[:]
sys.path[:] = [place for place in path if place]
import _frozen_importlib_external as external
external._bootstrap._load(external.spec_from_file_location("belljar", {init!r}))
from belljar.guest.trusted import main
main(path)
"""
_INIT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "__init__.py")


class PlainEnds(GuestEnds):
    """The host's ends of a process that is its child.

    ``status`` is a socket on which nothing is said: the kernel kills the process, and what it
    started, when our end of it is closed.
    """

    def __init__(
        self, status: _socket.socket, link: _socket.socket, stdout: int, stderr: int, pid: int
    ) -> None:
        super().__init__(status, link, None, stdout, stderr)
        self._pid = pid
        self._reaped = False
        self._peak_bytes = 0
        # A child that shared our memory until it executed its program has our peak as its own,
        # as far as wait4(2) tells.
        self._our_peak = _our_peak()
        _open.add(self)

    def show_directory(self, path: str, *, own: bool) -> None:
        """Where it works, for the host's own hands; ``own``: nobody else works there."""
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        self.work = Work(os.open(path, flags), watched=own)

    def saw(self, peak_bytes: int) -> None:
        """What it held at most, as far as was seen while it lived."""
        self._peak_bytes = max(self._peak_bytes, peak_bytes)

    def reap(self) -> e.Exited | None:
        """After its end: what the kernel says of it, and the end of what it left behind.

        None where its status is gone, because somebody else in this program has collected it.
        """
        if self._reaped or self.pidfd is None:
            return None
        self._reaped = True
        try:
            # While it is not collected its number is nobody else's, nor is its group's.  Waits
            # where a debugger is told of the end first.
            os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOWAIT)
            try:
                os.killpg(self._pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass  # nobody is left, or who is left belongs to another user by now
            _, status, usage = os.wait4(self._pid, 0)
        except ChildProcessError:
            return None
        peak = usage.ru_maxrss * 1024
        return e.Exited(
            signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
            code=os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0,
            cpu_s=usage.ru_utime + usage.ru_stime,
            peak_memory_bytes=peak if peak > self._our_peak else self._peak_bytes,
            at=time.monotonic(),
        )

    def close(self) -> None:
        """Wait for its end, which somebody has seen to, and let go of it."""
        if self.pidfd is not None and not self._reaped:
            poll = select.poll()
            poll.register(self.pidfd, select.POLLIN)
            poll.poll()
            self.reap()
        super().close()


class PlainLoop(Loop):
    """The loop of a process that is this one's child."""

    def __init__(self, ends: PlainEnds, *arguments: Any, **named: Any) -> None:
        super().__init__(ends, *arguments, **named)
        self.unwatch(ends.status.fileno())
        self._plain = ends
        if ends.pidfd is None:
            raise AssertionError("the process was let go of")
        self.watch(ends.pidfd, self._on_exit)
        self.start_accounting(ends.pidfd, None)
        self.start_feeding()
        self.tell(e.Spawned(time.monotonic()))

    def tell(self, event: e.Event) -> None:
        """Hand an event to the engine and carry out what it says."""
        if isinstance(event, e.Collected):
            self._plain.saw(event.peak_memory_bytes)
        super().tell(event)

    def _on_exit(self, _event: int) -> None:
        if self._plain.pidfd is not None:
            self.unwatch(self._plain.pidfd)
        exited = self._plain.reap()
        if exited is None:
            turn = self.life.turn
            if not (self.life.done or turn.cause or turn.told_to_end):
                text = "somebody else in this program has collected the status of its end"
                raise WorkerDied("wait", text)
            exited = e.Exited(process.SIGKILL, 0, 0.0, 0, time.monotonic())  # which we sent
        self.tell(exited)


class PlainLive(Live):
    """A trusted interpreter and what drives it."""

    loop_kind = PlainLoop

    def __init__(
        self,
        ends: PlainEnds,
        order: Order,
        limits: Limits,
        budget: Budget,
        desk: Desk | None = None,
    ) -> None:
        """Ready to be started.  Raises ``SetupFailed``; the process is gone then.

        ``desk``: where host functions are called.
        """
        now = time.monotonic()
        nobody = _Nobody(now)
        try:
            super().__init__(nobody, ends, order, limits, budget, Feed(), now, now, desk)
        except BaseException as error:
            failure = broken_off(error, None, nobody, ends)
            ends.close()
            if desk is not None:
                desk.close()
            if failure is error:
                raise
            raise failure from error


class _Nobody:
    """In a zygote's place."""

    def __init__(self, now: float) -> None:
        self.ready_at = now
        self.ahead_s = 0.0

    def ensure_ready(self) -> None:
        """There is nothing to wait for."""

    def close(self) -> None:
        """There is nothing to end."""


def start(python: str, directory: str) -> PlainEnds:
    """Execute an interpreter, which will work in ``directory``.  Raises ``SetupFailed``."""
    sockets: list[_socket.socket] = []
    opened: list[int] = []
    theirs: list[int] = []
    try:
        status, their_status = fdpass.message_pair()
        sockets.append(status)
        theirs.append(their_status.detach())
        link, their_link = fdpass.stream_pair()
        sockets.append(link)
        theirs.insert(0, their_link.detach())
        for _ in ("stderr", "stdout"):
            reading, writing = os.pipe()
            opened.insert(0, reading)
            theirs.insert(0, writing)
        empty, writing = os.pipe()  # its standard input
        theirs.insert(0, empty)
        os.close(writing)
        pid = _execute(python, directory, theirs)
        try:
            pidfd = process.open_pidfd(pid)
        except OSError:
            _end_by_number(pid)
            raise
    except BaseException as error:
        for fd in opened:
            os.close(fd)
        for sock in sockets:
            sock.close()
        if not isinstance(error, OSError):
            raise
        text = f"{python}: {error.strerror or error}"
        raise SetupFailed("spawn", text, retryable=error.errno in SHORTAGES) from error
    finally:
        for fd in theirs:
            os.close(fd)
    link.setblocking(False)
    stdout, stderr = opened
    ends = PlainEnds(status, link, stdout, stderr, pid)
    ends.pidfd = pidfd
    return ends


def _execute(python: str, directory: str, descriptors: list[int]) -> int:
    lifted: list[int] = []
    try:
        # Out of the way of the targets first: a host may have closed its own 0, 1 and 2.
        for fd in descriptors:
            lifted.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, len(descriptors)))
        return os.posix_spawn(
            python,
            [python, "-c", _BOOT.format(init=_INIT), directory],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in enumerate(lifted)],
            setsid=True,  # Ctrl-C at the terminal is the host's
            setsigdef=_SIGNALS,
            setsigmask=[],
        )
    finally:
        for fd in lifted:
            os.close(fd)


def _end_by_number(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        return  # the application reaped it


def _our_peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


_open: weakref.WeakSet[PlainEnds] = weakref.WeakSet()


def _let_go_of_all() -> None:
    """In a fork of this process: the lives of what is its parent's do not depend on it."""
    for ends in list(_open):
        ends.let_go()
    _open.clear()


os.register_at_fork(after_in_child=_let_go_of_all)
