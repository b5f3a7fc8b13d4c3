"""Classes with checked fields."""

import attrs


@attrs.define
class Point:
    x: int = attrs.field(converter=int, validator=attrs.validators.ge(0))
    y: int = 0


@attrs.frozen
class Line:
    ends: tuple[Point, Point]


try:
    Point(-1)
    refused = False
except ValueError:
    refused = True
all(
    (
        Point("3") == Point(3, 0),
        refused,
        attrs.asdict(Line((Point(1), Point(2)))) == {"ends": ({"x": 1, "y": 0}, {"x": 2, "y": 0})},
        attrs.evolve(Point(1), y=5).y == 5,
    )
)
