"""An error of the host's own system calls, told as what it is: our machinery failed.

What: ``OSError`` and ``MemoryError`` that belljar's code met become ``SandboxFailure``; those of
the application (a signal handler, a callback) stay what they are.  Because: whoever runs code
has one family of exceptions to expect, and a ``TimeoutError`` that an application raises to
interrupt us is not ours to rename.  Then: the innermost frame of the traceback decides.

Imported only when something went wrong.
"""

from __future__ import annotations

import sys

from ..errors import SHORTAGES, SandboxFailure, SetupFailed, WorkerDied

_OURS = ("belljar", "anyio", "trio")  # what waits on our behalf is not the application's


def typed(error: OSError | MemoryError, *, handed_over: bool) -> BaseException:
    """The failure to raise from ``error``; ``error`` itself where it is the application's.

    ``handed_over``: whether the guest had its code already.
    """
    if not _ours(error):
        return error
    if isinstance(error, OSError):
        text, retryable = error.strerror or str(error), error.errno in SHORTAGES
        text = f"{error.filename}: {text}" if error.filename else text
    else:
        text, retryable = "out of memory", True
    kind: type[SandboxFailure] = WorkerDied if handed_over else SetupFailed
    return kind("host", text, retryable=retryable)


def _ours(error: OSError | MemoryError) -> bool:
    if isinstance(error, OSError) and error.errno is None:
        return False  # made by a program, not by the kernel
    trace = error.__traceback__
    name = ""
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__") or ""
        trace = trace.tb_next
    root = name.partition(".")[0]
    return root in _OURS or root in sys.stdlib_module_names
