"""K1, R1: whatever a guest fills, the host's own memory grows within the documented bound.

What: every attack of ``host_memory`` and every exhausting case beside the repository.  Because:
what a guest prints, returns, raises, is refused and sends is kept or read by the host.  Then:
each is contained, its result is typed, and the peak of the host's memory is under ``bound``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import belljar
from belljar import Policy

from .host_memory import ATTACKS, MIB, Row, bound, exhausting_cases, measure_case, warm_up
from .measure import cost

ENDS = {
    *("ok", "raised", "exited", "crashed", "memory", "threads", "work", "work_files", "file"),
    *("open_files", "processes", "wall", "cpu", "output"),
}


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    warm_up()


def held(row: Row) -> None:
    assert row.end in ENDS
    assert row.peak < row.bound
    assert row.left < 40 * MIB  # the allocator keeps some of what was freed
    assert row.zygote < 8 * MIB
    assert belljar.run("40 + 2").value == 42


@pytest.mark.parametrize("how", ATTACKS)
def test_K1_the_hosts_memory_is_bounded(how: str) -> None:
    held(Row(how, ATTACKS[how]))


@pytest.mark.parametrize(
    "name", ["res.mem", "res.cpu", "res.out", "res.disk", "res.tasks", "res.fd"]
)
def test_K1_every_exhausting_case_is_contained_in_bounded_memory(name: str, cases: Path) -> None:
    for case in exhausting_cases(cases)[name]:
        held(measure_case(case))


def test_the_measure_sees_what_was_there_for_a_moment() -> None:
    with cost() as found:
        del [bytearray(b"x" * (64 * MIB))][0]
    assert found.peak_bytes > 60 * MIB


def test_the_bound_is_the_documented_one() -> None:
    page = Path(__file__).parents[2] / "docs" / "reference" / "host-memory.md"
    assert f"**{bound(Policy().limits) / MIB:.0f} MiB**" in page.read_text()
    for name in ATTACKS:
        assert f"| {name} |" in page.read_text(), name
