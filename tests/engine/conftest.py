"""A host and a guest around one ``Life``, without processes: events by hand, a clock by hand."""

from __future__ import annotations

import pytest

from belljar.engine import events as e
from belljar.engine.life import Life
from belljar.policy import Limits
from belljar.wire.connection import Connection
from belljar.wire.events import Denial, Denied, ErrorText, Finished, Ready, Run
from belljar.wire.limits import Budget
from belljar.wire.values import encode

START = 1000.0  # the monotonic clock starts anywhere


class Scene:
    """One life, its clock, the guest's end of the wire, and all instructions so far."""

    def __init__(self, **limits: float) -> None:
        self.limits = Limits(**limits)
        self.now = START
        self.budget = Budget(memory_bytes=self.limits.value_bytes)
        self.order = Run(1, "1", "<code>", {})
        self.life = Life(self.order, self.limits, self.budget, self.now)
        self.guest = Connection("guest")
        self.log: list[e.Instruction] = []

    def tell(self, event: e.Event, after: float = 0.0) -> list[e.Instruction]:
        """Let time pass, hand over an event; what the engine answers, and the wire's effect."""
        self.now += after
        instructions = self.life.handle(event, self.now)
        self.log += instructions
        for instruction in instructions:
            if isinstance(instruction, e.Send):
                self.guest.receive_data(instruction.data)
        return instructions

    def start(self) -> list[e.Instruction]:
        """Fork, confinement, Ready: afterwards the guest has the code."""
        self.tell(e.Spawned(self.now + 0.001), 0.001)
        self.tell(e.Confined(self.now + 0.002), 0.002)
        return self.tell(e.LinkData(self.guest.send(Ready({}))), 0.001)

    def finish(self, outcome: str = "ok", **fields: object) -> list[e.Instruction]:
        return self.tell(e.LinkData(self.finished(outcome, **fields)))

    def finished(self, outcome: str = "ok", **fields: object) -> bytes:
        if "value" in fields:
            fields["value"] = encode(fields["value"], self.budget)
        return self.guest.send(Finished(1, outcome, **fields))  # type: ignore[arg-type]

    def raise_(self, kind: str = "ValueError", limit: str | None = None, **fields: object):
        error = ErrorText(kind, "why", f"{kind}: why\n", limit=limit)
        return self.finish("raised", error=error, **fields)

    def deny(self, count: int) -> None:
        for first in range(0, count, 64):
            entries = [
                Denial("open", f"/{n}", "read") for n in range(first, min(first + 64, count))
            ]
            self.tell(e.LinkData(self.guest.send(Denied(1, tuple(entries)))))

    def exit(self, signal: int = 0, code: int = 0, cpu_s: float = 0.01) -> None:
        """The kernel's account, and then everything closes."""
        self.tell(e.Exited(signal, code, cpu_s, 12_000_000, self.now))
        self.close()

    def close(self) -> None:
        self.tell(e.LinkClosed())
        self.tell(e.OutputClosed("stdout"))
        self.tell(e.OutputClosed("stderr"))

    def tick(self, after: float = 0.0, cpu_s: float | None = 0.0) -> list[e.Instruction]:
        return self.tell(e.Tick(cpu_s), after)

    def result(self):
        assert self.life.done
        assert self.life.failure is None, self.life.failure
        return self.life.result()


@pytest.fixture
def scene():
    """Makes scenes: ``scene(wall_s=1, ...)``."""
    return Scene


@pytest.fixture
def started():
    """Makes scenes in which the guest has the code."""

    def make(**limits: float) -> Scene:
        made = Scene(**limits)
        made.start()
        return made

    return make
