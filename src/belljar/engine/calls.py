"""Calls of host functions: which begin, which wait, which are refused, and when.

What: the bounds of each function and every call that was not answered yet.  Because: whoever
calls is an attacker, who may call without end, and each answer costs the host something.  Then:
a call waits for its turn or its rate without costing anything, refusals are told at a rate of
their own, and the number of calls that wait is bounded by the connection (``wire.limits``).
"""

from __future__ import annotations

import math

from .._record import Record
from ..wire.events import Returned
from . import events as e

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ..wire.events import HostCall

# What: so many refusals are told at once, then so many per second.  Because: honest code meets a
# few and handles them; a loop over them would otherwise cost the host as much as the guest.
REFUSALS = 100
REFUSALS_PER_S = 20.0
_REVOKED = ("it was revoked", "nothing")
OVER = "the run that made this call is over"
# What: a refusal that took the host so long counts as one more.  Because: to find out that large
# arguments do not fit takes as long as to take them.  Then: refusals cost a tenth of a core at most.
REFUSAL_S = 0.005


class Bounds(Record):
    """What a sandbox may use one host function for.

    calls         in all; None: as often as it likes
    concurrency   at once; others wait
    calls_per_s   others wait; a second's worth may come at once.  None: no bound
    total_s       seconds in all, those of calls at once added up.  None: no bound
    counts        whether the guest's wall clock goes on meanwhile
    """

    calls: int | None = None
    concurrency: int = 1
    calls_per_s: float | None = None
    total_s: float | None = None
    counts: bool = False


class Answer(Record):
    """Tell the guest what its call came to."""

    returned: Returned
    function: str = ""


if TYPE_CHECKING:
    Step = e.Invoke | e.Abandon | Answer


class Rate:
    """So many at once, then so many per second: when the next one may be.

    The generic cell rate algorithm, ITU-T I.371: one number is all there is to remember.
    """

    def __init__(self, per_s: float, at_once: float) -> None:
        self._gap_s = 1.0 / per_s
        self._ahead_s = max(at_once - 1.0, 0.0) * self._gap_s
        self._due = -math.inf

    def next(self, now: float, weight: float = 1.0) -> float:
        """When one that is asked for now may be, on the clock of ``now``.

        ``weight``: for how many it counts.
        """
        at = max(now, self._due - self._ahead_s)
        self._due = max(now, self._due) + self._gap_s * weight
        return at


class Use:
    """One function and what a sandbox has used of it.

    ``revoked`` is set by the host, at any moment; then ``Calls.revoke`` is to be told.
    """

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.calls = 0
        self.seconds = 0.0  # of calls that are over
        self.revoked = False
        per_s = bounds.calls_per_s
        self.rate = None if per_s is None else Rate(per_s, max(per_s, 1.0))


class _Call:
    """A call that was not answered yet."""

    def __init__(self, event: HostCall, use: Use, ready_at: float) -> None:
        self.id = event.call_id
        self.function = event.function
        self.arguments: Any = event.arguments
        self.use = use
        self.ready_at = ready_at
        self.began_at = 0.0


class Calls:
    """The calls of one guest, over all its runs."""

    def __init__(self, uses: Mapping[str, Use]) -> None:
        """``uses`` outlive the guest: another one that takes its place goes on with them."""
        self._uses = uses
        self._active = False  # a run is under way: else nothing begins and nothing is told
        self._owed: list[Returned] = []  # what is to be told when the next run has begun
        self._waiting: list[_Call] = []
        self._under_way: dict[int, _Call] = {}
        # Given up, but perhaps still at work in a thread: they count for ``concurrency``.
        self._given_up: dict[int, Use] = {}
        self._at_once: dict[Use, int] = {}
        self._late: list[tuple[float, Answer]] = []  # refusals, and when they are told
        self.held = False  # the guest does not read its answers: nothing begins
        self._refusals = Rate(REFUSALS_PER_S, REFUSALS)

    def due_at(self) -> float:
        """When ``tick`` has something to do, unless something else happens before."""
        at = math.inf
        if not self._active:
            return at
        for told_at, _ in self._late:
            at = min(at, told_at)
        if not self.held:
            for call in self._waiting:
                if call.ready_at < at and not self._full(call):
                    at = call.ready_at
        for use in self._timed():
            at = min(at, self._ends_at(use))
        return at

    def stands_still(self, call_id: int) -> bool:
        """Whether the guest's clock stands still because of this call, which is under way."""
        return not self._under_way[call_id].use.bounds.counts

    def take(self, event: HostCall, now: float) -> list[Step]:
        """The code calls."""
        use = self._uses.get(event.function)
        if use is None:
            grant = f"functions={{{event.function!r}: ...}}"
            unknown = ("there is no such function", grant)
            return self._refuse(event.call_id, event.function, unknown, now)
        reason = _used_up(use)
        if reason:
            return self._refuse(event.call_id, event.function, reason, now)
        use.calls += 1
        ready_at = now if use.rate is None else use.rate.next(now)
        self._waiting.append(_Call(event, use, ready_at))
        return self._start(now)

    def answer(self, event: e.Answered, now: float) -> list[Step]:
        """A function of the host's has returned, or raised."""
        given_up = self._given_up.pop(event.call_id, None)
        if given_up is not None:
            self._left(given_up)
            return self._start(now)  # nobody waits for it any more, but perhaps for its place
        call = self._end(event.call_id, now)
        if call is None:
            return []
        self._left(call.use)
        if call.use.revoked:
            # While it was under way, and where nobody could give it up.
            refused = self._refuse(call.id, call.function, _REVOKED, now)
            return [*refused, *self._start(now)]
        answer = Answer(Returned(event.call_id, event.value, event.error_type, event.message))
        if not event.refused:
            return [answer, *self._start(now)]
        weight = 1.0 + (now - call.began_at) / REFUSAL_S
        return [*self._tell_late(answer, now, weight), *self._start(now)]

    def revoke(self, function: str, now: float) -> list[Step]:
        """It may be used no longer: refuse the calls of it that wait or are under way."""
        use = self._uses.get(function)
        return [] if use is None else self._break_off(use, now)

    def tick(self, now: float) -> list[Step]:
        """Time has passed."""
        instructions: list[Step] = []
        for use in self._timed():
            if self._ends_at(use) <= now:
                instructions += self._break_off(use, now)
        if self._late:
            instructions += [answer for at, answer in self._late if at <= now]
            self._late = [(at, answer) for at, answer in self._late if at > now]
        return instructions + self._start(now)

    def pause(self, now: float) -> list[Step]:
        """The run is over.  What is under way is given up; what waits goes on waiting."""
        self._active = False
        instructions: list[Step] = []
        for call_id in list(self._under_way):
            instructions.append(self._give_up(call_id, now))
            self._owed.append(Returned(call_id, None, "InterruptedError", OVER))
        return instructions

    def resume(self, now: float) -> list[Step]:
        """The next run has begun."""
        self._active = True
        owed, self._owed = self._owed, []
        return [*(Answer(returned) for returned in owed), *self.tick(now)]

    # --- steps ------------------------------------------------------------------------------

    def _full(self, call: _Call) -> bool:
        return self._at_once.get(call.use, 0) >= call.use.bounds.concurrency

    def _left(self, use: Use) -> None:
        """One call of it less is at work."""
        self._at_once[use] -= 1

    def _start(self, now: float) -> list[Step]:
        instructions: list[Step] = []
        if not self._active or self.held or not self._waiting:
            return instructions
        for call in list(self._waiting):
            if call.ready_at > now or self._full(call):
                continue
            self._waiting.remove(call)
            reason = _used_up(call.use, waiting=True)
            if reason:
                instructions += self._refuse(call.id, call.function, reason, now)
                continue
            call.began_at = now
            self._under_way[call.id] = call
            self._at_once[call.use] = self._at_once.get(call.use, 0) + 1
            instructions.append(e.Invoke(call.id, call.function, call.arguments))
        return instructions

    def _end(self, call_id: int, now: float) -> _Call | None:
        call = self._under_way.pop(call_id, None)
        if call is not None:
            took_s = max(now - call.began_at, 0.0)
            call.use.seconds += took_s  # in one step: a branch in another thread adds, too
        return call

    def _give_up(self, call_id: int, now: float) -> e.Abandon:
        """Nobody waits any more for a call that is under way; the driver tells when it is over."""
        call = self._end(call_id, now)
        if call is not None:
            self._given_up[call_id] = call.use
        return e.Abandon(call_id)

    def _timed(self) -> list[Use]:
        """Whose time passes and is bounded."""
        calls = self._under_way.values()
        return list({call.use: None for call in calls if call.use.bounds.total_s is not None})

    def _ends_at(self, use: Use) -> float:
        """When its time is used up, with all its calls that are under way."""
        began = [call.began_at for call in self._under_way.values() if call.use is use]
        return ((use.bounds.total_s or 0.0) - use.seconds + sum(began)) / len(began)

    def _break_off(self, use: Use, now: float) -> list[Step]:
        """End what is under way of a function that may be used no longer."""
        instructions: list[Step] = []
        calls = [call for call in self._under_way.values() if call.use is use]
        instructions += [self._give_up(call.id, now) for call in calls]
        calls += [call for call in self._waiting if call.use is use]
        self._waiting = [call for call in self._waiting if call.use is not use]
        if use.bounds.total_s is not None and not use.revoked:
            use.seconds = max(use.seconds, use.bounds.total_s)  # whatever was rounded off
        reason = _used_up(use, waiting=True) or _REVOKED
        for call in calls:
            instructions += self._refuse(call.id, call.function, reason, now)
        return instructions

    def _refuse(
        self, call_id: int, function: str, reason: tuple[str, str], now: float
    ) -> list[Step]:
        """``reason``: why, and what would allow it."""
        text = f"{function}: {reason[0]}"
        returned = Returned(call_id, None, "PermissionError", text, reason[1])
        return self._tell_late(Answer(returned, function), now)

    def _tell_late(self, answer: Answer, now: float, weight: float = 1.0) -> list[Step]:
        at = self._refusals.next(now, weight)
        if at <= now and self._active:
            return [answer]
        self._late.append((at, answer))
        return []


def _used_up(use: Use, *, waiting: bool = False) -> tuple[str, str] | None:
    """Why it may not be used, and what would allow it.  ``waiting``: this call was counted."""
    bounds = use.bounds
    if use.revoked:
        return _REVOKED
    if bounds.calls is not None and use.calls >= bounds.calls + waiting:
        return f"its {bounds.calls} calls are used up", "HostFunction(calls=...)"
    if bounds.total_s is not None and use.seconds >= bounds.total_s:
        return f"its {bounds.total_s:g} s are used up", "HostFunction(total_s=...)"
    return None
