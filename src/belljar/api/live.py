"""What a live interpreter is, however it is waited for: arguments, asks, history, ends.

What: ``Interpreter``, the base of all, and ``Sandboxed``, of those under a policy; a kind adds
nothing but the waiting and how its process is made.  Because: what may be asked, what is
remembered and why an interpreter ended must not differ between them.  Then: each method of
theirs makes an ``Ask`` here and hands it to its own kind of guest.
"""

from __future__ import annotations

import os
import sys
import time
import warnings

from .._record import Record
from ..drivers.blocking import broken_off
from ..drivers.live import Listeners
from ..errors import ClosedError, PolicyError, SetupFailed
from ..policy import Policy
from ..policy.limits import LIMITS
from ..wire.errors import NotConvertible, TooLarge
from ..wire.events import Call, Run
from ..wire.limits import MESSAGE, NAME_CHARS, Budget
from . import machine
from .files import WorkFiles, by_host, no_work, put
from .run import check_preload, lend, make_desk, make_feed, make_order, request_guest
from .values import copy, measure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeVar

    from ..broker.channels import ChannelEnd
    from ..broker.functions import Functions
    from ..drivers.blocking import Feed
    from ..drivers.desk import Desk
    from ..drivers.live import ArtifactListener, Listener, LiveGuest, UsageListener
    from ..drivers.sources import Kept, Pipe, Stdin
    from ..drivers.zygotes import Work, Zygote
    from ..engine.life import Order
    from ..plan.steps import Plan
    from ..policy import Limits
    from ..result import Result
    from .files import Contents, Put

    Guest = TypeVar("Guest", bound=LiveGuest)

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
    "artifact_bytes",
)
HISTORY_BYTES = 16 * 2**20  # of code and values: a long session of a person, or of a model
_STEP_BYTES = 512  # what a step takes by itself
_ROOM_FOR_THE_REST = 2**16  # of a call: its name and settings
_NOTHING = Policy()


class Step(Record):
    """Something that was done with an interpreter, for ``history`` and ``replay``.

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


class Ask(Record):
    """What a run, a call or a ``get`` asks of an interpreter.

    ``step`` is what ``history`` says of it, None for nothing; ``stdin`` None for an empty one;
    ``puts`` are files that the host itself writes before.
    """

    order: Order
    step: Step | None
    limits: Limits
    listeners: Listeners
    stdin: bytes | None = None
    puts: tuple[Put, ...] = ()
    source: Feed | None = None  # in place of ``stdin``: what it reads while it runs


if TYPE_CHECKING:
    from typing import Generic as _Of
else:

    class _Of:  # ``typing`` is not imported on the way to a run
        def __class_getitem__(cls, item: object) -> type:
            return cls


class Interpreter(WorkFiles, _Of["Guest"]):
    """One live interpreter, but for how its process is made and how it is waited for."""

    # In the words of the kind, for messages.
    _no_policy = ""  # why a run takes no policy
    _who_ended_it = "it"

    def __init__(
        self,
        first: Run,
        limits: Limits,
        listeners: Listeners,
        idle_s: float | None,
        lifetime_s: float | None,
        *,
        own_stdin: bool = False,
    ) -> None:
        """Nothing is started yet; ``own_stdin``: it reads the host's own."""
        self._closing = True  # until there is something to close
        self._first = first
        self._limits = limits
        self._listeners = listeners
        self._own_stdin = own_stdin
        self._pid = os.getpid()
        self._idle_s = check_seconds("idle_s", idle_s)
        self._lifetime_s = check_seconds("lifetime_s", lifetime_s)
        self._live: Guest | None = None
        self._functions: Functions | None = None
        self._told: list[Any] = []
        self._source: Kept | None = None  # what the run reads, if that is not known beforehand
        self._fed = False  # whether something may be left of what the last run was given to read
        self._ended = ""  # why there is no guest any more; empty while there is one
        self._closed_why = ""
        self._made_at = self._used_at = 0.0
        self._forget_steps()

    # --- what a kind says -----------------------------------------------------------------

    def _let_go(self) -> None:
        """Let go of what belongs to the guest that was dropped; in the process that made it."""
        raise NotImplementedError

    def _lower(self, limits: Mapping[str, float]) -> Limits:
        """The limits of one run; raises ``PolicyError``."""
        raise NotImplementedError

    @property
    def _busy(self) -> bool:
        """Whether a run is under way."""
        raise NotImplementedError

    def _shut(self, why: str) -> object:
        """Have it closed, from any thread.  Waits for nobody."""
        raise NotImplementedError

    def _look_if_free(self) -> None:
        """``_look``, unless a run is under way."""
        raise NotImplementedError

    # --- starting and ending ------------------------------------------------------------

    def _forget_steps(self) -> None:
        self._steps: list[Step] = []
        self._steps_bytes = 0
        self._runs = 0  # for the names in tracebacks
        self._forgotten = False

    def _take(self, live: Guest, settings: Mapping[str, Any]) -> None:
        """A guest that was told these settings, and is to be started next."""
        self._live = live
        self._told, self._fed = _told(self._limits), False
        self._ended = "it did not start"

    def _started(self, live: Guest, result: Result) -> None:
        """Its start is over."""
        if not live.waiting:
            said = result.error.message if result.error is not None else result.status
            raise SetupFailed("start", f"the interpreter did not become ready: {said}")
        if result.status != "ok":
            self._drop()
            result.unwrap()  # the caller's own: files that do not fit, for one
        self._ended = ""
        self._made_at = self._used_at = time.monotonic()

    def _watch(self) -> None:
        if self._idle_s is not None or self._lifetime_s is not None:
            from ..drivers.lifetimes import watch

            watch(self)

    def _drop(self) -> None:
        """Let go of the guest."""
        live, self._live = self._live, None
        if self._functions is not None:
            self._functions.end()
        mine = os.getpid() == self._pid
        if live is not None:
            live.close(mine=mine)
        if mine:
            self._let_go()

    def due(self, now: float) -> float | None:
        """When it is to be closed for its age or idleness, on the monotonic clock; None: never."""
        if self._closing:
            return None
        ends: list[float] = []
        if self._lifetime_s is not None:
            ends.append(self._made_at + self._lifetime_s)
        if self._idle_s is not None:
            ends.append((now if self._busy else self._used_at) + self._idle_s)
        return min(ends, default=None)

    def expire(self) -> None:
        """For whoever keeps the time: close it because that is over.  Waits for nobody."""
        now = time.monotonic()
        due = self.due(now)
        if due is not None and due <= now:  # it may have been used meanwhile
            self._shut("its time was over")

    def __del__(self) -> None:
        if getattr(self, "_closing", True):
            return
        try:
            if os.getpid() == self._pid and not sys.is_finalizing():
                warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        finally:
            self._closing = True  # and nobody else knows of it any more
            self._drop()

    def __repr__(self) -> str:
        state = "closed" if self._closed_why else self._ended or "open"
        return f"<belljar.{type(self).__name__} {state}>"

    def __reduce__(self) -> Any:
        kind = type(self).__name__
        raise TypeError(f"a {kind} is a live process and cannot be copied or pickled")

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called, or its time is over."""
        return self._closing

    @property
    def ended(self) -> str:
        """Why there is no interpreter any more, or not yet; empty while there is one."""
        if not self._closing and self._live is not None and os.getpid() == self._pid:
            self._look_if_free()
        return self._closed_why or self._ended

    def interrupt(self) -> bool:
        """Raise ``KeyboardInterrupt`` in the code that runs; from any thread.

        The interpreter stays as the code leaves it.  Code that catches the exception goes on
        until its limits end it.

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

    @property
    def policy(self) -> Policy | None:
        """What it may do; None where it may do whatever this process may."""
        raise NotImplementedError

    @property
    def functions(self) -> Functions:
        """The host functions that it has: ``revoke``, ``revoked``, ``abilities``."""
        if self._functions is None:
            from ..broker.functions import Functions

            self._functions = Functions({}, self.policy or _NOTHING)
        return self._functions

    # --- files --------------------------------------------------------------------------

    def _work(self) -> Work:
        live = self._live
        work = None if live is None else live.work
        if work is None:
            if live is not None and live.waiting:
                raise no_work()
            self._ready()
            raise ClosedError(self._ended)
        self._used_at = time.monotonic()
        return work

    def _most(self) -> int:
        return self._limits.file_bytes

    def _put(self, files: tuple[Put, ...]) -> None:
        """What the host itself writes, when it is its turn."""
        put(self._work(), files, self._limits)

    # --- asking -------------------------------------------------------------------------

    def _ask_run(
        self,
        code: str | bytes,
        policy: object = None,
        inputs: Mapping[str, Any] | None = None,
        files: Mapping[str, Contents] | None = None,
        stdin: Stdin | Pipe | None = None,
        name: str | None = None,
        on_output: Listener | None = None,
        on_usage: UsageListener | None = None,
        on_artifact: ArtifactListener | None = None,
        interactive: bool = False,
        limits: Mapping[str, float] | None = None,
        *,
        streamed: bool = False,
    ) -> Ask:
        if policy is not None:
            raise PolicyError("policy", self._no_policy)
        own = Listeners(on_output, on_usage, on_artifact)
        check_shapes(inputs, (), files, own)
        lower = self._lower(limits) if limits else self._limits
        if stdin is not None and self._own_stdin:
            raise PolicyError("stdin", "this sandbox reads the host's own standard input")
        feed = None if stdin is None else make_feed(stdin, _NOTHING, streamed=streamed)
        given = source = None
        if feed is not None and isinstance(stdin, (str, bytes)):
            given = bytes(feed.pending)
        elif feed is not None:
            source = feed
        order = make_order(code, _NOTHING, inputs, (), files, name or "<run>")
        order = order.replace(argv=(), interactive=interactive)
        step = Step(
            code=order.code,
            inputs=order.inputs,
            files=order.files,
            stdin=given,
            name=name or "",
        )
        puts = by_host(files or {}, self._limits)
        return Ask(order, step, lower, own.over(self._listeners), given, puts, source)

    def _ask_call(self, target: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Ask:
        _check_name("target", target, dotted=True)
        _check_size(args, kwargs)
        for index, value in enumerate(args):
            _check_value(f"args[{index}]", value)
        for name, value in kwargs.items():
            _check_value(f"kwargs.{name}", value)
        order = Call(run_id=1, target=target, args=args, kwargs=kwargs)
        step = Step(target=target, args=args, kwargs=kwargs)
        return Ask(order, step, self._limits, self._listeners)

    def _ask_get(self, name: str) -> Ask:
        _check_name("name", name, dotted=True)
        order = make_order(name, _NOTHING, None, (), None, "<get>").replace(argv=())
        return Ask(order, None, self._limits, self._listeners)

    def _ask_again(self, step: Step) -> Ask:
        if step.target:
            return self._ask_call(step.target, step.args, step.kwargs)
        name = step.name or None
        return self._ask_run(step.code, None, step.inputs, step.files, step.stdin, name)

    def _check_open(self) -> None:
        if self._closing:
            raise ClosedError(self._closed_why or self._ended)
        if os.getpid() != self._pid:
            raise ClosedError("it belongs to the process that this one was forked from")
        if self._functions is not None and self._functions.are_answering:
            raise ClosedError("it is busy with the run that called this function")

    def _look(self) -> Guest | None:
        """The guest, if it is still there."""
        live = self._live
        if live is None:
            return None
        live.look()
        if live.waiting:
            return live
        self._ended = f"it ended between two runs; somebody killed {self._who_ended_it}"
        self._drop()
        return None

    def _ready(self) -> Guest:
        self._check_open()
        live = self._look()
        if live is None:
            raise ClosedError(f"{self._ended}; reset() starts a fresh interpreter")
        return live

    def _settle(self, ask: Ask) -> tuple[Order, Limits, Budget, Listeners, Feed | None]:
        """What the guest is told, now that it is its turn."""
        order, limits, step, stdin = ask.order, ask.limits, ask.step, ask.stdin
        told = _told(limits)
        settings: dict[str, Any] = {}
        if stdin is None and ask.source is None and self._fed:
            stdin = b""
        if told != self._told or stdin is not None or ask.source is not None:
            settings = {"time": told[:3], "value_bytes": told[3], "artifact_bytes": told[4]}
            if stdin is not None:
                settings["stdin"] = stdin
        source = self._source = None
        if ask.source is not None:
            from ..drivers.sources import Kept

            settings["stdin"] = True  # it is to ask for it
            source = self._source = Kept(ask.source, HISTORY_BYTES)
        # Now, because a run that is broken off leaves it told.
        self._told, self._fed = told, bool(stdin) or source is not None
        if step is not None and isinstance(order, Run) and not step.name:
            self._runs += 1
            order = order.replace(settings=settings, name=f"<run {self._runs}>")
        elif settings:
            order = order.replace(settings=settings)
        if step is not None:
            self._remember(step)
        budget = Budget(memory_bytes=limits.value_bytes)
        return order, limits, budget, ask.listeners, source

    def _over(self, live: Guest) -> None:
        """A turn is over, however it ended."""
        self._used_at = time.monotonic()
        self._remember_source()
        if not live.waiting:
            self._ended = self._ended or "it ended while it ran"
            self._drop()

    def _outcome(self, result: Result) -> Result:
        """What a turn came to, before it is over."""
        if self._closing:
            raise ClosedError(f"{self._closed_why} while it ran")
        if self._live is not None and not self._live.waiting:
            self._ended = _end_of(result)
        return result

    def _remember_source(self) -> None:
        """What the last step has read is known now."""
        source, self._source = self._source, None
        if source is None or self._forgotten or not self._steps:
            return
        given = source.given
        self._steps_bytes += HISTORY_BYTES if given is None else len(given)
        if given is None or self._steps_bytes > HISTORY_BYTES:
            self._forgotten = True
            self._steps.clear()
        else:
            self._steps[-1] = self._steps[-1].replace(stdin=bytes(given))

    def _remember(self, step: Step) -> None:
        if self._forgotten:
            return
        # Copies, because the caller may change lists and dicts afterwards.
        size = _STEP_BYTES + len(step.code) + len(step.stdin or b"")
        copies: dict[str, Any] = {}
        for name in ("inputs", "files", "args", "kwargs"):
            part = getattr(step, name)
            if part:
                made = copy(part, MESSAGE, HISTORY_BYTES)
                if made is None:
                    self._forgotten = True
                    self._steps.clear()
                    return
                copies[name], more = made
                size += more
        self._steps_bytes += size
        if self._steps_bytes > HISTORY_BYTES:
            self._forgotten = True
            self._steps.clear()
        else:
            self._steps.append(step.replace(**copies))


class Sandboxed(Interpreter["Guest"]):
    """A live interpreter under a policy, made by a zygote."""

    _no_policy = "settled when the sandbox was made"
    _who_ended_it = "it, or its zygote"

    def __init__(
        self,
        policy: Policy | None,
        inputs: Mapping[str, Any] | None,
        argv: Sequence[str],
        files: Mapping[str, Contents] | None,
        preload: Sequence[str],
        listeners: Listeners,
        idle_s: float | None,
        lifetime_s: float | None,
        functions: Mapping[str, Callable[..., Any]] | None,
        channels: Mapping[str, ChannelEnd] | None,
        merge_stderr: bool,
    ) -> None:
        self._closing = True
        policy = _NOTHING if policy is None else policy
        if not isinstance(policy, Policy):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise PolicyError("policy", f"expected a Policy, got {type(policy).__name__}")
        check_shapes(inputs, argv, files, listeners)
        self._policy = policy
        self._preload = check_preload(preload)
        self._first_put = by_host(files or {}, policy.limits)
        self._zygote: Zygote | None = None
        self._asked_for: tuple[Plan, list[Any]] | None = None  # of it
        super().__init__(
            make_order("", policy, inputs, argv, files, "<start>", merge_stderr=merge_stderr),
            policy.limits,
            listeners.replace(on_output=self._with_true_streams(listeners.on_output)),
            idle_s,
            lifetime_s,
            own_stdin="stdin" in policy.streams,
        )
        self._functions = lend(functions, policy, self._first.inputs, channels)

    def _with_true_streams(self, on_output: Listener | None) -> Listener | None:
        """``on_output``, and before it the streams of this process that the policy grants."""
        raise NotImplementedError

    @property
    def policy(self) -> Policy:
        """What it may do."""
        return self._policy

    def _connect(
        self,
        prepared: machine.Prepared,
        zygote: Zygote,
        kind: Callable[..., Guest],
        desk: Callable[[Functions], Desk],
        began: float,
    ) -> Guest:
        """Ask a zygote, borrowed for this, for a guest; it is to be started next."""
        self._zygote = zygote  # so that it is released with the guest
        plan, steps, settings = prepared.for_many_runs()
        feed = make_feed(None, self._policy)
        requested = time.monotonic()
        self._asked_for = plan, steps
        ends = request_guest(plan, steps, zygote, feed)
        desks: list[Desk] = []
        if self._functions is not None and self._functions.settings:
            settings = {**settings, **self._functions.settings}
            desks.append(make_desk(self._functions, ends, desk))
        order = self._first.replace(settings={**settings, **self._first.settings})
        budget = Budget(memory_bytes=plan.limits.value_bytes)
        try:
            live = kind(zygote, ends, order, plan.limits, budget, feed, began, requested, *desks)
        except BaseException as error:
            failure = broken_off(error, None, zygote, ends)
            ends.close()
            for each in desks:
                each.close()
            if failure is error:
                raise
            raise failure from error
        self._limits = plan.limits
        self._take(live, settings)
        return live

    def _let_go(self) -> None:
        zygote, self._zygote = self._zygote, None
        if zygote is not None:
            machine.release(zygote)

    def _lower(self, limits: Mapping[str, float]) -> Limits:
        for name in limits:
            if name not in RUN_LIMITS and name in LIMITS:
                raise PolicyError(
                    f"limits.{name}",
                    "settled when the sandbox was made; a run can lower " + ", ".join(RUN_LIMITS),
                )
        lower: Any = limits
        found = self._policy.limit(**lower).limits
        return self._limits.replace(**{name: found[name] for name in limits})


def _end_of(result: Result) -> str:
    if result.limit is not None:
        return f"it ended at its limit {result.limit.name}"
    if result.status == "exited":
        return f"it ended with exit code {result.exit_code}"
    if result.signal is not None:
        return f"it ended by signal {result.signal}"
    if result.status == "crashed":
        return "it broke the protocol"
    return "it was ended after its last run, which it did not leave in time"


def _told(limits: Limits) -> list[Any]:
    """What the guest is told of the limits that a run may lower."""
    own = limits
    return [own.wall_s, own.cpu_s, own.grace_s, own.value_bytes, own.artifact_bytes]


def check_shapes(inputs: object, argv: object, files: object, listeners: Listeners) -> None:
    """What would else fail later, and with an error that does not say which argument it was."""
    for key, value in (("inputs", inputs), ("files", files)):
        if value is not None and not (hasattr(value, "items") and hasattr(value, "keys")):
            raise PolicyError(key, f"expected a mapping, got {type(value).__name__}")
    if not hasattr(argv, "__iter__"):
        raise PolicyError("argv", f"expected a sequence of str, got {type(argv).__name__}")
    for key, value in (
        ("on_output", listeners.on_output),
        ("on_usage", listeners.on_usage),
        ("on_artifact", listeners.on_artifact),
    ):
        if value is not None and not callable(value):
            raise PolicyError(key, f"expected a function, got {type(value).__name__}")


def check_seconds(key: str, seconds: float | None) -> float | None:
    """Seconds of an argument; raises ``PolicyError``."""
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
        measure([list(args), dict(kwargs)], most)
    except TooLarge as error:
        raise PolicyError("args", str(error)) from None
    except NotConvertible:
        return  # of which more is said one by one


def _check_value(key: str, value: object) -> None:
    try:
        measure(value, Budget())
    except NotConvertible as error:
        raise PolicyError(key, str(error)) from None
