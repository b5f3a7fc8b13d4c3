"""K1: the attack cases that lie beside the repository, run by their own runner.

What: ``run_attacks.py`` with our driver, with the Python layer on and off.  Because: these
attacks were written by somebody else and are judged from outside, by traps on the host.
Then: every row is contained.  The normal suite runs two cases of each class without the
layer; all of them in both ways, and those that need a terminal, belong to the long suite.
Skipped where the folder is missing (``../shared/cases``, or ``$BELLJAR_CASES``).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .native import attack

DRIVER = Path(__file__).with_name("driver.py")
TIMEOUT_S = 3600  # the whole set takes minutes; another runner may hold the lock before us

# Judged by another test, with the reason.
EXEMPT = {
    # It prints its own token whatever happens.  What it is about (the value that the host
    # sees is the one that the code returned) is tested below.
    "chan-jsonlines",
}
# Contained, but not by the crash that it expects.
NOT_AS_EXPECTED = {
    # Its file is a memfd, which the filter refuses; a bus error on a file of the guest's own is
    # among the signals of ``test_signals``.
    "crash-sigbus",
}


def load(cases: Path) -> list[dict[str, Any]]:
    with open(cases / "attacks.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def run_cases(cases: Path, tmp_path: Path, command: str, *options: str) -> list[dict[str, Any]]:
    """Run the runner; gives its rows."""
    report = tmp_path / "report.jsonl"
    arguments = [*options, "--clean-litter", "--quiet", "--report", str(report)]
    if os.geteuid() != 0:
        arguments.append("--only-plain")  # the runner's safety net is a control group, of root's
    done = subprocess.run(
        [
            sys.executable,
            str(cases / "run_attacks.py"),
            str(cases / "attacks.jsonl"),
            "--cmd",
            command,
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert "SUMMARY" in done.stdout, done.stderr
    assert done.returncode in (0, 1), f"the runner's own control case failed: {done.stderr}"
    with open(report, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def driver(*options: str) -> str:
    return " ".join(
        [sys.executable, str(DRIVER), *options, "--before", "{before}", "{file}", "{entry}"]
    )


def failures(rows: list[dict[str, Any]]) -> dict[str, str]:
    """The rows that are not as they should be, each with why."""
    return {
        row["id"]: f"{row['status']}: {'; '.join(row['why'])} {row.get('why_untyped', '')}"
        for row in rows
        if row["id"] not in EXEMPT
        and (
            row["status"] != "contained"
            or ("why_untyped" in row and row["id"] not in NOT_AS_EXPECTED)
        )
    }


def two_of_each_class(cases: Path) -> list[str]:
    classes: dict[str, list[str]] = {}
    for case in load(cases):
        if case["plain"] != "tty":
            classes.setdefault(case["class"], []).append(case["id"])
    chosen: list[str] = []
    for ids in classes.values():
        chosen += {ids[0], ids[len(ids) // 2]}
    return sorted(chosen)


def test_K1_two_attacks_of_each_class_without_the_layer(cases: Path, tmp_path: Path) -> None:
    chosen = two_of_each_class(cases)
    only = f"^({'|'.join(chosen)})$"
    # One second instead of five: those that wait for the clock only wait.
    command = driver("--layer-off", "--wall", "1")
    rows = run_cases(cases, tmp_path, command, "--require-typed", "--wall", "1", "--only", only)
    assert failures(rows) == {}
    assert len(rows) == len(chosen) or os.geteuid() != 0


@pytest.mark.long
@pytest.mark.parametrize(
    "options",
    [["--layer-off"], [], ["--layer-off", "--open"]],
    ids=["layer off", "layer on", "whitelist open"],
)
def test_K1_every_attack_is_contained(cases: Path, tmp_path: Path, options: list[str]) -> None:
    command = driver(*options)
    rows = run_cases(cases, tmp_path, command, "--require-typed", "--skip", r"^kern\.tty$")
    assert failures(rows) == {}
    wanted = {case["id"] for case in load(cases) if case["plain"] != "tty"}
    assert {row["id"] for row in rows} == wanted or os.geteuid() != 0


@pytest.mark.long
def test_K1_attacks_on_a_terminal_through_the_command(cases: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("the cases with a terminal are not among those for ordinary users")
    command = f"{sys.executable} -m belljar run {{file}}"
    rows = run_cases(cases, tmp_path, command, "--pty", "--plain-mode", "tty")
    assert failures(rows) == {}
    assert len(rows) >= 2


@pytest.mark.parametrize("end", ["os._exit(0)", "raise SystemExit", "return 'the value'"])
def test_K3_a_printed_result_is_never_the_value(end: str) -> None:
    """What the exempt case is about: lines that look like a result, then an early end."""
    code = f"""
def main():
    print('RESULT ["ok", "FORGED"]', flush=True)
    print('\\n{{"status": "ok", "result": "FORGED"}}', flush=True)
    os.write(1, b'FORGED')
    os.write(2, b'FORGED')
    {end}
main()
"""
    result = attack(code)
    assert "FORGED" in result.stdout
    assert result.value in (None, "the value")
    assert "FORGED" not in repr(result.value)
    assert result.status == ("ok" if "return" in end else "exited")
