"""C1, C8: CPython's own tests pass inside as they do outside.

What: ``compatibility.cpython`` runs a module of ``test`` in a plain child and in a sandbox
that grants nothing, and compares test by test.  Because: what ordinary code may expect of
the standard library is written down nowhere as exactly as there.  Then: each difference has
the name of a restriction.  The normal suite runs quick modules of all areas; those that
others have seen pass under walls like ours belong to the long suite.  Skipped where this
Python has no ``test`` package (Debian: libpython3.x-testsuite).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from compatibility import cpython, restrictions

PATIENT_S = 30.0  # a machine that does other things as well must make no difference
QUICK = (
    "test.test_bisect",
    "test.test_builtin",
    "test.test_collections",
    "test.test_contextlib",
    "test.test_csv",
    "test.test_decimal",
    "test.test_dict",
    "test.test_enum",
    "test.test_functools",
    "test.test_generators",
    "test.test_glob",
    "test.test_hashlib",
    "test.test_heapq",
    "test.test_itertools",
    "test.test_json",
    "test.test_lzma",
    "test.test_mmap",
    "test.test_pickle",
    "test.test_re",
    "test.test_sqlite3",
    "test.test_strptime",
    "test.test_struct",
    "test.test_tempfile",
    "test.test_threading_local",
    "test.test_xml_etree",
    "test.test_zipfile",
    "test.test_zipimport",
    "test.test_asyncio.test_queues",
    "test.test_asyncio.test_locks",
)


@pytest.fixture(scope="module")
def installed(walls: None) -> frozenset[str]:
    """The modules that this Python has; skips where it has none."""
    try:
        return frozenset(cpython.modules())
    except cpython.NotInstalled as lacking:
        pytest.skip(str(lacking))


def listing(differences: list[cpython.Difference]) -> str:
    return "\n\n".join(f"{d.test}: {d.word}\n{d.text}" for d in differences)


def test_C1_no_difference_without_a_name(installed: frozenset[str]) -> None:
    chosen = [name for name in QUICK if name in installed]
    assert len(chosen) >= 20
    unexplained: list[cpython.Difference] = []
    tests = 0
    for comparison in cpython.compare_all(chosen, 2, PATIENT_S):
        assert comparison.outside, comparison.module
        tests += comparison.inside
        unexplained.extend(comparison.unexplained)
    assert not unexplained, listing(unexplained)
    assert tests > 1000


def test_C8_a_test_that_needs_a_terminal_is_told_apart(installed: frozenset[str]) -> None:
    """The comparison can fail: this module opens one in each of its tests."""
    comparison = cpython.compare("test.test_openpty")
    assert comparison.inside == 0 < comparison.outside
    assert {d.restriction for d in comparison.differences} == {"no terminal"}
    assert not comparison.whole


def test_a_difference_that_no_rule_knows_has_no_name() -> None:
    assert restrictions.explain("test.test_x.C.test", "failed", "AssertionError: 1 != 2") is None


@pytest.mark.long
@pytest.mark.parametrize("group", ["must_pass_no_files", "must_pass_with_scratch_dir"])
def test_C1_modules_that_pass_under_like_walls(
    installed: frozenset[str], cases: Path, group: str
) -> None:
    """The list was made with another sandbox: no network, no fork, 1 GiB, 256 descriptors."""
    with open(cases / "cpython_tests.json", encoding="utf-8") as file:
        listed = json.load(file)
    modules = [entry["module"] for entry in listed[group] if entry["module"] in installed]
    assert len(modules) >= len(listed[group]) // 2
    broken = [
        difference
        for comparison in cpython.compare_all(modules, 2, PATIENT_S)
        for difference in comparison.differences
        # A test may skip itself for a reason with a name.  Those of files of 4 GiB find out too
        # late that so much cannot be mapped.
        if not (difference.word == "skipped" and difference.restriction)
        and difference.restriction != "memory limit"
    ]
    assert not broken, listing(broken)
