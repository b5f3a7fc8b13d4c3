"""``Stream``: a run whose output is taken piece by piece while it runs, and its twin for tasks.

What: a run that goes on while its pieces are asked for, and stands at a piece otherwise.
Because: the consumer's pace is then the guest's, without a thread or a queue.  Then: what is not
taken stays in the guest's pipes, which hold 64 KiB each, and a guest that fills them waits.
"""

from __future__ import annotations

import codecs
import time
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager

from ..drivers import blocking
from ..drivers.blocking import Waiter, once
from ..drivers.sources import Written, as_bytes
from ..errors import ClosedError, PolicyError, SetupFailed
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
    with_true_streams,
    worth_another,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Any, Self

    from ..broker.channels import ChannelEnd
    from ..broker.functions import Functions
    from ..drivers.blocking import Feed, Piece
    from ..drivers.live import ArtifactListener, UsageListener
    from ..drivers.sources import Pipe, Stdin
    from ..drivers.tasks import TaskWaiter
    from ..drivers.zygotes import Work, Zygote
    from ..result import Result
    from ..wire.events import Run
    from .files import Contents

    Pieces = list[Piece]


class _Streamed:
    """What both have, but for the waiting."""

    def __init__(self, feed: Feed | None, outcome: Callable[[Result], Result]) -> None:
        """``outcome`` is told of the result, and may raise instead."""
        self._feed = feed if isinstance(feed, Written) else None
        self._outcome = outcome
        self._finished: Result | None = None
        self._why = "it has not begun; use it in a with statement"

    def write(self, data: bytes | str) -> None:
        """Have the code read this from its standard input; text as UTF-8.  For any thread.

        Waits for nothing: what the guest has no room for is kept here.  What the code does not
        read is lost.

        Raises:
            PolicyError: the stream was not made with ``stdin=belljar.PIPE``, or its input closed.
        """
        self._input().write(as_bytes(data))

    def close_stdin(self) -> None:
        """Have the code find the end of its standard input, after what was written."""
        self._input().close()

    @property
    def result(self) -> Result:
        """How the run ended.

        Raises:
            ClosedError: the run is not over, or it was left before.
        """
        if self._finished is None:
            raise ClosedError(self._why)
        return self._finished

    def _input(self) -> Written:
        if self._feed is None:
            raise PolicyError("stdin", "make the stream with stdin=belljar.PIPE to write to it")
        return self._feed

    def _begun(self) -> None:
        self._why = "the run is not over; take its pieces to the end, or call finish()"

    def _left(self) -> None:
        self._why = "the run was left before its end"

    def _take(self, result: Result) -> Result:
        if self._finished is None:
            self._finished = self._outcome(result)
        return self._finished


class Stream(_Streamed):
    """A run whose output is taken piece by piece, on the thread that asks for the pieces.

        with belljar.stream("for n in range(3): print(n)") as stream:
            for name, data in stream:
                print(name, data)       # ("stdout" | "stderr", bytes)
        stream.result.status

    While the block does something else than asking for the next piece, the clock of ``wall_s``
    stands still for up to ``pause_s``, and nobody looks at the guest's other limits.  Leaving the
    block before the end ends the run: that of a ``Sandbox`` as ``interrupt`` does, so that it stays,
    and a guest of its own at once.
    """

    def __init__(
        self,
        turn: Callable[[Pieces], AbstractContextManager[Waiter]],
        feed: Feed | None,
        outcome: Callable[[Result], Result],
    ) -> None:
        """``turn`` makes the run, which is to be carried on; for ``belljar.stream`` and the like."""
        super().__init__(feed, outcome)
        self._turn = turn([])
        self._waiter: Waiter | None = None

    def __enter__(self) -> Self:
        """Begin, when it is its turn."""
        waiter = self._turn.__enter__()
        try:
            waiter.start()
        except BaseException as error:
            self._turn.__exit__(type(error), error, error.__traceback__)
            raise
        self._waiter = waiter
        self._begun()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the run, if it is not over."""
        self._waiter = None
        self._left()
        self._turn.__exit__(kind, error, trace)

    def __iter__(self) -> Iterator[Piece]:
        """The pieces, each with the name of its stream; those that were taken are gone."""
        return self

    def __next__(self) -> Piece:
        if self._waiter is None:
            raise ClosedError(self._why)
        piece = self._waiter.piece()
        if piece is None:
            self._take(self._waiter.finish())
            raise StopIteration
        return piece

    def text(self) -> Iterator[tuple[str, str]]:
        """The pieces as text: UTF-8, and U+FFFD for what is not."""
        return _decoded(self, _Text())

    def lines(self) -> Iterator[tuple[str, str]]:
        """The same line by line, without the line feeds; each line when its end is there."""
        return _decoded(self, _Lines())

    def finish(self) -> Result:
        """Close its input, wait for its end, and return the result, which has all the output.

        Raises:
            ClosedError, SandboxFailure: as ``run`` does.
        """
        if self._finished is not None:
            return self._finished
        if self._waiter is None:
            raise ClosedError(self._why)
        if self._feed is not None:
            self._feed.close()
        return self._take(self._waiter.finish())


class AsyncStream(_Streamed):
    """``Stream`` for a task: ``async with``, ``async for`` and ``await stream.finish()``.

    ``write`` and ``close_stdin`` are not awaited; other tasks may call them while one iterates.
    """

    def __init__(
        self,
        turn: Callable[[Pieces], AbstractAsyncContextManager[TaskWaiter]],
        feed: Feed | None,
        outcome: Callable[[Result], Result],
    ) -> None:
        """See ``Stream``."""
        super().__init__(feed, outcome)
        self._turn = turn([])
        self._waiter: TaskWaiter | None = None

    async def __aenter__(self) -> Self:
        """Begin, when it is its turn."""
        waiter = await self._turn.__aenter__()
        try:
            await waiter.start()
        except BaseException as error:
            await self._turn.__aexit__(type(error), error, error.__traceback__)
            raise
        self._waiter = waiter
        self._begun()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the run, if it is not over."""
        self._waiter = None
        self._left()
        await self._turn.__aexit__(kind, error, trace)

    def __aiter__(self) -> AsyncIterator[Piece]:
        """See ``Stream.__iter__``."""
        return self

    async def __anext__(self) -> Piece:
        if self._waiter is None:
            raise ClosedError(self._why)
        piece = await self._waiter.piece()
        if piece is None:
            self._take(await self._waiter.finish())
            raise StopAsyncIteration
        return piece

    def text(self) -> AsyncIterator[tuple[str, str]]:
        """See ``Stream.text``."""
        return _AsyncDecoded(self, _Text())

    def lines(self) -> AsyncIterator[tuple[str, str]]:
        """See ``Stream.lines``."""
        return _AsyncDecoded(self, _Lines())

    async def finish(self) -> Result:
        """See ``Stream.finish``."""
        if self._finished is not None:
            return self._finished
        if self._waiter is None:
            raise ClosedError(self._why)
        if self._feed is not None:
            self._feed.close()
        return self._take(await self._waiter.finish())


# --- text ---------------------------------------------------------------------------------


class _Text:
    """Bytes of two streams to text, whatever way a character is cut."""

    def __init__(self) -> None:
        make = codecs.getincrementaldecoder("utf-8")
        self._decoders = {name: make("replace") for name in ("stdout", "stderr")}

    def take(self, name: str, data: bytes) -> list[tuple[str, str]]:
        text = self._decoders[name].decode(data)
        return [(name, text)] if text else []

    def end(self) -> list[tuple[str, str]]:
        """What is left when both are at their end."""
        rest = [(name, each.decode(b"", True)) for name, each in self._decoders.items()]
        return [(name, text) for name, text in rest if text]


class _Lines(_Text):
    """The same, line by line."""

    def __init__(self) -> None:
        super().__init__()
        # Pieces, because a line may be as long as all output.
        self._begun: dict[str, list[str]] = {name: [] for name in self._decoders}

    def take(self, name: str, data: bytes) -> list[tuple[str, str]]:
        return self._cut(super().take(name, data))

    def end(self) -> list[tuple[str, str]]:
        lines = self._cut(super().end())
        rest = [(name, "".join(begun)) for name, begun in self._begun.items()]
        return lines + [(name, text) for name, text in rest if text]

    def _cut(self, pieces: list[tuple[str, str]]) -> list[tuple[str, str]]:
        lines: list[tuple[str, str]] = []
        for name, text in pieces:
            first, *others = text.split("\n")
            self._begun[name].append(first)
            for other in others:
                lines.append((name, "".join(self._begun[name])))
                self._begun[name] = [other]
        return lines


def _decoded(stream: Stream, decoder: _Text) -> Generator[tuple[str, str]]:
    for name, data in stream:
        yield from decoder.take(name, data)
    yield from decoder.end()


class _AsyncDecoded:
    """No asynchronous generator, because those want to be closed."""

    def __init__(self, stream: AsyncStream, decoder: _Text) -> None:
        self._stream = stream
        self._decoder: _Text | None = decoder
        self._texts: list[tuple[str, str]] = []

    def __aiter__(self) -> _AsyncDecoded:
        return self

    async def __anext__(self) -> tuple[str, str]:
        while not self._texts:
            decoder = self._decoder
            if decoder is None:
                raise StopAsyncIteration
            try:
                name, data = await anext(self._stream)
            except StopAsyncIteration:
                self._decoder = None
                self._texts = decoder.end()
            else:
                self._texts = decoder.take(name, data)
        return self._texts.pop(0)


# --- a guest of its own -------------------------------------------------------------------


def stream(
    code: str | bytes,
    policy: Policy | None = None,
    inputs: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
    stdin: Stdin | Pipe | None = None,
    files: Mapping[str, Contents] | None = None,
    name: str = DEFAULT_NAME,
    preload: Sequence[str] = (),
    on_usage: UsageListener | None = None,
    on_artifact: ArtifactListener | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    channels: Mapping[str, ChannelEnd] | None = None,
    merge_stderr: bool = False,
) -> Stream:
    """``run``, whose output is taken piece by piece while it runs; see ``Stream``.

    The arguments are those of ``run``, without ``on_output``; with ``stdin=belljar.PIPE`` what
    the code reads is written to the stream.

    Raises:
        PolicyError: an argument makes no sense; names it.  The ``with`` and the stream raise what
            ``run`` raises.
    """
    policy, order, feed, modules, put, lent = _checked(
        code,
        policy,
        inputs,
        argv,
        stdin,
        files,
        name,
        preload,
        functions,
        channels,
        merge_stderr,
    )
    listener = with_true_streams(policy, None)

    @contextmanager
    def one_run(pieces: Pieces) -> Generator[Waiter]:
        def start() -> tuple[Waiter, Zygote]:
            began = time.monotonic()
            prepared, zygote = borrow(policy, modules)
            try:
                loop = for_one_run(
                    blocking.Loop,
                    prepared,
                    zygote,
                    order,
                    feed,
                    listener,
                    began,
                    lent,
                    on_usage=on_usage,
                    on_artifact=on_artifact,
                    put=put,
                )
                waiter = Waiter(loop, once(loop, zygote), pieces)
                waiter.start()
            except BaseException:
                machine.release(zygote)
                raise
            return waiter, zygote

        try:
            try:
                waiter, zygote = start()
            except SetupFailed as error:
                if not worth_another(error):
                    raise
                waiter, zygote = start()
            try:
                yield waiter
            finally:
                try:
                    waiter.leave()
                finally:
                    machine.release(zygote)
        finally:
            if lent is not None:
                lent.end()

    return Stream(one_run, feed, _as_it_is)


def astream(
    code: str | bytes,
    policy: Policy | None = None,
    inputs: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
    stdin: Stdin | Pipe | None = None,
    files: Mapping[str, Contents] | None = None,
    name: str = DEFAULT_NAME,
    preload: Sequence[str] = (),
    on_usage: UsageListener | None = None,
    on_artifact: ArtifactListener | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    channels: Mapping[str, ChannelEnd] | None = None,
    merge_stderr: bool = False,
) -> AsyncStream:
    """``stream`` for a task of asyncio or trio; see ``AsyncStream``."""
    from .async_run import one_run, with_awaited_streams

    policy, order, feed, modules, put, lent = _checked(
        code,
        policy,
        inputs,
        argv,
        stdin,
        files,
        name,
        preload,
        functions,
        channels,
        merge_stderr,
    )
    listener = with_awaited_streams(policy, None)
    arguments = (order, policy, modules, feed, listener, on_usage, on_artifact, put, lent)
    return AsyncStream(lambda pieces: one_run(*arguments, pieces), feed, _as_it_is)


def _checked(
    code: str | bytes,
    policy: Policy | None,
    inputs: Mapping[str, Any] | None,
    argv: Sequence[str],
    stdin: Stdin | Pipe | None,
    files: Mapping[str, Contents] | None,
    name: str,
    preload: Sequence[str],
    functions: Mapping[str, Callable[..., Any]] | None,
    channels: Mapping[str, ChannelEnd] | None,
    merge_stderr: bool,
) -> tuple[Policy, Run, Feed, tuple[str, ...], Callable[[Work], None] | None, Functions | None]:
    policy = Policy() if policy is None else policy
    if not isinstance(policy, Policy):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise PolicyError("policy", f"expected a Policy, got {type(policy).__name__}")
    order = make_order(code, policy, inputs, argv, files, name, merge_stderr=merge_stderr)
    feed = make_feed(stdin, policy, streamed=True)
    modules = check_preload(preload)
    put = put_by_host(files, policy) if files else None
    lent = lend(functions, policy, order.inputs, channels)
    return policy, order, feed, modules, put, lent


def _as_it_is(result: Result) -> Result:
    return result
