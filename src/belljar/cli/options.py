"""The command line: one table, and a parser that knows nothing else.

What: every command and flag as a row of ``COMMANDS`` and ``FLAGS``; ``parse`` turns a list
of texts into ``Parsed`` or one ``UsageError``.  Because: argparse costs 8 ms of the 30 that
a run may take, and help that is written apart from the parser goes stale.  Then: ``usage``
prints the same rows that are read here.

Grammar::

    belljar COMMAND [FLAG [VALUE] | FLAG=VALUE]... [PROGRAM [ARGUMENT]...]
    PROGRAM is SCRIPT, or -c CODE, or - for standard input; what follows it is its own
"""

from __future__ import annotations

from .._record import Record

# What a flag does with values: none; the last one counts; a second one is an error; all count.
SWITCH, LAST, ONCE, EACH = "switch", "last", "once", "each"


class Flag(Record):
    """A row of the table.

    ``dest`` is its key in ``Parsed.values``; ``limit`` the field of ``Limits`` that it sets,
    if any; ``metavar`` what its value is called; ``group`` its heading in the help.
    """

    name: str
    kind: str
    dest: str
    group: str
    help: str
    metavar: str = ""
    short: str = ""
    limit: str = ""


class Command(Record):
    """A command: what it is for, the keys of its flags, whether a program follows."""

    name: str
    help: str
    flags: tuple[str, ...]
    takes_program: bool = False


GRANTS, LIMITS, OUTPUT = "what it may do", "how much it may use", "output"
ONCE_ONLY = "given twice; a policy that is silently dropped might be the stricter one"

FLAGS: dict[str, Flag] = {
    flag.dest: flag
    for flag in (
        Flag(
            "--policy",
            ONCE,
            "policy",
            GRANTS,
            "start from a policy file (TOML or JSON) or a baseline; other flags come on top",
            "FILE|baseline:NAME",
        ),
        Flag(
            "--read",
            EACH,
            "read",
            GRANTS,
            "let it read a file, or a directory and all beneath; shown at INSIDE",
            "HOST[:INSIDE]",
        ),
        Flag("--write", EACH, "write", GRANTS, "the same, and change it", "HOST[:INSIDE]"),
        Flag("--package", EACH, "package", GRANTS, "let it import an installed package", "NAME"),
        Flag(
            "--module",
            EACH,
            "module",
            GRANTS,
            "let it load a C module beyond the default list; NAME.* for all below",
            "NAME",
        ),
        Flag("--block-module", EACH, "block_module", GRANTS, "do not let it load one", "NAME"),
        Flag(
            "--run",
            EACH,
            "run",
            GRANTS,
            "let it start a program, within --processes; shown as /usr/bin/NAME",
            "PROGRAM",
        ),
        Flag(
            "--python",
            ONCE,
            "python",
            GRANTS,
            "run it with another Python: an interpreter or a virtual environment",
            "PATH",
        ),
        Flag(
            "--jit",
            SWITCH,
            "jit",
            GRANTS,
            "let it make native code from data, as Numba does; takes a wall away",
        ),
        Flag("--env", EACH, "env", GRANTS, "set an environment variable", "NAME=VALUE"),
        Flag(
            "--system-info",
            SWITCH,
            "system_info",
            GRANTS,
            "let it see host name, processor, memory and uptime",
        ),
        Flag("--stdin", SWITCH, "stdin", GRANTS, "let it read this command's standard input"),
        Flag("--wall", LAST, "wall", LIMITS, "time until it is ended", "TIME", "", "wall_s"),
        Flag("--cpu", LAST, "cpu", LIMITS, "processor time, all threads", "TIME", "", "cpu_s"),
        Flag(
            "--grace", LAST, "grace", LIMITS, "time to clean up after that", "TIME", "", "grace_s"
        ),
        Flag(
            "--pause",
            LAST,
            "pause",
            LIMITS,
            "how long a slow host stops the clock, in all",
            "TIME",
            "",
            "pause_s",
        ),
        Flag(
            "--cpu-cores",
            LAST,
            "cpu_cores",
            LIMITS,
            "processors' worth of time; slows it down, does not end it",
            "N",
            "",
            "cpu_cores",
        ),
        Flag("--memory", LAST, "memory", LIMITS, "memory in all", "SIZE", "", "memory_bytes"),
        Flag(
            "--output",
            LAST,
            "output",
            LIMITS,
            "what it may print, stdout and stderr together",
            "SIZE",
            "",
            "output_bytes",
        ),
        Flag(
            "--output-rate",
            LAST,
            "output_rate",
            LIMITS,
            "how much of that in a second; slows it down, does not end it",
            "SIZE",
            "",
            "output_bytes_per_s",
        ),
        Flag(
            "--processes",
            LAST,
            "processes",
            LIMITS,
            "processes of its own: fork, multiprocessing, its Python anew",
            "N",
            "",
            "processes",
        ),
        Flag("--threads", LAST, "threads", LIMITS, "threads of its own", "N", "", "threads"),
        Flag("--open-files", LAST, "open_files", LIMITS, "open descriptors", "N", "", "open_files"),
        Flag("--work", LAST, "work", LIMITS, "/work and /tmp together", "SIZE", "", "work_bytes"),
        Flag(
            "--work-files",
            LAST,
            "work_files",
            LIMITS,
            "files and directories there",
            "N",
            "",
            "work_files",
        ),
        Flag("--file", LAST, "file", LIMITS, "any single file", "SIZE", "", "file_bytes"),
        Flag(
            "--value",
            LAST,
            "value",
            LIMITS,
            "the value of the last expression (--json)",
            "SIZE",
            "",
            "value_bytes",
        ),
        Flag(
            "--artifact-size",
            LAST,
            "artifact_size",
            LIMITS,
            "figures and what else it shows, together",
            "SIZE",
            "",
            "artifact_bytes",
        ),
        Flag(
            "--artifacts",
            ONCE,
            "artifacts",
            OUTPUT,
            "write figures, tables and what else it shows into this directory, as new files",
            "DIR",
        ),
        Flag("--json", SWITCH, "json", OUTPUT, "print one JSON object instead"),
        Flag(
            "--quiet",
            SWITCH,
            "quiet",
            OUTPUT,
            "do not say on stderr what was refused",
            short="-q",
        ),
        Flag(
            "--raw",
            SWITCH,
            "raw",
            OUTPUT,
            "let what it prints drive the terminal: colours, and all else that escapes can do",
        ),
        Flag(
            "--save-files",
            ONCE,
            "save_files",
            OUTPUT,
            "write the files that it made in /work to DIR, which is new or empty",
            "DIR",
        ),
        Flag("--filter", SWITCH, "filter", OUTPUT, "print the system call filter as well"),
        Flag("--no-history", SWITCH, "no_history", OUTPUT, "neither read nor keep what is typed"),
    )
}

_POLICY = tuple(flag.dest for flag in FLAGS.values() if flag.group != OUTPUT)
# Of a session, standard input is what is typed, and no value leaves the sandbox.
_SESSION = tuple(dest for dest in _POLICY if dest not in ("stdin", "value"))

_RUN_OUTPUT = ("artifacts", "save_files", "json", "quiet", "raw")

COMMANDS: dict[str, Command] = {
    "run": Command("run", "run a program in a sandbox", (*_POLICY, *_RUN_OUTPUT), True),
    "repl": Command(
        "repl",
        "talk to a sandboxed interpreter",
        (*_SESSION, "artifacts", "quiet", "raw", "no_history"),
    ),
    "check": Command("check", "print what this machine can enforce", ("json",)),
    "explain": Command(
        "explain", "print how a policy would be enforced here", (*_POLICY, "json", "filter")
    ),
}


class UsageError(Exception):
    """A command line that makes no sense.  ``command`` is whose usage to show, if known."""

    def __init__(self, message: str, command: str = "") -> None:
        super().__init__(message)
        self.command = command


class Parsed:
    """A command line that was understood.

    ``command`` is a key of ``COMMANDS``, ``help`` (of ``topic``) or ``version``.  ``values``
    holds, by ``Flag.dest``, True, a text, or a list of texts.  ``source`` is ``file``, ``code``
    or ``stdin``, ``program`` the path or the code, ``arguments`` what follows it.
    """

    def __init__(self, command: str, topic: str = "") -> None:
        self.command = command
        self.topic = topic
        self.values: dict[str, str | list[str]] = {}
        self.switches: set[str] = set()
        self.source = ""
        self.program = ""
        self.arguments: list[str] = []

    def one(self, dest: str) -> str | None:
        """The text given for a flag, or None."""
        value = self.values.get(dest)
        return value if isinstance(value, str) else None

    def each(self, dest: str) -> list[str]:
        """The texts given for a flag that may be repeated."""
        value = self.values.get(dest)
        return value if isinstance(value, list) else []


def parse(arguments: list[str]) -> Parsed:
    """Read a command line, ``sys.argv[1:]``.

    Raises:
        UsageError: an unknown command or flag, a value that is missing or not wanted, no
            program, or something after a command that takes nothing.
    """
    if not arguments:
        raise UsageError("a command is missing")
    first = arguments[0]
    if first in ("-h", "--help", "help"):
        return Parsed("help", arguments[1] if arguments[1:] and arguments[1] in COMMANDS else "")
    if first in ("-V", "--version"):
        return Parsed("version")
    command = COMMANDS.get(first)
    if command is None:
        what = "option" if first.startswith("-") else "command"
        raise UsageError(f"unknown {what} {first!r}{_near(first, COMMANDS)}")
    parsed = Parsed(first)
    names = {FLAGS[dest].name: FLAGS[dest] for dest in command.flags}
    names.update({flag.short: flag for flag in names.values() if flag.short})
    place = 1
    while place < len(arguments):
        argument = arguments[place]
        place += 1
        if argument in ("-h", "--help"):
            return Parsed("help", first)
        if argument == "--" and command.takes_program:
            if place < len(arguments):
                _take_program(parsed, arguments, place)
                return parsed
            break
        if command.takes_program and (
            argument[:1] != "-" or argument == "-" or argument[:2] == "-c"
        ):
            _take_program(parsed, arguments, place - 1, dashes=True)
            return parsed
        if argument[:1] != "-":
            raise UsageError(f"unexpected argument {argument!r}", first)
        name, equals, value = argument.partition("=")
        flag = names.get(name)
        if flag is None:
            raise UsageError(f"unknown option {name!r}{_near(name, names)}", first)
        if flag.kind == SWITCH:
            if equals:
                raise UsageError(f"{flag.name} takes no value", first)
            parsed.switches.add(flag.dest)
            continue
        if not equals:
            if place == len(arguments):
                raise UsageError(f"{flag.name} needs a value: {flag.metavar}", first)
            value = arguments[place]
            place += 1
            if value[:1] == "-":
                raise UsageError(
                    f"{flag.name} needs a value, and {value!r} looks like an option; "
                    f"if it is the value, write {flag.name}={value}",
                    first,
                )
        _take_value(parsed, flag, value)
    if command.takes_program:
        raise UsageError("a program is missing: SCRIPT, -c CODE, or - for standard input", first)
    return parsed


def _take_value(parsed: Parsed, flag: Flag, value: str) -> None:
    if flag.kind == EACH:
        parsed.values[flag.dest] = [*parsed.each(flag.dest), value]
        return
    if flag.kind == ONCE and flag.dest in parsed.values:
        raise UsageError(f"{flag.name} is {ONCE_ONLY}", parsed.command)
    parsed.values[flag.dest] = value


def _take_program(
    parsed: Parsed, arguments: list[str], place: int, *, dashes: bool = False
) -> None:
    """The program stands at ``place``; ``dashes``: it may be ``-`` or ``-c``."""
    text = arguments[place]
    place += 1
    if dashes and text == "-":
        parsed.source = "stdin"
    elif dashes and text[:2] == "-c":
        parsed.source = "code"
        text = text[2:]
        if not text:
            if place == len(arguments):
                raise UsageError("-c needs a value: CODE", parsed.command)
            text = arguments[place]
            place += 1
    else:
        parsed.source = "file"
    parsed.program = text
    parsed.arguments = arguments[place:]


def _near(name: str, known: dict[str, Flag] | dict[str, Command]) -> str:
    import difflib  # only on the way to an error: it brings re and collections

    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
