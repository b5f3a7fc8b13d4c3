"""K1, K3: the host's own loop against a guest that says anything, from its first byte on.

What: scripts on the guest's end of the link, without an agent and before it, played by
``belljar.testing.hostile_peer``.  Because: an attacker may be faster than the agent, and what
lies between two frames is his.  Then: one result whatever was said, facts that stay the
kernel's, nothing held longer than the run, and memory within the documented bound.
"""

from __future__ import annotations

import array
import itertools
import os
import select
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from belljar import Denial, Policy, Result
from belljar.engine import life
from belljar.errors import SetupFailed
from belljar.testing.hostile_peer import READY, Peer, denied, finished, forge, play

from .host_memory import bound
from .measure import cost
from .watch import descendants, descriptors, eventually

SHORT = Policy().limit(wall_s=0.3)
ENTRY = ("read", "/srv", "allow(read=['/srv'])")
RUN = forge(0x01, [1, "1", "x", {}, [], True, {}, {}, False])
CLOSE = forge(0x02, [])
RAISED = forge(0x83, [1, "raised", None, None, ["E", "m", "t", [], None], None, []])


def broke(result: Result) -> bool:
    error = result.error
    return (
        result.status == "crashed"
        and result.signal is None
        and result.value is None
        and error is not None
        and error.type == "GuestProtocolError"
    )


def in_a_run(*pieces: bytes, then: Any = None) -> Any:
    """A script: ready, the run is taken, these pieces are said, something is done."""

    def script(peer: Peer) -> None:
        peer.say(READY)
        peer.hear()
        for piece in pieces:
            peer.say(piece)
        if then is not None:
            then(peer)

    return script


def test_the_peer_is_a_guest_like_any() -> None:
    """The scripts of this file fail by what they say, and by nothing else."""
    result = play(
        in_a_run(denied(ENTRY), finished([1, "two"]), then=lambda p: os.write(p.stdout, b"x"))
    )
    assert (result.status, result.value, result.stdout) == ("ok", [1, "two"], "x")
    assert result.denials == (Denial(*ENTRY),)
    assert result.usage.peak_memory_bytes > 0
    killed = play(in_a_run(then=lambda _: os.kill(os.getpid(), 11)))
    assert (killed.status, killed.signal) == ("crashed", 11)
    busy = play(in_a_run(then=lambda _: time.sleep(60)), SHORT)
    assert busy.limit is not None
    assert busy.limit.name == "wall"
    raised = play(in_a_run(then=lambda _: 1 / 0))
    assert (raised.status, raised.exit_code) == ("exited", 1)
    assert "ZeroDivisionError" in raised.stderr


BEFORE_READY = {
    "an answer": finished(1),
    "a denial": denied(ENTRY),
    "the host's run": RUN,
    "the host's close": CLOSE,
    "the zygote's kind": forge(0x43, ["exited", {"signal": 0}]),
    "ready and an answer at once": READY + finished(1),
    "ready twice": READY + READY,
    "ready with words for stages": forge(0x81, [{"fork": "soon"}]),
    "garbage": os.urandom(64) + b"\xff" * 64,
}


@pytest.mark.parametrize("how", BEFORE_READY)
def test_K1_a_first_word_out_of_order_is_a_breach(how: str) -> None:
    def script(peer: Peer) -> None:
        peer.say(BEFORE_READY[how])
        time.sleep(60)

    assert broke(play(script))


IN_RUN = {
    "ready again": (READY,),
    "the run given back": (RUN,),
    "close": (CLOSE,),
    "answers of two runs": (finished(1, run_id=2),),
    "a denial of another run": (denied(ENTRY, run_id=2),),
    "a denial without entries": (denied(),),
    "a denial, then ready": (denied(ENTRY), READY),
}


@pytest.mark.parametrize("how", IN_RUN)
def test_K1_a_word_out_of_order_in_a_run_is_a_breach(how: str) -> None:
    assert broke(play(in_a_run(*IN_RUN[how], then=lambda _: time.sleep(60))))


AFTER_FINISHED = {
    "a denial": denied(ENTRY),
    "another answer": finished("second"),
    "another outcome": RAISED,
    "ready": READY,
    "garbage": b"\xff" * 4096,
    "half a frame": finished("second")[:9],
}


@pytest.mark.parametrize("how", AFTER_FINISHED)
def test_K1_nothing_counts_after_the_answer(how: str) -> None:
    """In a piece of its own it is ignored; in the same piece it makes a breach of both."""

    def later(peer: Peer) -> None:
        assert peer.hear()  # the host's close: it has read the answer
        peer.say(AFTER_FINISHED[how])

    result = play(in_a_run(finished("first"), then=later))
    assert (result.status, result.value, result.denials) == ("ok", "first", ())
    together = play(in_a_run(finished("first") + AFTER_FINISHED[how]))
    assert broke(together) or (together.status, together.value) == ("ok", "first")


def test_K1_an_answer_cut_at_any_byte_is_none() -> None:
    whole = finished({"key": [1.5, "text"]})
    for end in range(len(whole)):
        result = play(in_a_run(whole[:end]))
        assert result.value is None
        assert broke(result) if end else (result.status, result.exit_code) == ("exited", 0)
    by_byte = play(in_a_run(*[whole[i : i + 1] for i in range(len(whole))]))
    assert (by_byte.status, by_byte.value) == ("ok", {"key": [1.5, "text"]})


def test_K1_a_guest_that_never_gets_ready_is_our_failure_and_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(life, "START_S", 0.2)
    before = {p.pid for p in descendants()}
    with pytest.raises(SetupFailed, match="not ready in time"):
        play(lambda _: time.sleep(60))
    with pytest.raises(SetupFailed, match="before it was ready"):
        play(lambda peer: os.write(peer.stderr, b"no"))
    assert eventually(lambda: {p.pid for p in descendants()} <= before)


PIECES = [
    READY,
    denied(ENTRY),
    finished(7),
    RAISED,
    RUN,
    CLOSE,
    finished(7)[:11],
    b"\xff",
    bytes(5),
]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.sampled_from(PIECES) | st.binary(max_size=20), max_size=6),
    st.lists(st.integers(0, 200), max_size=4),
    st.sampled_from([0, 3, 9, 11]),
)
def test_K1_any_words_in_any_order_give_one_result(
    pieces: list[bytes], cuts: list[int], end: int
) -> None:
    said = b"".join(pieces)
    places = sorted({min(cut, len(said)) for cut in cuts} | {0, len(said)})

    def script(peer: Peer) -> None:
        peer.say(READY)
        peer.hear()
        for start, stop in itertools.pairwise(places):
            peer.say(said[start:stop])
        if end > 3:
            os.kill(os.getpid(), end)
        os._exit(end)

    result = play(script, SHORT)
    assert result.status in ("ok", "raised", "exited", "crashed")
    assert result.value in (None, 7)
    if result.status == "exited":
        assert result.exit_code == end
    if result.signal is not None:
        assert result.signal in (9, end)


# ------------------------------------------------------------------------------- floods


def for_ever(data: bytes) -> Any:
    def flood(peer: Peer) -> None:
        while True:
            peer.say(data)

    return flood


def bytes_of_the_largest_frame(peer: Peer) -> None:
    peer.say((31 * 2**20).to_bytes(4, "big") + b"\x83")
    for_ever(b"\x91" * 65536)(peer)


def answer_then_flood(peer: Peer) -> None:
    peer.say(finished("first"))
    peer.hear()
    for_ever(bytes(65536))(peer)


def answer_then_output(peer: Peer) -> None:
    peer.say(finished("first"))
    while True:
        os.write(peer.stdout, bytes(65536))


WIDE = "\U0001f600" * 4096
FLOODS = {
    "a million denials": lambda peer: peer.say(denied(ENTRY) * 10**6),
    "denials at their caps": for_ever(denied(*[("a" * 64, WIDE, WIDE)] * 64)),
    "a million frames of nothing": lambda peer: peer.say(bytes(5 * 10**6)),
    "bytes of the largest frame": bytes_of_the_largest_frame,
    "after the answer": answer_then_flood,
    "single bytes": lambda peer: [peer.say(b"\x00") for _ in range(10**5)],
    "output after the answer": answer_then_output,
}


@pytest.mark.parametrize("how", FLOODS)
def test_K1_a_flood_is_cut_off_within_the_bound(how: str) -> None:
    policy = Policy().limit(wall_s=1)
    with cost() as host:
        result = play(in_a_run(then=FLOODS[how]), policy)
    cut = result.limit is not None and result.limit.name == "output"
    assert broke(result) or cut or result.value == "first"
    assert len(result.denials) <= life.MOST_DENIALS
    assert host.peak_bytes < bound(policy.limits)


# --------------------------------------------------------------------------- descriptors


def send_with(peer: Peer, data: bytes, fds: list[int]) -> None:
    with socket.socket(fileno=os.dup(peer.link)) as link:
        link.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])


def test_R6_K3_a_descriptor_on_the_link_is_closed_when_its_bytes_are_read() -> None:
    """The kernel drops what a plain ``recv`` has no room for, while the run still goes on."""

    def script(peer: Peer) -> None:
        reading, writing = os.pipe()
        peer.say(READY)
        peer.hear()
        send_with(peer, denied(ENTRY), [writing] * 200)
        os.close(writing)
        gone = select.poll()
        gone.register(reading, 0)  # hang-up only: nobody in the world can write any more
        closed = bool(gone.poll(20_000))
        peer.say(finished(closed))

    before = descriptors()
    result = play(script)
    assert (result.status, result.value) == ("ok", True)
    assert result.denials == (Denial(*ENTRY),)
    assert descriptors() == before


@pytest.mark.parametrize("data", [READY, finished(1), b"\xff" * 20, denied(ENTRY)[:7]])
def test_R6_K3_descriptors_that_nobody_reads_go_with_the_link(data: bytes, tmp_path: Path) -> None:
    """With a first word, an answer, a breach, half a frame: none stays in flight."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)

    def script(peer: Peer) -> None:
        writing = os.open(fifo, os.O_WRONLY)
        if data != READY:
            peer.say(READY)
        for _ in range(3):
            send_with(peer, data, [writing] * 200)
        os._exit(0)

    before = descriptors()
    result = play(script, SHORT)
    assert descriptors() == before
    assert broke(result) or result.value == 1 or result.status == "exited"
    hung_up = select.poll()
    hung_up.register(reading, 0)
    assert hung_up.poll(20_000)
    os.close(reading)
