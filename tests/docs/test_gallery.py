"""The gallery's table is right, and the check of the host can tell harm.

What: ``python examples/gallery --json`` once, a test for each row.  Because: the gallery is
what a stranger runs first.  Then: a wrong row is named here with what was promised.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

GALLERY = Path(__file__).resolve().parents[2] / "examples" / "gallery"
TIMEOUT_S = 300  # some thirty programs of which the slowest meet limits of a few seconds


def _load(name: str) -> Any:
    """A module of the gallery, which is a folder to run and not a package."""
    spec = importlib.util.spec_from_file_location(f"gallery_{name}", GALLERY / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


programs = _load("programs")
host = _load("host")
NAMES = [program.name for program in programs.load_all()]


def _gallery(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(GALLERY), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.fixture(scope="module")
def run() -> subprocess.CompletedProcess[str]:
    """One run of everything; skips where the walls cannot be had."""
    done = _gallery("--json")
    if done.returncode == 3:
        pytest.skip(done.stderr.strip())
    assert done.stdout, done.stderr
    return done


@pytest.fixture(scope="module")
def table(run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return {row["program"]: row for row in json.loads(run.stdout)["rows"]}


@pytest.mark.parametrize("name", NAMES)
def test_row(name: str, table: dict[str, Any]) -> None:
    """K1: each program ends as its docstring promises."""
    row = table[name]
    if row["skipped"]:
        pytest.skip(row["outcome"])
    assert not row["mistakes"], f"{row['outcome']}; {row['detail']}"


def test_host_is_unharmed(run: subprocess.CompletedProcess[str]) -> None:
    """K1, K10: bait, sockets, mounts, processes, descriptors and memory of the host."""
    assert json.loads(run.stdout)["harm"] == []


def test_exit_code(run: subprocess.CompletedProcess[str]) -> None:
    """0 when every row is right."""
    assert run.returncode == 0, run.stdout


def test_every_program_promises_something() -> None:
    """A row without a promise could not be wrong."""
    for program in programs.load_all():
        assert program.tries, program.name
        assert program.expect, program.name
        # An honest "ok" says nothing about what was computed.
        assert program.expect != ("ok",) or program.value or program.prints, program.name


def test_a_broken_promise_fails(tmp_path: Path) -> None:
    """A wrong outcome and a wrong value are both named, and the exit code is 1."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text('"""x\n\nexpect: raised KeyError\nvalue: 3\n"""\n1 + 1\n')
    done = _gallery(str(wrong))
    if done.returncode == 3:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 1, done.stderr
    assert "expected raised KeyError, got ok" in done.stdout
    assert "expected the value 3, got 2" in done.stdout


def test_an_unknown_program_is_a_usage_error() -> None:
    """Exit code 2, and the name in the message."""
    done = _gallery("no-such-program")
    assert done.returncode == 2
    assert "no-such-program" in done.stderr


def test_harm_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of the host sees a touched file, sockets reached, a process and a descriptor."""
    monkeypatch.setattr(host, "SETTLE_S", 0.1)
    with host.Host() as planted:
        assert planted.harm() == []
        bait = planted.bait
        directory = Path(bait["directory"])
        (directory / "notes.txt").write_text("changed")
        (directory / "new").touch()
        (directory / "customers.csv").unlink()
        tcp = socket.create_connection(("127.0.0.1", bait["tcp_port"]))
        unix = socket.socket(socket.AF_UNIX)
        unix.connect(bait["unix_socket"])
        abstract = socket.socket(socket.AF_UNIX)
        abstract.connect("\0" + bait["abstract_socket"])
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.sendto(b"x", ("127.0.0.1", bait["udp_port"]))
        # An orphan: its parent ends at once, and the host becomes its parent.
        orphan = subprocess.run(["/bin/sh", "-c", "sleep 60 >&- & echo $!"], stdout=-1, text=True)
        with tcp, unix, abstract, udp:
            harm = "\n".join(planted.harm())
        os.kill(int(orphan.stdout), 9)
        os.waitpid(int(orphan.stdout), 0)
        for sign in (
            *("notes.txt was touched", "new was touched", "customers.csv was touched"),
            *("tcp was reached", "unix was reached", "abstract was reached", "udp was reached"),
            *(f"process {orphan.stdout.strip()} is left over", "is left over: socket:"),
        ):
            assert sign in harm
    assert not directory.exists()
