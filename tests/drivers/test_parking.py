"""M1: stopping a guest of several processes takes steps, between which others may go on."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from belljar.drivers.blocking import Loop
from belljar.policy import Limits


class Guest:
    """Looks at a guest's processes, one after the other; the last one for ever."""

    def __init__(self, looks: Iterable[tuple[list[int], bool]]) -> None:
        self._looks: Iterator[tuple[list[int], bool]] = iter(looks)
        self._stopped = False
        self.looks = self.stops = 0
        self.killed = False
        self.group = None

    def pids(self) -> list[int]:
        self.looks += 1
        found, self._stopped = next(self._looks)
        return found

    def stopped(self) -> bool:
        return self._stopped

    def signal_others(self, _number: int) -> None:
        self.stops += 1

    def signal(self, _number: int) -> None:
        return

    def kill(self) -> None:
        self.killed = True


def parked(looks: Iterable[tuple[list[int], bool]]) -> tuple[Guest, int]:
    """Parks such a guest; how many rests it took."""
    guest = Guest(looks)
    loop: Any = Loop.__new__(Loop)
    loop.account = loop.ends = guest
    loop.limits = Limits(processes=4)
    loop.looks_left = 0
    loop.park()
    rests = 0
    while loop.parking:
        rests += 1
        assert loop.wait_ms() == 0
        assert loop.go_on([]) == (0.001 if loop.parking else 0.0)
    return guest, rests


def test_M1_a_guest_that_stands_still_needs_no_rest() -> None:
    guest, rests = parked(itertools.repeat(([7, 8], True)))
    assert (guest.looks, guest.stops, rests, guest.killed) == (2, 1, 0, False)


def test_M1_one_that_makes_more_is_stopped_again() -> None:
    more = [([7], True), ([7, 8], True), ([7, 8], True)]
    guest, rests = parked(more)
    assert (guest.looks, rests, guest.killed) == (3, 0, False)


def test_M1_one_that_goes_on_is_stopped_again_after_a_rest() -> None:
    running = [([7, 8], False)] * 3
    guest, rests = parked(itertools.chain(running, itertools.repeat(([7, 8], True))))
    assert (guest.looks, guest.stops, rests, guest.killed) == (5, 4, 2, False)


def test_M1_one_that_never_stands_still_is_killed() -> None:
    guest, rests = parked(itertools.repeat(([7, 8], False)))
    assert (guest.looks, rests, guest.killed) == (16, 14, True)


def test_M1_one_that_never_stays_the_same_is_killed() -> None:
    guest, rests = parked(([7, number], True) for number in itertools.count())
    assert (guest.looks, rests, guest.killed) == (16, 0, True)
