"""R9: a guest's clocks do not tell when the host started, and nothing else about time changes."""

from __future__ import annotations

import time
from ast import literal_eval

import pytest

import belljar
from belljar import Policy
from belljar.api import machine
from belljar.plan.make import CLOCKS_START_S
from belljar.plan.root import GUEST_PID

from .hosts import run_host

WAITS = """
import asyncio, threading, time
def took(act):
    began = time.monotonic()
    act()
    return time.monotonic() - began
lock = threading.Lock()
lock.acquire()
async def too_long():
    try:
        await asyncio.wait_for(asyncio.sleep(60), 0.05)
    except TimeoutError:
        pass
[
    took(lambda: time.sleep(0.05)),
    took(lambda: lock.acquire(timeout=0.05)),
    took(lambda: threading.Event().wait(0.05)),
    took(lambda: asyncio.run(too_long())),
]
"""


NO_TIME_NAMESPACES = """
import ctypes, errno, struct
import belljar
from belljar.api import machine
from belljar.bpf import ALLOW, Arg, Errno, Filter, If, compile_filter
from belljar.kernel import libc, process
refused = If((Arg(0, width=32) & 0x80) != 0, Errno(errno.EINVAL)).else_(ALLOW)
program = compile_filter(Filter(libc.MACHINE, {"unshare": refused}, default=ALLOW))
process.set_no_new_privs()
code = ctypes.create_string_buffer(program, len(program))
libc.syscall("seccomp", 1, 0, struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code)))
result = belljar.run("import os, time; time.monotonic(), os.getpid()")
found = machine.support()
print(repr((result.unwrap(), time_of_host(), found.isolated, found.reason("time"))))
"""


def test_a_kernel_without_time_namespaces_serves_all_the_same() -> None:
    code = f"import time\ntime_of_host = time.monotonic\n{NO_TIME_NAMESPACES}"
    (inside, pid), outside, isolated, why = literal_eval(run_host(code).stdout)
    assert 0 < inside < outside
    assert pid == GUEST_PID
    assert isolated
    assert "EINVAL" in why


@pytest.fixture
def time_namespaces() -> None:
    if "time" not in machine.support().namespaces:
        pytest.skip("no time namespaces here")


@pytest.mark.usefixtures("time_namespaces")
def test_R9_clocks_start_anew() -> None:
    code = "import time; [time.monotonic(), time.perf_counter(), time.process_time(), time.time()]"
    monotonic, counter, used, now = belljar.run(code).value
    for clock in (monotonic, counter):
        assert CLOCKS_START_S < clock < CLOCKS_START_S + 600
    assert 0 < used < 60
    assert abs(now - time.time()) < 600


def test_R9_system_info_shows_the_true_ones() -> None:
    code = "import time; time.monotonic()"
    before = time.monotonic()
    shown = belljar.run(code, Policy().allow(system_info=True)).value
    assert before < shown < time.monotonic()


def test_waits_last_as_long_as_they_should() -> None:
    for waited in belljar.run(WAITS, Policy().allow(wall_s=60)).value:
        assert 0.04 < waited < 30


def test_wall_s_ends_a_run() -> None:
    result = belljar.run("import time; time.sleep(60)", Policy().limit(wall_s=0.2))
    assert result.limit is not None
    assert result.limit.name == "wall"


@pytest.mark.parametrize("policy", [Policy(), Policy().allow(system_info=True)])
def test_stages_are_counted_on_one_clock(policy: Policy) -> None:
    """Zygote and guest tell times of their own clock, which is not the host's."""
    machine.close()
    for _ in range(2):
        began = time.monotonic()
        usage = belljar.run("import time; time.sleep(0.1)", policy).usage
        took = time.monotonic() - began
        assert set(usage.stages) == {"zygote", "fork", "confine", "agent"}
        assert all(seconds >= 0 for seconds in usage.stages.values())
        assert 0.1 <= usage.wall_s < took
        # Each stamp is after the one before it, so nothing was cut off at 0.
        assert usage.stages["fork"] > 0 < usage.stages["confine"]
        assert sum(usage.stages.values()) + usage.wall_s <= took
