"""What the guest says on its link, whole, whoever says it and whatever interrupts it.

What: every event for the host goes through ``speak``.  Because: threads of the code speak, and
in its main thread any call may end with an exception of a signal handler's, the host's notice
that time is over among them; half a frame would be a breach of the protocol.  Then: one thread
writes at a time, what an exception kept from being written is written first by whoever speaks
next, and how far a frame has come is noted by the very call that writes it.
"""

from __future__ import annotations

import _thread
import os
import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..wire.connection import Connection
    from ..wire.events import Event


class _Frame:
    def __init__(self, data: bytes) -> None:
        self.data = memoryview(data)
        self.written: list[int] = []  # bytes, by each call


class Outgoing:
    """The way out, for all threads of this process and for no fork of it.

    ``write`` and the rest are bound now, because the code may put anything else in their place.
    """

    def __init__(
        self,
        link: int,
        connection: Connection,
        write: Callable[[int, Any], int] = os.write,
        getpid: Callable[[], int] = posix.getpid,
    ) -> None:
        self._link = link
        self._connection = connection
        self._write = write
        self._getpid = getpid
        self._pid = getpid()
        self.lock: Any = _thread.RLock()  # around the connection as well
        self._frames: list[_Frame] = []
        self._writing = False

    @property
    def mine(self) -> bool:
        """Whether this is the process that the host talks to, and not a fork of it."""
        return self._getpid() == self._pid

    def speak(self, event: Event) -> None:
        """Tell the host; in a fork, nobody.

        Raises ``LocalError`` when it may not be said now, ``MemoryError``, and whatever a signal
        handler raises; what was begun is written all the same, if not now.
        """
        if not self.mine:
            return
        with self.lock:
            self._frames.append(_Frame(self._connection.send(event)))
            # A handler that speaks while its own thread writes only leaves its frame here.
            while self._frames and not self._writing:
                self._writing = True
                try:
                    self._write_frames()
                finally:
                    self._writing = False

    def _write_frames(self) -> None:
        while self._frames:
            frame = self._frames[0]
            written = sum(frame.written)
            if written >= len(frame.data):
                del self._frames[0]
                continue
            # In C from the write to the note of it: no handler runs in between.
            frame.written.extend(map(self._write, (self._link,), (frame.data[written:],)))
