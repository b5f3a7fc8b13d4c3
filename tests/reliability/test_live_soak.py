"""K1, K10: what lives, at random: a short soak always, a long one with ``make test-all``.

A soak is a process of its own: it makes itself the parent of whatever is orphaned.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import belljar
from reliability import live

ROOT = Path(__file__).resolve().parents[2]


def run_soak(operations: int, seed: int) -> str:
    path = os.pathsep.join([str(Path(belljar.__file__).parents[1]), str(ROOT)])
    done = subprocess.run(
        [
            *(sys.executable, "-m", "reliability.live"),
            *("--operations", f"{operations}", "--seed", f"{seed}", "--per-round", "25"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-4000:]
    return done.stdout


def test_K10_live_sandboxes_have_no_wrong_result_and_leave_nothing(walls: None) -> None:
    said = run_soak(150, 1)
    assert "0 wrong results, 0 leaks" in said
    for act in live.ACTS:  # each was done at least once
        assert f"{act.__name__} " in said


@pytest.mark.long
def test_K10_the_long_soak_of_live_sandboxes(walls: None) -> None:
    print(run_soak(3000, 2))


def test_what_is_wrong_is_seen() -> None:
    live.same([1], [1])
    for found, expected in ((1, 2), (1, True), ((1,), [1])):
        with pytest.raises(live.Wrong):
            live.same(found, expected)


def test_a_wrong_result_is_told_and_the_soak_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    soak = live.Soak(1, 1, print)

    def fail(soak: live.Soak, kept: live.Kept) -> None:
        raise live.Wrong("as asked")

    class Nothing:
        sandbox = None
        gone = False

        def tree(self) -> list[object]:
            return [self]

        def end(self) -> None:
            pass

    monkeypatch.setattr(soak, "_new", Nothing)
    soak._one(fail)
    assert soak.wrong == ["1, fail: Wrong: as asked"]
