"""Messages with descriptors between host and zygote: whole, or an error (K10)."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

import pytest

from belljar.kernel import fdpass


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = fdpass.message_pair()
    yield left, right
    left.close()
    right.close()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_messages_keep_their_boundaries(pair):
    left, right = pair
    for text in (b"one", b"two", b"x" * 100_000):
        fdpass.send(left, text)
    assert [fdpass.receive(right)[0] for _ in range(3)] == [b"one", b"two", b"x" * 100_000]


def test_descriptors_arrive_as_copies_that_no_exec_inherits(pair):
    left, right = pair
    read, write = os.pipe()
    fdpass.send(left, b"pipe", [read, write])
    os.close(read)
    data, (read, copy) = fdpass.receive(right)
    assert data == b"pipe"
    assert not os.get_inheritable(read)
    assert not os.get_inheritable(copy)
    os.write(copy, b"through")
    assert os.read(read, 9) == b"through"
    for fd in (read, copy, write):
        os.close(fd)


def test_the_end_of_the_other_side(pair):
    left, right = pair
    left.close()
    assert fdpass.receive(right) == (b"", [])
    with pytest.raises(BrokenPipeError):
        fdpass.send(right, b"anybody?")


def test_a_message_that_is_cut_off_is_an_error(pair, monkeypatch):
    left, right = pair
    fdpass.send(left, b"x" * 101)
    monkeypatch.setattr(fdpass, "MAX_MESSAGE", 100)
    with pytest.raises(OSError, match="cut off"):
        fdpass.receive(right)


@pytest.mark.parametrize("count", [9, 40])
def test_too_many_descriptors_are_an_error_and_leave_none_open(pair, count):
    left, right = pair
    before = open_descriptors()
    packed = struct.pack(f"{count}i", *[left.fileno()] * count)
    left.sendmsg([b"many"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)])
    with pytest.raises(OSError, match="cut off"):
        fdpass.receive(right)
    assert open_descriptors() == before


def test_a_cut_message_lets_go_of_its_descriptors(pair, monkeypatch):
    left, right = pair
    before = open_descriptors()
    fdpass.send(left, b"x" * 101, [0, 1])
    monkeypatch.setattr(fdpass, "MAX_MESSAGE", 100)
    with pytest.raises(OSError, match="cut off"):
        fdpass.receive(right)
    assert open_descriptors() == before


def test_the_most_that_is_allowed(pair):
    left, right = pair
    fdpass.send(left, b"all", [0] * fdpass.MAX_DESCRIPTORS)
    data, descriptors = fdpass.receive(right)
    for fd in descriptors:
        os.close(fd)
    assert (data, len(descriptors)) == (b"all", fdpass.MAX_DESCRIPTORS)


def test_a_stream_is_a_stream():
    left, right = fdpass.stream_pair()
    left.send(b"a")
    left.send(b"b")
    assert right.recv(10) == b"ab"
    left.close()
    assert right.recv(10) == b""
    right.close()
