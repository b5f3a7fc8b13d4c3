"""``belljar run``: programs, exit codes, grants and limits, by the real command."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from belljar import __version__

from .command import belljar, descendants, terminal, through_shell
from .test_messages import KEYS

pytestmark = pytest.mark.usefixtures("walls")


@pytest.fixture
def folder(open_dir: Path) -> Path:
    """A world-readable directory; what is granted must be open to the guest's user."""
    return open_dir


def write(path: Path, contents: bytes | str) -> Path:
    path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    path.chmod(0o644)
    return path


# ---------------------------------------------------------------------- programs


def test_a_script_runs_like_python(folder: Path) -> None:
    """M11, R8, M13: name, arguments, streams, bytes; no path of the host goes inside."""
    write(
        folder / "hello.py",
        "import sys\n"
        "print(__name__, sys.argv)\n"
        "sys.stdout.buffer.write(b'\\xff\\x1b[0m\\n')\n"
        "print('err', file=sys.stderr)\n",
    )
    done = belljar("run", "hello.py", "--json", "-x", "é", cwd=folder)
    assert done.returncode == 0
    text = "__main__ ['hello.py', '--json', '-x', 'é']\n"
    assert done.stdout == text.encode() + b"\xff\x1b[0m\n"
    assert done.stderr == b"err\n"


def test_code_and_standard_input_as_programs() -> None:
    done = belljar("run", "-c", "import sys; print(sys.argv); 1/0", "a", stdin=b"ignored")
    assert done.returncode == 1
    assert done.stdout == b"['-c', 'a']\n"
    assert b'File "<string>", line 1' in done.stderr
    assert done.stderr.endswith(b"ZeroDivisionError: division by zero\n")
    done = belljar("run", "-", "a", stdin=b"import sys; print(sys.argv, sys.stdin.read()); x")
    assert done.returncode == 1
    assert done.stdout == b"['-', 'a'] \n"
    assert b'File "<stdin>", line 1' in done.stderr


def test_standard_input_only_where_granted() -> None:
    """R13: without ``--stdin`` the guest reads an empty stream."""
    code = "import sys; print(repr(sys.stdin.read()))"
    assert belljar("run", "-c", code, stdin=b"secret").stdout == b"''\n"
    assert belljar("run", "--stdin", "-c", code, stdin=b"x\n" * 50_000).stdout == (
        repr("x\n" * 50_000).encode() + b"\n"
    )


@pytest.mark.parametrize(
    ("contents", "code", "stdout", "stderr"),
    [
        (b"", 0, b"", b""),
        (b"#" * 10_000_000 + b"\nprint('ten')", 0, b"ten\n", b""),
        (b"#" * (16 * 2**20 + 1), 2, b"", b"belljar: file 'x.py' is larger than 16 MiB"),
        (b"print(1)\0", 1, b"", b"null bytes"),
        (b"# coding: nosuch\n", 1, b"", b"SyntaxError: unknown encoding: nosuch"),
        (b"# coding: latin-1\nprint(ascii('\xe9'))", 0, b"'\\xe9'\n", b""),
        (b"print('\xe9')", 1, b"", b"SyntaxError: "),
        (b"x = (1 +\n", 1, b"", b'File "x.py", line 1\n    x = (1 +\n        ^\nSyntaxError:'),
        (b"(" * 5000, 1, b"", b"SyntaxError: too many nested parentheses"),
        (b"#!/usr/bin/env python\r\nprint('crlf')\r\n", 0, b"crlf\n", b""),
    ],
    ids=lambda value: repr(value[:18]) if isinstance(value, bytes) else str(value),
)
def test_bad_and_big_programs(
    folder: Path, contents: bytes, code: int, stdout: bytes, stderr: bytes
) -> None:
    write(folder / "x.py", contents)
    done = belljar("run", "x.py", cwd=folder)
    assert (done.returncode, done.stdout) == (code, stdout), done.stderr
    assert stderr in done.stderr
    assert bool(stderr) == bool(done.stderr)
    assert str(folder).encode() not in done.stderr


def test_programs_that_cannot_be_read(folder: Path) -> None:
    done = belljar("run", "no\x1bsuch.py", cwd=folder)
    assert done.returncode == 2
    assert done.stderr == (
        b"belljar: can't open file 'no\\x1bsuch.py': [Errno 2] No such file or directory\n"
    )
    done = belljar("run", "--json", str(folder))
    assert done.returncode == 2
    assert b"can't open file" in done.stderr
    assert b"[Errno 21] Is a directory" in done.stderr
    data = json.loads(done.stdout)
    assert (data["status"], data["error"]["type"]) == ("failed", "ProgramError")
    done = belljar("run", "-c", "0", b"\xff")
    assert done.returncode == 2
    assert b"argument 1 of the program is not UTF-8" in done.stderr


# ---------------------------------------------------------------------- exit codes


@pytest.mark.parametrize(
    ("arguments", "code", "stderr"),
    [
        (["-c", "import sys; sys.exit(7)"], 7, b""),
        (["-c", "import os; os._exit(300)"], 300 & 0xFF, b""),
        (["-c", "import sys; sys.exit('bye')"], 1, b"bye\n"),
        (["-c", "raise SystemExit"], 0, b""),
        (["-c", "raise KeyboardInterrupt"], 1, b"KeyboardInterrupt\n"),
        (["-c", "import os; os.abort()"], 5, b"belljar: crashed: Aborted (signal 6)\n"),
        (["--wall", "200ms", "-c", "while 1: pass"], 4, b"belljar: limit wall: allowed 200 ms, "),
        (["--cpu=200ms", "-c", "while 1: pass"], 4, b"belljar: limit cpu: allowed 200 ms, "),
        (
            ["--memory", "64M", "-c", "x = bytearray(2**30)"],
            4,
            b"MemoryError: \nbelljar: limit memory: allowed 64 MiB (--memory sets it)\n",
        ),
        (["--bogus", "-c", "0"], 2, b"belljar: unknown option '--bogus'\nusage: belljar run "),
        (["--wall", "soon", "-c", "0"], 2, b"belljar: --wall: expected a time such as 2s"),
        (["--policy", "/nosuch.toml", "-c", "0"], 2, b"belljar: /nosuch.toml: cannot read the "),
        (["--package", "belljar-no-such", "-c", "0"], 2, b"'belljar-no-such' is not installed"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_exit_codes(arguments: list[str], code: int, stderr: bytes) -> None:
    done = belljar("run", *arguments)
    assert (done.returncode, done.stdout) == (code, b""), done.stderr
    assert stderr in done.stderr
    assert bool(stderr) == bool(done.stderr)


def test_output_before_the_end_is_kept() -> None:
    """R2: what was printed before a limit is there; a flood is cut at the limit."""
    done = belljar("run", "--wall=500ms", "-c", "print('kept', flush=True)\nwhile 1: pass")
    assert (done.returncode, done.stdout) == (4, b"kept\n")
    done = belljar("run", "--output", "1000", "-c", "while 1: print('y' * 99)")
    assert (done.returncode, len(done.stdout)) == (4, 1000)
    assert done.stderr == (
        b"belljar: limit output: allowed 1000 bytes, used "
        + done.stderr.partition(b"used ")[2].partition(b" (")[0]
        + b" (--output sets it)\n"
    )


# ---------------------------------------------------------------------- grants and limits


def test_grants_reach_the_guest(folder: Path) -> None:
    write(folder / "in.txt", "read me")
    (folder / "out").mkdir()
    (folder / "out").chmod(0o777)
    code = (
        "import os\n"
        "print(open('/work/in.txt').read(), dict(os.environ))\n"
        "print('made', file=open('/out/new.txt', 'w'))\n"
    )
    done = belljar(
        *("run", "--read", "in.txt:/work/in.txt", "--write", "out:/out"),
        *("--env", "A=b c", "--threads", "3", "--open-files=32", "-c", code),
        cwd=folder,
    )
    assert done.stderr == b""
    assert done.stdout == b"read me {'A': 'b c'}\n"
    assert (folder / "out" / "new.txt").read_text() == "made\n"


def test_system_info_lets_the_host_be_seen() -> None:
    """R9: the host's name is hidden, and shows where it is granted."""
    code = "import socket; print(socket.gethostname())"
    assert belljar("run", "-c", code).stdout == b"belljar\n"
    done = belljar("run", "--system-info", "-c", code)
    assert done.stderr == b""
    assert done.stdout.decode() == f"{socket.gethostname()}\n"


def test_limits_reach_the_guest() -> None:
    code = (
        "import resource as r\n"
        "print(*(r.getrlimit(getattr(r, 'RLIMIT_' + n))[0] for n in ('NOFILE', 'FSIZE', 'CPU')))\n"
        "import os; s = os.statvfs('/work'); print(s.f_blocks * s.f_frsize, s.f_files)\n"
        "import threading\n"
        "threading.Thread(target=print).start()\n"
    )
    flags = ["--open-files", "20", "--file", "1M", "--cpu", "90s", "--work", "2M"]
    done = belljar("run", *flags, "--work-files", "50", "--threads", "0", "-c", code)
    assert done.stdout == b"20 1048576 91\n2097152 50\n"
    assert done.returncode == 4
    assert b"belljar: limit threads: allowed 0 (--threads sets it)\n" in done.stderr


def test_a_policy_file_and_flags_on_top(folder: Path) -> None:
    file = write(
        folder / "policy.toml",
        'version = 1\n[grants]\nargv = ["from-file"]\nnames = { n = 6 }\n[limits]\nwall_s = 0.2\n',
    )
    code = "import sys, time; time.sleep(0.4); print(n * 7, sys.argv)"
    done = belljar("run", "--policy", str(file), "-c", code, "mine")
    assert done.returncode == 4
    done = belljar("run", "--policy", str(file), "--wall", "20s", "-c", code, "mine")
    assert (done.returncode, done.stdout) == (0, b"42 ['-c', 'from-file', 'mine']\n")


def test_denials_are_hints_in_the_words_of_the_command() -> None:
    """X7: each denial names the flag that would allow it; ``-q`` leaves them out."""
    code = "open('/srv/data.csv')"
    done = belljar("run", "-c", code)
    assert done.returncode == 1
    assert done.stderr.endswith(
        b"belljar: refused read /srv/data.csv: allow with --read /srv/data.csv\n"
    )
    assert b"belljar: refused" not in belljar("run", "-q", "-c", code).stderr
    caught = f"try: {code}\nexcept OSError: print('went on')"
    done = belljar("run", "-c", caught)
    assert (done.returncode, done.stdout) == (0, b"went on\n")
    assert done.stderr.startswith(b"belljar: refused read /srv/data.csv")


# ---------------------------------------------------------------------- JSON


@pytest.mark.parametrize(
    ("arguments", "code", "wanted"),
    [
        (["-c", "print('hi'); {'a': (1, 2)}"], 0, {"status": "ok", "value": {"a": [1, 2]}}),
        (["-c", "float('nan')"], 0, {"status": "ok", "value": None, "value_repr": "nan"}),
        (["-c", "import sys; sys.exit(9)"], 9, {"status": "exited", "exit_code": 9}),
        (["-c", "1/0"], 1, {"status": "raised"}),
        (["-c", "import os; os.abort()"], 5, {"status": "crashed", "signal": 6}),
        (["--wall", "200ms", "-c", "while 1: pass"], 4, {"status": "limit"}),
        (["--read", "/no/such", "-c", "0"], 2, {"status": "failed"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_json_is_one_object_and_nothing_else(
    arguments: list[str], code: int, wanted: dict[str, object]
) -> None:
    done = belljar("run", "--json", *arguments)
    assert done.returncode == code
    assert done.stdout.count(b"\n") == 1
    data = json.loads(done.stdout)
    assert [key for key in data if key != "value_repr"] == KEYS
    assert {key: data[key] for key in wanted} == wanted
    if code != 2:
        assert done.stderr == b""
        assert data["usage"]["wall_s"] >= 0
        assert data["usage"]["stages"]["fork"] > 0
    if data["status"] == "ok" and "print" in arguments[-1]:
        assert data["stdout"] == "hi\n"
    if data["status"] == "raised":
        assert data["error"]["type"] == "ZeroDivisionError"
        assert "Traceback" in data["error"]["traceback"]
    if data["status"] == "limit":
        assert data["limit"]["name"] == "wall"
        assert data["limit"]["allowed"] == 0.2


# ---------------------------------------------------------------------- as an import, and a mistake


def test_nothing_heavy_is_imported_on_the_way_to_a_run() -> None:
    """Start-up is a headline figure: these cost milliseconds each."""
    script = (
        "import sys, os\n"
        "import belljar.cli as cli\n"
        "def leave(code):\n"
        "    print(*sorted(sys.modules)); sys.stdout.flush(); os._exit(code)\n"
        "from belljar.cli import signals\n"
        "signals.leave = leave\n"
        "sys.argv[1:] = ['run', '-c', '0']\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, check=True)
    loaded = set(done.stdout.decode().split())
    assert "belljar.cli.run" in loaded
    banned = "argparse enum re typing json signal socket subprocess threading traceback rich"
    bare = subprocess.run(
        [sys.executable, "-I", "-c", "import sys; print(*sys.modules)"],
        capture_output=True,
        check=True,
    )
    assert loaded & set(banned.split()) <= set(bare.stdout.decode().split())


def test_the_command_names_itself_and_its_mistakes() -> None:
    done = belljar("--version")
    assert (done.returncode, done.stdout) == (0, f"belljar {__version__}\n".encode())
    done = belljar("run", "--help")
    assert done.returncode == 0
    assert b"--memory SIZE" in done.stdout
    done = belljar()
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"belljar: a command is missing\nusage: ")


def test_output_comes_as_it_is_written() -> None:
    """The guest waits for an answer that is given when its question was seen."""
    code = "print('question? ', end='', flush=True); print('answer', input())"
    with terminal("run", "--stdin", "--wall=50s", "-c", code) as seen:
        seen.read_until(b"question? ")
        assert descendants(seen.process.pid)
        seen.press(b"42\n")
        assert seen.finish().endswith(b"answer 42\r\n")
        assert seen.process.returncode == 0


def test_outputs_of_both_streams_keep_every_byte() -> None:
    script = (
        "$B run --output 8M -c 'import sys\n"
        "for n in range(20000): print(n); print(n, file=sys.stderr)' 2> >(cksum >&2) | cksum; wait\n"
        "seq 0 19999 | cksum"
    )
    done = through_shell(script)
    sums = {*done.stdout.splitlines(), *done.stderr.splitlines()}
    assert len(sums) == 1, done
