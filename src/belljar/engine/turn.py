"""One run as far as it has come, and the result that can be made of it.

What: everything that belongs to a run and not to its guest.  Because: a guest may execute many
runs, and what one of them left behind must not be taken for the next one's.  Then: the engine
begins each run with a new ``Turn``, and the result is a function of it and of how it ended.
"""

from __future__ import annotations

import math

from .._record import Record
from ..errors import GuestProtocolError
from ..result import Denial, ErrorText, LimitHit, Result, Usage
from ..wire.bulk import Incoming
from ..wire.errors import RemoteError
from ..wire.values import decode
from . import events as e

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..artifact import Artifact
    from ..policy import Limits
    from ..wire.bulk import Outgoing
    from ..wire.events import Artifact as Shown
    from ..wire.events import Denied, Finished
    from ..wire.limits import Budget
    from .life import Order
    from .throttle import Throttles

MOST_DENIALS = 100  # kept; whoever reads a result looks at the first few
SIGKILL, SIGXCPU, SIGXFSZ = 9, 24, 25

# What the guest's agent calls the limits that raise exceptions inside -> fields of ``Limits``.
_CLAIMED = {
    "memory": "memory_bytes",
    "threads": "threads",
    "open_files": "open_files",
    "work": "work_bytes",
    "work_files": "work_files",
    "file": "file_bytes",
    "processes": "processes",
}


class End(Record):
    """How a turn ended, by the kernel's word: with its guest, or with the guest alive.

    ``breach`` is what the guest did against the protocol, ``starting`` the seconds of each stage
    of making it, where this is its first run.
    """

    exited: e.Exited | None
    counted: e.Counted | None
    collected: e.Collected | None
    breach: str | None
    starting: dict[str, float]


class Turn:
    """One run: the order, the clocks, what was written and said."""

    def __init__(
        self, order: Order, limits: Limits, budget: Budget, *, watch_memory: bool = False
    ) -> None:
        self.order = order
        self.limits = limits
        self.budget = budget
        self.started_at: float | None = None
        self.cause: LimitHit | None = None
        self.cpu_before_s = 0.0  # of the guest's earlier runs
        self.cpu_s = 0.0
        self.next_cpu_check = 0.0
        self.notice: e.Notify | None = None  # given before the kill, with a grace
        self.notified = False  # whether any signal was sent
        self.told_to_end = False
        self.interrupted = False
        self.pauses = Pauses(limits.pause_s)
        self.throttles: Throttles | None = None  # from the first instruction on
        self.next_memory_check = 0.0 if watch_memory else math.inf
        self.peak_bytes = 0
        # One buffer each: a list of the pieces would let a guest that writes byte by byte
        # cost the host forty times what it wrote.
        self.output = {"stdout": bytearray(), "stderr": bytearray()}
        self.output_bytes = 0
        self.truncated: list[str] = []
        self.finished: Finished | None = None
        self.outgoing: Outgoing | None = None  # what the order left out of its frame
        self.fetched: tuple[Any, ...] = ()  # what belongs to the value
        self.denials: list[Denial] = []
        self.artifacts: list[Artifact] = []
        self.artifact_bytes = 0

    def deny(self, event: Denied) -> None:
        """Keep the first refusals."""
        room = MOST_DENIALS - len(self.denials)
        self.denials.extend(
            Denial(entry.action, entry.target, entry.grant) for entry in event.entries[:room]
        )

    def show(self, event: Shown) -> Artifact | None:
        """Keep an artifact, unless it is more than may be kept.

        The guest's agent counts as we do and sends no more; another may.
        """
        from ..artifact import Artifact  # few runs have one

        size = sum(map(len, event.representations.values()))
        if self.artifact_bytes + size > self.limits.artifact_bytes:
            self._cut("artifacts")
            return None
        self.artifact_bytes += size
        made = Artifact(event.name, event.representations, event.metadata)
        self.artifacts.append(made)
        return made

    def _cut(self, what: str) -> None:
        if what not in self.truncated:
            self.truncated.append(what)

    def refuse(self, denial: Denial) -> None:
        """Keep a refusal of the host's own, once."""
        if len(self.denials) < MOST_DENIALS and denial not in self.denials:
            self.denials.append(denial)

    def memory_hit(self, used: float) -> LimitHit:
        """The processes together held too much."""
        return LimitHit("memory", self.limits.memory_bytes, float(used), "kernel")

    # --- the outcome ---------------------------------------------------------------------

    def result(self, end: End) -> Result:
        """The result of a turn that is over."""
        if self.finished is not None and "artifacts" in self.finished.truncated:
            self._cut("artifacts")
        base = Result(
            status="crashed",
            stdout_bytes=bytes(self.output["stdout"]),
            stderr_bytes=bytes(self.output["stderr"]),
            denials=tuple(self.denials),
            usage=self._usage(end),
            truncated=tuple(self.truncated),
            artifacts=tuple(self.artifacts),
        )
        if self.cause is not None:
            base = base.replace(status="limit", limit=self.cause, error=self._error_claimed())
            if self.notice is not None and self.finished is not None:
                value, trouble = self._value_claimed(self.finished)
                base = base.replace(value=value, value_error=trouble)
            return base
        if end.breach is not None:
            error = ErrorText(GuestProtocolError.__name__, end.breach, end.breach)
            return base.replace(error=error)
        if self.finished is not None:
            return self._claimed(base, self.finished, end)
        if end.exited is None:
            raise AssertionError("the run is not over")
        return self._unannounced(base, end.exited, end.counted)

    def _error_claimed(self) -> ErrorText | None:
        told = None if self.finished is None else self.finished.error
        if told is None:
            return None
        return ErrorText(told.type, told.message, told.traceback, tuple(told.notes))

    def _claimed(self, base: Result, finished: Finished, end: End) -> Result:
        """The guest's own last word."""
        if finished.outcome == "exited":
            return base.replace(status="exited", exit_code=finished.exit_code or 0)
        if finished.error is not None:
            hit = self._limit_claimed(finished.error.limit, base.usage)
            status = "raised" if hit is None else "limit"
            return base.replace(status=status, error=self._error_claimed(), limit=hit)
        value, trouble = self._value_claimed(finished)
        return base.replace(status="ok", value=value, value_error=trouble)

    def _value_claimed(self, finished: Finished) -> tuple[object, str | None]:
        """The value and, where there is none that could cross, why."""
        if finished.value is None:
            return None, finished.value_error
        fetched, self.fetched = self.fetched, ()
        try:
            return decode(finished.value, self.budget, Incoming(fetched)), None
        except RemoteError as error:
            return None, str(error)

    def _limit_claimed(self, name: str | None, usage: Usage) -> LimitHit | None:
        if name not in _CLAIMED:
            return None
        used = float(usage.peak_memory_bytes) if name == "memory" else None
        return LimitHit(name, self.limits[_CLAIMED[name]], used, "guest")

    def _unannounced(self, base: Result, exited: e.Exited, counted: e.Counted | None) -> Result:
        """The process ended without a last word: the kernel's account is all there is."""
        if exited.signal == 0:
            return base.replace(status="exited", exit_code=exited.code)
        if counted is not None and counted.oom_kills and exited.signal == SIGKILL:
            return base.replace(status="limit", limit=self.memory_hit(counted.peak_memory_bytes))
        used_s = exited.cpu_s - self.cpu_before_s
        if exited.signal in (SIGKILL, SIGXCPU) and used_s >= self.limits.cpu_s:
            hit = LimitHit("cpu", self.limits.cpu_s, used_s, "kernel")
            return base.replace(status="limit", limit=hit)
        if exited.signal == SIGXFSZ:
            # The kernel sends it, and so can the guest, to itself.
            hit = LimitHit("file", self.limits.file_bytes, None, "guest")
            return base.replace(status="limit", limit=hit)
        return base.replace(status="crashed", signal=exited.signal)

    def _usage(self, end: End) -> Usage:
        # What the zygote was told is of one process; a group or the host's own watch know of all.
        counted = end.counted or e.Counted(0.0, 0, 0)
        together = self.cpu_s if self.limits.processes else 0.0
        if end.exited is not None:
            cpu_s = max(end.exited.cpu_s, counted.cpu_s) - self.cpu_before_s
            peak, at = end.exited.peak_memory_bytes, end.exited.at
        elif end.collected is not None:
            cpu_s = end.collected.cpu_s - self.cpu_before_s
            peak, at = end.collected.peak_memory_bytes, end.collected.at
        else:
            raise AssertionError("the run is not over")
        started = self.started_at if self.started_at is not None else at
        return Usage(
            cpu_s=max(cpu_s, together, 0.0),
            peak_memory_bytes=max(peak, counted.peak_memory_bytes, self.peak_bytes),
            wall_s=max(at - started, 0.0),
            stages=end.starting,
        )


class Pauses:
    """The clock that stands still while the host works for the guest, ``most_s`` in all."""

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self._depth = 0  # of the host's works under way
        self._since = 0.0
        self.past_s = 0.0  # of those that are over

    def __bool__(self) -> bool:
        return self._depth > 0

    @property
    def left_s(self) -> float:
        """What the pauses may last yet."""
        return max(self._most_s - self.past_s, 0.0)

    def gone_s(self, now: float) -> float:
        """Seconds of the pause under way."""
        gone = max(now - self._since, 0.0) if self._depth else 0.0
        return min(gone, self.left_s)

    def elapsed_s(self, now: float) -> float:
        """Seconds since the pause under way began, however long it may last."""
        return now - self._since

    def begin(self, now: float) -> None:
        """A work begins; several may overlap."""
        self._depth += 1
        if self._depth == 1:
            self._since = now

    def end(self) -> bool:
        """A work is done; whether it was the last one under way."""
        last = self._depth == 1
        self._depth = max(self._depth - 1, 0)
        return last
