"""JSON, with dates and data classes."""

import dataclasses
import datetime

import orjson


@dataclasses.dataclass
class Row:
    day: datetime.date
    n: int


data = orjson.dumps([Row(datetime.date(2024, 1, 2), n) for n in range(1000)])
rows = orjson.loads(data)
all(
    (
        rows[7] == {"day": "2024-01-02", "n": 7},
        orjson.dumps({"b": 1, "a": 2}, option=orjson.OPT_SORT_KEYS) == b'{"a":2,"b":1}',
        orjson.loads(b'"\\ud83d\\ude00"') == "\U0001f600",
    )
)
