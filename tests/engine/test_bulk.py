"""X4, R1: what the engine says about large parts of values; no I/O."""

from __future__ import annotations

from typing import Any

from belljar.engine import events as e
from belljar.engine.life import Life
from belljar.policy import Policy
from belljar.wire.bulk import Incoming, Outgoing
from belljar.wire.connection import Connection
from belljar.wire.events import Finished, Hold, Ready, Room, Run, Taken
from belljar.wire.limits import Budget
from belljar.wire.values import encode

LARGE = b"x" * 100_000
LIMITS = Policy().limits


def ready(order: Run, value_bytes: int = 2**20) -> tuple[Life, Connection, list[Any]]:
    life = Life(order, LIMITS, Budget(memory_bytes=value_bytes), 0.0)
    guest = Connection("guest")
    life.handle(e.Spawned(0.0), 0.0)
    life.handle(e.Confined(0.0), 0.0)
    return life, guest, life.handle(e.LinkData(guest.send(Ready({}))), 0.1)


def running(value_bytes: int = 2**20) -> tuple[Life, Connection]:
    life, guest, (sent,) = ready(Run(1, "1", "x", {}), value_bytes)
    guest.receive_data(sent.data)
    return life, guest


def test_X4_inputs_are_poured_when_there_is_room() -> None:
    life, guest, (announced,) = ready(Run(1, "1", "x", {"a": LARGE}))
    (pour,) = guest.receive_data(announced.data)
    assert pour.sizes == (100_000,)  # type: ignore[attr-defined]
    poured, sent = life.handle(e.LinkData(guest.send(Room())), 0.2)
    assert isinstance(poured, e.Pour)
    assert [bytes(piece) for piece in poured.pieces] == [LARGE]
    guest.expect(Incoming(poured.pieces, charged=False))
    (told,) = guest.receive_data(sent.data)
    assert told.inputs == {"a": LARGE}  # type: ignore[attr-defined]


def test_X4_a_value_is_fetched_and_the_guest_told() -> None:
    life, guest = running()
    outgoing = Outgoing(2**20)
    value = encode([LARGE], outgoing=outgoing)
    (fetch,) = life.handle(e.LinkData(guest.send(Hold(1, (4096,), (100_000,)))), 0.2)
    assert fetch == e.Fetch(((4096, 100_000),))
    (sent,) = life.handle(e.Fetched((bytearray(LARGE),)), 0.3)
    assert guest.receive_data(sent.data) == [Taken(1, True)]
    life.handle(e.LinkData(guest.send(Finished(1, "ok", value=value))), 0.4)
    life.handle(e.Exited(0, 0, 0.0, 0, 0.5), 0.5)
    for event in (e.LinkClosed(), e.OutputClosed("stdout"), e.OutputClosed("stderr")):
        life.handle(event, 0.5)
    assert life.result().value == [LARGE]


def test_X4_what_cannot_be_read_is_told_too() -> None:
    life, guest = running()
    life.handle(e.LinkData(guest.send(Hold(1, (4096,), (100_000,)))), 0.2)
    (sent,) = life.handle(e.Fetched(None), 0.3)
    assert guest.receive_data(sent.data) == [Taken(1, False)]


def test_R1_more_than_value_bytes_is_never_fetched() -> None:
    life, guest = running(value_bytes=199_999)
    told = guest.send(Hold(1, (4096, 4096), (100_000, 100_000)))
    instructions = life.handle(e.LinkData(told), 0.2)
    assert e.Kill() in instructions
    assert not [one for one in instructions if isinstance(one, e.Fetch)]


def test_K1_a_guest_that_does_not_wait_is_not_answered() -> None:
    life, guest = running()
    said = guest.send(Hold(1, (4096,), (100_000,))) + guest.send(Finished(1, "ok"))
    fetch, *_ = life.handle(e.LinkData(said), 0.2)
    assert isinstance(fetch, e.Fetch)
    assert life.handle(e.Fetched((bytearray(LARGE),)), 0.3) == []
