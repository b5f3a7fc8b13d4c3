"""The comparison with CPython's own tests as Markdown.

Nothing here depends on the machine but the version of Python and the figures: no path, no
host name, no time.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence

from .cpython import Comparison
from .restrictions import RESTRICTIONS

COLUMNS = 6  # of a list of module names


def section(comparisons: Sequence[Comparison]) -> str:
    """Totals, modules with differences, restrictions, modules that pass whole."""
    compared = [c for c in comparisons if c.outside]
    parts = [
        _totals(compared),
        _unexplained(compared),
        _table_of_restrictions(compared),
        _differences(compared),
        _names("Modules that pass whole", [c.module for c in compared if not c.differences]),
        _names(
            "Modules of which no test passes outside either",
            [c.module for c in comparisons if not c.outside],
        ),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _totals(compared: Sequence[Comparison]) -> str:
    outside = sum(c.outside for c in compared)
    inside = sum(c.inside for c in compared)
    whole = sum(c.whole for c in compared)
    version = ".".join(map(str, sys.version_info[:3]))
    rows = [
        ("modules", len(compared), whole),
        ("modules without any difference", len(compared), sum(not c.differences for c in compared)),
        ("tests", outside, inside),
    ]
    lines = [
        "## CPython's own tests",
        "",
        f"CPython {version}. Each module of `test` runs in a plain child of the interpreter and then",
        "in a sandbox whose policy grants no file and no network, but processes, and allows the C modules",
        "that exist for these tests. The same program reports each test on both sides. What counts is",
        "each test that passes outside.",
        "",
        "| | pass outside | pass inside | share |",
        "| --- | ---: | ---: | ---: |",
        *(f"| {name} | {a:,} | {b:,} | {_share(b, a)} |" for name, a, b in rows),
        "",
        "A module passes if each of its tests does, or skips itself inside for a reason named below;",
        "one of which every test is skipped does not.",
    ]
    return "\n".join(lines)


def _share(part: int, whole: int) -> str:
    # Rounded down: 100 % means all of them.
    return f"{int(1000 * part / whole) / 10:.1f} %" if whole else "–"


def _unexplained(compared: Sequence[Comparison]) -> str:
    found = [d for c in compared for d in c.unexplained]
    if not found:
        return "Every difference has a name; there is none without."
    lines = [f"### UNEXPLAINED: {len(found)}", ""]
    lines += [f"- `{d.test}`: {d.word}: {last_line(d.text)}" for d in found]
    return "\n".join(lines)


def last_line(text: str) -> str:
    """The message at the end of a traceback, fit for one line of Markdown."""
    lines = [line for line in text.strip().splitlines() if line.strip()] or ["no message"]
    line = re.sub(r"0x[0-9a-f]{4,}", "0x…", lines[-1].strip())
    return line[:160].replace("|", "\\|").replace("<", "&lt;").replace("`", "'")


def _table_of_restrictions(compared: Sequence[Comparison]) -> str:
    counts = Counter(d.restriction for c in compared for d in c.differences if d.restriction)
    if not counts:
        return ""
    modules = {
        name: len({c.module for c in compared if any(d.restriction == name for d in c.differences)})
        for name in counts
    }
    lines = [
        "### Restrictions",
        "",
        "| restriction | tests | modules | what |",
        "| --- | ---: | ---: | --- |",
    ]
    for restriction in RESTRICTIONS:
        if restriction.name in counts:
            name = restriction.name
            shown = f"[{name}](../limitations/{restriction.page}.md)" if restriction.page else name
            lines.append(f"| {shown} | {counts[name]} | {modules[name]} | {restriction.what} |")
    return "\n".join(lines)


def _differences(compared: Sequence[Comparison]) -> str:
    rows = [c for c in compared if c.differences]
    if not rows:
        return ""
    lines = [
        "### Modules with differences",
        "",
        "| module | outside | inside | restrictions |",
        "| --- | ---: | ---: | --- |",
    ]
    for c in rows:
        counts = Counter(d.restriction or "UNEXPLAINED" for d in c.differences)
        named = ", ".join(f"{name} {count}" for name, count in counts.most_common())
        lines.append(f"| {_short(c.module)} | {c.outside} | {c.inside} | {named} |")
    return "\n".join(lines)


def _names(title: str, modules: Sequence[str]) -> str:
    if not modules:
        return ""
    names = ", ".join(_short(module) for module in modules)
    return f"### {title}: {len(modules)}\n\n{names}"


def _short(module: str) -> str:
    return module.removeprefix("test.")
