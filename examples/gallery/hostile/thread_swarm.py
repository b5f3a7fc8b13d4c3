"""Starts threads until it is refused.  Fuse: 4,000.

tries:  to use up the machine's threads
expect: limit threads
"""

import threading

for_ever = threading.Event()
for _ in range(4_000):
    threading.Thread(target=for_ever.wait, daemon=True).start()
