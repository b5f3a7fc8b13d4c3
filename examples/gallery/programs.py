"""The guest programs and what each says about itself.

What: ``Program``, read from a file whose docstring holds lines such as ``tries: …`` and
``expect: …``.  Because: whoever reads a program should find there what it is meant to show,
and a table is only worth something if each row was promised beforehand.  Then: the runner
compares the outcome with the promise.

    tries:  what it does, for the table
    expect: ok | raised TYPE | exited CODE | limit NAME | crashed SIGNAL | an exception of
            belljar's; several are joined with " or "
    value:  the literal that the last expression must give
    prints: text that its output must hold
    inputs: bait, if the program is told where the planted files and sockets are
    files:  names in data/ that are put into /work
    grants: name=value …, for Policy.allow; a list is written a,b
    limits: name=value …, for Policy.limit
"""

from __future__ import annotations

import ast
import importlib.metadata
import re
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
KEYS = ("tries", "expect", "value", "prints", "inputs", "files", "grants", "limits")


@dataclass(frozen=True)
class Program:
    """One guest program: its text, and what its docstring says."""

    name: str
    path: Path
    source: str
    tries: str = ""
    expect: tuple[str, ...] = ()
    value: str = ""
    prints: str = ""
    baited: bool = False
    files: tuple[str, ...] = ()
    grants: dict[str, object] = field(default_factory=dict)
    limits: dict[str, object] = field(default_factory=dict)

    def missing(self) -> tuple[str, ...]:
        """The granted packages that are not installed in this environment."""
        packages = self.grants.get("packages", [])
        assert isinstance(packages, list)
        return tuple(name for name in packages if not installed(name))

    def attachments(self) -> dict[str, bytes]:
        """Name and content of each file that the program finds in /work."""
        return {name: (HERE / "data" / name).read_bytes() for name in self.files}

    def mistakes(self, outcome: str, value: object, output: str) -> list[str]:
        """Where the outcome differs from what the docstring promised; empty if nowhere."""
        wrong: list[str] = []
        if self.expect and outcome not in self.expect:
            wrong.append(f"expected {' or '.join(self.expect)}, got {outcome}")
        if self.value and (expected := ast.literal_eval(self.value)) != value:
            wrong.append(f"expected the value {expected!r}, got {value!r:.200}")
        if self.prints and self.prints not in output:
            wrong.append(f"expected it to print {self.prints!r}, got {output!r:.200}")
        return wrong


def installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def settings(text: str, key: str) -> dict[str, object]:
    """``a=1 b=x,y`` as ``{"a": 1, "b": ["x", "y"]}``."""
    found: dict[str, object] = {}
    for word in text.split():
        name, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"{key}: expected name=value, got {word!r}")
        numeric = re.fullmatch(r"[\d.]+", value)
        found[name] = ast.literal_eval(value) if numeric else value.split(",")
    return found


def load(path: Path) -> Program:
    """The program in ``path``.  A file without such a docstring is accepted: nothing is expected.

    Raises:
        ValueError: a line of the docstring starts with a key and makes no sense.
    """
    source = path.read_text(encoding="utf-8")
    try:
        said = ast.get_docstring(ast.parse(source)) or ""
    except (SyntaxError, ValueError, RecursionError):
        said = ""  # to run such a file is a fair experiment
    lines = dict(re.findall(rf"^({'|'.join(KEYS)}):\s+(.+)$", said, re.MULTILINE))
    return Program(
        name=path.stem,
        path=path,
        source=source,
        tries=lines.get("tries", ""),
        expect=tuple(filter(None, lines.get("expect", "").split(" or "))),
        value=lines.get("value", ""),
        prints=lines.get("prints", ""),
        baited=lines.get("inputs", "") == "bait",
        files=tuple(lines.get("files", "").split()),
        grants=settings(lines.get("grants", ""), "grants"),
        limits=settings(lines.get("limits", ""), "limits"),
    )


def load_all() -> list[Program]:
    """Every program of the gallery, honest ones first."""
    return [
        load(path)
        for folder in ("honest", "hostile")
        for path in sorted((HERE / folder).glob("*.py"))
    ]


def find(name: str) -> Program:
    """The program called ``name``, or the one in the file of that name.

    Raises:
        LookupError: there is neither.
    """
    for program in load_all():
        if program.name == name.removesuffix(".py"):
            return program
    if Path(name).is_file():
        return load(Path(name))
    raise LookupError(f"no program and no file called {name!r}")
