"""``python -m bench``: start-up, import and compute, inside against outside.

Prints one table.  ``--turns N`` sets how often each pair is timed.  ``python -m bench
overshoot`` prints another: how long after its wall time a run has ended.  ``python -m bench
branches`` searches a tree of copies of one sandbox.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import belljar
from belljar import Policy

from . import arrays
from .measure import Figure, in_turn
from .pingpong import PingPong
from .plain import Plain

CALLS = 100

COMPUTE = """
def work():
    import time
    start = time.perf_counter()
    primes = [n for n in range(2, 12000) if all(n % d for d in range(2, int(n**0.5) + 1))]
    table = {}
    for n in range(60000):
        table[n % 997] = table.get(n % 997, 0) + n
    text = "".join(chr(97 + n % 26) for n in range(60000))
    counts = {c: text.count(c) for c in set(text)}
    total = 0
    for a in range(300):
        for b in range(300):
            total ^= a * b
    return time.perf_counter() - start
"""


def figures(turns: int, folder: Path) -> list[Figure]:
    """Everything that is measured, in the order of the table."""
    hello = folder / "hello.py"
    hello.write_text('print("hello")\n', encoding="utf-8")
    python = [sys.executable, "-I"]
    command = [str(Path(sys.executable).with_name("belljar")), "run", str(hello)]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def process(argv: list[str]) -> None:
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, env=clean)

    rows = [
        in_turn(
            "start",
            ("belljar run hello.py", lambda: process(command)),
            ("python -I hello.py", lambda: process([*python, str(hello)])),
            turns=turns,
            aim=2.5,
        ),
        in_turn(
            "import",
            ("python -I -c 'import belljar'", lambda: process([*python, "-c", "import belljar"])),
            ("python -I -c pass", lambda: process([*python, "-c", "pass"])),
            turns=turns,
        ),
        in_turn(
            "import of all that run needs",
            (
                "python -I -c 'import belljar; belljar.run'",
                lambda: process([*python, "-c", "import belljar; belljar.run"]),
            ),
            ("python -I -c pass", lambda: process([*python, "-c", "pass"])),
            turns=turns,
        ),
        in_turn(
            "fresh sandbox, zygote warm",
            ("belljar.run('print(1+1)')", lambda: belljar.run("print(1+1)")),
            ("python -I -c 'print(1+1)'", lambda: process([*python, "-c", "print(1+1)"])),
            turns=turns,
        ),
    ]
    rows.append(live_call(turns))
    rows.append(host_call(turns))
    rows.append(compute(turns))
    rows += arrays.rows(turns)
    return rows


def live_call(turns: int) -> Figure:
    """One expression in an interpreter that stays: a hundred to a turn, since each is short."""
    plain = Plain()
    plain.run("", x=1)
    with belljar.Sandbox(inputs={"x": 1}) as sandbox:

        def ours() -> None:
            for _ in range(CALLS):
                sandbox.run("x+1").unwrap()

        def theirs() -> None:
            for _ in range(CALLS):
                plain.run("x+1")

        figure = in_turn(
            "live call",
            (f'sandbox.run("x+1"), {CALLS} times', ours),
            ("a plain interpreter over a pipe", theirs),
            turns=turns,
            aim=1.25,
        )
    plain.close()
    return figure


def host_call(turns: int) -> Figure:
    """One call of a host function from inside, there and back; a hundred to a turn."""
    plain = PingPong()

    def echo(value: int) -> int:
        return value

    with belljar.Sandbox(functions={"echo": echo}) as sandbox:

        def ours() -> None:
            sandbox.run(f"for n in range({CALLS}): echo(n)").unwrap()

        def theirs() -> None:
            for n in range(CALLS):
                plain.call(n)

        figure = in_turn(
            "host function",
            (f"echo(n) from inside, {CALLS} times", ours),
            ("two processes, a socket pair, the same codec", theirs),
            turns=turns,
            aim=3.0,
        )
    plain.close()
    return figure


def compute(turns: int) -> Figure:
    """Pure-Python compute, timed by the code itself, so that starting is left out."""
    import statistics

    policy = Policy().allow(wall_s=60, cpu_s=60)
    code = COMPUTE + "\nwork()\n"
    pairs: list[tuple[float, float]] = []
    for turn in range(turns + 1):
        inside = float(belljar.run(code, policy).unwrap())
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", COMPUTE + "\nprint(work())"],
            check=True,
            capture_output=True,
        )
        if turn:
            pairs.append((inside, float(done.stdout)))
    return Figure(
        name="compute",
        ours="pure Python inside",
        theirs="the same outside",
        ours_s=statistics.median(a for a, _ in pairs),
        theirs_s=statistics.median(b for _, b in pairs),
        ratio=statistics.median(a / b for a, b in pairs),
        aim=1.03,
        turns=turns,
    )


def main() -> int:
    parser = argparse.ArgumentParser("bench", description=__doc__)
    parser.add_argument("--turns", type=int, default=25, help="times each pair is timed (25)")
    parser.add_argument(
        "what", nargs="?", choices=["ratios", "overshoot", "branches"], default="ratios"
    )
    options = parser.parse_args()
    if options.what == "branches":
        from . import branches

        return branches.main()
    if options.what == "overshoot":
        from . import overshoot

        return overshoot.main(options.turns)
    with tempfile.TemporaryDirectory() as folder:
        rows = figures(options.turns, Path(folder))
    print(f"{'what':30} {'ours ms':>9} {'theirs ms':>9} {'ratio':>7} {'aim':>6}  compared")
    for row in rows:
        aim = "" if row.aim is None else f"{row.aim:g}"
        print(
            f"{row.name:30} {row.ours_s * 1e3:9.2f} {row.theirs_s * 1e3:9.2f} {row.ratio:7.2f} "
            f"{aim:>6}  {row.ours} / {row.theirs}"
        )
    stages = belljar.run("print(1+1)").usage.stages
    print("stages, ms: " + ", ".join(f"{name} {s * 1e3:.2f}" for name, s in stages.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
