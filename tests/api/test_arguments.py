"""``inputs``, ``argv``, ``stdin``, ``files``, ``name``: what they do, and what they refuse.

A fault is a ``PolicyError`` that names the argument, before anything runs.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import uuid
from collections.abc import Callable
from typing import Any

import pytest

import belljar
from belljar import BelljarError, Policy, PolicyError, Result

DATA: dict[str, Any] = {
    "n": 10,
    "big": 10**100,
    "x": 1.5,
    "flag": True,
    "nothing": None,
    "z": 1 + 2j,
    "text": "ä\0\U0001f600",
    "raw": bytes(range(256)),
    "items": [1, [2, (3, {4})]],
    "table": {"a": 1, 2: "b", (3, 4): frozenset({5})},
    "day": datetime.date(2024, 2, 29),
    "moment": datetime.datetime(2024, 1, 1, 12, tzinfo=datetime.UTC),
    "gap": datetime.timedelta(days=-1, microseconds=3),
    "price": decimal.Decimal("1.10"),
    "third": fractions.Fraction(1, 3),
    "key": uuid.UUID(int=7),
    "größe": 5,
}


def test_inputs_are_names_of_the_program() -> None:
    names = ", ".join(DATA)
    result = belljar.run(f"[{names}]", inputs=DATA)
    assert result.unwrap() == list(DATA.values())


def test_inputs_are_copies() -> None:
    shared = [1]
    assert belljar.run("x.append(2); x", inputs={"x": shared}).value == [1, 2]
    assert shared == [1]


def test_a_million_inputs_worth_of_data() -> None:
    assert belljar.run("sum(x)", inputs={"x": list(range(200_000))}).value == 19999900000


@pytest.mark.parametrize("name", ["", "1x", "a-b", "a b", "a.b", "a\0", 5, None, b"x", ("a",)])
def test_inputs_that_are_no_names(name: object) -> None:
    with pytest.raises(PolicyError) as caught:
        belljar.run("1", inputs={name: 1})  # type: ignore[dict-item]
    assert caught.value.key.startswith("inputs")


@pytest.mark.parametrize(
    "value",
    [
        object(), lambda: 1, int, open, ValueError(), range(3), zip(), [object()],
        {"a": {"b": [{1: object()}]}}, iter([]), ...,
    ],
)  # fmt: skip
def test_inputs_that_cannot_cross(value: object) -> None:
    with pytest.raises(PolicyError) as caught:
        belljar.run("1", inputs={"x": value})
    assert caught.value.key == "inputs.x"


def test_inputs_that_are_too_deep_or_too_large() -> None:
    deep: list[Any] = []
    for _ in range(500):
        deep = [deep]
    cycle: list[Any] = []
    cycle.append(cycle)
    for value in (deep, cycle, [0] * 2_000_000, {"a": "x" * 60_000_000}):
        with pytest.raises(PolicyError) as caught:
            belljar.run("1", inputs={"x": value})
        assert caught.value.key == "inputs.x"


def test_inputs_that_are_too_large_together() -> None:
    """Each would cross alone."""
    with pytest.raises(PolicyError) as caught:
        belljar.run("1", inputs={f"x{n}": "x" * (8 * 2**20) for n in range(6)})
    assert caught.value.key.startswith("inputs")


def test_inputs_must_be_a_mapping() -> None:
    for inputs in ([("x", 1)], "x", 5):
        with pytest.raises((PolicyError, TypeError)):
            belljar.run("1", inputs=inputs)  # type: ignore[arg-type]


def test_inputs_may_hide_a_builtin_but_not_the_programs_frame() -> None:
    assert belljar.run("print", inputs={"print": 5}).value == 5
    assert belljar.run("1 + 1", inputs={"True_": 1, "_": 2}).value == 2


def test_inputs_win_over_names_of_the_policy() -> None:
    policy = Policy().allow(names={"a": 1, "b": 2})
    assert belljar.run("[a, b]", policy, inputs={"b": 3}).value == [1, 3]


# ----------------------------------------------------------------------------- argv


def test_argv_follows_the_name_and_the_policys() -> None:
    assert belljar.run("import sys; sys.argv").value == ["<code>"]
    result = belljar.run("import sys; sys.argv", argv=["-v", "ä b", ""], name="tool.py")
    assert result.value == ["tool.py", "-v", "ä b", ""]
    policy = Policy().allow(argv=["first"])
    assert belljar.run("import sys; sys.argv", policy, argv=("second",)).value == [
        "<code>",
        "first",
        "second",
    ]


@pytest.mark.parametrize("argv", ["-v", b"-v", [5], [b"x"], [None], [["x"]]])
def test_argv_that_is_no_list_of_texts(argv: object) -> None:
    with pytest.raises(PolicyError) as caught:
        belljar.run("1", argv=argv)  # type: ignore[arg-type]
    assert caught.value.key.startswith("argv")


def test_argv_of_many_arguments_is_taken_or_refused() -> None:
    many = ["x"] * 60_000
    assert belljar.run("import sys; len(sys.argv)", argv=many).value == 60_001
    with pytest.raises(BelljarError):
        belljar.run("1", argv=["x"] * 70_000)


# ---------------------------------------------------------------------------- stdin


@pytest.mark.parametrize(
    ("stdin", "read"),
    [
        (None, ""),
        ("", ""),
        ("one\ntwo\n", "one\ntwo\n"),
        ("ä\U0001f600".encode(), "ä\U0001f600"),
        ("x" * 1_000_000, "x" * 1_000_000),
    ],
    ids=["none", "empty", "lines", "bytes", "long"],
)
def test_stdin_is_what_was_given(stdin: str | bytes | None, read: str) -> None:
    assert belljar.run("import sys; sys.stdin.read()", stdin=stdin).value == read


def test_stdin_by_every_way_of_reading() -> None:
    code = "import os, sys\n[input(), sys.stdin.readline(), os.read(0, 100), input.__name__]"
    result = belljar.run(code, stdin="a\nb\n")
    assert result.value[:2] == ["a", "b\n"]
    raw = belljar.run("import os; os.read(0, 3)", stdin=b"\xff\x00\xfe")
    assert raw.value == b"\xff\x00\xfe"
    lines = belljar.run("import sys; [line for line in sys.stdin]", stdin="1\n2\n3")
    assert lines.value == ["1\n", "2\n", "3"]


def test_stdin_at_its_end_is_an_end() -> None:
    result = belljar.run("input()")
    assert result.error is not None
    assert result.error.type == "EOFError"


@pytest.mark.parametrize(
    "code",
    ["1", "import os; os.close(0)", "import sys; sys.stdin.read(1)", "import os; os.abort()"],
)
def test_stdin_that_nobody_reads_holds_nothing_up(code: str) -> None:
    result = belljar.run(code, stdin="x" * 3_000_000)
    assert result.status in ("ok", "crashed")


@pytest.mark.parametrize("stdin", [5, {"x": "y"}, bytearray(b"x"), object()])
def test_stdin_of_another_type(stdin: object) -> None:
    with pytest.raises(PolicyError, match=r"^stdin: "):
        belljar.run("1", stdin=stdin)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------- files


def test_files_lie_in_the_working_directory() -> None:
    files = {"a.txt": "ä", "data/b.bin": b"\x00\xff", "data/deep/er/c": "", "name with space": "x"}
    code = """
import os
[open("a.txt", encoding="utf-8").read(), open("data/b.bin", "rb").read(), os.getcwd(),
 os.path.getsize("data/deep/er/c"), sorted(os.listdir("."))]
"""
    assert belljar.run(code, files=files).unwrap() == [
        "ä",
        b"\x00\xff",
        "/work",
        0,
        ["a.txt", "data", "name with space"],
    ]


def test_files_belong_to_the_program() -> None:
    code = "import os\nopen('f', 'a').write('!')\nos.rename('f', 'g')\nopen('g').read()"
    assert belljar.run(code, files={"f": "mine"}).value == "mine!"


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../up", "a/../b", "a/./b", ".", "..", "a//b", "a/", "x\0y", 5, b"x", None],
)
def test_files_with_bad_names(name: object) -> None:
    with pytest.raises(PolicyError) as caught:
        belljar.run("1", files={name: "x"})  # type: ignore[dict-item]
    assert caught.value.key.startswith("files[")


@pytest.mark.parametrize("contents", [5, None, ["x"], bytearray(b"x")])
def test_files_with_bad_contents(contents: object) -> None:
    with pytest.raises(PolicyError) as caught:
        belljar.run("1", files={"x": contents})  # type: ignore[dict-item]
    assert caught.value.key == "files['x']"


def test_files_with_surrogates_are_refused_by_name() -> None:
    with pytest.raises(PolicyError) as caught:
        belljar.run("1", files={"x": "\ud800"})
    assert caught.value.key == "files['x']"


@pytest.mark.parametrize("name", ["x" * 300, "a/" * 2000 + "b", "\ud800"])
def test_files_with_names_that_the_kernel_refuses_are_an_error(
    taken_or_refused: Callable[..., Result | None], name: str
) -> None:
    result = taken_or_refused("files[", "1", files={name: "x"})
    assert result is None or result.status == "raised"


def test_files_that_contradict_each_other(
    taken_or_refused: Callable[..., Result | None],
) -> None:
    result = taken_or_refused("files[", "1", files={"a": "x", "a/b": "y"})
    assert result is None or result.status == "raised"


def test_files_count_against_the_limits() -> None:
    result = belljar.run("1", Policy().limit(work_bytes=100_000), files={"big": bytes(300_000)})
    assert result.status == "limit"
    assert result.limit is not None
    assert result.limit.name == "work"


# ----------------------------------------------------------------------------- name


@pytest.mark.parametrize("name", ["script.py", "ä b.py", "/host/path.py", "<stdin>", "x" * 1000])
def test_name_is_shown_in_tracebacks(name: str) -> None:
    result = belljar.run(
        "import sys\nassert sys.argv[0] == NAME\n1/0", inputs={"NAME": name}, name=name
    )
    assert result.error is not None
    assert f'File "{name}", line 3' in result.error.traceback


@pytest.mark.parametrize("name", ["", "a\0b", 5, None, b"x"])
def test_name_that_is_none(name: object) -> None:
    with pytest.raises(PolicyError, match=r"^name: "):
        belljar.run("1", name=name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["\ud800", "x" * 5000, "a\nb", "agent.py", "os"])
def test_odd_names_are_taken_or_refused(
    taken_or_refused: Callable[..., Result | None], name: str
) -> None:
    result = taken_or_refused("name", "1/0", name=name)
    if result is not None:
        assert result.error is not None
        assert result.error.type == "ZeroDivisionError"


# --------------------------------------------------------------------------- policy


@pytest.mark.parametrize("policy", [5, "Policy()", {}, Policy, {"limits": {}}])
def test_policy_of_another_type(policy: object) -> None:
    with pytest.raises(PolicyError, match=r"^policy: expected a Policy"):
        belljar.run("1", policy)  # type: ignore[arg-type]


def test_every_fault_is_a_belljar_error() -> None:
    for arguments in (
        {"code": None},
        {"inputs": {"x": object()}},
        {"argv": "x"},
        {"stdin": 5},
        {"files": {"..": ""}},
        {"name": ""},
        {"policy": 5},
    ):
        with pytest.raises(BelljarError):
            belljar.run(**{"code": "1", **arguments})  # type: ignore[arg-type]


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(TypeError):
        belljar.run("1", timeout=5)  # type: ignore[call-arg]
