"""Abilities of the application's own are no walls: no step of any plan knows of them (R15)."""

from __future__ import annotations

import pytest

from belljar.errors import UnsupportedError
from belljar.plan.explain import explain_plan, plan_data, to_text
from belljar.plan.steps import Plan
from belljar.policy import Policy

from .machines import FULL, MACHINES, POLICIES, plan_for

WANTED = {"send_mail": True, "spend_cents": 500, "tables": ["a"], "tenant": "acme"}


@pytest.mark.parametrize("machine", MACHINES)
def test_R15_a_plan_with_abilities_is_the_plan_without(machine: str) -> None:
    for policy in POLICIES.values():
        with_them = policy.allow(abilities=WANTED)
        made, again = planned(policy, machine), planned(with_them, machine)
        if isinstance(made, Plan):
            made = made.replace(policy=with_them)
        assert again == made


def planned(policy: Policy, machine: str) -> Plan | tuple[str, ...]:
    """The plan, or what is missing for one."""
    try:
        return plan_for(policy, MACHINES[machine])
    except UnsupportedError as error:
        return error.missing


def test_R15_explain_names_who_holds_them() -> None:
    policy = Policy().allow(abilities=WANTED)
    plan = plan_for(policy, FULL)
    text = to_text(explain_plan(plan))
    grants, _, rest = text.partition("limits in force")
    assert (
        "ability  spend_cents: a cap of 500; yours, held by your host functions, no wall" in grants
    )
    assert "spend_cents" not in rest
    assert "spend_cents" not in grants.partition("grants\n")[0]  # no guarantee
    told = plan_data(plan)["policy"]["grants"]["abilities"]
    assert told == WANTED
