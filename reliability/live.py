"""``python -m reliability.live``: what lives, at random: every result checked, nothing left.

What: live sandboxes with functions of the host, channels, files and branches, on which one
operation after the other is done: runs, calls, large values, artifacts, interrupts, limits,
exits, kills from outside, resets, branches; and the same in single runs.  Because: each has its
tests, and what one leaves behind is met by the next.  Then: what a sandbox must hold is kept
beside it (``Kept``) and compared, and whenever all are closed everything is read.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import threading
import time
import zlib
from array import array
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import belljar
from belljar import ClosedError, Policy, Sandbox
from belljar.drivers.account import pid_of

from . import judge, watch

OPERATIONS = 3000
PER_ROUND = 50  # operations between two readings
TOGETHER = 3  # sandboxes alive at a time, their branches beside
BRANCHES = 4
# Patient, because the machine may be busy with others.
POLICY = Policy().allow(wall_s=60, cpu_s=60, value_bytes=2**23, memory_bytes=2**28)
MOST_BYTES = 2**22  # of a large value
SLEEP = "import time\nprint('here', flush=True)\ntime.sleep(60)"


class Wrong(Exception):
    """A result that is not what it must be."""


class Raised(Exception):
    """What the application's own function raises."""


def same(found: object, expected: object) -> None:
    """Raise ``Wrong`` unless they are equal, and of one type."""
    if type(found) is not type(expected) or found != expected:
        raise Wrong(f"{found!r:.500} is not {expected!r:.500}")


@dataclass
class Kept:
    """A sandbox, and what it must hold."""

    number: int
    sandbox: Sandbox
    channel: belljar.ChannelEnd | None  # our end of it
    n: int = 0
    files: dict[str, bytes] = field(default_factory=dict[str, bytes])
    parent: Kept | None = None
    branches: list[Kept] = field(default_factory=list["Kept"])
    gone: bool = False

    def tree(self) -> list[Kept]:
        """It and what was made of it."""
        return [self, *(one for branch in self.branches for one in branch.tree())]

    def end(self) -> None:
        """Close it; what was made of it goes with it."""
        self.sandbox.close()
        if self.channel is not None:
            self.channel.close()
        for one in self.tree():
            same(one.sandbox.closed, True)
            one.gone = True
        if self.parent is not None:
            self.parent.branches.remove(self)


class Soak:
    """Operations ``0`` to ``operations - 1`` of a seed."""

    def __init__(self, seed: int, operations: int, note: Callable[[watch.Sample], object]) -> None:
        self.operations = operations
        self.note = note
        # One piece of memory for all readings: they must not be what grows.
        self._readings = array("d")
        self.done: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._random = random.Random(seed)
        self._made = 0
        self._kept: list[Kept] = []

    def run(self, per_round: int = PER_ROUND) -> None:
        """Do all of it."""
        watch.adopt_orphans()
        known = watch.files()
        for act in ACTS:  # what is made once is there
            self._one(act)
        self._close_all()
        began = time.monotonic()
        for index in range(1, self.operations + 1):
            (act,) = self._random.choices(list(ACTS), list(ACTS.values()))
            self._one(act)
            if index % per_round and index != self.operations:
                continue
            self._close_all()
            threads = [t.name for t in threading.enumerate() if t is not threading.main_thread()]
            if threads:
                self.wrong.append(f"threads are left: {threads}")
            reading = watch.sample(index, time.monotonic() - began, known)
            self._readings.extend(getattr(reading, name) for name in watch.FIELDS)
            self.note(reading)

    @property
    def samples(self) -> list[watch.Sample]:
        """The readings so far."""
        width = len(watch.FIELDS)
        rows = [self._readings[at : at + width] for at in range(0, len(self._readings), width)]
        return [watch.Sample(*[int(figure) for figure in row]) for row in rows]

    def leaks(self) -> list[str]:
        """What has grown since the first tenth of the readings."""
        samples = self.samples
        return judge.leaks(samples[len(samples) // 10 :])

    def _one(self, act: Callable[[Soak, Kept], None]) -> None:
        while len(self._kept) < TOGETHER:
            self._kept.append(self._new())
        kept = self._random.choice([one for root in self._kept for one in root.tree()])
        name = act.__name__
        self.done[name] += 1
        try:
            act(self, kept)
        except Exception as error:
            text = f"{sum(self.done.values())}, {name}: {type(error).__name__}: {error}"
            self.wrong.append(text)
            print(f"wrong: {text}", file=sys.stderr)
            self._close_all()
        self._kept = [one for one in self._kept if not one.gone]

    def _new(self) -> Kept:
        self._made += 1
        number = self._made
        # A sandbox with a channel has no branches.
        if number % 2:
            end, theirs = belljar.channel()
            more: dict[str, Any] = {"channels": {"jobs": theirs}}
        else:
            end, more = None, {"branches": BRANCHES}
        functions: dict[str, Any] = {
            "own": own_of(number),
            "threaded": belljar.HostFunction(own_of(number), in_thread=True),
            "fail": fail,
        }
        inputs = {"me": number, "n": 0}
        sandbox = Sandbox(POLICY, inputs=inputs, functions=functions, **more)
        return Kept(number, sandbox, end)

    def _close_all(self) -> None:
        for kept in self._kept:
            kept.end()
        self._kept = []

    def _afresh(self, kept: Kept) -> None:
        """After an end: there is no run any more until it is reset, which a branch cannot be."""
        try:
            kept.sandbox.run("1")
        except ClosedError:
            pass
        else:
            raise Wrong("it ran on")
        if kept.channel is not None or kept.parent is not None:
            kept.end()
        else:
            self._reset(kept)

    def _reset(self, kept: Kept) -> None:
        for branch in list(kept.branches):
            branch.end()
        kept.sandbox.reset()
        kept.n, kept.files = 0, {}
        same(kept.sandbox.get("me"), kept.number)

    # --- the operations -------------------------------------------------------------------

    def count(self, kept: Kept) -> None:
        result = kept.sandbox.run("n += 1\nprint(me)\nme, n")
        kept.n += 1
        same(result.unwrap(), (kept.number, kept.n))
        same(result.stdout, f"{kept.number}\n")
        same(kept.sandbox.get("n"), kept.n)

    def call(self, kept: Kept) -> None:
        kept.sandbox.set(n=self._random.randrange(1000))
        kept.n = kept.sandbox.get("n")
        same(kept.sandbox.call("max", kept.n, -1), kept.n)

    def ask_host(self, kept: Kept) -> None:
        k = self._random.randrange(100)
        code = (
            "found = [own(me, k), threaded(me, k + 1)]\n"
            "try:\n    fail()\nexcept ValueError as error:\n    found.append(str(error))\nfound"
        )
        result = kept.sandbox.run(code, inputs={"k": k})
        same(result.unwrap(), [(kept.number, k), (kept.number, k + 1), "as asked"])

    def ask_from_threads(self, kept: Kept) -> None:
        code = (
            "from concurrent.futures import ThreadPoolExecutor\n"
            "with ThreadPoolExecutor(4) as pool:\n"
            "    found = list(pool.map(lambda k: threaded(me, k), range(12)))\nfound"
        )
        same(kept.sandbox.run(code).unwrap(), [(kept.number, k) for k in range(12)])

    def channel(self, kept: Kept) -> None:
        if kept.channel is None:
            return
        for k in range(3):
            kept.channel.send([kept.number, k])
        kept.sandbox.run("for _ in range(3): jobs.send(jobs.recv() + [n])").unwrap()
        for k in range(3):
            same(kept.channel.recv(timeout=60), [kept.number, k, kept.n])

    def file(self, kept: Kept) -> None:
        name = f"f{self._random.randrange(5)}"
        data = self._random.randbytes(self._random.choice((0, 10, 1000, 100_000)))
        kept.sandbox.write_bytes(name, data)
        kept.files[name] = data
        code = (
            "import os\nwith open('made', 'wb') as file: file.write(open(f, 'rb').read()[::-1])\n"
            "sorted(os.listdir('.'))"
        )
        result = kept.sandbox.run(code, inputs={"f": name})
        kept.files["made"] = data[::-1]
        same(result.unwrap(), sorted(kept.files))
        same(result.files["made"].read_bytes(), data[::-1])
        for one, contents in kept.files.items():
            same(kept.sandbox.read_bytes(one), contents)

    def artifact(self, kept: Kept) -> None:
        text = f"{kept.number}, {kept.n}"
        result = kept.sandbox.run("display({'text/csv': t}, raw=True)", inputs={"t": text})
        result.unwrap()
        same([one.text for one in result.artifacts], [text])

    def large(self, kept: Kept) -> None:
        data = self._random.randbytes(self._random.randrange(MOST_BYTES))
        kept.sandbox.set(big=data)
        same(kept.sandbox.run("import zlib; zlib.crc32(big)").unwrap(), zlib.crc32(data))
        same(kept.sandbox.get("big"), data)
        kept.sandbox.run("del big").unwrap()

    def interrupt(self, kept: Kept) -> None:
        sandbox = kept.sandbox

        def ask(_stream: str, _data: bytes) -> None:
            sandbox.interrupt()

        result = sandbox.run(SLEEP, on_output=ask)
        same(result.error and result.error.type, "KeyboardInterrupt")
        same(sandbox.get("n"), kept.n)

    def interrupt_from_a_thread(self, kept: Kept) -> None:
        timer = threading.Timer(self._random.uniform(0, 0.02), kept.sandbox.interrupt)
        timer.start()
        result = kept.sandbox.run("for _ in range(100_000): pass\n7")
        timer.join()
        outcome = result.error.type if result.error is not None else result.value
        if outcome not in ("KeyboardInterrupt", 7):
            raise Wrong(repr(result))
        same(kept.sandbox.get("n"), kept.n)

    def raise_in_listener(self, kept: Kept) -> None:
        def listen(stream: str, data: bytes) -> None:
            raise Raised

        try:
            kept.sandbox.run(SLEEP, on_output=listen)
        except Raised:
            pass
        else:
            raise Wrong("it was not raised")
        if kept.sandbox.ended:  # busy with others, it did not end within a second
            self._afresh(kept)
        else:
            same(kept.sandbox.get("n"), kept.n)

    def error(self, kept: Kept) -> None:
        same(kept.sandbox.run("n / 0").status, "raised")
        same(kept.sandbox.run("raise SystemExit(3)").exit_code, 3)
        same(kept.sandbox.run("lambda: 0").value_error is not None, True)

    def limit(self, kept: Kept) -> None:
        result = kept.sandbox.run("while True: pass", wall_s=0.05)
        same(result.limit and result.limit.name, "wall")
        self._afresh(kept)

    def crash(self, kept: Kept) -> None:
        code, status = self._random.choice(
            [("import os; os._exit(4)", "exited"), ("import os; os.abort()", "crashed")]
        )
        same(kept.sandbox.run(code).status, status)
        self._afresh(kept)

    def kill_between(self, kept: Kept) -> None:
        os.kill(pid(kept), signal.SIGKILL)
        until = time.monotonic() + 60
        while not kept.sandbox.ended and time.monotonic() < until:
            try:
                kept.sandbox.run("1")
            except ClosedError:
                break
            time.sleep(0.001)
        self._afresh(kept)

    def kill_during(self, kept: Kept) -> None:
        number = pid(kept)

        def kill(_stream: str, _data: bytes) -> None:
            os.kill(number, signal.SIGKILL)

        result = kept.sandbox.run(SLEEP, on_output=kill)
        same((result.status, result.signal), ("crashed", 9))
        self._afresh(kept)

    def reset(self, kept: Kept) -> None:
        if kept.channel is None and kept.parent is None:  # else it could not go on
            self._reset(kept)

    def fork(self, kept: Kept) -> None:
        root = kept
        while root.parent is not None:
            root = root.parent
        if root.channel is not None or len(root.tree()) > BRANCHES:
            return
        sandbox = kept.sandbox.fork()
        branch = Kept(kept.number, sandbox, None, kept.n, dict(kept.files), kept)
        kept.branches.append(branch)
        self.count(branch)
        self.file(branch)
        self.count(kept)
        for name, contents in kept.files.items():
            same(kept.sandbox.read_bytes(name), contents)

    def close(self, kept: Kept) -> None:
        kept.end()

    def end_zygotes(self, kept: Kept) -> None:
        """All guests go with their zygote."""
        belljar.close()
        for one in self._kept:
            try:
                one.sandbox.run("1")
            except (ClosedError, belljar.WorkerDied):
                continue
            raise Wrong("it ran on")
        self._close_all()

    def once(self, kept: Kept) -> None:
        number = self._random.randrange(1000)
        ours, theirs = belljar.channel()
        ours.send(number)
        result = belljar.run(
            "open('out', 'w').write(given)\ndisplay({'text/csv': given}, raw=True)\n"
            "print(given)\nown(jobs.recv(), 1)",
            POLICY,
            inputs={"given": f"{number}"},
            functions={"own": own_of(number)},
            channels={"jobs": theirs},
        )
        ours.close()
        same(result.unwrap(), (number, 1))
        same(result.stdout, f"{number}\n")
        same(result.files["out"].read_text(), f"{number}")
        same(result.artifacts[0].text, f"{number}")


def own_of(number: int) -> Callable[[int, int], tuple[int, int]]:
    """A function that was lent to one sandbox and its branches, and knows it."""

    def own(me: int, k: int) -> tuple[int, int]:
        same(me, number)
        return me, k

    return own


def fail() -> None:
    """A function of the host's that says no."""
    raise ValueError("as asked")


def pid(kept: Kept) -> int:
    """The number of its process."""
    live = kept.sandbox._live  # pyright: ignore[reportPrivateUsage]
    found = None if live is None or live.ends.pidfd is None else pid_of(live.ends.pidfd)
    if found is None:
        raise Wrong("it has no process")
    return found


# Each, and how often it is done beside the others.
ACTS: dict[Callable[[Soak, Kept], None], int] = {
    Soak.count: 8,
    Soak.call: 8,
    Soak.ask_host: 8,
    Soak.ask_from_threads: 4,
    Soak.channel: 8,
    Soak.file: 6,
    Soak.artifact: 4,
    Soak.large: 4,
    Soak.interrupt: 3,
    Soak.interrupt_from_a_thread: 3,
    Soak.raise_in_listener: 3,
    Soak.error: 4,
    Soak.limit: 2,
    Soak.crash: 2,
    Soak.kill_between: 2,
    Soak.kill_during: 2,
    Soak.reset: 2,
    Soak.fork: 8,
    Soak.close: 3,
    Soak.end_zygotes: 1,
    Soak.once: 3,
}


def main() -> int:
    """Print what was done, and the readings; 1 where a result was wrong or something grew."""
    parser = argparse.ArgumentParser("reliability.live", description=__doc__)
    parser.add_argument("--operations", type=int, default=OPERATIONS, help="how many (3,000)")
    parser.add_argument("--per-round", type=int, default=PER_ROUND, help="between readings (50)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (1)")
    options = parser.parse_args()

    def note(sample: watch.Sample) -> None:
        print(
            f"{sample.run:6} operations, {sample.seconds:4} s  host {sample.host_rss >> 10} KiB, "
            f"{sample.host_blocks} pieces, {sample.host_descriptors} descriptors, "
            f"{sample.processes} processes, {sample.files} files, {sample.cgroups} cgroups",
            flush=True,
        )

    soak = Soak(options.seed, options.operations, note)
    soak.run(options.per_round)
    print(", ".join(f"{name} {count}" for name, count in sorted(soak.done.items())))
    leaks = soak.leaks()
    for leak in leaks:
        print(f"leak: {leak}", file=sys.stderr)
    print(f"{len(soak.wrong)} wrong results, {len(leaks)} leaks")
    return 1 if soak.wrong or leaks else 0


if __name__ == "__main__":
    sys.exit(main())
