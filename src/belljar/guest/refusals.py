"""What belljar raises inside: ordinary exceptions that are also ``SandboxError``.

Code inside finds the class as ``belljar.SandboxError``.  Shape, not wall: whatever is done to
these classes, the kernel goes on refusing.
"""

from __future__ import annotations

import errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

__all__ = ["FunctionRefused", "ModuleRefused", "SandboxError", "public_module"]


class SandboxError(Exception):
    """The policy refuses this.  A note says which grant would allow it."""


class ModuleRefused(SandboxError, ModuleNotFoundError):
    """An import that the policy refuses."""


class FunctionRefused(SandboxError, PermissionError):
    """A call that the policy refuses."""


for _class in (SandboxError, ModuleRefused, FunctionRefused):
    _class.__module__ = "belljar"


def refused_module(name: str, why: str, grant: str) -> ModuleRefused:
    """The exception for an import; its text is the one that library code looks for."""
    error = ModuleRefused(f"No module named {name!r}", name=name)
    error.add_note(f"belljar refused import {name}: {why}; {grant} would allow it")
    return error


def refused_function(name: str, grant: str) -> FunctionRefused:
    """The exception for a call."""
    error = FunctionRefused(errno.EPERM, "Operation not permitted")
    error.add_note(f"belljar refused {name}: the policy blocks it; {grant} would allow it")
    return error


def public_module(module: Any) -> ModuleType:
    """What ``import belljar`` gives inside."""
    made: ModuleType = module("belljar", "Inside a sandbox: the exceptions that refusals raise.")
    made.__dict__.update(
        SandboxError=SandboxError,
        ModuleRefused=ModuleRefused,
        FunctionRefused=FunctionRefused,
        __all__=["FunctionRefused", "ModuleRefused", "SandboxError"],
    )
    return made
