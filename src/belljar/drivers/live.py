"""A guest that stays from run to run, driven by whichever thread or task asks for one."""

from __future__ import annotations

import math
import time

from .._record import Record
from ..engine import events as e
from ..errors import SandboxFailure, WorkerDied
from .blocking import Loop, Waiter
from .interrupts import Interrupts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from ..artifact import Artifact
    from ..engine.life import Order
    from ..policy import Limits
    from ..result import Result, UsageNow
    from ..wire.limits import Budget
    from .blocking import Drive, Feed, Found, Maker, Piece, Wait
    from .desk import Desk
    from .zygotes import GuestEnds, Work

    Listener = Callable[[str, bytes], object]
    UsageListener = Callable[[UsageNow], object]
    ArtifactListener = Callable[[Artifact], object]

# For code that is told to end because its host was: Ctrl-C, cancellation, an exception of
# on_output.
LAST_S = 1.0


class Listeners(Record):
    """The application's own functions that a run calls while it is under way."""

    on_output: Listener | None = None
    on_usage: UsageListener | None = None
    on_artifact: ArtifactListener | None = None

    def over(self, others: Listeners) -> Listeners:
        """These and, for each that is not there, that of the others."""
        return Listeners(
            self.on_output or others.on_output,
            self.on_usage or others.on_usage,
            self.on_artifact or others.on_artifact,
        )


_NOBODY = Listeners()


class LiveGuest:
    """One guest, and how it is driven, but for the waiting.  One run at a time.

    What: ``_drive`` is a generator that is suspended whenever there is nothing to do.  Because:
    a thread waits in poll, a task by awaiting, and all else is the same.  Then: each of them
    only waits, and hands in what was found or what was raised.
    """

    def __init__(self, loop: Loop, zygote: Maker, ends: GuestEnds) -> None:
        self._loop = loop
        self._zygote = zygote
        self._ends = ends
        self._closed = False
        self.interrupts = Interrupts(math.inf)
        try:
            loop.watch(self.interrupts.fd, self._interrupted)
        except BaseException:
            self.interrupts.close()
            raise

    @property
    def ends(self) -> GuestEnds:
        """The host's ends of it."""
        return self._ends

    @property
    def loop(self) -> Loop:
        """What drives it."""
        return self._loop

    @property
    def waiting(self) -> bool:
        """Whether it can take a run, as far as is known; see ``look``."""
        return not self._closed and self._loop.life.waiting

    @property
    def work(self) -> Work | None:
        """Its ``/work``; None where it has none, or is closed."""
        return self._ends.work

    def look(self) -> None:
        """Take in what has happened since the last run: the guest may be gone."""
        if not self._closed:
            # What is in the output pipes was written after the last run: it is the next one's.
            streams = [fd for _, fd in self._loop.open_streams()]
            found = self._loop.poll.poll(0)
            self._loop.round([(fd, event) for fd, event in found if fd not in streams])

    def _turn(
        self,
        order: Order,
        limits: Limits,
        budget: Budget,
        listeners: Listeners,
        source: Feed | None,
    ) -> Drive:
        """One run.  Whatever comes out, the guest waits for another run or is gone."""
        loop = self._loop
        loop.on_output, loop.on_usage = listeners.on_output, listeners.on_usage
        loop.on_artifact, loop.source = listeners.on_artifact, source
        loop.start_telling_usage()
        try:
            with self.interrupts:
                first = loop.life.begin(order, limits, budget, time.monotonic())
                return (yield from self._drive(first))
        finally:
            loop.on_output = loop.on_usage = loop.on_artifact = loop.pieces = None
            loop.forget_source()
            loop.start_telling_usage()

    def _drive(self, first: Sequence[e.Instruction] = ()) -> Drive:
        """What is under way, to its end."""
        loop = self._loop
        waiting = False  # where nothing is half done
        rest_s = 0.0
        try:
            loop.carry_out(first)
            while not loop.done:
                waiting = True
                found = yield rest_s, math.inf
                waiting = False
                rest_s = loop.go_on(found)
            return loop.result()
        except GeneratorExit:
            self._gone()  # whoever waited was interrupted between two waits
            raise
        except WorkerDied as error:
            self._zygote.close()  # nobody must be given the same one
            self._gone()
            return error
        except SandboxFailure as error:
            self._gone()
            return error
        except (OSError, MemoryError) as error:
            if loop.in_application:
                yield from self._end_softly()
                return error
            self._gone()
            from .trouble import typed

            failure = typed(error, handed_over=loop.life.wants_cpu)
            if failure is not error:
                failure.__cause__ = error
            return failure
        except BaseException as error:
            if waiting or loop.in_application:
                yield from self._end_softly()
            else:
                self._gone()
            return error

    def _end_softly(self) -> Generator[Wait, Found, None]:
        """Interrupt the code, so that the guest stays for others; kill it if it does not end."""
        loop = self._loop
        loop.on_output = loop.on_usage = loop.on_artifact = loop.pieces = None
        loop.calls.clear()
        until = time.monotonic() + LAST_S
        loop.ending = True
        try:
            loop.resume()
            if loop.collecting:
                loop.collect()  # to its end, which somebody's on_output has prevented
            loop.tell(e.Interrupted(math.inf))
            loop.end_source()  # after it, so that who waits for input is interrupted first
            rest_s = 0.0
            while not loop.done and (left := until - time.monotonic()) > 0:
                rest_s = loop.go_on((yield rest_s, left))
        finally:
            loop.ending = False
            if not loop.life.waiting or not loop.done:
                self._gone()

    def _interrupted(self, _event: int) -> None:
        self._loop.tell(self.interrupts.take())

    def _gone(self) -> None:
        self._ends.kill()
        self.close()

    def kill(self) -> None:
        """SIGKILL the guest; from any thread, while it is not being closed."""
        self._ends.kill()

    def end(self) -> None:
        """Have the run that is under way end at once, and the guest with it; from any thread."""
        self.interrupts.end()

    def close(self, *, mine: bool = True) -> None:
        """End the guest and let go of it.  ``mine``: it is not that of a forked process's parent."""
        if self._closed:
            return
        self._closed = True
        self._loop.forget_source()
        if mine:
            self._ends.kill()
            self._ends.close()
        else:
            self._ends.let_go()
        self.interrupts.close()
        if self._loop.desk is not None:
            self._loop.desk.close()


class Live(LiveGuest):
    """One guest for threads: whoever asks for a run waits in poll."""

    loop_kind: type[Loop] = Loop

    def __init__(
        self,
        zygote: Maker,
        ends: GuestEnds,
        order: Order,
        limits: Limits,
        budget: Budget,
        feed: Feed,
        began: float,
        requested: float,
        desk: Desk | None = None,
    ) -> None:
        """Ready to be started with an order that brings its settings.

        ``desk``: where host functions are called.

        Raises ``OSError`` and ``SandboxFailure``; the ends are the caller's then.
        """
        loop = self.loop_kind(
            ends,
            order,
            limits,
            budget,
            feed,
            None,
            zygote,
            began,
            requested,
            keep=True,
            desk=desk,
        )
        super().__init__(loop, zygote, ends)

    def hear_signals(self) -> None:
        """See ``Interrupts.hear_signals``; once."""
        if self.interrupts.woken is None:
            self.interrupts.hear_signals()
            if self.interrupts.woken is not None:
                self._loop.watch(self.interrupts.woken, self.interrupts.forget_signals)

    def start(self) -> Result:
        """Start it, and return how that run ended.  Raises ``SandboxFailure``."""
        return Waiter(self._loop, self._drive()).finish()

    def turn(
        self,
        order: Order,
        limits: Limits,
        budget: Budget,
        listeners: Listeners = _NOBODY,
        source: Feed | None = None,
        pieces: list[Piece] | None = None,
    ) -> Waiter:
        """One run, to be carried on.

        Whatever comes of it, the guest waits for another run or is gone.
        """
        drive = self._turn(order, limits, budget, listeners, source)
        return Waiter(self._loop, drive, pieces)
