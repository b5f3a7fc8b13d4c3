"""M1: ``Sandbox``, one live interpreter from its first run to its end."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import signal
import threading
import time
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import belljar
from belljar import ClosedError, Policy, PolicyError, Sandbox
from belljar.api import live as module
from belljar.api.live import RUN_LIMITS
from belljar.drivers.account import pid_of

PATIENCE_S = 60  # only a hang takes so long


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as made:
        yield made


def guest_of(sandbox: Sandbox) -> int:
    """The number of the guest's process."""
    live = sandbox._live
    assert live is not None
    pidfd = live._ends.pidfd
    assert pidfd is not None
    pid = pid_of(pidfd)
    assert pid is not None
    return pid


def eventually(condition: Any) -> bool:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def in_thread(function: Any, *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments)
    thread.start()
    return thread


class Waiting:
    """``on_output`` that tells when the code has said that it runs."""

    def __init__(self) -> None:
        self.running = threading.Event()

    def __call__(self, stream: str, data: bytes) -> None:
        self.running.set()

    def wait(self) -> None:
        assert self.running.wait(PATIENCE_S)


SLEEP = "print('here', flush=True)\nimport time\ntime.sleep(3600)"
LONG = Policy().allow(wall_s=3600, cpu_s=3600)


# --- what persists -------------------------------------------------------------------------


def test_M1_names_imports_and_functions_persist(sandbox: Sandbox) -> None:
    assert sandbox.run("import math\nx = 20").value is None
    assert sandbox.run("def double(n): return 2 * n\nx + 1").value == 21
    assert sandbox.run("double(x) + math.floor(2.5)").value == 42
    assert sandbox.run("__name__, '__main__' in __import__('sys').modules").value == (
        "__main__",
        True,
    )


def test_M1_open_files_generators_and_classes_persist(sandbox: Sandbox) -> None:
    sandbox.run("file = open('a.txt', 'w+'); file.write('one\\n')")
    sandbox.run("file.write('two\\n'); file.seek(0)")
    assert sandbox.run("file.read()").value == "one\ntwo\n"
    sandbox.run("def count():\n  n = 0\n  while True:\n    n += 1\n    yield n\ncounter = count()")
    assert [sandbox.run("next(counter)").value for _ in range(3)] == [1, 2, 3]


def test_M1_threads_go_on_with_the_next_run(sandbox: Sandbox) -> None:
    sandbox.run(
        "import queue, threading\n"
        "todo, done = queue.Queue(), queue.Queue()\n"
        "def work():\n"
        "  while True: done.put(todo.get() * 2)\n"
        "threading.Thread(target=work, daemon=True).start()"
    )
    for n in range(3):
        assert sandbox.run("todo.put(n); done.get(timeout=30)", inputs={"n": n}).value == 2 * n


def test_M1_the_event_loop_and_its_tasks_persist(sandbox: Sandbox) -> None:
    sandbox.run(
        "import asyncio\n"
        "seen = []\n"
        "async def tick():\n"
        "  while True:\n"
        "    seen.append(len(seen)); await asyncio.sleep(0)\n"
        "first = asyncio.get_running_loop()\n"
        "task = asyncio.create_task(tick())\n"
        "await asyncio.sleep(0)"
    ).unwrap()
    sandbox.run("before = len(seen)").unwrap()
    sandbox.run("await asyncio.sleep(0.01)").unwrap()
    assert sandbox.run(
        "(len(seen) > before, first is asyncio.get_running_loop(), task.done(), await asyncio.sleep(0))"
    ).unwrap() == (True, True, False, None)


def test_M1_what_a_run_started_is_stopped_between_runs() -> None:
    """It uses no processor time then, with threads that are busy."""
    with Sandbox(LONG) as sandbox:
        sandbox.run(
            "import threading\n"
            "def spin():\n"
            "  while True: pass\n"
            "for _ in range(3): threading.Thread(target=spin, daemon=True).start()"
        )
        clock = (~guest_of(sandbox) << 3) | 2
        assert eventually(lambda: stands_still(clock))


def stands_still(clock: int) -> bool:
    before = time.clock_gettime(clock)
    time.sleep(0.05)
    return time.clock_gettime(clock) == before


def test_M1_inputs_argv_and_files_of_the_start() -> None:
    with Sandbox(inputs={"n": 3}, argv=["a", "b"], files={"d/x.txt": "text"}) as sandbox:
        code = "import sys; n, sys.argv[1:], open('d/x.txt').read()"
        assert sandbox.run(code).value == (3, ["a", "b"], "text")
        assert sandbox.run("sys.argv[1:]").value == ["a", "b"]


def test_M1_files_that_do_not_fit_are_an_error_of_the_start() -> None:
    with pytest.raises(belljar.LimitExceeded) as caught:
        Sandbox(Policy().limit(work_bytes=2**16), files={"a": b"x" * 2**18})
    assert caught.value.result.limit is not None
    assert caught.value.result.limit.name == "work"


def test_M1_inputs_and_files_of_a_run_stay_and_are_replaced(sandbox: Sandbox) -> None:
    sandbox.run("", inputs={"a": 1}, files={"x/y.txt": "one"})
    assert sandbox.run("a, open('x/y.txt').read()").value == (1, "one")
    sandbox.run("", inputs={"a": 2}, files={"x/y.txt": b"2"})
    assert sandbox.run("a, open('x/y.txt').read()").value == (2, "2")


# --- call, set, get ------------------------------------------------------------------------


def test_M1_call_by_name_by_dotted_name_and_of_a_builtin(sandbox: Sandbox) -> None:
    sandbox.run("def f(*a, **k): return a, k\nclass C:\n  @staticmethod\n  def g(x): return x + 1")
    assert sandbox.call("f", 1, (2, 3), x=[4]) == ((1, (2, 3)), {"x": [4]})
    assert sandbox.call("C.g", 1) == 2
    assert sandbox.call("len", "abc") == 3
    assert sandbox.call("str.upper", "abc") == "ABC"
    sandbox.run("def target(target): return target")
    assert sandbox.call("target", target=5) == 5


def test_M1_what_a_call_returns_is_awaited(sandbox: Sandbox) -> None:
    sandbox.run(
        "import asyncio\n"
        "async def f(n):\n"
        "  await asyncio.sleep(0)\n"
        "  return n, id(asyncio.get_running_loop())"
    )
    first, second = sandbox.call("f", 1), sandbox.call("f", 2)
    assert (first[0], second[0]) == (1, 2)
    assert first[1] == second[1], "one event loop for all"


def test_M1_a_call_that_goes_wrong_is_a_guest_error(sandbox: Sandbox) -> None:
    with pytest.raises(belljar.GuestRaised, match="nothing_here"):
        sandbox.call("nothing_here")
    with pytest.raises(belljar.GuestRaised, match="division"):
        sandbox.call("divmod", 1, 0)
    assert sandbox.call("len", "ab") == 2
    sandbox.run("def f(): return object()")
    assert sandbox.run("import sys\ndef g(): sys.exit(3)").status == "ok"
    with pytest.raises(belljar.GuestExited):
        sandbox.call("g")


@pytest.mark.parametrize(
    "name", ["", "1x", "a b", "a.", ".a", "a..b", "f()", "a\0", 7, None, "a" * 5000]
)
def test_M1_names_are_checked(sandbox: Sandbox, name: Any) -> None:
    for ask in (sandbox.call, sandbox.get):
        with pytest.raises(PolicyError):
            ask(name)
    assert sandbox.history == ()


def test_M1_arguments_are_checked_by_name(sandbox: Sandbox) -> None:
    for key, args, kwargs in (
        ("args[1]", (1, object()), {}),
        ("kwargs.x", (), {"x": object()}),
        ("args", ("x" * 20_000_000, "x" * 20_000_000), {}),
    ):
        with pytest.raises(PolicyError) as caught:
            sandbox.call("f", *args, **kwargs)
        assert caught.value.key == key
    assert sandbox.run("1").value == 1


def test_M1_set_and_get(sandbox: Sandbox) -> None:
    sandbox.set(n=10, text="a")
    assert (sandbox.get("n"), sandbox.get("text")) == (10, "a")
    sandbox.run("class C: x = {'a': (1, 2)}")
    assert sandbox.get("C.x") == {"a": (1, 2)}
    with pytest.raises(belljar.GuestRaised, match="nothing"):
        sandbox.get("nothing")
    with pytest.raises(belljar.GuestError):
        sandbox.get("C")  # it cannot cross
    with pytest.raises(PolicyError):
        sandbox.set(x=object())
    with pytest.raises(PolicyError):
        sandbox.set(__name__="x")
    assert sandbox.get("n") == 10


# --- standard input ------------------------------------------------------------------------


def test_R13_each_run_reads_its_own_input(sandbox: Sandbox) -> None:
    assert sandbox.run("input()", stdin="first\nleft over\n").value == "first"
    assert sandbox.run("import sys; sys.stdin.read()").value == "", "nothing, if left out"
    assert sandbox.run("sys.stdin.read()", stdin="second").value == "second"
    assert sandbox.run("sys.stdin.read()", stdin="").value == ""
    assert sandbox.run("sys.stdin.buffer.read()", stdin=b"\xff\0").value == b"\xff\0"
    assert sandbox.run("import os; os.read(0, 10)", stdin="fd").value == b"fd"
    for _ in range(2):
        with pytest.raises(belljar.GuestRaised, match="EOF"):
            sandbox.run("input()").unwrap()


@pytest.mark.parametrize("size", [2**16 - 1, 2**16, 2**16 + 1, 5_000_000])
def test_R13_large_input_arrives_whole(sandbox: Sandbox, size: int) -> None:
    data = os.urandom(size)
    for _ in range(2):
        assert sandbox.run("__import__('sys').stdin.buffer.read()", stdin=data).value == data


def test_R13_input_is_bound_to_be_text_or_bytes(sandbox: Sandbox) -> None:
    with pytest.raises(PolicyError):
        sandbox.run("1", stdin=5)  # type: ignore[arg-type]
    with Sandbox(Policy().allow(streams=["stdin"])) as own, pytest.raises(PolicyError):
        own.run("1", stdin="x")


# --- tracebacks ----------------------------------------------------------------------------


def traceback(result: belljar.Result) -> str:
    assert result.error is not None
    return result.error.traceback


def test_M1_tracebacks_show_the_right_lines_of_each_run(sandbox: Sandbox) -> None:
    sandbox.run("def f():\n    return 1 / 0  # of the first")
    text = traceback(sandbox.run("# nothing\nf()  # of the second"))
    assert 'File "<run 1>", line 2, in f\n    return 1 / 0  # of the first' in text
    assert 'File "<run 2>", line 2, in <module>\n    f()  # of the second' in text
    assert "belljar" not in text
    text = traceback(sandbox.run("\n\nf()  # named", name="cell.py"))
    assert 'File "cell.py", line 3, in <module>\n    f()  # named' in text


def test_M1_a_name_that_is_used_again_shows_the_newer_source(sandbox: Sandbox) -> None:
    assert "# one" in traceback(sandbox.run("1/0  # one", name="cell.py"))
    text = traceback(sandbox.run("\n1/0  # two", name="cell.py"))
    assert "# two" in text
    assert "# one" not in text


def test_M1_the_code_finds_its_source_too(sandbox: Sandbox) -> None:
    sandbox.run("def f():\n    return 'source'")
    assert (
        sandbox.run("import inspect; inspect.getsource(f)").value
        == "def f():\n    return 'source'\n"
    )


# --- ends that it survives, and ends that it does not -----------------------------------------


def test_M1_exceptions_and_exits_keep_it(sandbox: Sandbox) -> None:
    sandbox.run("x = 1")
    assert sandbox.run("1/0").status == "raised"
    assert sandbox.run("import sys; sys.exit(3)").exit_code == 3
    assert sandbox.run("sys.exit('bye')").stderr == "bye\n"
    assert sandbox.run("exit()").status == "exited"
    assert sandbox.run("x = (").status == "raised"
    assert sandbox.run("raise KeyboardInterrupt").status == "raised"
    assert sandbox.run("raise GeneratorExit").status == "raised"
    assert sandbox.run("def f(): f()\nf()").status == "raised"
    assert sandbox.run("x").value == 1


def test_M1_a_memory_error_keeps_it_and_what_it_had() -> None:
    with Sandbox(Policy().limit(memory_bytes=64 * 2**20)) as sandbox:
        result = sandbox.run("x = []\nwhile True: x.append(bytearray(2**20))")
        assert result.limit is not None
        assert result.limit.name == "memory"
        assert sandbox.run("len(x) > 1").value is True
        assert sandbox.run("x = None").status == "ok"


ENDS: list[tuple[str, dict[str, float], str, int | None]] = [
    ("while True: pass", {"wall_s": 0.1}, "wall_s", None),
    ("while True: pass", {"cpu_s": 0.1}, "cpu_s", None),
    ("while True: print('x' * 1000)", {"output_bytes": 5000}, "output", None),
    ("import os; os._exit(7)", {}, "exit code 7", 7),
    ("import os; os.kill(os.getpid(), 9)", {}, "signal 9", None),
]


@pytest.mark.parametrize(("code", "limits", "why", "exit_code"), ENDS)
def test_M1_other_ends_end_it_and_reset_revives_it(
    code: str, limits: dict[str, float], why: str, exit_code: int | None
) -> None:
    with Sandbox(inputs={"a": 1}, files={"f.txt": "x"}) as sandbox:
        sandbox.run("x = 5; open('g.txt', 'w').close()")
        pid = guest_of(sandbox)
        result = sandbox.run(code, **limits)
        assert result.status in ("limit", "exited", "crashed")
        assert result.exit_code == exit_code
        assert eventually(lambda: gone(pid))
        for _ in range(2):
            with pytest.raises(ClosedError, match=r"reset\(\)") as caught:
                sandbox.run("1")
            assert why.removesuffix("_s") in str(caught.value)
        assert not sandbox.closed
        sandbox.reset()
        assert sandbox.history == ()
        assert sandbox.run("'x' in dir(), a, sorted(__import__('os').listdir('.'))").value == (
            False,
            1,
            ["f.txt"],
        )


def test_K6_code_that_ends_in_its_grace_keeps_it() -> None:
    with Sandbox(Policy().limit(wall_s=0.2).allow(grace_s=30)) as sandbox:
        result = sandbox.run(
            "import time\nx = 1\ntry: time.sleep(60)\nexcept TimeoutError: x = 2\nx"
        )
        assert (result.status, result.value) == ("limit", 2)
        assert sandbox.run("x").value == 2
        result = sandbox.run("time.sleep(60)")
        assert result.status == "limit"
        assert result.error is not None
        assert result.error.type == "TimeoutError"
        for _ in range(3):
            assert sandbox.run("x").value == 2, "nothing of it strikes later runs"


def test_K6_code_that_does_not_end_in_its_grace_ends_it() -> None:
    with Sandbox(Policy().limit(wall_s=0.1).allow(grace_s=0.2)) as sandbox:
        code = "while True:\n  try:\n    for _ in iter(int, 1): pass\n  except TimeoutError: pass"
        assert sandbox.run(code).status == "limit"
        with pytest.raises(ClosedError):
            sandbox.run("1")


def test_K6_a_grace_for_processor_time_counts_from_this_run() -> None:
    with Sandbox(Policy().limit(cpu_s=0.3).allow(grace_s=30, wall_s=600)) as sandbox:
        for _ in range(3):
            assert (
                sandbox.run(
                    "import time\ne = time.process_time() + 0.2\nwhile time.process_time() < e: pass"
                ).status
                == "ok"
            )
        result = sandbox.run("while True: pass")
        assert result.limit is not None
        assert result.limit.name == "cpu"
        assert result.error is not None
        assert result.error.message.startswith("cpu_s")
        assert sandbox.run("1").value == 1


# --- limits of a run -----------------------------------------------------------------------


def test_R2_a_run_can_lower_its_limits_for_itself_only(sandbox: Sandbox) -> None:
    result = sandbox.run("'x' * 5000", value_bytes=2000)
    assert result.value_error is not None
    assert sandbox.run("'x' * 5000").value == "x" * 5000
    assert sandbox.run("import time; time.sleep(0.2); 1", pause_s=0, cpu_cores=0.5).value == 1


def test_R2_limits_of_a_run_that_was_broken_off_do_not_stay(sandbox: Sandbox) -> None:
    def fail(stream: str, data: bytes) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sandbox.run(SLEEP, value_bytes=2000, on_output=fail)
    assert sandbox.run("'x' * 5000").value == "x" * 5000


def test_R2_a_run_cannot_raise_its_limits_or_change_those_of_the_life(sandbox: Sandbox) -> None:
    most = sandbox.policy.limits
    for name in RUN_LIMITS:
        with pytest.raises(PolicyError):
            sandbox.run("1", **{name: getattr(most, name) * 2 + 1})
    for name in ("memory_bytes", "threads", "processes", "work_bytes", "open_files", "file_bytes"):
        with pytest.raises(PolicyError, match="settled when"):
            sandbox.run("1", **{name: 0})
    for limits in ({"nothing": 1}, {"wall_s": -1}, {"wall_s": float("nan")}, {"wall_s": "1"}):
        with pytest.raises(PolicyError):
            sandbox.run("1", **limits)  # type: ignore[arg-type]
    assert sandbox.history == ()


def test_R2_processor_time_and_output_of_earlier_runs_do_not_count() -> None:
    policy = Policy().limit(cpu_s=0.5, output_bytes=1000)
    with Sandbox(policy) as sandbox:
        code = "import time\ne = time.process_time() + 0.2\nwhile time.process_time() < e: pass\nprint('x' * 900)"
        for _ in range(5):
            result = sandbox.run(code)
            assert result.status == "ok"
            assert 0.15 < result.usage.cpu_s < 0.5
            assert len(result.stdout) == 901
        assert sandbox.run("1").usage.cpu_s < 0.2


def test_R10_usage_is_of_one_run_and_its_peak_of_the_life(sandbox: Sandbox) -> None:
    first = sandbox.run("import time; time.sleep(0.3); x = bytearray(50_000_000); del x").usage
    second = sandbox.run("1").usage
    assert first.wall_s >= 0.3
    assert second.wall_s < first.wall_s
    assert second.peak_memory_bytes >= 50_000_000


def test_C7_denials_are_of_one_run(sandbox: Sandbox) -> None:
    assert sandbox.run("open('/etc/shadow')").denials[0].target == "/etc/shadow"
    assert sandbox.run("1").denials == ()
    assert sandbox.run("import _ctypes_test").denials[0].target == "_ctypes_test"
    assert sandbox.run("try: open('/etc/shadow')\nexcept OSError: pass").denials != ()


# --- interrupting --------------------------------------------------------------------------


def test_K6_interrupt_from_another_thread(sandbox: Sandbox) -> None:
    seen = Waiting()
    asked: list[bool] = []

    def ask() -> None:
        seen.wait()
        asked.append(sandbox.interrupt())
        asked.append(sandbox.interrupt())

    thread = in_thread(ask)
    sandbox.run("x = 1")
    result = sandbox.run(SLEEP, on_output=seen)
    thread.join(PATIENCE_S)
    assert result.error is not None
    assert (result.status, result.error.type) == ("raised", "KeyboardInterrupt")
    assert asked == [True, False]
    assert [sandbox.run("x").value for _ in range(3)] == [1, 1, 1]


def test_K6_code_may_catch_it(sandbox: Sandbox) -> None:
    code = "import time\ntry:\n  print(1, flush=True)\n  time.sleep(60)\nexcept KeyboardInterrupt: x = 3\nx"
    result = sandbox.run(code, on_output=lambda *_: sandbox.interrupt())
    assert (result.status, result.value) == ("ok", 3)


def test_K6_interrupts_between_runs_strike_nobody(sandbox: Sandbox) -> None:
    assert not sandbox.interrupt()
    for n in range(5):
        assert sandbox.run("n", inputs={"n": n}).value == n
        assert not sandbox.interrupt()
    sandbox.close()
    assert not sandbox.interrupt()


def test_K6_interrupts_near_the_end_of_a_run_never_strike_the_next(sandbox: Sandbox) -> None:
    """The code's end and the request cross in every way: before, during and after."""
    for n in range(80):
        code = "print(1, flush=True)\nfor i in range(n * 200): pass"
        first = sandbox.run(code, inputs={"n": n}, on_output=lambda *_: sandbox.interrupt())
        assert first.status in ("ok", "raised")
        for _ in range(2):
            assert sandbox.run("n * 2").value == n * 2


def test_K6_an_interrupt_that_was_asked_of_one_run_does_not_reach_the_next() -> None:
    """The asker is held up between finding that somebody listens and saying so."""
    from belljar.drivers.interrupts import Interrupts

    ear = Interrupts(1.0)
    with ear:
        assert ear.ask()
    with ear:
        with pytest.raises(BlockingIOError):
            os.eventfd_read(ear.fd)  # it was of the run before
        assert ear.ask()
        assert not ear.ask()
    assert not ear.ask()
    ear.close()
    ear.end()  # nobody listens, and no descriptor of another's is written to
    assert not ear.ask()


# --- closing -------------------------------------------------------------------------------


def test_M1_close_ends_it_for_good() -> None:
    sandbox = Sandbox()
    pid = guest_of(sandbox)
    assert repr(sandbox) == "<belljar.Sandbox open>"
    sandbox.close()
    sandbox.close()
    assert sandbox.closed
    assert eventually(lambda: gone(pid))
    for act in (
        lambda: sandbox.run("1"),
        lambda: sandbox.call("f"),
        sandbox.reset,
        lambda: sandbox.get("x"),
    ):
        with pytest.raises(ClosedError, match="it was closed"):
            act()
    assert repr(sandbox) == "<belljar.Sandbox closed>"


def test_M1_close_during_a_run_from_another_thread() -> None:
    seen = Waiting()
    sandbox = Sandbox(LONG)
    pid = guest_of(sandbox)

    def end() -> None:
        seen.wait()
        sandbox.close()

    thread = in_thread(end)
    with pytest.raises(ClosedError, match="while it ran"):
        sandbox.run(SLEEP, on_output=seen)
    thread.join(PATIENCE_S)
    assert eventually(lambda: gone(pid))


def test_M1_close_from_what_the_run_calls() -> None:
    sandbox = Sandbox(LONG)
    pid = guest_of(sandbox)
    with pytest.raises(ClosedError, match="while it ran"):
        sandbox.run(SLEEP, on_output=lambda *_: sandbox.close())
    assert eventually(lambda: gone(pid))
    assert sandbox.closed


def test_M1_what_a_run_calls_cannot_run_or_reset(sandbox: Sandbox) -> None:
    found: list[str] = []

    def act(stream: str, data: bytes) -> None:
        for ask in (lambda: sandbox.run("1"), sandbox.reset, lambda: sandbox.get("x")):
            with pytest.raises(ClosedError, match="busy") as caught:
                ask()
            found.append(str(caught.value))

    assert sandbox.run("print(1, flush=True); 2", on_output=act).value == 2
    assert found
    assert sandbox.run("3").value == 3


def test_M1_close_while_others_wait_for_their_turn() -> None:
    seen = Waiting()
    sandbox = Sandbox(LONG)
    outcomes: list[str] = []

    def run() -> None:
        try:
            sandbox.run(SLEEP, on_output=seen)
        except ClosedError as error:
            outcomes.append(str(error))

    threads = [in_thread(run) for _ in range(4)]
    seen.wait()
    sandbox.close()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(outcomes) == 4
    assert sorted(outcomes)[-1] == "it was closed while it ran"


def test_M1_a_sandbox_that_is_dropped_warns_and_ends() -> None:
    sandbox = Sandbox()
    pid = guest_of(sandbox)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del sandbox
        gc.collect()
    (warning,) = caught
    assert warning.category is ResourceWarning
    assert str(warning.message) == "unclosed <belljar.Sandbox open>"
    assert eventually(lambda: gone(pid))


def test_M1_one_that_could_not_be_made_or_was_closed_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for bad in ({"policy": 5}, {"idle_s": -1}, {"preload": "x"}, {"argv": "x"}):
            with pytest.raises(PolicyError):
                Sandbox(**bad)  # type: ignore[arg-type]
        with Sandbox():
            pass
        gc.collect()


def test_M1_it_cannot_be_copied_or_pickled(sandbox: Sandbox) -> None:
    for act in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="live process"):
            act(sandbox)


# --- idle and total lifetimes -----------------------------------------------------------------


def test_M1_it_is_closed_when_it_was_idle_for_so_long() -> None:
    sandbox = Sandbox(idle_s=0.2)
    pid = guest_of(sandbox)
    assert sandbox.run("import time; time.sleep(0.5); 1").value == 1, "a run is not idleness"
    assert eventually(lambda: sandbox.closed)
    assert eventually(lambda: gone(pid))
    with pytest.raises(ClosedError, match="its time was over"):
        sandbox.run("1")


def test_M1_its_lifetime_ends_a_run_under_way() -> None:
    sandbox = Sandbox(LONG, lifetime_s=0.5)
    pid = guest_of(sandbox)
    with pytest.raises(ClosedError, match="its time was over while it ran"):
        sandbox.run("import time; time.sleep(3600)")
    assert eventually(lambda: gone(pid))


def test_M1_a_run_whose_host_does_not_return_does_not_hold_up_the_others() -> None:
    """One thread keeps the time for all sandboxes; it waits for none of them."""
    go_on, held = threading.Event(), threading.Event()

    def hold(stream: str, data: bytes) -> None:
        held.set()
        assert go_on.wait(PATIENCE_S)

    slow = Sandbox(LONG, lifetime_s=0.3)
    outcome: list[object] = []

    def run() -> None:
        try:
            slow.run("print(1, flush=True)\n" + SLEEP, on_output=hold)
        except ClosedError as error:
            outcome.append(str(error))

    thread = in_thread(run)
    assert held.wait(PATIENCE_S)
    other = Sandbox(lifetime_s=0.5)
    assert eventually(lambda: slow.closed)
    assert eventually(lambda: other.closed)
    go_on.set()
    thread.join(PATIENCE_S)
    assert outcome == ["its time was over while it ran"]


def test_M1_who_keeps_the_time_does_not_keep_the_sandbox() -> None:
    sandbox = Sandbox(idle_s=1000)
    time.sleep(0.1)  # the thread is asleep by now
    there = weakref.ref(sandbox)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del sandbox
        gc.collect()
    assert there() is None


@pytest.mark.parametrize("seconds", [0, -1, 0.0001, float("nan"), float("inf"), 2**40, "1", True])
def test_M1_lifetimes_are_checked(seconds: Any) -> None:
    for key in ("idle_s", "lifetime_s"):
        with pytest.raises(PolicyError) as caught:
            Sandbox(**{key: seconds})
        assert caught.value.key == key


# --- history -------------------------------------------------------------------------------


def test_M1_history_is_what_was_done_and_replay_does_it_again() -> None:
    with Sandbox() as one, Sandbox() as other:
        one.set(n=1)
        one.run("n += int(input()); open('f', 'a').write('x')", stdin="4\n", files={"f": "y"})
        one.run("1/0", name="cell.py")
        one.run("def f(a, b): return a + b + n")
        one.get("n")
        assert one.call("f", 1, b=2) == 8
        steps = one.history
        assert [step.code for step in steps] == [
            "",
            "n += int(input()); open('f', 'a').write('x')",
            "1/0",
            "def f(a, b): return a + b + n",
            "",
        ]
        assert steps[-1].target == "f"
        results = other.replay(steps)
        assert [result.status for result in results] == ["ok", "ok", "raised", "ok", "ok"]
        assert results[-1].value == 8
        assert other.get("n") == 5
        assert other.run("open('f').read()").value == "yx"
        assert other.history[: len(steps)] == steps


def test_M1_history_is_not_changed_by_what_the_caller_does_afterwards(sandbox: Sandbox) -> None:
    mine: dict[str, list[int]] = {"a": [1]}
    sandbox.set(x=mine)
    sandbox.run("def f(x): return x")
    sandbox.call("f", mine)
    mine["a"].append(2)
    assert sandbox.history[0].inputs == {"x": {"a": [1]}}
    assert sandbox.history[2].args == ({"a": [1]},)


def test_M1_a_history_that_is_too_long_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HISTORY_BYTES", 20_000)
    with Sandbox() as sandbox:
        sandbox.run("x = 1")
        assert len(sandbox.history) == 1
        sandbox.run("", inputs={"x": "x" * 20_000})
        with pytest.raises(PolicyError, match="longer than"):
            _ = sandbox.history
        assert sandbox._steps == []
        assert sandbox.run("len(x)").value == 20_000
        sandbox.reset()
        assert sandbox.history == ()


def test_M1_many_small_steps_have_a_price_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HISTORY_BYTES", 20_000)
    with Sandbox() as sandbox:
        for _ in range(60):
            sandbox.run("")
        with pytest.raises(PolicyError, match="longer than"):
            _ = sandbox.history


# --- many threads, forks, signals -------------------------------------------------------------


def test_M1_many_threads_take_turns(sandbox: Sandbox) -> None:
    sandbox.run("n = 0")
    found: list[int] = []

    def work() -> None:
        for _ in range(15):
            found.append(sandbox.run("n += 1\nn").value)

    threads = [in_thread(work) for _ in range(8)]
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sorted(found) == list(range(1, 121))


def test_M1_many_sandboxes_on_one_zygote_know_nothing_of_each_other() -> None:
    boxes = [Sandbox(inputs={"n": n}) for n in range(5)]
    for n, box in enumerate(boxes):
        assert box.run("x = n; open('f', 'w').write(str(n)); open('f').read(), n").value == (
            str(n),
            n,
        )
    boxes[2].close()
    for n, box in enumerate(boxes):
        if n != 2:
            assert box.run("open('f').read()").value == str(n)
            box.close()


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_M1_a_fork_of_the_host_cannot_use_it_and_does_not_end_it(sandbox: Sandbox) -> None:
    sandbox.run("x = 1")
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        found: list[str] = []
        for act in (lambda: sandbox.run("x"), sandbox.reset, lambda: sandbox.call("len", "")):
            try:
                act()
                found.append("used")
            except ClosedError as error:
                found.append(str(error))
        found.append(str(sandbox.interrupt()))
        sandbox.close()
        found.append(str(sandbox.closed))
        os.write(writing, "\n".join(found).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as file:
        said = file.read().split("\n")
    assert os.waitpid(pid, 0)[1] == 0
    assert said == ["it belongs to the process that this one was forked from"] * 3 + [
        "False",
        "True",
    ]
    assert sandbox.run("x").value == 1


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_M1_a_fork_during_a_run_neither_waits_nor_interrupts() -> None:
    """Its copy of the lock is held by a thread that it does not have."""
    status: list[int] = []
    with Sandbox(LONG) as sandbox:

        def fork(stream: str, data: bytes) -> None:
            pid = os.fork()
            if pid == 0:
                code = 1 if sandbox.interrupt() else 0
                try:
                    sandbox.run("1")
                    code |= 2
                except ClosedError:
                    pass
                os._exit(code)
            status.append(os.waitpid(pid, 0)[1])

        code = "print(1, flush=True)\nimport time; time.sleep(0.2); 5"
        assert sandbox.run(code, on_output=fork).value == 5
    assert status == [0]


def test_R14_a_listener_that_raises_leaves_it_usable(sandbox: Sandbox) -> None:
    sandbox.run("x = 1")

    def fail(*_: object) -> None:
        raise ZeroDivisionError("mine")

    codes = ["print(1)", "print(1, flush=True)\n" + SLEEP, "import sys; sys.stderr.write('x'); 1"]
    for code in codes:
        with pytest.raises(ZeroDivisionError, match="mine"):
            sandbox.run(code, on_output=fail)
        assert sandbox.run("x").value == 1
        assert sandbox.run("print(2)").stdout == "2\n"
    with pytest.raises(ZeroDivisionError, match="mine"):
        sandbox.run("import time; time.sleep(3600)", on_usage=fail)
    assert sandbox.run("x").value == 1


def test_R14_a_listener_that_raises_and_code_that_does_not_end_end_it() -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    with Sandbox(LONG) as sandbox:
        code = (
            "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
            "print(1, flush=True)\nwhile True: pass"
        )
        with pytest.raises(ZeroDivisionError):
            sandbox.run(code, on_output=fail)
        with pytest.raises(ClosedError):
            sandbox.run("1")
        sandbox.reset()
        assert sandbox.run("1").value == 1


def test_R14_listeners_hear_their_own_run_only() -> None:
    heard: list[tuple[str, bytes]] = []
    usage: list[belljar.UsageNow] = []
    with Sandbox(on_output=lambda s, d: heard.append((s, d))) as sandbox:
        own: list[bytes] = []
        sandbox.run("print(1)", on_output=lambda s, d: own.append(d))
        assert (heard, own) == ([], [b"1\n"])
        sandbox.run("print(2)")
        assert heard == [("stdout", b"2\n")]
        sandbox.run("import time; time.sleep(0.25)", on_usage=usage.append)
        before = len(usage)
        assert before
        time.sleep(0.2)
        sandbox.run("time.sleep(0.2)")
        assert len(usage) == before


def test_R13_what_threads_write_late_belongs_to_the_next_run(sandbox: Sandbox) -> None:
    sandbox.run(
        "import threading, time\n"
        "def work():\n"
        "  for n in range(200): print(n, flush=True); time.sleep(0.001)\n"
        "thread = threading.Thread(target=work); thread.start()"
    )
    outputs = [sandbox.run("time.sleep(0.01)").stdout for _ in range(3)]
    outputs.append(sandbox.run("thread.join()").stdout)
    lines = "".join(outputs).split()
    assert lines == [str(n) for n in range(int(lines[0]), 200)], "nothing is lost on the way"


def test_K6_ctrl_c_in_the_host_ends_the_run_and_not_the_sandbox(sandbox: Sandbox) -> None:
    seen = Waiting()

    def press() -> None:
        seen.wait()
        time.sleep(0.05)  # until it waits in poll again
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    sandbox.run("x = 1")
    thread = in_thread(press)
    with pytest.raises(KeyboardInterrupt):
        sandbox.run(SLEEP, on_output=seen)
    thread.join(PATIENCE_S)
    assert sandbox.run("x").value == 1


# --- killed from outside -----------------------------------------------------------------------


def test_K10_a_guest_killed_while_it_waits(sandbox: Sandbox) -> None:
    os.kill(guest_of(sandbox), signal.SIGKILL)
    pid = guest_of(sandbox)
    assert eventually(lambda: gone(pid))
    with pytest.raises(ClosedError, match="between two runs"):
        sandbox.run("1")
    sandbox.reset()
    assert sandbox.run("1").value == 1


def test_K10_a_guest_killed_while_it_runs(sandbox: Sandbox) -> None:
    result = sandbox.run(SLEEP, on_output=lambda *_: os.kill(guest_of(sandbox), signal.SIGKILL))
    assert (result.status, result.signal) == ("crashed", 9)
    with pytest.raises(ClosedError, match="signal 9"):
        sandbox.run("1")
    sandbox.reset()
    assert sandbox.run("1").value == 1


def zygote_of(sandbox: Sandbox) -> int:
    zygote = sandbox._zygote
    assert zygote is not None
    assert zygote._child is not None
    return zygote._child._pid


def test_K10_a_zygote_killed_while_it_waits(sandbox: Sandbox) -> None:
    pid = guest_of(sandbox)
    os.kill(zygote_of(sandbox), signal.SIGKILL)
    assert eventually(lambda: gone(pid))
    with pytest.raises(ClosedError, match="between two runs"):
        sandbox.run("1")
    sandbox.reset()
    assert sandbox.run("1").value == 1


def test_K10_a_zygote_killed_while_it_runs(sandbox: Sandbox) -> None:
    with pytest.raises(belljar.WorkerDied):
        sandbox.run(SLEEP, on_output=lambda *_: os.kill(zygote_of(sandbox), signal.SIGKILL))
    with pytest.raises(ClosedError):
        sandbox.run("1")
    sandbox.reset()
    assert sandbox.run("1").value == 1


# --- policies ------------------------------------------------------------------------------


def test_M1_processes_are_stopped_and_go_on() -> None:
    with Sandbox(LONG.allow(processes=4)) as sandbox:
        sandbox.run(
            "import os\n"
            "out, inn = os.pipe(), os.pipe()\n"
            "if os.fork() == 0:\n"
            "  while True: os.write(out[1], b'%d' % (int(os.read(inn[0], 9)) * 2))\n"
        ).unwrap()
        for n in (1, 2, 3):
            code = "os.write(inn[1], b'%d' % n); int(os.read(out[0], 9))"
            assert sandbox.run(code, inputs={"n": n}).unwrap() == 2 * n
        run = "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'print(5)'], capture_output=True).stdout"
        assert sandbox.run(run).unwrap() == b"5\n"


def test_M1_write_grants_hold_in_later_runs(open_dir: Path) -> None:
    with Sandbox(Policy().allow(write=[str(open_dir)])) as sandbox:
        for n in range(3):
            sandbox.run(f"open({str(open_dir / 'x')!r}, 'a').write('{n}')").unwrap()
        assert sandbox.run("open('/etc/shadow')").status == "raised"
    assert (open_dir / "x").read_text() == "012"


BLOCKED = ["os:read", "os:makedirs", "posix:open", "posix:pipe", "os:getcwd", "mmap:mmap"]


@pytest.mark.parametrize("reference", BLOCKED)
def test_C7_blocked_functions_stay_blocked_and_the_agent_does_its_work(reference: str) -> None:
    name = reference.partition(":")
    ask = f"import {name[0]}\n{name[0]}.{name[2]}()"
    with Sandbox(Policy().block(functions=[reference])) as sandbox:
        for _ in range(3):
            result = sandbox.run(ask)
            assert result.error is not None
            assert "blocks" in result.error.message or "policy" in result.error.traceback
            assert [denial.target for denial in result.denials] == [reference]
            assert sandbox.run("1/0").denials == ()
            assert sandbox.run("input()", stdin="x\n").value == "x"
            assert (
                sandbox.run("len(__import__('sys').stdin.read())", stdin="x" * 100_000).value
                == 100_000
            )
            assert sandbox.run("open('d/e').read()", files={"d/e": "f"}).value == "f"


def test_C7_blocked_modules_stay_blocked_after_a_traceback_that_needed_them() -> None:
    """The agent may import what the code may not; it takes it away again."""
    policy = Policy().block(modules=["tokenize", "traceback", "linecache", "re", "json"])
    with Sandbox(policy) as sandbox:
        for _ in range(3):
            assert "ZeroDivisionError" in traceback(sandbox.run("def f(): 1/0\nf()"))
            for name in ("tokenize", "traceback", "linecache", "re", "json"):
                assert sandbox.run(f"'{name}' in __import__('sys').modules").value is False, name
                result = sandbox.run(f"import {name}")
                assert result.error is not None
                assert result.error.type.endswith("ModuleRefused")


def test_C10_blocked_builtins_stay_blocked() -> None:
    with Sandbox(Policy().block(builtins=["eval"])) as sandbox:
        for _ in range(2):
            assert sandbox.run("eval('1')").status == "raised"
        with pytest.raises(belljar.GuestError, match="not defined"):
            sandbox.call("eval", "1")


def test_R13_input_that_cannot_be_given_is_an_outcome_and_not_the_end(sandbox: Sandbox) -> None:
    code = "import os\nfds = []\ntry:\n  while True: fds.append(os.dup(0))\nexcept OSError: pass"
    sandbox.run(code)
    result = sandbox.run("1", stdin="x")
    assert result.limit is not None
    assert result.limit.name == "open_files"
    with pytest.raises(belljar.LimitExceeded):
        sandbox.call("len", "it is still there")
