"""The agent: takes runs and calls from the host, executes them, answers.

Who I am: the first code of a guest after its confinement.  What I trust: the host, until
the first untrusted instruction; after that nobody can trust me.  What I hold: the link to
the host, and the three standard streams.  How I die: with the process, whenever the guest
or the host ends it.
"""

from __future__ import annotations

import builtins
import gc
import os
import sys

from ..wire import late
from ..wire.events import Call, Close, Denied, Finished, Fork, Ready, Run
from ..wire.limits import Budget
from . import (
    artifacts,
    asked,
    bytecode,
    channels,
    denials,
    ending,
    execute,
    figures,
    functions,
    imports,
    notebook,
    report,
    shape,
    standins,
    usage,
)
from .link import Link
from .refusals import public_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from ..wire.bulk import Outgoing as Parts
_PATH = "/usr/bin:/bin"


branches: Any = None  # the module that makes them, where guests may have branches
_imports = imports.Imports({})  # the zygote's, once it has prepared


def prepare(
    fresh: frozenset[str],
    stand_ins: dict[str, str],
    trusted: list[str],
    host_name: str,
    several: bool,
) -> None:
    """In the zygote, once: everything that every guest would do alike.

    Streams are made here although the zygote's own descriptors are others, because they
    are bound to numbers, and the numbers are right after the fork.

    Args:
        fresh: names of the modules that an interpreter starts with.
        stand_ins: module -> file to load instead.
        trusted: directories from which bytecode is loaded.
        host_name: what to call this host where the kernel may not be asked; else empty.
        several: whether guests may have processes.
    """
    global _imports
    import _sitebuiltins

    for name in ("exit", "quit"):
        setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D (i.e. EOF)"))
    builtins.display = artifacts.display  # type: ignore[attr-defined]  # as IPython has it
    builtins.help = _sitebuiltins._Helper()  # pyright: ignore[reportPrivateUsage]
    shape.make_sandboxed_read_only(builtins, True)
    _open_streams()
    # For C code only, so that ``os.environ`` is the policy's alone: it puts its own on top.
    for name in standins.ONE_THREAD:
        os.putenv(name, "1")
    late.load()
    late.arrays().missing = execute.missing
    sys.dont_write_bytecode = True
    imports.hide_what_we_loaded(fresh)
    public = public_module(type(sys))
    public.__doc__ = "Inside a sandbox: exceptions of refusals, display, usage, limits, abilities."
    public.__dict__["__all__"] += ["abilities", "display", "limits", "usage"]
    usage.publish(public)
    bytecode.read_bytecode_only_from(trusted)
    _imports = imports.Imports(stand_ins)
    if several:
        _imports.after("mmap", standins.share_mmap_by_files)
        _imports.after("subprocess", standins.start_as_we_were)
        _imports.after("socket", standins.listen_to_few)
    else:
        _imports.after("mmap", standins.stand_in_for_mmap)
    _imports.after("linecache", report.fill_linecache)
    figures.watch(_imports, execute.after_code)
    notebook.stand_in(_imports)
    artifacts.forget_refused = _imports.drop_refused
    if host_name:
        standins.stand_in_for_uname(_imports, host_name)
    sys.meta_path.insert(0, _imports)
    for name in stand_ins:
        sys.modules.pop(name, None)  # what an interpreter starts with
        imports.AT_START.discard(name)
    sys.path_importer_cache.clear()


def prepare_trusted() -> None:
    """In a trusted interpreter: what code finds there as it would in a sandbox, and no more."""
    shape.make_sandboxed_read_only(builtins, False)
    _open_streams()
    late.load()
    imports.AT_START.update(sys.modules)
    # The library itself, with what a program for a sandbox looks for there.
    library, public = sys.modules["belljar"], public_module(type(sys))
    library.__dict__.update((name, getattr(public, name)) for name in public.__all__)
    usage.publish(library)
    builtins.display = artifacts.display  # type: ignore[attr-defined]
    figures.watch(_imports, execute.after_code)
    notebook.stand_in(_imports)
    report.sandboxed = False
    _imports.after("linecache", report.fill_linecache)
    sys.meta_path.insert(0, _imports)


def _open_streams() -> None:
    sys.stdin = sys.__stdin__ = standins.open_text(0, "r", "strict")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = standins.open_text(1, "w", "strict")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = standins.open_text(2, "w", "backslashreplace")  # type: ignore[misc]


def preload(name: str, refused: list[str]) -> None:
    """In the zygote: import a module that all guests share; raises what an import raises.

    ``refused`` C modules that are files are no more to be had than in a guest, because their
    code would be in every guest's memory; those that are part of the interpreter are there
    anyhow, and taken out of each guest's ``sys.modules``.
    """

    def note(kind: str, target: str, grant: str) -> None:
        """Nobody is there yet to be told."""

    built_in = frozenset(sys.builtin_module_names)
    _imports.refuse(frozenset(refused) - built_in - imports.OF_THE_ZYGOTE, (), note)
    try:
        __import__(name)
    finally:
        _imports.refuse_nothing()


def settle(settings: Mapping[str, Any], link: Link) -> Budget:
    """Before the first run: the environment, the watch on refusals, the bound on values."""
    sys.orig_argv[:] = [sys.executable]
    if settings["processes"]:
        # For what is started: Python finds itself by it when it is started by its bare name.
        os.putenv("PATH", _PATH)
    os.environ.update(settings["env"])
    imports.hide_the_zygotes()
    standins.reseed()
    ending.expect(*settings["time"])
    execute.rules_on_builtins = settings["builtins"]
    usage.begin(settings["limits"], settings["abilities"])
    if settings.get("functions"):
        public = sys.modules["belljar"]
        execute.given.update(functions.install(link, settings["functions"], public))
    if settings.get("channels"):
        public = sys.modules["belljar"]
        execute.given.update(channels.install(link, settings["channels"], public))
    if settings["explain"]:
        denials.install(
            settings["readable"],
            settings["writable"],
            settings["taken"],
            settings["never"],
            settings["builtins"],
            settings["processes"],
            settings["unix_sockets"],
        )
        _imports.refuse(settings["refused"], settings["module_rules"], denials.note)
        blocked = settings["blocked_functions"]
        execute.before_code.append(lambda: shape.block_functions(_imports, blocked, denials.note))
    if settings.get("merge_stderr"):
        os.dup2(1, 2)
    execute.ask_for_stdin = lambda run_id: asked.open_asked(link, run_id)
    return Budget(memory_bytes=settings["value_bytes"])


def serve(fd: int, read: Callable[[int, int], bytes] = os.read) -> int:
    """Answer runs until the last one, or until the host closes the link; the exit status.

    The first one's settings say whether it is the last one, too.
    """
    ending.hold()
    link = Link(fd, read)
    link.speak(Ready(stages={}))
    budget: Budget | None = None
    keep = copied = merged = False
    most_bytes = 0
    while True:
        event = link.next_order()
        if event is None or isinstance(event, Close):
            return 0
        if not isinstance(event, (Run, Call, Fork)):
            continue
        if budget is None:
            keep = event.settings["keep"]
            merged = bool(event.settings.get("merge_stderr"))
            budget = settle(event.settings, link)
        elif event.settings:
            budget = _settle_again(event.settings)
        most_bytes = event.settings.get("artifact_bytes", most_bytes)
        artifacts.begin(link.speak, event.run_id, most_bytes)
        run_id = event.run_id

        def hold(parts: Parts, run_id: int = run_id) -> bool:
            return link.mine and link.hold(run_id, parts)

        if isinstance(event, Fork):
            answer = branches.make(event) if branches is not None else None
            if answer is None:
                # The copy: its own link is where its parent's was.
                copied = True
                link.renew()
                link.speak(Ready(stages={}))
                continue
            finished = answer
        elif copied and branches is not None:
            copied = False
            finished = branches.settle(event.run_id, link.fd)
            if merged:
                os.dup2(1, 2)
        else:
            finished = execute.run(event, budget, keep, hold)
        status = finished.exit_code or (1 if finished.outcome == "raised" else 0)
        if not link.mine:
            # A fork that went on to the end of the program: it is not the run.
            if finished.error is not None:
                _write_all(2, finished.error.traceback.encode("utf-8", "replace"))
            return status & 0xFF
        if artifacts.end():
            finished = finished.replace(truncated=("artifacts",))
        entries = denials.take()
        if entries:
            link.speak(Denied(event.run_id, entries))
        _finish(link, finished)
        if not keep:
            return status & 0xFF
        if finished.error is not None:
            _imports.drop_refused()
        imports.restrict()


def _settle_again(settings: Mapping[str, Any]) -> Budget:
    """Before a further run: its own limits."""
    ending.expect(*settings["time"])
    return Budget(memory_bytes=settings["value_bytes"])


def _finish(link: Link, finished: Finished) -> None:
    """The last word of a run; if there is no memory for all of it, as much as there is."""
    try:
        link.speak(finished)
    except MemoryError:
        gc.collect()
        link.speak(report.without_details(finished))


def _write_all(fd: int, data: bytes, write: Callable[[int, Any], int] = os.write) -> None:
    # ``write`` is bound now, because the guest may put anything else in its place.
    view = memoryview(data)
    while view:
        view = view[write(fd, view) :]
