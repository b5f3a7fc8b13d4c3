"""How runs end: statuses, exit codes, ``unwrap``, usage, denials, truncation."""

from __future__ import annotations

import copy
import pickle

import pytest

import belljar
from belljar import Policy, Result


@pytest.mark.parametrize(
    ("code", "exit_code", "said"),
    [
        ("exit()", 0, ""),
        ("exit(0)", 0, ""),
        ("exit(None)", 0, ""),
        ("exit(3)", 3, ""),
        ("quit(4)", 4, ""),
        ("raise SystemExit", 0, ""),
        ("raise SystemExit(2)", 2, ""),
        ("import sys; sys.exit('bye')", 1, "bye\n"),
        ("import sys; sys.exit((1, 2))", 1, "(1, 2)\n"),
        ("exit(2.5)", 1, "2.5\n"),
        ("exit(True)", 1, ""),
        ("exit(-1)", 255, ""),
        ("exit(256)", 0, ""),
        ("exit(257)", 1, ""),
        ("import os; os._exit(7)", 7, ""),
        ("try:\n exit(5)\nfinally:\n import sys; print('end', file=sys.stderr)", 5, "end\n"),
        ("class E(SystemExit): pass\nraise E(6)", 6, ""),
        ("import asyncio\nawait asyncio.sleep(0)\nexit(8)", 8, ""),
        ("import atexit, sys\natexit.register(print, 'at exit', file=sys.stderr)\nexit(9)", 9, "at exit\n"),
    ],
)  # fmt: skip
def test_exit_codes_are_pythons(code: str, exit_code: int, said: str) -> None:
    result = belljar.run(code)
    assert (result.status, result.exit_code, result.stderr) == ("exited", exit_code, said)
    assert result.value is None
    assert result.ok is (exit_code == 0)
    if exit_code == 0:
        assert result.unwrap() is None
    else:
        with pytest.raises(belljar.GuestExited, match=f"exit code {exit_code}"):
            result.unwrap()


def test_exit_in_a_thread_ends_the_thread() -> None:
    code = "import threading\nt = threading.Thread(target=exit, args=(3,))\nt.start(); t.join()\n5"
    assert belljar.run(code).value == 5


def test_threads_and_exit_functions_are_waited_for() -> None:
    code = """
import atexit, threading, time
def late():
    time.sleep(0.05)
    print("thread", flush=True)
threading.Thread(target=late).start()
atexit.register(print, "exit function")
print("main")
"""
    assert belljar.run(code).stdout == "main\nthread\nexit function\n"


def test_output_is_flushed_at_the_end() -> None:
    for end in ("", "exit(0)", "1/0", "x = bytearray(10**10)"):
        result = belljar.run(f"print('no newline', end='')\n{end}")
        assert result.stdout == "no newline"


UNWRAPPED = [
    ("1/0", belljar.GuestRaised, "ZeroDivisionError: division by zero"),
    ("exit(3)", belljar.GuestExited, "exit code 3"),
    ("import os; os.abort()", belljar.GuestCrashed, "ended by signal 6"),
    ("import os; os.write(3, b'x' * 99)", belljar.GuestCrashed, "broke the protocol"),
    ("while True: pass", belljar.LimitExceeded, "cpu: allowed 0.1"),
    ("open('/etc/shadow')", belljar.Denied, "FileNotFoundError"),
    ("import os; os.fork()", belljar.GuestError, ""),
    ("object()", belljar.GuestRaised, "the value cannot cross"),
]


@pytest.mark.parametrize(("code", "kind", "words"), UNWRAPPED)
def test_unwrap_raises_the_kind_of_the_outcome(
    code: str, kind: type[belljar.GuestError], words: str
) -> None:
    result = belljar.run(code, Policy().limit(cpu_s=0.1))
    with pytest.raises(kind) as caught:
        result.unwrap()
    assert caught.type is kind or kind is belljar.GuestError
    assert words in str(caught.value)
    assert caught.value.result is result
    assert isinstance(caught.value, belljar.BelljarError)
    assert not isinstance(caught.value, belljar.SandboxFailure)


def test_unwrap_gives_the_value() -> None:
    assert belljar.run("{'a': [1]}").unwrap() == {"a": [1]}
    assert belljar.run("None").unwrap() is None


def test_usage_is_the_kernels() -> None:
    result = belljar.run(
        "x = bytearray(80 << 20)\nimport time\nsum(range(10**6)); time.sleep(0.05)"
    )
    usage = result.usage
    assert usage.peak_memory_bytes > 80 * 2**20
    assert usage.wall_s >= 0.05
    assert 0 < usage.cpu_s < 60
    assert set(usage.stages) == {"zygote", "fork", "confine", "agent"}
    assert all(seconds >= 0 for seconds in usage.stages.values())
    small = belljar.run("1").usage
    assert small.peak_memory_bytes < usage.peak_memory_bytes


def test_usage_is_there_for_bad_outcomes_too() -> None:
    for code in ("1/0", "import os; os.abort()", "while True: pass", "exit(1)"):
        usage = belljar.run(code, Policy().limit(cpu_s=0.1)).usage
        assert usage.peak_memory_bytes > 2**20
        assert usage.cpu_s > 0


def test_partial_output_is_kept() -> None:
    for end in ("1/0", "exit(3)", "import os; os.abort()", "while True: pass"):
        code = f"import sys\nprint('before', flush=True)\nprint('and', file=sys.stderr)\n{end}"
        result = belljar.run(code, Policy().limit(cpu_s=0.1))
        assert (result.stdout, result.stderr) == ("before\n", "and\n")


def test_truncated_output_names_the_stream_and_keeps_its_start() -> None:
    policy = Policy().limit(output_bytes=1000)
    out = belljar.run("print('a' * 600); print('b' * 600)", policy)
    assert (out.status, out.truncated) == ("limit", ("stdout",))
    assert out.stdout_bytes == b"a" * 600 + b"\n" + b"b" * 399
    err = belljar.run("import sys; sys.stderr.write('e' * 2000)", policy)
    assert (err.truncated, len(err.stderr_bytes)) == (("stderr",), 1000)
    both = belljar.run(
        "import sys; print('a' * 700, flush=True); sys.stderr.write('e' * 700)", policy
    )
    assert both.truncated == ("stderr",)
    assert len(both.stdout_bytes) + len(both.stderr_bytes) == 1000


def test_output_at_its_limit_gives_the_guest_a_clean_end() -> None:
    """The write fails inside, so that ``finally`` blocks run, before the guest is ended."""
    code = """
try:
    while True: print("x" * 1000)
except OSError:
    open(MARK, "w").write("cleaned up")
"""
    import tempfile

    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        mark = f"{directory}/mark"
        policy = Policy().allow(write=[directory]).limit(output_bytes=100_000)
        result = belljar.run(code, policy, inputs={"MARK": mark})
        assert result.limit is not None
        assert result.limit.name == "output"
        with open(mark) as file:
            assert file.read() == "cleaned up"


def test_bytes_and_text_of_the_streams() -> None:
    result = belljar.run("import os; os.write(1, b'\\xff\\x00ok'); os.write(2, b'\\x80')")
    assert (result.stdout_bytes, result.stderr_bytes) == (b"\xff\x00ok", b"\x80")
    assert (result.stdout, result.stderr) == ("\ufffd\x00ok", "\ufffd")


def test_what_c_code_writes_is_captured() -> None:
    code = """
import ctypes, os
libc = ctypes.CDLL(None)
libc.puts(b"from C"); libc.fflush(None)
libc.write(2, b"and raw", 7)
os.system
"""
    result = belljar.run(code)
    assert (result.stdout, result.stderr) == ("from C\n", "and raw")


def test_X7_denials_name_what_was_tried_and_what_would_allow_it(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    code = """
import os
for act in (lambda: open("/srv/data.csv"), lambda: os.mkdir("/srv/new"), os.fork,
            lambda: __import__("socket").create_connection(("192.0.2.1", 80))):
    try: act()
    except OSError: pass
"done"
"""
    result = belljar.run(code)
    assert result.value == "done"
    actions = {(denial.action, denial.target) for denial in result.denials}
    assert ("read", "/srv/data.csv") in actions
    assert ("write", "/srv/new") in actions
    assert {action for action, _ in actions} >= {"read", "write", "fork", "network"}
    (read,) = [d for d in result.denials if d.action == "read"]
    assert read.grant == 'allow(read=["/srv/data.csv"])'


def test_X7_nothing_tried_is_nothing_denied() -> None:
    code = """
import json, sqlite3, asyncio, tempfile, os
open("f", "w").close(); open("/tmp/f", "w").close(); os.listdir("."); open("/dev/null")
await asyncio.sleep(0)
with tempfile.TemporaryDirectory() as d: open(d + "/x", "w").close()
"""
    result = belljar.run(code)
    assert result.status == "ok", result.error
    assert result.denials == ()


def test_M6_a_refusal_is_an_ordinary_exception_with_a_note() -> None:
    error = belljar.run("open('/srv/data.csv')").error
    assert error is not None
    assert error.type == "FileNotFoundError"
    assert any('allow(read=["/srv/data.csv"])' in note for note in error.notes)
    own = belljar.run("open('missing.txt')").error
    assert own is not None
    assert own.notes == ()


def test_K3_a_note_of_the_programs_own_makes_no_denial() -> None:
    """The words are the guest's; what ``unwrap`` says is then the guest's word too."""
    code = "e = ValueError('v'); e.add_note('belljar refused nothing'); raise e"
    result = belljar.run(code)
    assert result.denials == ()
    with pytest.raises(belljar.GuestError) as caught:
        result.unwrap()
    assert isinstance(caught.value, (belljar.Denied, belljar.GuestRaised))


def test_results_are_values() -> None:
    result = belljar.run("print('x'); [1]")
    assert isinstance(result, Result)
    with pytest.raises(AttributeError):
        result.status = "ok"  # type: ignore[misc]
    assert copy.deepcopy(result) == result
    assert pickle.loads(pickle.dumps(result)) == result
    assert "status='ok'" in repr(result)


def test_errors_of_outcomes_can_be_stored() -> None:
    with pytest.raises(belljar.GuestRaised) as raised:
        belljar.run("1/0").unwrap()
    for again in (copy.copy(raised.value), pickle.loads(pickle.dumps(raised.value))):
        assert (type(again), str(again)) == (belljar.GuestRaised, str(raised.value))
        assert again.result == raised.value.result


def test_errors_of_the_caller_can_be_stored() -> None:
    """A process pool sends them from one host to another by pickle."""
    with pytest.raises(belljar.PolicyError) as caught:
        belljar.run(None)  # type: ignore[arg-type]
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.key, str(again)) == (caught.value.key, str(caught.value))
    for error in (
        belljar.SetupFailed("fork", "no memory", retryable=True),
        belljar.WorkerDied("zygote", "it ended", retryable=True),
        belljar.UnsupportedError(["a", "b"], ["c"]),
        belljar.GuestProtocolError("garbage"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (type(error), str(error))
        assert vars(again) == vars(error)
