"""Asking a run to end softly, from a signal handler or from another thread.

What: a counter of the kernel's (eventfd) that the run's loop watches.  Because: the loop
sleeps in poll, and a signal handler runs between any two of its steps, where the engine may
be in the middle of an event.  Then: whoever asks only counts up, and the loop takes it from
there in its own time.
"""

from __future__ import annotations

import _thread
import os

from ..engine.events import Interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from types import TracebackType
else:
    import _signal


class Interrupts:
    """One run's ear for requests to end; as a context manager, while the run listens.

    ``grace_s`` is what the code gets between its ``KeyboardInterrupt`` and the kill.
    """

    def __init__(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self.asked = False
        self.listening = False
        # Whoever asks from a signal handler may have interrupted himself.
        self._lock = _thread.RLock()
        self._counter: Counter | None = Counter()
        self.fd = self._counter.fd
        self.woken: int | None = None  # readable when a signal has come, see ``hear_signals``
        self._waking = -1

    def hear_signals(self) -> None:
        """Let every signal of this process wake the loop, so that its handler is called.

        What: a pipe that Python writes to.  Because: a signal that comes between the loop's
        last step and its sleep is noted, and acted on when something else ends the sleep.
        Then: for a command's main thread alone, since a process has one such pipe.
        """
        self.woken, self._waking = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        _signal.set_wakeup_fd(self._waking, warn_on_full_buffer=False)

    def forget_signals(self, _event: int) -> None:
        """For the loop: it is awake."""
        if self.woken is not None:
            os.read(self.woken, 4096)

    def ask(self) -> bool:
        """Ask once; False where nobody listens, or somebody asked already."""
        with self._lock:  # so that what is asked of one run does not reach the next
            if not self.listening or self.asked:
                return False
            self.asked = True
            return self._count_up()

    def end(self) -> None:
        """Ask for the end of the run at once, and with it of whatever runs it."""
        self.grace_s = 0.0
        self._count_up()

    def _count_up(self) -> bool:
        counter = self._counter  # held, so that it is not closed meanwhile
        if counter is None:
            return False
        os.eventfd_write(counter.fd, 1)
        return True

    def take(self) -> Interrupted:
        """For the loop: the request as an event."""
        os.eventfd_read(self.fd)
        return Interrupted(self.grace_s)

    def __enter__(self) -> Interrupts:
        with self._lock:
            if self.asked and self.grace_s:
                try:
                    os.eventfd_read(self.fd)  # asked for when the run before was over already
                except BlockingIOError:
                    self.asked = False  # no: it was heard
            self.asked = False
            self.listening = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self.listening = False

    def close(self) -> None:
        """Give the descriptor back, when nobody is asking.  Who asks later is not heard."""
        self._counter = None
        if self.woken is not None:
            _signal.set_wakeup_fd(-1)
            os.close(self._waking)
            os.close(self.woken)
            self.woken = None


class Counter:
    """An eventfd, closed with the last reference to it.

    Because: another thread may be about to write, and the number of a closed descriptor may be
    another file's by then.
    """

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __del__(self) -> None:
        os.close(self.fd)
