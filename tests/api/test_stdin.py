"""R13, R14: standard input from text, files, iterables, and written while the code runs."""

from __future__ import annotations

import io
import os
import resource
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import belljar
from belljar import PIPE, AsyncSandbox, Policy, PolicyError, Result, Sandbox, Stream, Trusted

READ = "import sys; sys.stdin.buffer.read()"
SIZE = "import sys; sum(len(p) for p in iter(lambda: sys.stdin.buffer.read(65536), b''))"
ECHO = "import sys\nfor line in sys.stdin: print(line.strip()[::-1], flush=True)"

Run = Callable[..., Result]
Made = Callable[..., AbstractContextManager[Stream]]


def _run_in(kind: type[Sandbox | Trusted], code: str, **arguments: Any) -> Result:
    with kind() as interpreter:
        return interpreter.run(code, **arguments)


@contextmanager
def _stream_in(kind: type[Sandbox | Trusted], code: str, **arguments: Any) -> Generator[Stream]:
    with kind() as interpreter, interpreter.stream(code, **arguments) as stream:
        yield stream


@pytest.fixture(params=["run", "Sandbox", "Trusted"])
def run(request: pytest.FixtureRequest) -> Run:
    """``belljar.run`` and ``run`` of both kinds of interpreters, which read the same."""
    if request.param == "run":
        return belljar.run
    return partial(_run_in, getattr(belljar, request.param))


@pytest.fixture(params=["run", "Sandbox", "Trusted"])
def streamed(request: pytest.FixtureRequest) -> Made:
    """``belljar.stream`` and ``stream`` of both kinds of interpreters."""
    if request.param == "run":
        return belljar.stream
    return partial(_stream_in, getattr(belljar, request.param))


DATA = bytes(range(256)) * 1000  # more than a pipe holds


@pytest.mark.parametrize("what", ["bytes", "BytesIO", "file", "iterable", "pipe"])
def test_R14_binary_input(run: Run, tmp_path: Path, what: str) -> None:
    path = tmp_path / "input"
    path.write_bytes(b"skipped" + DATA)
    with path.open("rb") as file:
        file.seek(7)
        given: Any = {
            "bytes": DATA,
            "BytesIO": io.BytesIO(DATA),
            "file": file,
            "iterable": (DATA[n : n + 1000] for n in range(0, len(DATA), 1000)),
        }.get(what)
        if what == "pipe":
            read, write = os.pipe()
            given = os.fdopen(read, "rb")
            writer = threading.Thread(target=lambda: (os.write(write, DATA), os.close(write)))
            writer.start()
            with given:
                result = run(READ, stdin=given)
            writer.join()
        else:
            result = run(READ, stdin=given)
    assert result.value == DATA


@pytest.mark.parametrize("what", ["str", "StringIO", "file", "iterable"])
def test_R14_text_is_utf8(run: Run, tmp_path: Path, what: str) -> None:
    text = "ä€😀\n" * 20_000
    path = tmp_path / "input"
    path.write_text(text, "utf-16")
    with path.open(encoding="utf-16") as file:
        given: Any = {
            "str": text,
            "StringIO": io.StringIO(text),
            "file": file,
            "iterable": iter([text[:5], "", text[5:]]),
        }[what]
        assert run("import sys; sys.stdin.read()", stdin=given).value == text


def test_R14_an_empty_source_is_an_end(run: Run) -> None:
    sources: list[Any] = [b"", "", io.BytesIO(), [], iter([b""])]
    for nothing in sources:
        assert run(READ, stdin=nothing).value == b""


def test_R14_a_large_file_is_read_in_pieces(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "large"
    size = 100 * 2**20
    with path.open("wb") as file:
        file.truncate(size)
    most = 0

    class Watched(io.FileIO):
        def read(self, wanted: int | None = -1, /) -> bytes:
            nonlocal most
            most = max(most, -1 if wanted is None else wanted)
            assert wanted is not None
            assert wanted > 0
            return super().read(wanted) or b""

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Watched(path) as file:
        result = run(SIZE, stdin=file)
    assert result.value == size
    assert 0 < most <= 2**20
    # Kibibytes.  A live one keeps up to 16 MiB of it for its history.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 * 2**10


def test_R14_what_is_not_read_is_not_taken(run: Run) -> None:
    taken = 0

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 10_000

    assert run("import sys; sys.stdin.buffer.read(5)", stdin=pieces()).value == b"xxxxx"
    assert taken < 20  # a pipe's worth, and no more


def test_R14_an_error_of_the_source_is_the_callers(run: Run) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"x"
        raise OSError("of the host")

    with pytest.raises(OSError, match="of the host"):
        run(READ, stdin=pieces())
    assert run("1").value == 1
    with Sandbox() as sandbox:
        sandbox.run("x = 5")
        with pytest.raises(OSError, match="of the host"):
            sandbox.run(READ, stdin=pieces())
        assert sandbox.run("x").value == 5


@pytest.mark.parametrize("bad", [5, object(), {"a": 1}, bytearray(b"x"), True])
def test_R14_other_things_are_refused(bad: Any) -> None:
    with pytest.raises(PolicyError, match="stdin"):
        belljar.run("1", stdin=bad)
    with Sandbox() as sandbox, pytest.raises(PolicyError, match="stdin"):
        sandbox.run("1", stdin=bad)


def test_R14_pieces_of_other_types_are_refused(run: Run) -> None:
    bad: Any = [b"x", 5]
    with pytest.raises(PolicyError, match="expected bytes or str, got int"):
        run(READ, stdin=bad)


def test_R14_PIPE_is_for_streams() -> None:
    pipe: Any = PIPE
    with pytest.raises(PolicyError, match="PIPE is for stream"):
        belljar.run("1", stdin=pipe)
    with Sandbox() as sandbox, pytest.raises(PolicyError, match="PIPE is for stream"):
        sandbox.run("1", stdin=pipe)
    with belljar.stream("1") as stream:
        with pytest.raises(PolicyError, match=r"belljar\.PIPE"):
            stream.write("x")
        with pytest.raises(PolicyError, match=r"belljar\.PIPE"):
            stream.close_stdin()
        list(stream)


def test_R13_a_sandbox_with_the_true_stdin_takes_no_other() -> None:
    with Sandbox(Policy().allow(streams=["stdin"])) as sandbox:
        with pytest.raises(PolicyError, match="host's own standard input"):
            sandbox.run("1", stdin=io.BytesIO())
        with pytest.raises(PolicyError, match="host's own standard input"):
            sandbox.stream("1", stdin=PIPE)


# --- a dialog -------------------------------------------------------------------------------


def test_R14_a_dialog_of_hundreds_of_lines(streamed: Made) -> None:
    with streamed(ECHO, stdin=PIPE) as stream:
        stream.write("line 0\n")
        count = 0
        for name, text in stream.lines():
            assert (name, text) == ("stdout", f"line {count}"[::-1])
            count += 1
            if count == 500:
                stream.close_stdin()
            else:
                stream.write(f"line {count}\n".encode())
    assert (count, stream.result.status) == (500, "ok")


def test_R14_input_asks_and_is_answered(streamed: Made) -> None:
    code = "name = input('name? ')\nage = int(input('age? '))\n(name, age)"
    answers = {"name? ": "Ada\n", "age? ": "36\n"}
    with streamed(code, stdin=PIPE) as stream:
        for _, text in stream.text():
            stream.write(answers[text])
    assert stream.result.value == ("Ada", 36)


def test_R14_the_end_of_what_is_written(streamed: Made) -> None:
    code = "import sys\n[input(), sys.stdin.read(), sys.stdin.read(), sys.stdin.readline()]"
    with streamed(code, stdin=PIPE) as stream:
        stream.write("one\ntwo\nthr")
        stream.write("ee")
        stream.close_stdin()
        stream.close_stdin()
        with pytest.raises(PolicyError, match="closed already"):
            stream.write("x")
        list(stream)
    assert stream.result.value == ["one", "two\nthree", "", ""]


def test_R14_finish_ends_the_input(streamed: Made) -> None:
    with streamed(READ, stdin=PIPE) as stream:
        stream.write(b"\xff\x00")
        assert stream.finish().value == b"\xff\x00"


def test_R14_more_is_written_than_pipes_hold(streamed: Made) -> None:
    with streamed(f"print('x', flush=True)\n{SIZE}", stdin=PIPE) as stream:
        for _ in range(50):
            stream.write(b"x" * 100_000)
        assert stream.finish().value == 5_000_000


def test_R14_a_run_that_never_reads(streamed: Made) -> None:
    with streamed("print('x' * 200_000); 7", stdin=PIPE) as stream:
        stream.write(b"x" * 1_000_000)
        list(stream)
        stream.write(b"more")
        stream.close_stdin()
    assert stream.result.value == 7


def test_R14_writing_from_another_thread(streamed: Made) -> None:
    with streamed(ECHO, stdin=PIPE) as stream:

        def write() -> None:
            for n in range(20):
                time.sleep(0.005)
                stream.write(f"{n:03}\n")
            stream.close_stdin()

        writer = threading.Thread(target=write)
        writer.start()
        lines = [text for _, text in stream.lines()]
        writer.join()
    assert lines == [f"{n:03}"[::-1] for n in range(20)]


def test_R2_who_waits_for_input_is_ended_by_the_clock() -> None:
    policy = Policy().limit(wall_s=0.3)
    with belljar.stream("input()", policy, stdin=PIPE) as stream:
        list(stream)
    assert stream.result.limit is not None
    assert stream.result.limit.name == "wall"
    with Sandbox(policy) as sandbox:
        with sandbox.stream("input()", stdin=PIPE) as stream:
            list(stream)
        assert stream.result.limit is not None
        assert stream.result.limit.name == "wall"


def test_K6_an_interrupt_while_it_waits_for_input_loses_nothing() -> None:
    code = """
try:
    print("waits", flush=True)
    input()
except KeyboardInterrupt:
    print("told", flush=True)
input()
"""
    with Sandbox() as sandbox:
        with sandbox.stream(code, stdin=PIPE) as stream:
            for _, text in stream.lines():
                if text == "waits":
                    assert sandbox.interrupt()
                elif text == "told":
                    stream.write("answer\n")
        assert stream.result.value == "answer"


STUBBORN_READER = """
said = False
while True:
    try:
        if not said:
            said = True
            print("here", flush=True)
        input()
    except KeyboardInterrupt:
        pass
"""


def test_R14_who_reads_on_when_the_block_is_left_finds_the_end() -> None:
    with Sandbox() as sandbox:
        with sandbox.stream(STUBBORN_READER, stdin=PIPE) as stream:
            next(stream)
        assert sandbox.run("said").value is True


def test_R14_a_source_that_has_failed_is_not_asked_again() -> None:
    asked = 0

    def pieces() -> Iterator[bytes]:
        nonlocal asked
        asked += 1
        yield from ()
        raise OSError("of the host")

    code = "import sys\ntry: sys.stdin.read()\nexcept KeyboardInterrupt: x = sys.stdin.read()"
    with Sandbox() as sandbox:
        with pytest.raises(OSError, match="of the host"):
            sandbox.run(code, stdin=pieces())
        assert asked == 1
        assert sandbox.get("x") == ""


# --- a sandbox that stays -------------------------------------------------------------------


def test_M1_each_run_has_its_own_input_and_end() -> None:
    with Sandbox() as sandbox:
        sandbox.run("import sys")
        assert sandbox.run("sys.stdin.readline()", stdin=iter(["a\n", "b\n"])).value == "a\n"
        assert sandbox.run("sys.stdin.read()").value == ""
        assert sandbox.run("sys.stdin.read()", stdin="text").value == "text"
        assert sandbox.run("sys.stdin.read()", stdin=io.StringIO("file")).value == "file"
        assert sandbox.run("sys.stdin.read()", stdin=io.StringIO("again")).value == "again"
        with pytest.raises(belljar.GuestError):
            sandbox.run("input()").unwrap()


def test_M1_a_thread_that_waits_for_the_input_of_an_earlier_run() -> None:
    """It finds the end; what the next run is given is the next run's."""
    code = """
import sys, threading
found = []
mine = sys.stdin
thread = threading.Thread(target=lambda: found.append(mine.read()), daemon=True)
thread.start()
"""
    with Sandbox(Policy().limit(threads=4)) as sandbox:
        with sandbox.stream(code, stdin=PIPE) as stream:
            list(stream)
        again = "import sys\nwhole = sys.stdin.read()\nthread.join(20)\n(whole, found)"
        assert sandbox.run(again, stdin=iter(["the next"])).value == ("the next", [""])


def test_M1_history_has_what_was_read() -> None:
    with Sandbox() as sandbox, Sandbox() as other:
        sandbox.run("import sys; x = sys.stdin.read()", stdin=iter(["a", "b"]))
        with sandbox.stream("y = input()", stdin=PIPE) as stream:
            stream.write("c\n")
            list(stream)
        assert [step.stdin for step in sandbox.history] == [b"ab", b"c\n"]
        other.replay(sandbox.history)
        assert other.run("x, y").value == ("ab", "c")


def test_R13_descriptor_0_is_at_its_end_where_the_host_is_asked() -> None:
    """limitations/live-sandboxes.md: who reads the descriptor itself finds nothing."""
    with Sandbox() as sandbox:
        code = "import os, sys\n(os.read(0, 10), sys.stdin.isatty(), sys.stdin.read())"
        assert sandbox.run(code, stdin=iter(["x"])).value == (b"", False, "x")


# --- for tasks ------------------------------------------------------------------------------


@pytest.fixture(params=["asyncio", "trio"])
def go(request: pytest.FixtureRequest) -> Callable[[Callable[[], Any]], Any]:
    """Runs a coroutine function in an event loop of its own."""
    return lambda function: anyio.run(function, backend=request.param)


Go = Callable[[Callable[[], Any]], Any]


def test_R14_for_tasks_a_dialog(go: Go) -> None:
    async def talk(stream: belljar.AsyncStream) -> None:
        async with stream:
            stream.write("line 0\n")
            count = 0
            async for _, text in stream.lines():
                assert text == f"line {count}"[::-1]
                count += 1
                if count == 200:
                    stream.close_stdin()
                else:
                    stream.write(f"line {count}\n")
        assert count == 200

    async def main() -> None:
        await talk(belljar.astream(ECHO, stdin=PIPE))
        async with AsyncSandbox() as sandbox:
            await talk(sandbox.stream(ECHO, stdin=PIPE))

    go(main)


def test_R14_for_tasks_who_reads_on_finds_the_end(go: Go) -> None:
    async def main() -> None:
        async with AsyncSandbox() as sandbox:
            async with sandbox.stream(STUBBORN_READER, stdin=PIPE) as stream:
                await anext(stream)
            assert (await sandbox.run("said")).value is True
            async with sandbox.stream("input()", stdin=PIPE, wall_s=0.2) as stream:
                assert (await anext(stream, None)) is None
            assert stream.result.limit is not None

    go(main)


def test_R14_for_tasks_one_writes_and_another_reads(go: Go) -> None:
    async def main() -> None:
        async with AsyncSandbox() as sandbox, sandbox.stream(ECHO, stdin=PIPE) as stream:

            async def write() -> None:
                for n in range(20):
                    await anyio.sleep(0.002)
                    stream.write(f"{n:03}\n")
                stream.close_stdin()

            lines: list[str] = []
            async with anyio.create_task_group() as group:
                group.start_soon(write)
                lines += [text async for _, text in stream.lines()]
            assert lines == [f"{n:03}"[::-1] for n in range(20)]

    go(main)


def test_R14_for_tasks_files_and_iterables(go: Go, tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(DATA)

    async def main() -> None:
        async with AsyncSandbox() as sandbox:
            with path.open("rb") as file:
                assert (await sandbox.run(READ, stdin=file)).value == DATA
            assert (await sandbox.run(READ, stdin=iter([DATA]))).value == DATA
        with path.open("rb") as file:
            assert (await belljar.arun(READ, stdin=file)).value == DATA
        assert (await belljar.arun(READ, stdin=iter([DATA]))).value == DATA

    go(main)
