"""Asking a run to end softly, from a signal handler or from another thread.

What: a counter of the kernel's (eventfd) that the run's loop watches.  Because: the loop
sleeps in poll, and a signal handler runs between any two of its steps, where the engine may
be in the middle of an event.  Then: whoever asks only counts up, and the loop takes it from
there in its own time.
"""

from __future__ import annotations

import os

from ..engine.events import Interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType


class Interrupts:
    """One run's ear for requests to end; as a context manager, while the run listens.

    ``grace_s`` is what the code gets between its ``KeyboardInterrupt`` and the kill.
    """

    def __init__(self, grace_s: float) -> None:
        self.grace_s = grace_s
        self.asked = False
        self.listening = False
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def ask(self) -> bool:
        """Ask once; False where nobody listens, or somebody asked already."""
        if not self.listening or self.asked:
            return False
        self.asked = True
        os.eventfd_write(self.fd, 1)
        return True

    def take(self) -> Interrupted:
        """For the loop: the request as an event."""
        os.eventfd_read(self.fd)
        return Interrupted(self.grace_s)

    def __enter__(self) -> Interrupts:
        self.listening = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.listening = False

    def close(self) -> None:
        """Give the descriptor back.  Nobody may ask any more."""
        os.close(self.fd)
