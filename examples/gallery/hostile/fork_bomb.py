"""A fork bomb.  Its fuse: six generations, so that a broken sandbox costs 64 processes.

tries:  to start processes: fork, posix_spawn, subprocess
expect: ok
value:  0
"""

import os
import subprocess

GENERATIONS = 6

started = 0
for _ in range(GENERATIONS):
    try:
        pid = os.fork()
    except OSError as refused:
        print(f"fork: {type(refused).__name__}: {refused}")
    else:
        started += 1
        if pid == 0:
            continue  # the child forks on, too

for what, action in {
    "posix_spawn": lambda: os.posix_spawn("/bin/sh", ["sh", "-c", ""], {}),
    "subprocess": lambda: subprocess.Popen(["/bin/sh", "-c", ""]),
    "system": lambda: os.system("true") == 0 or None,
}.items():
    try:
        started += action() is not None
    except OSError as refused:
        print(f"{what}: {type(refused).__name__}: {refused}")

started
