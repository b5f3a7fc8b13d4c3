"""M1: attacks on a sandbox that lives from run to run, with native code and the Python layer off.

What: guest code that holds the link and the pipes and does with them, with signals, threads and
processes what a program can.  Because: between two runs it is to be stopped, what it says for one
run must not count for another, and a session of a thousand runs must not cost the host more
than one run does.  Then: each attack says what it tried, and the kernel or the host's own books
say what came of it.
"""

from __future__ import annotations

import gc
import os
import threading
import time
import warnings
from typing import Any

import pytest

import belljar
from belljar import ClosedError, Policy, Sandbox
from belljar.api.sandbox import HISTORY_BYTES
from belljar.drivers.account import children, pid_of
from belljar.result import Result
from belljar.wire.frames import encode_frame
from belljar.wire.values import encode

from .native import NUMBERS, PRELUDE
from .watch import alive, descendants, descriptors, eventually, resident_bytes

OPEN = Policy().allow(modules=["*"], wall_s=3600, cpu_s=3600)
MANY = OPEN.allow(processes=8)
LINK = 3  # the guest's end of the link


def frame(number: int, fields: list[Any]) -> bytes:
    return bytes(encode_frame(number, encode(fields), 2**31))


def finished(run_id: int, value: object) -> bytes:
    return frame(0x83, [run_id, "ok", bytes(encode(value)), None, None, None, []])


READY = frame(0x81, [{}])
DENIED = frame(0x82, [2, [["read", "/x", "none"]]])
LARGE_DENIED = frame(0x82, [2, [["a" * 64, "b" * 4096, "c" * 4096]] * 64])


def guest_of(sandbox: Sandbox) -> int:
    live = sandbox._live
    assert live is not None
    assert live._ends.pidfd is not None
    pid = pid_of(live._ends.pidfd)
    assert pid is not None
    return pid


def tree(pid: int) -> list[int]:
    """A process of the guest's and all that come from it."""
    return [pid, *(deeper for child in children(pid) for deeper in tree(child))]


def used_s(pids: list[int]) -> list[float]:
    found: list[float] = []
    for pid in pids:
        try:
            found.append(time.clock_gettime((~pid << 3) | 2))
        except OSError:
            found.append(0.0)  # it has ended
    return found


def stands_still(sandbox: Sandbox) -> bool:
    """Whether nothing of a guest that waits uses the processor, from a moment after its run on."""
    time.sleep(0.05)
    pids = tree(guest_of(sandbox))
    before = used_s(pids)
    time.sleep(0.2)
    return used_s(pids) == before and tree(guest_of(sandbox)) == pids


# --- running between runs ---------------------------------------------------------------------

BUSY = "import os, signal, threading, ctypes\n" + PRELUDE

SPIN = """
def spin():
    while True: pass
for _ in range(3): threading.Thread(target=spin, daemon=True).start()
"""

CONTINUE_ITSELF = """
own = os.getpid()
def let_go_on(how):
    while True:
        if how == 0: call("kill", own, 18)
        elif how == 1: call("tgkill", own, own, 18)
        elif how == 2: call("tkill", own, 18)
        else: call("rt_sigqueueinfo", own, 18, buffer(128))
for how in range(4): threading.Thread(target=let_go_on, args=(how,), daemon=True).start()
"""

TIMERS = """
import struct
answers = []
for clock in (0, 1, 2, 3, 7):
    event = buffer(struct.pack("=QiiQQQQ", 0, 18, 0, 0, 0, 0, 0))
    answers.append(call("timer_create", clock, event, buffer(8)))
assert set(answers) == {"EPERM"}, answers
for number in (14, 27): signal.signal(number, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)
"""

DESCRIPTORS = """
import socket
one, other = socket.socketpair()
answers = []
for fd in (0, one.fileno(), LINK):
    flags = call("fcntl", fd, 3, 0)
    call("fcntl", fd, 4, flags | 0o20000)  # O_ASYNC
    answers += [call("fcntl", fd, command, 18) for command in (8, 10, 15, 1026)]
    answers += [call("ioctl", fd, 0x5452, buffer(8)), call("ioctl", fd, 0x8901, buffer(8))]
    call("fcntl", fd, 4, flags)
answers += [call("prctl", 1, 18), call("pidfd_open", os.getpid(), 0)]
assert not any(isinstance(one, int) for one in answers), answers
threading.Thread(target=lambda: [other.send(b"x") for _ in iter(int, 1)], daemon=True).start()
"""

BLOCKED_SIGNALS = """
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
for number in (18, 20, 21, 22): signal.signal(number, lambda *_: None)
threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()
"""


@pytest.mark.parametrize(
    "code",
    [SPIN, CONTINUE_ITSELF, TIMERS + SPIN, DESCRIPTORS + SPIN, BLOCKED_SIGNALS],
    ids=["spin", "continue itself", "timers", "descriptors", "blocked signals"],
)
def test_M1_nothing_of_one_process_runs_between_runs(code: str) -> None:
    for _ in range(4):
        with Sandbox(OPEN, inputs={"NUMBERS": NUMBERS, "LINK": LINK}) as sandbox:
            result = sandbox.run(BUSY + code)
            assert result.status == "ok", result
            for _ in range(2):
                assert stands_still(sandbox)
                sandbox.run("1")


A_CHILD_CONTINUES = """
own = os.getpid()
if os.fork() == 0:
    while True: call("kill", own, 18); call("kill", 0, 18); call("kill", -1, 18)
"""

CHILDREN_CONTINUE_EACH_OTHER = """
pids = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        while True:
            for other in range(2, 12): call("kill", other, 18)
    pids.append(pid)
"""

ORPHANED_GROUPS = """
# The kernel itself sends SIGCONT to a group of stopped processes that is left without a parent
# in its session: one ends after the other, and each end orphans a group.
for _ in range(2):
    if os.fork() == 0:
        os.setpgid(0, 0)
        for n in range(3):
            if os.fork() == 0:
                while True: pass
        end = __import__("time").monotonic() + 0.003
        while __import__("time").monotonic() < end: pass
        os._exit(0)
"""

FORKS_WITHOUT_END = """
def go_on():
    while True:
        try:
            if os.fork(): os._exit(0)
        except OSError: pass
for _ in range(3):
    if os.fork() == 0: go_on()
"""

SESSIONS = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        while True: pass
    os._exit(0)
"""


@pytest.mark.parametrize(
    "code",
    [A_CHILD_CONTINUES, CHILDREN_CONTINUE_EACH_OTHER, ORPHANED_GROUPS, FORKS_WITHOUT_END, SESSIONS],
    ids=["a child", "each other", "orphaned groups", "forks", "sessions"],
)
def test_M1_nothing_of_several_processes_runs_between_runs(code: str) -> None:
    """Stopped, or, where it cannot be, ended."""
    for _ in range(4):
        with Sandbox(MANY, inputs={"NUMBERS": NUMBERS}) as sandbox:
            result = sandbox.run(BUSY + code)
            assert result.status == "ok", result
            live = sandbox._live
            if live is None or not live.waiting:
                continue
            account = live._loop.account
            assert account is not None
            time.sleep(0.05)
            pids = account.pids()
            before = used_s(pids)
            time.sleep(0.2)
            assert used_s(pids) == before
            assert set(account.pids()) == set(pids)
        assert eventually(lambda pids=pids: not any(alive(pid) for pid in pids))


def test_R2_what_is_used_until_it_stands_still_is_charged_to_the_next_run() -> None:
    """No processor time is nobody's: the books of all runs come to what the kernel counted."""
    with Sandbox(OPEN) as sandbox:
        sandbox.run(BUSY.replace(PRELUDE, "") + SPIN)
        first = used_s([guest_of(sandbox)])[0]
        told = sum(sandbox.run("import time; time.sleep(0.02)").usage.cpu_s for _ in range(10))
        # What the last run left is in nobody's book yet.
        assert told >= (used_s([guest_of(sandbox)])[0] - first) * 0.8


# --- saying what is not true --------------------------------------------------------------------


def outcomes(code: str, *following: str, policy: Policy = OPEN, **inputs: Any) -> list[Any]:
    """The results of the runs, or the names of what they raised."""
    found: list[Any] = []
    with Sandbox(policy, inputs={"LINK": LINK, **inputs}) as sandbox:
        for one in (code, *following):
            try:
                found.append(sandbox.run(one))
            except belljar.BelljarError as error:
                found.append(type(error).__name__)
    return found


def broke_the_protocol(result: Any) -> bool:
    if not isinstance(result, Result) or result.error is None:
        return False
    return result.error.type == "GuestProtocolError"


@pytest.mark.parametrize(
    "first",
    [
        finished(2, "own") + finished(3, "forged"),
        finished(2, "own") + finished(2, "again"),
        finished(3, "forged"),
        finished(1, "of the first"),
        finished(2**62, "forged"),
        READY,
        DENIED * 1001,
        frame(0x03, [3, "f", [], {}, {}]),
    ],
    ids=["the next", "twice", "another", "an old one", "far", "ready", "denials", "a call"],
)
def test_K1_an_answer_that_nobody_asked_for_ends_it(first: bytes) -> None:
    code = "import os\nview = memoryview(first)\nwhile view: view = view[os.write(LINK, view):]"
    result, following = outcomes(code, "40 + 2", first=first)
    assert broke_the_protocol(result)
    assert following == "ClosedError"


def test_K1_what_it_says_when_its_run_is_over_is_not_the_answer_to_the_next() -> None:
    """Threads write forged answers all the time: each run has one answer, or it ends."""
    code = (
        "import os, threading\n"
        "def forge():\n"
        "  while True: os.write(LINK, forged)\n"
        "threading.Thread(target=forge, daemon=True).start()\n"
    )
    for _ in range(5):
        first, *later = outcomes(code, "40 + 2", "40 + 2", "40 + 2", forged=finished(3, "forged"))
        told = [one.value for one in (first, *later) if isinstance(one, Result)]
        assert told.count("forged") <= 1, "its number is that of one run"
        # It cannot have told the truth in all of them.
        assert "ClosedError" in later or any(map(broke_the_protocol, (first, *later)))


def test_K1_an_early_answer_ends_the_run_and_stops_the_code() -> None:
    """It may lie about what it computed; it does not compute any longer for that."""
    with Sandbox(OPEN, inputs={"first": finished(2, "own"), "LINK": LINK}) as sandbox:
        assert sandbox.run("import os\nos.write(LINK, first)\nwhile True: pass").value == "own"
        assert stands_still(sandbox)
        result = sandbox.run("1", wall_s=0.2)
        assert result.limit is not None
        assert result.limit.name == "wall"


def test_K1_denials_of_the_largest_kind_do_not_add_up() -> None:
    """A thousand runs, each with the most that it may tell: the host keeps a hundred of one run."""
    with Sandbox(OPEN, inputs={"LINK": LINK}) as sandbox:
        sizes: list[int] = []
        for n in range(12):
            large = frame(0x82, [n + 2, [["a" * 64, "b" * 4096, "c" * 4096]] * 64])
            code = "import os\nfor _ in range(15):\n  v = memoryview(large)\n  while v: v = v[os.write(LINK, v):]"
            result = sandbox.run(code, inputs={"large": large})
            assert (result.status, len(result.denials)) == ("ok", 100)
            del result
            gc.collect()
            sizes.append(resident_bytes())
        # The history holds the frames that this test sent: 8 KiB a run and no more.
        assert sizes[-1] - sizes[3] < 32 * 2**20


@pytest.mark.parametrize(
    "code",
    [
        "os.close(LINK)",
        "os.set_blocking(LINK, False)",
        "import socket; s = socket.socket(fileno=LINK); s.shutdown(2); s.detach()",
        "[os.close(fd) for fd in (0, 1, 2)]",
        "os.dup2(1, LINK)",
        "threading.Thread(target=lambda: [os.read(LINK, 9) for _ in iter(int, 1)], daemon=True).start()",
        "os.kill(os.getpid(), 19)",
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))",
        "sys.modules.clear()",
        "gc.get_objects().clear(); [o.clear() for o in gc.get_objects() if type(o) is dict]",
        "os.read = os.write = None; import builtins; del builtins.isinstance",
        "resource.setrlimit(resource.RLIMIT_AS, (2**26, -1))",
        "import ctypes; ctypes.string_at(0)",
    ],
)
def test_K1_whatever_it_breaks_each_run_has_an_outcome_in_time(code: str) -> None:
    policy = OPEN.limit(wall_s=1)
    head = "import gc, os, resource, signal, sys, threading\n"
    for result in outcomes(head + code, "40 + 2", "40 + 2", policy=policy):
        assert result == "ClosedError" or isinstance(result, Result)


# --- output that is not the run's ------------------------------------------------------------------


def test_R2_threads_that_write_without_end_are_bounded_in_each_run() -> None:
    """Collecting ends although the pipes are never empty, and reads both."""
    policy = OPEN.allow(output_bytes=3 * 2**20)
    code = (
        "import os, threading\n"
        "def flood(fd):\n"
        "  while True: os.write(fd, b'x' * 65536)\n"
        "for fd in (1, 2): threading.Thread(target=flood, args=(fd,), daemon=True).start()"
    )
    with Sandbox(policy) as sandbox:
        sandbox.run(code)
        for _ in range(20):
            try:
                result = sandbox.run("1")
            except ClosedError:
                break
            assert len(result.stdout_bytes) + len(result.stderr_bytes) <= 3 * 2**20
            assert result.status in ("ok", "limit")


def test_R2_single_bytes_without_end_do_not_keep_the_host() -> None:
    code = (
        "import os, threading\n"
        "def flood(fd):\n"
        "  while True: os.write(fd, b'x')\n"
        "for fd in (1, 2): threading.Thread(target=flood, args=(fd,), daemon=True).start()"
    )
    with Sandbox(OPEN) as sandbox:
        sandbox.run(code)
        for _ in range(10):
            assert sandbox.run("1").status == "ok"


def test_R14_what_is_written_after_a_run_is_never_told_to_its_listener() -> None:
    heard: list[bytes] = []
    code = (
        "import os, threading\n"
        "def later():\n"
        "  while True: os.write(1, b'x')\n"
        "threading.Thread(target=later, daemon=True).start()"
    )
    with Sandbox(OPEN) as sandbox:
        result = sandbox.run(code, on_output=lambda s, d: heard.append(d))
        assert b"".join(heard) == result.stdout_bytes
        before = len(heard)
        for _ in range(5):
            assert sandbox.run("1").status == "ok"
        assert len(heard) == before


# --- limits and interrupts over many runs --------------------------------------------------------------


def test_R2_processor_time_cannot_be_hidden_in_the_next_run() -> None:
    """Each run answers early and goes on computing in the following ones: it is all counted."""
    with Sandbox(OPEN.limit(cpu_s=0.3)) as sandbox:
        sandbox.run(BUSY.replace(PRELUDE, "") + SPIN)
        result = sandbox.run("import time; time.sleep(3600)")
        assert result.limit is not None
        assert result.limit.name == "cpu"


def test_K6_code_that_swallows_signals_does_not_pass_them_on() -> None:
    code = (
        "import signal, time\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [2, 23])\n"
        "print(1, flush=True)\n"
        "time.sleep(0.3)"
    )
    with Sandbox(OPEN) as sandbox:
        result = sandbox.run(code, on_output=lambda *_: sandbox.interrupt())
        assert result.status == "ok"
        assert sandbox.run("1").status in ("ok", "raised")  # its own business
        assert sandbox.run("1").status in ("ok", "raised")


# --- what a session costs the host ----------------------------------------------------------------------


def test_K10_many_sandboxes_of_every_end_leave_nothing() -> None:
    ends = ["1", "import os; os._exit(1)", "import os; os.kill(os.getpid(), 9)", "os.close(3)"]
    ends += ["import os; os.write(3, b'x' * 99)", "while True: pass", "print('x' * 99999)"]
    policy = OPEN.limit(wall_s=0.05, output_bytes=50_000)

    def use(n: int) -> None:
        sandbox = Sandbox(policy, lifetime_s=60 if n % 3 else None)
        sandbox.run("import os")
        sandbox.run(ends[n % len(ends)])
        if n % 5 == 0:
            sandbox.reset()
        if n % 7:
            sandbox.close()
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                del sandbox
                gc.collect()

    for n in range(35):
        use(n)
    belljar.run("1", policy)
    before = descriptors(), threading.active_count()
    for n in range(105):
        use(n)
    belljar.run("1", policy)
    assert (descriptors(), threading.active_count()) == before
    assert eventually(lambda: not [p for p in descendants() if p.name == "python3"])


def test_K10_a_thousand_runs_cost_no_more_than_a_few() -> None:
    with Sandbox(OPEN) as sandbox:
        for _ in range(200):
            sandbox.call("len", "x" * 100)
        before, open_before = resident_bytes(), descriptors()
        for n in range(1000):
            sandbox.call("len", "x" * 100)
            if n % 100 == 0:
                sandbox.run("1/0")
        gc.collect()
        assert descriptors() == open_before
        # What is kept is the history, which has its own bound.
        assert resident_bytes() - before < 8 * 2**20
        assert sandbox._steps_bytes <= HISTORY_BYTES


def test_K1_closing_from_many_threads_writes_to_nobody_elses_descriptor() -> None:
    """A sandbox is closed while its run ends; the number of its descriptor is soon another's."""
    for _ in range(30):
        sandbox = Sandbox(OPEN)
        threads = [threading.Thread(target=act) for act in (sandbox.close, sandbox.interrupt) * 3]

        def run(sandbox: Sandbox = sandbox) -> None:
            try:
                sandbox.run("1")
            except ClosedError:
                return

        runner = threading.Thread(target=run)
        runner.start()
        for thread in threads:
            thread.start()
        pipes = [os.pipe() for _ in range(20)]
        runner.join()
        for thread in threads:
            thread.join()
        for reading, writing in pipes:
            os.set_blocking(reading, False)
            with pytest.raises(BlockingIOError):
                os.read(reading, 1)
            os.close(reading)
            os.close(writing)
