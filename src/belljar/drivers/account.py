"""What a guest uses while it runs: processor time and memory.

    account = choose(pidfd, limits, group, first)
    account.cpu_s(), account.memory_bytes()

Three sources with one interface.  ``OneProcess`` is the CPU clock of a single process and its
resident memory.  ``ProcessTree`` adds up a guest that may make processes, from ``/proc``.
``GroupAccount`` is the kernel's own sum for the guest's cgroup, where it has one.

All of it is the kernel's count, and none of it asks the guest.

A process is asked for through whichever of its threads still runs: the first one may end
before the others, and then the kernel has nothing to say under the process's own number.
"""

from __future__ import annotations

import math
import os
import time

from ..kernel import process
from ..kernel.libc import syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from ..kernel.cgroups import Group
    from ..policy import Limits

    T = TypeVar("T")

MOST_PROCESSES = 4097  # what limits.processes can allow, and the guest itself
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGESIZE")
_TEXT = 1 << 16
_KCMP_VM = 1  # kcmp(2): is it one address space
_TRIES = 8  # at finding a thread that lives long enough to be asked: an answer takes some 20 us
EXACT_S = 0.1  # in which an exact look that nothing asks for is done, or is left
DEAR_SHARE = 0.02  # of one core, at most, goes into exact looks while nothing is suspicious
DEAR_MOST_S = 0.25  # and a suspicion waits no longer: one core fills some 500 MiB in that time


class Account:
    """A guest's use of the machine so far; None where it cannot be told, or has ended."""

    def cpu_s(self) -> float | None:
        """User and system time of all that belongs to the guest."""
        raise NotImplementedError

    def memory_bytes(self, until: float = math.inf) -> int | None:
        """What it holds now, the interpreter's own part included.

        None as well where it takes longer than ``until``, on the monotonic clock.
        """
        raise NotImplementedError

    def most_bytes(self) -> int | None:
        """No less than what it holds now, at a cost that the guest has no hand in."""
        return self.memory_bytes()

    def peak_bytes(self) -> int | None:
        """The most it held, as far as the source tells."""
        raise NotImplementedError

    def pids(self) -> list[int]:
        """The processes that are known by number, where they are asked one by one."""
        return []

    def signal_others(self, number: int) -> None:
        """Signal the processes of the guest beside its own, which has a pidfd."""

    def stopped(self) -> bool:
        """Whether no thread of the processes that are known by number runs."""
        return True


class OneProcess(Account):
    """A guest that is one process: the exact clock, at the price of one system call."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._clock = clock_of(pid)

    def cpu_s(self) -> float | None:
        return _clock_s(self._clock)

    def memory_bytes(self, until: float = math.inf) -> int | None:
        return _of_any_thread(self._pid, _resident)

    def peak_bytes(self) -> int | None:
        return _of_any_thread(self._pid, _most_resident)

    def open_figures(self) -> int | None:
        """What ``peak_in`` reads, open: a third of the time that finding it anew takes."""
        try:
            return os.open(f"/proc/{self._pid}/status", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None


class ProcessTree(Account):
    """A guest and every process that descends from it.

    What: the tree is walked from its roots at each question.  Because: no file of the kernel
    sums up a tree.  Then: a parent is read before its children, so that a child which ends
    meanwhile is missed once rather than counted twice: the sums may be too small for one
    question, and are never too large.  Orphans go to the first process of the guest's PID
    namespace, which is why that one is a root too: the guest comes first, then that one.
    """

    def __init__(self, roots: Sequence[int], most: int = MOST_PROCESSES) -> None:
        self._roots = tuple(roots)
        self._namespace = _namespace(self._roots[0])
        self._most = most
        self._peak = 0
        self._cpu_s = 0.0

    def pids(self) -> list[int]:
        """The processes, parents before children."""
        return list(self._parents())

    def _parents(self) -> dict[int, int]:
        """The processes, parents before children, each with its parent; a root's is 0."""
        found = dict.fromkeys(self._roots, 0)
        todo = list(self._roots)
        while todo and len(found) < self._most:
            parent = todo.pop()
            for child in children(parent):
                if child not in found and len(found) < self._most:
                    found[child] = parent
                    todo.append(child)
        return found

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

    def memory_bytes(self, until: float = math.inf) -> int | None:
        total = 0
        threads: dict[int, int] = {}  # process -> its thread that was asked
        for pid, parent in self._parents().items():
            if time.monotonic() >= until:
                return None
            found = _of_any_thread(pid, _held_by)
            if found is None:
                continue
            size, threads[pid] = found
            # A vfork lives in its parent's memory until it executes a program.
            if parent not in threads or not _same_memory(threads[parent], threads[pid]):
                total += size
        self._peak = max(self._peak, total)
        return total if threads else None

    def most_bytes(self) -> int | None:
        """As if nothing were shared.  It waits for no lock of the guest's and walks no map."""
        found = [_of_any_thread(pid, _counted) for pid in self._parents()]
        sizes = [size for size in found if size is not None]
        return sum(sizes) if sizes else None

    def peak_bytes(self) -> int | None:
        return self._peak or None

    def signal_others(self, number: int) -> None:
        """As many as there are when it is looked; one made meanwhile is met the next time."""
        pids = self.pids()
        for pid in pids:
            if pid in self._roots:
                continue  # the guest's own, and the one that only collects
            try:
                pidfd = process.open_pidfd(pid)
            except OSError:
                continue
            try:
                # Held by now, so that what is seen under this number is the process behind it.
                if self._is_ours(pid, pids):
                    process.signal_pidfd(pidfd, number)
            finally:
                os.close(pidfd)

    def stopped(self) -> bool:
        collects = self._roots[1:]  # the first process: not the guest's, and never stopped
        return all(_stopped(pid) for pid in self.pids() if pid not in collects)

    def _is_ours(self, pid: int, pids: Sequence[int]) -> bool:
        """Whether the process under this number is the guest's: it may be another's by now.

        Root without CAP_SYS_PTRACE, as in a container, may not ask for a guest's namespace.
        There the parent decides: nobody else has a process of the guest's as its parent.
        """
        if self._namespace is not None:
            return _namespace(pid) == self._namespace
        return _parent(pid) in pids


class GroupAccount(Account):
    """The cgroup's own figures: every process that ever was in it, files in memory included."""

    def __init__(self, group: Group) -> None:
        self._group = group

    def cpu_s(self) -> float | None:
        return self._group.cpu_s()

    def memory_bytes(self, until: float = math.inf) -> int | None:
        return self._group.memory_bytes()

    def peak_bytes(self) -> int | None:
        return self._group.peak_bytes()


def choose(
    pidfd: int, limits: Limits, group: Group | None, first: int | None = None
) -> Account | None:
    """The source for a guest; None if it has ended already.

    ``first`` is a pidfd of the first process of its PID namespace, to which orphans go.
    """
    if group is not None:
        return GroupAccount(group)
    pid = pid_of(pidfd)
    if pid is None:
        return None
    if not limits.processes:
        return OneProcess(pid)
    above = None if first is None else pid_of(first)
    return ProcessTree([pid] if above is None else [pid, above])


class Sampler:
    """Memory beyond what the guest had before the code came, and what asking for it cost.

    What: a coarse look each time, an exact one where it is due, or where the coarse one says
    that there may be more than ``enough``.  Because: an exact look walks all that is mapped,
    and code that maps sixty thousand pieces in each process makes it as dear as it likes.
    Then: what an exact look costs delays the next one, and a suspicion overrules the delay.
    """

    def __init__(self, account: Account, enough: int) -> None:
        self._account = account
        self._enough = enough
        self._base = account.memory_bytes() or 0
        self._exact_at = 0.0  # when the next exact look is due
        self._suspect_at = 0.0  # when a suspicion is followed

    def __call__(self, until: float = math.inf) -> tuple[int | None, float]:
        """The bytes, None where only the coarse look was taken, and its processor time.

        ``until`` is when there is something else to do, on the monotonic clock: processes that
        change their maps all the time keep whoever walks these waiting.
        """
        began = time.thread_time()
        most = self._account.most_bytes()
        coarse_s = time.thread_time() - began
        now = time.monotonic()
        suspicious = most is not None and most - self._base > self._enough
        if now < (self._suspect_at if suspicious else self._exact_at):
            return None, coarse_s
        began = time.thread_time()
        size = self._account.memory_bytes(until if suspicious else min(until, now + EXACT_S))
        delay_s = (time.thread_time() - began) / DEAR_SHARE
        now = time.monotonic()
        self._exact_at, self._suspect_at = now + delay_s, now + min(delay_s, DEAR_MOST_S)
        return (None if size is None else max(size - self._base, 0)), coarse_s


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
    for task in _threads(pid):
        # The kernel may leave out some while others end; the next question finds them.
        found += [int(word) for word in _read(f"/proc/{pid}/task/{task}/children").split()]
    return found


def memory_of(pid: int) -> int | None:
    """The share of a process in the memory of the machine, its page tables included.

    Proportional (PSS) where this user may ask: pages that several processes share count once.
    Else what is its own or shared by it, which counts such pages once for each.
    """
    found = _of_any_thread(pid, _held_by)
    return None if found is None else found[0]


def _of_any_thread(pid: int, ask: Callable[[int], T | None]) -> T | None:
    """What the first thread of a process answers, or another one where that has ended."""
    answer = ask(pid)
    for _ in range(_TRIES):
        if answer is not None:
            return answer
        others = [task for task in _threads(pid) if task != pid]
        if not others:
            return None
        answer = next((found for found in map(ask, others) if found is not None), None)
    return answer


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def _stopped(pid: int) -> bool:
    """Whether every thread is stopped or dead, or will stop as soon as it leaves the kernel (D).

    That it will is only known where it has been told: of a process that was made meanwhile, and
    waits in the kernel, it is not.
    """
    in_kernel = stands = False
    for task in _threads(pid):
        fields = _read(f"/proc/{pid}/task/{task}/stat").rpartition(b")")[2].split()
        state = fields[0] if fields else b"X"
        if state == b"D":
            in_kernel = True
        elif state in (b"T", b"t"):
            stands = True  # and with it the whole process will
        elif state not in (b"Z", b"X"):
            return False
    return not in_kernel or stands or _stop_pending(pid)


def _stop_pending(pid: int) -> bool:
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(b"ShdPnd:"):
            return bool(int(line[7:], 16) >> (process.SIGSTOP - 1) & 1)
    return True  # it has ended


def _resident(task: int) -> int | None:
    words = _read(f"/proc/{task}/statm").split()
    # One that has ended and was not waited for yet has no pages.
    return int(words[1]) * _PAGE or None if len(words) > 1 else None


def peak_in(figures: int) -> int | None:
    """The most memory that a process held, by its open ``/proc/PID/status``."""
    try:
        return _kib(os.pread(figures, _TEXT, 0), b"VmHWM:")
    except OSError:
        return None


def _most_resident(task: int) -> int | None:
    return _kib(_read(f"/proc/{task}/status"), b"VmHWM:")


def _held_by(task: int) -> tuple[int, int] | None:
    """The memory of a thread's process, and the thread."""
    share = _kib(_read(f"/proc/{task}/smaps_rollup"), b"Pss:")
    if share is None:
        most = _counted(task)
        return None if most is None else (most, task)
    # Page tables are nobody else's, and no part of what is resident.
    return share + (_kib(_read(f"/proc/{task}/status"), b"VmPTE:") or 0), task


def _counted(task: int) -> int | None:
    """What the kernel keeps count of, so that nobody has to walk: pages of data, page tables."""
    text = _read(f"/proc/{task}/status")
    sizes = [_kib(text, name) for name in (b"RssAnon:", b"RssShmem:", b"VmPTE:")]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _same_memory(one: int, other: int) -> bool:
    """Whether two threads live in one address space; False where this user may not ask."""
    try:
        return syscall("kcmp", one, other, _KCMP_VM, 0, 0) == 0
    except OSError:
        return False


def _parent(pid: int) -> int | None:
    return _kib(_read(f"/proc/{pid}/status"), b"PPid:", 1)


def _namespace(pid: int) -> int | None:
    return _of_any_thread(pid, _own_namespace)


def _own_namespace(task: int) -> int | None:
    try:
        return os.stat(f"/proc/{task}/ns/pid").st_ino
    except OSError:
        return None


def _clock_s(clock: int) -> float | None:
    try:
        return time.clock_gettime(clock)
    except OSError:
        return None  # it has just ended; its usage comes with the exit


def read(path: str) -> bytes:
    """A file of /proc; nothing where it is gone, or not for us."""
    return _read(path)


def field(pid: int, name: bytes) -> bytes:
    """What ``/proc/PID/status`` says under a name, such as ``Threads:``; empty where nothing."""
    for line in _read(f"/proc/{pid}/status").splitlines():
        if line.startswith(name):
            return line[len(name) :].strip()
    return b""


def _kib(text: bytes, name: bytes, unit: int = 1024) -> int | None:
    at = 0 if text.startswith(name) else text.find(b"\n" + name) + 1
    if not at and not text.startswith(name):
        return None
    return int(text[at + len(name) :].split(None, 1)[0]) * unit


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
