"""``python -m compatibility``: what share of ordinary Python runs unmodified inside.

Runs CPython's own tests and popular packages outside and inside, and writes the page
``docs/reference/compatibility.md``.  With names (``test_json test_re``) only these modules
of CPython's tests are run, and their part of the page is printed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from . import cpython, packages, page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "compatibility.md"
HEAD = """\
# Compatibility

What runs inside as it does outside, measured by one command:

```sh
make compatibility
```
"""


class Progress:
    """One line on standard error: written over on a terminal, a line each elsewhere."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.began = time.monotonic()

    def show(self, comparison: cpython.Comparison) -> None:
        self.done += 1
        seconds = time.monotonic() - self.began
        line = (
            f"{self.done}/{self.total} {seconds:.0f} s  {comparison.module}: "
            f"{comparison.inside} of {comparison.outside} tests"
        )
        if comparison.unexplained:
            line += f", {len(comparison.unexplained)} unexplained"
        if sys.stderr.isatty():
            print(f"\r\033[K{line[:100]}", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def end(self) -> None:
        if sys.stderr.isatty():
            print(file=sys.stderr)


def cpython_section(names: Sequence[str], jobs: int) -> str:
    """The comparison with CPython's own tests; one line where there are none."""
    try:
        every = cpython.modules()
    except cpython.NotInstalled as lacking:
        return f"## CPython's own tests\n\n{lacking}\n"
    wanted = [name if name.startswith("test.") else f"test.{name}" for name in names] or every
    chosen = [m for m in every if any(m == w or m.startswith(f"{w}.") for w in wanted)]
    unknown = [w for w in wanted if not any(m == w or m.startswith(f"{w}.") for m in every)]
    if unknown:
        raise SystemExit(f"no such test module: {', '.join(unknown)}")
    progress = Progress(len(chosen))
    comparisons: list[cpython.Comparison] = []
    for comparison in cpython.compare_all(chosen, jobs):
        comparisons.append(comparison)
        progress.show(comparison)
    progress.end()
    comparisons.sort(key=lambda c: c.module)
    return page.section(comparisons)


def main() -> int:
    parser = argparse.ArgumentParser("compatibility", description=__doc__)
    parser.add_argument("names", nargs="*", help="modules of CPython's tests; all if left out")
    parser.add_argument(
        "--jobs", type=int, choices=(1, 2), default=2, help="modules at one time (2)"
    )
    parser.add_argument("--output", type=Path, default=PAGE, help="where the page is written")
    options = parser.parse_args()
    text = cpython_section(options.names, options.jobs)
    if options.names:
        print(text, end="")
        return 0
    parts = [HEAD, text, packages.section()]
    options.output.write_text("\n".join(parts), encoding="utf-8")
    print(options.output.name, "written", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
