"""How a run ended, as one frozen value.

What the kernel says is a fact: ``status`` where a signal or a limit decided, ``signal``,
``usage``, the bytes of the streams.  What the guest says is a claim: ``value``,
``error``, ``denials``, and a status of ok, raised or exited.
"""

from __future__ import annotations

from . import errors
from ._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .artifact import Artifact
    from .files import Files

STATUSES = ("ok", "raised", "exited", "limit", "crashed")


class ErrorText(Record):
    """An exception of the guest's, as text that the guest made.

    ``type`` is the class name with its module unless built in, ``message`` what ``str``
    gave, ``traceback`` the whole text with source lines, ``notes`` what was added to it.
    Raw: it may hold terminal escapes.
    """

    type: str
    message: str
    traceback: str
    notes: tuple[str, ...] = ()


class LimitHit(Record):
    """The limit that ended a run.

    ``name`` is a field of ``Limits`` without its unit (``wall``, ``memory``, …).
    ``allowed`` and ``used`` are in the field's unit; ``used`` is the kernel's figure where
    it has one, else ``None``.  ``evidence`` is ``"kernel"`` where the host or the kernel saw
    it, ``"guest"`` where an exception inside says so.
    """

    name: str
    allowed: float
    used: float | None
    evidence: str


class Denial(Record):
    """Something the guest tried that its policy does not allow, and the grant that would."""

    action: str
    target: str
    grant: str


class Usage(Record):
    """What the run used, by the kernel's count.

    ``cpu_s`` user and system time, ``peak_memory_bytes`` the most resident memory (the
    interpreter's own included; of several processes or a cgroup, the most together), ``wall_s`` from handing over the code to the end, pauses too.
    ``stages`` maps each stage of starting to its seconds: ``zygote`` (0 when one was
    there), ``fork``, ``confine``, ``agent``.
    """

    cpu_s: float
    peak_memory_bytes: int
    wall_s: float
    stages: dict[str, float]

    def __hash__(self) -> int:
        return hash((self.cpu_s, self.peak_memory_bytes, self.wall_s))


class UsageNow(Record):
    """What a run has used so far, by the kernel's count; ``on_usage`` is called with it.

    ``cpu_s`` user and system time, ``memory_bytes`` what it holds now, ``peak_memory_bytes`` the
    most it held (both with the interpreter's own part), ``wall_s`` since the code was handed
    over.  Where the guest has a cgroup these are its figures, files in memory included.
    """

    cpu_s: float
    memory_bytes: int
    peak_memory_bytes: int
    wall_s: float


class Result(Record):
    """The outcome of one run.

    ``status`` is one of ``ok``, ``raised``, ``exited``, ``limit``, ``crashed``.  ``value`` is the
    last expression's, or None; ``value_error`` says why a value could not cross.  Both may be
    there with ``limit``, where the code was told to end and ended well.
    ``stdout_bytes`` and ``stderr_bytes`` are what was written, also by C code, and
    ``stdout`` and ``stderr`` the same as text; ``artifacts`` what the code showed, in order.
    ``truncated`` names the streams that were cut, and ``artifacts`` where some are left out.  ``exit_code`` is set for ``exited``, ``limit`` for ``limit``,
    ``signal`` for ``crashed`` where a signal ended it.  ``left`` is what ``files`` gives, None
    where there are none.
    """

    status: str
    value: Any = None
    value_error: str | None = None
    stdout_bytes: bytes = b""
    stderr_bytes: bytes = b""
    error: ErrorText | None = None
    exit_code: int | None = None
    limit: LimitHit | None = None
    signal: int | None = None
    denials: tuple[Denial, ...] = ()
    usage: Usage = Usage(0.0, 0, 0.0, {})
    truncated: tuple[str, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    left: Files | None = None

    @property
    def files(self) -> Files:
        """What the run created or changed in ``/work``; a mapping that may be empty."""
        if self.left is not None:
            return self.left
        from .files import Files

        return Files()

    @property
    def stdout(self) -> str:
        """Standard output as text; bytes that are not UTF-8 are replaced."""
        return self.stdout_bytes.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """Standard error as text; bytes that are not UTF-8 are replaced."""
        return self.stderr_bytes.decode("utf-8", "replace")

    @property
    def ok(self) -> bool:
        """Whether the code ran to its end, or asked to exit with code 0."""
        return self.status == "ok" or (self.status == "exited" and self.exit_code == 0)

    def unwrap(self) -> Any:
        """The value of a good run; a bad outcome is raised.

        Raises ``Denied`` (an exception that a refusal caused), ``GuestRaised``,
        ``GuestExited``, ``LimitExceeded`` or ``GuestCrashed``, each with the result.  A value
        that could not cross is ``GuestRaised`` too.
        """
        if self.ok and self.value_error is None:
            return self.value
        raise self._exception()

    def _exception(self) -> errors.GuestError:
        if self.status == "limit" and self.limit is not None:
            hit = self.limit
            used = "" if hit.used is None else f", used {hit.used:g}"
            return errors.LimitExceeded(f"{hit.name}: allowed {hit.allowed:g}{used}", self)
        if self.status == "crashed":
            cause = f"ended by signal {self.signal}" if self.signal else "broke the protocol"
            return errors.GuestCrashed(cause, self)
        if self.status == "exited":
            return errors.GuestExited(f"exit code {self.exit_code}", self)
        if self.error is not None:
            summary = _visible(f"{self.error.type}: {self.error.message}")
            if any(note.startswith("belljar refused") for note in self.error.notes):
                return errors.Denied(summary, self)
            return errors.GuestRaised(summary, self)
        return errors.GuestRaised(_visible(f"the value cannot cross: {self.value_error}"), self)


def _visible(text: str) -> str:
    """A guest's text for a message of an exception, which may end on a terminal or in a log.

    What acts there instead of showing is escaped; lines, tabs and the usual spaces are kept.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or one in "\n\t\xa0\u3000" else ascii(one)[1:-1] for one in text
    )
