"""CPython's own test suite, module by module, outside and inside.

``compare("test.test_json")`` runs ``runner.py`` for one module twice: in a plain child of
this interpreter, and in a sandbox that may read the standard library and nothing else.
What counts is each test that passes outside; whatever else becomes of it inside is a
``Difference``, and ``restrictions`` knows its name.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import belljar
from belljar import Policy
from belljar.policy.whitelist import BLOCKED

from . import restrictions, runner

RUNNER = Path(__file__).with_name("runner.py")
# Packages with more tests than fit into the time of one run: each of their modules is run
# alone, as CPython's own runner does.
SPLIT = frozenset(
    (
        "test_asyncio",
        "test_concurrent_futures",
        "test_multiprocessing_fork",
        "test_multiprocessing_forkserver",
        "test_multiprocessing_spawn",
    )
)
WALL_S = 60.0
POLICY = Policy().allow(
    wall_s=WALL_S,
    cpu_s=WALL_S,
    memory_bytes=2**30,
    output_bytes=2**28,  # one line or two for each test, and a traceback for each that fails
    threads=1024,  # tests of locks start hundreds
    processes=64,  # and some start interpreters of their own
    run=restrictions.PROGRAMS,
    open_files=256,
    work_bytes=2**30,
    work_files=2**16,
    file_bytes=2**33,  # files with holes, beyond what 32 bits count
    # Blocked by default, because they exist for these tests, which are what is wanted here.
    modules=sorted(
        name for name in BLOCKED if name.startswith(("_test", "_ctypes_test", "_xxtest", "xx"))
    ),
)
TEST_S = 2.0  # what one test may take inside, beside three times the longest one outside
PASSED = frozenset(("passed", "expected failure"))


class NotInstalled(Exception):
    """This interpreter has no ``test`` package."""


@dataclass(frozen=True)
class Outcome:
    """What became of one test, and the traceback or the reason if it did not pass."""

    word: str
    text: str = ""


@dataclass
class Side:
    """One module on one side of the wall.

    ``end`` is how the process ended (``done``, ``skipped`` or ``error`` on import, else what
    cut it off) with the ``text`` that belongs to it.
    """

    tests: list[str] = field(default_factory=list[str])
    outcomes: dict[str, Outcome] = field(default_factory=dict[str, Outcome])
    places: dict[str, Outcome] = field(default_factory=dict[str, Outcome])
    end: str = "cut off"
    text: str = ""
    running: str = ""
    longest_s: float = 0.0

    def passed(self) -> set[str]:
        return {name for name, outcome in self.outcomes.items() if outcome.word in PASSED}

    def outcome(self, test: str) -> Outcome:
        """Of a test, or of what kept it from running."""
        if test in self.outcomes:
            return self.outcomes[test]
        bare = test.partition(" #")[0]
        for place, outcome in self.places.items():
            # "setUpClass (test.test_x.Class)", "setUpModule (test.test_x)"
            found = re.fullmatch(r"\w+ \((.+)\)", place)
            if found and bare.startswith(found[1] + "."):
                return outcome
        if self.end in ("skipped", "error"):
            return Outcome(self.end, self.text)
        if self.end != "done":
            where = "in this test" if self.running == test else f"in {self.running or 'no test'}"
            return Outcome("not reached", f"{self.end} {where}: {self.text}")
        for name, outcome in self.outcomes.items():
            # What stands in for a module of tests that could not be loaded.
            _, failed, module = name.partition("._FailedTest.")
            if failed and f".{module}." in f".{test}":
                return outcome
        return Outcome("missing", "there is no such test")


@dataclass(frozen=True)
class Difference:
    """A test that passes outside and not inside; ``restriction`` is None if nobody knows why."""

    test: str
    word: str
    text: str
    restriction: str | None


@dataclass(frozen=True)
class Comparison:
    """One module: how many of its tests pass on each side, and each difference."""

    module: str
    outside: int
    inside: int
    differences: tuple[Difference, ...]
    note: str = ""

    @property
    def unexplained(self) -> tuple[Difference, ...]:
        return tuple(d for d in self.differences if d.restriction is None)

    @property
    def whole(self) -> bool:
        """Every test that passes outside passes inside, or skips itself for a named reason.

        A module of which nothing is left has not passed.
        """
        return self.inside > 0 and all(
            d.word == "skipped" and d.restriction for d in self.differences
        )


def modules() -> list[str]:
    """The test modules of the running interpreter; raises ``NotInstalled``."""
    found = importlib.util.find_spec("test")
    places = list(found.submodule_search_locations or ()) if found else []
    names: list[str] = []
    for name in _inside(places):
        if name in SPLIT and (parts := list(_inside([f"{p}/{name}" for p in places]))):
            names.extend(f"test.{name}.{part}" for part in parts)
        else:
            names.append(f"test.{name}")
    if "test.test_builtin" not in names:  # some systems leave a part of the package behind
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise NotInstalled(
            f"this Python {version} has no tests of its own; "
            f"Debian: apt-get install libpython{version}-testsuite"
        )
    return names


def _inside(places: Iterable[str]) -> Iterator[str]:
    entries = {e.name: e for p in places if os.path.isdir(p) for e in os.scandir(p)}
    for name, entry in sorted(entries.items()):
        if name.startswith("test_") and name.endswith(".py"):
            yield name.removesuffix(".py")
        elif name.startswith("test_") and os.path.isfile(f"{entry.path}/__init__.py"):
            yield name


def compare(module: str, test_s: float = TEST_S) -> Comparison:
    """One module outside, then inside; ``test_s`` as ``TEST_S``."""
    outside = run_outside(module)
    passed = outside.passed()
    if not passed:
        reason = outside.text.strip().splitlines()[-1:] or ["all of its tests are skipped or fail"]
        return Comparison(module, 0, 0, (), reason[0] if outside.end == "skipped" else "")
    inside = run_inside(module, test_s + 3 * outside.longest_s)
    differences: list[Difference] = []
    for test in sorted(passed - inside.passed()):
        outcome = inside.outcome(test)
        name = restrictions.explain(test, outcome.word, outcome.text)
        differences.append(Difference(test, outcome.word, outcome.text, name))
    return Comparison(module, len(passed), len(passed) - len(differences), tuple(differences))


def compare_all(names: Iterable[str], jobs: int, test_s: float = TEST_S) -> Iterator[Comparison]:
    """Each module's comparison as soon as there is one; ``jobs`` modules at a time."""
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(compare, name, test_s) for name in names]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


def run_inside(module: str, seconds: float) -> Side:
    """In a sandbox; belljar's own failure is raised, the guest's is part of the answer.

    ``seconds`` is what one test may take.
    """
    source = RUNNER.read_text(encoding="utf-8")
    result = belljar.run(source, POLICY, argv=[module, str(seconds)], name="runner.py")
    side = read(result.stdout_bytes)
    if side.end == "cut off":
        side.text = result.status
        if result.limit is not None:
            side.text = f"limit {result.limit.name}"
        elif result.signal is not None:
            side.text = f"signal {signal.Signals(result.signal).name}"
    return side


def run_outside(module: str) -> Side:
    """In a child in an empty directory; all that it starts ends with it."""
    python = getattr(sys, "_base_executable", None) or sys.executable
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        work, temporary = Path(folder, "work"), Path(folder, "tmp")
        work.mkdir()
        temporary.mkdir()
        with tempfile.TemporaryFile() as output:
            child = subprocess.Popen(
                [python, "-I", str(RUNNER), module],
                cwd=work,
                env={"PATH": os.defpath, "TMPDIR": str(temporary), "HOME": str(work)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                child.wait(WALL_S)
                text = f"exit status {child.returncode}"
            except subprocess.TimeoutExpired:
                text = "limit wall"
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
            output.seek(0)
            side = read(output.read())
    if side.end == "cut off":
        side.text = text
    return side


def read(output: bytes) -> Side:
    """What ``runner`` reported, between whatever else was printed."""
    side = Side()
    mark = runner.MARK.encode("ascii")
    for line in output.split(b"\n"):
        if not line.startswith(mark):
            continue
        try:
            record: dict[str, Any] = json.loads(line.removeprefix(mark))
        except ValueError:
            continue  # the last line of a process that was killed while it wrote
        if "tests" in record:
            side.tests = record["tests"]
        elif "begin" in record:
            side.running = record["begin"]
        elif "test" in record:
            side.outcomes[record["test"]] = Outcome(record["outcome"], record["text"])
            side.running = ""
            side.longest_s = max(side.longest_s, record["seconds"])
        elif "place" in record:
            side.places[record["place"]] = Outcome(record["outcome"], record["text"])
        elif "module" in record:
            side.end, side.text = record["module"], record["text"]
    return side
