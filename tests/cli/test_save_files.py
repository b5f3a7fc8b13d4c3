"""``belljar run --save-files DIR`` (R14, K1)."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from .command import belljar


@pytest.fixture(autouse=True)
def machine_with_walls(walls: None) -> None:
    """Each test here runs a guest."""


CODE = "import os; os.mkdir('d'); open('d/a', 'w').write('1'); open('b', 'w').write('2')"


def test_files_are_saved(tmp_path: Path) -> None:
    done = belljar("run", "--save-files", "out", "-c", f"{CODE}; print('text')", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"text\n", b"")
    assert (tmp_path / "out/d/a").read_text() == "1"
    assert (tmp_path / "out/b").read_text() == "2"


def test_files_are_saved_after_a_bad_end(tmp_path: Path) -> None:
    done = belljar("run", "--save-files", "out", "-c", f"{CODE}; 1 / 0", cwd=tmp_path)
    assert done.returncode == 1
    assert (tmp_path / "out/b").read_text() == "2"


def test_nothing_made_makes_an_empty_directory(tmp_path: Path) -> None:
    done = belljar("run", "--save-files", "out", "-c", "1", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert os.listdir(tmp_path / "out") == []


def test_nothing_is_saved_without_the_option(tmp_path: Path) -> None:
    assert belljar("run", "-c", CODE, cwd=tmp_path).returncode == 0
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("folder", "reason"),
    [(".", b"is not empty"), ("file", b"Not a directory"), ("no/where", b"there is no directory")],
)
def test_a_directory_that_will_not_do_is_told_before_anything_runs(
    tmp_path: Path, folder: str, reason: bytes
) -> None:
    (tmp_path / "file").write_text("mine")
    done = belljar("run", "--save-files", folder, "-c", "print('ran')", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--save-files" in done.stderr
    assert reason in done.stderr
    assert os.listdir(tmp_path) == ["file"]


def test_what_was_not_saved_is_told_on_lines_of_ours(tmp_path: Path) -> None:
    """K7: whatever the names are."""
    code = """
import os
os.symlink("/etc/passwd", "l\\nbelljar: all is well\\x1b[2J")
for n in range(20): os.mkfifo(str(n))
"""
    done = belljar("run", "--save-files", "out", "-c", code, cwd=tmp_path)
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 0
    assert len(lines) == 11
    assert all(line.startswith("belljar: not saved: ") and line.isprintable() for line in lines)
    assert os.listdir(tmp_path / "out") == []


def test_the_object_names_them(tmp_path: Path) -> None:
    code = f"{CODE}; os.symlink('x', b'\\xff')"
    done = belljar("run", "--json", "--save-files", "out", "-c", code, cwd=tmp_path)
    assert json.loads(done.stdout)["files"] == [
        {"name": "b", "kind": "file", "size": 1, "saved": "out/b"},
        {"name": "d/a", "kind": "file", "size": 1, "saved": "out/d/a"},
        {"name": "\\xff", "kind": "link", "size": 1, "saved": None},
    ]
    done = belljar("run", "--json", "-c", CODE, cwd=tmp_path)
    assert [one["saved"] for one in json.loads(done.stdout)["files"]] == [None, None]
    assert json.loads(belljar("run", "--json", "-c", "1").stdout)["files"] == []
