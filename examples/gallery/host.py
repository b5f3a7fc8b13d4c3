"""Bait for hostile programs, and the check that nothing on the host was harmed.

What: ``Host`` plants files, sockets and a secret in the environment, and says afterwards what
changed.  Because: a guest's own report is a claim; only what happened to the host is a fact.
Then: hostile programs are told where the bait is, so that a broken wall shows at once, and
shows here rather than on the reader's own files.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path

# The output of a run is at most 1 MiB and its value at most 16 MiB; both are held in several
# forms while they are decoded.  A guest that could grow the host would go far beyond this.
MEMORY_GROWTH_MIB = 96

# A killed process leaves the process table when its parent has taken note.
SETTLE_S = 3.0

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h: orphans of ours become our children, so we see them


class Host:
    """Plants the bait on entry and removes it on exit.

    Between the two, ``harm()`` lists what differs from how it was planted.
    """

    def __enter__(self) -> Host:
        self.directory = Path(tempfile.mkdtemp(prefix="gallery-bait-"))
        for name, content in {
            "id_ed25519": "a private key: " + secrets.token_hex(16),
            "customers.csv": "name,card\n" + secrets.token_hex(16),
            "notes.txt": secrets.token_hex(16),
        }.items():
            (self.directory / name).write_text(content)
        (self.directory / "notes.txt").chmod(0o666)  # harm must not fail for want of permission
        self.files = sorted(os.listdir(self.directory))

        self.secret = "gallery-secret-" + secrets.token_hex(16)
        os.environ["GALLERY_SECRET"] = self.secret

        self.sockets = {
            "tcp": socket.socket(socket.AF_INET, socket.SOCK_STREAM),
            "udp": socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            "unix": socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
            "abstract": socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
        }
        self.abstract = "gallery-" + secrets.token_hex(8)
        self.sockets["tcp"].bind(("127.0.0.1", 0))
        self.sockets["udp"].bind(("127.0.0.1", 0))
        self.sockets["unix"].bind(str(self.directory / "socket"))
        self.sockets["abstract"].bind("\0" + self.abstract)
        for name, bait in self.sockets.items():
            bait.setblocking(False)
            if name != "udp":
                bait.listen(8)

        _subreaper(True)
        self.tree = _snapshot(self.directory)
        self.mounts = _read("/proc/self/mountinfo")
        self.descriptors = _descriptors()
        self.children = _descendants(os.getpid())
        self.peak_mib = _peak_mib()
        return self

    def __exit__(self, *_: object) -> None:
        for bait in self.sockets.values():
            bait.close()
        shutil.rmtree(self.directory, ignore_errors=True)
        os.environ.pop("GALLERY_SECRET", None)
        _subreaper(False)

    @property
    def bait(self) -> dict[str, object]:
        """What hostile programs are told: where everything is, and what betrays the host."""
        marks = {
            "GALLERY_SECRET",
            str(self.directory),
            str(Path.home()),
            str(Path(__file__).resolve().parents[2]),
            sys.prefix,
        }
        return {
            "directory": str(self.directory),
            "files": self.files,
            "tcp_port": self.sockets["tcp"].getsockname()[1],
            "udp_port": self.sockets["udp"].getsockname()[1],
            "unix_socket": str(self.directory / "socket"),
            "abstract_socket": self.abstract,
            "pid": os.getpid(),
            "host_name": socket.gethostname(),
            # "/" and "/usr" are everywhere and betray nobody
            "marks": sorted(mark for mark in marks if len(mark) > len("/usr/local")),
        }

    def harm(self) -> list[str]:
        """What is no longer as it was planted; empty if the host is unharmed."""
        found: list[str] = []
        tree = _snapshot(self.directory)
        for name in sorted(self.tree.keys() | tree.keys()):
            if self.tree.get(name) != tree.get(name):
                found.append(f"bait file {name} was touched")
        for name, bait in self.sockets.items():
            if _reached(bait):
                found.append(f"bait socket {name} was reached")
        if os.environ.get("GALLERY_SECRET") != self.secret:
            found.append("the environment was changed")
        if _read("/proc/self/mountinfo") != self.mounts:
            found.append("the mounts changed")
        for pid in _left_over(self.children):
            found.append(f"process {pid} is left over: {_read(f'/proc/{pid}/stat')[:60]}")
        for number, target in sorted(_descriptors().items() - self.descriptors.items()):
            found.append(f"descriptor {number} is left over: {target}")
        grown = _peak_mib() - self.peak_mib
        if grown > MEMORY_GROWTH_MIB:
            found.append(f"the host grew by {grown} MiB, more than {MEMORY_GROWTH_MIB}")
        return found


def _subreaper(on: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _snapshot(directory: Path) -> dict[str, tuple[object, ...]]:
    """Everything about every entry of ``directory`` that harm would change."""
    seen: dict[str, tuple[object, ...]] = {}
    for path in [directory, *directory.rglob("*")]:
        state = path.lstat()
        content = hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b""
        seen[path.name] = (
            *(state.st_mode, state.st_uid, state.st_ino, state.st_nlink),
            *(state.st_size, state.st_mtime_ns, state.st_ctime_ns, content),
        )
    return seen


def _reached(bait: socket.socket) -> bool:
    """Has anyone connected or sent to ``bait``?"""
    try:
        if bait.type == socket.SOCK_DGRAM:
            bait.recv(1)
        else:
            bait.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def _descriptors() -> dict[str, str]:
    """Number and target of each open descriptor of this process."""
    found: dict[str, str] = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue  # the one that listed them
    return found


def _descendants(root: int) -> set[int]:
    """Every process below ``root``, zombies included."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            # pid (comm) state ppid …; comm may hold anything, so count from its closing bracket
            after = _read(f"/proc/{name}/stat").rpartition(")")[2].split()
            if after:
                parents[int(name)] = int(after[1])
    below: set[int] = set()
    found = {root}
    while found:
        found = {pid for pid, parent in parents.items() if parent in found} - below
        below |= found
    return below


def _left_over(before: set[int]) -> list[int]:
    """Descendants that were not there before, once dying ones have had time to go."""
    end = time.monotonic() + SETTLE_S
    while True:
        left = _descendants(os.getpid()) - before
        for pid in left:
            try:
                os.waitpid(pid, os.WNOHANG)  # an orphan that ended: we are its parent now
            except ChildProcessError:
                continue
        left &= _descendants(os.getpid())
        if not left or time.monotonic() > end:
            return sorted(left)
        time.sleep(0.02)


def _peak_mib() -> int:
    """The most memory that this process ever held, in MiB (VmHWM of proc_pid_status(5))."""
    for line in _read("/proc/self/status").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    return 0
