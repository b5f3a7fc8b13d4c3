"""The plan of a guest of which the host may have branches made.

What: the plan of a guest that stays, with other verbs where a branch needs other things.
Because: a branch is a fork of hostile memory, so all that separates it from its parent has to be
held by the kernel or put there by trusted code.  Then: who asks for no branches has none of it.

- ``found_lineage``: the zygote makes one tmpfs for all, with a place for each branch.
- ``lead_lineage``: a process group, so that the zygote finds what descends from this guest.
- ``mount_place``: ``/work`` and ``/tmp`` are a place in that tmpfs, mounted.
- ``keep_branching``: CAP_SYS_ADMIN in the guest's own user namespace, which owns nothing.  The
  kernel asks for it where a process is to have a mount namespace of its own.  Landlock refuses
  to mount, move and unmount to whoever has it, and the filter all calls that are about mounts.
- ``landlock_places``: the rules name every place, because later ones are never added.
- ``seccomp_listened``: the copying itself waits for the host's word.
"""

from __future__ import annotations

from ..errors import PolicyError, UnsupportedError
from . import landlock as ll
from .make import for_many_runs
from .steps import Held, Plan, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .steps import Argument

MOST_BRANCHES = 512  # alive at a time: each has a process, seven descriptors and two mounts
_NO_CAPABILITY = "empty capability sets"
_ONE_CAPABILITY = "no capability but CAP_SYS_ADMIN in a user namespace that owns nothing"
_HELD = Held(
    name="branches",
    promise="a branch shares nothing with its parent or another, and is made when the host asks",
    rows=("X2", "K9"),
    mechanisms=(
        "seccomp user notification",
        "mount namespace of its own",
        "descriptors and mappings looked at by the host",
    ),
)
_PLACES = ("/work", "/tmp")
SPARE = 2  # places and processes for each: one that is closed takes a moment to be gone
_REMEDIES = {
    "namespaces": "let the user make user, mount and PID namespaces (see `belljar check`)",
    "seccomp user notification": "use Linux 5.9 or later",
    "processes counted for each guest": "use Linux 5.14 or later",
    "Landlock": "use a kernel with Landlock switched on, Linux 5.13 or later",
}


def for_branches(plan: Plan, most: int, *, notify: bool, landlock: bool) -> Plan:
    """The plan of a guest with at most so many branches at a time.

    ``notify`` and ``landlock`` say what this kernel has.  Raises ``UnsupportedError`` naming what
    is missing, ``PolicyError`` where the policy grants what a branch cannot share.
    """
    if plan.limits.processes:
        raise PolicyError(
            "branches", "a sandbox that may have processes has none; leave out processes"
        )
    counts = any((s.verb, s.args[:1]) == ("limit", ("nproc",)) for s in plan.guest)
    missing = [
        name
        for name, there in (
            ("namespaces", plan.isolated),
            ("seccomp user notification", notify),
            ("Landlock", landlock),
            ("processes counted for each guest", counts),
        )
        if not there
    ]
    if missing:
        what = [f"branches of a sandbox: {name}" for name in missing]
        raise UnsupportedError(what, [_REMEDIES[name] for name in missing])
    kept = for_many_runs(plan)
    steps: list[Step] = []
    for step in kept.guest:
        steps += _changed(step, most)
    # What the zygote does itself comes first.
    steps.sort(key=lambda step: step.verb != "found_lineage")
    return kept.replace(
        guarantees=(*map(_held, kept.guarantees), _HELD),
        guest=tuple(steps),
        filter=kept.filter.replace(branches=True),
        group=None,
    )


def _held(guarantee: Held) -> Held:
    """What holds it where there is a capability, and no cgroup."""
    left = [name for name in guarantee.mechanisms if not name.startswith("cgroup ")]
    left = [_ONE_CAPABILITY if name == _NO_CAPABILITY else name for name in left]
    return guarantee.replace(mechanisms=tuple(left))


def proc_parts(plan: Plan) -> tuple[str, ...]:
    """The files of ``/proc/self`` that each branch is to see of itself."""
    for step in plan.guest:
        if step.verb == "mount_place":
            shown: Any = step.args[0]
            return tuple(shown)
    return ()


def _changed(step: Step, most: int) -> list[Step]:
    args: tuple[Argument, ...] = step.args
    if step.verb == "mount_own":
        size, files, parts, links, hidden, _ = args
        if not isinstance(files, int):
            raise AssertionError("the number of files is a number")
        places = 1 + SPARE * most
        # The places themselves are files, too.
        found = Step("found_lineage", (size, files + 3 * places, places))
        return [found, Step("lead_lineage"), Step("mount_place", (parts, links, hidden))]
    if step.verb == "join_group":
        return []  # the group would be frozen as a whole
    if step.verb == "limit" and args[0] == "nproc":
        (_, count) = args
        if not isinstance(count, int):
            raise AssertionError("the number of tasks is a number")
        return [Step("limit", ("nproc", count + SPARE * most))]
    if step.verb == "drop_capabilities":
        return [Step("keep_branching")]
    if step.verb == "landlock":
        abi = args[0]
        handled = args[1]
        if not isinstance(handled, int):
            raise AssertionError("the handled rights are bits")
        rights = (ll.WRITE | ll.MAKE_FIFO) & handled
        rules: Any = args[4]
        others: list[Argument] = [rule for rule in rules if rule[0] not in _PLACES]
        return [Step("landlock_places", (abi, *args[1:4], others, rights))]
    if step.verb == "seccomp":
        return [Step("seccomp_listened")]
    return [step]
