"""What a policy allows, in one line for a person.

Example::

    granted: read /srv/data, packages numpy pandas, env LANG; 5 s and 256 MiB
"""

from __future__ import annotations

from ..policy.rules import ALLOW
from ..policy.units import format_limit
from .terminal import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..policy import PathGrant, Policy

MOST = 4  # of one kind; ``belljar explain`` has them all


def describe_grants(policy: Policy) -> str:
    """The grants by kind, and the limits that a session meets first."""
    kinds = [
        _some("read", map(_place, policy.read)),
        _some("write", map(_place, policy.write)),
        _some("packages", sorted(policy.packages)),
        _some("modules", policy.modules.patterns(ALLOW)),
        _some("programs", sorted(policy.run)),
        f"Python {one_line(policy.python)}" if policy.python is not None else "",
        f"{policy.limits.processes:.0f} processes" if policy.limits.processes else "",
        "native code from data" if policy.jit else "",
        _some("env", policy.env),
        "system info" if policy.system_info else "",
    ]
    granted = ", ".join(filter(None, kinds)) or "nothing"
    wall_s = format_limit("wall_s", policy.limits.wall_s)
    memory = format_limit("memory_bytes", policy.limits.memory_bytes)
    return f"granted: {granted}; {wall_s} for each input, {memory} in all"


def _place(place: PathGrant) -> str:
    return place.host if place.host == place.inside else f"{place.host}:{place.inside}"


def _some(kind: str, names: Iterable[str]) -> str:
    shown = [one_line(name) for name in names]
    if not shown:
        return ""
    more = f" and {len(shown) - MOST} more" if len(shown) > MOST else ""
    return f"{kind} {' '.join(shown[:MOST])}{more}"
