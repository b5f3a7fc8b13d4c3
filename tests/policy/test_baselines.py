"""Baselines are named, dated and never edited."""

from __future__ import annotations

import hashlib

import pytest

from belljar.errors import PolicyError
from belljar.policy import Policy
from belljar.policy.baselines import BASELINES, COMPUTE_2026_11, baseline
from belljar.policy.files import dumps_toml

# Name -> SHA-256 of its text.  Only new lines may be added: a changed baseline is a new one.
TEXTS = {
    "compute-2026-11": "5625a6deea31819809032815fb196f84985a5252f08bccf1fe7e562c178f6152",
}


def test_no_baseline_was_edited() -> None:
    assert {
        name: hashlib.sha256(dumps_toml(policy).encode()).hexdigest()
        for name, policy in BASELINES.items()
    } == TEXTS


def test_lookup() -> None:
    assert baseline("compute-2026-11") is COMPUTE_2026_11
    assert baseline("baseline:compute-2026-11") is COMPUTE_2026_11
    with pytest.raises(PolicyError, match="no baseline is called 'compute'; there are: compute-"):
        baseline("compute")


def test_the_present_baseline_is_the_present_default() -> None:
    """When a default changes, this asks for a new baseline; the old ones stay."""
    assert list(BASELINES.values())[-1] == Policy()
