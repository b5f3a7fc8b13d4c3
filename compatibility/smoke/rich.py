"""A table, a syntax view and progress, drawn into a string."""

import io

from rich.console import Console
from rich.progress import track
from rich.syntax import Syntax
from rich.table import Table

console = Console(file=io.StringIO(), width=60, force_terminal=True, color_system="truecolor")
table = Table(title="all")
table.add_column("n")
for number in track(range(3), console=console):
    table.add_row(str(number))
console.print(table)
console.print(Syntax("def f(): pass", "python"))
text = console.file.getvalue()
all(("all" in text, "\x1b[" in text, "100%" in text))
