"""Sandboxed interpreters: run Python that you do not trust, under the kernel's walls.

    import belljar
    belljar.run("sum(range(n))", inputs={"n": 10}).value      # 45

The map, by trust zone and then by layer (imports point down only):

    cli           the command                                host, trusted
    api           run, Sandbox, their async twins, Trusted; what a user calls
    drivers       all I/O of the host: blocking, and for tasks
    broker        what guests ask of the host: checks, accounts
    engine        events in, instructions out                pure
    zygote        launcher and server: forks the guests      trusted, no secrets
    guest         runs inside; nothing in it is a wall       hostile from the first byte on
    confine       carries out a plan's irreversible steps
    kernel        one file per mechanism, ctypes
    plan          policy x support -> plan                   pure
    python        which files an interpreter needs
    policy        what a guest may do                        pure
    bpf           seccomp programs                           pure
    wire          the protocol, without I/O                  pure
    files         what a run left in /work, on the host
    result, artifact
    errors

Names are imported when they are first used: ``import belljar`` costs next to nothing, and
the zygote, which needs a few of the modules below, does not load the rest.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .api.async_run import arun
    from .api.async_sandbox import AsyncSandbox
    from .api.live import Step
    from .api.machine import close
    from .api.run import run
    from .api.sandbox import Sandbox
    from .api.streams import AsyncStream, Stream, astream, stream
    from .api.trusted import Trusted
    from .artifact import Artifact
    from .broker.channels import ChannelEnd, channel
    from .broker.current import CurrentCall, current_call
    from .broker.functions import HostFunction
    from .drivers.sources import PIPE
    from .errors import (
        AbilityDenied,
        BelljarError,
        ChannelClosed,
        ClosedError,
        Denied,
        FileRefused,
        ForkRefused,
        GuestCrashed,
        GuestError,
        GuestExited,
        GuestProtocolError,
        GuestRaised,
        LimitExceeded,
        PolicyError,
        SandboxFailure,
        SetupFailed,
        UnsupportedError,
        WorkerDied,
    )
    from .files import File, Files, Saved
    from .policy import Limits, Policy
    from .result import Denial, ErrorText, LimitHit, Result, Usage, UsageNow

__version__ = "0.1.0"

__all__ = [
    "PIPE",
    "AbilityDenied",
    "Artifact",
    "AsyncSandbox",
    "AsyncStream",
    "BelljarError",
    "ChannelClosed",
    "ChannelEnd",
    "ClosedError",
    "CurrentCall",
    "Denial",
    "Denied",
    "ErrorText",
    "File",
    "FileRefused",
    "Files",
    "ForkRefused",
    "GuestCrashed",
    "GuestError",
    "GuestExited",
    "GuestProtocolError",
    "GuestRaised",
    "HostFunction",
    "LimitExceeded",
    "LimitHit",
    "Limits",
    "Policy",
    "PolicyError",
    "Result",
    "Sandbox",
    "SandboxFailure",
    "Saved",
    "SetupFailed",
    "Step",
    "Stream",
    "Trusted",
    "UnsupportedError",
    "Usage",
    "UsageNow",
    "WorkerDied",
    "__version__",
    "arun",
    "astream",
    "channel",
    "close",
    "current_call",
    "run",
    "stream",
]

_HOMES = {"run": "api.run", "close": "api.machine", "Limits": "policy", "Policy": "policy"}
_HOMES.update(Sandbox="api.sandbox", Step="api.live", Trusted="api.trusted")
_HOMES.update(arun="api.async_run", AsyncSandbox="api.async_sandbox")
_HOMES.update(Artifact="artifact")
_HOMES.update(HostFunction="broker.functions", current_call="broker.current")
_HOMES.update(CurrentCall="broker.current")
_HOMES.update(channel="broker.channels", ChannelEnd="broker.channels")
_HOMES.update(dict.fromkeys(("AsyncStream", "Stream", "astream", "stream"), "api.streams"))
_HOMES.update(PIPE="drivers.sources")
_RESULT = ("Denial", "ErrorText", "LimitHit", "Result", "Usage", "UsageNow")
_HOMES.update(dict.fromkeys(_RESULT, "result"))
_HOMES.update(dict.fromkeys(("File", "Files", "Saved"), "files"))


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'belljar' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"belljar.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
