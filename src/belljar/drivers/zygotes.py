"""Starting a zygote and asking it for guests.

A zygote is executed afresh by a launcher.  The launcher itself is executed afresh too
(``_spawn``), because a host with threads and secrets must not be forked; a process that has
neither, the command's own, may be forked (``fork=True``), which saves one start of Python.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import math
import os
import select
import time

from ..errors import SHORTAGES, SetupFailed, UnsupportedError, WorkerDied
from ..kernel import fdpass, process
from ..plan.root import HOST_NAME, ZYGOTE_PROC
from ..wire.control import Unpacker, pack
from ..wire.errors import RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..kernel.cgroups import Group
    from ..plan.steps import Plan

START_S = 60.0  # two starts of Python from a cold and busy disk; no guest is waiting yet
_GONE_MS = 1000  # from the end of its descriptors to its own: the kernel takes down namespaces
_ERROR_BYTES = 4096  # of what a zygote that cannot start says; the last lines tell
_EMPTY_BYTES = 40  # what a tmpfs says of an empty directory: two names of 20
_SIGNALS = [number for number in range(1, 32) if number not in (9, 19)]  # but KILL and STOP


class Work:
    """A descriptor of a guest's ``/work``.  The files there last as long as this object.

    What: closed when nobody refers to it any more.  Because: results and sandboxes share it, and
    a number that one of them closed could be another file when the next one reads.
    ``known`` are the files that were there when the last run ended, in a guest that stays;
    see ``drivers.work``.  ``watched``: whether it is the guest's own, so that what changes there
    is what a run has changed.
    """

    def __init__(self, fd: int, *, watched: bool = True) -> None:
        self.fd = fd
        self.watched = watched
        self.known: dict[str, Any] | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing is in it.  A no may be wrong; a yes is not."""
        return os.fstat(self.fd).st_size == _EMPTY_BYTES

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        close(self.fd)


class GuestEnds:
    """The host's ends of one guest: status and link sockets, stream pipes, pidfd."""

    def __init__(
        self,
        status: _socket.socket,
        link: _socket.socket,
        stdin: int | None,
        stdout: int,
        stderr: int,
    ) -> None:
        self.status = status
        self.link = link
        self.stdin = stdin
        self.stdout: int | None = stdout
        self.stderr: int | None = stderr
        self.pidfd: int | None = None
        self.figures: int | None = None  # its /proc/PID/status, of a guest that stays
        self.group: Group | None = None
        self.work: Work | None = None
        self._offered: list[int] = []  # numbers there
        self.handed_over: list[int] = []  # what it gave away before any code came

    def take_over(self, numbers: Sequence[int]) -> None:
        """Take descriptors of a guest's that still runs trusted code, and tell it to go on.

        Its word may come before the zygote's, who says which process it is.
        """
        self._offered.extend(numbers)
        if not self._offered or self.pidfd is None:
            return
        try:
            for number in self._offered:
                self.handed_over.append(process.descriptor_of(self.pidfd, number))
        except PermissionError:
            missing = "branches of a sandbox: this process may not look at its guests"
            remedy = "give it CAP_SYS_PTRACE, which a container may have taken away"
            raise UnsupportedError([missing], [remedy]) from None
        self._offered.clear()
        self.status.send(b"1", _socket.MSG_NOSIGNAL)

    def close(self) -> None:
        """Let go of the guest.  The zygote kills a guest whose status nobody holds."""
        self.let_go()
        if self.group is not None:
            self.group.remove()

    def let_go(self) -> None:
        """In a fork of the host: close what is open here, and leave the guest to the parent."""
        self.status.close()
        self.link.close()
        for name in ("stdin", "stdout", "stderr", "pidfd", "figures"):
            self.close_one(name)
        self.work = None
        while self.handed_over:
            os.close(self.handed_over.pop())

    def close_one(self, name: str) -> None:
        """Close one descriptor by its name, once."""
        fd: int | None = getattr(self, name)
        if fd is not None:
            setattr(self, name, None)
            os.close(fd)

    def kill(self) -> None:
        """SIGKILL the guest, if it was ever there."""
        self.signal(process.SIGKILL)
        if self.group is not None:
            self.group.kill()

    def signal(self, number: int) -> None:
        """Signal the guest, if it was ever there."""
        if self.pidfd is not None:
            process.signal_pidfd(self.pidfd, number)


class Zygote:
    """A running zygote.  Safe under threads once ``ensure_ready`` has returned."""

    def __init__(self, plan: Plan, preload: tuple[str, ...] = (), *, fork: bool = False) -> None:
        self._began = time.monotonic()
        self._ready = False
        self._closed = False
        self.users = 0  # runs that go on in it, as counted by whoever lends it out
        self.ready_at = math.inf  # on the monotonic clock
        self.ahead_s = 0.0  # how far its monotonic clock is ahead of this process's
        self._child: _Child | None = None
        self._adopted = False
        self._errors = -1
        self._said = b""  # the end of what came from there
        self._preload = preload
        self._stage = "zygote"  # what it is at, for the message if it fails
        steps = [step.as_list() for step in plan.launch]
        try:
            self._control, control = fdpass.message_pair()
        except OSError as error:
            raise _no_launch(error) from error
        theirs: list[int] = []
        try:
            theirs = [os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC), control.detach()]
            self._errors, errors = os.pipe()
            theirs.append(errors)
            if fork:
                self._fork(steps, theirs)
            else:
                self._spawn(steps, theirs)
        except OSError as error:
            self.close()
            raise _no_launch(error) from error
        finally:
            for fd in theirs:
                os.close(fd)
        settings = {
            "isolated": plan.isolated,
            "proc": ZYGOTE_PROC if plan.isolated else "/proc",
            "search_path": list(plan.search_path),
            "stand_ins": dict(plan.stand_ins),
            "preload": list(preload),
            "refused": list(plan.refused),
            "jit": plan.filter.jit,
            "several": plan.limits.processes > 0,
            "branches": plan.filter.branches,
            "host_name": "" if plan.filter.uname else HOST_NAME.decode(),
        }
        try:
            self._tell(pack("settings", **settings))
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise _no_launch(error) from error
            raise

    def _fork(self, steps: list[Any], descriptors: list[int]) -> None:
        from ..zygote.launcher import launch

        pid = os.fork()
        if pid == 0:
            try:
                process.keep_only(descriptors)
                launch(steps, tied=True)
            except OSError as error:
                os.write(descriptors[2], (error.strerror or str(error)).encode())
            finally:
                os._exit(1)
        self._child = _Child(pid)

    def _spawn(self, steps: list[Any], descriptors: list[int]) -> None:
        import threading

        python, argv = process.fresh_python("from belljar.zygote.launcher import main; main()")
        # Out of the way of the targets first: a host may have closed its own 0, 1 and 2.
        lifted: list[int] = []
        try:
            for fd in descriptors:
                lifted.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, len(descriptors)))
            pid = os.posix_spawn(
                python,
                argv,
                {},
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in enumerate(lifted)],
                setsigdef=_SIGNALS,
                setsigmask=[],
            )
        finally:
            for fd in lifted:
                os.close(fd)
        self._child = _Child(pid)
        tied = threading.current_thread() is threading.main_thread()
        self._tell(pack("launch", steps=steps, tied=tied))

    @property
    def pid(self) -> int:
        """Its number, once it is ready."""
        if self._child is None:
            raise WorkerDied("zygote", "it has not started")
        return self._child.pid

    def tell(self, message: bytes, descriptors: list[int]) -> None:
        """Send a request.  Raises ``WorkerDied`` where it is gone."""
        self._tell(message, descriptors)

    def _tell(self, message: bytes, descriptors: list[int] | None = None) -> None:
        try:
            fdpass.send(self._control, message, descriptors)
        except (BrokenPipeError, ConnectionResetError):
            # Why it went away is told on the same socket, and read by ensure_ready.
            if self._ready:
                raise WorkerDied("zygote", "it ended", retryable=True) from None
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            text = "the plan is too large for one message; grant fewer or shorter paths"
            raise SetupFailed("launch", text) from None

    def request(
        self,
        steps: list[Any],
        program: bytes,
        pid_mark: int | None,
        stdin: bool,
        several: bool = False,
        group: Group | None = None,
    ) -> GuestEnds:
        """Ask for a guest; the answer comes on the status socket.

        Does not wait, not even for a zygote that is still starting.  ``stdin`` asks for a
        pipe; without it the guest reads an empty stream.  ``several``: it may have processes.
        ``group`` is for this guest alone, and goes with its ends.
        """
        opened: list[int] = []
        sockets: list[_socket.socket] = []
        try:
            status, their_status = fdpass.message_pair()
            sockets += [status, their_status]
            link, their_link = fdpass.stream_pair()
            sockets += [link, their_link]
            stdout, their_stdout = os.pipe()
            opened += [stdout, their_stdout]
            stderr, their_stderr = os.pipe()
            opened += [stderr, their_stderr]
            # An empty stream is a pipe too: a device of the host's has times that a guest can set.
            their_stdin, pipe_end = os.pipe()
            opened += [their_stdin, pipe_end]
            stdin_end: int | None = pipe_end
            if not stdin:
                os.close(opened.pop())
                stdin_end = None
            theirs = [their_stdin, their_stdout, their_stderr]
            if group is not None:
                theirs.append(group.open_procs())
                opened.append(theirs[-1])
            message = pack(
                "spawn", steps=steps, program=program, pid_mark=pid_mark, several=several
            )
            self._tell(message, [their_status.fileno(), their_link.fileno(), *theirs])
        except BaseException as error:
            for sock in sockets:
                sock.close()
            for fd in opened:
                os.close(fd)
            if group is not None:
                group.remove()
            if isinstance(error, OSError):
                text = error.strerror or str(error)
                raise SetupFailed("descriptors", text, retryable=True) from error
            raise
        their_status.close()
        their_link.close()
        for fd in theirs:
            os.close(fd)
        link.setblocking(False)
        if stdin_end is not None:
            os.set_blocking(stdin_end, False)
        ends = GuestEnds(status, link, stdin_end, stdout, stderr)
        ends.group = group
        return ends

    def ensure_ready(self) -> None:
        """Wait until the zygote serves.  Raises ``SetupFailed`` with the step that failed.

        Whatever it raises, an interrupt included, the zygote is gone then.
        """
        try:
            self._await_ready()
        except BaseException:
            self.close()
            raise

    def _await_ready(self) -> None:
        while not self._ready:
            left = self._began + START_S - time.monotonic()
            if left <= 0 or not self._wait(left):
                text = f"{self._doing()}not ready after {START_S:g} s"
                self.close()
                raise SetupFailed(self._stage, text, retryable=True)
            try:
                data, _ = fdpass.receive(self._control)
            except ConnectionResetError:
                data = b""
            if not data:
                text = self._last_words()
                killed = self._child is not None and self._child.was_killed()
                self.close()
                child = self._child
                how = child.how_it_ended() if child is not None else ""
                short = self._stage == "zygote" and _is_shortage(text, child)
                text = f"{self._doing()}it ended before it was ready{how}: {text}"
                raise SetupFailed(self._stage, text, retryable=short or killed)
            try:
                ((kind, fields),) = Unpacker().feed(data)
            except (RemoteError, ValueError) as error:
                # A preload writes to descriptors that are not its own.
                text = f"{self._doing()}it sent what is no message"
                self.close()
                raise SetupFailed(self._stage, text) from error
            if kind == "launched":
                self._adopt(fields["pid"])
                self.ahead_s = fields["ahead_s"]
            elif kind == "failed":
                self.close()
                number = fields["errno"]
                text = fields["text"] + (f" [errno {number}]" if number else "")
                raise SetupFailed(fields["step"], text, retryable=fields["errno"] in SHORTAGES)
            elif kind == "preloading":
                self._stage = "preload"
            else:
                self._ready = True
                self.ready_at = fields["at"] - self.ahead_s
        self._close_errors()

    def _adopt(self, pid: int) -> None:
        """The launcher has ended and left us its child."""
        self._adopted = True
        launcher, self._child = self._child, _Child(pid)
        if launcher is not None:
            launcher.wait()

    def _adopt_late(self) -> None:
        """The launcher has ended; if it left us a child that we have not heard of, we do now."""
        self._control.setblocking(False)
        try:
            while not self._adopted and (message := fdpass.receive(self._control)[0]):
                for kind, fields in Unpacker().feed(message):
                    if kind == "launched":
                        self._adopt(fields["pid"])
        except (OSError, RemoteError, ValueError):
            return  # nothing more was said

    def _wait(self, timeout_s: float) -> bool:
        """Wait for the next message, and take in what else is said: a full pipe would stop it."""
        until = time.monotonic() + timeout_s
        poll = select.poll()
        poll.register(self._control.fileno(), select.POLLIN)
        poll.register(self._errors, select.POLLIN)
        while (left := until - time.monotonic()) > 0:
            ready = dict(poll.poll(left * 1000))
            if self._control.fileno() in ready:
                return True
            if ready and not self._hear():
                poll.unregister(self._errors)
        return False

    def _hear(self) -> bool:
        """Read from the pipe of errors without waiting; False at its end."""
        os.set_blocking(self._errors, False)
        try:
            data = os.read(self._errors, 1 << 16)
        except BlockingIOError:
            return True
        self._said = (self._said + data)[-_ERROR_BYTES:]
        return bool(data)

    def _doing(self) -> str:
        return f"import {', '.join(self._preload)}: " if self._stage == "preload" else ""

    def _last_words(self) -> str:
        self._hear()
        text = self._said
        return text.decode("utf-8", "replace").strip() or "it said nothing"

    def private_bytes(self) -> int:
        """Memory of its own, all of which a guest may copy page by page; 0 while it starts."""
        if not self._ready or self._child is None:
            return 0
        return self._child.private_bytes()

    @property
    def alive(self) -> bool:
        """Whether the zygote still serves, as far as can be seen without asking it."""
        if self._closed:
            return False
        return not _hung_up(self._control)

    def close(self) -> None:
        """End the zygote and with it every guest; returns when they are gone."""
        if self._closed:
            return
        self._closed = True
        if self._child is not None and not self._adopted:
            self._child.end()
            self._adopt_late()
        self._control.close()
        self._close_errors()
        if self._child is not None:
            self._child.end()

    def forget(self) -> None:
        """In a fork of the host: let go without ending what belongs to the parent."""
        self._closed = True
        self._control.close()
        if self._child is not None:
            self._child.forget()
        self._close_errors()

    def _close_errors(self) -> None:
        if self._errors >= 0:
            os.close(self._errors)
            self._errors = -1


def _no_launch(error: OSError) -> SetupFailed:
    """The host is short of something: descriptors, processes, memory."""
    return SetupFailed("launch", error.strerror or str(error), retryable=True)


def _is_shortage(text: str, child: _Child | None) -> bool:
    """Whether a process that could not start was short of something, by its last words.

    One that was killed has none: by the kernel for want of memory, or by somebody.
    """
    if child is not None and child.killed:
        return True
    if "MemoryError" in text or "failed to map segment" in text:  # Python's, the loader's word
        return True
    return any(os.strerror(number) in text for number in SHORTAGES)


def _end_by_number(pid: int) -> None:
    try:
        os.kill(pid, process.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        return  # the application reaped it


class _Child:
    """A child process, killed by descriptor: its number may be reused by the time we act,
    where the application ignores SIGCHLD or reaps every child for itself.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._status = 0
        self._pidfd: int | None = None
        try:
            self._pidfd = process.open_pidfd(pid)
        except ProcessLookupError:
            return
        except OSError:
            # It cannot be kept, so it is ended here; it was made just now and holds its number.
            _end_by_number(pid)
            raise

    @property
    def pid(self) -> int:
        """Its number."""
        return self._pid

    @property
    def killed(self) -> bool:
        """Whether SIGKILL ended it, as far as this process was told."""
        return os.WIFSIGNALED(self._status) and os.WTERMSIG(self._status) == process.SIGKILL

    def how_it_ended(self) -> str:
        """In words, as far as this process was told."""
        code = os.waitstatus_to_exitcode(self._status)
        if code > 0:
            return f" with exit code {code}"
        # SIGKILL may be our own.
        return f" by signal {-code}" if code < 0 and -code != process.SIGKILL else ""

    def was_killed(self) -> bool:
        """Whether SIGKILL ended it, and not ours: somebody outside, or the kernel's want of memory.

        Gives it a moment to be gone, since its descriptors are closed before it is.
        """
        if self._pidfd is None:
            return False
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if not poll.poll(_GONE_MS):
            return False
        self.wait()
        return os.WIFSIGNALED(self._status) and os.WTERMSIG(self._status) == process.SIGKILL

    def end(self) -> None:
        """Kill it and wait until it is gone."""
        if self._pidfd is not None:
            try:
                process.signal_pidfd(self._pidfd, process.SIGKILL)
            except OSError:
                os.kill(self._pid, process.SIGKILL)  # where that call is refused
        self.wait()

    def wait(self) -> None:
        """Wait until it is gone, and take its status if nobody else did."""
        if self._pidfd is None:
            return
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        how = os.WNOHANG
        try:
            poll.poll()
        except OSError:
            how = 0  # the kernel is out of memory for the question; this one needs none
        self.forget()
        try:
            _, self._status = os.waitpid(self._pid, how)
        except ChildProcessError:
            return

    def private_bytes(self) -> int:
        """What it holds beyond files: resident less shared."""
        try:
            with open(f"/proc/{self._pid}/statm", "rb") as file:
                words = file.read().split()
        except OSError:
            return 0
        return (int(words[1]) - int(words[2])) * os.sysconf("SC_PAGESIZE")

    def forget(self) -> None:
        """Let go of it without ending it."""
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


def _hung_up(sock: _socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock.fileno(), 0)
    return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))
