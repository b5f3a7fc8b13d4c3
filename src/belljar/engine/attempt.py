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
from .throttle import PIECE_BYTES, Throttles

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
SIGINT, SIGKILL, SIGURG, SIGXCPU, SIGXFSZ = 2, 9, 23, 24, 25
# What tells the guest that its time is over.  Ignored by default, so that a guest without a
# handler (before the agent has one, or after its code took it away) is not killed by it.
OVER = SIGURG
_FINEST_CPU_CHECK_S = 0.002  # the CPU clock is read no more often than this
MEMORY_CHECK_S = 0.05  # in which one core fills some 100 MiB; RLIMIT_AS bounds each process
MEMORY_SHARE = 0.02  # of one core, at most, goes into looking
MEMORY_CHECK_MOST_S = 0.25  # but no number of processes puts the next look off any longer


class Attempt:
    """The life of one guest that executes one run."""

    def __init__(
        self, order: Run, limits: Limits, budget: Budget, now: float, *, watch_memory: bool = False
    ) -> None:
        """``watch_memory``: nothing but the host sees what the guest's processes hold together."""
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
        self._notice: e.Notify | None = None  # given before the kill, with a grace
        self._told_to_end = False
        self._pauses = 0  # of the host's works under way
        self._paused_at = 0.0
        self._paused_s = 0.0
        self._throttles: Throttles | None = None  # from the first instruction on
        self._next_memory_check = 0.0 if watch_memory else math.inf
        self._peak_bytes = 0
        self._counted: e.Counted | None = None
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
        ends_at = self.ends_at()
        if self._running:
            held_until = math.inf if self._throttles is None else self._throttles.take_at
            return min(ends_at, self._next_cpu_check, self._next_memory_check, held_until)
        if self._ending:
            return min(ends_at, self._next_cpu_check, self._next_memory_check)
        return min(ends_at, self._next_memory_check) if self._may_grow else ends_at

    @property
    def wants_cpu(self) -> bool:
        """Whether the next ``Tick`` should carry the CPU time."""
        return self._started_at is not None and self._exited is None

    def wants_memory(self, now: float) -> bool:
        """Whether a ``Tick`` now should carry the memory."""
        return self._may_grow and now >= self._next_memory_check

    @property
    def started_at(self) -> float | None:
        """When the guest was handed the code, on the monotonic clock."""
        return self._started_at

    def most_output(self, now: float) -> int:
        """How many bytes of output the driver may read at a time."""
        if self._throttles is None or not self._running:
            return PIECE_BYTES
        return self._throttles.most_output(now)

    @property
    def _has_the_code(self) -> bool:
        return (
            self._started_at is not None
            and self._finished is None
            and self._exited is None
            and not self._killed
        )

    @property
    def _running(self) -> bool:
        """Whether the run's own limits still decide: the code has it, and no end is in sight."""
        return self._has_the_code and self._cause is None and self._notice is None

    @property
    def _ending(self) -> bool:
        """Whether the code has been told to end, and its grace runs."""
        return self._has_the_code and self._notice is not None

    @property
    def _may_grow(self) -> bool:
        """Whether anything of the guest may still ask for memory, whatever it said."""
        return self._started_at is not None and self._exited is None and not self._killed

    # --- what the driver tells -----------------------------------------------------------

    def handle(self, event: e.Event, now: float) -> list[e.Instruction]:
        """Take one event; returns what to do about it, in order."""
        instructions = self._take(event, now)
        if self._throttles is not None and not self._running:
            alive = not self._killed and self._exited is None
            instructions += self._throttles.lift(alive, reading=not self._stopped)
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
            if self._notice is not None:
                return [self._notice]
        elif isinstance(event, e.Confined):
            self._marks["confined"] = event.at
        elif isinstance(event, e.Counted):
            self._counted = event
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
        elif isinstance(event, e.Paused):
            self._pauses += 1
            if self._pauses == 1:
                self._paused_at = now
        elif isinstance(event, e.Resumed):
            self._resume(now)
        else:
            return self._interrupt(event.grace_s, now)
        return []

    # --- the clock that stands still while the host works -----------------------------------

    def _pause_left(self) -> float:
        return max(self._limits.pause_s - self._paused_s, 0.0)

    def _paused_now(self, now: float) -> float:
        """Seconds of the pause under way."""
        gone = max(now - self._paused_at, 0.0) if self._pauses else 0.0
        return min(gone, self._pause_left())

    def ends_at(self) -> float:
        """When the next end is due; during a pause, when it would be if that never ended."""
        if self._pauses and self._has_the_code:
            return self._kill_at + self._pause_left()
        return self._kill_at

    def _resume(self, now: float) -> None:
        if self._pauses == 1:
            gone = self._paused_now(now)
            if self._has_the_code:
                self._kill_at += gone
                self._paused_s += gone
            elif self._exited is not None:
                self._kill_at += now - self._paused_at  # its pipes are drained all the same
        self._pauses = max(self._pauses - 1, 0)

    # --- ends that are told first -----------------------------------------------------------

    def _limit_reached(self, hit: LimitHit, now: float) -> list[e.Instruction]:
        self._cause = hit
        if not self._limits.grace_s:
            return self._kill(now)
        return self._give_notice(OVER, self._from_now(self._limits.grace_s, now), now)

    def _interrupt(self, grace_s: float, now: float) -> list[e.Instruction]:
        self.interrupted = True
        if grace_s == math.inf:
            return [e.Notify(SIGINT)] if self._running else []
        asked_before, self._told_to_end = self._told_to_end, True
        if not grace_s or asked_before or not self._has_the_code:
            return self._kill(now)
        due = min(self._kill_at, self._from_now(grace_s, now))
        if not self._running:
            self._kill_at = due  # an end is in sight already; now it is nearer
            return []
        return self._give_notice(SIGINT, due, now)

    def _give_notice(self, number: int, due: float, now: float) -> list[e.Instruction]:
        self._notice = e.Notify(number)
        self._kill_at = due
        self._plan_cpu_check(now)
        return [self._notice]

    def _from_now(self, seconds: float, now: float) -> float:
        """What ``_kill_at`` has to be for an end so many seconds from now, without pauses."""
        return now + seconds - self._paused_now(now)

    def _throttle(self, now: float) -> list[e.Instruction]:
        throttles = self._throttles
        if throttles is None:
            return []
        instructions = throttles.turn(now)
        if throttles.evaded is not None:
            cores = self._limits.cpu_cores
            self._cause = LimitHit("cpu_cores", cores, throttles.evaded, "kernel")
            return self._kill(now)
        return instructions

    def _stillborn(self) -> SandboxFailure | None:
        """What went wrong where the guest ended before it was handed the code."""
        exited = self._exited
        if exited is None or self._started_at is not None:
            return None
        if self._told_to_end or self._violation:
            return None
        how = f"signal {exited.signal}" if exited.signal else f"exit code {exited.code}"
        said = self._output["stderr"].decode("utf-8", "replace").strip()[-_LAST_WORDS:]
        text = f"the guest ended before it was ready ({how}): {said or 'it said nothing'}"
        # Nothing of ours sends SIGKILL so early: somebody outside did, or the kernel for want of
        # memory, and the code has not run.
        return SetupFailed("start", text, retryable=exited.signal == SIGKILL)

    def _tick(self, event: e.Tick, now: float) -> list[e.Instruction]:
        if event.cpu_s is not None and event.cpu_s > self._cpu_s:
            self._cpu_s = event.cpu_s
            if self._throttles is not None:
                self._throttles.used(self._cpu_s, now)
        if self._exited is not None:
            # Nothing more can come but what some other holder of a pipe still writes.
            if now >= self._kill_at:
                self._open.clear()
                self._link_open = False
                self._kill_at = math.inf
            return []
        started = self._started_at
        if self._may_grow and self._holds_too_much(event, now):
            return self._kill(now)
        if started is not None and self._running:
            if self._cpu_s >= self._limits.cpu_s:
                hit = LimitHit("cpu", self._limits.cpu_s, self._cpu_s, "kernel")
                return self._limit_reached(hit, now)
            if now >= self.ends_at():
                used = now - started - self._paused_s - self._paused_now(now)
                hit = LimitHit("wall", self._limits.wall_s, used, "kernel")
                return self._limit_reached(hit, now)
            instructions = self._throttle(now)
            self._plan_cpu_check(now)
            return instructions
        if self._ending:
            if self._cpu_s >= self._limits.cpu_s + self._limits.grace_s:
                return self._kill(now)
            self._plan_cpu_check(now)
        if now >= self.ends_at():
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

    def _holds_too_much(self, event: e.Tick, now: float) -> bool:
        """Whether the processes of the guest together hold more memory than they may."""
        if now < self._next_memory_check:
            return False
        wait = max(MEMORY_CHECK_S, event.cost_s / MEMORY_SHARE)
        self._next_memory_check = now + min(wait, MEMORY_CHECK_MOST_S)
        held = event.memory_bytes or 0
        self._peak_bytes = max(self._peak_bytes, held)
        if held <= self._limits.memory_bytes:
            return False
        if self._cause is None and self._finished is None:
            self._cause = self._memory_hit(held)
        return True

    def _plan_cpu_check(self, now: float) -> None:
        """The limit cannot be reached sooner than with every thread busy on a core."""
        busy = min(self._most_cores, 64)
        most = self._limits.cpu_s + (self._limits.grace_s if self._notice is not None else 0.0)
        left = max(most - self._cpu_s, 0.0) / busy
        wait = max(left, _FINEST_CPU_CHECK_S)
        if self._throttles is not None and self._running:
            wait = self._throttles.next_check(wait, now)
        self._next_cpu_check = now + wait

    @property
    def _most_cores(self) -> int:
        """With every thread busy on a core of its own."""
        return self._limits.threads + self._limits.processes + 1

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
                limits = self._limits
                self._throttles = Throttles(
                    limits.cpu_cores, limits.output_bytes_per_s, self._most_cores, now
                )
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
            if self._throttles is not None and self._running:
                instructions += self._throttles.read(len(event.data), now)
            return instructions
        if event.stream not in self._truncated:
            self._truncated.append(event.stream)
        if not self._stopped:
            self._stopped = True
            if self._cause is None and self._violation is None and not self._told_to_end:
                # Whether the exit is known already is chance; the guest wrote before it ended.
                allowed = self._limits.output_bytes
                self._cause = LimitHit("output", allowed, self._output_bytes, "kernel")
            if self._exited is None and not self._killed:
                self._kill_at = min(self._kill_at, self._from_now(GRACE_S, now))
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
            base = base.replace(status="limit", limit=self._cause, error=self._error_claimed())
            if self._notice is not None and self._finished is not None:
                value, trouble = self._value_claimed(self._finished)
                base = base.replace(value=value, value_error=trouble)
            return base
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
        value, trouble = self._value_claimed(finished)
        return base.replace(status="ok", value=value, value_error=trouble)

    def _value_claimed(self, finished: Finished) -> tuple[object, str | None]:
        """The value and, where there is none that could cross, why."""
        if finished.value is None:
            return None, finished.value_error
        try:
            return decode(finished.value, self._budget), None
        except RemoteError as error:
            return None, str(error)

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

    def _memory_hit(self, used: float) -> LimitHit:
        return LimitHit("memory", self._limits.memory_bytes, float(used), "kernel")

    def _unannounced(self, base: Result, exited: e.Exited) -> Result:
        """The process ended without a last word: the kernel's account is all there is."""
        if exited.signal == 0:
            return base.replace(status="exited", exit_code=exited.code)
        counted = self._counted
        if counted is not None and counted.oom_kills and exited.signal == SIGKILL:
            return base.replace(status="limit", limit=self._memory_hit(counted.peak_memory_bytes))
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
        # What the zygote was told is of one process; a group or the host's own watch know of all.
        counted = self._counted or e.Counted(0.0, 0, 0)
        together = self._cpu_s if self._limits.processes else 0.0
        return Usage(
            cpu_s=max(exited.cpu_s, counted.cpu_s, together),
            peak_memory_bytes=max(
                exited.peak_memory_bytes, counted.peak_memory_bytes, self._peak_bytes
            ),
            wall_s=max(exited.at - started, 0.0),
            stages=stages,
        )
