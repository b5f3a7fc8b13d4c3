"""Throttles, told by events alone: a share of the processor, a rate of output (R2)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.engine import events as e
from belljar.engine.throttle import PERIOD_S, Bucket

FREEZE, THAW = [e.Freeze()], [e.Thaw()]


# --- the bucket --------------------------------------------------------------------------------


@given(
    st.floats(0.01, 1e12),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 2)), max_size=40),
)
def test_no_more_is_used_than_the_rate_gives(rate: float, steps: list[tuple[float, float]]) -> None:
    """Whoever uses only what is left uses at most the rate and what a period saves up."""
    bucket = Bucket(rate, 100.0)
    now, used = 100.0, 0.0
    for passed, share in steps:
        now += passed
        left = bucket.left(now)
        assert left <= rate * PERIOD_S * (1 + 1e-9)
        if left > 0:
            bucket.take(left * min(share, 1), now)
            used += left * min(share, 1)
    assert used <= rate * (now - 100.0 + PERIOD_S) * (1 + 1e-6)


def test_debt_is_waited_for() -> None:
    bucket = Bucket(10.0, 0.0)
    assert bucket.wait(0.0) == 0
    bucket.take(6.0, 0.0)  # one was saved up
    assert bucket.left(0.0) == pytest.approx(-5)
    assert bucket.wait(0.0) == pytest.approx(0.55)
    assert bucket.wait(0.55) == 0


# --- cpu_cores ---------------------------------------------------------------------------------


class Burner:
    """A guest that uses ``threads`` processors whenever it is not frozen, and its driver."""

    def __init__(self, sc, threads: int) -> None:
        self.sc, self.threads = sc, threads
        self.cpu_s, self.frozen, self.stops, self.looks = 0.0, False, 0, 0

    def run(self, seconds: float) -> None:
        until = self.sc.now + seconds
        while self.sc.now < until:
            after = max(self.sc.life.deadline() - self.sc.now, 0.001)
            if not self.frozen:
                self.cpu_s += after * self.threads
            self.looks += 1
            for one in self.sc.tick(after, self.cpu_s):
                assert one in (e.Freeze(), e.Thaw())
                assert self.frozen == (one == e.Thaw())
                self.frozen = one == e.Freeze()
                self.stops += self.frozen


@pytest.mark.parametrize("threads", [1, 4, 17])
@pytest.mark.parametrize("cores", [0.01, 0.25, 0.9, 2.5])
def test_a_busy_guest_gets_its_share(started, cores, threads):
    sc = started(wall_s=600, cpu_s=600, cpu_cores=cores)
    burner = Burner(sc, threads)
    burner.run(20)
    wanted = 20 * min(cores, threads)
    assert burner.cpu_s == pytest.approx(wanted, rel=0.15, abs=0.2)
    assert burner.looks < 20 / 0.004, "the clock is not read all the time"
    assert bool(burner.stops) == (cores < threads)


def test_an_idle_guest_saves_up_one_period_and_no_more(started):
    sc = started(wall_s=600, cpu_s=600, cpu_cores=0.5)
    sc.tick(100, cpu_s=0.0)
    assert sc.tick(0, cpu_s=0.04) == []
    assert sc.tick(0, cpu_s=0.06) == FREEZE


@pytest.mark.parametrize(("threads", "cores"), [(0, 1.0), (16, 17.0), (16, 1024.0)])
def test_what_cannot_be_exceeded_is_not_watched(started, threads, cores):
    sc = started(wall_s=60, cpu_s=60, threads=threads, cpu_cores=cores)
    assert sc.life.deadline() - sc.now > 1
    assert sc.tick(1, cpu_s=50) == []


def test_a_clock_that_cannot_be_read_throttles_nothing(started):
    sc = started(wall_s=60, cpu_s=60, cpu_cores=0.1)
    assert sc.tick(1, cpu_s=None) == []


def test_a_guest_that_lets_itself_go_on_is_stopped_again_and_then_ended(started):
    """K1: SIGCONT from a timer of its own undoes every stop."""
    sc = started(wall_s=600, cpu_s=600, cpu_cores=0.1)
    assert sc.tick(0.1, cpu_s=0.2) == FREEZE
    assert sc.tick(0.02, cpu_s=0.21) == FREEZE
    assert sc.life.deadline() <= sc.now + 0.021
    assert sc.tick(0.02, cpu_s=0.21) == [], "it stands still now"
    assert sc.tick(0.5, cpu_s=0.7) == FREEZE
    assert sc.tick(0.5, cpu_s=1.2) == [e.Kill()]
    sc.exit(signal=9)
    hit = sc.result().limit
    assert (hit.name, hit.allowed, hit.evidence) == ("cpu_cores", 0.1, "kernel")
    assert hit.used == pytest.approx(1.0 / 1.04)


def test_what_was_used_while_frozen_is_waited_for(started):
    sc = started(wall_s=600, cpu_s=600, cpu_cores=0.5)
    assert sc.tick(0.1, cpu_s=0.2) == FREEZE
    assert sc.tick(0.02, cpu_s=0.5) == FREEZE
    assert sc.tick(0.8, cpu_s=0.5) == []
    assert sc.tick(0.2, cpu_s=0.5) == THAW


def frozen(started, **limits):
    sc = started(**{"wall_s": 10, "cpu_s": 60, "cpu_cores": 0.1, **limits})
    assert sc.tick(0.1, cpu_s=1.0) == FREEZE
    return sc


def test_the_wall_goes_on_while_it_stands_still(started):
    sc = frozen(started)
    assert sc.life.deadline() <= sc.now + 10
    assert sc.tick(9.95, cpu_s=1.0) == [e.Kill()], "SIGKILL ends a stopped process, too"
    sc.exit(signal=9)
    assert sc.result().limit.name == "wall"


def test_an_end_that_is_told_lets_it_go_on(started):
    """A stopped process runs no handler."""
    sc = frozen(started, grace_s=1)
    instructions = sc.tick(9.95, cpu_s=1.0)
    assert [type(one) for one in instructions] == [e.Notify, e.Thaw]
    assert sc.tick(0.1, cpu_s=1.05) == [], "no throttle in the grace"

    sc = frozen(started)
    assert [type(one) for one in sc.tell(e.Interrupted(1.0))] == [e.Notify, e.Thaw]


def test_a_last_word_lets_it_go_on(started):
    sc = frozen(started)
    instructions = sc.finish(value=1)
    assert e.Thaw() in instructions
    assert sc.tick(0.1, cpu_s=2) == []


def test_nothing_is_sent_to_the_dead(started):
    sc = frozen(started)
    assert sc.tell(e.Exited(9, 0, 1.0, 1, sc.now)) == []


# --- output_bytes_per_s ------------------------------------------------------------------------

KIB = 2**10


class Flood:
    """A guest whose pipe is always full, and a driver that reads what it may."""

    def __init__(self, sc) -> None:
        self.sc, self.held, self.got = sc, False, 0

    def do(self, instructions) -> None:
        for one in instructions:
            assert isinstance(one, (e.Deliver, e.HoldOutput, e.TakeOutput)), one
            if isinstance(one, e.HoldOutput):
                assert not self.held
                self.held = True
            elif isinstance(one, e.TakeOutput):
                assert self.held
                self.held = False

    def run(self, seconds: float) -> None:
        until = self.sc.now + seconds
        while self.sc.now < until:
            while not self.held:
                piece = b"x" * self.sc.life.most_output(self.sc.now)
                self.got += len(piece)
                self.do(self.sc.tell(e.Output("stdout", piece)))
            self.do(self.sc.tick(max(self.sc.life.deadline() - self.sc.now, 1e-4)))


@pytest.mark.parametrize("rate", [KIB, 10 * KIB, 300 * KIB])
def test_output_is_read_at_its_rate_and_none_is_lost(started, rate):
    sc = started(wall_s=600, cpu_s=600, output_bytes=2**30, output_bytes_per_s=rate)
    flood = Flood(sc)
    flood.run(10)
    assert flood.got == pytest.approx(10 * rate, rel=0.05)
    assert flood.got <= rate * (10 + PERIOD_S) + 1
    sc.tick()
    sc.finish()
    sc.exit()
    assert len(sc.result().stdout_bytes) == flood.got


def test_without_a_rate_the_pipe_is_read_whole(started):
    sc = started()
    assert sc.life.most_output(sc.now) == 2**16
    assert sc.tell(e.Output("stdout", b"x" * 2**16)) == [e.Deliver("stdout", b"x" * 2**16)]


def held(started, **limits):
    sc = started(**{"wall_s": 1, "output_bytes_per_s": KIB, **limits})
    assert e.HoldOutput() in sc.tell(e.Output("stdout", b"x" * 2000))
    return sc


def test_a_driver_that_read_more_pays_for_it(started):
    sc = held(started, wall_s=60, cpu_s=60)
    assert sc.life.deadline() <= sc.now + 2
    assert sc.tick(1.8) == []
    assert sc.tick(0.2) == [e.TakeOutput()]


def test_the_wall_goes_on_while_nobody_reads(started):
    sc = held(started)
    assert sc.tick(1.1) == [e.Kill(), e.TakeOutput()]
    sc.tell(e.Output("stdout", b"y" * 2**16))
    sc.exit(signal=9)
    result = sc.result()
    assert (result.limit.name, result.truncated) == ("wall", ())
    assert len(result.stdout_bytes) == 2000 + 2**16, "what was in the pipe is not lost"


@pytest.mark.parametrize("how", ["last word", "exit", "notice", "interrupt"])
def test_every_end_opens_the_pipes(started, how):
    sc = held(started, grace_s=1)
    if how == "last word":
        instructions = sc.finish(value=1)
    elif how == "exit":
        instructions = sc.tell(e.Exited(0, 0, 0.1, 1, sc.now))
    elif how == "notice":
        instructions = sc.tick(1.1)
    else:
        instructions = sc.tell(e.Interrupted(1.0))
    assert e.TakeOutput() in instructions
    assert sc.life.most_output(sc.now) == 2**16
    assert sc.tell(e.Output("stdout", b"x" * 2**16)) == [e.Deliver("stdout", b"x" * 2**16)]


def test_pipes_that_were_closed_are_not_opened(started):
    sc = held(started, output_bytes=3000)
    instructions = sc.tell(e.Output("stderr", b"x" * 2000))
    assert e.StopReading() in instructions
    assert e.TakeOutput() not in instructions
    sc.exit(signal=9)
    assert sc.result().limit.name == "output"
