"""What a guest uses while it runs, by processes made for the purpose (R1, R2)."""

from __future__ import annotations

import itertools
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from belljar.bpf.syscalls import arch
from belljar.drivers import account
from belljar.drivers.account import OneProcess, ProcessTree, Sampler
from belljar.kernel import process
from belljar.kernel.libc import MACHINE
from belljar.policy import Limits

MIB = 2**20
NUMBERS = arch(MACHINE).table
# A tree of three: each holds 24 MiB of its own and burns 0.2 s; the last word of the leaf is up.
TREE = """
import os, sys, time
depth = int(sys.argv[1])
held = bytearray(os.urandom(1 << 20) * 24)
while time.process_time() < 0.2: pass
if depth:
    import subprocess
    child = subprocess.Popen([sys.executable, "-S", "-c", sys.argv[2], str(depth - 1), sys.argv[2]],
        start_new_session=True)
else:
    print("up", flush=True)
time.sleep(600)
"""


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts programs and waits for their first line; ends them with all that descends."""
    children: list[subprocess.Popen[str]] = []

    def make(code: str, *arguments: str) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, "-S", "-c", code, *arguments], stdout=subprocess.PIPE, text=True
        )
        children.append(child)
        assert child.stdout is not None
        child.stdout.readline()
        return child

    yield make
    for child in children:
        end(child)


def end(child: subprocess.Popen[str]) -> None:
    while child.poll() is None:
        for pid in reversed(ProcessTree([child.pid]).pids()):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                continue
        time.sleep(0.01)
    assert child.stdout is not None
    child.stdout.close()


@pytest.fixture
def tree(start: Start) -> subprocess.Popen[str]:
    return start(TREE, "2", TREE)


def test_all_descendants_are_found_parents_first(tree: subprocess.Popen[str]) -> None:
    pids = ProcessTree([tree.pid]).pids()
    assert len(pids) == 3
    assert pids[0] == tree.pid
    for above, below in itertools.pairwise(pids):
        assert account.children(above) == [below]


def test_their_time_and_memory_are_added_up(tree: subprocess.Popen[str]) -> None:
    whole, one = ProcessTree([tree.pid]), OneProcess(tree.pid)
    cpu_s, own_s = whole.cpu_s(), one.cpu_s()
    assert cpu_s is not None
    assert own_s is not None
    assert 0.2 <= own_s < cpu_s
    assert cpu_s >= 0.6
    held, own = whole.memory_bytes(), one.memory_bytes()
    assert held is not None
    assert own is not None
    assert held >= 3 * 24 * MIB
    assert 24 * MIB <= own < held
    assert whole.peak_bytes() == held
    assert (one.peak_bytes() or 0) >= own


def test_memory_that_processes_share_counts_once(start: Start) -> None:
    """Proportionally, as far as this user may ask."""
    child = start(
        "import mmap, os, time\n"
        "held = mmap.mmap(-1, 64 << 20); held.write(bytes(64 << 20))\n"
        "if os.fork() == 0:\n    held[:] = bytes(64 << 20); print('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    if account._read(f"/proc/{child.pid}/smaps_rollup"):
        held = ProcessTree([child.pid]).memory_bytes() or 0
        assert 64 * MIB <= held < 128 * MIB


def test_without_proportions_shared_memory_counts_for_each(
    tree: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status file is everybody's to read."""
    read = account._read
    monkeypatch.setattr(
        account, "_read", lambda path: b"" if path.endswith("rollup") else read(path)
    )
    held = ProcessTree([tree.pid]).memory_bytes()
    assert held is not None
    assert held >= 3 * 24 * MIB


def test_time_of_children_that_were_waited_for_is_in_it(start: Start) -> None:
    child = start(
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    while time.process_time() < 0.3: pass\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "print('up', flush=True)\ntime.sleep(600)\n"
    )
    assert (OneProcess(child.pid).cpu_s() or 9) < 0.3
    assert (ProcessTree([child.pid]).cpu_s() or 0) >= 0.29  # ticks of 10 ms


def test_never_too_much_however_processes_come_and_go(start: Start) -> None:
    """Each child is read after its parent, so none is counted twice.  R2."""
    child = start(
        "import os, time\nprint('up', flush=True)\n"
        "while True:\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        until = time.process_time() + 0.01\n"
        "        while time.process_time() < until: pass\n"
        "        os._exit(0)\n"
        "    os.waitpid(pid, 0)\n"
    )
    began = time.monotonic()
    whole = ProcessTree([child.pid])
    for _ in range(300):
        cpu_s = whole.cpu_s()
        # One at a time is busy; what was used before we looked is start-up, and rounding.
        assert (cpu_s or 0) <= time.monotonic() - began + 1.0
        time.sleep(0.002)


def test_a_guest_that_has_ended_has_no_figures(start: Start) -> None:
    child = start("print('up', flush=True)")
    child.wait(60)
    for source in (OneProcess(child.pid), ProcessTree([child.pid])):
        assert source.cpu_s() is None
        assert source.memory_bytes() is None


def test_the_number_of_processes_looked_at_is_bounded(tree: subprocess.Popen[str]) -> None:
    assert len(ProcessTree([tree.pid], most=2).pids()) == 2


def test_what_was_there_before_the_code_is_not_its_own(tree: subprocess.Popen[str]) -> None:
    held, cost_s = Sampler(ProcessTree([tree.pid]), 64 * MIB)()
    assert held is not None
    assert held < 8 * MIB
    assert cost_s >= 0


class Dear(account.Account):
    """A guest that takes as long to look at as a test says, on a clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.cost_s = 0.0
        self.most = 0
        self.exact = 0  # looks
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "thread_time", lambda: self.now)

    def memory_bytes(self, until: float = math.inf) -> int | None:
        self.exact += 1
        self.now += self.cost_s
        return self.most

    def most_bytes(self) -> int | None:
        return self.most


def test_what_an_exact_look_costs_delays_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = Dear(monkeypatch)
    sample = Sampler(guest, 64 * MIB)
    guest.cost_s, guest.most = 1.0, 10 * MIB
    assert sample() == (10 * MIB, 0.0)
    guest.now += account.DEAR_MOST_S
    assert sample() == (None, 0.0)
    guest.now += 1.0 / account.DEAR_SHARE
    assert sample() == (10 * MIB, 0.0)


def test_no_cost_delays_following_a_suspicion(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that makes looking dear, and then takes what it wants."""
    guest = Dear(monkeypatch)
    sample = Sampler(guest, 64 * MIB)
    guest.cost_s = 1.0
    assert sample() == (0, 0.0)
    guest.most = 65 * MIB
    guest.now += account.DEAR_MOST_S
    assert sample() == (65 * MIB, 0.0)
    assert sample() == (None, 0.0)  # not at once again
    assert guest.exact == 3  # the first one before the code came


def test_looking_stops_where_there_is_something_else_to_do(tree: subprocess.Popen[str]) -> None:
    assert ProcessTree([tree.pid]).memory_bytes(until=time.monotonic()) is None


WITHOUT_FIRST_THREAD = """
import ctypes, threading, time
held = bytearray(24 << 20)
held[::4096] = bytes([1]) * len(held[::4096])
def go_on():
    time.sleep(0.2)
    print("up", flush=True)
    while True: time.sleep(0.001)
threading.Thread(target=go_on).start()
ctypes.CDLL(None).syscall(EXIT, 0)
"""


def test_a_process_whose_first_thread_has_ended_is_seen_and_signalled(start: Start) -> None:
    """R1, R2: the kernel says nothing more of it under its own number."""
    program = WITHOUT_FIRST_THREAD.replace("EXIT", str(NUMBERS["exit"]))
    forks = f"import os, sys\nif os.fork():\n    os.wait()\n    sys.exit()\n{program}"
    parent = start(forks)
    tree = ProcessTree([parent.pid])
    (child,) = account.children(parent.pid)
    assert b"State:\tZ" in account._read(f"/proc/{child}/status")
    for source in (OneProcess(child), ProcessTree([child])):
        assert (source.memory_bytes() or 0) > 24 * MIB
        assert (source.most_bytes() or 0) > 24 * MIB
        assert (source.peak_bytes() or 0) > 24 * MIB
    for number, state in ((process.SIGSTOP, b"T"), (process.SIGCONT, b"S")):
        tree.signal_others(number)
        (thread,) = (task for task in account._threads(child) if task != child)
        until = time.monotonic() + 60
        while b"State:\t" + state not in account._read(f"/proc/{thread}/status"):
            assert time.monotonic() < until
            time.sleep(0.01)


def test_page_tables_are_memory(start: Start) -> None:
    child = start(
        "import ctypes, time\n"
        "libc = ctypes.CDLL(None)\n"
        "libc.mmap.restype = ctypes.c_void_p\n"
        "long = ctypes.c_long\n"
        "for n in range(4096):\n"
        "    at = libc.mmap(long((1 << 32) + (n << 30)), long(4096), 1, 0x100022, -1, long(0))\n"
        "    ctypes.string_at(at, 1)\n"
        "print('up', flush=True)\ntime.sleep(600)\n"
    )
    tree = ProcessTree([child.pid])
    assert (tree.memory_bytes() or 0) > 32 * MIB
    assert (tree.most_bytes() or 0) > 32 * MIB


def test_the_source_is_chosen_by_what_the_guest_may_do(start: Start) -> None:
    child = start("import time; print('up', flush=True); time.sleep(600)")
    pidfd = process.open_pidfd(child.pid)
    assert account.pid_of(pidfd) == child.pid
    assert isinstance(account.choose(pidfd, Limits(), None), OneProcess)
    assert isinstance(account.choose(pidfd, Limits(processes=1), None), ProcessTree)
    end(child)
    assert account.choose(pidfd, Limits(), None) is None
    os.close(pidfd)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes PID namespaces here")
def test_orphans_are_found_by_the_first_process_of_their_namespace(start: Start) -> None:
    """As the zygote makes them: the guest second, and orphans the first one's."""
    code = (
        "import ctypes, os, time\n"
        "libc = ctypes.CDLL(None)\n"
        "assert libc.unshare(0x20000000) == 0\n"
        "init = os.fork()\n"
        "if init == 0: time.sleep(600)\n"
        "guest = os.fork()\n"
        "if guest == 0:\n"
        "    if os.fork() == 0:\n"
        "        if os.fork() == 0:\n"
        "            time.sleep(600)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "    time.sleep(600)\n"
        "print('up', flush=True)\n"
        "time.sleep(600)\n"
    )
    child = start(code)
    init, guest = account.children(child.pid)
    until = time.monotonic() + 60
    while (not account.children(init) or account.children(guest)) and time.monotonic() < until:
        time.sleep(0.01)
    (orphan,) = account.children(init)
    ends = [process.open_pidfd(pid) for pid in (guest, init)]
    found = account.choose(ends[0], Limits(processes=1), None, ends[1])
    for fd in ends:
        os.close(fd)
    assert isinstance(found, ProcessTree)
    assert set(found.pids()) == {guest, init, orphan}


def state(pid: int) -> str:
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        return file.read().rpartition(")")[2].split()[0]


@pytest.mark.parametrize("seen", [True, False], ids=["namespaces seen", "not seen"])
def test_a_signal_reaches_the_others_of_the_guest_and_nobody_else(
    tree: subprocess.Popen[str], start: Start, seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root without CAP_SYS_PTRACE may not ask for namespaces, and stops them all the same."""
    stranger = start("import time; print('up', flush=True); time.sleep(600)")
    if not seen:
        monkeypatch.setattr(account, "_namespace", lambda pid: None)
    whole = ProcessTree([tree.pid])
    others = whole.pids()[1:]
    assert whole._is_ours(others[0], whole.pids())
    if not seen:
        assert not whole._is_ours(stranger.pid, whole.pids())
    whole.signal_others(signal.SIGSTOP)
    until = time.monotonic() + 60
    while {state(pid) for pid in others} != {"T"} and time.monotonic() < until:
        time.sleep(0.01)
    assert [state(pid) for pid in others] == ["T", "T"]
    assert "T" not in (state(tree.pid), state(stranger.pid))
    whole.signal_others(signal.SIGCONT)
    while "T" in {state(pid) for pid in others} and time.monotonic() < until:
        time.sleep(0.01)
    assert "T" not in {state(pid) for pid in others}


@pytest.mark.parametrize(
    ("states", "pending", "stopped"),
    [
        ("T", 0, True),
        ("TtZX", 0, True),
        ("R", 1 << 18, False),
        ("TS", 0, False),
        ("D", 1 << 18, True),
        ("D", 1 << 17, False),  # made meanwhile: nobody has told it
        ("DT", 0, True),
        ("DZ", 0, False),
    ],
)
def test_M1_who_is_in_the_kernel_stops_only_when_told(
    monkeypatch: pytest.MonkeyPatch, states: str, pending: int, stopped: bool
) -> None:
    def read(path: str) -> bytes:
        if path == "/proc/7/status":
            return b"SigPnd:\t0000000000000000\nShdPnd:\t%016x\n" % pending
        return b"1 (a) b) %c 1 2" % states[int(path.split("/")[4])].encode()

    monkeypatch.setattr(account, "_threads", lambda _pid: range(len(states)))
    monkeypatch.setattr(account, "_read", read)
    assert account._stopped(7) is stopped
