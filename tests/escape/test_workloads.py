"""X1, C1: 250 real programs with tests run in sandboxes as they do outside.

Skipped where the folder is missing.  By hand, with a progress bar:
``python -m tests.escape.workloads``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from belljar.api import machine

from . import workloads


def test_C1_every_program_is_right(cases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the Python layer on, as users have it."""
    monkeypatch.setattr(machine, "explain_refusals", True)
    programs = workloads.load(cases)
    assert len(programs) >= 250
    assert workloads.run_all(programs) == {}


def test_C1_a_wrong_program_would_be_seen() -> None:
    program = {"id": "wrong", "source": "", "program": "assert 1 == 2", "expect": "OK"}
    wrong = workloads.run_all([program])
    assert "AssertionError" in wrong["wrong"]
