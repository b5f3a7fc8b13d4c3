"""Channels: data between the host and a sandbox, or between two sandboxes that the host chose.

What: two ends, and between them a queue of encoded items for each direction.  Because: whoever
sends may be an attacker, and so may whoever does not read.  Then: a queue is bounded in items and
in bytes of an item, a guest that waits costs an entry in a line and no thread, what goes from
sandbox to sandbox is never decoded here, and an end belongs to the host or to one sandbox.

``queues`` has the queues, ``given`` what a sandbox asks of its ends.
"""

from __future__ import annotations

import _thread
import math
import os
import time

from ..errors import ChannelClosed, ClosedError, PolicyError
from ..wire.errors import NotConvertible, RemoteError
from ..wire.limits import CALL_BYTES, VALUE, Budget
from ..wire.values import decode, encode
from .queues import BROKEN, Guard, Side, Way

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType
    from typing import Any, TypeVar

    from .queues import Line, Wake

    T = TypeVar("T")

CAPACITY = 64  # as many as the wire lets wait at once
ITEM_BYTES = 2**20  # a document, a small table, a picture
MOST_CAPACITY = 2**20
MOST_ITEM_BYTES = CALL_BYTES - 2**10  # room for the name and the number of the call
DECODED = 16  # times its bytes: what an item may take when it is decoded
_LEAST_DECODED = 64 * 2**10
_LONGEST_WAIT_S = 3600.0  # of one wait of a lock; after it comes another


def channel(
    *, capacity: int = CAPACITY, item_bytes: int = ITEM_BYTES
) -> tuple[ChannelEnd, ChannelEnd]:
    """Two ends of a new channel; what is sent at one arrives at the other, in order.

        ours, theirs = belljar.channel()
        ours.send({"n": 20})
        belljar.run("jobs.send(jobs.recv()['n'] + 1)", channels={"jobs": theirs})
        ours.recv()      # 21

    Each end is the host's until it is given to one sandbox, for ever, with ``channels={...}``.

    Args:
        capacity: items that may wait in each direction, 1 .. 2**20; a sender waits when there are
            so many.
        item_bytes: the most that one item may take, encoded, 64 .. 16 MiB less 1 KiB.  The host
            holds at most ``capacity * item_bytes`` for each direction.

    Raises:
        PolicyError: an argument makes no sense; names it.
    """
    _check_whole("capacity", capacity, 1, MOST_CAPACITY)
    _check_whole("item_bytes", item_bytes, 64, MOST_ITEM_BYTES)
    guard = Guard()
    there, back = Way(capacity), Way(capacity)
    memory_bytes = min(max(DECODED * item_bytes, _LEAST_DECODED), VALUE.memory_bytes)
    budget = Budget(frame_bytes=item_bytes, memory_bytes=memory_bytes)
    first, second = Side(guard, back, there, budget), Side(guard, there, back, budget)
    return ChannelEnd(first), ChannelEnd(second)


class ChannelEnd:
    """One end of a channel, the host's own until it is given to a sandbox.

    Safe under threads, tasks of asyncio and of trio.  Closed when it is not used any more; the
    other side then takes what was sent, and gets ``ChannelClosed`` after that.  In a fork of this
    process it cannot be used.
    """

    def __init__(self, side: Side) -> None:
        """For ``channel``."""
        self._side = side

    def send(self, item: Any, timeout: float | None = None) -> None:
        """Send plain data; waits for room.

        Args:
            item: plain data, of ``item_bytes`` at most when it is encoded.
            timeout: seconds to wait for room, 0 for not at all; None: for as long as it takes.

        Raises:
            TimeoutError: there was no room; nothing was sent.
            ChannelClosed: one of the ends is closed, or its sandbox has ended.
            ClosedError: this end was given to a sandbox, or belongs to another process.
            PolicyError: the item cannot cross, or is too large; names the place.
        """
        data = self._encoded(item)
        side = self._mine()
        self._wait(lambda: side.put(data) or None, side.outward.senders, timeout)

    def recv(self, timeout: float | None = None) -> Any:
        """The next item; waits for one.

        Args:
            timeout: seconds to wait, 0 for not at all; None: for as long as it takes.

        Raises:
            TimeoutError: nothing came.
            ChannelClosed: this end is closed; or the other one is, or its sandbox has ended, and
                everything that was sent has been taken; or the other side sent what is no data.
            ClosedError: this end was given to a sandbox, or belongs to another process.
        """
        side = self._mine()
        return self._decoded(self._wait(side.take, side.inward.takers, timeout))

    async def asend(self, item: Any) -> None:
        """``send`` for a task, of asyncio or of trio; a task that is cancelled has sent nothing."""
        data = self._encoded(item)
        side = self._mine()
        await self._await(lambda: side.put(data) or None, side.outward.senders)

    async def arecv(self) -> Any:
        """``recv`` for a task, of asyncio or of trio; a task that is cancelled has taken nothing."""
        side = self._mine()
        return self._decoded(await self._await(side.take, side.inward.takers))

    def close(self) -> None:
        """The other side takes what was sent, and then gets ``ChannelClosed``.

        What was sent here and not taken is lost.  Twice is as good as once.  An end that was given
        to a sandbox is that one's to close.
        """
        side = self._side
        if side.pid == os.getpid():
            with side.guard:
                if not side.given:
                    side.close()

    @property
    def closed(self) -> bool:
        """Whether this end is closed, or its sandbox has ended.  Of the other one it says nothing."""
        return self._side.closed

    def __enter__(self) -> ChannelEnd:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> ChannelEnd:
        return self

    def __next__(self) -> Any:
        try:
            return self.recv()
        except ChannelClosed:
            raise StopIteration from None

    def __aiter__(self) -> ChannelEnd:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self.arecv()
        except ChannelClosed:
            raise StopAsyncIteration from None

    def __del__(self) -> None:
        side: Side | None = getattr(self, "_side", None)
        if side is not None and not side.given and side.pid == os.getpid():
            side.guard.later(side.close)

    def __repr__(self) -> str:
        side = self._side
        state = "closed" if side.closed else "given to a sandbox" if side.given else "open"
        return f"<belljar.ChannelEnd {state}>"

    def __reduce__(self) -> Any:
        raise TypeError("a ChannelEnd cannot be copied or pickled")

    # --- steps ------------------------------------------------------------------------------

    def _mine(self) -> Side:
        side = self._side
        if side.pid != os.getpid():
            raise ClosedError("this end belongs to the process that this one was forked from")
        return side

    def _encoded(self, item: object) -> bytes:
        try:
            return bytes(encode(item, self._side.budget))
        except NotConvertible as error:
            raise PolicyError("item", str(error)) from None

    def _decoded(self, item: bytes) -> Any:
        side = self._side
        try:
            return decode(item, side.budget)
        except RemoteError:
            with side.guard:
                side.broken = True
                side.close()
            raise ChannelClosed(BROKEN) from None

    def _attempt(self, attempt: Callable[[], T | None], line: Line, wake: Wake | None) -> T | None:
        """Try, and get in line where that is of no avail."""
        side = self._side
        with side.guard:
            if side.given:
                raise ClosedError("this end was given to a sandbox")
            found = attempt()
            if found is None and wake is not None:
                line.join(wake)
            return found

    def _wait(self, attempt: Callable[[], T | None], line: Line, timeout: float | None) -> T:
        until = _until(timeout)
        while True:
            woken = _thread.allocate_lock()
            woken.acquire()
            wake = None if until <= time.monotonic() else woken.release
            found = self._attempt(attempt, line, wake)
            if found is not None:
                return found
            if wake is None:
                raise TimeoutError("the other side was not ready in time")
            came = False
            try:
                left = min(until - time.monotonic(), _LONGEST_WAIT_S)
                came = woken.acquire(timeout=max(left, 0))
            finally:
                if not came:
                    with self._side.guard:
                        line.leave(wake, self._side.guard)

    async def _await(self, attempt: Callable[[], T | None], line: Line) -> T:
        checkpoint, make = _loop_of_the_task()
        await checkpoint()  # so that what is always ready starves nobody
        while True:
            wake, wait = make()
            found = self._attempt(attempt, line, wake)
            if found is not None:
                return found
            came = False
            try:
                await wait()
                came = True
            finally:
                if not came:
                    with self._side.guard:
                        line.leave(wake, self._side.guard)


def _loop_of_the_task() -> tuple[
    Callable[[], Awaitable[object]],
    Callable[[], tuple[Wake, Callable[[], Awaitable[object]]]],
]:
    """For the library that runs this task: a moment for others, and something to wait for."""
    import asyncio

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _trio()

    def make() -> tuple[Wake, Callable[[], Awaitable[object]]]:
        came: asyncio.Future[None] = loop.create_future()

        def settle() -> None:
            if not came.done():
                came.set_result(None)

        def wake() -> None:
            try:
                loop.call_soon_threadsafe(settle)
            except RuntimeError:
                return  # the loop is closed: nobody waits

        async def wait() -> None:
            await came

        return wake, wait

    return lambda: asyncio.sleep(0), make


def _trio() -> tuple[
    Callable[[], Awaitable[object]],
    Callable[[], tuple[Wake, Callable[[], Awaitable[object]]]],
]:
    from importlib import import_module

    trio: Any = import_module("trio")
    token: Any = trio.lowlevel.current_trio_token()

    def make() -> tuple[Wake, Callable[[], Awaitable[object]]]:
        event: Any = trio.Event()

        def wake() -> None:
            try:
                token.run_sync_soon(event.set)
            except trio.RunFinishedError:
                return  # nobody waits

        return wake, event.wait

    return trio.lowlevel.checkpoint, make


def _until(timeout: float | None) -> float:
    if timeout is None:
        return math.inf
    fits = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)  # pyright: ignore[reportUnnecessaryIsInstance]
    if not fits or not timeout >= 0:
        raise PolicyError("timeout", f"expected seconds, 0 or more, got {timeout!r}")
    return time.monotonic() + timeout


def _check_whole(key: str, value: object, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise PolicyError(key, f"{value!r} is no int from {least} to {most}")
