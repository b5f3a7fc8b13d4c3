"""The zygote: a warm interpreter that forks guests on request.

Who I am: CPython executed afresh in the canonical root, single-threaded, with no
environment and no secrets.  What I trust: the host, through one control socket.  I never
read what a guest wrote; a guest's bytes go to the host directly.
What I hold: for each guest its pidfd, its parked init, and one status socket to the host.
How I die: when the control socket closes, which is when the host does.  Where I have a
PID namespace of my own I am its first process, so that my end is every guest's end.
"""

from __future__ import annotations

import _socket
import gc
import os
import select
import sys
import time

from ..confine import Confinement, StepFailed
from ..guest import agent
from ..kernel import fdpass, namespaces, process
from ..wire.control import Unpacker, pack
from . import preload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CONTROL_FD = 1
LINK_FD = 3
_STATUS_FD = 4
_GROUP_FD = 5  # the door to a cgroup, where the plan has one; closed before any code comes


class Guest:
    """One guest as its zygote sees it."""

    def __init__(
        self,
        pid: int,
        pidfd: int,
        status: _socket.socket,
        parked: namespaces.ParkedInit | namespaces.ReapingInit | None,
        several: bool,
    ) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.status = status
        self.parked = parked
        self.several = several
        self.ending: Any = None  # what wait4 said


class Zygote:
    """The request loop: one message in, one fork; one death, one report."""

    def __init__(self, control: _socket.socket, settings: dict[str, Any]) -> None:
        self.control = control
        self.pid = os.getpid()
        self.isolated: bool = settings["isolated"]
        self.proc: str = settings["proc"]
        self.pid_namespaces = namespaces.PidNamespaces(self.proc) if self.isolated else None
        self.brought: list[int] = []  # what else the guest of this spawn is to have at first

    def serve(self) -> None:
        """Answer until the host is gone."""
        poll = select.poll()
        control = self.control.fileno()
        poll.register(control, select.POLLIN)
        watched: dict[int, Guest] = {}
        while True:
            found = dict(poll.poll(self.patience()))
            # The control socket comes last: a new guest's descriptors may get the numbers of
            # those that this round closes, and must not be taken for them.
            asked = found.pop(control, 0)
            for fd, event in found.items():
                guest = watched.get(fd)
                if guest is None:
                    continue  # its guest was reaped earlier in this round
                if guest.parked is not None and fd == guest.parked.pidfd:
                    del watched[fd]
                    poll.unregister(fd)
                    self.tell_end(guest)
                elif fd == guest.pidfd:
                    for end in (guest.pidfd, guest.status.fileno()):
                        if watched.pop(end, None) is not None:
                            poll.unregister(end)
                    waiting = self.reap(guest)
                    if waiting >= 0:
                        watched[waiting] = guest
                        poll.register(waiting, select.POLLIN)
                elif event:
                    # The host let go of this guest; its end comes through the pidfd.
                    poll.unregister(fd)
                    del watched[fd]
                    process.signal_pidfd(guest.pidfd, process.SIGKILL)
            new = self.accept() if asked else None
            if new is not None:
                for end in (new.pidfd, new.status.fileno()):
                    watched[end] = new
                poll.register(new.pidfd, select.POLLIN)
                poll.register(new.status.fileno(), 0)  # hang-up only
            self.tidy()

    def patience(self) -> int | None:
        """How long to wait for what is polled, in milliseconds."""
        return None

    def tidy(self) -> None:
        """What is due after each round."""

    def accept(self) -> Guest | None:
        """Take one request from the control socket."""
        data, descriptors = fdpass.receive(self.control)
        if not data:
            os._exit(0)
        ((kind, fields),) = Unpacker().feed(data)
        status = _socket.socket(fileno=descriptors[0])
        try:
            if kind != "spawn":
                return self.other(kind, status, descriptors[1:], fields)
            return self.spawn(status, descriptors[1:], fields)
        except OSError as error:
            step = error.filename if isinstance(error.filename, str) else "fork"
            tell(status, "failed", step=step, errno=error.errno or 0, text=error.strerror or "")
            status.close()
            return None
        finally:
            for fd in descriptors[1:]:
                os.close(fd)

    def other(
        self, kind: str, status: _socket.socket, descriptors: list[int], fields: dict[str, Any]
    ) -> Guest:
        """Another request than for a guest."""
        raise AssertionError(f"unknown request {kind}")

    def spawn(
        self, status: _socket.socket, descriptors: list[int], fields: dict[str, Any]
    ) -> Guest:
        """Fork a guest into a PID namespace of its own."""
        parked: namespaces.ParkedInit | namespaces.ReapingInit | None = None
        if self.pid_namespaces is not None:
            self.pid_namespaces.enter_new()
        try:
            if self.pid_namespaces is not None:
                parked = namespaces.ReapingInit() if fields["several"] else namespaces.ParkedInit()
            pid = os.fork()
            if pid == 0:
                self.become_guest(status, descriptors, fields)
        except OSError:
            if parked is not None:
                parked.end()
            raise
        finally:
            if self.pid_namespaces is not None:
                self.leave(status)
        pidfd = -1
        try:
            pidfd = process.open_pidfd(pid)
            # The first process, too, where orphans may come to it: the host counts them.
            first = [parked.pidfd] if fields["several"] and parked is not None else []
            fdpass.send(status, pack("spawned", at=time.monotonic()), [pidfd, *first])
        except OSError as error:
            # Without it the host could not end the guest; if it is the host that went, so be it.
            # ETOOMANYREFS: this user passes too many descriptors already.
            if pidfd >= 0:
                os.close(pidfd)
            os.kill(pid, process.SIGKILL)
            os.waitpid(pid, 0)
            if parked is not None:
                parked.end()
            raise OSError(error.errno, error.strerror, "spawn") from None
        return Guest(pid, pidfd, status, parked, fields["several"])

    def leave(self, status: _socket.socket) -> None:
        """Back to the PID namespace of this process, or the end of it.

        What: a zygote that cannot go back ends, and every guest with it.  Because: its next
        fork would join a guest's namespace, or none.  Then: the host starts another.
        """
        try:
            if self.pid_namespaces is not None:
                self.pid_namespaces.leave()
        except OSError as error:
            text = error.strerror or ""
            tell(status, "failed", step="setns pid", errno=error.errno or 0, text=text)
            os._exit(1)

    def become_guest(
        self, status: _socket.socket, descriptors: list[int], fields: dict[str, Any]
    ) -> None:
        """The child's side of a spawn; does not return."""
        code = 1
        try:
            link, stdin, stdout, stderr, *group = descriptors
            own = [stdin, stdout, stderr, link, status.fileno(), *group]
            brought = list(range(len(own), len(own) + len(self.brought)))
            try:
                process.set_name(b"python3")
                process.keep_only([*own, *self.brought])
            except OSError as error:
                text = error.strerror or str(error)
                tell(status, "failed", step="descriptors", errno=error.errno or 0, text=text)
                os._exit(1)
            status.detach()
            reports = _socket.socket(fileno=_STATUS_FD)
            try:
                confinement = self.confinement(
                    fields,
                    _GROUP_FD if group else -1,
                    brought,
                    lambda work: fdpass.send(reports, pack("mounted"), [work]),
                )
                confinement.apply(fields["steps"])
            except StepFailed as failed:
                text = failed.error.strerror or str(failed.error)
                where = failed.error.filename or ""
                tell(
                    reports,
                    "failed",
                    step=failed.verb,
                    errno=failed.error.errno or 0,
                    text=f"{text} ({where})",
                )
                os._exit(1)
            self.hand_over(reports, confinement)
            reports.close()
            gc.enable()
            code = agent.serve(LINK_FD)
        except BaseException as fault:
            # Ours, or of a guest that tore the agent apart; it may see its own trace.
            sys.excepthook(type(fault), fault, fault.__traceback__)
        finally:
            os._exit(code)

    def confinement(
        self,
        fields: dict[str, Any],
        group: int,
        brought: list[int],
        show_work: Callable[[int], None],
    ) -> Confinement:
        """What carries out the steps; ``brought`` are the descriptors of ``self.brought``.

        ``show_work`` hands the host a descriptor of the guest's ``/work``.
        """
        # From inside a PID namespace of its own the zygote has no number.
        parent = 0 if self.isolated else self.pid
        program, mark = fields["program"], fields["pid_mark"]
        return Confinement(program, mark, self.proc, parent, group, show_work)

    def hand_over(self, reports: _socket.socket, confinement: Confinement) -> None:
        """The last word of the trusted code in a guest."""
        tell(reports, "confined", at=time.monotonic())

    def reap(self, guest: Guest) -> int:
        """Collect a guest that has ended.

        If others may still run in its namespace they are killed, and the first process's
        pidfd comes back: the end is told when it tells of its own.  That may take a while,
        because what dies is as slow as it has made itself (nice), and no other guest waits.
        """
        guest.ending = os.wait4(guest.pid, 0)
        if guest.several and guest.parked is not None:
            os.kill(guest.parked.pid, process.SIGKILL)
            return guest.parked.pidfd
        self.tell_end(guest)
        return -1

    def tell_end(self, guest: Guest) -> None:
        """Tell the host what the kernel says about a guest of which nothing runs any more."""
        if guest.ending is None:
            raise AssertionError("the guest has not ended")
        _, status, usage = guest.ending
        cpu_s = usage.ru_utime + usage.ru_stime
        parked, guest.parked = guest.parked, None if guest.several else guest.parked
        if guest.several and parked is not None:
            cpu_s += parked.end()  # of those that had come to it
        tell(
            guest.status,
            "exited",
            signal=os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
            code=os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0,
            cpu_s=cpu_s,
            peak_memory_bytes=usage.ru_maxrss * 1024,
            at=time.monotonic(),
        )
        guest.status.close()
        os.close(guest.pidfd)
        if guest.parked is not None:
            guest.parked.end()  # last, because nobody waits for a namespace to be taken down


def tell(
    sock: _socket.socket, kind: str, descriptors: list[int] | None = None, **fields: Any
) -> None:
    """One message to the host; a host that does not listen any more is not an error."""
    try:
        fdpass.send(sock, pack(kind, **fields), descriptors)
    except OSError:
        return  # gone, or so slow that it asks for nothing; its end of the socket says which


def main(fresh: frozenset[str]) -> None:
    """Take the settings, make what every guest needs, freeze it, serve.

    ``fresh`` are the names of the modules that this interpreter started with.
    """
    # What a preload prints must not get between the messages.
    quiet = os.dup(CONTROL_FD)
    os.dup2(0, CONTROL_FD)
    control = _socket.socket(fileno=quiet)
    data, _ = fdpass.receive(control)
    if not data:
        return
    ((_, settings),) = Unpacker().feed(data)
    for name in os.environ:
        os.unsetenv(name)
    os.environ.clear()
    sys.path[:] = settings["search_path"]
    process.set_dumpable(False)
    process.set_name(b"belljar-zygote")
    kind: type[Zygote] = Zygote
    if settings["branches"]:
        from .branches import BranchingZygote  # before our modules are hidden

        BranchingZygote.prepare()
        kind = BranchingZygote
    trusted = [*sys.path, *(path.rpartition("/")[0] for path in settings["stand_ins"].values())]
    agent.prepare(fresh, settings["stand_ins"], trusted, settings["host_name"], settings["several"])
    if settings["preload"]:
        tell(control, "preloading")
        # Nobody asks for a guest before we are ready, so that nothing but the end can come.
        process.end_with_socket(control.fileno())
        trouble = preload.load(settings["preload"], settings["refused"], settings["proc"])
        process.outlive_socket(control.fileno())
        if trouble:
            tell(control, "failed", step="preload", errno=0, text=trouble)
            os._exit(1)  # not by the way of exit functions and threads of the preload
    if not settings["jit"]:
        found = preload.writable_code(f"{settings['proc']}/self/maps")
        if found:
            text = f"memory that guests could write and execute: {found}; jit=True allows it"
            tell(control, "failed", step="native code", errno=0, text=text[: preload.TROUBLE_CHARS])
            os._exit(1)
    gc.disable()
    gc.collect()
    gc.freeze()
    try:
        os.fstat(2)
    except OSError:
        os.dup2(0, 2)  # a preload has closed it; what is opened next is not to take its place
    server = kind(control, settings)
    # Not by ``tell``: a host that is never told would wait for long.
    fdpass.send(control, pack("ready", version=list(sys.version_info[:3]), at=time.monotonic()))
    os.dup2(0, 2)
    server.serve()
