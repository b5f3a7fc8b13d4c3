"""X3, K1: ``HostCall`` and ``Returned``, by which the code inside asks the host."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from belljar.wire import limits
from belljar.wire.connection import Connection
from belljar.wire.errors import LocalError, RemoteError
from belljar.wire.events import Finished, HostCall, Ready, Returned, Run
from belljar.wire.frames import encode_frame
from belljar.wire.limits import CALL_BYTES, CALLS, CALLS_BYTES
from belljar.wire.values import decode, encode

from .strategies import VALUES, same

NOTHING: Any = encode([[], {}])


def running() -> tuple[Connection, Connection]:
    host, guest = Connection("host"), Connection("guest")
    host.receive_data(guest.send(Ready({})))  # type: ignore[arg-type]
    guest.receive_data(host.send(Run(1, "", "c", {})))  # type: ignore[arg-type]
    return host, guest


def frame(fields: list[Any], number: int = 0x84) -> Any:
    return encode_frame(number, encode(fields), 2**31)


def test_a_call_and_its_answer_arrive_as_they_were_sent() -> None:
    host, guest = running()
    call = HostCall(1, "search", NOTHING)
    assert host.receive_data(guest.send(call)) == [call]  # type: ignore[arg-type]
    assert host.calls == guest.calls == (1, len(NOTHING))
    for answer in (Returned(1, encode("x")),):
        assert guest.receive_data(host.send(answer)) == [answer]  # type: ignore[arg-type]
    assert host.calls == guest.calls == (0, 0)


@settings(max_examples=50, deadline=None)
@given(VALUES)
def test_any_value_can_be_an_answer(value) -> None:
    host, guest = running()
    host.receive_data(guest.send(HostCall(1, "f", NOTHING)))  # type: ignore[arg-type]
    (got,) = guest.receive_data(host.send(Returned(1, encode(value))))  # type: ignore[arg-type]
    assert isinstance(got, Returned)
    assert same(decode(got.value), value)  # type: ignore[arg-type]


def test_answers_come_in_any_order_and_once() -> None:
    host, guest = running()
    for call_id in (1, 5, 9):
        host.receive_data(guest.send(HostCall(call_id, "f", NOTHING)))  # type: ignore[arg-type]
    for call_id in (5, 9, 1):
        guest.receive_data(host.send(Returned(call_id, b"\xc0")))  # type: ignore[arg-type]
        with pytest.raises(LocalError, match="call_id"):
            host.send(Returned(call_id, b"\xc0"))
    for call_id in (2, 9):  # numbers rise, also when those before are answered
        with pytest.raises(LocalError, match="call_id"):
            guest.send(HostCall(call_id, "f", NOTHING))


def test_an_answer_may_come_when_the_run_is_over() -> None:
    host, guest = running()
    host.receive_data(guest.send(HostCall(1, "f", NOTHING)))  # type: ignore[arg-type]
    host.receive_data(guest.send(Finished(1, "ok")))  # type: ignore[arg-type]
    assert guest.receive_data(host.send(Returned(1, b"\xc0")))  # type: ignore[arg-type]
    with pytest.raises(LocalError):
        guest.send(HostCall(2, "f", NOTHING))


@pytest.mark.parametrize(
    "fields",
    [
        [0, "f", NOTHING],
        [2**63, "f", NOTHING],
        ["1", "f", NOTHING],
        [1, "f" * (limits.LABEL_CHARS + 1), NOTHING],
        [1, b"f", NOTHING],
        [1, "f", "text"],
        [1, "f", None],
        [1, "f"],
        [1, "f", NOTHING, 1],
        [1, "f", NOTHING[:-1] + b"\xff" * 2**10, [[[[[[]]]]]]],
    ],
)
def test_a_call_that_makes_no_sense_is_a_breach(fields) -> None:
    host, _ = running()
    with pytest.raises(RemoteError):
        host.receive_data(frame(fields))
    assert host.state == "ERROR"


@pytest.mark.parametrize(
    "answer",
    [
        Returned(2, b"\xc0"),
        Returned(1),
        Returned(1, b"\xc0", "ValueError"),
        Returned(1, None, "E" * (limits.TYPE_CHARS + 1)),
        Returned(1, None, "E", "m" * (limits.MESSAGE_CHARS + 1)),
        Returned(1, None, "E", "", "g" * (limits.NAME_CHARS + 1)),
        Returned(1, "text"),  # type: ignore[arg-type]
    ],
)
def test_an_answer_that_makes_no_sense_is_not_sent(answer) -> None:
    host, guest = running()
    host.receive_data(guest.send(HostCall(1, "f", NOTHING)))  # type: ignore[arg-type]
    with pytest.raises(LocalError):
        host.send(answer)
    assert guest.receive_data(host.send(Returned(1, b"\xc0")))  # type: ignore[arg-type]


def test_so_many_calls_may_wait_and_no_more() -> None:
    host, guest = running()
    for call_id in range(1, CALLS + 1):
        host.receive_data(guest.send(HostCall(call_id, "f", NOTHING)))  # type: ignore[arg-type]
    with pytest.raises(LocalError, match="at most 64 calls"):
        guest.send(HostCall(CALLS + 1, "f", NOTHING))
    with pytest.raises(RemoteError, match="at most 64 calls"):
        host.receive_data(frame([CALLS + 1, "f", NOTHING]))


def test_so_many_bytes_may_wait_and_no_more() -> None:
    host, guest = running()
    large: Any = bytes(CALL_BYTES - 1024)
    for call_id in range(1, CALLS_BYTES // CALL_BYTES + 1):
        host.receive_data(guest.send(HostCall(call_id, "f", large)))  # type: ignore[arg-type]
    with pytest.raises(RemoteError, match="bytes at most"):
        host.receive_data(frame([3, "f", large]))


def test_one_call_is_bounded_before_it_is_kept() -> None:
    host, _ = running()
    head: Any = (CALL_BYTES + 1).to_bytes(4, "big") + b"\x84"
    with pytest.raises(RemoteError, match="its kind takes"):
        host.receive_data(head)


def test_who_may_say_what() -> None:
    host, guest = running()
    with pytest.raises(LocalError):
        host.send(HostCall(1, "f", NOTHING))
    with pytest.raises(LocalError):
        guest.send(Returned(1, b"\xc0"))
    with pytest.raises(RemoteError):
        host.receive_data(frame([1, b"\xc0", "", "", ""], 0x04))


def test_not_before_the_code_has_begun() -> None:
    host, guest = Connection("host"), Connection("guest")
    host.receive_data(guest.send(Ready({})))  # type: ignore[arg-type]
    with pytest.raises(LocalError):
        guest.send(HostCall(1, "f", NOTHING))
    with pytest.raises(RemoteError):
        host.receive_data(frame([1, "f", NOTHING]))
