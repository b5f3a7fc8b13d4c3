"""``belljar run``: one program, one fresh guest, its output as it comes, its exit code.

What: read the program, make the policy, drive the guest, say how it ended.  Because: the
process is the command's own, with one thread and no secrets of a host program's, the
zygote is forked from it, which saves one start of Python.  Then: each import stands where
it is first needed, and most of them behind the fork.
"""

from __future__ import annotations

from . import streams
from .program import ProgramError, read_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..files import Saved
    from ..result import Result
    from .artifacts import Directory
    from .options import Parsed

INTERRUPT_GRACE_S = 1.0  # after Ctrl-C, where the policy says nothing: a person waits so long
EXIT_RAISED, EXIT_USAGE, EXIT_UNSUPPORTED, EXIT_LIMIT, EXIT_CRASHED, EXIT_OURS = 1, 2, 3, 4, 5, 70


def run(parsed: Parsed) -> int:
    """Carry out ``belljar run``; returns the exit code.

    Raises ``streams.OutputFailed`` when nobody takes the output, after the guest's end, and
    ``KeyboardInterrupt`` after Ctrl-C, when the guest has had its time to clean up.
    """
    from ..errors import BelljarError

    as_json = "json" in parsed.switches
    directory = None
    output = None if as_json else streams.Output(raw="raw" in parsed.switches)
    try:
        if "artifacts" in parsed.values:
            directory = open_directory(parsed)
        result, interrupted = _execute(parsed, output)
    except (BelljarError, ProgramError, OSError) as error:
        from .messages import describe_failure

        in_line = output is not None and output.in_line
        streams.complain_at_length(describe_failure(error), in_line)
        if as_json:
            from .objects import failure_object

            streams.say(failure_object(error))
        return exit_code_of(error)
    folder = parsed.one("save_files")
    if output is None:
        from .objects import result_object

        shown, code = _save_artifacts(result, directory)
        saved = _save(result, folder)
        streams.say(result_object(result, shown, saved))
        if interrupted:
            raise KeyboardInterrupt
        return code or exit_code(result)
    output.finish()
    _, code = _save_artifacts(result, directory, output.in_line, "quiet" in parsed.switches)
    _save(result, folder)
    if interrupted:
        raise KeyboardInterrupt
    if result.status not in ("ok", "exited") or result.denials:
        from .messages import describe_result

        quiet = "quiet" in parsed.switches
        streams.complain_at_length(describe_result(result, quiet=quiet), output.in_line)
    return code or exit_code(result)


def open_directory(parsed: Parsed) -> Directory:
    """Where ``--artifacts`` says.  Raises ``ProgramError``, before anything has run."""
    from .artifacts import Directory
    from .program import error_text

    path = parsed.one("artifacts") or ""
    try:
        return Directory(path)
    except (OSError, ValueError) as error:
        raise ProgramError(f"can't write into {path!r}: {error_text(error)}") from None


def _save_artifacts(
    result: Result, directory: Directory | None, in_line: bool = False, quiet: bool = True
) -> tuple[list[dict[str, str]], int]:
    """Write the artifacts into files and say where; the files, and an exit code other than 0."""
    if not result.artifacts or (directory is None and quiet):
        return [], 0
    if directory is None:
        count = len(result.artifacts)
        them = "it" if count == 1 else "them"
        what = "1 artifact" if count == 1 else f"{count} artifacts"
        text = f"belljar: it made {what}; --artifacts DIR writes {them}\n"
        streams.complain_at_length(text, in_line)
        return [], 0
    saved: list[dict[str, str]] = []
    try:
        for artifact in result.artifacts:
            saved.append(directory.save(artifact))
    except OSError as error:
        from .messages import describe_failure

        streams.complain_at_length(describe_failure(error), in_line)
        return [], EXIT_OURS
    if not quiet:
        lines = [f"belljar: wrote {path}\n" for paths in saved for path in paths.values()]
        streams.complain_at_length("".join(lines), in_line)
    return saved, 0


def _execute(parsed: Parsed, output: streams.Output | None) -> tuple[Result, bool]:
    """The result, and whether somebody pressed Ctrl-C meanwhile."""
    program = read_program(parsed)
    folder = parsed.one("save_files")
    if folder is not None:
        from .saved import check_directory

        check_directory(folder)
    from ..api.machine import Own
    from .policies import make_policy

    policy = make_policy(parsed)
    with Own(policy) as own:
        # The zygote starts meanwhile; what is needed to talk to it is imported beside it.
        from ..api.run import make_feed, make_order, run_own
        from ..drivers.interrupts import Interrupts
        from .signals import raise_on_second_interrupt

        interrupts = Interrupts(policy.limits.grace_s or INTERRUPT_GRACE_S)
        interrupts.hear_signals()
        raise_on_second_interrupt(interrupts.ask)

        want_value = output is None or "artifacts" in parsed.values
        order = make_order(
            program.code, policy, None, (), None, program.name, want_value=want_value
        )
        order = order.replace(argv=(program.argv[0], *policy.argv, *program.argv[1:]))
        feed = make_feed(None, policy)
        take = None if output is None else output.take
        return run_own(own, policy, order, feed, take, interrupts), interrupts.asked


def _save(result: Result, folder: str | None) -> Saved | None:
    if folder is None:
        return None
    from .saved import save

    return save(result, folder)


def exit_code(result: Result) -> int:
    """What the command exits with after a run that took place."""
    if result.status == "exited":
        return (result.exit_code or 0) & 0xFF
    return {
        "ok": 0,
        "raised": EXIT_RAISED,
        "limit": EXIT_LIMIT,
        "crashed": EXIT_CRASHED,
    }[result.status]


def exit_code_of(error: Exception) -> int:
    """What it exits with when no run took place."""
    from ..errors import PolicyError, UnsupportedError

    if isinstance(error, (PolicyError, ProgramError)):
        return EXIT_USAGE
    return EXIT_UNSUPPORTED if isinstance(error, UnsupportedError) else EXIT_OURS
