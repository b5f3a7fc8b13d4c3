"""R1, K10: a delegated cgroup v2 holds what no process limit counts, and goes with its host.

One boot for each kernel and kind of user; ``grouped`` is the program that runs there.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from . import machine

pytestmark = pytest.mark.long

PROGRAM = Path(__file__).with_name("grouped.py").read_text()
MIB = 2**20
# The oldest kernel whose stable release judges a move by who opened the file, and the newest.
SERIES = ["6.1", machine.NEWEST]
USERS = [pytest.param(None, id="root"), pytest.param(machine.USER, id="user")]


@cache
def found(series: str, user: int | None) -> dict[str, Any]:
    """What the program found on one machine."""
    text = machine.boot(machine.kernel(series), PROGRAM, user=user, delegate=True)
    answer: dict[str, Any] = json.loads(text.splitlines()[-1])
    return answer


@pytest.fixture(params=SERIES)
def series(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=USERS)
def seen(request: pytest.FixtureRequest, series: str) -> dict[str, Any]:
    return found(series, request.param)


def test_R1_a_delegated_group_is_found_and_used(seen: dict[str, Any]) -> None:
    base, controllers, why = seen["support"]
    assert base == "/sys/fs/cgroup/user.slice"
    assert {"memory", "pids"} <= {*controllers}
    assert "cgroup" not in why
    memory, tasks, steps = seen["plan"]
    assert (memory, tasks) == ((256 + 64 + 8 + 32) * MIB, 17)
    assert steps == ["die_with_zygote", "join_group"]
    assert "cgroup memory.max" in seen["held"]["memory"]
    assert "cgroup pids.max" in seen["held"]["processes"]


def test_R1_a_program_that_shares_its_group_is_told_what_to_do(seen: dict[str, Any]) -> None:
    assert "holds 1 other process," in seen["beside"]
    assert "Delegate=yes" in seen["beside"]


def test_R1_a_guest_is_in_its_group_before_its_code_runs(seen: dict[str, Any]) -> None:
    assert (seen["run"]["status"], seen["run"]["value"]) == ("ok", 40 * MIB)
    (look,) = seen["seen"]
    files, memory, peak, cpu_s = look
    assert files["memory.oom.group"] == ["1"]
    assert files["pids.max"] == ["17"]
    assert len(files["cgroup.procs"]) == 1
    # The plan's, and what the guest may copy of its zygote.
    assert 0 <= int(files["memory.max"][0]) - seen["plan"][0] < 64 * MIB
    assert 0 < memory <= peak
    assert 40 * MIB <= peak < 80 * MIB
    assert cpu_s > 0
    assert seen["run"]["peak"] >= 40 * MIB


def test_R1_code_can_still_recover_from_a_lack_of_memory(seen: dict[str, Any]) -> None:
    """RLIMIT_AS and the tmpfs are met first, alone and together: nothing is killed."""
    assert (seen["caught"]["status"], seen["caught"]["value"]) == ("ok", "on")
    assert (seen["full"]["status"], seen["full"]["value"]) == ("ok", [64, 28]), seen["full"]


@pytest.mark.parametrize("attack", ["heap", "shared map", "files in memory", "names in memory"])
def test_R1_the_group_holds_alone(seen: dict[str, Any], attack: str) -> None:
    """Without RLIMIT_AS and with a tmpfs that is as good as unbounded."""
    told = seen["attacks"][attack]
    assert told["status"] == "limit", told
    name, allowed, used, evidence = told["limit"]
    assert (name, allowed, evidence) == ("memory", 32 * MIB, "kernel")
    limit = seen["attack limit"]
    assert limit * 0.9 < used < limit + 64 * MIB
    assert seen["left"] == []
    assert seen["still"]["value"] == 42


def test_K10_a_killed_host_leaves_no_group(seen: dict[str, Any]) -> None:
    assert seen["another host"] == 2  # its own and its guest's
    assert seen["cleared"]


def test_K10_what_a_killed_janitor_left_is_swept_at_the_next_start(seen: dict[str, Any]) -> None:
    assert seen["janitor"]
    assert seen["stale"] >= 1
    assert seen["swept"]


def test_K10_a_host_that_closes_puts_everything_back(seen: dict[str, Any]) -> None:
    assert seen["before"] == []
    assert len(seen["while"]) == 2  # belljar-host, and this program's tree without guests
    assert seen["alone"]
    assert seen["closed"] == [[], True]
    assert seen["after"] == []
