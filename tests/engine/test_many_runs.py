"""M1: a guest that stays from run to run, as the engine sees it: in order, and in any order."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.engine import events as e
from belljar.engine.life import OVER, SETTLE_S, SIGINT, Life
from belljar.errors import WorkerDied
from belljar.policy import Limits
from belljar.result import STATUSES
from belljar.wire.connection import Connection
from belljar.wire.events import Artifact, Call, Denial, Denied, ErrorText, Finished, Ready, Run
from belljar.wire.limits import Budget
from belljar.wire.values import encode

BUDGET = Budget(memory_bytes=2**20)
ORDER = Run(1, "1", "<code>", {})
WHY = ErrorText("ValueError", "why", "ValueError: why\n")


class Kept:
    """A life that stays, its clock, and the guest's end of the wire."""

    def __init__(self, **limits: float) -> None:
        self.limits = Limits(**limits)
        self.now = 1000.0
        self.life = Life(ORDER, self.limits, BUDGET, self.now, keep=True)
        self.guest = Connection("guest")
        self.asked: list[Run | Call] = []  # what the guest was handed
        self.tell(e.LinkData(self.guest.send(Ready({}))))

    def carry(self, instructions: list[e.Instruction]) -> list[e.Instruction]:
        for one in instructions:
            if isinstance(one, e.Send):
                self.asked += self.guest.receive_data(one.data)  # type: ignore[arg-type]
        return instructions

    def tell(self, event: e.Event, after: float = 0.0) -> list[e.Instruction]:
        self.now += after
        return self.carry(self.life.handle(event, self.now))

    def answer(self, **fields: object) -> bytes:
        outcome = str(fields.pop("outcome", "ok"))
        if "value" in fields:
            fields["value"] = encode(fields["value"], BUDGET)
        run_id = self.asked[-1].run_id
        return self.guest.send(Finished(run_id, outcome, **fields))  # type: ignore[arg-type]

    def finish(self, **fields: object) -> list[e.Instruction]:
        return self.tell(e.LinkData(self.answer(**fields)))

    def collect(self, cpu_s: float = 0.0, peak: int = 1) -> list[e.Instruction]:
        return self.tell(e.Collected(cpu_s, peak, self.now))

    def begin(self, order: Run | Call = ORDER, **limits: float) -> list[e.Instruction]:
        chosen = self.limits.replace(**limits)
        return self.carry(self.life.begin(order, chosen, BUDGET, self.now))

    def park(self) -> None:
        """To the end of the run at hand."""
        assert self.finish() == [e.Collect()]
        assert self.collect() == [e.Park()]


def test_M1_a_run_ends_with_the_guest_read_and_stopped_and_the_next_lets_it_go_on() -> None:
    kept = Kept()
    assert not kept.life.waiting
    assert kept.finish(value=7) == [e.Collect()]
    assert not kept.life.done, "its pipes are not read yet"
    kept.tell(e.Output("stdout", b"late but its own"))
    assert kept.collect(0.5, 99) == [e.Park()]
    assert (kept.life.done, kept.life.waiting) == (True, True)
    first = kept.life.result()
    assert (first.status, first.value, first.stdout) == ("ok", 7, "late but its own")
    assert (first.usage.cpu_s, first.usage.peak_memory_bytes) == (0.5, 99)
    assert first.usage.stages
    sent, thaw = kept.begin()
    assert isinstance(sent, e.Send)
    assert thaw == e.Thaw()
    assert (kept.life.done, kept.life.waiting) == (False, False)
    kept.finish(outcome="raised", error=WHY)
    kept.collect(0.7, 99)
    second = kept.life.result()
    assert (second.status, second.stdout) == ("raised", "")
    assert second.usage.cpu_s == pytest.approx(0.2)
    assert not second.usage.stages, "only the first run was a start"
    assert kept.life.waiting


def test_M1_a_guest_that_waits_is_not_looked_at_at_all() -> None:
    kept = Kept(processes=3)
    kept.park()
    assert kept.life.deadline() == math.inf
    assert kept.tell(e.Tick(100.0, 2**40), after=10_000) == []
    assert kept.life.waiting
    assert not kept.life.wants_memory(kept.now)


def test_M1_run_ids_rise_and_a_call_is_a_run() -> None:
    kept = Kept()
    kept.park()
    kept.begin(Call(1, "f", (1,), {"a": 2}))
    kept.finish(outcome="exited", exit_code=3)
    kept.collect()
    assert kept.life.result().exit_code == 3
    kept.begin(Run(77, "x", "<code>", {}))
    assert [one.run_id for one in kept.asked] == [1, 2, 3]
    assert kept.asked[1] == Call(2, "f", (1,), {"a": 2})


def test_M1_it_cannot_begin_while_another_run_goes_on() -> None:
    kept = Kept()
    with pytest.raises(AssertionError):
        kept.begin()


@pytest.mark.parametrize(
    ("limits", "tick", "name"),
    [
        ({"wall_s": 1}, e.Tick(0.1), "wall"),
        ({"cpu_s": 1}, e.Tick(10.3 + 1.0), "cpu"),
    ],
)
def test_R2_limits_hold_for_each_run(limits, tick, name) -> None:
    """What earlier runs have used does not count, and what this one uses does."""
    kept = Kept(wall_s=100, cpu_s=100)
    kept.finish()
    kept.collect(cpu_s=10.3)
    kept.begin(**limits)
    assert kept.tell(e.Tick(10.3 + 0.9), after=0.9) == []
    assert kept.tell(tick, after=0.2) == [e.Kill()]
    kept.tell(e.Exited(9, 0, 11.5, 1, kept.now))
    kept.tell(e.LinkClosed())
    kept.tell(e.OutputClosed("stdout"))
    kept.tell(e.OutputClosed("stderr"))
    result = kept.life.result()
    assert result.limit is not None
    assert result.limit.name == name
    assert result.usage.cpu_s == pytest.approx(1.2)
    assert not kept.life.waiting


def test_R2_output_is_counted_anew_in_each_run() -> None:
    kept = Kept(output_bytes=10)
    for _ in range(3):
        kept.tell(e.Output("stdout", b"123456789"))
        kept.park()
        assert kept.life.result().truncated == ()
        kept.begin()
    assert e.StopReading() in kept.tell(e.Output("stderr", b"12345678901"))
    # It can be heard no more, so that it does not stay.
    assert kept.finish() == [e.Kill()]
    assert not kept.life.waiting


def test_R2_output_that_is_found_in_collecting_counts() -> None:
    kept = Kept(output_bytes=10)
    assert kept.finish() == [e.Collect()]
    assert e.StopReading() in kept.tell(e.Output("stdout", b"12345678901"))
    assert kept.collect() == [e.Kill()]
    assert not kept.life.waiting


def test_K6_after_a_signal_an_empty_run_takes_what_came_too_late() -> None:
    kept = Kept()
    assert kept.tell(e.Interrupted(math.inf)) == [e.Notify(SIGINT)]
    (settle,) = kept.finish(outcome="raised", error=WHY)
    assert isinstance(settle, e.Send)
    assert kept.asked[-1] == Run(2, "", "<settle>", {})
    assert not kept.life.done
    kept.tell(e.Output("stdout", b"x"))
    kept.tell(e.LinkData(kept.guest.send(Denied(2, (Denial("read", "/x", "none"),)))))
    late = ErrorText("KeyboardInterrupt", "", "KeyboardInterrupt\n")
    assert kept.finish(outcome="raised", error=late) == [e.Collect()]
    kept.collect()
    result = kept.life.result()
    assert result.error is not None
    assert result.error.type == "ValueError", "what was told of is the run, not what followed it"
    assert result.denials == ()
    kept.begin()
    assert kept.asked[-1].run_id == 3
    kept.park()


@pytest.mark.parametrize("limits", [{"wall_s": 1, "grace_s": 5}, {"cpu_s": 1, "grace_s": 5}])
def test_K6_a_run_that_ends_in_its_grace_leaves_the_guest(limits) -> None:
    kept = Kept(**limits)
    assert kept.tell(e.Tick(1.0), after=1.0) == [e.Notify(OVER)]
    kept.finish(value=5)  # and the settle run
    kept.park()
    result = kept.life.result()
    assert (result.status, result.value) == ("limit", 5)
    assert kept.life.waiting


def test_K6_a_guest_that_does_not_settle_is_ended() -> None:
    kept = Kept()
    kept.tell(e.Interrupted(math.inf))
    kept.finish()
    assert kept.life.deadline() == kept.now + SETTLE_S
    assert kept.tell(e.Tick(None), after=SETTLE_S) == [e.Kill()]
    assert not kept.life.waiting


def test_K6_an_interrupt_when_the_run_is_over_does_nothing() -> None:
    kept = Kept()
    kept.finish()
    assert kept.tell(e.Interrupted(math.inf)) == []
    kept.collect()
    assert kept.tell(e.Interrupted(math.inf)) == []
    kept.begin()
    assert not kept.life.interrupted
    kept.park()  # without a settle run: nobody was signalled


def test_K6_told_to_end_it_does_not_stay() -> None:
    kept = Kept()
    assert kept.tell(e.Interrupted(5.0)) == [e.Notify(SIGINT)]
    assert kept.finish() == [e.Kill()]


@pytest.mark.parametrize("when", ["finished", "collected"])
@pytest.mark.parametrize("data", [b"\0", b"\0\0\0\1\x83x", None])
def test_K1_what_it_says_unasked_ends_it(when, data) -> None:
    """It would be taken for the answer to the next run."""
    kept = Kept()
    kept.finish()
    if when == "collected":
        kept.collect()
    if data is None:
        liar = Connection("guest")
        liar.send(Ready({}))
        host = Connection("host")
        host.receive_data(Connection("guest").send(Ready({})))  # type: ignore[arg-type]
        liar.receive_data(host.send(ORDER.replace(run_id=2)))  # type: ignore[arg-type]
        data = liar.send(Finished(2, "ok", encode("forged", BUDGET)))
    assert kept.tell(e.LinkData(data)) == [e.Kill()]
    assert not kept.life.waiting


def test_K1_a_second_answer_in_the_same_piece_ends_it() -> None:
    kept = Kept()
    answer = kept.answer()
    assert kept.tell(e.LinkData(answer + answer)) == [e.Kill()]


@pytest.mark.parametrize("run_id", [1, 3, 2**62])
def test_K1_an_answer_to_another_run_ends_it(run_id) -> None:
    kept = Kept()
    kept.park()
    kept.begin()
    host, guest = Connection("host"), Connection("guest")
    host.receive_data(guest.send(Ready({})))  # type: ignore[arg-type]
    guest.receive_data(host.send(ORDER.replace(run_id=run_id)))  # type: ignore[arg-type]
    assert kept.tell(e.LinkData(guest.send(Finished(run_id, "ok")))) == [e.Kill()]


@pytest.mark.parametrize("gone", [e.Exited(9, 0, 0.1, 1, 1.0), e.LinkClosed(), e.ZygoteGone()])
def test_K10_a_guest_that_goes_away_between_runs_is_not_waiting(gone) -> None:
    kept = Kept()
    kept.park()
    before = kept.life.result()
    kept.tell(gone)
    assert not kept.life.waiting
    with pytest.raises(AssertionError):
        kept.begin()
    if kept.life.failure is None:
        assert kept.life.result().status == before.status
    else:
        assert isinstance(kept.life.failure, WorkerDied)


def test_K10_a_guest_that_ends_while_it_is_collected_is_not_waiting() -> None:
    kept = Kept()
    kept.finish(value=1)
    kept.tell(e.Exited(0, 3, 0.1, 1, kept.now))
    assert kept.collect() == []
    for event in (e.LinkClosed(), e.OutputClosed("stdout"), e.OutputClosed("stderr")):
        kept.tell(event)
    assert (kept.life.done, kept.life.waiting) == (True, False)
    assert kept.life.result().value == 1


def test_K10_a_guest_without_a_link_is_not_kept() -> None:
    kept = Kept()
    kept.finish()
    kept.tell(e.LinkClosed())
    assert kept.collect() == [e.Kill()]


# --- any order ---------------------------------------------------------------------------

times = st.sampled_from([0.0, 0.0001, 0.01, 0.3, 1.5, 40.0])
streams = st.sampled_from(["stdout", "stderr"])
steps = st.one_of(
    st.sampled_from(
        ["finish", "finish", "finish", "raise", "exit", "deny", "show", "begin", "begin"]
    ),
    st.sampled_from(["collect", "collect", "collect"]),
    st.builds(e.Tick, st.none() | st.sampled_from([0.0, 0.5, 5.0])),
    st.builds(e.Output, streams, st.binary(min_size=1, max_size=6)),
    st.builds(e.LinkData, st.binary(min_size=1, max_size=9)),
    st.sampled_from(
        [
            e.LinkClosed(),
            e.ZygoteGone(),
            e.OutputClosed("stdout"),
            e.Interrupted(),
            e.Interrupted(1.0),
            e.Interrupted(math.inf),
            e.Interrupted(math.inf),
            e.Paused(),
            e.Resumed(),
            e.Exited(9, 0, 6.0, 1, 3.0),
            e.Exited(0, 0, 6.0, 1, 3.0),
        ]
    ),
)
stories = st.lists(st.tuples(times, steps), max_size=25)
limits = st.builds(
    Limits,
    wall_s=st.sampled_from([0.001, 1, 5]),
    cpu_s=st.sampled_from([0.001, 2, 60]),
    output_bytes=st.sampled_from([0, 5, 1000]),
    threads=st.sampled_from([0, 16]),
    grace_s=st.sampled_from([0, 0.5, 60]),
    pause_s=st.sampled_from([0, 1, 10]),
    cpu_cores=st.sampled_from([0.01, 1024]),
    output_bytes_per_s=st.sampled_from([1024, 2**40]),
)


class Driver:
    """Carries out what the engine says as a driver would, and checks each step."""

    def __init__(self, limits: Limits) -> None:
        self.life = Life(ORDER, limits, BUDGET, 100.0, keep=True)
        self.limits = limits
        self.guest = Connection("guest")
        self.now = 100.0
        self.killed = self.stopped = False
        self.collecting = False
        self.results = 0
        self.begun = 1

    def carry(self, instructions: list[e.Instruction]) -> None:
        for one in instructions:
            if isinstance(one, e.Send):
                assert not self.stopped or instructions[-1] == e.Thaw(), "it could not hear it"
                self.guest.receive_data(one.data)  # type: ignore[arg-type]
            elif isinstance(one, e.Kill):
                self.killed = True
            elif isinstance(one, e.Park):
                assert self.life.done, "nobody would ever let it go on"
                self.stopped = True
            elif isinstance(one, e.Thaw):
                self.stopped = False
            elif isinstance(one, e.Collect):
                assert one == instructions[-1]
                self.collecting = True
            elif isinstance(one, e.Notify):
                assert not self.stopped
                assert self.guest.state == "RUNNING"
            elif isinstance(one, e.Deliver):
                assert one.data

    def tell(self, event: e.Event) -> None:
        over = self.life.done
        self.carry(self.life.handle(event, self.now))
        assert not math.isnan(self.life.deadline())
        if isinstance(event, e.Tick) and not self.life.done:
            assert self.life.deadline() > self.now, "a driver would spin"
        if self.life.done and not over:
            self.results += 1
        if self.life.done and self.life.failure is None:
            result = self.life.result()
            assert result.status in STATUSES
            written = len(result.stdout_bytes) + len(result.stderr_bytes)
            assert written <= self.limits.output_bytes
            assert result.usage.cpu_s >= 0
        if self.life.waiting:
            assert self.life.done
            assert self.life.deadline() == math.inf
            assert not self.killed

    def say(self, word: str) -> None:
        """What an honest agent says, where it may."""
        if self.guest.state != "RUNNING" or self.stopped:
            return
        run_id = self.guest._run_id
        if word == "deny":
            message = Denied(run_id, (Denial("read", "/x", "none"),))
        elif word == "show":
            message = Artifact(run_id, "", {"text/plain": b"x"})
        elif word == "raise":
            message = Finished(run_id, "raised", error=WHY)
        elif word == "exit":
            message = Finished(run_id, "exited", exit_code=1)
        else:
            message = Finished(run_id, "ok", encode(run_id, BUDGET))
        self.tell(e.LinkData(self.guest.send(message)))

    def do(self, step: object) -> None:
        if step == "begin":
            if self.life.waiting:
                self.begun += 1
                self.carry(self.life.begin(ORDER, self.limits, BUDGET, self.now))
                assert not self.life.done
        elif step == "collect":
            if self.collecting:
                self.collecting = False
                self.tell(e.Collected(0.5 * self.begun, 1, self.now))
        elif isinstance(step, str):
            self.say(step)
        elif not (self.stopped and isinstance(step, e.Output)):  # see ``Park``
            self.tell(step)  # type: ignore[arg-type]


@settings(max_examples=500, deadline=None)
@given(stories, limits)
def test_M1_any_story_of_many_runs_has_an_end_and_each_run_one_result(story, limits) -> None:
    driver = Driver(limits)
    driver.tell(e.LinkData(driver.guest.send(Ready({}))))
    for passed, step in story:
        if driver.life.failure is not None:
            break
        driver.now += passed
        driver.do(step)
        # A driver collects at once.
        if driver.collecting and not isinstance(step, e.Output):
            driver.do("collect")
    for _ in range(20_000):
        if driver.life.done or driver.killed:
            break
        assert driver.life.deadline() < math.inf, "nobody would ever end this guest"
        driver.now = max(driver.now, driver.life.deadline())
        driver.tell(e.Tick(None))
    assert driver.life.done or driver.killed
    if not driver.life.done:
        for event in (
            e.Exited(9, 0, 0.1, 1, driver.now),
            e.LinkClosed(),
            e.OutputClosed("stdout"),
            e.OutputClosed("stderr"),
        ):
            driver.tell(event)
    assert driver.life.done
    assert driver.results == driver.begun
    # From here on it waits for good, or it is gone for good.
    waiting = driver.life.waiting
    driver.tell(e.Tick(None))
    assert driver.life.waiting == waiting
