"""Soft ends with real guests: what is told, what arrives, and what cannot be told (R2, K6)."""

from __future__ import annotations

import threading
import time

import pytest

import belljar
from belljar import Policy, Result
from belljar.api import machine
from belljar.api.run import execute, make_feed, make_order
from belljar.drivers.interrupts import Interrupts

SHORT = Policy().limit(wall_s=0.3)
GRACE = SHORT.allow(grace_s=20)  # for code that reacts: no test waits for its end
SOON = SHORT.allow(grace_s=0.2)  # for code that does not


def limited(result: Result, name: str = "wall") -> None:
    assert result.status == "limit", (result.status, result.signal, result.error)
    assert result.limit is not None
    assert (result.limit.name, result.limit.evidence) == (name, "kernel")


WAITS = {
    # CPython may miss a ``try`` whose first statement is the loop (docs/reference/limits.md).
    "loop": "n = 0\n  while True: n += 1",
    "sleep": "import time; time.sleep(3600)",
    "read": "import os; os.read(os.pipe()[0], 1)",
    "lock": "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "queue": "import queue; queue.Queue().get()",
    "select": "import select; select.select([], [], [])",
    "open": "import os; os.mkfifo('f'); open('f')",
    "flock": "import fcntl; a, b = open('f', 'w'), open('f')\n  fcntl.flock(a, 2); fcntl.flock(b, 2)",
    "join": "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    "  threading.enumerate()[1].join()",
    "stdin of nobody": "import os; os.read(os.pipe()[0], 10)",
    "signal.pause": "import signal; signal.pause()",
    "own code in an import": "import time\n  exec('time.sleep(3600)')",
    "full pipe": "import os; r, w = os.pipe()\n  while True: os.write(w, bytes(65536))",
}


@pytest.mark.parametrize("how", WAITS)
def test_finally_runs_wherever_the_code_is(how: str) -> None:
    code = f"try:\n  {WAITS[how]}\nfinally:\n  print('cleaned up')"
    result = belljar.run(code, GRACE)
    limited(result)
    assert result.stdout == "cleaned up\n"
    assert result.error is not None
    assert result.error.type == "TimeoutError"
    assert result.error.message == "wall_s: 0.3 s are over; the code is ended in 20 s"
    assert "belljar/guest" not in result.error.traceback
    assert result.usage.wall_s < 15, "it ended by itself"


def test_partial_results_and_a_value_arrive() -> None:
    code = """
import time
done = []
try:
    while True:
        time.sleep(0.01)
        done.append(len(done))
        print(len(done), flush=True)
except TimeoutError as error:
    why = str(error)
{"done": len(done), "why": why}
"""
    result = belljar.run(code, GRACE)
    limited(result)
    assert result.error is None
    assert result.value["done"] == len(result.stdout.split()) > 0
    assert result.value["why"].startswith("wall_s: ")
    with pytest.raises(belljar.LimitExceeded) as caught:
        result.unwrap()
    assert caught.value.result.value == result.value


def test_cpu_is_told_by_its_own_name() -> None:
    code = "try:\n  n = 0\n  while True: n += 1\nexcept TimeoutError as error:\n  why = str(error)\nwhy"
    result = belljar.run(code, Policy().limit(cpu_s=0.2).allow(wall_s=60, grace_s=20))
    limited(result, "cpu")
    assert result.value == "cpu_s: 0.2 s are over; the code is ended in 20 s"


def test_exit_functions_and_threads_are_had_too() -> None:
    code = """
import atexit, threading, time
atexit.register(print, "at exit")
stop = threading.Event()
thread = threading.Thread(target=lambda: (stop.wait(), print("thread")))
thread.start()
try:
    time.sleep(3600)
finally:
    stop.set()
"""
    result = belljar.run(code, GRACE)
    limited(result)
    assert sorted(result.stdout.split("\n")) == ["", "at exit", "thread"]


def test_waiting_for_threads_is_told_as_well() -> None:
    code = "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,)).start()"
    result = belljar.run(code, GRACE)
    limited(result)
    assert result.usage.wall_s < 15, "it ended by itself"
    # From 3.13 on the interpreter keeps to itself what comes while it waits for threads.
    assert result.error is None or result.error.type == "TimeoutError"


def test_coroutines_are_cancelled() -> None:
    code = """
import asyncio
async def job(n):
    try:
        await asyncio.sleep(3600)
    finally:
        print("job", n)
await asyncio.gather(job(1), job(2))
"""
    result = belljar.run(code, GRACE)
    limited(result)
    assert sorted(result.stdout.split("\n")) == ["", "job 1", "job 2"]


def test_an_end_by_exit_is_still_the_limit() -> None:
    code = "import sys, time\ntry:\n  time.sleep(3600)\nfinally:\n  sys.exit(3)"
    result = belljar.run(code, GRACE)
    limited(result)
    assert (result.exit_code, result.error, result.value) == (None, None, None)


def test_without_a_grace_nothing_is_told() -> None:
    """And nothing of it is there to be seen."""
    result = belljar.run(f"try:\n  {WAITS['sleep']}\nfinally:\n  print('told')", SHORT)
    limited(result)
    assert (result.stdout, result.error) == ("", None)
    code = "import signal; [str(signal.getsignal(n)) for n in (signal.SIGURG, signal.SIGINT)]"
    default, ours = belljar.run(code).value
    assert default in ("Handlers.SIG_DFL", "0")
    assert "default_int_handler" in ours


def test_code_that_ends_in_time_is_told_nothing() -> None:
    result = belljar.run("import time; time.sleep(0.05); 1", GRACE)
    assert (result.status, result.value) == ("ok", 1)


DEAF = {
    "catches": "while True:\n  try:\n    n = 0\n    while True: n += 1\n  except BaseException: pass",
    "C loop": "sum(range(10**13))",
    "blocks": "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
    "while True:\n  n = 1",
    "ignores": "import signal, time\nsignal.signal(signal.SIGURG, signal.SIG_IGN)\ntime.sleep(3600)",
    "default": "import signal, time\nsignal.signal(signal.SIGURG, signal.SIG_DFL)\ntime.sleep(3600)",
    "stopped": "import os; os.kill(os.getpid(), 19)",
    "cleans up for ever": "import time\ntry:\n  time.sleep(3600)\nfinally:\n  time.sleep(3600)",
    "hostile text": "class E(Exception):\n  def __str__(self):\n    while True: n = 1\nraise E",
}


@pytest.mark.parametrize("how", DEAF)
def test_what_does_not_react_is_killed_after_the_grace(how: str) -> None:
    """Code that resets handlers harms itself alone."""
    result = belljar.run(DEAF[how], SOON.allow(cpu_s=60))
    limited(result)
    assert result.usage.wall_s >= 0.45


def test_processor_time_of_the_grace_is_bounded() -> None:
    """Threads use it up the faster: cpu_s + grace_s in all."""
    code = """
import hashlib, threading
def work():
    while True: hashlib.sha256(bytes(1 << 20)).digest()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
while True:
    try:
        n = 0
        work()
    except BaseException: pass
"""
    policy = Policy().limit(cpu_s=0.3).allow(wall_s=60, grace_s=0.4)
    result = belljar.run(code, policy)
    limited(result, "cpu")
    # By the wall or by the processor: which is sooner depends on how busy the machine is.
    assert 0.3 <= result.usage.cpu_s < 2


def test_a_kernel_limit_on_processor_time_leaves_room_for_the_grace() -> None:
    code = "import resource; resource.getrlimit(resource.RLIMIT_CPU)[0]"
    policy = Policy().limit(cpu_s=2)
    assert belljar.run(code, policy).value == 3
    assert belljar.run(code, policy.allow(grace_s=10)).value == 13


STORM = """
import os, signal, threading
def storm():
    while True:
        os.kill(os.getpid(), NUMBER)
threading.Thread(target=storm, daemon=True).start()
x = "x" * 3_000_000
"""


@pytest.mark.parametrize("number", [2, 23])
@pytest.mark.parametrize("last", ["x", "raise ValueError(x)"])
def test_signals_never_break_what_the_agent_says(number: int, last: str) -> None:
    """A guest that signals itself all the time ends as it may, and the protocol holds (K1)."""
    for _ in range(4):
        result = belljar.run(STORM + last, GRACE, inputs={"NUMBER": number})
        assert result.status in ("ok", "raised", "limit"), (result.status, result.error)
        if result.status == "ok":
            assert len(result.value) == 3_000_000


# ------------------------------------------------------------------------ interrupts


def interrupted(code: str, grace_s: float, *asks: float) -> tuple[Result, Interrupts]:
    """A run that is asked to end from another thread, so many seconds after its output."""
    policy = Policy().allow(wall_s=60, cpu_s=60)
    prepared = machine.prepare(policy)
    interrupts = Interrupts(grace_s)
    up = threading.Event()

    def ask() -> None:
        assert up.wait(60)
        for after_s in asks:
            time.sleep(after_s)
            assert interrupts.ask()

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        order = make_order(code, policy, None, (), None, "<code>")
        result = execute(
            prepared,
            machine.shared(prepared),
            order,
            make_feed(None, policy),
            lambda stream, data: up.set(),
            time.monotonic(),
            interrupts,
        )
    finally:
        up.set()
        asker.join()
        interrupts.close()
    return result, interrupts


@pytest.mark.parametrize("how", ["loop", "sleep", "read", "lock"])
def test_an_interrupt_is_a_keyboard_interrupt(how: str) -> None:
    code = f"print('up', flush=True)\ntry:\n  {WAITS[how]}\nfinally:\n  print('cleaned up')"
    result, interrupts = interrupted(code, 20, 0.05)
    assert interrupts.asked
    assert result.status == "raised"
    assert result.error is not None
    assert result.error.type == "KeyboardInterrupt"
    assert result.stdout == "up\ncleaned up\n"


def test_an_interrupt_may_be_caught() -> None:
    code = "import time\nprint('up', flush=True)\ntry: time.sleep(60)\nexcept KeyboardInterrupt: n = 7\nn"
    assert interrupted(code, 20, 0.05)[0].value == 7


def test_an_interrupt_that_is_not_heard_is_a_kill() -> None:
    result, _ = interrupted("print('up', flush=True)\nsum(range(10**13))", 0.2, 0.05)
    assert (result.status, result.signal) == ("crashed", 9)


def test_nobody_is_asked_before_or_afterwards() -> None:
    interrupts = Interrupts(1.0)
    assert not interrupts.ask()
    with interrupts:
        assert interrupts.ask()
        assert not interrupts.ask(), "once"
    assert not interrupts.ask()
    interrupts.close()


def test_ctrl_c_in_a_host_is_as_ever() -> None:
    """The guest is dead and the exception is the host's."""
    began: list[str] = []

    def listen(stream: str, data: bytes) -> None:
        began.append(stream)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        belljar.run("print(1, flush=True)\nimport time; time.sleep(60)", GRACE, on_output=listen)
    assert began == ["stdout"]


# -------------------------------------------------------------------------- pauses


def test_a_slow_listener_costs_the_guest_nothing() -> None:
    code = "import time\nfor n in range(4):\n  print(n, flush=True)\n  time.sleep(0.02)"
    policy = Policy().limit(wall_s=1)
    result = belljar.run(code, policy, on_output=lambda stream, data: time.sleep(0.35))
    assert result.status == "ok"
    # A listener that is slower than it may be is paid for by the guest.
    result = belljar.run(
        code + "\nwhile True:\n  print('x' * 70_000, flush=True)",
        policy.limit(pause_s=0.2),
        on_output=lambda stream, data: time.sleep(0.35),
    )
    limited(result)
    assert result.limit is not None
    assert result.limit.used is not None
    assert result.usage.wall_s > result.limit.used


def test_a_guest_cannot_live_on_a_slow_listener() -> None:
    """A byte now and then, for ever: wall_s and pause_s are its end."""
    code = "import time\nwhile True:\n  print('.', flush=True)\n  time.sleep(0.01)"
    policy = Policy().limit(wall_s=0.3, pause_s=0.5)
    result = belljar.run(code, policy, on_output=lambda stream, data: time.sleep(0.05))
    limited(result)
    assert result.usage.wall_s >= 0.75


# ------------------------------------------------------------------------ one zygote


def test_limits_alone_cost_no_other_zygote() -> None:
    """A lower limit for one run is a policy of its own on the zygote that is there."""
    policy = Policy().allow(read={"/usr/share": "/data"}, wall_s=60)
    others = [
        policy.limit(wall_s=1, cpu_s=1),
        policy.limit(memory_bytes=64 * 2**20, threads=0, open_files=32),
        policy.limit(output_bytes=10, value_bytes=2048, work_files=16, file_bytes=0),
        policy.allow(grace_s=1).limit(cpu_cores=0.5, output_bytes_per_s=4096, pause_s=0),
    ]
    keys = {machine.prepare(one).zygote_key for one in [policy, *others]}
    assert len(keys) == 1
    belljar.run("1", policy)
    zygote = machine.shared(machine.prepare(policy))
    for one in others:
        assert machine.shared(machine.prepare(one)) is zygote
        assert belljar.run("1 + 1", one).value == 2
    assert machine.prepare(policy.allow(read={"/usr/lib": "/lib2"})).zygote_key not in keys
