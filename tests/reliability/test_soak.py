"""K1, K10: the soak: a short one always, the long one with ``make test-all``.

``BELLJAR_SOAK_RUNS`` (2,000 without it) is the length of the long one.  A soak is a process of
its own: it makes itself the parent of whatever is orphaned.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from reliability.cases import Place, crashed, draw, exited, limit, raised, value
from reliability.faults import Faults
from reliability.watch import Sample

import belljar
from belljar import Policy, Result
from belljar.result import LimitHit
from reliability import judge, soak

ROOT = Path(__file__).resolve().parents[2]


def run_soak(runs: int, page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(belljar.__file__).parents[1]), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-m", "reliability", "--runs", f"{runs}", "--output", str(page), *options],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_K10_a_short_soak_has_no_wrong_result_and_leaves_nothing(
    walls: None, tmp_path: Path
) -> None:
    """Descriptors, processes and mounts; for the slope of the memory it is too short."""
    page = tmp_path / "page.md"
    done = run_soak(300, page)
    assert done.returncode == 0, done.stderr[-4000:]
    text = page.read_text(encoding="utf-8")
    assert "| runs | 300 |" in text
    assert "| wrong results | 0 |" in text
    assert "Nothing grows." in text
    assert str(ROOT) not in text
    assert str(tmp_path) not in text


@pytest.mark.long
def test_K10_the_long_soak(walls: None, tmp_path: Path) -> None:
    runs = int(os.environ.get("BELLJAR_SOAK_RUNS", "2000"))
    done = run_soak(runs, tmp_path / "page.md")
    assert done.returncode == 0, done.stderr[-4000:]


# ---------------------------------------------------------------------- that it can fail


def sample(run: int, **figures: int) -> Sample:
    zero = dict.fromkeys(Sample.__annotations__, 0)
    return Sample(**{**zero, "run": run, "zygote_pid": 5, **figures})


def test_a_leak_of_one_object_in_each_run_is_seen() -> None:
    rng = random.Random(1)

    def noise() -> int:
        return rng.randrange(-400_000, 400_000)

    level = [sample(n * 500, host_rss=40_000_000 + noise()) for n in range(180)]
    leaking = [sample(n * 500, host_rss=40_000_000 + 40 * n * 500 + noise()) for n in range(180)]
    assert judge.leaks(level) == []
    assert any("host, resident" in text for text in judge.leaks(leaking))


@pytest.mark.parametrize(
    "name",
    [
        *("host_descriptors", "zygote_descriptors", "processes", "host_mounts", "zygote_mounts"),
        *("cgroups", "files"),
    ],
)
def test_one_more_of_anything_is_seen(name: str) -> None:
    level = [sample(n, **{name: 7 + n % 2}) for n in range(20)]
    assert judge.leaks(level) == []
    assert len(judge.leaks([*level, sample(20, **{name: 9})])) == 1


def test_the_slope_is_that_of_a_line() -> None:
    line = [sample(n * 250, host_rss=1000 - 3 * n) for n in range(9)]
    assert judge.slope(line, lambda s: s.host_rss) == pytest.approx(-12)


def test_the_memory_of_one_zygote_is_not_compared_with_that_of_another() -> None:
    grown = [sample(n * 500, zygote_rss=10**7, zygote_pid=1) for n in range(10)]
    grown += [sample(n * 500, zygote_rss=10**9, zygote_pid=2) for n in range(10, 200)]
    assert judge.leaks(grown) == []
    leaking = [sample(n * 500, zygote_rss=10**7 + 40 * n * 500) for n in range(180)]
    assert any("zygote, resident" in text for text in judge.leaks(leaking))


def test_each_wrong_outcome_is_seen() -> None:
    good = Result("ok", value=3)
    assert value(3)(good) is None
    assert value(4)(good)
    assert value(3.0)(good)  # equal, and of another type
    assert value(3, b"x")(good)
    assert value(3)(Result("raised"))
    assert raised("ValueError")(Result("raised"))
    assert exited(3)(Result("exited", exit_code=4))
    assert limit("wall")(Result("limit", limit=LimitHit("cpu", 1, 1, "kernel")))
    assert crashed(9)(Result("crashed", signal=11))
    assert crashed(None)(Result("crashed", signal=11))


def test_the_same_seed_and_index_make_the_same_case(tmp_path: Path) -> None:
    place = Place(tmp_path)
    cases = [draw(7, index, place) for index in range(50)]
    again = [draw(7, index, place) for index in range(50)]
    assert [(k.name, c.code, c.inputs, c.stdin) for k, c in cases] == [
        (k.name, c.code, c.inputs, c.stdin) for k, c in again
    ]
    assert len({k.name for k, _ in cases}) > 10
    assert any(k.hostile for k, _ in cases)


def test_only_runs_that_a_fault_has_touched_are_excused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails without a fault from outside is wrong, retryable or not."""
    failure = belljar.WorkerDied("zygote", "it ended", retryable=True)

    def fail(*_: object, **__: object) -> Result:
        raise failure

    monkeypatch.setattr(belljar, "run", fail)
    case = soak.Case("1", value(1), Policy())
    outcome, what, excusable = soak.attempt(case, Faults())
    assert (outcome, excusable) == ("WorkerDied, retryable", True)
    assert what is not None
    assert not Faults().touched(0.0 + 1)


def test_a_case_is_had_again_alone(walls: None, open_dir: Path) -> None:
    kind, case, what = soak.replay(1, 0, Place(open_dir))
    assert what is None, (kind.name, case, what)
