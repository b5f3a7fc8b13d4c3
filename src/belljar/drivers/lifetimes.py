"""Closing what has lived or idled for too long.

What: one thread for all, started with the first sandbox that has such a bound and ended with
the last.  Because: nobody calls into a sandbox that is forgotten, and one thread for each
would be a thread too many.  Then: whoever sets no bound has no thread.
"""

from __future__ import annotations

import os
import threading
import time
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Mortal(Protocol):
        """What is closed in time."""

        def due(self, now: float) -> float | None:
            """When it is to be closed, on the monotonic clock; None: never."""

        def expire(self) -> None:
            """Close it."""


class _Watch:
    def __init__(self) -> None:
        self.watched: weakref.WeakSet[Mortal] = weakref.WeakSet()
        self.changed = threading.Condition()
        self.thread: threading.Thread | None = None

    def add(self, one: Mortal) -> None:
        with self.changed:
            self.watched.add(one)
            if self.thread is None:
                self.thread = threading.Thread(target=self.serve, name="belljar", daemon=True)
                self.thread.start()
            self.changed.notify()

    def serve(self) -> None:
        while True:
            now = time.monotonic()
            late: list[Mortal] = []
            with self.changed:
                dues: list[float] = []
                for one in list(self.watched):
                    due = one.due(now)
                    if due is None:
                        self.watched.discard(one)
                    elif due <= now:
                        late.append(one)
                    else:
                        dues.append(due)
                    del one  # or it would live for as long as we wait
                if not late and not dues:
                    self.thread = None
                    return
                if not late:
                    self.changed.wait(min(dues) - now)
                    continue
            while late:
                late.pop().expire()


_watch = _Watch()


def watch(one: Mortal) -> None:
    """Have it closed when it is due."""
    _watch.add(one)


def _forget() -> None:
    global _watch
    _watch = _Watch()


os.register_at_fork(after_in_child=_forget)
