"""Sleeps and refuses to be woken.  Fuse: 60 s.

tries:  to occupy the host asleep, with every signal blocked
limits: wall_s=1
expect: limit wall
"""

import signal
import time

try:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
except OSError as refused:
    print(f"block signals: {refused}")

end = time.monotonic() + 60
while time.monotonic() < end:
    try:
        time.sleep(60)
    except BaseException:
        pass
