"""K1: the fuzzers that need nothing but Python: some inputs always, their time in the long suite.

``BELLJAR_FUZZ_SECONDS`` (60 without it) is divided among all fuzzers, ``BELLJAR_FUZZ_SEED``
chooses the inputs.  Each fuzzer is a process of its own: one replaces descriptors 0 to 2, one
forks.
"""

from __future__ import annotations

import os
import platform
import random
import subprocess
import sys
from pathlib import Path

import pytest

import belljar
from belljar.bpf import ARCHES

from . import campaign, command_lines, policy_texts, wire_frames

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-P", "-m", "belljar"]
ORDINARY = {"wire": 600, "policy": 300, "command": 600, "filter": 60}
no_filter = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() not in ARCHES,
    reason=f"no system call table for {platform.machine()}",
)


def fuzz(name: str, *options: str, patience_s: float = 300) -> subprocess.CompletedProcess[str]:
    # The package that is under test here, wherever it lies.
    path = os.pathsep.join([str(Path(belljar.__file__).parents[1]), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", name, *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=patience_s,
        check=False,
    )


@pytest.mark.parametrize(
    "name", ["wire", "policy", "command", pytest.param("filter", marks=no_filter)]
)
def test_some_inputs_of_each(name: str) -> None:
    done = fuzz(name, "--seed", "1", "--inputs", f"{ORDINARY[name]}")
    assert done.returncode == 0, done.stderr[-4000:]
    assert f"{ORDINARY[name]} inputs, nothing found" in done.stderr


@pytest.mark.long
@pytest.mark.parametrize("name", ["wire", "policy", "command"])
def test_each_for_its_time(name: str) -> None:
    seconds = campaign.long_seconds(name)
    options = ["--seed", f"{campaign.long_seed()}", "--seconds", f"{seconds}"]
    done = fuzz(name, *options, patience_s=seconds + 600)
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.long
@no_filter
def test_many_filters() -> None:
    done = fuzz("filter", "--seed", f"{campaign.long_seed()}", "--inputs", "5000", patience_s=600)
    assert done.returncode == 0, done.stderr[-4000:]


# ---------------------------------------------------------------------- the real command


def real_commands(seed: int, number: int, folder: Path) -> None:
    """Vectors as ``command_lines`` draws them, each a process of its own."""
    command_lines.make_folder(folder)
    for index in range(number):
        rng = random.Random(f"real:{seed}:{index}")
        line = command_lines.arguments(rng, str(folder))
        vector = [os.fsencode(word) for word in line]
        where = f"seed {seed}, index {index}: {line!r:.500}"
        if sum(map(len, vector)) > 100_000:
            continue  # the system itself refuses them
        done = subprocess.run(
            [*COMMAND, *vector],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=120,
            check=False,
        )
        said = done.stdout + done.stderr
        allowed = command_lines.DOCUMENTED[
            line[0] if line[:1] and line[0] in command_lines.COMMANDS else ""
        ]
        assert done.returncode in allowed, f"{where}: {done.returncode}: {said[-1500:]!r}"
        assert b"internal error" not in said, f"{where}: {said[-1500:]!r}"
        assert len(said) <= command_lines.MOST_SAID, where


def test_some_real_commands(walls: None, tmp_path: Path) -> None:
    real_commands(1, 15, tmp_path)


@pytest.mark.long
def test_many_real_commands(walls: None, tmp_path: Path) -> None:
    real_commands(campaign.long_seed(), 500, tmp_path)


# ---------------------------------------------------------------------- the fuzzers themselves


def test_what_is_found_can_be_had_again() -> None:
    seen: list[float] = []

    def target(rng: random.Random) -> None:
        seen.append(rng.random())
        if seen[-1] > 0.9:
            raise KeyError("lost")

    with pytest.raises(campaign.Found) as found:
        campaign.run("wire", target, 5, inputs=1000)
    index = len(seen) - 1
    assert f"python -m tests.fuzz wire --seed 5 --index {index}" in str(found.value)
    assert "KeyError: 'lost'" in str(found.value)
    with pytest.raises(campaign.Found):
        campaign.one("wire", target, 5, index)
    assert seen[-1] == seen[-2]


def test_the_inputs_of_the_wire_get_far() -> None:
    """Legal streams are accepted, and among the others are those whose fault comes late."""
    accepted = late = 0
    for index in range(300):
        rng = random.Random(index)
        data = wire_frames.stream(rng, "host")
        end = wire_frames.connection("host", data[4:5] != b"\x81")
        told: list[str] = []
        try:
            for at in range(0, len(data), 100):
                told += [type(event).__name__ for event in end.receive_data(data[at : at + 100])]
            end.receive_eof()
            accepted += 1
        except wire_frames.RemoteError:
            late += bool(told)
    assert accepted > 20
    assert late > 20


def test_the_memory_of_the_wire_is_really_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_frames, "PROMISE", 100)
    with pytest.raises(campaign.Found, match="bytes held"):
        campaign.run("wire", wire_frames.sequences, 1, inputs=100)


def test_a_difference_to_msgpack_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    real = wire_frames.decode
    monkeypatch.setattr(wire_frames, "decode", lambda data, *rest: [real(data, *rest)])
    with pytest.raises(campaign.Found):
        campaign.run("wire", wire_frames.plain, 1, inputs=20)


def test_the_texts_of_policies_get_far() -> None:
    read = [policy_texts.read(random.Random(index)) for index in range(300)]
    policies = [policy for policy in read if policy is not None]
    assert len(policies) > 40
    assert len(set(policies)) > 20


def test_a_wrong_exit_code_would_be_seen() -> None:
    with pytest.raises(AssertionError, match="exit code 7"):
        command_lines.judge(["check"], 7, b"", [])
    with pytest.raises(AssertionError, match="internal error"):
        command_lines.judge(["check"], 0, b"belljar: internal error, please report it", [])
