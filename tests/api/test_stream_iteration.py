"""R14: output taken piece by piece while the code runs, at the pace of whoever takes it."""

from __future__ import annotations

import inspect
import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import belljar
from belljar import (
    Artifact,
    AsyncSandbox,
    ChannelClosed,
    ClosedError,
    Policy,
    PolicyError,
    Sandbox,
    SandboxFailure,
    Stream,
    Trusted,
)
from belljar.api.live import RUN_LIMITS

TALK = """
import sys, time
for n in range(5):
    print(n, flush=True)
    print(-n, file=sys.stderr, flush=True)
"the value"
"""
SHOWS = """
class Shown:
    def _repr_html_(self): return "<b>"

display(Shown())
"""
SLEEPS = "import time; print('here', flush=True); time.sleep(60)"

Made = Callable[..., AbstractContextManager[Stream]]


@contextmanager
def _in_a_sandbox(code: str, **arguments: Any) -> Generator[Stream]:
    policy = arguments.pop("policy", None)
    with Sandbox(policy) as sandbox, sandbox.stream(code, **arguments) as stream:
        yield stream


@contextmanager
def _trusted(code: str, **arguments: Any) -> Generator[Stream]:
    policy = arguments.pop("policy", Policy())
    limits = {name: policy.limits[name] for name in RUN_LIMITS}
    with Trusted(**limits) as trusted, trusted.stream(code, **arguments) as stream:
        yield stream


@pytest.fixture(params=["run", "Sandbox", "Trusted"])
def streamed(request: pytest.FixtureRequest) -> Made:
    """``belljar.stream`` and ``stream`` of both kinds of interpreters, which do the same."""
    made: dict[str, Made] = {"run": belljar.stream, "Sandbox": _in_a_sandbox, "Trusted": _trusted}
    return made[request.param]


def test_R14_the_pieces_come_while_the_code_runs(streamed: Made) -> None:
    with streamed("print('one', flush=True); print(input())", stdin=belljar.PIPE) as stream:
        assert next(iter(stream)) == ("stdout", b"one\n")
        stream.write("two\n")  # so it has not ended yet
        assert list(stream) == [("stdout", b"two\n")]
    assert stream.result.stdout == "one\ntwo\n"


def test_R14_the_pieces_are_the_whole(streamed: Made) -> None:
    heard = {"stdout": b"", "stderr": b""}
    with streamed(TALK) as stream:
        for name, data in stream:
            heard[name] += data
    result = stream.result
    assert (heard["stdout"], heard["stderr"]) == (result.stdout_bytes, result.stderr_bytes)
    assert (result.status, result.value) == ("ok", "the value")


def test_R14_after_the_last_piece_there_is_none(streamed: Made) -> None:
    with streamed("print(1)") as stream:
        assert len(list(stream)) == 1
        assert list(stream) == []
        assert stream.finish() is stream.result


def test_R14_finish_passes_over_the_rest(streamed: Made) -> None:
    with streamed(TALK) as stream:
        next(stream)
        assert stream.finish().stdout == "0\n1\n2\n3\n4\n"
        assert list(stream) == []


def test_R14_bad_outcomes_are_results(streamed: Made) -> None:
    with streamed("print('x', flush=True)\n1 / 0") as stream:
        assert list(stream) == [("stdout", b"x\n")]
    assert stream.result.error is not None
    assert stream.result.error.type == "ZeroDivisionError"


def test_R14_the_result_is_not_there_before_the_end(streamed: Made) -> None:
    with streamed(SLEEPS) as stream:
        with pytest.raises(ClosedError, match="not over"):
            _ = stream.result
        next(stream)
    with pytest.raises(ClosedError, match="left before its end"):
        _ = stream.result
    with pytest.raises(ClosedError, match="left before its end"):
        next(stream)


def test_R14_a_stream_is_used_in_a_with_statement() -> None:
    stream = belljar.stream("1")
    for use in (lambda: next(stream), stream.finish, lambda: stream.result):
        with pytest.raises(ClosedError, match="with statement"):
            use()


def test_R14_leaving_early_ends_a_guest_of_its_own() -> None:
    with belljar.stream(SLEEPS) as stream:
        next(stream)
    assert belljar.run("1 + 1").value == 2


def test_R14_leaving_early_interrupts_a_sandbox_which_stays() -> None:
    code = f"seen = ''\ntry:\n    {SLEEPS}\nexcept KeyboardInterrupt:\n    seen = 'told'"
    with Sandbox() as sandbox:
        sandbox.run("x = 20")
        with sandbox.stream(code) as stream:
            for _ in stream:
                break
        assert sandbox.run("x, seen").value == (20, "told")


def test_R14_leaving_a_stubborn_run_ends_the_interpreter() -> None:
    code = """
import time
said = False
while True:
    try:
        if not said:
            said = True
            print("here", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        pass
"""
    with Sandbox() as sandbox:
        with sandbox.stream(code) as stream:
            next(stream)
        with pytest.raises(ClosedError):
            sandbox.run("1")
        sandbox.reset()
        assert sandbox.run("1").value == 1


@pytest.mark.parametrize("error", [ValueError("of the host"), KeyboardInterrupt(), SystemExit(3)])
def test_R14_an_exception_of_the_consumer_goes_on(error: BaseException) -> None:
    def fail(stream: Stream) -> None:
        with stream:
            for _ in stream:
                raise error

    with Sandbox() as sandbox:
        sandbox.run("x = 1")
        with pytest.raises(type(error)) as caught:
            fail(sandbox.stream(SLEEPS))
        assert caught.value is error
        assert sandbox.run("x").value == 1
    with pytest.raises(type(error)) as caught:
        fail(belljar.stream(SLEEPS))
    assert caught.value is error


def test_R14_a_stream_that_nobody_takes_from(streamed: Made) -> None:
    with streamed("print('x' * 1_000_000)"):
        pass
    assert belljar.run("1").value == 1


def test_R2_a_slow_consumer_costs_no_wall_time(streamed: Made) -> None:
    policy = Policy().limit(wall_s=1.0)
    with streamed("for n in range(8): print('x' * 100_000)", policy=policy) as stream:
        for _ in range(4):
            next(stream)
            time.sleep(0.4)
        size = len(stream.finish().stdout)
    assert (stream.result.status, size) == ("ok", 8 * 100_001)


def test_R2_beyond_pause_s_a_slow_consumer_costs_wall_time(streamed: Made) -> None:
    policy = Policy().limit(wall_s=0.5, pause_s=0.1)
    code = "import time; print('x', flush=True); time.sleep(0.2); print('y'); time.sleep(60)"
    with streamed(code, policy=policy) as stream:
        next(stream)
        time.sleep(1.5)
        list(stream)
    assert stream.result.limit is not None
    assert stream.result.limit.name == "wall"


def test_R14_a_guest_that_is_not_read_waits(streamed: Made) -> None:
    """The consumer's pace is the guest's: what fits into the pipe is all that it gets ahead."""
    code = """
import os, time
for n in range(40): os.write(1, b"x" * 10_000)
time.monotonic()
"""
    with streamed(code) as stream:
        next(stream)
        time.sleep(0.5)
        held_until = time.monotonic()
        value: Any = stream.finish().value
    assert value > held_until


def test_R2_output_over_its_limit(streamed: Made) -> None:
    policy = Policy().limit(output_bytes=5000)
    with streamed("while True: print('x' * 1000)", policy=policy) as stream:
        assert sum(len(data) for _, data in stream) == 5000
    assert stream.result.limit is not None
    assert stream.result.limit.name == "output"


def test_R14_large_binary_output(streamed: Made) -> None:
    policy = Policy().allow(output_bytes=32 * 2**20)
    code = "import os\npiece = bytes(range(256)) * 4096\nfor n in range(16): os.write(1, piece)"
    total = bytearray()
    with streamed(code, policy=policy) as stream:
        for _, data in stream:
            total += data
    assert total == bytes(range(256)) * 4096 * 16 == stream.result.stdout_bytes


@pytest.mark.parametrize("size", [1, 2, 3])
def test_R14_text_whatever_way_characters_are_cut(streamed: Made, size: int) -> None:
    code = f"""
import os, time
data = {{"stdout": "ä€😀ö".encode(), "stderr": "ÿ→".encode() + b"\\xff\\xe2\\x82"}}
for number, name in ((1, "stdout"), (2, "stderr")):
    for n in range(0, len(data[name]), {size}):
        os.write(number, data[name][n : n + {size}])
        time.sleep(0.005)
"""
    heard = {"stdout": "", "stderr": ""}
    with streamed(code) as stream:
        for name, text in stream.text():
            heard[name] += text
    assert heard == {"stdout": "ä€😀ö", "stderr": "ÿ→\ufffd\ufffd"}


def test_R14_lines_of_both_streams(streamed: Made) -> None:
    code = """
import os
for number, data in ((1, b"a"), (2, b"one\\ntwo"), (1, b"b\\n\\nc\\r\\n"), (2, b"!\\nrest"), (1, b"d")):
    os.write(number, data)
"""
    with streamed(code) as stream:
        lines = list(stream.lines())
    assert [text for name, text in lines if name == "stdout"] == ["ab", "", "c\r", "d"]
    assert [text for name, text in lines if name == "stderr"] == ["one", "two!", "rest"]


def test_R14_text_may_be_left_and_taken_up(streamed: Made) -> None:
    with streamed("print('a', flush=True); print(input())", stdin=belljar.PIPE) as stream:
        for _, text in stream.text():
            assert text == "a\n"
            break
        stream.write("b\n")
        assert [text for _, text in stream.lines()] == ["b"]


def test_R13_merged_streams_keep_the_order_of_the_writes() -> None:
    code = """
import os, sys
for n in range(2000):
    os.write(1 + n % 2, b"%d\\n" % n)
print("out"); print("err", file=sys.stderr); print("out again")
"""
    wanted = "".join(f"{n}\n" for n in range(2000)) + "out\nerr\nout again\n"
    result = belljar.run(code, merge_stderr=True)
    assert (result.stdout, result.stderr) == (wanted, "")
    with belljar.stream(code, merge_stderr=True) as stream:
        assert "".join(text for _, text in stream.text()) == wanted
    for kind in (Sandbox, Trusted):
        with kind(merge_stderr=True) as interpreter:
            assert interpreter.run(code).stdout == wanted
            interpreter.reset()
            assert interpreter.run("import sys; print(1, file=sys.stderr)").stdout == "1\n"
    apart = belljar.run("import sys; print(1, file=sys.stderr)")
    assert (apart.stdout, apart.stderr) == ("", "1\n")


def test_R14_true_streams_and_on_output_hear_the_same() -> None:
    heard: list[tuple[str, bytes]] = []
    with (
        Sandbox(on_output=lambda name, data: heard.append((name, data))) as sandbox,
        sandbox.stream(TALK) as stream,
    ):
        assert list(stream) == heard


def test_M1_while_it_streams_a_sandbox_is_taken() -> None:
    with Sandbox() as sandbox:
        with sandbox.stream("print(1)") as stream:
            with pytest.raises(ClosedError, match="busy"):
                sandbox.run("2")
            list(stream)
        values: list[object] = []
        with sandbox.stream(SLEEPS) as stream:
            other = threading.Thread(target=lambda: values.append(sandbox.run("3").value))
            other.start()
            next(stream)
            assert values == []
        other.join(60)
        assert values == [3]


def test_K6_interrupt_ends_a_streamed_run() -> None:
    with Sandbox() as sandbox:
        with sandbox.stream(SLEEPS) as stream:
            next(stream)
            assert sandbox.interrupt()
            list(stream)
        assert stream.result.error is not None
        assert stream.result.error.type == "KeyboardInterrupt"
        assert sandbox.run("1").value == 1


def test_M1_close_within_a_stream() -> None:
    with Sandbox() as sandbox, sandbox.stream(SLEEPS) as stream:
        next(stream)
        sandbox.close()
        with pytest.raises(ClosedError):
            list(stream)


def test_K1_a_crash_ends_the_stream() -> None:
    code = "import os; print('x', flush=True); os.abort()"
    with belljar.stream(code) as stream:
        assert [data for _, data in stream] == [b"x\n"]
    assert (stream.result.status, stream.result.signal) == ("crashed", 6)
    with Sandbox() as sandbox:
        with sandbox.stream(code) as stream:
            list(stream)
        assert stream.result.signal == 6
        with pytest.raises(ClosedError, match="signal 6"):
            sandbox.run("1")


def test_X3_functions_are_called_while_it_streams() -> None:
    def double(n: int) -> int:
        return 2 * n

    with belljar.stream("print(double(21))", functions={"double": double}) as stream:
        assert list(stream) == [("stdout", b"42\n")]
    with (
        Sandbox(functions={"double": double}) as sandbox,
        sandbox.stream("print(double(4))") as stream,
    ):
        assert list(stream) == [("stdout", b"8\n")]


def test_R14_the_arguments_are_those_of_run() -> None:
    with belljar.stream(
        "import sys; print(n, sys.argv[1], open('a').read()); sys.stdin.read()",
        Policy().limit(wall_s=5),
        {"n": 1},
        ["x"],
        "input",
        {"a": "file"},
        "its.py",
    ) as stream:
        assert list(stream) == [("stdout", b"1 x file\n")]
    assert stream.result.value == "input"
    with pytest.raises(PolicyError):
        belljar.stream(1)  # type: ignore[arg-type]
    with pytest.raises(PolicyError), Sandbox() as sandbox:
        sandbox.stream("1", wall_s=-1)


def test_R14_a_stream_takes_what_run_takes() -> None:
    pairs: list[tuple[Any, Any]] = [
        (belljar.stream, belljar.run),
        (belljar.astream, belljar.run),
        (Sandbox.stream, Sandbox.run),
        (Trusted.stream, Trusted.run),
        (AsyncSandbox.stream, AsyncSandbox.run),
    ]
    for ours, theirs in pairs:
        wanted = {**inspect.signature(theirs).parameters}
        del wanted["on_output"]
        found = inspect.signature(ours).parameters
        assert list(found) == list(wanted), ours
        assert [each.default for each in found.values()] == [
            each.default for each in wanted.values()
        ], ours


def test_R14_what_run_brings_along_comes_with_a_stream(streamed: Made, tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(b"the host's")
    shown: list[str] = []
    with streamed(
        f"{SHOWS}\nprint(open('a').read(), open('b').read())",
        files={"a": tmp_path / "from", "b": "text"},
        on_artifact=lambda artifact: shown.append(artifact.media_type),
    ) as stream:
        list(stream)
    assert stream.result.stdout.endswith("the host's text\n")
    assert shown == [each.media_type for each in stream.result.artifacts] == ["text/html"]


def test_K2_a_stream_has_channels_until_it_is_left() -> None:
    ours, theirs = belljar.channel()
    with belljar.stream("print(jobs.recv()); jobs.send(2)", channels={"jobs": theirs}) as stream:
        ours.send(1)
        assert list(stream) == [("stdout", b"1\n")]
        assert ours.recv() == 2
    with pytest.raises(ChannelClosed):
        ours.recv()


def test_M1_a_failure_of_somebody_else_in_the_block_is_not_its_end() -> None:
    class Elsewhere(SandboxFailure):
        """Of another sandbox."""

    with Sandbox() as sandbox:
        with pytest.raises(Elsewhere), sandbox.stream("print(1)"):
            raise Elsewhere("fork", "it failed")
        assert sandbox.ended == ""
        assert sandbox.run("1").value == 1


def test_K1_nothing_is_left_of_streams() -> None:
    belljar.run("1")
    before = len(os.listdir("/proc/self/fd"))
    for code in ("1", SLEEPS, "import os; os.abort()"):
        with belljar.stream(code, stdin=belljar.PIPE) as stream:
            stream.write("x")
            if code is SLEEPS:
                next(stream)
        with Sandbox() as sandbox, sandbox.stream(code, stdin=belljar.PIPE) as stream:
            stream.write("x")
    assert len(os.listdir("/proc/self/fd")) <= before


# --- for tasks ------------------------------------------------------------------------------


@pytest.fixture(params=["asyncio", "trio"])
def go(request: pytest.FixtureRequest) -> Callable[[Callable[[], Any]], Any]:
    """Runs a coroutine function in an event loop of its own."""
    return lambda function: anyio.run(function, backend=request.param)


Go = Callable[[Callable[[], Any]], Any]


def test_R14_for_tasks_the_pieces_are_the_whole(go: Go) -> None:
    async def take(stream: belljar.AsyncStream) -> None:
        heard = {"stdout": b"", "stderr": b""}
        async with stream:
            async for name, data in stream:
                heard[name] += data
        result = stream.result
        assert (heard["stdout"], heard["stderr"]) == (result.stdout_bytes, result.stderr_bytes)
        assert result.value == "the value"

    async def main() -> None:
        await take(belljar.astream(TALK))
        async with AsyncSandbox() as sandbox:
            await take(sandbox.stream(TALK))
            await take(sandbox.stream(TALK))

    go(main)


def test_R14_for_tasks_lines_and_finish(go: Go) -> None:
    async def main() -> None:
        async with AsyncSandbox() as sandbox:
            async with sandbox.stream("print('a\\nb'); print('c', end='')") as stream:
                assert [text async for _, text in stream.lines()] == ["a", "b", "c"]
            async with sandbox.stream("print('a')") as stream:
                assert (await stream.finish()).stdout == "a\n"
            async with sandbox.stream("print('ä')") as stream:
                assert [text async for _, text in stream.text()] == ["ä\n"]

    go(main)


async def fail_in_the_block(sandbox: AsyncSandbox) -> None:
    async with sandbox.stream(SLEEPS) as stream:
        async for _ in stream:
            raise ValueError("of the host")


def test_R14_for_tasks_leaving_early(go: Go) -> None:
    async def main() -> None:
        async with belljar.astream(SLEEPS) as alone:
            async for _ in alone:
                break
        async with AsyncSandbox() as sandbox:
            await sandbox.run("x = 1")
            async with sandbox.stream(SLEEPS) as stream:
                async for _ in stream:
                    break
            with pytest.raises(ClosedError, match="left"):
                _ = stream.result
            assert (await sandbox.run("x")).value == 1
            with pytest.raises(ValueError, match="of the host"):
                await fail_in_the_block(sandbox)
            assert (await sandbox.run("x")).value == 1

    go(main)


@pytest.mark.parametrize("where", ["waiting", "in the block"])
def test_R14_for_tasks_cancelling(go: Go, where: str) -> None:
    async def main() -> None:
        async with AsyncSandbox() as sandbox:
            await sandbox.run("x = 1")
            with anyio.CancelScope() as scope:
                async with sandbox.stream(SLEEPS) as stream:
                    async for _ in stream:
                        scope.cancel()
                        if where == "in the block":
                            await anyio.sleep(60)
            assert scope.cancelled_caught
            assert (await sandbox.run("x")).value == 1
        with anyio.CancelScope() as scope:
            async with belljar.astream(SLEEPS) as alone:
                async for _ in alone:
                    scope.cancel()
                    if where == "in the block":
                        await anyio.sleep(60)
        assert scope.cancelled_caught
        assert (await belljar.arun("2")).value == 2

    go(main)


def test_R14_for_tasks_a_scope_around_the_iteration(go: Go) -> None:
    """The consumer's own scopes may end between two pieces."""

    async def main() -> None:
        async def double(n: int) -> int:
            await anyio.sleep(0)
            return 2 * n

        code = "print(await double(1), flush=True); print(await double(2), flush=True)"
        async with (
            AsyncSandbox(functions={"double": double}) as sandbox,
            sandbox.stream(code) as stream,
        ):
            with anyio.fail_after(60):
                assert await anext(stream) == ("stdout", b"2\n")
            with anyio.fail_after(60):
                assert [data async for _, data in stream] == [b"4\n"]
        async with belljar.astream(code, functions={"double": double}) as alone:
            with anyio.fail_after(60):
                assert b"".join([data async for _, data in alone]) == b"2\n4\n"

    go(main)


def test_R14_for_tasks_many_streams_at_once(go: Go) -> None:
    async def main() -> None:
        done: list[int] = []

        async def one(number: int) -> None:
            code = "for n in range(20): print(me, input(), flush=True)"
            async with belljar.astream(code, inputs={"me": number}, stdin=belljar.PIPE) as stream:
                stream.write("0\n")
                count = 0
                async for _, text in stream.lines():
                    assert text == f"{number} {count}"
                    count += 1
                    stream.write(f"{count}\n")
            assert count == 20
            done.append(number)

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(one, number)
        assert sorted(done) == list(range(20))

    go(main)


def test_R14_for_tasks_what_run_brings_along_comes_with_a_stream(go: Go, tmp_path: Path) -> None:
    (tmp_path / "from").write_bytes(b"the host's")
    shown: list[str] = []

    async def hear(artifact: Artifact) -> None:
        await anyio.sleep(0)
        shown.append(artifact.media_type)

    async def main() -> None:
        code = f"{SHOWS}\nprint(open('a').read(), double(2))"
        ours, theirs = belljar.channel()
        arguments: dict[str, Any] = {"files": {"a": tmp_path / "from"}, "on_artifact": hear}
        lent: dict[str, Any] = {"functions": {"double": lambda n: 2 * n}}
        lent["channels"] = {"jobs": theirs}
        async with belljar.astream(f"jobs.send(1)\n{code}", **arguments, **lent) as stream:
            assert (await stream.finish()).stdout.endswith("the host's 4\n")
        assert await ours.arecv() == 1
        with pytest.raises(ChannelClosed):
            await ours.arecv()
        del lent["channels"]
        async with AsyncSandbox(**lent) as sandbox:
            async with sandbox.stream(code, **arguments) as stream:
                result = await stream.finish()
            assert result.stdout.endswith("the host's 4\n")
        assert shown == ["text/html"] * 2

    go(main)
