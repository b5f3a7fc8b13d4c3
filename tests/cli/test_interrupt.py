"""Ctrl-C on ``belljar run``: the program is told, then ended; exit codes stay (K6, K10)."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .command import COMMAND, TIMEOUT_S, descendants, terminal, wait_for_end

pytestmark = pytest.mark.usefixtures("walls")

FOREVER = ("run", "--wall=300s", "--cpu=300s")
CLEANS = "import time\ntry:\n  print('up', flush=True)\n  time.sleep(300)\nfinally:\n  print('cleaned up')"
CATCHES = (
    "import time\ntry:\n  print('up', flush=True)\n  time.sleep(300)\n"
    "except KeyboardInterrupt:\n  print('caught')"
)
DEAF = "print('up', flush=True)\nsum(range(10**14))"


class Command:
    """The command with pipes, up and running."""

    def __init__(self, *arguments: str, up: bool = True) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert self.process.stdout is not None
        self.first = self.process.stdout.readline() if up else b""

    def interrupt(self, times: int = 1) -> None:
        for _ in range(times):
            self.process.send_signal(signal.SIGINT)

    def finish(self) -> tuple[bytes, bytes]:
        try:
            return self.process.communicate(timeout=TIMEOUT_S)
        finally:
            self.process.kill()
            self.process.wait()


@pytest.mark.parametrize(("code", "printed"), [(CLEANS, b"cleaned up\n"), (CATCHES, b"caught\n")])
def test_the_first_one_lets_it_clean_up(code: str, printed: bytes) -> None:
    """What it prints appears; the command ends by SIGINT whatever the program made of it."""
    command = Command(*FOREVER, "-c", code)
    made = descendants(command.process.pid)
    command.interrupt()
    assert command.finish() == (printed, b"")
    assert command.process.returncode == -signal.SIGINT
    wait_for_end(made)


@pytest.mark.parametrize("grace", [(), ("--grace=200ms",)])
def test_a_program_that_does_not_react_is_killed_after_the_grace(grace: tuple[str, ...]) -> None:
    command = Command(*FOREVER, *grace, "-c", DEAF)
    command.interrupt()
    assert command.finish() == (b"", b"")
    assert command.process.returncode == -signal.SIGINT


def test_the_second_one_ends_it_at_once() -> None:
    """With a grace that would outlast the test."""
    with terminal(*FOREVER, "--grace=60s", "-c", DEAF) as seen:
        seen.read_until(b"up")
        made = descendants(seen.process.pid)
        seen.press(b"\x03")
        seen.read_until(b"^C")
        while seen.process.poll() is None:
            seen.press(b"\x03")
            try:
                seen.process.wait(0.2)
            except subprocess.TimeoutExpired:
                continue  # both came as one
        assert seen.process.returncode == -signal.SIGINT
        assert b"Traceback" not in seen.seen
        wait_for_end(made)


def test_json_has_the_partial_result(tmp_path: Path) -> None:
    code = (
        "import time\nt = 0\ntry:\n  t = 1; open('/out/up', 'w').close(); time.sleep(300)\n"
        "except KeyboardInterrupt:\n  t += 6\nt"
    )
    command = Command(*FOREVER, "--json", f"--write={tmp_path}:/out", "-c", code, up=False)
    while not (tmp_path / "up").exists():
        assert command.process.poll() is None
        time.sleep(0.01)
    command.interrupt()
    stdout, stderr = command.finish()
    assert command.process.returncode == -signal.SIGINT
    assert stderr == b""
    found = json.loads(stdout)
    assert (found["status"], found["value"]) == ("ok", 7)


def test_terminate_is_a_kill_as_ever() -> None:
    command = Command(*FOREVER, "--grace=60s", "-c", CLEANS)
    command.process.terminate()
    assert command.finish() == (b"", b"")
    assert command.process.returncode == -signal.SIGTERM
