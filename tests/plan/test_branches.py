"""X2: the plan of a guest of which branches may be made."""

from __future__ import annotations

from typing import Any

import pytest

from belljar import Policy, PolicyError, UnsupportedError
from belljar.bpf.compiler import compile_filter
from belljar.bpf.emulator import SeccompData, emulate
from belljar.bpf.features import BRANCH, TAKE
from belljar.bpf.guest import guest_filter
from belljar.bpf.syscalls import arch as table_of
from belljar.plan.branches import for_branches, proc_parts
from belljar.plan.make import for_many_runs
from belljar.plan.steps import Plan

from .machines import MACHINES, plan_for


def plan(machine: str = "full_root", policy: Policy | None = None) -> Plan:
    return plan_for(policy or Policy(), MACHINES[machine])


def verbs(of: Plan) -> list[str]:
    return [step.verb for step in of.guest]


def test_x2_other_verbs_stand_where_a_branch_needs_other_things() -> None:
    made = for_branches(plan(), 8, notify=True, landlock=True)
    before = for_many_runs(plan())
    assert verbs(made)[0] == "found_lineage"
    gone = {"mount_own", "drop_capabilities", "landlock", "seccomp", "join_group"}
    assert not gone & set(verbs(made))
    assert {"lead_lineage", "mount_place", "keep_branching", "landlock_places"} < set(verbs(made))
    assert verbs(made)[-1] == "seccomp_listened"
    assert made.filter == before.filter.replace(branches=True)
    assert [held.name for held in made.guarantees] == [
        *(held.name for held in before.guarantees),
        "branches",
    ]
    told = [name for held in made.guarantees for name in held.mechanisms]
    assert "empty capability sets" not in told
    assert not [name for name in told if name.startswith("cgroup")]
    assert made.guarantees[-1].rows == ("X2", "K9")
    assert "maps" in proc_parts(made)


def test_r2_processes_and_places_are_counted_for_all() -> None:
    made = for_branches(plan(), 8, notify=True, landlock=True)
    (tasks,) = [s.args[1] for s in made.guest if s.args[:1] == ("nproc",)]
    assert tasks == Policy().limits.threads + 1 + 16
    (size, files, places) = made.guest[0].args
    assert size == Policy().limits.work_bytes
    assert (files, places) == (Policy().limits.work_files + 3 * 17, 17)


def test_m10_who_asks_for_none_has_the_plan_of_before() -> None:
    assert not plan().filter.branches
    assert "found_lineage" not in verbs(for_many_runs(plan()))


@pytest.mark.parametrize(
    ("notify", "landlock", "missing"),
    [(False, True, "notification"), (True, False, "Landlock")],
)
def test_x2_what_is_missing_is_named(notify: bool, landlock: bool, missing: str) -> None:
    with pytest.raises(UnsupportedError, match=missing) as caught:
        for_branches(plan(), 1, notify=notify, landlock=landlock)
    assert len(caught.value.missing) == len(caught.value.remedy) == 1


def test_x2_without_namespaces_there_are_no_branches() -> None:
    bare = plan("docker_user", Policy().allow(system_info=True))
    assert not bare.isolated
    with pytest.raises(UnsupportedError, match="namespaces"):
        for_branches(bare, 1, notify=True, landlock=True)


def test_x2_processes_and_branches_exclude_each_other() -> None:
    with pytest.raises(PolicyError, match="processes"):
        for_branches(plan(policy=Policy().allow(processes=1)), 1, notify=True, landlock=True)


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_k9_the_filter_hands_over_two_shapes_of_clone_and_refuses_signals(arch: str) -> None:
    features = for_branches(plan(), 1, notify=True, landlock=True).filter.replace(arch=arch)

    program = compile_filter(guest_filter(features))
    target = table_of(arch)

    def answer(call: str, *args: int) -> str:
        padded: Any = (*args, *(0,) * (6 - len(args)))
        return str(emulate(program, SeccompData(target.table[call], target.audit, padded)))

    for flags in (BRANCH, TAKE):
        assert "NOTIFY" in answer("clone", flags)
        for wrong in (flags | 1 << 40, flags | 0x100, flags | 0x1000_0000, flags ^ 0x8000):
            assert "ERRNO" in answer("clone", wrong)
    for name in ("kill", "tkill", "tgkill"):
        for pid in (1, 2, 77):
            assert "ERRNO" in answer(name, pid, pid, 15)
    assert "ERRNO" in answer("getpgid", 5)
    assert "ALLOW" in answer("getpgid", 0)
    assert "ERRNO" in answer("clock_gettime", 0xFFFF_FFFE)
