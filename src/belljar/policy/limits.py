"""The bounds on everything a guest could exhaust.

What: ``Limits``, one frozen value with a default for each bound, and ``LIMITS``, the table of
kinds, ranges, units and reasons.  Because: a guest without a bound is a guest that can take
the machine, so none of them can be switched off, only moved within its range.  Then: the
ranges refuse slips (a zero that a kernel interface reads as "no limit", seconds written as
milliseconds), and the reference page prints the same table.
"""

from __future__ import annotations

from .._record import Record
from ..errors import PolicyError
from .checks import kind, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

KIB = 2**10
MIB = 2**20
GIB = 2**30
TIB = 2**40
DAY_S = 86_400


class Limits(Record):
    """How much a guest may use.  Units stand in the names; every field has a finite default.

    Raises:
        PolicyError: a value of the wrong type, not finite, or outside its range in ``LIMITS``.
    """

    wall_s: float = 5.0  # a person waits this long for an answer; an endless loop is noticed
    cpu_s: float = 5.0  # as wall_s: one busy thread reaches both together
    grace_s: float = 0.0  # none: what was asked to end is ended; a grace is given by name
    pause_s: float = 60.0  # a slow listener, or a person at one; a guest can cause no more of it
    cpu_cores: float = 1024.0  # no throttle: cpu_s bounds the whole, and a burst is what is wanted
    memory_bytes: int = 256 * MIB  # an interpreter with NumPy peaks at 27 MiB; the rest is for data
    output_bytes: int = MIB  # stdout and stderr together: some 10,000 full lines, more than is read
    output_bytes_per_s: int = TIB  # no throttle: output_bytes bounds the whole
    processes: int = 0  # beyond the guest itself: computing needs none, a fork bomb needs one
    threads: int = 16  # beyond the main one: thread pools of numeric libraries on small machines
    open_files: int = 64  # a handful of data files plus what the interpreter holds open
    work_bytes: int = 64 * MIB  # everything in /work and /tmp; lives in memory, counted apart
    work_files: int = 4096  # files and directories there: an unpacked archive, not a flood
    file_bytes: int = 64 * MIB  # any single file, granted places included: as work_bytes
    value_bytes: int = 16 * MIB  # the result's value, decoded: it lands in the host's own memory
    artifact_bytes: int = 16 * MIB  # as value_bytes: some hundred figures, or a picture for print

    def __post_init__(self) -> None:
        for name in self._fields:
            self.__dict__[name] = check_limit(name, self.__dict__[name])

    def __and__(self, other: Limits) -> Limits:
        """The smaller of each bound."""
        if self <= other:
            return self
        smaller: dict[str, Any] = {name: min(self[name], other[name]) for name in LIMITS}
        return Limits(**smaller)

    def __or__(self, other: Limits) -> Limits:
        """The larger of each bound."""
        if other <= self:
            return self
        larger: dict[str, Any] = {name: max(self[name], other[name]) for name in LIMITS}
        return Limits(**larger)

    def __le__(self, other: Limits) -> bool:
        """Is each bound at most the other's?"""
        return all(self[name] <= other[name] for name in self._fields)

    def __getitem__(self, name: str) -> float:
        """The bound called ``name``; ``KeyError`` if there is none."""
        if name not in LIMITS:
            raise KeyError(name)
        value: float = self.__dict__[name]
        return value


class LimitSpec(Record):
    """One row of ``LIMITS``: what values a bound takes, and why it is what it is."""

    kind: str  # "int" or "float"
    low: float  # smallest value accepted
    high: float  # largest value accepted
    unit: str  # "seconds", "bytes", "bytes per second", "cores" or "count"
    bounds: str  # what it bounds
    reason: str  # why this default and this range


LIMITS: dict[str, LimitSpec] = {
    "wall_s": LimitSpec(
        "float",
        0.001,
        7 * DAY_S,
        "seconds",
        "time from the first instruction to the end",
        "a person waits this long for an answer; below 1 ms no code is reached, and a longer job "
        "than a week wants a batch system",
    ),
    "cpu_s": LimitSpec(
        "float",
        0.001,
        7 * DAY_S,
        "seconds",
        "processor time of all threads together",
        "as wall_s: one busy thread reaches both together",
    ),
    "grace_s": LimitSpec(
        "float",
        0.0,
        60.0,
        "seconds",
        "time to clean up, wall and processor, once wall_s or cpu_s is used up",
        "0 ends the code at once; clean-up takes milliseconds, and what needs more than a minute "
        "is work",
    ),
    "pause_s": LimitSpec(
        "float",
        0.0,
        7 * DAY_S,
        "seconds",
        "time in all for which the host's own work for the guest stops the clock of wall_s",
        "a slow on_output, or a person who reads; finite, because code can cause calls",
    ),
    "cpu_cores": LimitSpec(
        "float",
        0.01,
        1024.0,
        "cores",
        "processor time per second; beyond it the code is stopped for a while, not ended",
        "1024 is no throttle, because cpu_s bounds the whole; below 0.01 an import takes as long as wall_s",
    ),
    "memory_bytes": LimitSpec(
        "int",
        16 * MIB,
        TIB,
        "bytes",
        "address space beyond the bare interpreter: heap, maps, stacks (files in /work and /tmp count apart)",
        "an interpreter with NumPy peaks at 27 MiB, the rest is for data; a bare one peaks at "
        "13 MiB, so less than 16 runs nothing",
    ),
    "output_bytes": LimitSpec(
        "int",
        0,
        TIB,
        "bytes",
        "stdout and stderr together",
        "some 10,000 full lines, more than is read; 0 lets nothing out",
    ),
    "output_bytes_per_s": LimitSpec(
        "int",
        KIB,
        TIB,
        "bytes per second",
        "how fast stdout and stderr are read; a guest that writes faster waits, and loses nothing",
        "1 TiB is no throttle, because output_bytes bounds the whole; below 1 KiB/s a traceback "
        "takes longer than wall_s",
    ),
    "processes": LimitSpec(
        "int",
        0,
        4096,
        "count",
        "processes beyond the one the guest is, alive at one time; they share the account of threads",
        "computing needs none, a fork bomb needs one",
    ),
    "threads": LimitSpec(
        "int",
        0,
        4096,
        "count",
        "threads beyond the main one",
        "thread pools of numeric libraries on small machines",
    ),
    "open_files": LimitSpec(
        "int",
        16,
        65_536,
        "count",
        "file descriptors open at one time",
        "a handful of data files plus what the interpreter holds open; fewer than 16 leave none for the code",
    ),
    "work_bytes": LimitSpec(
        "int",
        64 * KIB,
        TIB,
        "bytes",
        "everything in /work and /tmp together",
        "it lives in memory and counts there; never 0, because a tmpfs reads size 0 as no limit",
    ),
    "work_files": LimitSpec(
        "int",
        16,
        2**24,
        "count",
        "files and directories in /work and /tmp together",
        "an unpacked archive, not a flood; never 0, because a tmpfs reads 0 inodes as no limit",
    ),
    "file_bytes": LimitSpec(
        "int",
        0,
        TIB,
        "bytes",
        "any single file, granted places included",
        "as work_bytes; 0 lets no file hold a byte",
    ),
    "value_bytes": LimitSpec(
        "int",
        KIB,
        2 * GIB,
        "bytes",
        "the value of a result, decoded",
        "it lands in the host's own memory; below 1 KiB not even a short list fits",
    ),
    "artifact_bytes": LimitSpec(
        "int",
        0,
        2 * GIB,
        "bytes",
        "all artifacts of a run together: figures, tables and what else it shows",
        "some hundred figures; they land in the host's own memory; 0 takes none",
    ),
}

_WANTED = {
    ("float", "seconds"): "a number of seconds",
    ("float", "cores"): "a number of processors",
    ("int", "bytes"): "a whole number of bytes (int)",
    ("int", "bytes per second"): "a whole number of bytes per second (int)",
    ("int", "count"): "a whole number (int)",
}


def check_limit(name: str, value: object) -> float:
    """``value`` as the field ``name`` holds it: an int, or a float for seconds.

    Raises:
        PolicyError: wrong type (bool is not a number here), not finite, or out of range.
    """
    key = f"limits.{name}"
    spec = LIMITS[name]
    wanted = _WANTED[spec.kind, spec.unit]
    numbers = (int, float) if spec.kind == "float" else (int,)
    if isinstance(value, bool) or not isinstance(value, numbers):
        hint = ""
        if isinstance(value, str) and spec.unit not in ("count", "cores"):
            hint = "; texts with units are for the command line and policy files"
        elif isinstance(value, float):
            hint = "; floats lose digits"
        raise PolicyError(key, f"expected {wanted}, got {kind(value)} {show(value)}{hint}")
    if not spec.low <= value <= spec.high:  # false for NaN too
        raise PolicyError(
            key, f"{show(value)} is out of range: {spec.low:,} to {spec.high:,} ({spec.unit})"
        )
    return float(value) if spec.kind == "float" else int(value)


DEFAULTS = Limits()
