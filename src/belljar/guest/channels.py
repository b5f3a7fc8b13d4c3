"""Channels as the code sees them: objects of the module ``belljar.channels``.

What: an item is asked for by a call that the host answers when there is one; whoever waits for it
waits here.  Because: a task may be cancelled and a time may run out while the answer is on its
way.  Then: what has come is kept for whoever wants the next item, and nothing is lost by it.

The host says how many items may be sent in all (credit, as in HTTP/2 and QUIC), so that a sender
waits for room before the item has left, and has sent nothing when it waits no more.
"""

from __future__ import annotations

import _thread
import posix
import sys
import time

from ..wire.errors import NotConvertible, RemoteError, TooLarge
from ..wire.limits import Budget
from ..wire.values import decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from ..wire.events import Returned
    from .link import Link

    Wake = Callable[[], object]

MODULE = "belljar.channels"
_CROWDED_S = 0.002
_ALWAYS = float("inf")
_now = time.monotonic
_nothing = encode(None)
_CLOSED, _OWN = "the other side is closed", "this end is closed"
_BROKEN = "the other side has sent what is no data, or too much of it"


class ChannelClosed(EOFError):
    """Nothing more will come through this channel: one of its ends is closed."""


ChannelClosed.__module__ = "belljar"


class _Nobody:
    """No item: an item may be None."""


_none: Any = _Nobody()


def install(link: Link, settings: list[list[Any]], public: ModuleType) -> dict[str, Any]:
    """Make the ends; they are in ``belljar.channels`` and in what is returned."""
    module: Any = type(sys)(MODULE, "Ends of channels that this sandbox was given.")
    made = {name: ChannelEnd(link, name, *rest) for name, *rest in settings}
    module.__dict__.update(made, __all__=list(made))
    sys.modules[MODULE] = module
    public.__dict__.update(channels=module, ChannelClosed=ChannelClosed)
    return made


class ChannelEnd:
    """One end of a channel.  Safe under threads and tasks, many of which may wait at once.

    send(item, timeout=None)   plain data; waits for room.  TimeoutError: nothing was sent
    recv(timeout=None)         the next item; waits for one
    asend(item), arecv()       the same for tasks of asyncio
    close()                    the other side takes what was sent, and then gets ChannelClosed

    Iteration, with ``for`` and ``async for``, goes on until the other side is closed.
    """

    def __init__(
        self, link: Link, name: str, item_bytes: int, memory_bytes: int, credit: int
    ) -> None:
        self._link = link
        self._name = name
        self._budget = Budget(frame_bytes=item_bytes, memory_bytes=memory_bytes)
        self._lock = _thread.RLock()
        # Lists, because the module of deque would cost each zygote a millisecond.
        self._inbox: list[Any] = []
        self._asked = False  # for an item
        self._takers: list[Wake] = []
        self._credit = credit
        self._sent = 0
        self._room_asked = False
        self._senders: list[Wake] = []
        self._drained = False  # no item will come any more
        self._deaf = False  # nobody will take one any more
        self._closed = ""

    # --- for threads ------------------------------------------------------------------------

    def send(self, item: Any, timeout: float | None = None) -> None:
        """Send plain data; waits for room, for ``timeout`` seconds at most, 0 for not at all.

        Raises TimeoutError when there was no room, and ChannelClosed.
        """
        data = self._encoded(item)
        until = _until(timeout)
        try:
            while not self._take_room():
                self._ask_room(self._link.ask)
                if _now() >= until:
                    self._look()
                    if self._take_room():
                        break
                    if self._room_asked:
                        raise TimeoutError(f"{self._name}: there was no room in time")
                    continue
                self._pause(self._senders, self._may_send, until)
        except BaseException:
            self._call(self._senders)  # whose turn it was passes it on
            raise
        self._send(data)

    def recv(self, timeout: float | None = None) -> Any:
        """The next item; waits for one, for ``timeout`` seconds at most, 0 for not at all.

        Raises TimeoutError when nothing came, and ChannelClosed when nothing will.
        """
        self._check()
        until = _until(timeout)
        at_once = timeout is not None and timeout <= 0
        try:
            while (found := self._take()) is _none:
                if _now() >= until and not at_once:
                    raise TimeoutError(f"{self._name}: nothing came in time")
                self._ask_item(self._link.ask)
                if not at_once:
                    self._pause(self._takers, self._may_take, until)
                    continue
                self._look()
                found = self._take()
                if found is not _none:
                    break
                if self._asked:
                    raise TimeoutError(f"{self._name}: there was nothing")
        except BaseException:
            self._call(self._takers)
            raise
        return found

    # --- for tasks --------------------------------------------------------------------------

    async def asend(self, item: Any) -> None:
        """``send`` for a task.  One that is cancelled while it waits for room has sent nothing."""
        data = self._encoded(item)
        try:
            while not self._take_room():
                await self._ask_later(self._ask_room)
                await self._pause_task(self._senders, self._may_send)
        except BaseException:
            self._call(self._senders)
            raise
        await self._send_later(data)

    async def arecv(self) -> Any:
        """``recv`` for a task.  One that is cancelled leaves the item to whoever comes next."""
        import asyncio

        self._check()
        await asyncio.sleep(0)  # so that what is always ready starves nobody
        try:
            while (found := self._take()) is _none:
                await self._ask_later(self._ask_item)
                await self._pause_task(self._takers, self._may_take)
        except BaseException:
            self._call(self._takers)
            raise
        return found

    # --- for both ---------------------------------------------------------------------------

    def close(self) -> None:
        """The other side takes what was sent, and then gets ChannelClosed."""
        self._close(_OWN)

    @property
    def closed(self) -> bool:
        """Whether this end is closed, or nothing will come from the other one any more."""
        return bool(self._closed) or (self._drained and not self._inbox)

    def __enter__(self) -> ChannelEnd:
        return self

    def __exit__(self, *_: object) -> None:
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

    def __repr__(self) -> str:
        return f"<belljar channel {self._name!r}{' closed' if self.closed else ''}>"

    def __reduce__(self) -> Any:
        raise TypeError("an end of a channel cannot be copied or pickled")

    # --- items that come --------------------------------------------------------------------

    def _take(self) -> Any:
        with self._lock:
            if self._closed:
                raise ChannelClosed(f"{self._name}: {self._closed}")
            if not self._inbox:
                if self._drained:
                    raise ChannelClosed(f"{self._name}: {_CLOSED}")
                return _none
            item = self._inbox.pop(0)
        self._call(self._takers)  # who asks for the next one
        try:
            return decode(item, self._budget)
        except RemoteError:
            self._close(_BROKEN)
            raise ChannelClosed(f"{self._name}: {_BROKEN}") from None

    def _may_take(self) -> bool:
        return bool(self._inbox or self._drained or self._closed or not self._asked)

    def _ask_item(self, ask: Callable[..., Any]) -> bool:
        """Whether it is asked for, or need not be."""
        with self._lock:
            if self._asked or self._inbox or self._drained or self._closed:
                return True
            self._asked = True
        asked = False
        try:
            asked = bool(ask(f"{self._name}.recv", _nothing, self._told_item) != 0)
        finally:
            if not asked:
                self._asked = False
        return asked

    def _told_item(self, returned: Returned) -> None:
        with self._lock:
            self._asked = False
            if returned.value is not None:
                if not self._closed:
                    self._inbox.append(returned.value)
            elif returned.error_type == "EOFError":
                self._drained = True
        self._call(self._takers, everybody=self._drained)

    # --- items that go ----------------------------------------------------------------------

    def _take_room(self) -> bool:
        with self._lock:
            if self._closed or self._deaf:
                raise ChannelClosed(f"{self._name}: {self._closed or _CLOSED}")
            if self._sent >= self._credit:
                return False
            self._sent += 1
            return True

    def _may_send(self) -> bool:
        over = self._deaf or self._closed or not self._room_asked
        return bool(over or self._sent < self._credit)

    def _ask_room(self, ask: Callable[..., Any]) -> bool:
        """Whether it is asked for, or need not be."""
        with self._lock:
            if self._room_asked or self._deaf or self._closed or self._sent < self._credit:
                return True
            self._room_asked = True
        asked = False
        try:
            asked = bool(ask(f"{self._name}.room", _nothing, self._told_room) != 0)
        finally:
            if not asked:
                self._room_asked = False
        return asked

    def _told_room(self, returned: Returned) -> None:
        self._room_asked = False
        self._note_room(returned)
        # One for each place; whoever finds none waits again.
        self._call(self._senders, everybody=True)

    def _note_room(self, returned: Returned) -> None:
        with self._lock:
            if returned.value is not None:
                credit: int = decode(returned.value, self._budget)
                self._credit = max(self._credit, credit)
            elif returned.error_type == "EOFError":
                self._deaf = True

    def _send(self, data: Any) -> None:
        thread = _thread.get_ident()
        answers: list[Returned] = []

        def told(returned: Returned) -> None:
            self._note_room(returned)
            answers.append(returned)
            self._link.wake(thread)
            self._call(self._senders)

        try:
            self._link.ask(f"{self._name}.send", data, told)
        except BaseException:
            if not answers and not self._link.is_asked(told):
                self._give_room_back()
            raise
        self._link.wait(lambda: bool(answers))
        self._sent_or_raise(answers[0])

    async def _send_later(self, data: Any) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        answer: Any = loop.create_future()
        settle = _settling(loop, answer)

        def told(returned: Returned) -> None:
            self._note_room(returned)
            settle(returned)
            self._call(self._senders)

        try:
            while self._link.call_later(f"{self._name}.send", data, told) is None:
                await asyncio.sleep(_CROWDED_S)
        except BaseException:
            if not answer.done() and not self._link.is_asked(told):
                self._give_room_back()
            raise
        self._sent_or_raise(await answer)

    def _give_room_back(self) -> None:
        with self._lock:
            self._sent -= 1
        self._call(self._senders)

    def _sent_or_raise(self, returned: Returned) -> None:
        # InterruptedError: the run was over before the answer; the item had gone.
        if returned.value is None and returned.error_type != "InterruptedError":
            if returned.error_type == "EOFError":
                raise ChannelClosed(f"{self._name}: {_CLOSED}")
            raise RuntimeError(f"{self._name}: {returned.message}")

    # --- waiting ----------------------------------------------------------------------------

    def _pause(self, line: list[Wake], ready: Callable[[], bool], until: float) -> None:
        thread = _thread.get_ident()

        def wake() -> None:
            self._link.wake(thread)

        line.append(wake)
        try:
            self._link.wait(ready, until)
        finally:
            _leave(line, wake)

    async def _pause_task(self, line: list[Wake], ready: Callable[[], bool]) -> None:
        import asyncio

        loop = asyncio.get_running_loop()
        came: Any = loop.create_future()
        settle = _settling(loop, came)

        def wake() -> None:
            settle(None)

        line.append(wake)
        try:
            if not ready():
                self._link.read_for_tasks()
                await came
        finally:
            _leave(line, wake)

    async def _ask_later(self, ask: Callable[[Callable[..., Any]], bool]) -> None:
        import asyncio

        def call_later(*call: Any) -> int:
            return self._link.call_later(*call) or 0

        while not ask(call_later):
            await asyncio.sleep(_CROWDED_S)

    def _look(self) -> None:
        """Until the host has seen to what was asked before."""
        thread = _thread.get_ident()
        answers: list[Returned] = []

        def told(returned: Returned) -> None:
            answers.append(returned)
            self._link.wake(thread)

        self._link.ask(f"{self._name}.look", _nothing, told)
        self._link.wait(lambda: bool(answers))

    def _call(self, line: list[Wake], *, everybody: bool = False) -> None:
        """Have the next one look."""
        while True:
            try:
                wake = line.pop(0)
            except IndexError:
                return
            wake()
            if not everybody:
                return

    # --- the rest ---------------------------------------------------------------------------

    def _close(self, why: str) -> None:
        self._check()
        with self._lock:
            if self._closed:
                return
            self._closed = why
            self._inbox.clear()
        self._call(self._takers, everybody=True)
        self._call(self._senders, everybody=True)
        self._link.ask(f"{self._name}.close", _nothing, _ignore)

    def _check(self) -> None:
        if posix.getpid() != self._link.owner:
            raise RuntimeError(f"{self._name}: only the sandbox's first process can use it")

    def _encoded(self, item: object) -> Any:
        self._check()
        try:
            return encode(item, self._budget)
        except TooLarge as error:
            raise ValueError(f"{self._name}: {error}") from None
        except NotConvertible as error:
            raise TypeError(f"{self._name}: {error}") from None


def _ignore(_returned: Returned) -> None:
    """Nobody waits for it."""


def _leave(line: list[Wake], wake: Wake) -> None:
    try:
        line.remove(wake)
    except ValueError:
        return  # it was called


def _settling(loop: Any, future: Any) -> Callable[[Any], None]:
    """What hands a future of this loop its result, from any thread."""

    def settle(value: Any) -> None:
        if not future.done():
            future.set_result(value)

    def hand_over(value: Any) -> None:
        try:
            loop.call_soon_threadsafe(settle, value)
        except RuntimeError:
            return  # the loop is closed: nobody waits

    return hand_over


def _until(timeout: float | None) -> float:
    if timeout is None:
        return _ALWAYS
    if not timeout >= 0:
        raise ValueError(f"expected seconds, 0 or more, got {timeout!r}")
    return _now() + timeout
