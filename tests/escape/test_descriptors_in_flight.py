"""K9, K10, R2: descriptors that one guest keeps in flight do not set another one free.

What: a guest that passes descriptors to itself over a socket and never takes them out, up to the
kernel's bound for its user, on a machine with a small bound.  Because: the kernel counts them
for the whole user, and the zygote passes one too: the handle by which the host ends a guest.
Then: a guest of which the host would have no handle is not started; that is one typed error,
which says that it may be tried again, and is over when the other guest is.
"""

from __future__ import annotations

import json
import subprocess
import sys

HOST = """
import json, resource, sys, threading
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))
import belljar
from belljar import Policy, SandboxFailure
KEEP = '''
import array, socket, time
kept, total, error = [], 0, ""
many = array.array("i", [0] * 250)
while not error and total < 5000:
    left, right = socket.socketpair()
    left.setblocking(False)
    kept += [left, right]
    try:
        while True:
            left.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, many)])
            total += 250
    except BlockingIOError:
        pass
    except OSError as refused:
        error = refused.strerror
print(total, flush=True)
time.sleep(60)
'''
belljar.run("1")
full = threading.Event()
said = []
def listen(stream, data):
    said.append(data)
    full.set()
holder = threading.Thread(target=belljar.run, args=(KEEP, Policy().allow(open_files=4096, wall_s=3)),
    kwargs={"on_output": listen})
holder.start()
full.wait(60)
found = []
for _ in range(3):
    try:
        result = belljar.run("while True: pass", Policy().limit(wall_s=0.3))
    except SandboxFailure as failure:
        found.append(["failed", failure.stage, failure.retryable])
    else:
        found.append([result.limit.name, result.usage.wall_s < 2, "fork" in result.usage.stages])
holder.join()
json.dump([int(said[0]), found, belljar.run("40 + 2").value], sys.stdout)
"""


def test_K9_a_guest_without_a_handle_is_not_started() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOST], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    in_flight, found, after = json.loads(done.stdout)
    assert in_flight > 1000  # beyond the bound of 1024 with the last one
    for kind, *rest in found:
        # Ended in time and accounted for, or refused in a way that can be tried again.
        assert rest == [True, True] if kind == "wall" else (kind, rest[1]) == ("failed", True)
    assert after == 42
