"""Real programs in sandboxes: ``python -m tests.escape.workloads [FOLDER]``.

What: every program of ``workloads.jsonl`` in a fresh guest, one after the other, in this
process.  Because: a wall that stops ordinary programs will be switched off.  Then: the names
of those that are not right, and the time; with a progress bar on a terminal.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import belljar


def load(cases: Path) -> list[dict[str, Any]]:
    """The programs: ``id``, ``source``, ``program``, ``expect``."""
    with open(cases / "workloads.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def run_all(
    programs: Iterable[dict[str, Any]], done: Callable[[str, bool], object] = lambda *_: None
) -> dict[str, str]:
    """The programs that were not right, each with its outcome."""
    wrong: dict[str, str] = {}
    for program in programs:
        result = belljar.run(program["program"], name=program["id"].replace("/", "_") + ".py")
        right = result.status == "ok" and program["expect"] in result.stdout
        if not right:
            text = result.error.traceback if result.error else result.stdout[-300:]
            wrong[program["id"]] = f"{result.status} {result.limit or ''} {text}"
        done(program["id"], right)
    return wrong


def main() -> int:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    beside = Path(__file__).resolve().parents[3] / "shared" / "cases"
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("BELLJAR_CASES", beside))
    if not folder.is_dir():
        print(f"no such folder: {folder}", file=sys.stderr)
        return 2
    programs = load(folder)
    began = time.monotonic()
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("programs", total=len(programs))

        def done(name: str, right: bool) -> None:
            progress.update(task, advance=1)
            if not right:
                progress.console.print(f"wrong: {name}")

        wrong = run_all(programs, done)
    seconds = time.monotonic() - began
    for name, outcome in wrong.items():
        print(f"{name}: {outcome}")
    print(f"{len(programs) - len(wrong)} of {len(programs)} right in {seconds:.1f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
