"""What is there: memory, descriptors, processes, mounts, control groups, files.

What: one reading of everything that could be left, at a moment when nothing runs.  Because:
"no leak" is a statement about the whole of what a run touches, on both sides of the link.
Then: a reading is narrowed to this process, its descendants, and what bears our name, since
other programs live on the machine too; what ends without its parent becomes a child of this
process (``adopt_orphans``), so that it is seen.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import time
from dataclasses import dataclass, fields
from pathlib import Path

PATIENCE_S = 60.0  # the kernel takes namespaces apart in its own time
ZYGOTE = "belljar-zygote"
LASTING = (ZYGOTE, "belljar-janitor")  # what a host keeps between runs
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None)
# Of tests, and of trusted interpreters of theirs, of which there are none here.
_OF_TESTS = ("belljar-test-", "belljar-machine-", "belljar-trusted-")
_PLACES = ("/tmp", "/var/tmp", "/dev/shm")


def adopt_orphans() -> None:
    """Become the parent of every descendant whose parent ends.  See prctl(2)."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@dataclass(frozen=True)
class Process:
    """A process as its ``stat`` shows it."""

    pid: int
    name: str
    state: str
    parent: int
    started: int  # ticks since the start of the machine


def _read(pid: int) -> Process | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    name, rest = text[text.index("(") + 1 :].rsplit(")", 1)
    fields = rest.split()
    return Process(pid, name, fields[0], int(fields[1]), int(fields[19]))


def descendants() -> list[Process]:
    """Every process that comes from this one."""
    everybody = [p for entry in os.listdir("/proc") if entry.isdigit() and (p := _read(int(entry)))]
    known, found = {os.getpid()}, list[Process]()
    while new := [p for p in everybody if p.parent in known and p.pid not in known]:
        known.update(p.pid for p in new)
        found.extend(new)
    return found


def children() -> list[Process]:
    """The processes that this one has made, the oldest first."""
    own = [p for p in descendants() if p.parent == os.getpid()]
    return sorted(own, key=lambda p: (p.started, p.pid))


def is_alive(pid: int) -> bool:
    """Whether it is there and not merely waiting to be reaped."""
    process = _read(pid)
    return process is not None and process.state not in "ZX"


@dataclass(frozen=True)
class Sample:
    """One reading; ``run`` is how many runs were over.  Sizes in bytes."""

    run: int
    seconds: int
    host_rss: int
    host_anonymous: int  # what no file is behind: the part that is its own
    host_pss: int
    host_blocks: int  # pieces of memory that the interpreter has handed out
    host_descriptors: int
    zygote_pid: int  # the oldest one
    zygote_rss: int
    zygote_anonymous: int
    zygote_pss: int
    zygote_descriptors: int  # the most that any of them has
    zygotes: int
    processes: int  # descendants that are no zygote, the dead ones included
    host_mounts: int
    zygote_mounts: int  # the oldest one's
    cgroups: int
    files: int  # in the places for temporary files, that bear our name
    kernel_bytes: int  # of the whole machine, not reclaimable: for information
    open_files: int  # of the whole machine: for information


FIELDS = tuple(field.name for field in fields(Sample))


def sample(run: int, seconds: float, known_files: frozenset[str]) -> Sample:
    """Wait until what has ended is gone, and read."""
    gc.collect()
    give_back()
    settle()
    zygotes = [p for p in children() if p.name == ZYGOTE]
    rss, anonymous, pss = _memory(os.getpid())
    eldest = zygotes[0].pid if zygotes else 0
    zygote_memory = _memory(eldest) if eldest else (0, 0, 0)
    return Sample(
        run=run,
        seconds=round(seconds),
        host_rss=rss,
        host_anonymous=anonymous,
        host_pss=pss,
        host_blocks=sys.getallocatedblocks(),
        host_descriptors=_descriptors(os.getpid()),
        zygote_pid=eldest,
        zygote_rss=zygote_memory[0],
        zygote_anonymous=zygote_memory[1],
        zygote_pss=zygote_memory[2],
        zygote_descriptors=max((_descriptors(p.pid) for p in zygotes), default=0),
        zygotes=len(zygotes),
        processes=len(descendants()) - len(zygotes),
        host_mounts=_mounts(os.getpid()),
        zygote_mounts=_mounts(eldest) if eldest else 0,
        cgroups=_cgroups(),
        files=len(files() - known_files),
        kernel_bytes=_kernel_bytes(),
        open_files=int(Path("/proc/sys/fs/file-nr").read_text(encoding="ascii").split()[0]),
    )


def give_back() -> None:
    """Let the allocator return what is free, so that what is resident is in use.

    Else hundreds of runs with large outputs are needed until every arena of every thread has
    had its largest one.  See malloc_trim(3); a C library that has no such call keeps it.
    """
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)


def settle() -> None:
    """Wait until no descendant is left but zygotes without guests; take in the orphans."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        rest = [
            p
            for p in descendants()
            if p.name not in LASTING or p.state == "Z" or p.parent != os.getpid()
        ]
        if not rest:
            return
        for process in rest:
            if process.parent == os.getpid() and process.state == "Z":
                try:
                    os.waitpid(process.pid, os.WNOHANG)
                except ChildProcessError:
                    continue
        time.sleep(0.005)


def _memory(pid: int) -> tuple[int, int, int]:
    """Resident bytes, the anonymous among them, and shared pages divided among their users."""
    found = _table(f"/proc/{pid}/status")
    try:
        pss = _table(f"/proc/{pid}/smaps_rollup")["Pss"]
    except PermissionError:  # a zygote lets only root look
        pss = 0
    return found["VmRSS"], found["RssAnon"], pss


def _table(path: str) -> dict[str, int]:
    """The lines ``Name: number kB`` of a file, in bytes."""
    with open(path, encoding="utf-8", errors="replace") as file:
        rows = [line.split() for line in file]
    return {row[0][:-1]: int(row[1]) * 1024 for row in rows if row[2:] == ["kB"]}


def _descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except PermissionError:
        return 0


def _mounts(pid: int) -> int:
    try:
        return Path(f"/proc/{pid}/mountinfo").read_bytes().count(b"\n")
    except PermissionError:
        return 0


def _cgroups() -> int:
    """Control groups below our own, and any that bear our name."""
    lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    own = tuple(path for line in lines if (path := line.split(":", 2)[2]) != "/")
    folders = (path.removeprefix("/sys/fs/cgroup") for path, _, _ in os.walk("/sys/fs/cgroup"))
    # Those below a group of the tests' are another run's, as their files are.
    return sum(
        "/test-" not in path and ("belljar" in path or (bool(own) and path.startswith(own)))
        for path in folders
    )


def files() -> frozenset[str]:
    """Names that could be ours where programs leave things."""
    found: set[str] = set()
    for place in _PLACES:
        try:
            found |= {f"{place}/{name}" for name in os.listdir(place)}
        except OSError:
            continue
    ours = {name for name in found if "belljar" in name or os.path.basename(name) == "core"}
    # The tests' own places are made and removed around them, perhaps by another run.
    return frozenset(n for n in ours if not os.path.basename(n).startswith(_OF_TESTS))


def _kernel_bytes() -> int:
    return _table("/proc/meminfo").get("SUnreclaim", 0)
