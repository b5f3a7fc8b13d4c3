"""A guest that stays from run to run, driven by whichever thread asks for one."""

from __future__ import annotations

import math
import time

from ..engine import events as e
from ..errors import SandboxFailure, WorkerDied
from .blocking import Feed, Loop
from .interrupts import Interrupts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine.life import Order
    from ..policy import Limits
    from ..result import Result, UsageNow
    from ..wire.limits import Budget
    from .zygotes import GuestEnds, Zygote

# For code that is told to end because its host was: Ctrl-C, an exception of on_output.
LAST_S = 1.0


class Live:
    """One guest and what drives it.  One run at a time; the caller sees to that."""

    def __init__(
        self,
        zygote: Zygote,
        ends: GuestEnds,
        order: Order,
        limits: Limits,
        budget: Budget,
        feed: Feed,
        began: float,
        requested: float,
    ) -> None:
        """Start it, with an order that brings its settings.  Raises ``SandboxFailure``."""
        self._zygote = zygote
        self._ends = ends
        self._closed = False
        self.interrupts = Interrupts(math.inf)
        try:
            self._loop = Loop(
                ends, order, limits, budget, feed, None, zygote, began, requested, keep=True
            )
            self._loop.watch(self.interrupts.fd, self._interrupted)
            self.started = self._drive()
        except BaseException:
            self.close()
            raise

    def hear_signals(self) -> None:
        """See ``Interrupts.hear_signals``; once."""
        if self.interrupts.woken is None:
            self.interrupts.hear_signals()
            if self.interrupts.woken is not None:
                self._loop.watch(self.interrupts.woken, self.interrupts.forget_signals)

    @property
    def waiting(self) -> bool:
        """Whether it can take a run, as far as is known; see ``look``."""
        return not self._closed and self._loop.life.waiting

    def look(self) -> None:
        """Take in what has happened since the last run: the guest may be gone."""
        if not self._closed:
            # What is in the output pipes was written after the last run: it is the next one's.
            streams = [fd for _, fd in self._loop.open_streams()]
            found = self._loop.poll.poll(0)
            self._loop.round([(fd, event) for fd, event in found if fd not in streams])

    def turn(
        self,
        order: Order,
        limits: Limits,
        budget: Budget,
        on_output: Callable[[str, bytes], object] | None = None,
        on_usage: Callable[[UsageNow], object] | None = None,
    ) -> Result:
        """One run.  Raises ``SandboxFailure``, and what the functions raise.

        Whatever is raised, the guest waits for another run or is gone.
        """
        loop = self._loop
        loop.on_output, loop.on_usage = on_output, on_usage
        loop.start_telling_usage()
        try:
            with self.interrupts:
                loop.carry_out(loop.life.begin(order, limits, budget, time.monotonic()))
                return self._drive()
        finally:
            loop.on_output = loop.on_usage = None
            loop.start_telling_usage()

    def _drive(self) -> Result:
        loop = self._loop
        waiting = False  # in poll, where nothing is half done
        try:
            while not loop.life.done:
                timeout = loop.wait_ms()
                waiting = True
                found = loop.poll.poll(timeout)
                waiting = False
                rest_s = loop.round(found)
                if rest_s:
                    waiting = True
                    time.sleep(rest_s)
            return loop.result()
        except WorkerDied:
            self._zygote.close()  # nobody must be given the same one
            self._gone()
            raise
        except SandboxFailure:
            self._gone()
            raise
        except (OSError, MemoryError) as error:
            if loop.in_application:
                self._end_softly()
                raise
            self._gone()
            from .trouble import typed

            failure = typed(error, handed_over=loop.life.wants_cpu)
            if failure is error:
                raise
            raise failure from error
        except BaseException:
            if waiting or loop.in_application:
                self._end_softly()
            else:
                self._gone()
            raise

    def _end_softly(self) -> None:
        """Interrupt the code, so that the guest stays for others; kill it if it does not end."""
        loop = self._loop
        loop.in_application = False
        loop.on_output = loop.on_usage = None
        until = time.monotonic() + LAST_S
        try:
            loop.resume()
            if loop.collecting:
                loop.collect()  # to its end, which somebody's on_output has prevented
            loop.tell(e.Interrupted(math.inf))
            while not loop.life.done and (left := until - time.monotonic()) > 0:
                wait = loop.wait_ms()
                most = int(left * 1000) + 1
                loop.round(loop.poll.poll(most if wait is None else min(wait, most)))
        finally:
            if not loop.life.waiting:
                self._gone()

    def _interrupted(self, _event: int) -> None:
        self._loop.tell(self.interrupts.take())

    def _gone(self) -> None:
        self._ends.kill()
        self.close()

    def kill(self) -> None:
        """SIGKILL the guest; from any thread, while it is not being closed."""
        self._ends.kill()

    def close(self, *, mine: bool = True) -> None:
        """End the guest and let go of it.  ``mine``: it is not that of a forked process's parent."""
        if self._closed:
            return
        self._closed = True
        if mine:
            self._ends.kill()
            self._ends.close()
        else:
            self._ends.let_go()
        self.interrupts.close()
