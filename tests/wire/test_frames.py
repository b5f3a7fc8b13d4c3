"""Frames: any cut of a stream gives the same frames, and a head is judged before its payload."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.wire.errors import LocalError, RemoteError
from belljar.wire.frames import FrameDecoder, encode_frame

CAPS = {1: 2**20, 2: 0, 200: 40}
FRAMES = st.lists(
    st.tuples(st.just(1), st.binary(max_size=100))
    | st.just((2, b""))
    | st.tuples(st.just(200), st.binary(max_size=40)),
    max_size=10,
)


def stream_of(frames: list[tuple[int, bytes]]) -> bytes:
    return b"".join(encode_frame(kind, payload, CAPS[kind]) for kind, payload in frames)


@settings(max_examples=200, deadline=None)
@given(FRAMES, st.lists(st.integers(0, 1_100)))
def test_any_cut_gives_the_same_frames(frames, cuts):
    stream = stream_of(frames)
    decoder = FrameDecoder(CAPS)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    got = []
    for start, end in pairwise(edges):
        got += decoder.feed(stream[start:end])
    assert got == frames
    assert not decoder.mid_frame


def test_byte_by_byte_and_what_is_held():
    decoder = FrameDecoder(CAPS)
    stream = stream_of([(1, b"abc")])
    for place in range(len(stream) - 1):
        assert list(decoder.feed(stream[place : place + 1])) == []
        assert decoder.mid_frame
    assert list(decoder.feed(memoryview(stream)[-1:])) == [(1, b"abc")]
    assert not decoder.mid_frame


@pytest.mark.parametrize(
    "head",
    [b"\xff\xff\xff\xff\x01", b"\x00\x10\x00\x01\x01", b"\0\0\0\x01\x02", b"\0\0\0\0\x03"],
    ids=["4 GiB", "one over", "empty kind", "unknown kind"],
)
def test_a_bad_head_is_refused_before_its_payload_is_kept(head):
    for cut in range(len(head)):
        decoder = FrameDecoder(CAPS)
        assert list(decoder.feed(head[:cut])) == []
        with pytest.raises(RemoteError):
            list(decoder.feed(head[cut:]))


def test_feeding_byte_by_byte_is_linear_in_memory_moved():
    """The buffer grows in place: its peak is the frame and the copy that is handed out."""
    payload = bytes(200_000)
    stream = encode_frame(1, payload, CAPS[1])
    decoder = FrameDecoder(CAPS)
    tracemalloc.start()
    try:
        got = [frame for byte in stream for frame in decoder.feed(bytes((byte,)))]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert got == [(1, payload)]
    assert peak < 3 * len(payload)


def test_a_frame_over_its_cap_is_not_made():
    with pytest.raises(LocalError, match="41 bytes; its kind takes 40"):
        encode_frame(200, bytes(41), 40)
