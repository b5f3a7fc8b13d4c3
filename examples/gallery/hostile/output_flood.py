"""Prints without end, in Python and past Python's buffers.  Fuse: 4 GiB.

tries:  to fill the host's memory with output
expect: limit output
"""

import os

line = b"all work and no play makes Jack a dull boy\n" * 1000
for _ in range(4 * 2**30 // (2 * len(line))):
    os.write(1, line)
    os.write(2, line)
