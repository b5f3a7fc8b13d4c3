"""X3, R15: host functions on the host: bounds that make sense, errors that cross, mappings."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from belljar import HostFunction, Policy, PolicyError, current_call
from belljar.broker.functions import Call, Functions
from belljar.engine.events import Answered
from belljar.wire.limits import MESSAGE_CHARS
from belljar.wire.values import decode, encode


def lent(function: Any, **bounds: Any) -> Functions:
    return Functions({"f": HostFunction(function, **bounds) if bounds else function}, Policy())


def call(functions: Functions, *args: Any, **kwargs: Any) -> Answered:
    made = functions.read("f", 1, bytes(encode([list(args), kwargs])))
    return made.make() if isinstance(made, Call) else made


def raising(error: BaseException) -> Any:
    def function() -> None:
        raise error

    return function


@pytest.mark.parametrize(
    "bounds",
    [
        {"calls": 0},
        {"calls": True},
        {"calls": 1.0},
        {"concurrency": 0},
        {"concurrency": 65, "in_thread": True},
        {"concurrency": 2},
        {"calls_per_s": 0},
        {"calls_per_s": float("nan")},
        {"total_s": float("inf")},
        {"total_s": -1},
        {"argument_bytes": 0},
        {"argument_bytes": 2**25},
        {"raises": [BaseException]},
        {"raises": [KeyboardInterrupt]},
        {"raises": [json.JSONDecodeError]},
        {"raises": ["ValueError"]},
    ],
)
def test_bounds_that_make_no_sense(bounds) -> None:
    with pytest.raises(PolicyError, match=next(iter(bounds))):
        HostFunction(lambda: None, **bounds)


def test_what_is_no_function() -> None:
    with pytest.raises(PolicyError, match="function"):
        HostFunction(7)  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match=r"functions\['f'\]"):
        Functions({"f": 7}, Policy())  # type: ignore[dict-item]
    for given in ([1], {"a b": len}, {7: len}, {f"f{n}": len for n in range(1001)}):
        with pytest.raises(PolicyError, match="functions"):
            Functions(given, Policy())  # type: ignore[arg-type]


def test_all_definitions_together_are_bounded() -> None:
    def function() -> None: ...

    function.__doc__ = "x" * 10_000
    with pytest.raises(PolicyError, match="docstrings"):
        Functions({f"f{n}": function for n in range(30)}, Policy())


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("no"), "ValueError", "no"),
        (json.JSONDecodeError("bad", "doc", 1), "ValueError", "bad: line 1 column 2 (char 1)"),
        (KeyError("k"), "KeyError", "k"),
        (KeyError(1), "KeyError", "1"),
        (PermissionError(13, "Permission denied", "/etc/secret"), "PermissionError", None),
        (TimeoutError(), "TimeoutError", ""),
        (RuntimeError("secret"), "RuntimeError", "f failed"),
        (FileNotFoundError(2, "No such file", "/secret"), "RuntimeError", "f failed"),
        (ValueError("x" * 10**6), "ValueError", "x" * MESSAGE_CHARS),
        (ValueError("\ud800\x00"), "ValueError", "\ud800\x00"),
    ],
)
def test_errors_cross_as_fresh_text_of_a_built_in_type(error, kind, message) -> None:
    answered = call(lent(raising(error)))
    assert answered.error_type == kind
    assert answered.message == (message if message is not None else "Permission denied")


def test_other_types_can_be_chosen() -> None:
    functions = lent(raising(FileNotFoundError(2, "No such file", "/secret")), raises=[OSError])
    assert call(functions).error_type == "OSError"
    assert call(functions).message == "No such file"
    assert call(lent(raising(ValueError("x")), raises=[])).message == "f failed"


def test_an_exception_that_cannot_be_printed_is_still_an_answer() -> None:
    class Odd(ValueError):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert call(lent(raising(Odd(1)))) == Answered(1, None, "ValueError", "")


def test_what_it_returned_cannot_cross() -> None:
    assert call(lent(lambda: object())).error_type == "RuntimeError"
    assert call(lent(lambda: b"x" * 2**25)).error_type == "RuntimeError"

    class Odd(dict):  # type: ignore[type-arg]
        def items(self) -> Any:
            raise RuntimeError("no items")

    answered = call(lent(lambda: Odd(a=1)))
    assert answered.value is not None or answered.error_type == "RuntimeError"


def test_the_hosts_own_errors_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "belljar.functions"):
        call(lent(raising(RuntimeError("secret"))))
    assert "secret" in caplog.text


@pytest.mark.parametrize(
    "arguments",
    [
        b"",
        b"\xff" * 20,
        encode(None),
        encode([[]]),
        encode([[], []]),
        encode([(), {}]),
        encode([[], {1: 2}]),
        encode([[b"x" * 2**20], {}]),
        encode([[[0.5] * 100_000], {}]),
        b"\x91" * 300,
    ],
)
def test_arguments_that_are_no_arguments(arguments) -> None:
    answered = lent(lambda *args, **kwargs: 1).read("f", 1, bytes(arguments))
    assert isinstance(answered, Answered)
    assert answered.refused
    assert answered.error_type == "TypeError"
    assert len(answered.message) <= 1000


def test_names_of_any_length_make_short_refusals() -> None:
    """A refusal longer than the wire allows would end the run as belljar's own failure."""

    def function(**others: int) -> None: ...

    answered = call(lent(function), **{"x" * 900_000: "y"})
    assert answered.refused
    assert len(answered.message) <= 1000


def test_exit_in_a_loop_ends_only_its_call() -> None:
    """``SystemExit`` in one async function would end the event loop of all."""

    async def leave() -> None:
        raise SystemExit

    made = lent(leave).read("f", 1, bytes(encode([[], {}])))
    assert isinstance(made, Call)
    assert asyncio.run(made.make_awaited()).message == "f failed"


def test_the_call_that_is_answered() -> None:
    policy = Policy().allow(abilities={"mail": 2})

    def function() -> int | float:
        assert current_call().function == "f"
        assert current_call().policy is policy
        return current_call().abilities.spend("mail")

    functions = Functions({"f": function}, policy)
    assert decode(call(functions).value) == 1  # type: ignore[arg-type]
    assert functions.abilities.left("mail") == 1
    with pytest.raises(RuntimeError, match="no sandbox has called"):
        current_call()
    call(functions)
    assert call(functions).error_type == "PermissionError"


def test_a_mapping_that_can_only_be_revoked() -> None:
    one = HostFunction(len)
    functions = Functions({"a": one, "b": one, "c": max}, Policy())
    assert list(functions) == ["a", "b", "c"]
    assert len(functions) == 3
    assert "a" in functions
    assert functions["a"] is one
    functions.revoke("c")
    assert functions.revoked == {"c"}
    one.revoke()
    assert functions.revoked == {"a", "b", "c"}
    assert Functions({"d": one}, Policy()).revoked == {"d"}
    with pytest.raises(PolicyError, match="'z'"):
        functions.revoke("z")
    assert not Functions({}, Policy())


def test_typeguard_is_imported_where_something_is_annotated() -> None:
    script = """
import sys, belljar
from belljar.broker.functions import Functions
Functions({"f": lambda a: a}, belljar.Policy())
assert "typeguard" not in sys.modules
def f(a: int): ...
Functions({"f": f}, belljar.Policy())
assert "typeguard" in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
