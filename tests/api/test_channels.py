"""K2, K9, R2: channels between the host and sandboxes, and between two sandboxes."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import belljar
from belljar import ChannelClosed, ClosedError, Policy, PolicyError, Sandbox, SetupFailed
from belljar.broker.channels import MOST_ITEM_BYTES

PATIENCE_S = 60  # only a hang takes so long
LONG = Policy().allow(wall_s=3600, cpu_s=600)
MANY = 2000


class Doing:
    """A call in a thread of its own, and what it came to."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> None:
        self._found: list[Any] = []

        def act() -> None:
            try:
                self._found.append(function(*arguments, **named))
            except BaseException as error:
                self._found.append(error)

        self.thread = threading.Thread(target=act, daemon=True)
        self.thread.start()

    @property
    def outcome(self) -> Any:
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        return self._found[0]


def ok(result: Any) -> Any:
    """The value of a run that went well."""
    assert isinstance(result, belljar.Result), result
    assert result.status == "ok", result.error and result.error.traceback
    return result.value


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# --- host and sandbox ------------------------------------------------------------------------------


def test_a_question_and_an_answer() -> None:
    ours, theirs = belljar.channel()
    ours.send({"n": 20})
    result = belljar.run("jobs.send(jobs.recv()['n'] + 1)", channels={"jobs": theirs})
    ok(result)
    assert ours.recv() == 21
    with pytest.raises(ChannelClosed):  # its sandbox has ended
        ours.recv()
    with pytest.raises(ChannelClosed):
        ours.send(1)


def test_an_end_is_for_one_sandbox() -> None:
    """K3."""
    ours, theirs = belljar.channel()
    ok(belljar.run("jobs.close()", channels={"jobs": theirs}))
    with pytest.raises(PolicyError, match="before"):
        belljar.run("1", channels={"jobs": theirs})
    with pytest.raises(PolicyError, match="before"):
        Sandbox(channels={"jobs": theirs})
    for act in (theirs.recv, lambda: theirs.send(1)):
        with pytest.raises(ClosedError, match="given"):
            act()
    assert ours.closed is False


def test_thousands_of_items_both_ways_in_order() -> None:
    """None lost, none doubled, whoever is faster."""
    ours, theirs = belljar.channel(capacity=8)
    code = """
for n in jobs:
    jobs.send(n * n)
"""
    run = Doing(belljar.run, code, LONG, channels={"jobs": theirs})
    feed = Doing(lambda: [ours.send(n) for n in range(MANY)])
    assert [ours.recv(PATIENCE_S) for _ in range(MANY)] == [n * n for n in range(MANY)]
    assert len(feed.outcome) == MANY
    ours.close()
    ok(run.outcome)


def test_the_guest_as_producer_waits_for_room() -> None:
    ours, theirs = belljar.channel(capacity=2)
    code = "for n in range(500): out.send([n, 'x' * 1000])"
    run = Doing(belljar.run, code, LONG, channels={"out": theirs})
    for n in range(500):
        assert ours.recv(PATIENCE_S)[0] == n
        assert len(ours._side.inward.items) <= 2
    ok(run.outcome)
    assert [*ours] == []


def test_what_a_run_sent_stays_when_it_is_over() -> None:
    ours, theirs = belljar.channel()
    ok(belljar.run("for n in range(10): out.send(n)", channels={"out": theirs}))
    assert [*ours] == list(range(10))


def test_the_end_is_seen_as_an_end_inside() -> None:
    ours, theirs = belljar.channel()
    ours.send(1)
    ours.close()
    code = """
import belljar
seen = [*jobs]
for act in (jobs.recv, lambda: jobs.recv(0), lambda: jobs.send(1)):
    try: act()
    except belljar.ChannelClosed as error: seen.append(isinstance(error, EOFError))
seen, jobs.closed, belljar.channels.jobs is jobs
"""
    expected = ([1, True, True, True], True, True)
    assert ok(belljar.run(code, channels={"jobs": theirs})) == expected


def test_times_that_run_out_inside() -> None:
    ours, theirs = belljar.channel(capacity=1)
    code = """
seen = []
for timeout in (0, 0.01):
    try: jobs.recv(timeout)
    except TimeoutError: seen.append("nothing")
jobs.send(1, timeout=0)
for timeout in (0, 0.01):
    try: jobs.send(2, timeout)
    except TimeoutError: seen.append("full")
for timeout in (-1, "1"):
    try: jobs.recv(timeout)
    except (TypeError, ValueError): seen.append("no time")
seen
"""
    assert (
        ok(belljar.run(code, channels={"jobs": theirs}))
        == ["nothing"] * 2 + ["full"] * 2 + ["no time"] * 2
    )
    assert [*ours] == [1]


def test_nothing_is_lost_to_a_time_that_ran_out() -> None:
    """What was asked for and came late is the next one's."""
    ours, theirs = belljar.channel()
    with Sandbox(channels={"jobs": theirs}) as sandbox:
        code = """
try: jobs.recv(timeout=0.01)
except TimeoutError: pass
"""
        for n in range(20):
            ok(sandbox.run(code))
            ours.send(n)
            ours.send(-n)
            assert ok(sandbox.run("jobs.recv(timeout=0), jobs.recv(timeout=0)")) == (n, -n)
        with pytest.raises(belljar.GuestRaised, match="TimeoutError"):
            sandbox.run("jobs.recv(timeout=0)").unwrap()


def test_only_data_crosses() -> None:
    """K3."""
    ours, theirs = belljar.channel(item_bytes=1000)
    code = """
seen = []
for item in (print, object(), jobs, {1: lambda: 1}, "x" * 2000):
    try: jobs.send(item)
    except (TypeError, ValueError) as error: seen.append(type(error).__name__)
import pickle
try: pickle.dumps(jobs)
except TypeError: seen.append("pickle")
seen
"""
    assert ok(belljar.run(code, channels={"jobs": theirs})) == ["TypeError"] * 4 + [
        "ValueError",
        "pickle",
    ]
    assert [*ours] == []


def test_several_channels_at_once() -> None:
    pairs = {f"c{n}": belljar.channel() for n in range(8)}
    for number, (ours, _theirs) in enumerate(pairs.values()):
        ours.send(number)
    code = "import belljar\n[c.send(c.recv() + 1) for c in vars(belljar.channels).values() if hasattr(c, 'recv')]"
    channels = {name: theirs for name, (_ours, theirs) in pairs.items()}
    ok(belljar.run(code, channels=channels))
    assert [ours.recv() for ours, _theirs in pairs.values()] == list(range(1, 9))


def test_beside_functions() -> None:
    ours, theirs = belljar.channel()
    ours.send(4)
    code = "double(jobs.recv())"
    functions = {"double": lambda n: 2 * n}
    assert ok(belljar.run(code, functions=functions, channels={"jobs": theirs})) == 8


def test_threads_inside_share_an_end() -> None:
    ours, theirs = belljar.channel(capacity=4)
    code = """
import threading
def work():
    for n in jobs: jobs.send(n + 1)
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    run = Doing(belljar.run, code, LONG, channels={"jobs": theirs})
    feed = Doing(lambda: [ours.send(n) for n in range(400)])
    assert sorted(ours.recv(PATIENCE_S) for _ in range(400)) == list(range(1, 401))
    assert len(feed.outcome) == 400
    ours.close()
    ok(run.outcome)


def test_tasks_inside() -> None:
    """More than the wire has calls, and others run meanwhile."""
    ours, theirs = belljar.channel(capacity=4)
    code = """
import asyncio
ticks = 0
async def tick():
    global ticks
    while True:
        ticks += 1
        await asyncio.sleep(0.001)
async def work():
    async for n in jobs: await jobs.asend(n + 1)
ticking = asyncio.create_task(tick())
await asyncio.gather(*[work() for _ in range(100)])
ticking.cancel()
ticks > 1
"""
    run = Doing(belljar.run, code, LONG, channels={"jobs": theirs})
    feed = Doing(lambda: [ours.send(n) for n in range(400)])
    assert sorted(ours.recv(PATIENCE_S) for _ in range(400)) == list(range(1, 401))
    assert len(feed.outcome) == 400
    ours.close()
    assert ok(run.outcome) is True


def test_a_task_inside_that_is_cancelled_loses_nothing() -> None:
    ours, theirs = belljar.channel()
    code = """
import asyncio
cancelled = 0
got = []
while len(got) < 100:
    try: got.append(await asyncio.wait_for(jobs.arecv(), 0.001))
    except TimeoutError: cancelled += 1
    if cancelled == 3: ready.send(True); cancelled += 1
got
"""
    told, tell = belljar.channel()
    run = Doing(belljar.run, code, LONG, channels={"jobs": theirs, "ready": tell})
    assert told.recv(PATIENCE_S) is True
    for n in range(100):
        ours.send(n)
        if n % 10 == 0:
            time.sleep(0.002)
    assert ok(run.outcome) == list(range(100))


def test_waiting_counts_as_wall_time() -> None:
    """R2: a guest that waits for ever ends at its limit, and the host's end hears of it."""
    ours, theirs = belljar.channel()
    result = belljar.run("jobs.recv()", Policy().limit(wall_s=0.3), channels={"jobs": theirs})
    assert result.status == "limit"
    assert result.limit is not None
    assert result.limit.name == "wall"
    with pytest.raises(ChannelClosed):
        ours.recv()


def test_an_interrupt_ends_a_wait_and_not_the_channel() -> None:
    """K6."""
    ours, theirs = belljar.channel()
    told, tell = belljar.channel()
    with Sandbox(LONG, channels={"jobs": theirs, "ready": tell}) as sandbox:
        for _ in range(5):
            run = Doing(sandbox.run, "ready.send(1); jobs.recv()")
            assert told.recv(PATIENCE_S) == 1
            assert sandbox.interrupt()
            error = run.outcome.error
            assert error is not None
            assert error.type == "KeyboardInterrupt"
        ours.send("still here")
        assert ok(sandbox.run("jobs.recv()")) == "still here"


def test_threads_and_tasks_that_give_up_lose_and_double_nothing() -> None:
    """Waits that end by a time, by being cancelled and by an item, all at one end."""
    ours, theirs = belljar.channel(capacity=4)
    back, answers = belljar.channel(capacity=3)
    code = """
import asyncio, random, threading
import belljar
async def task():
    while True:
        try: n = await asyncio.wait_for(jobs.arecv(), random.random() / 100)
        except TimeoutError: continue
        except belljar.ChannelClosed: return
        await out.asend(n)
def thread():
    while True:
        try: n = jobs.recv(timeout=random.choice([0.001, 0.01, 0.1]))
        except TimeoutError: continue
        except belljar.ChannelClosed: return
        while True:
            try: out.send(n, timeout=0.01)
            except TimeoutError: continue
            break
threads = [threading.Thread(target=thread) for _ in range(4)]
for each in threads: each.start()
await asyncio.gather(*[task() for _ in range(8)])
for each in threads: await asyncio.to_thread(each.join)
"""
    run = Doing(belljar.run, code, LONG, channels={"jobs": theirs, "out": answers})
    feed = Doing(lambda: [ours.send(n) for n in range(500)])
    got = [back.recv(PATIENCE_S) for _ in range(500)]
    assert sorted(got) == list(range(500))
    assert len(feed.outcome) == 500
    ours.close()
    ok(run.outcome)
    assert [*back] == []


def test_the_largest_item_both_ways() -> None:
    ours, theirs = belljar.channel(capacity=1, item_bytes=MOST_ITEM_BYTES)
    item = bytes(MOST_ITEM_BYTES - 5)
    ours.send(item)
    with pytest.raises(PolicyError, match="item"):
        ours.send(item + b"x")
    ok(belljar.run("jobs.send(jobs.recv())", LONG, channels={"jobs": theirs}))
    assert ours.recv() == item


def test_a_process_of_the_guests_cannot_use_it() -> None:
    ours, theirs = belljar.channel()
    ours.send(1)
    code = """
import os
if not (pid := os.fork()):
    seen = 0
    for act in (lambda: jobs.recv(0), lambda: jobs.send(1), jobs.close):
        try: act()
        except RuntimeError: seen += 1
    os._exit(seen)
os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), jobs.recv()
"""
    policy = Policy().allow(processes=2)
    assert ok(belljar.run(code, policy, channels={"jobs": theirs})) == (3, 1)


def test_without_threads_inside() -> None:
    """Whoever waits reads the link itself."""
    ours, theirs = belljar.channel()
    policy = Policy().limit(threads=0)
    run = Doing(belljar.run, "for n in jobs: jobs.send(n)", policy, channels={"jobs": theirs})
    for n in range(10):
        ours.send(n)
        assert ours.recv(PATIENCE_S) == n
    ours.close()
    ok(run.outcome)


# --- a sandbox that lives --------------------------------------------------------------------------


def test_items_queue_up_between_runs() -> None:
    ours, theirs = belljar.channel()
    with Sandbox(channels={"jobs": theirs}) as sandbox:
        for n in range(5):
            ours.send(n)
            ok(sandbox.run("jobs.send(jobs.recv() * 2)"))
            assert ours.recv(timeout=0) == 2 * n
        ok(sandbox.run("for n in range(20): jobs.send(n)"))
        assert [ours.recv(timeout=0) for _ in range(20)] == list(range(20))


def test_a_thread_that_waits_goes_on_with_the_next_run() -> None:
    ours, theirs = belljar.channel()
    code = """
import threading
got, come = [], threading.Event()
def wait():
    for n in jobs:
        got.append(n)
        come.set()
threading.Thread(target=wait, daemon=True).start()
"""
    with Sandbox(LONG, channels={"jobs": theirs}) as sandbox:
        ok(sandbox.run(code))
        for n in range(10):
            ours.send(n)
            assert ok(sandbox.run("come.wait(60); come.clear(); got")) == list(range(n + 1))


def test_a_task_that_waits_goes_on_with_the_next_run() -> None:
    ours, theirs = belljar.channel()
    code = """
import asyncio
got, come = [], asyncio.Event()
async def wait():
    async for n in jobs:
        got.append(n)
        come.set()
task = asyncio.create_task(wait())
await asyncio.sleep(0)
"""
    with Sandbox(LONG, channels={"jobs": theirs}) as sandbox:
        ok(sandbox.run(code))
        for n in range(10):
            ours.send(n)
            assert ok(sandbox.run("await come.wait(); come.clear(); got")) == list(range(n + 1))


@pytest.mark.parametrize("how", ["close", "reset", "kill", "exit", "limit", "collect", "lifetime"])
def test_the_end_of_a_sandbox_closes_its_ends(how: str) -> None:
    """Whoever waits on the host hears of it, after what was sent."""
    ours, theirs = belljar.channel()
    lifetime = 2.0 if how == "lifetime" else None
    sandbox = Sandbox(LONG, channels={"jobs": theirs}, lifetime_s=lifetime)
    ok(sandbox.run("jobs.send(1)"))
    assert ours.recv() == 1
    waiting = Doing(ours.recv)
    if how == "close":
        sandbox.close()
    elif how == "reset":
        sandbox.reset()
        code = """
import belljar
seen = 0
for act in (jobs.recv, lambda: jobs.send(1)):
    try: act()
    except belljar.ChannelClosed: seen += 1
seen
"""
        assert ok(sandbox.run(code)) == 2
    elif how == "kill":
        sandbox.run("import os, signal; os.kill(os.getpid(), 9)")
    elif how == "exit":
        sandbox.run("import os; os._exit(0)")
    elif how == "limit":
        sandbox.run("while True: pass", wall_s=0.1)
    elif how == "collect":
        with pytest.warns(ResourceWarning):  # noqa: PT031 - the collection is the end
            del sandbox
            gc.collect()
    assert type(waiting.outcome) is ChannelClosed
    if how != "collect":
        sandbox.close()


@pytest.mark.parametrize("state", ["recv", "send", "task", "idle", "thread"])
@pytest.mark.parametrize("how", ["host", "sandbox"])
def test_closing_in_every_state(state: str, how: str) -> None:
    """K2: nobody waits for ever, and what was sent before is there."""
    ours, theirs = belljar.channel(capacity=1)
    told, tell = belljar.channel()
    code = {
        "recv": "ready.send(1); jobs.recv()",
        "send": "jobs.send(0); ready.send(1); jobs.send(1)",
        "task": "ready.send(1); await jobs.arecv()",
        "idle": "ready.send(1); import time; time.sleep(0.1); jobs.recv()",
        "thread": "import threading; t = threading.Thread(target=jobs.recv); t.start(); ready.send(1); t.join(); jobs.recv()",
    }[state]
    with Sandbox(LONG, channels={"jobs": theirs, "ready": tell}) as sandbox:
        run = Doing(sandbox.run, code)
        assert told.recv(PATIENCE_S) == 1
        if how == "host":
            ours.close()
            result = run.outcome
            assert result.status == "raised"
            assert result.error.type.endswith("ChannelClosed")
            assert ok(sandbox.run("jobs.closed or jobs.recv.__name__"))
        else:
            sandbox.close()
            assert type(run.outcome) is ClosedError
            assert [*ours] == ([0] if state == "send" else [])


def test_an_end_of_the_hosts_that_is_collected_is_closed() -> None:
    ours, theirs = belljar.channel()
    told, tell = belljar.channel()
    run = Doing(
        belljar.run, "ready.send(1); [*jobs]", LONG, channels={"jobs": theirs, "ready": tell}
    )
    assert told.recv(PATIENCE_S) == 1
    del ours
    gc.collect()
    assert ok(run.outcome) == []


def test_a_sandbox_that_could_not_be_made_closes_its_ends() -> None:
    ours, theirs = belljar.channel()
    with pytest.raises(PolicyError):
        Sandbox(channels={"jobs": theirs}, idle_s=-1)
    ours.send(1, timeout=0)  # it was not given to anybody yet
    with pytest.raises(SetupFailed):
        Sandbox(channels={"jobs": theirs}, preload=["no_such_module"])
    gc.collect()
    with pytest.raises(ChannelClosed):
        ours.recv(timeout=PATIENCE_S)


def test_nothing_leaks() -> None:
    def once() -> None:
        ours, theirs = belljar.channel()
        run = Doing(belljar.run, "for n in jobs: jobs.send(n)", LONG, channels={"jobs": theirs})
        ours.send(1)
        assert ours.recv(PATIENCE_S) == 1
        ours.close()
        ok(run.outcome)

    once()
    gc.collect()
    threads, descriptors = threading.active_count(), open_descriptors()
    for _ in range(20):
        once()
    gc.collect()
    assert (threading.active_count(), open_descriptors()) == (threads, descriptors)


# --- two sandboxes ---------------------------------------------------------------------------------


def test_one_after_the_other_in_one_thread() -> None:
    a, b = belljar.channel()
    ok(belljar.run("for n in range(10): out.send({'n': n})", channels={"out": a}))
    assert ok(belljar.run("[item['n'] for item in jobs]", channels={"jobs": b})) == list(range(10))


def test_two_that_talk() -> None:
    """K9: connected, by the host."""
    a, b = belljar.channel(capacity=3)
    first = Doing(
        belljar.run,
        f"for n in range({MANY}):\n other.send(n)\n assert other.recv() == n + 1\nother.close()",
        LONG,
        channels={"other": a},
    )
    second = Doing(belljar.run, "for n in peer: peer.send(n + 1)", LONG, channels={"peer": b})
    ok(first.outcome)
    ok(second.outcome)


def test_a_stream_between_two_in_order() -> None:
    a, b = belljar.channel(capacity=16)
    source = Doing(belljar.run, f"for n in range({MANY}): out.send(n)", LONG, channels={"out": a})
    sink = Doing(belljar.run, f"[*jobs] == list(range({MANY}))", LONG, channels={"jobs": b})
    ok(source.outcome)
    assert ok(sink.outcome) is True


@pytest.mark.parametrize(
    "end", ["import os; os._exit(3)", "1 / 0", "import os; os.kill(os.getpid(), 9)"]
)
def test_the_death_of_one_is_heard_by_the_other(end: str) -> None:
    a, b = belljar.channel()
    sink = Doing(belljar.run, "[*jobs]", LONG, channels={"jobs": b})
    belljar.run(f"for n in range(5): out.send(n)\n{end}", LONG, channels={"out": a})
    assert ok(sink.outcome) == list(range(5))


def test_two_that_wait_for_each_other_end_at_their_limits() -> None:
    """R2: the clock goes on, so that they cannot keep the host."""
    a, b = belljar.channel()
    short = Policy().limit(wall_s=0.3)
    runs = [Doing(belljar.run, "c.recv()", short, channels={"c": end}) for end in (a, b)]
    statuses = [run.outcome for run in runs]
    # The first to end closes the channel, and the other may hear of that before its own limit.
    assert "limit" in [result.status for result in statuses]
    assert {result.status for result in statuses} <= {"limit", "raised"}


# --- a host with an event loop -----------------------------------------------------------------------


def test_a_host_in_asyncio() -> None:
    async def main() -> None:
        ours, theirs = belljar.channel(capacity=4)
        run = Doing(belljar.run, "for n in jobs: jobs.send(n * 2)", LONG, channels={"jobs": theirs})

        async def feed() -> None:
            for n in range(300):
                await ours.asend(n)

        feeding = asyncio.create_task(feed())
        got = [await ours.arecv() for _ in range(300)]
        await feeding
        ours.close()
        assert got == [2 * n for n in range(300)]
        ok(await asyncio.to_thread(lambda: run.outcome))

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))
