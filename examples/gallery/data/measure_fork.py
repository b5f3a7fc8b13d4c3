"""Measure how long fork, exit and wait take, as CSV on standard output.

What: 100 samples each for a process that has written to 0, 16 and 64 MiB of memory.
Because: fork copies the page tables, so the cost grows with the memory that is in
use, which makes a small data set with something in it to find.  Then: run
``python measure_fork.py > fork_latency.csv`` to replace the shipped file with
figures of your own machine.
"""

from __future__ import annotations

import os
import sys
import time

SIZES_MIB = (0, 16, 64)
SAMPLES = 100

print(
    f"# Latency of fork + _exit + waitpid, measured by examples/gallery/data/{os.path.basename(__file__)}:"
)
print(
    f"# CPython {sys.version_info.major}.{sys.version_info.minor}, Linux, {os.cpu_count()} processors, {SAMPLES} samples per size, in the order taken."
)
print(
    "# resident_mib: memory written to before forking; fork_us: microseconds on the monotonic clock."
)
print("sample,resident_mib,fork_us")
sample = 0
for size in SIZES_MIB:
    ballast = bytearray(os.urandom(4096) * (size * 256))
    for _ in range(SAMPLES):
        start = time.perf_counter_ns()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        sample += 1
        print(f"{sample},{size},{(time.perf_counter_ns() - start) / 1000:.1f}")
    del ballast
