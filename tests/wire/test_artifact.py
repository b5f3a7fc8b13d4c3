"""X9: ``Artifact`` on the wire: what it may hold, and how many of them a run may have."""

from __future__ import annotations

import pytest

from belljar.wire import limits
from belljar.wire.connection import Connection
from belljar.wire.encoder import encode
from belljar.wire.errors import LocalError, RemoteError
from belljar.wire.events import Artifact, Call, Finished, Ready, Run
from belljar.wire.frames import encode_frame
from belljar.wire.schema import Mismatch, media_type, scalar

PNG = {"image/png": b"\x89PNG"}


def running() -> tuple[Connection, Connection]:
    host, guest = Connection("host"), Connection("guest")
    host.receive_data(guest.send(Ready({})))  # type: ignore[arg-type]
    guest.receive_data(host.send(Run(1, "1", "c", {})))  # type: ignore[arg-type]
    return host, guest


def forged(*fields: object) -> bytes:
    return encode_frame(0x85, encode(list(fields)), 2**31)


def test_X9_an_artifact_arrives_as_it_was_sent() -> None:
    host, guest = running()
    shown = Artifact(1, "figure-1", {**PNG, "text/plain": b""}, {"width": 3, "a": None, "b": 0.5})
    assert host.receive_data(guest.send(shown)) == [shown]  # type: ignore[arg-type]
    assert host.state == "RUNNING"


def test_X9_the_largest_one_that_an_agent_sends_fits_into_a_frame() -> None:
    host, guest = running()
    most = limits.MESSAGE.frame_bytes - limits.ARTIFACT_ROOM
    wide = "\U0001f600" * limits.METADATA_CHARS
    metadata = {f"{n:02}" + "\U0001f600" * (limits.LABEL_CHARS - 2): wide for n in range(16)}
    kinds = [f"image/{n:02}" + "x" * (limits.MEDIA_TYPE_CHARS - 8) for n in range(16)]
    forms = {**dict.fromkeys(kinds, b""), kinds[0]: bytes(most)}
    shown = Artifact(1, "\U0001f600" * limits.LABEL_CHARS, forms, metadata)
    assert host.receive_data(guest.send(shown)) == [shown]  # type: ignore[arg-type]


def test_K1_a_run_has_so_many_and_the_next_one_as_many_again() -> None:
    host, guest = running()
    for run_id in (1, 2):
        for _ in range(limits.ARTIFACTS_PER_RUN):
            host.receive_data(guest.send(Artifact(run_id, "", PNG)))  # type: ignore[arg-type]
        with pytest.raises(LocalError):
            guest.send(Artifact(run_id, "", PNG))
        host.receive_data(guest.send(Finished(run_id, "ok")))  # type: ignore[arg-type]
        guest.receive_data(host.send(Call(run_id + 1, "f")))  # type: ignore[arg-type]
    with pytest.raises(RemoteError):
        host.receive_data(forged(3, "", PNG, {}) * (limits.ARTIFACTS_PER_RUN + 1))  # type: ignore[arg-type]
    assert host.state == "ERROR"


@pytest.mark.parametrize(
    "fields",
    [
        (2, "", PNG, {}),  # another run
        (0, "", PNG, {}),
        (1, "n" * 65, PNG, {}),
        (1, b"n", PNG, {}),
        (1, "", {}, {}),
        (1, "", {"image/png": "text"}, {}),
        (1, "", {"image/png": None}, {}),
        (1, "", {1: b""}, {}),
        (1, "", {f"image/x{n}": b"" for n in range(17)}, {}),
        (1, "", [b""], {}),
        (1, "", PNG, {"w": [1]}),
        (1, "", PNG, {"w": 2**63}),
        (1, "", PNG, {"w": "x" * 201}),
        (1, "", PNG, {"w" * 65: 1}),
        (1, "", PNG, {n: n for n in range(1)}),
        (1, "", PNG, {f"{n}": n for n in range(17)}),
        (1, "", PNG),
        (1, "", PNG, {}, None),
    ],
)
def test_X9_one_that_makes_no_sense_is_a_breach(fields: tuple[object, ...]) -> None:
    host, _ = running()
    with pytest.raises(RemoteError):
        host.receive_data(forged(*fields))  # type: ignore[arg-type]
    assert host.state == "ERROR"


def test_X9_only_while_a_run_goes_on() -> None:
    host, guest = running()
    host.receive_data(guest.send(Finished(1, "ok")))  # type: ignore[arg-type]
    with pytest.raises(LocalError):
        guest.send(Artifact(1, "", PNG))
    with pytest.raises(RemoteError):
        host.receive_data(forged(1, "", PNG, {}))  # type: ignore[arg-type]
    with pytest.raises(LocalError):
        running()[0].send(Artifact(1, "", PNG))


@pytest.mark.parametrize(
    "good",
    [
        *("text/plain", "image/svg+xml", "application/vnd.vegalite.v5+json"),
        *("application/vnd.plotly.v1+json", "application/x-tex_1", "audio/3gpp", "video/h264"),
        "model/" + "x" * 94,
    ],
)
def test_X9_media_types(good: str) -> None:
    assert media_type(limits.MEDIA_TYPE_CHARS)(good) == good


@pytest.mark.parametrize(
    "bad",
    [
        *("", "/", "text", "text/", "/plain", "text//plain", "text/plain/x", "Text/plain"),
        *("text/Plain", "text/plain; charset=utf-8", "text/plain ", " text/plain", "text/pl\nain"),
        *("text/\x1b[2J", "text/../../etc", "text/.hidden", "text/-x", "x-own/y", "message/http"),
        *(
            "multipart/mixed",
            "text/pl\u00e4in",
            "text/\u0661",
            "text/x*",
            "text/x\0",
            "model/" + "x" * 95,
        ),
        *(b"text/plain", None, 3),
    ],
)
def test_X9_what_is_no_media_type(bad: object) -> None:
    with pytest.raises(Mismatch):
        media_type(limits.MEDIA_TYPE_CHARS)(bad)


def test_X9_scalars() -> None:
    for good in (None, True, 0, -(2**63), 2**63 - 1, 1.5, float("inf"), "", "x" * 5):
        assert scalar(5)(good) is good
    for bad in (2**63, "x" * 6, b"", [], 1j, ()):
        with pytest.raises(Mismatch):
            scalar(5)(bad)
