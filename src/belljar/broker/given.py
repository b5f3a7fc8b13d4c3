"""The ends of channels that one sandbox has, and what it asks of them.

What: a guest asks by calls of host functions whose names no function of the application's can
have: ``jobs.recv``, ``jobs.room``, ``jobs.send``, ``jobs.look``, ``jobs.close``.  Because: it may
ask what it likes, as often as it likes.  Then: only its own names mean anything, so an end that
another sandbox has cannot be named; a call that waits is an entry in a line; and what transfers
nothing is told at the rate of refusals.
"""

from __future__ import annotations

import os

from ..engine.calls import Bounds, Use
from ..engine.events import Answered
from ..errors import ChannelClosed, PolicyError
from ..wire.limits import CALL_BYTES, CALLS, LABEL_CHARS
from ..wire.values import encode
from .channels import ChannelEnd
from .queues import CLOSED
from .signature import check_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Literal

    from ..engine.events import Invoke
    from .queues import Side

# What: of all channels of a sandbox together.  Because: what it sends shares the wire with its
# other calls.  Then: there is room for one of those whatever its channels have under way.
MOST_SANDBOX_BYTES = CALL_BYTES
_NAME_CHARS = LABEL_CHARS - len(".close")
_WORDS = ("recv", "room", "send", "look", "close")
# What: the clock of the guest goes on.  Because: two guests that wait for each other would keep a
# host busy for as long as they like.  Then: ``wall_s`` is the bound on waiting, too.
_BOUNDS = Bounds(concurrency=CALLS, counts=True)
_NOTHING = bytes(encode(None))


class Channels:
    """The ends that one sandbox has, by the names that they have inside.

    Closed with the sandbox, and when this is not used any more.
    """

    def __init__(
        self, given: Mapping[str, ChannelEnd], names: frozenset[str] = frozenset()
    ) -> None:
        """``names`` are those of inputs and functions.

        Raises ``PolicyError`` that names what makes no sense; then none of the ends is taken.
        """
        self._sides: dict[str, Side] = {}
        if not hasattr(given, "items"):
            raise PolicyError("channels", f"expected a dict, got {type(given).__name__}")
        sides: dict[str, Side] = {}
        for name, end in given.items():
            sides[_check_name(name)] = _side_of(name, end)
            if name in names:
                raise PolicyError(
                    f"channels[{name!r}]", "there is an input or a function of this name"
                )
        total = sum(side.budget.frame_bytes for side in sides.values())
        if total > MOST_SANDBOX_BYTES:
            raise PolicyError(
                "channels", f"their item_bytes add up to {total}; at most {MOST_SANDBOX_BYTES}"
            )
        self._pid = os.getpid()
        for name, side in sides.items():
            with side.guard:
                reason = side.give()
            if reason:
                self._take_back()
                raise PolicyError(f"channels[{name!r}]", reason)
            self._sides[name] = side
        self.uses = {f"{name}.{word}": Use(_BOUNDS) for name in sides for word in _WORDS}

    def _take_back(self) -> None:
        for side in self._sides.values():
            with side.guard:
                side.take_back()
        self._sides = {}

    def __iter__(self) -> Any:
        return iter(self._sides)

    @property
    def settings(self) -> list[list[object]]:
        """For the guest: each name, what an item may take, how many items may be sent at first."""
        return [
            [name, side.budget.frame_bytes, side.budget.memory_bytes, side.told]
            for name, side in self._sides.items()
        ]

    def ask(self, order: Invoke, tell: Callable[[Asked], object]) -> Asked | None:
        """A call of the guest's, if it is of a channel; ``tell`` hears when there is an answer."""
        name, dot, word = order.function.partition(".")
        side = self._sides.get(name)
        if not dot or side is None:
            return None
        return Asked(side, word, order.call_id, order.arguments, tell)

    def close(self) -> None:
        """The sandbox has ended; from any thread."""
        if self._pid == os.getpid():
            for side in self._sides.values():
                with side.guard:
                    side.close()

    def __del__(self) -> None:
        for side in self._sides.values():
            if side.pid == os.getpid():
                side.guard.later(side.close)


class Asked:
    """A call of a guest's that is answered when there is something to answer.

    What: an item leaves its queue when the answer is asked for, on the thread that drives the
    guest.  Because: the run may end between a wake and that.  Then: what was taken was sent, and
    a run that ends leaves what it waited for in the queue.
    """

    def __init__(
        self,
        side: Side,
        word: str,
        call_id: int,
        arguments: bytes,
        tell: Callable[[Asked], object],
    ) -> None:
        self.id = call_id
        self._side = side
        self._word = word
        self._tell = tell
        self._dropped = False
        self._outcome: Literal["", "full", "large", "closed"] = ""
        self._way = side.inward.takers if word == "recv" else side.outward.senders
        self._waits = word in ("recv", "room")
        with side.guard:
            if word == "send":
                self._send(arguments)
            elif word == "close":
                side.close()
        tell(self)

    def _send(self, item: bytes) -> None:
        if len(item) > self._side.budget.frame_bytes:
            self._outcome = "large"
            return
        try:
            self._outcome = "" if self._side.put(item) else "full"
        except ChannelClosed:
            self._outcome = "closed"

    def _wake(self) -> None:
        self._tell(self)

    def answer(self) -> Answered | None:
        """What to tell the guest; None while there is nothing, or when nobody waits for it."""
        with self._side.guard:
            if self._dropped:
                return None
            try:
                answered = self._answer()
            except ChannelClosed:
                answered = self._refused("EOFError", "closed")
            if answered is None:
                self._way.join(self._wake)
            else:
                self._dropped = True
            return answered

    def _answer(self) -> Answered | None:
        side = self._side
        if self._word == "recv":
            item = side.take()
            return None if item is None else Answered(self.id, item)
        if self._word == "room":
            if side.closed or side.outward.deaf:
                raise ChannelClosed(CLOSED)
            return self._room() if side.may_send > side.told else None
        if self._word == "send":
            if self._outcome == "closed":
                raise ChannelClosed(CLOSED)
            if self._outcome:
                return self._refused("ValueError", self._outcome)
            return self._room()
        # Nothing was transferred: told at the rate of refusals.
        return Answered(self.id, _NOTHING, refused=True)

    def _room(self) -> Answered:
        self._side.told = self._side.may_send
        return Answered(self.id, bytes(encode(self._side.told)))

    def _refused(self, kind: str, message: str) -> Answered:
        return Answered(self.id, None, kind, message, refused=True)

    def drop(self) -> None:
        """Nobody waits for it any more."""
        with self._side.guard:
            if not self._dropped:
                self._dropped = True
                if self._waits:
                    self._way.leave(self._wake, self._side.guard)


def _check_name(name: object) -> str:
    try:
        checked = check_name(name)
    except PolicyError as error:
        raise PolicyError("channels", error.message) from None
    if len(checked) > _NAME_CHARS:
        raise PolicyError("channels", f"{checked[:20]}...: longer than {_NAME_CHARS} characters")
    return checked


def _side_of(name: str, end: object) -> Side:
    if not isinstance(end, ChannelEnd):
        raise PolicyError(
            f"channels[{name!r}]", f"expected an end of a channel, got {type(end).__name__}"
        )
    side = end._side  # pyright: ignore[reportPrivateUsage]
    if side.pid != os.getpid():
        raise PolicyError(
            f"channels[{name!r}]", "it belongs to the process that this one was forked from"
        )
    return side
