"""Looking at the host: its processes, descriptors, mounts, files and memory.

What: small readings of ``/proc``, compared before and after.  Because: "nothing is left" is a
statement about the whole machine, and other programs live on it too.  Then: everything here
is narrowed to what this process started or what bears its mark.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_S = 30  # the kernel takes apart namespaces in its own time


class Process:
    """A process as ``/proc`` shows it."""

    def __init__(self, pid: int) -> None:
        text = Path(f"/proc/{pid}/stat").read_text()
        name, rest = text[text.index("(") + 1 :].rsplit(")", 1)
        fields = rest.split()
        self.pid = pid
        self.name = name
        self.state = fields[0]
        self.parent = int(fields[1])
        self.threads = int(fields[17])

    def __repr__(self) -> str:
        return f"{self.name}[{self.pid}] {self.state}"


def processes() -> list[Process]:
    """Every process of the machine that is still there when it is looked at."""
    found: list[Process] = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                found.append(Process(int(entry)))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def descendants(of: int | None = None) -> list[Process]:
    """The processes that come from one, itself not included; ours if it is left out."""
    everybody = processes()
    known = {os.getpid() if of is None else of}
    found: list[Process] = []
    while True:
        new = [p for p in everybody if p.parent in known and p.pid not in known]
        if not new:
            return found
        known.update(p.pid for p in new)
        found.extend(new)


def descriptors() -> list[str]:
    """What the open descriptors of this process name, but for their numbers."""
    found: list[str] = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}").split(":[")[0])
        except FileNotFoundError:
            continue
    return sorted(found)


def mounts() -> list[str]:
    """The mounts of this process's namespace, without their ids."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return sorted(line.split(maxsplit=2)[2] for line in lines)


def cgroups() -> set[str]:
    """The control groups below our own, and any that bear our name."""
    own = [line.split(":", 2)[2] for line in Path("/proc/self/cgroup").read_text().splitlines()]
    below = tuple(path for path in own if path != "/")
    return {
        path
        for path, _, _ in os.walk("/sys/fs/cgroup")
        if "belljar" in path or (below and path.removeprefix("/sys/fs/cgroup").startswith(below))
    }


def litter() -> set[str]:
    """Names in the places where programs leave things, that may be ours."""
    places = ["/tmp", "/var/tmp", "/dev/shm", "/run", os.path.expanduser("~"), os.getcwd(), "/"]
    names: set[str] = set()
    for place in places:
        try:
            names |= {os.path.join(place, name) for name in os.listdir(place)}
        except OSError:
            continue
    ours = {name for name in names if "belljar" in name or os.path.basename(name) == "core"}
    # The tests' own places are made and removed around them, perhaps by another run as well.
    return {name for name in ours if not os.path.basename(name).startswith("belljar-test-")}


def resident_bytes() -> int:
    """Resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def eventually(condition: Callable[[], bool], patience_s: float = PATIENCE_S) -> bool:
    """Whether it comes true within a generous time; says so as soon as it does."""
    until = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def alive(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be reaped."""
    try:
        return Process(pid).state not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
