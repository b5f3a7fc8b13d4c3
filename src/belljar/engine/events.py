"""What a driver tells the engine, and what the engine asks of a driver."""

from __future__ import annotations

from .._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..artifact import Artifact

# --- events: facts from the kernel and from the zygote -------------------------------------


class Spawned(Record):
    """The zygote forked the guest; ``at`` is on the monotonic clock, in seconds."""

    at: float


class Confined(Record):
    """The guest's confinement is complete; no untrusted code has run yet."""

    at: float


class SpawnFailed(Record):
    """A step of the fork or the confinement failed; the guest's code did not run."""

    step: str
    errno: int
    text: str


class Counted(Record):
    """The kernel's account of the guest's cgroup, read when the guest has ended.

    ``oom_kills`` are processes in it that were killed because its memory was used up.
    """

    cpu_s: float
    peak_memory_bytes: int
    oom_kills: int


class Collected(Record):
    """After a run of a guest that stays: its streams are read, and this is what it used.

    ``cpu_s`` is of its whole life, ``peak_memory_bytes`` the most it held, ``at`` the time.
    """

    cpu_s: float
    peak_memory_bytes: int
    at: float


class Exited(Record):
    """The kernel's account of the guest's end."""

    signal: int
    code: int
    cpu_s: float
    peak_memory_bytes: int
    at: float


class ZygoteGone(Record):
    """The zygote ended before it could report on the guest."""


class LinkData(Record):
    """Bytes from the guest: hostile."""

    data: bytes


class LinkClosed(Record):
    """The guest closed its end of the link, or ended."""


class Fetched(Record):
    """The answer to ``Fetch``: a buffer of our own for each stretch; None: it cannot be read."""

    buffers: tuple[Any, ...] | None


class Output(Record):
    """Bytes of a standard stream: hostile."""

    stream: str
    data: bytes


class OutputClosed(Record):
    """A standard stream reached its end."""

    stream: str


class Tick(Record):
    """Time passed.  ``cpu_s`` is the guest's CPU time so far, None where it cannot be read.

    ``memory_bytes`` is what its processes hold beyond what they had before the code came, None
    where it was not asked for; ``cost_s`` is the time that it took to find out.
    """

    cpu_s: float | None
    memory_bytes: int | None = None
    cost_s: float = 0.0


class Interrupted(Record):
    """The caller wants the run to end (Ctrl-C, cancellation).

    ``grace_s`` 0: at once.  More: the code gets ``KeyboardInterrupt``, and is killed so many
    seconds later, or when it is asked again.  Infinite: it gets the exception and nothing
    else follows, because a sandbox that is used again goes on whatever its code makes of it.
    """

    grace_s: float = 0.0


class Paused(Record):
    """The host's own code works for the guest from now on: the wall clock stands still.

    Pairs of ``Paused`` and ``Resumed`` may nest, where several calls are under way.  All of
    them together stop the clock for at most ``pause_s``; processor time is counted as ever.
    """


class Resumed(Record):
    """The work that the last ``Paused`` told of is done."""


class Answered(Record):
    """A host function that ``Invoke`` named has returned, or raised.

    ``value`` is encoded; ``refused`` says that the function was not called, because its arguments
    are not what it takes.
    """

    call_id: int
    value: bytes | None = None
    error_type: str = ""
    message: str = ""
    refused: bool = False


class Revoked(Record):
    """A host function may be used no longer."""

    function: str


class Input(Record):
    """What ``WantInput`` asked for: bytes that the application gives; none at their end."""

    call_id: int
    data: bytes


# --- instructions: what to do next ---------------------------------------------------------


class Send(Record):
    """Write these bytes to the guest's link."""

    data: bytes


class Pour(Record):
    """Write these to the guest's link as they are, before what is sent next."""

    pieces: tuple[Any, ...]


class Fetch(Record):
    """Copy these stretches of the guest's memory, address and size, and tell ``Fetched`` at once.

    What it names is hostile; what it may cost has been checked.
    """

    stretches: tuple[tuple[int, int], ...]


class Kill(Record):
    """SIGKILL the guest through its pidfd."""


class Notify(Record):
    """Send the guest this signal: its code gets an exception and some time to clean up."""

    number: int


class Collect(Record):
    """Read what is in the pipes by now, look at what the guest has used, tell ``Collected``."""


class Park(Record):
    """Stop the guest, all of it, until its next run: ``Thaw`` lets it go on.

    The output pipes are not read meanwhile: what is in them is the next run's.
    """


class Freeze(Record):
    """Stop the guest, all of it; it has used more processor time than its share."""


class Thaw(Record):
    """Let a guest that ``Freeze`` or ``Park`` stopped go on."""


class HoldOutput(Record):
    """Read the output pipes no more for now: a guest that fills them waits."""


class TakeOutput(Record):
    """Read the output pipes again."""


class Deliver(Record):
    """Hand a piece of output to whoever listens."""

    stream: str
    data: bytes


class Present(Record):
    """Hand an artifact to whoever listens."""

    artifact: Artifact


class StopReading(Record):
    """Close the host's end of both output pipes: the guest's next write fails there."""


class CloseLink(Record):
    """Close the host's end of the link."""


class Invoke(Record):
    """Call a host function, and tell ``Answered``.  The arguments are the guest's: hostile."""

    call_id: int
    function: str
    arguments: bytes


class Abandon(Record):
    """Nobody waits any more for what this call comes to: cancel it where that can be done."""

    call_id: int


class WantInput(Record):
    """The code waits for standard input: tell ``Input`` when there is some, or its end."""

    call_id: int


if TYPE_CHECKING:
    Event = (
        Spawned
        | Confined
        | SpawnFailed
        | Collected
        | Counted
        | Exited
        | ZygoteGone
        | LinkData
        | LinkClosed
        | Fetched
        | Output
        | OutputClosed
        | Tick
        | Interrupted
        | Paused
        | Resumed
        | Answered
        | Revoked
        | Input
    )
    Instruction = (
        Send
        | Pour
        | Fetch
        | Kill
        | Notify
        | Collect
        | Park
        | Freeze
        | Thaw
        | HoldOutput
        | TakeOutput
        | Deliver
        | Present
        | StopReading
        | CloseLink
        | Invoke
        | Abandon
        | WantInput
    )
