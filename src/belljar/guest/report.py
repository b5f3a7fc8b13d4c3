"""An exception as text: type, message, traceback with source lines.

All of the guest's own ``__str__`` and ``__repr__`` run here, inside, never on the host.
Whatever they do, a description comes out, of bounded size.
"""

from __future__ import annotations

import errno
import io
import os
import resource
import sys

from ..wire.events import ErrorText
from ..wire.limits import TYPE_CHARS
from . import denials, imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..wire.events import Finished

MAX_MESSAGE = 16 * 1024  # a page is read; what is longer is data
MAX_TRACEBACK = 128 * 1024  # a thousand frames of a recursion, which traceback folds anyway
_MAX_NOTES = 16
_MAX_NOTE = 1024
_MOST_CHAINED = (
    1000  # causes and contexts; more are a loop of somebody's, and minutes of formatting
)
_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + "/"
_MOST_SOURCES = 1000  # of runs whose functions may still be met; a server makes millions
_MAPPING = "failed to map segment from shared object"  # what the dynamic loader says

# Source of each run by its file name, made into lines only when a traceback asks.
sources: dict[str, Callable[[], list[str]]] = {}
sandboxed = True  # else nothing was refused, and what is short is not a limit of ours


def remember(name: str, lines: Callable[[], list[str]]) -> None:
    """The source of a run, in place of an earlier one's of that name, or of the oldest."""
    sources.pop(name, None)
    sources[name] = lines
    gone = [name]
    if len(sources) > _MOST_SOURCES:
        gone.append(next(iter(sources)))
        del sources[gone[1]]
    loaded: Any = sys.modules.get("linecache")
    if loaded is None:
        return  # it is filled when it is loaded
    imports.lift()  # the policy may block what an encoding takes
    try:
        for each in gone:
            loaded.cache.pop(each, None)
        _fill(loaded.cache, name, lines)
    except (AttributeError, TypeError):
        return  # the code has put something else there
    finally:
        imports.restrict()


def describe(exception: BaseException, name: str) -> ErrorText:
    """An exception that ended a run."""
    denials.pause()
    imports.lift()
    # Attributes of a guest's own exception class may be properties that raise.
    note = _safely(lambda: denials.explain(exception), "") if sandboxed else ""
    limit = _safely(lambda: limit_hit(exception), None) if sandboxed else None
    # Cut at once: of a message as large as the memory there is room for one, and no copy.
    message = _safely(lambda: _cut(str(exception), MAX_MESSAGE), "<the message could not be read>")
    notes = _safely(lambda: [_cut(str(n), _MAX_NOTE) for n in exception.__notes__[:_MAX_NOTES]], [])
    if limit == "memory":
        # A traceback of an exhausted process asks for memory that is not there.
        text = f"{type(exception).__name__}: {message}\n"
    else:
        text = _safely(lambda: _traceback(exception, name), "")
        text = text or _safely(lambda: _with_modules_of_our_own(exception, name), "")
        if not text:
            lines = [f"{_type_name(exception)}: {message}", *notes]
            text = "".join(f"{line}\n" for line in lines)
    if note:
        notes.append(note)
        text = text.rstrip("\n") + f"\n{note}\n"
    return ErrorText(
        type=_cut(_type_name(exception), TYPE_CHARS - 40),
        message=message,
        traceback=_cut(text, MAX_TRACEBACK),
        notes=tuple(_cut(n, _MAX_NOTE) for n in notes),
        limit=limit,
    )


def memory_was_short() -> bool:
    """Whether the address space was ever used up to a good part, as far as can be told."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return False
    try:
        with open("/proc/self/status", "rb") as file:
            for line in file:
                if line.startswith(b"VmPeak:"):
                    return int(line.split()[1]) * 1024 > limit // 2
    except (OSError, ValueError, IndexError):
        return True
    return True


def without_details(finished: Finished) -> Finished:
    """The same outcome in the least memory."""
    error = finished.error
    if error is not None:
        error = error.replace(message="", traceback="", notes=())
    return finished.replace(value=None, error=error)


def limit_hit(exception: BaseException) -> str | None:
    """Which limit an exception speaks of, if it does."""
    if isinstance(exception, MemoryError):
        # cffi says so of a refused mapping, whatever memory there is.
        return None if "write+execute" in str(exception.args) else "memory"
    if isinstance(exception, (ImportError, OSError)) and _MAPPING in str(exception.args):
        return "memory" if memory_was_short() else None
    if isinstance(exception, RuntimeError) and "can't start new thread" in str(exception.args):
        return "threads"
    if isinstance(exception, OSError):
        if exception.errno == errno.ENOMEM:
            return "memory"
        if exception.errno == errno.EMFILE:
            return "open_files"
        if exception.errno in (errno.ENOSPC, errno.EDQUOT):
            return "work" if os.statvfs(".").f_favail else "work_files"
        if exception.errno == errno.EFBIG:
            return "file"
        if denials.no_process_left(exception):
            return "processes"
    return None


def decode_source(source: bytes) -> str:
    """Source bytes as text for tracebacks, whatever its declared encoding."""
    import tokenize

    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        return source.decode(encoding, "replace")
    except (SyntaxError, LookupError):
        return source.decode("utf-8", "replace")


def _traceback(exception: BaseException, name: str) -> str:
    import linecache
    import traceback

    fill_linecache(linecache)
    seen: set[int] = set()
    todo = [exception]
    while todo:
        one = todo.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        one.__traceback__ = _below_us(one.__traceback__, name)
        if len(seen) > _MOST_CHAINED:
            one.__cause__ = one.__context__ = None
        todo.extend(other for other in (one.__cause__, one.__context__) if other is not None)
    return "".join(traceback.format_exception(exception))


def fill_linecache(linecache: Any) -> None:
    """Give ``linecache`` the source of each run, of which there is no file."""
    for file_name, lines in sources.items():
        if file_name not in linecache.cache:
            _fill(linecache.cache, file_name, lines)


def _fill(cache: dict[str, Any], name: str, lines: Callable[[], list[str]]) -> None:
    made = lines()
    if made and not made[-1].endswith("\n"):
        made[-1] += "\n"  # as linecache itself does; carets are placed by it
    cache[name] = (sum(map(len, made)), None, made, name)


def source_lines(source: str) -> list[str]:
    """Source as lines, ended where the tokenizer ends them; ``splitlines`` knows more ends."""
    return io.StringIO(source, newline=None).readlines()


def _with_modules_of_our_own(exception: BaseException, name: str) -> str:
    """``_traceback`` where the guest's ``traceback``, or what that needs, does not work."""
    theirs = dict(sys.modules)
    for module in theirs:
        if module not in imports.AT_START:
            del sys.modules[module]
    try:
        return _traceback(exception, name)
    finally:
        sys.modules.clear()
        sys.modules.update(theirs)


def _below_us(frames: Any, name: str) -> Any:
    """The traceback from the guest's own first frame on; ours are nobody's business."""
    start = frames
    while start is not None and start.tb_frame.f_code.co_filename != name:
        start = start.tb_next
    first = last = None
    frames = frames if start is None else start
    while frames is not None:
        following = frames.tb_next
        if not frames.tb_frame.f_code.co_filename.startswith(_OURS):
            if last is None:
                first = frames
            else:
                last.tb_next = frames
            last = frames
        frames = following
    if last is not None:
        last.tb_next = None
    return first


def _type_name(exception: BaseException) -> str:
    kind = type(exception)
    name: str = _safely(lambda: str(type.__dict__["__qualname__"].__get__(kind)), "exception")
    module = _safely(lambda: kind.__module__, "builtins")
    if module in ("builtins", "__main__") or type(module) is not str:
        return name
    return f"{module}.{name}"


def _safely(make: Callable[[], Any], otherwise: Any) -> Any:
    try:
        return make()
    except BaseException as exception:
        # A hostile __str__ may raise anything at all, SystemExit and MemoryError included.
        del exception
        return otherwise


def _cut(text: str, most: int) -> str:
    text = str(text)
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]}\n… {len(text) - most} characters left out …\n{text[-half:]}"
