"""``Sandbox``: one live interpreter, whose names persist from run to run."""

from __future__ import annotations

import os
import time

from ..drivers.live import Listeners, Live
from ..errors import ClosedError, SandboxFailure, SetupFailed
from .live import HISTORY_BYTES, RUN_LIMITS, Sandboxed, Step, check_seconds, check_shapes
from .run import borrow, with_true_streams, worth_another
from .threaded import Threaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from ..broker.channels import ChannelEnd
    from ..broker.functions import Functions
    from ..drivers.branch import Lineage
    from ..drivers.desk import Desk
    from ..drivers.live import ArtifactListener, Listener
    from ..drivers.zygotes import Zygote
    from ..policy import Limits, Policy
    from . import machine
    from .files import Contents

__all__ = ["HISTORY_BYTES", "RUN_LIMITS", "Sandbox", "Step"]


class Sandbox(Sandboxed[Live], Threaded):
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
        files: Mapping[str, Contents] | None = None,
        preload: Sequence[str] = (),
        on_output: Listener | None = None,
        on_artifact: ArtifactListener | None = None,
        idle_s: float | None = None,
        lifetime_s: float | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        channels: Mapping[str, ChannelEnd] | None = None,
        branches: int = 0,
        merge_stderr: bool = False,
    ) -> None:
        """Start an interpreter and wait until it is ready.

        Args:
            policy: what it may do; ``Policy()``, which grants nothing, if left out.  Its
                ``wall_s``, ``cpu_s``, ``output_bytes`` and the like hold for each run, all
                else for the whole life.
            inputs: names for its namespace, plain data.
            argv: ``sys.argv[1:]``.
            files: contents by path relative to ``/work``; a ``pathlib.Path`` is a file of the
                host's that is copied.
            preload: modules imported once and shared, as with ``run``.
            on_output: called with ``("stdout" | "stderr", bytes)`` during every run.
            on_artifact: called with each ``Artifact`` during every run.
            idle_s: closed when it was not used for so many seconds, 0.001 or more.
            lifetime_s: closed so many seconds after it was made, a run under way included.
            functions: what the code can call of yours, as with ``run``; their bounds hold for
                the whole life, over ``reset`` as well.
            channels: ends of channels that are the interpreter's from now on, by the name that
                each has inside; closed when it ends, and by ``reset``.
            branches: how many may be alive at a time of what ``fork`` makes of it, and of what
                is made of those; at most 512.
            merge_stderr: write standard error to standard output, in the order of the writes.

        Raises:
            PolicyError: an argument makes no sense; names it.
            UnsupportedError: this machine cannot enforce the policy; nothing ran.
            GuestError: ``inputs`` and ``files`` do not fit into its limits.
            SandboxFailure: belljar's own machinery failed.
        """
        self._lineage: Lineage | None = None
        self._parent: Sandbox | None = None
        self._children: weakref.WeakSet[Sandbox] | None = None
        self._most_branches = 0
        if branches != 0:
            from .branches import check_branches

            self._most_branches = check_branches(branches)
        listeners = Listeners(on_output, None, on_artifact)
        super().__init__(
            policy,
            inputs,
            argv,
            files,
            preload,
            listeners,
            idle_s,
            lifetime_s,
            functions,
            channels,
            merge_stderr,
        )
        self._begin()

    def _with_true_streams(self, on_output: Listener | None) -> Listener | None:
        return with_true_streams(self._policy, on_output)

    def _launch(self) -> None:
        try:
            self._launch_once()
        except SetupFailed as error:
            if not worth_another(error):
                raise
            self._launch_once()

    def _launch_once(self) -> None:
        began = time.monotonic()
        prepared, zygote = self._borrow()
        try:
            live = self._connect(prepared, zygote, Live, _desk, began)
            self._started(live, live.start())
            if self._most_branches:
                from .branches import found_lineage

                if self._asked_for is None:
                    raise AssertionError("it was never asked for")
                self._lineage = found_lineage(live, zygote, *self._asked_for, self._most_branches)
            if self._first_put:
                self._put(self._first_put)
        except BaseException:
            self._drop()
            raise

    def _borrow(self) -> tuple[machine.Prepared, Zygote]:
        """The plan, and a zygote for it."""
        if not self._most_branches:
            return borrow(self._policy, self._preload)
        from . import branches

        return branches.borrow(self._policy, self._preload, self._most_branches)

    # --- branches -----------------------------------------------------------------------

    def fork(
        self,
        *,
        on_output: Listener | None = None,
        on_artifact: ArtifactListener | None = None,
        idle_s: float | None = None,
        lifetime_s: float | None = None,
        **limits: float,
    ) -> Sandbox:
        """A branch: a second sandbox in the state of this one, from now on on its own.

            with belljar.Sandbox(branches=8) as sandbox:
                sandbox.run("x = 20")
                with sandbox.fork() as branch:
                    branch.run("x += 1")
                sandbox.run("x").value          # 20

        Its memory is copied page by page when either of them writes; ``/work`` and ``/tmp`` are
        copied at once.  It ends with what it was forked from, and a branch has no ``reset``.  It
        has the host functions of this one, and what it uses of them counts here; channels it has
        none.

        Args:
            on_output, on_artifact, idle_s, lifetime_s: as with ``Sandbox``.
            limits: bounds of each of its runs below those of this sandbox; one of
                ``RUN_LIMITS``.

        Raises:
            ForkRefused: what is in this sandbox cannot be there twice; names it.
            PolicyError: an argument makes no sense, or it was made without ``branches``.
            ClosedError, SandboxFailure: as with ``run``.
        """
        lower = self._lower(limits) if limits else self._limits
        changed: Any = limits
        listeners = Listeners(self._with_true_streams(on_output), None, on_artifact)
        check_shapes(None, (), None, listeners)
        own: dict[str, Any] = {
            "_policy": self._policy.limit(**changed) if limits else self._policy,
            "_limits": lower,
            "_listeners": listeners,
            "_idle_s": check_seconds("idle_s", idle_s),
            "_lifetime_s": check_seconds("lifetime_s", lifetime_s),
        }
        self._check_open()
        try:
            with self._lock:
                new = self._branch(lower, own)
        finally:
            self._close_late()
        new._watch()
        return new

    def _branch(self, lower: Limits, own: dict[str, Any]) -> Sandbox:
        """A sandbox around a copy of the guest of this one."""
        functions = None if self._functions is None else self._functions.for_branch()
        live = self._copy(lower, functions)
        new = Sandbox.__new__(Sandbox)
        new.__dict__.update(self.__dict__)
        new.__dict__.update(own)
        new._free_lock()
        new._live, new._zygote, new._functions = live, None, functions
        new._parent, new._children = self, None
        new._told, new._ended, new._closed_why = [], "", ""
        new._steps = list(self._steps)
        new._made_at = new._used_at = time.monotonic()
        new._closing = False
        if self._children is None:
            import weakref

            self._children = weakref.WeakSet()
        self._children.add(new)
        return new

    def _copy(self, lower: Limits, functions: Functions | None) -> Live:
        from .branches import branch_of

        live = self._ready()
        try:
            made = branch_of(live, self._lineage, lower, functions)
        except SandboxFailure as failure:
            if not live.waiting:
                self._ended = str(failure)
            raise
        finally:
            self._over(live)
        if self._closing:
            made.close()
            raise ClosedError(f"{self._closed_why or self._ended} while it was copied")
        return made

    @property
    def branches(self) -> tuple[Sandbox, ...]:
        """What was forked from it and is not closed."""
        return tuple(branch for branch in self._descendants() if not branch.closed)

    def _descendants(self) -> list[Sandbox]:
        return [] if self._children is None else list(self._children)

    def reset(self) -> None:
        """End the interpreter and start a fresh one, made as this one was.

        Names, files, ``history`` and branches are gone.  Waits for a run that is under way.

        Raises:
            ClosedError: it is closed, or a branch.
            SandboxFailure: belljar's own machinery failed.
        """
        self._check_open()
        if self._parent is not None:
            raise ClosedError("a branch does not start afresh; fork its parent again")
        super().reset()

    def _close(self, why: str, *, wait: bool = True) -> None:
        if not self._closing and os.getpid() == self._pid:
            for branch in self._descendants():
                branch._close("what it was forked from has ended", wait=wait)
        super()._close(why, wait=wait)

    def _drop(self) -> None:
        lineage, self._lineage = self._lineage, None
        for branch in self._descendants():
            branch._close("what it was forked from has ended", wait=False)
        super()._drop()
        if lineage is not None and self._parent is None:
            lineage.close(mine=os.getpid() == self._pid)


def _desk(functions: Functions) -> Desk:
    from ..drivers.desk import Desk

    return Desk(functions)
