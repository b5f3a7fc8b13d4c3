"""Runs on another machine, in a delegated cgroup: what guests' groups hold there, as JSON.

What: ``test_cgroups`` boots a kernel with this program.  Because: the memory controller of
cgroup v2 is there on few machines that run tests.  Then: each attack is made with the other
walls off (no RLIMIT_AS, a tmpfs without bounds), so that only the group can stop it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import belljar
from belljar.api import machine
from belljar.kernel import cgroups
from belljar.kernel.probe import probe_support

MIB = 2**20
LIMIT = 32 * MIB
WIDE = 2**40
OPEN = belljar.Policy().limit(memory_bytes=LIMIT, work_bytes=MIB).allow(wall_s=120, cpu_s=120)
ATTACKS = {
    "heap": "held = []\nwhile True: held.append(bytearray(1 << 20))",
    "shared map": (
        "import mmap\nheld = []\n"
        "while True:\n    held.append(mmap.mmap(-1, 1 << 20)); held[-1].write(b'x' * (1 << 20))"
    ),
    "files in memory": (
        "n = 0\nwhile True:\n    open(f'/work/{n}', 'wb').write(bytes(1 << 20)); n += 1"
    ),
    "names in memory": "import os\nn = 0\nwhile True:\n    os.mkdir(f'/tmp/{n}'); n += 1",
}
HOST = """
import belljar
belljar.run("import time; print('up', flush=True); time.sleep(600)",
    belljar.Policy().allow(wall_s=600), on_output=lambda *_: print("up", flush=True))
"""
FOUND: dict[str, object] = {}


def without_other_walls() -> None:
    """From now on plans have no limit on address space and none on files in memory."""
    made = machine.Prepared.__init__

    def prepared(self: machine.Prepared, *args: object, **kwargs: object) -> None:
        made(self, *args, **kwargs)  # type: ignore[arg-type]
        self.steps = [step for step in self.steps if step[0] != "limit_address_space"]
        for step in self.steps:
            if step[0] == "mount_own":
                step[1:3] = [WIDE, WIDE >> 10]

    machine.Prepared.__init__ = prepared  # type: ignore[method-assign]


def groups(base: str) -> list[str]:
    """The groups of belljar's in a group, and those of their guests."""
    return sorted(
        os.path.relpath(path, base)
        for path, _, _ in os.walk(base)
        if path != base and "belljar-" in path
    )


def told(result: belljar.Result) -> dict[str, object]:
    hit = result.limit
    return {
        "status": result.status,
        "value": result.value,
        "limit": None if hit is None else [hit.name, hit.allowed, hit.used, hit.evidence],
        "peak": result.usage.peak_memory_bytes,
        "cpu_s": result.usage.cpu_s,
        "error": None if result.error is None else result.error.traceback[-300:],
    }


def eventually(condition: object) -> bool:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


def start_host() -> tuple[subprocess.Popen[str], set[str]]:
    """Another program with a guest that sleeps, and the groups that are its."""
    before = set(groups(BASE))
    child = subprocess.Popen([sys.executable, "-c", HOST], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    return child, set(groups(BASE)) - before


def words(path: str) -> list[str]:
    return Path(path).read_text().split()


def janitors_of(host: int) -> list[int]:
    """Its children that have taken the name of a janitor."""
    children = words(f"/proc/{host}/task/{host}/children")
    return [int(pid) for pid in children if words(f"/proc/{pid}/comm") == ["belljar-janitor"]]


def janitors() -> int:
    """How many there are; that of a program that was killed goes last of all."""
    names = [words(f"/proc/{pid}/comm") for pid in words(f"{BASE}/belljar-host/cgroup.procs")]
    return names.count(["belljar-janitor"])


# A program beside this one sees that the group is not its own.
why = "from belljar.kernel.cgroups import find; found = find(); print(found.path, found.why)"
FOUND["beside"] = subprocess.check_output([sys.executable, "-c", why], text=True).strip()

support = probe_support()
BASE = support.cgroup
FOUND["support"] = [support.cgroup, sorted(support.controllers), dict(support.why)]
FOUND["before"] = groups(BASE)

plan = machine.plan_for(belljar.Policy(), support)
assert plan.group is not None
FOUND["plan"] = [plan.group.memory_bytes, plan.group.tasks, [step.verb for step in plan.guest][:2]]
FOUND["held"] = {held.name: held.mechanisms for held in plan.guarantees}

seen: list[object] = []


def look(now: belljar.UsageNow) -> None:
    """Called on this thread while the guest runs: the files of its group, as the kernel has them."""
    (own,) = [name for name in groups(BASE) if name.rpartition("/")[2].isdigit()]
    files = {
        name: words(f"{BASE}/{own}/{name}")
        for name in ("memory.max", "memory.oom.group", "pids.max", "cgroup.procs")
    }
    if files["cgroup.procs"]:
        seen[:] = [[files, now.memory_bytes, now.peak_memory_bytes, now.cpu_s]]


busy = "import time\nheld = bytearray(40 << 20)\ntime.sleep(3)\nlen(held)"
FOUND["run"] = told(belljar.run(busy, belljar.Policy().allow(wall_s=60), on_usage=look))
FOUND["seen"] = seen
FOUND["caught"] = told(
    belljar.run("try: bytearray(1 << 30)\nexcept MemoryError: pass\n'on'", belljar.Policy())
)
FOUND["full"] = told(
    belljar.run(
        "n = 0\ntry:\n    while True: open(f'/work/{n}', 'wb').write(bytes(1 << 20)); n += 1\n"
        "except OSError as e: x = e.errno\nheld = bytearray(200 << 20)\n[n, x]",
        belljar.Policy().allow(wall_s=60, cpu_s=60),
    )
)
FOUND["while"] = groups(BASE)

# The host is killed while its guest runs: nothing stays.
child, theirs = start_host()
FOUND["another host"] = len(theirs)
child.send_signal(signal.SIGKILL)
child.wait()
FOUND["cleared"] = eventually(lambda: not theirs & set(groups(BASE)))

# Its janitor is killed first: then the next program that starts clears up.
child, theirs = start_host()
FOUND["janitor"] = eventually(lambda: janitors_of(child.pid))
for pid in janitors_of(child.pid):
    os.kill(pid, signal.SIGKILL)
child.send_signal(signal.SIGKILL)
child.wait()
time.sleep(1)
FOUND["stale"] = len(theirs & set(groups(BASE)))
child, _ = start_host()
FOUND["swept"] = eventually(lambda: not theirs & set(groups(BASE)))
child.send_signal(signal.SIGKILL)
child.wait()

FOUND["alone"] = eventually(lambda: len(groups(BASE)) == 2 and janitors() == 1)
machine.close()
FOUND["closed"] = [groups(BASE), str(os.getpid()) in words(f"{BASE}/cgroup.procs")]

without_other_walls()
machine._known.prepared.clear()
attacks: dict[str, object] = {}
left: list[str] = []
for name, code in ATTACKS.items():
    attacks[name] = told(belljar.run(code, OPEN))
    left += [group for group in groups(BASE) if group.rpartition("/")[2].isdigit()]
FOUND["attacks"], FOUND["left"] = attacks, left
FOUND["attack limit"] = machine.plan_for(OPEN, support).group.memory_bytes  # type: ignore[union-attr]
FOUND["still"] = told(belljar.run("6 * 7"))
machine.close()
FOUND["after"] = groups(BASE)
assert cgroups.find().path == BASE
print(json.dumps(FOUND))
