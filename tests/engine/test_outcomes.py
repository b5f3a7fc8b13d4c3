"""Each way a run can end, told by events alone (K1, K7, R2).

What the kernel says is a fact, what the guest says is a claim, and the first cause wins.
"""

from __future__ import annotations

import pytest

from belljar.engine import events as e
from belljar.errors import SetupFailed, WorkerDied
from belljar.result import LimitHit
from belljar.wire.limits import Budget

KILL = [e.Kill()]


def kinds(instructions):
    return [type(one).__name__ for one in instructions]


# --- the good ways ---------------------------------------------------------------------------


def test_ready_is_answered_with_the_code(scene):
    sc = scene()
    instructions = sc.start()
    assert kinds(instructions) == ["Send"]
    assert sc.guest.state == "RUNNING"


def test_ok_with_value_output_and_usage(started):
    sc = started()
    assert sc.tell(e.Output("stdout", b"hi\n")) == [e.Deliver("stdout", b"hi\n")]
    sc.tell(e.Output("stderr", b"!"))
    assert kinds(sc.finish(value={"a": (1, 2)})) == ["Send"]
    assert sc.guest.state == "CLOSED"
    assert not sc.life.done
    sc.now += 0.5
    sc.exit(cpu_s=0.25)
    result = sc.result()
    assert (result.status, result.value) == ("ok", {"a": (1, 2)})
    assert (result.stdout_bytes, result.stderr_bytes, result.truncated) == (b"hi\n", b"!", ())
    assert (result.usage.cpu_s, result.usage.peak_memory_bytes) == (0.25, 12_000_000)
    assert result.usage.wall_s == pytest.approx(0.5)
    assert list(result.usage.stages) == ["fork", "confine", "agent"]
    assert all(seconds >= 0 for seconds in result.usage.stages.values())


def test_a_value_that_could_not_cross_is_ok_with_the_reason(started):
    sc = started()
    sc.finish(value_error="a socket cannot cross")
    sc.exit()
    assert (sc.result().status, sc.result().value_error) == ("ok", "a socket cannot cross")


def test_a_value_over_its_budget_is_a_reason_and_not_an_exception(started):
    sc = started(value_bytes=1024)
    sc.budget = Budget()  # the guest does not keep to it
    sc.finish(value=list(range(10_000)))
    sc.exit()
    result = sc.result()
    assert (result.status, result.value) == ("ok", None)
    assert "1024" in (result.value_error or "")


def test_a_value_that_is_no_value_is_a_reason(started):
    from belljar.wire.events import Finished

    sc = started()
    sc.tell(e.LinkData(sc.guest.send(Finished(1, "ok", value=b"\xc1"))))  # type: ignore[arg-type]
    sc.exit()
    assert sc.result().status == "ok"
    assert sc.result().value_error


def test_raised_carries_the_text(started):
    sc = started()
    sc.raise_("ValueError")
    sc.exit(code=1)
    result = sc.result()
    assert result.status == "raised"
    assert (result.error.type, result.error.message) == ("ValueError", "why")


@pytest.mark.parametrize("code", [0, 3, -1, 2**40])
def test_exited_carries_the_code_as_claimed(started, code):
    sc = started()
    sc.finish("exited", exit_code=code)
    sc.exit(code=code & 0xFF)
    assert (sc.result().status, sc.result().exit_code) == ("exited", code)
    assert sc.result().ok == (code == 0)


# --- without a last word -----------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 7])
def test_exit_without_a_last_word_is_the_kernels_account(started, code):
    sc = started()
    sc.exit(code=code)
    assert (sc.result().status, sc.result().exit_code) == ("exited", code)
    assert sc.result().value is None


@pytest.mark.parametrize("signal", [4, 6, 9, 11, 31])
def test_crash_by_signal(started, signal):
    sc = started()
    sc.tell(e.Output("stdout", b"half"))
    sc.exit(signal=signal)
    result = sc.result()
    assert (result.status, result.signal, result.stdout_bytes) == ("crashed", signal, b"half")


def test_a_death_in_mid_frame_keeps_its_signal(started):
    """A guest that is killed while it speaks did not break the protocol."""
    sc = started()
    sc.tell(e.LinkData(sc.finished(value="x" * 100)[:50]))
    sc.exit(signal=9)
    assert (sc.result().status, sc.result().signal) == ("crashed", 9)


def test_an_exit_in_mid_frame_is_a_violation(started):
    """Half a frame of its own before the agent's last word would swallow that (K1)."""
    sc = started()
    sc.tell(e.LinkData(sc.finished(value="x" * 100)[:50]))
    sc.exit(code=0)
    result = sc.result()
    assert (result.status, result.exit_code) == ("crashed", None)
    assert result.error.type == "GuestProtocolError"


@pytest.mark.parametrize("signal", [9, 24])
def test_the_kernels_own_cpu_limit_is_named(started, signal):
    sc = started(cpu_s=2)
    sc.exit(signal=signal, cpu_s=2.5)
    result = sc.result()
    assert result.status == "limit"
    assert result.limit == LimitHit("cpu", 2.0, 2.5, "kernel")


def test_a_kill_from_outside_is_a_crash_and_no_limit(started):
    sc = started(cpu_s=2)
    sc.exit(signal=9, cpu_s=0.5)
    assert sc.result().status == "crashed"


def test_sigxfsz_is_the_file_limit(started):
    sc = started(file_bytes=4096)
    sc.exit(signal=25)
    assert sc.result().limit == LimitHit("file", 4096, None, "guest")


# --- the host's own limits ---------------------------------------------------------------------


def test_wall(started):
    sc = started(wall_s=2, cpu_s=60)
    assert sc.tick(1.9) == []
    assert sc.tick(0.2) == KILL
    sc.exit(signal=9)
    result = sc.result()
    assert (result.status, result.signal) == ("limit", None)
    assert (result.limit.name, result.limit.allowed, result.limit.evidence) == ("wall", 2, "kernel")
    assert result.limit.used == pytest.approx(2.1)


def test_cpu(started):
    sc = started(wall_s=60, cpu_s=2)
    assert sc.tick(1, cpu_s=1.99) == []
    assert sc.tick(1, cpu_s=2.01) == KILL
    sc.exit(signal=9, cpu_s=2.02)
    assert sc.result().limit == LimitHit("cpu", 2.0, 2.01, "kernel")


def test_cpu_time_never_goes_back(started):
    sc = started(wall_s=60, cpu_s=2)
    sc.tick(0.1, cpu_s=1.5)
    sc.tick(0.1, cpu_s=None)
    sc.tick(0.1, cpu_s=0.1)
    assert sc.tick(0.1, cpu_s=2.0) == KILL


@pytest.mark.parametrize("name", ["memory", "threads", "open_files", "work", "file", "processes"])
def test_a_limit_that_the_guest_speaks_of_is_named_as_its_word(started, name):
    sc = started()
    sc.raise_("MemoryError", limit=name)
    sc.exit(code=1)
    result = sc.result()
    assert (result.status, result.limit.name, result.limit.evidence) == ("limit", name, "guest")
    assert result.error.type == "MemoryError"
    assert (result.limit.used == 12_000_000) == (name == "memory")


@pytest.mark.parametrize("name", ["wall", "cpu", "output", "value", "__class__", ""])
def test_a_limit_that_no_guest_can_know_is_only_an_exception(started, name):
    sc = started()
    sc.raise_("MemoryError", limit=name)
    sc.exit(code=1)
    assert (sc.result().status, sc.result().limit) == ("raised", None)


# --- output ------------------------------------------------------------------------------------


def test_output_up_to_the_limit_is_whole(started):
    sc = started(output_bytes=10)
    sc.tell(e.Output("stdout", b"12345"))
    sc.tell(e.Output("stderr", b"67890"))
    sc.finish()
    sc.exit()
    result = sc.result()
    assert (result.status, result.stdout_bytes, result.stderr_bytes) == ("ok", b"12345", b"67890")
    assert result.truncated == ()


def test_output_over_the_limit_is_cut_flagged_and_ended_gently(started):
    sc = started(output_bytes=10)
    sc.tell(e.Output("stderr", b"123456"))
    instructions = sc.tell(e.Output("stdout", b"abcdefgh"))
    assert instructions == [e.Deliver("stdout", b"abcd"), e.StopReading()]
    assert sc.life.deadline() == pytest.approx(sc.now + 0.25)
    sc.raise_("BrokenPipeError")  # its finally blocks ran
    sc.exit(code=1)
    result = sc.result()
    assert (result.status, result.truncated) == ("limit", ("stdout",))
    assert (result.stdout_bytes, result.stderr_bytes) == (b"abcd", b"123456")
    assert result.limit == LimitHit("output", 10, 14, "kernel")
    assert result.error.type == "BrokenPipeError"


def test_a_guest_that_goes_on_after_the_cut_is_killed(started):
    sc = started(output_bytes=10)
    sc.tell(e.Output("stdout", b"x" * 11))
    assert sc.tick(0.2, cpu_s=0.2) == []
    assert sc.tick(0.1, cpu_s=0.3) == KILL
    sc.exit(signal=9)
    assert sc.result().limit.name == "output"


def test_nothing_is_kept_or_delivered_after_the_cut(started):
    sc = started(output_bytes=4)
    sc.tell(e.Output("stdout", b"12345"))
    assert sc.tell(e.Output("stdout", b"6")) == []
    assert sc.tell(e.Output("stderr", b"7")) == []
    sc.exit(signal=9)
    assert (sc.result().stdout_bytes, sc.result().stderr_bytes) == (b"1234", b"")
    assert sc.result().truncated == ("stdout", "stderr")


def test_no_output_allowed(started):
    sc = started(output_bytes=0)
    assert sc.tell(e.Output("stdout", b"x")) == [e.StopReading()]
    sc.exit()
    assert (sc.result().status, sc.result().stdout_bytes) == ("limit", b"")


@pytest.mark.parametrize("order", ["exit first", "output first", "last word first"])
def test_what_came_too_much_is_a_limit_in_whatever_order_it_is_read(started, order):
    """The guest wrote before it ended, so that order is the host's chance and not a cause."""
    sc = started(output_bytes=4)
    steps = [
        lambda: sc.tell(e.Output("stdout", b"12345")),
        lambda: sc.finish(value=1),
        lambda: sc.tell(e.Exited(0, 0, 0.1, 1, sc.now)),
    ]
    if order == "exit first":
        steps.reverse()
    elif order == "last word first":
        steps[0], steps[1] = steps[1], steps[0]
    for step in steps:
        step()
    sc.close()
    result = sc.result()
    assert (result.status, result.limit.name, result.value) == ("limit", "output", None)


def test_output_costs_the_host_what_it_is(started):
    """A guest that writes byte by byte must not make a list of a million objects (K1)."""
    import tracemalloc

    sc = started(output_bytes=2**20)
    tracemalloc.start()
    try:
        for _ in range(50_000):
            sc.life.handle(e.Output("stdout", b"x"), sc.now)
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert grown < 4 * 50_000


# --- hostile words -----------------------------------------------------------------------------


def test_a_zygote_that_does_not_report_the_end_is_given_up(started):
    """K10: typed and retryable, in bounded time."""
    sc = started()
    assert sc.tell(e.Interrupted()) == KILL
    sc.tell(e.Tick(None), 29.0)
    assert not sc.life.done
    sc.tell(e.Tick(None), 2.0)
    assert isinstance(sc.life.failure, WorkerDied)
    assert sc.life.failure.retryable


def test_garbage_is_a_violation_and_ends_it(started):
    sc = started()
    assert sc.tell(e.LinkData(b"\0\0\0\5\xff12345")) == KILL
    assert sc.life.deadline() >= sc.now + 10  # only the zygote's silence would end it
    sc.exit(signal=9)
    result = sc.result()
    assert (result.status, result.error.type) == ("crashed", "GuestProtocolError")
    with pytest.raises(Exception, match="broke the protocol"):
        result.unwrap()


def test_garbage_then_exit(started):
    sc = started()
    sc.tell(e.LinkData(b"\xff" * 40))
    sc.exit(code=0)
    assert sc.result().status == "crashed"


def test_words_after_a_violation_are_not_heard(started):
    sc = started()
    good = sc.finished(value=1)
    sc.tell(e.LinkData(b"\xff" * 40))
    assert sc.tell(e.LinkData(good)) == []
    sc.exit(signal=9)
    assert sc.result().status == "crashed"


def test_the_first_last_word_counts(started):
    """A forged second result changes nothing, nor does garbage behind it."""
    from belljar.wire.values import encode

    sc = started()
    sc.finish(value="first")
    forged = bytes(encode("second", sc.budget))
    assert sc.tell(e.LinkData(forged)) == []
    assert sc.tell(e.LinkData(b"\xff" * 100)) == []
    sc.exit()
    assert (sc.result().status, sc.result().value) == ("ok", "first")


def test_a_last_word_and_garbage_in_one_piece_is_a_violation(started):
    sc = started()
    sc.tell(e.LinkData(sc.finished(value=1) + b"\xff" * 40))
    sc.exit(signal=9)
    assert sc.result().status == "crashed"


def test_denials_are_capped(started):
    sc = started()
    sc.deny(130)
    sc.raise_("PermissionError")
    sc.exit(code=1)
    denials = sc.result().denials
    assert len(denials) == 100
    assert (denials[0].target, denials[-1].target) == ("/0", "/99")


def test_denials_outlive_a_crash(started):
    sc = started()
    sc.deny(2)
    sc.exit(signal=11)
    assert [d.target for d in sc.result().denials] == ["/0", "/1"]


# --- races: the first cause wins -----------------------------------------------------------------


def test_a_last_word_after_the_kill_does_not_undo_the_limit(started):
    sc = started(wall_s=1)
    assert sc.tick(1.1) == KILL
    assert sc.finish(value="too late") == []
    assert sc.life.deadline() >= sc.now + 10  # only the zygote's silence would end it
    sc.exit(signal=9)
    result = sc.result()
    assert (result.status, result.limit.name, result.value) == ("limit", "wall", None)


def test_a_limit_after_the_last_word_is_none(started):
    sc = started(wall_s=1, cpu_s=1)
    sc.tick(0.9)
    sc.finish(value=1)
    sc.tick(0.2, cpu_s=1.5)
    sc.exit()
    assert (sc.result().status, sc.result().value) == ("ok", 1)


def test_finished_and_never_exits(started):
    sc = started(wall_s=60)
    sc.finish(value=1)
    assert sc.tick(0.2) == []
    assert sc.tick(0.1) == KILL
    sc.exit(signal=9)
    assert (sc.result().status, sc.result().value, sc.result().signal) == ("ok", 1, None)


def test_wall_before_output(started):
    sc = started(wall_s=1, output_bytes=4)
    sc.tick(1.1)
    sc.tell(e.Output("stdout", b"12345"))
    sc.exit(signal=9)
    assert sc.result().limit.name == "wall"
    assert sc.result().truncated == ("stdout",)


def test_output_before_wall(started):
    sc = started(wall_s=1, output_bytes=4)
    sc.tick(0.9)
    sc.tell(e.Output("stdout", b"12345"))
    assert sc.tick(0.2) == KILL  # no grace beyond the wall
    sc.exit(signal=9)
    assert sc.result().limit.name == "output"


def test_violation_before_every_limit(started):
    sc = started(wall_s=1, output_bytes=4)
    sc.tell(e.LinkData(b"\xff" * 40))
    sc.tell(e.Output("stdout", b"12345"))
    assert sc.tick(5, cpu_s=50) == []
    assert sc.life.deadline() >= sc.now + 10  # only the zygote's silence would end it
    sc.exit(signal=9)
    assert (sc.result().status, sc.result().limit) == ("crashed", None)


def test_limit_before_violation(started):
    sc = started(wall_s=1)
    sc.tick(1.1)
    sc.tell(e.LinkData(b"\xff" * 40))
    sc.exit(signal=9)
    assert sc.result().limit.name == "wall"


def test_a_kill_before_the_pidfd_is_known_is_sent_again(scene):
    """The guest may speak before the zygote has told of its fork."""
    from belljar.wire.events import Ready

    sc = scene()
    sc.tell(e.LinkData(sc.guest.send(Ready({}))))
    assert sc.tell(e.LinkData(b"\xff" * 40)) == KILL
    assert sc.tell(e.Spawned(sc.now)) == KILL


# --- our own machinery ---------------------------------------------------------------------------


def test_spawn_failed(scene):
    sc = scene()
    sc.tell(e.SpawnFailed("landlock", 22, "Invalid argument"))
    assert sc.life.done
    failure = sc.life.failure
    assert isinstance(failure, SetupFailed)
    assert (failure.stage, failure.retryable) == ("landlock", False)
    assert "Invalid argument" in str(failure)


@pytest.mark.parametrize("errno", [11, 12, 23, 24])
def test_a_machine_short_of_something_may_be_tried_again(scene, errno):
    sc = scene()
    sc.tell(e.SpawnFailed("fork", errno, "no more"))
    assert sc.life.failure.retryable


def test_zygote_gone(started):
    sc = started()
    sc.tell(e.ZygoteGone())
    assert sc.life.done
    assert isinstance(sc.life.failure, WorkerDied)
    assert sc.life.failure.retryable


def test_a_zygote_that_goes_after_its_report_is_no_failure(started):
    sc = started()
    sc.finish(value=1)
    sc.tell(e.Exited(0, 0, 0.1, 1, sc.now))
    sc.tell(e.ZygoteGone())
    sc.close()
    assert sc.result().value == 1


def test_never_ready(scene):
    sc = scene()
    sc.tell(e.Spawned(sc.now))
    assert sc.tick(29) == []
    assert sc.tick(2) == KILL
    assert isinstance(sc.life.failure, SetupFailed)
    assert sc.life.failure.retryable


def test_an_end_before_the_code_was_handed_over_is_our_failure(scene):
    """Nothing untrusted ran, so it is not the guest's outcome."""
    sc = scene()
    sc.tell(e.Spawned(sc.now))
    sc.tell(e.Output("stderr", b"Traceback: no memory\n"))
    sc.exit(code=1)
    failure = sc.life.failure
    assert isinstance(failure, SetupFailed)
    assert "exit code 1" in str(failure)
    assert "no memory" in str(failure)


@pytest.mark.parametrize(("signal", "retryable"), [(9, True), (11, False), (31, False)])
def test_a_guest_that_somebody_kills_before_it_is_ready_may_be_tried_again(
    scene, signal, retryable
):
    """K10: SIGKILL so early is an administrator's or the kernel's for want of memory."""
    sc = scene()
    sc.tell(e.Spawned(sc.now))
    sc.exit(signal=signal)
    assert isinstance(sc.life.failure, SetupFailed)
    assert sc.life.failure.retryable is retryable


def test_ready_that_is_read_after_the_exit_gets_no_code(scene):
    from belljar.wire.events import Ready

    sc = scene()
    ready = sc.guest.send(Ready({}))
    sc.tell(e.Exited(9, 0, 0.0, 1, sc.now))
    assert sc.tell(e.LinkData(ready)) == []
    sc.close()
    assert isinstance(sc.life.failure, SetupFailed)
    assert "signal 9" in str(sc.life.failure)


def test_interrupted(started):
    sc = started()
    assert sc.tell(e.Interrupted()) == KILL
    assert sc.life.interrupted
    sc.exit(signal=9)
    assert sc.result().signal == 9


def test_interrupted_after_the_exit_still_ends(started):
    sc = started()
    sc.tell(e.Exited(0, 0, 0.1, 1, sc.now))
    assert sc.tell(e.Interrupted()) == []
    sc.tick(1.1)
    assert sc.life.done


def test_a_pipe_that_somebody_else_holds_does_not_hold_the_result(started):
    sc = started()
    sc.finish(value=1)
    sc.tell(e.Exited(0, 0, 0.1, 1, sc.now))
    assert not sc.life.done
    assert sc.life.deadline() == pytest.approx(sc.now + 1)
    sc.tick(1.1)
    assert sc.result().value == 1


def test_the_result_of_a_run_that_goes_on_is_a_mistake(started):
    with pytest.raises(AssertionError):
        started().life.result()
