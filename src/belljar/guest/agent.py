"""The agent: takes runs from the host, executes them, answers.

Who I am: the first code of a guest after its confinement.  What I trust: the host, until
the first untrusted instruction; after that nobody can trust me.  What I hold: the link to
the host, and the three standard streams.  How I die: with the process, whenever the guest
or the host ends it.
"""

from __future__ import annotations

import builtins
import gc
import io
import os
import sys

# Loaded when they are first needed, and later there is no file of ours in sight.
from ..wire import keys as _keys
from ..wire import scalars as _scalars
from ..wire.connection import Connection
from ..wire.events import Close, Denied, Finished, Ready, Run
from ..wire.limits import Budget
from . import denials, execute, report, standins

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_READ_BYTES = 1 << 16
_LOADED = (_keys, _scalars)


def prepare() -> None:
    """In the zygote, once: everything that every guest would do alike.

    Streams are made here although the zygote's own descriptors are others, because they
    are bound to numbers, and the numbers are right after the fork.
    """
    import _sitebuiltins

    for name in ("exit", "quit"):
        setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D (i.e. EOF)"))
    builtins.help = _sitebuiltins._Helper()  # pyright: ignore[reportPrivateUsage]
    builtins.__sandboxed__ = True  # type: ignore[attr-defined]
    sys.stdin = sys.__stdin__ = _text(0, "r", "strict")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _text(1, "w", "strict")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _text(2, "w", "backslashreplace")  # type: ignore[misc]
    standins.stand_in_for_mmap()
    after = standins.AfterImport("linecache", report.fill_linecache)
    sys.meta_path.insert(0, after)
    sys.dont_write_bytecode = True
    sys.path_importer_cache.clear()


def _text(fd: int, mode: str, errors: str) -> io.TextIOWrapper:
    raw = io.FileIO(fd, mode, closefd=False)
    buffer = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
    text = io.TextIOWrapper(buffer, "utf-8", errors, line_buffering=mode == "w")
    raw.name = ("<stdin>", "<stdout>", "<stderr>")[fd]
    return text


def settle(settings: Mapping[str, Any]) -> Budget:
    """Before the first run: the environment, the watch on refusals, the bound on values."""
    sys.orig_argv[:] = [sys.executable]
    os.environ.update(settings["env"])
    if settings["explain"]:
        denials.install(
            settings["readable"], settings["writable"], settings["taken"], settings["never"]
        )
    return Budget(memory_bytes=settings["value_bytes"])


def serve(link: int) -> int:
    """Answer one run, or end when the host closes the link; returns the exit status."""
    connection = Connection("guest")
    _write_all(link, connection.send(Ready(stages={})))
    while True:
        data = os.read(link, _READ_BYTES)
        if not data:
            return 0
        for event in connection.receive_data(memoryview(data)):
            if isinstance(event, Close):
                return 0
            if isinstance(event, Run):
                budget = settle(event.settings)
                finished = execute.run(event, budget)
                status = finished.exit_code or (1 if finished.outcome == "raised" else 0)
                entries = denials.take()
                if entries:
                    denied = Denied(event.run_id, entries)
                    _write_all(link, connection.send(denied))
                _write_all(link, _frame(connection, finished))
                return status & 0xFF


def _frame(connection: Connection, finished: Finished) -> bytes:
    """The last word of a run; if there is no memory for all of it, as much as there is."""
    try:
        return connection.send(finished)
    except MemoryError:
        gc.collect()
        return connection.send(report.without_details(finished))


def _write_all(fd: int, data: bytes, write: Callable[[int, Any], int] = os.write) -> None:
    # ``write`` is bound now, because the guest may put anything else in its place.
    view = memoryview(data)
    while view:
        view = view[write(fd, view) :]
