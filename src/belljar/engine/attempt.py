"""One run of one guest, from the request to the result.

What: a state machine that is fed events and answers with instructions, and at the end
holds the result or the failure.  Because: which cause came first decides the status, and
races between a kill, a last message and an exit are decided here once, without any I/O.
Then: every driver, blocking or async, only moves bytes.
"""

from __future__ import annotations

import math

from ..errors import SHORTAGES, GuestProtocolError, SandboxFailure, SetupFailed, WorkerDied
from ..result import Denial, ErrorText, LimitHit, Result, Usage
from ..wire.connection import Connection
from ..wire.errors import RemoteError
from ..wire.events import Close, Denied, Finished, Ready
from ..wire.values import decode
from . import events as e

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..policy import Limits
    from ..wire.events import Run
    from ..wire.limits import Budget

GRACE_S = 0.25  # after its output was cut: for finally blocks, not for work
START_S = 30.0  # fork to ready; a machine that takes longer is not merely busy
DRAIN_S = 1.0  # what a dead guest left in its pipes is there at once
MOST_DENIALS = 100  # kept; whoever reads a result looks at the first few
_LAST_WORDS = 1000  # characters of what a guest that never got ready said
REPORT_S = 30.0  # a zygote that says nothing for so long is stopped, not busy
SIGKILL, SIGXCPU, SIGXFSZ = 9, 24, 25
_FINEST_CPU_CHECK_S = 0.002  # the CPU clock is read no more often than this


class Attempt:
    """The life of one guest that executes one run."""

    def __init__(self, order: Run, limits: Limits, budget: Budget, now: float) -> None:
        self._order = order
        self._limits = limits
        self._budget = budget
        self._connection = Connection("host")
        self._asked_at = now
        self._marks: dict[str, float] = {}
        self._started_at: float | None = None
        self._cause: LimitHit | None = None
        self._kill_at = now + START_S
        self._next_cpu_check = 0.0
        self._cpu_s = 0.0
        # One buffer each: a list of the pieces would let a guest that writes byte by byte
        # cost the host forty times what it wrote.
        self._output = {"stdout": bytearray(), "stderr": bytearray()}
        self._output_bytes = 0
        self._truncated: list[str] = []
        self._open = {"stdout", "stderr"}
        self._finished: Finished | None = None
        self._denials: list[Denial] = []
        self._violation: str | None = None
        self._broken_off: str | None = None
        self._exited: e.Exited | None = None
        self._link_open = True
        self._killed = False
        self._stopped = False
        self.failure: SandboxFailure | None = None
        self.interrupted = False

    # --- what the driver asks ------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether ``result`` or ``failure`` can be asked for."""
        if self.failure is not None:
            return True
        return self._exited is not None and not self._open and not self._link_open

    def deadline(self) -> float:
        """When the driver must send a ``Tick`` at the latest, on the monotonic clock."""
        if self._running:
            return min(self._kill_at, self._next_cpu_check)
        return self._kill_at

    @property
    def wants_cpu(self) -> bool:
        """Whether the next ``Tick`` should carry the CPU time."""
        return self._started_at is not None and self._exited is None

    @property
    def _running(self) -> bool:
        """Whether the run's own limits still decide: the code has it, and no end is in sight."""
        return (
            self._started_at is not None
            and self._finished is None
            and self._cause is None
            and self._exited is None
            and not self._killed
        )

    # --- what the driver tells -----------------------------------------------------------

    def handle(self, event: e.Event, now: float) -> list[e.Instruction]:
        """Take one event; returns what to do about it, in order."""
        instructions = self._take(event, now)
        if self.done and self.failure is None:
            self.failure = self._stillborn()
        return instructions

    def _take(self, event: e.Event, now: float) -> list[e.Instruction]:
        if isinstance(event, e.Tick):
            return self._tick(event, now)
        if isinstance(event, e.LinkData):
            return self._link_data(event.data, now)
        if isinstance(event, e.Output):
            return self._take_output(event, now)
        if isinstance(event, e.OutputClosed):
            self._open.discard(event.stream)
        elif isinstance(event, e.LinkClosed):
            self._link_open = False
            if self._finished is None and self._violation is None:
                try:
                    self._connection.receive_eof()
                except RemoteError as error:
                    self._broken_off = str(error)
        elif isinstance(event, e.Spawned):
            self._marks["spawned"] = event.at
            if self._killed:
                return [e.Kill()]  # the first one had no pidfd to go through yet
        elif isinstance(event, e.Confined):
            self._marks["confined"] = event.at
        elif isinstance(event, e.Exited):
            if self._exited is None:
                self._exited = event
                self._kill_at = now + DRAIN_S
        elif isinstance(event, e.SpawnFailed):
            text = f"{event.text} (errno {event.errno})"
            self.failure = SetupFailed(event.step, text, retryable=event.errno in SHORTAGES)
        elif isinstance(event, e.ZygoteGone):
            if self._exited is None:
                self.failure = WorkerDied("zygote", "it ended during the run", retryable=True)
        else:
            self.interrupted = True
            return self._kill(now)
        return []

    def _stillborn(self) -> SandboxFailure | None:
        """What went wrong where the guest ended before it was handed the code."""
        exited = self._exited
        if exited is None or self._started_at is not None or self.interrupted or self._violation:
            return None
        how = f"signal {exited.signal}" if exited.signal else f"exit code {exited.code}"
        said = self._output["stderr"].decode("utf-8", "replace").strip()[-_LAST_WORDS:]
        text = f"the guest ended before it was ready ({how}): {said or 'it said nothing'}"
        return SetupFailed("start", text)

    def _tick(self, event: e.Tick, now: float) -> list[e.Instruction]:
        if event.cpu_s is not None:
            self._cpu_s = max(self._cpu_s, event.cpu_s)
        if self._exited is not None:
            # Nothing more can come but what some other holder of a pipe still writes.
            if now >= self._kill_at:
                self._open.clear()
                self._link_open = False
                self._kill_at = math.inf
            return []
        started = self._started_at
        if started is not None and self._running:
            if self._cpu_s >= self._limits.cpu_s:
                self._cause = LimitHit("cpu", self._limits.cpu_s, self._cpu_s, "kernel")
                return self._kill(now)
            if now >= self._kill_at:
                self._cause = LimitHit("wall", self._limits.wall_s, now - started, "kernel")
                return self._kill(now)
            self._plan_cpu_check(now)
        if now >= self._kill_at:
            if self._killed:
                self.failure = WorkerDied(
                    "zygote", "it did not report the end of a guest", retryable=True
                )
                return []
            if started is None:
                self.failure = SetupFailed(
                    "start", "the guest was not ready in time", retryable=True
                )
            return self._kill(now)
        return []

    def _plan_cpu_check(self, now: float) -> None:
        """The limit cannot be reached sooner than with every thread busy on a core."""
        busy = min(self._limits.threads + 1, 64)
        left = max(self._limits.cpu_s - self._cpu_s, 0.0) / busy
        self._next_cpu_check = now + max(left, _FINEST_CPU_CHECK_S)

    def _link_data(self, data: bytes, now: float) -> list[e.Instruction]:
        if self._violation is not None or self._finished is not None:
            return []  # the first word counts; what comes after is ignored, not stored
        try:
            received = self._connection.receive_data(data)  # type: ignore[arg-type]
        except RemoteError as error:
            self._violation = str(error)
            return self._kill(now)
        instructions: list[e.Instruction] = []
        for event in received:
            if isinstance(event, Ready):
                if self._killed or self._exited is not None:
                    continue  # too late: it is not handed the code any more
                self._marks["ready"] = now
                self._started_at = now
                self._kill_at = now + self._limits.wall_s
                self._plan_cpu_check(now)
                instructions.append(e.Send(self._connection.send(self._order)))
            elif isinstance(event, Denied):
                room = MOST_DENIALS - len(self._denials)
                self._denials.extend(
                    Denial(entry.action, entry.target, entry.grant)
                    for entry in event.entries[:room]
                )
            elif isinstance(event, Finished):
                self._finished = event
                if self._killed or self._exited is not None:
                    continue  # its end is under way; only what it said is of interest
                self._kill_at = now + GRACE_S
                instructions.append(e.Send(self._connection.send(Close())))
        return instructions

    def _take_output(self, event: e.Output, now: float) -> list[e.Instruction]:
        room = self._limits.output_bytes - self._output_bytes
        kept = event.data[: max(room, 0)]
        self._output_bytes += len(event.data)
        self._output[event.stream] += kept
        instructions: list[e.Instruction] = [e.Deliver(event.stream, kept)] if kept else []
        if len(kept) == len(event.data):
            return instructions
        if event.stream not in self._truncated:
            self._truncated.append(event.stream)
        if not self._stopped:
            self._stopped = True
            if self._cause is None and self._violation is None and not self.interrupted:
                # Whether the exit is known already is chance; the guest wrote before it ended.
                allowed = self._limits.output_bytes
                self._cause = LimitHit("output", allowed, self._output_bytes, "kernel")
            if self._exited is None and not self._killed:
                self._kill_at = min(self._kill_at, now + GRACE_S)
            instructions.append(e.StopReading())
            self._open.clear()
        return instructions

    def _kill(self, now: float) -> list[e.Instruction]:
        if self._exited is not None:
            return []
        self._killed = True
        self._kill_at = now + REPORT_S  # the kernel ends it, and the zygote says so
        return [e.Kill()]

    # --- the outcome ---------------------------------------------------------------------

    def result(self) -> Result:
        """The result of a run that is ``done`` and did not fail."""
        exited = self._exited
        if exited is None:
            raise AssertionError("the run is not done")
        base = Result(
            status="crashed",
            stdout_bytes=bytes(self._output["stdout"]),
            stderr_bytes=bytes(self._output["stderr"]),
            denials=tuple(self._denials),
            usage=self._usage(exited),
            truncated=tuple(self._truncated),
        )
        if self._cause is not None:
            return base.replace(status="limit", limit=self._cause, error=self._error_claimed())
        violation = self._violation
        if violation is None and exited.signal == 0:
            # A guest that was killed may have been speaking; one that left in the middle of a
            # frame meant to.
            violation = self._broken_off
        if violation is not None:
            error = ErrorText(GuestProtocolError.__name__, violation, violation)
            return base.replace(error=error)
        if self._finished is not None:
            return self._claimed(base, self._finished)
        return self._unannounced(base, exited)

    def _error_claimed(self) -> ErrorText | None:
        told = None if self._finished is None else self._finished.error
        if told is None:
            return None
        return ErrorText(told.type, told.message, told.traceback, tuple(told.notes))

    def _claimed(self, base: Result, finished: Finished) -> Result:
        """The guest's own last word."""
        if finished.outcome == "exited":
            return base.replace(status="exited", exit_code=finished.exit_code or 0)
        if finished.error is not None:
            hit = self._limit_claimed(finished.error.limit)
            status = "raised" if hit is None else "limit"
            return base.replace(status=status, error=self._error_claimed(), limit=hit)
        value, trouble = None, finished.value_error
        if finished.value is not None:
            try:
                value = decode(finished.value, self._budget)
            except RemoteError as error:
                trouble = str(error)
        return base.replace(status="ok", value=value, value_error=trouble)

    def _limit_claimed(self, name: str | None) -> LimitHit | None:
        fields = {
            "memory": "memory_bytes",
            "threads": "threads",
            "open_files": "open_files",
            "work": "work_bytes",
            "work_files": "work_files",
            "file": "file_bytes",
            "processes": "processes",
        }
        if name not in fields or self._exited is None:
            return None
        used = float(self._exited.peak_memory_bytes) if name == "memory" else None
        return LimitHit(name, self._limits[fields[name]], used, "guest")

    def _unannounced(self, base: Result, exited: e.Exited) -> Result:
        """The process ended without a last word: the kernel's account is all there is."""
        if exited.signal == 0:
            return base.replace(status="exited", exit_code=exited.code)
        cpu_ended = exited.signal in (SIGKILL, SIGXCPU) and exited.cpu_s >= self._limits.cpu_s
        if cpu_ended:
            hit = LimitHit("cpu", self._limits.cpu_s, exited.cpu_s, "kernel")
            return base.replace(status="limit", limit=hit)
        if exited.signal == SIGXFSZ:
            # The kernel sends it, and so can the guest, to itself.
            hit = LimitHit("file", self._limits.file_bytes, None, "guest")
            return base.replace(status="limit", limit=hit)
        return base.replace(status="crashed", signal=exited.signal)

    def _usage(self, exited: e.Exited) -> Usage:
        started = self._started_at if self._started_at is not None else exited.at
        stages: dict[str, float] = {}
        before = self._asked_at
        for stage, mark in (("fork", "spawned"), ("confine", "confined"), ("agent", "ready")):
            if mark in self._marks:
                stages[stage] = max(self._marks[mark] - before, 0.0)
                before = self._marks[mark]
        return Usage(
            cpu_s=exited.cpu_s,
            peak_memory_bytes=exited.peak_memory_bytes,
            wall_s=max(exited.at - started, 0.0),
            stages=stages,
        )
