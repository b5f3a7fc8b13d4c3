"""K10, M2: after many runs nothing is left, on the machine or in the host.

What: good runs, bad runs and failing ones in turn, then a count of everything.  Because: a leak
of one descriptor in a thousand runs stops a server on its tenth day.  Then: descriptors,
processes, mounts, control groups, files and memory are as before.
"""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

import belljar
from belljar import Policy

from . import watch

KINDS = [
    "1 + 1",
    "print('x' * 1000)",
    "raise ValueError",
    "import os; os._exit(3)",
    "import os; os.abort()",
    "import os; os.write(3, b'garbage')",
    "open('f', 'w').write('x' * 10**5)",
    "x = bytearray(10**9)",
    "import os\nwhile True: os.write(1, bytes(65536))",
    "import os; os.closerange(0, 100)",
    "import threading; [threading.Thread(target=int).start() for _ in range(5)]",
    "list(range(10_000))",
    "1 +",
]


def run_many(number: int, policy: Policy) -> None:
    for turn in range(number):
        belljar.run(KINDS[turn % len(KINDS)], policy)
        if turn % 40 == 7:
            with pytest.raises(ZeroDivisionError):
                belljar.run("print('x', flush=True)", policy, on_output=lambda *_: 1 / 0)
        if turn % 50 == 11:
            with pytest.raises(belljar.PolicyError):
                belljar.run("1", policy, inputs={"x": object()})
        if turn % 100 == 13:
            belljar.close()


class Count:
    """Everything that could be left."""

    def __init__(self) -> None:
        self.descriptors = watch.descriptors()
        self.processes = len(watch.descendants())
        self.mounts = watch.mounts()
        self.cgroups = watch.cgroups()
        self.litter = watch.litter()


def check(number: int, directory: Path) -> None:
    policy = Policy().allow(write=[str(directory)], wall_s=10)
    run_many(len(KINDS) * 2, policy)  # so that everything that is kept for good is there
    belljar.close()
    gc.collect()
    watch.eventually(lambda: not watch.descendants())
    before = Count()
    memory = watch.resident_bytes()
    run_many(number, policy)
    belljar.close()
    gc.collect()
    assert watch.eventually(lambda: len(watch.descendants()) == before.processes)
    after = Count()
    assert after.descriptors == before.descriptors
    assert after.mounts == before.mounts
    assert after.cgroups == before.cgroups
    assert after.litter - before.litter == set()
    assert list(directory.iterdir()) == []
    # What the allocator keeps of the largest result, not what grows with the number of runs.
    assert watch.resident_bytes() - memory < 16 * 2**20


def test_K10_nothing_is_left_after_200_runs(open_dir: Path) -> None:
    check(200, open_dir)


@pytest.mark.long
def test_K10_nothing_is_left_after_1000_runs(open_dir: Path) -> None:
    check(1000, open_dir)


def test_K10_the_count_would_see_what_is_left(open_dir: Path) -> None:
    belljar.close()
    before = Count()
    with open(open_dir / "held", "w"):
        belljar.run("1")
        after = Count()
    assert after.descriptors != before.descriptors
    assert after.processes > before.processes
    belljar.close()


def test_K10_a_zygote_keeps_nothing_of_its_guests() -> None:
    """Its descriptors, children and mounts are the same after a hundred guests as after one."""
    import os

    def state() -> tuple[int, int, int]:
        (zygote,) = [
            p.pid
            for p in watch.descendants()
            if p.name == "belljar-zygote" and p.parent == os.getpid()
        ]
        fds = len(os.listdir(f"/proc/{zygote}/fd"))
        mounts = len(Path(f"/proc/{zygote}/mountinfo").read_text().splitlines())
        return fds, len(watch.descendants(zygote)), mounts

    belljar.close()
    belljar.run("1")
    assert watch.eventually(lambda: state()[1] == 0)
    first = state()
    for turn in range(100):
        belljar.run(KINDS[turn % len(KINDS)])
    assert watch.eventually(lambda: state()[1] == 0)
    assert state() == first
