"""Opens files and never closes them.  Fuse: 100,000.

tries:  to use up the machine's open files
expect: limit open_files
"""

import os

hoard = []
for _ in range(100_000):
    hoard.append(os.open("/dev/null", os.O_RDONLY))
