"""Executing a run: source to value, the way ``python script.py`` would.

The last expression's value is the run's value, and ``await`` works at top level; else
nothing differs: ``__main__``, ``sys.argv``, ``SystemExit``, threads that are waited for,
``atexit``.  Where other runs follow, all of it stays for them: the names, the threads, the
event loop; and what belongs to the end of a program waits for that.
"""

from __future__ import annotations

import _ast
import atexit
import builtins
import gc
import mmap
import os
import sys

from ..wire.bulk import Outgoing
from ..wire.errors import NotConvertible
from ..wire.events import Finished, Run
from ..wire.values import encode
from . import artifacts, asked, ending, imports, report, standins
from .shape import chosen_builtins

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, ModuleType
    from typing import Any

    from ..wire.events import Call
    from ..wire.limits import Budget

_ONLY_AST = 0x400  # ast.PyCF_ONLY_AST; the ast module itself costs 3.5 ms
_TOP_LEVEL_AWAIT = 0x2000  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_IS_COROUTINE = 0x80  # inspect.CO_COROUTINE
_FUTURES = 0x1FE0000  # every CO_FUTURE_* of __future__
rules_on_builtins: dict[str, int] = {}  # the policy's, from the settings of the run
before_code: list[Callable[[], None]] = []  # what takes from the code what the agent may still need
after_code: list[Callable[[], None]] = []  # what is to be done when the code has ended
ask_for_stdin: Callable[[int], Any] | None = None  # makes what asks the host, for a run
given: dict[str, Any] = {}  # names that every run finds, from the settings of the first
_main: ModuleType | None = None  # of all runs
_begun = False
_prompted = False  # whether there was a statement of a prompt
_loops: Any = None  # the asyncio.Runner of runs that others follow
_futures = 0  # what interactive runs have imported from __future__
missing: list[str] = []  # what the inputs of the next run need and is not to be had
_RESERVE_BYTES = 1 << 20  # a traceback of a thousand frames, as text


def run(
    order: Run | Call,
    budget: Budget,
    keep: bool = False,
    hold: Callable[[Outgoing], bool] | None = None,
) -> Finished:
    """Carry out one run and say how it ended.  Never raises.

    ``keep``: others may follow, in the same namespace.  ``hold`` has the host copy the large
    parts of the value.
    """
    reserve = _reserve()
    value: object = None
    exit_code: int | None = None
    error = None
    module = _main_module()
    name = order.name if isinstance(order, Run) else ""
    try:
        try:
            try:
                ending.begin()
                _check_missing()
                _feed(order)
                if isinstance(order, Run):
                    _begin(order, module, keep)
                    value = _execute(order, module, keep)
                    if order.want_value and value is not None:
                        artifacts.show_value(value)
                else:
                    value = _call(order, module)
            finally:
                if not keep:
                    _wait_for_threads()
                if after_code:
                    _act_after(order)
                if not keep:
                    atexit._run_exitfuncs()  # pyright: ignore[reportPrivateUsage]
        finally:
            asked.close_asked()
            if keep:
                ending.until_the_next()
            else:
                ending.end()
    except SystemExit as exit_:
        exit_code = _exit_code(exit_)
    except BaseException as exception:
        if reserve is not None:
            reserve.close()
        ending.end()  # once more: what is described here may have come just before it
        error = report.describe(exception, name)
        exception.__traceback__ = None
        if error.limit == "memory" and not keep:
            module.__dict__.clear()
        if error.limit == "memory":
            gc.collect()
    imports.lift()
    _flush()
    if error is not None:
        return Finished(run_id=order.run_id, outcome="raised", error=error)
    if exit_code is not None:
        return Finished(run_id=order.run_id, outcome="exited", exit_code=exit_code)
    encoded, trouble = _encode(value, budget, hold)
    return Finished(order.run_id, "ok", encoded, trouble)


def _reserve() -> mmap.mmap | None:
    """Address space, given back to report on a run that used all of it up.

    Mapped, because a bytearray would touch each of its pages: 0.4 ms of every run.  None where
    an earlier run has left too little.
    """
    try:
        return mmap.mmap(-1, _RESERVE_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:
        return None


def _main_module() -> ModuleType:
    """The namespace of the runs: made by the first one."""
    global _main
    module = _main
    if module is None:
        module = _main = type(sys)("__main__")
        module.__dict__["__builtins__"] = chosen_builtins(builtins, rules_on_builtins)
        module.__dict__.update(given)
        sys.modules["__main__"] = module
    return module


def _begin(order: Run, module: ModuleType, keep: bool) -> None:
    """What comes with a run; the first one brings more."""
    global _begun
    module.__dict__.update(order.inputs)
    if not _begun or order.argv:
        sys.argv[:] = order.argv
    if order.files:
        imports.lift()  # the policy may block what this takes
        try:
            _write_files(order, "wb" if keep else "xb")
        finally:
            imports.restrict()
    if not _begun:
        _begun = True
        for act in before_code:
            act()


def _feed(order: Run | Call) -> None:
    """What it reads from standard input, where that is not what the guest started with."""
    given: bytes | bool | None = order.settings.get("stdin")
    if given is None:
        return
    imports.lift()  # the policy may block what this takes
    try:
        sys.stdin = standins.standard_input(given if isinstance(given, bytes) else b"")
        if given is True and ask_for_stdin is not None:
            sys.stdin = ask_for_stdin(order.run_id)
    finally:
        imports.restrict()


def _call(order: Call, module: ModuleType) -> object:
    """Call something by its name; what it awaits is awaited."""
    first, *rest = order.target.split(".")
    # A dict where the policy leaves some out.
    own: Any = module.__dict__.get("__builtins__", builtins)
    known: Any = own if hasattr(own, "items") else own.__dict__
    found: Any
    if first in module.__dict__:
        found = module.__dict__[first]
    elif first in known:
        found = known[first]
    else:
        raise NameError(f"name {first!r} is not defined", name=first)
    for name in rest:
        found = getattr(found, name)
    value = found(*order.args, **order.kwargs)
    if not hasattr(value, "__await__"):
        return value

    async def main() -> object:
        return await value

    return _run_async(main, True)


def _write_files(order: Run, mode: str) -> None:
    """Put the files that came with the run into the working directory."""
    for name, contents in order.files.items():
        parent = os.path.dirname(name)
        if parent:
            os.makedirs(parent, exist_ok=True)
        with open(name, mode) as file:
            file.write(contents)


def _execute(order: Run, module: ModuleType, keep: bool) -> object:
    _remember_source(order)
    namespace = module.__dict__
    try:
        body, last = _compile(order)
    except MemoryError:
        if report.memory_was_short():
            raise
        # The parser says this of its own stack, whatever memory there is.
        raise RecursionError("the source is nested more deeply than the parser goes") from None
    try:
        return _evaluate(body, last, namespace, keep)
    finally:
        if order.interactive:
            _hand_out_last(namespace)


def _evaluate(
    body: CodeType | None, last: CodeType | None, namespace: dict[str, Any], keep: bool
) -> object:
    if not any(code and code.co_flags & _IS_COROUTINE for code in (body, last)):
        if body:
            exec(body, namespace)
        return eval(last, namespace) if last else None

    async def main() -> object:
        value: Any = None
        for code in (body, last):
            if code:
                value = eval(code, namespace)
                if code.co_flags & _IS_COROUTINE:
                    value = await value
        return value if last else None

    return _run_async(main, keep)


def _run_async(main: Callable[[], Any], keep: bool) -> object:
    """Run a coroutine function: in an event loop of its own, or in the one that stays."""
    global _loops
    with ending.Undisturbed():
        # A package whose import was interrupted is broken for good: its parts are there, and
        # its next import does not bind their names.
        import asyncio

    if not keep:
        return asyncio.run(main())
    if _loops is None:
        _loops = asyncio.Runner()
    return _loops.run(main())


def _compile(order: Run) -> tuple[CodeType | None, CodeType | None]:
    """The program as a body and a last expression, either of which may be missing.

    A syntax tree of Python objects takes some 300 bytes for each byte of plain statements.
    A program whose tree does not fit is executed without one, and then it has no value.
    """
    if order.interactive:
        return _compile_interactive(order), None
    if order.want_value:
        try:
            return _split(order)
        except MemoryError:
            if not report.memory_was_short():
                raise
    return compile(order.code, order.name, "exec", _TOP_LEVEL_AWAIT, dont_inherit=True), None


def _compile_interactive(order: Run) -> CodeType:
    """One statement, as at Python's own prompt: ``sys.displayhook`` gets what it evaluates to.

    The value is shown here and never crosses, so one that could not is shown as well.  Imports
    from ``__future__`` hold for the runs that follow.
    """
    global _futures
    source = order.code if isinstance(order.code, str) else report.decode_source(order.code)
    flags = _TOP_LEVEL_AWAIT | _futures
    # A compound statement ends with a line of its own.
    code: CodeType = compile(f"{source}\n", order.name, "single", flags, dont_inherit=True)
    _futures |= code.co_flags & _FUTURES
    return code


def _hand_out_last(namespace: dict[str, Any]) -> None:
    """Where the code has built-ins of its own, ``_`` is to be found there as well."""
    theirs = namespace.get("__builtins__")
    if isinstance(theirs, dict) and "_" in vars(builtins):
        theirs["_"] = vars(builtins)["_"]


def _split(order: Run) -> tuple[CodeType | None, CodeType | None]:
    flags = _TOP_LEVEL_AWAIT
    tree: Any = compile(order.code, order.name, "exec", flags | _ONLY_AST, dont_inherit=True)
    last = None
    if tree.body and isinstance(tree.body[-1], _ast.Expr):
        expression = _ast.Expression(body=tree.body.pop().value)
        last = compile(expression, order.name, "eval", flags, dont_inherit=True)
    body = compile(tree, order.name, "exec", flags, dont_inherit=True) if tree.body else None
    return body, last


def _remember_source(order: Run) -> None:
    """Give tracebacks their source lines, without any file."""
    source = order.code

    def lines() -> list[str]:
        text = source if isinstance(source, str) else report.decode_source(source)
        return report.source_lines(text)

    report.remember(order.name, lines)


def _act_after(order: Run | Call) -> None:
    """What a library wants done at the end of each run.

    Not after a statement at a prompt, nor after the runs in between that its user knows nothing
    of: there the next statement goes on with the figure.  Not for code that was interrupted or
    has no memory left.
    """
    global _prompted
    if isinstance(order, Run):
        _prompted = _prompted or order.interactive
    empty = isinstance(order, Run) and not order.code
    raised = sys.exc_info()[0]
    if _prompted or empty or (raised and issubclass(raised, (KeyboardInterrupt, MemoryError))):
        return
    for act in after_code:
        act()


def _wait_for_threads() -> None:
    """As the interpreter does at its end."""
    # What is there under the name may be a stand-in, or what the code put there.
    shutdown: Any = getattr(sys.modules.get("threading"), "_shutdown", None)
    if shutdown is not None:
        shutdown()


def _exit_code(exit_: SystemExit) -> int:
    code = exit_.code
    if code is None:
        return 0
    if isinstance(code, int):
        number = int.__int__(code)
        return number & 0xFF if -(2**63) <= number < 2**63 else 0xFF
    try:
        print(code, file=sys.stderr)
    except BaseException:
        return 1
    return 1


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException as exception:
            # The guest replaced or closed it, or the host reads no more: its own business.
            del exception


def flush() -> None:
    """Write out what the streams hold: in a copy of this process it would be written twice."""
    _flush()


def loops() -> Any:
    """The ``asyncio.Runner`` of runs that others follow, once one has had need of it."""
    return _loops


def forget_loops() -> None:
    """Have the next run make a new one."""
    global _loops
    _loops = None


def _check_missing() -> None:
    """Whether the values that came with the order could be made."""
    if not missing:
        return
    names = {*missing}
    missing.clear()
    if "memory" in names:
        raise MemoryError("there is no memory for the inputs")
    name = names.pop()
    raise ModuleNotFoundError(f"an input needs {name}, which cannot be imported here", name=name)


def _encode(
    value: object, budget: Budget, hold: Callable[[Outgoing], bool] | None
) -> tuple[Any, str | None]:
    try:
        outgoing = Outgoing(budget.memory_bytes) if hold is not None else None
        encoded = encode(value, budget, outgoing)
        if outgoing is not None and outgoing.pieces and hold is not None and not hold(outgoing):
            encoded = encode(value, budget)
        return encoded, None
    except NotConvertible as error:
        size = f"{budget.memory_bytes} bytes of memory"
        return None, f"{error}, the limit value_bytes" if size in error.reason else str(error)
    except MemoryError:
        return None, "the value does not fit into the memory that is left"
    except BaseException as exception:
        return None, f"the value could not be read: {type(exception).__name__}"
