"""Whether the readings are level: slopes by least squares, and the bounds they are held to.

What: for each quantity the change per 1,000 runs, and whether that is nothing.  Because: one
reading says little (the allocator keeps what a large result needed once), the trend over
hundreds of them says whether something grows with the number of runs.  Then: what is counted
must not be more in the second half than it ever was in the first, what is measured must
have no slope.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .watch import Sample

# Smaller than the smallest container that Python makes (an empty tuple has 40 bytes): a run
# that leaves one single object behind is over it.
MOST_BYTES = 32_000
# One piece of memory in ten runs.
MOST_BLOCKS = 100
# Resident memory goes up and down by 2 MB with the runs that were last.  Over this many runs
# such noise makes a slope of 10,000 bytes at most; over fewer it could pass for a leak.
ENOUGH_RUNS = 50_000
ENOUGH_RUNS_FOR_PIECES = 5_000  # they are counted, not measured


@dataclass(frozen=True)
class Quantity:
    """Something that must not grow; ``bound`` is per 1,000 runs, None where it is counted."""

    name: str
    of: Callable[[Sample], int]
    unit: str = ""
    bound: int | None = None
    of_zygote: bool = False


MEASURED = (
    Quantity("host, resident", lambda s: s.host_rss, "bytes", MOST_BYTES),
    Quantity("host, anonymous", lambda s: s.host_anonymous, "bytes", MOST_BYTES),
    Quantity("host, pieces handed out", lambda s: s.host_blocks, "pieces", MOST_BLOCKS),
    Quantity("zygote, resident", lambda s: s.zygote_rss, "bytes", MOST_BYTES, True),
    Quantity("zygote, anonymous", lambda s: s.zygote_anonymous, "bytes", MOST_BYTES, True),
)
COUNTED = (
    Quantity("descriptors of the host", lambda s: s.host_descriptors),
    Quantity("descriptors of a zygote, at most", lambda s: s.zygote_descriptors),
    Quantity("processes beside the zygotes", lambda s: s.processes),
    Quantity("mounts of the host", lambda s: s.host_mounts),
    Quantity("mounts of a zygote", lambda s: s.zygote_mounts, of_zygote=True),
    Quantity("control groups", lambda s: s.cgroups),
    Quantity("files in /tmp, /var/tmp, /dev/shm", lambda s: s.files),
)
# These depend on what else lives on the machine: shown, not judged.
SHOWN = (
    Quantity("host, its share of shared pages counted (PSS)", lambda s: s.host_pss, "bytes"),
    Quantity("zygote, the same", lambda s: s.zygote_pss, "bytes"),
    Quantity(
        "kernel memory of the machine that cannot be reclaimed", lambda s: s.kernel_bytes, "bytes"
    ),
    Quantity("open files of the machine", lambda s: s.open_files),
)


def fitting(quantity: Quantity, samples: Sequence[Sample]) -> list[Sample]:
    """The readings to compare: of a zygote, those of the one that was the eldest for longest."""
    if not quantity.of_zygote:
        return list(samples)
    ((pid, _),) = Counter(s.zygote_pid for s in samples).most_common(1)
    return [s for s in samples if s.zygote_pid == pid]


def slope(samples: Sequence[Sample], of: Callable[[Sample], int]) -> float:
    """The change per 1,000 runs that fits the readings best."""
    xs = [s.run / 1000 for s in samples]
    ys = [of(s) for s in samples]
    x0, y0 = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - x0) ** 2 for x in xs)
    return sum((x - x0) * (y - y0) for x, y in zip(xs, ys, strict=True)) / spread if spread else 0.0


def after_warm_up(samples: Sequence[Sample], warm_up: int) -> list[Sample]:
    """The readings that count."""
    return [s for s in samples if s.run >= warm_up]


def span(samples: Sequence[Sample]) -> int:
    """Runs from the first reading to the last."""
    return samples[-1].run - samples[0].run


def is_judged(quantity: Quantity, samples: Sequence[Sample]) -> bool:
    """Whether the readings span so many runs that this slope means something."""
    most = ENOUGH_RUNS if quantity.unit == "bytes" else ENOUGH_RUNS_FOR_PIECES
    return quantity.bound is not None and span(samples) >= most


def halves(samples: Sequence[Sample], of: Callable[[Sample], int]) -> tuple[int, int]:
    """The most in the first half of the readings, and in the second."""
    half = (len(samples) + 1) // 2
    return max(map(of, samples[:half])), max(map(of, samples[half:] or samples[-1:]))


def leaks(samples: Sequence[Sample]) -> list[str]:
    """What grows; ``samples`` are those that count."""
    found: list[str] = []
    for quantity in COUNTED:
        before, after = halves(fitting(quantity, samples), quantity.of)
        if after > before:
            found.append(f"{quantity.name}: {before} in the first half, {after} in the second")
    for quantity in MEASURED:
        compared = fitting(quantity, samples)
        if not is_judged(quantity, compared):
            continue
        change = slope(compared, quantity.of)
        if quantity.bound is not None and change > quantity.bound:
            found.append(f"{quantity.name}: {change:+,.0f} {quantity.unit} per 1,000 runs")
    return found
