"""K2, K3: the ends of a channel on the host and what a sandbox may ask of its own."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import belljar
from belljar import ChannelClosed, ChannelEnd, ClosedError, PolicyError
from belljar.broker.channels import MOST_ITEM_BYTES, channel
from belljar.broker.given import Asked, Channels
from belljar.engine.events import Answered, Invoke
from belljar.wire.values import decode, encode

PATIENCE_S = 60  # only a hang takes so long


def in_thread(function: Callable[..., Any], *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def joined(*threads: threading.Thread) -> bool:
    for thread in threads:
        thread.join(PATIENCE_S)
    return not any(thread.is_alive() for thread in threads)


def waiting(end: ChannelEnd, number: int = 1) -> None:
    """Until so many wait at this end."""
    side = end._side
    until = time.monotonic() + PATIENCE_S
    while len(side.inward.takers._waiting) + len(side.outward.senders._waiting) < number:
        assert time.monotonic() < until
        time.sleep(0.001)


def outcome(function: Callable[..., Any], *arguments: Any) -> tuple[threading.Thread, list[Any]]:
    found: list[Any] = []

    def act() -> None:
        try:
            found.append(function(*arguments))
        except BaseException as error:
            found.append(error)

    return in_thread(act), found


# --- what is said of it -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"capacity": 0}, "capacity"),
        ({"capacity": True}, "capacity"),
        ({"capacity": 2**20 + 1}, "capacity"),
        ({"item_bytes": 63}, "item_bytes"),
        ({"item_bytes": MOST_ITEM_BYTES + 1}, "item_bytes"),
        ({"item_bytes": 1e3}, "item_bytes"),
    ],
)
def test_bounds_that_make_no_sense_are_named(arguments: Any, key: str) -> None:
    with pytest.raises(PolicyError) as caught:
        channel(**arguments)
    assert caught.value.key == key


def test_ends_are_no_data() -> None:
    a, _b = channel()
    for act in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be copied"):
            act(a)
    with pytest.raises(PolicyError):
        belljar.run("1", inputs={"a": a})
    assert repr(a) == "<belljar.ChannelEnd open>"


# --- between two threads of the host -----------------------------------------------------------


def test_both_directions_in_order() -> None:
    a, b = channel()
    for n in range(50):
        a.send(n)
        b.send([n])
    assert [b.recv() for _ in range(50)] == list(range(50))
    assert [a.recv() for _ in range(50)] == [[n] for n in range(50)]


@pytest.mark.parametrize("item", [None, 0, "", {"a": (1, {2.5})}, b"x" * 1000, -(2**200)])
def test_data_arrives_as_it_was(item: object) -> None:
    a, b = channel()
    a.send(item)
    assert b.recv() == item


def test_no_room_and_nothing_there_are_timeouts() -> None:
    a, b = channel(capacity=2)
    a.send(1)
    a.send(2, timeout=0)
    for timeout in (0, 0.01):
        with pytest.raises(TimeoutError):
            a.send(3, timeout=timeout)
        with pytest.raises(TimeoutError):
            a.recv(timeout=timeout)
    assert [b.recv(0), b.recv(1)] == [1, 2]  # and nothing of what timed out
    with pytest.raises(TimeoutError):
        b.recv(timeout=0)


@pytest.mark.parametrize("timeout", [-1, "1", True, float("nan")])
def test_a_timeout_is_seconds(timeout: Any) -> None:
    a, _b = channel()
    with pytest.raises(PolicyError, match="timeout"):
        a.recv(timeout)


def test_what_cannot_cross_or_is_too_large_is_refused() -> None:
    """K3: nothing but data."""
    a, b = channel(item_bytes=100)
    for item in (object(), print, [a], "x" * 200):
        with pytest.raises(PolicyError, match="item"):
            a.send(item)
    a.send("x" * 90)
    assert b.recv() == "x" * 90


def test_a_full_queue_holds_the_sender_until_there_is_room() -> None:
    a, b = channel(capacity=1)
    a.send(1)
    thread = in_thread(a.send, 2)
    waiting(a)
    assert thread.is_alive()
    assert b.recv() == 1
    assert joined(thread)
    assert b.recv(timeout=0) == 2


def test_many_threads_lose_and_double_nothing() -> None:
    a, b = channel(capacity=3)
    got: list[int] = []

    def produce(first: int) -> None:
        for n in range(300):
            a.send(first + n)

    def consume() -> None:
        for n in b:
            got.append(n)

    producers = [in_thread(produce, first) for first in (0, 1000, 2000, 3000)]
    consumers = [in_thread(consume) for _ in range(4)]
    assert joined(*producers)
    a.close()
    assert joined(*consumers)
    assert sorted(got) == [first + n for first in (0, 1000, 2000, 3000) for n in range(300)]


# --- closing -------------------------------------------------------------------------------------


def test_the_other_side_takes_what_was_sent_and_then_hears() -> None:
    a, b = channel()
    a.send(1)
    a.send(2)
    b.send("lost")
    a.close()
    a.close()
    assert a.closed
    assert [*b] == [1, 2]
    for act in (b.recv, a.recv, lambda: b.send(1), lambda: a.send(1)):
        with pytest.raises(ChannelClosed):
            act()
    assert issubclass(ChannelClosed, ClosedError)
    assert issubclass(ChannelClosed, EOFError)


@pytest.mark.parametrize("whose", [0, 1])
def test_whoever_waits_hears_of_the_end(whose: int) -> None:
    ends = channel(capacity=1)
    ends[0].send(0)
    sender, sent = outcome(ends[0].send, 1)
    receiver, received = outcome(ends[0].recv)
    waiting(ends[0], 2)
    ends[whose].close()
    assert joined(sender, receiver)
    assert [type(found) for found in (*sent, *received)] == [ChannelClosed, ChannelClosed]


def test_an_end_that_is_not_used_any_more_is_closed() -> None:
    a, b = channel()
    b.send(1)
    thread, found = outcome(a.recv)
    assert joined(thread)
    assert found == [1]
    thread, found = outcome(a.recv)
    waiting(a)
    del b
    gc.collect()
    assert joined(thread)
    assert type(found[0]) is ChannelClosed


def test_a_finaliser_never_waits_for_the_lock() -> None:
    """The collector comes at any place: while another thread has it, and within it."""
    a, b = channel()
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with a._side.guard:
            held.set()
            go.wait(PATIENCE_S)

    thread = in_thread(hold)
    assert held.wait(PATIENCE_S)
    del b
    gc.collect()
    assert not a._side.inward.ended
    go.set()
    assert joined(thread)
    assert a._side.inward.ended
    a, b = channel()
    with a._side.guard:
        del b
        gc.collect()
    assert a._side.inward.ended


def test_a_signal_handler_may_use_it() -> None:
    a, b = channel()
    before = signal.signal(signal.SIGUSR1, lambda *_: a.send("from the handler"))
    try:
        with b._side.guard:
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert b.recv(timeout=0) == "from the handler"


@pytest.mark.parametrize("act", ["recv", "send"])
def test_ctrl_c_ends_a_wait_and_not_the_channel(act: str) -> None:
    """K6, on the host: whose turn it was passes it on."""
    a, b = channel(capacity=1)
    a.send(0)

    def interrupt() -> None:
        waiting(a)
        os.kill(os.getpid(), signal.SIGINT)

    thread = in_thread(interrupt)
    with pytest.raises(KeyboardInterrupt):
        a.recv() if act == "recv" else a.send(1)
    assert joined(thread)
    assert b.recv() == 0
    a.send(2)
    assert b.recv(timeout=0) == 2
    b.send(3)
    assert a.recv(timeout=0) == 3


def test_an_end_as_a_context() -> None:
    a, b = channel()
    with a as same:
        assert same is a
        a.send(1)
    assert [*b] == [1]


def test_a_fork_cannot_use_or_close_it() -> None:
    """K3."""
    a, b = channel()
    b.send(7)
    pid = os.fork()
    if not pid:
        status = 1
        try:
            refused = 0
            for act in (a.recv, lambda: a.send(1), lambda: belljar.run("", channels={"x": a})):
                try:
                    act()
                except (ClosedError, PolicyError):
                    refused += 1
            a.close()
            b.close()
            status = 0 if refused == 3 and not a.closed else 2
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert a.recv(timeout=0) == 7


# --- tasks ---------------------------------------------------------------------------------------


def test_tasks_of_asyncio() -> None:
    async def main() -> list[int]:
        a, b = channel(capacity=2)

        async def produce() -> None:
            for n in range(200):
                await a.asend(n)
            a.close()

        task = asyncio.create_task(produce())
        got = [n async for n in b]
        await task
        return got

    assert asyncio.run(main()) == list(range(200))


def test_tasks_of_trio() -> None:
    trio: Any = pytest.importorskip("trio", reason="trio is not installed")
    a, b = channel(capacity=2)
    got: list[int] = []

    async def produce() -> None:
        for n in range(100):
            await a.asend(n)
        a.close()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(produce)
            async for n in b:
                got.append(n)

    trio.run(main)
    assert got == list(range(100))


def test_hundreds_of_tasks_wait_without_a_thread() -> None:
    async def main() -> None:
        a, b = channel(capacity=1)
        tasks = [asyncio.create_task(b.arecv()) for _ in range(300)]
        before = threading.active_count()
        await asyncio.sleep(0)
        thread = in_thread(lambda: [a.send(n) for n in range(300)])
        assert sorted(await asyncio.gather(*tasks)) == list(range(300))
        assert joined(thread)
        assert threading.active_count() <= before

    asyncio.run(main())


def test_a_cancelled_task_takes_and_sends_nothing() -> None:
    async def main() -> None:
        a, b = channel(capacity=1)
        taker = asyncio.create_task(b.arecv())
        other = asyncio.create_task(b.arecv())
        await asyncio.sleep(0.01)
        a.send(1)  # it is the turn of the first, which is cancelled before it has run
        taker.cancel()
        assert await asyncio.wait_for(other, PATIENCE_S) == 1
        with pytest.raises(asyncio.CancelledError):
            await taker
        a.send(2)
        sender = asyncio.create_task(a.asend(3))
        await asyncio.sleep(0.01)
        sender.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sender
        assert b.recv(timeout=0) == 2
        with pytest.raises(TimeoutError):
            b.recv(timeout=0)

    asyncio.run(main())


# --- a sandbox's ends ------------------------------------------------------------------------------


class Guest:
    """What a guest asks, without one."""

    def __init__(self, end: ChannelEnd) -> None:
        self.channels = Channels({"jobs": end})
        self.told: list[Asked] = []
        self.number = 0

    def ask(self, word: str, arguments: bytes = b"\xc0") -> Asked:
        self.number += 1
        asked = self.channels.ask(Invoke(self.number, f"jobs.{word}", arguments), self.told.append)
        assert asked is not None
        return asked

    def now(self, word: str, arguments: bytes = b"\xc0") -> Answered | None:
        return self.ask(word, arguments).answer()


def value(answered: Answered | None) -> object:
    assert answered is not None
    assert answered.value is not None
    assert not answered.refused
    return decode(answered.value)  # type: ignore[arg-type]


def refusal(answered: Answered | None) -> str:
    assert answered is not None
    assert answered.refused
    return answered.error_type


def test_an_end_is_one_sandboxs() -> None:
    """K3: given twice, used after, given with another name."""
    a, b = channel()
    waiter, found = outcome(a.recv)
    waiting(a)
    given = Channels({"jobs": a})
    assert joined(waiter)
    assert type(found[0]) is ClosedError
    for act in (a.recv, lambda: a.send(1), lambda: a.recv(timeout=0)):
        with pytest.raises(ClosedError, match="given"):
            act()
    a.close()
    assert not a.closed
    with pytest.raises(PolicyError, match="before"):
        Channels({"other": a})
    with pytest.raises(PolicyError, match="before"):
        Channels({"x": b, "y": b})
    b.send(1)  # it was not taken
    given.close()
    assert a.closed


@pytest.mark.parametrize("name", ["", "a.b", "1a", "class", "__a", "x" * 59, "jobs.recv", 3])
def test_names_are_identifiers(name: Any) -> None:
    a, _b = channel()
    with pytest.raises(PolicyError, match="channels"):
        Channels({name: a})
    a.close()


def test_names_of_inputs_and_functions_are_taken() -> None:
    a, b = channel()
    with pytest.raises(PolicyError, match="of this name"):
        belljar.run("", inputs={"jobs": 1}, channels={"jobs": a})
    with pytest.raises(PolicyError, match="of this name"):
        belljar.run("", functions={"jobs": len}, channels={"jobs": a})
    a.send(1)
    assert b.recv(0) == 1


def test_what_is_no_end_is_refused() -> None:
    for given in ({"jobs": 1}, {"jobs": None}, [1], 5):
        with pytest.raises(PolicyError, match="channels"):
            belljar.run("", channels=given)  # type: ignore[arg-type]
    a, _b = channel()
    a.close()
    with pytest.raises(PolicyError, match="closed"):
        Channels({"jobs": a})


def test_the_bytes_of_all_channels_of_a_sandbox_are_bounded() -> None:
    ends = [channel(item_bytes=2**22)[0] for _ in range(5)]
    with pytest.raises(PolicyError, match="add up"):
        Channels({f"c{n}": end for n, end in enumerate(ends)})
    assert not any(end._side.given for end in ends)


def test_a_guest_that_waits_is_answered_later() -> None:
    """No thread: an entry in a line."""
    a, b = channel()
    guest = Guest(b)
    asked = guest.ask("recv")
    assert asked.answer() is None
    told = len(guest.told)
    a.send("x")
    assert guest.told[told:] == [asked]
    assert value(asked.answer()) == "x"
    assert asked.answer() is None  # once


def test_an_item_is_not_taken_for_a_run_that_is_over() -> None:
    a, b = channel()
    guest = Guest(b)
    first = guest.ask("recv")
    assert first.answer() is None
    a.send("x")  # it is told, and the run ends before it is answered
    first.drop()
    assert first.answer() is None
    assert value(guest.now("recv")) == "x"


def test_a_turn_is_passed_on() -> None:
    a, b = channel()
    guest = Guest(b)
    first, second = guest.ask("recv"), guest.ask("recv")
    assert first.answer() is None
    assert second.answer() is None
    guest.told.clear()
    a.send("x")
    assert guest.told == [first]
    first.drop()
    assert guest.told == [first, second]
    assert value(second.answer()) == "x"


def test_a_guest_sends_no_more_than_there_is_room_for() -> None:
    """Back-pressure that does not rest on the guest."""
    a, b = channel(capacity=2)
    guest = Guest(b)
    assert guest.channels.settings == [["jobs", 2**20, 16 * 2**20, 2]]
    item = bytes(encode(1))
    assert value(guest.now("send", item)) == 2
    assert value(guest.now("send", item)) == 2
    assert refusal(guest.now("send", item)) == "ValueError"
    room = guest.ask("room")
    assert room.answer() is None
    assert a.recv() == 1
    assert value(room.answer()) == 3
    assert guest.now("room") is None  # it has been told, so asking again costs nothing
    assert len(a._side.inward.items) == 1


def test_an_item_that_is_too_large_is_not_kept() -> None:
    a, b = channel(item_bytes=100)
    guest = Guest(b)
    assert refusal(guest.now("send", b"\xc0" * 101)) == "ValueError"
    with pytest.raises(TimeoutError):
        a.recv(timeout=0)


@pytest.mark.parametrize(
    "data", [b"\xc1", b"\xc0\xc0", b"\xdd\xff\xff\xff\xff", b"\x91" * 200 + b"\xc0"]
)
def test_what_is_no_data_closes_the_channel(data: bytes) -> None:
    """K8: decoded within bounds, and no more is taken from whoever sends such things."""
    a, b = channel(item_bytes=300)
    guest = Guest(b)
    guest.now("send", data)
    guest.now("send", bytes(encode(1)))
    for _ in range(2):
        with pytest.raises(ChannelClosed, match="no data"):
            a.recv()
    assert a.closed
    assert refusal(guest.now("send", b"\xc0")) == "EOFError"


def test_decoded_memory_is_bounded() -> None:
    """A one-byte empty list costs far more than a byte."""
    a, b = channel(item_bytes=2**16)
    guest = Guest(b)
    lists = b"\xdd" + (60_000).to_bytes(4, "big") + b"\x90" * 60_000
    guest.now("send", lists)
    with pytest.raises(ChannelClosed, match="too much"):
        a.recv()


def test_bytes_are_passed_on_unread() -> None:
    """From sandbox to sandbox nothing is decoded here."""
    a, b = channel()
    first, second = Guest(a), Guest(b)
    first.now("send", b"\xc1 no data at all")
    answered = second.now("recv")
    assert answered is not None
    assert answered.value == b"\xc1 no data at all"


def test_the_end_of_a_sandbox_is_heard() -> None:
    a, b = channel()
    guest = Guest(b)
    guest.now("send", bytes(encode(1)))
    recv, room = guest.ask("recv"), guest.ask("room")
    assert recv.answer() is None
    assert room.answer() is None
    a.close()
    assert refusal(recv.answer()) == "EOFError"
    assert refusal(room.answer()) == "EOFError"
    a, b = channel()
    guest = Guest(b)
    guest.now("send", bytes(encode(1)))
    assert refusal(guest.now("look")) == ""
    assert refusal(guest.now("close")) == ""
    assert [*a] == [1]
    with pytest.raises(ChannelClosed):
        a.send(1)
    assert refusal(guest.now("recv")) == "EOFError"


def test_channels_that_are_not_used_any_more_are_closed() -> None:
    a, b = channel()
    guest = Guest(b)
    del guest, b
    gc.collect()
    with pytest.raises(ChannelClosed):
        a.recv(timeout=PATIENCE_S)


def test_another_sandboxs_end_has_no_name() -> None:
    """K3, K9."""
    a, b = channel()
    _c, d = channel()
    guest = Guest(b)
    other = Channels({"mine": d})
    call = Invoke(1, "mine.recv", b"\xc0")
    assert guest.channels.ask(call, guest.told.append) is None
    assert set(guest.channels.uses) == {
        f"jobs.{w}" for w in ("recv", "room", "send", "look", "close")
    }
    assert not set(guest.channels.uses) & set(other.uses)
    a.close()
