"""What a guest that stays asks for of its standard input.

What: every ask that was not answered yet.  Because: the input of one run must not be another's,
and an ask that a run has left behind would take the next one's.  Then: asks name their run, those
that are left behind are told so when the next run begins, and the end of the input, which code
may ask for without end, is told at a rate.
"""

from __future__ import annotations

import math

from ..wire.events import Returned
from ..wire.limits import MESSAGE
from ..wire.values import encode
from . import events as e
from .calls import OVER, REFUSALS, REFUSALS_PER_S, Rate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..wire.events import HostCall


class Stdin:
    """The asks of one guest, over all its runs."""

    def __init__(self) -> None:
        self._asks: list[int] = []
        self._owed: list[Returned] = []
        self._late: list[tuple[float, Returned]] = []  # ends, and when they are told
        self._ends = Rate(REFUSALS_PER_S, REFUSALS)

    def due_at(self) -> float:
        """When ``tick`` has something to do."""
        return min((at for at, _ in self._late), default=math.inf)

    def take(self, event: HostCall, run_id: int | None, now: float) -> list[Returned | e.WantInput]:
        """The code asks.  ``run_id`` is that of the run, where it was given something to ask for."""
        named: Any = event.arguments
        if run_id is None or named != _encoded(run_id):
            return [*self._end(event.call_id, now)]
        self._asks.append(event.call_id)
        return [e.WantInput(event.call_id)]

    def answer(self, event: e.Input, now: float) -> list[Returned]:
        """Here is something, or the end."""
        if event.call_id not in self._asks:
            return []
        self._asks.remove(event.call_id)
        if not event.data:
            return self._end(event.call_id, now)
        return [_returned(event.call_id, event.data)]

    def tick(self, now: float) -> list[Returned]:
        """Time has passed."""
        due = [returned for at, returned in self._late if at <= now]
        if due:
            self._late = [(at, returned) for at, returned in self._late if at > now]
        return due

    def over(self) -> None:
        """The run is over."""
        owed = [Returned(call_id, None, "InterruptedError", OVER) for call_id in self._asks]
        self._owed += [*owed, *(returned for _, returned in self._late)]
        self._asks.clear()
        self._late.clear()

    def resume(self) -> list[Returned]:
        """The next run has begun."""
        owed, self._owed = self._owed, []
        return owed

    def _end(self, call_id: int, now: float) -> list[Returned]:
        at = self._ends.next(now)
        if at <= now:
            return [_returned(call_id, b"")]
        self._late.append((at, _returned(call_id, b"")))
        return []


def _returned(call_id: int, data: bytes) -> Returned:
    return Returned(call_id, _encoded(data))


def _encoded(value: object) -> bytes:
    encoded: Any = encode(value, MESSAGE)
    return bytes(encoded)
