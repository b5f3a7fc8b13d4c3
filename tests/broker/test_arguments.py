"""X3, R15: arguments of a guest's against the annotations of the function that takes them."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import pytest

from belljar.broker.arguments import Arguments, Unfit
from belljar.errors import PolicyError


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(NamedTuple):
    x: int
    y: int = 0


@dataclasses.dataclass
class Order:
    item: str
    count: int = 1
    at: Point | None = None
    computed: int = dataclasses.field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError("a count is not negative")


@dataclasses.dataclass
class Tree:
    left: Tree | Other | None = None
    other: Tree | Other | None = None


@dataclasses.dataclass
class Other:
    left: Tree | Other | None = None
    other: Tree | Other | None = None


class Options(TypedDict, total=False):
    deep: bool


class Model:
    """As much of pydantic as is looked at; ``test_pydantic`` has the real one where it is."""

    model_fields: dict[str, Any] = {}  # noqa: RUF012

    @classmethod
    def model_validate(cls, value: Any) -> str:
        if value != {"a": 1}:
            raise ValueError("a is 1")
        return "made"


def fit(hint: Any, value: Any) -> Any:
    def function(x): ...

    function.__annotations__ = {"x": hint}
    args, kwargs = Arguments("function", function).fit([value], {})
    assert not kwargs
    return args[0]


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, 1),
        (str, "x"),
        (float, 1),
        (bytes, b""),
        (list[int], [1, 2]),
        (dict[str, list[int]], {"a": [1]}),
        (Sequence[str], ["a"]),
        (tuple[int, str], (1, "a")),
        (tuple[int, ...], (1, 2, 3)),
        (int | None, None),
        (Literal["a", 1], 1),
        (Options, {"deep": True}),
        (Annotated[int, "more than 0"], 1),
        (Any, object),
        (set[int], {1}),
        pytest.param(int, 10**300_000, id="huge"),
    ],
)
def test_plain_values_pass_as_they_are(hint, value) -> None:
    assert fit(hint, value) is value


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, "1"),
        (str, 1),
        (list[int], [1, 2, "3"]),
        (list[int], [1] * 50_000 + ["3"]),
        (dict[str, int], {1: 1}),
        (tuple[int, str], (1, "a", 2)),
        (int | None, "x"),
        (Literal["a"], "b"),
        (Options, {"deep": 1}),
        (int, 0.5),
        (Color, "green"),
        (Color, []),
        (list[Color], ["red", "green"]),
        (Order, {"item": 1}),
        (Order, {"count": 1}),
        (Order, {"item": "a", "count": -1}),
        (Order, {"item": "a", "computed": 1}),
        (Order, {"item": "a", 1: 2}),
        (Order, {"item": "a", "x" * 10**6: 2}),
        (Order, ["a"]),
        (Point, (1, 2, 3)),
        (Point, {"x": 1, "z": 2}),
        (dict[str, Color], {"\x1b" * 10**6: "green"}),
        (Model, {"a": 2}),
    ],
)
def test_what_does_not_fit_is_said_briefly(hint, value) -> None:
    with pytest.raises(Unfit) as caught:
        fit(hint, value)
    assert str(caught.value).startswith("argument 'x': ")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("hint", "value", "made"),
    [
        (Color, "red", Color.RED),
        (Point, (1, 2), Point(1, 2)),
        (Point, {"x": 1}, Point(1)),
        (Order, {"item": "a", "at": [1, 2]}, Order("a", 1, Point(1, 2))),
        (list[Order], [{"item": "a"}], [Order("a")]),
        (dict[str, Color], {"a": "blue"}, {"a": Color.BLUE}),
        (Mapping[Color, int], {"red": 1}, {Color.RED: 1}),
        (tuple[Color, int], ("red", 1), (Color.RED, 1)),
        (tuple[Color, ...], ("red", "blue"), (Color.RED, Color.BLUE)),
        (Sequence[Color], ("red",), [Color.RED]),
        (set[Color], {"red"}, {Color.RED}),
        (Color | None, None, None),
        (Annotated[Color, 1] | int, 5, 5),
        (Tree, {"left": {"other": {}}}, Tree(Tree(None, Tree()))),
        (Model, {"a": 1}, "made"),
    ],
)
def test_data_is_made_into_what_is_asked_for(hint, value, made) -> None:
    assert fit(hint, value) == made


def test_a_tree_of_alternatives_is_given_up() -> None:
    """K8: with two classes that hold each other, 40 levels would be 2**40 attempts."""
    value: Any = "no tree"
    for _ in range(40):
        value = {"left": value}
    with pytest.raises(Unfit, match="argument 'x'"):
        fit(Tree, value)


def test_every_kind_of_parameter() -> None:
    def function(a: int, /, b: int, *rest: int, c: int = 0, **others: int) -> None: ...

    arguments = Arguments("function", function)
    assert arguments.fit([1, 2, 3], {"c": 4, "d": 5}) == ((1, 2, 3), {"c": 4, "d": 5})
    for args, kwargs in (
        ([1], {}),
        (["1", 2], {}),
        ([1, 2, "3"], {}),
        ([1, 2], {"c": ""}),
        ([1, 2], {"x" * 10**6: ""}),
        ([1, 2], {"no name": ""}),
    ):
        with pytest.raises(Unfit) as caught:
            arguments.fit(args, kwargs)
        assert len(str(caught.value)) < 600


def test_where_nothing_is_annotated_the_number_is_still_held() -> None:
    arguments = Arguments("f", lambda a, b=1: None)
    assert arguments.fit([1], {}) == ((1,), {})
    for args in ([], [1, 2, 3]):
        with pytest.raises(Unfit):
            arguments.fit(args, {})


def test_annotations_that_cannot_be_read_are_the_applications_mistake() -> None:
    def function(a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(PolicyError, match="check=False"):
        Arguments("function", function)


def test_pydantic() -> None:
    pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed")
    model = pydantic.create_model("User", name=(str, ...), age=(int, 3))
    assert fit(model, {"name": "a"}).age == 3
    assert fit(list[model], [{"name": "a"}])[0].name == "a"
    with pytest.raises(Unfit, match="name"):
        fit(model, {})
