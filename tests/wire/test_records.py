"""M1, K8: dataclasses, enums, models and named tuples arrive as plain data."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import sys
from typing import Any, ClassVar, NamedTuple

import pytest

from belljar.wire.errors import NotConvertible
from belljar.wire.values import decode, encode


@dataclasses.dataclass
class Point:
    x: int
    y: Any = None
    kind: ClassVar[int] = 3
    once: dataclasses.InitVar[int] = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    a: int


class Pair(NamedTuple):
    a: int
    b: str


class Colour(enum.Enum):
    RED = "r"
    LIST = [1, 2]  # noqa: RUF012
    WHEN = datetime.date(2020, 1, 1)


class Level(enum.IntEnum):
    LOW = 1


class Flags(enum.Flag):
    A = 1
    B = 2


class Word(enum.StrEnum):
    YES = "yes"


def plain(value: Any) -> Any:
    return decode(encode(value))


def test_M1_each_kind_has_its_plain_form() -> None:
    assert plain(Point(1, Point(2))) == {"x": 1, "y": {"x": 2, "y": None}}
    assert plain([Slotted(1)]) == [{"a": 1}]
    assert plain(Pair(1, "x")) == (1, "x")
    assert [plain(one) for one in Colour] == ["r", [1, 2], datetime.date(2020, 1, 1)]
    assert [plain(Level.LOW), plain(Flags.A | Flags.B), plain(Word.YES)] == [1, 3, "yes"]
    for value in (plain(Level.LOW), plain(Word.YES), plain(Pair(1, "x"))):
        assert type(value) in (int, str, tuple)
    assert plain({Colour.RED: {Word.YES}}) == {"r": {"yes"}}
    assert plain(Colour.RED) == "r"


def test_M1_keys_that_become_equal_are_refused() -> None:
    with pytest.raises(NotConvertible, match="equal once they are plain"):
        encode({Colour.RED: 1, "r": 2})
    with pytest.raises(NotConvertible, match="hashed"):
        encode({Slotted(1): 1})


def test_M1_a_culprit_in_a_record_is_named_by_its_field() -> None:
    with pytest.raises(NotConvertible) as caught:
        encode({"p": [Point(1, Point(2, {"k": print}))]})
    assert caught.value.path == "value['p'][0].y.y['k']"


def test_M1_cycles_through_records_are_refused() -> None:
    point = Point(1)
    point.y = [point]
    with pytest.raises(NotConvertible, match="contains itself"):
        encode({"a": point})

    class Loop(enum.Enum):
        A = [1]  # noqa: RUF012

    Loop.A.value.append(Loop.A)
    with pytest.raises(NotConvertible, match="contains itself"):
        encode(Loop.A)


def test_M1_a_field_without_a_value_is_named() -> None:
    point = Point(1)
    del point.x
    with pytest.raises(NotConvertible, match="field 'x'"):
        encode(point)


def test_K8_a_class_that_says_it_is_a_record() -> None:
    """What is in it is checked like everything else; a class itself is no record."""

    class Liar:
        __dataclass_fields__: ClassVar[dict[str, Any]] = {"x": 1}

        @property
        def __class__(self) -> Any:
            return Point

    assert plain(Liar()) == {}
    with pytest.raises(NotConvertible):
        encode(Point)

    class Text(str):
        def encode(self, *_: Any) -> bytes:
            raise AssertionError("its own method was called")

    assert plain([Text("x")]) == ["x"]


def test_M1_pydantic_models() -> None:
    pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed")

    class Inner(pydantic.BaseModel):  # type: ignore[misc,name-defined]
        when: datetime.date

    class Model(pydantic.BaseModel, extra="allow"):  # type: ignore[misc,name-defined,call-arg]
        a: int
        inner: list[Inner]
        _hidden: int = 5

    class Root(pydantic.RootModel[list[int]]):  # type: ignore[misc,name-defined]
        pass

    day = datetime.date(2020, 1, 1)
    model = Model(a=1, inner=[Inner(when=day)], more="x")
    assert plain(model) == {"a": 1, "inner": [{"when": day}], "more": "x"}
    assert plain(Root([1, 2])) == [1, 2]


def test_M1_attrs_classes() -> None:
    attrs = pytest.importorskip("attrs", reason="attrs is not installed")

    @attrs.define
    class Thing:
        a: int
        b: Any = None

    assert plain(Thing(1, Thing(2))) == {"a": 1, "b": {"a": 2, "b": None}}


def test_X1_nothing_is_imported_to_recognise_them() -> None:
    import subprocess

    code = (
        "import sys, belljar.wire.values as v\n"
        "class A: pass\n"
        "try: v.encode(A())\n"
        "except TypeError: pass\n"
        "print({'numpy', 'pandas', 'pyarrow', 'polars', 'pydantic', 'dataclasses', 'enum'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout == "set()\n", done.stderr
