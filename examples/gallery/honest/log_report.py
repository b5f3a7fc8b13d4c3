"""A log read with regular expressions into dataclasses, reported as JSON.

tries:  regular expressions, dataclasses, enum, datetime, json
expect: ok
value:  {"requests": 5, "errors": 1, "slowest": "/report", "span_s": 61.5}
"""

import dataclasses
import datetime
import enum
import json
import re

LOG = """\
2024-03-01T12:00:00.000 GET  /           200   3.1ms
2024-03-01T12:00:02.250 GET  /report     200 812.0ms
2024-03-01T12:00:31.000 POST /orders     201  14.7ms
not a log line
2024-03-01T12:00:31.900 GET  /orders/17  500   9.0ms
2024-03-01T12:01:01.500 GET  /           304   0.4ms
"""


class Family(enum.Enum):
    SUCCESS = 2
    REDIRECTION = 3
    CLIENT_ERROR = 4
    SERVER_ERROR = 5


@dataclasses.dataclass(frozen=True, order=True)
class Request:
    took_ms: float
    at: datetime.datetime
    method: str
    path: str
    family: Family = dataclasses.field(compare=False)


LINE = re.compile(
    r"(?P<at>\S+)\s+(?P<method>[A-Z]+)\s+(?P<path>/\S*)\s+(?P<code>[1-5])\d\d\s+(?P<took>[\d.]+)ms"
)

requests = [
    Request(
        took_ms=float(found["took"]),
        at=datetime.datetime.fromisoformat(found["at"]),
        method=found["method"],
        path=found["path"],
        family=Family(int(found["code"])),
    )
    for line in LOG.splitlines()
    if (found := LINE.fullmatch(line))
]
report = {
    "requests": len(requests),
    "errors": sum(request.family is Family.SERVER_ERROR for request in requests),
    "slowest": max(requests).path,
    "span_s": (requests[-1].at - requests[0].at).total_seconds(),
}
print(json.dumps(report, indent=2))

report
