"""Any bytes at all give events or one RemoteError; no other exception, no hang, no more memory.

What: an atheris target for the wire.  Because: Hypothesis draws what its author thought of,
and a coverage-guided fuzzer does not.  Then: ``check`` holds the invariant for one input and
needs no fuzzer; run as a program, the file hands it to atheris with libFuzzer's own flags,
where ``-timeout`` is the hang and ``-rss_limit_mb`` the memory.

    python tests/fuzz/fuzz_wire.py -max_total_time=60 -timeout=10 -rss_limit_mb=512
"""

from __future__ import annotations

import sys

from belljar.wire.connection import Connection
from belljar.wire.errors import NotConvertible, RemoteError
from belljar.wire.events import Finished, HostCall, Ready, Run
from belljar.wire.limits import Budget
from belljar.wire.values import decode, encode

BUDGET = Budget(frame_bytes=2**20, depth=50, nodes=20_000, memory_bytes=2**21)


def start(mode: int) -> Connection:
    """A connection in one of the states that a peer's bytes can meet."""
    if mode % 4 == 0:
        guest = Connection("guest", BUDGET)
        guest.send(Ready({}))
        return guest
    host = Connection("host", BUDGET)
    if mode % 4 >= 2:
        host.receive_data(Connection("guest").send(Ready({"fork": 0.1})))
    if mode % 4 == 3:
        host.send(Run(1, "", "main.py", {}))
    return host


def receive(connection: Connection, pieces: list[bytes]) -> list[object] | None:
    """The events of a stream, or None after exactly one kind of error."""
    events: list[object] = []
    try:
        for piece in pieces:
            events += connection.receive_data(piece)
        connection.receive_eof()
    except RemoteError:
        assert connection.state == "ERROR"
        return None
    assert connection.state == "CLOSED"
    return events


def check(data: bytes) -> None:
    """Hold the invariant for one input."""
    mode, stream = (data[0], data[1:]) if data else (0, b"")
    size = 1 + mode // 4
    whole = receive(start(mode), [stream])
    cut = receive(start(mode), [stream[at : at + size] for at in range(0, len(stream), size)])
    assert (whole is None) == (cut is None)
    assert len(whole or ()) == len(cut or ())
    values = [event.value for event in whole or () if isinstance(event, Finished)]
    for encoded in [stream, *(value for value in values if value is not None)]:
        try:
            value = decode(encoded, BUDGET)
        except RemoteError:
            continue
        try:
            decode(encode(value))  # what came in can be sent on, and is legal again
        except NotConvertible as error:
            # Only the guard of the keys may differ: the encoder keeps a margin.
            if "collide" not in str(error):
                raise


def seeds() -> list[bytes]:
    """Inputs that reach every kind of frame and every type of value."""
    import datetime
    import uuid
    from decimal import Decimal
    from fractions import Fraction

    zone = datetime.timezone(datetime.timedelta(hours=1), "zone")
    moment = datetime.datetime(2024, 1, 2, 3, 4, 5, 6, zone)
    everything = [
        *(None, True, 0, -1, 200, 2**40, 2**80, 1.5, 1j, "x", "é\ud800", b"y", (1, (2,)), {1, 2}),
        *(frozenset("a"), {"a": {1: []}}, moment, moment.date(), moment.timetz(), zone),
        *(datetime.timedelta(1), Decimal("1.5E+7"), Fraction(1, 3), uuid.UUID(int=7)),
    ]
    guest = Connection("guest")
    guest_stream = guest.send(Ready({"fork": 0.1}))
    host = Connection("host")
    host.receive_data(guest_stream)
    run = host.send(Run(1, "1+1", "main.py", {"all": everything}))
    guest.receive_data(run)
    call = guest.send(HostCall(1, "f", encode([everything, {"k": 1}])))
    end = guest.send(Finished(1, "ok", value=encode(everything)))
    return [
        b"\x03" + call,
        b"\x00" + run,
        b"\x01" + guest_stream,
        b"\x03" + end,
        b"\x01" + encode(everything),
    ]


def main() -> None:
    import tempfile
    from pathlib import Path

    import atheris  # pyright: ignore[reportMissingImports]

    atheris.instrument_all()
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds()):
            Path(corpus, str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], corpus, *sys.argv[1:]], check)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
