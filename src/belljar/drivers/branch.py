"""Making a branch: the guest copies itself, once, when this process lets it, and is looked at.

What: ``fork`` asks a guest that waits to copy itself; the copying is a system call that its
filter hands to us (``kernel.notify``), and we let it happen for the task that we asked, and for
no other.  The copy is found among the zygote's children, taken in by the zygote, which mounts its
own files, and then, stopped, looked at from outside: by ``/proc`` alone.
Because: everything inside the guest may be hostile, its agent included, so what keeps a branch
and its parent apart is what the kernel says of both.
Then: a branch that shares a descriptor, a mapping or a directory with anybody never runs code.
"""

from __future__ import annotations

import _socket
import _thread
import os
import select
import time

from ..bpf.features import BRANCH, TAKE
from ..errors import SHORTAGES, ForkRefused, SandboxFailure, SetupFailed
from ..kernel import fdpass, notify, process
from ..plan.branches import SPARE
from ..wire.control import Unpacker, pack
from ..wire.events import Fork, Run
from . import account
from .blocking import Feed
from .live import Live
from .work import remember
from .zygotes import GuestEnds, Work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ..policy import Limits
    from ..result import Result
    from ..wire.limits import Budget
    from .desk import Desk
    from .zygotes import Zygote

READY_S = 5.0  # for the zygote to take a branch in, and for the branch to say that it is there
_LOOKS = 3  # for what was missed: /proc may leave out some children while others end
FOUND_S = 1.0  # in which a copy is found that was let happen
_PAUSE_S = 0.0005
_TEXT = 1 << 16
_MOST_SHOWN = 5  # of what a branch may not have
_LINK = 3
_BEGAN = 19  # the field of /proc/PID/stat, after the name, that says when a process began


class Lineage:
    """A first guest and what descends from it, as this process sees them."""

    def __init__(
        self, zygote: Zygote, number: int, most: int, parts: tuple[str, ...], first: GuestEnds
    ) -> None:
        """``first`` has the listener of the filter that all of them have, and their proc."""
        self.zygote = zygote
        self.number = number
        self.most = most
        self.parts = parts
        self.lock = _thread.allocate_lock()  # around one fork at a time
        self.alive: list[Branch] = []
        self._first = first
        self._group = _pid(first)
        self._known: dict[int, bytes] = {}  # members by their numbers, with when they began
        self._ending: dict[int, bytes] = {}  # and those that were closed, until they are gone
        handed, first.handed_over = first.handed_over, []
        self.listener = handed[0] if handed else -1
        self._proc = handed[1:2]  # until the zygote has it
        self.asking: dict[int, notify.Asked] = {}  # copies that wait for their descriptors
        self.closed = False

    def close(self, *, mine: bool = True) -> None:
        """Let go; its first guest has ended, and all the others with it.

        ``mine``: as with ``Live.close``.  A fork under way in another thread ends by that.
        """
        if mine:
            self.lock.acquire()
        try:
            if not self.closed:
                self.closed = True
                for fd in (self.listener, *self._proc):
                    if fd >= 0:
                        os.close(fd)
        finally:
            if mine:
                self.lock.release()

    def gone(self, live: Branch) -> None:
        """A branch has ended."""
        if live in self.alive:
            self.alive.remove(live)
            self._ending[live.process] = self._known.get(live.process, b"")

    def await_place(self) -> None:
        """Wait for those that end where they leave no place; the zygote refuses what comes before."""
        until = time.monotonic() + READY_S
        while len(self.alive) + len(self._ending) >= SPARE * self.most:
            for pid, began in list(self._ending.items()):
                if _stat(pid)[_BEGAN : _BEGAN + 1] != [began]:
                    self._ending.pop(pid, None)
                    break
            else:
                if time.monotonic() > until:
                    break
                time.sleep(_PAUSE_S)

    def find(self) -> list[int]:
        """The copy that was let happen, alive or not; whoever cannot be found goes with all."""
        until = time.monotonic() + FOUND_S
        while not (found := self.new(ended=True)):
            if time.monotonic() > until:
                self._first.kill()
                raise SetupFailed("fork", "its copy cannot be found; the lineage was ended")
            time.sleep(_PAUSE_S)
        return found

    def new(self, *, ended: bool = False) -> list[int]:
        """Processes of this lineage that are none of its members; those that have ended, too?"""
        found: list[int] = []
        alive = {live.process for live in self.alive}
        known = {pid: began for pid, began in self._known.items() if pid in alive}
        for pid in account.children(self.zygote.pid):
            if pid in alive:
                continue
            fields = _stat(pid)
            if len(fields) < _BEGAN or int(fields[2]) != self._group or pid == self._group:
                continue
            if self._known.get(pid) == fields[_BEGAN]:
                known[pid] = fields[_BEGAN]
            elif ended or fields[0] not in (b"Z", b"X"):
                found.append(pid)
        self._known = known  # the number of one that is gone may be another's from now on
        return found

    def take_in(self, pid: int, ends: GuestEnds, their_status: _socket.socket) -> int:
        """Have the zygote adopt a branch, and wait until it has; a pidfd of it."""
        inner = int(account.field(pid, b"NSpid:").split()[-1])
        pidfd = process.open_pidfd(pid)
        try:
            fields = _stat(pid)
            if len(fields) <= _BEGAN or int(fields[2]) != self._group:
                raise SetupFailed("adopt", "it is not what it was", retryable=True)
            message = pack("adopt", lineage=self.number, pid=inner, parts=list(self.parts))
            self.zygote.tell(message, [their_status.fileno(), pidfd, *self._proc])
            self._known[pid] = fields[_BEGAN]
            while self._proc:
                os.close(self._proc.pop())
            poll = select.poll()
            poll.register(ends.status.fileno(), select.POLLIN)
            their_status.close()
            if not poll.poll(READY_S * 1000):
                raise SetupFailed("adopt", "the zygote did not answer in time", retryable=True)
            _raise_refusal(ends.status.recv(_TEXT, _socket.MSG_PEEK))
        except BaseException:
            process.signal_pidfd(pidfd, process.SIGKILL)
            os.close(pidfd)
            raise
        return pidfd


class Branch(Live):
    """A branch and what drives it."""

    def __init__(
        self,
        lineage: Lineage,
        pid: int,
        ends: GuestEnds,
        limits: Limits,
        budget: Budget,
        settings: Mapping[str, Any],
        desk: Desk | None,
    ) -> None:
        """Drive it until it waits for its first run."""
        self.lineage = lineage
        self.process = pid
        now = time.monotonic()
        order = Run(1, "", "<fork>", {}, settings=settings)
        lineage.alive.append(self)
        try:
            super().__init__(lineage.zygote, ends, order, limits, budget, Feed(), now, now, desk)
        except BaseException:
            lineage.gone(self)
            ends.kill()
            ends.close()
            raise
        self.loop.life.start_by(time.monotonic() + READY_S)
        self.started = self.start()

    def close(self, *, mine: bool = True) -> None:
        """End it and let go of it."""
        super().close(mine=mine)
        self.lineage.gone(self)


def fork(live: Live, lineage: Lineage, limits: Limits, budget: Budget, desk: Desk | None) -> Branch:
    """A branch of a guest that waits for a run.

    ``limits`` are those of the branch; their bounds of time hold for the copying, too.  ``desk``:
    where its host functions are called; closed with it, and by the caller where there is none.
    Raises ``ForkRefused`` where the guest cannot be copied as it is, ``SandboxFailure``.
    """
    pid = _pid(live.ends)
    with lineage.lock:
        if lineage.closed:
            raise ForkRefused("the first sandbox of its lineage has ended")
        if len(lineage.alive) >= lineage.most:
            raise ForkRefused(
                f"{lineage.most} branches are alive, as many as there may be; close one, or make "
                "the first sandbox with more branches="
            )
        lineage.await_place()
        status, their_status = fdpass.message_pair()
        ends: GuestEnds | None = None
        try:
            ends, theirs = _make_ends(status)
            try:
                found, inodes = _one_more(live, lineage, pid, theirs, limits, budget)
                asked = lineage.take_in(found, ends, their_status)
                _give(lineage, found, asked, theirs)
            finally:
                for fd in theirs.values():
                    os.close(fd)
        except BaseException:
            _end_all(lineage)
            if ends is not None:
                ends.close()
            raise
        finally:
            their_status.close()
        settings = {
            "time": [limits.wall_s, limits.cpu_s, limits.grace_s],
            "value_bytes": limits.value_bytes,
            "artifact_bytes": limits.artifact_bytes,
        }
        branch = Branch(lineage, found, ends, limits, budget, settings, desk)
    try:
        if branch.started.status != "ok" or not branch.waiting:
            raise _refusal(branch.started, 1)
        shared = examine(found, inodes)
        if shared:
            more = f" and {len(shared) - _MOST_SHOWN} more" if len(shared) > _MOST_SHOWN else ""
            raise ForkRefused(f"a branch would share {'; '.join(shared[:_MOST_SHOWN])}{more}")
        # Where its root is, and what is mounted there, is not for the code to change.
        where = os.open(f"/proc/{found}/root/work", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        ends.work = Work(where)
        remember(ends.work)
    except OSError as error:
        branch.close()
        text = f"its process cannot be looked at: {error.strerror} ({error.filename})"
        raise SetupFailed("fork", text) from error
    except BaseException:
        branch.close()
        raise
    return branch


def _make_ends(status: _socket.socket) -> tuple[GuestEnds, dict[int, int]]:
    """Our ends of a branch, and those for the branch by the numbers that they get there."""
    link, their_link = fdpass.stream_pair()
    theirs = {_LINK: their_link.detach()}
    opened: list[int] = []
    try:
        theirs[0], writing = os.pipe()
        os.close(writing)
        for number in (1, 2):
            reading, theirs[number] = os.pipe()
            opened.append(reading)
    except OSError as error:
        for fd in (*theirs.values(), *opened):
            os.close(fd)
        link.close()
        status.close()
        raise SetupFailed("descriptors", error.strerror or "", retryable=True) from error
    link.setblocking(False)
    return GuestEnds(status, link, None, *opened), theirs


def _one_more(
    live: Live,
    lineage: Lineage,
    pid: int,
    theirs: dict[int, int],
    limits: Limits,
    budget: Budget,
) -> tuple[int, set[tuple[int, int]]]:
    """Have the parent copy itself: the copy, and what the kernel calls its descriptors."""
    inodes = {(found.st_dev, found.st_ino) for found in map(os.fstat, theirs.values())}
    result, threads, copied = _copy(live, lineage, pid, limits, budget)
    if threads != 1 and not copied:
        text = f"it has {threads} threads, and a copy has one; join them first"
        raise ForkRefused(text, result)
    found = lineage.find() if copied else []
    if result.status != "ok" or len(found) != 1:
        raise _refusal(result, len(found))
    return found[0], inodes


def _copy(
    live: Live, lineage: Lineage, pid: int, limits: Limits, budget: Budget
) -> tuple[Result, int, bool]:
    """The parent's part: it is told, asks the kernel, is let, answers, and waits again.

    Its result, how many threads it had when it asked last, and whether it was let: once, so that
    there is one copy and no other, whatever it asks for.
    """
    loop = live.loop
    threads, copied = 1, False
    lineage.asking.clear()

    def asked(event: int) -> None:
        nonlocal threads, copied
        if not event & select.POLLIN:
            loop.unwatch(lineage.listener)
            return
        waiting = notify.receive(lineage.listener)
        if waiting is None:
            return
        if waiting.first == TAKE and waiting.task != pid:
            lineage.asking[waiting.task] = waiting  # the copy is quick, and has to wait for us
            return
        ours = waiting.task == pid and waiting.first == BRANCH and not copied
        if ours:
            threads = int(account.field(pid, b"Threads:") or b"1")
            ours = threads == 1
        copied = copied or ours
        notify.answer(lineage.listener, waiting, go_on=ours)

    loop.watch(lineage.listener, asked)
    try:
        result = live.turn(Fork(run_id=1, settings={}), limits, budget).finish()
        return result, threads, copied
    finally:
        loop.unwatch(lineage.listener)


def _give(lineage: Lineage, pid: int, pidfd: int, theirs: dict[int, int]) -> None:
    """Answer the copy, and nobody else: the kernel puts its descriptors where they belong.

    What: they pass through no process but this one.  Because: the parent could keep them, and
    speak for its branch ever after.  Then: neither has anything of the other's.
    """
    until = time.monotonic() + READY_S
    try:
        poll = select.poll()
        poll.register(lineage.listener, select.POLLIN)
        poll.register(pidfd, select.POLLIN)
        while True:
            waiting = lineage.asking.pop(pid, None)
            if waiting is not None and notify.give(lineage.listener, waiting, theirs):
                break
            left = until - time.monotonic()
            ready = dict(poll.poll(max(left, 0) * 1000))
            if not ready or pidfd in ready or left <= 0:
                raise SetupFailed("fork", "the copy did not ask for its descriptors")
            waiting = notify.receive(lineage.listener)
            if waiting is None:
                continue
            if waiting.first == TAKE and waiting.task == pid:
                lineage.asking[pid] = waiting
            else:
                notify.answer(lineage.listener, waiting, go_on=False)
    finally:
        os.close(pidfd)
        for waiting in lineage.asking.values():
            notify.answer(lineage.listener, waiting, go_on=False)
        lineage.asking.clear()


def _raise_refusal(answer: bytes) -> None:
    """Raise what the zygote says where it did not take a branch in."""
    for kind, fields in Unpacker().feed(answer):
        if kind == "failed":
            text = f"{fields['text']} (errno {fields['errno']})"
            raise SetupFailed(fields["step"], text, retryable=fields["errno"] in SHORTAGES)


def _refusal(result: Result, copies: int) -> ForkRefused:
    if result.error is not None:
        return ForkRefused(f"{result.error.type}: {result.error.message}", result)
    if result.status != "ok":
        reason = f"limit {result.limit.name}" if result.limit is not None else result.status
        return ForkRefused(f"the copying ended otherwise: {reason}", result)
    return ForkRefused(f"it made {copies} copies of itself in place of one", result)


def _end_all(lineage: Lineage) -> None:
    """End the copies that are no branches, and have the zygote collect them."""
    for pid in (pid for _ in range(_LOOKS) for pid in lineage.new(ended=True)):
        try:
            pidfd = process.open_pidfd(pid)
        except OSError:
            continue
        process.signal_pidfd(pidfd, process.SIGKILL)
        status, their_status = fdpass.message_pair()
        try:
            lineage.zygote.tell(pack("collect"), [their_status.fileno(), pidfd])
            poll = select.poll()
            poll.register(status.fileno(), select.POLLIN)
            poll.poll(READY_S * 1000)  # until it is gone
        except (OSError, SandboxFailure):
            continue  # the zygote is gone, and they with it
        finally:
            for end in (status, their_status):
                end.close()
            os.close(pidfd)


# --- looking at a branch ------------------------------------------------------------------------


def examine(pid: int, given: set[tuple[int, int]]) -> list[str]:
    """What a stopped branch shares with anybody, in words; nothing where it is on its own.

    What: each descriptor is one that we gave it, or was opened in its own mount namespace, on a
    mount that is not covered; so is its working directory; no mapping is shared, or of a file
    in a writable place of the lineage.  Because: an open file is of the mount it was opened on,
    and the kernel tells which.  Then: what came from the parent shows, whatever the agent said.
    """
    _await_stop(pid)
    shown, files = _mounts(pid)
    shared: list[str] = []
    for name in sorted(os.listdir(f"/proc/{pid}/fd"), key=int):
        path = f"/proc/{pid}/fd/{name}"
        found = os.stat(path)
        if (found.st_dev, found.st_ino) in given:
            continue
        if _mount_of(f"/proc/{pid}/fdinfo/{name}") not in shown:
            shared.append(f"descriptor {name}, {os.readlink(path)[:200]!r}")
    where = os.open(f"/proc/{pid}/cwd", os.O_PATH | os.O_CLOEXEC)
    try:
        if _mount_of(f"/proc/self/fdinfo/{where}") not in shown:
            shared.append("its working directory")
    finally:
        os.close(where)
    for line in account.read(f"/proc/{pid}/maps").splitlines():
        _, mode, _, device, inode, *path_ = line.split(None, 5)
        if mode[3:4] == b"s" or (device in files and inode != b"0"):
            name = path_[0].decode("utf-8", "replace")[:200] if path_ else "without a name"
            shared.append(f"a mapping of {name!r}")
    return shared


def _await_stop(pid: int) -> None:
    """Wait until it stands still: what moves while it is looked at could move out of sight."""
    until = time.monotonic() + READY_S
    while _stat(pid)[:1] != [b"T"]:
        if time.monotonic() > until:
            raise SetupFailed("fork", "the branch did not come to a halt", retryable=True)
        time.sleep(_PAUSE_S)
    if account.field(pid, b"Threads:") != b"1":
        raise ForkRefused("a branch would have threads of its own before it has code")


def _mounts(pid: int) -> tuple[set[bytes], set[bytes]]:
    """The mounts that paths lead to in a branch, and the devices of ``/work`` and ``/tmp``."""
    points: dict[bytes, bytes] = {}
    parents: dict[bytes, bytes] = {}
    devices: set[bytes] = set()
    for line in account.read(f"/proc/{pid}/mountinfo").splitlines():
        number, parent, device, _, point, *_ = line.split()
        points[number], parents[number] = point, parent
        if point in (b"/work", b"/tmp"):
            major, minor = map(int, device.split(b":"))
            devices.add(b"%02x:%02x" % (major, minor))
    covered = {parent for number, parent in parents.items() if points.get(parent) == points[number]}
    if not devices:
        raise OSError(0, "it has no mounts of its own", f"/proc/{pid}/mountinfo")
    return set(points) - covered, devices


def _mount_of(path: str) -> bytes:
    for line in account.read(path).splitlines():
        if line.startswith(b"mnt_id:"):
            return line[7:].strip()
    raise OSError(0, "the kernel does not say", path)


def _stat(pid: int) -> list[bytes]:
    """The fields of a process after its name: state, parent, group, ..."""
    return account.read(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def _pid(ends: GuestEnds) -> int:
    pid = account.pid_of(ends.pidfd) if ends.pidfd is not None else None
    if pid is None:
        raise ForkRefused("its interpreter has ended")
    return pid
