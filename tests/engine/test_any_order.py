"""Any events in any order: no exception, no busy loop, and always an end (K1)."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.engine import events as e
from belljar.engine.calls import Bounds, Calls, Use
from belljar.engine.life import Life
from belljar.policy import Limits
from belljar.result import STATUSES
from belljar.wire.connection import Connection
from belljar.wire.events import (
    Artifact,
    Denial,
    Denied,
    ErrorText,
    Finished,
    HostCall,
    Ready,
    Run,
)
from belljar.wire.limits import Budget

BUDGET = Budget(memory_bytes=2**20)
ORDER = Run(1, "1", "<code>", {})


def _frames() -> list[bytes]:
    """What an honest guest says, and each of its frames alone, to be put in any order."""
    host, guest = Connection("host"), Connection("guest")
    ready = guest.send(Ready({}))
    host.receive_data(ready)
    guest.receive_data(host.send(ORDER))
    denied = guest.send(Denied(1, (Denial("open", "/x", "read"),)))
    shown = guest.send(Artifact(1, "", {"image/png": b"x" * 50}))
    frames = [ready, denied, denied[:5], shown]
    for finished in (
        Finished(1, "ok", value=b"\x01"),  # type: ignore[arg-type]
        Finished(1, "exited", exit_code=3),
        Finished(1, "raised", error=ErrorText("E", "m", "t", limit="memory")),
    ):
        one = Connection("guest")
        one.send(Ready({}))
        host = Connection("host")
        host.receive_data(ready)
        one.receive_data(host.send(ORDER))
        frames.append(one.send(finished))
    for call_id in (1, 2, 3):
        frames.append(guest.send(HostCall(call_id, "fgh"[call_id - 1], b"\xc0")))  # type: ignore[arg-type]
    return frames


FRAMES = _frames()
READY = FRAMES[0]
times = st.sampled_from([0.0, 0.0001, 0.01, 0.3, 1.5, 40.0])
streams = st.sampled_from(["stdout", "stderr"])
facts = st.one_of(
    st.just(e.Spawned(1.0)),
    st.just(e.Confined(2.0)),
    st.builds(e.SpawnFailed, st.just("fork"), st.sampled_from([0, 11, 22]), st.text(max_size=3)),
    st.builds(
        e.Exited,
        st.sampled_from([0, 0, 9, 11, 24, 25]),
        st.integers(0, 255),
        st.sampled_from([0.0, 1.0, 3.0]),
        st.just(1),
        st.just(3.0),
    ),
    st.just(e.ZygoteGone()),
    st.just(e.LinkClosed()),
    st.builds(e.OutputClosed, streams),
    st.sampled_from([e.Interrupted(), e.Interrupted(1.0), e.Interrupted(math.inf)]),
    st.sampled_from([e.Paused(), e.Resumed()]),
    st.builds(e.Answered, st.integers(0, 4), st.just(b"\xc0"), refused=st.booleans()),
    st.builds(e.Revoked, st.sampled_from("fgh")),
)
hostile = st.one_of(
    st.builds(e.LinkData, st.sampled_from(FRAMES)),
    st.builds(e.LinkData, st.sampled_from(FRAMES)),
    st.builds(e.LinkData, st.binary(min_size=1, max_size=20)),
    st.builds(e.Output, streams, st.binary(min_size=1, max_size=6)),
)
ticks = st.builds(e.Tick, st.none() | st.sampled_from([0.0, 0.5, 5.0]))
stories = st.lists(st.tuples(times, hostile | facts | ticks | hostile | ticks), max_size=14)
limits = st.builds(
    Limits,
    wall_s=st.sampled_from([0.001, 1, 5]),
    cpu_s=st.sampled_from([0.001, 2, 60]),
    output_bytes=st.sampled_from([0, 5, 1000]),
    threads=st.sampled_from([0, 16, 4096]),
    grace_s=st.sampled_from([0, 0, 0.5, 60]),
    pause_s=st.sampled_from([0, 1, 10]),  # looked at every 2 ms: within the turns below
    cpu_cores=st.sampled_from([0.01, 0.5, 1024]),
    output_bytes_per_s=st.sampled_from([1024, 2**40]),
)


bounds = st.builds(
    Bounds,
    st.sampled_from([None, 1]),
    st.sampled_from([1, 64]),
    st.sampled_from([None, 0.5]),
    st.sampled_from([None, 0.2]),
    st.booleans(),
)


def functions(given_bounds: Bounds | None) -> Calls | None:
    """Two host functions, or a guest that has none."""
    if given_bounds is None:
        return None
    return Calls({"f": Use(given_bounds), "g": Use(Bounds())})


def check(life: Life, now: float) -> None:
    """What holds after every event."""
    assert not math.isnan(life.deadline())
    if life.done and life.failure is None:
        result = life.result()
        assert result.status in STATUSES
        assert (result.limit is not None) == (result.status == "limit")
        assert result.value is None or result.status in ("ok", "limit")
        assert result.value is None or result.status == "ok" or life.turn.limits.grace_s
        assert (result.exit_code is not None) == (result.status == "exited")
        assert result.signal is None or result.status == "crashed"


def check_throttles(life: Life, instructions: list[e.Instruction]) -> None:
    """Each stop has its way on, in turn; and who is dead, or told to end, is not held up."""
    throttles = life.turn.throttles
    if throttles is None:
        return
    for stop, go in ((e.Freeze, e.Thaw), (e.HoldOutput, e.TakeOutput)):
        turns = [isinstance(one, stop) for one in instructions if isinstance(one, (stop, go))]
        assert len(turns) <= 1
        held = throttles.frozen if stop is e.Freeze else throttles.take_at < math.inf
        assert not turns or turns[0] == held
    if not life._running:
        assert not throttles.frozen
        assert throttles.take_at == math.inf


def tell(life: Life, event: e.Event, now: float, killed: bool, limits: Limits) -> bool:
    instructions = life.handle(event, now)
    check(life, now)
    if isinstance(event, e.Tick) and not life.done:
        assert life.deadline() > now, "a driver would spin"
    for one in instructions:
        if isinstance(one, e.Deliver):
            assert one.data
        if isinstance(one, e.Notify):
            assert life.interrupted or life.turn.limits.grace_s
        if isinstance(one, e.Invoke):
            assert life._has_the_code, "nobody waits for this call"
            assert e.Abandon(one.call_id) not in instructions
    check_throttles(life, instructions)
    return killed or e.Kill() in instructions


@settings(max_examples=400, deadline=None)
@given(stories, limits, st.booleans(), st.none() | bounds)
def test_any_story_has_an_end(story, limits, ready, given_bounds):
    now = 100.0
    life = Life(ORDER, limits, BUDGET, now, calls=functions(given_bounds))
    killed = False
    delivered = 0
    if ready:
        story = [(0.0, e.LinkData(READY)), *story]
    for passed, event in story:
        now += passed
        if life.failure is not None:
            break
        killed = tell(life, event, now, killed, limits)
    # Every guest ends: by itself, or because the engine has it killed at its own deadline.
    for _ in range(20_000):  # a minute's pause, looked at every 5 ms
        if life.done or killed:
            break
        assert life.deadline() < math.inf, "nobody would ever end this guest"
        now = max(now, life.deadline())
        killed = tell(life, e.Tick(None), now, killed, limits)
    assert life.done or killed
    if not life.done:
        for event in (
            e.Exited(9, 0, 0.1, 1, now),
            e.LinkClosed(),
            e.OutputClosed("stdout"),
            e.OutputClosed("stderr"),
        ):
            tell(life, event, now, killed, limits)
    assert life.done
    if life.failure is None:
        result = life.result()
        delivered = len(result.stdout_bytes) + len(result.stderr_bytes)
        assert delivered <= limits.output_bytes


@settings(max_examples=200, deadline=None)
@given(stories, limits)
def test_after_the_exit_a_pipe_held_elsewhere_delays_the_end_but_not_for_ever(story, limits):
    now = 100.0
    life = Life(ORDER, limits, BUDGET, now)
    life.handle(e.LinkData(READY), now)
    life.handle(e.Exited(0, 0, 0.1, 1, now), now)
    for passed, event in story:
        if life.done:
            break
        now += min(passed, 0.01)
        tell(life, event, now, False, limits)
    for _ in range(3):
        if life.done:
            return
        assert life.deadline() < math.inf
        now = max(now, life.deadline())
        tell(life, e.Tick(None), now, False, limits)
    assert life.done


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_any_bytes_from_the_guest_are_an_outcome(data, cuts):
    """Line one of the wire's contract, seen from the engine: never another exception."""
    life = Life(ORDER, Limits(), BUDGET, 1.0)
    life.handle(e.LinkData(READY), 1.0)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for first, last in itertools.pairwise(edges):
        life.handle(e.LinkData(data[first:last]), 1.0)
    for event in (e.LinkClosed(), e.OutputClosed("stdout"), e.OutputClosed("stderr")):
        life.handle(event, 1.0)
    life.handle(e.Exited(0, 0, 0.1, 1, 2.0), 2.0)
    assert life.done
    assert life.result().status in ("crashed", "exited")


@pytest.mark.parametrize("threads", [0, 16, 4096])
@pytest.mark.parametrize("cores", [1, 4])
def test_the_cpu_clock_is_read_seldom_and_in_time(threads, cores):
    """A busy guest is caught within a few milliseconds of its limit, by few questions (R2)."""
    cores = min(cores, threads + 1)
    life = Life(ORDER, Limits(cpu_s=5, wall_s=60, threads=threads), BUDGET, 0.0)
    life.handle(e.LinkData(READY), 0.0)
    now, questions = 0.0, 0
    while not life.handle(e.Tick(now * cores), now):
        questions += 1
        now = life.deadline()
    assert now * cores == pytest.approx(5, abs=0.02)
    assert questions < 600
