"""Sections of rows, on standard output.

What: a table with lines and folded cells on a terminal, aligned plain text elsewhere.
Because: a person reads the one, and ``grep`` the other.  Then: rich is imported only for a
terminal, and where it is not installed plain text does.
"""

from __future__ import annotations

import os

from ..plan.explain import Section, to_text
from . import streams
from .terminal import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NARROW = 40  # columns; below it a table is a column of syllables
USUAL = 80  # for a terminal that does not know its own width


def show(sections: Iterable[Section]) -> None:
    """Print sections; raises ``streams.OutputFailed``."""
    safe = [_harmless(section) for section in sections]
    if not os.isatty(1):
        streams.say(to_text(safe))
        return
    try:
        text = _draw(safe, max(os.get_terminal_size(1).columns or USUAL, NARROW))
    except ModuleNotFoundError:
        text = to_text(safe)
    streams.say(text)


def _harmless(section: Section) -> Section:
    """A path may hold anything but a slash and NUL."""
    rows = tuple(tuple(one_line(cell) for cell in row) for row in section.rows)
    return section.replace(rows=rows)


def _draw(sections: list[Section], width: int) -> str:
    import io

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=width)
    for number, section in enumerate(sections):
        if number:
            console.print()
        table = Table(
            title=Text(section.title, style="bold"),
            title_justify="left",
            show_header=any(section.columns),
            expand=False,
        )
        for column in section.columns:
            table.add_column(column, overflow="fold")
        for row in section.rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)
    return file.getvalue()
