"""Both strict type checkers over the package and over a user's program.

Slow, so each runs once; what they find is what a user's editor would show.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("user_program.py")
WRONG = """
import belljar
from belljar import Policy

belljar.run(7)
belljar.run("1", polcy=Policy())
Policy().limit(wall=2)
Policy().allow(read=7)
Policy().limits.wall_s = 3
result: int = belljar.run("1")
"""
MISTAKES = 6


def run_tool(name: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", name, *args],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=600,
        check=False,
    )


@pytest.mark.long
def test_mypy_strict(tmp_path: Path) -> None:
    done = run_tool("mypy", "--strict", "src", str(PROGRAM))
    assert done.returncode == 0, done.stdout


@pytest.mark.long
def test_mypy_sees_a_users_mistakes(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG, encoding="utf-8")
    done = run_tool("mypy", "--strict", "--no-error-summary", str(wrong))
    found = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len({line.split(":")[1] for line in found}) == MISTAKES, done.stdout


@pytest.mark.long
@pytest.mark.skipif(shutil.which("node") is None, reason="pyright runs on node, which is not here")
def test_pyright_strict(tmp_path: Path) -> None:
    """One start for the package, the program and the mistakes, because a start takes long."""
    config = json.dumps(
        {
            "include": [str(ROOT / "src"), str(PROGRAM), "wrong.py"],
            "typeCheckingMode": "strict",
            "pythonVersion": "3.11",
            "extraPaths": [str(ROOT / "src")],
        }
    )
    (tmp_path / "pyrightconfig.json").write_text(config, encoding="utf-8")
    (tmp_path / "wrong.py").write_text(WRONG, encoding="utf-8")
    done = run_tool("pyright", "--outputjson", "--project", str(tmp_path), "-v", sys.prefix)
    report = json.loads(done.stdout)["generalDiagnostics"]
    errors = [one for one in report if one["severity"] == "error"]
    ours = [one for one in errors if not one["file"].endswith("wrong.py")]
    assert not ours, "\n".join(f"{one['file']}: {one['message']}" for one in ours)
    lines = {one["range"]["start"]["line"] for one in errors}
    assert len(lines) == MISTAKES, sorted(lines)
