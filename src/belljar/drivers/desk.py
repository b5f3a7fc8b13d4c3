"""Where the calls of a guest are carried out: on the caller's thread, in others, in event loops.

What: takes the engine's ``Invoke`` and ``Abandon``, and has ``Answered`` and ``Revoked`` for it.
Because: a function may take long, and be revoked meanwhile from any thread.  Then: what other
threads have to say is queued, and a descriptor wakes the loop that drives the guest.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections import deque

from ..broker.functions import Call
from ..engine.calls import Calls
from ..engine.events import Answered, Revoked

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ..broker.functions import Functions
    from ..broker.given import Asked
    from ..engine.events import Invoke


class Desk:
    """The calls of one guest, for a loop that blocks.  Used by one thread, told by any."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self._channels = functions.channels
        self.calls = Calls(functions.all_uses)
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._closed = False
        self._open = threading.RLock()  # between a look at it and a write nobody closes the fd
        self._done: deque[Answered | Revoked | Asked] = deque()
        self._here: deque[Call] = deque()  # to be made on this thread
        # How to cancel those that are made by other threads, and were not over yet.
        self._elsewhere: dict[int, Callable[[], object]] = {}
        functions.on_revoke = self._revoked

    # --- for the loop -----------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether there is something to do at once."""
        return bool(self._here or self._done)

    def heard(self, _event: int) -> None:
        """Somebody has written to ``fd``."""
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return

    def take(self) -> Answered | Revoked | None:
        """What is to be told to the engine next; makes a call of this thread if there is one.

        What a function raises beyond ``Exception`` goes on to the caller.
        """
        if not self._done and self._here:
            call = self._here.popleft()
            answered = call.broken_off()
            try:
                answered = call.make()
            finally:
                # After what was told meanwhile: it may be that the function was revoked.
                self._done.append(answered)
        event = self._done.popleft() if self._done else None
        if event is None or isinstance(event, (Answered, Revoked)):
            return event
        told = event.answer()
        if told is not None:
            self._elsewhere.pop(event.id, None)
        return told

    def invoke(self, order: Invoke) -> None:
        """See to a call."""
        asked = None if self._channels is None else self._channels.ask(order, self.tell)
        if asked is not None:
            self._elsewhere[order.call_id] = lambda: self._drop(asked)
            return
        call = self._functions.read(order.function, order.call_id, order.arguments)
        if isinstance(call, Answered):
            self._done.append(call)
        else:
            self._begin(call)

    def abandon(self, call_id: int) -> None:
        """Cancel a call where that can be done; the engine is told when it is over."""
        cancel = self._elsewhere.get(call_id)
        if cancel is not None:
            cancel()
            return
        self._here = deque(call for call in self._here if call.id != call_id)
        self._done.append(Answered(call_id, None, "InterruptedError"))

    def close(self) -> None:
        """Cancel what is under way and give the descriptor back."""
        if self._functions.on_revoke == self._revoked:
            self._functions.on_revoke = None
        for cancel in list(self._elsewhere.values()):
            cancel()
        self._here.clear()
        with self._open:
            if not self._closed:
                self._closed = True
                os.close(self.fd)

    def _drop(self, asked: Asked) -> None:
        asked.drop()
        self.tell(Answered(asked.id, None, "InterruptedError"))

    # --- where a call is made ---------------------------------------------------------------

    def _begin(self, call: Call) -> None:
        if call.function.awaited:
            from .background import submit

            self._elsewhere[call.id] = _nothing  # it may be over before ``submit`` is
            cancel = submit(call.make_awaited(), lambda task: self._over(call, task))
            if call.id in self._elsewhere:
                self._elsewhere[call.id] = cancel
        elif call.function.in_thread:
            self._elsewhere[call.id] = _nothing
            run = contextvars.copy_context().run
            thread = threading.Thread(
                target=run, args=(self._make_in_thread, call), name="belljar", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # no more threads are to be had
                self.tell(call.broken_off())
        else:
            self._here.append(call)

    def _make_in_thread(self, call: Call) -> None:
        answered = call.broken_off()
        try:
            answered = call.make()
        finally:
            self.tell(answered)

    def _over(self, call: Call, task: asyncio.Task[Answered]) -> None:
        self.tell(call.broken_off() if task.cancelled() else task.result())

    def tell(self, event: Answered | Revoked | Asked) -> None:
        """For the loop, from any thread."""
        if isinstance(event, Answered):
            self._elsewhere.pop(event.call_id, None)
        self._done.append(event)
        with self._open:
            if not self._closed:
                os.eventfd_write(self.fd, 1)

    def _revoked(self, function: str) -> None:
        self.tell(Revoked(function))


def _nothing() -> None:
    """A thread cannot be cancelled."""
