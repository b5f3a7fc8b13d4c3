"""Help, from the table that the parser reads."""

from __future__ import annotations

from .options import COMMANDS, FLAGS, LAST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .options import Command, Flag

_COLUMN = 26  # where the second column starts; a longer first column gets a line of its own

_ARGUMENTS = {
    "run": "[options] SCRIPT|-c CODE|- [arguments]",
    "repl": "[options]",
    "check": "[--json]",
    "explain": "[options]",
}

_EXAMPLES = {
    "": """\
  belljar run script.py            run a program that you do not trust
  belljar repl                     talk to a sandboxed interpreter
  belljar check                    see what this machine can enforce
  belljar explain --read data      see how a policy would be enforced
""",
    "run": """\
  belljar run script.py one two                  arguments after SCRIPT are its own
  belljar run -c 'print(6 * 7)'
  generate | belljar run -                       the program comes from standard input
  belljar run --stdin filter.py < data.txt       the data does
  belljar run --read data.csv:/work/data.csv report.py
  belljar run --policy judge.toml --wall 30s --memory 1G --json answer.py
""",
    "repl": """\
  belljar repl
  belljar repl --package numpy --read data.csv:/work/data.csv
  belljar repl --grace 1s                        an input that takes too long ends by itself
  belljar repl < statements.py                   as if it were typed, without prompts
""",
    "check": """\
  belljar check
  belljar check --json
""",
    "explain": """\
  belljar explain
  belljar explain --policy judge.toml --memory 1G
  belljar explain --filter                       with every system call
""",
}

_RUN_ENDS = """\
The program gets nothing that is not named here: no files, network, processes or
environment.  Its current directory is /work, in memory; a file shows at its own path,
or at INSIDE.  Units: 500ms, 2s, 5m, 1h; 64K, 256M, 1.5G (powers of 1024).

exit code
  its own   the program ended, or called exit
  1         it ended with an exception
  2         the command line, the program file or the policy makes no sense
  3         this machine cannot enforce the policy; nothing ran
  4         it ran into a limit
  5         it crashed
  70        belljar itself failed
  74        standard output or standard error cannot be written
  130, 143  interrupted (Ctrl-C), terminated; 141: the reader of the output went away

Ctrl-C gives the program KeyboardInterrupt and --grace, or 1 s, to clean up; a second
Ctrl-C ends it at once.

Control characters that the program prints are shown as \\x1b on a terminal; a pipe or a
file gets its bytes as they are.
"""

_REPL_ENDS = """\
What is typed runs in one live interpreter under the policy; _ is the last value.  --wall,
--cpu and --output hold for each input anew.  A limit or a crash ends the interpreter, and
a fresh one takes its place.  Ctrl-C interrupts what runs (a second one ends it), and
clears the line at the prompt.  Tab completes.  exit() or Ctrl-D leaves.

Lines are kept in $XDG_STATE_HOME/belljar/history (~/.local/state if that is not set).

exit code
  its own   an input called exit, or ended the interpreter by os._exit; Ctrl-D: 0
  1, 4, 5   where input is no terminal, the first that ends with an exception, at a limit
            or by a crash ends the session
  2         the command line, the policy or the input makes no sense
  3         this machine cannot enforce the policy; nothing ran
  70        belljar itself failed
  74        standard output or standard error cannot be written
"""

_CHECK_ENDS = """\
exit code
  0   Policy() can be enforced here
  3   it cannot; what is missing, and how to get it, is printed
"""

_EXPLAIN_ENDS = """\
Prints what `belljar run` would do with the same options: the guarantees and what holds
them, the grants, the limits in force, the files that are seen, and each step of
confinement in order.  Nothing is run.

exit code
  0   the policy can be enforced here
  2   the command line or the policy makes no sense
  3   this machine cannot enforce the policy
"""

_ENDS = {"run": _RUN_ENDS, "repl": _REPL_ENDS, "check": _CHECK_ENDS, "explain": _EXPLAIN_ENDS}


def usage(command: str) -> str:
    """The lines after a usage error."""
    if command:
        return f"usage: belljar {command} {_ARGUMENTS[command]}\ntry: belljar {command} --help"
    return "usage: belljar run|repl|check|explain ...\ntry: belljar --help"


def help_text(topic: str) -> str:
    """The help of a command, or of the whole."""
    if not topic:
        return _overview()
    command = COMMANDS[topic]
    parts = [f"{command.help[0].upper()}{command.help[1:]}.\n\n", _EXAMPLES[topic]]
    parts.append(f"\nusage: belljar {topic} {_ARGUMENTS[topic]}\n")
    for group, flags in _groups(command).items():
        parts.append(f"\n{group}\n")
        parts.extend(_row(_names(flag), _help(flag)) for flag in flags)
    parts.append(_row("-h, --help", "print this"))
    parts.append(f"\n{_ENDS[topic]}")
    return "".join(parts)


def _overview() -> str:
    lines = ["Run Python that you do not trust, in sandboxed interpreters.\n\n", _EXAMPLES[""]]
    lines.append("\nusage: belljar COMMAND [options]\n\ncommands\n")
    lines.extend(_row(command.name, command.help) for command in COMMANDS.values())
    lines.append("\noptions\n")
    lines.append(_row("-h, --help", "print this; after a command, its own options"))
    lines.append(_row("-V, --version", "print the version"))
    return "".join(lines)


def _groups(command: Command) -> dict[str, list[Flag]]:
    groups: dict[str, list[Flag]] = {}
    for dest in command.flags:
        groups.setdefault(FLAGS[dest].group, []).append(FLAGS[dest])
    return groups


def _names(flag: Flag) -> str:
    names = f"{flag.short}, {flag.name}" if flag.short else flag.name
    return f"{names} {flag.metavar}".rstrip()


def _help(flag: Flag) -> str:
    if flag.kind != LAST or not flag.limit:
        return flag.help
    from ..policy.limits import DEFAULTS
    from ..policy.units import format_limit

    return f"{flag.help} ({format_limit(flag.limit, DEFAULTS[flag.limit])})"


def _row(left: str, right: str) -> str:
    if len(left) > _COLUMN - 4:
        return f"  {left}\n{'':{_COLUMN}}{right}\n"
    return f"  {left:{_COLUMN - 2}}{right}\n"
