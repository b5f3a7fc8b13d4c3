"""M1, X10: ``AsyncSandbox`` and ``arun`` on asyncio and trio: the same core, awaited."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import random
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

import belljar
from belljar import AsyncSandbox, ClosedError, Policy, PolicyError, Sandbox, arun
from belljar.api.files import WorkFiles

Go = Callable[[Callable[[], Awaitable[Any]]], Any]
SLEEP = "import time; print('here', flush=True); time.sleep(60)"
STUBBORN = """
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


@pytest.fixture(params=["asyncio", "trio"])
def backend(request: pytest.FixtureRequest) -> str:
    """Both event loops."""
    name: str = request.param
    return name


@pytest.fixture
def go(backend: str) -> Go:
    """Runs a coroutine function in an event loop of its own."""
    return lambda function: anyio.run(function, backend=backend)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No descriptor, no process, no thread of belljar's that was not there before the test."""
    belljar.run("None")  # so that the zygote is there
    descriptors, processes = open_descriptors(), descendants()
    threads = {*threading.enumerate()}
    yield
    # The kernel closes and ends in its own time.
    until = time.monotonic() + 20
    while time.monotonic() < until:
        left = descendants() - processes
        if not left and open_descriptors() <= descriptors:
            break
        time.sleep(0.01)
    assert not descendants() - processes
    assert open_descriptors() <= descriptors
    assert "belljar" not in {thread.name for thread in {*threading.enumerate()} - threads}


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def descendants() -> set[int]:
    """The numbers of all processes that come from this one."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue  # it has just ended
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


class Heard:
    """An ``on_output`` that says when the first bytes have come."""

    def __init__(self) -> None:
        self.event = anyio.Event()

    async def __call__(self, stream: str, data: bytes) -> None:
        self.event.set()


# --- the same interface -----------------------------------------------------------------------


def test_M1_it_has_what_Sandbox_has() -> None:
    renamed = {"close": "aclose", "__enter__": "__aenter__", "__exit__": "__aexit__"}
    # Branches are driven by threads alone.
    names = [name for name in dir(Sandbox) if name[0] != "_" and name not in ("fork", "branches")]
    for name in [*names, "__init__", "__enter__", "__exit__"]:
        there, here = getattr(Sandbox, name), getattr(AsyncSandbox, renamed.get(name, name))
        if not callable(there):
            continue
        ours, theirs = inspect.signature(here), inspect.signature(there)
        expected = {key: one for key, one in theirs.parameters.items() if key != "branches"}
        assert dict(ours.parameters) == expected, name
        # Files in memory are read and written at once.
        at_once = ("interrupt", "due", "expire", "stream", "__init__", *vars(WorkFiles))
        awaited = name not in at_once
        assert inspect.iscoroutinefunction(here) is awaited, name
    more = {name for name in dir(AsyncSandbox) if name[0] != "_"} - set(names)
    assert more == {"aclose", "start"}


def test_X10_arun_takes_what_run_takes() -> None:
    ours, theirs = inspect.signature(arun), inspect.signature(belljar.run)
    assert list(ours.parameters) == list(theirs.parameters)
    defaults = [each.default for each in theirs.parameters.values()]
    assert [each.default for each in ours.parameters.values()] == defaults


def test_X1_whoever_does_not_await_does_not_load_anyio() -> None:
    code = (
        "import sys, belljar; belljar.run('1')\nwith belljar.Sandbox() as sandbox:\n"
        "    sandbox.run('1')\nassert not {'anyio', 'asyncio', 'typing'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- values, state, errors --------------------------------------------------------------------


def test_M1_names_stay(go: Go) -> None:
    async def main() -> None:
        async with AsyncSandbox(inputs={"x": 20}, files={"a.txt": "text"}) as sandbox:
            await sandbox.run("def add(n): return x + n\nprint('out')")
            assert (await sandbox.run("add(1)")).value == 21
            assert await sandbox.call("add", 2) == 22
            await sandbox.set(x=30)
            assert await sandbox.get("x") == 30
            assert (
                await sandbox.run("open('a.txt').read() + input()", stdin="!\n")
            ).value == "text!"
            assert len(sandbox.history) == 5
            steps = sandbox.history
            await sandbox.reset()
            assert sandbox.history == ()
            with pytest.raises(belljar.GuestRaised):
                await sandbox.get("add")
            await sandbox.set(x=20)
            assert [r.status for r in await sandbox.replay(steps)] == ["ok"] * 5
            assert await sandbox.get("x") == 30
            assert repr(sandbox) == "<belljar.AsyncSandbox open>"
        assert sandbox.closed
        with pytest.raises(ClosedError):
            await sandbox.run("1")

    go(main)


def test_M1_bad_outcomes_are_results(go: Go) -> None:
    async def main() -> None:
        async with AsyncSandbox() as sandbox:
            assert (await sandbox.run("1 / 0")).status == "raised"
            assert (await sandbox.run("raise SystemExit(3)")).exit_code == 3
            assert (await sandbox.run("1")).status == "ok"
            with pytest.raises(belljar.GuestRaised):
                await sandbox.call("int", "x")
            assert (await sandbox.run("import os; os.abort()")).status == "crashed"
            with pytest.raises(ClosedError, match="signal 6"):
                await sandbox.run("1")
            await sandbox.reset()
            assert (await sandbox.run("2")).value == 2

    go(main)


@pytest.mark.parametrize(
    ("code", "limit", "limits"),
    [
        ("while True: pass", "wall", {"wall_s": 0.1}),
        ("while True: pass", "cpu", {"cpu_s": 0.1}),
        ("while True: print('x' * 999)", "output", {"output_bytes": 9999}),
    ],
)
def test_M1_limits_end_it(go: Go, code: str, limit: str, limits: dict[str, float]) -> None:
    async def main() -> None:
        async with AsyncSandbox() as sandbox:
            result = await sandbox.run(code, **limits)
            assert result.limit is not None
            assert result.limit.name == limit
            with pytest.raises(ClosedError, match=limit):
                await sandbox.run("1")
        result = await arun(code, Policy().limit(**limits))
        assert result.limit is not None
        assert result.limit.name == limit

    go(main)


def test_M1_arguments_are_checked_before_anything_starts() -> None:
    """Without an event loop, too."""
    with pytest.raises(PolicyError, match="idle_s"):
        AsyncSandbox(idle_s=0)
    with pytest.raises(PolicyError, match="policy"):
        AsyncSandbox("read")  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match="preload"):
        AsyncSandbox(preload="json")


def test_M1_it_is_started_once_and_before_it_is_used(go: Go) -> None:
    async def main() -> None:
        sandbox = AsyncSandbox()
        with pytest.raises(ClosedError, match="async with"):
            await sandbox.run("1")
        assert await sandbox.start() is sandbox
        with pytest.raises(ClosedError, match="before"):
            await sandbox.start()
        assert (await sandbox.run("1")).value == 1
        await sandbox.aclose()
        await sandbox.aclose()

    go(main)


def test_M1_it_belongs_to_its_event_loop(go: Go) -> None:
    sandbox = AsyncSandbox()
    go(sandbox.start)

    async def main() -> None:
        with pytest.raises(ClosedError, match="another event loop"):
            await sandbox.run("1")
        await sandbox.aclose()

    go(main)


def test_M1_forgotten_it_ends_with_a_warning(go: Go) -> None:
    async def main() -> None:
        sandbox = await AsyncSandbox().start()
        with pytest.warns(ResourceWarning, match="unclosed"):
            del sandbox

    go(main)


# --- output, input ----------------------------------------------------------------------------


def test_R13_listeners_are_awaited_while_the_clock_stands_still(go: Go) -> None:
    told: list[tuple[str, bytes]] = []

    async def listen(stream: str, data: bytes) -> None:
        await anyio.sleep(1)
        told.append((stream, data))

    async def main() -> None:
        async with AsyncSandbox(Policy().limit(wall_s=0.5), on_output=listen) as sandbox:
            assert (await sandbox.run("print(1, flush=True); 2")).value == 2
            assert told == [("stdout", b"1\n")]
            told.clear()
            # One that is not a coroutine function, in its place.
            await sandbox.run("print(3)", on_output=lambda *said: told.append(said))
            assert told == [("stdout", b"3\n")]
        told.clear()
        result = await arun("print(4, flush=True); 5", Policy().limit(wall_s=0.5), on_output=listen)
        assert (result.value, told) == (5, [("stdout", b"4\n")])

    go(main)


def test_R13_a_slow_listener_gets_everything_in_order(go: Go) -> None:
    told = bytearray()

    async def listen(stream: str, data: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        told.extend(data)

    async def main() -> None:
        policy = Policy().allow(output_bytes=10**7)
        async with AsyncSandbox(policy) as sandbox:
            code = "for i in range(200_000): print(i)"
            result = await sandbox.run(code, on_output=listen)
            assert bytes(told) == result.stdout_bytes
            assert told.count(b"\n") == 200_000

    go(main)


def test_R13_usage_is_told(go: Go) -> None:
    told: list[belljar.UsageNow] = []

    async def listen(usage: belljar.UsageNow) -> None:
        await anyio.sleep(0)
        told.append(usage)

    async def main() -> None:
        async with AsyncSandbox() as sandbox:
            await sandbox.run("import time; time.sleep(0.5)", on_usage=listen)
            assert told
            told.clear()
            await anyio.sleep(0.2)
            await sandbox.run("1")
            assert not told
        await arun("import time; time.sleep(0.5)", on_usage=listen)
        assert told

    go(main)


def test_M1_what_a_listener_raises_is_raised_and_the_sandbox_stays(go: Go) -> None:
    async def fail(stream: str, data: bytes) -> None:
        await anyio.sleep(0)
        raise OSError("mine")

    async def main() -> None:
        async with AsyncSandbox(inputs={"x": 1}) as sandbox:
            for code in ("print(1)", SLEEP):
                with pytest.raises(OSError, match="mine"):
                    await sandbox.run(code, on_output=fail, value_bytes=1024)
                # Nor do the limits of that run.
                assert len((await sandbox.run("x and 'a' * 10_000")).value) == 10_000
        with pytest.raises(OSError, match="mine"):
            await arun(SLEEP, on_output=fail)

    go(main)


def test_M1_a_listener_cannot_use_its_own_sandbox_but_close_it(go: Go) -> None:
    async def main() -> None:
        async with AsyncSandbox() as sandbox:

            async def again(stream: str, data: bytes) -> None:
                await sandbox.run("1")

            async def close(stream: str, data: bytes) -> None:
                await sandbox.aclose()

            with pytest.raises(ClosedError, match="busy"):
                await sandbox.run("print(1)", on_output=again)
            assert (await sandbox.run("1")).value == 1
            with pytest.raises(ClosedError):
                await sandbox.run(SLEEP, on_output=close)

    go(main)


def test_R14_true_streams(go: Go, capfd: pytest.CaptureFixture[str]) -> None:
    policy = Policy().allow(streams=["stdout", "stderr"])
    told: list[bytes] = []

    async def main() -> None:
        await arun("print('one')", policy)
        async with AsyncSandbox(policy) as sandbox:
            await sandbox.run("import sys; print('two', file=sys.stderr)")
            await sandbox.run("print('three')", on_output=lambda _, data: told.append(data))

    go(main)
    assert capfd.readouterr() == ("one\n", "two\n")
    assert told == [b"three\n"]


def test_R14_a_true_stream_that_nobody_reads_holds_up_nobody_else(backend: str) -> None:
    code = f"""
import anyio, belljar, os
from belljar import Policy
async def main():
    policy = Policy().allow(streams=["stdout"]).allow(output_bytes=10**7)
    with anyio.move_on_after(60) as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(belljar.arun, "print('x' * 10**6)", policy)
            await anyio.sleep(0.5)
            assert (await belljar.arun("1")).value == 1
            os.write(2, b"free")
    assert not scope.cancelled_caught
anyio.run(main, backend={backend!r})
"""
    command = [sys.executable, "-W", "error", "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.read(4) == b"free"  # with nobody reading from stdout so far
        assert len(process.stdout.read()) == 10**6 + 1
        assert process.stderr.read() == b""
        assert process.wait() == 0


@pytest.mark.parametrize("source", ["file", "null", "pipe"])
def test_R14_true_standard_input(backend: str, source: str, tmp_path: Any) -> None:
    """An epoll knows no files and no null device."""
    code = f"""
import anyio, belljar
from belljar import Policy
async def main():
    policy = Policy().allow(streams=["stdin"])
    result = await belljar.arun("import sys; len(sys.stdin.read())", policy)
    print(result.unwrap())
anyio.run(main, backend={backend!r})
"""
    text = b"x" * 300_000
    path = tmp_path / "text"
    path.write_bytes(text)
    with path.open("rb") as file:
        how: Any = {"file": file, "pipe": subprocess.PIPE}.get(source, subprocess.DEVNULL)
        command = [sys.executable, "-W", "error", "-c", code]
        with subprocess.Popen(command, stdin=how, stdout=subprocess.PIPE) as process:
            out, _ = process.communicate(text if source == "pipe" else None, timeout=60)
    assert process.returncode == 0
    assert int(out) == (len(text) if source in ("file", "pipe") else 0)


# --- one at a time ----------------------------------------------------------------------------


def test_M1_one_run_at_a_time_and_the_others_wait(go: Go) -> None:
    order: list[int] = []

    async def main() -> None:
        async with AsyncSandbox(inputs={"seen": []}) as sandbox:

            async def one(number: int) -> None:
                await sandbox.run(
                    "import time; time.sleep(0.01); seen.append(n)", inputs={"n": number}
                )
                order.append(number)

            async with anyio.create_task_group() as group:
                for number in range(10):
                    group.start_soon(one, number)
            assert await sandbox.get("seen") == order
            assert sorted(order) == list(range(10))

    go(main)


def test_M1_who_waits_can_be_cancelled(go: Go) -> None:
    results: list[Any] = []

    async def main() -> None:
        async with AsyncSandbox() as sandbox, anyio.create_task_group() as group:
            heard = Heard()

            async def first() -> None:
                code = "print(1, flush=True); import time; time.sleep(0.5); 'done'"
                results.append((await sandbox.run(code, on_output=heard)).value)

            group.start_soon(first)
            await heard.event.wait()
            with anyio.move_on_after(0.05) as scope:
                await sandbox.run("1")
            assert scope.cancelled_caught
            assert not results
            assert len(sandbox.history) == 1

    go(main)
    assert results == ["done"]


# --- cancelling and interrupting ---------------------------------------------------------------


def test_M1_cancelling_leaves_it_as_the_code_has_left_it(go: Go) -> None:
    async def main() -> None:
        async with AsyncSandbox() as sandbox:
            for code in (SLEEP, "print(1, flush=True)\nwhile True: pass"):
                async with anyio.create_task_group() as group:
                    heard = Heard()
                    group.start_soon(_run, sandbox, f"before = 1\n{code}\nafter = 1", heard)
                    await heard.event.wait()
                    group.cancel_scope.cancel()
                assert (await sandbox.run("before, 'after' in globals()")).value == (1, False)
                await sandbox.run("del before")

    go(main)


async def _run(sandbox: AsyncSandbox, code: str, heard: Heard) -> None:
    await sandbox.run(code, on_output=heard)


def test_M1_code_that_does_not_end_is_ended(go: Go) -> None:
    async def main() -> None:
        async with AsyncSandbox() as sandbox:
            async with anyio.create_task_group() as group:
                heard = Heard()
                group.start_soon(_run, sandbox, STUBBORN, heard)
                await heard.event.wait()
                group.cancel_scope.cancel()
            with pytest.raises(ClosedError):
                await sandbox.run("1")
            await sandbox.reset()
            assert (await sandbox.run("1")).value == 1

    go(main)


def test_M1_a_task_of_asyncio_that_is_cancelled() -> None:
    """``Task.cancel`` knows no shield: asked again, it does not wait for the code."""

    async def main() -> None:
        async with AsyncSandbox() as sandbox:
            for code, stays in ((SLEEP, True), (STUBBORN, False)):
                heard = Heard()
                task = asyncio.create_task(sandbox.run(code, on_output=heard))
                await heard.event.wait()
                task.cancel()
                if not stays:
                    await asyncio.sleep(0.01)
                    task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                if stays:
                    assert (await sandbox.run("1")).value == 1
                else:
                    with pytest.raises(ClosedError):
                        await sandbox.run("1")

    asyncio.run(main())


def test_M1_a_timeout_of_asyncio() -> None:
    async def main() -> None:
        async with AsyncSandbox() as sandbox:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await sandbox.run(SLEEP)
            assert (await sandbox.run("1")).value == 1
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(arun(SLEEP), 0.1)

    asyncio.run(main())


def test_M1_cancelled_in_a_listener(go: Go) -> None:
    async def main() -> None:
        async with AsyncSandbox() as sandbox:
            with anyio.move_on_after(5) as scope:

                async def listen(stream: str, data: bytes) -> None:
                    scope.cancel()
                    await anyio.sleep(60)

                await sandbox.run(SLEEP, on_output=listen)
            assert scope.cancelled_caught
            assert (await sandbox.run("1")).value == 1

    go(main)


@pytest.mark.parametrize("seed", range(3))
def test_M1_cancelled_at_random_moments(go: Go, seed: int) -> None:
    """Starts, runs and ends: what was done is done, and nothing is done twice."""
    moments = random.Random(seed)

    async def main() -> None:
        async with AsyncSandbox(inputs={"n": 0}) as sandbox:
            done = 0
            for _ in range(60):
                with anyio.move_on_after(moments.uniform(0, 0.004)) as scope:
                    result = await sandbox.run("for _ in range(20_000): pass\nn += 1; n")
                    assert result.value == done + 1
                assert scope.cancelled_caught or result.status == "ok"
                n = await sandbox.get("n")
                assert n in ((done, done + 1) if scope.cancelled_caught else (done + 1,))
                done = n
        for _ in range(20):
            with anyio.move_on_after(moments.uniform(0, 0.02)):
                assert (await arun("6 * 7")).value == 42
            with anyio.move_on_after(moments.uniform(0, 0.02)):
                async with AsyncSandbox() as sandbox:
                    assert (await sandbox.run("6 * 7")).value == 42

    go(main)


def test_M1_cancelled_while_the_zygote_starts(go: Go) -> None:
    """The thread that starts it ends on its own, and keeps nothing."""
    policies = [Policy().allow(env={"N": str(n)}, system_info=bool(n % 2)) for n in range(4)]

    async def main() -> None:
        for n, policy in enumerate(policies):
            with anyio.move_on_after(0.001 * n):
                await arun("1", policy, preload=["json"])
            assert (await arun("1", policy, preload=["json"])).value == 1
        machine = sys.modules["belljar.api.machine"]
        until = time.monotonic() + 20
        while any(z.users for z in machine._known.zygotes.values()) and time.monotonic() < until:
            await anyio.sleep(0.01)
        assert not any(zygote.users for zygote in machine._known.zygotes.values())

    belljar.close()
    go(main)
    belljar.close()


def test_M1_interrupt(go: Go) -> None:
    async def main() -> None:
        async with AsyncSandbox() as sandbox:
            assert not sandbox.interrupt()
            for from_thread in (False, True):
                asked: list[bool] = []

                async def ask(
                    stream: str, data: bytes, how: bool = from_thread, said: list[bool] = asked
                ) -> None:
                    act = anyio.to_thread.run_sync(sandbox.interrupt) if how else None
                    said.append(sandbox.interrupt() if act is None else await act)

                result = await sandbox.run(SLEEP, on_output=ask)
                assert asked == [True]
                assert result.error is not None
                assert result.error.type == "KeyboardInterrupt"
            assert (await sandbox.run("1")).value == 1

    go(main)


# --- closing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [SLEEP, STUBBORN], ids=["sleeping", "stubborn"])
def test_M1_closing_while_it_runs(go: Go, code: str) -> None:
    async def main() -> None:
        sandbox = await AsyncSandbox().start()
        failures: list[str] = []

        async def run(code: str, heard: Heard) -> None:
            try:
                await sandbox.run(code, on_output=heard)
            except ClosedError:
                failures.append(code)

        async with anyio.create_task_group() as group:
            heard = Heard()
            group.start_soon(run, code, heard)
            await heard.event.wait()
            group.start_soon(run, "1", heard)  # which waits
            await anyio.sleep(0)
            await sandbox.aclose()
        assert sorted(failures) == sorted([code, "1"])

    go(main)


def test_M1_closing_while_a_listener_waits(go: Go) -> None:
    async def main() -> None:
        sandbox = await AsyncSandbox().start()
        heard = anyio.Event()

        async def listen(stream: str, data: bytes) -> None:
            heard.set()
            await anyio.sleep_forever()

        async def run() -> None:
            with pytest.raises(ClosedError):
                await sandbox.run(SLEEP, on_output=listen)

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await heard.wait()
            await sandbox.aclose()

    go(main)


def test_M1_closing_while_it_starts(go: Go) -> None:
    async def main() -> None:
        for rounds in range(12):
            sandbox = AsyncSandbox()

            async def start(sandbox: AsyncSandbox = sandbox) -> None:
                try:
                    await sandbox.start()
                except ClosedError:
                    return

            async with anyio.create_task_group() as group:
                group.start_soon(start)
                for _ in range(rounds):
                    await anyio.lowlevel.checkpoint()
                await sandbox.aclose()
            if sandbox.closed:
                with pytest.raises(ClosedError):
                    await sandbox.run("1")
            await sandbox.aclose()

    go(main)


def test_M1_lifetimes(go: Go) -> None:
    async def main() -> None:
        async with AsyncSandbox(idle_s=0.1) as sandbox:
            while not sandbox.closed:
                await anyio.sleep(0.01)
            with pytest.raises(ClosedError, match="time was over"):
                await sandbox.run("1")
        async with AsyncSandbox(lifetime_s=0.3) as sandbox:
            with pytest.raises(ClosedError, match="time was over"):
                await sandbox.run(SLEEP)

    go(main)
    for thread in threading.enumerate():
        if thread.name == "belljar":
            thread.join(20)


# --- failures of the host ------------------------------------------------------------------------


def test_K10_a_zygote_that_ends_is_a_typed_failure(go: Go) -> None:
    async def main() -> None:
        async with AsyncSandbox() as sandbox:

            async def end(stream: str, data: bytes) -> None:
                belljar.close()

            with pytest.raises(belljar.WorkerDied):
                await sandbox.run(SLEEP, on_output=end)
            with pytest.raises(ClosedError):
                await sandbox.run("1")
            await sandbox.reset()
            belljar.close()
            with pytest.raises((ClosedError, belljar.WorkerDied)):
                await sandbox.run("1")
            await sandbox.reset()
            assert (await sandbox.run("1")).value == 1
            with pytest.raises(belljar.WorkerDied):
                await arun(SLEEP, on_output=end)

    go(main)


def test_K10_no_descriptors_left_is_a_typed_failure(go: Go) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main() -> None:
        await arun("1")
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))
        fillers = [os.dup(0)]
        while fillers[-1] < highest:
            fillers.append(os.dup(0))
        taken = fillers[-1] + 1
        met: set[str] = set()
        for room in range(24):
            resource.setrlimit(resource.RLIMIT_NOFILE, (taken + room, hard))
            try:
                async with AsyncSandbox() as sandbox:
                    assert (await sandbox.run("1")).value == 1
                    met.add("lives")
                assert (await arun("1")).value == 1
                met.add("runs")
            except belljar.SandboxFailure as error:
                met.add("fails" if error.retryable else "fails for ever")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fillers:
            os.close(fd)
        assert met == {"fails", "lives", "runs"}

    go(main)


# --- many -----------------------------------------------------------------------------------------


# In one run: a plain function twice, an async one many times at once, what fails, what may be gone.
ASK = """
import asyncio
found = [own(me, n)]
if not n % 10:
    found.append(threaded(me, n))
found.append(list(await asyncio.gather(*[fetch(me, n, k) for k in range(3)])))
for function in (fail, lent):
    try:
        found.append(function(me))
    except Exception as error:
        found.append((type(error).__name__, str(error)))
n += 1
print(me)
found, n
"""


class Figures:
    """What many have done together."""

    def __init__(self, count: int) -> None:
        self.rounds = [0] * count
        self.cancelled = self.ended = self.most_threads = 0
        self.calls = self.refused = self.slow = self.given_up = 0


def _lent_to(number: int, figures: Figures) -> dict[str, Callable[..., Any]]:
    """Functions for one of many; each knows whom it was lent to."""
    moments = random.Random(-number)

    def called_by(me: int) -> None:
        assert me == number
        figures.calls += 1

    def own(me: int, n: int) -> tuple[int, int]:
        called_by(me)
        return me, n

    def threaded(me: int, n: int) -> tuple[int, int]:
        called_by(me)
        time.sleep(moments.uniform(0, 0.005))
        return n, me

    async def fetch(me: int, n: int, k: int) -> str:
        called_by(me)
        await anyio.sleep(moments.uniform(0, 0.02))
        return f"{me}.{n}.{k}"

    def fail(me: int) -> None:
        called_by(me)
        raise ValueError(f"{me} as asked")

    def lent(me: int) -> int:
        called_by(me)
        return -me

    async def slow(me: int) -> None:
        called_by(me)
        figures.slow += 1
        try:
            await anyio.sleep_forever()
        finally:
            figures.given_up += 1

    return {
        "own": belljar.HostFunction(own, in_thread=False),
        "threaded": threaded,
        "fetch": fetch,
        "fail": belljar.HostFunction(fail, in_thread=False),
        "lent": belljar.HostFunction(lent, in_thread=False),
        "slow": slow,
    }


def _answers(number: int, n: int, revoked: bool) -> tuple[list[object], int]:
    """What ``ASK`` has to come to."""
    found: list[object] = [(number, n)]
    if not n % 10:
        found.append((n, number))
    found.append([f"{number}.{n}.{k}" for k in range(3)])
    found.append(("ValueError", f"{number} as asked"))
    refused = ("FunctionRefused", "[Errno 1] lent: it was revoked")
    found.append(refused if revoked else -number)
    return found, n + 1


async def _live_for(seconds: float, number: int, figures: Figures) -> None:
    """One of many: runs, calls, cancels and now and then starts afresh, and checks each result."""
    moments = random.Random(number)
    until = time.monotonic() + seconds
    policy = Policy().allow(wall_s=60)
    functions = _lent_to(number, figures)
    async with AsyncSandbox(policy, inputs={"me": number, "n": 0}, functions=functions) as sandbox:
        n = 0
        while True:
            figures.rounds[number] += 1
            if moments.random() < 0.3:
                # Asleep, or waiting for a function of ours that does not come back.
                code = moments.choice(["import time; time.sleep(10)", "await slow(me)"])
                with anyio.move_on_after(moments.uniform(0, 0.2)) as scope:
                    await sandbox.run(code)
                assert scope.cancelled_caught
                figures.cancelled += 1
                if sandbox.ended:  # two processors for all: it did not get one within a second
                    assert sandbox.ended == "it ended while it ran"
                    figures.ended += 1
                    await sandbox.reset()
                    n = 0
            revoked = "lent" in sandbox.functions.revoked
            result = await sandbox.run(ASK)
            assert result.unwrap() == _answers(number, n, revoked)
            assert result.stdout == f"{number}\n"
            n += 1
            figures.refused += revoked
            assert await sandbox.call("max", number, -1) == number
            if moments.random() < 0.1:
                sandbox.functions.revoke("lent")
            if moments.random() < 0.05:
                await sandbox.reset()
                assert await sandbox.get("me") == number
                n = 0
            figures.most_threads = max(figures.most_threads, threading.active_count())
            if time.monotonic() >= until:
                return


async def _many(count: int, seconds: float) -> Figures:
    figures = Figures(count)
    async with anyio.create_task_group() as group:
        for number in range(count):
            group.start_soon(_live_for, seconds, number, figures)
    assert all(figures.rounds)
    assert figures.slow == figures.given_up
    # What is plain and not to be called in place has a thread for each call, and nothing else has.
    assert figures.most_threads < 10 + count // 5
    return figures


def test_M1_a_hundred_in_one_event_loop(go: Go) -> None:
    async def main() -> None:
        await _many(100, 0)

    go(main)


@pytest.mark.long
def test_M1_five_hundred_in_one_event_loop_for_a_minute(go: Go) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def main() -> None:
        await _many(20, 0)  # what is made once is there
        tasks = len(anyio.get_running_tasks())
        gc.collect()
        pieces, resident = sys.getallocatedblocks(), resident_bytes()
        figures = await _many(500, 60)
        most = resident_bytes()
        gc.collect()
        rounds, left = sum(figures.rounds), sys.getallocatedblocks() - pieces
        print(f"{rounds} rounds, {figures.calls} calls, {figures.refused} refused,", end=" ")
        print(f"{figures.given_up} given up, {figures.cancelled} runs cancelled,", end=" ")
        print(f"{figures.ended} sandboxes ended by it, {figures.most_threads} threads,", end=" ")
        print(f"{left} pieces of memory more,", end=" ")
        print(f"resident {resident >> 20} -> {most >> 20} MiB")
        assert left < rounds  # not one piece for each
        assert len(anyio.get_running_tasks()) == tasks

    try:
        go(main)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_X10_many_runs_at_once(go: Go) -> None:
    async def main() -> None:
        values: list[Any] = []

        async def one(number: int) -> None:
            values.append((await arun("n * n", inputs={"n": number})).value)

        async with anyio.create_task_group() as group:
            for number in range(60):
                group.start_soon(one, number)
        assert sorted(values) == [number * number for number in range(60)]

    go(main)
