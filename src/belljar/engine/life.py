"""The life of one guest, from the request for it to its end: one run, or run after run.

What: a state machine that is fed events and answers with instructions, and after each run
holds the result or the failure.  Because: which cause came first decides the status, and
races between a kill, a last message and an exit are decided here once, without any I/O.
Then: every driver, blocking or async, only moves bytes.
"""

from __future__ import annotations

import math

from ..errors import SHORTAGES, SandboxFailure, SetupFailed, WorkerDied
from ..result import Denial, LimitHit, Result
from ..wire.connection import Connection
from ..wire.errors import RemoteError
from ..wire.events import (
    STDIN,
    Artifact,
    Close,
    Denied,
    Finished,
    Hold,
    HostCall,
    Ready,
    Room,
    Run,
    Taken,
)
from . import bulk
from . import events as e
from .calls import Answer
from .throttle import PIECE_BYTES, Throttles
from .turn import MOST_DENIALS, SIGKILL, End, Turn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..policy import Limits
    from ..wire.events import Call, Fork, Returned
    from ..wire.limits import Budget
    from .calls import Calls, Step
    from .stdin import Stdin

    Order = Run | Call | Fork

__all__ = ["DRAIN_S", "GRACE_S", "MOST_DENIALS", "REPORT_S", "START_S", "Life"]

GRACE_S = 0.25  # after its output was cut: for finally blocks, not for work
START_S = 30.0  # fork to ready; a machine that takes longer is not merely busy
DRAIN_S = 1.0  # what a dead guest left in its pipes is there at once
_LAST_WORDS = 1000  # characters of what a guest that never got ready said
REPORT_S = 30.0  # a zygote that says nothing for so long is stopped, not busy
SIGINT, SIGURG = 2, 23
# What tells the guest that its time is over.  Ignored by default, so that a guest without a
# handler (before the agent has one, or after its code took it away) is not killed by it.
OVER = SIGURG
_FINEST_CPU_CHECK_S = 0.002  # the CPU clock is read no more often than this
MEMORY_CHECK_S = 0.05  # in which one core fills some 100 MiB; RLIMIT_AS bounds each process
MEMORY_SHARE = 0.02  # of one core, at most, goes into looking
MEMORY_CHECK_MOST_S = 0.25  # but no number of processes puts the next look off any longer
SETTLE_S = 5.0  # for an empty run


class Life:
    """One guest.

    With ``keep`` it stays when a run is over, stopped, and ``begin`` gives it the next; else
    its first run is its last.
    """

    def __init__(
        self,
        order: Order,
        limits: Limits,
        budget: Budget,
        now: float,
        *,
        watch_memory: bool = False,
        keep: bool = False,
        calls: Calls | None = None,
    ) -> None:
        """``watch_memory``: nothing but the host sees what the guest's processes hold together.

        ``calls``: of host functions, where it has any.
        """
        self._keep = keep
        self._calls = calls
        self._stdin: Stdin | None = None  # of a guest that stays, once it has asked
        self._paused_by: set[int] = set()  # calls of this turn that make the clock stand still
        self._watch_memory = watch_memory
        self._connection = Connection("host")
        self._asked_at = now
        self._marks: dict[str, float] = {}
        self._kill_at = now + START_S
        self._open = {"stdout", "stderr"}
        self._violation: str | None = None
        self._broken_off: str | None = None
        self._exited: e.Exited | None = None
        self._counted: e.Counted | None = None
        self._link_open = True
        self._killed = False
        self._stopped = False  # reading the pipes
        self._parked = False  # between two runs
        self._settling = False
        self._collected: e.Collected | None = None
        self._runs = 1
        self.failure: SandboxFailure | None = None
        self.turn = Turn(order.replace(run_id=1), limits, budget, watch_memory=watch_memory)

    def start_by(self, when: float) -> None:
        """It has to be ready earlier than others, which still run trusted code then."""
        self._kill_at = min(self._kill_at, when)

    def begin(
        self, order: Order, limits: Limits, budget: Budget, now: float
    ) -> list[e.Instruction]:
        """The next run of a guest that was kept; ``order.run_id`` is given here."""
        if not self.waiting:
            raise AssertionError("the guest is not waiting for a run")
        used_s = self.turn.cpu_before_s if self._collected is None else self._collected.cpu_s
        self._runs += 1
        order = order.replace(run_id=self._runs)
        self.turn = Turn(order, limits, budget, watch_memory=self._watch_memory)
        self.turn.cpu_before_s = used_s
        self._collected = None
        self._parked = False
        return [*self._hand_over(now), e.Thaw()]

    # --- what the driver asks ------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether ``result`` or ``failure`` can be asked for."""
        if self.failure is not None or self._parked:
            return True
        return self._exited is not None and not self._open and not self._link_open

    @property
    def waiting(self) -> bool:
        """Whether the guest waits for another run."""
        gone = self.failure is not None or self._exited is not None or not self._link_open
        return self._parked and not gone and not self._killed

    def deadline(self) -> float:
        """When the driver must send a ``Tick`` at the latest, on the monotonic clock."""
        turn = self.turn
        ends_at = self.ends_at()
        if self._running:
            held_until = math.inf if turn.throttles is None else turn.throttles.take_at
            due = min(ends_at, turn.next_cpu_check, turn.next_memory_check, held_until)
            return min(due, self._answers_due_at())
        if self._ending:
            due = min(ends_at, turn.next_cpu_check, turn.next_memory_check)
            return min(due, self._answers_due_at())
        return min(ends_at, turn.next_memory_check) if self._may_grow else ends_at

    def _answers_due_at(self) -> float:
        """When something is to be told to code that waits for an answer."""
        due = math.inf if self._calls is None else self._calls.due_at()
        return due if self._stdin is None else min(due, self._stdin.due_at())

    @property
    def wants_cpu(self) -> bool:
        """Whether the next ``Tick`` should carry the CPU time."""
        return self.turn.started_at is not None and self._exited is None

    def wants_memory(self, now: float) -> bool:
        """Whether a ``Tick`` now should carry the memory."""
        return self._may_grow and now >= self.turn.next_memory_check

    @property
    def started_at(self) -> float | None:
        """When the guest was handed the code, on the monotonic clock."""
        return self.turn.started_at

    @property
    def interrupted(self) -> bool:
        """Whether the caller asked the run to end."""
        return self.turn.interrupted

    def most_output(self, now: float) -> int:
        """How many bytes of output the driver may read at a time."""
        throttles = self.turn.throttles
        if throttles is None or not self._running:
            return PIECE_BYTES
        return throttles.most_output(now)

    @property
    def _has_the_code(self) -> bool:
        return (
            self.turn.started_at is not None
            and self.turn.finished is None
            and self._exited is None
            and not self._killed
        )

    @property
    def _running(self) -> bool:
        """Whether the run's own limits still decide: the code has it, and no end is in sight."""
        return self._has_the_code and self.turn.cause is None and self.turn.notice is None

    @property
    def _ending(self) -> bool:
        """Whether the code has been told to end, and its grace runs."""
        return self._has_the_code and self.turn.notice is not None

    @property
    def _may_grow(self) -> bool:
        """Whether anything of the guest may still ask for memory, whatever it said."""
        started = self.turn.started_at is not None and not self._parked
        return started and self._exited is None and not self._killed

    # --- what the driver tells -----------------------------------------------------------

    def handle(self, event: e.Event, now: float) -> list[e.Instruction]:
        """Take one event; returns what to do about it, in order."""
        calls = self._calls
        instructions: list[e.Instruction] = []
        if calls is not None and isinstance(event, e.Tick) and self._has_the_code:
            # First, because a call that ends lets the clock go on.
            instructions = self._carry_on(calls.tick(now), now)
        instructions += self._take(event, now)
        if calls is not None and not (self._has_the_code and self._link_open):
            given_up = self._give_up(calls, now)
            if given_up:
                # Collecting comes last, since it ends with the guest stopped for good.
                last = [instructions.pop()] if instructions[-1:] == [e.Collect()] else []
                instructions = _without_begun(instructions, given_up) + given_up + last
        if self._stdin is not None:
            instructions[:0] = self._stdin_due(self._stdin, event, now)
        throttles = self.turn.throttles
        if throttles is not None and not self._running and not self._parked:
            alive = not self._killed and self._exited is None
            # Collecting comes last, since it ends with the guest stopped for good.
            last = [instructions.pop()] if instructions[-1:] == [e.Collect()] else []
            instructions += throttles.lift(alive, reading=not self._stopped) + last
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
            if (self.turn.finished is None or self._keep) and self._violation is None:
                try:
                    self._connection.receive_eof()
                except RemoteError as error:
                    self._broken_off = str(error)
        elif isinstance(event, e.Spawned):
            self._marks["spawned"] = event.at
            if self._killed:
                return [e.Kill()]  # the first one had no pidfd to go through yet
            if self.turn.notice is not None:
                return [self.turn.notice]
        elif isinstance(event, e.Confined):
            self._marks["confined"] = event.at
        elif isinstance(event, e.Collected):
            return self._take_collected(event, now)
        elif isinstance(event, e.Fetched):
            return self._take_fetched(event)
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
            self.turn.pauses.begin(now)
        elif isinstance(event, e.Resumed):
            self._resume(now)
        elif isinstance(event, (e.Answered, e.Revoked)):
            return self._take_answer(event, now)
        elif isinstance(event, e.Input):
            return [] if self._stdin is None else self._told(self._stdin.answer(event, now))
        else:
            return self._interrupt(event.grace_s, now)
        return []

    # --- the clock that stands still while the host works -----------------------------------

    def ends_at(self) -> float:
        """When the next end is due; during a pause, when it would be if that never ended."""
        if self.turn.pauses and self._has_the_code:
            return self._kill_at + self.turn.pauses.left_s
        return self._kill_at

    def _resume(self, now: float) -> None:
        pauses = self.turn.pauses
        gone, elapsed = pauses.gone_s(now), pauses.elapsed_s(now)
        if not pauses.end():
            return
        if self._has_the_code:
            self._kill_at += gone
            pauses.past_s += gone
        elif self._exited is not None:
            self._kill_at += elapsed  # its pipes are drained all the same

    # --- standard input that is asked for ------------------------------------------------------

    def _take_ask(self, event: HostCall, now: float) -> list[e.Instruction]:
        if self._stdin is None:
            from .stdin import Stdin

            self._stdin = Stdin()
        order = self.turn.order
        given = order.settings.get("stdin") is True and not self._settling
        return self._told(self._stdin.take(event, order.run_id if given else None, now))

    def _stdin_due(self, stdin: Stdin, event: e.Event, now: float) -> list[e.Instruction]:
        if not self._has_the_code:
            stdin.over()
            return []
        return self._told(stdin.tick(now)) if isinstance(event, e.Tick) else []

    def _told(self, answers: Sequence[Returned | e.WantInput]) -> list[e.Instruction]:
        if not self._link_open or self._violation is not None:
            return []
        return [
            answer if isinstance(answer, e.WantInput) else e.Send(self._connection.send(answer))
            for answer in answers
        ]

    # --- calls of host functions ---------------------------------------------------------------

    def _take_call(self, event: HostCall, now: float) -> list[e.Instruction]:
        if self._keep and event.function == STDIN:
            return self._take_ask(event, now)
        if self._calls is None:
            self._violation = "the guest called a host function and was given none"
            return self._kill(now)
        return self._carry_on(self._calls.take(event, now), now)

    def _take_answer(self, event: e.Answered | e.Revoked, now: float) -> list[e.Instruction]:
        if self._calls is None:
            return []
        if isinstance(event, e.Revoked):
            return self._carry_on(self._calls.revoke(event.function, now), now)
        self._go_on(event.call_id, now)
        return self._carry_on(self._calls.answer(event, now), now)

    def _give_up(self, calls: Calls, now: float) -> list[e.Instruction]:
        """The code is over, or cannot hear of them any more: its calls are over as well."""
        if not self._has_the_code:
            self._paused_by.clear()
        return self._carry_on(calls.pause(now), now)

    def _carry_on(self, steps: list[Step], now: float) -> list[e.Instruction]:
        instructions: list[e.Instruction] = []
        for step in steps:
            if isinstance(step, Answer):
                self._note_refusal(step)
                if self._link_open and self._violation is None:
                    instructions.append(e.Send(self._connection.send(step.returned)))
                continue
            if isinstance(step, e.Abandon):
                self._go_on(step.call_id, now)
            elif self._calls is not None and self._calls.stands_still(step.call_id):
                self._paused_by.add(step.call_id)
                self.turn.pauses.begin(now)
            instructions.append(step)
        return instructions

    def _go_on(self, call_id: int, now: float) -> None:
        """The host works no longer for this call."""
        if call_id in self._paused_by:
            self._paused_by.discard(call_id)
            self._resume(now)

    def _note_refusal(self, answer: Answer) -> None:
        returned = answer.returned
        if returned.grant:
            self.turn.refuse(Denial("call", answer.function, returned.grant))

    # --- ends that are told first -----------------------------------------------------------

    def _limit_reached(self, hit: LimitHit, now: float) -> list[e.Instruction]:
        self.turn.cause = hit
        grace_s = self.turn.limits.grace_s
        if not grace_s:
            return self._kill(now)
        return self._give_notice(OVER, self._from_now(grace_s, now), now)

    def _interrupt(self, grace_s: float, now: float) -> list[e.Instruction]:
        turn = self.turn
        turn.interrupted = True
        if grace_s == math.inf:
            turn.notified = turn.notified or self._running
            return [e.Notify(SIGINT)] if self._running else []
        asked_before, turn.told_to_end = turn.told_to_end, True
        if not grace_s or asked_before or not self._has_the_code:
            return self._kill(now)
        due = min(self._kill_at, self._from_now(grace_s, now))
        if not self._running:
            self._kill_at = due  # an end is in sight already; now it is nearer
            return []
        return self._give_notice(SIGINT, due, now)

    def _give_notice(self, number: int, due: float, now: float) -> list[e.Instruction]:
        self.turn.notice = e.Notify(number)
        self.turn.notified = True
        self._kill_at = due
        self._plan_cpu_check(now)
        return [self.turn.notice]

    def _from_now(self, seconds: float, now: float) -> float:
        """What ``_kill_at`` has to be for an end so many seconds from now, without pauses."""
        return now + seconds - self.turn.pauses.gone_s(now)

    def _throttle(self, now: float) -> list[e.Instruction]:
        throttles = self.turn.throttles
        if throttles is None:
            return []
        instructions = throttles.turn(now)
        if throttles.evaded is not None:
            cores = self.turn.limits.cpu_cores
            self.turn.cause = LimitHit("cpu_cores", cores, throttles.evaded, "kernel")
            return self._kill(now)
        return instructions

    # --- time and memory --------------------------------------------------------------------

    def _tick(self, event: e.Tick, now: float) -> list[e.Instruction]:
        turn = self.turn
        if event.cpu_s is not None and event.cpu_s - turn.cpu_before_s > turn.cpu_s:
            turn.cpu_s = event.cpu_s - turn.cpu_before_s
            if turn.throttles is not None:
                turn.throttles.used(turn.cpu_s, now)
        if self._exited is not None:
            # Nothing more can come but what some other holder of a pipe still writes.
            if now >= self._kill_at:
                self._open.clear()
                self._link_open = False
                self._kill_at = math.inf
            return []
        started = turn.started_at
        if self._may_grow and self._holds_too_much(event, now):
            return self._kill(now)
        if started is not None and self._running:
            if turn.cpu_s >= turn.limits.cpu_s:
                hit = LimitHit("cpu", turn.limits.cpu_s, turn.cpu_s, "kernel")
                return self._limit_reached(hit, now)
            if now >= self.ends_at():
                used = now - started - turn.pauses.past_s - turn.pauses.gone_s(now)
                hit = LimitHit("wall", turn.limits.wall_s, used, "kernel")
                return self._limit_reached(hit, now)
            instructions = self._throttle(now)
            self._plan_cpu_check(now)
            return instructions
        if self._ending:
            if turn.cpu_s >= turn.limits.cpu_s + turn.limits.grace_s:
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
        turn = self.turn
        if now < turn.next_memory_check:
            return False
        wait = max(MEMORY_CHECK_S, event.cost_s / MEMORY_SHARE)
        turn.next_memory_check = now + min(wait, MEMORY_CHECK_MOST_S)
        held = event.memory_bytes or 0
        turn.peak_bytes = max(turn.peak_bytes, held)
        if held <= turn.limits.memory_bytes:
            return False
        if turn.cause is None and turn.finished is None:
            turn.cause = turn.memory_hit(held)
        return True

    def _plan_cpu_check(self, now: float) -> None:
        """The limit cannot be reached sooner than with every thread busy on a core."""
        turn = self.turn
        busy = min(self._most_cores, 64)
        most = turn.limits.cpu_s + (turn.limits.grace_s if turn.notice is not None else 0.0)
        left = max(most - turn.cpu_s, 0.0) / busy
        wait = max(left, _FINEST_CPU_CHECK_S)
        if turn.throttles is not None and self._running:
            wait = turn.throttles.next_check(wait, now)
        turn.next_cpu_check = now + wait

    @property
    def _most_cores(self) -> int:
        """With every thread busy on a core of its own."""
        return self.turn.limits.threads + self.turn.limits.processes + 1

    # --- what the guest says ----------------------------------------------------------------

    def _link_data(self, data: bytes, now: float) -> list[e.Instruction]:
        if self._violation is not None:
            return []
        if self.turn.finished is not None and not self._settling:
            if not self._keep:
                return []  # the first word counts; what comes after is ignored, not stored
            # It would be taken for the answer to the next run.
            self._violation = "the guest spoke when it was not asked"
            return self._kill(now)
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
                instructions += self._hand_over(now)
            elif isinstance(event, Denied):
                if not self._settling:
                    self.turn.deny(event)
            elif isinstance(event, Artifact):
                shown = None if self._settling else self.turn.show(event)
                if shown is not None:
                    instructions.append(e.Present(shown))
            elif isinstance(event, HostCall):
                instructions += self._take_call(event, now)
            elif isinstance(event, Finished):
                instructions += self._take_finished(event, now)
            elif isinstance(event, Room):
                pieces, self.turn.outgoing = bulk.pieces_of(self.turn.outgoing), None
                instructions += [e.Pour(pieces), e.Send(self._connection.kept_back())]
                instructions += self._resume_calls(now)
            elif isinstance(event, Hold):
                if sum(event.sizes) > self.turn.budget.memory_bytes:
                    self._violation = "the guest holds a value over its limit value_bytes"
                    return [*instructions, *self._kill(now)]
                if not self._settling:
                    stretches = zip(event.addresses, event.sizes, strict=True)
                    instructions.append(e.Fetch(tuple(stretches)))
        return instructions

    def _hand_over(self, now: float) -> list[e.Instruction]:
        """Give the guest the code."""
        turn, limits = self.turn, self.turn.limits
        turn.started_at = now
        self._kill_at = now + limits.wall_s
        turn.throttles = Throttles(
            limits.cpu_cores, limits.output_bytes_per_s, self._most_cores, now
        )
        self._plan_cpu_check(now)
        turn.outgoing = bulk.outgoing_for(turn.order)
        sends: list[e.Instruction] = [e.Send(self._connection.send(turn.order, turn.outgoing))]
        # Else the order itself is sent when there is room for what is poured.
        return sends if self._connection.state == "POURING" else [*sends, *self._resume_calls(now)]

    def _resume_calls(self, now: float) -> list[e.Instruction]:
        instructions: list[e.Instruction] = []
        if self._calls is not None:
            instructions += self._carry_on(self._calls.resume(now), now)
        if self._stdin is not None:
            instructions += self._told(self._stdin.resume())
        return instructions

    def _take_fetched(self, event: e.Fetched) -> list[e.Instruction]:
        self.turn.fetched = event.buffers or ()
        if self._connection.state != "RUNNING":
            return []  # it did not wait for the answer
        taken = Taken(self.turn.order.run_id, event.buffers is not None)
        return [e.Send(self._connection.send(taken))]

    def _take_finished(self, event: Finished, now: float) -> list[e.Instruction]:
        if self._settling:
            self._settling = False
        else:
            self.turn.finished = event
        if self._killed or self._exited is not None:
            return []  # its end is under way; only what it said is of interest
        if not self._keep:
            self._kill_at = now + GRACE_S
            return [e.Send(self._connection.send(Close()))]
        if self._stopped or self.turn.told_to_end:
            return self._kill(now)  # its pipes are closed, or nobody wants it any more
        if self.turn.notified:
            return self._settle(now)
        self._kill_at = math.inf
        return [e.Collect()]

    def _settle(self, now: float) -> list[e.Instruction]:
        """An empty run after one that was signalled.

        What: the code's end and the signal may have crossed.  Because: a signal that comes
        when the code has ended would otherwise strike the next run.  Then: it strikes this one,
        of which nothing is told.
        """
        self.turn.notified = False
        self._settling = True
        self._runs += 1
        self._kill_at = now + SETTLE_S
        return [e.Send(self._connection.send(Run(self._runs, "", "<settle>", {})))]

    def _take_collected(self, event: e.Collected, now: float) -> list[e.Instruction]:
        if self._killed or self._exited is not None or self.failure is not None:
            return []
        if self._stopped or not self._link_open:
            return self._kill(now)  # it can neither be heard nor told anything any more
        self._collected = event
        self._parked = True
        return [e.Park()]

    def _take_output(self, event: e.Output, now: float) -> list[e.Instruction]:
        turn = self.turn
        room = turn.limits.output_bytes - turn.output_bytes
        kept = event.data[: max(room, 0)]
        turn.output_bytes += len(event.data)
        turn.output[event.stream] += kept
        instructions: list[e.Instruction] = [e.Deliver(event.stream, kept)] if kept else []
        if len(kept) == len(event.data):
            if turn.throttles is not None and self._running:
                instructions += turn.throttles.read(len(event.data), now)
            return instructions
        if event.stream not in turn.truncated:
            turn.truncated.append(event.stream)
        if not self._stopped:
            self._stopped = True
            if turn.cause is None and self._violation is None and not turn.told_to_end:
                # Whether the exit is known already is chance; the guest wrote before it ended.
                allowed = turn.limits.output_bytes
                turn.cause = LimitHit("output", allowed, turn.output_bytes, "kernel")
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
        breach = self._violation
        if breach is None and exited is not None and exited.signal == 0:
            # A guest that was killed may have been speaking; one that left in the middle of a
            # frame meant to.
            breach = self._broken_off
        starting = self._starting() if self._runs == 1 else {}
        return self.turn.result(End(exited, self._counted, self._collected, breach, starting))

    def _starting(self) -> dict[str, float]:
        stages: dict[str, float] = {}
        before = self._asked_at
        for stage, mark in (("fork", "spawned"), ("confine", "confined"), ("agent", "ready")):
            if mark in self._marks:
                stages[stage] = max(self._marks[mark] - before, 0.0)
                before = self._marks[mark]
        return stages

    def _stillborn(self) -> SandboxFailure | None:
        """What went wrong where the guest ended before it was handed the code."""
        exited = self._exited
        if exited is None or self.turn.started_at is not None:
            return None
        if self.turn.told_to_end or self._violation:
            return None
        how = f"signal {exited.signal}" if exited.signal else f"exit code {exited.code}"
        said = self.turn.output["stderr"].decode("utf-8", "replace").strip()[-_LAST_WORDS:]
        text = f"the guest ended before it was ready ({how}): {said or 'it said nothing'}"
        # Nothing of ours sends SIGKILL so early: somebody outside did, or the kernel for want of
        # memory, and the code has not run.
        return SetupFailed("start", text, retryable=exited.signal == SIGKILL)


def _without_begun(
    instructions: list[e.Instruction], due: list[e.Instruction]
) -> list[e.Instruction]:
    """What is given up in the moment in which it was to begin does not begin."""
    over = {one.call_id for one in due if isinstance(one, e.Abandon)}
    return [one for one in instructions if not (isinstance(one, e.Invoke) and one.call_id in over)]
