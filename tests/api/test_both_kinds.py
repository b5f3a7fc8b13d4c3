"""M1: a program does the same in a sandboxed interpreter, awaited or not, and in a trusted one.

What: each program is a list of runs, with what is to come of each.  Because: code is tried in
the one kind and used in the other.  Then: both are held against the same expectation, and
against each other, tracebacks included.
"""

from __future__ import annotations

import inspect
import io
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

import belljar
from belljar import AsyncSandbox, ClosedError, PolicyError, Result, Sandbox, Trusted


class Awaited:
    """An ``AsyncSandbox`` that is awaited in another thread, so that it is used as the others."""

    def __init__(self, **arguments: Any) -> None:
        self._sandbox = AsyncSandbox(**arguments)
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal())
            self._portal.call(self._sandbox.start)
            self._stack = stack.pop_all()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._sandbox, name)
        if not inspect.iscoroutinefunction(found):
            return found
        return lambda *args, **kwargs: self._portal.call(partial(found, *args, **kwargs))

    def __enter__(self) -> Awaited:
        return self

    def __exit__(self, *_: object) -> None:
        self._portal.call(self._sandbox.aclose)
        self._stack.close()


KINDS: dict[str, Callable[..., Any]] = {
    "sandbox": Sandbox,
    "trusted": Trusted,
    "awaited": Awaited,
}

# name -> runs; each is code and what its result must say.  Fields left out are what a run that
# only computes has.
PROGRAMS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "a value": [("6 * 7", {"value": 42})],
    "no value": [("x = 1", {}), ("", {})],
    "names stay": [("x = 20", {}), ("def f(y): return x + y", {}), ("f(1)", {"value": 21})],
    "imports stay": [("import json", {}), ("json.dumps([1])", {"value": "[1]"})],
    "many types": [
        (
            "import decimal, datetime\n"
            "[None, True, 2**70, -1.5, 1j, 'ü\\udc80', b'\\0', (1,), {'a': {2}}, frozenset(),\n"
            " decimal.Decimal('1.1'), datetime.date(2000, 1, 2)]",
            {},
        )
    ],
    "streams": [
        (
            "import sys\nprint('a')\nprint('b', file=sys.stderr)\nsys.stdout.write('ü')",
            {"value": 1, "stdout": "a\nü", "stderr": "b\n"},
        )
    ],
    "no input": [("input()", {"status": "raised", "error": "EOFError"})],
    "an exception": [
        (
            "def f():\n    return 1 / 0\nx = 1\nf()",
            {"status": "raised", "error": "ZeroDivisionError"},
        ),
        ("x", {"value": 1}),
    ],
    "a chain of exceptions": [
        (
            "try:\n    {}['a']\nexcept KeyError as error:\n    raise ValueError('b') from error",
            {"status": "raised", "error": "ValueError"},
        )
    ],
    "a class of its own": [
        (
            "class E(Exception):\n    def __str__(self): raise SystemExit\nraise E",
            {"status": "raised", "error": "E"},
        )
    ],
    "a syntax error": [("1 +", {"status": "raised", "error": "SyntaxError"}), ("2", {"value": 2})],
    "nested too deeply": [
        ("-" * 100_000 + "1", {"status": "raised", "error": "RecursionError"}),
        ("1", {"value": 1}),
    ],
    "recursion": [("def f(): f()\nf()", {"status": "raised", "error": "RecursionError"})],
    "printed tracebacks have their source": [
        ("import traceback", {}),
        (
            "def f(): raise KeyError\ntry:\n    f()\nexcept KeyError:\n    print(traceback.format_exc())",
            {"stdout": ...},
        ),
        ("1 / 0  # as a third", {"status": "raised", "error": "ZeroDivisionError"}),
    ],
    "exit": [
        ("import sys; sys.exit(3)", {"status": "exited", "exit_code": 3}),
        ("exit()", {"status": "exited", "exit_code": 0}),
        ("raise SystemExit('bye')", {"status": "exited", "exit_code": 1, "stderr": "bye\n"}),
        ("'still here'", {"value": "still here"}),
    ],
    "an end": [("import os; os._exit(5)", {"status": "exited", "exit_code": 5})],
    "a signal": [("import os; os.kill(os.getpid(), 11)", {"status": "crashed", "signal": 11})],
    "a crash": [
        ("import faulthandler; faulthandler._sigabrt()", {"status": "crashed", "signal": 6})
    ],
    "await": [
        ("import asyncio\nasync def f(): return 1\nq = asyncio.Queue()\nawait f()", {"value": 1}),
        ("q.put_nowait(2); await q.get()", {"value": 2}),
    ],
    "threads go on": [
        ("import threading, time; e = threading.Event(); n = []", {}),
        (
            "t = threading.Thread(target=lambda: (e.wait(), n.append(1)), daemon=True); t.start()",
            {},
        ),
        ("e.set(); t.join(); n", {"value": [1]}),
    ],
    "files": [
        ("open('a.txt', 'w').write('b')", {"value": 1}),
        ("open('a.txt').read()", {"value": "b"}),
        ("import os; os.listdir()", {"value": ["a.txt"]}),
        ("open('nothing')", {"status": "raised", "error": "FileNotFoundError"}),
    ],
    "a value that cannot cross": [
        ("object()", {"value_error": ...}),
        ("[1, [len]]", {"value_error": ...}),
    ],
    "a cycle": [("a = []; a.append(a); a", {"value_error": ...})],
    "where it is": [("__name__, __builtins__.__name__", {"value": ("__main__", "builtins")})],
    "what belljar has inside": [
        (
            "import belljar; belljar.usage().cpu_s > 0, 'wall_s' in belljar.limits",
            {"value": (True, True)},
        ),
        ("issubclass(belljar.ModuleRefused, belljar.SandboxError)", {"value": True}),
    ],
}


def plain(result: Result) -> dict[str, Any]:
    """What a result says, without what cannot be the same twice."""
    error = result.error
    if error is not None:  # how many frames of ours lie below the code's is nobody's business
        error = error.replace(traceback=re.sub(r"repeated \d+ more", "", error.traceback))
    return {
        "status": result.status,
        "value": result.value,
        "value_error": result.value_error,
        "stdout": result.stdout,
        "stderr": result.stderr,
        "error": error,
        "exit_code": result.exit_code,
        "signal": result.signal,
        "limit": None if result.limit is None else result.limit.name,
        "truncated": result.truncated,
    }


def outcomes(kind: str, name: str) -> list[dict[str, Any]]:
    with KINDS[kind]() as interpreter:
        return [plain(interpreter.run(code)) for code, _ in PROGRAMS[name]]


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("kind", KINDS)
def test_M1_a_program_does_what_it_should(kind: str, name: str) -> None:
    nothing = {"status": "ok", "value": None, "value_error": None, "stdout": "", "stderr": ""}
    nothing |= {"error": None, "exit_code": None, "signal": None, "limit": None}
    for found, (code, wanted) in zip(outcomes(kind, name), PROGRAMS[name], strict=True):
        found["error"] = None if found["error"] is None else found["error"].type
        for field, value in (nothing | wanted).items():
            if value is ... or (name == "many types" and field == "value"):
                assert found[field], (code, found)
            else:
                assert found[field] == value, (code, found)


@pytest.mark.parametrize("name", PROGRAMS)
def test_M1_both_kinds_say_the_same(name: str) -> None:
    assert outcomes("sandbox", name) == outcomes("trusted", name)


@pytest.fixture(params=KINDS)
def interpreter(request: pytest.FixtureRequest) -> Iterator[Sandbox | Trusted]:
    with KINDS[request.param]() as made:
        yield made  # an ``Awaited`` has the same methods


def test_call_set_and_get(interpreter: Sandbox | Trusted) -> None:
    interpreter.set(n=10, names=["a", "b"])
    assert interpreter.get("n") == 10
    interpreter.run("class M:\n    def f(self, x, *, y=0): return x + y + n\nm = M()")
    assert interpreter.call("m.f", 1, y=2) == 13
    assert interpreter.call("len", "abc") == 3
    interpreter.run("async def later(x): return x * 2")
    assert interpreter.call("later", 4) == 8
    for ask in (lambda: interpreter.get("nothing"), lambda: interpreter.call("m.nothing")):
        with pytest.raises(belljar.GuestRaised):
            ask()
    with pytest.raises(belljar.GuestError):
        interpreter.call("object")
    with pytest.raises(PolicyError):
        interpreter.call("no name")


def test_inputs_files_stdin_and_name(interpreter: Sandbox | Trusted) -> None:
    result = interpreter.run(
        "import sys\n(n, open('in/a').read(), input(), sys.stdin.read(), __name__)",
        inputs={"n": 3},
        files={"in/a": "text"},
        stdin="one\ntwo",
    )
    assert result.value == (3, "text", "one", "two", "__main__")
    assert interpreter.run("open('in/a').read()", files={"in/a": b"new"}).value == "new"
    large = "x" * 300_000
    assert interpreter.run("len(sys.stdin.read())", stdin=large).value == 300_000
    error = interpreter.run("1 / 0", name="some.py").error
    assert error is not None
    assert 'File "some.py", line 1' in error.traceback


def test_a_name_that_is_used_twice_has_the_source_of_the_last(
    interpreter: Sandbox | Trusted,
) -> None:
    for code in ("1 / 0  # the first", "2 / 0  # the second"):
        error = interpreter.run(code, name="same.py").error
        assert error is not None
        assert code in error.traceback


def test_the_sources_of_old_runs_are_forgotten(interpreter: Sandbox | Trusted) -> None:
    interpreter.run("import linecache\ndef first(): raise KeyError\nn = 0")
    for _ in range(1100):
        interpreter.run("n += 1")
    error = interpreter.run("first()").error
    assert error is not None
    assert "in first" in error.traceback
    assert "raise KeyError" not in error.traceback
    assert interpreter.run("n, len(linecache.cache) < 1100").value == (1100, True)


@pytest.mark.parametrize("kind", KINDS)
def test_the_start_has_arguments_inputs_and_files(kind: str) -> None:
    with KINDS[kind](argv=["a", "b"], inputs={"n": 1}, files={"f": "g"}, preload=["json"]) as made:
        code = "import sys; sys.argv[1:], n, open('f').read(), 'json' in sys.modules"
        assert made.run(code).value == (["a", "b"], 1, "g", True)
        with pytest.raises(belljar.GuestRaised):
            made.get("json")
        made.run("n = 2; open('other', 'w')")
        made.reset()
        assert made.run("import os; n, sorted(os.listdir())").value == (1, ["f"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_preload_that_fails_is_a_typed_failure(kind: str) -> None:
    with pytest.raises(belljar.SetupFailed, match="no_such_module") as caught:
        KINDS[kind](preload=["no_such_module"])
    assert caught.value.stage == "preload"


def test_output_arrives_while_it_runs(interpreter: Sandbox | Trusted) -> None:
    pieces: list[tuple[str, bytes]] = []
    result = interpreter.run(
        "import sys\nprint('a')\nprint('b', file=sys.stderr)",
        on_output=lambda stream, data: pieces.append((stream, data)),
    )
    assert sorted(pieces) == [("stderr", b"b\n"), ("stdout", b"a\n")]
    assert result.stdout == "a\n"

    class Enough(Exception):
        """From a listener."""

    def stop(_stream: str, _data: bytes) -> None:
        raise Enough

    with pytest.raises(Enough):
        interpreter.run("print('x')\nimport time\ntime.sleep(60)", on_output=stop)
    assert interpreter.run("'here'").value == "here"


def test_R14_stdin_from_files_and_iterables(interpreter: Sandbox | Trusted) -> None:
    code = "import sys; (input(), sys.stdin.read())"
    for given in (io.BytesIO(b"one\ntwo"), io.StringIO("one\ntwo"), iter(["one", b"\ntwo"])):
        assert interpreter.run(code, stdin=given).value == ("one", "two")
        assert interpreter.history[-1].stdin == b"one\ntwo"
    assert interpreter.run("sys.stdin.read()").value == ""  # nothing of it is left


@pytest.mark.parametrize("kind", KINDS)
def test_R13_both_streams_in_one(kind: str) -> None:
    code = "import os, sys\nfor n in 1, 2, 1: os.write(n, b'%d' % n)\nprint(3, file=sys.stderr)"
    with KINDS[kind](merge_stderr=True) as interpreter:
        for _ in range(2):
            result = interpreter.run(code)
            assert (result.stdout, result.stderr) == ("1213\n", "")


def test_R14_both_kinds_stream_the_same() -> None:
    """An ``AsyncStream`` is tested in test_stream_iteration.py."""
    code = "import sys\nfor line in sys.stdin: print(line.strip()[::-1], flush=True)\n'over'"
    for kind in (Sandbox, Trusted):
        with kind() as interpreter:
            with interpreter.stream(code, stdin=belljar.PIPE) as stream:
                for text in ("ab", "cd"):
                    stream.write(text + "\n")
                    assert next(stream) == ("stdout", text[::-1].encode() + b"\n")
                stream.close_stdin()
                assert list(stream) == []
            assert stream.result.value == "over"
            with interpreter.stream("n = 1\nprint(n, flush=True)\nsys.stdin.read(1)") as left:
                next(left)
            assert interpreter.get("n") == 1
            with pytest.raises(PolicyError, match=r"settled|none"):
                interpreter.stream("1", belljar.Policy())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limits", "code", "limit"),
    [
        ({"wall_s": 0.2}, "import time; time.sleep(60)", "wall"),
        ({"cpu_s": 0.2}, "while True: pass", "cpu"),
        ({"output_bytes": 100}, "print('x' * 1000)\nwhile True: pass", "output"),
    ],
)
def test_limits_of_one_run(
    interpreter: Sandbox | Trusted, limits: dict[str, float], code: str, limit: str
) -> None:
    result = interpreter.run(code, **limits)
    assert result.status == "limit"
    assert result.limit is not None
    assert result.limit.name == limit
    with pytest.raises(ClosedError, match=f"its limit {limit}"):
        interpreter.run("1")
    interpreter.reset()
    assert interpreter.run("1").value == 1


def test_a_value_beyond_its_limit(interpreter: Sandbox | Trusted) -> None:
    result = interpreter.run("'x' * 100_000", value_bytes=1024)
    assert result.ok
    assert "value_bytes" in (result.value_error or "")


def test_history_and_replay_cross_the_kinds() -> None:
    steps: list[tuple[belljar.Step, ...]] = []
    for kind, other in (("sandbox", "trusted"), ("trusted", "sandbox")):
        with KINDS[kind]() as first, KINDS[other]() as second:
            first.set(n=2)
            first.run("def f(x): return x * n\ntext = input()", stdin="line", files={"a": "b"})
            first.call("f", 4)
            first.run("1 / 0")
            steps.append(first.history)
            results = second.replay(first.history)
            assert [r.status for r in results] == ["ok", "ok", "ok", "raised"]
            assert results[2].value == 8
            assert second.run("n, text, open('a').read()").value == (2, "line", "b")
    assert steps[0] == steps[1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bound", ["idle_s", "lifetime_s"])
def test_it_is_closed_when_its_time_is_over(kind: str, bound: str) -> None:
    with KINDS[kind](**{bound: 0.3}) as made:
        while not made.closed:
            time.sleep(0.02)
        with pytest.raises(ClosedError, match="its time was over"):
            made.run("1")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"inputs": 1}, "inputs"),
        ({"files": "a"}, "files"),
        ({"on_output": 1}, "on_output"),
        ({"on_usage": "print"}, "on_usage"),
        ({"stdin": 1}, "stdin"),
        ({"name": b"a"}, "name"),
        ({"wall_s": -1}, "limits.wall_s"),
        ({"wall_s": 10**9}, "limits.wall_s"),
        ({"memory_bytes": 2**30}, "limits.memory_bytes"),
    ],
)
def test_a_bad_argument_of_a_run_is_named(kind: str, arguments: Any, key: str) -> None:
    with KINDS[kind]() as made:
        with pytest.raises(PolicyError) as caught:
            made.run("1", **arguments)
        assert caught.value.key == key
        assert made.run("1").value == 1


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_why_it_has_ended(kind: str) -> None:
    with KINDS[kind]() as made:
        assert made.ended == ""
        made.run("import os, time\npid = os.getpid()")
        made.run("time.sleep(60)", wall_s=0.1)
        assert made.ended == "it ended at its limit wall"
        made.reset()
        assert made.ended == ""
        made.run("import os; os._exit(3)")
        assert made.ended == "it ended with exit code 3"
        made.reset()
    assert made.ended == "it was closed"


def test_it_is_seen_that_somebody_has_ended_it() -> None:
    with Trusted() as made:
        os.kill(made.run("import os; os.getpid()").value, 9)
        until = time.monotonic() + 20
        while not made.ended and time.monotonic() < until:
            time.sleep(0.01)
        assert made.ended == "it ended between two runs; somebody killed it"
        assert not made.closed


def test_asked_by_what_the_run_calls_it_has_not_ended(interpreter: Sandbox | Trusted) -> None:
    said: list[str] = []
    interpreter.run("print()", on_output=lambda *_: said.append(interpreter.ended))
    assert said == [""]


def test_an_interactive_run_shows_values_inside(interpreter: Sandbox | Trusted) -> None:
    result = interpreter.run("object", interactive=True)
    assert (result.value, result.stdout) == (None, "<class 'object'>\n")
    assert interpreter.run("_ is object", interactive=True).stdout == "True\n"
    assert interpreter.run("1").value == 1
