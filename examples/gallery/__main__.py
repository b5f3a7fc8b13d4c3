"""Run the gallery: ``python examples/gallery``, or one program: ``python examples/gallery NAME``.

What: every program under honest/ and hostile/ through ``belljar.run``, one table row each, and
a line about the host.  Because: a sandbox is judged by what it lets through as much as by
what it stops.  Then: the exit code is 0 only if every row is as promised and the host is
unharmed; 1 if not, 2 for a wrong argument, 3 if this machine cannot hold the walls.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from dataclasses import asdict, dataclass

import belljar

from host import Host
from programs import Program, find, load_all

HEADINGS = ("", "program", "tries", "outcome", "limit or denial", "ms")
DETAIL_WIDTH = 60  # the table still fits a wide terminal


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    program: str
    tries: str
    outcome: str
    detail: str = ""
    time_ms: float = 0.0
    skipped: bool = False
    mistakes: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        return "-" if self.skipped else "✗" if self.mistakes else "✓"

    def cells(self) -> tuple[str, ...]:
        time_ms = "" if self.skipped else f"{self.time_ms:.0f}"
        return (self.mark, self.program, self.tries, self.outcome, self.detail, time_ms)


def policy_of(program: Program) -> belljar.Policy:
    """The empty policy, plus what the program's docstring grants and limits."""
    return belljar.Policy().allow(**program.grants).limit(**program.limits)


def execute(program: Program, host: Host) -> tuple[Row, belljar.Result | None]:
    """Run one program in a sandbox of its own and judge it."""
    missing = program.missing()
    if missing:
        return Row(
            program.name, program.tries, f"not installed: {', '.join(missing)}", skipped=True
        ), None
    result: belljar.Result | None = None
    start = time.perf_counter()
    try:
        result = belljar.run(
            program.source,
            policy_of(program),
            inputs={"bait": host.bait} if program.baited else None,
            files=program.attachments(),
            name=program.path.name,
        )
        outcome, detail = describe(result)
    except belljar.SandboxFailure as failure:
        outcome, detail = type(failure).__name__, str(failure)
    time_ms = (time.perf_counter() - start) * 1000
    mistakes = program.mistakes(
        outcome, result.value if result else None, result.stdout if result else ""
    )
    return Row(
        program.name, program.tries, outcome, detail, time_ms, mistakes=tuple(mistakes)
    ), result


def describe(result: belljar.Result) -> tuple[str, str]:
    """Outcome and detail of a result, as the table shows them."""
    outcome, detail = str(result.status), ""
    if result.status == "raised" and result.error is not None:
        outcome += f" {result.error.type}"
        detail = result.error.message
    elif result.status == "exited":
        outcome += f" {result.exit_code}"
    elif result.status == "limit" and result.limit is not None:
        outcome += f" {result.limit.name}"
        detail = f"allowed {amount(result.limit.name, result.limit.allowed)}"
        if result.limit.used is not None:
            detail += f", used {amount(result.limit.name, result.limit.used)}"
    elif result.status == "crashed" and result.signal is not None:
        outcome += f" {signal.Signals(result.signal).name}"
    elif result.status == "crashed" and result.error is not None:
        detail = result.error.message
    if result.denials:
        first = result.denials[0]
        more = f" and {len(result.denials) - 1} more" if len(result.denials) > 1 else ""
        detail = f"{detail}; " if detail else ""
        detail += f"denied {first.action} {first.target}{more}"
    return outcome, detail


def amount(name: str, value: float) -> str:
    """A limit's figure with its unit."""
    if name in ("wall", "cpu"):
        return f"{value:.2f} s"
    if name in ("memory", "output", "work", "value", "file"):
        return f"{value / 2**20:.1f} MiB"
    return f"{value:g}"


def show(rows: list[Row]) -> None:
    """Print the table: with rich on a terminal, as aligned text elsewhere."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*HEADINGS, title="gallery")
        table.columns[-1].justify = "right"
        for row in rows:
            style = "dim" if row.skipped else "red" if row.mistakes else ""
            table.add_row(*(Text(printable(cell)) for cell in row.cells()), style=style)
        Console().print(table)
        return
    lines = [HEADINGS, *(tuple(printable(cell) for cell in row.cells()) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    for line in lines:
        *texts, last = line
        cells = [text.ljust(width) for text, width in zip(texts, widths, strict=False)]
        print("  ".join([*cells, last.rjust(widths[-1])]))


def printable(text: str) -> str:
    """``text`` on one line and without control characters: a guest wrote some of it."""
    clean = "".join(letter if letter.isprintable() else "·" for letter in text)
    return clean if len(clean) <= DETAIL_WIDTH else clean[: DETAIL_WIDTH - 1] + "…"


def show_one(row: Row, result: belljar.Result | None) -> None:
    """Print everything about one run."""
    if result is not None:
        for title, text in {
            "stdout": result.stdout,
            "stderr": result.stderr,
            "value": "" if result.value is None else repr(result.value),
            "error": "" if result.error is None else result.error.traceback,
            "denials": "\n".join(
                f"{d.action} {d.target} (grant: {d.grant})" for d in result.denials
            ),
        }.items():
            if text:
                print(f"--- {title}")
                for line in text.splitlines()[:50]:
                    print("".join(c if c.isprintable() or c == "\t" else "·" for c in line[:400]))
        print(
            f"--- cpu {result.usage.cpu_s:.3f} s, wall {result.usage.wall_s:.3f} s, peak memory {result.usage.peak_memory_bytes / 2**20:.1f} MiB"
        )
    show([row])


def main() -> int:
    parser = argparse.ArgumentParser("gallery", description="Run guest programs in sandboxes.")
    parser.add_argument("name", nargs="*", help="a program of the gallery, or a file; all if none")
    parser.add_argument("--json", action="store_true", help="print one object instead of a table")
    options = parser.parse_args()
    try:
        programs = [find(name) for name in options.name] or load_all()
    except (LookupError, ValueError) as error:
        parser.error(str(error))

    rows: list[Row] = []
    try:
        with Host() as host:
            for program in programs:
                if sys.stderr.isatty():
                    print(
                        f"\r\x1b[K{len(rows) + 1}/{len(programs)} {program.name}",
                        end="",
                        file=sys.stderr,
                        flush=True,
                    )
                row, result = execute(program, host)
                rows.append(row)
            belljar.close()  # ends the idle zygotes, so that what is left over shows
            harm = host.harm()
    except belljar.UnsupportedError as error:
        print(error, file=sys.stderr)
        return 3
    finally:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    if options.json:
        print(json.dumps({"rows": [asdict(row) for row in rows], "harm": harm}, indent=1))
    else:
        if len(options.name) == 1:
            show_one(rows[0], result)
        else:
            show(rows)
        right = sum(row.mark == "✓" for row in rows)
        skipped = sum(row.skipped for row in rows)
        print(
            f"{len(rows)} programs: {right} as promised, {len(rows) - right - skipped} not, "
            f"{skipped} not installed"
        )
        for row in rows:
            for mistake in row.mistakes:
                print(f"WRONG {row.program}: {mistake}")
        for line in harm:
            print(f"HARM: {line}")
        if not harm:
            print(
                "host unharmed: bait files, sockets (TCP, UDP, unix, abstract), environment and mounts "
                "untouched; no process or descriptor left over; memory within bounds"
            )
    return 1 if harm or any(row.mistakes for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
