"""What a run uses can be read while it runs, from both sides (R1)."""

from __future__ import annotations

import itertools
import time

import pytest

import belljar
from belljar import Limits, Policy, UsageNow, WorkerDied
from belljar.drivers.blocking import USAGE_S
from belljar.engine.life import Life
from belljar.kernel import process

MIB = 2**20
pytestmark = pytest.mark.usefixtures("walls")


def test_the_host_is_told_while_the_code_runs() -> None:
    seen: list[UsageNow] = []
    code = (
        "import time\nheld = bytearray(64 << 20)\n"
        "while time.process_time() < 0.3: pass\ntime.sleep(1)\n"
    )
    result = belljar.run(code, Policy().allow(wall_s=60), on_usage=seen.append)
    assert result.ok
    assert seen
    last = seen[-1]
    assert 64 * MIB <= last.memory_bytes <= last.peak_memory_bytes
    assert 0.25 <= last.cpu_s <= result.usage.cpu_s
    assert 0 < last.wall_s <= result.usage.wall_s
    for one, other in itertools.pairwise(seen):
        assert one.cpu_s <= other.cpu_s
        assert other.wall_s - one.wall_s >= USAGE_S * 0.999


def test_an_exception_of_the_callers_ends_the_guest() -> None:
    """As one of on_output's does."""

    def enough(now: UsageNow) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        belljar.run("while True: pass", Policy().allow(wall_s=60, cpu_s=60), on_usage=enough)
    assert belljar.run("6 * 7").value == 42


def test_a_slow_listener_costs_the_guest_nothing() -> None:
    """As one of on_output's does: the clock of wall_s stands still."""
    code = "import time\nfor _ in range(7): time.sleep(0.3)"
    policy = Policy().limit(wall_s=1)
    result = belljar.run(code, policy, on_usage=lambda now: time.sleep(0.4))
    assert result.ok
    assert result.usage.wall_s > 1  # or the clock had nothing to stand still for


def test_after_a_listener_returned_errors_are_belljars_own_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """K10: typed, although a function of the application's was called before."""
    seen: list[UsageNow] = []

    def fail(attempt: Life, now: float) -> bool:
        process.open_pidfd(-1)
        return False

    def listen(now: UsageNow) -> None:
        seen.append(now)
        monkeypatch.setattr(Life, "wants_memory", fail)

    code = "import time\nwhile True: time.sleep(0.01)"
    with pytest.raises(WorkerDied, match="pidfd_open"):
        belljar.run(code, Policy().allow(processes=1), on_usage=listen)
    assert len(seen) == 1
    monkeypatch.undo()
    assert belljar.run("6 * 7").value == 42


def test_nobody_is_told_of_a_run_that_is_short() -> None:
    seen: list[UsageNow] = []
    assert belljar.run("6 * 7", on_usage=seen.append).value == 42
    assert len(seen) <= 1  # on a machine that is very busy


def test_the_code_can_read_what_it_has_used() -> None:
    code = """
import belljar, time
before = belljar.usage()
held = bytearray(50 << 20)
while time.process_time() < 0.1: pass
after = belljar.usage()
[vars(before), vars(after)]
"""
    before, after = belljar.run(code).unwrap()
    assert [*before] == ["cpu_s", "memory_bytes", "peak_memory_bytes", "wall_s"]
    assert after["memory_bytes"] - before["memory_bytes"] >= 50 * MIB
    assert after["peak_memory_bytes"] >= after["memory_bytes"]
    assert after["cpu_s"] >= 0.1
    assert 0 <= before["wall_s"] <= after["wall_s"]


def test_the_code_can_read_its_limits_and_not_move_them() -> None:
    code = """
import belljar
try:
    belljar.limits["wall_s"] = 1
except TypeError:
    told = dict(belljar.limits)
told
"""
    policy = Policy().limit(wall_s=3, threads=2)
    told = belljar.run(code, policy).unwrap()
    assert told == {name: policy.limits[name] for name in Limits._fields}


def test_each_run_is_told_its_own() -> None:
    """Two policies that share a zygote."""
    code = "import belljar; belljar.limits['cpu_s']"
    assert [belljar.run(code, Policy().limit(cpu_s=n)).value for n in (1, 2)] == [1.0, 2.0]


def test_asking_is_no_denial() -> None:
    assert belljar.run("import belljar; belljar.usage()\nNone").denials == ()


def test_code_that_replaces_it_fools_only_itself() -> None:
    """The host counts for itself."""
    code = "import belljar, time\nbelljar.usage = None\ntime.sleep(0.05)"
    assert belljar.run(code).usage.wall_s >= 0.05
