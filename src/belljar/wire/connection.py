"""One end of the wire: bytes in, events out; commands in, bytes out.

What: frames, values, events and states put together, without any I/O.  Because: the other end
is written by an attacker, and code that only computes can be fuzzed.  Then: any bytes at all
give events or one ``RemoteError``; never another exception, never a hang, never more memory
than the budget (``limits`` has the factor).  After an error the connection is dead and stays
dead, and events that arrived in the same piece as a breach are not given out: a peer that
breaks the protocol is not believed.
"""

from __future__ import annotations

from .decoder import decode
from .encoder import encode
from .errors import LocalError, RemoteError
from .events import KINDS, Pour
from .frames import FrameDecoder, encode_frame
from .limits import (
    ARTIFACTS_PER_RUN,
    CALLS,
    CALLS_BYTES,
    DENIALS_PER_RUN,
    MESSAGE,
    Budget,
)
from .schema import Mismatch, check_fields
from .states import START, TRANSITIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .bulk import Incoming, Outgoing
    from .decoder import UntrustedBytes
    from .events import Event, Kind, Role
    from .states import State

__all__ = ["Connection"]

_type: Any = type  # so that the checkers leave what it is compared with alone

_EVENT_DEPTH = 4  # fields, a list among them, its records, their lists
_TEXT_ROOM = 32 * 2**20  # every text of a Finished or Denied at its cap and of the widest kind
_NODE_ROOM = 128 * 2**10  # 350 nodes at their dearest, beyond the bytes that they hold

_BY_NUMBER = {kind.number: kind for kind in KINDS}
_BY_RECORD = {kind.record: kind for kind in KINDS}


class Connection:
    """The protocol as seen by one role, ``host`` or ``guest``.

    ``budget`` bounds a frame and, where a frame carries user data itself (``Run``), what is
    in it.  The value in a ``Finished`` stays encoded: its reader chooses its budget.
    """

    __slots__ = (
        "_artifacts",
        "_breach",
        "_budgets",
        "_call_id",
        "_calls",
        "_calls_bytes",
        "_denials",
        "_frames",
        "_held",
        "_incoming",
        "_kept_back",
        "_role",
        "_run_id",
        "_state",
    )

    def __init__(self, role: Role, budget: Budget = MESSAGE) -> None:
        if role not in ("host", "guest"):
            raise ValueError(f"a role is 'host' or 'guest', not {role!r}")
        self._role: Role = role
        self._budgets = _MESSAGE_BUDGETS if budget is MESSAGE else _budgets(budget)
        self._state: State = START
        self._breach: str | None = None
        self._run_id = 0  # of the run at hand, or the last one
        self._denials = 0  # in the run at hand
        self._artifacts = 0  # likewise
        self._held = 0  # Holds that are not Taken: 0, 1, and 2 when that was all of the run
        self._incoming: Incoming | None = None  # of the next frame with user data
        self._kept_back: tuple[bytes, str, Event] | None = None
        self._call_id = 0  # of the last call of a host function
        self._calls: dict[int, int] = {}  # those that wait for their answers, and their bytes
        self._calls_bytes = 0
        self._frames = self._new_frames()

    def _new_frames(self) -> FrameDecoder:
        return FrameDecoder(
            {
                kind.number: self._budgets[kind.number].frame_bytes
                for kind in KINDS
                if kind.sender != self._role
            }
        )

    @property
    def role(self) -> Role:
        """Which end this is."""
        return self._role

    @property
    def state(self) -> State:
        """Where the conversation stands; ``states`` has the table."""
        return self._state

    @property
    def calls(self) -> tuple[int, int]:
        """How many calls of host functions wait for their answers, and the bytes of them."""
        return len(self._calls), self._calls_bytes

    def send(self, command: Event, outgoing: Outgoing | None = None) -> bytes:
        """The bytes that say so to the peer.

        Where ``outgoing`` has pieces afterwards, the bytes announce them: when ``Room`` has
        come, the peer is to be sent the pieces and then what ``kept_back`` gives.

        Raises ``LocalError`` when this role may not send it now, or when a field is not what
        the schema says; ``NotConvertible`` for an input that cannot cross.  After either the
        state is as before, and nothing must be written.
        """
        kind = _BY_RECORD.get(type(command))
        if kind is None or kind.sender != self._role:
            raise LocalError(f"a {self._role} does not send {type(command).__name__}")
        name = type(command).__name__
        then = TRANSITIONS[self._state].get(name)
        if then is None:
            raise LocalError(f"{name} cannot be sent in state {self._state}")
        fields = [field.written(getattr(command, field.name)) for field in kind.fields]
        try:
            check_fields(kind.fields, fields)
            if kind.consistent is not None:
                kind.consistent(command)
            self._match(name, command)
        except Mismatch as mismatch:
            raise LocalError(f"{name}: {mismatch}") from None
        budget = self._budgets[kind.number]
        frame = encode_frame(kind.number, encode(fields, budget, outgoing), budget.frame_bytes)
        if outgoing is not None and outgoing.pieces:
            announced = self.send(Pour(tuple(outgoing.sizes)))
            self._kept_back = frame, name, command
            return announced
        self._state = then
        self._note(name, command)
        return frame

    def kept_back(self) -> bytes:
        """The frame whose large parts have been announced and poured."""
        if self._kept_back is None or self._state != "IDLE":
            raise LocalError("no frame is kept back")
        frame, name, event = self._kept_back
        self._kept_back = None
        self._state = TRANSITIONS[self._state][name]
        self._note(name, event)
        return frame

    def expect(self, incoming: Incoming) -> None:
        """What was poured, for the ``Run`` or ``Call`` that comes next."""
        self._incoming = incoming

    def receive_data(self, data: UntrustedBytes | memoryview) -> list[Event]:
        """The events that these bytes complete, in order.

        Raises ``RemoteError`` when they break the protocol, and again at every later call.
        """
        if self._breach is not None:
            raise RemoteError(self._breach)
        events: list[Event] = []
        try:
            for number, payload in self._frames.feed(data):
                events.append(self._receive(_BY_NUMBER[number], payload))
        except RemoteError as error:
            self._fail(str(error))
            raise
        return events

    def receive_eof(self) -> None:
        """The peer will send no more.

        Raises ``RemoteError`` when that is in the middle of a frame.  A guest may go at any
        time: whether it was killed, and by what, is for the kernel to say.
        """
        if self._breach is not None:
            raise RemoteError(self._breach)
        if self._frames.mid_frame:
            self._fail("the stream ends in the middle of a frame")
            raise RemoteError("the stream ends in the middle of a frame")
        self._state = "CLOSED"

    def _fail(self, breach: str) -> None:
        self._breach = breach
        self._state = "ERROR"
        self._frames = self._new_frames()  # lets go of what was held

    def _receive(self, kind: Kind, payload: bytes) -> Event:
        name = kind.record.__name__
        then = TRANSITIONS[self._state].get(name)
        if then is None:
            raise RemoteError(f"{name} came in state {self._state}")
        incoming = None
        if kind.nodes is None:
            incoming, self._incoming = self._incoming, None
        fields: Any = decode(payload, self._budgets[kind.number], incoming)
        if _type(fields) is not list:
            raise RemoteError(f"{name} is not a list of fields")
        try:
            event = _event(kind, fields)
            self._match(name, event)
        except Mismatch as mismatch:
            raise RemoteError(f"{name}: {mismatch}") from None
        self._state = then
        self._note(name, event)
        return event

    def _match(self, name: str, event: Any) -> None:
        """Hold an event against the run that it speaks of.  Raises ``Mismatch``."""
        if name in ("Run", "Call", "Fork"):
            if event.run_id <= self._run_id:
                raise Mismatch("run_id: expected one above those of all earlier runs")
        elif name in ("Denied", "Artifact", "Finished"):
            if event.run_id != self._run_id:
                raise Mismatch("run_id: expected that of the run at hand")
            if name == "Denied" and self._denials + len(event.entries) > DENIALS_PER_RUN:
                raise Mismatch(f"entries: expected at most {DENIALS_PER_RUN} in a run")
            if name == "Artifact" and self._artifacts == ARTIFACTS_PER_RUN:
                raise Mismatch(f"expected at most {ARTIFACTS_PER_RUN} in a run")
        elif name in ("Hold", "Taken"):
            if event.run_id != self._run_id:
                raise Mismatch("run_id: expected that of the run at hand")
            if self._held != (name == "Taken"):
                raise Mismatch("expected one Hold in a run, and one Taken after it")
        elif name == "HostCall":
            if event.call_id <= self._call_id:
                raise Mismatch("call_id: expected one above those of all earlier calls")
            if len(self._calls) >= CALLS:
                raise Mismatch(f"call_id: expected at most {CALLS} calls that wait")
            if self._calls_bytes + len(event.arguments) > CALLS_BYTES:
                raise Mismatch(f"arguments: expected {CALLS_BYTES} bytes at most in all that wait")
        elif name == "Returned" and event.call_id not in self._calls:
            raise Mismatch("call_id: expected that of a call that waits")

    def _note(self, name: str, event: Any) -> None:
        if name in ("Run", "Call", "Fork"):
            self._run_id = event.run_id
            self._denials = self._artifacts = self._held = 0
        elif name in ("Hold", "Taken"):
            self._held += 1
        elif name == "Denied":
            self._denials += len(event.entries)
        elif name == "Artifact":
            self._artifacts += 1
        elif name == "HostCall":
            self._call_id = event.call_id
            self._calls[event.call_id] = len(event.arguments)
            self._calls_bytes += len(event.arguments)
        elif name == "Returned":
            self._calls_bytes -= self._calls.pop(event.call_id)


def _budgets(whole: Budget) -> dict[int, Budget]:
    """For each kind the budget of its payload.

    User data (``Run``) has the budget of the connection.  The rest has few nodes and little
    beyond texts and one stretch of bytes, so its memory follows from its size.
    """
    budgets: dict[int, Budget] = {}
    for kind in KINDS:
        if kind.nodes is None:
            budgets[kind.number] = whole
            continue
        most = min(kind.most_bytes or whole.frame_bytes, whole.frame_bytes)
        budgets[kind.number] = Budget(
            frame_bytes=most,
            depth=_EVENT_DEPTH,
            nodes=kind.nodes,
            memory_bytes=min(most + _TEXT_ROOM, 4 * most + _NODE_ROOM),
        )
    return budgets


_MESSAGE_BUDGETS = _budgets(MESSAGE)


def _event(kind: Kind, fields: list[Any]) -> Event:
    """The fields, checked, as a record.  Raises ``Mismatch``."""
    if len(fields) != len(kind.fields):
        raise Mismatch(f"expected {len(kind.fields)} fields")
    event = kind.record(*check_fields(kind.fields, fields))
    if kind.consistent is not None:
        try:
            kind.consistent(event)
        except Mismatch as mismatch:
            raise Mismatch(f"expected {mismatch}") from None
    return event
