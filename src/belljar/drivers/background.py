"""An event loop of belljar's own, for async host functions of callers that have none.

What: one daemon thread with an asyncio loop, made when it is first needed.  Because: ``run`` and
``Sandbox`` block, and a function that is awaited needs a loop; a loop for each call would close
the connections that the function keeps.  Then: all of them share this one for the life of the
process; after a fork there is another.
"""

from __future__ import annotations

import asyncio
import os
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, TypeVar

    T = TypeVar("T")

_lock = threading.Lock()
_made: tuple[int, asyncio.AbstractEventLoop] | None = None


def submit(
    work: Coroutine[Any, Any, T], over: Callable[[asyncio.Task[T]], object]
) -> Callable[[], object]:
    """Run it there; ``over`` is told there when it has ended.

    Returns a function that cancels it, for any thread.
    """
    loop = _loop()
    tasks: list[asyncio.Task[T]] = []

    def begin() -> None:
        task = loop.create_task(work)
        tasks.append(task)  # the loop itself holds tasks weakly
        task.add_done_callback(over)

    loop.call_soon_threadsafe(begin)
    return lambda: loop.call_soon_threadsafe(lambda: tasks[0].cancel())


def _loop() -> asyncio.AbstractEventLoop:
    global _made
    with _lock:
        if _made is None or _made[0] != os.getpid():
            loop = asyncio.new_event_loop()
            threading.Thread(target=_serve, args=(loop,), name="belljar", daemon=True).start()
            _made = (os.getpid(), loop)
        return _made[1]


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()
