"""Any command line at all ends with a documented exit code, and never with a traceback.

What: vectors drawn from the grammar of the options, with values that fit, odd ones, odd bytes
(as the system hands them over: lone surrogates) and very long ones; carried out in this
process, with the run itself replaced by a result drawn at random, hostile texts included.
Because: a start takes 60 ms, and what can go wrong before and after the run is all here.
Then: the exit code is one of those that the documentation lists for what happened, what is
said is bounded, and nothing of it is the trace of a fault of ours.  A part of the same
vectors is also given to the real command (``test_fuzz_command``).
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from belljar import cli
from belljar.api import machine
from belljar.api import run as api_run
from belljar.cli import streams
from belljar.cli.options import COMMANDS, EACH, FLAGS, SWITCH, Flag
from belljar.errors import SetupFailed, UnsupportedError, WorkerDied
from belljar.result import Denial, ErrorText, LimitHit, Result, Usage

DOCUMENTED = {
    "run": {0, 1, 2, 3, 4, 5},
    "repl": {0, 1, 2, 3, 4, 5},
    "check": {0, 2, 3},
    "explain": {0, 2, 3},
    "": {0, 2},
}
OURS = 70
MOST_SAID = 4 * 2**20  # what is printed: a result of the default limits, shown twice over

_ODD = [
    *(
        "",
        "-",
        "--",
        "-x",
        "=",
        "a=b",
        "=b",
        ":",
        ":/",
        "/",
        "//",
        ".",
        "..",
        "*",
        "a.*",
        "\udcff\udc80",
    ),
    *(
        "\x1b[2J",
        "\n",
        "ä" * 40,
        "𝄞",
        "x" * 100_000,
        "/" + "d/" * 3000,
        "\u202e",
        "'\"$(x)`",
        "%s{}",
    ),
    *(
        "nan",
        "inf",
        "-1",
        "0",
        "9" * 5000,
        "1e400",
        "0x10",
        "1_0",
        "٣s",
        "5 s",
        "1.5MiB",
        "1G",
        "2s",
    ),
]
_FITTING = {
    "SIZE": ["256M", "1G", "64MiB", "1000000", "16M"],
    "TIME": ["2s", "500ms", "1m", "3"],
    "N": ["0", "1", "16", "64", "100"],
    "NAME": ["rich", "numpy", "_sqlite3", "_curses", "json", "a.*"],
    "NAME=VALUE": ["A=b", "LANG=C.UTF-8", "A=", "A==="],
    "HOST[:INSIDE]": [
        "{folder}",
        "{folder}:/data",
        "{folder}/policy.toml:/p",
        "{folder}/none",
        "/proc",
    ],
    "FILE|baseline:NAME": [
        *("{folder}/policy.toml", "{folder}/policy.json", "{folder}/wrong.toml", "{folder}/bytes"),
        *("{folder}", "{folder}/none", "baseline:2026", "baseline:", "/dev/null", "baseline:x"),
    ],
    "PATH": ["{folder}", "{folder}/none", "/dev/null"],
}
_PROGRAMS = ["{folder}/program.py", "{folder}/bytes", "{folder}", "{folder}/none", "-", "/dev/null"]


def make_folder(folder: Path) -> None:
    """The files that the vectors name."""
    (folder / "program.py").write_text("print('x')\n", encoding="utf-8")
    (folder / "bytes").write_bytes(bytes(range(256)))
    (folder / "policy.toml").write_text("version = 1\n[grants]\nargv = ['p']\n", encoding="utf-8")
    (folder / "policy.json").write_text('{"version": 1}', encoding="utf-8")
    (folder / "wrong.toml").write_text("version = 1\nx = 2\n", encoding="utf-8")


def _odd(rng: random.Random) -> str:
    if rng.random() < 0.7:
        return rng.choice(_ODD)
    return os.fsdecode(rng.randbytes(rng.randint(1, 8)).replace(b"\0", b"\1"))


def _value(rng: random.Random, flag: Flag, folder: str) -> str:
    fitting = _FITTING.get(flag.metavar, ["1"])
    text = rng.choice(fitting) if rng.random() < 0.8 else _odd(rng)
    return text.replace("{folder}", folder)


def arguments(rng: random.Random, folder: str) -> list[str]:
    """One command line."""
    if rng.random() < 0.05:
        return [_odd(rng) for _ in range(rng.randint(0, 4))]
    name = rng.choice(["run", "run", "run", "explain", "check"])
    command = COMMANDS[name]
    line = [name]
    number = rng.choice([0, 1, 2, 3, 5, 30])
    for _ in range(number):
        pool = command.flags if rng.random() < 0.98 else tuple(FLAGS)
        flag = FLAGS[rng.choice(pool)]
        word = flag.short if flag.short and rng.random() < 0.5 else flag.name
        if rng.random() < 0.02:
            word = word[: rng.randint(1, len(word))] + rng.choice(["", "x", "\udcff"])
        if flag.kind == SWITCH:
            line.append(word if rng.random() < 0.99 else f"{word}=1")
            continue
        text = _value(rng, flag, folder)
        many = rng.choice([1, 2, 40]) if flag.kind == EACH and rng.random() < 0.05 else 1
        for _ in range(many):
            line += [f"{word}={text}"] if rng.random() < 0.5 else [word, text]
    if rng.random() < 0.02:
        line.insert(rng.randint(0, len(line)), _odd(rng))
    if rng.random() < 0.02:
        line.append(rng.choice(["-h", "--help"]))
    if command.takes_program and rng.random() < 0.97:
        if rng.random() < 0.1:
            line.append("--")
        line += rng.choice(
            [
                lambda: ["-c", _odd(rng) if rng.random() < 0.3 else "print(1)"],
                lambda: ["-cprint(1)"],
                lambda: [rng.choice(_PROGRAMS).replace("{folder}", folder)],
            ]
        )()
        line += [_odd(rng) for _ in range(rng.choice([0, 0, 1, 3]))]
    return line


# ---------------------------------------------------------------------- the run, replaced


def _hostile(rng: random.Random) -> str:
    return rng.choice(
        [
            "",
            "x",
            "\x1b]0;t\x07\x1b[2J",
            "\n\n",
            "\ud800",
            "a\r\x08",
            "y" * 4000,
            "\u202e",
            "belljar: z",
        ]
    )


def _result(rng: random.Random) -> Result:
    text = _hostile(rng)
    error = ErrorText(text, _hostile(rng), rng.choice([text, ""]), (text,))
    name = rng.choice(["wall", "memory", "open_files", "output", "strange"])
    used = rng.choice([None, 0.0, 1.5, 10.0**12])
    hit = LimitHit(name, rng.choice([1.0, 2**20, 0.0005]), used, rng.choice(["kernel", "guest"]))
    actions = ["read", "write", "run", text]
    targets = ["/etc/x", "/a:/b", "", "rel", "/" + text, "/proc/1"]
    denials = [
        Denial(rng.choice(actions), rng.choice(targets), text)
        for _ in range(rng.choice([0, 1, 30, 100]))
    ]
    value: Any = rng.choice(
        [None, 1, text, [1, (2,), {3}], {"a": b"x", 1: float("nan")}, 2**70, 1j]
    )
    status = rng.choice(["ok", "raised", "exited", "limit", "crashed"])
    return Result(
        status=status,
        value=value if status == "ok" else None,
        value_error=rng.choice([None, text]) if status == "ok" else None,
        stdout_bytes=rng.randbytes(9),
        error=error if status in ("raised", "limit") or rng.random() < 0.2 else None,
        exit_code=rng.choice([0, 1, 255, 256, -1, 2**40]) if status == "exited" else None,
        limit=hit if status == "limit" else None,
        signal=rng.choice([None, 9, 11, 32, 64]) if status == "crashed" else None,
        denials=tuple(denials),
        usage=Usage(0.1, 10**7, 0.2, {"fork": 0.1}),
        truncated=rng.choice([(), ("stdout",)]),
    )


class _Own:
    """In the place of the command's own zygote: a plan is made, and nothing is started."""

    def __init__(self, policy: Any) -> None:
        machine.prepare(policy)

    def __enter__(self) -> _Own:
        return self

    def __exit__(self, *_: object) -> None:
        return None


@contextmanager
def replaced(rng: random.Random) -> Iterator[list[object]]:
    """The run gives a random outcome, which is put into the list."""
    outcomes: list[object] = []

    def run_own(
        own: object, policy: object, order: object, feed: object, take: Any, *more: object
    ) -> Result:
        if rng.random() < 0.1:
            error = rng.choice(
                [
                    SetupFailed("launch", _hostile(rng), retryable=True),
                    WorkerDied("zygote", _hostile(rng)),
                    UnsupportedError([_hostile(rng)], ["remedy"]),
                    OSError(24, "Too many open files"),
                ]
            )
            outcomes.append(error)
            raise error
        result = _result(rng)
        if take is not None:
            take("stdout", rng.randbytes(20))
            take("stderr", b"\x1b[31m")
        outcomes.append(result)
        return result

    with (
        mock.patch.object(machine, "Own", _Own),
        mock.patch.object(api_run, "run_own", run_own),
    ):
        yield outcomes


class Quiet:
    """Descriptors 0, 1 and 2 of this process on files, for the time of a command line."""

    def __enter__(self) -> Quiet:
        sys.stdout.flush()
        sys.stderr.flush()
        self.saved = [os.dup(fd) for fd in (0, 1, 2)]
        null = os.open("/dev/null", os.O_RDONLY)
        self.said = os.memfd_create("said")
        for fd, target in ((0, null), (1, self.said), (2, self.said)):
            os.dup2(target, fd)
        os.close(null)
        return self

    def __exit__(self, *_: object) -> None:
        for fd, saved in enumerate(self.saved):
            os.dup2(saved, fd)
            os.close(saved)
        self.text = os.pread(self.said, MOST_SAID + 1, 0)
        os.close(self.said)


_folder: list[tempfile.TemporaryDirectory[str]] = []


def folder() -> str:
    """Made at the first call, kept for the life of the process."""
    if not _folder:
        _folder.append(tempfile.TemporaryDirectory(prefix="belljar-test-"))
        make_folder(Path(_folder[0].name))
    return _folder[0].name


def judge(line: list[str], code: int, said: bytes, outcomes: list[object]) -> None:
    """Hold what a command line came to against the documentation."""
    shown = repr(line)[:500]
    assert len(said) <= MOST_SAID, f"{shown}: more than {MOST_SAID} bytes said"
    assert b"internal error" not in said, f"{shown}: {said[-1500:]!r}"
    assert b"Traceback (most recent call last)" not in said, f"{shown}: {said[-1500:]!r}"
    outcome = outcomes[0] if outcomes else None
    if isinstance(outcome, Result):
        if outcome.status == "exited":
            wanted = {(outcome.exit_code or 0) & 0xFF}
        else:
            wanted = {{"ok": 0, "raised": 1, "limit": 4, "crashed": 5}[outcome.status]}
    elif outcome is not None:
        wanted = {3 if isinstance(outcome, UnsupportedError) else OURS}
    else:
        wanted = DOCUMENTED[line[0] if line and line[0] in COMMANDS else ""]
        if line[:1] == ["run"]:
            # Nothing ran: it was help, or there is a reason.
            wanted = {0, 2, 3}
            assert said, shown
    assert code in wanted, f"{shown}: exit code {code}, not of {wanted}; {said[-1500:]!r}"


def target(rng: random.Random) -> None:
    """One command line, in this process."""
    line = arguments(rng, folder())
    quiet = Quiet()
    with replaced(rng) as outcomes, quiet:
        try:
            code = cli.command(line)
        except streams.OutputFailed as failed:
            raise AssertionError(f"{line}: {failed.reason}") from failed
    judge(line, code, quiet.text, outcomes)
