"""What host and guest say to each other: nouns, and their fields as tables.

host -> guest     Run         here is code, run it
                  Call        call this by its name
                  Returned    what a call of a host function came to
                  Close       no more will come
                  Fork        make a copy of yourself
                  Pour        large parts of the next Run or Call come as bare bytes
                  Taken       the host has what a Hold named
guest -> host     Ready       confined and waiting
                  HostCall    the code calls a function of the host's
                  Denied      the code tried something that the policy does not allow
                  Artifact    the code shows something: a figure, a table
                  Finished    how the run ended
                  Room        there is room for what a Pour announced
                  Hold        large parts of the value lie here in my memory

What: one frozen record per kind, one table that gives each its number, sender, cap and
fields.  Because: everything that a guest sends is a claim, and a table is what an auditor
can read.  Then: a payload is the list of the fields in order, and a new kind is a record and
a row in ``KINDS``.
"""

from __future__ import annotations

from .._record import Record
from . import limits
from .bulk import BULK_BYTES, MOST_PIECES
from .schema import (
    Field,
    Mismatch,
    anything,
    encoded,
    integer,
    mapping,
    media_type,
    number,
    octets,
    one_of,
    optional,
    record,
    scalar,
    sequence,
    source,
    text,
    truth,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Literal

    from .values import UntrustedBytes

    Role = Literal["host", "guest"]
    Event = Record

__all__ = [
    "KINDS",
    "STDIN",
    "Artifact",
    "Call",
    "Close",
    "Denial",
    "Denied",
    "ErrorText",
    "Finished",
    "Fork",
    "Hold",
    "HostCall",
    "Kind",
    "Pour",
    "Ready",
    "Returned",
    "Room",
    "Run",
    "Taken",
]


# What: the function that code calls where the host is asked for standard input, with the number
# of its run.  Because: it waits as for a host function.  Then: none of those has a dot in its name.
STDIN = "stdin.read"


class Run(Record):
    """Run this code.

    run_id       1 .. 2**63-1, above that of every earlier run of the connection
    code         program text, or its bytes as read from a file
    name         what tracebacks call it
    inputs       names put into its namespace
    argv         ``sys.argv``, as it shall be
    want_value   whether the value of the last expression is to be sent back
    files        contents to write first, by path relative to the working directory
    settings     for the guest's agent: environment, open trees, budgets.  They come over the
                 guest's own link, because what passes through the zygote stays in its memory
                 and is forked into the next guest.
    interactive  show the value of each expression inside, as Python's own prompt does; there is
                 no value of the run then
    """

    run_id: int
    code: str | bytes
    name: str
    inputs: Mapping[str, Any]
    argv: tuple[str, ...] = ()
    want_value: bool = True
    files: Mapping[str, bytes] = {}
    settings: Mapping[str, Any] = {}
    interactive: bool = False


class Call(Record):
    """Call what an earlier run left behind.

    target       its name, dotted where it is an attribute of something
    args, kwargs what to call it with
    settings     as with ``Run``
    """

    run_id: int
    target: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}
    settings: Mapping[str, Any] = {}


class Returned(Record):
    """What a call of a host function came to.

    call_id      of a call that was not answered yet
    value        encoded on its own, unless there is an error
    error_type   name of a built-in exception, or empty
    message      what it says
    grant        what would have allowed the call, where it was refused
    """

    call_id: int
    value: bytes | None = None
    error_type: str = ""
    message: str = ""
    grant: str = ""


class Close(Record):
    """No more runs will come; the guest ends."""


class Fork(Record):
    """Make a copy of yourself.

    settings     as with ``Run``

    The answer to it is ``Finished``.  The copy begins a conversation of its own, with ``Ready``.
    """

    run_id: int
    settings: Mapping[str, Any] = {}


class Pour(Record):
    """After ``Room`` come so many bytes outside of any frame, then a ``Run`` or ``Call``.

    ``sizes`` are those of ``bulk.Outgoing.pieces``, in order.
    """

    sizes: tuple[int, ...]


class Taken(Record):
    """The guest may go on.  ``whole``: the host has copied all that ``Hold`` named."""

    run_id: int
    whole: bool


class Room(Record):
    """Pour now."""


class Hold(Record):
    """Parts of the value that is about to come, by address and size; once in a run.

    They stay as they are until ``Taken``.  Where it says that the host could not copy them, the
    value comes with everything in it.
    """

    run_id: int
    addresses: tuple[int, ...]
    sizes: tuple[int, ...]


class Ready(Record):
    """The guest is confined and waits.  ``stages``: seconds that each step of it took."""

    stages: Mapping[str, float]


class HostCall(Record):
    """The code calls a function of the host's.

    call_id      1 .. 2**63-1, above that of every earlier call of the connection
    function     its name
    arguments    encoded on their own, for ``values.decode`` and a budget of the function's: the
                 list of the positional ones, and the dict of the others
    """

    call_id: int
    function: str
    arguments: UntrustedBytes


class Denial(Record):
    """One thing tried and refused: what, on what, and the grant that would allow it."""

    action: str
    target: str
    grant: str


class Denied(Record):
    """Refusals so far.  1 to 64 at a time, 1,000 in a run; the guest's agent sends no more."""

    run_id: int
    entries: tuple[Denial, ...]


class Artifact(Record):
    """Something shown, in one or several forms.  256 in a run; the guest's agent sends no more.

    name             what the code calls it; may be empty
    representations  its bytes, by media type
    metadata         width, height and the like
    """

    run_id: int
    name: str
    representations: Mapping[str, bytes]
    metadata: Mapping[str, Any] = {}


class ErrorText(Record):
    """An exception as text.  ``limit`` names the limit that raised it, such as ``memory``."""

    type: str
    message: str
    traceback: str
    notes: tuple[str, ...] = ()
    limit: str | None = None


class Finished(Record):
    """How a run ended.

    outcome      ``ok``, ``raised`` (then ``error`` is there), ``exited`` (then ``exit_code`` is)
    value        encoded on its own, for ``values.decode`` and a budget of its own
    value_error  why the value could not cross, where it could not
    truncated    names of what was cut to its cap: ``message``, ``traceback``, ``denials`` ...
    """

    run_id: int
    outcome: str
    value: UntrustedBytes | None = None
    value_error: str | None = None
    error: ErrorText | None = None
    exit_code: int | None = None
    truncated: tuple[str, ...] = ()


def _consistent(event: Finished) -> None:
    """One outcome, and only what belongs to it."""
    if (event.error is not None) != (event.outcome == "raised"):
        raise Mismatch("an error when, and only when, the outcome is raised")
    if (event.exit_code is not None) != (event.outcome == "exited"):
        raise Mismatch("an exit code when, and only when, the outcome is exited")
    has_value = event.value is not None
    has_reason = event.value_error is not None
    if (has_value or has_reason) and (event.outcome != "ok" or (has_value and has_reason)):
        raise Mismatch("a value or the reason why there is none, only when the outcome is ok")


def _in_pairs(event: Hold) -> None:
    if len(event.addresses) != len(event.sizes):
        raise Mismatch("as many addresses as sizes")


def _answered(event: Returned) -> None:
    """A value or an error."""
    if (event.value is None) != bool(event.error_type):
        raise Mismatch("a value, or an error's type")


class Kind(Record):
    """A row of the table.

    most_bytes   cap on the payload; None: what the budget of the connection gives a frame
    nodes        cap on the values in it; None: the budget's, because it carries user data
    """

    number: int
    sender: Role
    record: type[Record]
    fields: tuple[Field, ...] = ()
    most_bytes: int | None = None
    nodes: int | None = None
    consistent: Callable[[Any], None] | None = None


_CALL_ID = Field("call_id", integer(1, 2**63 - 1))
_RUN_ID = Field("run_id", integer(1, 2**63 - 1))
_SIZES = sequence(integer(BULK_BYTES + 1, 2**40), MOST_PIECES, 1)
_LABEL = text(limits.LABEL_CHARS)
_LABELS = sequence(_LABEL, limits.LABELS)

_DENIAL = record(
    Denial,
    Field("action", _LABEL),
    Field("target", text(limits.NAME_CHARS)),
    Field("grant", text(limits.NAME_CHARS)),
)
_ERROR = record(
    ErrorText,
    Field("type", text(limits.TYPE_CHARS)),
    Field("message", text(limits.MESSAGE_CHARS)),
    Field("traceback", text(limits.TRACEBACK_CHARS)),
    Field("notes", sequence(text(limits.NOTE_CHARS), limits.NOTES)),
    Field("limit", optional(_LABEL)),
)

_MEDIA_TYPE = media_type(limits.MEDIA_TYPE_CHARS)
_REPRESENTATIONS = mapping(_MEDIA_TYPE, octets, limits.REPRESENTATIONS, 1)

KINDS: tuple[Kind, ...] = (
    Kind(
        number=0x01,
        sender="host",
        record=Run,
        fields=(
            _RUN_ID,
            Field("code", source),
            Field("name", text(limits.NAME_CHARS)),
            Field("inputs", mapping(text(limits.NAME_CHARS), anything, 2**32)),
            Field("argv", sequence(text(2**31), limits.ARGUMENTS)),
            Field("want_value", truth),
            Field("files", mapping(text(limits.NAME_CHARS), octets, limits.ARGUMENTS)),
            Field("settings", mapping(_LABEL, anything, limits.LABELS)),
            Field("interactive", truth),
        ),
    ),
    Kind(number=0x02, sender="host", record=Close, most_bytes=16, nodes=1),
    Kind(
        number=0x03,
        sender="host",
        record=Call,
        fields=(
            _RUN_ID,
            Field("target", text(limits.NAME_CHARS)),
            Field("args", sequence(anything, 2**32), data=True),
            Field("kwargs", mapping(text(limits.NAME_CHARS), anything, 2**32)),
            Field("settings", mapping(_LABEL, anything, limits.LABELS)),
        ),
    ),
    Kind(
        number=0x06,
        sender="host",
        record=Fork,
        fields=(_RUN_ID, Field("settings", mapping(_LABEL, anything, limits.LABELS))),
    ),
    Kind(
        number=0x09,
        sender="host",
        record=Pour,
        fields=(Field("sizes", _SIZES),),
        most_bytes=64 * 2**10,
        nodes=2 + MOST_PIECES,
    ),
    Kind(
        number=0x0A,
        sender="host",
        record=Taken,
        fields=(_RUN_ID, Field("whole", truth)),
        most_bytes=64,
        nodes=3,
    ),
    Kind(number=0x8A, sender="guest", record=Room, most_bytes=16, nodes=1),
    Kind(
        number=0x8B,
        sender="guest",
        record=Hold,
        fields=(
            _RUN_ID,
            Field("addresses", sequence(integer(0, 2**64 - 1), MOST_PIECES, 1)),
            Field("sizes", _SIZES),
        ),
        most_bytes=64 * 2**10,
        nodes=4 + 2 * MOST_PIECES,
        consistent=_in_pairs,
    ),
    Kind(
        number=0x04,
        sender="host",
        record=Returned,
        fields=(
            _CALL_ID,
            Field("value", optional(encoded)),
            Field("error_type", text(limits.TYPE_CHARS)),
            Field("message", text(limits.MESSAGE_CHARS)),
            Field("grant", text(limits.NAME_CHARS)),
        ),
        nodes=8,
        consistent=_answered,
    ),
    Kind(
        number=0x81,
        sender="guest",
        record=Ready,
        fields=(Field("stages", mapping(_LABEL, number, limits.LABELS)),),
        most_bytes=64 * 2**10,
        nodes=2 + 2 * limits.LABELS,
    ),
    Kind(
        number=0x82,
        sender="guest",
        record=Denied,
        fields=(_RUN_ID, Field("entries", sequence(_DENIAL, limits.DENIALS_PER_FRAME, 1))),
        most_bytes=8 * 2**20,
        nodes=3 + 4 * limits.DENIALS_PER_FRAME,
    ),
    Kind(
        number=0x83,
        sender="guest",
        record=Finished,
        fields=(
            _RUN_ID,
            Field("outcome", one_of("ok", "raised", "exited")),
            Field("value", optional(encoded)),
            Field("value_error", optional(text(limits.MESSAGE_CHARS))),
            Field("error", optional(_ERROR)),
            Field("exit_code", optional(integer(-(2**63), 2**63 - 1))),
            Field("truncated", _LABELS),
        ),
        nodes=16 + limits.NOTES + limits.LABELS,
        consistent=_consistent,
    ),
    Kind(
        number=0x85,
        sender="guest",
        record=Artifact,
        fields=(
            _RUN_ID,
            Field("name", _LABEL),
            Field("representations", _REPRESENTATIONS),
            Field("metadata", mapping(_LABEL, scalar(limits.METADATA_CHARS), limits.METADATA)),
        ),
        nodes=5 + 2 * limits.REPRESENTATIONS + 2 * limits.METADATA,
    ),
    Kind(
        number=0x84,
        sender="guest",
        record=HostCall,
        fields=(
            _CALL_ID,
            Field("function", _LABEL),
            Field("arguments", encoded),
        ),
        most_bytes=limits.CALL_BYTES,
        nodes=4,
    ),
)
