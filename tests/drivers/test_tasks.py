"""What the driver for tasks waits with: an epoll that takes what ``select.poll`` takes."""

from __future__ import annotations

import os
import select
from pathlib import Path

import anyio
import pytest

from belljar.drivers.tasks import Readiness, deliver


@pytest.fixture
def pipe() -> tuple[int, int]:
    return os.pipe()


def test_it_finds_what_poll_finds(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    readiness, poll = Readiness(), select.poll()
    for each in (readiness, poll):
        each.register(reader, select.POLLIN)
        each.register(writer, select.POLLOUT)
    assert sorted(readiness.poll(0)) == sorted(poll.poll(0)) == [(writer, select.POLLOUT)]
    os.write(writer, b"x")
    readiness.modify(writer, 0)
    poll.modify(writer, 0)
    assert readiness.poll(0) == poll.poll(0) == [(reader, select.POLLIN)]
    os.close(writer)
    assert readiness.poll(0) == [(reader, select.POLLIN | select.POLLHUP)]
    readiness.unregister(reader)
    assert readiness.poll(0) == []
    readiness.close()
    os.close(reader)


def test_files_and_devices_are_always_ready(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    readiness = Readiness()
    for path in (tmp_path / "file", Path("/dev/null")):
        fd = os.open(path, os.O_RDONLY)
        readiness.register(fd, select.POLLIN)
        assert readiness.ready
        assert readiness.poll(0) == readiness.poll(0) == [(fd, select.POLLIN)]
        readiness.unregister(fd)
        assert not readiness.ready
        os.close(fd)
    readiness.close()


def test_a_closed_descriptor_is_ready_to_say_so(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    readiness = Readiness()
    readiness.register(reader, select.POLLIN)
    os.close(reader)
    readiness.unregister(reader)  # the application closed it meanwhile
    readiness.register(reader, select.POLLIN)
    assert readiness.poll(0) == [(reader, select.POLLIN)]
    readiness.unregister(reader)
    readiness.close()
    os.close(writer)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_R14_a_pipe_is_written_to_as_far_as_it_is_read(backend: str, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    data = os.urandom(300_000)
    got = bytearray()

    async def read() -> None:
        while len(got) < len(data):
            await anyio.wait_readable(reader)
            got.extend(os.read(reader, 1 << 16))

    async def main() -> None:
        with anyio.move_on_after(0.1) as scope:
            await deliver(writer, data)
        assert scope.cancelled_caught
        os.set_blocking(reader, False)
        while True:
            try:
                os.read(reader, 1 << 16)
            except BlockingIOError:
                break
        os.set_blocking(reader, True)
        async with anyio.create_task_group() as group:
            group.start_soon(deliver, writer, data)
            group.start_soon(read)
        assert got == data

    anyio.run(main, backend=backend)
    os.close(reader)
    os.close(writer)
