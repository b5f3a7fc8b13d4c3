"""The command: ``belljar run``, ``repl``, ``check``, ``explain``.

The map::

    options    the table of commands and flags, and the parser that reads it     pure
    usage      help and usage texts, from the same table                         pure
    policies   flags -> Policy
    program    the program to run, as bytes
    run        ``belljar run``: one guest, streamed
    repl       ``belljar repl``: one live guest, input by input
    session    the live guest of that
    lines      what is typed or piped: prompts, statements, history
    completion names that could follow, asked of the guest                       pure
    granted    what a policy allows, in one line                                 pure
    signals    to and from this command, and its end
    streams    what goes to descriptors 1 and 2
    terminal   texts that cannot drive a terminal                                pure
    messages   what a result looks like to a person                              pure
    objects    what it looks like to a program: JSON                             pure
    machine    ``belljar check`` and ``belljar explain``
    tables     tables for a terminal

Who I am: a process of one thread that the user started, with the user's rights.  What I
trust: the command line and the policy file; never the program, nor anything it prints.
What I hold: the guest's ends, while it runs.  How I die: by ``os._exit`` with the guest's
exit code, or by the signal that ended me, always after the guest.

``belljar run`` is to start in 2.5 times what Python itself takes, so a module is imported
where it is used, and nothing here imports argparse, enum, re, typing, json or signal on the
way to a plain run.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["main"]

EXIT_USAGE = 2
EXIT_UNSUPPORTED = 3
EXIT_OURS = 70  # sysexits.h: EX_SOFTWARE
EXIT_OUTPUT = 74  # sysexits.h: EX_IOERR


def main() -> NoReturn:
    """The entry point of the command.  Ends the process."""
    if sys.platform != "linux":
        sys.stderr.write(f"belljar: the walls are the Linux kernel's, and this is {sys.platform}\n")
        sys.exit(EXIT_UNSUPPORTED)
    hold_standard_descriptors()
    import gc

    # A process this short leaves nothing worth a collection; nine of them while modules
    # load cost 1.3 ms of 16 (median of 40 pairs).
    gc.disable()
    from . import signals, streams

    try:
        signals.raise_on_signals()
        code = command(sys.argv[1:])
    except KeyboardInterrupt:
        signals.die_by(signals.SIGINT)
    except signals.Terminated as ended:
        signals.die_by(ended.number)
    except streams.OutputFailed as failed:
        if failed.broken:
            signals.die_by(signals.SIGPIPE)
        streams.complain(f"cannot write to {failed.name}: {failed.reason}")
        code = EXIT_OUTPUT
    except BaseException as error:
        import traceback

        text = "".join(traceback.format_exception(error))
        streams.complain_at_length(f"belljar: internal error, please report it\n{text}")
        code = EXIT_OURS
    signals.leave(code)


def command(arguments: list[str]) -> int:
    """Read a command line and carry it out; returns the exit code."""
    from . import options, streams

    try:
        parsed = options.parse(arguments)
    except options.UsageError as error:
        from .usage import usage

        streams.complain(f"{streams.one_line(error)}\n{usage(error.command)}")
        return EXIT_USAGE
    if parsed.command == "run":
        from .run import run

        return run(parsed)
    if parsed.command == "repl":
        from .repl import repl

        return repl(parsed)
    if parsed.command == "version":
        from .. import __version__

        streams.say(f"belljar {__version__}\n")
        return 0
    if parsed.command == "help":
        from .usage import help_text

        streams.say(help_text(parsed.topic))
        return 0
    if parsed.command == "check":
        from .machine import check

        return check(parsed)
    from .machine import explain

    return explain(parsed)


def hold_standard_descriptors() -> None:
    """Open ``/dev/null`` on each of 0, 1 and 2 that is closed.

    Then no pipe or socket of ours can land there and be taken for a standard stream.  What
    is written to a stream that was closed is lost, as it is with ``python``.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open("/dev/null", os.O_RDWR)  # takes the lowest free number, which is fd
