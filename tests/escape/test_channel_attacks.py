"""K1, K2, K3, K8, K9, R2: attacks on channels, with the Python layer off and forged frames.

What: a guest that has an end of a channel writes to its link what it likes: calls without room,
calls of ends that are another's, items that are no data, calls without end.  Because: the honest
object inside is no wall, and the host answers each call.  Then: an item is data or the channel is
closed, a queue never holds more than its capacity, another sandbox's end cannot be named, and
what transfers nothing is answered at a bounded rate.
"""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest

import belljar
from belljar import ChannelClosed, Policy, Sandbox
from belljar.engine.calls import REFUSALS, REFUSALS_PER_S
from belljar.wire.frames import encode_frame
from belljar.wire.limits import CALLS
from belljar.wire.values import encode

from .watch import descriptors, resident_bytes

PATIENCE_S = 60
LINK = 3  # the guest's end of the link
OPEN = Policy().allow(modules=["*"])
NIL = bytes(encode(None))


def call(call_id: int, function: str, arguments: bytes = NIL) -> bytes:
    return bytes(encode_frame(0x84, encode([call_id, function, arguments]), 2**31))


def calls(function: str, number: int, arguments: bytes = NIL) -> bytes:
    return b"".join(call(n, function, arguments) for n in range(1, number + 1))


# ``say`` writes, ``heard`` reads so many answers; then it ends without a word of the agent's.
TOOLS = f"""
import os
def say(data):
    view = memoryview(data)
    while view: view = view[os.write({LINK}, view):]
def heard(number):
    data, found = b"", []
    while len(found) < number:
        data += os.read({LINK}, 65536)
        while len(data) >= 5 and len(data) >= (size := int.from_bytes(data[:4], "big") + 5):
            found.append(data[5:size])
            data = data[size:]
    return found
"""


def run(code: str, channels: Any, policy: Policy = OPEN, **inputs: Any) -> belljar.Result:
    return belljar.run(f"{TOOLS}\n{code}", policy, inputs=inputs, channels=channels)


def test_K1_the_tools_speak_the_protocol() -> None:
    """Else the attacks below would prove nothing."""
    ours, theirs = belljar.channel()
    data = call(1, "jobs.send", bytes(encode("hello"))) + call(2, "jobs.look")
    result = run(
        "say(DATA); print(len(heard(2)), flush=True); os._exit(0)", {"jobs": theirs}, DATA=data
    )
    assert result.stdout == "2\n"
    assert [*ours] == ["hello"]


PICKLE = b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93."
NO_DATA = {
    "pickle": PICKLE,
    "garbage": b"\xc1" * 50,
    "too deep": b"\x91" * 1000 + b"\xc0",
    "too many": b"\xdd\x00\x0f\xff\xff" + b"\x90" * 0xFFFFF,
    "a length that lies": b"\xdb\xff\xff\xff\xff" + b"x",
    "more after it": b"\xc0\xc0",
    "unknown extension": b"\xc7\x01\x7f\x00",
}


@pytest.mark.parametrize("item", NO_DATA.values(), ids=NO_DATA)
def test_K8_an_item_that_is_no_data_closes_the_channel(item: bytes) -> None:
    ours, theirs = belljar.channel(item_bytes=2**21)
    data = call(1, "jobs.send", item) + call(2, "jobs.look")
    run("say(DATA); heard(2); os._exit(0)", {"jobs": theirs}, DATA=data)
    with pytest.raises(ChannelClosed, match="no data"):
        ours.recv()
    assert ours.closed


@pytest.mark.parametrize("item", NO_DATA.values(), ids=NO_DATA)
def test_K9_an_item_that_is_no_data_does_no_harm_to_another_sandbox(item: bytes) -> None:
    """Passed on unread by the host; whoever it is for reads it within bounds of its own."""
    a, b = belljar.channel(item_bytes=2**21)
    data = call(1, "jobs.send", item) + call(2, "jobs.look")
    run("say(DATA); heard(2); os._exit(0)", {"jobs": a}, DATA=data)
    code = """
import belljar
try: jobs.recv()
except belljar.ChannelClosed as error: seen = "no data" in str(error)
seen
"""
    assert belljar.run(code, OPEN, channels={"jobs": b}).unwrap() is True


@pytest.mark.parametrize(
    "function",
    [
        "other.recv",
        "other.send",
        "jobs.steal",
        "jobs.",
        ".recv",
        "jobs",
        "jobs.recv.recv",
        "jobs.settings",
    ],
)
def test_K3_what_it_was_not_given_has_no_name(function: str) -> None:
    """An end that another sandbox has, and words that there are not."""
    ours, theirs = belljar.channel()
    mine, yours = belljar.channel()
    with Sandbox(channels={"other": yours}) as sandbox:
        mine.send("for the other")
        data = call(1, function, bytes(encode(["x"])))
        code = "say(DATA); print(b'PermissionError' in heard(1)[0], flush=True); os._exit(0)"
        result = run(code, {"jobs": theirs}, DATA=data)
        assert result.stdout == "True\n"
        assert [entry.action for entry in result.denials] == ["call"]
        assert [*ours] == []
        assert sandbox.run("other.recv(timeout=0)").unwrap() == "for the other"
        with pytest.raises(TimeoutError):
            mine.recv(timeout=0)


def test_K3_a_sandbox_without_channels_has_none() -> None:
    _ours, theirs = belljar.channel()
    with Sandbox(channels={"jobs": theirs}):
        data = call(1, "jobs.recv")
        result = belljar.run(f"{TOOLS}\nsay(DATA); heard(1)", OPEN, inputs={"DATA": data})
        assert result.status == "crashed"


def test_K2_a_flood_without_room_is_not_kept() -> None:
    ours, theirs = belljar.channel(capacity=4)
    data = calls("jobs.send", CALLS, bytes(encode("x")))
    run("say(DATA); heard(64); os._exit(0)", {"jobs": theirs}, DATA=data)
    assert [*ours] == ["x"] * 4


# Numbers of one width, so that of a frame only four bytes change.
def numbered(function: str, arguments: bytes) -> list[bytes]:
    whole = call(2**16, function, arguments)
    at = whole.index((2**16).to_bytes(4, "big"))
    return [whole[:at], whole[at + 4 :]]


LOOP = """
for n in range(2**16, 2**16 + COUNT):
    say(FRAMES[0] + n.to_bytes(4, "big") + FRAMES[1])
    heard(1)
    os.write(1, b".")
os._exit(0)
"""


def test_R2_host_memory_is_bounded_by_the_capacity() -> None:
    ours, theirs = belljar.channel(capacity=4, item_bytes=2**20)
    frames = numbered("jobs.send", bytes(encode(bytes(2**20 - 8))))
    gc.collect()
    before = resident_bytes()
    result = run(LOOP, {"jobs": theirs}, FRAMES=frames, COUNT=64)
    assert result.stdout == "." * 64
    assert len(ours._side.inward.items) == 4
    assert resident_bytes() - before < 40 * 2**20


def test_R2_as_many_waits_as_the_wire_has_cost_no_thread() -> None:
    ours, theirs = belljar.channel()
    told, tell = belljar.channel()
    threads = threading.active_count()
    data = calls("jobs.recv", CALLS - 1)
    found: list[belljar.Result] = []

    def act() -> None:
        code = "say(DATA); say(READY); print(len(heard(2)), flush=True); os._exit(0)"
        ready = call(CALLS, "ready.send", bytes(encode(1)))
        found.append(run(code, {"jobs": theirs, "ready": tell}, DATA=data, READY=ready))

    thread = threading.Thread(target=act)
    thread.start()
    assert told.recv(PATIENCE_S) == 1
    assert threading.active_count() == threads + 1
    ours.send("one")
    thread.join(PATIENCE_S)
    assert found[0].stdout == "2\n"
    # The waits of a guest that is gone hold nothing.
    assert not ours._side.outward.takers._waiting


def test_K1_more_waits_than_that_break_the_protocol() -> None:
    ours, theirs = belljar.channel()
    result = run("say(DATA); heard(1)", {"jobs": theirs}, DATA=calls("jobs.recv", CALLS + 1))
    assert result.status == "crashed"
    assert result.error is not None
    assert result.error.type == "GuestProtocolError"
    with pytest.raises(ChannelClosed):
        ours.recv()


LOOPS = {
    "look": ("jobs.look", NIL),
    "close again and again": ("jobs.close", NIL),
    "an item that is too large": ("jobs.send", bytes(encode("x" * 2000))),
    "no room": ("full.send", NIL),
    "nothing will come": ("over.recv", NIL),
    "nobody will take it": ("over.send", NIL),
    "no room ever": ("over.room", NIL),
    "no such word": ("jobs.steal", NIL),
}


@pytest.mark.parametrize(("function", "arguments"), LOOPS.values(), ids=LOOPS)
def test_R2_what_transfers_nothing_is_answered_at_a_rate(function: str, arguments: bytes) -> None:
    """So that a loop costs the host next to nothing, however fast it is."""
    _ours, theirs = belljar.channel(item_bytes=1000)
    _held, full = belljar.channel(capacity=1)
    gone, over = belljar.channel()
    gone.close()
    if function == "full.send":
        full.send(1)
    channels = {"jobs": theirs, "full": full, "over": over}
    frames = numbered(function, arguments)
    result = run(LOOP, channels, OPEN.limit(wall_s=2), FRAMES=frames, COUNT=10**6)
    assert result.status == "limit"
    # A late kill by the host would let some more through.
    assert REFUSALS <= len(result.stdout) <= REFUSALS + REFUSALS_PER_S * (result.usage.wall_s + 1)


def test_K10_hostile_ends_leave_nothing() -> None:
    def once(end: str) -> None:
        ours, theirs = belljar.channel(capacity=2)
        data = calls("jobs.send", 5, NIL) + call(6, "jobs.recv") + call(7, "jobs.room")
        run(f"say(DATA); {end}", {"jobs": theirs}, DATA=data)
        assert [*ours] in ([], [None], [None, None])  # what came before its end

    ends = ("os._exit(0)", "os.kill(os.getpid(), 9)", "1/0", f"os.close({LINK}); os._exit(1)")
    once(ends[0])
    gc.collect()
    before, threads = descriptors(), threading.active_count()
    for end in ends * 3:
        once(end)
    gc.collect()
    assert len(descriptors()) == len(before)
    assert threading.active_count() == threads
