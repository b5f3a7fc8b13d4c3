"""R13, R14: output as it comes, true streams where granted, and errors of the host's own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import belljar

SOURCE = str(Path(belljar.__file__).parents[1])


def test_R14_on_output_gets_the_pieces_while_the_program_runs() -> None:
    heard: list[tuple[str, bytes, float]] = []
    code = """
import sys, time
print("one", flush=True); time.sleep(0.2)
print("two", file=sys.stderr, flush=True); time.sleep(0.2)
print("three", flush=True)
"""
    result = belljar.run(code, on_output=lambda s, d: heard.append((s, d, time.monotonic())))
    end = time.monotonic()
    assert [(stream, data) for stream, data, _ in heard] == [
        ("stdout", b"one\n"),
        ("stderr", b"two\n"),
        ("stdout", b"three\n"),
    ]
    assert heard[0][2] < end - 0.3
    assert (result.stdout, result.stderr) == ("one\nthree\n", "two\n")


def test_R14_on_output_runs_on_the_callers_thread() -> None:
    threads: set[int] = set()
    belljar.run("print(1)", on_output=lambda *_: threads.add(threading.get_ident()))
    assert threads == {threading.get_ident()}


def test_R14_the_pieces_are_the_whole() -> None:
    heard: dict[str, bytes] = {"stdout": b"", "stderr": b""}

    def listen(stream: str, data: bytes) -> None:
        heard[stream] += data

    code = "import sys\nfor i in range(2000): print(i); print(-i, file=sys.stderr)"
    result = belljar.run(code, on_output=listen)
    assert (heard["stdout"], heard["stderr"]) == (result.stdout_bytes, result.stderr_bytes)


@pytest.mark.parametrize("error", [ValueError("of the host"), KeyboardInterrupt(), SystemExit(3)])
def test_R14_an_exception_of_on_output_ends_the_run_and_is_raised(error: BaseException) -> None:
    def fail(stream: str, data: bytes) -> None:
        raise error

    for _ in range(3):
        with pytest.raises(type(error)) as caught:
            belljar.run("print('x', flush=True)\nimport time; time.sleep(30)", on_output=fail)
        assert caught.value is error
        assert belljar.run("1 + 1").value == 2


def test_R14_a_slow_listener_loses_nothing() -> None:
    result = belljar.run(
        "for i in range(20): print('x' * 10_000, flush=True)",
        on_output=lambda *_: time.sleep(0.01),
    )
    assert len(result.stdout) == 20 * 10_001


def test_M11_a_run_inside_on_output() -> None:
    values: list[object] = []
    belljar.run("print(3)", on_output=lambda s, d: values.append(belljar.run(d).value))
    assert values == [3]


def host(code: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={"PYTHONPATH": SOURCE},
    )


def test_R13_without_a_grant_no_true_stream_is_touched() -> None:
    code = """
import belljar
r = belljar.run("import sys; print('out'); print('err', file=sys.stderr); sys.stdin.read()")
assert (r.stdout, r.stderr, r.value) == ("out\\n", "err\\n", ""), r
"""
    done = host(code, stdin="secret typed by the user")
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_R13_one_true_stream_is_granted_alone(stream: str) -> None:
    code = f"""
import belljar
policy = belljar.Policy().allow(streams=["{stream}"])
r = belljar.run("import sys; print('out'); print('err', file=sys.stderr); sys.stdin.read()", policy)
assert r.value == "", r
assert (r.stdout, r.stderr) == ("out\\n", "err\\n"), r
"""
    done = host(code, stdin="secret")
    wanted = ("out\n", "") if stream == "stdout" else ("", "err\n")
    assert (done.stdout, done.stderr) == wanted


def test_R13_true_stdin_is_granted_alone() -> None:
    code = """
import belljar
policy = belljar.Policy().allow(streams=["stdin"])
r = belljar.run("import sys; print('out'); sys.stdin.read()", policy)
assert r.value == "typed\\n", r
r = belljar.run("import sys; sys.stdin.read()", policy, stdin="given")
assert r.value == "given", r
"""
    done = host(code, stdin="typed\n")
    assert (done.stdout, done.stderr) == ("", "")


def test_R13_a_granted_stream_is_no_descriptor_of_the_hosts() -> None:
    """The guest holds a pipe: it cannot seek, truncate or read back the file behind it."""
    code = """
import belljar, os, sys
policy = belljar.Policy().allow(streams=["stdout"])
r = belljar.run('''
import os, stat
kinds = [stat.S_ISFIFO(os.fstat(n).st_mode) for n in (1, 2)]
try: os.ftruncate(1, 0)
except OSError as e: kinds.append(e.errno)
kinds
''', policy)
os.write(2, repr(r.value).encode())
"""
    read, write = os.pipe()
    os.close(read)
    os.close(write)
    assert host(code).stderr == "[True, True, 22]"


def test_R13_output_over_the_limit_is_not_streamed_either() -> None:
    code = """
import belljar
policy = belljar.Policy().allow(streams=["stdout"]).limit(output_bytes=5000)
r = belljar.run("while True: print('x' * 1000)", policy)
assert r.limit.name == "output", r
"""
    assert len(host(code).stdout) == 5000
