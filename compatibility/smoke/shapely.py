"""Geometry: overlays, buffers, well-known text, predicates over arrays."""

import numpy as np
import shapely
from shapely import wkb, wkt
from shapely.geometry import Point, Polygon

square = Polygon([(0, 0), (4, 0), (4, 4), (0, 4)])
other = shapely.box(2, 2, 6, 6)
points = shapely.points(np.array([[1, 1], [5, 5], [9, 9]]))
all(
    (
        square.intersection(other).area == 4.0,
        square.union(other).area == 28.0,
        abs(Point(0, 0).buffer(1, quad_segs=64).area - np.pi) < 0.01,
        wkb.loads(wkb.dumps(square)).equals(square),
        wkt.loads("LINESTRING (0 0, 3 4)").length == 5.0,
        shapely.contains(other, points).tolist() == [False, True, False],
    )
)
