"""What befalls a run from outside, and which runs it may have touched.

What: a book of faults with their times, and the deeds themselves.  Because: two threads run at
once, and the one whose zygote the other has killed is entitled to an error, but only then.
Then: a run that overlaps no fault must be right; one that does may end in the way of that
fault, and must be right when it is tried again.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import belljar

from . import watch


class Raised(Exception):
    """What a callback of the host's raises in the middle of a run."""


class Faults:
    """The faults of one soak."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # one fault at a time
        self._active = 0
        self._last_end = 0.0
        self.count = 0
        self._forks: set[int] = set()
        self.spared = 0  # the zygote whose memory is being watched

    def touched(self, since: float) -> bool:
        """Whether a fault was there at any moment since then, on the monotonic clock."""
        return self._active > 0 or self._last_end >= since

    @contextmanager
    def _fault(self) -> Iterator[None]:
        with self._lock:
            self.count += 1
            self._active += 1
            try:
                yield
            finally:
                self._last_end = time.monotonic()
                self._active -= 1

    def do(self, deed: str) -> None:
        """Carry out what a case wants done to it; called on the thread of its run."""
        if deed == "raise":
            raise Raised
        if deed == "fork":
            self._fork()
            return
        with self._fault():
            own = watch.children()
            parents = [
                # Zygotes, and what is about to become one.
                p
                for p in own
                if p.pid not in self._forks
                and (p.name == watch.ZYGOTE or p.name not in watch.LASTING)
            ]
            if deed == "kill zygotes":
                self._kill([p.pid for p in parents if p.pid != self.spared])
            else:
                zygotes = {p.pid for p in parents if p.name == watch.ZYGOTE}
                guests = [p for p in watch.descendants() if p.parent in zygotes]
                self._kill([p.pid for p in guests if p.name == "python3"])

    def _kill(self, pids: list[int]) -> None:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        until = time.monotonic() + watch.PATIENCE_S
        while any(map(watch.is_alive, pids)) and time.monotonic() < until:
            time.sleep(0.002)

    def _fork(self) -> None:
        """A copy of this process, with one thread of its two, runs something of its own."""
        with self._lock:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # that is the point
                pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    code = 0 if belljar.run("6 * 7").value == 42 else 2
                    belljar.close()
                finally:
                    os._exit(code)
            self._forks.add(pid)
            try:
                _, status = os.waitpid(pid, 0)
            finally:
                self._forks.discard(pid)
        if status:
            raise RuntimeError(f"a fork of the host ended with status {status}")
