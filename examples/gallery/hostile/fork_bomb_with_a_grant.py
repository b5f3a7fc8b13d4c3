"""A fork bomb where processes are granted: each one tries to double, and to stay behind.

tries:  to multiply without end within a grant of four processes, and to outlive the run
grants: processes=4
limits: wall_s=1
expect: limit wall
"""

import os

while True:
    try:
        if os.fork() == 0:
            os.setsid()
    except OSError:
        pass
