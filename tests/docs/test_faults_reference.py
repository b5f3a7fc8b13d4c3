"""The reference of faults names a test for each row (docs/reference/faults.md).

What: the last cells of its tables against the functions in ``tests/escape``.  Because: a row
without a test is a hope.  Then: whoever renames or removes a test is told here.
"""

from __future__ import annotations

import re
from pathlib import Path

_TESTS = Path(__file__).parents[1]
_PAGE = (_TESTS.parent / "docs/reference/faults.md").read_text(encoding="utf-8")


def _rows() -> list[str]:
    tables = re.findall(r"(?:^\|.*\n)+", _PAGE, re.MULTILINE)
    return [row for table in tables for row in table.splitlines()[2:]]


def test_K10_every_fault_names_a_test_that_is_there() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (_TESTS / "escape").glob("test_*.py")]
    there = {
        name for text in sources for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)
    }
    named = [re.findall(r"`(test_\w+)`", row.split(" | ")[-1]) for row in _rows()]
    assert len(named) > 30
    assert [row for row, names in zip(_rows(), named, strict=True) if len(names) != 1] == []
    assert {name for names in named for name in names} - there == set()


def test_K10_every_fault_of_a_host_is_described() -> None:
    """Those tests of hosts that show a fault of its own."""
    text = (_TESTS / "escape/test_host_faults.py").read_text(encoding="utf-8")
    tests = set(re.findall(r"^def (test_\w+)", text, re.MULTILINE))
    long = set(re.findall(r"^@pytest\.mark\.long\ndef (test_\w+)", text, re.MULTILINE))
    halves = {
        "test_K10_nothing_of_the_host_reads_the_time_of_day",
        "test_K10_a_preload_does_not_change_what_SIGIO_does_to_a_guest",
    }
    assert {name for name in tests - long - halves if f"`{name}`" not in _PAGE} == set()
