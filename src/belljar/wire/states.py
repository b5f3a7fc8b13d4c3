"""The legal order of events.

STARTING --Ready-from-guest-----> IDLE
IDLE     --Run-from-host--------> RUNNING
IDLE     --Call-from-host-------> RUNNING
IDLE     --Fork-from-host-------> RUNNING
IDLE     --Returned-from-host---> IDLE
IDLE     --Close-from-host------> CLOSED
IDLE     --Pour-from-host-------> POURING
POURING  --Room-from-guest------> IDLE
RUNNING  --Denied-from-guest----> RUNNING
RUNNING  --Artifact-from-guest--> RUNNING
RUNNING  --HostCall-from-guest--> RUNNING
RUNNING  --Returned-from-host---> RUNNING
RUNNING  --Finished-from-guest--> IDLE
RUNNING  --Hold-from-guest------> RUNNING
RUNNING  --Taken-from-host------> RUNNING
any but ERROR: end of file between frames -> CLOSED
any: a breach by the peer -> ERROR, for ever

What: one table of transitions, read by both roles; who may send what is in ``events.KINDS``.
Because: with each state named, "the guest answers before it is asked" or "twice" is a missing
entry and not a forgotten ``if``.  Then: what is not in the table is an error of whoever sent
it, and ``diagram()`` draws the lines above, which a test compares.
"""

from __future__ import annotations

from .events import KINDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from .events import Role

    State = Literal["STARTING", "IDLE", "POURING", "RUNNING", "CLOSED", "ERROR"]

__all__ = ["START", "TRANSITIONS", "diagram", "legal"]

START: State = "STARTING"

TRANSITIONS: dict[State, dict[str, State]] = {
    "STARTING": {"Ready": "IDLE"},
    # An answer and the end of the run that asked may cross.
    "IDLE": {
        "Run": "RUNNING",
        "Call": "RUNNING",
        "Fork": "RUNNING",
        "Returned": "IDLE",
        "Close": "CLOSED",
        "Pour": "POURING",
    },
    "POURING": {"Room": "IDLE"},
    "RUNNING": {
        "Denied": "RUNNING",
        "Artifact": "RUNNING",
        "HostCall": "RUNNING",
        "Returned": "RUNNING",
        "Finished": "IDLE",
        "Hold": "RUNNING",
        "Taken": "RUNNING",
    },
    "CLOSED": {},
    "ERROR": {},
}

_SENDERS: dict[str, Role] = {kind.record.__name__: kind.sender for kind in KINDS}


def legal(state: State, sender: Role) -> dict[str, State]:
    """The events that this role may send in this state, each with the state it leads to."""
    return {event: then for event, then in TRANSITIONS[state].items() if _SENDERS[event] == sender}


def diagram() -> str:
    """The table as lines of text, one per transition."""
    rows = [
        (state, f"{event}-from-{_SENDERS[event]}", then)
        for state, events in TRANSITIONS.items()
        for event, then in events.items()
    ]
    left = max(len(state) for state, _, _ in rows)
    middle = max(len(label) for _, label, _ in rows) + 2
    return "\n".join(f"{state:<{left}} --{label:-<{middle}}> {then}" for state, label, then in rows)
