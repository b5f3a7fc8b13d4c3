"""Timing two things in turn, and saying how they compare."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One comparison: medians in seconds, and the median of the ratios turn by turn."""

    name: str
    ours: str
    theirs: str
    ours_s: float
    theirs_s: float
    ratio: float
    aim: float | None
    turns: int

    @property
    def reached(self) -> bool | None:
        return None if self.aim is None else self.ratio <= self.aim


def in_turn(
    name: str,
    ours: tuple[str, Callable[[], object]],
    theirs: tuple[str, Callable[[], object]],
    *,
    turns: int,
    aim: float | None = None,
) -> Figure:
    """Time ``ours`` and ``theirs`` alternately, after one turn that does not count."""
    times: list[tuple[float, float]] = []
    for turn in range(turns + 1):
        pair = (seconds(ours[1]), seconds(theirs[1]))
        if turn:
            times.append(pair)
    return Figure(
        name=name,
        ours=ours[0],
        theirs=theirs[0],
        ours_s=statistics.median(a for a, _ in times),
        theirs_s=statistics.median(b for _, b in times),
        ratio=statistics.median(a / b for a, b in times),
        aim=aim,
        turns=turns,
    )


def seconds(act: Callable[[], object]) -> float:
    """How long one call takes, on the wall."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start
