"""The calls of a guest that a task drives: in its event loop, or in worker threads of it.

What: what is awaited runs in a task group that lasts as long as the run; what is not runs in a
thread, unless it says that it does not block.  Because: hundreds of sandboxes share the loop, and
no function of one may hold up the others.  Then: when the run is over its calls are cancelled.
"""

from __future__ import annotations

from contextlib import asynccontextmanager

import anyio
import anyio.to_thread

from ..engine.events import Answered, Revoked
from ..wire.limits import CALLS
from .desk import Desk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from anyio.abc import TaskGroup

    from ..broker.functions import Call, Functions


class TaskDesk(Desk):
    """``Desk`` for tasks."""

    def __init__(self, functions: Functions) -> None:
        super().__init__(functions)
        self._group: TaskGroup | None = None
        self._threads: anyio.CapacityLimiter | None = None
        self._trouble: BaseException | None = None

    @asynccontextmanager
    async def attending(self) -> AsyncGenerator[None]:
        """During a run; meanwhile there are calls.  Raises what the run raises, as it is."""
        failure: BaseException | None = None
        try:
            async with anyio.create_task_group() as self._group:
                try:
                    yield
                except anyio.get_cancelled_exc_class():
                    raise  # the group sees to the calls
                except BaseException as error:
                    failure = error
                self._group.cancel_scope.cancel()
        finally:
            self._group = None
            for call_id in list(self._elsewhere):
                # Cancelled before it had begun: nobody else would say that it is over.
                self.tell(Answered(call_id, None, "InterruptedError"))
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # or its traceback would hold this frame, and this frame it

    def take(self) -> Answered | Revoked | None:
        """See ``Desk.take``."""
        trouble, self._trouble = self._trouble, None
        if trouble is not None:
            raise trouble
        return super().take()

    @property
    def busy(self) -> bool:
        """See ``Desk.busy``."""
        return self._trouble is not None or super().busy

    def _begin(self, call: Call) -> None:
        function = call.function
        if not function.awaited and function.in_thread is False:
            self._here.append(call)
            return
        if self._group is None:
            self._done.append(call.broken_off())
            return
        scope = anyio.CancelScope()
        self._elsewhere[call.id] = scope.cancel
        self._group.start_soon(self._make, call, scope)

    async def _make(self, call: Call, scope: anyio.CancelScope) -> None:
        answered = call.broken_off()
        try:
            with scope:
                if call.function.awaited:
                    answered = await call.make_here()
                else:
                    if self._threads is None:
                        self._threads = anyio.CapacityLimiter(CALLS)
                    answered = await anyio.to_thread.run_sync(
                        call.make, abandon_on_cancel=True, limiter=self._threads
                    )
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:
            self._trouble = error  # raised where the run was asked for
        finally:
            self.tell(answered)
