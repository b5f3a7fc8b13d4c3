"""``Sandbox``: one live interpreter, whose names persist from run to run."""

from __future__ import annotations

import _thread
import os
import sys
import time
import warnings

from .._record import Record
from ..errors import ClosedError, PolicyError, SandboxFailure, SetupFailed
from ..policy import Policy
from ..policy.limits import LIMITS
from ..wire.errors import NotConvertible, TooLarge
from ..wire.events import Call, Run
from ..wire.limits import MESSAGE, NAME_CHARS, Budget
from ..wire.values import decode, encode
from . import machine
from .run import (
    another_machine,
    borrow,
    check_preload,
    make_feed,
    make_order,
    request_guest,
    with_true_streams,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Any

    from ..drivers.live import Live
    from ..drivers.zygotes import Zygote
    from ..engine.life import Order
    from ..policy import Limits
    from ..result import Result, UsageNow

    Listener = Callable[[str, bytes], object]

# Limits that the host holds run by run.  The others are settled before the first one.
RUN_LIMITS = (
    "wall_s",
    "cpu_s",
    "grace_s",
    "pause_s",
    "cpu_cores",
    "output_bytes",
    "output_bytes_per_s",
    "value_bytes",
)
HISTORY_BYTES = 16 * 2**20  # of code and values: a long session of a person, or of a model
_STEP_BYTES = 512  # what a step takes by itself
_ROOM_FOR_THE_REST = 2**16  # of a call: its name and settings
_NOTHING = Policy()


class Step(Record):
    """Something that was done with a sandbox, for ``history`` and ``replay``.

    A run has ``code``, ``inputs``, ``files`` and ``stdin``; a call ``target``, ``args`` and
    ``kwargs``; a ``set`` is a run without code.
    """

    code: str | bytes = ""
    inputs: Mapping[str, Any] = {}
    files: Mapping[str, bytes] = {}
    stdin: bytes | None = None
    name: str = ""
    target: str = ""
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}


class Sandbox:
    """One live sandboxed interpreter: names, imports, open files and threads stay.

        with belljar.Sandbox() as sandbox:
            sandbox.run("x = 20")
            sandbox.run("x + 1").value      # 21

    Between two runs the interpreter is stopped: it uses no processor time, and its threads
    and tasks go on with the next run.  A limit that is hit, a crash and ``os._exit`` end the
    interpreter, and the next run is a ``ClosedError``; ``reset`` gives it a fresh one.  With
    ``grace_s`` code that is told to end, and ends, leaves the interpreter as it is; so do
    exceptions and ``sys.exit()``.

    Safe under threads: one run at a time, others wait for their turn.  ``interrupt`` and
    ``close`` do not wait.  In a fork of this process it cannot be used.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        argv: Sequence[str] = (),
        files: Mapping[str, str | bytes] | None = None,
        preload: Sequence[str] = (),
        on_output: Listener | None = None,
        idle_s: float | None = None,
        lifetime_s: float | None = None,
    ) -> None:
        """Start an interpreter and wait until it is ready.

        Args:
            policy: what it may do; ``Policy()``, which grants nothing, if left out.  Its
                ``wall_s``, ``cpu_s``, ``output_bytes`` and the like hold for each run, all
                else for the whole life.
            inputs: names for its namespace, plain data.
            argv: ``sys.argv[1:]``.
            files: contents by path relative to ``/work``.
            preload: modules imported once and shared, as with ``run``.
            on_output: called with ``("stdout" | "stderr", bytes)`` during every run.
            idle_s: closed when it was not used for so many seconds, 0.001 or more.
            lifetime_s: closed so many seconds after it was made, a run under way included.

        Raises:
            PolicyError: an argument makes no sense; names it.
            UnsupportedError: this machine cannot enforce the policy; nothing ran.
            GuestError: ``inputs`` and ``files`` do not fit into its limits.
            SandboxFailure: belljar's own machinery failed.
        """
        policy = _NOTHING if policy is None else policy
        if not isinstance(policy, Policy):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise PolicyError("policy", f"expected a Policy, got {type(policy).__name__}")
        self._closing = True  # until there is something to close
        self._policy = policy
        self._first = make_order("", policy, inputs, argv, files, "<start>")
        self._preload = check_preload(preload)
        self._on_output = with_true_streams(policy, on_output)
        self._pid = os.getpid()
        self._lock = _Owned()
        self._idle_s = _check_seconds("idle_s", idle_s)
        self._lifetime_s = _check_seconds("lifetime_s", lifetime_s)
        self._live: Live | None = None
        self._zygote: Zygote | None = None
        self._limits: Limits = policy.limits
        self._told: list[Any] = []
        self._fed = False  # whether something may be left of what the last run was given to read
        self._ended = ""
        self._start()
        self._closing = False
        self._watch()

    # --- starting and ending ------------------------------------------------------------

    def _start(self) -> None:
        """Give it a guest."""
        self._steps: list[Step] = []
        self._steps_bytes = 0
        self._runs = 0  # for the names in tracebacks
        self._forgotten = False
        try:
            self._start_once()
        except SetupFailed as error:
            # As with ``run``: the launch was the probe.
            if (error.retryable and error.stage != "unshare") or error.stage == "preload":
                raise
            if not another_machine():
                raise
            self._start_once()
        self._made_at = self._used_at = time.monotonic()

    def _start_once(self) -> None:
        from ..drivers.live import Live

        began = time.monotonic()
        prepared, zygote = borrow(self._policy, self._preload)
        try:
            plan, steps, settings = prepared.for_many_runs()
            feed = make_feed(None, self._policy)
            requested = time.monotonic()
            ends = request_guest(plan, steps, zygote, feed)
            self._limits = plan.limits
            self._live = Live(
                zygote,
                ends,
                self._first.replace(settings=settings),
                plan.limits,
                Budget(memory_bytes=plan.limits.value_bytes),
                feed,
                began,
                requested,
            )
        except BaseException:
            machine.release(zygote)
            raise
        self._zygote = zygote
        self._told, self._fed = [*settings["time"], settings["value_bytes"]], False
        live = self._live
        started, self._ended = live.started, ""
        if not live.waiting:
            self._drop()
            said = started.error.message if started.error is not None else started.status
            raise SetupFailed("start", f"the interpreter did not become ready: {said}")
        if started.status != "ok":
            self._drop()
            started.unwrap()  # the caller's own: files that do not fit, for one

    def _watch(self) -> None:
        if self._idle_s is not None or self._lifetime_s is not None:
            from ..drivers.lifetimes import watch

            watch(self)

    def _drop(self) -> None:
        """Let go of the guest."""
        live, self._live = self._live, None
        zygote, self._zygote = self._zygote, None
        if live is not None:
            live.close(mine=os.getpid() == self._pid)
        if zygote is not None and os.getpid() == self._pid:
            machine.release(zygote)

    def due(self, now: float) -> float | None:
        """When it is to be closed for its age or idleness, on the monotonic clock; None: never."""
        if self._closing:
            return None
        ends: list[float] = []
        if self._lifetime_s is not None:
            ends.append(self._made_at + self._lifetime_s)
        if self._idle_s is not None:
            ends.append((now if self._lock.locked() else self._used_at) + self._idle_s)
        return min(ends, default=None)

    def expire(self) -> None:
        """For whoever keeps the time: close it because that is over.  Waits for nobody."""
        now = time.monotonic()
        due = self.due(now)
        if due is not None and due <= now:  # it may have been used meanwhile
            self._close("its time was over", wait=False)

    def close(self) -> None:
        """End the interpreter at once, and a run that is under way; twice is as good as once.

        That run raises ``ClosedError`` where it was asked for.  Called by what that run calls,
        such as ``on_output``, the end comes when that returns.  Functions registered with
        ``atexit`` inside are not called.
        """
        self._close("it was closed")

    def _close(self, why: str, *, wait: bool = True) -> None:
        if self._closing:
            return
        self._closing, self._ended = True, why
        if os.getpid() != self._pid:
            self._drop()
            return
        live = self._live
        if self._lock.mine or not wait:
            self._close_late()
            if live is not None:
                live.interrupts.end()
            return
        while not self._lock.acquire(timeout=0.05):
            if live is not None:
                live.interrupts.end()
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
        """End the interpreter and start a fresh one under the same policy.

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

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_closing", True):
            return
        try:
            if os.getpid() == self._pid and not sys.is_finalizing():
                warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        finally:
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closing else self._ended or "open"
        return f"<belljar.Sandbox {state}>"

    def __reduce__(self) -> Any:
        raise TypeError("a Sandbox is a live process and cannot be copied or pickled")

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called, or its time is over."""
        return self._closing

    @property
    def policy(self) -> Policy:
        """What it may do."""
        return self._policy

    # --- running ------------------------------------------------------------------------

    def run(
        self,
        code: str | bytes,
        *,
        inputs: Mapping[str, Any] | None = None,
        files: Mapping[str, str | bytes] | None = None,
        stdin: str | bytes | None = None,
        name: str | None = None,
        on_output: Listener | None = None,
        on_usage: Callable[[UsageNow], object] | None = None,
        **limits: float,
    ) -> Result:
        """Execute code in the interpreter and return how it ended.

        Args:
            code: the program, at most 16 MiB.  The value of its last expression is
                ``Result.value``; ``await`` works at top level.
            inputs: names for its namespace, which stay there.
            files: contents by path relative to ``/work``; those that exist are replaced.
            stdin: what it reads from standard input; nothing if left out.
            name: the file name in tracebacks; ``<run 1>``, ``<run 2>``, ... if left out.
            on_output: as with ``Sandbox``, for this run alone and in its place.
            on_usage: called with a ``UsageNow`` while the code runs.
            limits: bounds of this run below the policy's, such as ``wall_s=0.5``; one of
                ``RUN_LIMITS``.

        Returns:
            A ``Result``, whatever the code does.  Its usage is that of this run; its peak of
            memory is that of the interpreter's life so far.

        Raises:
            PolicyError: an argument makes no sense; names it.
            ClosedError: the sandbox is closed, or its interpreter has ended.
            SandboxFailure: belljar's own machinery failed.
        """
        lower = self._lower(limits)
        given = None if stdin is None else bytes(make_feed(stdin, _NOTHING).pending)
        if given is not None and "stdin" in self._policy.streams:
            raise PolicyError("stdin", "this sandbox reads the host's own standard input")
        order = make_order(code, _NOTHING, inputs, (), files, name or "<run>").replace(argv=())
        step = Step(
            code=order.code,
            inputs=order.inputs,
            files=order.files,
            stdin=given,
            name=name or "",
        )
        return self._do(order, step, lower, given, on_output, on_usage)

    def call(self, target: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function of the interpreter's by its name, and return what it returns.

        Args:
            target: a name, or a dotted one: ``"model.predict"``, ``"len"``.
            args, kwargs: plain data.  A coroutine that comes back is awaited inside.

        Raises:
            GuestError: the call ended badly; ``result`` has all of it.
            PolicyError, ClosedError, SandboxFailure: as with ``run``.
        """
        _check_name("target", target, dotted=True)
        _check_size(args, kwargs)
        for index, value in enumerate(args):
            _check_value(f"args[{index}]", value)
        for name, value in kwargs.items():
            _check_value(f"kwargs.{name}", value)
        order = Call(run_id=1, target=target, args=tuple(args), kwargs=kwargs)
        step = Step(target=target, args=tuple(args), kwargs=kwargs)
        return self._do(order, step, self._limits).unwrap()

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
        _check_name("name", name, dotted=True)
        order = make_order(name, _NOTHING, None, (), None, "<get>").replace(argv=())
        return self._do(order, None, self._limits).unwrap()

    def interrupt(self) -> bool:
        """Raise ``KeyboardInterrupt`` in the code that runs; from any thread.

        The sandbox stays as the code leaves it.  Code that catches the exception goes on until
        its limits end it.

        Returns:
            Whether there was a run to be interrupted, that was not asked before.
        """
        live = self._live
        if live is None or self._closing or os.getpid() != self._pid:
            return False
        return live.interrupts.ask()

    @property
    def history(self) -> tuple[Step, ...]:
        """What was done since the start or the last ``reset``, in order, bad outcomes too.

        ``get`` leaves no trace.

        Raises:
            PolicyError: there was more than 16 MiB of code and values, of which nothing is kept.
        """
        if self._forgotten:
            raise PolicyError("history", f"longer than {HISTORY_BYTES} bytes; it was not kept")
        return tuple(self._steps)

    def replay(self, steps: Iterable[Step]) -> list[Result]:
        """Do again what another sandbox's ``history`` tells; the results in order.

        Raises:
            PolicyError, ClosedError, SandboxFailure: as with ``run``.
        """
        results: list[Result] = []
        for step in steps:
            if step.target:
                order = Call(run_id=1, target=step.target, args=step.args, kwargs=step.kwargs)
                results.append(self._do(order, step, self._limits))
            else:
                results.append(
                    self.run(
                        step.code,
                        inputs=step.inputs,
                        files=step.files,
                        stdin=step.stdin,
                        name=step.name or None,
                    )
                )
        return results

    def _lower(self, limits: Mapping[str, float]) -> Limits:
        """The limits of one run."""
        for name in limits:
            if name not in RUN_LIMITS and name in LIMITS:
                raise PolicyError(
                    f"limits.{name}",
                    "settled when the sandbox was made; a run can lower " + ", ".join(RUN_LIMITS),
                )
        if not limits:
            return self._limits
        lower: Any = limits
        found = self._policy.limit(**lower).limits
        return self._limits.replace(**{name: found[name] for name in limits})

    def _do(
        self,
        order: Order,
        step: Step | None,
        limits: Limits,
        stdin: bytes | None = None,
        on_output: Listener | None = None,
        on_usage: Callable[[UsageNow], object] | None = None,
    ) -> Result:
        """One turn, when it is its turn."""
        self._check_open()
        try:
            with self._lock:
                return self._turn(order, step, limits, stdin, on_output, on_usage)
        finally:
            self._close_late()

    def _turn(
        self,
        order: Order,
        step: Step | None,
        limits: Limits,
        stdin: bytes | None,
        on_output: Listener | None,
        on_usage: Callable[[UsageNow], object] | None,
    ) -> Result:
        live = self._ready()
        told = [limits.wall_s, limits.cpu_s, limits.grace_s, limits.value_bytes]
        settings: dict[str, Any] = {}
        if stdin is None and self._fed:
            stdin = b""
        if told != self._told or stdin is not None:
            settings = {"time": told[:3], "value_bytes": told[3]}
            if stdin is not None:
                settings["stdin"] = stdin
        self._told, self._fed = told, bool(stdin)
        if step is not None and isinstance(order, Run) and not step.name:
            self._runs += 1
            order = order.replace(settings=settings, name=f"<run {self._runs}>")
        elif settings:
            order = order.replace(settings=settings)
        if step is not None:
            self._remember(step)
        budget = Budget(memory_bytes=limits.value_bytes)
        listener = self._on_output if on_output is None else on_output
        try:
            result = live.turn(order, limits, budget, listener, on_usage)
        except SandboxFailure as failure:
            self._ended = str(failure)
            raise
        finally:
            self._used_at = time.monotonic()
            if not live.waiting:
                self._ended = self._ended or "it ended while it ran"
                self._drop()
        if self._closing:
            raise ClosedError(f"{self._ended} while it ran")
        if not live.waiting:
            self._ended = _why(result)
        return result

    def _check_open(self) -> None:
        if self._closing:
            raise ClosedError(self._ended)
        if os.getpid() != self._pid:
            raise ClosedError("it belongs to the process that this one was forked from")

    def _ready(self) -> Live:
        self._check_open()
        live = self._live
        if live is not None:
            live.look()
            if live.waiting:
                return live
            self._ended = "it ended between two runs; somebody killed it, or its zygote"
            self._drop()
        raise ClosedError(f"{self._ended}; reset() starts a fresh interpreter")

    def _remember(self, step: Step) -> None:
        if self._forgotten:
            return
        # Copies, because the caller may change lists and dicts afterwards.
        size = _STEP_BYTES + len(step.code) + len(step.stdin or b"")
        copies: dict[str, Any] = {}
        for name in ("inputs", "files", "args", "kwargs"):
            part = getattr(step, name)
            if part:
                made: Any = encode(part, MESSAGE)
                size += len(made)
                copies[name] = decode(made, MESSAGE)
        self._steps_bytes += size
        if self._steps_bytes > HISTORY_BYTES:
            self._forgotten = True
            self._steps.clear()
        else:
            self._steps.append(step.replace(**copies))


def _why(result: Result) -> str:
    if result.limit is not None:
        return f"it ended at its limit {result.limit.name}"
    if result.status == "exited":
        return f"it ended with exit code {result.exit_code}"
    if result.signal is not None:
        return f"it ended by signal {result.signal}"
    if result.status == "crashed":
        return "it broke the protocol"
    return "it was ended after its last run, which it did not leave in time"


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


def _check_seconds(key: str, seconds: float | None) -> float | None:
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise PolicyError(key, f"expected seconds, got {type(seconds).__name__}")
    if not 0.001 <= seconds <= 2**31:
        raise PolicyError(key, f"{seconds!r} is not between 0.001 and 2**31 seconds")
    return float(seconds)


def _check_name(key: str, name: str, *, dotted: bool) -> None:
    parts = name.split(".") if isinstance(name, str) and dotted else [name]  # pyright: ignore[reportUnnecessaryIsInstance]
    if not all(isinstance(part, str) and part.isidentifier() for part in parts):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise PolicyError(key, f"{name!r} is not a Python name")
    if len(name) > NAME_CHARS:
        raise PolicyError(key, f"longer than {NAME_CHARS} characters")


def _check_size(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    most = MESSAGE.replace(frame_bytes=MESSAGE.frame_bytes - _ROOM_FOR_THE_REST)
    try:
        encode([list(args), dict(kwargs)], most)
    except TooLarge as error:
        raise PolicyError("args", str(error)) from None
    except NotConvertible:
        return  # of which more is said one by one


def _check_value(key: str, value: object) -> None:
    try:
        encode(value, Budget())
    except NotConvertible as error:
        raise PolicyError(key, str(error)) from None
