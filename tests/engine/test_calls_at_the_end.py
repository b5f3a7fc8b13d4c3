"""K1, K2: calls that meet the end of their run, or of the link."""

from __future__ import annotations

from belljar.engine import events as e
from belljar.engine.calls import Bounds, Calls, Use
from belljar.engine.life import Life
from belljar.policy import Limits
from belljar.wire.connection import Connection
from belljar.wire.events import Finished, HostCall, Ready, Returned, Run
from belljar.wire.limits import CALLS, Budget

NIL = b"\xc0"


def test_a_call_that_comes_with_the_end_is_not_begun() -> None:
    """Else a wait would stay behind, and take an item for a run that is over."""
    calls = Calls({"jobs.recv": Use(Bounds(concurrency=CALLS, counts=True))})
    budget = Budget(memory_bytes=2**20)
    life = Life(Run(1, "1", "<code>", {}), Limits(), budget, 0.0, keep=True, calls=calls)
    guest = Connection("guest")

    def told(data: bytes, now: float) -> list[e.Instruction]:
        instructions = life.handle(e.LinkData(data), now)
        for instruction in instructions:
            if isinstance(instruction, e.Send):
                guest.receive_data(instruction.data)
        return instructions

    told(guest.send(Ready({})), 1.0)
    call = guest.send(HostCall(1, "jobs.recv", NIL))
    last = guest.send(Finished(1, "ok", value=NIL))
    found = told(call + last, 2.0)
    assert found == [e.Abandon(1), e.Collect()]

    life.handle(e.Collected(0.1, 1, 3.0), 3.0)
    again = life.begin(Run(1, "1", "<code>", {}), Limits(), budget, 4.0)
    sent = [x for each in again if isinstance(each, e.Send) for x in guest.receive_data(each.data)]
    assert [type(event) for event in sent] == [Run, Returned]
    assert sent[1] == Returned(1, None, "InterruptedError", "the run that made this call is over")


def test_nobody_is_told_over_a_link_that_is_closed() -> None:
    """The guest closes it while it is owed answers, and goes on."""
    bounds = Bounds(concurrency=CALLS, counts=True)
    calls = Calls({"jobs.recv": Use(bounds)})
    life = Life(Run(1, "1", "", {}), Limits(), Budget(memory_bytes=2**20), 0.0, calls=calls)
    guest = Connection("guest")
    for instruction in life.handle(e.LinkData(guest.send(Ready({}))), 1.0):
        if isinstance(instruction, e.Send):
            guest.receive_data(instruction.data)
    data = guest.send(HostCall(1, "jobs.recv", NIL))
    for number in range(2, 50):
        data += guest.send(HostCall(number, "no such", NIL))
    life.handle(e.LinkData(data), 1.0)
    assert life.handle(e.LinkClosed(), 1.0) == [e.Abandon(1)]
    assert life.handle(e.Answered(1, NIL), 1.0) == []
    assert life.handle(e.Revoked("jobs.recv"), 1.0) == []
    now = 1.0
    for _ in range(200):  # no deadline that stays in the past
        now = max(now, life.deadline())
        assert not [x for x in life.handle(e.Tick(None), now) if isinstance(x, e.Send)]
        assert life.deadline() > now
        if now > 2.0:
            break
    assert now > 2.0


def test_a_link_that_closes_stops_no_clock() -> None:
    """What the host does for a guest that cannot hear of it is not waited for."""
    calls = Calls({"f": Use(Bounds())})
    limits = Limits(wall_s=1)
    life = Life(Run(1, "1", "", {}), limits, Budget(memory_bytes=2**20), 0.0, calls=calls)
    guest = Connection("guest")
    for instruction in life.handle(e.LinkData(guest.send(Ready({}))), 1.0):
        if isinstance(instruction, e.Send):
            guest.receive_data(instruction.data)
    life.handle(e.LinkData(guest.send(HostCall(1, "f", NIL))), 1.0)
    life.handle(e.LinkClosed(), 1.5)
    assert life.ends_at() == 2.5  # half a second was the host's, and the rest is not
