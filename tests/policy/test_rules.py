"""Rules on names: the most specific pattern decides, and intersections are exact (C3, C4)."""

from __future__ import annotations

import pytest
from hypothesis import given

from belljar.errors import PolicyError
from belljar.policy.rules import ALLOW, BLOCK, USUAL, Rules, check_patterns

from .strategies import rule_steps

Steps = list[tuple[str, list[str]]]
NAMES = ["a", "a.x", "a.b", "a.b.x", "a.b.x.y", "b", "b.x", "_ctypes", "other", "other.a"]


def made(steps: Steps) -> Rules:
    rules = Rules()
    for verb, patterns in steps:
        rules = rules.set(patterns, ALLOW if verb == "allow" else BLOCK)
    return rules


def model(steps: Steps, name: str) -> int:
    """Replayed for one name: what covers it was the last word, whatever came before."""
    said = USUAL
    for verb, patterns in steps:
        for pattern in patterns:
            prefix = pattern.removesuffix("*").removesuffix(".")
            covers = pattern in ("*", name) or (
                pattern.endswith(".*") and (name == prefix or name.startswith(prefix + "."))
            )
            if covers:
                said = ALLOW if verb == "allow" else BLOCK
    return said


@given(rule_steps)
def test_the_last_word_on_a_name_counts(steps: Steps) -> None:
    rules = made(steps)
    assert [rules.at(name) for name in NAMES] == [model(steps, name) for name in NAMES]


@given(rule_steps, rule_steps)
def test_an_intersection_is_exact(first: Steps, second: Steps) -> None:
    a, b = made(first), made(second)
    both = a & b
    for name in NAMES:
        assert both.at(name) == min(model(first, name), model(second, name))
    assert both <= a
    assert both <= b
    assert (a <= b) == (both == a)


@given(rule_steps, rule_steps)
def test_one_meaning_has_one_form(first: Steps, second: Steps) -> None:
    a, b = made(first), made(second)
    points = {*NAMES, *dict(a.pairs), *dict(b.pairs), "*"}
    alike = all(a.at(point) == b.at(point) for point in points)
    assert alike == (a == b)
    assert Rules(USUAL, dict(a.in_order())) == a
    again = Rules()
    for pattern, said in a.in_order():
        again = again.set([pattern], said)
    assert again == a


def test_a_pattern_covers_the_package_itself() -> None:
    rules = Rules().set(["numpy.*"], BLOCK)
    assert rules.at("numpy") == rules.at("numpy.random.mtrand") == BLOCK
    assert rules.at("numpy2") == rules.at("num") == USUAL


@pytest.mark.parametrize(
    ("value", "key", "words"),
    [
        ("_ctypes", "grants.modules", "write modules=['_ctypes']"),
        (None, "grants.modules", "got None"),
        ([1], "grants.modules[0]", "got int"),
        (["ok", "num*"], "grants.modules[1]", "none of these: a name, 'name.*' or '*'"),
        (["a..b"], "grants.modules[0]", "none of these"),
        ([".*"], "grants.modules[0]", "none of these"),
        (["*.a"], "grants.modules[0]", "none of these"),
        ([""], "grants.modules[0]", "none of these"),
        (["a" * 201], "grants.modules[0]", "longer than 200"),
        ([f"m{n}" for n in range(1025)], "grants.modules", "at most 1024"),
    ],
)
def test_a_bad_pattern_is_named(value: object, key: str, words: str) -> None:
    with pytest.raises(PolicyError) as caught:
        check_patterns("grants.modules", value, "modules")
    assert caught.value.key == key
    assert words in caught.value.message
