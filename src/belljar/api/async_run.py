"""``arun``: ``run`` for tasks of asyncio and trio."""

from __future__ import annotations

import threading
import time
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from ..drivers import tasks
from ..drivers.blocking import once
from ..errors import PolicyError, SetupFailed
from ..policy import Policy
from . import machine
from .run import (
    DEFAULT_NAME,
    borrow,
    check_preload,
    for_one_run,
    lend,
    make_feed,
    make_order,
    put_by_host,
    true_streams,
    worth_another,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from typing import Any, TypeVar

    from ..broker.channels import ChannelEnd
    from ..broker.functions import Functions
    from ..drivers.blocking import Feed, Piece
    from ..drivers.live import ArtifactListener, Listener
    from ..drivers.sources import Stdin
    from ..drivers.task_desk import TaskDesk
    from ..drivers.tasks import TaskWaiter
    from ..drivers.zygotes import Work, Zygote
    from ..result import Result, UsageNow
    from ..wire.events import Run
    from .files import Contents

    T = TypeVar("T")

# Guests of one event loop that are being started.  The zygote makes one after the other; with
# more, requests would fill its socket, and whoever writes to that waits.
MOST_STARTING = 8


async def arun(
    code: str | bytes,
    policy: Policy | None = None,
    inputs: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
    stdin: Stdin | None = None,
    files: Mapping[str, Contents] | None = None,
    name: str = DEFAULT_NAME,
    on_output: Listener | None = None,
    preload: Sequence[str] = (),
    on_usage: Callable[[UsageNow], object] | None = None,
    on_artifact: ArtifactListener | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    channels: Mapping[str, ChannelEnd] | None = None,
    merge_stderr: bool = False,
) -> Result:
    """``belljar.run`` for a task of asyncio or trio: the same arguments, results and errors.

    Args:
        on_output, on_usage, on_artifact: called on the event loop; what can be awaited is awaited, while the
            clock of ``wall_s`` stands still as for any ``on_output``.
        functions: those that are awaited run in this event loop, others in worker threads.

    Cancelling the task ends the guest at once.  No thread is used, but one of the event loop's
    workers while the first zygote for a policy starts.
    """
    policy = Policy() if policy is None else policy
    if not isinstance(policy, Policy):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise PolicyError("policy", f"expected a Policy, got {type(policy).__name__}")
    order = make_order(code, policy, inputs, argv, files, name, merge_stderr=merge_stderr)
    feed = make_feed(stdin, policy)
    listener = with_awaited_streams(policy, on_output)
    modules = check_preload(preload)
    put = put_by_host(files, policy) if files else None
    lent = lend(functions, policy, order.inputs, channels)
    arguments = (order, policy, modules, feed, listener, on_usage, on_artifact, put, lent)
    async with one_run(*arguments) as waiter:
        return await waiter.finish()
    raise AssertionError("nothing is suppressed")


def task_desk(functions: Functions) -> TaskDesk:
    """Where the calls of a guest that tasks drive are carried out."""
    from ..drivers.task_desk import TaskDesk

    return TaskDesk(functions)


@asynccontextmanager
async def one_run(
    order: Run,
    policy: Policy,
    preload: tuple[str, ...],
    feed: Feed,
    on_output: Listener | None,
    on_usage: Callable[[UsageNow], object] | None,
    on_artifact: ArtifactListener | None,
    put: Callable[[Work], None] | None,
    functions: Functions | None,
    pieces: list[Piece] | None = None,
) -> AsyncGenerator[TaskWaiter]:
    """One guest that has the code, to be carried on; it is ended when this is left.

    What it was lent is closed then.
    """
    listeners = (on_output, on_usage, on_artifact)
    arguments = (order, policy, preload, feed, *listeners, put, functions, pieces)
    async with AsyncExitStack() as stack:
        if functions is not None:
            stack.callback(functions.end)
        try:
            waiter = await stack.enter_async_context(_once(*arguments))
        except SetupFailed as error:
            failure = error
        else:
            yield waiter
            return
        if not await in_thread(lambda: worth_another(failure)):
            raise failure
        yield await stack.enter_async_context(_once(*arguments))


@asynccontextmanager
async def _once(
    order: Run,
    policy: Policy,
    preload: tuple[str, ...],
    feed: Feed,
    on_output: Listener | None,
    on_usage: Callable[[UsageNow], object] | None,
    on_artifact: ArtifactListener | None,
    put: Callable[[Work], None] | None,
    functions: Functions | None,
    pieces: list[Piece] | None,
) -> AsyncGenerator[TaskWaiter]:
    began = time.monotonic()
    prepared, zygote = await borrow_awaited(policy, preload)
    slot = Slot()
    try:
        await slot.take()
        loop = for_one_run(
            tasks.TaskLoop,
            prepared,
            zygote,
            order,
            feed,
            on_output,
            began,
            functions,
            on_usage=on_usage,
            on_artifact=on_artifact,
            put=put,
            make=task_desk,
        )
        desk: Any = loop.desk
        waiter = tasks.TaskWaiter(loop, once(loop, zygote), pieces)
        async with tasks.attended(desk):
            try:
                await waiter.start()
                slot.give_back()
                yield waiter
            finally:
                await waiter.leave()
    finally:
        slot.give_back()
        machine.release(zygote)


def with_awaited_streams(policy: Policy, on_output: Listener | None) -> Listener | None:
    """``with_true_streams`` for a task: a reader that is slow holds up nobody else."""
    numbers = true_streams(policy)
    if not numbers:
        return on_output

    async def deliver(stream: str, data: bytes) -> None:
        number = numbers.get(stream)
        if number is not None:
            await tasks.deliver(number, data)
        if on_output is not None:
            made: Any = on_output(stream, data)
            if hasattr(made, "__await__"):
                await made

    return deliver


# --- what takes too long for an event loop ------------------------------------------------


async def borrow_awaited(
    policy: Policy, preload: tuple[str, ...]
) -> tuple[machine.Prepared, Zygote]:
    """``borrow`` for a task: in a worker thread where something has to be started."""
    found = machine.shared_at_once(policy, preload)
    if found is not None:
        return found
    async with _of_this_loop(_lock, anyio.Lock):
        found = machine.shared_at_once(policy, preload)  # another task has started it
        if found is not None:
            return found
        loan = _Loan(policy, preload)
        try:
            return await in_thread(loan.take)
        except BaseException:
            loan.give_up()
            raise


class _Loan:
    """A zygote that a thread borrows for a task, which may be cancelled meanwhile."""

    def __init__(self, policy: Policy, preload: tuple[str, ...]) -> None:
        self._policy = policy
        self._preload = preload
        self._lock = threading.Lock()
        self._given_up = False
        self._zygote: Zygote | None = None

    def take(self) -> tuple[machine.Prepared, Zygote]:
        prepared, zygote = borrow(self._policy, self._preload)
        try:
            machine.warm(prepared, zygote)
        except BaseException:
            machine.release(zygote)
            raise
        with self._lock:
            if self._given_up:
                machine.release(zygote)
            else:
                self._zygote = zygote
        return prepared, zygote

    def give_up(self) -> None:
        with self._lock:
            self._given_up = True
            zygote, self._zygote = self._zygote, None
        if zygote is not None:
            machine.release(zygote)


async def in_thread(work: Callable[[], T]) -> T:
    """What ``work`` returns or raises; a task that is cancelled does not wait for it."""
    outcome: list[T] = []
    errors: list[BaseException] = []

    def do() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            errors.append(error)

    try:
        await anyio.to_thread.run_sync(do, abandon_on_cancel=True)
    except RuntimeError as error:
        # "can't start new thread": nothing of ``do`` comes out this way.
        raise SetupFailed("thread", str(error), retryable=True) from error
    if errors:
        raise errors[0]
    return outcome[0]


# For one zygote at a time, so that tasks that want the same do not fill all threads.
_lock: RunVar[anyio.Lock] = RunVar("belljar starting a zygote")
_slots: RunVar[anyio.Semaphore] = RunVar("belljar starting guests")


def _of_this_loop(kept: RunVar[T], make: Callable[[], T]) -> T:
    try:
        return kept.get()
    except LookupError:
        made = make()
        kept.set(made)
        return made


class Slot:
    """One of the ``MOST_STARTING`` guests that may be starting in this event loop."""

    def __init__(self) -> None:
        self._taken: anyio.Semaphore | None = None

    async def take(self) -> None:
        """Wait for it."""
        slots = _of_this_loop(_slots, lambda: anyio.Semaphore(MOST_STARTING))
        await slots.acquire()
        self._taken = slots

    def give_back(self) -> None:
        """Let another one start; once."""
        slots, self._taken = self._taken, None
        if slots is not None:
            slots.release()
