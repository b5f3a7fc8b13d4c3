"""Throttles: what slows a guest down and does not end it.

What: a share of the processor (``cpu_cores``) and a rate of output (``output_bytes_per_s``),
each a token bucket.  Because: the use is known only afterwards (a clock that is read, a piece
that was read), so debt is what keeps the average exact.  Then: while there is debt the guest
is frozen, or its pipes are not read, and the debt says for how long.
"""

from __future__ import annotations

import math

from . import events as e

PERIOD_S = 0.1  # as the kernel's own bandwidth control: short for people, long for a scheduler
PIECE_BYTES = 1 << 16  # of output, read at a time: one pipe's capacity
_RESUME = 0.5  # of what can be saved up: less would stop and go on a thousand times a second
_FINEST_S = 1e-4  # a wait below this is none; it keeps sums of floats from making a loop of it
_FAST = 2**40  # bytes of output per second that are no throttle: the top of the range
_FINEST_CHECK_S = 0.005  # the CPU clock is read no more often: debt evens out what is missed
_FROZEN_CHECK_S = 0.02
# What: a frozen guest that uses processor time is stopped again, and ended after so much of
# it.  Because: SIGCONT from a thread that still runs, or from a timer, undoes a stop, and a
# long system call puts one off.  Then: the latter is waited for, the former leads nowhere.
MOST_WHILE_FROZEN_S = 1.0


class Bucket:
    """Tokens that come at a steady rate, ``PERIOD_S`` seconds' worth saved up at most."""

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._most = rate * PERIOD_S
        self._left = self._most
        self._at = now

    def left(self, now: float) -> float:
        """What may be used now; negative is debt."""
        self._left = min(self._left + max(now - self._at, 0.0) * self._rate, self._most)
        self._at = max(now, self._at)
        return self._left

    def take(self, amount: float, now: float) -> None:
        """Use so much, whether it is there or not."""
        self._left = self.left(now) - amount

    def wait(self, now: float) -> float:
        """Seconds until it is worth going on; 0 if it is so now."""
        seconds = (self._most * _RESUME - self.left(now)) / self._rate
        return seconds if seconds > _FINEST_S else 0.0


class Throttles:
    """Both throttles of one run.

    ``most_cores`` is what the guest can use with every thread busy: a share that is larger
    is none.  ``evaded`` is set, to its rate of processor time, where it undoes its stops.
    """

    def __init__(self, cores: float, bytes_per_s: int, most_cores: int, now: float) -> None:
        self._most_cores = min(most_cores, 64)
        self._share = Bucket(cores, now) if cores < most_cores else None
        self._rate = Bucket(bytes_per_s, now) if bytes_per_s < _FAST else None
        self._cpu_s = 0.0
        self._frozen_at = 0.0
        self._frozen_cpu_s = 0.0  # the processor time by then
        self._seen_cpu_s = 0.0  # and when it was last looked at
        self.frozen = False
        self.take_at = math.inf  # when held output is read again; infinite: it is not held
        self.evaded: float | None = None

    def used(self, cpu_s: float, now: float) -> None:
        """The guest's processor time so far."""
        if self._share is not None:
            self._share.take(cpu_s - self._cpu_s, now)
        self._cpu_s = cpu_s

    def most_output(self, now: float) -> int:
        """How many bytes may be read at a time."""
        if self._rate is None:
            return PIECE_BYTES
        return min(max(int(self._rate.left(now)), 1), PIECE_BYTES)

    def read(self, size: int, now: float) -> list[e.Instruction]:
        """So many bytes of output were read."""
        if self._rate is None:
            return []
        self._rate.take(size, now)
        if self.take_at < math.inf or self._rate.left(now) >= 1:
            return []
        self.take_at = now + self._rate.wait(now)
        return [e.HoldOutput()]

    def turn(self, now: float) -> list[e.Instruction]:
        """Let go on what has waited long enough; stop what has used more than its share."""
        instructions: list[e.Instruction] = []
        if now >= self.take_at:
            self.take_at = math.inf
            instructions.append(e.TakeOutput())
        if self._share is None:
            return instructions
        if self.frozen:
            if not self._share.wait(now):
                self.frozen = False
                instructions.append(e.Thaw())
            elif self._cpu_s > self._seen_cpu_s:
                instructions.append(e.Freeze())
                used = self._cpu_s - self._frozen_cpu_s
                if used >= MOST_WHILE_FROZEN_S:
                    self.evaded = used / max(now - self._frozen_at, _FROZEN_CHECK_S)
        elif self._share.left(now) < 0:
            self.frozen = True
            self._frozen_at, self._frozen_cpu_s = now, self._cpu_s
            instructions.append(e.Freeze())
        self._seen_cpu_s = self._cpu_s
        return instructions

    def next_check(self, wait: float, now: float) -> float:
        """Seconds until the CPU clock is to be read, where that is due in ``wait`` anyway."""
        if self._share is None:
            return wait
        if self.frozen:
            return min(max(self._share.wait(now), _FINEST_CHECK_S), _FROZEN_CHECK_S)
        return min(wait, max(self._share.left(now) / self._most_cores, _FINEST_CHECK_S))

    def lift(self, alive: bool, reading: bool) -> list[e.Instruction]:
        """The code runs no longer: what was written is read, and what is alive may end."""
        instructions: list[e.Instruction] = []
        if self.frozen and alive:
            instructions.append(e.Thaw())
        if self.take_at < math.inf and reading:
            instructions.append(e.TakeOutput())
        self.frozen = False
        self.take_at = math.inf
        return instructions
