"""``AsyncSandbox``: ``Sandbox`` for tasks of asyncio and trio."""

from __future__ import annotations

import threading
import time
from contextlib import asynccontextmanager

import anyio
from anyio.lowlevel import current_token

from ..drivers.live import Listeners
from ..drivers.tasks import TaskLive
from ..errors import ClosedError, SandboxFailure, SetupFailed
from .async_run import Slot, borrow_awaited, in_thread, task_desk, with_awaited_streams
from .live import Ask, Sandboxed
from .run import worth_another
from .streams import AsyncStream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Any

    from ..broker.channels import ChannelEnd
    from ..drivers.blocking import Piece
    from ..drivers.live import ArtifactListener, Listener, UsageListener
    from ..drivers.sources import Pipe, Stdin
    from ..drivers.tasks import TaskWaiter
    from ..policy import Policy
    from ..result import Result
    from .files import Contents
    from .live import Step


class AsyncSandbox(Sandboxed[TaskLive]):
    """One live sandboxed interpreter for tasks; what it can is what ``Sandbox`` can.

        async with belljar.AsyncSandbox() as sandbox:
            await sandbox.run("x = 20")
            (await sandbox.run("x + 1")).value      # 21

    It starts with ``async with``, or with ``start``.  One run at a time: other tasks wait for
    their turn, in order, and can be cancelled meanwhile.  It belongs to the event loop that it
    was started in; ``interrupt`` may be called from any thread.

    Cancelling the task of a run interrupts the code.  If that ends within a second the sandbox
    stays as the code has left it; if not, the interpreter is ended, and the next run is a
    ``ClosedError``.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        argv: Sequence[str] = (),
        files: Mapping[str, Contents] | None = None,
        preload: Sequence[str] = (),
        on_output: Listener | None = None,
        on_artifact: ArtifactListener | None = None,
        idle_s: float | None = None,
        lifetime_s: float | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        channels: Mapping[str, ChannelEnd] | None = None,
        merge_stderr: bool = False,
    ) -> None:
        """Check the arguments, which are those of ``Sandbox``; nothing is started.

        Args:
            on_output, on_artifact: what they return is awaited, if that can be.
            functions: those that are awaited run in this event loop, others in worker threads.
            channels: as with ``Sandbox``.

        Raises:
            PolicyError: an argument makes no sense; names it.
        """
        listeners = Listeners(on_output, None, on_artifact)
        super().__init__(
            policy,
            inputs,
            argv,
            files,
            preload,
            listeners,
            idle_s,
            lifetime_s,
            functions,
            channels,
            merge_stderr,
        )
        # Around what the thread that keeps the time does as well: it closes what is due.
        self._guard = threading.Lock()
        self._running = False
        self._home: object = None  # its event loop
        self._turns: anyio.Lock | None = None
        self._ended = "it was not started; use async with, or await its start()"

    def _with_true_streams(self, on_output: Listener | None) -> Listener | None:
        return with_awaited_streams(self._policy, on_output)

    @property
    def _busy(self) -> bool:
        return self._running

    def _look_if_free(self) -> None:
        with self._guard:
            if not self._running:
                self._look()

    # --- starting and ending ------------------------------------------------------------

    async def start(self) -> AsyncSandbox:
        """Start the interpreter and wait until it is ready; ``async with`` does it.

        Raises:
            UnsupportedError: this machine cannot enforce the policy; nothing ran.
            ClosedError: it was started before.
            SandboxFailure: belljar's own machinery failed.
        """
        if self._turns is not None:
            raise ClosedError("it was started before")
        self._turns, self._home = anyio.Lock(), current_token()
        self._closing = False
        try:
            async with self._turn():
                await self._start()
        except BaseException:
            self._shut("it did not start")
            raise
        self._watch()
        return self

    async def _start(self) -> None:
        """Give it a guest."""
        self._forget_steps()
        try:
            await self._launch()
        except SandboxFailure:
            if not self._closed_why:
                raise
        if self._closed_why:
            raise ClosedError(f"{self._closed_why} while it started")

    async def _launch(self) -> None:
        try:
            await self._launch_once()
        except SetupFailed as error:
            failure = error
        else:
            return
        if self._closing or not await in_thread(lambda: worth_another(failure)):
            raise failure
        await self._launch_once()

    async def _launch_once(self) -> None:
        began = time.monotonic()
        prepared, zygote = await borrow_awaited(self._policy, self._preload)
        self._zygote = zygote
        slot = Slot()
        try:
            await slot.take()
            live = self._connect(prepared, zygote, TaskLive, task_desk, began)
            self._started(live, await live.start())
            if self._first_put:
                await in_thread(lambda: self._put(self._first_put))
        except BaseException:
            with self._guard:
                self._drop()
            raise
        finally:
            slot.give_back()

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None]:
        """While this task, and no other, has the interpreter."""
        turns = self._turns
        self._check_open()
        if turns is None:
            raise ClosedError(self._ended)
        if self._home != current_token():
            raise ClosedError("it belongs to another event loop")
        if self._running and turns.statistics().owner == anyio.get_current_task():
            raise ClosedError("it is busy with the run that called this function")
        async with turns:
            with self._guard:
                self._check_open()
                self._running = True
            try:
                yield
            finally:
                with self._guard:
                    self._running = False
                    self._used_at = time.monotonic()
                    if self._closing:
                        self._drop()

    def _shut(self, why: str) -> bool:
        """Have it closed, from any thread; whether a run is under way, which does it then."""
        with self._guard:
            if self._closing:
                return self._running
            self._closing, self._closed_why = True, why
            if not self._running:
                self._drop()
            elif self._live is not None:
                self._live.end()
            return self._running

    async def aclose(self) -> None:
        """End the interpreter at once, and a run that is under way; twice is as good as once.

        That run raises ``ClosedError`` where it was asked for.  An ``on_output`` of its that is
        awaited is cancelled.  Functions registered with ``atexit`` inside are not called.
        """
        if not self._shut("it was closed"):
            return
        turns = self._turns
        if turns is None or self._home != current_token():
            return
        if self._live is not None:
            self._live.stop_calling()
        if turns.statistics().owner != anyio.get_current_task():
            async with turns:
                return

    async def reset(self) -> None:
        """End the interpreter and start a fresh one under the same policy.

        Names, files and ``history`` are gone.  Waits for a run that is under way.

        Raises:
            ClosedError: it is closed.
            SandboxFailure: belljar's own machinery failed.
        """
        async with self._turn():
            with self._guard:
                self._drop()
            await self._start()

    async def __aenter__(self) -> AsyncSandbox:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    # --- running ------------------------------------------------------------------------

    async def run(
        self,
        code: str | bytes,
        policy: None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        files: Mapping[str, Contents] | None = None,
        stdin: Stdin | None = None,
        name: str | None = None,
        on_output: Listener | None = None,
        on_usage: UsageListener | None = None,
        on_artifact: ArtifactListener | None = None,
        interactive: bool = False,
        **limits: float,
    ) -> Result:
        """Execute code in the interpreter and return how it ended; see ``Sandbox.run``.

        Args:
            on_output, on_usage, on_artifact: what they return is awaited, if that can be.
        """
        ask = self._ask_run(
            code,
            policy,
            inputs,
            files,
            stdin,
            name,
            on_output,
            on_usage,
            on_artifact,
            interactive,
            limits,
        )
        return await self._do(ask)

    def stream(
        self,
        code: str | bytes,
        policy: None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        files: Mapping[str, Contents] | None = None,
        stdin: Stdin | Pipe | None = None,
        name: str | None = None,
        on_usage: UsageListener | None = None,
        on_artifact: ArtifactListener | None = None,
        interactive: bool = False,
        **limits: float,
    ) -> AsyncStream:
        """Execute code and take its output piece by piece, while it runs; see ``AsyncStream``.

            async with sandbox.stream("for n in range(3): print(n)") as stream:
                async for name, data in stream:
                    print(name, data)
            stream.result.status

        The rest is as with ``Sandbox.stream``.
        """
        ask = self._ask_run(
            code,
            policy,
            inputs,
            files,
            stdin,
            name,
            None,
            on_usage,
            on_artifact,
            interactive,
            limits,
            streamed=True,
        )
        return AsyncStream(lambda pieces: self._asked(ask, pieces), ask.source, self._outcome)

    async def call(self, target: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function of the interpreter's by its name; see ``Sandbox.call``."""
        return (await self._do(self._ask_call(target, args, kwargs))).unwrap()

    async def set(self, **names: Any) -> None:
        """Put names into the interpreter's namespace; see ``Sandbox.set``."""
        (await self.run("", inputs=names)).unwrap()

    async def get(self, name: str) -> Any:
        """The value of a name, or of a dotted one; see ``Sandbox.get``."""
        return (await self._do(self._ask_get(name))).unwrap()

    async def replay(self, steps: Iterable[Step]) -> list[Result]:
        """Do again what another sandbox's ``history`` tells; the results in order."""
        return [await self._do(self._ask_again(step)) for step in steps]

    async def _do(self, ask: Ask) -> Result:
        """One turn, when it is its turn."""
        async with self._asked(ask) as waiter:
            return self._outcome(await waiter.finish())
        raise AssertionError("nothing is suppressed")

    @asynccontextmanager
    async def _asked(
        self, ask: Ask, pieces: list[Piece] | None = None
    ) -> AsyncGenerator[TaskWaiter]:
        """One turn, to be carried on, when it is its turn."""
        async with self._turn():
            live = self._ready()
            try:
                if ask.puts:
                    await in_thread(lambda: self._put(ask.puts))
                async with live.turn(*self._settle(ask), pieces) as waiter:
                    yield waiter
            except SandboxFailure as failure:
                if not live.waiting:  # else it is somebody else's
                    self._ended = str(failure)
                raise
            finally:
                with self._guard:
                    self._over(live)
