"""``belljar repl``: a session with a live guest, piped and on a terminal (M11, K1, K6, K7)."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from belljar import Policy
from belljar.cli import completion
from belljar.cli.granted import describe_grants
from belljar.cli.lines import NotText, Piped, Statements, history_file
from belljar.policy import PathGrant

from .command import COMMAND, TIMEOUT_S, Terminal, belljar, descendants, terminal, wait_for_end
from .test_terminal_attacks import ATTACKS, acts

PATIENT = ("--wall=300s", "--cpu=300s")
PROMPT = b">>> "


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The history goes to a directory of the test's."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "dumb")  # readline writes no sequences of its own then
    monkeypatch.setenv("INPUTRC", "/dev/null")
    return tmp_path / "belljar" / "history"


def piped(text: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return belljar("repl", *arguments, stdin=text.encode())


class Typist:
    """Somebody at a terminal with a session."""

    def __init__(self, shown: Terminal) -> None:
        self.terminal = shown
        self.terminal.read_until(PROMPT)
        self.banner = shown.seen

    def type(self, keys: str | bytes, until: bytes = PROMPT) -> str:
        """Type, and return what is shown up to the next prompt, the typed included."""
        self.terminal.seen = b""
        self.terminal.press(keys if isinstance(keys, bytes) else keys.encode())
        self.terminal.read_until(until)
        return self.terminal.seen.decode().replace("\r\n", "\n")

    def enter(self, line: str) -> str:
        """Type a line; what is shown between it and the next prompt."""
        said = self.type(line + "\r", b"\n" + PROMPT)
        return said.partition("\n")[2].removesuffix(PROMPT.decode())

    def clear(self) -> None:
        """Press Ctrl-C at the prompt.

        Once more if it had no effect: between its last look for signals and its wait for keys
        Python is deaf.
        """
        self.terminal.seen = b""
        self.terminal.press(b"\x03")
        while not self.terminal.shows(b"KeyboardInterrupt", 5):
            self.terminal.press(b"\x03")
        self.terminal.read_until(b"\n" + PROMPT)

    def leave(self, keys: bytes = b"\x04") -> int:
        self.terminal.press(keys)
        self.terminal.finish()
        assert self.terminal.process.returncode is not None
        return self.terminal.process.returncode


@contextlib.contextmanager
def typing(*arguments: str) -> Iterator[Typist]:
    with terminal("repl", *arguments) as shown:
        yield Typist(shown)


# ------------------------------------------------------------------- statements, without a guest


class Given:
    """Lines of a list, and the prompts that were asked for."""

    def __init__(self, *lines: str) -> None:
        self.lines = list(lines)
        self.prompts: list[str] = []

    def read(self, prompt: str) -> str | None:
        self.prompts.append(prompt)
        return self.lines.pop(0) if self.lines else None


def statements(*lines: str) -> list[str]:
    reader = Statements(Given(*lines))
    found: list[str] = []
    while (source := reader.read()) is not None:
        found.append(source)
    return found


def test_lines_make_statements_as_at_pythons_own_prompt() -> None:
    assert statements("a = 1", "", "# said", "b") == ["a = 1", "b"]
    assert statements("def f():", "  return 1", "", "f()") == ["def f():\n  return 1\n", "f()"]
    assert statements("x = (1,", "", "2)") == ["x = (1,\n\n2)"]
    assert statements("'''a", "# b", "'''") == ["'''a\n# b\n'''"]
    assert statements("@d", "class C: pass", "") == ["@d\nclass C: pass\n"]
    assert statements("await x", "async with y: pass", "") == ["await x", "async with y: pass\n"]
    assert statements("if 1:", "  x") == ["if 1:\n  x"]  # the end ends a block
    assert statements("1 +", "2") == ["1 +", "2"]  # wrong already
    assert statements("x = \\", "1") == ["x = \\\n1"]


def test_what_no_line_could_mend_goes_to_the_guest() -> None:
    """And nothing of it is a warning here."""
    for source in ("1 2", "\0", "'\\d'", "1 is 1", "(" * 2000 + ")" * 2000, "9" * 5000):
        assert statements(source) == [source]


def test_the_prompts() -> None:
    lines = Given("", "if 1:", "  x", "", "y")
    reader = Statements(lines)
    while reader.read() is not None:
        pass
    assert lines.prompts == [">>> ", ">>> ", "... ", "... ", ">>> ", ">>> "]


def test_lines_that_are_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.write(write, b"one\r\ntwo\n\xff\nlast")
    os.close(write)
    with open(read, encoding="utf-8") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        lines = Piped()
        assert (lines.read(""), lines.read("")) == ("one", "two")
        with pytest.raises(NotText, match="line 3"):
            lines.read("")
        assert (lines.read(""), lines.read("")) == ("last", None)


def test_where_the_history_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert history_file() == "/state/belljar/history"
    for unusable in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", unusable)
        monkeypatch.setenv("HOME", "/home/somebody")
        assert history_file() == "/home/somebody/.local/state/belljar/history"


def test_what_is_granted_stands_on_one_line() -> None:
    assert describe_grants(Policy()) == "granted: nothing; 5 s for each input, 256 MiB in all"
    policy = Policy().allow(
        read=[PathGrant("/srv/a\nb", "/data"), *(f"/srv/{n}" for n in range(5))],
        packages=["numpy"],
        env={"LANG": "C.UTF-8"},
        processes=2,
        jit=True,
        system_info=True,
    )
    said = describe_grants(policy)
    assert said.isprintable()
    assert "/srv/a\\x0ab:/data" in said
    assert "and 2 more, packages numpy, 2 processes, native code from data, env LANG" in said
    assert "C.UTF-8" not in said, "a value may be a secret"


# ------------------------------------------------------------------- completion, without a guest


def ask(text: str, /, **names: object) -> list[str]:
    """What would be offered, with this process as the guest."""
    asked = completion.question(text)
    if asked is None:
        return []
    try:
        said = eval(asked, {"__builtins__": __builtins__, **names})
    except NameError:
        said = None
    return completion.answers(text, said)


def test_names_and_attributes_are_completed() -> None:
    assert ask("alp", alpha=1, alpine=2, beta=3) == ["alpha", "alpine"]
    assert ask("isins") == ["isinstance"]
    assert ask("whil") == ["while"]
    assert ask("text.form", text="") == ["text.format", "text.format_map"]
    assert ask("Path.home", Path=Path) == ["Path.home"]
    assert ask("b.real", b=1) == ask("b.rea", b=1) == ["b.real"], "b is the user's"
    assert "text._" not in ask("text.", text="")
    assert "text.__len__" in ask("text._", text="")
    assert ask("missing.x") == []
    assert ask("len", dir=1, isinstance=2, str=3, len=4) == ["len"], "names may be shadowed"


@pytest.mark.parametrize(
    "text",
    [".x", "a..x", "a b", "f().x", "a[0].x", "1.x", "lambda.x", "a.if.x", "a'", "\0", "a.\n"],
)
def test_what_is_no_name_is_not_evaluated(text: str) -> None:
    assert completion.question(text) is None


@pytest.mark.parametrize(
    "said",
    [
        None,
        "alpha",
        {"alpha": 1},
        [1, None, b"alpha", ["alpha"]],
        ["alph" + "a" * completion.MOST_CHARS],
        ["alpha beta", "alpha()", "alpha;rm", "beta", ""],
        [attack.decode("utf-8", "backslashreplace") for attack in ATTACKS.values()],
        ["alph" + attack.decode("utf-8", "backslashreplace") for attack in ATTACKS.values()],
        ["alph\u115f", "alph\u3164", "alph\u034f", "alph\u202ex", "alph\u200d"],
    ],
)
def test_an_answer_that_is_no_name_is_not_offered(said: object) -> None:
    """K7: an answer is the guest's, and what is offered is written to the terminal."""
    assert completion.answers("alph", said) == []


def test_answers_are_bounded() -> None:
    said = [f"a{number}" for number in range(completion.MOST * 2)]
    assert len(completion.answers("a", said)) <= completion.MOST + 10  # and keywords


# ------------------------------------------------------------------- without a terminal


@pytest.mark.usefixtures("walls")
class TestPiped:
    def test_values_are_shown_by_the_guest(self) -> None:
        """No banner and no prompt; what could not cross is shown as well; ``_`` is the last."""
        done = piped(
            "x = 20\n"
            "x + 1\n"
            "_ * 2\n"
            "None\n"
            "lambda: 0\n"
            "class Odd:\n"
            "    def __repr__(self):\n"
            "        return 'odd one'\n"
            "\n"
            "Odd()\n"
            "1; 2\n"
            "for n in 'ab':\n"
            "    n\n"
            "\n"
            "'last'"
        )
        assert done.returncode == 0
        assert done.stderr == b""
        lines = done.stdout.decode().splitlines()
        assert lines[:2] == ["21", "42"]
        assert lines[2].startswith("<function <lambda> at 0x")
        assert lines[3:] == ["odd one", "1", "2", "'a'", "'b'", "'last'"]

    def test_await_futures_and_displayhook(self) -> None:
        """Top-level ``await``; a ``__future__`` import holds; the guest's own hook is asked."""
        done = piped(
            "import asyncio, sys\n"
            "await asyncio.sleep(0, 'waited')\n"
            "task = asyncio.ensure_future(asyncio.sleep(0, 'later'))\n"
            "from __future__ import annotations\n"
            "def f(x: no_such_name): pass\n"
            "\n"
            "f.__annotations__\n"
            "sys.displayhook = lambda value: print('hook', value)\n"
            "8\n"
        )
        lines = done.stdout.decode().splitlines()
        assert (done.returncode, done.stderr) == (0, b"")
        assert lines == ["'waited'", "{'x': 'no_such_name'}", "hook 8"]

    def test_the_last_value_where_builtins_are_chosen(self, open_dir: Path) -> None:
        policy = open_dir / "policy.toml"
        policy.write_text('version = 1\n[blocks]\nbuiltins = ["open"]\n')
        done = piped("6 * 7\n_ + 1\nopen\n", f"--policy={policy}")
        assert done.stdout == b"42\n43\n", done.stderr
        assert (done.returncode, b"NameError" in done.stderr) == (1, True)

    def test_an_exception_ends_it_with_the_lines_of_earlier_inputs(self) -> None:
        done = piped("def f(n):\n    return 1 / n\n\nf(0)\nprint('never')\n")
        assert (done.returncode, done.stdout) == (1, b"")
        assert done.stderr.decode().splitlines() == [
            "Traceback (most recent call last):",
            '  File "<input 2>", line 1, in <module>',
            "    f(0)",
            '  File "<input 1>", line 2, in f',
            "    return 1 / n",
            "           ~~^~~",
            "ZeroDivisionError: division by zero",
        ]

    @pytest.mark.parametrize(
        ("text", "code", "said"),
        [
            ("", 0, b""),
            ("exit(7)\nprint('never')\n", 7, b""),
            ("quit()\n", 0, b""),
            ("import sys; sys.exit('so')\n", 1, b"so\n"),
            ("import os; os._exit(9)\n", 9, b""),
            ("def f(:\n", 1, b"SyntaxError"),
            ("x = (1,\n", 1, b"SyntaxError"),
            ("a = 1\n\0\n", 1, b"null bytes"),
            ("while True: pass\n\n", 4, b"belljar: limit cpu: allowed 300 ms"),
            ("import os; os.abort()\n", 5, b"belljar: crashed: Aborted (signal 6)\n"),
        ],
    )
    def test_exit_codes(self, text: str, code: int, said: bytes) -> None:
        done = piped(text, "--cpu=300ms", "--wall=60s")
        assert (done.returncode, done.stdout) == (code, b"")
        assert said in done.stderr
        assert bool(said) == bool(done.stderr)

    def test_limits_hold_for_each_input_anew(self) -> None:
        line = "print('x' * 60)\n"
        done = piped(line * 3, "--output=100")
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == (b"x" * 60 + b"\n") * 3

    def test_bad_input(self) -> None:
        done = belljar("repl", stdin=b"print(1)\n\xff\xfe\nprint(2)\n")
        assert (done.returncode, done.stdout) == (2, b"1\n")
        assert done.stderr == b"belljar: line 2 of standard input is not UTF-8\n"

    def test_standard_input_is_the_sessions(self, open_dir: Path) -> None:
        """The guest reads nothing, and a policy that grants it is refused."""
        done = piped("input()\n")
        assert (done.returncode, b"EOFError" in done.stderr) == (1, True)
        policy = open_dir / "policy.toml"
        policy.write_text('version = 1\n[grants]\nstreams = ["stdin"]\n')
        done = piped("print(1)\n", f"--policy={policy}")
        assert (done.returncode, done.stdout) == (2, b"")
        assert b"the session itself reads it" in done.stderr
        assert belljar("repl", "--stdin").returncode == 2

    def test_refusals_are_told(self, open_dir: Path) -> None:
        """With the flags of ``run``: granted by one, gone with ``--quiet``."""
        secret = open_dir / "secret"
        secret.write_text("kept")
        secret.chmod(0o644)
        code = f"try: print(open('{secret}').read())\nexcept OSError: print('no')\n\n"
        done = piped(code)
        assert done.stdout == b"no\n"
        assert done.stderr.startswith(f"belljar: refused read {secret}: allow with".encode())
        assert piped(code, "-q").stderr == b""
        assert piped(code, f"--read={secret}").stdout == b"kept\n"

    def test_interrupted(self) -> None:
        """Ctrl-C on a script of statements ends all of it, as with ``run``."""
        with subprocess.Popen(
            [*COMMAND, "repl", *PATIENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"import time\nprint('up', flush=True); time.sleep(300)\n2\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"up\n"
            made = descendants(process.pid)
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=TIMEOUT_S)[0] == b""
            assert process.returncode == -signal.SIGINT
        wait_for_end(made)

    def test_a_reader_that_goes_away_ends_it(self) -> None:
        read, write = os.pipe()
        os.close(read)
        done = subprocess.run(
            [*COMMAND, "repl"], input=b"print(1)\n", stdout=write, timeout=TIMEOUT_S, check=False
        )
        os.close(write)
        assert done.returncode == -signal.SIGPIPE


# ------------------------------------------------------------------- on a terminal


@pytest.mark.usefixtures("walls")
class TestTyped:
    def test_a_session(self, state: Path) -> None:
        """Banner, prompts, blocks, an exception that ends nothing, Ctrl-D, the history."""
        with typing("--env=WORD=hush", *PATIENT) as user:
            banner = user.banner.decode().replace("\r\n", "\n")
            assert "granted: env WORD; 5 min for each input, 256 MiB in all\n" in banner
            assert "hush" not in banner
            assert user.enter("x = 20") == ""
            assert user.enter("x + 1") == "21\n"
            assert user.type("def f(n):\r", b"... ") == "def f(n):\n... "
            assert user.type("    return 1 / n\r", b"\n... ").endswith("\n... ")
            assert user.enter("") == ""
            assert "ZeroDivisionError" in user.enter("f(0)")
            assert user.enter("_, f(1)") == "(21, 1.0)\n"
            assert user.leave() == 0
        kept = state.read_text().splitlines()
        assert kept == ["x = 20", "x + 1", "def f(n):", "    return 1 / n", "f(0)", "_, f(1)"]
        assert stat.S_IMODE(state.stat().st_mode) == 0o600
        assert stat.S_IMODE(state.parent.stat().st_mode) & 0o077 == 0
        with typing() as user:
            assert user.type("\x10\r", b"\n" + PROMPT).startswith("_, f(1)\n")  # Ctrl-P
            assert user.leave(b"exit(3)\r") == 3
        assert state.read_text().splitlines() == [*kept, "exit(3)"]

    def test_no_history(self, state: Path) -> None:
        with typing("--no-history") as user:
            user.enter("x = 1")
            assert user.leave() == 0
        assert not state.parent.exists()

    def test_a_history_that_cannot_be_kept_is_said(self, state: Path) -> None:
        state.mkdir(parents=True)
        with typing() as user:
            assert b"belljar: history " in user.banner
            assert user.enter("1") == "1\n"
            assert user.leave() == 0

    def test_control_c(self) -> None:
        """K6: clears the line at the prompt, ends the input that runs, and never the session."""
        with typing(*PATIENT) as user:
            user.enter("kept = 5; import time")
            user.type("junk(", b"junk(")
            user.clear()
            user.type("if 1:\r", b"... ")
            user.clear()
            assert user.enter("kept") == "5\n"
            user.type("print('up', flush=True); time.sleep(300)\r", b"up\r\n")
            said = user.type("\x03", b"\n" + PROMPT)
            assert 'File "<input 3>", line 1, in <module>' in said
            assert "KeyboardInterrupt\n" in said
            assert user.enter("kept") == "5\n"
            assert user.leave() == 0

    def test_control_c_twice_ends_what_does_not_react(self) -> None:
        with typing(*PATIENT) as user:
            user.enter("kept = 5")
            user.type("print('up', flush=True); sum(range(10**14))\r", b"up\r\n")
            made = descendants(user.terminal.process.pid)
            user.terminal.seen = b""
            while not user.terminal.shows(b"KeyboardInterrupt", 0.3):
                user.terminal.press(b"\x03")  # two that are pressed at once come as one
            user.terminal.read_until(b"without its names")
            user.terminal.read_until(PROMPT)
            assert "NameError" in user.enter("kept")
            assert made & descendants(user.terminal.process.pid), "the same zygote"
            assert user.leave() == 0

    def test_a_fresh_interpreter_after_limits_and_crashes(self) -> None:
        with typing("--cpu=300ms", "--wall=60s") as user:
            user.enter("kept = 5")
            said = user.enter("while True: pass\r")
            assert "belljar: limit cpu: " in said
            assert "belljar: the interpreter has ended; a fresh one starts" in said
            assert "NameError" in user.enter("kept")
            said = user.enter("import os; os.abort()")
            assert "belljar: crashed: Aborted (signal 6)" in said
            assert "a fresh one starts" in said
            said = user.enter("x = bytes(10**10)")
            assert "belljar: limit memory" in said
            assert "fresh" not in said, "an exception leaves the interpreter"
            assert user.leave(b"import os; os._exit(4)\r") == 4

    def test_killed_between_two_inputs(self) -> None:
        with typing() as user:
            user.enter("kept = 5")
            for pid, _ in descendants(user.terminal.process.pid):
                with contextlib.suppress(FileNotFoundError):  # somebody short-lived
                    status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                    if status in "Tt":
                        os.kill(pid, signal.SIGKILL)
            said = user.enter("print('ran')")
            # The kernel tells of it before the input is sent, or after.
            assert "belljar: not run: it ended" in said or "Killed (signal 9)" in said
            assert "ran\n" not in said
            assert "a fresh one starts" in said
            assert user.enter("1") == "1\n"
            assert user.leave() == 0

    def test_output_is_harmless(self) -> None:
        """K7: printed, shown as a value, raised; a prompt begins on a line of its own."""
        with typing() as user:
            for code in (
                "print('\\x1b]0;owned\\x07\\x9b2J', end='')",
                "'a'; type('R', (), {'__repr__': lambda s: '\\x1b[2J'})()",
                "raise ValueError('\\x1b]52;c;eA==\\x07')",
            ):
                said = user.enter(code)
                assert acts(said.encode()) == []
                assert "\\x1b" in said
            assert user.leave() == 0
        with typing("--raw") as user:
            assert "\x1b[1mbold" in user.enter("print('\\x1b[1mbold')")
            assert user.leave() == 0

    def test_completion(self) -> None:
        with typing(*PATIENT) as user:
            user.enter("alpha_beta = {1: 2}")
            assert user.enter("alpha_b\t.ke\t()").endswith("dict_keys([1])\n")
            user.type("if 1:\r", b"... ")
            user.type("\talpha_b\t\r", b"... ")
            assert user.enter("") == "{1: 2}\n"
            assert "NameError" in user.enter("missing.x\ty")
            assert user.leave() == 0

    def test_completion_of_hostile_names(self) -> None:
        """K7: what runs inside for a Tab may print, answer, raise and take for ever."""
        with typing(*PATIENT) as user:
            for line in (
                "class Bad:",
                "    def __init__(self, said): self.said = said",
                "    def __dir__(self):",
                "        print('meanwhile', flush=True)",
                "        return self.said()",
                "",
            ):
                user.type(line + "\r", b"... " if line else b"\n" + PROMPT)
            user.enter("odd = Bad(lambda: ['right', 'rig\\x1b[2J', 'right hand'])")
            said = user.enter("odd.rig\tx")
            assert "odd.rightx" in user.terminal.seen.decode()
            assert "meanwhile" in said
            assert acts(said.encode()) == []
            user.enter("odd = Bad(lambda: max(0 for _ in iter(int, 1)))")
            said = user.enter("odd.a\tb")  # interrupted after a second
            assert "has no attribute 'ab'" in said
            user.enter("import os; odd = Bad(lambda: os.abort())")
            said = user.enter("odd.a\tb")
            assert "belljar: not run: it ended by signal 6" in said
            assert "a fresh one starts" in said
            assert user.leave() == 0

    def test_control_c_while_completing(self, open_dir: Path) -> None:
        """What takes no notice of it is ended by the second one, and the line is cleared."""
        with typing(*PATIENT, f"--write={open_dir}:/out") as user:
            user.type("class Deaf:\r", b"... ")
            user.type("    def __dir__(self):\r", b"... ")
            user.type("        open('/out/up', 'w').close(); sum(range(10**14))\r", b"... ")
            user.enter("")
            user.enter("deaf = Deaf()")
            user.type("deaf.x\t", b"deaf.x")
            while not (open_dir / "up").exists():
                assert user.terminal.process.poll() is None
                time.sleep(0.01)
            # The first is lost where the timer has asked already; both may come as one.
            while not user.terminal.shows(b"KeyboardInterrupt", 0.2):
                user.terminal.press(b"\x03")
            user.terminal.read_until(b"without its names")
            user.terminal.read_until(PROMPT)
            assert user.enter("3 + 3") == "6\n"
            assert user.leave() == 0

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
    def test_ended_at_the_prompt(self, number: signal.Signals, state: Path) -> None:
        """The guest ends with it, and the lines are kept."""
        with typing() as user:
            user.enter("x = 1")
            made = descendants(user.terminal.process.pid)
            user.terminal.process.send_signal(number)
            user.terminal.finish()
            assert user.terminal.process.returncode == -number, user.terminal.seen.decode()
            wait_for_end(made)
        assert state.read_text() == "x = 1\n"
