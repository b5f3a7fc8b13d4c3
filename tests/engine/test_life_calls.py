"""X3, K7: calls of host functions in the life of a guest: clocks, ends, the order of things."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from belljar.engine import events as e
from belljar.engine.calls import Bounds, Calls, Use
from belljar.engine.life import Life
from belljar.wire.events import Finished, HostCall, Returned, Run

from .conftest import Scene

Make = Callable[..., Scene]


class Story(Scene):
    """A scene with a function ``f``, and what the guest was told of it."""

    def __init__(self, bounds: Bounds, *, keep: bool = False, **limits: float) -> None:
        super().__init__(**limits)
        self.uses = {"f": Use(bounds)}
        self.life = Life(
            self.order, self.limits, self.budget, self.now, keep=keep, calls=Calls(self.uses)
        )
        self.start()

    def call(self, call_id: int, after: float = 0.0, name: str = "f") -> list[e.Instruction]:
        return self.tell(e.LinkData(self.guest.send(HostCall(call_id, name, b"\xc0"))), after)  # type: ignore[arg-type]

    def answer(self, call_id: int, after: float = 0.0) -> list[e.Instruction]:
        return self.tell(e.Answered(call_id, b"\xc0"), after)


def kinds(instructions: list[e.Instruction]) -> list[str]:
    return [type(one).__name__ for one in instructions]


def test_a_call_and_its_answer() -> None:
    story = Story(Bounds())
    assert story.call(1) == [e.Invoke(1, "f", b"\xc0")]
    assert kinds(story.answer(1)) == ["Send"]
    assert story.guest.calls == (0, 0)


def test_the_clock_stands_still_during_a_call() -> None:
    story = Story(Bounds(), wall_s=1, pause_s=10)
    story.call(1, 0.5)
    story.answer(1, 5.0)
    assert story.life.ends_at() == pytest.approx(story.now + 0.5)
    assert story.tick(0.4) == []
    assert e.Kill() in story.tick(0.2)
    story.exit(9)
    assert story.result().limit.name == "wall"


def test_or_goes_on_where_the_function_says_so() -> None:
    story = Story(Bounds(counts=True), wall_s=1, pause_s=10)
    story.call(1)
    assert e.Kill() in story.tick(1.1)


def test_calls_at_once_are_one_pause() -> None:
    story = Story(Bounds(concurrency=8), wall_s=1, pause_s=10)
    story.call(1)
    story.call(2, 1.0)
    story.answer(1, 1.0)
    story.answer(2, 1.0)
    assert story.life.ends_at() == pytest.approx(story.now + 1.0, abs=0.01)


def test_pauses_are_bounded() -> None:
    """K7: a function that never returns does not keep the guest for ever."""
    story = Story(Bounds(), wall_s=1, pause_s=2)
    story.call(1)
    assert story.tick(2.9) == []
    instructions = story.tick(0.2)
    assert e.Kill() in instructions
    assert e.Abandon(1) in instructions


def test_a_call_that_waits_for_its_turn_is_on_the_guests_time() -> None:
    story = Story(Bounds(calls_per_s=0.1), wall_s=1, pause_s=100)
    story.call(1)
    story.answer(1)
    assert story.call(2) == []
    assert e.Kill() in story.tick(1.1)


def test_a_revoked_call_lets_the_clock_go_on() -> None:
    story = Story(Bounds(), wall_s=1, pause_s=100)
    story.call(1)
    story.uses["f"].revoked = True
    assert kinds(story.tell(e.Revoked("f"), 3.0)) == ["Abandon", "Send"]
    assert story.life.ends_at() == pytest.approx(story.now + 1.0, abs=0.01)
    assert story.answer(1, 0.1) == []
    assert [(d.action, d.target) for d in story.life.turn.denials] == [("call", "f")]


def test_a_call_in_the_breath_of_the_end_does_not_begin() -> None:
    """The run is over: nobody waits for it."""
    story = Story(Bounds())
    call = story.guest.send(HostCall(1, "f", b"\xc0"))  # type: ignore[arg-type]
    end = story.guest.send(Finished(1, "ok"))
    instructions = story.tell(e.LinkData(call + end))
    assert "Invoke" not in kinds(instructions)


def test_the_end_of_a_run_gives_up_its_calls_before_it_is_collected() -> None:
    story = Story(Bounds(concurrency=2), keep=True)
    story.call(1)
    story.call(2)
    assert kinds(story.finish()) == ["Abandon", "Abandon", "Collect"]
    story.tell(e.Collected(0.0, 0, story.now))
    assert story.life.waiting
    story.answer(1)
    instructions = story.life.begin(
        Run(1, "2", "<code>", {}), story.limits, story.budget, story.now
    )
    heard = [
        event
        for one in instructions
        if isinstance(one, e.Send)
        for event in story.guest.receive_data(one.data)
    ]
    assert [(one.call_id, one.error_type) for one in heard if isinstance(one, Returned)] == [
        (1, "InterruptedError"),
        (2, "InterruptedError"),
    ]


def test_a_guest_that_was_lent_nothing_may_not_call() -> None:
    story = Scene()
    story.start()
    instructions = story.tell(e.LinkData(story.guest.send(HostCall(1, "f", b"\xc0"))))  # type: ignore[arg-type]
    assert instructions == [e.Kill()]
    story.exit(9)
    assert story.result().status == "crashed"


def test_answers_and_revocations_of_nothing_are_nothing() -> None:
    story = Scene()
    story.start()
    assert story.tell(e.Answered(7, b"\xc0")) == []
    assert story.tell(e.Revoked("f")) == []
    assert story.life.deadline() < math.inf


def test_an_answer_for_a_guest_that_has_closed_its_link_is_not_sent() -> None:
    story = Story(Bounds())
    story.call(1)
    story.call(2, name="unknown")
    story.tell(e.LinkClosed())
    assert story.answer(1) == []
    story.exit(code=0)
    assert story.result().status in ("exited", "crashed")


def test_an_answer_for_a_guest_that_broke_the_protocol_is_not_sent() -> None:
    story = Story(Bounds())
    story.call(1)
    assert e.Abandon(1) in story.tell(e.LinkData(b"\0\0\0\0\xff"))
    assert story.answer(1) == []
