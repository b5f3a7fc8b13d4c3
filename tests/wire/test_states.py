"""The table of transitions, its drawing, and that every event has its place."""

from __future__ import annotations

from belljar.wire import states
from belljar.wire.events import KINDS


def test_the_diagram_in_the_docstring_is_the_table():
    assert states.diagram() in states.__doc__


def test_every_event_is_legal_somewhere_and_leads_to_a_state():
    named = {event for events in states.TRANSITIONS.values() for event in events}
    assert named == {kind.record.__name__ for kind in KINDS}
    reached = {then for events in states.TRANSITIONS.values() for then in events.values()}
    assert reached <= set(states.TRANSITIONS)


def test_each_role_has_its_view():
    assert states.legal("STARTING", "guest") == {"Ready": "IDLE"}
    assert states.legal("STARTING", "host") == {}
    assert set(states.legal("IDLE", "host")) == {"Run", "Call", "Fork", "Returned", "Close", "Pour"}
    assert set(states.legal("RUNNING", "guest")) == {
        "Denied",
        "Artifact",
        "HostCall",
        "Finished",
        "Hold",
    }
    for dead in ("CLOSED", "ERROR"):
        assert not states.TRANSITIONS[dead]


def test_kinds_are_numbered_by_sender():
    assert len({kind.number for kind in KINDS}) == len(KINDS)
    for kind in KINDS:
        assert (kind.number >= 0x80) == (kind.sender == "guest")
        assert tuple(field.name for field in kind.fields) == kind.record._fields
