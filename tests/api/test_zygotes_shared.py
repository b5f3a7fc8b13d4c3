"""K10, M11: what a host keeps from run to run is bounded, and making room for it harms no run.

What: plans and zygotes of many policies in one process.  Because: a server that writes the
customer into the policy has as many policies as customers, and its threads use them at the same
time.  Then: the plans are bounded, and a zygote with a guest in it is not ended to make room.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator

import pytest

import belljar
from belljar import Policy
from belljar.api import machine

# Each needs a zygote of its own: what may be loaded is a matter of mounts.
OTHERS = [Policy().block(modules=[name]) for name in ("_sqlite3", "_ssl", "_bz2", "_lzma", "_json")]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    belljar.close()
    machine._known.prepared.clear()
    yield
    belljar.close()
    machine._known.prepared.clear()


def test_plans_of_policies_that_are_not_used_any_more_are_let_go() -> None:
    policy = Policy().allow(env={"CUSTOMER": "first"})
    first = weakref.ref(machine.prepare(policy).plan)
    for number in range(machine.MOST_PREPARED * 2):
        machine.prepare(Policy().allow(env={"CUSTOMER": f"{number}"}))
    assert len(machine._known.prepared) == machine.MOST_PREPARED
    gc.collect()
    assert first() is None


def test_a_plan_in_use_stays_however_many_others_come() -> None:
    kept = machine.prepare(Policy())
    for number in range(machine.MOST_PREPARED * 2):
        machine.prepare(Policy().allow(env={"CUSTOMER": f"{number}"}))
        assert machine.prepare(Policy()) is kept


def test_a_run_goes_on_while_other_threads_need_other_zygotes() -> None:
    """A guest that takes its time is not ended because five more policies were used since."""
    begun, go_on = threading.Event(), threading.Event()
    found: list[object] = []

    def long_run() -> None:
        def begin(_stream: str, _data: bytes) -> None:
            begun.set()
            go_on.wait(60)

        code = "print('x', flush=True); input(); 7"
        try:
            found.append(
                belljar.run(code, Policy().allow(wall_s=600), stdin="y\n", on_output=begin)
            )
        except belljar.BelljarError as error:
            found.append(error)

    thread = threading.Thread(target=long_run)
    thread.start()
    assert begun.wait(60)
    for policy in OTHERS:
        assert belljar.run("1", policy).value == 1
    assert len(machine._known.zygotes) == machine.MOST_ZYGOTES
    go_on.set()
    thread.join()
    (result,) = found
    assert isinstance(result, belljar.Result), result
    assert result.value == 7


def test_idle_zygotes_make_room() -> None:
    for policy in OTHERS:
        belljar.run("1", policy)
    assert len(machine._known.zygotes) == machine.MOST_ZYGOTES
    assert not any(zygote.users for zygote in machine._known.zygotes.values())


def test_more_than_the_most_while_all_are_in_use_and_no_more_afterwards() -> None:
    held = [machine.shared(machine.prepare(policy)) for policy in OTHERS]
    assert all(zygote.alive for zygote in held)
    assert len(machine._known.zygotes) == len(OTHERS) > machine.MOST_ZYGOTES
    for zygote in held:
        machine.release(zygote)
    belljar.run("1")
    assert len(machine._known.zygotes) == machine.MOST_ZYGOTES


def test_many_threads_that_are_the_first_share_one_zygote() -> None:
    barrier = threading.Barrier(6)
    values: list[object] = []

    def work() -> None:
        barrier.wait()
        values.append(belljar.run("1 + 1").value)

    crew = [threading.Thread(target=work) for _ in range(6)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert values == [2] * 6
    assert len(machine._known.zygotes) == 1


class _Groups:
    closed = False

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("busy", [True, False])
def test_a_second_look_at_the_machine_ends_no_guest_of_another_thread(
    monkeypatch: pytest.MonkeyPatch, busy: bool
) -> None:
    """After a failed launch in one thread, while others have guests in their groups."""
    known = machine._Known()
    monkeypatch.setattr(machine, "_known", known)
    found = machine.support()
    known.probed, known.support = False, found
    groups = _Groups()
    known.groups = groups  # type: ignore[assignment]
    zygote = machine.shared(machine.prepare(Policy()))
    if not busy:
        machine.release(zygote)
    assert not machine.reconsider()
    assert groups.closed != busy
    if busy:
        machine.release(zygote)
    machine.close()
    assert groups.closed
