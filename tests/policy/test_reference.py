"""The reference page says what the code does (docs/reference/policy.md)."""

from __future__ import annotations

import pathlib
import re
import tomllib

import pytest

from belljar.errors import PolicyError
from belljar.policy import LIMITS, Limits, Policy
from belljar.policy.baselines import BASELINES
from belljar.policy.files import loads_toml
from belljar.policy.grants import GRANTS, MAX_ARGV, MAX_ENV, MAX_NAMES, MAX_PACKAGES
from belljar.policy.paths import MAX_PATHS, REFUSED_HOST_TREES, RESERVED_ROOTS, RESERVED_TREES
from belljar.policy.units import format_limit
from belljar.policy.values import MAX_DATA_BYTES, MAX_DEPTH

PAGE = pathlib.Path(__file__).parents[2].joinpath("docs/reference/policy.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """The cells of the first table under ``heading``, its head left out."""
    section = PAGE.split(f"{heading}\n", 1)[1]
    table = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert table is not None
    return [line.strip("| ").split(" | ") for line in table[0].splitlines()[2:]]


def test_every_limit_has_its_row() -> None:
    wanted = [
        [
            f"`{name}`",
            format_limit(name, Limits()[name]),
            f"{format_limit(name, spec.low)} to {format_limit(name, spec.high)}",
            spec.bounds,
            spec.reason,
        ]
        for name, spec in LIMITS.items()
    ]
    assert rows("## Limits") == wanted


def test_every_grant_has_its_row() -> None:
    assert [row[0] for row in rows("## Grants")] == [f"`{name}`" for name in GRANTS]


def test_every_reserved_place_is_named() -> None:
    named = {place for row in rows("### Paths") for place in re.findall(r"`(/\.?\w*)`", row[0])}
    assert named == {"/", *RESERVED_TREES, *RESERVED_ROOTS, *REFUSED_HOST_TREES}


def test_every_baseline_has_its_row() -> None:
    assert [row[0] for row in rows("## Baselines")] == [f"`{name}`" for name in BASELINES]


def test_the_counts_are_right() -> None:
    assert (MAX_PATHS, MAX_ENV, MAX_ARGV, MAX_NAMES, MAX_PACKAGES) == (256, 256, 1024, 256, 1024)
    assert MAX_DATA_BYTES == 256 * 2**10
    assert f"nested at most {MAX_DEPTH} deep" in PAGE


def test_the_file_by_example_is_a_policy() -> None:
    text = re.search(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert text is not None
    policy = loads_toml(text[1])
    assert tomllib.loads(text[1])["limits"] == {"wall_s": "1m", "memory_bytes": "1G"}
    assert policy.limits == Limits(wall_s=60, memory_bytes=2**30)


@pytest.mark.parametrize("row", rows("## Errors"), ids=lambda row: row[1])
def test_every_error_is_as_printed(row: list[str]) -> None:
    call, key, message = row
    with pytest.raises(PolicyError) as caught:
        eval(f"Policy().{call.strip('`')}", {"Policy": Policy})
    assert caught.value.key == key.strip("`")
    assert caught.value.message == message
