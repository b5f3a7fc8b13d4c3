"""What something costs this process: processor time, and memory at its peak.

What: the kernel's own marks.  Because: a buffer that is gone again when we look has been there
all the same.  Then: the mark of the most resident memory is wiped before and read after, see
proc(5), ``clear_refs``.
"""

from __future__ import annotations

import gc
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Cost:
    """``cpu_s`` user and system time; ``peak_bytes`` growth of resident memory at its peak."""

    cpu_s = 0.0
    peak_bytes = 0


def status_bytes(name: str, pid: int | str = "self") -> int:
    """A line of ``/proc/PID/status`` that is in kB: ``VmRSS``, ``VmHWM``."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


@contextmanager
def cost() -> Iterator[Cost]:
    """What the block costs this process, children not included."""
    found = Cost()
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    memory, cpu_s = status_bytes("VmRSS"), _cpu_s()
    try:
        yield found
    finally:
        found.cpu_s = _cpu_s() - cpu_s
        found.peak_bytes = max(status_bytes("VmHWM") - memory, 0)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
