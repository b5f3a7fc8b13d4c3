"""The control channel: messages come back whole, anything else is an error."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.wire.connection import Connection
from belljar.wire.control import Unpacker, pack
from belljar.wire.errors import NotConvertible, RemoteError
from belljar.wire.events import Ready
from belljar.wire.frames import encode_frame
from belljar.wire.limits import Budget
from belljar.wire.values import encode

from .strategies import PLAIN


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(), st.dictionaries(st.text(), PLAIN, max_size=4)), max_size=4))
def test_messages_come_back_byte_by_byte(messages):
    unpacker = Unpacker()
    stream = b"".join(pack(kind, **fields) for kind, fields in messages)
    got = [message for byte in stream for message in unpacker.feed(bytes((byte,)))]
    assert repr(got) == repr(messages)  # by text, because NaN is not equal to itself
    assert not unpacker.mid_message


def test_a_field_may_be_called_kind():
    assert Unpacker().feed(pack("fork", kind="spare")) == [("fork", {"kind": "spare"})]


@pytest.mark.parametrize(
    "payload", [None, [], ["fork"], [1, {}], ["fork", {1: 2}], ["fork", [], 1]]
)
def test_what_is_not_a_message_is_refused(payload):
    with pytest.raises(RemoteError):
        Unpacker().feed(encode_frame(0x43, encode(payload), 1_000))


def test_the_budget_holds_and_a_guest_is_not_a_zygote():
    with pytest.raises(RemoteError):
        Unpacker(Budget(frame_bytes=20)).feed(pack("fork", data=bytes(100)))
    with pytest.raises(RemoteError):
        Unpacker().feed(Connection("guest").send(Ready({})))
    with pytest.raises(NotConvertible):
        pack("fork", field=object())
