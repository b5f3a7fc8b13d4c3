"""K1: the connection on honest and on hostile streams."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.wire import limits
from belljar.wire.connection import Connection
from belljar.wire.errors import LocalError, NotConvertible, RemoteError
from belljar.wire.events import Close, Denial, Denied, ErrorText, Finished, Ready, Run
from belljar.wire.frames import encode_frame
from belljar.wire.limits import Budget
from belljar.wire.schema import clip
from belljar.wire.values import decode, encode

READY = Ready({"fork": 0.001, "confine": 0.0005})
RUN = Run(
    1,
    "print(1+1)",
    "main.py",
    {"n": 10, "text": "x\ud800"},
    ("main.py", "-v"),
    True,
    {"a/b.csv": b"1,2"},
)
DENIED = Denied(1, (Denial("open", "/etc/shadow", 'read=["/etc/shadow"]'),))
ERROR = ErrorText("ValueError", "no", "Traceback ...", ("a note",), "memory")
ENDS = [
    Finished(1, "ok"),
    Finished(1, "ok", value=encode({"a": (1, 2)})),
    Finished(1, "ok", value_error="value[0] is of type module", truncated=("denials",)),
    Finished(1, "raised", error=ERROR, truncated=("traceback", "message")),
    Finished(1, "exited", exit_code=3),
]


def frame(number: int, fields: object) -> bytes:
    return encode_frame(number, encode(fields), 2**31)


def idle() -> tuple[Connection, Connection]:
    host, guest = Connection("host"), Connection("guest")
    assert host.receive_data(guest.send(READY)) == [READY]
    return host, guest


def running() -> tuple[Connection, Connection]:
    host, guest = idle()
    assert guest.receive_data(host.send(RUN)) == [RUN]
    return host, guest


@pytest.mark.parametrize("end", ENDS, ids=lambda end: f"{end.outcome}-{bool(end.value)}")
def test_a_whole_conversation(end):
    host, guest = running()
    assert (host.state, guest.state) == ("RUNNING", "RUNNING")
    assert host.receive_data(guest.send(DENIED) + guest.send(end)) == [DENIED, end]
    assert (host.state, guest.state) == ("IDLE", "IDLE")
    assert guest.receive_data(host.send(Close())) == [Close()]
    assert (host.state, guest.state) == ("CLOSED", "CLOSED")
    guest.receive_eof()
    host.receive_eof()


def test_the_value_is_decoded_with_a_budget_of_its_own():
    host, guest = running()
    (end,) = host.receive_data(guest.send(Finished(1, "ok", value=encode(["x"] * 1_000))))
    assert decode(end.value) == ["x"] * 1_000
    with pytest.raises(RemoteError):
        decode(end.value, Budget(nodes=10))
    assert host.state == "IDLE"


def test_sources_of_every_kind_cross():
    for number, code in enumerate(
        ("x" * 10_000_000, b"# coding: latin-1\n\xe9", "", "\ud800\0"), 1
    ):
        host, guest = idle()
        (run,) = guest.receive_data(host.send(Run(number, code, "m", {})))
        assert run.code == code


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_any_cut_of_a_stream_gives_the_same_events(sizes):
    writer = running()[1]
    stream = writer.send(DENIED) + writer.send(DENIED) + writer.send(ENDS[3])
    host = running()[0]
    got, start, turn = [], 0, 0
    while start < len(stream):
        size = sizes[turn % len(sizes)]
        got += host.receive_data(stream[start : start + size])
        start, turn = start + size, turn + 1
    assert got == [DENIED, DENIED, ENDS[3]]


def frames_of_a_guest() -> list[bytes]:
    """Every frame that a guest may send at some time."""
    guest = Connection("guest")
    frames = [guest.send(READY)]
    for number, end in enumerate(ENDS, 1):
        guest.receive_data(frame(0x01, [number, "", "m", {}, [], True, {}, {}, False]))
        frames.append(guest.send(DENIED.replace(run_id=number)))
        frames.append(guest.send(end.replace(run_id=number)))
    return frames


FRAMES = frames_of_a_guest()
PIECES = st.lists(st.sampled_from(FRAMES) | st.binary(max_size=20), max_size=8)


@settings(max_examples=250, deadline=None)
@given(PIECES, st.sampled_from(["STARTING", "IDLE", "RUNNING"]), st.data())
def test_any_bytes_give_events_or_one_error_and_then_the_same_error(pieces, state, data):
    host = {"STARTING": lambda: Connection("host"), "IDLE": lambda: idle()[0]}.get(
        state, lambda: running()[0]
    )()
    stream = bytearray(b"".join(pieces))
    for _ in range(data.draw(st.integers(0, 2)) if stream else 0):
        stream[data.draw(st.integers(0, len(stream) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        host.receive_data(bytes(stream))
        host.receive_eof()
    except RemoteError as error:
        breach = str(error)
    else:
        return
    assert host.state == "ERROR"
    for again in (lambda: host.receive_data(FRAMES[0]), host.receive_eof):
        with pytest.raises(RemoteError) as caught:
            again()
        assert str(caught.value) == breach
    with pytest.raises(LocalError):
        host.send(RUN)


def test_every_order_that_is_not_in_the_table_is_refused():
    ready, denied, finished = FRAMES[0], FRAMES[1], FRAMES[2]
    for make, bad in (
        (lambda: Connection("host"), [denied, finished]),
        (lambda: idle()[0], [ready, denied, finished]),
        (lambda: running()[0], [ready, finished + finished, finished + denied, denied + ready]),
    ):
        for stream in bad:
            with pytest.raises(RemoteError, match="came in state"):
                make().receive_data(stream)


def test_a_role_refuses_the_other_roles_events_by_their_head():
    host, guest = running()
    with pytest.raises(RemoteError, match="may not come from there"):
        host.receive_data(frame(0x01, [2, "", "m", {}, [], True, {}, {}, False])[:5])
    with pytest.raises(RemoteError, match="may not come from there"):
        guest.receive_data(FRAMES[2][:5])


@pytest.mark.parametrize("stale", [0, 2, 2**63 - 1])
def test_another_runs_id_is_refused(stale):
    for number, fields in (
        (0x82, [stale, [["open", "x", "y"]]]),
        (0x83, [stale, "ok", None, None, None, None, []]),
    ):
        with pytest.raises(RemoteError, match="run_id"):
            running()[0].receive_data(frame(number, fields))


def test_nothing_after_close_and_end_of_file_in_the_middle():
    host, _ = idle()
    host.send(Close())
    with pytest.raises(RemoteError):
        host.receive_data(FRAMES[0])
    host, _ = running()
    host.receive_data(FRAMES[2][:-1])
    with pytest.raises(RemoteError, match="middle of a frame"):
        host.receive_eof()
    assert host.state == "ERROR"
    host, _ = running()
    host.receive_eof()
    assert host.state == "CLOSED"


def finished(**changes: object) -> list[object]:
    fields: dict[str, object] = {
        "run_id": 1,
        "outcome": "ok",
        "value": None,
        "value_error": None,
        "error": None,
        "exit_code": None,
        "truncated": [],
    }
    return list((fields | changes).values())


def error(**changes: object) -> list[object]:
    fields: dict[str, object] = {
        "type": "E",
        "message": "",
        "traceback": "",
        "notes": [],
        "limit": None,
    }
    return list((fields | changes).values())


@pytest.mark.parametrize(
    ("number", "fields"),
    [
        (0x83, None),
        (0x83, {}),
        (0x83, []),
        (0x83, [*finished(), 1]),
        (0x83, finished(run_id=True)),
        (0x83, finished(run_id=1.0)),
        (0x83, finished(outcome="limit")),
        (0x83, finished(outcome=["ok"])),
        (0x83, finished(value="text")),
        (0x83, finished(value=b"")),
        (0x83, finished(value=b"\x01", value_error="both")),
        (0x83, finished(value_error="x" * (limits.MESSAGE_CHARS + 1))),
        (0x83, finished(error=error())),
        (0x83, finished(outcome="raised")),
        (0x83, finished(outcome="raised", error=error(), value=b"\x01")),
        (0x83, finished(outcome="raised", error=error()[:-1])),
        (0x83, finished(outcome="raised", error=error(type="x" * 201))),
        (0x83, finished(outcome="raised", error=error(message=b"x"))),
        (0x83, finished(outcome="raised", error=error(message="x" * (64 * 2**10 + 1)))),
        (0x83, finished(outcome="raised", error=error(traceback="x" * (256 * 2**10 + 1)))),
        (0x83, finished(outcome="raised", error=error(notes=["x"] * 65))),
        (0x83, finished(outcome="raised", error=error(notes=("x",)))),
        (0x83, finished(outcome="raised", error=error(limit="x" * 65))),
        (0x83, finished(outcome="exited")),
        (0x83, finished(exit_code=0)),
        (0x83, finished(outcome="exited", exit_code=2**64)),
        (0x83, finished(outcome="exited", exit_code=False)),
        (0x83, finished(truncated=[1])),
        (0x83, finished(truncated=["x"] * 65)),
        (0x82, [1, []]),
        (0x82, [1, [["open", "x"]]]),
        (0x82, [1, [["open", "x", None]]]),
        (0x82, [1, [["open", "x" * 4_097, "y"]]]),
        (0x82, [1, [["open", "x", "y"]] * 65]),
    ],
)
def test_fields_that_are_not_as_the_schema_says_are_refused(number, fields):
    host = running()[0]
    with pytest.raises(RemoteError):
        host.receive_data(frame(number, fields))
    assert host.state == "ERROR"


@pytest.mark.parametrize(
    "stages",
    [[], {"fork": 1}, {"fork": -1.0}, {"fork": float("nan")}, {"fork": float("inf")}, {1: 1.0},
     {"x" * 65: 1.0}, {str(n): 1.0 for n in range(65)}],
)  # fmt: skip
def test_stages_are_a_few_named_durations(stages):
    with pytest.raises(RemoteError):
        Connection("host").receive_data(frame(0x81, [stages]))


def test_the_same_schema_holds_for_what_we_send():
    host, guest = running()
    for bad in (
        Finished(2, "ok"),
        Finished(1, "limit"),
        Finished(1, "raised"),
        Finished(1, "ok", exit_code=1),
        DENIED.replace(run_id=7),
        DENIED.replace(entries=()),
        READY,
        RUN,
        Close(),
    ):
        with pytest.raises(LocalError):
            guest.send(bad)
    assert host.receive_data(guest.send(ENDS[0])) == [ENDS[0]]  # none of them did harm
    for bad in (
        RUN,
        RUN.replace(run_id=0),
        RUN.replace(run_id=2, code=1),
        RUN.replace(run_id=2, files={"a": "text"}),
        DENIED,
    ):
        with pytest.raises(LocalError):
            host.send(bad)
    with pytest.raises(NotConvertible, match=r"\['f'\] is of type"):
        host.send(RUN.replace(run_id=2, inputs={"f": print}))
    assert host.state == "IDLE"
    with pytest.raises(ValueError, match="role"):
        Connection("zygote")


def test_denials_are_counted_over_the_run():
    host, guest = running()
    full = DENIED.replace(entries=DENIED.entries * 50)
    for _ in range(20):
        assert host.receive_data(guest.send(full)) == [full]
    with pytest.raises(LocalError, match="1000 in a run"):
        guest.send(DENIED)
    with pytest.raises(RemoteError, match="1000 in a run"):
        host.receive_data(FRAMES[1])


def test_texts_at_their_caps_and_of_the_widest_kind_cross():
    wide = "\U0001f600\ud800"
    worst = ErrorText(
        "E" * 200,
        wide * (limits.MESSAGE_CHARS // 2),
        wide * (limits.TRACEBACK_CHARS // 2),
        (wide * (limits.NOTE_CHARS // 2),) * limits.NOTES,
        "x" * 64,
    )
    host, guest = running()
    end = Finished(1, "raised", error=worst, truncated=("x" * 64,) * 64)
    entry = Denial("x" * 64, *[wide * (limits.NAME_CHARS // 2)] * 2)
    many = Denied(1, (entry,) * limits.DENIALS_PER_FRAME)
    assert host.receive_data(guest.send(many) + guest.send(end)) == [many, end]


def test_a_value_at_its_cap_fits_its_frame():
    budget = Budget(frame_bytes=limits.VALUE.frame_bytes)
    value = encode(b"x" * (budget.frame_bytes - 5), budget)
    assert len(value) == budget.frame_bytes
    host, guest = running()
    assert len(host.receive_data(guest.send(Finished(1, "ok", value=value)))) == 1


@pytest.mark.parametrize("size", [0, 1, 4])
def test_a_hostile_stream_stays_within_the_memory_budget(size):
    budget = Budget(frame_bytes=2**18, nodes=1_000, memory_bytes=2**18)
    host, guest = Connection("host", budget), Connection("guest", budget)
    host.receive_data(guest.send(READY))
    host.send(RUN)
    body = {
        0: b"\x97\x01\xa2ok\xc6\x00\x03\xff\x00" + bytes(2**18 - 256) + b"\xc0" * 4,
        1: b"\x97\x01\xa6raised\xc0\xc0\x95" + b"\xdb\x00\x03\xf0\x00" + "я".encode() * 129_024,
        4: b"\x97\x01\xa6raised\xc0\xc0\x95" + b"\xdb\x00\x03\xf0\x00" + "😀".encode() * 64_512,
    }[size]
    hostile = encode_frame(0x83, body, 2**31)
    tracemalloc.start()
    try:
        for start in range(0, len(hostile), 1_000):
            host.receive_data(hostile[start : start + 1_000])
    except RemoteError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak <= 2 * 4 * budget.frame_bytes + 3 * budget.frame_bytes


def test_clip_keeps_both_ends():
    text = "start" + "x" * 1_000 + "end"
    cut = clip(text, 200)
    assert len(cut) <= 200
    assert cut.startswith("start")
    assert cut.endswith("end")
    assert "left out" in cut
    assert clip(text, 2_000) is text
