"""The same loop and the same engine for tasks of asyncio and trio: only the waiting is another.

What: a guest's descriptors are watched by an epoll of its own, and a task awaits that one
descriptor (epoll(7): it is readable when something is found).  Because: an event loop wants to
know of one descriptor per waiter, and what there is to do is decided by ``Loop`` and ``Life``
as for a thread.  Then: no thread per guest, and what the loop has watched stays watched from
run to run.
"""

from __future__ import annotations

import errno
import math
import os
import select
import time
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel

from .blocking import USAGE_S, Loop, Steps
from .live import LiveGuest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from typing import Any

    from ..engine.life import Order
    from ..policy import Limits
    from ..result import Result
    from ..wire.limits import Budget
    from .blocking import Feed, Piece
    from .live import Listener, Listeners
    from .task_desk import TaskDesk
    from .zygotes import GuestEnds, Zygote

_WRITE_BYTES = 4096  # PIPE_BUF: a pipe that is writable takes so much at once, see pipe(7)


class Readiness:
    """``select.poll`` that itself can be waited for.

    Files and devices without a wait queue cannot be registered (EPERM), because they are always
    ready; so they are found each time.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._always: dict[int, int] = {}

    def fileno(self) -> int:
        return self._epoll.fileno()

    @property
    def ready(self) -> bool:
        """Whether something is ready without waiting."""
        return bool(self._always)

    def register(self, fd: int, eventmask: int, /) -> None:
        try:
            self._epoll.register(fd, eventmask)
        except PermissionError:
            self._always[fd] = eventmask
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            self._always[fd] = eventmask  # a closed one: reading it says so, as with poll

    def modify(self, fd: int, eventmask: int, /) -> None:
        self._epoll.modify(fd, eventmask)

    def unregister(self, fd: int, /) -> None:
        if self._always.pop(fd, None) is not None:
            return
        try:
            self._epoll.unregister(fd)
        except OSError as error:
            if error.errno not in (errno.EBADF, errno.ENOENT):  # closed by the application
                raise

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """What is ready now; there is no waiting here."""
        return [*self._always.items(), *self._epoll.poll(0)]

    def close(self) -> None:
        self._epoll.close()


class TaskLoop(Loop):
    """``Loop`` for a task: functions of the application's are called, and awaited, between rounds.

    Meanwhile the clock stands still as ever, and the guest's pipes fill up.
    """

    def __init__(
        self,
        ends: GuestEnds,
        order: Order,
        limits: Limits,
        budget: Budget,
        feed: Feed,
        on_output: Listener | None,
        zygote: Zygote,
        began: float,
        requested: float,
        *,
        keep: bool = False,
        desk: TaskDesk | None = None,
    ) -> None:
        self.readiness = Readiness()
        self._calling: anyio.CancelScope | None = None
        try:
            super().__init__(
                ends,
                order,
                limits,
                budget,
                feed,
                on_output,
                zygote,
                began,
                requested,
                keep=keep,
                poll=self.readiness,
                desk=desk,
            )
        except BaseException:
            self.readiness.close()
            raise

    def call(self, function: Callable[..., object], *arguments: object) -> None:
        """Note a call of a function of the application's."""
        self.calls.append((function, arguments))

    def stop_calling(self) -> None:
        """Cancel the function of the application's that is awaited, if any."""
        self.calls.clear()
        if self._calling is not None:
            self._calling.cancel()

    async def carry_out_calls(self) -> None:
        """Call what was noted.  What is raised there is the application's."""
        while self.calls:
            function, arguments = self.calls.pop(0)
            self.pause()
            made: Any = function(*arguments)
            if hasattr(made, "__await__"):
                try:
                    with anyio.CancelScope() as self._calling:
                        await made
                finally:
                    self._calling = None
            self.resume()
            if self.on_usage is not None:
                # After it, so that a slow one is not all that happens.
                self.usage_at = max(self.usage_at, time.monotonic() + USAGE_S)

    async def wait(self, rest_s: float, most_s: float) -> list[tuple[int, int]]:
        """Rest, wait until there is something to do, and say what the kernel has found."""
        if self.calls and not self.parking:
            await self.carry_out_calls()
            if self.life.done:
                return []
        if rest_s:
            await anyio.sleep(rest_s)
        wait_ms = self.wait_ms(most_s)
        if wait_ms == 0 or self.readiness.ready:
            await anyio.lowlevel.checkpoint()
        elif wait_ms is None:
            await anyio.wait_readable(self.readiness.fileno())
        else:
            with anyio.move_on_after(wait_ms / 1000):
                await anyio.wait_readable(self.readiness.fileno())
        return self.readiness.poll()

    def let_go(self) -> None:
        """See ``Loop.let_go``."""
        super().let_go()
        self.readiness.close()


class TaskWaiter(Steps):
    """Carries a drive on for a task: awaits.  ``Waiter`` says what each method does."""

    _loop: TaskLoop

    async def start(self) -> None:
        """See ``Waiter.start``."""
        await self._carry_on(self._has_started)
        if self.over:
            self._failure()

    async def piece(self) -> Piece | None:
        """See ``Waiter.piece``."""
        if not self._pieces and not self.over:
            await self._carry_on(self._has_a_piece)
        return self._next()

    async def finish(self) -> Result:
        """See ``Waiter.finish``."""
        self._pieces = None
        if not self.over:
            self._loop.pieces = None
            await self._carry_on(self._never)
        return self._result()

    async def leave(self) -> None:
        """See ``Waiter.leave``."""
        if not self.over:
            self._throw_left()
            await self._carry_on(self._never)
            self._failure()

    async def _carry_on(self, enough: Callable[[], bool]) -> None:
        try:
            self._resume()
            while not self.over and not enough():
                try:
                    found = await self._found(*(self._wait or (0.0, math.inf)))
                except BaseException as error:
                    self._step(self._drive.throw, error)
                else:
                    self._step(self._drive.send, found)
            self._hold()
        except BaseException:
            self.over = True
            self._drive.close()
            raise

    async def _found(self, rest_s: float, most_s: float) -> list[tuple[int, int]]:
        if not self._loop.ending:
            return await self._loop.wait(rest_s, most_s)
        with anyio.CancelScope(shield=True):
            return await self._loop.wait(rest_s, most_s)
        raise AssertionError("nobody cancels this scope")


@asynccontextmanager
async def attended(desk: TaskDesk | None) -> AsyncGenerator[None]:
    """While the calls of a guest are seen to, if it has any."""
    if desk is None:
        yield
        return
    async with desk.attending():
        yield


class TaskLive(LiveGuest):
    """One guest for tasks: whoever asks for a run awaits it."""

    _loop: TaskLoop

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
        desk: TaskDesk | None = None,
    ) -> None:
        """Ready to be started with an order that brings its settings.

        Raises ``OSError``; the ends are the caller's then.
        """
        loop = TaskLoop(
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
        self._desk = desk
        try:
            super().__init__(loop, zygote, ends)
        except BaseException:
            loop.readiness.close()
            raise

    async def start(self) -> Result:
        """Start it, and return how that run ended.  Raises ``SandboxFailure``."""
        return await TaskWaiter(self._loop, self._drive()).finish()

    @asynccontextmanager
    async def turn(
        self,
        order: Order,
        limits: Limits,
        budget: Budget,
        listeners: Listeners,
        source: Feed | None = None,
        pieces: list[Piece] | None = None,
    ) -> AsyncGenerator[TaskWaiter]:
        """One run, to be carried on; it is ended when this is left.

        Whatever comes of it, cancellation included, the guest waits for another run or is gone.
        """
        drive = self._turn(order, limits, budget, listeners, source)
        async with attended(self._desk):
            waiter = TaskWaiter(self._loop, drive, pieces)
            try:
                yield waiter
            finally:
                await waiter.leave()

    def stop_calling(self) -> None:
        """Cancel the function of the application's that is awaited; from a task of this loop."""
        self._loop.stop_calling()

    def close(self, *, mine: bool = True) -> None:
        """As for any; the descriptor that tasks wait for goes as well."""
        super().close(mine=mine)
        self._loop.readiness.close()


async def deliver(number: int, data: bytes) -> None:
    """Write to a descriptor of this process's own, awaiting its readers."""
    view = memoryview(data)
    while view:
        room = select.poll()
        room.register(number, select.POLLOUT)
        if not room.poll(0):
            await _room(number)
        view = view[os.write(number, view[:_WRITE_BYTES]) :]


async def _room(number: int) -> None:
    # Through an epoll, since the application may be awaiting the same descriptor.
    with select.epoll() as epoll:
        epoll.register(number, select.EPOLLOUT)
        await anyio.wait_readable(epoll.fileno())
