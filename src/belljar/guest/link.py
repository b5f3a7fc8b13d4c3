"""The link to the host, shared by the threads of the code: who writes, who reads, who waits.

What: frames are made and written under one lock; whoever waits for something from the host and
finds nobody reading reads for all (leader and followers: Schmidt et al., "Leader/Followers",
PLoP 2000).  Because: a thread that does nothing but read would cost each call two changes of
thread, and one of the threads that the policy allows.  Then: one thread that calls a host function
writes, reads and goes on; with several, each is woken by whoever reads its answer.

Not a wall: the code can write to the link what it likes, and the host is prepared for it.
"""

from __future__ import annotations

import _thread
import os
import posix
import select
import time

from ..wire.connection import Connection
from ..wire.events import Call, Finished, Hold, HostCall, Pour, Returned, Room, Run, Taken
from ..wire.limits import CALLS, CALLS_BYTES
from . import bulk, ending
from .outgoing import Outgoing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..wire.bulk import Outgoing as Parts
    from ..wire.events import Event

_READ_BYTES = 1 << 16
_LONGEST_WAIT_S = 3600.0  # of one wait; after it comes another
_ALWAYS = float("inf")
_now = time.monotonic
_get_ident = _thread.get_ident
_exit = posix._exit  # pyright: ignore[reportPrivateUsage] - bound now, because the code may put anything in its place
_NONE = Returned(1, error_type="-")  # no answer yet


class Link:
    """One link, for the life of the guest."""

    def __init__(self, fd: int, read: Callable[[int, int], bytes] = os.read) -> None:
        os.set_inheritable(fd, False)  # a program that the guest starts has no business with it
        self.fd = fd
        self._read = read
        self.renew()

    def renew(self) -> None:
        """Begin anew: in a copy of this process, which has a link of its own in this one's place."""
        fd = self.fd
        self.owner = posix.getpid()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._connection = Connection("guest")
        self._outgoing = Outgoing(fd, self._connection)
        self._speaking = self._outgoing.lock  # around the connection, and writing
        self._reading = _thread.allocate_lock()
        self._waiting: list[_thread.LockType] = []
        self._orders: list[Event] = []
        self._answers: dict[int, Returned] = {}  # of calls that wait, ``_NONE`` until it came
        self._told: dict[int, Callable[[Returned], object]] = {}  # or who is told of it
        self._wakes: dict[int, _thread.LockType] = {}
        self._last_id = 0
        self._crowded: list[int] = []  # the threads that wait for room to call
        self._inside: set[int] = set()  # the threads that are in here, calling
        self._running = False  # a run is under way: there may be calls
        self._reader = False  # a thread that reads for tasks is there
        self._taken: bool | None = None  # whether the host has what was held
        self.ended = False

    @property
    def mine(self) -> bool:
        """Whether this is the process that the host talks to, and not a fork of it."""
        return self._outgoing.mine

    # --- the agent's own --------------------------------------------------------------------

    def speak(self, event: Event) -> None:
        """See ``Outgoing.speak``."""
        mine = _get_ident()
        outermost = mine not in self._inside
        self._inside.add(mine)  # a finaliser that calls now would wait for us
        try:
            with self._speaking:
                self._outgoing.speak(event)
                if isinstance(event, Finished):
                    self._running = False  # calls have to wait for the next run
        finally:
            if outermost:
                self._inside.discard(mine)

    def hold(self, run_id: int, parts: Parts) -> bool:
        """Let the host copy large parts of the value; whether it has."""
        self._taken = None
        self.speak(Hold(run_id, bulk.addresses(parts), tuple(parts.sizes)))
        mine = _get_ident()
        self._inside.add(mine)
        try:
            self._wait(lambda: self._taken is not None)
        finally:
            self._inside.discard(mine)
        return bool(self._taken)

    def next_order(self) -> Event | None:
        """What the host wants next; None when it has closed the link."""
        mine = _get_ident()
        self._inside.add(mine)
        try:
            while not self._orders:
                if self.ended:
                    return None
                self._wait(lambda: bool(self._orders) or self.ended)
            return self._orders.pop(0)
        finally:
            self._inside.discard(mine)

    # --- calls ------------------------------------------------------------------------------

    def call(self, function: str, arguments: Any) -> Returned:
        """Call a host function and wait for what it comes to; from any thread.

        Raises ``RuntimeError`` in what a signal or the collector has started amidst another call
        of this thread: it would wait for a lock that it holds itself.
        """
        mine = _get_ident()
        if mine in self._inside:
            raise RuntimeError(f"{function}: this thread is in the middle of another call")
        call_id = 0
        try:
            if not ending.in_main_thread():
                self._inside.add(mine)
                call_id = self._post_when_possible(function, arguments)
                self._wait(self._is_answered(call_id), call_id)
                return self._answers[call_id]
            while True:
                with ending.Undisturbed() as signals:
                    self._inside.add(mine)
                    try:
                        call_id = call_id or self._post_when_possible(function, arguments, signals)
                        if call_id:
                            answered = self._is_answered(call_id)
                            self._wait(answered, call_id, signals)
                            if answered():
                                return self._answers[call_id]
                    finally:
                        self._inside.discard(mine)
                # A signal came, and its handler has not raised: the call goes on.
        finally:
            self._inside.discard(mine)
            self._answers.pop(call_id, None)

    def _is_answered(self, call_id: int) -> Callable[[], bool]:
        return lambda: self._answers[call_id] is not _NONE

    def call_later(
        self, function: str, arguments: Any, told: Callable[[Returned], object]
    ) -> int | None:
        """Call a host function; ``told`` hears what it comes to, on a thread of ours.

        None where there is no room for another call just now.
        """
        mine = _get_ident()
        if mine in self._inside:
            raise RuntimeError(f"{function}: this thread is in the middle of another call")
        call_id = None
        try:
            if not ending.in_main_thread():
                self._inside.add(mine)
                return self._post_for_tasks(function, arguments, told)
            with ending.Undisturbed():
                self._inside.add(mine)
                try:
                    call_id = self._post_for_tasks(function, arguments, told)
                finally:
                    self._inside.discard(mine)
        except BaseException:
            self.forget(call_id or 0)
            raise
        finally:
            self._inside.discard(mine)
        return call_id

    def _post_for_tasks(
        self, function: str, arguments: Any, told: Callable[[Returned], object]
    ) -> int | None:
        call_id = self._post(function, arguments, told)
        if call_id is not None:
            try:
                self.read_for_tasks()
            except BaseException:
                self.forget(call_id)
                raise
        return call_id

    def read_for_tasks(self) -> None:
        """See to it that answers are read although no thread of the code waits for one."""
        with self._speaking:
            start, self._reader = not self._reader, True
        if start:
            try:
                _thread.start_new_thread(self._read_for_tasks, ())
            except BaseException:
                self._reader = False
                raise

    # --- what is asked for and may be answered later ------------------------------------------

    def ask(self, function: str, arguments: Any, told: Callable[[Returned], object]) -> None:
        """Call a host function; whoever waits next hears of the answer.  From any thread."""
        if not ending.in_main_thread():
            self._post_when_possible(function, arguments, None, told)
            return
        asked = 0
        while not asked:
            with ending.Undisturbed() as signals:
                asked = self._post_when_possible(function, arguments, signals, told)

    def wait(self, ready: Callable[[], bool], until: float = _ALWAYS) -> None:
        """Until it is so, or that time has come; from any thread.  ``wake`` makes it look."""
        key = -_thread.get_ident()  # no number of a call
        if not ending.in_main_thread():
            self._wait(ready, key, None, until)
            return
        while not ready() and _now() < until:
            with ending.Undisturbed() as signals:
                self._wait(ready, key, signals, until)

    def is_asked(self, told: Callable[[Returned], object]) -> bool:
        """Whether ``told`` may still hear of an answer."""
        return told in list(self._told.values())

    def wake(self, thread: int) -> None:
        """This thread has something to look at, if it waits."""
        wake = self._wakes.get(-thread)
        if wake is not None:
            _wake(wake)

    def forget(self, call_id: int) -> None:
        """Nobody waits for it any more."""
        self._told.pop(call_id, None)

    def _read_for_tasks(self) -> None:
        self._inside.add(_get_ident())
        try:
            while True:
                self._wait(lambda: not self._told)
                with self._speaking:
                    if not self._told:
                        self._reader = False
                        return
        except BaseException:
            self._reader = False
            raise
        finally:
            self._inside.discard(_get_ident())

    def _post_when_possible(
        self,
        function: str,
        arguments: Any,
        signals: ending.Undisturbed | None = None,
        told: Callable[[Returned], object] | None = None,
    ) -> int:
        """The number of the call; 0 where a signal came before there was room."""
        while True:
            call_id = self._post(function, arguments, told)
            if call_id is not None:
                return call_id
            mine = _get_ident()
            self._crowded.append(mine)
            try:
                self._wait(lambda: self._has_room(len(arguments)), 0, signals)
            finally:
                self._crowded.remove(mine)
            if signals is not None and signals.came:
                return 0

    def _has_room(self, size: int) -> bool:
        number, taken = self._connection.calls
        return self._running and number < CALLS and taken + size <= CALLS_BYTES

    def _post(
        self, function: str, arguments: Any, told: Callable[[Returned], object] | None
    ) -> int | None:
        with self._speaking:
            if not self._has_room(len(arguments)):
                return None
            self._last_id = call_id = self._last_id + 1
            if told is None:
                self._answers[call_id] = _NONE
            else:
                self._told[call_id] = told
            try:
                self._outgoing.speak(HostCall(call_id, function, arguments))
            except BaseException:
                self._answers.pop(call_id, None)
                self._told.pop(call_id, None)
                raise
            return call_id

    # --- reading for all ----------------------------------------------------------------------

    def _wait(
        self,
        ready: Callable[[], bool],
        call_id: int = 0,
        signals: ending.Undisturbed | None = None,
        until: float = _ALWAYS,
    ) -> None:
        """Until it is so, or a signal or the time has come; whoever finds nobody reading reads."""
        mine = _thread.allocate_lock()
        mine.acquire()
        self._waiting.append(mine)
        if call_id:
            self._wakes[call_id] = mine
        try:
            while not ready():
                if (signals is not None and signals.came) or _left(until) == 0:
                    return
                if self._reading.acquire(blocking=False):
                    try:
                        self._read_until(ready, signals, until)
                    finally:
                        self._reading.release()
                elif signals is None:
                    mine.acquire(timeout=_left(until))
                else:
                    signals.wait(lambda: mine.acquire(timeout=_left(until)))
        finally:
            self._wakes.pop(call_id, None)
            self._waiting.remove(mine)
            if not self._reading.locked():
                for other in self._waiting[:1]:
                    _wake(other)

    def _read_until(
        self, ready: Callable[[], bool], signals: ending.Undisturbed | None, until: float
    ) -> None:
        while not ready():
            if until != _ALWAYS:
                if not self._arrives(signals, until):
                    if (signals is not None and signals.came) or _left(until) == 0:
                        return
                    continue
            elif signals is not None:
                # Reading itself must not be cut short: what was read would be lost.
                signals.wait(self._poll.poll)
                if signals.came:
                    return
            data = self._read(self.fd, _READ_BYTES)
            if not data:
                self.ended = True
                if not ready():
                    _exit(0)  # the host is gone, and with it whoever could answer
                return
            with self._speaking:
                events = self._connection.receive_data(memoryview(data))
                self._running = self._running or any(isinstance(e, (Run, Call)) for e in events)
            for event in events:
                self._take(event)

    def _arrives(self, signals: ending.Undisturbed | None, until: float) -> bool:
        """Whether there is something to read; waits for that, a signal or the time."""
        found: list[Any] = []
        ms = int(_left(until) * 1000) + 1
        if signals is None:
            found = self._poll.poll(ms)
        else:
            signals.wait(lambda: found.extend(self._poll.poll(ms)))
        return bool(found)

    def _take(self, event: Event) -> None:
        if isinstance(event, Pour):
            self._receive(event)
            return
        if isinstance(event, Taken):
            self._taken = event.whole
            self._wake_all()
            return
        if not isinstance(event, Returned):
            self._orders.append(event)
            self._wake_all()
            return
        told = self._told.pop(event.call_id, None)
        if told is not None:
            told(event)
        elif event.call_id in self._answers:
            self._answers[event.call_id] = event
            wake = self._wakes.get(event.call_id)
            if wake is not None:
                _wake(wake)
        if self._crowded or (told is not None and not self._told):
            self._wake_all()

    def _wake_all(self) -> None:
        for each in list(self._waiting):
            _wake(each)

    def _receive(self, event: Pour) -> None:
        """Large parts of the next order, as bare bytes; nothing else comes meanwhile."""
        self.speak(Room())
        poured = bulk.receive(self.fd, event.sizes)
        if poured is None:
            _exit(0)  # the host is gone
        with self._speaking:
            self._connection.expect(poured)


def _left(until: float) -> float:
    """For how long a lock may be waited for; -1 for as long as it takes."""
    return -1 if until == _ALWAYS else min(max(until - _now(), 0.0), _LONGEST_WAIT_S)


def _wake(lock: _thread.LockType) -> None:
    try:
        lock.release()
    except RuntimeError:
        return  # it is awake already
