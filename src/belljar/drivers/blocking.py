"""One run on the calling thread: a poll loop between the guest and the engine.

What: ``once`` is a generator that is suspended whenever there is nothing to do, and a
``Waiter`` waits.  Because: a thread waits in poll, a task by awaiting, and whoever takes the
output piece by piece stops in between.  Then: all else is the same for all of them.
"""

from __future__ import annotations

import _socket
import math
import os
import select
import time

from ..engine import events as e
from ..engine.life import Life
from ..errors import WorkerDied
from ..kernel import fdpass, process
from ..wire.control import Unpacker
from .zygotes import Work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from typing import Any, Protocol, TypeVar

    from ..artifact import Artifact
    from ..engine.life import Order
    from ..policy import Limits
    from ..result import Result, UsageNow
    from ..wire.events import Run
    from ..wire.limits import Budget
    from .account import Account, Sampler
    from .desk import Desk
    from .interrupts import Interrupts
    from .zygotes import GuestEnds, Zygote

    class Poll(Protocol):
        """``select.poll``, or what has its methods."""

        def register(self, fd: int, eventmask: int, /) -> None: ...
        def modify(self, fd: int, eventmask: int, /) -> None: ...
        def unregister(self, fd: int, /) -> None: ...
        def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]: ...

    class Maker(Protocol):
        """What a guest comes from, as a loop sees it: a zygote, or nothing of the kind."""

        ready_at: float
        ahead_s: float

        def ensure_ready(self) -> None:
            """Wait until it serves."""

        def close(self) -> None:
            """End it, because it does not work."""

    # Asks for a rest of so many seconds and then for what the kernel has found, at most so many
    # seconds later; is told that, or what was raised meanwhile.
    Wait = tuple[float, float]
    Found = list[tuple[int, int]]
    # What comes out at the end is the result, or what is to be raised.
    Drive = Generator[Wait, Found, Result | BaseException]
    Piece = tuple[str, bytes]
    AnyLoop = TypeVar("AnyLoop", bound="Loop")


_PIECE = 1 << 16  # one pipe's capacity
_LARGEST = 1 << 20  # to be sent at a time; the kernel takes what it has room for
_LITTLE = 512  # bytes: several lines of text
_PATIENCE = 64  # rounds: more lines in a row than a person reads
_REST_S = 0.001
_MOST_LOOKS = 16  # each finds what the last one missed; a fork takes longer than a look
_MOST_IN_A_PIPE = 1 << 20  # of /proc/sys/fs/pipe-max-size, as everywhere
_MOST_UNREAD = 1 << 20  # of answers: a guest that does not read them begins no more calls
USAGE_S = 0.1  # between two calls of on_usage: more often is more than a person sees
USAGE_SHARE = 0.1  # of one core, at most, goes into finding out for on_usage


class Feed:
    """Standard input for a guest: bytes at hand, then a descriptor of the host's, or neither.

    ``drivers.sources`` has others.  ``fd`` is readable when ``take`` is to be called; with
    ``on_demand`` that is when there is room for more, and it calls what is the application's.
    """

    on_demand = False

    def __init__(self, data: bytes = b"", fd: int | None = None) -> None:
        self.pending = memoryview(data)
        self.fd = fd

    @property
    def open(self) -> bool:
        """Whether there may be something to read."""
        return bool(self.pending) or self.fd is not None or self.on_demand

    def take(self) -> None:
        """Get more, into ``pending``; at the end there is no ``fd`` any more, and no demand."""
        try:
            data = os.read(self.fd, _PIECE) if self.fd is not None else b""
        except BlockingIOError:
            return
        except OSError:
            data = b""  # a closed or unreadable standard input is an empty one
        if not data:
            self.fd = None
        self.pending = memoryview(data)

    def stop(self) -> None:
        """Nobody reads any more."""
        self.pending = memoryview(b"")
        self.fd = None
        self.on_demand = False


def begin(
    kind: type[AnyLoop],
    zygote: Zygote,
    ends: GuestEnds,
    order: Run,
    limits: Limits,
    budget: Budget,
    feed: Feed,
    on_output: Callable[[str, bytes], object] | None,
    began: float,
    requested: float,
    desk: Desk | None,
    *,
    on_usage: Callable[[UsageNow], object] | None = None,
    on_artifact: Callable[[Artifact], object] | None = None,
    put: Callable[[Work], None] | None = None,
) -> AnyLoop:
    """A loop for one run of a guest that is for it alone; ``once`` drives it.

    ``began`` is when the zygote was asked for, ``requested`` when the guest was; the stages
    count from there.  ``desk`` is where host functions are called; it is closed with the loop.
    ``put`` is called with the guest's ``/work`` before the guest is told of its code.

    Raises ``SandboxFailure`` when belljar's own machinery failed; the guest is dead then, and its
    descriptors are closed.
    """
    try:
        loop = kind(
            ends, order, limits, budget, feed, on_output, zygote, began, requested, desk=desk
        )
    except BaseException as error:
        failure = broken_off(error, None, zygote, ends)
        ends.close()
        if desk is not None:
            desk.close()
        if failure is error:
            raise
        raise failure from error
    loop.on_usage, loop.on_artifact, loop.put = on_usage, on_artifact, put
    return loop


def once(loop: Loop, zygote: Zygote, interrupts: Interrupts | None = None) -> Drive:
    """Drive a guest to its end.  ``interrupts``: where somebody else may ask for a soft one.

    Whatever happens, the guest is dead and its descriptors are closed afterwards.
    """
    try:
        if interrupts is None:
            return (yield from _to_the_end(loop))
        with interrupts:
            loop.watch(interrupts.fd, lambda _event: loop.tell(interrupts.take()))
            if interrupts.woken is not None:
                loop.watch(interrupts.woken, interrupts.forget_signals)
            return (yield from _to_the_end(loop))
    except GeneratorExit:
        loop.ends.kill()  # whoever waited was interrupted between two waits
        raise
    except BaseException as error:
        failure = broken_off(error, loop, zygote, loop.ends)
        if failure is not error:
            failure.__cause__ = error
        return failure
    finally:
        loop.let_go()


def _to_the_end(loop: Loop) -> Drive:
    rest_s = 0.0
    while not loop.done:
        rest_s = loop.go_on((yield rest_s, math.inf))
    return loop.result()


class Left(BaseException):
    """Raised in a drive because nobody wants more of its run."""


class Steps:
    """A drive, carried on step by step, and the pieces of output that nobody has taken yet.

    While somebody looks at a piece the host is at work for the guest: its clock stands still.
    """

    def __init__(self, loop: Loop, drive: Drive, pieces: list[Piece] | None = None) -> None:
        """``pieces``: where they go, if anybody wants them."""
        self._loop = loop
        self._drive = drive
        self._pieces = loop.pieces = pieces
        self._wait: Wait | None = None
        self._outcome: Result | BaseException | None = None
        self._held = False
        self.over = False

    def _resume(self) -> None:
        """The first step, or the next one after a piece."""
        if self._held:
            self._held = False
            self._loop.resume()
        if self._wait is None:
            self._step(self._drive.send, None)

    def _step(self, step: Callable[..., Wait], argument: object) -> None:
        try:
            self._wait = step(argument)
        except StopIteration as stop:
            self.over = True
            self._outcome = stop.value

    def _hold(self) -> None:
        if self._pieces is not None and not self.over:
            self._held = True
            self._loop.pause()

    def _has_a_piece(self) -> bool:
        return bool(self._pieces)

    def _has_started(self) -> bool:
        return self._loop.life.started_at is not None

    def _never(self) -> bool:
        return False

    def _next(self) -> Piece | None:
        return self._pieces.pop(0) if self._pieces else None

    def _throw_left(self) -> None:
        self._loop.pieces = self._pieces = None
        if self._wait is None:
            self._drive.close()
            self.over = True
        elif not self.over:
            self._held = False  # the drive sees to the clock
            self._step(self._drive.throw, Left())

    def _failure(self) -> None:
        """Raise what it has ended with, if that is not a result."""
        outcome, self._outcome = self._outcome, None
        try:
            if isinstance(outcome, BaseException) and not isinstance(outcome, Left):
                raise outcome
        finally:
            self._outcome = outcome if not isinstance(outcome, BaseException) else None
            del outcome  # or its traceback would hold this frame, and this frame it

    def _result(self) -> Result:
        self._failure()
        if self._outcome is None or isinstance(self._outcome, BaseException):
            raise AssertionError("the run is not over")
        return self._outcome


class Waiter(Steps):
    """Carries a drive on for a thread: waits in poll."""

    def start(self) -> None:
        """Until the guest has the code.  Raises ``SandboxFailure``."""
        self._carry_on(self._has_started)
        if self.over:
            self._failure()

    def piece(self) -> Piece | None:
        """The next piece of output; None when the run is over."""
        if not self._pieces and not self.over:
            self._carry_on(self._has_a_piece)
        return self._next()

    def finish(self) -> Result:
        """The result.  Raises ``SandboxFailure``, and what the application's functions raise."""
        self._pieces = None
        if not self.over:
            self._loop.pieces = None
            self._carry_on(self._never)
        return self._result()

    def leave(self) -> None:
        """End the run if it is not over, because nobody wants more of it."""
        if not self.over:
            self._throw_left()
            self._carry_on(self._never)
            self._failure()

    def _carry_on(self, enough: Callable[[], bool]) -> None:
        loop = self._loop
        try:
            self._resume()
            while not self.over and not enough():
                rest_s, most_s = self._wait or (0.0, math.inf)
                try:
                    if rest_s:
                        time.sleep(rest_s)
                    found = loop.poll.poll(loop.wait_ms(most_s))
                except BaseException as error:
                    self._step(self._drive.throw, error)
                else:
                    self._step(self._drive.send, found)
            self._hold()
        except BaseException:
            self.over = True
            self._drive.close()
            raise


def broken_off(
    error: BaseException, loop: Loop | None, zygote: Maker, ends: GuestEnds
) -> BaseException:
    """What to raise where a run was broken off by ``error``; the guest is gone or killed."""
    if isinstance(error, WorkerDied):
        # The status socket closes a moment before the control socket does; whoever tries
        # again must not be given the same zygote.
        zygote.close()
        return error
    ends.kill()
    if not isinstance(error, (OSError, MemoryError)):
        return error
    if loop is not None and loop.in_application:
        return error
    from .trouble import typed

    return typed(error, handed_over=loop is not None and loop.life.wants_cpu)


class Loop:
    """One guest, its descriptors, and the engine that decides on it."""

    def __init__(
        self,
        ends: GuestEnds,
        order: Order,
        limits: Limits,
        budget: Budget,
        feed: Feed,
        on_output: Callable[[str, bytes], object] | None,
        zygote: Maker,
        began: float,
        requested: float,
        *,
        keep: bool = False,
        poll: Poll | None = None,
        desk: Desk | None = None,
    ) -> None:
        self.ends = ends
        self.desk = desk
        self.feed = feed
        self.on_output = on_output
        self.outgoing: list[Any] = []  # bytes and views of them, in order
        # Of functions of the application's, for later, where they are not called at once.
        self.calls: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        self.clock: int | None = None
        self.in_application = False  # whether what is raised is the application's
        self.collecting = False
        self.ending = False  # softly, for a short time: not to be interrupted
        self.pieces: list[Piece] | None = None  # of output, for whoever takes them
        self.source: Feed | None = None  # what a run of a guest that stays asks us for
        self.asks: list[int] = []
        self.looks_left = 0  # at a guest that is being stopped
        self.seen_stopped: set[int] = set()
        self.limits = limits
        self.account: Account | None = None  # where the clock of one process does not do
        self.sample: Sampler | None = None
        self.on_usage: Callable[[UsageNow], object] | None = None
        self.on_artifact: Callable[[Artifact], object] | None = None
        self.put: Callable[[Work], None] | None = None
        self.usage_at = math.inf
        self.bytes_read = 0  # in this round
        self.little = 0  # rounds in a row that brought little
        self.poll: Poll = select.poll() if poll is None else poll
        self.handlers: dict[int, Callable[[int], None]] = {}
        zygote.ensure_ready()
        asked = max(requested, zygote.ready_at)
        self.zygote_s = asked - began
        self.ahead_s = zygote.ahead_s
        watch = limits.processes > 0 and ends.group is None
        self.keep = keep
        calls = None if desk is None else desk.calls
        self.life = Life(order, limits, budget, asked, watch_memory=watch, keep=keep, calls=calls)
        if desk is not None:
            self.watch(desk.fd, desk.heard)
        self.watch(ends.status.fileno(), self.on_status)
        self.watch(ends.link.fileno(), self.on_link)
        for name, fd in self.open_streams():
            if keep:
                os.set_blocking(fd, False)  # ``collect`` reads what poll has told of
            self.watch(fd, self.reader_of(name))

    def watch(self, fd: int, handler: Callable[[int], None], events: int = select.POLLIN) -> None:
        self.handlers[fd] = handler
        self.poll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        if self.handlers.pop(fd, None) is not None:
            self.poll.unregister(fd)

    def let_go(self) -> None:
        """Give back all descriptors."""
        self.ends.close()
        if self.life.started_at is not None:
            self.feed.stop()  # else another guest may be given it
        if self.desk is not None:
            self.desk.close()

    def wait_ms(self, most_s: float = math.inf) -> int | None:
        """For how long there is nothing to do unless something arrives, and at most so long."""
        if self.parking or (self.desk is not None and self.desk.busy):
            return 0
        left = min(self.life.deadline(), self.usage_at) - time.monotonic()
        left = min(left, most_s)
        # Rounded up: waking a millisecond early would spin until the deadline.
        return None if left > 3600 else int(max(left, 0) * 1000) + (left > 0)

    def round(self, found: list[tuple[int, int]]) -> float:
        """Handle what poll found and what is due; the seconds to rest before the next round."""
        self.bytes_read = 0
        for fd, event in found:
            handler = self.handlers.get(fd)
            if handler is not None:
                handler(event)
        # After what has arrived, because a program that finished while a slow on_output
        # held us up has finished in time.
        now = time.monotonic()
        if self.life.deadline() <= now:
            self.tick(now)
        if self.usage_at <= now:
            self.tell_usage(now)
        if self.desk is not None and self.desk.busy:
            self.answer(self.desk)
        return self.pace()

    def answer(self, desk: Desk) -> None:
        """Make a call of a host function, or tell the guest what one has come to."""
        self.little = 0  # a call is more than a few bytes
        self.in_application = True
        event = desk.take()
        self.in_application = False
        now = time.monotonic()
        if self.life.deadline() <= now:
            self.tick(now)  # before the code goes on: a call may have used up its time
        if event is not None:
            self.tell(event)

    def result(self) -> Result:
        """The result of the run that is over; raises where it failed."""
        if self.life.failure is not None:
            raise self.life.failure
        result = self.life.result()
        if result.usage.stages:
            stages = {"zygote": self.zygote_s, **result.usage.stages}
            result = result.replace(usage=result.usage.replace(stages=stages))
        return self.with_files(result)

    def with_files(self, result: Result) -> Result:
        """The result with what the run left in ``/work``, if it left anything."""
        work = self.ends.work
        given: dict[str, bytes] = getattr(self.life.turn.order, "files", {})
        if work is None or not work.watched or (not given and not work.known and work.empty):
            return result
        from .work import changed_in, left_by

        return result.replace(left=(changed_in if self.keep else left_by)(work, given))

    def await_news(self) -> None:
        """A guest may be quicker than the news of it, without which nobody can stop or read it."""
        status = self.ends.status.fileno()
        while self.ends.pidfd is None and status in self.handlers and not self.life.done:
            self.on_status(0)

    def put_files(self) -> None:
        """What the host itself puts into ``/work``; it comes before the code."""
        put, self.put = self.put, None
        status = self.ends.status.fileno()
        # The guest told of it before it could be ready; its words came by another way.
        while self.ends.work is None and status in self.handlers and not self.life.done:
            self.on_status(0)
        if put is not None and self.ends.work is not None:
            put(self.ends.work)

    def pace(self) -> float:
        """How long to rest when a guest keeps waking us for next to nothing.

        One byte at a time costs the host as much as the guest; a millisecond's rest lets the
        bytes gather.  Ordinary programs never come here often enough to notice.
        """
        if not 0 < self.bytes_read < _LITTLE:
            self.little = 0
            return 0.0
        self.little += 1
        return _REST_S if self.little > _PATIENCE else 0.0

    def tell(self, event: e.Event) -> None:
        """Hand an event to the engine and carry out what it says."""
        self.carry_out(self.life.handle(event, time.monotonic()))

    def carry_out(self, instructions: Sequence[e.Instruction]) -> None:
        """Do what the engine says, in order."""
        for instruction in instructions:
            if isinstance(instruction, e.Send):
                self.outgoing.append(instruction.data)
                self.flush()
            elif isinstance(instruction, e.Pour):
                self.outgoing += instruction.pieces
            elif isinstance(instruction, e.Fetch):
                from .bulk import fetch

                self.await_news()
                self.tell(e.Fetched(fetch(self.ends.pidfd, instruction.stretches)))
            elif isinstance(instruction, e.Kill):
                self.ends.kill()
            elif isinstance(instruction, e.Deliver):
                if self.pieces is not None:
                    self.pieces.append((instruction.stream, instruction.data))
                if self.on_output is not None:
                    self.call(self.on_output, instruction.stream, instruction.data)
            elif isinstance(instruction, e.Notify):
                self.ends.signal(instruction.number)
            elif isinstance(instruction, e.Collect):
                self.collect()
            elif isinstance(instruction, e.Park):
                self.park()
            elif isinstance(instruction, e.Invoke):
                if self.desk is not None:
                    self.desk.invoke(instruction)
            elif isinstance(instruction, e.Abandon):
                if self.desk is not None:
                    self.desk.abandon(instruction.call_id)
            elif isinstance(instruction, e.WantInput):
                self.asks.append(instruction.call_id)
                self.give_input()
            elif isinstance(instruction, e.Freeze):
                self.freeze(True)
            elif isinstance(instruction, e.Thaw):
                self.freeze(False)
            elif isinstance(instruction, e.HoldOutput):
                for _, fd in self.open_streams():
                    self.unwatch(fd)
            elif isinstance(instruction, e.TakeOutput):
                for name, fd in self.open_streams():
                    self.watch(fd, self.reader_of(name))
            elif isinstance(instruction, e.StopReading):
                for name in ("stdout", "stderr"):
                    self.close(name)
        # Last, so that what it raises keeps none of the others from being done.
        if self.on_artifact is not None:
            for instruction in instructions:
                if isinstance(instruction, e.Present):
                    self.call(self.on_artifact, instruction.artifact)

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function of the application's, whose time is not the guest's.

        What it raises is its own, and goes on to the caller as it is.
        """
        self.pause()
        function(*arguments)
        self.resume()

    def pause(self) -> None:
        """A function of the application's begins."""
        self.life.handle(e.Paused(), time.monotonic())
        self.in_application = True

    def resume(self) -> None:
        """A function of the application's is over."""
        self.in_application = False
        self.life.handle(e.Resumed(), time.monotonic())

    def open_streams(self) -> list[tuple[str, int]]:
        """The output pipes that are not at their end, by the names of their streams."""
        ends = (("stdout", self.ends.stdout), ("stderr", self.ends.stderr))
        return [(name, fd) for name, fd in ends if fd is not None]

    def freeze(self, frozen: bool) -> None:
        """Stop all of the guest, or let it go on."""
        if self.ends.group is not None:
            self.ends.group.freeze(frozen)
            return
        number = process.SIGSTOP if frozen else process.SIGCONT
        self.ends.signal(number)
        if self.account is not None:
            self.account.signal_others(number)

    def park(self) -> None:
        """Begin to stop the guest until its next run, all of it."""
        self.freeze(True)
        if not self.limits.processes or self.ends.group is not None or self.account is None:
            return  # with one process nobody inside can undo it: the filter has no SIGCONT
        self.looks_left, self.seen_stopped = _MOST_LOOKS, set()
        self.park_on()

    def park_on(self) -> None:
        """Look whether all of the guest stands still; one that cannot be stopped is killed.

        While ``parking`` it is to be called again, after a rest that need not hold up others.
        """
        # What was made while the others were stopped is found by looking again, and so is what
        # the kernel has let go on: it does where a group of processes is left without a parent.
        # When two looks find the same and nobody running, nobody is left who could change it.
        account = self.account
        while self.looks_left and account is not None:
            first = self.looks_left == _MOST_LOOKS
            self.looks_left -= 1
            found = set(account.pids())
            if account.stopped():
                if found == self.seen_stopped:
                    self.looks_left = 0
                    return
                self.seen_stopped = found
                continue
            self.seen_stopped = set()
            self.freeze(True)
            if self.looks_left and not first:
                return
        self.ends.kill()

    @property
    def parking(self) -> bool:
        """Whether the guest is being stopped."""
        return self.looks_left > 0

    @property
    def done(self) -> bool:
        """Whether the run is over, and nothing is left to do after it."""
        return self.life.done and not self.calls and not self.parking

    def go_on(self, found: list[tuple[int, int]]) -> float:
        """``round``, also where the run is over and its guest is being stopped."""
        if self.parking:
            self.park_on()
        elif not self.life.done:  # else there are only calls left
            rest_s = self.round(found)
            if not self.parking:
                return rest_s
        return _REST_S if self.parking else 0.0

    def collect(self) -> None:
        """After a run of a guest that stays: what it wrote is in the pipes by now."""
        self.collecting = True
        for name, _ in self.open_streams():
            first, before = self.bytes_read, -1
            while before < self.bytes_read < first + _MOST_IN_A_PIPE:
                before = self.bytes_read
                self.on_stream(name)
        self.collecting = False
        from .account import peak_in

        account = self.account
        cpu_s = account.cpu_s() if account is not None else None
        peak = peak_in(self.ends.figures) if self.ends.figures is not None else None
        if peak is None and account is not None:
            peak = account.peak_bytes()
        self.tell(e.Collected(cpu_s or 0.0, peak or 0, time.monotonic()))

    def close(self, name: str) -> None:
        fd = getattr(self.ends, name)
        if fd is not None:
            self.unwatch(fd)
            self.ends.close_one(name)

    def tick(self, now: float) -> None:
        life = self.life
        cpu_s = self.cpu_s() if life.wants_cpu else None
        if self.sample is not None and life.wants_memory(now):
            self.tell(e.Tick(cpu_s, *self.sample(life.ends_at())))
        else:
            self.tell(e.Tick(cpu_s))

    def cpu_s(self) -> float | None:
        if self.account is not None:
            return self.account.cpu_s()
        if self.clock is None:
            return None
        try:
            return time.clock_gettime(self.clock)
        except OSError:
            return None  # it has just ended; its usage comes with the exit

    def start_accounting(self, pidfd: int, first: int | None) -> None:
        """Choose whom to ask what the guest uses.  ``first``: see ``account.choose``."""
        watch = self.limits.processes > 0
        if not watch and self.ends.group is None and self.on_usage is None and not self.keep:
            self.clock = _cpu_clock(pidfd)
            return
        from .account import OneProcess, Sampler, choose

        self.account = choose(pidfd, self.limits, self.ends.group, first)
        if watch and self.ends.group is None and self.account is not None:
            self.sample = Sampler(self.account, self.limits.memory_bytes)
        if self.keep and isinstance(self.account, OneProcess):
            self.ends.figures = self.account.open_figures()
        self.start_telling_usage()

    def start_telling_usage(self) -> None:
        """From now on, if anybody wants to know."""
        wanted = self.on_usage is not None
        self.usage_at = time.monotonic() + USAGE_S if wanted else math.inf

    def tell_usage(self, now: float) -> None:
        """Tell the caller what the guest uses, while it has the code."""
        self.usage_at = now + USAGE_S
        before = time.thread_time()
        started, account = self.life.started_at, self.account
        if started is None or account is None or self.on_usage is None:
            return
        until = self.life.ends_at()
        cpu_s, memory, peak = account.cpu_s(), account.memory_bytes(until), account.peak_bytes()
        # A guest of many processes and maps makes it dear to look.
        self.usage_at = now + max(USAGE_S, (time.thread_time() - before) / USAGE_SHARE)
        if cpu_s is None or memory is None:
            return  # it has ended, or is about to; the result has the rest
        from ..result import UsageNow

        cpu_s = max(cpu_s - self.life.turn.cpu_before_s, 0.0)
        self.call(self.on_usage, UsageNow(cpu_s, memory, max(peak or 0, memory), now - started))
        # After it, so that a slow one is not all that happens.
        self.usage_at = max(self.usage_at, time.monotonic() + USAGE_S)

    # --- what poll found -----------------------------------------------------------------

    def on_status(self, event: int) -> None:
        try:
            data, descriptors = fdpass.receive(self.ends.status)
        except ConnectionResetError:
            data, descriptors = b"", []
        if not data:
            self.unwatch(self.ends.status.fileno())
            self.tell(e.ZygoteGone())
            return
        for kind, fields in Unpacker().feed(data):
            if "at" in fields:
                fields["at"] -= self.ahead_s
            if kind == "spawned":
                self.ends.pidfd, *others = descriptors
                try:
                    self.start_accounting(self.ends.pidfd, others[0] if others else None)
                finally:
                    for fd in others:
                        os.close(fd)
                self.ends.take_over(())
                self.tell(e.Spawned(fields["at"]))
            elif kind == "mounted":
                self.ends.work = Work(descriptors[0])
            elif kind == "confined":
                self.ends.take_over(fields.get("held", ()))
                if self.ends.group is not None and not self.ends.group.populated:
                    self.tell(e.SpawnFailed("join_group", 0, "the guest is not in its cgroup"))
                    return
                # Not before: if the guest cannot be confined, another one may be given the same.
                self.start_feeding()
                self.tell(e.Confined(fields["at"]))
            elif kind == "failed":
                self.tell(e.SpawnFailed(fields["step"], fields["errno"], fields["text"]))
            else:
                group = self.ends.group
                if group is not None:
                    self.tell(
                        e.Counted(group.cpu_s() or 0.0, group.peak_bytes(), group.oom_kills())
                    )
                self.tell(e.Exited(**fields))

    def on_link(self, event: int) -> None:
        if self.put is not None:
            self.put_files()
        if event & select.POLLOUT:
            self.flush()
            self.give_input()
        if event & (select.POLLIN | select.POLLHUP | select.POLLERR):
            if self.keep:
                self.await_news()
            try:
                data = self.ends.link.recv(_PIECE)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data = b""
            self.bytes_read += len(data)
            if data:
                self.tell(e.LinkData(data))
            else:
                self.unwatch(self.ends.link.fileno())
                self.tell(e.LinkClosed())

    def reader_of(self, name: str) -> Callable[[int], None]:
        return lambda _event: self.on_stream(name)

    def on_stream(self, name: str) -> None:
        fd: int | None = getattr(self.ends, name)
        if fd is None:
            return
        try:
            data = os.read(fd, self.life.most_output(time.monotonic()))
        except BlockingIOError:
            return  # it was read already, when the run was over
        self.bytes_read += len(data)
        if data:
            self.tell(e.Output(name, data))
        else:
            self.close(name)
            self.tell(e.OutputClosed(name))

    def flush(self) -> None:
        """Write what is due to the link, as far as it takes it."""
        fd = self.ends.link.fileno()
        self._send(fd)
        if self.desk is not None:
            self.desk.calls.held = self.unread

    @property
    def unread(self) -> bool:
        """Whether the guest leaves so much unread that it is to be told no more."""
        return sum(map(len, self.outgoing)) > _MOST_UNREAD

    def _send(self, fd: int) -> None:
        while self.outgoing:
            first = self.outgoing[0]
            try:
                sent = self.ends.link.send(first[:_LARGEST], _socket.MSG_NOSIGNAL)
                if sent < len(first):
                    self.outgoing[0] = memoryview(first)[sent:]
                else:
                    del self.outgoing[0]
            except BlockingIOError:
                self.poll.modify(fd, select.POLLIN | select.POLLOUT)
                return
            except (BrokenPipeError, ConnectionResetError):
                self.outgoing.clear()
        if fd in self.handlers:
            self.poll.modify(fd, select.POLLIN)

    # --- standard input ------------------------------------------------------------------

    def start_feeding(self) -> None:
        if self.ends.stdin is None:
            return
        if self.feed.pending or self.feed.on_demand:
            self.watch(self.ends.stdin, self.on_stdin_room, select.POLLOUT)
        elif self.feed.fd is not None:
            self.watch(self.feed.fd, self.on_stdin_data)
        else:
            self.close("stdin")

    def on_stdin_room(self, event: int) -> None:
        fd = self.ends.stdin
        if fd is None:
            return
        if event & select.POLLERR:
            self.stop_feeding()  # nobody can read it any more
            return
        feed = self.feed
        if not feed.pending:
            self.take_from(feed)
        try:
            feed.pending = feed.pending[process.write_to_guest(fd, feed.pending[:_PIECE]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self.stop_feeding()
            return
        if not feed.pending and not feed.on_demand:
            self.unwatch(fd)
            self.start_feeding()

    def take_from(self, feed: Feed) -> None:
        """Have it call the application for more."""
        self.pause()
        feed.take()
        self.resume()

    def on_stdin_data(self, event: int) -> None:
        source = self.feed.fd
        if source is None:
            return
        self.feed.take()
        self.unwatch(source)
        self.start_feeding()

    def stop_feeding(self) -> None:
        if self.feed.fd is not None:
            self.unwatch(self.feed.fd)
        self.feed.stop()
        self.close("stdin")

    # --- what a run of a guest that stays asks for ---------------------------------------------

    def give_input(self) -> None:
        """Answer what was asked for, as far as there is something."""
        feed = self.source
        while self.asks and not self.unread:
            if feed is not None and not feed.pending:
                if feed.on_demand:
                    self.take_from(feed)
                elif feed.fd is not None:
                    if feed.fd not in self.handlers:
                        self.watch(feed.fd, self.on_source)
                    return
            data = b""
            if feed is not None:
                data, feed.pending = bytes(feed.pending[:_PIECE]), feed.pending[_PIECE:]
            self.tell(e.Input(self.asks.pop(0), data))

    def on_source(self, event: int) -> None:
        feed = self.source
        fd = None if feed is None else feed.fd
        if feed is None or fd is None:
            return
        feed.take()
        self.unwatch(fd)
        self.give_input()

    def forget_source(self) -> None:
        """The run that asked is over."""
        self.asks.clear()
        self.end_source()

    def end_source(self) -> None:
        """There is nothing more to be had: whoever asks finds the end."""
        feed, self.source = self.source, None
        if feed is not None:
            if feed.fd is not None:
                self.unwatch(feed.fd)
            feed.stop()
        self.give_input()


def _cpu_clock(pidfd: int) -> int | None:
    """The CPU clock of a guest, by its number in this process's PID namespace.

    See clock_getcpuclockid(3); the number is what the kernel says of the pidfd.
    """
    try:
        fd = os.open(f"/proc/self/fdinfo/{pidfd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(fd, 4096)
    finally:
        os.close(fd)
    for line in text.splitlines():
        if line.startswith(b"Pid:"):
            pid = int(line[4:])
            return (~pid << 3) | 2 if pid > 0 else None
    return None
