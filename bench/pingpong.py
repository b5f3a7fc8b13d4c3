"""Two processes and a socket pair: what the call of a host function is compared with.

What: a child that reads a message, decodes it, encodes an answer and writes it, with the codec
that belljar has, and nothing else: no frames, no checks, no walls.  Because: whoever lets a program
ask another one something does at least this.  Then: the ratio is the price of names, annotations,
bounds, clocks, signals and threads.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from belljar.wire.values import decode, encode

_PIECE = 1 << 16


class PingPong:
    """The asking side; the child answers ``[[x], {}]`` with ``x``."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._child = os.fork()
        if self._child == 0:
            try:
                self._socket.close()
                _serve(theirs)
            finally:
                os._exit(0)
        theirs.close()

    def call(self, value: object) -> Any:
        """One message there and one back."""
        self._socket.sendall(encode([[value], {}]))
        answer: Any = self._socket.recv(_PIECE)
        return decode(answer)

    def close(self) -> None:
        """End it."""
        self._socket.close()
        os.waitpid(self._child, 0)


def _serve(end: socket.socket) -> None:
    while True:
        asked: Any = end.recv(_PIECE)
        if not asked:
            return
        found: Any = decode(asked)
        end.sendall(encode(found[0][0]))
