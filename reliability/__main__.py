"""``python -m reliability``: very many runs of good and hostile code, and what is left of them.

Writes ``docs/reference/reliability.md``.  Exits with 1 if a result was wrong or something
grew.  With ``--index`` one run of that soak is had again alone, and nothing is written.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from . import judge, page
from .cases import Place
from .soak import Soak, replay
from .watch import Sample

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "reliability.md"
RUNS = 100_000


def show(sample: Sample) -> None:
    """One line on standard error for each reading."""
    line = (
        f"{sample.run} runs, {sample.seconds} s  host {sample.host_rss >> 10} KiB, "
        f"{sample.host_blocks} pieces, {sample.host_descriptors} descriptors  "
        f"{sample.zygotes} zygotes, the eldest {sample.zygote_rss >> 10} KiB"
    )
    end = "" if sys.stderr.isatty() else "\n"
    start = "\r\033[K" if sys.stderr.isatty() else ""
    print(f"{start}{line}", end=end, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser("reliability", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"how many ({RUNS:,})")
    parser.add_argument("--seed", type=int, default=1, help="which ones (1)")
    parser.add_argument("--index", type=int, help="have this run again, alone")
    parser.add_argument("--output", type=Path, default=PAGE, help="where the page is written")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="belljar-test-", dir="/var/tmp")
    try:
        place = Place(Path(folder))
        if options.index is not None:
            kind, case, what = replay(options.seed, options.index, place)
            print(f"{kind.name}\n{case}\n{what or 'right'}")
            return 1 if what else 0
        soak = Soak(options.seed, options.runs, place, show)
        warm_up = options.runs // 10
        soak.run(per_round=max(options.runs // 200, 20), warm_up=warm_up)
    finally:
        shutil.rmtree(folder)
    options.output.write_text(page.text(soak, warm_up), encoding="utf-8")
    leaks = judge.leaks(judge.after_warm_up(soak.samples, warm_up))
    for leak in leaks:
        print(f"leak: {leak}", file=sys.stderr)
    print(options.output.name, "written", file=sys.stderr)
    return 1 if leaks or soak.tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
