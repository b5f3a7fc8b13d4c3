"""Running the real command.

What: ``belljar`` in a process of its own, with streams of the test's choice.  Because: exit
codes, signals and descriptors exist only between processes.  Then: each test starts as few
as it can.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

COMMAND = [sys.executable, "-P", "-m", "belljar"]
TIMEOUT_S = 60  # a machine that takes longer hangs

# A controlling terminal on descriptor 0, then the command: what a login shell is to it.
_ON_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def belljar(
    *arguments: str | bytes,
    stdin: bytes | None = None,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments],
        input=b"" if stdin is None else stdin,
        capture_output=True,
        timeout=TIMEOUT_S,
        cwd=cwd,
        env=env,
        check=False,
    )


def through_shell(script: str) -> subprocess.CompletedProcess[bytes]:
    """Run a shell script in which ``$B`` is the command."""
    command = " ".join(COMMAND)
    return subprocess.run(
        ["bash", "-c", f'B="{command}"\n{script}'],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )


class Terminal:
    """The command on a pseudo-terminal of its own."""

    def __init__(self, *arguments: str, columns: int = 100) -> None:
        self.master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", _ON_TERMINAL, *COMMAND, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.seen = b""

    def read_until(self, text: bytes) -> None:
        """Read what it shows until ``text`` is there."""
        while text not in self.seen:
            assert self._read(), f"it ended without {text!r}: {self.seen!r}"

    def shows(self, text: bytes, within_s: float) -> bool:
        """Whether it shows ``text``, of which only so long is waited for more."""
        while text not in self.seen and select.select([self.master], [], [], within_s)[0]:
            if not self._read():
                break
        return text in self.seen

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self.master, keys)

    def finish(self) -> bytes:
        """Wait for the end; returns all that was shown."""
        while self._read():
            pass
        self.process.wait(TIMEOUT_S)
        return self.seen

    def _read(self) -> bool:
        ready, _, _ = select.select([self.master], [], [], TIMEOUT_S)
        assert ready, f"it hangs: {self.seen!r}"
        try:
            data = os.read(self.master, 1 << 16)
        except OSError:  # EIO: nobody has the other side open any more
            return False
        self.seen += data
        return bool(data)

    def close(self) -> None:
        """End it whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)


@contextlib.contextmanager
def terminal(*arguments: str, columns: int = 100) -> Iterator[Terminal]:
    """The command on a terminal; ended with the block."""
    made = Terminal(*arguments, columns=columns)
    try:
        yield made
    finally:
        made.close()


def descendants(pid: int) -> set[tuple[int, str]]:
    """The processes that come from ``pid``, as (pid, start time)."""
    children: dict[int, list[int]] = {}
    started: dict[int, str] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(int(name))
            if fields:
                started[int(name)] = fields[19]
                children.setdefault(int(fields[1]), []).append(int(name))
    found: set[tuple[int, str]] = set()
    todo = [pid]
    while todo:
        for child in children.get(todo.pop(), []):
            found.add((child, started[child]))
            todo.append(child)
    return found


def still_there(processes: set[tuple[int, str]]) -> set[tuple[int, str]]:
    """Those of ``processes`` that have not ended.  A zombie has."""
    alive: set[tuple[int, str]] = set()
    for pid, started in processes:
        fields = _stat(pid)
        if fields and fields[19] == started and fields[0] not in "ZX":
            alive.add((pid, started))
    return alive


def wait_for_end(processes: set[tuple[int, str]], timeout_s: float = 20.0) -> None:
    """Return when all have ended; the kernel ends a PID namespace on its own time."""
    until = time.monotonic() + timeout_s
    while left := still_there(processes):
        assert time.monotonic() < until, f"still there: {left}"
        time.sleep(0.01)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on: state, parent, …"""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
