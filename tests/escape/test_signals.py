"""K6, K9: no other process is signalled, traced, read, slowed or seen.

What: every call that takes a process number, aimed at a process of the host that everybody may
signal, at the zygote and at a sibling guest.  Because: permissions alone would let them all
through, since it is one user's processes.  Then: nothing happens to any of them, by the
filter alone and by the PID namespace alone, and a guest may signal itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

import belljar
from belljar import Policy

from .conftest import Wall
from .native import REFUSED, attack, outcome, outside
from .watch import alive, descendants

_VICTIM = """
import signal, sys, time
hits = []
for number in range(1, 65):
    if number not in (9, 19, 32, 33):
        signal.signal(number, lambda n, f: print("hit", n, flush=True))
print("ready", flush=True)
time.sleep(600)
"""


@pytest.fixture
def victim() -> Iterator[subprocess.Popen[str]]:
    """A process that tells of every signal it gets."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", _VICTIM], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


# Signal 0 and URG do no harm, so the same probes can be shown to work outside.
AIMED = """
import struct
T = buffer(256)
URG = 23
info = struct.pack("iii", URG, 0, -1) + bytes(116)
found = {}
for pid in PIDS:
    piece = buffer(struct.pack("QQ", _ctypes.addressof(T), 8))
    mask = buffer((1).to_bytes(8, "little") + bytes(120))
    found |= {
        f"kill {pid}": call("kill", pid, 0), f"urge {pid}": call("kill", pid, URG),
        f"thread {pid}": call("tkill", pid, URG), f"own thread {pid}": call("tgkill", pid, pid, URG),
        f"queue {pid}": call("rt_sigqueueinfo", pid, URG, info),
        f"queue to thread {pid}": call("rt_tgsigqueueinfo", pid, pid, URG, info),
        f"pidfd {pid}": call("pidfd_open", pid, 0),
        f"attach {pid}": call("ptrace", 0x4206, pid, 0, 0) if TRACE else "EPERM",
        f"read {pid}": call("process_vm_readv", pid, piece, 1, piece, 1, 0),
        f"write {pid}": call("process_vm_writev", pid, piece, 1, piece, 1, 0),
        f"limits {pid}": call("prlimit64", pid, 7, None, T),
        f"set limits {pid}": call("prlimit64", pid, 7, bytes(16), None) if TRACE else "EPERM",
        f"cores {pid}": call("sched_setaffinity", pid, 128, mask),
        f"nice {pid}": call("setpriority", 0, pid, 19) if TRACE else "EPERM",
        f"I/O {pid}": call("ioprio_set", 1, pid, 0x4000) if TRACE else "EPERM",
        f"scheduling {pid}": call("sched_setattr", pid, T, 0),
        f"compare {pid}": call("kcmp", os.getpid(), pid, 0, 0, 1),
        f"pages {pid}": call("move_pages", pid, 0, None, None, None, 0),
        f"robust list {pid}": call("get_robust_list", pid, T, T),
        f"group {pid}": call("kill", -pid, 0),
        f"reap {pid}": call("wait4", pid, T, 1, None),
        f"seen {pid}": call("openat", AT, b"/proc/%d/status" % pid, 0, 0),
        f"memory {pid}": call("openat", AT, b"/proc/%d/mem" % pid, 2, 0),
        f"core score {pid}": call("openat", AT, b"/proc/%d/oom_score_adj" % pid, 1, 0),
    }
{name: got for name, got in found.items() if not isinstance(got, str)}
"""


def test_K9_the_probes_work_outside(victim: subprocess.Popen[str]) -> None:
    inputs = {"PIDS": [victim.pid], "TRACE": False}
    found = outside(AIMED, inputs)
    assert {f"{name} {victim.pid}" for name in ("kill", "urge", "queue", "pidfd", "seen")} <= set(
        found
    )
    assert victim.stdout is not None
    assert victim.stdout.readline() == f"hit {int(signal.SIGURG)}\n"


def test_K9_no_process_of_the_host_is_touched(
    victim: subprocess.Popen[str], call_wall: Wall
) -> None:
    belljar.run("None", call_wall.policy)
    ours = [p for p in descendants() if p.parent == os.getpid()]
    zygotes = [p.pid for p in ours if p.name == "belljar-zygote"]
    assert zygotes
    pids = [victim.pid, os.getpid(), os.getppid(), *zygotes]
    found = outcome(AIMED, call_wall.policy, inputs={"PIDS": pids, "TRACE": True})
    assert found == {}
    assert alive(victim.pid)
    assert all(alive(pid) for pid in zygotes)
    victim.terminate()  # its own handler prints; the first line must be ours
    assert victim.stdout is not None
    assert victim.stdout.readline() == f"hit {int(signal.SIGTERM)}\n"


WIDE = """
import signal
signal.signal(signal.SIGURG, signal.SIG_IGN)
found = {}
for target in (0, -1, -2, -(1 << 31)):
    for number in (0, 23):
        found[f"{target} {number}"] = call("kill", target, number)
found["high half"] = call("kill", (1 << 32) | PID, 0)
import os
for pid in set(range(3, 2000)) - {os.getpid()}:  # without a PID namespace it may be one of them
    for name, arguments in (("kill", (pid, 0)), ("tgkill", (pid, pid, 0)), ("tkill", (pid, 0))):
        got = call(name, *arguments)
        if not isinstance(got, str):
            found[f"{name} {pid}"] = got
{name: got for name, got in found.items() if not isinstance(got, str)}
"""


def test_K9_there_is_nobody_to_aim_at(victim: subprocess.Popen[str], call_wall: Wall) -> None:
    """Groups, everybody, and every number from 3 on."""
    found = outcome(WIDE, call_wall.policy, inputs={"PID": victim.pid})
    if call_wall.name == "no filter":
        # Signal 0 to one's own group, or to everybody in a namespace where that is nobody.
        found = {n: g for n, g in found.items() if not n.startswith(("0 ", "-1 ", "high"))}
    assert found == {}
    assert victim.poll() is None


def test_K9_the_first_process_of_the_namespace_does_not_mind() -> None:
    code = """
[call("kill", 1, number) for number in (9, 15, 19, 11, 2)] and call("tgkill", 1, 1, 9)
import time; time.sleep(0.05)
"still here"
"""
    assert outcome(code) == "still here"
    assert outcome("1 + 1") == 2


def test_K9_two_guests_do_not_meet(call_wall: Wall) -> None:
    """One guest shouts at every number while another one works."""
    quiet: list[belljar.Result] = []
    running = threading.Event()

    def work() -> None:
        code = "print('here', flush=True)\nimport time; time.sleep(1)\n'unharmed'"
        quiet.append(belljar.run(code, call_wall.policy, on_output=lambda *_: running.set()))

    thread = threading.Thread(target=work)
    thread.start()
    assert running.wait(60)
    (other,) = [p.pid for p in descendants() if p.name == "python3"]
    code = """
import signal
found = []
for pid in [OTHER, *range(3, 500)]:
    for number in (0, 9):
        found.append(call("kill", pid, number))
        found.append(call("tgkill", pid, pid, number))
set(found)
"""
    # The numbers 1 and 2 are the parked first process and the guest itself.
    found = outcome(code, call_wall.policy, inputs={"OTHER": other})
    thread.join()
    assert found <= REFUSED
    assert quiet[0].value == "unharmed"


SEEN = """
numbers = [name for name in attempt(os.listdir, "/proc") if name.isdigit()]
[numbers, os.getppid(), attempt(os.getpgid, 1), attempt(os.getsid, PID), os.getpgrp(),
 call("openat", AT, b"/proc/%d" % PID, 0, 0), call("newfstatat", AT, b"/proc/%d" % PID, buffer(256), 0)]
"""


def test_R9_no_process_is_in_sight(victim: subprocess.Popen[str]) -> None:
    numbers, parent, group, session, own_group, there, stat = outcome(
        SEEN, inputs={"PID": victim.pid}
    )
    # Its own number is a link to what it may see of itself.
    assert (numbers, parent, own_group) == (["2"], 0, 0)
    assert (there, stat) == ("ENOENT", "ENOENT")
    assert session == "ESRCH"
    assert group in (0, "ESRCH")


NOTIFY = """
left, right = os.pipe()
{
    "owner": call("fcntl", left, 8, PID),
    "owner, extended": call("fcntl", left, 15, bytes(8)),
    "signal of owner": call("fcntl", left, 10, 9),
    "asynchronous": call("fcntl", left, 4, 0o20000) if ASYNC else "EPERM",
    "timer to a thread": call("timer_create", 0, (0).to_bytes(8, "little")
        + (9).to_bytes(4, "little") + (4).to_bytes(4, "little") + PID.to_bytes(4, "little")
        + bytes(44), buffer(8)),
    "pidfd signal": call("pidfd_send_signal", 0, 9, None, 0),
    "pidfd file": call("pidfd_getfd", 0, 0, 0),
    "advice": call("process_madvise", 0, None, 0, 21, 0),
    "reaping": call("process_mrelease", 0, 0),
    "signals as files": call("signalfd4", -1, bytes(8), 8, 0),
}
"""


def test_K9_no_signal_by_way_of_the_kernel(
    victim: subprocess.Popen[str],
) -> None:
    """Owners of descriptors and timers may be other processes; here they may not."""
    found = outcome(NOTIFY, inputs={"PID": victim.pid, "ASYNC": False})
    assert {name: got for name, got in found.items() if not isinstance(got, str)} == {}
    assert victim.poll() is None


ADVICE = """
file = os.open(os.__file__, os.O_RDONLY)
page = call("mmap", 0, 1 << 22, 3, 0x22, -1, 0)
shared = call("mmap", 0, 4096, 1, 1, file, 0)
left, right = os.pipe()
{
    "merge pages": call("madvise", page, 4096, 12), "evict pages": call("madvise", shared, 4096, 21),
    "huge pages": call("madvise", page, 1 << 21, 14), "collapse": call("madvise", page, 1 << 21, 25),
    "poison": call("madvise", page, 4096, 100), "offline": call("madvise", page, 4096, 101),
    "evict a file": call("fadvise64", file, 0, 0, 4), "resident": call("mincore", shared, 4096, buffer(8)),
    "packet pipe": call("pipe2", buffer(8), 0o40000), "packet pipe later": call("fcntl", right, 4, 0o40000),
    "larger pipe": call("fcntl", right, 1031, 1 << 20), "direct": call("openat", AT, b"f", 0o40102, 0o600),
    "space beyond the end": call("fallocate", os.open("g", 66), 1, 0, 1 << 20),
    "written out": call("sync"), "written out too": call("syncfs", file),
}
"""


def test_K9_no_advice_to_the_kernel_reaches_others() -> None:
    """Pages that others use, merged pages that tell what they hold, costs that the host bears."""
    found = outcome(ADVICE)
    assert {name: got for name, got in found.items() if not isinstance(got, str)} == {}


@pytest.mark.parametrize(
    ("code", "number"),
    [
        ("os.abort()", signal.SIGABRT),
        ("os.kill(os.getpid(), 9)", signal.SIGKILL),
        ("os.kill(os.getpid(), 15)", signal.SIGTERM),
        ("_ctypes.string_at(0)", signal.SIGSEGV),
        (
            "import mmap; f = open('f', 'w+b'); f.truncate(8192); m = mmap.mmap(f.fileno(), 8192)\n"
            "f.truncate(0); m[5000]",
            signal.SIGBUS,
        ),
        ("import signal; signal.raise_signal(signal.SIGUSR1)", signal.SIGUSR1),
        ("import signal; signal.alarm(1); signal.pause()", signal.SIGALRM),
    ],
)
def test_K6_a_signal_to_itself_ends_the_guest_alone(code: str, number: int) -> None:
    result = attack(code)
    assert (result.status, result.signal) == ("crashed", int(number))
    assert outcome("1 + 1") == 2


def test_K6_a_guest_may_signal_itself(call_wall: Wall) -> None:
    code = """
import signal
got = []
signal.signal(signal.SIGUSR1, lambda n, f: got.append(n))
os.kill(os.getpid(), signal.SIGUSR1)
signal.raise_signal(signal.SIGUSR1)
signal.signal(signal.SIGALRM, lambda n, f: got.append(n))
signal.setitimer(signal.ITIMER_REAL, 0.01)
signal.pause()
got
"""
    assert outcome(code, call_wall.policy) == [
        int(signal.SIGUSR1),
        int(signal.SIGUSR1),
        int(signal.SIGALRM),
    ]


def test_K6_a_stopped_guest_is_ended_by_the_wall_clock() -> None:
    result = attack("os.kill(os.getpid(), 19)", Policy().limit(wall_s=0.5))
    assert result.status == "limit"
    assert result.limit is not None
    assert result.limit.name == "wall"


def test_K6_ctrl_c_inside_is_an_exception_inside() -> None:
    result = attack("import signal; signal.raise_signal(2)")
    assert result.status == "raised"
    assert result.error is not None
    assert result.error.type == "KeyboardInterrupt"
