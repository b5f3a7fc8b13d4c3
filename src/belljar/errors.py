"""Whose fault it was.

BelljarError
 ├ PolicyError(ValueError)   the policy contradicts itself; names the key
 ├ AbilityDenied(PermissionError)  your policy lacks an ability; names it
 ├ UnsupportedError          this machine cannot enforce it; nothing ran
 ├ ClosedError               you closed it, or its guest has ended
 │  └ ChannelClosed(EOFError)  the other end of a channel is closed, or this one
 ├ FileRefused               a file in /work that is not what it should be
 ├ ForkRefused               what is in the sandbox cannot be there twice
 ├ SandboxFailure            our machinery failed
 │  ├ SetupFailed            a zygote or guest could not be made
 │  ├ WorkerDied             a zygote or guest went away under us
 │  └ GuestProtocolError     a guest sent bytes that are not the protocol
 └ GuestError                the guest's own outcome, from ``Result.unwrap()``
    ├ GuestRaised            it ended with an exception
    ├ GuestExited            it called exit with a code other than 0
    ├ GuestCrashed           a signal ended it
    ├ LimitExceeded          it ran into a limit
    └ Denied                 it ended on a refusal; names the grant
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .result import Result

__all__ = [
    "AbilityDenied",
    "BelljarError",
    "ChannelClosed",
    "ClosedError",
    "Denied",
    "FileRefused",
    "ForkRefused",
    "GuestCrashed",
    "GuestError",
    "GuestExited",
    "GuestProtocolError",
    "GuestRaised",
    "LimitExceeded",
    "PolicyError",
    "SandboxFailure",
    "SetupFailed",
    "UnsupportedError",
    "WorkerDied",
]


# EAGAIN, ENOMEM, ENFILE, EMFILE, ENOSPC (of namespaces and mounts, too), ENOBUFS, ETOOMANYREFS:
# the machine is short of something now, and need not be later.
SHORTAGES = frozenset({11, 12, 23, 24, 28, 105, 109})


class BelljarError(Exception):
    """Base of every exception that belljar raises on the host.

    All of them can be copied and pickled, so that they can be kept and sent to the process
    that asked.
    """

    def __reduce__(self) -> tuple[Callable[..., BaseException], tuple[object, ...]]:
        return _made_again, (type(self), self.args, self.__dict__)


def _made_again(
    kind: type[BelljarError], args: tuple[object, ...], state: dict[str, object]
) -> BelljarError:
    """An exception as it was, without its constructor, which may take other arguments."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class PolicyError(BelljarError, ValueError):
    """A policy, or something handed to one, makes no sense.

    ``key`` is the path of the culprit, such as ``limits.wall_s`` or ``grants.read[0]``.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key}: {message}")
        self.key = key
        self.message = message


class AbilityDenied(BelljarError, PermissionError):
    """A host function asked for an ability of the application's own, and it is not granted.

    ``ability`` is its name.  The text may be told to the guest: it holds nothing but that name,
    what was asked for and what is left.
    """

    def __init__(self, ability: str, message: str) -> None:
        super().__init__(message)
        self.ability = ability


class UnsupportedError(BelljarError):
    """This machine cannot enforce the policy.  Nothing ran.

    ``missing`` names each guarantee that cannot be held, with the mechanisms that would
    hold it; ``remedy`` says, line by line, how to get them.
    """

    def __init__(self, missing: Iterable[str], remedy: Iterable[str]) -> None:
        self.missing = tuple(missing)
        self.remedy = tuple(remedy)
        text = "this machine cannot enforce the policy; nothing ran"
        for line in self.missing:
            text += f"\n  missing: {line}"
        for line in self.remedy:
            text += f"\n  remedy:  {line}"
        super().__init__(text)


class ClosedError(BelljarError):
    """A sandbox that takes no more runs: closed, or its guest has ended.

    ``reset`` gives an open sandbox whose guest has ended a fresh one.
    """


class ChannelClosed(ClosedError, EOFError):
    """A channel through which nothing more will come: an end is closed, or its sandbox has ended."""


class FileRefused(BelljarError):
    """A file in ``/work`` that the host does not read or write.

    ``path`` is its name there, ``message`` why: it is a symbolic link, a FIFO, larger than it may
    be, it has changed meanwhile, or ``/work`` is full.  ``errno`` is the nearest number of the
    kernel's.
    """

    def __init__(self, number: int, message: str, path: str) -> None:
        super().__init__(f"{path!r}: {message}")
        self.errno = number
        self.message = message
        self.path = path


class ForkRefused(BelljarError):
    """A live sandbox of which no branch can be made as it is; it goes on as before.

    Threads, tasks that wait, open sockets and pipes and shared mappings cannot be copied; the
    message names what is in the way.  ``result`` is how the copying ended, where it began.
    """

    def __init__(self, message: str, result: Result | None = None) -> None:
        super().__init__(message)
        self.result = result


class SandboxFailure(BelljarError):
    """belljar's own machinery failed; the guest's code is not to blame.

    ``stage`` names the step that failed; ``retryable`` says whether the same call may
    succeed later (a machine short of processes or memory) or never will.
    """

    def __init__(self, stage: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(f"{stage}: {message}")
        self.stage = stage
        self.retryable = retryable


class SetupFailed(SandboxFailure):
    """A zygote or a guest could not be set up.  The guest's code did not run."""


class WorkerDied(SandboxFailure):
    """A zygote went away while it was needed."""


class GuestProtocolError(SandboxFailure):
    """A guest sent bytes that are not the protocol; it was killed."""

    def __init__(self, message: str) -> None:
        super().__init__("protocol", message)


class GuestError(BelljarError):
    """The guest's own outcome, as an exception.  ``result`` is the whole outcome."""

    def __init__(self, message: str, result: Result) -> None:
        super().__init__(message)
        self.result = result


class GuestRaised(GuestError):
    """The guest's code ended with an exception."""


class GuestExited(GuestError):
    """The guest's code asked to exit with a code other than 0."""


class GuestCrashed(GuestError):
    """A signal ended the guest."""


class LimitExceeded(GuestError):
    """The guest ran into a limit."""


class Denied(GuestError):
    """The guest ended on a refusal; ``result.denials`` name the grants that would help."""
