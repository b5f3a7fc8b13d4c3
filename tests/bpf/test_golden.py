"""The default filters, as text, under version control.

A change of the filter shows as a readable difference here.  After looking at it,
regenerate with::

    python tests/bpf/test_golden.py
"""

from __future__ import annotations

from pathlib import Path

import pytest

from belljar.bpf import ARCHES, FilterFeatures, guest_filter, listing

GOLDEN = Path(__file__).parent / "golden"


def golden(arch: str) -> str:
    """The filter of an ordinary guest: own namespaces, threads, nothing granted."""
    return listing(guest_filter(FilterFeatures(arch, own_root=True, sandboxed_signals=True)))


@pytest.mark.parametrize("arch", ARCHES)
def test_the_default_filter_is_the_reviewed_one(arch: str) -> None:
    reviewed = (GOLDEN / f"guest_{arch}.txt").read_text(encoding="utf-8")
    assert golden(arch) == reviewed


if __name__ == "__main__":
    for name in ARCHES:
        (GOLDEN / f"guest_{name}.txt").write_text(golden(name), encoding="utf-8")
