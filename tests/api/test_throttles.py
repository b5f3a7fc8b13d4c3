"""Throttles with real guests: slower, and otherwise as ever (R2)."""

from __future__ import annotations

import platform
import threading
import time

import pytest

import belljar
from belljar import Policy

BURN = """
import time
began = time.monotonic()
while time.monotonic() < began + 1:
    pass
time.process_time() / (time.monotonic() - began)
"""


def test_a_share_of_a_processor() -> None:
    """Not a time but a share: what a busy second had of the processor."""
    assert belljar.run(BURN, Policy().limit(cpu_cores=0.2)).value < 0.5


def test_threads_share_it() -> None:
    code = """
import hashlib, threading, time
began = time.monotonic()
def work():
    while time.monotonic() < began + 1: hashlib.sha256(bytes(1 << 18)).digest()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
time.process_time() / (time.monotonic() - began)
"""
    assert belljar.run(code, Policy().limit(cpu_cores=0.2)).value < 0.6


PROCESSES = """
import os, time
began = time.monotonic()
for _ in range(3):
    if os.fork() == 0:
        if os.fork():
            os._exit(0)  # and the other is an orphan
        while time.monotonic() < began + 1: pass
        os._exit(0)
while time.monotonic() < began + 1: pass
"""


def test_processes_share_it() -> None:
    policy = Policy().allow(processes=6).limit(cpu_cores=0.2)
    result = belljar.run(PROCESSES, policy)
    assert result.status == "ok"
    assert result.usage.cpu_s < 0.7 * result.usage.wall_s


def test_the_host_may_be_told_meanwhile() -> None:
    policy = Policy().limit(cpu_cores=0.2)
    result = belljar.run(BURN, policy, on_usage=lambda now: None)
    assert result.value < 0.5


def test_a_program_below_its_share_is_whole() -> None:
    code = "import time\nfor n in range(5): time.sleep(0.01); print(n)\nsum(range(1000))"
    result = belljar.run(code, Policy().limit(cpu_cores=0.5))
    assert (result.status, result.value, result.stdout) == ("ok", 499500, "0\n1\n2\n3\n4\n")


@pytest.mark.parametrize("grace", [0, 5])
def test_a_throttled_guest_ends_by_its_wall(grace: float) -> None:
    code = "n = 0\nwhile True: n += 1"
    policy = Policy().limit(cpu_cores=0.05, wall_s=0.5).allow(grace_s=grace)
    result = belljar.run(code, policy)
    assert result.limit is not None
    assert (result.status, result.limit.name) == ("limit", "wall")
    assert result.usage.cpu_s < 0.4
    assert (result.error is not None) == bool(grace)


def test_a_throttled_guest_ends_by_its_cpu() -> None:
    result = belljar.run("while True: n = 1", Policy().limit(cpu_cores=0.5, cpu_s=0.2))
    assert result.limit is not None
    assert result.limit.name == "cpu"


SELF_HELP = {
    "a thread": """
import os, threading
def wake():
    while True: os.kill(os.getpid(), 18)
for _ in range(3): threading.Thread(target=wake, daemon=True).start()
""",
    "a timer": """
import ctypes, struct
libc = ctypes.CDLL(None)
event = ctypes.create_string_buffer(struct.pack("Qii", 0, 18, 0) + bytes(48))
timer = ctypes.create_string_buffer(8)
assert libc.timer_create(1, event, timer) == 0
number = struct.unpack("i", timer.raw[:4])[0]
millisecond = struct.pack("qqqq", 0, 10**6, 0, 10**6)
assert libc.syscall(110 if ARM else 223, number, 0, millisecond, None) == 0
""",
}


@pytest.mark.parametrize("how", SELF_HELP)
def test_a_guest_that_lets_itself_go_on_gains_nothing(how: str) -> None:
    """K1: SIGCONT undoes a stop.  It is stopped again and waits the longer, or is ended."""
    code = f"{SELF_HELP[how]}\nn = 0\nwhile True: n += 1"
    policy = Policy().limit(cpu_cores=0.1, wall_s=3).allow(cpu_s=60)
    result = belljar.run(code, policy, inputs={"ARM": platform.machine() == "aarch64"})
    assert result.limit is not None, result.error
    assert result.limit.name in ("cpu_cores", "wall")
    # Its share, and at most the second that would have ended it.
    assert result.usage.cpu_s < 0.1 * result.usage.wall_s + 1.2


def test_an_exception_of_the_host_ends_a_frozen_guest() -> None:
    """K10: nothing is left standing still."""
    from ..escape.watch import descendants, eventually

    def listen(stream: str, data: bytes) -> None:
        raise LookupError

    before = {p.pid for p in descendants()}
    code = "n = 0\nfor i in range(5 * 10**6): n += 1\nprint(1, flush=True)\nwhile True: n += 1"
    with pytest.raises(LookupError):
        belljar.run(code, Policy().limit(cpu_cores=0.3), on_output=listen)
    assert eventually(
        lambda: not [p for p in descendants() if p.pid not in before and p.name == "python3"]
    )


def test_calls_that_stopping_interrupts_go_on() -> None:
    """Sleeps, polls and locks of a guest that is stopped and let go on in between."""
    code = """
import select, threading, time
def burn():
    while not stop.is_set(): sum(range(10_000))
stop = threading.Event()
threading.Thread(target=burn).start()
began = time.monotonic()
time.sleep(0.3)
select.select([], [], [], 0.2)
poll = select.epoll()
poll.poll(0.2)
threading.Event().wait(0.2)
stop.set()
time.monotonic() - began >= 0.85
"""
    result = belljar.run(code, Policy().limit(cpu_cores=0.3))
    assert (result.status, result.value) == ("ok", True), result.error


# ------------------------------------------------------------------ output_bytes_per_s


def test_output_comes_at_its_rate_and_whole() -> None:
    """256 KiB at 256 KiB/s with pipes that hold 64 KiB: more than half a second."""
    pieces: list[int] = []
    result = belljar.run(
        "for n in range(2**12): print('x' * 63)",
        Policy().limit(output_bytes_per_s=256 * 1024),
        on_output=lambda stream, data: pieces.append(len(data)),
    )
    assert (result.status, result.truncated) == ("ok", ())
    assert result.stdout == ("x" * 63 + "\n") * 2**12
    assert sum(pieces) == 2**18
    assert result.usage.wall_s > 0.5


def test_a_flood_at_its_rate_is_ended_by_the_wall_alone() -> None:
    policy = Policy().limit(output_bytes_per_s=4096, wall_s=0.5, output_bytes=2**20)
    result = belljar.run("while True: print('x' * 1000)", policy)
    assert result.limit is not None
    assert result.limit.name == "wall"
    # Half a second's worth, and what was in the pipe.
    assert 2**15 <= len(result.stdout_bytes) <= 2**16 + 8192


def test_both_streams_share_the_rate_and_neither_is_lost() -> None:
    code = "import sys\nfor n in range(200): print('o' * 99); print('e' * 99, file=sys.stderr)"
    result = belljar.run(code, Policy().limit(output_bytes_per_s=8192))
    assert (len(result.stdout), len(result.stderr)) == (20_000, 20_000)


def test_a_small_output_is_not_held_up() -> None:
    result = belljar.run("print('hello')", Policy().limit(output_bytes_per_s=1024))
    assert result.stdout == "hello\n"
    assert result.usage.wall_s < 5


def test_the_clean_up_of_a_grace_is_not_throttled() -> None:
    code = "import time\ntry: time.sleep(60)\nfinally: print('x' * 500_000)"
    policy = Policy().limit(wall_s=0.2, output_bytes_per_s=1024).allow(grace_s=20)
    result = belljar.run(code, policy)
    assert result.limit is not None
    assert (result.limit.name, len(result.stdout)) == ("wall", 500_001)
    assert result.usage.wall_s < 15


def test_guests_of_other_threads_are_not_held_up() -> None:
    """K9: a throttle is one guest's."""
    slow = threading.Thread(
        target=belljar.run,
        args=("while True: print('x' * 100)", Policy().limit(output_bytes_per_s=1024, wall_s=2)),
    )
    slow.start()
    time.sleep(0.2)
    result = belljar.run("for n in range(10**4): print('x' * 50)")
    assert slow.is_alive()
    assert len(result.stdout) == 510_000
    slow.join()
