"""X4, K1: large parts of messages, announced, poured, held and taken, as one conversation."""

from __future__ import annotations

import pytest

from belljar.wire.bulk import BULK_BYTES, Incoming, Outgoing
from belljar.wire.connection import Connection
from belljar.wire.errors import LocalError, RemoteError
from belljar.wire.events import Call, Finished, Hold, Pour, Ready, Room, Run, Taken
from belljar.wire.values import decode, encode

LARGE = b"x" * (BULK_BYTES + 1)


def idle() -> tuple[Connection, Connection]:
    host, guest = Connection("host"), Connection("guest")
    host.receive_data(guest.send(Ready({})))
    return host, guest


def running() -> tuple[Connection, Connection]:
    host, guest = idle()
    guest.receive_data(host.send(Run(1, "1", "x", {})))
    return host, guest


@pytest.mark.parametrize(
    "order", [Run(1, "1", "x", {"a": [LARGE, 1]}), Call(1, "f", (LARGE,), {"k": {"v": LARGE}})]
)
def test_X4_an_order_with_large_parts(order: Run | Call) -> None:
    host, guest = idle()
    outgoing = Outgoing(2**30, charged=False)
    (announced,) = guest.receive_data(host.send(order, outgoing))
    assert announced == Pour(tuple(outgoing.sizes))
    assert (host.state, guest.state) == ("POURING", "POURING")
    assert host.receive_data(guest.send(Room())) == [Room()]
    guest.expect(Incoming(outgoing.pieces, charged=False))
    (told,) = guest.receive_data(host.kept_back())
    assert told == order
    assert (host.state, guest.state) == ("RUNNING", "RUNNING")
    host.receive_data(guest.send(Finished(1, "ok")))


def test_X4_an_order_without_any_is_one_frame() -> None:
    host, guest = idle()
    outgoing = Outgoing(2**30, charged=False)
    (told,) = guest.receive_data(host.send(Run(1, "1", "x", {"a": 1}), outgoing))
    assert isinstance(told, Run)
    with pytest.raises(LocalError):
        host.kept_back()


def test_K1_nothing_else_is_said_while_it_pours() -> None:
    host, guest = idle()
    host.send(Run(1, "1", "x", {"a": LARGE}), Outgoing(2**30))
    with pytest.raises(LocalError):
        host.kept_back()
    for said in (Finished(1, "ok"), Hold(1, (0,), (BULK_BYTES + 1,))):
        with pytest.raises(LocalError):
            guest.send(said)
    forged = Connection("guest").send(Ready({}))
    with pytest.raises(RemoteError):
        host.receive_data(forged)


def test_X4_a_value_with_large_parts() -> None:
    host, guest = running()
    outgoing = Outgoing(2**30)
    value = encode([LARGE], outgoing=outgoing)
    told = Hold(1, (4096,), tuple(outgoing.sizes))
    assert host.receive_data(guest.send(told)) == [told]
    assert guest.receive_data(host.send(Taken(1, True))) == [Taken(1, True)]
    (end,) = host.receive_data(guest.send(Finished(1, "ok", value=value)))
    assert decode(end.value, incoming=Incoming(outgoing.pieces)) == [LARGE]


def test_K1_one_hold_in_a_run_and_one_answer() -> None:
    told = Hold(1, (4096,), (BULK_BYTES + 1,))
    host, guest = running()
    with pytest.raises(LocalError, match="one Hold"):
        host.send(Taken(1, True))
    frame = guest.send(told)
    with pytest.raises(LocalError, match="one Hold"):
        guest.send(told)
    with pytest.raises(RemoteError, match="one Hold"):
        host.receive_data(frame * 2)
    host, guest = running()
    host.receive_data(guest.send(told))
    host.send(Taken(1, False))
    with pytest.raises(LocalError, match="one Hold"):
        host.send(Taken(1, False))


@pytest.mark.parametrize(
    "told",
    [
        Hold(2, (4096,), (BULK_BYTES + 1,)),
        Hold(1, (4096,), (BULK_BYTES,)),
        Hold(1, (2**64,), (BULK_BYTES + 1,)),
        Hold(1, (), ()),
        Hold(1, (1, 2), (BULK_BYTES + 1,)),
    ],
)
def test_K1_holds_that_are_none(told: Hold) -> None:
    _, guest = running()
    with pytest.raises(LocalError):
        guest.send(told)
