"""The command line as a pure function, and the help that is made from the same table."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.cli.options import COMMANDS, FLAGS, Parsed, UsageError, parse
from belljar.cli.usage import help_text, usage
from belljar.policy.limits import LIMITS


def test_a_script_takes_everything_behind_it() -> None:
    parsed = parse(["run", "--json", "x.py", "--json", "-c", "--", "-"])
    assert (parsed.source, parsed.program) == ("file", "x.py")
    assert parsed.arguments == ["--json", "-c", "--", "-"]
    assert parsed.switches == {"json"}


def test_code_and_standard_input_are_programs() -> None:
    parsed = parse(["run", "-c", "print(1)", "-x"])
    assert (parsed.source, parsed.program, parsed.arguments) == ("code", "print(1)", ["-x"])
    parsed = parse(["run", "-cprint(1)"])
    assert (parsed.source, parsed.program, parsed.arguments) == ("code", "print(1)", [])
    parsed = parse(["run", "-c", "-1"])
    assert (parsed.source, parsed.program) == ("code", "-1")
    parsed = parse(["run", "-", "a"])
    assert (parsed.source, parsed.arguments) == ("stdin", ["a"])


def test_two_dashes_end_the_options() -> None:
    parsed = parse(["run", "-q", "--", "-c", "x"])
    assert (parsed.source, parsed.program, parsed.arguments) == ("file", "-c", ["x"])
    assert parsed.switches == {"quiet"}


def test_values_stand_behind_or_after_an_equals_sign() -> None:
    parsed = parse(["run", "--read", "a", "--read=b=c", "--wall", "1s", "--wall=2s", "x.py"])
    assert parsed.each("read") == ["a", "b=c"]
    assert parsed.one("wall") == "2s"
    assert parsed.one("cpu") is None
    assert parsed.each("write") == []
    assert parse(["run", "--env=", "x.py"]).each("env") == [""]


def test_help_and_version() -> None:
    assert parse(["--help"]).command == parse(["-h"]).command == parse(["help"]).command == "help"
    assert parse(["help", "run"]).topic == "run"
    assert parse(["help", "nonsense"]).topic == ""
    for command in COMMANDS:
        switch = FLAGS[COMMANDS[command].flags[-1]].name
        parsed = parse([command, switch, "--help"])
        assert (parsed.command, parsed.topic) == ("help", command)
    assert parse(["--version"]).command == parse(["-V"]).command == "version"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "a command is missing"),
        (["rnu"], "unknown command 'rnu'; did you mean run?"),
        (["--json"], "unknown option '--json'"),
        (["run"], "a program is missing: SCRIPT, -c CODE, or - for standard input"),
        (["run", "--"], "a program is missing: SCRIPT, -c CODE, or - for standard input"),
        (["run", "-c"], "-c needs a value: CODE"),
        (["run", "--memroy", "1G", "x"], "unknown option '--memroy'; did you mean --memory?"),
        (["run", "--filter", "x"], "unknown option '--filter'; did you mean --file?"),
        (["run", "-x"], "unknown option '-x'"),
        (["run", "--wall"], "--wall needs a value: TIME"),
        (
            ["run", "--read", "--json", "x"],
            "--read needs a value, and '--json' looks like an option; "
            "if it is the value, write --read=--json",
        ),
        (["run", "--json=yes", "x"], "--json takes no value"),
        (
            ["run", "--policy", "a", "--policy", "b", "x"],
            "--policy is given twice; a policy that is silently dropped might be the stricter one",
        ),
        (["check", "x"], "unexpected argument 'x'"),
        (["check", "--"], "unknown option '--'"),
        (["check", "-c"], "unknown option '-c'"),
        (["explain", "-"], "unknown option '-'"),
    ],
)
def test_mistakes_are_named(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(arguments)
    assert str(caught.value) == message
    assert usage(caught.value.command).startswith("usage: belljar ")


_WORDS = st.one_of(
    st.sampled_from(
        [
            *COMMANDS,
            *(flag.name for flag in FLAGS.values()),
            *(f"{flag.name}=x" for flag in FLAGS.values()),
            *("-c", "-", "--", "-q", "-h", "help", "x.py", "-cx", "", "=", "--="),
        ]
    ),
    st.text(max_size=8),
    st.text(alphabet="-=:/abc\0\udcff", max_size=8),
)


@settings(max_examples=500, deadline=None)
@given(st.lists(_WORDS, max_size=8))
def test_any_line_is_understood_or_a_usage_error(arguments: list[str]) -> None:
    """Any list of texts at all gives ``Parsed`` or one ``UsageError``, and a usage text."""
    refused: UsageError | None = None
    try:
        parsed = parse(arguments)
    except UsageError as error:
        refused = error
    if refused is not None:
        assert str(refused)
        assert usage(refused.command)
        return
    assert isinstance(parsed, Parsed)
    assert parsed.command in (*COMMANDS, "help", "version")
    if parsed.command in COMMANDS:
        known = COMMANDS[parsed.command].flags
        assert parsed.switches <= set(known)
        assert set(parsed.values) <= set(known)
    if parsed.command == "run":
        assert parsed.source in ("file", "code", "stdin")
        assert parsed.arguments == arguments[len(arguments) - len(parsed.arguments) :]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_holds_every_flag_of_its_command(command: str) -> None:
    text = help_text(command)
    for dest in COMMANDS[command].flags:
        flag = FLAGS[dest]
        assert f"{flag.name} {flag.metavar}".rstrip() in text
        assert flag.help in text
    others = set(FLAGS) - set(COMMANDS[command].flags)
    assert not any(f"  {FLAGS[dest].name} " in text for dest in others)
    assert f"usage: belljar {command}" in text
    assert text.index("  belljar ") < text.index("usage:"), "examples come first"
    assert "exit code" in text
    assert max(map(len, text.splitlines())) <= 110


def test_the_overview_holds_every_command() -> None:
    text = help_text("")
    for command in COMMANDS.values():
        assert f"  {command.name} " in text
        assert command.help in text


def test_limit_flags_are_fields_of_limits() -> None:
    limits = {flag.limit for flag in FLAGS.values() if flag.limit}
    assert limits == set(LIMITS)
