"""X3, R15, K7: host functions in ``run`` and ``Sandbox``: called, bounded, revoked, interrupted."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any

import pytest

import belljar
from belljar import ClosedError, HostFunction, Policy, PolicyError, Sandbox

from .test_other_python import VERSIONS, find

pytestmark = pytest.mark.usefixtures("walls")


def search(query: str, limit: int = 10, *, deep: bool = False) -> list[str]:
    """Look things up."""
    return [query + "!" * deep] * limit


async def fetch(url: str) -> str:
    """Fetch a page."""
    await asyncio.sleep(0.01)
    return "got " + url


def echo(value: Any) -> Any:
    return value


ALL = {"search": search, "fetch": fetch, "echo": echo}


def value(code: str, policy: Policy | None = None, **functions: Any) -> Any:
    return belljar.run(code, policy, functions=functions or ALL).unwrap()


def test_they_are_ordinary_functions() -> None:
    code = """
import inspect, pickle, belljar.functions
from belljar.functions import search as again
assert pickle.loads(pickle.dumps(search)) is search is again is belljar.functions.search
assert belljar.functions.__all__ == ["search", "fetch", "echo"]
assert inspect.iscoroutinefunction(fetch)
[search("a", 2), search("b", limit=1, deep=True), str(inspect.signature(search)), search.__doc__]
"""
    found = value(code)
    assert found[:2] == [["a", "a"], ["b!"]]
    assert found[2] == "(query: 'str', limit: 'int' = 10, *, deep: 'bool' = False) -> 'list[str]'"
    assert found[3] == "Look things up."


def test_every_value_comes_through_as_it_is() -> None:
    code = """
import datetime, decimal
things = [None, 2**200, -1.5, "\\ud800", b"x", (1, [2]), {"a": {1}}, datetime.date(2024, 1, 1)]
all(echo(x) == x and type(echo(x)) is type(x) for x in things), echo(float("nan")) != 0
"""
    assert value(code) == (True, True)


def test_threads_and_tasks_call_at_once() -> None:
    code = """
import asyncio, threading
found = []
threads = [threading.Thread(target=lambda n=n: found.extend(search(str(n), 1))) for n in range(12)]
for t in threads: t.start()
for t in threads: t.join()
pages = await asyncio.gather(*[fetch(str(n)) for n in range(100)])
sorted(found, key=int) == [str(n) for n in range(12)], pages == [f"got {n}" for n in range(100)]
"""
    assert value(code) == (True, True)


def test_calls_in_threads_run_at_once_on_the_host() -> None:
    together = threading.Barrier(4)

    def meet() -> int:
        return together.wait(60)

    code = """
import threading
found = []
threads = [threading.Thread(target=lambda: found.append(meet())) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
sorted(found)
"""
    assert value(code, meet=HostFunction(meet, in_thread=True)) == [0, 1, 2, 3]


def test_on_the_callers_own_thread_if_nothing_else_is_said() -> None:
    found: list[int] = []
    value("note()", note=lambda: found.append(threading.get_ident()))
    value("note()", note=HostFunction(lambda: found.append(threading.get_ident()), in_thread=True))
    assert found[0] == threading.get_ident() != found[1]


def test_errors_cross_as_text_of_chosen_types() -> None:
    def fail(n: int) -> object:
        raise [ValueError("bad"), OSError(2, "gone", "/host/path"), KeyError("k")][n]

    code = """
found = []
for n in range(3):
    try: fail(n)
    except Exception as error: found.append((type(error).__name__, str(error)))
try: fail("x")
except TypeError as error: found.append(str(error))
try: fail()
except TypeError as error: found.append(str(error))
try: fail(object())
except TypeError as error: found.append(str(error)[:35])
found
"""
    assert value(code, fail=fail) == [
        ("ValueError", "bad"),
        ("RuntimeError", "fail failed"),
        ("KeyError", "'k'"),
        "fail: argument 'n': str is not an instance of int",
        "fail() missing 1 required positional argument: 'n'",
        "fail: its arguments: value[0][0] is",
    ]


def test_used_up() -> None:
    code = """
import belljar
found = [echo(1), echo(2)]
try: echo(3)
except belljar.SandboxError as error: found += [isinstance(error, PermissionError), error.__notes__]
found
"""
    result = belljar.run(code, functions={"echo": HostFunction(echo, calls=2)})
    note = "belljar refused echo; HostFunction(calls=...) would allow it"
    assert result.unwrap() == [1, 2, True, [note]]
    assert [(d.action, d.target, d.grant) for d in result.denials] == [
        ("call", "echo", "HostFunction(calls=...)")
    ]


@pytest.mark.parametrize("place", ["here", "thread", "loop"])
def test_revoked_during_a_call(place: str) -> None:
    """R15: in each place of execution what the function returns is not told."""
    began = threading.Event()
    over = threading.Event()

    def slow() -> str:
        began.set()
        over.wait(60)
        return "told"

    async def slow_awaited() -> str:
        began.set()
        await asyncio.sleep(60)
        return "told"

    function: Any = slow_awaited if place == "loop" else slow
    lent = HostFunction(function, in_thread=True if place == "thread" else None)

    def revoke() -> None:
        began.wait(60)
        lent.revoke()
        if place == "here":
            over.set()

    thread = threading.Thread(target=revoke)
    thread.start()
    call = "await slow()" if place == "loop" else "slow()"
    result = belljar.run(
        f"try: {call}\nexcept PermissionError as error: found = error.strerror\nfound",
        functions={"slow": lent},
    )
    over.set()
    thread.join()
    assert result.unwrap() == "slow: it was revoked"
    assert lent.revoked


@pytest.mark.parametrize("counts", [False, True])
def test_the_clock_during_a_call(counts: bool) -> None:
    lent = HostFunction(lambda: time.sleep(0.8), clock_runs=counts)
    result = belljar.run("slow(); 1", Policy().limit(wall_s=0.5), functions={"slow": lent})
    assert result.status == ("limit" if counts else "ok")


def test_pauses_have_an_end() -> None:
    """K7: a function that hangs in a thread does not keep the caller."""
    over = threading.Event()
    lent = HostFunction(lambda: over.wait(60), in_thread=True)
    result = belljar.run(
        "hang()", Policy().limit(wall_s=0.2, pause_s=0.3), functions={"hang": lent}
    )
    over.set()
    assert result.limit is not None
    assert result.limit.name == "wall"


def test_time_in_all() -> None:
    over = threading.Event()
    lent = HostFunction(lambda: over.wait(60), in_thread=True, total_s=0.1)
    result = belljar.run("hang()", functions={"hang": lent})
    over.set()
    assert result.error is not None
    assert "0.1 s are used up" in result.error.message


def test_what_goes_beyond_an_exception_goes_to_the_caller() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        belljar.run("stop()", functions={"stop": stop})
    with Sandbox(functions={"stop": stop, "echo": echo}) as sandbox:
        with pytest.raises(KeyboardInterrupt):
            sandbox.run("stop()")
        assert sandbox.run("echo(1)").unwrap() == 1
        with pytest.raises(KeyboardInterrupt):
            sandbox.run("stop()")  # its place was given back


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
def test_elsewhere_it_ends_the_call_alone(error: type[BaseException]) -> None:
    def leave() -> None:
        raise error

    async def leave_awaited() -> None:
        raise error

    code = """
found = []
try: leave()
except RuntimeError as error: found.append(str(error))
try: await leave_awaited()
except RuntimeError as error: found.append(str(error))
found + [await fetch("u")]
"""
    functions = {
        "leave": HostFunction(leave, in_thread=True),
        "leave_awaited": leave_awaited,
        "fetch": fetch,
    }
    assert value(code, **functions) == ["leave failed", "leave_awaited failed", "got u"]


def test_the_same_sandbox_is_busy() -> None:
    """From all three places: a wait for oneself would never end."""
    found: list[str] = []

    def again() -> None:
        for act in (lambda: sandbox.run("1"), sandbox.reset):
            with pytest.raises(ClosedError, match="busy"):
                act()
        found.append(belljar.run("1 + 1").unwrap())

    async def again_awaited() -> None:
        again()

    functions = {
        "here": again,
        "thread": HostFunction(again, in_thread=True),
        "loop": again_awaited,
    }
    with Sandbox(functions=functions) as sandbox:
        assert sandbox.run("here(); thread(); await loop(); 5").unwrap() == 5
        assert sandbox.run("6").unwrap() == 6
    assert found == [2, 2, 2]


def test_a_sandbox_keeps_its_functions_and_what_was_used() -> None:
    with Sandbox(functions={"echo": HostFunction(echo, calls=2), "search": search}) as sandbox:
        assert sandbox.run("echo(1)").unwrap() == 1
        sandbox.reset()
        assert sandbox.run("echo(2)").unwrap() == 2
        assert "used up" in sandbox.run("echo(3)").error.message  # type: ignore[union-attr]
        assert set(sandbox.functions) == {"echo", "search"}
        sandbox.functions.revoke("search")
        assert sandbox.functions.revoked == {"search"}
        assert "revoked" in sandbox.run("search('x')").error.message  # type: ignore[union-attr]
        sandbox.reset()
        assert "revoked" in sandbox.run("search('x')").error.message  # type: ignore[union-attr]


def test_a_sandbox_without_functions_has_none() -> None:
    policy = Policy().allow(abilities={"mail": 2})
    with Sandbox(policy) as sandbox:
        assert not sandbox.functions
        assert sandbox.functions.abilities.spend("mail") == 1
        assert sandbox.functions.abilities.left("mail") == 1
        assert sandbox.functions.revoked == frozenset()


def test_calls_from_threads_that_stay_go_on_with_the_next_run() -> None:
    code = """
import threading
found, stop = [], False
def work():
    while not stop:
        try: found.append(echo(1))
        except InterruptedError: pass
thread = threading.Thread(target=work, daemon=True)
thread.start()
"""
    with Sandbox(functions={"echo": echo}) as sandbox:
        sandbox.run(code).unwrap()
        counts = [
            sandbox.run("import time; time.sleep(0.05); len(found)").unwrap() for _ in range(4)
        ]
        assert counts == sorted(set(counts))
        sandbox.run("stop = True; thread.join()").unwrap()


def test_interrupts_during_calls_leave_the_sandbox_whole() -> None:
    """K6: wherever in a call the signal strikes, no frame is cut and no answer is mistaken."""

    def interrupt() -> None:
        while not sandbox.interrupt():
            time.sleep(0.0005)  # the run has not begun

    with Sandbox(functions={"echo": echo}) as sandbox:
        for turn in range(40):
            timer = threading.Timer(0.003 + turn * 0.0002, interrupt)
            timer.start()
            result = sandbox.run("n = 0\nwhile True:\n    n += 1\n    assert echo(n) == n")
            timer.join()
            assert result.error is not None
            assert result.error.type == "KeyboardInterrupt", result.error
            assert sandbox.run("echo('still')").unwrap() == "still"


def test_interrupt_close_and_lifetime_while_a_function_works() -> None:
    over = threading.Event()
    lent = HostFunction(lambda: over.wait(60), in_thread=True)
    with Sandbox(functions={"hang": lent}) as sandbox:
        timer = threading.Timer(0.1, sandbox.interrupt)
        timer.start()
        result = sandbox.run("hang()")
        assert result.error is not None
        assert result.error.type == "KeyboardInterrupt"
        threading.Timer(0.1, sandbox.close).start()
        with pytest.raises(ClosedError):
            sandbox.run("hang()")
    with (
        Sandbox(functions={"hang": lent}, lifetime_s=0.4) as sandbox,
        pytest.raises(ClosedError, match="time was over"),
    ):
        sandbox.run("hang()")
    over.set()


def test_a_run_that_ends_during_calls_does_not_wait_for_them() -> None:
    over = threading.Event()
    lent = HostFunction(lambda: over.wait(60), in_thread=True)
    code = "import threading; threading.Thread(target=hang, daemon=True).start(); 7"
    assert value(code, hang=lent) == 7
    over.set()


def test_a_finaliser_that_calls_amidst_a_call_gets_an_error_and_never_hangs() -> None:
    code = """
import signal
found = []
def handler(number, frame):
    try: found.append(echo("inside"))
    except RuntimeError as error: found.append("in the middle of another call" in str(error))
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.01)
for n in range(5):
    assert nap(n) == n
signal.setitimer(signal.ITIMER_REAL, 0)
set(found) <= {True, "inside"}, bool(found)
"""

    def nap(n: int) -> int:
        time.sleep(0.05)
        return n

    assert value(code, nap=nap, echo=echo) == (True, True)


def test_a_process_that_the_code_forks_cannot_call() -> None:
    code = """
import os
read, write = os.pipe()
pid = os.fork()
if pid == 0:
    try: echo(1)
    except RuntimeError as error: os.write(write, str(error).encode())
    os._exit(0)
os.waitpid(pid, 0)
os.read(read, 100).decode(), echo(2)
"""
    text = "echo: only the sandbox's first process can call the host"
    assert value(code, Policy().allow(processes=4)) == (text, 2)


def test_answers_are_of_any_size_while_others_ask() -> None:
    """Large answers to one thread and large questions of another: neither waits for the other."""
    code = """
import threading
def ask():
    for _ in range(5): assert take(b"x" * 900_000) == 900_000
def get():
    for _ in range(5): assert len(give()) == 4_000_000
threads = [threading.Thread(target=f) for f in (ask, get) * 3]
for t in threads: t.start()
for t in threads: t.join()
"""
    functions = {"take": len, "give": lambda: b"y" * 4_000_000}
    assert value(code, Policy().allow(wall_s=60, cpu_s=60), **functions) is None


def test_a_name_given_twice() -> None:
    with pytest.raises(PolicyError, match=r"functions\['x'\]"):
        belljar.run("x", inputs={"x": 1}, functions={"x": echo})


@pytest.mark.parametrize("version", VERSIONS)
def test_in_other_pythons(version: str) -> None:
    path = find(version)
    if path is None:
        pytest.skip(f"no Python {version} beside this one")
    code = """
import asyncio, sys
assert search("a", 2) == ["a", "a"]
pages = await asyncio.gather(fetch("u"), fetch("v"))
try: search(1)
except TypeError as error: pages.append(str(error))
pages
"""
    assert value(code, Policy().allow(python=path)) == [
        "got u",
        "got v",
        "search: argument 'query': int is not an instance of str",
    ]


def test_nothing_is_imported_for_runs_without() -> None:
    script = """
import sys, belljar
belljar.run("1")
for name in ("belljar.broker", "belljar.broker.functions", "typeguard",
             "belljar.drivers.desk", "asyncio"):
    assert name not in sys.modules, name
"""
    import subprocess

    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
