"""What belljar raises inside: ordinary exceptions that are also ``SandboxError``.

Code inside finds the class as ``belljar.SandboxError``.  Shape, not wall: whatever is done to
these classes, the kernel goes on refusing.
"""

from __future__ import annotations

import _frozen_importlib_external as external
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


def refused_module(name: str, why: str, grant: str, needed_by: str = "") -> ModuleRefused:
    """The exception for an import; its text is the one that library code looks for.

    ``needed_by`` is the module whose import came upon it, if it was not the program itself.
    """
    error = ModuleRefused(f"No module named {name!r}", name=name)
    what = f"{name}, which {needed_by} needs" if needed_by else name
    error.add_note(f"belljar refused import {what}: {why}; {grant} would allow it")
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
        __spec__=external._bootstrap.ModuleSpec("belljar", None),  # type: ignore[attr-defined]
        SandboxError=SandboxError,
        ModuleRefused=ModuleRefused,
        FunctionRefused=FunctionRefused,
        __all__=["FunctionRefused", "ModuleRefused", "SandboxError"],
    )
    return made
