"""Branches of a sandbox: what ``Sandbox(branches=...)`` and ``Sandbox.fork`` do.

A first sandbox and everything that was forked from it, or from its branches, is a lineage.  The
operator says once how many branches it may have at a time; a guest has no say in it.
"""

from __future__ import annotations

import itertools
import weakref

from ..drivers.branch import Lineage, fork
from ..errors import PolicyError
from ..kernel.seccomp import RET_USER_NOTIF, action_available
from ..plan.branches import MOST_BRANCHES, for_branches, proc_parts
from ..wire.limits import Budget
from . import machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..broker.functions import Functions
    from ..drivers.live import Live
    from ..drivers.zygotes import Zygote
    from ..plan.steps import Plan
    from ..policy import Limits, Policy

_prepared: weakref.WeakKeyDictionary[machine.Prepared, dict[int, Branching]] = (
    weakref.WeakKeyDictionary()
)
_numbers = itertools.count(1)  # of lineages; never used again in this process


class Branching(machine.Prepared):
    """What was prepared for a policy, for a sandbox that may have branches."""

    def __init__(self, of: machine.Prepared, most: int) -> None:
        super().__init__(of.plan, of.places, of.preload)
        _plan, _, settings = of.for_many_runs()
        found = machine.support()  # probed whole: what is missing is to be named
        self.plan = for_branches(
            machine.plan_for(of.plan.policy, found),
            most,
            notify=action_available(RET_USER_NOTIF),
            landlock=found.landlock_abi > 0,
        )
        self.zygote_key = repr((of.zygote_key, "branches"))
        self.steps = [step.as_list() for step in self.plan.guest]
        self._settings = settings

    def for_many_runs(self) -> tuple[Plan, list[Any], dict[str, Any]]:
        """As of every sandbox; the steps begin with a number for the lineage."""
        (verb, *rest), *steps = self.steps
        return self.plan, [[verb, next(_numbers), *rest], *steps], self._settings


def check_branches(most: object) -> int:
    """The number of branches; raises ``PolicyError``."""
    if isinstance(most, bool) or not isinstance(most, int):
        raise PolicyError("branches", f"expected a number, got {type(most).__name__}")
    if not 0 <= most <= MOST_BRANCHES:
        raise PolicyError("branches", f"{most} is not between 0 and {MOST_BRANCHES}")
    return most


def borrow(policy: Policy, preload: tuple[str, ...], most: int) -> tuple[Branching, Zygote]:
    """As ``run.borrow``, for a sandbox that may have branches."""
    try:
        of = machine.prepare(policy, preload)
        known = _prepared.setdefault(of, {})
        prepared = known.get(most)
        if prepared is None:
            prepared = known[most] = Branching(of, most)
        return prepared, machine.shared(prepared)
    except (OSError, MemoryError) as error:
        from ..drivers.trouble import typed

        failure = typed(error, handed_over=False)
        if failure is error:
            raise
        raise failure from error


def found_lineage(live: Live, zygote: Zygote, plan: Plan, steps: list[Any], most: int) -> Lineage:
    """The lineage of a first sandbox that has started."""
    return Lineage(zygote, steps[0][1], most, proc_parts(plan), live.ends)


def branch_of(
    live: Live, lineage: Lineage | None, limits: Limits, functions: Functions | None
) -> Live:
    """A copy of a guest that waits.  Raises ``ForkRefused``, ``SandboxFailure``."""
    if lineage is None:
        raise PolicyError("fork", "it was made without branches; Sandbox(branches=8) may have 8")
    desk = None
    if functions is not None and functions.settings:
        from ..drivers.desk import Desk

        desk = Desk(functions)
    try:
        return fork(live, lineage, limits, Budget(memory_bytes=limits.value_bytes), desk)
    except BaseException:
        if desk is not None:
            desk.close()
        raise
