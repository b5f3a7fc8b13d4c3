"""What is typed, or piped: lines, and the statements that they make up.

What: ``Typed`` reads from a terminal, with editing, history and completion where this Python
has readline; ``Piped`` reads any other standard input; ``Statements`` joins lines as Python's
own prompt does.  Because: whether a statement is complete is asked of this process's own
compiler (``codeop``), and what it compiles comes from the user and never from the guest.
Then: nothing is executed here, and what the compiler refuses is the guest's to refuse.
"""

from __future__ import annotations

import os
import sys
import warnings

from . import signals, streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Lines(Protocol):
        """Where lines come from."""

        def read(self, prompt: str) -> str | None:
            """A line without its end; None when there are no more."""
            ...


FIRST, NEXT = ">>> ", "... "  # sys.ps1 and sys.ps2
MOST_BYTES = 16 * 2**20  # of a line: what a run takes
KEPT_LINES = 1000
_TOP_LEVEL_AWAIT = 0x2000  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_LOOK_S = 0.2
_RAISE_S = 0.02


class NotText(Exception):
    """A line that is no text, or too long; the message says which."""


class Statements:
    """Lines to statements."""

    def __init__(self, lines: Lines) -> None:
        import codeop

        self._lines = lines
        self._compile: Any = codeop.CommandCompiler()
        self._compile.compiler.flags |= _TOP_LEVEL_AWAIT

    def read(self) -> str | None:
        """The next statement; None when there are no more lines.

        Raises ``NotText``, and ``KeyboardInterrupt`` at a terminal; what was begun is dropped.
        """
        source = ""
        prompt = FIRST
        while (line := self._lines.read(prompt)) is not None:
            source = f"{source}\n{line}" if prompt is NEXT else line
            if _says_nothing(source):
                continue
            if self._complete(source):
                return source
            prompt = NEXT
        return source if prompt is NEXT else None  # the end of the input ends a block

    def _complete(self, source: str) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are the guest's to give
            try:
                return self._compile(source, "<input>", "single") is not None
            except (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError):
                return True  # no further line mends it; the guest says so in its own words


def _says_nothing(source: str) -> bool:
    """Only blanks and comments."""
    lines = (line.strip() for line in source.split("\n"))
    return all(not line or line[0] == "#" for line in lines)


class Piped:
    """Standard input that is no terminal."""

    def __init__(self) -> None:
        self._number = 0

    def read(self, prompt: str) -> str | None:
        """A line without its end; None when there are no more.  No prompt is shown."""
        del prompt
        line = sys.stdin.buffer.readline(MOST_BYTES + 1)
        self._number += 1
        if len(line) > MOST_BYTES:
            raise NotText(f"line {self._number} of standard input is over {MOST_BYTES >> 20} MiB")
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise NotText(f"line {self._number} of standard input is not UTF-8") from None
        return text.removesuffix("\n").removesuffix("\r") if line else None


class Typed:
    """A terminal.  As a context manager: the history is read, and kept at the end."""

    def __init__(self, complete: Callable[[str], list[str]], history: str | None) -> None:
        """``complete`` gets what is typed of a name; ``history`` is the file for lines."""
        self._ask = complete
        self._history = history
        self._found: list[str] = []
        self._raised: BaseException | None = None
        self._readline: Any = None
        self._old = 0  # lines of the history that were there before

    def __enter__(self) -> Typed:
        try:
            import readline
        except ImportError:
            return self  # a Python without it: the terminal's own editing
        self._readline = readline
        readline.set_completer(self._complete)
        libedit = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
        readline.set_history_length(KEPT_LINES)
        if self._history is not None:
            try:
                readline.read_history_file(self._history)
            except FileNotFoundError:
                pass
            except OSError as error:
                self._give_up(error)
        self._old = readline.get_current_history_length()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._readline is None or self._history is None:
            return
        new = self._readline.get_current_history_length() - self._old
        if new <= 0:
            return
        try:
            os.makedirs(os.path.dirname(self._history), mode=0o700, exist_ok=True)
            # Nobody else's to read; and other sessions may have added to it meanwhile.
            os.close(os.open(self._history, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._readline.append_history_file(new, self._history)
        except OSError as failed:
            self._give_up(failed)

    def _give_up(self, error: OSError) -> None:
        streams.complain(f"history {streams.one_line(self._history)}: {error.strerror}")
        self._history = None

    def read(self, prompt: str) -> str | None:
        """A line without its end; None for Ctrl-D.  Raises ``KeyboardInterrupt``, ``NotText``."""
        # A signal between Python's last look for signals and its wait for keys goes unseen until
        # the next key; so it is woken once more when it surely waits.
        signals.call_every(_LOOK_S, _stop)
        try:
            line = self._input(prompt)
        except EOFError:
            return None
        except SystemError as error:
            # ``input`` looks for further signals while the exception of one is on its way.
            raise error.__cause__ or error from None
        finally:
            self._raised = None
            _stop()
        try:
            line.encode()
        except UnicodeEncodeError:
            raise NotText("that is not text in the encoding of this terminal") from None
        return line

    def _input(self, prompt: str) -> str:
        if os.isatty(1):
            return input(prompt)
        streams.complain_at_length(prompt)  # what goes to a file is the guest's output
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.removesuffix("\n")

    def _complete(self, text: str, state: int) -> str | None:
        """For readline, which calls it with 0, 1, 2, … and swallows whatever it raises."""
        if state == 0:
            if not self._readline.get_line_buffer()[: self._readline.get_endidx()].strip():
                self._readline.insert_text("    ")
                self._readline.redisplay()
                self._found = []
                return None
            try:
                self._found = self._ask(text)
            except BaseException as error:
                self._found = []
                self._raised = error
                signals.call_every(_RAISE_S, self._raise)  # once readline waits for keys again
        return self._found[state] if state < len(self._found) else None

    def _raise(self) -> None:
        if self._raised is not None:
            raise self._raised


def _stop() -> None:
    signals.call_every(0, _stop)


def history_file() -> str | None:
    """Where lines are kept: below ``$XDG_STATE_HOME``, or ``~/.local/state``; None: nowhere."""
    base = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(base):  # which the specification says to ignore
        base = os.path.join(os.path.expanduser("~"), ".local", "state")
    return os.path.join(base, "belljar", "history") if os.path.isabs(base) else None
