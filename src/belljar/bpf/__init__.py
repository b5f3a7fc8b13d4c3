"""seccomp programs: expressions, compiler, emulator, system call sets.  Pure.

The map::

    expr      what a filter says: actions, conditions over arguments, choices
    syscalls  names and numbers of x86_64 and aarch64
    sets      what a guest may call, with a reason per entry
    refused   why it may not call the rest
    features  what a filter depends on
    guest     FilterFeatures -> Filter
    compiler  Filter -> bytes for seccomp(2)
    emulator  what a program answers, and whether the kernel would take it
    disasm    filters and programs as text

The names below are fetched on first use, so that a run pays for expressions, sets and
compiler only.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .compiler import compile_filter
    from .disasm import describe, disassemble, listing
    from .emulator import SeccompData, emulate, verify
    from .expr import (
        ALLOW,
        KILL_PROCESS,
        KILL_THREAD,
        LOG,
        NOTIFY,
        TRAP,
        Action,
        Arg,
        Choice,
        Condition,
        Errno,
        Filter,
        If,
    )
    from .features import FilterError, FilterFeatures
    from .guest import guest_filter
    from .refused import reason
    from .syscalls import ARCHES, Arch, arch

__all__ = [
    "ALLOW",
    "ARCHES",
    "KILL_PROCESS",
    "KILL_THREAD",
    "LOG",
    "NOTIFY",
    "TRAP",
    "Action",
    "Arch",
    "Arg",
    "Choice",
    "Condition",
    "Errno",
    "Filter",
    "FilterError",
    "FilterFeatures",
    "If",
    "SeccompData",
    "arch",
    "compile_filter",
    "describe",
    "disassemble",
    "emulate",
    "guest_filter",
    "listing",
    "reason",
    "verify",
]

_HOMES = {
    "ARCHES": "syscalls",
    "Arch": "syscalls",
    "FilterError": "features",
    "FilterFeatures": "features",
    "SeccompData": "emulator",
    "arch": "syscalls",
    "compile_filter": "compiler",
    "describe": "disasm",
    "disassemble": "disasm",
    "emulate": "emulator",
    "listing": "disasm",
    "guest_filter": "guest",
    "reason": "refused",
    "verify": "emulator",
}  # everything else lives in expr


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f"{__name__}.{_HOMES.get(name, 'expr')}"
    value = getattr(__import__(home, fromlist=(name,)), name)
    globals()[name] = value
    return value
