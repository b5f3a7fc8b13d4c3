"""X3: the stand-in of a host function takes what the function takes, and says so."""

from __future__ import annotations

import asyncio
import enum
import functools
import inspect
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from belljar.broker.signature import ASK, ASK_AWAITED, LEFT_OUT, check_name, definition
from belljar.errors import PolicyError


class Color(enum.Enum):
    RED = 1


def stand_in(function: Any, name: str = "f") -> Any:
    """What the guest makes of it; a call gives what would be sent."""

    async def awaited(*what: Any) -> Any:
        return what

    names: dict[str, Any] = {
        ASK: lambda *what: what,
        ASK_AWAITED: awaited,
        LEFT_OUT: object(),
    }
    exec(compile(definition(name, function), "f", "exec", dont_inherit=True), names)
    return names[name]


def plain(a, b=2, *, c=3, d=None):
    """Help."""


def every(a, b, /, c, d=4, *rest, e, f=6, **others): ...
def left_out(a, b=Color.RED, c=7, *, d=Color.RED, e=8): ...
def only_positions(a, b=2, /): ...
def positions_left_out(a, b=Color.RED, /, c=3): ...
def rest_after_left_out(a, b=Color.RED, *rest): ...
def texts(a: int, b: str = "'; raise SystemExit", *, c: bytes = b"\x00\"'\\") -> list[int]: ...
def numbers(a=float("inf"), b=-1.5, c=10**5000, d=(1, (2, "x")), e=True): ...
def nothing(): ...
def odd(_belljar_left_out, /): ...


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "sent"),
    [
        (plain, (1,), {}, ([1, 2], {"c": 3, "d": None})),
        (plain, (), {"b": 5, "a": 1, "d": 9}, ([1, 5], {"c": 3, "d": 9})),
        (
            every,
            (1, 2, 3, 4, 5, 6),
            {"e": 7, "z": 8},
            ([1, 2, 3, 4, 5, 6], {"e": 7, "f": 6, "z": 8}),
        ),
        (every, (1, 2), {"c": 3, "e": 5, "a": 6}, ([1, 2, 3, 4], {"e": 5, "f": 6, "a": 6})),
        (left_out, (1,), {}, ([1], {"c": 7, "e": 8})),
        (left_out, (1, 2, 3), {"d": 4}, ([1], {"b": 2, "c": 3, "d": 4, "e": 8})),
        (only_positions, (1,), {}, ([1, 2], {})),
        (positions_left_out, (1, 2, 3), {}, ([1, 2, 3], {})),
        (rest_after_left_out, (1, 2, 3), {}, ([1, 2, 3], {})),
        (nothing, (), {}, ([], {})),
        (odd, (1,), {}, ([1], {})),
    ],
)
def test_what_is_sent(function, args, kwargs, sent) -> None:
    name, *what = stand_in(function)(*args, **kwargs)
    assert (name, tuple(what)) == ("f", sent)
    inspect.signature(function).bind(*sent[0], **sent[1])


@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"z": 1}), ((1,), {"a": 1})]
)
def test_pythons_own_errors_for_what_does_not_fit(args, kwargs) -> None:
    with pytest.raises(TypeError, match=r"^f\(\)"):
        stand_in(plain)(*args, **kwargs)


def test_texts_are_data_and_never_code() -> None:
    made = stand_in(texts)
    assert made(1)[1:] == ([1, "'; raise SystemExit"], {"c": b"\x00\"'\\"})
    assert str(inspect.signature(made)).startswith("(a: 'int', b: 'str' = ")
    made = stand_in(numbers)
    assert made()[1:] == ([], {"b": -1.5, "d": (1, (2, "x")), "e": True})


def test_help_and_name() -> None:
    made = stand_in(plain, "other")
    assert (made.__name__, made.__doc__) == ("other", "Help.")
    assert len(stand_in(functools.partial(plain, 1)).__doc__) == 0

    def long() -> None: ...

    long.__doc__ = "'\"\\\n\x00\ud800" * 100_000
    assert len(stand_in(long).__doc__) == 16 * 2**10


def test_methods_partials_classes_built_in_and_async_ones() -> None:
    class Store:
        def get(self, key): ...

        def __call__(self, x, y=1): ...

    async def fetch(url, /): ...

    assert stand_in(Store().get)("k")[1:] == (["k"], {})
    assert stand_in(Store())(1)[1:] == ([1, 1], {})
    assert stand_in(functools.partial(plain, 1))(b=5)[1:] == ([5], {"c": 3, "d": None})
    assert stand_in(functools.partial(plain, b=1))(9)[1:] == ([9], {"b": 1, "c": 3, "d": None})
    assert stand_in(len)([1])[1:] == ([[1]], {})
    assert stand_in(max)(1, 2)[1:] == ([1, 2], {})
    made = stand_in(fetch)
    assert inspect.iscoroutinefunction(made)
    assert asyncio.run(made("u"))[1:] == (["u"], {})


@pytest.mark.parametrize(
    "name",
    ["", "a b", "1a", "class", "None", "__import__", "_belljar_ask", "ﬁ", "x" * 65, "a.b", 7],
)
def test_a_name_that_the_code_could_not_use_is_refused(name) -> None:
    with pytest.raises(PolicyError, match="functions"):
        check_name(name)


@pytest.mark.parametrize("name", ["a", "_a", "é", "match", "x" * 64])
def test_other_names_are_fine(name) -> None:
    assert check_name(name) == name
    assert stand_in(nothing, name)() == (name, [], {})


KINDS = [
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.VAR_POSITIONAL,
    inspect.Parameter.KEYWORD_ONLY,
    inspect.Parameter.VAR_KEYWORD,
]


@st.composite
def signatures(draw: st.DrawFn) -> inspect.Signature:
    kinds = sorted(draw(st.lists(st.sampled_from(KINDS), max_size=6)))
    parameters: list[inspect.Parameter] = []
    defaults = False
    for index, kind in enumerate(kinds):
        variable = kind in (KINDS[2], KINDS[4])
        if variable and any(each.kind is kind for each in parameters):
            continue
        default: Any = inspect.Parameter.empty
        if not variable and (
            draw(st.booleans()) or (defaults and kind is not inspect.Parameter.KEYWORD_ONLY)
        ):
            default = draw(st.sampled_from([0, None, "x", (1,), Color.RED, 10**5000]))
            defaults = defaults or kind is not inspect.Parameter.KEYWORD_ONLY
        parameters.append(inspect.Parameter("abcdef"[index], kind, default=default))
    return inspect.Signature(parameters)


def _call(signature: inspect.Signature, args: Any, kwargs: Any) -> dict[str, Any] | None:
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError:
        return None
    bound.apply_defaults()
    return bound.arguments


@settings(max_examples=400, deadline=None)
@given(
    signatures(),
    st.lists(st.integers(10, 99), max_size=5),
    st.dictionaries(st.sampled_from("abcdefz"), st.integers(100, 999), max_size=4),
)
def test_what_it_takes_and_forwards_is_what_the_function_takes(signature, args, kwargs) -> None:
    """Whatever the signature: the same calls are possible, and the same arguments arrive."""

    def function(*_args: Any, **_kwargs: Any) -> None: ...

    function.__signature__ = signature  # type: ignore[attr-defined]
    only_positions = {n for n, p in signature.parameters.items() if p.kind is KINDS[0]}
    assume(not only_positions & kwargs.keys())  # ``bind`` of Python 3.11 is wrong there
    expected = _call(signature, args, kwargs)
    try:
        _, sent_args, sent_kwargs = stand_in(function)(*args, **kwargs)
    except TypeError:
        assert expected is None
        return
    # A stand-in that cannot tell what was left out takes anything, and the host refuses.
    assert _call(signature, sent_args, sent_kwargs) == expected
