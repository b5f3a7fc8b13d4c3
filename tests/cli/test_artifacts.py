"""X9 at the command: ``--artifacts DIR``, ``--json``, and what a session says."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from belljar.artifact import Artifact
from belljar.cli.artifacts import artifact_object
from belljar.cli.options import parse

from .command import belljar

TWO = """
display({"image/png": b"12345", "text/plain": "a picture"}, raw=True, name="Figure 1")
class Table:
    def _repr_html_(self): return "<b>1</b>"
Table()
"""

pytestmark = pytest.mark.usefixtures("walls")


def test_X9_files_are_written_and_named_on_stderr(tmp_path: Path) -> None:
    done = belljar("run", "--artifacts", "out", "-c", TWO, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr == (
        b"belljar: wrote out/001-figure-1.png\nbelljar: wrote out/002-table.html\n"
    )
    assert (tmp_path / "out" / "001-figure-1.png").read_bytes() == b"12345"
    assert (tmp_path / "out" / "002-table.html").read_text() == "<b>1</b>"
    assert sorted(os.listdir(tmp_path / "out")) == ["001-figure-1.png", "002-table.html"]


def test_X9_a_second_run_adds_and_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "007-mine").write_text("mine")
    done = belljar("run", "-q", "--artifacts=out", "-c", TWO, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert sorted(os.listdir(tmp_path / "out")) == [
        *("007-mine", "008-figure-1.png", "009-table.html")
    ]
    assert (tmp_path / "out" / "007-mine").read_text() == "mine"


def test_X9_json_lists_them() -> None:
    done = belljar("run", "--json", "-c", TWO)
    first, second = json.loads(done.stdout)["artifacts"]
    assert first == {
        "name": "Figure 1",
        "media_type": "image/png",
        "metadata": {},
        "representations": {
            "image/png": {"base64": "MTIzNDU="},
            "text/plain": {"text": "a picture"},
        },
    }
    assert second["representations"]["text/html"] == {"text": "<b>1</b>"}


def test_X9_json_names_the_files(tmp_path: Path) -> None:
    done = belljar("run", "--json", "--artifacts", "out", "-c", TWO, cwd=tmp_path)
    first, _ = json.loads(done.stdout)["artifacts"]
    assert first["representations"] == {
        "image/png": {"file": "out/001-figure-1.png"},
        "text/plain": {"text": "a picture"},
    }
    assert done.stderr == b""


def test_X9_without_the_flag_a_line_says_so() -> None:
    show = "display({'image/png': b'1'}, raw=True)"
    done = belljar("run", "-c", show)
    assert done.stderr == b"belljar: it made 1 artifact; --artifacts DIR writes it\n"
    assert belljar("run", "-q", "-c", show).stderr == b""


def test_X9_a_directory_that_cannot_be_is_told_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in ("no/such/out", "file", ""):
        done = belljar("run", f"--artifacts={place}", "-c", "print(1)", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, b"")
        assert done.stderr.startswith(f"belljar: can't write into {place!r}: ".encode())


def test_X9_a_file_that_cannot_be_written_is_belljars_own_fault(tmp_path: Path) -> None:
    """The program takes the directory away meanwhile, which it was allowed to."""
    out = tmp_path / "out"
    code = "import os; os.rmdir('/data/out'); display({'image/png': b''}, raw=True)"
    done = belljar("run", f"--write={tmp_path}:/data", f"--artifacts={out}", "-c", code)
    assert done.returncode == 70
    assert done.stderr.startswith(b"belljar: belljar itself failed: [Errno 2] No such file")


def test_X9_a_session_says_what_was_shown(tmp_path: Path) -> None:
    lines = b'display({"image/png": b"12345"}, raw=True)\n1 + 1\n'
    done = belljar("repl", stdin=lines)
    assert (done.returncode, done.stdout) == (0, b"2\n")
    assert done.stderr == b"belljar: [image/png 5 bytes]\n"
    done = belljar("repl", "--artifacts", "out", stdin=lines, cwd=tmp_path)
    assert done.stderr == b"belljar: [image/png 5 bytes] out/001-artifact.png\n"
    assert (tmp_path / "out" / "001-artifact.png").read_bytes() == b"12345"


def test_X9_at_a_prompt_the_next_input_goes_on_with_the_figure(tmp_path: Path) -> None:
    lib = tmp_path / "lib"
    (lib / "matplotlib").mkdir(parents=True)
    (lib / "matplotlib" / "__init__.py").write_text(
        "rcParams = {'backend': 'agg'}\nrcsetup = None\n"
    )
    (lib / "matplotlib" / "pyplot.py").write_text(
        "def get_fignums(): return [1]\ndef figure(n): raise AssertionError('taken')\n"
        "def close(f): pass\ndef show(): pass\n"
    )
    lines = b"import sys; sys.path.insert(0, '/data')\nimport matplotlib.pyplot as plt\n1\n2\n"
    done = belljar("repl", f"--read={lib}:/data", stdin=lines)
    assert (done.stdout, done.stderr) == (b"1\n2\n", b"")


def test_X9_the_limit_has_a_flag() -> None:
    done = belljar("run", "--json", "--artifact-size", "4", "-c", TWO)
    found = json.loads(done.stdout)
    assert (found["artifacts"], found["truncated"]) == ([], ["artifacts"])
    assert parse(["run", "--artifacts", "d", "x.py"]).one("artifacts") == "d"


def test_X9_json_has_words_for_any_metadata() -> None:
    one = Artifact("", {"image/png": b""}, {"a": float("nan"), "b": None, "c": 2**62})
    assert artifact_object(one)["metadata"] == {"a": "nan", "b": None, "c": 2**62}
