"""A result for people, and as JSON (X7, K7)."""

from __future__ import annotations

import json

import pytest

from belljar.cli.messages import (
    MOST_DENIALS,
    describe_denial,
    describe_failure,
    describe_limit,
    describe_result,
)
from belljar.cli.objects import failure_object, fits_json, result_object
from belljar.cli.program import ProgramError
from belljar.cli.run import exit_code, exit_code_of
from belljar.errors import PolicyError, SetupFailed, UnsupportedError, WorkerDied
from belljar.result import Denial, ErrorText, LimitHit, Result, Usage

KEYS = [
    "status",
    "value",
    "stdout",
    "stderr",
    "error",
    "limit",
    "signal",
    "exit_code",
    "denials",
    "artifacts",
    "files",
    "usage",
    "truncated",
]
ERROR = ErrorText("ValueError", "no", "Traceback ...\nValueError: no", ("a note",))


@pytest.mark.parametrize(
    ("hit", "line"),
    [
        (
            LimitHit("wall", 2.0, 2.0049, "kernel"),
            "limit wall: allowed 2 s, used 2 s (--wall sets it)",
        ),
        (LimitHit("cpu", 0.3, 0.3021, "kernel"), "limit cpu: allowed 300 ms, used 0.302 s"),
        (
            LimitHit("memory", 256 * 2**20, 9e6, "guest"),
            "limit memory: allowed 256 MiB (--memory sets it)",
        ),
        (
            LimitHit("output", 1024, 10_000, "kernel"),
            "limit output: allowed 1 KiB, used 9.8 KiB (--output sets it)",
        ),
        (
            LimitHit("open_files", 64, None, "guest"),
            "limit open_files: allowed 64 (--open-files sets it)",
        ),
        (
            LimitHit("processes", 0, None, "guest"),
            "limit processes: allowed 0 (--processes sets it)",
        ),
        (LimitHit("new\nthing", 3, None, "guest"), "limit new\\x0athing: allowed 3"),
    ],
)
def test_limits(hit: LimitHit, line: str) -> None:
    assert describe_limit(hit).startswith(line)


@pytest.mark.parametrize(
    ("denial", "line"),
    [
        (Denial("read", "/srv/x", "g"), "refused read /srv/x: allow with --read /srv/x"),
        (Denial("write", "/srv/a b", "g"), "refused write /srv/a b: allow with --write '/srv/a b'"),
        (
            Denial("read", "/etc/shadow", "g"),
            "refused read /etc/shadow: allow at another place with --read /etc/shadow:/data",
        ),
        (Denial("read", "/proc/1/mem", "g"), "refused read /proc/1/mem: no grant would allow it"),
        (
            Denial("read", "/srv/a:/b", "g"),
            "refused read /srv/a:/b: allow in a policy file; "
            "as a flag its name would read as two places",
        ),
        (Denial("network", "socket", "none"), "refused network socket: none"),
        (Denial("fork", "", "none"), "refused fork: none"),
        (Denial("fork", "", "allow(processes=1)"), "refused fork: allow with --processes 1"),
        (
            Denial("fork", "git", 'allow(run=["git"], processes=1)'),
            "refused fork git: allow with --run git --processes 1",
        ),
        (
            Denial("fork", "a b\n", 'allow(run=["a b"])'),
            "refused fork a b\\x0a: allow with --run $'a b\\x0a'",
        ),
        (
            Denial("read", "/srv/x\nbelljar: all is well", "g"),
            "refused read /srv/x\\x0abelljar: all is well: "
            "allow with --read $'/srv/x\\x0abelljar: all is well'",
        ),
        (Denial("\x1b", "relative\n", "\n\n"), "refused \\x1b relative\\x0a: \\x0a\\x0a"),
    ],
)
def test_denials_stay_on_one_line(denial: Denial, line: str) -> None:
    assert describe_denial(denial) == line


def test_what_is_said_of_each_status() -> None:
    denials = tuple(Denial("read", f"/srv/{n}", "g") for n in range(MOST_DENIALS + 5))
    assert describe_result(Result("ok")) == ""
    assert describe_result(Result("exited", exit_code=3)) == ""
    assert describe_result(Result("raised", error=ERROR)) == "Traceback ...\nValueError: no\n"
    text = describe_result(Result("raised", error=ERROR, denials=denials))
    assert text.count("belljar: refused read ") == MOST_DENIALS
    assert "belljar: refused 5 more; --json lists them all\n" in text
    assert "belljar" not in describe_result(
        Result("raised", error=ERROR, denials=denials), quiet=True
    )
    crashed = Result("crashed", signal=11)
    assert describe_result(crashed) == "belljar: crashed: Segmentation fault (signal 11)\n"
    forged = Result("crashed", error=ErrorText("GuestProtocolError", "bad\nkind", ""))
    assert describe_result(forged) == "belljar: crashed: it broke the protocol: bad\\x0akind\n"
    seen = Result("limit", error=ERROR, limit=LimitHit("wall", 1.0, 1.0, "kernel"))
    assert describe_result(seen) == "belljar: limit wall: allowed 1 s, used 1 s (--wall sets it)\n"
    told = Result("limit", error=ERROR, limit=LimitHit("memory", 2**20, None, "guest"))
    assert describe_result(told).startswith("Traceback ...\nValueError: no\nbelljar: limit memory")


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (Result("ok"), 0),
        (Result("exited", exit_code=0), 0),
        (Result("exited", exit_code=42), 42),
        (Result("exited", exit_code=-1), 255),
        (Result("raised", error=ERROR), 1),
        (Result("limit", limit=LimitHit("wall", 1.0, None, "kernel")), 4),
        (Result("crashed", signal=6), 5),
    ],
)
def test_exit_codes(result: Result, code: int) -> None:
    assert exit_code(result) == code


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (PolicyError("--read", "x\ny"), 2, "belljar: --read: x\\x0ay\n"),
        (PolicyError("code", "too long"), 2, "belljar: too long\n"),
        (ProgramError("can't open"), 2, "belljar: can't open\n"),
        (
            UnsupportedError(["root"], ["get one"]),
            3,
            "belljar: this machine cannot enforce the policy; nothing ran\n"
            "belljar: missing: root\nbelljar: remedy:  get one\n",
        ),
        (SetupFailed("mount", "no"), 70, "belljar: belljar itself failed: mount: no\n"),
        (
            WorkerDied("zygote", "it ended", retryable=True),
            70,
            "belljar: belljar itself failed: zygote: it ended; it may work if tried again\n",
        ),
        (
            BlockingIOError(11, "Resource temporarily unavailable"),
            70,
            "belljar: belljar itself failed: [Errno 11] Resource temporarily unavailable\n",
        ),
    ],
)
def test_no_run_took_place(error: Exception, code: int, text: str) -> None:
    assert exit_code_of(error) == code
    assert describe_failure(error) == text
    data = json.loads(failure_object(error))
    assert list(data) == KEYS
    assert data["status"] == "failed"
    assert data["error"]["type"] == type(error).__name__
    assert data["error"]["message"] == str(error)


def test_json_has_every_field() -> None:
    result = Result(
        status="limit",
        stdout_bytes=b"caf\xc3\xa9 \xff",
        stderr_bytes=b"\x1b",
        error=ERROR,
        limit=LimitHit("memory", 2**20, 3.0, "guest"),
        denials=(Denial("read", "/x", "g"),),
        usage=Usage(0.5, 1000, 1.5, {"fork": 0.1}),
        truncated=("stdout",),
    )
    text = result_object(result)
    assert text.count("\n") == 1
    data = json.loads(text)
    assert list(data) == KEYS
    assert data == {
        "status": "limit",
        "value": None,
        "stdout": "café \\xff",
        "stderr": "\x1b",
        "error": {
            "type": "ValueError",
            "message": "no",
            "traceback": "Traceback ...\nValueError: no",
            "notes": ["a note"],
        },
        "limit": {"name": "memory", "allowed": 2**20, "used": 3.0, "evidence": "guest"},
        "signal": None,
        "exit_code": None,
        "denials": [{"action": "read", "target": "/x", "grant": "g"}],
        "artifacts": [],
        "files": [],
        "usage": {
            "cpu_s": 0.5,
            "peak_memory_bytes": 1000,
            "wall_s": 1.5,
            "stages": {"fork": 0.1},
        },
        "truncated": ["stdout"],
    }


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -1.5, "a\x1b\ud800", [1, [2]], {"a": {"b": None}}, 10**4000],
    ids=lambda value: type(value).__name__,
)
def test_what_json_can_hold_is_the_value(value: object) -> None:
    data = json.loads(result_object(Result("ok", value=value)))
    assert data["value"] == value
    assert "value_repr" not in data


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), "nan"),
        ([1, float("inf")], "[1, inf]"),
        (b"\xff", "b'\\xff'"),
        ({1, 2}, "{1, 2}"),
        ({1: 2}, "{1: 2}"),
        ({"a": {1j}}, "{'a': {1j}}"),
        (1 << 20_000, hex(1 << 20_000)),
        ([1 << 20_000], "<list: too long>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_cannot_hold_is_shown(value: object, shown: str) -> None:
    assert not fits_json(value)
    data = json.loads(result_object(Result("ok", value=value)))
    assert data["value"] is None
    assert data["value_repr"] == shown


def test_a_tuple_is_an_array_and_a_lost_value_has_its_reason() -> None:
    assert json.loads(result_object(Result("ok", value=(1, ()))))["value"] == [1, []]
    data = json.loads(result_object(Result("ok", value_error="a function cannot cross")))
    assert data["value"] is None
    assert data["value_error"] == "a function cannot cross"
