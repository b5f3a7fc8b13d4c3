"""The soak itself: two threads that run cases, and readings in between.

What: each round deals out some hundreds of cases to two threads of one process; between rounds
everything is read.  Because: threads share zygotes, descriptors and the memory of the host,
which is where a leak or a race would be; the guests are processes and take the second core
anyway.  Then: a round begins with new threads, so zygotes also outlive the thread that
started them.
"""

from __future__ import annotations

import faulthandler
import random
import sys
import threading
import time
import traceback
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import belljar

from . import good, hostile, watch
from .cases import KINDS, PATIENT, Case, Kind, Place, draw
from .faults import Faults, Raised

WORKERS = 2
TRIES = 5  # of a run that a fault has touched
STUCK_S = 900.0  # a round that takes longer hangs; where each thread is, is printed
_LISTED = (good, hostile)  # their cases are in the table once they are imported


@dataclass
class Wrong:
    """A run that did not come out as it must: enough to have it again."""

    index: int
    kind: str
    what: str


@dataclass
class Tally:
    """What came of the runs."""

    runs: Counter[str] = field(default_factory=Counter[str])  # by kind
    outcomes: Counter[str] = field(default_factory=Counter[str])  # by status, limit, error
    touched: int = 0  # runs that a fault ended, tried again
    wrong: list[Wrong] = field(default_factory=list[Wrong])


class Soak:
    """Runs the cases ``0`` to ``runs - 1`` of a seed.

    ``note`` is called with each reading, on the calling thread.
    """

    def __init__(
        self, seed: int, runs: int, place: Place, note: Callable[[watch.Sample], object]
    ) -> None:
        self.seed = seed
        self.runs = runs
        self.place = place
        self.note = note
        self.faults = Faults()
        self.tally = Tally()
        # One piece of memory for all readings: they must not be what grows.
        self._readings = array("d")
        self._lock = threading.Lock()

    @property
    def samples(self) -> list[watch.Sample]:
        """The readings so far."""
        width = len(watch.FIELDS)
        rows = [self._readings[at : at + width] for at in range(0, len(self._readings), width)]
        return [watch.Sample(*[int(figure) for figure in row]) for row in rows]

    def run(self, per_round: int, warm_up: int) -> None:
        """Do all of it; ``warm_up`` runs come before the first reading that counts."""
        watch.adopt_orphans()
        self.place.make()
        known = watch.files()
        # The zygote of most runs: it is watched, and so it is spared.
        belljar.run("1", PATIENT)
        self.faults.spared = next(p.pid for p in watch.children() if p.name == watch.ZYGOTE)
        self._one_of_each()
        began = time.monotonic()
        first = 0
        while first < self.runs:
            last = min(first + per_round, self.runs)
            if first < warm_up < last:
                last = warm_up
            self._round(iter(range(first, last)))
            first = last
            reading = watch.sample(first, time.monotonic() - began, known)
            self._readings.extend(getattr(reading, name) for name in watch.FIELDS)
            self.note(reading)
            for name in watch.files() - known:
                print(f"a file that was not there: {name}", file=sys.stderr)

    def _one_of_each(self) -> None:
        """What is imported, opened and kept at first use is there before the first reading."""
        for kind in KINDS.values():
            case = kind.make(random.Random(kind.name), self.place, -1)
            if not case.deed:
                attempt(case, self.faults)

    def _round(self, indices: Iterator[int]) -> None:
        faulthandler.dump_traceback_later(STUCK_S, exit=True)
        crew = [threading.Thread(target=self._work, args=(indices,)) for _ in range(WORKERS)]
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()
        faulthandler.cancel_dump_traceback_later()

    def _work(self, indices: Iterator[int]) -> None:
        while True:
            with self._lock:
                index = next(indices, None)
            if index is None:
                return
            kind, case = draw(self.seed, index, self.place)
            what = self._one(case)
            with self._lock:
                self.tally.runs[kind.name] += 1
                if what is not None:
                    self.tally.wrong.append(Wrong(index, kind.name, what))
                    print(f"wrong: --index {index}: {kind.name}: {what}", file=sys.stderr)

    def _one(self, case: Case) -> str | None:
        """Run a case until no fault is to blame; what is wrong with it, if anything is."""
        what: str | None = None
        for _ in range(TRIES):
            began = time.monotonic()
            outcome, what, excusable = attempt(case, self.faults)
            with self._lock:
                self.tally.outcomes[outcome] += 1
            if what is None or not (excusable and self.faults.touched(began)):
                return what
            with self._lock:
                self.tally.touched += 1
        return what


def attempt(case: Case, faults: Faults) -> tuple[str, str | None, bool]:
    """One run: how it ended, what is wrong with that, whether a fault could be why."""
    done = False

    def act(_stream: str, _data: bytes) -> None:
        nonlocal done
        if not done:
            done = True
            faults.do(case.deed)

    try:
        result = belljar.run(
            case.code,
            case.policy,
            inputs=case.inputs,
            argv=case.argv,
            stdin=case.stdin,
            files=case.files,
            on_output=act if case.deed else None,
            preload=case.preload,
        )
    except Raised:
        return "callback's own exception", None, False
    except belljar.SandboxFailure as error:
        right = case.deed == "kill zygotes" and done and error.retryable
        outcome = f"{type(error).__name__}, {'' if error.retryable else 'not '}retryable"
        return outcome, None if right else f"{outcome}: {error}", error.retryable
    except BaseException:
        return "host exception", traceback.format_exc(), False
    outcome = result.status
    if result.limit is not None:
        outcome += f" {result.limit.name}"
    elif result.status == "crashed" and result.signal is None:
        outcome += " (protocol)"
    found = case.check(result)
    if found is None:
        found = case.after()
    return outcome, found, result.status == "crashed" and result.signal == 9


def replay(seed: int, index: int, place: Place) -> tuple[Kind, Case, str | None]:
    """The case of a seed and an index, alone."""
    place.make()
    kind, case = draw(seed, index, place)
    _, what, _ = attempt(case, Faults())
    return kind, case, what


def kinds() -> dict[str, Kind]:
    """The table of kinds."""
    return KINDS
