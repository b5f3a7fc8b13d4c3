"""``belljar.Trusted``: the same interface, without a policy, walls or checks (M1, M4, M7, M11).

What it shares with ``Sandbox`` is in ``test_both_kinds.py``.
"""

from __future__ import annotations

import gc
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import belljar
from belljar import (
    ClosedError,
    GuestExited,
    GuestRaised,
    Policy,
    PolicyError,
    Sandbox,
    SandboxFailure,
    SetupFailed,
    Trusted,
    WorkerDied,
)

TIMEOUT_S = 60  # only a hang takes so long
SOURCE = str(Path(belljar.__file__).parents[1])


@pytest.fixture
def trusted() -> Iterator[Trusted]:
    with Trusted() as made:
        yield made


def host(script: str, **named: Any) -> subprocess.CompletedProcess[str]:
    """A program of its own that uses belljar."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={**os.environ, "PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        **named,
    )


def is_there(pid: int) -> bool:
    """Whether a process runs, or is stopped; one that only waits to be collected does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def comes(condition: Callable[[], bool]) -> bool:
    """Whether something comes about before it must be a hang."""
    until = time.monotonic() + TIMEOUT_S
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


# --- no policy, no walls ------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: Trusted(Policy()),  # type: ignore[arg-type]
        lambda: Trusted(policy=Policy()),  # type: ignore[arg-type]
        lambda: Trusted(belljar.Limits()),  # type: ignore[arg-type]
        lambda: Trusted({"wall_s": 1}),  # type: ignore[arg-type]
    ],
)
def test_M4_a_policy_is_a_typed_error(make: Callable[[], Trusted]) -> None:
    with pytest.raises(PolicyError, match=r"belljar\.Sandbox takes one") as caught:
        make()
    assert caught.value.key == "policy"


@pytest.mark.parametrize(
    "key",
    [
        "inputs",
        "argv",
        "files",
        "preload",
        "on_output",
        "idle_s",
        "lifetime_s",
        "python",
        "cwd",
        "limits.wall_s",
    ],
)
def test_M4_a_policy_in_any_argument_is_a_typed_error(key: str) -> None:
    arguments: Any = {key.removeprefix("limits."): Policy()}
    with pytest.raises(PolicyError) as caught:
        Trusted(**arguments)
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("ask", "key"),
    [
        (lambda t: t.run("1", Policy()), "policy"),
        (lambda t: t.run("1", policy=Policy()), "policy"),
        (lambda t: t.run(Policy()), "code"),
        (lambda t: t.run("1", inputs=Policy()), "inputs"),
        (lambda t: t.run("1", inputs={"a": Policy()}), "inputs.a"),
        (lambda t: t.run("1", inputs={"a": [Policy()]}), "inputs.a"),
        (lambda t: t.run("1", files=Policy()), "files"),
        (lambda t: t.run("1", files={"a": Policy()}), "files['a']"),
        (lambda t: t.run("1", stdin=Policy()), "stdin"),
        (lambda t: t.run("1", name=Policy()), "name"),
        (lambda t: t.run("1", on_output=Policy()), "on_output"),
        (lambda t: t.run("1", on_usage=Policy()), "on_usage"),
        (lambda t: t.run("1", wall_s=Policy()), "limits.wall_s"),
        (lambda t: t.call("len", Policy()), "args[0]"),
        (lambda t: t.call("dict", policy=Policy()), "kwargs.policy"),
        (lambda t: t.call(Policy()), "target"),
        (lambda t: t.set(policy=Policy()), "inputs.policy"),
        (lambda t: t.get(Policy()), "name"),
    ],
)
def test_M4_so_it_is_with_a_run(trusted: Trusted, ask: Callable[[Any], Any], key: str) -> None:
    with pytest.raises(PolicyError) as caught:
        ask(trusted)
    assert caught.value.key == key
    assert trusted.run("1").value == 1


def test_M4_a_sandbox_takes_none_for_a_run() -> None:
    with Sandbox() as sandbox, pytest.raises(PolicyError, match="when the sandbox was made"):
        sandbox.run("1", Policy())  # type: ignore[arg-type]


def test_M7_sandboxed_is_false_and_read_only(trusted: Trusted) -> None:
    assert trusted.run("__sandboxed__").value is False
    for code in (
        "import builtins; builtins.__sandboxed__ = True",
        "import builtins; del builtins.__sandboxed__",
        "setattr(__builtins__, '__sandboxed__', 1)",
    ):
        error = trusted.run(code).error
        assert error is not None
        assert (error.type, error.message) == ("AttributeError", "__sandboxed__ is read-only")
    assert trusted.run("__sandboxed__").value is False
    with Sandbox() as sandbox:
        assert sandbox.run("__sandboxed__").value is True


def test_M11_many_levels_in_one_application(open_dir: Path) -> None:
    (open_dir / "a").write_text("text")
    code = f"open({str(open_dir / 'a')!r}).read()"
    with (
        Sandbox() as nothing,
        Sandbox(Policy().allow(read=[str(open_dir)])) as reads,
        Sandbox(Policy().allow(env={"A": "1"}, processes=1)) as more,
        Trusted() as all_of_it,
    ):
        for _ in range(2):
            found = [kind.run(code).value for kind in (nothing, reads, more, all_of_it)]
            assert found == [None, "text", None, "text"]
        kinds = [kind.run("__sandboxed__").value for kind in (nothing, reads, more, all_of_it)]
        assert kinds == [True, True, True, False]


def test_it_has_the_environment_files_and_processes_of_the_host(
    trusted: Trusted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # set anew for each phase of a test
    trusted.reset()
    assert trusted.run("import os; dict(os.environ)").value == dict(os.environ)
    monkeypatch.setenv("BELLJAR_TEST", "later")
    trusted.reset()
    assert trusted.run("import os; os.environ['BELLJAR_TEST']").value == "later"
    assert trusted.run("os.getuid(), os.getppid()").value == (os.getuid(), os.getpid())
    trusted.run(f"open({str(tmp_path / 'made')!r}, 'w').write('x')").unwrap()
    assert (tmp_path / "made").read_text() == "x"
    code = "import subprocess; subprocess.run(['echo', 'a'], capture_output=True).stdout"
    assert trusted.run(code).value == b"a\n"
    assert trusted.run("import ctypes, socket; socket.socket().close(); ctypes.CDLL(None)").ok
    assert trusted.policy is None


def test_its_packages_are_those_of_its_interpreter(trusted: Trusted) -> None:
    assert trusted.run("import sys; sys.executable").value == sys.executable
    assert trusted.run("import pytest; pytest.__file__").value == pytest.__file__


def test_nothing_is_refused_and_nothing_is_explained(trusted: Trusted) -> None:
    """No note, no denial, and no limit but those that the host holds."""
    for code, kind in (
        ("import no_such_module", "ModuleNotFoundError"),
        ("open('/nothing/here')", "FileNotFoundError"),
        ("raise MemoryError", "MemoryError"),
        ("raise OSError(24, 'Too many open files')", "OSError"),
        ('raise RuntimeError("can\'t start new thread")', "RuntimeError"),
        ("bytearray(2**62)", "MemoryError"),
    ):
        result = trusted.run(code)
        assert result.error is not None
        assert (result.status, result.error.type) == ("raised", kind)
        assert (result.limit, result.denials, result.error.notes) == (None, (), ())
        assert "belljar" not in result.error.traceback


def test_import_belljar_inside_is_this_library(trusted: Trusted) -> None:
    assert trusted.run("import belljar; belljar.__file__").value == belljar.__file__
    assert trusted.run("belljar.run('__sandboxed__').value").value is True
    trusted.run("inner = belljar.Sandbox(); inner.run('x = 1').unwrap()").unwrap()
    assert trusted.run("inner.run('x').value").value == 1
    assert trusted.run("inner.close()").ok
    limits = trusted.run("dict(belljar.limits)").value
    assert limits["wall_s"] == 7 * 86_400
    assert "memory_bytes" not in limits
    used = trusted.run("vars(belljar.usage())").value
    assert used["peak_memory_bytes"] >= used["memory_bytes"] > 0


def test_a_module_beside_the_program_takes_no_place_of_ours(tmp_path: Path) -> None:
    for name in ("gc", "resource", "mmap", "belljar", "signal"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken')")
    (tmp_path / "own.py").write_text("x = 1")
    with Trusted(cwd=tmp_path) as trusted:
        assert trusted.run("import own; own.x").value == 1


# --- limits -------------------------------------------------------------------------------


def test_limits_for_all_runs_and_below_them_for_one() -> None:
    with Trusted(wall_s=20, output_bytes=1000) as trusted:
        assert trusted.run("1", wall_s=10).ok
        with pytest.raises(PolicyError, match="30 is above 20"):
            trusted.run("1", wall_s=30)
        result = trusted.run("print('x' * 2000)")
        assert result.limit is not None
        assert (result.limit.name, len(result.stdout)) == ("output", 1000)


@pytest.mark.parametrize(("name", "key"), [("memory_bytes", "limits.memory_bytes"), ("foo", "foo")])
def test_other_limits_are_not_there(trusted: Trusted, name: str, key: str) -> None:
    for ask in (lambda: Trusted(**{name: 1}), lambda: trusted.run("1", **{name: 1})):
        with pytest.raises(PolicyError, match="not for a trusted interpreter") as caught:
            ask()
        assert caught.value.key == key


def test_more_than_a_sandbox_has_by_default(trusted: Trusted) -> None:
    result = trusted.run("print('x' * 3_000_000)\nb'y' * 20_000_000")
    assert len(result.stdout) == 3_000_001
    assert len(result.value) == 20_000_000


def test_with_a_grace_the_code_is_told(trusted: Trusted) -> None:
    code = """
import time
try:
    while True: time.sleep(0.01)
except TimeoutError:
    told = True
"""
    result = trusted.run(code, wall_s=0.2, grace_s=30)
    assert result.status == "limit"
    assert trusted.run("told").value is True


def test_usage_is_that_of_the_run(trusted: Trusted) -> None:
    first = trusted.run("import time\nwhile time.process_time() < 0.5: pass").usage
    second = trusted.run("1").usage
    assert first.cpu_s > 0.3
    assert second.cpu_s < first.cpu_s / 2
    seen: list[belljar.UsageNow] = []
    trusted.run("time.sleep(0.5)", on_usage=seen.append).unwrap()
    assert seen[0].memory_bytes > 2**20


def test_its_peak_of_memory_is_not_the_hosts(trusted: Trusted) -> None:
    script = (
        "import belljar\n"
        "big = b'x' * 300 * 2**20\n"
        "with belljar.Trusted() as trusted:\n"
        "    trusted.run('1')\n"
        "    print(trusted.run('import os; os._exit(0)').usage.peak_memory_bytes)\n"
    )
    done = host(script)
    assert done.returncode == 0, done.stderr
    assert 2**20 < int(done.stdout) < 200 * 2**20


# --- ends ---------------------------------------------------------------------------------


def test_it_is_a_context_manager_and_close_is_for_good() -> None:
    with Trusted() as trusted:
        pid = trusted.run("import os; os.getpid()").value
        assert repr(trusted) == "<belljar.Trusted open>"
        assert not trusted.closed
    assert trusted.closed
    assert not is_there(pid)
    trusted.close()
    for ask in (lambda: trusted.run("1"), trusted.reset, lambda: trusted.get("x")):
        with pytest.raises(ClosedError, match="it was closed"):
            ask()
    assert not trusted.interrupt()
    with pytest.raises(TypeError, match="a Trusted is a live process"):
        pickle.dumps(trusted)


def test_one_that_is_forgotten_is_closed_with_a_warning() -> None:
    trusted = Trusted()
    pid = trusted.run("import os; os.getpid()").value
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        del trusted
        gc.collect()
    assert [w.category for w in told] == [ResourceWarning]
    assert not is_there(pid)


@pytest.mark.parametrize(
    ("code", "status", "why"),
    [
        ("import os; os._exit(3)", ("exited", 3, None), "exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", ("crashed", None, 9), "signal 9"),
        ("import ctypes; ctypes.string_at(0)", ("crashed", None, 11), "signal 11"),
        ("import os; os.abort()", ("crashed", None, 6), "signal 6"),
    ],
)
def test_after_an_end_there_is_reset(
    trusted: Trusted, code: str, status: tuple[str, int | None, int | None], why: str
) -> None:
    trusted.run("x = 1")
    result = trusted.run(f"print('before')\n{code}")
    assert (result.status, result.exit_code, result.signal) == status
    assert result.stdout == "before\n"
    with pytest.raises(ClosedError, match=why):
        trusted.run("x")
    trusted.reset()
    assert trusted.run("'x' in globals()").value is False


def test_one_that_is_killed_between_two_runs(trusted: Trusted) -> None:
    pid = trusted.run("import os; os.getpid()").value
    os.kill(pid, signal.SIGKILL)
    assert comes(lambda: not is_there(pid))
    with pytest.raises(ClosedError, match="somebody killed it; reset"):
        trusted.run("1")
    trusted.reset()
    assert trusted.run("1").value == 1


def test_interrupt(trusted: Trusted) -> None:
    begun = threading.Event()

    def interrupt() -> None:
        begun.wait()
        while not trusted.interrupt():
            time.sleep(0.01)

    thread = threading.Thread(target=interrupt)
    thread.start()
    code = "x = 1\nprint('begun')\nimport time\ntime.sleep(600)"
    result = trusted.run(code, on_output=lambda _stream, _data: begun.set())
    thread.join()
    assert result.error is not None
    assert result.error.type == "KeyboardInterrupt"
    assert trusted.run("x").value == 1


def test_close_ends_a_run_of_another_thread(trusted: Trusted) -> None:
    begun = threading.Event()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            code = "print('begun')\nwhile True: pass"
            trusted.run(code, on_output=lambda _stream, _data: begun.set())
        except ClosedError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait()
    trusted.close()
    thread.join()
    assert len(raised) == 1


def test_threads_take_turns(trusted: Trusted) -> None:
    trusted.run("n = 0")

    def add() -> None:
        for _ in range(20):
            trusted.run("m = n\nimport time\ntime.sleep(0.001)\nn = m + 1").unwrap()

    threads = [threading.Thread(target=add) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trusted.get("n") == 100


@pytest.mark.parametrize(
    "end",
    [
        lambda trusted: trusted.close(),
        lambda trusted: trusted.reset(),
        lambda trusted: trusted.run("os._exit(0)"),
        lambda trusted: trusted.run("while True: pass", wall_s=0.1),
    ],
    ids=["close", "reset", "exit", "limit"],
)
def test_what_it_started_ends_with_it(trusted: Trusted, end: Callable[[Trusted], object]) -> None:
    code = "import os, subprocess; p = subprocess.Popen(['sleep', '600']); p.pid"
    pid = trusted.run(code).value
    assert is_there(pid)
    end(trusted)
    assert comes(lambda: not is_there(pid))


def test_a_fork_inside_that_goes_on_is_not_the_run(trusted: Trusted) -> None:
    code = "import os\npid = os.fork()\nif pid: status = os.waitpid(pid, 0)[1]\n'end'"
    assert trusted.run(code).value == "end"
    assert trusted.run("status").value == 0
    assert trusted.run("1").value == 1


def test_processes_inside(trusted: Trusted) -> None:
    code = (
        "import multiprocessing\n"
        "def f(x): return x * x\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool: found = pool.map(f, [1, 2, 3])\n"
        "found"
    )
    assert trusted.run(code).unwrap() == [1, 4, 9]


# --- places -------------------------------------------------------------------------------


def test_it_works_in_a_directory_of_its_own_that_goes_with_it() -> None:
    with Trusted(files={"sub/a": "b"}) as trusted:
        first = trusted.run("import os; os.getcwd()").value
        assert (Path(first) / "sub/a").read_text() == "b"
        assert Path(first).stat().st_mode & 0o777 == 0o700
        trusted.reset()
        second = trusted.run("import os; os.getcwd()").value
        assert not Path(first).exists()
        assert (Path(second) / "sub/a").read_text() == "b"
    assert not Path(second).exists()


def test_or_where_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("x = 5")
    (tmp_path / "data").write_text("old")
    with Trusted(cwd=str(tmp_path), files={"data": "new"}) as trusted:
        assert trusted.run("import own; own.x, open('data').read()").value == (5, "new")
    assert (tmp_path / "data").read_text() == "new"


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"cwd": "/no/such/place"}, "cwd"),
        ({"cwd": b"/tmp"}, "cwd"),
        ({"cwd": "a\0b"}, "cwd"),
        ({"python": "/no/such/python"}, "python"),
        ({"python": "/"}, "python"),
        ({"python": 3}, "python"),
        ({"argv": "abc"}, "argv"),
        ({"argv": 1}, "argv"),
        ({"preload": "json"}, "preload"),
        ({"preload": ["a b"]}, "preload[0]"),
        ({"idle_s": 0}, "idle_s"),
        ({"inputs": {"a b": 1}}, "inputs.a b"),
        ({"files": {"../a": ""}}, "files['../a']"),
    ],
)
def test_a_bad_argument_is_named(arguments: dict[str, Any], key: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Trusted(**arguments)
    assert caught.value.key == key


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13", "3.14"])
def test_another_interpreter(version: str) -> None:
    # Version managers put them side by side, and a script on PATH that starts the one in use.
    places = [*map(str, Path(sys.base_prefix).parent.glob("*/bin")), *os.get_exec_path()]
    python = shutil.which(f"python{version}", path=":".join(places))
    if python is None:
        pytest.skip(f"no CPython {version} here, on PATH or beside this one")
    done = subprocess.run([python, "-c", "pass"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"{python} is no CPython {version} that runs")
    with Trusted(python=python) as trusted:
        assert trusted.run("import sys; '%d.%d' % sys.version_info[:2]").value == version
        error = trusted.run("def f(): 1 / 0\nf()").error
        assert error is not None
        assert "def f(): 1 / 0" in error.traceback


@pytest.mark.parametrize(
    "text", ["#!/bin/sh\nexit 3\n", "#!/bin/sh\necho wrong >&2; exit 1\n", "no program\n"]
)
def test_what_is_no_interpreter_is_a_typed_failure(tmp_path: Path, text: str) -> None:
    program = tmp_path / "python"
    program.write_text(text)
    program.chmod(0o755)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(SetupFailed) as caught:
        Trusted(python=program)
    assert not caught.value.retryable
    assert "wrong" not in text or "wrong" in str(caught.value)
    assert len(os.listdir("/proc/self/fd")) == before


# --- the host -----------------------------------------------------------------------------

DYING = """
import os, signal, sys, threading, belljar
def make():
    global trusted
    trusted = belljar.Trusted()
if sys.argv[1] == "thread":
    thread = threading.Thread(target=make); thread.start(); thread.join()
else:
    make()
code = "import os, subprocess; p = subprocess.Popen(['sleep', '600']); [os.getpid(), p.pid]"
print(*trusted.run(code).value, flush=True)
if sys.argv[1] == "forked":
    if os.fork() == 0:
        os.close(1); os.close(2)
        import time; time.sleep(600)
if sys.argv[2] == "running":
    trusted.run("print(1)\\nwhile True: pass",
                on_output=lambda *_: os.kill(os.getpid(), signal.SIGKILL))
if sys.argv[2] == "parked":
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "leaves":
    os._exit(0)
"""


@pytest.mark.parametrize("how", ["running", "parked", "leaves", "ends"])
@pytest.mark.parametrize("made", ["main", "thread", "forked"])
def test_K10_it_dies_with_its_host(made: str, how: str) -> None:
    """With what it started; a fork of the host that lives on does not keep it."""
    done = subprocess.Popen(
        [sys.executable, "-c", DYING, made, how],
        env={**os.environ, "PYTHONPATH": SOURCE},
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        said, _ = done.communicate(timeout=TIMEOUT_S)
        pids = [int(word) for word in said.split()]
        assert len(pids) == 2
        assert comes(lambda: not any(is_there(pid) for pid in pids))
    finally:
        try:
            os.killpg(done.pid, signal.SIGKILL)  # the fork, which is in its group
        except ProcessLookupError:
            assert made != "forked"


def test_one_that_a_thread_made_outlives_the_thread() -> None:
    made: list[Trusted] = []
    thread = threading.Thread(target=lambda: made.append(Trusted()))
    thread.start()
    thread.join()
    with made[0] as trusted:
        time.sleep(0.1)
        assert trusted.run("1").value == 1


def test_a_host_that_ends_leaves_no_directory() -> None:
    script = "import belljar; t = belljar.Trusted(); print(t.run('import os; os.getcwd()').value)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    assert not Path(done.stdout.strip()).exists()


def test_in_a_fork_of_the_host_it_cannot_be_used(trusted: Trusted) -> None:
    trusted.run("x = 1")
    place = trusted.run("import os; os.getcwd()").value
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            trusted.run("1")
        except ClosedError as error:
            os.write(writing, str(error).encode())
        trusted.close()
        gc.collect()
        os._exit(0)
    os.close(writing)
    assert os.waitpid(pid, 0)[1] == 0
    assert b"forked from" in os.read(reading, 1000)
    os.close(reading)
    assert trusted.run("x").value == 1
    assert Path(place).is_dir()


def test_Ctrl_C_at_the_terminal_is_the_hosts(trusted: Trusted) -> None:
    pid = trusted.run("import os; os.getpid()").value
    assert os.getsid(pid) == pid != os.getsid(0)


@pytest.mark.parametrize("by", ["signal.signal(signal.SIGCHLD, signal.SIG_IGN)", ""])
def test_a_host_that_collects_every_child(by: str) -> None:
    """Its interpreters work; of one that ended by itself nobody knows how, and that is said."""
    script = f"""
import os, signal, threading, time, belljar
def collect():
    while True:
        try: os.waitpid(-1, 0)
        except ChildProcessError: time.sleep(0.001)
{by}
if not {by!r}: threading.Thread(target=collect, daemon=True).start()
with belljar.Trusted() as trusted:
    assert trusted.run("6 * 7").value == 42
    assert trusted.run("while True: pass", wall_s=0.1).status == "limit"
    trusted.reset()
    try: print(trusted.run("import os; os._exit(3)").exit_code)
    except belljar.WorkerDied as error: print(error.stage)
    trusted.reset()
    assert trusted.run("6 * 7").value == 42
"""
    done = host(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout in (("wait\n",) if by else ("wait\n", "3\n"))


def test_nothing_is_left_of_many() -> None:
    with Trusted() as first:
        first.run("1")
    before = sorted(os.listdir("/proc/self/fd"))
    for number in range(10):
        with Trusted() as trusted:
            if number % 3:
                trusted.run("1")
            if number % 3 == 2:
                trusted.run("import os; os._exit(1)")
    assert sorted(os.listdir("/proc/self/fd")) == before
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert all(is_there(int(pid)) for pid in children)  # none waits to be collected


def test_K10_a_host_short_of_descriptors_is_told_so() -> None:
    script = """
import gc, os, resource, belljar
with belljar.Trusted() as trusted: trusted.run("1")
held = [os.open("/dev/null", os.O_RDONLY) for _ in range(100)]
top = max(int(name) for name in os.listdir("/proc/self/fd"))
told = set()
for free in range(40):
    for fd in held[len(held) - 1:]: os.close(held.pop())
    before = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (top, 4096))
    try:
        with belljar.Trusted() as trusted: assert trusted.run("1").value == 1
        told.add("ok")
    except belljar.SandboxFailure as error:
        assert error.retryable, error
        told.add("short")
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before
print(*sorted(told))
"""
    done = host(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ok short\n"


def test_a_bad_end_is_an_exception_where_it_is_asked_for(trusted: Trusted) -> None:
    with pytest.raises(GuestRaised):
        trusted.call("int", "x")
    trusted.run("def leave(): import sys; sys.exit(4)")
    with pytest.raises(GuestExited):
        trusted.call("leave")
    assert issubclass(WorkerDied, SandboxFailure)
