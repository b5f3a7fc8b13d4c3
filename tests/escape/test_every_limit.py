"""R2: each limit names itself, in Python and in native code, as docs/reference/limits.md says.

What: for every row of ``LIMITS`` code that reaches it, and the name in the result; for native
code what the system call answers.  Because: "something went wrong" is no answer to the person
who has to set the limit.  Then: a new limit without a row here, or on the page, fails.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import belljar
from belljar import Policy
from belljar.api import machine
from belljar.policy import LIMITS, Limits
from belljar.policy.units import format_limit

from .native import outcome

MIB = 2**20
PAGE = (Path(__file__).parents[2] / "docs/reference/limits.md").read_text(encoding="utf-8")

# limit -> value, code that reaches it.  Wall and processor time are generous otherwise.
IN_PYTHON: dict[str, tuple[float, str]] = {
    "wall_s": (0.3, "import time; time.sleep(60)"),
    "cpu_s": (0.2, "while True: pass"),
    "memory_bytes": (32 * MIB, "x = bytearray(10**9)"),
    "output_bytes": (1000, "print('x' * 10_000)"),
    "processes": (0, "import os; os.fork()"),
    "threads": (
        2,
        "import threading\nstop = threading.Event()\nthreads = []\ntry:\n for n in range(9):\n"
        "  threads.append(threading.Thread(target=stop.wait)); threads[-1].start()\n"
        "finally: stop.set()",
    ),
    "open_files": (20, "kept = [open('/dev/null') for n in range(30)]"),
    "work_bytes": (MIB, "open('f', 'wb').write(bytes(2**21))"),
    "work_files": (50, "for n in range(60): open(str(n), 'w').close()"),
    "file_bytes": (1000, "with open('f', 'wb') as file: file.write(bytes(2000))"),
}

# limit -> value, code for ``native.outcome``, what it finds: no exception, no end.
IN_NATIVE: dict[str, tuple[float, str, Any]] = {
    "memory_bytes": (32 * MIB, 'call("mmap", 0, 1 << 30, 3, 0x22, -1, 0)', "ENOMEM"),
    "processes": (0, 'call("clone", 17, 0, 0, 0, 0)', "EPERM"),
    "threads": (
        0,
        "import _thread\n"
        "try: _thread.start_new_thread(print, ()); found = 'started'\n"
        "except RuntimeError as error: found = str(error)\n"
        "found",
        "can't start new thread",
    ),
    "open_files": (20, '[call("dup", 0) for n in range(30)][-1]', "EMFILE"),
    "work_bytes": (
        MIB,
        'fd = call("openat", AT, b"f", 0o102, 0o600)\n'
        'call("fallocate", fd, 0, 0, 1 << 21) if fd >= 0 else fd',
        "ENOSPC",
    ),
    "work_files": (50, '[call("mkdirat", AT, b"%d" % n, 0o700) for n in range(60)][-1]', "ENOSPC"),
    "file_bytes": (
        1000,
        'fd = call("openat", AT, b"f", 0o102, 0o600)\ncall("ftruncate", fd, 2000)',
        "EFBIG",
    ),
}

# Native code that has an end of its own, whatever Python would make of it.
NATIVE_ENDS: dict[str, tuple[float, str]] = {
    "wall_s": (0.3, "libc.pause()"),
    "cpu_s": (0.2, "while True: libc.strlen(b'x' * 10**7)"),
    "output_bytes": (1000, "while True: libc.write(1, b'x' * 1000, 1000)"),
    "file_bytes": (
        1000,
        "libc.signal(25, None)\nfd = libc.open(b'f', 0o102, 0o600)\n"
        "libc.write(fd, b'x' * 1000, 1000); libc.write(fd, b'x' * 1000, 1000)",
    ),
}
LIBC = "import ctypes\nlibc = ctypes.CDLL(None)\n"
# Nothing ends, and no exception comes: what there is to see instead is tested elsewhere.
NO_END = {
    "grace_s": "tests/api/test_soft_ends.py",
    "pause_s": "tests/api/test_soft_ends.py",
    "cpu_cores": "tests/api/test_throttles.py",
    "output_bytes_per_s": "tests/api/test_throttles.py",
    "value_bytes": "below",
    "artifact_bytes": "tests/api/test_artifacts.py",
}


def policy_with(name: str, value: float) -> Policy:
    wide: dict[str, Any] = {"wall_s": 60, "cpu_s": 60}
    wide.pop(name, None)
    narrow: dict[str, Any] = {name: value}
    return Policy().limit(**narrow).allow(**wide)


def rows(heading: str) -> dict[str, list[str]]:
    """The cells of the table under a heading of the page, by their first."""
    section = PAGE.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    return {row[0].strip("`"): row for row in cells}


def page_name(name: str) -> str:
    return rows("What happens")[name][1].strip("`")


def test_every_limit_is_tried_and_described() -> None:
    assert {*IN_PYTHON, *NO_END} == set(LIMITS)
    assert list(rows("What happens")) == list(rows("Defaults")) == list(LIMITS)
    assert {name for name in LIMITS if page_name(name)} == {*IN_PYTHON, "cpu_cores"}
    for row in rows("What happens").values():
        assert len(row) == 6
        assert all(row[2:])


def test_the_table_of_defaults_is_that_of_the_code() -> None:
    assert list(rows("Defaults").values()) == [
        [
            f"`{name}`",
            format_limit(name, Limits()[name]),
            f"{format_limit(name, spec.low)} to {format_limit(name, spec.high)}",
            spec.bounds,
            spec.reason,
        ]
        for name, spec in LIMITS.items()
    ]


@pytest.mark.parametrize("name", IN_PYTHON)
def test_a_limit_names_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the Python layer on, which has a part in telling a refused fork from another refusal."""
    monkeypatch.setattr(machine, "explain_refusals", True)
    value, code = IN_PYTHON[name]
    result = belljar.run(code, policy_with(name, value))
    assert result.status == "limit", (result.status, result.error)
    assert result.limit is not None
    assert (result.limit.name, result.limit.allowed) == (page_name(name), value)
    assert re.sub(r"_(s|bytes)$", "", name) == result.limit.name


@pytest.mark.parametrize("name", NATIVE_ENDS)
def test_a_limit_names_itself_in_native_code(name: str) -> None:
    value, code = NATIVE_ENDS[name]
    result = belljar.run(LIBC + code, policy_with(name, value))
    assert result.status == "limit", (result.status, result.signal, result.error)
    assert result.limit is not None
    # SIGXFSZ is one that a guest can send to itself, so it proves nothing.
    evidence = "guest" if name == "file_bytes" else "kernel"
    assert (result.limit.name, result.limit.evidence) == (page_name(name), evidence)


@pytest.mark.parametrize("name", IN_NATIVE)
def test_a_system_call_says_what_the_page_says(name: str) -> None:
    """Below Python a limit is an error of the call, and ends nothing."""
    value, code, wanted = IN_NATIVE[name]
    assert outcome(code, policy_with(name, value)) == wanted
    if isinstance(wanted, str) and wanted.isupper():
        assert f"`{wanted}`" in rows("What happens")[name][3]


def test_a_value_that_is_too_large_says_so_by_name() -> None:
    result = belljar.run("'x' * 100_000", Policy().limit(value_bytes=2048))
    assert (result.status, result.value) == ("ok", None)
    assert result.value_error == "value takes more than 2048 bytes of memory, the limit value_bytes"
    other = belljar.run("object()", Policy().limit(value_bytes=2048))
    assert "value_bytes" not in (other.value_error or "")


def test_what_is_caught_ends_nothing() -> None:
    for name in ("memory_bytes", "threads", "open_files", "work_bytes", "work_files", "file_bytes"):
        value, code = IN_PYTHON[name]
        lines = "".join(f"    {line}\n" for line in code.splitlines())
        caught = f"try:\n{lines}except Exception:\n    kept = x = None\n'went on'"
        result = belljar.run(caught, policy_with(name, value))
        assert (result.status, result.value) == ("ok", "went on"), (name, result.error)
