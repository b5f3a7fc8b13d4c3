"""Computes for ever and ignores the signal that says time is up.  Fuse: 60 s.

tries:  to use a processor for ever, SIGXCPU ignored
limits: cpu_s=1
expect: limit cpu
"""

import signal
import time

try:
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
except (OSError, ValueError) as refused:
    print(f"ignore SIGXCPU: {refused}")

number = 27
while time.process_time() < 60:
    number = number // 2 if number % 2 == 0 else 3 * number + 1
