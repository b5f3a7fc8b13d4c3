"""X3, K8: hostile guests and the calls of host functions.

What: guests that speak the wire themselves: forged numbers, too many calls, bombs as arguments,
answers that are not read, floods of what is refused.  Because: the stand-ins inside are courtesy
and no wall.  Then: each ends as a breach that belongs to the guest, or costs the host little.
"""

from __future__ import annotations

import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

import belljar
from belljar import HostFunction, Policy
from belljar.api import machine
from belljar.api.run import execute, lend, make_feed, make_order
from belljar.result import Result
from belljar.testing.hostile_peer import READY, Peer, _Zygote, finished, forge
from belljar.wire.encoder import encode

NOTHING = bytes(encode([[], {}]))
LARGE = bytes(encode([[b"x" * (15 * 2**20)], {}]))


def call(call_id: int, name: str = "f", arguments: bytes = NOTHING) -> bytes:
    return forge(0x84, [call_id, name, arguments])


def play(
    script: Callable[[Peer], object], policy: Policy | None = None, **functions: Any
) -> Result:
    """As ``hostile_peer.play``, for a guest that was lent functions."""
    policy = policy or Policy()
    order = make_order("", policy, None, (), None, "peer.py")
    stand_in: Any = _Zygote(script)
    return execute(
        machine.prepare(policy),
        stand_in,
        order,
        make_feed(b"", policy),
        None,
        time.monotonic(),
        functions=lend(functions, policy, {}),
    )


def says(*frames: bytes, last: bytes = b"") -> Callable[[Peer], object]:
    """A guest that waits for its run, says these, and waits for the end."""

    def script(peer: Peer) -> None:
        peer.say(READY)
        peer.hear()
        for one in frames:
            peer.say(one)
        if last:
            peer.say(last)
        while peer.hear():
            pass

    return script


class Counted:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> int:
        self.calls += 1
        return self.calls


@pytest.mark.parametrize(
    ("frames", "calls"),
    [
        ([call(1), call(1)], 1),
        ([call(5), call(4)], 1),
        ([call(0)], 0),
        ([call(-1)], 0),
        ([call(2**63)], 0),
        ([call(1, "f" * 65)], 0),
        ([forge(0x84, [1, "f"])], 0),
        ([forge(0x84, [1, "f", None])], 0),
        ([call(1, "f", b"")], 0),
        ([forge(0x04, [1, NOTHING, "", "", ""])], 0),
        ([(2**31).to_bytes(4, "big") + b"\x84"], 0),
        ([call(1), b"\0\0\0\0\xff"], 1),
    ],
)
def test_forged_calls_are_a_breach(frames: list[bytes], calls: int) -> None:
    function = Counted()
    result = play(says(*frames), f=function)
    assert result.status == "crashed"
    assert result.error is not None
    assert result.error.type == "GuestProtocolError"
    assert function.calls <= calls


def test_the_call_after_the_last_word_is_not_made() -> None:
    function = Counted()
    result = play(says(last=finished(1) + call(1)), f=function)
    assert function.calls == 0
    assert result.status in ("ok", "crashed")


def test_a_call_before_the_code() -> None:
    function = Counted()

    def script(peer: Peer) -> None:
        peer.say(READY + call(1))
        peer.hear()

    assert play(script, f=function).status == "crashed"
    assert function.calls == 0


def test_the_65th_call_is_a_breach_and_the_64_are_given_up() -> None:
    over = threading.Event()
    lent = HostFunction(lambda: over.wait(60), in_thread=True)
    result = play(says(*[call(n) for n in range(1, 66)]), f=lent)
    over.set()
    assert result.error is not None
    assert "at most 64 calls" in result.error.message


def test_names_with_terminal_escapes_are_bounded_and_quoted() -> None:
    names = [f"\x1b[2J\x07{n}:\n\u202e".ljust(64, "x") for n in range(200)]
    frames = [call(n + 1, name) for n, name in enumerate(names[:60])]
    result = play(says(*frames, last=finished(1)), f=len)
    assert result.status == "ok"
    assert {d.target for d in result.denials} <= set(names)
    assert all(d.action == "call" and "\x1b" not in d.grant for d in result.denials)
    assert all(len(d.target) <= 64 and len(d.grant) < 600 for d in result.denials)


@pytest.mark.parametrize(
    "arguments",
    [
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        LARGE,
        bytes(encode([[[None] * 900_000], {}])),
        bytes(encode([[{n: n for n in range(100_000)}], {}])),
        bytes(encode([[1], {"x" * 2**19: 1}])),
        bytes(encode([[2**1_000_000], {}])),
        b"\xff" * (15 * 2**20),
    ],
)
def test_bombs_as_arguments_cost_little_memory(arguments: bytes) -> None:
    def function(x: int) -> int:
        return 1

    tracemalloc.start()
    result = play(says(call(1, "f", arguments), last=finished(1)), f=function)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.status == "ok"
    assert peak < 6 * len(arguments) + 16 * 2**20


def test_the_largest_calls_that_may_wait() -> None:
    over = threading.Event()
    lent = HostFunction(lambda *a: over.wait(60), in_thread=True, concurrency=1)
    frames = [call(1), *[call(n, "f", LARGE) for n in (2, 3)], call(4, "f", LARGE)]
    tracemalloc.start()
    result = play(says(*frames), f=lent)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    over.set()
    assert result.error is not None
    assert "bytes at most" in result.error.message
    assert peak < 5 * 2 * 16 * 2**20


def test_answers_that_nobody_reads_do_not_gather_on_the_host() -> None:
    """One answer is a megabyte; a guest that asks on and reads none is kept waiting."""
    function = Counted()

    def large() -> bytes:
        function()
        return b"x" * 2**20

    def script(peer: Peer) -> None:
        peer.say(READY)
        peer.hear()
        for n in range(1, 60):
            peer.say(call(n))
        time.sleep(1.0)
        peer.say(finished(1))

    result = play(script, f=large)
    assert result.status == "ok"
    assert function.calls <= 3


def test_a_flood_of_refused_calls_costs_the_host_little() -> None:
    """K8: three seconds of it; the host is at work for a small part of them."""

    def script(peer: Peer) -> None:
        peer.say(READY)
        peer.hear()
        until = time.monotonic() + 3.0
        call_id = 0
        for _ in range(60):
            call_id += 1
            peer.say(call(call_id, "unknown"))
        while time.monotonic() < until:
            peer.hear()
            call_id += 1
            peer.say(call(call_id, "unknown"))
        peer.say(finished(call_id))

    cpu, wall = time.thread_time(), time.monotonic()
    result = play(script, f=len)
    cpu, wall = time.thread_time() - cpu, time.monotonic() - wall
    assert result.status == "ok"
    assert cpu < 0.25 * wall
    assert result.value < 400


def test_a_flood_of_arguments_that_do_not_fit_costs_the_host_little() -> None:
    """Each takes the host long to look at, up to its last item; so the next answer takes longer."""

    def function(x: list[int]) -> int:
        return 1

    arguments = bytes(encode([[[1] * 60_000 + [""]], {}]))

    def script(peer: Peer) -> None:
        peer.say(READY)
        peer.hear()
        until = time.monotonic() + 4.0
        for call_id in range(1, 100_000):
            peer.say(call(call_id, "f", arguments))
            peer.hear()
            if time.monotonic() > until:
                peer.say(finished(call_id))
                return

    policy = Policy().allow(wall_s=60, cpu_s=60)
    cpu, wall = time.thread_time(), time.monotonic()
    result = play(script, policy, f=function)
    cpu, wall = time.thread_time() - cpu, time.monotonic() - wall
    assert result.status == "ok"
    assert cpu < 0.6 * wall


def test_revoking_races_with_calls() -> None:
    """Whoever wins: each call is answered once, and after the revocation nothing is called."""
    for _ in range(20):
        function = Counted()
        lent = HostFunction(function, in_thread=True)
        timer = threading.Timer(0.005, lent.revoke)
        timer.start()
        code = """
done = 0
try:
    while True: done = f()
except PermissionError: pass
done
"""
        found = belljar.run(code, functions={"f": lent}).unwrap()
        assert found <= function.calls <= found + 1
        assert lent.revoked


def test_frames_by_the_code_itself() -> None:
    """A guest of ours that writes to its own link is believed as little."""
    script = f"import os; os.write(3, {call(1, 'f') + call(1, 'f')!r}); f()"
    function = Counted()
    result = belljar.run(script, functions={"f": function})
    assert result.status == "crashed"
    assert function.calls <= 1
