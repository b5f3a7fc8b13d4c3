"""Texts with units: one reading each, for the command line and policy files."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.errors import PolicyError
from belljar.policy import LIMITS
from belljar.policy.units import (
    format_bytes,
    format_limit,
    format_seconds,
    parse_bytes,
    parse_limit,
    parse_seconds,
)

BYTES = [
    ("0", 0),
    ("1000", 1000),
    ("64B", 64),
    ("1K", 1024),
    ("1k", 1024),
    ("64KiB", 65_536),
    ("256M", 268_435_456),
    ("256Mi", 268_435_456),
    ("256 MiB", 268_435_456),
    ("1.5G", 1_610_612_736),
    ("0.5k", 512),
    ("0.1K", 102),
    (" 2T ", 2_199_023_255_552),
]
SECONDS = [
    ("0", 0.0),
    ("2", 2.0),
    ("2s", 2.0),
    ("2 s", 2.0),
    ("500ms", 0.5),
    ("0.1s", 0.1),
    ("1m", 60.0),
    ("1.5m", 90.0),
    ("1min", 60.0),
    ("1H", 3600.0),
    ("7d", 604_800.0),
    ("100ms", 0.1),
]
NEITHER = [
    "",
    " ",
    "M",
    "s",
    "-1",
    "+1",
    "1.",
    ".5",
    "1..5",
    "1.5.2",
    "1e3",
    "0x10",
    "1_000",
    "1,5",
    "١",
    "²",
    "inf",
    "nan",
    "1 2",
    "2x",
    "1sM",
    "2\0s",
    "9" * 40,
]


@pytest.mark.parametrize(("text", "wanted"), BYTES)
def test_bytes(text: str, wanted: int) -> None:
    assert parse_bytes(text) == wanted
    assert type(parse_bytes(text)) is int


@pytest.mark.parametrize(("text", "wanted"), SECONDS)
def test_seconds(text: str, wanted: float) -> None:
    assert parse_seconds(text) == wanted
    assert type(parse_seconds(text)) is float


@pytest.mark.parametrize("text", NEITHER)
def test_texts_that_are_neither(text: str) -> None:
    with pytest.raises(PolicyError, match=r"^--memory: "):
        parse_bytes(text, "--memory")
    with pytest.raises(PolicyError, match=r"^--wall: "):
        parse_seconds(text, "--wall")


@pytest.mark.parametrize("value", [None, 1, 1.5, b"1M", ["1M"]])
def test_what_is_not_text(value: object) -> None:
    with pytest.raises(PolicyError, match="expected a size"):
        parse_bytes(value)
    with pytest.raises(PolicyError, match="expected a time"):
        parse_seconds(value)


def test_a_unit_of_the_other_kind_or_of_two_meanings() -> None:
    with pytest.raises(PolicyError, match="'mb' means two things; write MiB"):
        parse_bytes("256MB")
    with pytest.raises(PolicyError, match="no known unit; write K, M, G or T"):
        parse_bytes("2s")
    with pytest.raises(PolicyError, match="no known unit; write ms, s, m"):
        parse_seconds("256G")


def test_parse_limit_goes_by_the_unit_and_checks_the_range() -> None:
    assert parse_limit("memory_bytes", "64M") == 64 * 2**20
    assert parse_limit("memory_bytes", 64 * 2**20) == 64 * 2**20
    assert parse_limit("wall_s", "1m") == 60.0
    assert parse_limit("processes", "3") == 3
    assert parse_limit("cpu_cores", "0.5") == 0.5
    assert parse_limit("cpu_cores", "2") == 2.0
    assert parse_limit("output_bytes_per_s", "64K") == 2**16
    for name, value, message in [
        ("wall_s", "8d", "limits.wall_s: 691200.0 is out of range"),
        ("memory_bytes", "1K", "limits.memory_bytes: 1024 is out of range"),
        ("processes", "3K", "limits.processes: expected a whole number, got '3K'"),
        ("cpu_cores", "2K", "limits.cpu_cores: expected a number such as 0.5, got '2K'"),
        ("cpu_cores", "half", "limits.cpu_cores: expected a number such as 0.5"),
        ("cpu_cores", "0", "limits.cpu_cores: 0.0 is out of range: 0.01 to 1,024.0 (cores)"),
        ("output_bytes_per_s", "1s", "limits.output_bytes_per_s: '1s' has no known unit"),
        ("processes", "-3", "limits.processes: expected a whole number"),
        ("processes", "9" * 5000, "limits.processes: expected a whole number"),
        ("memory", "1M", "limits.memory: unknown key 'memory'; did you mean memory_bytes?"),
    ]:
        with pytest.raises(PolicyError) as caught:
            parse_limit(name, value)
        assert str(caught.value).startswith(message)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**50))
def test_format_bytes_reads_back(count: int) -> None:
    text = format_bytes(count)
    assert parse_bytes(text.removesuffix(" bytes")) == count


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 604_800_000))
def test_format_seconds_reads_back(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_seconds(format_seconds(seconds)) == pytest.approx(seconds, rel=1e-5)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=8))
def test_any_text_gives_a_number_or_a_policy_error(text: str) -> None:
    for parse in (parse_bytes, parse_seconds):
        with contextlib.suppress(PolicyError):
            assert parse(text) >= 0


def test_formats_by_example() -> None:
    assert [format_bytes(n) for n in (0, 1, 1024, 1536, 2**28, 3 * 2**40)] == [
        "0 bytes",
        "1 bytes",
        "1 KiB",
        "1536 bytes",
        "256 MiB",
        "3 TiB",
    ]
    assert [format_seconds(s) for s in (0.001, 0.5, 5.0, 90, 120, 7200, 604_800)] == [
        "1 ms",
        "500 ms",
        "5 s",
        "90 s",
        "2 min",
        "2 h",
        "7 d",
    ]
    assert format_limit("threads", LIMITS["threads"].high) == "4096"
    assert format_limit("wall_s", 2.0) == "2 s"
    assert format_limit("cpu_cores", 0.5) == "0.5"
    assert format_limit("cpu_cores", LIMITS["cpu_cores"].high) == "1024"
    assert format_limit("output_bytes_per_s", 2**16) == "64 KiB/s"
    assert format_limit("work_bytes", 2**26) == "64 MiB"
