"""The queues of a channel: one for each direction, and the lines of those who wait at it.

What: encoded items, bounded in number; a lock; who is to be woken.  Because: threads, tasks of
event loops and guests wait at the same queue, each in its own way.  Then: whoever waits leaves
something to call, and it is called when the lock is free.
"""

from __future__ import annotations

import _thread
import os
from collections import deque

from ..errors import ChannelClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..wire.limits import Budget

    Wake = Callable[[], object]

CLOSED = "the other side is closed"
OWN = "this end is closed"
BROKEN = "the other side has sent what is no data, or too much of it"


class Guard:
    """The lock around one channel; whoever is to be woken is woken when it is free again.

    What: a thread may take it again, and a finaliser leaves its work to another thread that has
    it.  Because: signal handlers and the collector come at any place, within this lock as well.
    Then: neither ever waits for itself, and what is done within bears being done in between.
    """

    def __init__(self) -> None:
        self._lock = _thread.RLock()
        self._left: deque[Callable[[], object]] = deque()
        self.wakes: list[Wake] = []

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._release()
        self._do_left()

    def later(self, work: Callable[[], object]) -> None:
        """Do it as soon as may be, without waiting."""
        self._left.append(work)
        self._do_left()

    def _release(self) -> None:
        wakes, self.wakes = self.wakes, []
        self._lock.release()
        for wake in wakes:
            wake()

    def _do_left(self) -> None:
        while self._left and self._lock.acquire(False):
            try:
                while self._left:
                    self._left.popleft()()
            finally:
                self._release()


class Line:
    """Who waits, first come, first served."""

    def __init__(self) -> None:
        self._waiting: deque[Wake] = deque()

    def join(self, wake: Wake) -> None:
        self._waiting.append(wake)

    def leave(self, wake: Wake, guard: Guard) -> None:
        """Wait no more.  Whose turn it was already passes it on."""
        try:
            self._waiting.remove(wake)
        except ValueError:
            self.call(guard)

    def call(self, guard: Guard, *, everybody: bool = False) -> None:
        """The next one's turn."""
        try:
            guard.wakes.append(self._waiting.popleft())
            while everybody:
                guard.wakes.append(self._waiting.popleft())
        except IndexError:
            return


class Way:
    """One direction: what was sent and not taken yet."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.items: deque[bytes] = deque()
        self.put = 0
        self.taken = 0
        self.ended = False  # nothing more will be sent
        self.deaf = False  # nothing more will be taken
        self.takers = Line()
        self.senders = Line()


class Side:
    """What an end is made of, the host's or a sandbox's.  All of it within the guard."""

    def __init__(self, guard: Guard, inward: Way, outward: Way, budget: Budget) -> None:
        self.guard = guard
        self.inward = inward
        self.outward = outward
        self.budget = budget
        self.closed = False
        self.broken = False
        self.given = False
        self.pid = os.getpid()
        self._put_before = 0  # by the host, before it was given to a sandbox
        self.told = 0  # how many items the sandbox knows that it may send in all

    def give(self) -> str:
        """To a sandbox, if it can be: why it cannot, or nothing."""
        if self.given:
            return "it was given to a sandbox before"
        if self.closed:
            return "it is closed"
        self.given = True
        self._put_before = self.outward.put
        self.told = self.may_send
        # The host's own threads that wait here are told that it is not theirs any more.
        self.inward.takers.call(self.guard, everybody=True)
        self.outward.senders.call(self.guard, everybody=True)
        return ""

    def take_back(self) -> None:
        """It was not given after all."""
        self.given = False

    @property
    def may_send(self) -> int:
        """How many items in all, since it was given."""
        return self.outward.taken + self.outward.capacity - self._put_before

    def put(self, item: bytes) -> bool:
        """Whether there was room.  Raises ``ChannelClosed``."""
        way = self.outward
        if self.closed:
            raise ChannelClosed(OWN)
        if way.deaf:
            raise ChannelClosed(CLOSED)
        if len(way.items) >= way.capacity:
            return False
        way.items.append(item)
        way.put += 1
        way.takers.call(self.guard)
        return True

    def take(self) -> bytes | None:
        """The next item, if there is one.  Raises ``ChannelClosed``."""
        way = self.inward
        if self.closed:
            raise ChannelClosed(BROKEN if self.broken else OWN)
        try:
            item = way.items.popleft()
        except IndexError:
            if way.ended:
                raise ChannelClosed(CLOSED) from None
            return None
        way.taken += 1
        way.senders.call(self.guard)
        return item

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.outward.ended = self.inward.deaf = True
        self.inward.items.clear()
        for way in (self.outward, self.inward):
            way.takers.call(self.guard, everybody=True)
            way.senders.call(self.guard, everybody=True)
