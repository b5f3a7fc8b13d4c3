"""M1: ``Call``, the second thing that a host asks of a guest."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.wire import limits
from belljar.wire.connection import Connection
from belljar.wire.errors import LocalError, NotConvertible, RemoteError
from belljar.wire.events import Call, Close, Finished, Ready, Run
from belljar.wire.frames import encode_frame
from belljar.wire.values import encode

from .strategies import VALUES, same


def idle() -> tuple[Connection, Connection]:
    host, guest = Connection("host"), Connection("guest")
    host.receive_data(guest.send(Ready({})))  # type: ignore[arg-type]
    return host, guest


def across(call: Call) -> Call:
    host, guest = idle()
    (got,) = guest.receive_data(host.send(call))  # type: ignore[arg-type]
    assert isinstance(got, Call)
    return got


def test_a_call_arrives_as_it_was_sent() -> None:
    call = Call(1, "model.predict", (1, "x\ud800", [2]), {"a": {"b": None}}, {"time": [1, 2, 3]})
    assert across(call) == call
    assert across(Call(7, "f")) == Call(7, "f", (), {}, {})


@settings(max_examples=100, deadline=None)
@given(st.lists(VALUES, max_size=3), st.dictionaries(st.text(max_size=5), VALUES, max_size=3))
def test_any_values_can_be_arguments(args, kwargs) -> None:
    got = across(Call(1, "f", tuple(args), kwargs))
    assert isinstance(got.args, tuple)
    assert same(list(got.args), args)
    assert same(dict(got.kwargs), kwargs)


def test_runs_and_calls_share_their_numbers() -> None:
    """An answer names the run that it belongs to, so that no two have the same number."""
    host, guest = idle()
    for run_id, order in ((1, Run(1, "1", "c", {})), (5, Call(5, "f")), (6, Run(6, "1", "c", {}))):
        assert guest.receive_data(host.send(order)) == [order]  # type: ignore[arg-type]
        for old in (run_id, run_id - 1):
            with pytest.raises(LocalError):
                host.send(Call(old, "f"))
        host.receive_data(guest.send(Finished(run_id, "ok")))  # type: ignore[arg-type]
    for last in (5, 6):
        with pytest.raises(LocalError):
            host.send(Call(last, "f"))


def test_one_at_a_time_and_from_the_host_only() -> None:
    host, guest = idle()
    with pytest.raises(LocalError):
        guest.send(Call(1, "f"))
    guest.receive_data(host.send(Call(1, "f")))  # type: ignore[arg-type]
    with pytest.raises(LocalError):
        host.send(Call(2, "f"))
    with pytest.raises(LocalError):
        Connection("host").send(Call(1, "f"))  # not before it is ready
    host.receive_data(guest.send(Finished(1, "ok")))  # type: ignore[arg-type]
    host.send(Close())
    with pytest.raises(LocalError):
        host.send(Call(2, "f"))


def test_a_guest_that_sends_a_call_is_not_believed() -> None:
    """X3 will have calls of the guest's; this kind is not one."""
    host, _ = idle()
    with pytest.raises(RemoteError):
        host.receive_data(encode_frame(0x03, encode([1, "f", (), {}, {}]), 2**31))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "call",
    [
        Call(0, "f"),
        Call(2**63, "f"),
        Call(1, "f" * (limits.NAME_CHARS + 1)),
        Call(1, b"f"),  # type: ignore[arg-type]
        Call(1, "f", {}),  # type: ignore[arg-type]
        Call(1, "f", (), []),  # type: ignore[arg-type]
        Call(1, "f", (), {1: 2}),  # type: ignore[dict-item]
        Call(1, "f", (), {"n" * (limits.NAME_CHARS + 1): 2}),
        Call(1, "f", (), {}, {"s" * (limits.LABEL_CHARS + 1): 2}),
    ],
)
def test_a_call_that_makes_no_sense_is_not_sent(call) -> None:
    host, guest = idle()
    with pytest.raises(LocalError):
        host.send(call)
    assert guest.receive_data(host.send(Call(1, "f"))) == [Call(1, "f")]  # type: ignore[arg-type]


def test_arguments_that_cannot_cross_leave_the_connection_as_it_was() -> None:
    host, guest = idle()
    for bad in (Call(1, "f", (object(),)), Call(1, "f", (b"x" * 2**25, b"x" * 2**25))):
        with pytest.raises(NotConvertible):
            host.send(bad)
    assert guest.receive_data(host.send(Call(1, "f"))) == [Call(1, "f")]  # type: ignore[arg-type]
