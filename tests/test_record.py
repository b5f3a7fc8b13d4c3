"""``Record``: the same before and after a class has got a constructor of its own."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from belljar._record import _MANY, Record


class Plain(Record):
    a: int
    b: str = "b"
    type: tuple[int, ...] = ()


class Checked(Record):
    low: int
    high: int = 9

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("low is above high")
        self.__dict__["remembered"] = self.low  # more than its fields


class More(Plain):
    c: int = 3


class OutOfOrder(Plain):
    d: int


class Own(Record):
    a: int
    b: int

    def __init__(self, both: int) -> None:
        super().__init__(both, both)  # type: ignore[call-arg]


def used(*classes: Any) -> None:
    for kind in classes:
        for _ in range(_MANY):
            kind(1, d=1) if kind is OutOfOrder else kind(1)


@pytest.fixture(params=["new", "much used"], autouse=True)
def use(request: pytest.FixtureRequest) -> None:
    """In this order: what is much used stays so."""
    if request.param == "much used":
        used(Plain, Checked, OutOfOrder, Own)


def test_values_and_defaults() -> None:
    assert Plain(1) == Plain(a=1, b="b", type=()) == Plain(1, "b", ())
    assert repr(Plain(1, type=(2,))) == "Plain(a=1, b='b', type=(2,))"
    assert hash(Plain(1, "x")) == hash(Plain(b="x", a=1))
    assert vars(Plain(b="x", a=1)) == {"a": 1, "b": "x", "type": ()}
    assert pickle.loads(pickle.dumps(Plain(1))) == Plain(1)
    assert vars(OutOfOrder(1, d=4)) == {"a": 1, "b": "b", "type": (), "d": 4}
    assert Own(2) == Own(2)


def test_a_subclass_has_its_own_fields() -> None:
    assert vars(More(1)) == {"a": 1, "b": "b", "type": (), "c": 3}
    assert More(1) != Plain(1)


@pytest.mark.parametrize("make", [lambda kind: kind(), lambda kind: kind(1, "b", (), 4)])
def test_too_few_and_too_many(make: Any) -> None:
    with pytest.raises(TypeError):
        make(Plain)


@pytest.mark.parametrize("named", [{"a": 2}, {"other": 1}])
def test_wrong_names(named: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(named))):
        Plain(1, **named)


def test_it_checks_itself() -> None:
    assert Checked(1).replace(high=2) == Checked(1, 2)
    assert vars(Checked(3).replace(low=4))["remembered"] == 4
    for make in (
        lambda: Checked(10),
        lambda: Checked(low=3, high=2),
        lambda: Checked(5).replace(high=1),
    ):
        with pytest.raises(ValueError, match="above"):
            make()


def test_replaced() -> None:
    one = Plain(1)
    assert one.replace(b="x") == Plain(1, "x")
    assert one == Plain(1)
    with pytest.raises(TypeError, match="Plain has no field 'other'"):
        one.replace(other=1)


def test_frozen() -> None:
    one = Plain(1)
    with pytest.raises(AttributeError, match="frozen"):
        one.a = 2  # type: ignore[misc]
    with pytest.raises(AttributeError, match="frozen"):
        del one.a


def test_what_is_much_used_has_a_constructor_of_its_own() -> None:
    used(Plain, Checked, OutOfOrder, Own)
    serves_all = Record.__dict__["__init__"]
    assert Plain.__init__ is not serves_all
    assert Checked.__init__ is not serves_all
    assert OutOfOrder.__init__ is serves_all  # Python has no such parameters
    assert More.__init__ is serves_all  # not that of its base, which has other fields
    assert Own.__init__ is Own.__dict__["__init__"]
    assert Own(7).b == 7
