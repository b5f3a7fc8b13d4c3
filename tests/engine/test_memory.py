"""What several processes hold together, and what a cgroup says at the end (R1, R2)."""

from __future__ import annotations

import pytest

from belljar.engine import events as e
from belljar.engine.life import (
    MEMORY_CHECK_MOST_S,
    MEMORY_CHECK_S,
    MEMORY_SHARE,
    Life,
)
from belljar.result import LimitHit

MIB = 2**20
KILL = [e.Kill()]


@pytest.fixture
def watched(scene):
    """Makes scenes whose guest has the code and whose memory only the host sees."""

    def make(**limits):
        sc = scene(**limits)
        sc.life = Life(sc.order, sc.limits, sc.budget, sc.now, watch_memory=True)
        sc.start()
        return sc

    return make


def look(sc, memory_bytes, cost_s=0.0, after=0.0):
    return sc.tell(e.Tick(0.0, memory_bytes, cost_s), after)


def test_memory_over_the_limit_ends_the_run_with_what_was_used(watched):
    sc = watched(memory_bytes=64 * MIB)
    assert look(sc, 64 * MIB) == []
    assert look(sc, 65 * MIB, after=MEMORY_CHECK_S) == KILL
    sc.exit(signal=9)
    result = sc.result()
    assert result.status == "limit"
    assert result.limit == LimitHit("memory", 64 * MIB, float(65 * MIB), "kernel")
    assert result.usage.peak_memory_bytes == 65 * MIB


def test_nobody_looks_unless_asked_to(started):
    sc = started()
    assert not sc.life.wants_memory(sc.now + 3600)
    assert sc.life.deadline() > sc.now + MEMORY_CHECK_S


def test_the_next_look_is_due_after_the_interval(watched):
    sc = watched()
    assert sc.life.wants_memory(sc.now)
    look(sc, MIB)
    assert not sc.life.wants_memory(sc.now)
    assert sc.life.deadline() == pytest.approx(sc.now + MEMORY_CHECK_S)
    assert sc.life.wants_memory(sc.now + MEMORY_CHECK_S)


def test_a_dear_look_is_taken_more_seldom(watched):
    """However large the guest is, looking costs no more than its share of a core."""
    sc = watched(cpu_s=3600, wall_s=3600)
    look(sc, MIB, cost_s=0.004)
    assert sc.life.deadline() == pytest.approx(sc.now + 0.004 / MEMORY_SHARE)


def test_no_guest_makes_looking_so_dear_that_it_is_left_alone(watched):
    sc = watched(cpu_s=3600, wall_s=3600)
    look(sc, MIB, cost_s=10.0)
    assert sc.life.deadline() == pytest.approx(sc.now + MEMORY_CHECK_MOST_S)


def test_a_look_that_finds_nothing_is_no_reason_to_look_at_once_again(watched):
    sc = watched()
    look(sc, None)
    assert not sc.life.wants_memory(sc.now)
    assert sc.life.deadline() > sc.now


def test_somebody_looks_until_the_end(watched):
    """After its last word, or once its output is cut, a guest has a moment to end in."""
    sc = watched(memory_bytes=64 * MIB)
    sc.finish(value=1)
    assert sc.life.wants_memory(sc.now)
    assert sc.life.deadline() <= sc.now
    assert look(sc, 65 * MIB) == KILL
    assert not sc.life.wants_memory(sc.now + 1)
    sc.exit(signal=9)
    assert sc.result().status == "ok"  # the last word was said before


def test_cpu_is_checked_as_if_every_process_were_busy(started):
    """Four processes and one thread reach the limit in a fifth of the time."""
    sc = started(cpu_s=5, wall_s=100, processes=4, threads=0)
    sc.tick(cpu_s=0.0)
    assert sc.life.deadline() == pytest.approx(sc.now + 1.0)


# --- with a cgroup ---------------------------------------------------------------------------


def test_an_end_by_the_kernel_for_the_groups_memory_is_a_limit(started):
    sc = started(memory_bytes=64 * MIB)
    sc.tell(e.Counted(0.5, 100 * MIB, 1))
    sc.exit(signal=9)
    result = sc.result()
    assert result.status == "limit"
    assert result.limit == LimitHit("memory", 64 * MIB, float(100 * MIB), "kernel")


def test_usage_is_the_groups_where_it_counts_more(started):
    sc = started()
    sc.tell(e.Counted(0.5, 100 * MIB, 0))
    sc.finish(value=1)
    sc.exit(cpu_s=0.1)
    usage = sc.result().usage
    assert (usage.cpu_s, usage.peak_memory_bytes) == (0.5, 100 * MIB)


def test_a_kill_that_was_no_matter_of_memory_is_a_crash(started):
    sc = started()
    sc.tell(e.Counted(0.5, MIB, 0))
    sc.exit(signal=9)
    assert (sc.result().status, sc.result().signal) == ("crashed", 9)


def test_the_first_cause_is_kept(started):
    """The host killed it for its time; that the group ran full on the way out changes nothing."""
    sc = started(wall_s=1)
    assert sc.tick(after=1.5) == KILL
    sc.tell(e.Counted(0.5, 100 * MIB, 1))
    sc.exit(signal=9)
    assert sc.result().limit.name == "wall"


def test_a_last_word_from_before_stands(started):
    sc = started()
    sc.finish(value=7)
    sc.tell(e.Counted(0.5, 100 * MIB, 1))
    sc.exit(signal=9)
    assert (sc.result().status, sc.result().value) == ("ok", 7)


def test_time_of_processes_that_nobody_waited_for_counts(started):
    sc = started(processes=2, cpu_s=5)
    sc.tick(cpu_s=1.5)
    sc.finish(value=1)
    sc.exit(cpu_s=0.25)
    assert sc.result().usage.cpu_s == 1.5
