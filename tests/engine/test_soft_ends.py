"""Ends that are told first, told by events alone: grace, Ctrl-C, pauses (R2, K6)."""

from __future__ import annotations

import math

import pytest

from belljar.engine import events as e
from belljar.engine.life import OVER, SIGINT
from belljar.result import LimitHit
from belljar.wire.events import ErrorText, Ready

KILL = [e.Kill()]
TOLD = [e.Notify(OVER)]
TIMEOUT = ErrorText("TimeoutError", "wall_s: 1 s are over", "TimeoutError: wall_s\n")


# --- a grace after a limit ---------------------------------------------------------------------


def test_without_a_grace_nobody_is_told(started):
    sc = started(wall_s=1)
    assert sc.tick(1.1) == KILL
    assert not [one for one in sc.log if isinstance(one, e.Notify)]


def test_wall_is_told_first_and_killed_after_the_grace(started):
    sc = started(wall_s=1, grace_s=0.5)
    assert sc.tick(1.1) == TOLD
    sc.tick(0.4)
    assert KILL[0] not in sc.log
    assert sc.tick(0.2) == KILL
    sc.exit(signal=9)
    result = sc.result()
    assert (result.status, result.limit.name, result.limit.allowed) == ("limit", "wall", 1)
    assert result.limit.used == pytest.approx(1.1)


def test_cpu_is_told_first_and_bounded_by_the_same_grace(started):
    sc = started(wall_s=60, cpu_s=2, grace_s=0.5)
    assert sc.tick(1, cpu_s=2.01) == TOLD
    assert sc.tick(0.1, cpu_s=2.4) == []
    # Eight threads use up half a second of processor time long before half a second is over.
    assert sc.tick(0.1, cpu_s=2.51) == KILL
    sc.exit(signal=9, cpu_s=2.6)
    assert sc.result().limit == LimitHit("cpu", 2.0, 2.01, "kernel")


def test_the_clock_of_the_processor_is_read_in_time_during_the_grace(started):
    sc = started(wall_s=1, cpu_s=1.2, grace_s=10, threads=0)
    assert sc.tick(1.1, cpu_s=1.1) == TOLD
    assert sc.life.deadline() - sc.now < 10.1 - 1e-9


def test_processor_time_that_is_left_is_had_during_a_grace_of_the_wall(started):
    sc = started(wall_s=1, cpu_s=5, grace_s=2)
    assert sc.tick(1.1, cpu_s=0.1) == TOLD
    assert sc.tick(1, cpu_s=5.5) == []
    assert sc.tick(0.1, cpu_s=7.1) == KILL
    sc.exit(signal=9, cpu_s=7.2)
    assert sc.result().limit.name == "wall", "the first cause"


def test_value_error_and_output_of_the_grace_arrive(started):
    sc = started(wall_s=1, grace_s=1)
    sc.tick(1.1)
    assert sc.tell(e.Output("stdout", b"cleaned")) == [e.Deliver("stdout", b"cleaned")]
    sc.finish(value=[1, 2])
    sc.exit()
    result = sc.result()
    assert (result.status, result.value, result.stdout) == ("limit", [1, 2], "cleaned")
    assert (result.error, result.exit_code, result.signal) == (None, None, None)

    sc = started(wall_s=1, grace_s=1)
    sc.tick(1.1)
    sc.finish("raised", error=TIMEOUT)
    sc.exit(code=1)
    assert (sc.result().status, sc.result().error.type) == ("limit", "TimeoutError")
    assert (sc.result().value, sc.result().value_error) == (None, None)


def test_a_value_of_the_grace_keeps_to_its_budget(started):
    from belljar.wire.limits import Budget

    sc = started(wall_s=1, grace_s=1, value_bytes=1024)
    sc.tick(1.1)
    sc.budget = Budget()  # the guest does not keep to it
    sc.finish(value=list(range(10_000)))
    sc.exit()
    assert (sc.result().status, sc.result().value) == ("limit", None)
    assert "1024" in sc.result().value_error


def test_a_value_without_notice_is_none(started):
    """What ended for its output has no value, as ever."""
    sc = started(output_bytes=4, grace_s=1)
    sc.tell(e.Output("stdout", b"12345"))
    sc.finish(value=1)
    sc.exit()
    assert (sc.result().limit.name, sc.result().value) == ("output", None)


@pytest.mark.parametrize("how", ["exited", "crash", "exit"])
def test_whatever_comes_in_the_grace_is_a_limit(started, how):
    sc = started(wall_s=1, grace_s=1)
    sc.tick(1.1)
    if how == "exited":
        sc.finish("exited", exit_code=3)
    sc.exit(signal=11 if how == "crash" else 0, code=3)
    result = sc.result()
    assert (result.status, result.limit.name) == ("limit", "wall")
    assert (result.exit_code, result.signal) == (None, None)


def test_after_the_last_word_of_the_grace_the_end_is_as_ever(started):
    sc = started(wall_s=1, grace_s=60)
    sc.tick(1.1)
    sc.finish(value=1)
    assert sc.tick(0.3) == KILL
    sc.exit(signal=9)
    assert (sc.result().limit.name, sc.result().value) == ("wall", 1)


def test_nobody_is_told_who_has_not_begun_or_has_ended(scene, started):
    sc = scene(grace_s=1)
    sc.tell(e.Spawned(sc.now))
    assert sc.tick(31) == KILL  # never ready

    sc = started(wall_s=1, grace_s=1)
    sc.finish(value=1)
    assert sc.tick(1.1) == KILL

    sc = started(wall_s=1, grace_s=1)
    sc.tell(e.LinkData(b"\xff" * 40))
    assert e.Notify(OVER) not in sc.log + sc.tick(1.1)


def test_output_cut_has_its_own_grace(started):
    sc = started(wall_s=1, output_bytes=4, grace_s=5)
    sc.tell(e.Output("stdout", b"12345"))
    assert sc.tick(0.3) == KILL
    assert e.Notify(OVER) not in sc.log


def test_output_of_the_grace_beyond_its_limit_is_cut(started):
    sc = started(wall_s=1, output_bytes=4, grace_s=5)
    sc.tick(1.1)
    assert e.StopReading() in sc.tell(e.Output("stdout", b"12345"))
    assert sc.tick(0.3) == KILL
    sc.exit(signal=9)
    assert (sc.result().limit.name, sc.result().truncated) == ("wall", ("stdout",))


def test_a_notice_before_the_pidfd_is_known_is_sent_again(scene):
    sc = scene(wall_s=0.001, grace_s=1)
    sc.tell(e.LinkData(sc.guest.send(Ready({}))))
    assert sc.tick(0.01) == TOLD
    assert sc.tell(e.Spawned(sc.now)) == TOLD


# --- interrupts --------------------------------------------------------------------------------


def test_a_soft_interrupt_is_told_and_killed_after_its_grace(started):
    sc = started(wall_s=60)
    assert sc.tell(e.Interrupted(1.0)) == [e.Notify(SIGINT)]
    assert sc.life.interrupted
    sc.tick(0.9)
    assert KILL[0] not in sc.log
    assert sc.tick(0.2) == KILL
    sc.exit(signal=9)
    assert sc.result().signal == 9


def test_a_soft_interrupt_lets_the_last_word_arrive(started):
    sc = started()
    sc.tell(e.Interrupted(1.0))
    sc.raise_("KeyboardInterrupt")
    sc.exit(code=1)
    assert (sc.result().status, sc.result().error.type) == ("raised", "KeyboardInterrupt")


def test_asked_twice_is_a_kill(started):
    sc = started()
    sc.tell(e.Interrupted(1.0))
    assert sc.tell(e.Interrupted(1.0)) == KILL


def test_an_interrupt_does_not_make_an_end_later(started):
    sc = started(wall_s=1, grace_s=5)
    sc.tell(e.Interrupted(3.0), 0.5)
    assert sc.tick(0.6) == KILL, "wall_s stands, without a second notice"

    sc = started(wall_s=1, grace_s=0.5)
    sc.tick(1.1)
    assert sc.tell(e.Interrupted(30)) == []
    assert sc.tick(0.6) == KILL

    sc = started(wall_s=1, grace_s=50)
    sc.tick(1.1)
    assert sc.tell(e.Interrupted(1)) == [], "told already; the end is nearer now"
    assert sc.tick(1.1) == KILL


def test_a_soft_interrupt_before_the_code_is_a_kill(scene):
    sc = scene()
    sc.tell(e.Spawned(sc.now))
    assert sc.tell(e.Interrupted(1.0)) == KILL


def test_an_interrupt_that_only_asks_ends_nothing(started):
    """For a sandbox that is used again: the limits of the run stay its only end."""
    sc = started(wall_s=2)
    for _ in range(3):
        assert sc.tell(e.Interrupted(math.inf)) == [e.Notify(SIGINT)]
    assert sc.tick(1.9) == []
    assert sc.tick(0.2) == KILL
    sc.exit(signal=9)
    assert sc.result().limit.name == "wall"

    sc = started()
    sc.finish(value=1)
    assert sc.tell(e.Interrupted(math.inf)) == [], "too late"


# --- pauses ------------------------------------------------------------------------------------


def pause(sc, seconds: float) -> None:
    sc.tell(e.Paused())
    sc.tell(e.Resumed(), seconds)


def test_a_pause_does_not_count(started):
    sc = started(wall_s=1, pause_s=10)
    sc.tick(0.5)
    pause(sc, 3)
    assert sc.tick(0.4) == []
    assert sc.tick(0.2) == KILL
    sc.exit(signal=9)
    assert sc.result().limit.used == pytest.approx(1.1)
    assert sc.result().usage.wall_s == pytest.approx(4.1)


def test_all_pauses_together_are_bounded(started):
    """A guest can cause them, so it cannot live on them (K1)."""
    sc = started(wall_s=1, pause_s=2)
    for _ in range(10):
        pause(sc, 0.5)
    assert sc.tick() == KILL
    sc.exit(signal=9)
    assert sc.result().limit.used == pytest.approx(3)


def test_a_single_pause_is_bounded_while_it_lasts(started):
    """A driver that goes on turning meanwhile has its deadline."""
    sc = started(wall_s=1, pause_s=2)
    sc.tell(e.Paused(), 0.5)
    assert min(sc.life.deadline(), sc.life.ends_at()) <= sc.now + 2.5
    assert sc.tick(2.4) == []
    assert sc.tick(0.2) == KILL
    sc.exit(signal=9)
    assert sc.result().limit.used == pytest.approx(1.1)


def test_no_pause_is_granted(started):
    sc = started(wall_s=1, pause_s=0)
    sc.tell(e.Paused(), 0.5)
    assert sc.tick(0.6) == KILL


def test_processor_time_is_never_paused(started):
    sc = started(wall_s=60, cpu_s=2)
    sc.tell(e.Paused())
    assert sc.tick(0.5, cpu_s=2.1) == KILL


def test_pauses_nest(started):
    sc = started(wall_s=1, pause_s=100)
    sc.tell(e.Paused())
    sc.tell(e.Paused(), 1)
    sc.tell(e.Resumed(), 1)
    assert sc.tick(5) == []
    sc.tell(e.Resumed())
    sc.tell(e.Resumed())  # one too many changes nothing
    assert sc.tick(0.9) == []
    assert sc.tick(0.2) == KILL


def test_a_pause_holds_the_grace_and_the_clean_up_too(started):
    sc = started(wall_s=1, grace_s=1)
    sc.tick(1.1)
    pause(sc, 5)
    assert sc.tick(0.9) == []
    assert sc.tick(0.2) == KILL

    sc = started(output_bytes=4)
    sc.tell(e.Output("stdout", b"12345"))
    pause(sc, 1)
    assert sc.tick(0.2) == []
    assert sc.tick(0.1) == KILL


def test_a_notice_within_a_pause_has_its_whole_grace_and_no_more(started):
    sc = started(wall_s=60, cpu_s=1, grace_s=1, pause_s=10)
    sc.tell(e.Paused())
    assert sc.tick(4, cpu_s=1.1) == TOLD
    sc.tell(e.Resumed(), 1)
    assert sc.tick(0.9, cpu_s=1.2) == []
    assert sc.tick(0.2, cpu_s=1.3) == KILL


def test_a_slow_host_after_the_end_loses_nothing(started):
    """What is in the pipes of a dead guest is read, however long each piece takes."""
    sc = started()
    sc.finish(value=1)
    sc.tell(e.Exited(0, 0, 0.1, 1, sc.now))
    pause(sc, 100)
    assert sc.tick() == []
    sc.tell(e.Output("stdout", b"late"))
    sc.close()
    assert sc.result().stdout == "late"
