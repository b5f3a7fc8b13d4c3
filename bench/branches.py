"""``python -m bench branches``: a tree search over a state of 200 MB.

What: a table in a live sandbox, four ways to go on from each state, three deep: 84 branches, of
which 64 are leaves and all are alive together.  Each applies its move, and the leaf's score is
compared with what it must be.  Because: copy-on-write is worth what a branch costs before it
writes.  Then: seconds for each fork, memory of its own before and after it has written, and
whether every score was right.
"""

from __future__ import annotations

import statistics
import time

import belljar
from belljar import Policy, Sandbox
from belljar.drivers.account import pid_of, read

STATE_BYTES = 200 * 2**20
WAYS, DEPTH = 4, 3
AIM_S, AIM_BYTES = 0.010, 3 * 2**20

# With pandas where it can be had, else with what every interpreter has.
WITH_PANDAS = f"""
import numpy, pandas
table = pandas.DataFrame({{"x": numpy.arange({STATE_BYTES} // 8, dtype="float64")}})
def move(row, by): table.loc[row, "x"] += by
def score(): return float(table["x"].iloc[:{DEPTH}].sum())
"""
WITHOUT = f"""
import array
table = array.array("d", [0.0]) * ({STATE_BYTES} // 8)
for row in range({DEPTH}): table[row] = row
def move(row, by): table[row] += by
def score(): return sum(table[:{DEPTH}])
"""


def own_bytes(sandbox: Sandbox) -> int:
    """What is a process's own, by the kernel's account."""
    live = sandbox._live  # pyright: ignore[reportPrivateUsage]
    pid = None if live is None or live.ends.pidfd is None else pid_of(live.ends.pidfd)
    text = read(f"/proc/{pid}/smaps_rollup").splitlines()
    return sum(int(line.split()[1]) for line in text if line.startswith(b"Private_")) * 1024


def main() -> int:
    """Print the table; 1 where a score was wrong."""
    policy = Policy().allow(wall_s=60, cpu_s=60, memory_bytes=2**30)
    code = WITHOUT
    try:
        with_pandas = policy.allow(packages=["numpy", "pandas"])
        belljar.run("import pandas", with_pandas).unwrap()
        policy, code = with_pandas, WITH_PANDAS
    except (belljar.PolicyError, belljar.GuestError) as error:
        print(f"without pandas: {error}")
    forks: list[float] = []
    before: list[int] = []
    after: list[int] = []
    wrong = 0
    with Sandbox(policy, branches=sum(WAYS**level for level in range(1, DEPTH + 1))) as root:
        root.run(code).unwrap()
        level: list[tuple[Sandbox, tuple[int, ...]]] = [(root, ())]
        began = time.perf_counter()
        for row in range(DEPTH):
            grown: list[tuple[Sandbox, tuple[int, ...]]] = []
            for sandbox, path in level:
                for way in range(WAYS):
                    at = time.perf_counter()
                    branch = sandbox.fork()
                    forks.append(time.perf_counter() - at)
                    before.append(own_bytes(branch))
                    branch.call("move", row, 10**row * way)
                    after.append(own_bytes(branch))
                    grown.append((branch, (*path, way)))
            level = grown
        base = sum(range(DEPTH))
        for branch, path in level:
            wrong += branch.call("score") != base + sum(10**n * way for n, way in enumerate(path))
        whole_s = time.perf_counter() - began
        wrong += root.call("score") != base
    mib = 2**20
    print(f"{'what':34} {'median':>8} {'worst':>8} {'aim':>6}")
    print(
        f"{'a branch of 200 MB, ms':34} {statistics.median(forks) * 1e3:8.2f} "
        f"{max(forks) * 1e3:8.2f} {AIM_S * 1e3:6.0f}"
    )
    for name, sizes in (("its own memory, MiB", before), ("after its first write, MiB", after)):
        aim = f"{AIM_BYTES / mib:6.0f}" if sizes is before else ""
        print(f"{name:34} {statistics.median(sizes) / mib:8.2f} {max(sizes) / mib:8.2f} {aim}")
    print(f"{len(forks)} branches, {len(level)} leaves, {whole_s:.2f} s, {wrong} wrong results")
    return 1 if wrong else 0
