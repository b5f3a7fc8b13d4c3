"""``belljar check`` and ``belljar explain``: what holds here, and how.

What: the probes and the plan, printed.  Because: both commands ask the machine itself,
whole, while a run takes the short way and lets the launch be the probe.  Then: neither
runs a guest, and both say with their exit code whether a run would be refused.
"""

from __future__ import annotations

from . import streams
from .tables import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..plan.explain import Section
    from ..plan.steps import Held, Plan
    from ..plan.support import Support
    from ..policy import Policy
    from .options import Parsed

EXIT_USAGE, EXIT_UNSUPPORTED, EXIT_OURS = 2, 3, 70


def check(parsed: Parsed) -> int:
    """``belljar check``: 0 if ``Policy()`` can be enforced here, else 3."""
    from ..errors import UnsupportedError
    from ..policy import Policy

    try:
        support, held, missing, remedy = _judge(Policy())
    except UnsupportedError as error:
        return _refused(error, "json" in parsed.switches)
    if "json" in parsed.switches:
        from ..plan.explain import guarantees_data, machine_data

        data = _verdict(missing, remedy)
        data["machine"] = machine_data(support)
        data["guarantees"] = guarantees_data(held)
        _print_json(data)
    else:
        from ..plan.explain import explain_guarantees, explain_machine

        sections = [explain_machine(support), explain_guarantees(held)]
        show([*sections, *_missing(missing, remedy)])
        streams.say(f"\nPolicy() {'cannot' if missing else 'can'} be enforced here.\n")
    return EXIT_UNSUPPORTED if missing else 0


def explain(parsed: Parsed) -> int:
    """``belljar explain``: the plan for a policy on this machine."""
    from ..errors import BelljarError, PolicyError, UnsupportedError
    from .policies import make_policy

    as_json = "json" in parsed.switches
    try:
        policy = make_policy(parsed)
        support, held, missing, remedy = _judge(policy)
        if missing:
            return _cannot(held, missing, remedy, as_json)
        from ..api.machine import plan_for

        plan = plan_for(policy, support)
    except UnsupportedError as error:
        return _refused(error, as_json)
    except BelljarError as error:
        from .messages import describe_failure

        streams.complain_at_length(describe_failure(error))
        return EXIT_USAGE if isinstance(error, PolicyError) else EXIT_OURS
    listing = _filter(plan) if "filter" in parsed.switches else None
    if as_json:
        from ..plan.explain import plan_data

        data = {**_verdict((), ()), **plan_data(plan)}
        if listing is not None:
            data["filter"] = listing
        _print_json(data)
        return 0
    from ..plan.explain import explain_plan

    show(explain_plan(plan))
    if listing is not None:
        streams.say(f"\n{listing}")
    return 0


def _judge(
    policy: Policy,
) -> tuple[Support, tuple[Held, ...], tuple[str, ...], tuple[str, ...]]:
    from ..api.machine import support as probe
    from ..plan.guarantees import judge

    support = probe()
    return support, *judge(policy, support)


def _cannot(
    held: tuple[Held, ...], missing: tuple[str, ...], remedy: tuple[str, ...], as_json: bool
) -> int:
    from ..plan.explain import explain_guarantees, guarantees_data

    if as_json:
        _print_json({**_verdict(missing, remedy), "guarantees": guarantees_data(held)})
    else:
        show([explain_guarantees(held), *_missing(missing, remedy)])
        streams.complain("this machine cannot enforce the policy")
    return EXIT_UNSUPPORTED


def _refused(error: Any, as_json: bool) -> int:
    """A machine on which nothing at all can be asked."""
    if as_json:
        _print_json(_verdict(error.missing, error.remedy))
    else:
        show(_missing(error.missing, error.remedy))
    return EXIT_UNSUPPORTED


def _missing(missing: tuple[str, ...], remedy: tuple[str, ...]) -> list[Section]:
    from ..plan.explain import explain_missing

    return [explain_missing(missing, remedy)] if missing else []


def _verdict(missing: tuple[str, ...], remedy: tuple[str, ...]) -> dict[str, Any]:
    return {"enforceable": not missing, "missing": list(missing), "remedy": list(remedy)}


def _filter(plan: Plan) -> str:
    from ..bpf.disasm import listing
    from ..bpf.guest import guest_filter

    return listing(guest_filter(plan.filter))


def _print_json(data: dict[str, Any]) -> None:
    import json

    streams.say(json.dumps(data, indent=2, allow_nan=False) + "\n")
