"""``belljar repl``: one live guest, statement by statement.

What: read a statement, run it in a ``Session``, say how it ended; go on.  Because: a session is
worth keeping, Ctrl-C ends the statement and not the session, and an interpreter that a limit
or a crash has ended is replaced by a fresh one, with a notice.  Then: this process only reads
lines and writes text; each value is shown by the guest itself.

Without a terminal there are no prompts, and the first statement that ends badly ends the
session with the exit code of ``belljar run``: what follows was written to come after it.
"""

from __future__ import annotations

import os

from . import completion, signals, streams
from .lines import NotText, Piped, Statements, Typed, history_file
from .messages import describe_failure, describe_result
from .program import ProgramError
from .run import EXIT_OURS, EXIT_USAGE, exit_code, exit_code_of, open_directory
from .session import Session, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..policy import Policy
    from ..result import Result
    from .artifacts import Directory
    from .options import Parsed

_MOST_KEPT = 2**20  # bytes printed behind the user's back that are shown later


def repl(parsed: Parsed) -> int:
    """Carry out ``belljar repl``; returns the exit code.

    Raises ``streams.OutputFailed`` when nobody takes the output, ``signals.Terminated``.
    """
    import gc

    from ..errors import BelljarError

    gc.enable()  # this one may last for days
    try:
        policy = _policy(parsed)
        directory = open_directory(parsed) if "artifacts" in parsed.values else None
        session = Session(policy)
    except (BelljarError, ProgramError, OSError) as error:
        streams.complain_at_length(describe_failure(error))
        return exit_code_of(error)
    with session:
        output = streams.Output(raw="raw" in parsed.switches)
        talk = Talk(session, output, quiet="quiet" in parsed.switches, directory=directory)
        signals.raise_on_second_interrupt(talk.interrupt)
        if not os.isatty(0):
            return talk.carry_on(Statements(Piped()))
        keep = "no_history" not in parsed.switches
        with Typed(talk.complete, history_file() if keep else None) as lines:
            talk.greet(policy)
            return talk.carry_on(Statements(lines), typed=True)


def _policy(parsed: Parsed) -> Policy:
    from ..errors import PolicyError
    from .policies import make_policy

    policy = make_policy(parsed)
    if "stdin" in policy.streams:
        raise PolicyError("streams", "stdin cannot be granted here: the session itself reads it")
    return policy


class Talk:
    """A session with its user."""

    def __init__(
        self,
        session: Session,
        output: streams.Output,
        *,
        quiet: bool,
        directory: Directory | None = None,
    ) -> None:
        self._session = session
        self._output = output
        self._quiet = quiet
        self._directory = directory
        self._typed = False
        self._interrupted = False
        self._number = 0
        self._kept: list[tuple[str, bytes]] = []
        self._kept_bytes = 0

    def greet(self, policy: Policy) -> None:
        """Say what this is, what is granted, and how to leave."""
        from .. import __version__
        from .granted import describe_grants

        code = "'%d.%d.%d' % __import__('sys').version_info[:3]"
        version = self._session.run(code, name="<version>", on_output=self._keep).value
        plain = isinstance(version, str) and version.replace(".", "").isdecimal()
        python = f"Python {version}" if plain and len(version) < 20 else "Python"
        title = f"{python} in belljar {__version__}; exit() or Ctrl-D leaves"
        streams.complain_at_length(f"{title}\n{describe_grants(policy)}\n")

    def carry_on(self, statements: Statements, *, typed: bool = False) -> int:
        """Run statements until the last one; returns the exit code.  ``typed``: by a person."""
        self._typed = typed
        doubtful = False  # whether there is an interpreter
        while True:
            try:
                if doubtful and not self._there():
                    return EXIT_OURS
                doubtful = False
                source = self._read(statements)
                if source is None:
                    if typed:
                        streams.complain_at_length("\n")
                    return 0
                code = self._enter(source)
            except KeyboardInterrupt:
                if not typed:
                    raise
                self._tell("KeyboardInterrupt\n", new_line=True)
                doubtful = True
                continue
            except NotText as error:
                self._tell(f"belljar: {error}\n")
                code = None if typed else EXIT_USAGE
            if code is not None:
                return code

    def interrupt(self) -> bool:
        """Ctrl-C; whether there was something to interrupt that was not asked before."""
        self._interrupted = self._session.interrupt()
        return self._interrupted

    def _read(self, statements: Statements) -> str | None:
        if self._output.in_line:  # a prompt begins on a line of its own
            streams.complain_at_length("\n")
            self._output.in_line = False
        return statements.read()

    def _enter(self, source: str) -> int | None:
        """Run one statement; the exit code, if the session ends with it."""
        from ..errors import ClosedError, PolicyError, SandboxFailure

        self._show_kept()
        self._number += 1
        self._interrupted = False
        try:
            result = self._session.enter(source, f"<input {self._number}>", self._output.take)
        except PolicyError as error:
            self._tell(describe_failure(error))
            return None if self._typed else EXIT_USAGE
        except ClosedError as error:
            self._tell(f"belljar: not run: {streams.one_line(reason(error))}\n")
            return self._replace() if self._typed else EXIT_OURS
        except (SandboxFailure, OSError) as error:
            self._output.finish()
            self._tell(describe_failure(error))
            return self._replace() if self._typed else EXIT_OURS
        self._output.finish()
        if self._interrupted and not self._typed:
            raise KeyboardInterrupt
        self._describe(result)
        if result.status == "ok":
            return None
        if result.status == "exited" or not self._typed:
            return exit_code(result)
        if result.status != "raised" and not self._there():
            return EXIT_OURS
        return None

    def _describe(self, result: Result) -> None:
        if result.artifacts:
            from .artifacts import report

            try:
                self._tell(report(result.artifacts, self._directory))
            except OSError as error:
                self._tell(describe_failure(error))
        if result.status not in ("ok", "exited") or result.denials:
            self._tell(describe_result(result, quiet=self._quiet, more_hint=""))

    def _there(self) -> bool:
        """Whether there is an interpreter, if need be a fresh one; says so then."""
        self._output.finish()
        return not self._session.ended or self._replace() is None

    def _replace(self) -> int | None:
        """Start a fresh interpreter; the exit code, if there is none to be had."""
        from ..errors import BelljarError

        try:
            self._session.reset()
        except (BelljarError, OSError) as error:
            self._tell(describe_failure(error))
            return exit_code_of(error)
        self._tell("belljar: the interpreter has ended; a fresh one starts, without its names\n")
        return None

    def _tell(self, text: str, *, new_line: bool = False) -> None:
        if text:
            streams.complain_at_length(text, self._output.in_line or new_line)
            self._output.in_line = False

    # --- completion -----------------------------------------------------------------------

    def complete(self, text: str) -> list[str]:
        """What ``text`` could become, as the guest says within a second."""
        from ..errors import BelljarError

        asked = completion.question(text)
        if asked is None:
            return []
        most = min(self._session.policy.limits.value_bytes, completion.VALUE_BYTES)
        signals.call_every(completion.WAIT_S, self._session.interrupt)
        try:
            result = self._session.run(
                asked, name="<completion>", on_output=self._keep, value_bytes=most
            )
        except (BelljarError, OSError):
            return []  # the next statement meets it, and says so
        finally:
            signals.call_every(0, self._session.interrupt)
        return completion.answers(text, result.value if result.status == "ok" else None)

    def _keep(self, name: str, data: bytes) -> None:
        """What threads print while nobody has asked for anything; it would spoil the line."""
        self._kept_bytes += len(data)
        if self._kept_bytes <= _MOST_KEPT:
            self._kept.append((name, data))

    def _show_kept(self) -> None:
        kept, self._kept = self._kept, []
        self._kept_bytes = 0
        for name, data in kept:
            self._output.take(name, data)
