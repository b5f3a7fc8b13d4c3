"""``code``: what is accepted as a program, and what a bad one says.

What: types, encodings, sizes, syntax errors, nesting, last expressions, top-level ``await``.
Because: the first thing a user gets wrong is the program.  Then: a fault of the caller is a
``PolicyError`` before anything runs, a fault of the program an ordinary outcome with line and
caret, and nothing is a crash or a hang.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

import belljar
from belljar import Policy, PolicyError, Result


@pytest.mark.parametrize("code", [None, 5, bytearray(b"1"), memoryview(b"1"), ["1"], object()])
def test_code_is_str_or_bytes(code: object) -> None:
    with pytest.raises(PolicyError, match=r"^code: expected str or bytes, got ") as caught:
        belljar.run(code)  # type: ignore[arg-type]
    assert caught.value.key == "code"


def test_code_of_a_subclass_of_str(taken_or_refused: Callable[..., Result | None]) -> None:
    class Text(str):
        def __len__(self) -> int:
            return 0

    result = taken_or_refused("code", Text("1 + 1"))
    assert result is None or result.value == 2


def test_code_over_the_limit_is_refused() -> None:
    for code in ("#" * (16 * 2**20 + 1), b"#" * (16 * 2**20 + 1)):
        with pytest.raises(PolicyError, match=r"^code: "):
            belljar.run(code)


def test_code_of_the_widest_characters(taken_or_refused: Callable[..., Result | None]) -> None:
    result = taken_or_refused("code", "'" + "\U0001f600" * 4_000_000 + "'; 1")
    assert result is None or result.value == 1


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("x = '" + "a" * 10_000_000 + "'\nlen(x)", 10_000_000),
        ("#" + "x" * 10_000_000 + "\n7", 7),
        (b"#" + b"x" * 10_000_000 + b"\n8", 8),
    ],
    ids=["text", "comment", "bytes"],
)
def test_ten_megabytes_of_source(code: str | bytes, value: int) -> None:
    assert belljar.run(code).unwrap() == value


def test_ten_megabytes_of_statements_end_in_an_outcome() -> None:
    result = belljar.run("x=1\n" * 2_500_000)
    assert result.status in ("ok", "limit")
    assert belljar.run("1").value == 1


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ('"ä"', "ä"),
        ('"ä"'.encode(), "ä"),
        (b'# coding: latin-1\n"\xe4"', "ä"),
        (b'#!/usr/bin/python\n# -*- coding: cp1252 -*-\n"\x80"', "€"),
        (b'\xef\xbb\xbf"bom"', "bom"),
        ('# coding: latin-1\n"ä"', "ä"),
        ("'a'\r\n'b'\r\n", "b"),
        ("x = 1\rx", 1),
        ("'\\x00'", "\0"),
        ("\f1", 1),
    ],
)
def test_encodings_are_pythons(code: str | bytes, value: object) -> None:
    assert belljar.run(code).unwrap() == value


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("1\0", "SyntaxError", "null bytes"),
        (b"1\0", "SyntaxError", "null bytes"),
        ('"x"'.encode("utf-16"), "SyntaxError", "null bytes"),
        (b"# coding: nonsense\n1", "SyntaxError", "unknown encoding: nonsense"),
        (b"# coding: rot13\n1", "SyntaxError", "not a text encoding"),
        (b"\xef\xbb\xbf# coding: latin-1\n1", "SyntaxError", "encoding problem"),
        (b'"\xff"', "SyntaxError", "invalid start byte"),
        ('"\ud800"', "UnicodeEncodeError", "surrogates not allowed"),
        ("x\udcff = 1", "UnicodeEncodeError", "surrogates not allowed"),
    ],
)
def test_source_that_cannot_be_read_says_why(code: str | bytes, kind: str, words: str) -> None:
    result = belljar.run(code)
    assert (result.status, result.stdout) == ("raised", "")
    assert result.error is not None
    assert result.error.type in (kind, "SyntaxError", "ValueError")
    assert words in result.error.message


def test_a_syntax_error_has_line_and_caret() -> None:
    result = belljar.run("x = 1\nprint('a' 5)\n", name="lesson.py")
    assert result.error is not None
    assert result.error.type == "SyntaxError"
    lines = result.error.traceback.splitlines()
    assert lines[0] == '  File "lesson.py", line 2'
    assert lines[1] == "    print('a' 5)"
    assert lines[2].strip("^ ") == ""
    assert "^" in lines[2]
    assert result.stdout == ""


@pytest.mark.parametrize(
    "code",
    ["x = (", "if 1:\n\tx\n        y", "return 1", "yield 1", "'unfinished", "f'{'", "a b", "1 = x",
     "def f():\n", "nonlocal x", "async def f(): yield from x", "\x01", "del f()", "*a", "break"],
)  # fmt: skip
def test_programs_that_do_not_compile_raise(code: str) -> None:
    result = belljar.run(code)
    assert result.status == "raised"
    assert result.error is not None
    assert result.error.type in ("SyntaxError", "IndentationError", "TabError")
    with pytest.raises(belljar.GuestRaised):
        result.unwrap()


DEEP = {
    "parentheses": "(" * 100_000 + ")" * 100_000,
    "lists": "[" * 5000 + "]" * 5000,
    "signs": "-" * 100_000 + "1",
    "attributes": "a" + ".b" * 50_000,
    "sum": "1" + "+1" * 100_000,
    "powers": "2" + "**1" * 10_000,
    "blocks": "".join(" " * n + "if 1:\n" for n in range(101)) + " " * 101 + "5",
    "functions": "".join(" " * n + "def f():\n" for n in range(90)) + " " * 90 + "pass",
    "lambdas": "lambda: " * 5000 + "1",
    "f-strings": "f'{" * 150 + "1" + "}'" * 150,
    "not": "not " * 50_000 + "1",
    "calls": "f(" * 5000 + ")" * 5000,
    "comparison": "1" + "<1" * 100_000,
    "else": "if 0: pass\n" + "elif 0: pass\n" * 20_000,
}


@pytest.mark.parametrize("how", DEEP)
def test_deep_nesting_is_an_error_of_the_program(how: str) -> None:
    result = belljar.run(DEEP[how])
    assert result.status in ("ok", "raised", "limit", "crashed")
    if result.status == "raised":
        assert result.error is not None
        assert result.error.type in (
            "SyntaxError", "IndentationError", "RecursionError", "MemoryError", "NameError"
        )  # fmt: skip
    assert belljar.run("1").value == 1


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("", None),
        ("  \n", None),
        ("# nothing", None),
        ("x = 1", None),
        ("5\nx = 1", None),
        ("1; 2", 2),
        ("x = 3\nx * 2", 6),
        ("(y := 5)", 5),
        ('"doc"', "doc"),
        ('"doc"\n__doc__', "doc"),
        ("def f(): return 1\nf()", 1),
        ("if 1:\n  5", None),
        ("__name__", "__main__"),
        ("[x for x in range(3)]", [0, 1, 2]),
        ("lambda: 1\n2", 2),
        ("from __future__ import annotations\ndef f(x: nope): 0\nf.__annotations__", {"x": "nope"}),
        ("import __main__\nx = 4\n__main__.x", 4),
        ("global z\nz = 1\nz", 1),
        ("x: int = 5\n__annotations__['x'] is int", True),
        ("print('out') or 5", 5),
        ("1\n", 1),
        ("1 # comment\n\n\n", 1),
    ],
)
def test_the_value_is_that_of_the_last_expression(code: str, value: object) -> None:
    assert belljar.run(code).unwrap() == value


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("import asyncio\nawait asyncio.sleep(0, 7)", 7),
        ("import asyncio\nawait asyncio.sleep(0)\n5", 5),
        ("import asyncio\nx = await asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2))\nx", [1, 2]),
        ("async def g():\n yield 1\n[x async for x in g()]", [1]),
        ("async def g():\n yield 1\nasync for x in g(): pass\nx", 1),
        ("import contextlib\n@contextlib.asynccontextmanager\nasync def c(): yield 3\n"
         "async with c() as v: pass\nv", 3),
        ("import asyncio\nasync def m(): return 5\nasyncio.run(m())", 5),
        ("async def f(): return 1\nx = await f()", None),
        ("import asyncio\nasyncio.get_running_loop() and await asyncio.sleep(0, 9)", 9),
    ],
)  # fmt: skip
def test_await_works_at_top_level(code: str, value: object) -> None:
    assert belljar.run(code).unwrap() == value


def test_an_exception_in_an_await_shows_the_programs_lines() -> None:
    code = "import asyncio\nasync def f():\n    1 / 0\nawait f()\n"
    result = belljar.run(code, name="waits.py")
    assert result.error is not None
    assert 'File "waits.py", line 4' in result.error.traceback
    assert "    1 / 0" in result.error.traceback
    assert "asyncio/runners" not in result.error.traceback


def test_tracebacks_show_the_source_of_every_frame() -> None:
    code = "def outer():\n    inner()\n\ndef inner():\n    raise KeyError('k')\n\nouter()\n"
    for source in (code, code.encode(), b"# coding: latin-1\n" + code.encode()):
        result = belljar.run(source, name="frames.py")
        assert result.error is not None
        text = result.error.traceback
        assert text.startswith("Traceback (most recent call last):\n")
        for line in ("outer()", "inner()", "raise KeyError('k')"):
            assert f"    {line}\n" in text
        assert text.rstrip().endswith("KeyError: 'k'")


def test_notes_and_chains_are_kept() -> None:
    code = "try:\n 1/0\nexcept Exception as e:\n n = ValueError('v'); n.add_note('a note')\n raise n from e"
    error = belljar.run(code).error
    assert error is not None
    assert error.notes == ("a note",)
    assert "ZeroDivisionError" in error.traceback
    assert "direct cause" in error.traceback
    assert "a note" in error.traceback


def test_group_exceptions_are_kept() -> None:
    error = belljar.run("raise ExceptionGroup('several', [ValueError(1), KeyError(2)])").error
    assert error is not None
    assert error.type == "ExceptionGroup"
    assert "ValueError: 1" in error.traceback
    assert "KeyError: 2" in error.traceback


def test_a_class_of_the_program_is_named_without_main() -> None:
    code = "class Odd(Exception): pass\nraise Odd('m')"
    error = belljar.run(code).error
    assert error is not None
    assert (error.type, error.message) == ("Odd", "m")
    library = belljar.run("import json; json.loads('{')").error
    assert library is not None
    assert library.type == "json.decoder.JSONDecodeError"


def test_the_program_is_a_main_module() -> None:
    code = """
import pickle, sys, dataclasses, typing
@dataclasses.dataclass
class Point:
    x: int
copied = pickle.loads(pickle.dumps(Point(3)))
typing.get_type_hints(Point)
(copied.x, Point.__module__, sys.modules["__main__"].Point is Point)
"""
    assert belljar.run(code).unwrap() == (3, "__main__", True)


def test_two_programs_do_not_know_each_other() -> None:
    policy = Policy()
    belljar.run("x = 1", policy)
    result = belljar.run("x", policy)
    assert result.error is not None
    assert result.error.type == "NameError"
