"""R14: what a guest that stays asks for of its standard input, without processes."""

from __future__ import annotations

import math
from typing import Any

from belljar.engine import events as e
from belljar.engine.calls import REFUSALS
from belljar.engine.life import Life
from belljar.engine.stdin import Stdin
from belljar.policy import Limits
from belljar.wire.connection import Connection
from belljar.wire.events import STDIN, Finished, HostCall, Ready, Returned, Run
from belljar.wire.limits import MESSAGE, Budget
from belljar.wire.values import decode, encode

NOW = 1000.0


def ask(call_id: int, run_id: int = 1) -> Any:
    arguments: Any = encode(run_id, MESSAGE)
    return HostCall(call_id, STDIN, arguments)


def data_of(returned: Any) -> object:
    return decode(returned.value, MESSAGE)


def test_an_ask_waits_until_there_is_something() -> None:
    stdin = Stdin()
    assert stdin.take(ask(1), 1, NOW) == [e.WantInput(1)]
    assert stdin.due_at() == math.inf
    (answer,) = stdin.answer(e.Input(1, b"x"), NOW + 5)
    assert (answer.call_id, data_of(answer)) == (1, b"x")
    assert stdin.answer(e.Input(1, b"x"), NOW + 5) == []  # once


def test_an_ask_of_another_run_finds_the_end() -> None:
    stdin = Stdin()
    for run_id in (1, 3, None):
        (answer,) = stdin.take(ask(1, 2), run_id, NOW)
        assert data_of(answer) == b""


def test_R2_ends_are_told_at_a_rate() -> None:
    stdin = Stdin()
    told = 0
    for call_id in range(REFUSALS + 10):
        told += len(stdin.take(ask(call_id), None, NOW))
    assert told == REFUSALS
    assert stdin.due_at() > NOW
    assert stdin.tick(NOW) == []
    assert len(stdin.tick(stdin.due_at())) == 1
    assert len(stdin.tick(NOW + 60)) == 9
    assert stdin.due_at() == math.inf


def test_what_is_left_behind_is_told_when_the_next_run_begins() -> None:
    stdin = Stdin()
    stdin.take(ask(1), 1, NOW)
    stdin.over()
    assert stdin.answer(e.Input(1, b"late"), NOW) == []
    (answer,) = stdin.resume()
    assert (answer.call_id, answer.error_type) == (1, "InterruptedError")
    assert stdin.resume() == []


class Kept:
    """One guest that stays, and its end of the wire."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.guest = Connection("guest")
        self.heard: list[Any] = []
        order = Run(1, "1", "<code>", {}, settings=settings)
        self.life = Life(order, Limits(), Budget(), NOW, keep=True)
        self.tell(e.Spawned(NOW))
        self.tell(e.Confined(NOW))
        self.say(Ready({}))

    def tell(self, event: e.Event) -> list[e.Instruction]:
        return self.take(self.life.handle(event, NOW))

    def take(self, instructions: list[e.Instruction]) -> list[e.Instruction]:
        for instruction in instructions:
            if isinstance(instruction, e.Send):
                self.heard += self.guest.receive_data(memoryview(instruction.data))  # type: ignore[arg-type]
        return instructions

    def say(self, event: Any) -> list[e.Instruction]:
        return self.tell(e.LinkData(self.guest.send(event)))


def test_a_run_that_is_given_something_asks_the_driver() -> None:
    kept = Kept({"stdin": True})
    assert kept.say(ask(1)) == [e.WantInput(1)]
    kept.tell(e.Input(1, b"hello"))
    assert data_of(kept.heard[-1]) == b"hello"


def test_a_run_that_is_given_nothing_finds_the_end() -> None:
    kept = Kept({})
    kept.say(ask(1))
    assert data_of(kept.heard[-1]) == b""


def test_what_comes_after_the_run_is_not_told() -> None:
    kept = Kept({"stdin": True})
    kept.say(ask(1))
    assert kept.say(Finished(1, "ok")) == [e.Collect()]
    kept.tell(e.Collected(0.0, 0, NOW))
    heard = len(kept.heard)
    assert kept.tell(e.Input(1, b"late")) == []
    kept.take(kept.life.begin(Run(1, "2", "<code>", {}), Limits(), Budget(), NOW))
    first, second = kept.heard[heard:]
    assert isinstance(first, Run)
    assert isinstance(second, Returned)
    assert second.error_type == "InterruptedError"
