"""The reference of results says what a result has (docs/reference/results.md).

What: fields, statuses, limit names and exceptions of the page against those of the code.
Because: a page that is written by hand goes stale in silence.  Then: whoever adds a field is
told here to describe it.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import belljar
from belljar import errors
from belljar.policy import LIMITS
from belljar.result import STATUSES, Denial, ErrorText, LimitHit, Result, Usage, UsageNow

PAGE = (Path(__file__).parents[2] / "docs/reference/results.md").read_text(encoding="utf-8")


def _first_cells(title: str, table: int = 0) -> list[str]:
    """The names in the first column of a table of the section ``title``."""
    section = re.split(r"^## ", PAGE.split(f"\n## {title}\n", 1)[1], flags=re.MULTILINE)[0]
    rows = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)[table].splitlines()[2:]
    return [name for row in rows for name in re.findall(r"`(\w+)`", row.split(" | ")[0])]


@pytest.mark.parametrize(
    "kind", [LimitHit, Denial, Usage, UsageNow, ErrorText], ids=lambda k: k.__name__
)
def test_every_field_is_described(kind: type) -> None:
    """In the order of the code."""
    assert _first_cells(kind.__name__) == list(kind._fields)  # type: ignore[attr-defined]


def test_every_field_of_a_result_is_described() -> None:
    """The stored ones, and those that are made of them."""
    made = {name for name, what in vars(Result).items() if isinstance(what, property)}
    assert sorted(_first_cells("Result")) == sorted({*Result._fields, *made})


def test_every_status_is_described() -> None:
    """Each with an example of its own."""
    assert sorted(_first_cells("Statuses")) == sorted(STATUSES)
    for status in STATUSES:
        assert f'assert result.status == "{status}"' in PAGE


def test_every_limit_name_is_described() -> None:
    """One for each limit of a policy that can end a run, by the field's name without its unit."""
    names = _first_cells("LimitHit", table=1)
    assert sorted(names) == sorted(_names_of_limits())


def _names_of_limits() -> set[str]:
    # A value_error, time given, a throttle.
    no_end = {"value_bytes", "artifact_bytes", "grace_s", "pause_s", "output_bytes_per_s"}
    return {re.sub(r"_(s|bytes)$", "", name) for name in LIMITS if name not in no_end}


def test_every_exception_is_described() -> None:
    """And none that is not there."""
    rows = set(_first_cells("Exceptions")) - {"PermissionError", "ValueError"}
    assert rows == {*errors.__all__} - {"BelljarError"}
    assert rows <= {*belljar.__all__}


def test_every_stage_is_described() -> None:
    """The keys of ``Usage.stages``, as a run has them (the page's own example runs one)."""
    assert _first_cells("Usage", table=1) == ["zygote", "fork", "confine", "agent"]
