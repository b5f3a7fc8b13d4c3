"""Rights of the application's own, asked for and counted on the host (R15, N2)."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import belljar
from belljar import AbilityDenied, Policy
from belljar.broker.abilities import Abilities

CLERK = Policy().allow(
    abilities={
        "send_mail": True,
        "spend_cents": 500,
        "tables": ["orders", "news"],
        "nobody": [],
        "tenant": "acme",
        "nothing": 0,
    }
)


def test_R15_every_question_by_example() -> None:
    mine = Abilities(CLERK)
    assert mine.has("send_mail")
    assert mine.has("nothing")
    assert not mine.has("fire")
    mine.require("send_mail")
    mine.require("nobody")
    assert mine.spend("spend_cents") == 499
    assert mine.spend("spend_cents", 99.5) == 399.5
    assert mine.left("spend_cents") == 399.5
    assert mine.spend("spend_cents", 0) == 399.5
    assert mine.spend("spend_cents", 399.5) == 0
    assert mine.left("nothing") == mine.left("fire") == mine.left("send_mail") == 0
    assert mine.member("tables", "orders")
    assert not mine.member("tables", "users")
    assert not mine.member("nobody", "orders")
    assert not mine.member("fire", "orders")
    mine.require_member("tables", "news")
    assert mine.value("tenant") == "acme"
    assert mine.value("fire") is None
    assert mine.value("tables", "none") == "none"
    assert mine.used == {"nothing": 0, "spend_cents": 500}
    assert mine.granted == CLERK.abilities
    assert (
        repr(Abilities(Policy().allow(abilities={"n": 1}))) == "<Abilities {'n': 1}, used {'n': 0}>"
    )


# what is asked, with which arguments -> the text of the refusal
REFUSED = [
    ("require", ("fire",), "ability 'fire': the policy does not grant it"),
    ("spend", ("fire",), "ability 'fire': the policy does not grant it"),
    ("spend", ("nothing",), "ability 'nothing': 1 is more than the 0 left"),
    ("spend", ("spend_cents", 501), "ability 'spend_cents': 501 is more than the 500 left"),
    (
        "spend",
        ("spend_cents", float("inf")),
        "ability 'spend_cents': inf is more than the 500 left",
    ),
    ("spend", ("spend_cents", 1 << 5000), "an int of 5001 bits is more than the 500 left"),
    ("spend", ("spend_cents", 500.5), "500.5 is more than the 500 left"),
    ("spend", ("send_mail",), "the policy grants it as a flag, not as a cap"),
    ("spend", ("tenant", 0), "the policy grants it as a value, not as a cap"),
    ("require_member", ("tables", "users"), "ability 'tables': 'users' is not in it"),
    ("require_member", ("nobody", ""), "ability 'nobody': '' is not in it"),
    ("require_member", ("tables", ["orders"]), "ability 'tables': a list is not in it"),
    ("require_member", ("tables", "x\n" * 5000), "…"),
    ("require_member", ("tenant", "acme"), "the policy grants it as a value, not as a membership"),
    ("require_member", ("fire", "x"), "ability 'fire': the policy does not grant it"),
    ("require", ("x" * 10**6,), "…"),
]


@pytest.mark.parametrize(
    ("question", "arguments", "text"), REFUSED, ids=[f"{i}-{r[0]}" for i, r in enumerate(REFUSED)]
)
def test_R15_what_is_not_granted_is_refused(
    question: str, arguments: tuple[object, ...], text: str
) -> None:
    mine = Abilities(CLERK)
    with pytest.raises(AbilityDenied) as caught:
        getattr(mine, question)(*arguments)
    assert caught.value.ability == arguments[0]
    assert text in str(caught.value)
    # It may be told to the guest: one bounded line, nothing but what was asked and what is left.
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
    assert mine.used == {"nothing": 0, "spend_cents": 0}


@pytest.mark.parametrize(
    ("amount", "error"),
    [
        (-1, ValueError),
        (-0.5, ValueError),
        (float("nan"), ValueError),
        (float("-inf"), ValueError),
        (-(1 << 5000), ValueError),
        ("5", TypeError),
        (None, TypeError),
        (True, TypeError),
        (Fraction(1), TypeError),
    ],
)
def test_R15_code_that_chooses_the_amount_cannot_fill_its_account(
    amount: object, error: type[Exception]
) -> None:
    mine = Abilities(CLERK)
    for name in ("spend_cents", "fire"):
        with pytest.raises(error):
            mine.spend(name, amount)  # type: ignore[arg-type]
    assert mine.left("spend_cents") == 500


class Yes(str):
    """Equal to everything, as a guest's class could be if one ever arrived."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return hash("orders")


class Cheap(int):
    def __le__(self, other: object) -> bool:
        return True

    def __ge__(self, other: object) -> bool:
        return True

    def __gt__(self, other: object) -> bool:
        return False

    def as_integer_ratio(self) -> tuple[int, int]:
        return 0, 1


def test_R15_hostile_subclasses_get_nothing() -> None:
    mine = Abilities(CLERK)
    assert not mine.member("tables", Yes("users"))
    with pytest.raises(AbilityDenied):
        mine.spend("spend_cents", Cheap(501))
    assert mine.spend("spend_cents", Cheap(500)) == 0


def test_R15_small_amounts_beside_large_ones_are_counted() -> None:
    """In floats 1e16 + 0.5 is 1e16: half a cent would be free for ever."""
    mine = Abilities(Policy().allow(abilities={"n": 10**16 + 1}))
    mine.spend("n", 1e16)
    assert mine.spend("n", 0.5) == 0.5
    assert mine.spend("n", 0.5) == 0
    with pytest.raises(AbilityDenied):
        mine.spend("n", 5e-324)


def test_R15_a_denial_is_a_permission_error_and_ours() -> None:
    with pytest.raises(PermissionError) as caught:
        Abilities(CLERK).require("fire")
    error = caught.value
    assert isinstance(error, belljar.BelljarError)
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (type(again), str(again), again.ability) == (AbilityDenied, str(error), "fire")


# ---------------------------------------------------------------------- nesting


def test_N2_what_is_launched_has_what_both_allow() -> None:
    child = Abilities(CLERK).attenuated(
        Policy().allow(
            abilities={"tables": ["news", "x"], "spend_cents": True, "tenant": "acme", "fire": True}
        )
    )
    assert child.granted == {"tables": {"news"}, "tenant": "acme"}
    with pytest.raises(AbilityDenied, match="does not grant it"):
        child.spend("spend_cents")


def test_N2_a_refusal_anywhere_above_spends_nowhere() -> None:
    top = Abilities(CLERK)
    middle = top.attenuated(Policy().allow(abilities={"spend_cents": 400}))
    low = middle.attenuated(Policy().allow(abilities={"spend_cents": 300}))
    top.spend("spend_cents", 250)
    with pytest.raises(AbilityDenied, match="260 is more than the 250 left"):
        low.spend("spend_cents", 260)
    assert (top.used["spend_cents"], middle.used["spend_cents"], low.used["spend_cents"]) == (
        250,
        0,
        0,
    )
    assert low.spend("spend_cents", 200) == 50
    assert (top.left("spend_cents"), middle.left("spend_cents"), low.left("spend_cents")) == (
        50,
        50,
        50,
    )
    assert top.attenuated(CLERK).left("spend_cents") == 50


amounts = st.sampled_from([0, 1, 2, 0.5, 0.1, 1e-300, 7, 100]) | st.floats(0, 20)
grants = st.fixed_dictionaries({}, optional=dict.fromkeys(("n", "m"), amounts))


@settings(max_examples=200, deadline=None)
@given(
    grants,
    st.lists(
        st.one_of(
            st.tuples(st.just("launch"), st.integers(0, 5), grants),
            st.tuples(st.just("spend"), st.integers(0, 5), st.sampled_from(["n", "m"]), amounts),
        ),
        max_size=25,
    ),
)
def test_N2_accounts_are_those_of_the_model(first: dict[str, float], acts: list[tuple]) -> None:  # type: ignore[type-arg]
    """A tree of sandboxes against fractions counted by hand."""
    made = [Abilities(Policy().allow(abilities=first))]
    above: list[list[int]] = [[0]]  # each with its launchers
    left: list[dict[str, Fraction]] = [{name: Fraction(cap) for name, cap in first.items()}]
    caps = copy.deepcopy(left)
    for verb, place, *rest in acts:
        at = place % len(made)
        if verb == "launch":
            wanted = {name: Fraction(cap) for name, cap in rest[0].items()}
            made.append(made[at].attenuated(Policy().allow(abilities=rest[0])))
            above.append([len(made) - 1, *above[at]])
            caps.append({n: min(wanted[n], caps[at][n]) for n in wanted.keys() & caps[at].keys()})
            left.append(dict(caps[-1]))
            continue
        name, amount = rest
        holders = above[at]
        fits = name in left[at] and all(left[i][name] >= Fraction(amount) for i in holders)
        if not fits:
            with pytest.raises(AbilityDenied):
                made[at].spend(name, amount)
            continue
        for i in holders:
            left[i][name] -= Fraction(amount)
        assert made[at].spend(name, amount) == float(min(left[i][name] for i in holders))
    for i, abilities in enumerate(made):
        assert abilities.used == {n: float(cap - left[i][n]) for n, cap in caps[i].items()}


# ---------------------------------------------------------------------- threads


def test_R15_threads_together_never_spend_more_than_there_is() -> None:
    """Eight threads, on the account of one sandbox and of two that it launched."""
    top = Abilities(Policy().allow(abilities={"n": 3000}))
    caps = (2000, 1500)
    accounts = [top, *(top.attenuated(Policy().allow(abilities={"n": cap})) for cap in caps)]
    got = [0] * 8
    start = threading.Barrier(8)

    def take(index: int) -> None:
        mine = accounts[index % 3]
        start.wait()
        for _ in range(1000):
            try:
                mine.spend("n")
            except AbilityDenied:
                continue
            got[index] += 1

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=take, args=(index,)) for index in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert sum(got) == top.used["n"] == 3000
    assert top.left("n") == 0
    assert accounts[1].used["n"] == sum(got[1::3]) <= 2000
    assert accounts[2].used["n"] == sum(got[2::3]) <= 1500


def test_N2_all_that_count_together_take_turns() -> None:
    """Nobody spends while another one of the family is between reading and writing."""
    top = Abilities(CLERK)
    low = top.attenuated(CLERK).attenuated(CLERK)
    thread = threading.Thread(target=low.spend, args=("spend_cents", 100))
    with top._lock:
        thread.start()
        thread.join(timeout=0.2)
        assert thread.is_alive()
    thread.join()
    assert top.used["spend_cents"] == 100
