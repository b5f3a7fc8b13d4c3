"""The reference of the command says what the command has (docs/reference/command.md).

What: commands, options, exit codes and JSON keys of the page against those of the code.
Because: a page that is written by hand goes stale in silence.  Then: whoever adds an option
is told here to describe it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from belljar.api.sandbox import RUN_LIMITS
from belljar.cli import objects, options, usage
from belljar.policy import Limits
from belljar.policy.units import format_limit
from belljar.result import STATUSES, Denial, ErrorText, LimitHit, Result

PAGE = (Path(__file__).parents[2] / "docs/reference/command.md").read_text(encoding="utf-8")


def _sections() -> dict[str, str]:
    """The page by the titles of its sections, each with its sub-sections."""
    parts = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def _rows(text: str) -> list[list[str]]:
    """The cells of every row of every table; an escaped bar is a bar."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [re.split(r"(?<!\\) \| ", line.strip("| ")) for line in lines]
    return [[cell.replace("\\|", "|") for cell in row] for row in cells]


def _documented(command: str) -> dict[str, list[str]]:
    """The rows of a command's section that describe an option, by the option's name."""
    found: dict[str, list[str]] = {}
    for row in _rows(_sections()[command]):
        name = re.search(r"`(--[a-z-]+)[^`]*`", row[0])
        if name is not None:
            found[name[1]] = row
    return found


def _flags(command: str) -> list[options.Flag]:
    return [options.FLAGS[dest] for dest in options.COMMANDS[command].flags]


@pytest.mark.parametrize("command", options.COMMANDS)
def test_every_command_has_its_section(command: str) -> None:
    """In the overview, and with a heading."""
    assert any(f"`belljar {command}`" in row[0] for row in _rows(PAGE.split("## ")[0]))
    assert command in _sections()


@pytest.mark.parametrize("command", ["run", "check"])
def test_every_option_is_described(command: str) -> None:
    """Those and no others."""
    assert set(_documented(command)) == {flag.name for flag in _flags(command)}


@pytest.mark.parametrize("command", ["explain", "repl"])
def test_others_add_to_the_options_of_run(command: str) -> None:
    """They refer to ``run`` for the policy; the rest they describe."""
    shared = {flag.name for flag in _flags("run") if flag.group != options.OUTPUT}
    own = {flag.name for flag in _flags(command)} - shared
    assert set(_documented(command)) == own


def test_what_repl_does_not_take_is_named() -> None:
    """Of the options of ``run`` for grants and limits."""
    shared = {flag.name for flag in _flags("run") if flag.group != options.OUTPUT}
    (sentence,) = re.findall(r"but for ([^:.]+):", _sections()["repl"])
    left_out = shared - {flag.name for flag in _flags("repl")}
    assert set(re.findall(r"`(--[a-z-]+)`", sentence)) == left_out


def test_the_limits_of_each_input_are_named() -> None:
    """Those that ``Sandbox`` holds run by run."""
    (sentence,) = re.findall(r"The limits ([^.]+) hold for each input", _sections()["repl"])
    fields = [flag for flag in _flags("repl") if flag.limit in RUN_LIMITS]
    assert set(re.findall(r"`(--[a-z-]+)`", sentence)) == {flag.name for flag in fields}


@pytest.mark.parametrize("flag", _flags("run"), ids=lambda flag: flag.name)
def test_an_option_is_written_as_in_the_help(flag: options.Flag) -> None:
    """Its value's name, its short form, whether it may be repeated, its limit and default."""
    row = _documented("run")[flag.name]
    assert f"`{flag.name} {flag.metavar}`".replace(" `", "`") in row[0]
    assert not flag.short or f"`{flag.short}`" in row[0]
    if flag.group == options.GRANTS:
        assert row[1].strip() == {options.EACH: "yes", options.ONCE: "no"}.get(flag.kind, "-")
    if flag.limit:
        default = format_limit(flag.limit, Limits()[flag.limit])
        assert row[1:3] == [f"`{flag.limit}`", default]


def test_every_exit_code_is_described() -> None:
    """The numbers in the help, those in the page's table, and those in the code."""
    told = usage.help_text("run").split("exit code\n", 1)[1].split("\n\n", 1)[0]
    in_help = {int(number) for number in re.findall(r"(?<![\w])\d+(?![\w])", told)}
    cells = [row[0] for row in _rows(_sections()["Exit codes"])]
    in_page = {int(number) for cell in cells for number in re.findall(r"\d+", cell)}
    assert in_help <= in_page
    assert {2, 3, 4, 5, 70, 74} <= in_help


def test_every_json_key_is_described() -> None:
    """Of the object of a run, and of the objects in it."""
    result = Result("limit", value=object(), value_error="x")
    made = json.loads(objects.result_object(result))
    rows = {
        name: row for row in _rows(_sections()["JSON"]) for name in re.findall(r"`(\w+)`", row[0])
    }
    assert set(rows) == set(made)
    for key, kind in (("error", ErrorText), ("limit", LimitHit), ("denials", Denial)):
        assert set(re.findall(r"`(\w+)`", rows[key][1])) == set(kind._fields)
    assert set(re.findall(r"`(\w+)`", rows["usage"][1])) == set(made["usage"])


def test_the_words_of_the_code_are_the_words_of_the_page() -> None:
    """``status`` has the five of a result, and the one that stands for no run."""
    (row,) = [row for row in _rows(_sections()["JSON"]) if row[0] == "`status`"]
    assert set(re.findall(r"`(\w+)`", row[1])) == {*STATUSES, "failed"}
    assert json.loads(objects.failure_object(ValueError("x")))["status"] == "failed"
