"""K1: on other kernels and settings, what ``belljar check`` claims is what attacks find.

What: one boot for each set of mechanisms that a machine can have, and the survey on it.
Because: a plan for a machine that is made up shows what belljar would do there, not what its
kernel does.  Then: where a kernel is missing the test is skipped with where to get it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from . import machine
from .judged import Survey, claimed, judge, read

pytestmark = pytest.mark.long

PROGRAM = Path(__file__).with_name("survey.py").read_text()
# The Landlock ABI of each series that brought a new one.
ABIS = {(5, 13): 1, (5, 19): 2, (6, 2): 3, (6, 7): 4, (6, 10): 5, (6, 12): 6, (6, 15): 7}
LATEST_KNOWN = (6, 18)  # what newer kernels have is for them to tell
OLDEST_WITH_ROOT = (5, 12)
ALL_KINDS = {"user", "mount", "pid", "net", "ipc", "uts", "cgroup", "time"}
NO_LANDLOCK = "lsm=lockdown,yama"
NO_NAMESPACES = {"user.max_user_namespaces": "0"}
# What Docker covers in /proc, and what its root is left with: mask 0xa80425fb.
MASKED = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi"]
NOT_DOCKERS = [n for n in range(41) if not 0xA80425FB >> n & 1]
USERS = [pytest.param(None, id="root"), pytest.param(machine.USER, id="user")]


@cache
def surveyed(series: str, **conditions: Any) -> Survey:
    """The survey of one machine, judged; lists stand for sets of pairs, to be remembered."""
    given = {n: dict(v) if n == "sysctl" else v for n, v in conditions.items()}
    found = read(machine.boot(machine.kernel(series), PROGRAM, **given))
    judge(found)
    return found


def abi_of(kernel: list[int]) -> int:
    return max((abi for since, abi in ABIS.items() if since <= tuple(kernel)), default=0)


def refused(found: Survey, name: str) -> str:
    """The remedies of a refusal, of which there must be some."""
    assert found["run"][name]["status"] == "unsupported", found["run"][name]
    return " ".join(found["run"][name]["remedy"])


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize(
    "series", ["5.10", "5.15", "6.1", "6.5", "6.8", "6.11", "6.12", machine.NEWEST]
)
def test_K1_every_kernel_is_what_it_is_taken_for(series: str, user: int | None) -> None:
    found = surveyed(series, user=user)
    told = found["check"]["machine"]
    known = tuple(told["kernel"]) <= LATEST_KNOWN
    assert told["landlock_abi"] >= abi_of(told["kernel"])
    assert told["landlock_abi"] == abi_of(told["kernel"]) or not known
    assert set(told["namespaces"]) == ALL_KINDS
    assert told["isolated"] == (tuple(told["kernel"]) >= OLDEST_WITH_ROOT)
    if told["isolated"]:
        assert found["policy"] == "empty"
        assert {one["name"] for one in found["explain"]["guarantees"]} == claimed(found)
    else:
        assert found["policy"] is None
        assert "5.12" in refused(found, "empty")
        assert "5.12" in refused(found, "system_info")


@pytest.mark.parametrize("user", USERS)
def test_K1_without_landlock_the_root_holds_alone(user: int | None) -> None:
    found = surveyed(machine.NEWEST, user=user, cmdline=NO_LANDLOCK)
    assert found["check"]["machine"]["landlock_abi"] == 0
    assert found["policy"] == "empty"
    files = next(g for g in found["explain"]["guarantees"] if g["name"] == "files")
    assert files["mechanisms"] == ["canonical root in a mount namespace"]


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize(
    "setting", ["user.max_user_namespaces", "kernel.unprivileged_userns_clone"]
)
def test_K1_without_user_namespaces_landlock_holds_alone(setting: str, user: int | None) -> None:
    found = surveyed(machine.NEWEST, user=user, sysctl=((setting, "0"),))
    assert found["check"]["machine"]["namespaces"] == []
    remedy = refused(found, "empty")
    assert setting in remedy
    assert "grant system_info" in remedy
    assert found["policy"] == "system_info"
    assert claimed(found) == {g["name"] for g in found["check"]["guarantees"]} - {"names"}


def test_K1_landlock_before_truncation_does_not_hold_alone() -> None:
    found = surveyed("6.1", user=machine.USER, sysctl=tuple(NO_NAMESPACES.items()))
    assert found["check"]["machine"]["landlock_abi"] == 2
    assert found["policy"] is None
    assert "6.2" in refused(found, "system_info")


def test_K1_with_neither_nothing_runs() -> None:
    found = surveyed(
        machine.NEWEST,
        user=machine.USER,
        cmdline=NO_LANDLOCK,
        sysctl=tuple(NO_NAMESPACES.items()),
    )
    assert found["policy"] is None
    assert "lsm=" in refused(found, "system_info")


@pytest.mark.parametrize("kind", ["net", "pid", "mnt"])
def test_K1_one_kind_of_namespace_missing_is_all_of_them_missing(kind: str) -> None:
    found = surveyed(
        machine.NEWEST, user=machine.USER, sysctl=((f"user.max_{kind}_namespaces", "0"),)
    )
    name = {"mnt": "mount"}.get(kind, kind)
    assert name not in found["check"]["machine"]["namespaces"]
    assert not found["check"]["machine"]["isolated"]
    assert f"{name} namespace" in refused(found, "empty")
    assert found["policy"] == "system_info"


def test_K1_cgroup_and_time_namespaces_can_be_missing() -> None:
    settings = (("user.max_cgroup_namespaces", "0"), ("user.max_time_namespaces", "0"))
    found = surveyed(machine.NEWEST, user=machine.USER, sysctl=settings)
    assert set(found["check"]["machine"]["namespaces"]) == ALL_KINDS - {"cgroup", "time"}
    assert found["policy"] == "empty"


@pytest.mark.parametrize("series", ["6.1", machine.NEWEST])
def test_K1_masked_proc_leaves_every_wall(series: str) -> None:
    found = surveyed(series, user=machine.USER, mask=tuple(MASKED))
    assert found["check"]["machine"]["proc"] is False
    assert found["policy"] == "empty"


def test_K1_root_with_the_capabilities_of_docker() -> None:
    found = surveyed(machine.NEWEST, without_capabilities=tuple(NOT_DOCKERS))
    told = found["check"]["machine"]
    assert (told["uid"], told["mounts_as_root"]) == (0, False)
    assert found["policy"] == "empty"
