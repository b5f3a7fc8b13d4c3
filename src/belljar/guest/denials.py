"""What the guest tried and was not allowed, and the grant that would allow it.

An audit hook sees the attempts; the kernel refuses them, whether seen here or not.  The
list is for people who write policies: it is a claim, and it can be incomplete.
"""

from __future__ import annotations

import builtins
import os
import posix
import sys

from ..wire.events import Denial
from .refusals import SandboxError
from .shape import left_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MOST = 64  # what one frame takes; a program that probes a thousand paths has one cause
_MAX_TARGET = 500
NO_GRANT = "no grant of this release"

_entries: dict[tuple[str, str], str] = {}
_readable: tuple[str, ...] = ()
_writable: tuple[str, ...] = ()
_taken: tuple[str, ...] = ()
_never: tuple[str, ...] = ()
_last = ""
_paused = False
_rules_on_builtins: dict[str, int] = {}
_processes = 0
_unix_sockets = False


def install(
    readable: list[str],
    writable: list[str],
    taken: list[str],
    never: list[str],
    rules_on_builtins: dict[str, int],
    processes: int,
    unix_sockets: bool,
) -> None:
    """Start watching.

    ``readable`` and ``writable`` are the trees that the policy leaves open; ``taken`` those
    where a grant can show nothing inside, ``never`` those that cannot be granted at all.
    ``rules_on_builtins`` say which built-in names the code does not have; ``processes`` how many
    of its own it may start, ``unix_sockets`` whether it may name sockets.
    """
    global _readable, _writable, _taken, _never, _rules_on_builtins, _processes, _unix_sockets
    _unix_sockets = unix_sockets
    _rules_on_builtins = rules_on_builtins
    _processes = processes
    _readable, _writable = tuple(readable), tuple(writable)
    _taken, _never = tuple(taken), tuple(never)
    handlers = _HANDLERS

    def hook(event: str, args: tuple[Any, ...]) -> None:
        handler = handlers.get(event)
        if handler is not None and not _paused:
            handler(event, args)

    sys.addaudithook(hook)


def pause() -> None:
    """Stop watching while the agent itself works."""
    global _paused
    _paused = True


def take() -> tuple[Denial, ...]:
    """The denials so far, and forget them; watching goes on."""
    global _paused, _last
    taken = tuple(Denial(action, target, grant) for (action, target), grant in _entries.items())
    _entries.clear()
    _last = ""
    _paused = False
    return taken


def would_note(action: str, target: str) -> bool:
    """Whether opening this path is an attempt that would be listed."""
    if not _readable or _paused:
        return False
    return not (_within(target, _writable) or (action == "read" and _within(target, _readable)))


def no_process_left(error: OSError) -> bool:
    """Whether an error says that there may be no further process."""
    kinds = BlockingIOError if _processes else (PermissionError, BlockingIOError)
    return _last == "fork" and isinstance(error, kinds)


def explain(exception: BaseException) -> str:
    """A note for an exception that a refusal caused, or nothing."""
    if isinstance(exception, SandboxError):
        return ""  # it has its note already
    if isinstance(exception, ModuleNotFoundError):
        return _explain_import(exception)
    if _rules_on_builtins and isinstance(exception, (NameError, ImportError)):
        return _explain_name(exception)
    if not isinstance(exception, OSError):
        return ""
    if not _processes and _wants_a_semaphore(exception):
        note("fork", "multiprocessing", "allow(processes=1)")
    if not _entries:
        return ""
    for (action, target), grant in reversed(_entries.items()):
        name = exception.filename
        if action == _last if name is None else target == _absolute(name):
            remedy = grant if grant == NO_GRANT else f"{grant} would allow it"
            return f"belljar refused {f'{action} {target}'.strip()}: {remedy}"
    return ""


def _wants_a_semaphore(error: OSError) -> bool:
    """Whether ``multiprocessing`` could not make a lock: its first need, before any process."""
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None:
        frames = frames.tb_next
    if frames is None or error.filename is not None:
        return False
    return frames.tb_frame.f_code.co_filename.endswith("/multiprocessing/synchronize.py")


def _explain_import(exception: ModuleNotFoundError) -> str:
    """A package that is not granted and one that is not installed look the same inside."""
    name: object = exception.name  # of any type, if the code raised it
    package = name.partition(".")[0] if isinstance(name, str) else ""  # pyright: ignore[reportUnnecessaryIsInstance]
    if not package or package in sys.stdlib_module_names or package in sys.modules:
        return ""
    grant = f'allow(packages=["{package}"])'
    note("import", package, grant)
    return f"belljar grants no package {package}; if it is installed, {grant} would allow it"


def _explain_name(exception: NameError | ImportError) -> str:
    """A built-in name that is left out."""
    name: object = exception.name or str(exception).removesuffix(" not found")
    if not isinstance(name, str) or not hasattr(builtins, name):  # pyright: ignore[reportUnnecessaryIsInstance]
        return ""
    if not left_out(_rules_on_builtins, name):
        return ""
    grant = f'allow(builtins=["{name}"])'
    note("name", name, grant)
    return f"belljar refused {name}: the policy blocks it; {grant} would allow it"


def note(action: str, target: str, grant: str) -> None:
    """Remember a refusal: what was tried, on what, the grant that would allow it."""
    global _last
    _last = action
    key = (action, target[:_MAX_TARGET])
    if len(_entries) < MOST:
        _entries.setdefault(key, grant[:_MAX_TARGET])


def _absolute(path: object) -> str:
    if isinstance(path, int):
        return ""
    try:
        return os.path.abspath(os.fsdecode(path))  # type: ignore[arg-type]
    except (TypeError, ValueError, OSError):
        return ""


def _open(event: str, args: tuple[Any, ...]) -> None:
    path, _, flags = args
    writes = isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    _path("write" if writes else "read", path)


def _read(event: str, args: tuple[Any, ...]) -> None:
    _path("read", args[0] if args and args[0] is not None else ".")


def _write(event: str, args: tuple[Any, ...]) -> None:
    _path("write", args[0])


def _write_second(event: str, args: tuple[Any, ...]) -> None:
    _path("write", args[1])


def _write_both(event: str, args: tuple[Any, ...]) -> None:
    _path("write", args[0])
    _path("write", args[1])


def _path(action: str, path: object) -> None:
    target = _absolute(path)
    if not target:
        return
    if _within(target, _writable) or (action == "read" and _within(target, _readable)):
        return
    note(action, target, _grant(action, target))


def _within(target: str, trees: tuple[str, ...]) -> bool:
    return any(target == tree or target.startswith(tree + "/") for tree in trees)


def _grant(action: str, target: str) -> str:
    """What would open a path: a grant, one under another name inside, or none."""

    # The root itself cannot be granted: what lies beneath it can.
    if target == "/" or _within(target, _never):
        return NO_GRANT
    if _within(target, _taken):
        return f'allow({action}={{"{target}": "/host{target}"}})'
    return f'allow({action}=["{target}"])'


def _fork(event: str, args: tuple[Any, ...]) -> None:
    global _last
    if _processes:
        _last = "fork"
    else:
        note("fork", "", "allow(processes=1)")


def _execute(event: str, args: tuple[Any, ...]) -> None:
    """A program is started: one that is not there is one that is not granted."""
    global _last
    program: Any = args[0] if args else ""
    if event in ("os.system", "pty.spawn"):
        program = "/bin/sh" if event == "os.system" else program
    if isinstance(program, bytes):
        program = os.fsdecode(program)
    target = str(program)
    if _processes and _found(target):
        _last = "fork"
        return
    if target == sys.executable:
        note("fork", target, "allow(processes=1)")
        return
    more = "" if _processes else ", processes=1"
    note("fork", target, f'allow(run=["{target}"]{more})')


def _found(program: str) -> bool:
    """Whether there is such a file inside, where execvp(3) looks."""
    return any(
        posix.access(path, posix.X_OK)
        for path in ([program] if "/" in program else [f"/usr/bin/{program}"])
    )


def _socket(event: str, args: tuple[Any, ...]) -> None:
    if len(args) > 1 and args[1] == 1:
        return  # AF_UNIX: a socket pair of one's own is allowed, and asyncio needs it
    note("network", "socket", NO_GRANT)


def _connect(event: str, args: tuple[Any, ...]) -> None:
    address = args[1] if event != "socket.getaddrinfo" else args[:2]
    if _unix_sockets and isinstance(address, (str, bytes)):
        return
    note("network", str(address), NO_GRANT)


_HANDLERS: dict[str, Callable[[str, tuple[Any, ...]], None]] = {
    "open": _open,
    "os.listdir": _read,
    "os.scandir": _read,
    "os.mkdir": _write,
    "os.remove": _write,
    "os.rmdir": _write,
    "os.rename": _write_both,
    "os.symlink": _write_second,
    "os.link": _write_second,
    "os.truncate": _write,
    "os.chmod": _write,
    "os.chown": _write,
    "os.utime": _write,
    "shutil.rmtree": _write,
    "os.fork": _fork,
    "os.forkpty": _fork,
    "os.exec": _execute,
    "os.posix_spawn": _execute,
    "os.spawn": _execute,
    "os.system": _execute,
    "subprocess.Popen": _execute,
    "pty.spawn": _execute,
    "socket.__new__": _socket,
    "socket.connect": _connect,
    "socket.bind": _connect,
    "socket.sendto": _connect,
    "socket.getaddrinfo": _connect,
}
