"""One loop for every fuzzer: inputs from a seed, and how to have the bad one again.

What: ``run`` hands a target a generator of random numbers, again and again.  Because: a fuzzer
whose finding cannot be had again is of no use, and coverage guidance (atheris) has no wheels
for some Pythons.  Then: an input depends on the name, the seed and the index alone; what goes
wrong is raised with the command that repeats it, and what hangs ends the process with it.
"""

from __future__ import annotations

import faulthandler
import os
import random
import sys
import time
from collections.abc import Callable

HANG_S = 300  # generous for one input on a machine that is busy with other things
Target = Callable[[random.Random], object]

# What share of the long suite's time each has; the wire has the most hostile side.  The
# filters and the real commands count inputs instead.
SHARES = {"wire": 0.4, "atheris": 0.3, "policy": 0.15, "command": 0.15}


class Found(AssertionError):
    """An input that breaks the invariant of its target."""


def repeat(name: str, seed: int, index: int) -> str:
    """The command that has this input again."""
    return f"python -m tests.fuzz {name} --seed {seed} --index {index}"


def one(name: str, target: Target, seed: int, index: int) -> None:
    """Hold the invariant for one input.  Raises ``Found``."""
    rng = random.Random(f"{name}:{seed}:{index}")
    try:
        target(rng)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        text = f"{type(error).__name__}: {error}"[:2000]
        raise Found(f"{text}\nagain: {repeat(name, seed, index)}") from error


def run(
    name: str, target: Target, seed: int, *, inputs: int | None = None, seconds: float = 0.0
) -> int:
    """So many inputs, or as many as fit; returns how many it were.  Raises ``Found``."""
    until = time.monotonic() + seconds
    index = 0
    while index < inputs if inputs is not None else time.monotonic() < until:
        if index % 50 == 0:
            # Of the process, because pytest puts something without a descriptor into its place.
            stderr = sys.__stderr__ or sys.stderr
            faulthandler.dump_traceback_later(HANG_S, exit=True, file=stderr)
        try:
            one(name, target, seed, index)
        except Found:
            faulthandler.cancel_dump_traceback_later()
            raise
        index += 1
    faulthandler.cancel_dump_traceback_later()
    return index


def long_seconds(name: str) -> float:
    """This fuzzer's part of ``BELLJAR_FUZZ_SECONDS`` (60 without it)."""
    return float(os.environ.get("BELLJAR_FUZZ_SECONDS", "60")) * SHARES[name]


def long_seed() -> int:
    """``BELLJAR_FUZZ_SEED``, else one of the moment, so that each night draws others."""
    named = os.environ.get("BELLJAR_FUZZ_SEED")
    return int(named) if named else int(time.time())
