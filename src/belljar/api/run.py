"""``run``: one call, one fresh guest, one result."""

from __future__ import annotations

import os
import time

from ..drivers import blocking
from ..errors import SHORTAGES, PolicyError, SetupFailed
from ..policy import Policy
from ..wire.errors import NotConvertible
from ..wire.events import Run
from ..wire.limits import ARGUMENTS, MESSAGE, NAME_CHARS, Budget
from . import machine
from .values import measure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, TypeVar

    from ..artifact import Artifact
    from ..broker.channels import ChannelEnd
    from ..broker.functions import Functions
    from ..drivers.desk import Desk
    from ..drivers.interrupts import Interrupts
    from ..drivers.sources import Pipe, Stdin
    from ..drivers.zygotes import GuestEnds, Work, Zygote
    from ..plan.steps import Plan
    from ..result import Result, UsageNow
    from .files import Contents

    T = TypeVar("T")

MAX_SOURCE_BYTES = 16 * 2**20  # above any program a person or a model writes in one piece
DEFAULT_NAME = "<code>"
_ROOM_FOR_THE_REST = 2**20  # environment and settings, which a policy bounds already


def run(
    code: str | bytes,
    policy: Policy | None = None,
    inputs: Mapping[str, Any] | None = None,
    argv: Sequence[str] = (),
    stdin: Stdin | None = None,
    files: Mapping[str, Contents] | None = None,
    name: str = DEFAULT_NAME,
    on_output: Callable[[str, bytes], object] | None = None,
    preload: Sequence[str] = (),
    on_usage: Callable[[UsageNow], object] | None = None,
    on_artifact: Callable[[Artifact], object] | None = None,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    channels: Mapping[str, ChannelEnd] | None = None,
    merge_stderr: bool = False,
) -> Result:
    """Execute Python code in a fresh sandboxed interpreter and return how it ended.

    Args:
        code: the program, at most 16 MiB; ``bytes`` may declare an encoding.  The value of
            its last expression is ``Result.value`` (None where the program is so large
            that its syntax tree does not fit into ``memory_bytes``); ``await`` works at top
            level.
        policy: what it may do; ``Policy()``, which grants nothing, if left out.
        inputs: names for its namespace, plain data (see ``belljar.wire.values``).
        argv: ``sys.argv[1:]``.
        stdin: what it reads from standard input: text or bytes, a file object, or an iterable
            of pieces, which are read as there is room for them; nothing if left out.
        files: contents by path relative to ``/work``, written before the code starts; a
            ``pathlib.Path`` is a file of the host's that is copied.
        name: the file name in its tracebacks and ``sys.argv[0]``.
        on_output: called with ``("stdout" | "stderr", bytes)`` as output arrives, on this
            thread; an exception from it ends the guest and is raised here.
        preload: modules that are imported once, before any guest, and shared by all guests of
            this policy that are asked for with the same ones: what they do at import is done
            with the policy's files but without its limits, so name only what you trust.
        on_usage: called with a ``UsageNow`` while the code runs, at most ten times a second, on
            this thread; an exception from it ends the guest and is raised here.
        on_artifact: called with each ``Artifact`` as it arrives: a figure, a table, whatever the
            code shows; otherwise as ``on_output``.  ``Result.artifacts`` has them all.
        functions: what the code can call of yours, by the name that it has inside; plain ones
            or ``HostFunction`` with bounds.  Called on this thread unless that says otherwise.
        channels: ends of channels that are the code's from now on, by the name that each has
            inside (see ``belljar.channel``); closed when the run is over.
        merge_stderr: write standard error to standard output, in the order of the writes.

    Returns:
        A ``Result``, whatever the code does.  ``Result.unwrap`` raises for bad outcomes.

    Raises:
        PolicyError: an argument makes no sense; names it.
        UnsupportedError: this machine cannot enforce the policy; nothing ran.
        SandboxFailure: belljar's own machinery failed; ``retryable`` says whether to try again.
    """
    policy = Policy() if policy is None else policy
    if not isinstance(policy, Policy):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise PolicyError("policy", f"expected a Policy, got {type(policy).__name__}")
    order = make_order(code, policy, inputs, argv, files, name, merge_stderr=merge_stderr)
    feed = make_feed(stdin, policy)
    on_output = with_true_streams(policy, on_output)
    modules = check_preload(preload)
    put = put_by_host(files, policy) if files else None
    lent = lend(functions, policy, order.inputs, channels)
    arguments = (order, policy, modules, feed, on_output, on_usage, on_artifact, put, lent)
    if lent is None:
        return _run(*arguments)
    try:
        return _run(*arguments)
    finally:
        lent.end()


def _run(
    order: Run,
    policy: Policy,
    modules: tuple[str, ...],
    feed: blocking.Feed,
    on_output: Callable[[str, bytes], object] | None,
    on_usage: Callable[[UsageNow], object] | None,
    on_artifact: Callable[[Artifact], object] | None,
    put: Callable[[Work], None] | None,
    lent: Functions | None,
) -> Result:
    try:
        return _with_shared(
            order, policy, modules, feed, on_output, on_usage, on_artifact, put, lent
        )
    except SetupFailed as error:
        if not worth_another(error):
            raise
    return _with_shared(order, policy, modules, feed, on_output, on_usage, on_artifact, put, lent)


def lend(
    functions: Mapping[str, Callable[..., Any]] | None,
    policy: Policy,
    inputs: Mapping[str, Any],
    channels: Mapping[str, ChannelEnd] | None = None,
) -> Functions | None:
    """Host functions and ends of channels for one sandbox; raises ``PolicyError``."""
    if not functions and not channels:
        return None
    from ..broker.functions import Functions

    made = Functions(functions or {}, policy)
    if channels:
        from ..broker.given import Channels

        made.channels = Channels(channels, frozenset((*made, *inputs)))
    for name in made:
        if name in inputs:
            raise PolicyError(f"functions[{name!r}]", "there is an input of this name")
    return made


def another_machine() -> bool:
    """Whether this is another machine than assumed; one that cannot even be looked at is not."""
    try:
        return machine.reconsider()
    except (OSError, MemoryError):
        return False


def worth_another(error: SetupFailed) -> bool:
    """Whether a launch that failed is tried once more.

    The launch was the probe.  If this machine turns out to be another than assumed, there is
    another plan for it, or a full account of what is missing.
    """
    # A lack of namespaces may be one for ever, so that it is worth a look.
    if error.retryable and error.stage != "unshare":
        return False
    return error.stage != "preload" and another_machine()


def check_preload(preload: Sequence[str]) -> tuple[str, ...]:
    """Names of modules, in order; raises ``PolicyError`` naming a bad one."""
    if isinstance(preload, (str, bytes)):
        raise PolicyError("preload", f"expected a list of names; write preload=[{preload!r}]")
    for index, name in enumerate(preload):
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise PolicyError(f"preload[{index}]", f"{name!r} is not the name of a module")
    return tuple(dict.fromkeys(preload))


def _with_shared(
    order: Run,
    policy: Policy,
    preload: tuple[str, ...],
    feed: blocking.Feed,
    on_output: Callable[[str, bytes], object] | None,
    on_usage: Callable[[UsageNow], object] | None,
    on_artifact: Callable[[Artifact], object] | None,
    put: Callable[[Work], None] | None,
    functions: Functions | None,
) -> Result:
    began = time.monotonic()
    prepared, zygote = borrow(policy, preload)
    try:
        return execute(
            prepared,
            zygote,
            order,
            feed,
            on_output,
            began,
            on_usage=on_usage,
            on_artifact=on_artifact,
            put=put,
            functions=functions,
        )
    finally:
        machine.release(zygote)


def borrow(policy: Policy, preload: tuple[str, ...]) -> tuple[machine.Prepared, Zygote]:
    """The plan for a policy and a zygote for it, which is the caller's until its release."""
    try:
        prepared = machine.prepare(policy, preload)
        return prepared, machine.shared(prepared)
    except (OSError, MemoryError) as error:
        from ..drivers.trouble import typed

        failure = typed(error, handed_over=False)
        if failure is error:
            raise
        raise failure from error


def run_own(
    own: machine.Own,
    policy: Policy,
    order: Run,
    feed: blocking.Feed,
    on_output: Callable[[str, bytes], object] | None,
    interrupts: Interrupts | None = None,
) -> Result:
    """``run`` for the command: on a zygote of its own that is starting already."""
    try:
        return execute(
            own.prepared, own.zygote, order, feed, on_output, own.began, interrupts, own=True
        )
    except SetupFailed as error:
        if (error.retryable and error.stage != "unshare") or not another_machine():
            raise
    with machine.Own(policy) as again:
        return execute(
            again.prepared, again.zygote, order, feed, on_output, again.began, interrupts, own=True
        )


def execute(
    prepared: machine.Prepared,
    zygote: Zygote,
    order: Run,
    feed: blocking.Feed,
    on_output: Callable[[str, bytes], object] | None,
    began: float,
    interrupts: Interrupts | None = None,
    *,
    on_usage: Callable[[UsageNow], object] | None = None,
    on_artifact: Callable[[Artifact], object] | None = None,
    own: bool = False,
    put: Callable[[Work], None] | None = None,
    functions: Functions | None = None,
) -> Result:
    """Ask a zygote, ready or still starting, for a guest and drive it to its end.

    ``began`` is when the zygote was asked for, on the monotonic clock; ``own`` says that it is
    the command's, whose process has one thread and no secrets.
    """
    loop = for_one_run(
        blocking.Loop,
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
        own=own,
    )
    return blocking.Waiter(loop, blocking.once(loop, zygote, interrupts)).finish()


def for_one_run(
    kind: type[blocking.AnyLoop],
    prepared: machine.Prepared,
    zygote: Zygote,
    order: Run,
    feed: blocking.Feed,
    on_output: Callable[[str, bytes], object] | None,
    began: float,
    functions: Functions | None,
    *,
    on_usage: Callable[[UsageNow], object] | None = None,
    on_artifact: Callable[[Artifact], object] | None = None,
    put: Callable[[Work], None] | None = None,
    own: bool = False,
    make: Callable[[Functions], Any] | None = None,
) -> blocking.AnyLoop:
    """Ask a zygote for a guest; the loop that drives it, see ``blocking.begin``.

    ``make``: where host functions are called; for a thread if left out.
    """
    plan = prepared.plan
    if put is not None and not plan.isolated:
        from .files import no_work

        raise no_work()
    requested = time.monotonic()
    ends = request_guest(plan, prepared.steps, zygote, feed, own=own)
    budget = Budget(memory_bytes=plan.limits.value_bytes)
    order = order.replace(settings={**prepared.agent_settings, **order.settings})
    desk = None
    if functions is not None:
        order = order.replace(settings={**order.settings, **functions.settings})
        desk = make_desk(functions, ends, make or _desk)
    return blocking.begin(
        kind,
        zygote,
        ends,
        order,
        plan.limits,
        budget,
        feed,
        on_output,
        began,
        requested,
        desk,
        on_usage=on_usage,
        on_artifact=on_artifact,
        put=put,
    )


def _desk(functions: Functions) -> Desk:
    from ..drivers.desk import Desk

    return Desk(functions)


def put_by_host(files: Mapping[str, Contents], policy: Policy) -> Callable[[Work], None] | None:
    """What writes those files that the run does not bring along itself."""
    from .files import by_host, put

    puts = by_host(files, policy.limits)
    return (lambda work: put(work, puts, policy.limits)) if puts else None


def make_desk(functions: Functions, ends: GuestEnds, kind: Callable[[Functions], T]) -> T:
    """Where the calls of a guest are carried out; where there is none, there is no guest."""
    try:
        return kind(functions)
    except OSError as error:
        ends.kill()
        ends.close()
        text = error.strerror or str(error)
        raise SetupFailed("descriptors", text, retryable=error.errno in SHORTAGES) from error


def request_guest(
    plan: Plan, steps: list[Any], zygote: Zygote, feed: blocking.Feed, *, own: bool = False
) -> GuestEnds:
    """Ask a zygote for a guest under a plan; ``steps`` are the plan's, as plain data."""
    return zygote.request(
        steps,
        machine.filter_program(plan.filter),
        plan.filter.own_pid,
        stdin=feed.open,
        several=plan.limits.processes > 0,
        group=machine.make_group(plan, zygote, fork=own),
    )


def make_order(
    code: object,
    policy: Policy,
    inputs: Mapping[str, Any] | None,
    argv: Sequence[str],
    files: Mapping[str, Contents] | None,
    name: str,
    *,
    want_value: bool = True,
    merge_stderr: bool = False,
) -> Run:
    """The run as the guest will be told it; raises ``PolicyError`` naming a bad argument."""
    if isinstance(code, str):
        code = str.__str__(code)  # what a subclass of the caller's makes of it is its own affair
    elif isinstance(code, bytes):
        code = bytes(memoryview(code))
    else:
        raise PolicyError("code", f"expected str or bytes, got {type(code).__name__}")
    if len(code) > MAX_SOURCE_BYTES:
        raise PolicyError("code", f"{len(code)} characters; at most {MAX_SOURCE_BYTES}")
    if not isinstance(name, str) or not name or "\0" in name:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise PolicyError("name", "expected a file name without NUL")
    if len(name) > NAME_CHARS:
        raise PolicyError("name", f"longer than {NAME_CHARS} characters")
    if isinstance(argv, (str, bytes)):
        raise PolicyError("argv", "expected a sequence of str, got one string")
    arguments = [*policy.argv, *argv]
    if len(arguments) >= ARGUMENTS:
        raise PolicyError("argv", f"{len(arguments)} arguments; at most {ARGUMENTS - 1}")
    for index, argument in enumerate(arguments):
        if not isinstance(argument, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise PolicyError(f"argv[{index}]", f"expected str, got {type(argument).__name__}")
    order = Run(
        run_id=1,
        code=code,
        name=name,
        inputs=_check_inputs({**policy.names, **(inputs or {})}),
        argv=(name, *arguments),
        want_value=want_value,
        files=_check_files(files or {}),
        settings={"merge_stderr": True} if merge_stderr else {},
    )
    _check_size(order)
    return order


def _check_size(order: Run) -> None:
    """Everything has to fit into one message; if it does not, the largest part is to blame."""
    small = len(order.code) < MESSAGE.frame_bytes // 8 and len(order.argv) < 2
    if small and not order.inputs and not order.files:
        return  # a character takes four bytes at most; encoding it to see is 40 us of a live run
    parts = {"code": order.code, "inputs": order.inputs, "argv": order.argv, "files": order.files}
    sizes: dict[str, int] = {}
    for key, part in parts.items():
        try:
            sizes[key] = measure(part, MESSAGE)
        except NotConvertible as error:
            raise PolicyError(key, error.reason) from None
    most = MESSAGE.frame_bytes - _ROOM_FOR_THE_REST
    if sum(sizes.values()) > most:
        key = max(sizes, key=lambda name: sizes[name])
        raise PolicyError(
            key, f"code, inputs, argv and files take {sum(sizes.values())} bytes; at most {most}"
        )


def make_feed(
    stdin: Stdin | Pipe | None, policy: Policy, *, streamed: bool = False
) -> blocking.Feed:
    """Standard input: what the caller gives, else the host's own where that is granted.

    ``streamed``: the caller may give it while the code runs.
    """
    if stdin is None:
        return blocking.Feed(fd=0 if "stdin" in policy.streams else None)
    if isinstance(stdin, str):
        return blocking.Feed(stdin.encode("utf-8", "surrogateescape"))
    if isinstance(stdin, bytes):
        return blocking.Feed(stdin)
    from ..drivers.sources import feed_of

    return feed_of(stdin, streamed=streamed)


def true_streams(policy: Policy) -> dict[str, int]:
    """Which of this process's own streams the policy grants for writing, by name."""
    return {name: n for name, n in (("stdout", 1), ("stderr", 2)) if name in policy.streams}


def with_true_streams(
    policy: Policy, on_output: Callable[[str, bytes], object] | None
) -> Callable[[str, bytes], object] | None:
    """``on_output``, and before it this process's own streams where the policy grants them.

    The guest never holds the descriptor: the bytes are written here, within its output limit.
    """
    numbers = true_streams(policy)
    if not numbers:
        return on_output

    def deliver(stream: str, data: bytes) -> None:
        number = numbers.get(stream)
        if number is not None:
            view = memoryview(data)
            while view:
                view = view[os.write(number, view) :]
        if on_output is not None:
            on_output(stream, data)

    return deliver


def _check_inputs(inputs: dict[str, Any]) -> dict[str, Any]:
    for name, value in inputs.items():
        if not isinstance(name, str) or not name.isidentifier():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise PolicyError(f"inputs.{name}", "not a Python name")
        if name.startswith("__"):
            raise PolicyError(
                f"inputs.{name}", "names that start with two underscores belong to Python"
            )
        try:
            measure(value, Budget())
        except NotConvertible as error:
            raise PolicyError(f"inputs.{name}", str(error)) from None
    return inputs


def _check_files(files: Mapping[str, Contents]) -> dict[str, bytes]:
    if not files:
        return {}
    from .files import by_message

    return by_message(files)
