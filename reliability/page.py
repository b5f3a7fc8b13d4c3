"""The figures of a soak as Markdown.

Nothing here depends on the machine but the versions of Python and Linux and the figures: no
path, no host name, no date.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Sequence

from . import judge
from .soak import Soak, kinds
from .watch import Sample

HEAD = """\
# Reliability

How belljar holds over very many runs of good and hostile code, measured by one command:

```sh
make reliability
```
"""


def text(soak: Soak, warm_up: int) -> str:
    """The whole page."""
    samples = judge.after_warm_up(soak.samples, warm_up)
    parts = [
        HEAD.rstrip(),
        _totals(soak),
        _wrong(soak),
        _leaks(samples, warm_up),
        _outcomes(soak),
        _programs(soak),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _totals(soak: Soak) -> str:
    tally, last = soak.tally, soak.samples[-1]
    total = sum(tally.runs.values())
    hostile = sum(n for name, n in tally.runs.items() if kinds()[name].hostile)
    version = ".".join(map(str, sys.version_info[:3]))
    kernel = ".".join(platform.release().split("-")[0].split(".")[:2])
    rows = [
        ("runs", f"{total:,}"),
        ("of good code", f"{total - hostile:,}"),
        ("of hostile code", f"{hostile:,}"),
        ("wrong results", f"{len(tally.wrong):,}"),
        ("guests and zygotes killed from outside", f"{soak.faults.count:,} times"),
        ("runs that this ended, and that were right when tried again", f"{tally.touched:,}"),
        ("runs per second", f"{total / max(last.seconds, 1):,.0f}"),
    ]
    return "\n".join(
        [
            f"CPython {version}, Linux {kernel}, {os.cpu_count()} cores. Two threads of one process run",
            "programs drawn at random under policies that need different zygotes, more of them than are",
            "kept, so that zygotes are shared, evicted and made again. What a good program must give is",
            "known from how it was made or computed outside; a hostile one must end in the status that",
            "its kind has. Zygotes and guests are killed from outside now and then, threads of the host",
            f"end and begin, and the host forks. Seed {soak.seed}; `--seed S --index N` has any run again",
            "alone.",
            "",
            "| | |",
            "| --- | ---: |",
            *(f"| {name} | {figure} |" for name, figure in rows),
        ]
    )


def _wrong(soak: Soak) -> str:
    if not soak.tally.wrong:
        return "Every run came out as it must."
    lines = [f"## WRONG: {len(soak.tally.wrong)}", ""]
    for wrong in soak.tally.wrong[:50]:
        what = wrong.what.strip().splitlines()[-1][:160].replace("|", "\\|").replace("`", "'")
        lines.append(f"- `--seed {soak.seed} --index {wrong.index}`: {wrong.kind}: {what}")
    return "\n".join(lines)


def _leaks(samples: Sequence[Sample], warm_up: int) -> str:
    first, last = samples[0], samples[-1]
    lines = [
        "## What is left",
        "",
        f"{len(samples)} readings after a warm-up of {warm_up:,} runs, each when no guest runs. What is counted must",
        "not be more in the second half than ever in the first. Memory must have no slope (least squares):",
        f"less than {judge.MOST_BYTES:,} bytes in 1,000 runs, which is less than one empty tuple (40 bytes) left",
        f"behind by each, and less than {judge.MOST_BLOCKS} pieces of the interpreter's memory, which is one in ten runs.",
        "A slope below zero is the allocator giving back. The zygote is the one that lived longest.",
        "",
        "| memory | after warm-up | at the end | slope per 1,000 runs | bound |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for q in judge.MEASURED:
        compared = judge.fitting(q, samples)
        first, last = compared[0], compared[-1]
        change = judge.slope(compared, q.of)
        lines.append(
            f"| {q.name} | {_size(q, first)} | {_size(q, last)} | {change:+,.0f} {q.unit} | {q.bound:,} |"
        )
    first, last = samples[0], samples[-1]
    lines += ["", "| count | most in the first half | in the second |", "| --- | ---: | ---: |"]
    for q in judge.COUNTED:
        before, after = judge.halves(judge.fitting(q, samples), q.of)
        lines.append(f"| {q.name} | {before:,} | {after:,} |")
    lines += [
        "",
        "These depend on the other programs of the machine; they are shown and not judged:",
        "",
        "| | after warm-up | at the end |",
        "| --- | ---: | ---: |",
        *(f"| {q.name} | {_size(q, first)} | {_size(q, last)} |" for q in judge.SHOWN),
    ]
    found = judge.leaks(samples)
    if judge.span(samples) < judge.ENOUGH_RUNS:
        lines += [
            "",
            f"The slopes of what is resident are shown and not judged: that takes {judge.ENOUGH_RUNS:,} runs.",
        ]
    verdict = "Nothing grows." if not found else "\n".join(f"- LEAK: {leak}" for leak in found)
    return "\n".join([*lines, "", verdict])


def _size(quantity: judge.Quantity, sample: Sample) -> str:
    figure = quantity.of(sample)
    return f"{figure / 2**20:,.1f} MiB" if quantity.unit == "bytes" else f"{figure:,}"


def _outcomes(soak: Soak) -> str:
    total = sum(soak.tally.outcomes.values())
    lines = [
        "## How the runs ended",
        "",
        f"{total:,} in all, those that were tried again counted each time.",
        "",
        "| outcome | runs |",
        "| --- | ---: |",
        *(f"| {name} | {n:,} |" for name, n in soak.tally.outcomes.most_common()),
    ]
    return "\n".join(lines)


def _programs(soak: Soak) -> str:
    lines = ["## The programs", "", "| program | | runs |", "| --- | --- | ---: |"]
    for name, kind in kinds().items():
        lines.append(
            f"| {name} | {'hostile' if kind.hostile else 'good'} | {soak.tally.runs[name]:,} |"
        )
    return "\n".join(lines)
