"""A host that is gone leaves no cgroup: the janitor, with groups that need no controller (K10)."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from belljar.drivers import groups
from belljar.drivers.groups import Janitor
from belljar.errors import SetupFailed
from belljar.kernel import cgroups
from belljar.plan.groups import GroupLimits

HOWS = [pytest.param(False, id="executed afresh"), pytest.param(True, id="forked")]


@pytest.fixture
def base(cgroup: str) -> str:
    """A group with a program's tree in it."""
    os.makedirs(f"{cgroup}/belljar-a/1")
    return cgroup


def eventually_gone(path: str) -> bool:
    until = time.monotonic() + 60
    while os.path.exists(path) and time.monotonic() < until:
        time.sleep(0.01)
    return not os.path.exists(path)


@pytest.mark.parametrize("fork", HOWS)
def test_when_the_host_is_gone_its_groups_are_removed(base: str, fork: bool) -> None:
    janitor = Janitor(base, "belljar-a", fork=fork)
    janitor.forget()  # as the kernel does for a process that is killed
    assert eventually_gone(f"{base}/belljar-a")
    os.waitpid(janitor._pid, 0)


@pytest.mark.parametrize("fork", HOWS)
def test_a_janitor_that_is_dismissed_does_nothing(base: str, fork: bool) -> None:
    janitor = Janitor(base, "belljar-a", fork=fork)
    janitor.dismiss()
    assert os.path.exists(f"{base}/belljar-a/1")
    with pytest.raises(ChildProcessError):
        os.waitpid(janitor._pid, 0)


def test_a_janitor_that_was_killed_can_be_dismissed(base: str) -> None:
    janitor = Janitor(base, "belljar-a")
    os.kill(janitor._pid, 9)
    janitor.dismiss()


@pytest.mark.parametrize("fork", HOWS)
def test_a_janitor_ignores_what_ends_its_host_politely(base: str, fork: bool) -> None:
    """Ctrl-C, a closed terminal and a service manager's first word reach the whole group."""
    janitor = Janitor(base, "belljar-a", fork=fork)
    comm = Path(f"/proc/{janitor._pid}/comm")
    until = time.monotonic() + 60
    while comm.read_text() != "belljar-janitor\n" and time.monotonic() < until:
        time.sleep(0.01)
    for number in (1, 2, 15):
        os.kill(janitor._pid, number)
    janitor.forget()
    assert eventually_gone(f"{base}/belljar-a")
    os.waitpid(janitor._pid, 0)


def test_a_base_that_is_gone_is_no_trouble(base: str) -> None:
    cgroups.clear(f"{base}/gone", "belljar-a")
    cgroups.clear(base, "belljar-b")
    assert os.path.exists(f"{base}/belljar-a/1")


def test_a_tree_that_cannot_be_had_is_a_typed_failure(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is weakened in silence: the plan said that there is a group."""

    def refuse(path: str) -> None:
        raise OSError(16, "Device or resource busy", "cgroup.subtree_control")

    monkeypatch.setattr(groups.cgroups, "Tree", refuse)
    with pytest.raises(SetupFailed, match="subtree_control") as caught:
        groups.Groups(base)
    assert (caught.value.stage, caught.value.retryable) == ("cgroup", False)


def test_a_shortage_is_worth_another_try(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        name = "belljar-a"

        def __init__(self, path: str) -> None: ...

        def make(self, *_: object) -> None:
            raise OSError(11, "Resource temporarily unavailable")

        def close(self) -> None: ...

    monkeypatch.setattr(groups.cgroups, "Tree", Full)
    ours = groups.Groups(base)
    with pytest.raises(SetupFailed) as caught:
        ours.make(GroupLimits(base, 1 << 28, 17))
    assert caught.value.retryable
    ours.close()
