"""Abilities of the application's own, against laws and against a model (R15, N1, N2)."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.errors import PolicyError
from belljar.plan.explain import explain_grants
from belljar.policy import Policy
from belljar.policy.abilities import MAX_CAP, describe, kind, meet, within
from belljar.policy.files import dumps_json, dumps_toml, loads_json, loads_toml

from .strategies import abilities, wide_abilities

some = settings(max_examples=200, deadline=None)
PROBES = [0, 0.25, 0.5, 1, 2, 2.5, 500, 501, MAX_CAP]
Wanted = dict[str, object]


def granting(wanted: object) -> Policy:
    return Policy().allow(abilities=wanted)  # type: ignore[arg-type]


def facts(policy: Policy) -> set[tuple[str, str, object]]:
    """The model: everything that an application could find out about the abilities.

    A policy that is stricter has fewer of them, and two policies together those of both.
    """
    found: set[tuple[str, str, object]] = set()
    for name, ability in policy.abilities.items():
        if ability is True:
            found.add((name, "flag", None))
        elif isinstance(ability, frozenset):
            found |= {(name, "member", None), *((name, "member", item) for item in ability)}
        elif isinstance(ability, str):
            found.add((name, "value", ability))
        else:
            found |= {(name, "cap", probe) for probe in PROBES if probe <= ability}
    return found


@some
@given(abilities, abilities)
def test_R15_meet_order_and_join_are_those_of_the_model(left: Wanted, right: Wanted) -> None:
    a, b = granting(left), granting(right)
    assert facts(a & b) == facts(a) & facts(b)
    assert (a <= b) == (facts(a) <= facts(b))
    assert (a == b) == (facts(a) == facts(b))
    contradiction = any(
        kind(one) != kind(b.abilities[name]) or (isinstance(one, str) and one != b.abilities[name])
        for name, one in a.abilities.items()
        if name in b.abilities
    )
    if contradiction:
        with pytest.raises(PolicyError, match=r"^grants\.abilities[.\[].*already granted"):
            a.allow(abilities=b.abilities)
    else:
        assert facts(a.allow(abilities=b.abilities)) == facts(a) | facts(b)


@some
@given(wide_abilities, wide_abilities, wide_abilities)
def test_R15_the_laws_hold_for_any_texts_and_numbers(x: Wanted, y: Wanted, z: Wanted) -> None:
    a, b, c = granting(x), granting(y), granting(z)
    assert a & a == a
    assert a & b == b & a
    assert hash(a & b) == hash(b & a)
    assert (a & b) & c == a & (b & c)
    assert a & b <= a
    assert (a <= b) == (a & b == a)
    if c <= a and c <= b:
        assert c <= a & b


@some
@given(wide_abilities)
def test_R15_files_and_repr_give_the_abilities_back(wanted: Wanted) -> None:
    policy = granting(wanted)
    for again in (
        loads_toml(dumps_toml(policy)),
        loads_json(dumps_json(policy)),
        eval(repr(policy), {"Policy": Policy}),
    ):
        assert again == policy
        assert [*map(type, again.abilities.values())] == [*map(type, policy.abilities.values())]


def test_R15_a_flag_is_not_a_cap_of_one_and_no_cap_is_a_text() -> None:
    """``True == 1`` in Python, but they are two rights."""
    different = [granting({"n": ability}) for ability in (True, 1, "1", {"1"}, set())]
    assert len(set(different)) == 5
    for policy in different:
        for other in different:
            if other is not policy and {kind(p.abilities["n"]) for p in (policy, other)} != {
                "membership"
            }:
                assert policy & other == Policy()
                assert not policy <= other


def test_R15_equal_caps_are_of_one_type() -> None:
    whole, written = granting({"n": 500}), granting({"n": 500.0})
    assert whole == written
    assert type(written.abilities["n"]) is int
    assert repr(granting({"n": -0.0})) == "Policy().allow(abilities={'n': 0})"


def test_R15_what_meets_in_nothing_keeps_its_kind() -> None:
    """A cap of 0 and an empty membership stay; an absent name is below them."""
    empty = granting({"t": ["a"]}) & granting({"t": ["b"]})
    assert empty.abilities == {"t": frozenset()}
    assert Policy() < empty < granting({"t": ["b"]})
    with pytest.raises(PolicyError, match="already granted as a membership"):
        empty.allow(abilities={"t": 5})
    assert (granting({"n": 0}) & granting({"n": 9})).abilities == {"n": 0}
    assert (granting({"v": "a"}) & granting({"v": "b"})).abilities == {}


def test_R15_only_abilities_with_one_name_meet() -> None:
    a, b = {"x": 3, "y": True}, {"x": 4, "z": "t"}
    assert meet(a, b) == {"x": 3}
    assert within({"x": 3}, a)
    assert within({"x": 3}, b)
    assert not within(a, b)


class Region(enum.StrEnum):
    NORTH = "north"


class Price(enum.IntEnum):
    LOW = 3


def test_R15_other_types_become_plain_ones() -> None:
    """What is kept is not the caller's object, whose methods could answer anything later."""
    tables = ["a", "b", "a"]
    policy = granting(
        MappingProxyType({"t": tables, "region": Region.NORTH, "price": Price.LOW, "u": ("x",)})
    )
    tables.append("c")
    assert {type(ability) for ability in policy.abilities.values()} == {frozenset, str, int}
    assert policy.abilities == {"t": {"a", "b"}, "region": "north", "price": 3, "u": {"x"}}
    assert [*policy.abilities] == sorted(policy.abilities)


def test_R15_nobody_changes_them_afterwards() -> None:
    policy = granting({"n": 1})
    held: Mapping[str, object] = policy.abilities
    with pytest.raises(TypeError):
        held["n"] = 2  # type: ignore[index]
    with pytest.raises(AttributeError, match="frozen"):
        policy.abilities = {}


def test_R15_they_are_shown_as_yours_and_as_no_wall() -> None:
    policy = granting({"b": {"y", "x"}, "a": True, "d": "acme", "c": 1500, "e": []})
    assert repr(policy) == (
        "Policy().allow(abilities={'a': True, 'b': {'x', 'y'}, 'c': 1500, 'd': 'acme', 'e': set()})"
    )
    words = ["a flag", "any of x, y", "a cap of 1,500", "the value acme", "a membership, empty"]
    assert [describe(ability) for ability in policy.abilities.values()] == words
    assert explain_grants(policy).rows == tuple(
        ("ability", f"{name}: {word}; yours, held by your host functions, no wall")
        for name, word in zip("abcde", words, strict=True)
    )


def test_R15_the_text_of_a_file() -> None:
    text = dumps_toml(granting({"mail.send": True, "n": 2.5, "t": {"b", "a"}, "v": 'a"'}))
    assert '[grants.abilities]\n"mail.send" = true\nn = 2.5\nt = ["a", "b"]\nv = "a\\""\n\n' in text


@pytest.mark.parametrize("number", [0.1, 1e-300, 5e-324, 2**53 + 1, MAX_CAP, 1e18, 1.5e-7])
def test_R15_caps_come_back_to_the_last_digit(number: float) -> None:
    policy = granting({"n": number})
    assert policy.abilities["n"] == number
    assert loads_toml(dumps_toml(policy)) == policy == loads_json(dumps_json(policy))


@given(st.floats())
def test_R15_a_cap_is_finite_and_not_negative(number: float) -> None:
    if 0 <= number <= MAX_CAP:
        assert granting({"n": number}).abilities["n"] == number
    else:
        with pytest.raises(PolicyError, match="out of range"):
            granting({"n": number})
