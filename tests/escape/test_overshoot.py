"""R2: whatever the code does in C, asleep, stopped or in a thousand threads, it ends by name.

How late it ends is measured by ``python -m bench overshoot``; no test asserts a time.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import belljar
from belljar import Policy

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.overshoot import CASES, Case

SOME_S = 0.4


def policy_of(case: Case) -> Policy:
    return Policy().limit(wall_s=SOME_S).allow(cpu_s=600, **case.more)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("grace_s", [0, 0.1])
def test_wall_time_ends_it(case: Case, grace_s: float) -> None:
    result = belljar.run(case.code, policy_of(case).allow(grace_s=grace_s))
    assert result.status == "limit", (result.status, result.signal, result.error)
    assert result.limit is not None
    assert (result.limit.name, result.limit.evidence) == ("wall", "kernel")


@pytest.mark.parametrize("case", [c for c in CASES if c.busy], ids=lambda case: case.name)
def test_processor_time_ends_what_is_busy(case: Case) -> None:
    more = {name: value for name, value in case.more.items() if name != "wall_s"}
    result = belljar.run(case.code, Policy().limit(cpu_s=SOME_S).allow(wall_s=60, **more))
    assert result.status == "limit", (result.status, result.signal, result.error)
    assert result.limit is not None
    assert (result.limit.name, result.limit.evidence) == ("cpu", "kernel")
