"""Errors of the wire, by fault.

WireError
 ├ LocalError                  this side misused the protocol; nothing was sent
 │  └ NotConvertible(TypeError)   a value of ours cannot cross; names the place
 │     └ TooLarge                 it could, but not within the budget
 └ RemoteError                 the peer broke the protocol; the connection is dead

What: one tree for host and guest.  Because: a caller must know whether to mend its own
call or to kill the peer.  Then: drivers turn ``RemoteError`` into ``GuestProtocolError``
and let ``NotConvertible`` through to whoever handed the value over.
"""

from __future__ import annotations

__all__ = ["LocalError", "NotConvertible", "Refused", "RemoteError", "TooLarge", "WireError"]


class WireError(Exception):
    """Base of the errors that the wire raises."""


class LocalError(WireError):
    """This side misused the protocol.  Nothing was sent, the state is as before."""


class RemoteError(WireError):
    """The peer broke the protocol.

    The text never repeats what the peer sent, so it is safe to print and to log.
    """


class NotConvertible(LocalError, TypeError):
    """A value cannot cross.

    ``path`` is the place of the culprit, such as ``value['a'][3]``; ``reason`` says why.
    Remedy: convert that part to one of the types that the reason lists.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path} {reason}")
        self.path = path
        self.reason = reason


class TooLarge(NotConvertible):
    """A value of convertible types is over the budget.  Remedy: send less, or a larger budget."""


class Refused(Exception):
    """Inside the encoder only: why a value cannot cross, before its place is known."""

    def __init__(self, reason: str, *, size: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.size = size  # it could cross under a larger budget
