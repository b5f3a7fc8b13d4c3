"""What a guest uses while it runs: processor time and memory.

    account = choose(pidfd, limits, group)
    account.cpu_s(), account.memory_bytes()

Three sources with one interface.  ``OneProcess`` is the CPU clock of a single process and its
resident memory.  ``ProcessTree`` adds up a guest that may make processes, from ``/proc``.
``GroupAccount`` is the kernel's own sum for the guest's cgroup, where it has one.

All of it is the kernel's count, and none of it asks the guest.
"""

from __future__ import annotations

import os
import time

from ..kernel import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..kernel.cgroups import Group
    from ..policy import Limits

MOST_PROCESSES = 4097  # what limits.processes can allow, and the guest itself
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGESIZE")
_TEXT = 1 << 16


class Account:
    """A guest's use of the machine so far; None where it cannot be told, or has ended."""

    def cpu_s(self) -> float | None:
        """User and system time of all that belongs to the guest."""
        raise NotImplementedError

    def memory_bytes(self) -> int | None:
        """What it holds now, the interpreter's own part included."""
        raise NotImplementedError

    def peak_bytes(self) -> int | None:
        """The most it held, as far as the source tells."""
        raise NotImplementedError

    def signal(self, number: int) -> None:
        """Signal all that belongs to the guest."""
        raise NotImplementedError


class OneProcess(Account):
    """A guest that is one process: the exact clock, at the price of one system call."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._clock = clock_of(pid)

    def cpu_s(self) -> float | None:
        return _clock_s(self._clock)

    def memory_bytes(self) -> int | None:
        words = _read(f"/proc/{self._pid}/statm").split()
        # One that has ended and was not waited for yet has no pages.
        return int(words[1]) * _PAGE or None if len(words) > 1 else None

    def peak_bytes(self) -> int | None:
        return _kib(_read(f"/proc/{self._pid}/status"), b"VmHWM:")

    def signal(self, number: int) -> None:
        _signal(self._pid, _namespace(self._pid), number)


class ProcessTree(Account):
    """A guest and every process that descends from it.

    What: the tree is walked from its roots at each question.  Because: no file of the kernel
    sums up a tree.  Then: a parent is read before its children, so that a child which ends
    meanwhile is missed once rather than counted twice: the sums may be too small for one
    question, and are never too large.  Orphans go to the first process of the guest's PID
    namespace, which is why that one is a root too.
    """

    def __init__(self, roots: Sequence[int], most: int = MOST_PROCESSES) -> None:
        self._roots = tuple(roots)
        self._namespace = _namespace(self._roots[0])
        self._most = most
        self._peak = 0
        self._cpu_s = 0.0

    def pids(self) -> list[int]:
        """The processes, parents before children."""
        found: dict[int, None] = dict.fromkeys(self._roots)
        todo = list(self._roots)
        while todo and len(found) < self._most:
            for child in children(todo.pop()):
                if child not in found and len(found) < self._most:
                    found[child] = None
                    todo.append(child)
        return list(found)

    def cpu_s(self) -> float | None:
        total = 0.0
        seen = False
        todo = list(self._roots)
        met = set(todo)
        while todo:
            pid = todo.pop(0)
            fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
            if len(fields) < 15:
                continue  # it has ended, and its parent has its time
            seen = True
            # Of those it waited for: only the coarse figure is to be had.
            total += (int(fields[13]) + int(fields[14])) * _TICK_S
            own = _clock_s(clock_of(pid))
            total += own if own is not None else (int(fields[11]) + int(fields[12])) * _TICK_S
            for child in children(pid):
                if child not in met and len(met) < self._most:
                    met.add(child)
                    todo.append(child)
        # What a process used that nobody waited for does not come back once it was seen.
        self._cpu_s = max(self._cpu_s, total)
        return self._cpu_s if seen else None

    def memory_bytes(self) -> int | None:
        total = 0
        seen = False
        for pid in self.pids():
            size = memory_of(pid)
            if size is not None:
                total += size
                seen = True
        self._peak = max(self._peak, total)
        return total if seen else None

    def peak_bytes(self) -> int | None:
        return self._peak or None

    def signal(self, number: int) -> None:
        """As many as there are when it is looked; one made meanwhile is met the next time."""
        for pid in self.pids():
            _signal(pid, self._namespace, number)


class GroupAccount(Account):
    """The cgroup's own figures: every process that ever was in it, files in memory included."""

    def __init__(self, group: Group) -> None:
        self._group = group

    def cpu_s(self) -> float | None:
        return self._group.cpu_s()

    def memory_bytes(self) -> int | None:
        return self._group.memory_bytes()

    def peak_bytes(self) -> int | None:
        return self._group.peak_bytes()

    def signal(self, number: int) -> None:
        """A group has no signals but the last; stopping it is ``Group.freeze``."""
        if number == process.SIGKILL:
            self._group.kill()


def choose(pidfd: int, limits: Limits, group: Group | None) -> Account | None:
    """The source for a guest; None if it has ended already."""
    if group is not None:
        return GroupAccount(group)
    pid = pid_of(pidfd)
    if pid is None:
        return None
    return ProcessTree(roots_of(pid)) if limits.processes else OneProcess(pid)


class Sampler:
    """Memory beyond what the guest had before the code came, and what asking for it cost."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._base = account.memory_bytes() or 0

    def __call__(self) -> tuple[int | None, float]:
        before = time.thread_time()
        size = self._account.memory_bytes()
        cost_s = time.thread_time() - before
        return (None if size is None else max(size - self._base, 0)), cost_s


# ---------------------------------------------------------------------- /proc


def pid_of(pidfd: int) -> int | None:
    """The number of a process in this PID namespace, as the kernel says of the descriptor."""
    for line in _read(f"/proc/self/fdinfo/{pidfd}").splitlines():
        if line.startswith(b"Pid:"):
            pid = int(line[4:])
            return pid if pid > 0 else None
    return None


def clock_of(pid: int) -> int:
    """The number of a process's CPU clock, as clock_getcpuclockid(3) makes it."""
    return (~pid << 3) | 2


def children(pid: int) -> list[int]:
    """The processes that any thread of this one made or adopted."""
    found: list[int] = []
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for task in tasks:
        # The kernel may leave out some while others end; the next question finds them.
        found += [int(word) for word in _read(f"/proc/{pid}/task/{task}/children").split()]
    return found


def roots_of(pid: int) -> tuple[int, ...]:
    """A guest, and the first process of its PID namespace, to which orphans go.

    Both are children of the zygote; which of them share a namespace only a host may read
    that owns the guest's user namespace.
    """
    inside = _namespace(pid)
    parent = _kib(_read(f"/proc/{pid}/status"), b"PPid:", 1)
    if inside is None or not parent:
        return (pid,)
    if inside == _namespace(parent) or inside == _namespace(os.getpid()):
        return (pid,)
    beside = [one for one in children(parent) if one != pid and _namespace(one) == inside]
    return (pid, *beside)


def memory_of(pid: int) -> int | None:
    """The share of a process in the memory of the machine.

    Proportional (PSS) where this user may ask: pages that several processes share count once.
    Else what is its own or shared by it, which counts such pages once for each.
    """
    text = _read(f"/proc/{pid}/smaps_rollup")
    if text:
        return _kib(text, b"Pss:")
    text = _read(f"/proc/{pid}/status")
    anonymous = _kib(text, b"RssAnon:")
    shared = _kib(text, b"RssShmem:")
    return None if anonymous is None or shared is None else anonymous + shared


def _signal(pid: int, namespace: int | None, number: int) -> None:
    """Signal a process if it is in this PID namespace: its number may be another's by now."""
    try:
        pidfd = process.open_pidfd(pid)
    except OSError:
        return
    try:
        # Held by now, so that what is seen under this number is the process behind it.
        if namespace is not None and _namespace(pid) == namespace:
            process.signal_pidfd(pidfd, number)
    finally:
        os.close(pidfd)


def _namespace(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return None


def _clock_s(clock: int) -> float | None:
    try:
        return time.clock_gettime(clock)
    except OSError:
        return None  # it has just ended; its usage comes with the exit


def _kib(text: bytes, name: bytes, unit: int = 1024) -> int | None:
    for line in text.splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * unit
    return None


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        data = b""
        while piece := os.read(fd, _TEXT):
            data += piece
        return data
    except OSError:
        return b""  # it ended between the two calls
    finally:
        os.close(fd)
