"""The command as a process: signals, pipes, descriptors, a terminal (K1, K10)."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest

from .command import (
    COMMAND,
    TIMEOUT_S,
    Terminal,
    descendants,
    terminal,
    through_shell,
    wait_for_end,
)

pytestmark = pytest.mark.usefixtures("walls")

SLEEP = "import time; print('up', flush=True); time.sleep(300)"
FOREVER = ("run", "--wall=300s", "--cpu=300s")


# ---------------------------------------------------------------------- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_ends_everything(number: signal.Signals) -> None:
    """K10: guest, zygote and command end, and the command ends by that signal."""
    process = subprocess.Popen(
        [*COMMAND, *FOREVER, "-c", SLEEP], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        made = descendants(process.pid)
        assert len(made) >= 2, "zygote and guest"
        process.send_signal(number)
        _, stderr = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    assert process.returncode == -number
    assert stderr == b""
    wait_for_end(made)


def test_a_signal_while_starting_leaves_nothing() -> None:
    """K10: wherever in its start the command is."""
    for delay_s in (0.0, 0.03, 0.06, 0.1):
        process = subprocess.Popen(
            [*COMMAND, *FOREVER, "-c", SLEEP],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        time.sleep(delay_s)
        made = descendants(process.pid)
        process.terminate()
        process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == -signal.SIGTERM
        wait_for_end(made)


def test_an_ignored_interrupt_stays_ignored() -> None:
    """A background job of a script starts with SIGINT ignored, as ``python`` keeps it."""
    done = through_shell(
        f"(trap '' INT HUP; exec $B {' '.join(FOREVER)} -c "
        "'import time; print(1, flush=True); time.sleep(0.5); print(2)') "
        "> >(cat) & p=$!\n"
        "sleep 0.35; kill -INT $p; kill -HUP $p; wait $p; echo code $?"
    )
    assert sorted(done.stdout.split()) == [b"0", b"1", b"2", b"code"], done


def test_ctrl_c_on_a_terminal() -> None:
    with terminal(*FOREVER, "-c", SLEEP) as seen:
        seen.read_until(b"up")
        made = descendants(seen.process.pid)
        seen.press(b"\x03")
        text = seen.finish()
        assert seen.process.returncode == -signal.SIGINT
        assert b"Traceback" not in text
        wait_for_end(made)


# ---------------------------------------------------------------------- pipes


def test_a_reader_that_goes_away_ends_it() -> None:
    """SIGPIPE, as any filter; a guest that would print for ever is ended at once."""
    done = through_shell(
        f"$B {' '.join(FOREVER)} --output 1T -c 'while 1: print(\"y\")' | head -1\n"
        'echo "${PIPESTATUS[*]}"'
    )
    assert done.stdout == b"y\n141 0\n"
    assert done.stderr == b""


def test_a_reader_that_sleeps_does_not_stop_the_clock() -> None:
    """R2: wall_s is held while nobody reads, and nothing that was printed is lost."""
    reader, writer = os.pipe()
    code = "print('y' * 500_000, flush=True)\nwhile 1: pass"
    process = subprocess.Popen(
        [*COMMAND, "run", "--wall=1s", "--cpu=300s", "-c", code],
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    try:
        began = time.monotonic()
        # The guest is gone while the command still waits for its reader.
        while not descendants(process.pid):
            assert process.poll() is None
            assert time.monotonic() < began + TIMEOUT_S
        while descendants(process.pid):
            assert process.poll() is None
            assert time.monotonic() < began + TIMEOUT_S, "the clock stands still"
            time.sleep(0.02)
        assert process.poll() is None
        with os.fdopen(reader, "rb") as stream:
            data = stream.read()
        _, stderr = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
        process.wait()
    assert data == b"y" * 500_000 + b"\n"
    assert process.returncode == 4
    assert stderr.startswith(b"belljar: limit wall: allowed 1 s")


def test_a_reader_that_sleeps_and_goes_away_ends_it() -> None:
    """The guest says nothing more, and is ended all the same."""
    reader, writer = os.pipe()
    code = "print('y' * 500_000, flush=True)\nimport time; time.sleep(300)"
    process = subprocess.Popen(
        [*COMMAND, *FOREVER, "-c", code], stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    try:
        assert os.read(reader, 1) == b"y"
        made = descendants(process.pid)
        os.close(reader)
        _, stderr = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, stderr) == (-signal.SIGPIPE, b"")
    assert made
    wait_for_end(made)


def test_a_terminal_that_sleeps_does_not_stop_the_clock() -> None:
    """The same on a terminal that nobody reads."""
    code = "print('y' * 500_000, flush=True)\nwhile 1: pass"
    seen = Terminal("run", "--wall=1s", "--cpu=300s", "-c", code)
    try:
        began = time.monotonic()
        while not descendants(seen.process.pid):
            assert time.monotonic() < began + TIMEOUT_S
        while descendants(seen.process.pid):
            assert time.monotonic() < began + TIMEOUT_S, "the clock stands still"
            time.sleep(0.02)
        text = seen.finish()
        assert text.count(b"y") == 500_000
        assert b"belljar: limit wall" in text
        assert seen.process.returncode == 4
    finally:
        seen.close()


def test_a_stream_that_takes_nothing() -> None:
    done = through_shell("$B run -c 'print(1)' >/dev/full; echo $?")
    assert done.stdout == b"74\n"
    assert done.stderr == b"belljar: cannot write to stdout: No space left on device\n"
    done = through_shell("$B run --json -c '1' >/dev/full; echo $?; $B check >/dev/full; echo $?")
    assert done.stdout == b"74\n74\n"
    done = through_shell("$B run -c 'print(1); 1/0' 2>/dev/full; echo $?")
    assert done.stdout == b"1\n1\n", "what we say is lost, what the guest said is not"


def test_a_non_blocking_stdout_gets_all_of_it() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    process = subprocess.Popen(
        [*COMMAND, "run", "-c", "print('z' * 900_000)"], stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        data = stream.read()
    _, stderr = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, stderr) == (0, b"")
    assert data == b"z" * 900_000 + b"\n"


# ---------------------------------------------------------------------- descriptors

SAY_BOTH = (
    '"import sys, os; print(1); print(2, file=sys.stderr); '
    "print(sorted(os.listdir('/proc/self/fd')), repr(sys.stdin.read()))\""
)


@pytest.mark.parametrize(
    ("closed", "stdout", "stderr"),
    [
        ("<&-", b"1\n['0', '1', '2', '3', '4'] ''\n0\n", b"2\n"),
        (">&-", b"0\n", b"2\n"),
        ("2>&-", b"1\n['0', '1', '2', '3', '4'] ''\n0\n", b""),
        ("<&- >&- 2>&-", b"0\n", b""),
    ],
)
def test_closed_streams_confuse_nobody(closed: str, stdout: bytes, stderr: bytes) -> None:
    """K3: our sockets never land on 0, 1 or 2; a stream that was closed takes all and keeps none."""
    done = through_shell(f"$B run --stdin -c {SAY_BOTH} {closed}; echo $?")
    assert done.stderr == stderr
    assert done.stdout == stdout


def test_other_commands_with_closed_streams() -> None:
    done = through_shell(
        "$B - <&- ; $B run - <&-; echo $?; $B check >&-; echo $?; $B 2>&-; echo $?"
    )
    assert done.stdout == b"0\n0\n2\n"


def test_descriptors_of_the_caller_do_not_go_inside() -> None:
    """K3, R6: what a careless parent left open is open for nobody."""
    done = through_shell(
        "exec 7</etc/passwd 9</\n"
        "$B run -c 'import os; print(sorted(os.listdir(\"/proc/self/fd\")))'"
    )
    assert done.stdout == b"['0', '1', '2', '3', '4']\n"


# ---------------------------------------------------------------------- a terminal


def test_escape_sequences_do_not_reach_a_terminal() -> None:
    """K1: not in what the guest prints, not in its traceback, not in its denials."""
    code = (
        "import sys\n"
        "print('out\\x1b]0;owned\\x07\\x9b2J')\n"
        "sys.stdout.buffer.write(b'cut\\xc2'); sys.stdout.flush()\n"
        "sys.stdout.buffer.write(b'\\x9b!\\n'); sys.stdout.flush()\n"
        "print('err\\x1b[2J', file=sys.stderr, flush=True)\n"
        "try: open('/srv/\\x1b[2J\\nbelljar: fine')\n"
        "except OSError: pass\n"
        "raise ValueError('msg\\x1b[31m')\n"
    )
    with terminal("run", "-c", code) as seen:
        text = seen.finish()
        assert seen.process.returncode == 1
    assert b"\x1b" not in text
    assert b"\x07" not in text
    assert b"\xc2\x9b" not in text
    for shown in (
        rb"out\x1b]0;owned\x07\x9b2J",
        rb"cut\x9b!",
        rb"err\x1b[2J",
        rb"ValueError: msg\x1b[31m",
        rb"belljar: refused read /srv/\x1b[2J\x0abelljar: fine: ",
    ):
        assert shown in text


def test_bytes_reach_a_pipe_as_they_are() -> None:
    done = through_shell('$B run -c \'print("\\x1b[31m"); raise ValueError("\\x1b[0m")\' 2>&1')
    assert b"\x1b[31m\n" in done.stdout
    assert b"ValueError: \x1b[0m\n" in done.stdout


def test_check_is_a_table_on_a_terminal() -> None:
    with terminal("check", columns=90) as seen:
        text = seen.finish().decode()
        assert seen.process.returncode == 0
    assert "┃" in text
    assert "Landlock" in text
    assert (
        max(len(line) for line in text.replace("\x1b[1m", "").replace("\x1b[0m", "").splitlines())
        <= 90
    )
