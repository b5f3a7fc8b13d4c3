"""X2: ``Fork``, which asks a guest for a copy of itself."""

from __future__ import annotations

import random

import pytest

from belljar.wire.connection import Connection
from belljar.wire.errors import LocalError, RemoteError
from belljar.wire.events import Finished, Fork, Ready, Run
from belljar.wire.frames import encode_frame
from belljar.wire.values import encode


def idle() -> tuple[Connection, Connection]:
    host, guest = Connection("host"), Connection("guest")
    host.receive_data(guest.send(Ready({})))  # type: ignore[arg-type]
    return host, guest


def test_x2_a_fork_arrives_and_is_answered_like_a_run() -> None:
    host, guest = idle()
    order = Fork(3, {"time": [1, 2]})
    assert guest.receive_data(host.send(order)) == [order]  # type: ignore[arg-type]
    with pytest.raises(LocalError):
        host.send(Fork(4))
    (answer,) = host.receive_data(guest.send(Finished(3, "ok")))  # type: ignore[arg-type]
    assert answer == Finished(3, "ok")
    with pytest.raises(LocalError, match="run_id"):
        host.send(Run(3, "1", "c", {}))


def test_x2_a_guest_never_asks_for_one() -> None:
    host, guest = idle()
    with pytest.raises(LocalError):
        guest.send(Fork(1))
    with pytest.raises(RemoteError):
        host.receive_data(bytes(encode_frame(0x06, encode([1, {}]), 2**31)))  # type: ignore[arg-type]


def test_x2_an_answer_to_another_order_is_a_breach() -> None:
    host, guest = idle()
    guest.receive_data(host.send(Fork(5)))  # type: ignore[arg-type]
    with pytest.raises(RemoteError):
        host.receive_data(  # type: ignore[arg-type]
            bytes(encode_frame(0x83, encode([4, "ok", None, None, None, None, []]), 2**31))
        )


@pytest.mark.parametrize("seed", range(50))
def test_k1_any_bytes_after_a_fork_give_events_or_one_error(seed: int) -> None:
    rng = random.Random(seed)
    host, guest = idle()
    guest.receive_data(host.send(Fork(1)))  # type: ignore[arg-type]
    good = guest.send(Finished(1, "ok"))
    data = bytearray(good * rng.randrange(1, 3) + rng.randbytes(rng.randrange(40)))
    for _ in range(rng.randrange(3)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    try:
        for event in host.receive_data(bytes(data)):  # type: ignore[arg-type]
            assert isinstance(event, Finished)
    except RemoteError:
        with pytest.raises(RemoteError):
            host.receive_data(good)  # type: ignore[arg-type]
