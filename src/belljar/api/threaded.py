"""Waiting for a live interpreter in a thread: ``Sandbox`` and whatever else is used by threads.

What: one lock for each, held during a run.  Because: an interpreter does one thing at a time,
and threads may share it.  Then: whoever asks waits for its turn and drives the guest itself.
"""

from __future__ import annotations

import _thread
import os
from contextlib import contextmanager

from ..drivers.live import Live
from ..errors import ClosedError, SandboxFailure
from .live import Ask, Interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping
    from types import TracebackType
    from typing import Any, Self

    from ..drivers.blocking import Piece, Waiter
    from ..drivers.live import ArtifactListener, Listener, UsageListener
    from ..drivers.sources import Pipe, Stdin
    from ..result import Result
    from .files import Contents
    from .live import Step
    from .streams import Stream


class Threaded(Interpreter[Live]):
    """A live interpreter for threads."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lock = _Owned()

    def _free_lock(self) -> None:
        """It begins with a lock of its own."""
        self._lock = _Owned()

    def _launch(self) -> None:
        """Make the process, and wait until it is ready."""
        raise NotImplementedError

    # --- starting and ending ------------------------------------------------------------

    def _begin(self) -> None:
        """The last step of making one."""
        self._start()
        self._closing = False
        self._watch()

    def _start(self) -> None:
        """Give it a guest."""
        self._forget_steps()
        try:
            self._launch()
        except SandboxFailure:
            if not self._closed_why:
                raise
        if self._closed_why:
            raise ClosedError(f"{self._closed_why} while it started")

    @property
    def _busy(self) -> bool:
        return self._lock.locked()

    def _look_if_free(self) -> None:
        if self._lock.acquire(timeout=0):
            try:
                self._look()
            finally:
                self._lock.release()
                self._close_late()

    def close(self) -> None:
        """End the interpreter at once, and a run that is under way; twice is as good as once.

        That run raises ``ClosedError`` where it was asked for.  Called by what that run calls,
        such as ``on_output``, the end comes when that returns.  Functions registered with
        ``atexit`` inside are not called.
        """
        self._close("it was closed")

    def _shut(self, why: str) -> None:
        self._close(why, wait=False)

    def _close(self, why: str, *, wait: bool = True) -> None:
        if self._closing:
            return
        self._closing, self._closed_why = True, why
        if os.getpid() != self._pid:
            self._drop()
            return
        live = self._live
        if self._lock.mine or not wait:
            self._close_late()
            if live is not None:
                live.end()
            return
        while not self._lock.acquire(timeout=0.05):
            if live is not None:
                live.end()
        try:
            self._drop()
        finally:
            self._lock.release()

    def _close_late(self) -> None:
        """Let go of the guest of what was closed while it was in use, if nobody uses it now."""
        if self._closing and self._live is not None and self._lock.acquire(timeout=0):
            try:
                self._drop()
            finally:
                self._lock.release()

    def reset(self) -> None:
        """End the interpreter and start a fresh one, made as this one was.

        Names, files and ``history`` are gone.  Waits for a run that is under way.

        Raises:
            ClosedError: it is closed.
            SandboxFailure: belljar's own machinery failed.
        """
        self._check_open()
        try:
            with self._lock:
                self._check_open()
                self._drop()
                self._start()
        finally:
            self._close_late()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- running ------------------------------------------------------------------------

    def run(
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
        """Execute code in the interpreter and return how it ended.

        Args:
            code: the program, at most 16 MiB.  The value of its last expression is
                ``Result.value``; ``await`` works at top level.
            policy: nothing; it was settled when the interpreter was made, if it has one.
            inputs: names for its namespace, which stay there.
            files: contents by path relative to the directory that it started in (``/work`` in a
                sandbox); those that exist are replaced.
            stdin: what it reads from standard input: text or bytes, a file object, or an
                iterable of pieces, which are read as the code asks for them; nothing if left out.
            name: the file name in tracebacks; ``<run 1>``, ``<run 2>``, ... if left out.
            on_output: as with the interpreter, for this run alone and in its place.
            on_usage: called with a ``UsageNow`` while the code runs.
            on_artifact: as with the interpreter, for this run alone and in its place.
            interactive: whether ``sys.displayhook`` shows the value of each expression, as at
                Python's prompt, instead of ``Result.value``.
            limits: bounds of this run below the interpreter's, such as ``wall_s=0.5``; one of
                ``RUN_LIMITS``.

        Returns:
            A ``Result``, whatever the code does.  Its usage is that of this run; its peak of
            memory is that of the interpreter's life so far.

        Raises:
            PolicyError: an argument makes no sense; names it.
            ClosedError: it is closed, or its process has ended.
            SandboxFailure: belljar's own machinery failed.
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
        return self._do(ask)

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
    ) -> Stream:
        """Execute code and take its output piece by piece, while it runs; see ``Stream``.

            with sandbox.stream("for n in range(3): print(n)") as stream:
                for name, data in stream:
                    print(name, data)
            stream.result.status

        The arguments are those of ``run``; with ``stdin=belljar.PIPE`` what the code reads is
        written to the stream.  Until the block is left, nobody else has the sandbox.

        Raises:
            PolicyError: an argument makes no sense; names it.  The ``with`` and the stream raise
                what ``run`` raises.
        """
        from .streams import Stream

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
        return Stream(lambda pieces: self._turn(ask, pieces), ask.source, self._outcome)

    def call(self, target: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function of the interpreter's by its name, and return what it returns.

        Args:
            target: a name, or a dotted one: ``"model.predict"``, ``"len"``.
            args, kwargs: plain data.  A coroutine that comes back is awaited inside.

        Raises:
            GuestError: the call ended badly; ``result`` has all of it.
            PolicyError, ClosedError, SandboxFailure: as with ``run``.
        """
        return self._do(self._ask_call(target, args, kwargs)).unwrap()

    def set(self, **names: Any) -> None:
        """Put names into the interpreter's namespace: ``sandbox.set(n=10)``.

        Raises:
            GuestError: it went badly inside, as for want of memory.
            PolicyError, ClosedError, SandboxFailure: as with ``run``.
        """
        self.run("", inputs=names).unwrap()

    def get(self, name: str) -> Any:
        """The value of a name, or of a dotted one; plain data.

        Raises:
            GuestError: there is no such name, or its value cannot cross.
            PolicyError, ClosedError, SandboxFailure: as with ``run``.
        """
        return self._do(self._ask_get(name)).unwrap()

    def replay(self, steps: Iterable[Step]) -> list[Result]:
        """Do again what another interpreter's ``history`` tells; the results in order.

        Raises:
            PolicyError, ClosedError, SandboxFailure: as with ``run``.
        """
        return [self._do(self._ask_again(step)) for step in steps]

    def _do(self, ask: Ask) -> Result:
        """One turn, when it is its turn."""
        with self._turn(ask) as waiter:
            return self._outcome(waiter.finish())
        raise AssertionError("nothing is suppressed")

    @contextmanager
    def _turn(self, ask: Ask, pieces: list[Piece] | None = None) -> Generator[Waiter]:
        """While this thread, and no other, has the interpreter for a turn."""
        self._check_open()
        try:
            with self._lock:
                live = self._ready()
                try:
                    if ask.puts:
                        self._put(ask.puts)
                    waiter = live.turn(*self._settle(ask), pieces)
                    try:
                        yield waiter
                    finally:
                        waiter.leave()
                except SandboxFailure as failure:
                    if not live.waiting:  # else it is somebody else's
                        self._ended = str(failure)
                    raise
                finally:
                    self._over(live)
        finally:
            self._close_late()


class _Owned:
    """A lock that knows whether the thread that asks has it."""

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._owner = 0

    def acquire(self, timeout: float = -1) -> bool:
        taken = self._lock.acquire(timeout=timeout) if timeout else self._lock.acquire(False)
        if taken:
            self._owner = _thread.get_ident()
        return taken

    def release(self) -> None:
        self._owner = 0
        self._lock.release()

    def locked(self) -> bool:
        return self._lock.locked()

    @property
    def mine(self) -> bool:
        return self._owner == _thread.get_ident()

    def __enter__(self) -> None:
        if self.mine:
            raise ClosedError("it is busy with the run that called this function")
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()
