"""X3, K7: which calls of host functions begin, wait, are refused, and what each answer costs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.engine import events as e
from belljar.engine.calls import OVER, REFUSALS, REFUSALS_PER_S, Answer, Bounds, Calls, Rate, Use
from belljar.wire.events import HostCall, Returned
from belljar.wire.limits import CALLS


def made(**bounds: object) -> Calls:
    calls = Calls({"f": Use(Bounds(**bounds)), "g": Use(Bounds())})  # type: ignore[arg-type]
    assert calls.resume(0.0) == []
    return calls


def asked(call_id: int, function: str = "f") -> HostCall:
    return HostCall(call_id, function, b"\xc0")  # type: ignore[arg-type]


def invoke(call_id: int, function: str = "f") -> e.Invoke:
    return e.Invoke(call_id, function, b"\xc0")


def answer(call_id: int, function: str = "") -> Answer:
    return Answer(Returned(call_id, b"\xc0"), function)


def done(call_id: int) -> e.Answered:
    return e.Answered(call_id, b"\xc0")


def refusal(steps: list[object]) -> str:
    (step,) = steps
    assert isinstance(step, Answer)
    assert step.returned.error_type == "PermissionError"
    return step.returned.message


def test_a_call_begins_and_is_answered() -> None:
    calls = made()
    assert calls.take(asked(1), 0.0) == [invoke(1)]
    assert calls.answer(done(1), 1.0) == [answer(1)]
    assert calls.answer(done(1), 1.0) == []  # once
    assert calls.due_at() == math.inf


def test_an_error_of_the_function_is_told_as_it_is() -> None:
    calls = made()
    calls.take(asked(1), 0.0)
    told = calls.answer(e.Answered(1, None, "ValueError", "no"), 0.0)
    assert told == [Answer(Returned(1, None, "ValueError", "no"))]


def test_what_was_not_lent_is_refused() -> None:
    (step,) = made().take(asked(1, "x\x1b[2J:y"), 0.0)
    assert isinstance(step, Answer)
    assert step.function == "x\x1b[2J:y"
    assert step.returned.grant == "functions={'x\\x1b[2J:y': ...}"


def test_so_many_calls_and_no_more() -> None:
    calls = made(calls=2)
    for call_id in (1, 2):
        assert calls.take(asked(call_id), 0.0) == [invoke(call_id)]
        calls.answer(done(call_id), 0.0)
    assert refusal(calls.take(asked(3), 0.0)) == "f: its 2 calls are used up"
    assert calls.take(asked(4, "g"), 0.0) == [invoke(4, "g")]


def test_the_last_ones_that_wait_are_not_refused() -> None:
    calls = made(calls=3)
    assert calls.take(asked(1), 0.0) == [invoke(1)]
    assert calls.take(asked(2), 0.0) == []
    assert calls.take(asked(3), 0.0) == []
    assert calls.answer(done(1), 0.0) == [answer(1), invoke(2)]
    assert calls.answer(done(2), 0.0) == [answer(2), invoke(3)]


def test_so_many_at_once_the_others_wait_in_order() -> None:
    calls = made(concurrency=2)
    assert [calls.take(asked(n), 0.0) for n in (1, 2, 3, 4)] == [[invoke(1)], [invoke(2)], [], []]
    assert calls.take(asked(5, "g"), 0.0) == [invoke(5, "g")]  # another function is free
    assert calls.answer(done(2), 0.0) == [answer(2), invoke(3)]
    assert calls.answer(done(1), 0.0) == [answer(1), invoke(4)]


def test_a_rate_lets_others_wait_until_they_are_due() -> None:
    calls = made(calls_per_s=2.0, concurrency=64)
    assert [len(calls.take(asked(n), 0.0)) for n in (1, 2, 3, 4)] == [1, 1, 0, 0]
    assert calls.due_at() == 0.5
    assert calls.tick(0.49) == []
    assert calls.tick(0.5) == [invoke(3)]
    assert calls.due_at() == 1.0
    assert calls.tick(1.0) == [invoke(4)]
    assert calls.due_at() == math.inf


def test_a_slow_rate_lets_one_begin_at_once() -> None:
    calls = made(calls_per_s=0.1)
    assert calls.take(asked(1), 5.0) == [invoke(1)]
    calls.answer(done(1), 5.0)
    assert calls.take(asked(2), 5.0) == []
    assert calls.due_at() == 15.0


def test_refusals_are_told_at_a_rate_of_their_own() -> None:
    """K8: a loop over refused calls waits for each answer, and the host has nothing to do."""
    calls = made(calls=1)
    calls.take(asked(1), 0.0)
    at_once = [call_id for call_id in range(2, 300) if calls.take(asked(call_id), 0.0)]
    assert len(at_once) == REFUSALS
    now, told = 0.0, 0
    while calls.due_at() < math.inf:
        now = calls.due_at()
        told += len(calls.tick(now))
    assert told == 298 - REFUSALS
    assert now == pytest.approx(told / REFUSALS_PER_S)


def test_a_refusal_that_took_the_host_long_counts_as_many() -> None:
    """K8: arguments that are refused after a second of looking at them are not a way to keep it busy."""
    calls = made()
    now, busy = 0.0, 0.0
    for call_id in range(1, 30):
        assert calls.take(asked(call_id), now) == [invoke(call_id)]
        now, busy = now + 1.0, busy + 1.0
        if not calls.answer(e.Answered(call_id, None, "TypeError", "", refused=True), now):
            now = calls.due_at()
            assert len(calls.tick(now)) == 1
    assert busy < 0.15 * now


def test_arguments_that_do_not_fit_are_told_late_as_well() -> None:
    calls = made()
    told = 0
    for call_id in range(1, 200):
        calls.take(asked(call_id), 0.0)
        told += len(calls.answer(e.Answered(call_id, None, "TypeError", "no", refused=True), 0.0))
    assert told == REFUSALS


@pytest.mark.parametrize("waits", [False, True])
def test_revoked_during_a_call(waits: bool) -> None:
    """R15: what is under way is given up, what waits is refused, at once."""
    calls = made()
    calls.take(asked(1), 0.0)
    if waits:
        calls.take(asked(2), 0.0)
    use = calls._uses["f"]
    use.revoked = True
    first, *refused = calls.revoke("f", 0.5)
    assert first == e.Abandon(1)
    assert [step.returned.message for step in refused] == ["f: it was revoked"] * (1 + waits)  # type: ignore[union-attr]
    assert calls.answer(done(1), 0.6) == []
    assert refusal(calls.take(asked(3), 0.6)) == "f: it was revoked"
    assert calls.take(asked(4, "g"), 0.6) == [invoke(4, "g")]
    assert calls.revoke("unknown", 0.7) == []


def test_what_a_revoked_function_returns_is_not_told_even_if_its_answer_comes_first() -> None:
    calls = made()
    calls.take(asked(1), 0.0)
    calls._uses["f"].revoked = True
    assert refusal(calls.answer(done(1), 0.1)) == "f: it was revoked"
    assert calls.revoke("f", 0.2) == []


def test_time_in_all_ends_calls_under_way() -> None:
    calls = made(total_s=1.0, concurrency=2)
    calls.take(asked(1), 0.0)
    assert calls.due_at() == 1.0
    calls.take(asked(2), 0.4)  # from here on both count
    assert calls.due_at() == pytest.approx(0.7)
    assert calls.tick(0.69) == []
    steps = calls.tick(calls.due_at())
    assert steps[:2] == [e.Abandon(1), e.Abandon(2)]
    assert len(steps) == 4
    assert refusal(calls.take(asked(3), 0.8)) == "f: its 1 s are used up"


def test_time_in_all_adds_up_over_calls() -> None:
    calls = made(total_s=1.0)
    for call_id, seconds in ((1, 0.6), (2, 0.3)):
        calls.take(asked(call_id), 10.0 * call_id)
        calls.answer(done(call_id), 10.0 * call_id + seconds)
    calls.take(asked(3), 50.0)
    assert calls.due_at() == pytest.approx(50.1)


def test_a_call_given_up_keeps_its_place_until_it_is_over() -> None:
    """A function for one call at a time never has two, whatever becomes of the first."""
    calls = made()
    calls.take(asked(1), 0.0)
    assert calls.pause(0.1) == [e.Abandon(1)]
    assert [step for step in calls.resume(0.2) if isinstance(step, Answer)] == [
        Answer(Returned(1, None, "InterruptedError", OVER))
    ]
    assert calls.take(asked(2), 0.3) == []
    assert calls.due_at() == math.inf
    assert calls.answer(done(1), 0.4) == [invoke(2)]


def test_between_runs_nothing_begins_and_nothing_is_told() -> None:
    calls = made()
    calls.take(asked(1), 0.0)
    calls.take(asked(2), 0.0)
    calls.pause(0.1)
    calls.answer(done(1), 0.2)
    assert calls.tick(9.0) == []
    assert calls.take(asked(3, "no"), 9.0) == []
    calls._uses["g"].revoked = True
    assert calls.take(asked(4, "g"), 9.0) == []
    steps = calls.resume(10.0)
    told = {step.returned.call_id for step in steps if isinstance(step, Answer)}
    assert told == {1, 3, 4}
    assert [step for step in steps if isinstance(step, e.Invoke)] == [invoke(2)]


def test_a_guest_that_does_not_read_its_answers_begins_no_more() -> None:
    calls = made(concurrency=64)
    calls.held = True
    assert calls.take(asked(1), 0.0) == []
    assert calls.due_at() == math.inf
    calls.held = False
    assert calls.due_at() <= 0.0
    assert calls.tick(0.0) == [invoke(1)]


def test_what_was_used_outlives_the_guest() -> None:
    """``reset`` gives a fresh interpreter and not a fresh budget."""
    uses = {"f": Use(Bounds(calls=2))}
    for call_id in (1, 2):
        calls = Calls(uses)
        calls.resume(0.0)
        assert calls.take(asked(call_id), 0.0) == [invoke(call_id)]
    calls = Calls(uses)
    calls.resume(0.0)
    assert "used up" in refusal(calls.take(asked(1), 0.0))


@given(st.floats(0.01, 1000), st.lists(st.floats(0, 2), max_size=60))
def test_a_rate_is_never_exceeded(per_s: float, gaps: list[float]) -> None:
    rate = Rate(per_s, max(per_s, 1.0))
    now, times = 0.0, []
    for gap in gaps:
        now += gap
        times.append(rate.next(now))
        assert times[-1] >= now
    for start in times:
        most = max(per_s, 1.0) + per_s + 1e-6
        assert sum(start <= at < start + 1.0 for at in times) <= most + 1


events = st.one_of(
    st.tuples(st.just("take"), st.sampled_from(["f", "g", "h"])),
    st.tuples(st.just("answer"), st.integers(0, 80), st.booleans()),
    st.tuples(st.just("revoke"), st.sampled_from(["f", "g", "h"])),
    st.tuples(st.just("tick")),
    st.tuples(st.just("pause")),
    st.tuples(st.just("resume")),
    st.tuples(st.just("held"), st.booleans()),
)
bounds = st.builds(
    Bounds,
    st.sampled_from([None, 1, 5]),
    st.sampled_from([1, 2, 64]),
    st.sampled_from([None, 0.5, 10]),
    st.sampled_from([None, 0.1, 2]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.01, 0.3, 5.0]), events), max_size=40), bounds)
def test_any_order(story, given_bounds) -> None:
    """Each call is answered at most once, and once in the end; bounds hold at every moment."""
    uses = {"f": Use(given_bounds), "g": Use(Bounds())}
    calls = Calls(uses)
    now, last, active = 0.0, 0, False
    asked_for: dict[int, str] = {}
    answered: set[int] = set()
    under_way: dict[int, str] = {}
    working: dict[int, str] = {}

    def note(steps: list) -> None:
        for step in steps:
            if isinstance(step, Answer):
                call_id = step.returned.call_id
                assert call_id not in answered
                answered.add(call_id)
                under_way.pop(call_id, None)
            elif isinstance(step, e.Invoke):
                assert active
                assert step.call_id not in answered
                under_way[step.call_id] = working[step.call_id] = step.function
                at_once = [name for name in working.values() if name == step.function]
                assert len(at_once) <= uses[step.function].bounds.concurrency
                assert not uses[step.function].revoked
            else:
                assert under_way.pop(step.call_id)

    for passed, (kind, *rest) in story:
        now += passed
        if kind == "take" and len(asked_for) - len(answered) < CALLS:
            last += 1
            asked_for[last] = rest[0]
            note(calls.take(asked(last, rest[0]), now))
        elif kind == "answer" and rest[0] in working:
            working.pop(rest[0])
            note(calls.answer(e.Answered(rest[0], b"\xc0", refused=rest[1]), now))
        elif kind == "revoke":
            if rest[0] in uses:
                uses[rest[0]].revoked = True
            note(calls.revoke(rest[0], now))
        elif kind == "tick":
            note(calls.tick(now))
            if active:
                assert calls.due_at() > now, "a driver would spin"
        elif kind == "pause" and active:
            note(calls.pause(now))
            active = False
            assert not under_way
        elif kind == "resume" and not active:
            active = True
            note(calls.resume(now))
        elif kind == "held":
            calls.held = rest[0]
    calls.held = False
    if not active:
        active = True
        note(calls.resume(now))
    for _ in range(1000):
        for call_id in list(working):
            working.pop(call_id)
            note(calls.answer(done(call_id), now))
        if calls.due_at() == math.inf and not working:
            break
        if not working:
            now = max(now, calls.due_at())
            note(calls.tick(now))
    assert answered == asked_for.keys()
    if given_bounds.calls is not None:
        assert uses["f"].calls <= given_bounds.calls
