"""``python -m bench overshoot``: how long after ``wall_s`` a run has ended.

What: for each way to hold on, the kernel's time of the guest's end, and the time at which the
caller has the result, both minus ``wall_s``.  Because: a limit that is late by a second on
some input is a limit that a server cannot plan with.  Then: median, 99th percentile and
worst of so many runs; no test asserts a time.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import belljar
from belljar import Policy

WALL_S = 0.5  # long enough for a thousand threads to be there
AIM_S = 0.05  # beside what the machine's scheduler adds


@dataclass(frozen=True)
class Case:
    """One way to hold on.  ``busy``: on the processor; ``more``: what it is allowed besides."""

    name: str
    code: str
    busy: bool = True
    more: dict[str, Any] = field(default_factory=dict)


THREADS = (
    "import _thread, hashlib, threading\nthreading.stack_size(65536)\n"
    "gate = _thread.allocate_lock(); gate.acquire()\n"
    "def spin():\n    gate.acquire(); gate.release()\n"
)
ALL_AT_ONCE = "for _ in range(1000): _thread.start_new_thread(spin, ())\ngate.release(); spin()\n"

CASES = (
    Case("empty loop", "while True: pass"),
    Case("power", "pow(3, 10**9) and None"),
    Case("regular expression", "import re; re.match(r'(a+)+$', 'a' * 40 + 'b')"),
    Case("sum of a range", "sum(range(10**12))"),
    Case("digits to int", "import sys; sys.set_int_max_str_digits(0); int('9' * 10**7)"),
    Case(
        "sort",
        "import random; a = [random.random() for _ in range(10**6)] * 100; a.sort()",
        more={"memory_bytes": 2 * 2**30},
    ),
    Case("copy of memory", "x = bytearray(2**26)\nwhile True: bytes(x)"),
    Case("system calls", "import os\nwhile True: os.getppid()"),
    Case("sleep", "import time; time.sleep(3600)", busy=False),
    Case("blocked read", "import os; os.read(os.pipe()[0], 1)", busy=False),
    Case("lock", "import threading; l = threading.Lock(); l.acquire(); l.acquire()", busy=False),
    Case("wait for a child", "import os, signal; signal.sigwait([signal.SIGCHLD])", busy=False),
    Case("stopped", "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", busy=False),
    Case(
        "1,000 threads",
        THREADS + "    while True: pass\n" + ALL_AT_ONCE,
        more={"threads": 1000, "memory_bytes": 2**31},
    ),
    Case(
        "1,000 threads in C",
        THREADS + "    hashlib.pbkdf2_hmac('sha256', b'x', b'y', 2**31 - 1)\n" + ALL_AT_ONCE,
        more={"threads": 1000, "memory_bytes": 2**31},
    ),
    Case(
        "much memory",
        "x = bytearray(300 * 2**20)\nfor n in range(0, len(x), 4096): x[n] = 1\nwhile True: pass",
        more={"memory_bytes": 2**30},
    ),
    Case("blocked signals", "import signal\n"
    "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\nwhile True: pass"),
    Case("every exception caught", "while True:\n    try:\n        n = 0\n        while True: n += 1\n"
    "    except BaseException: pass"),
)  # fmt: skip


@dataclass(frozen=True)
class Overshoot:
    """One case: seconds after ``wall_s``, of the guest's end and of the caller's result."""

    name: str
    ends_s: list[float]
    results_s: list[float]


def measure(case: Case, turns: int, grace_s: float = 0.0) -> Overshoot:
    """Run one case ``turns`` times, after one that does not count."""
    policy = Policy().limit(wall_s=WALL_S).allow(cpu_s=600, grace_s=grace_s, **case.more)
    ends: list[float] = []
    results: list[float] = []
    for turn in range(turns + 1):
        began = time.monotonic()
        result = belljar.run(case.code, policy)
        took = time.monotonic() - began
        if result.limit is None or result.limit.name != "wall":
            raise RuntimeError(f"{case.name}: {result.status} {result.limit} {result.error}")
        if turn:
            ends.append(result.usage.wall_s - WALL_S)
            # The start is not overshoot: what is left is the wait for pipes and the report.
            results.append(took - sum(result.usage.stages.values()) - WALL_S)
    return Overshoot(case.name, ends, results)


def percentile(values: list[float], share: float) -> float:
    """The value that so large a share of all are at most."""
    ranked = sorted(values)
    return ranked[min(int(share * len(ranked)), len(ranked) - 1)]


def main(turns: int) -> int:
    """Measure every case and print the table."""
    print(f"milliseconds after wall_s = {WALL_S:g} s, {turns} runs each; aim {AIM_S * 1e3:g}")
    print(
        f"{'case':24} {'end: median':>12} {'p99':>7} {'worst':>7} {'result: median':>15} {'worst':>7}"
    )
    for case in CASES:
        one = measure(case, turns)
        print(
            f"{one.name:24} {statistics.median(one.ends_s) * 1e3:12.1f} "
            f"{percentile(one.ends_s, 0.99) * 1e3:7.1f} {max(one.ends_s) * 1e3:7.1f} "
            f"{statistics.median(one.results_s) * 1e3:15.1f} {max(one.results_s) * 1e3:7.1f}",
            flush=True,
        )
    return 0
