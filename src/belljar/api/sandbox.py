"""``Sandbox``: one live interpreter, whose names persist from run to run."""

from __future__ import annotations

import time

from ..drivers.live import Listeners, Live
from ..errors import SetupFailed
from .live import HISTORY_BYTES, RUN_LIMITS, Sandboxed, Step
from .run import borrow, with_true_streams, worth_another
from .threaded import Threaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from ..broker.channels import ChannelEnd
    from ..broker.functions import Functions
    from ..drivers.desk import Desk
    from ..drivers.live import ArtifactListener, Listener
    from ..policy import Policy
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

        Raises:
            PolicyError: an argument makes no sense; names it.
            UnsupportedError: this machine cannot enforce the policy; nothing ran.
            GuestError: ``inputs`` and ``files`` do not fit into its limits.
            SandboxFailure: belljar's own machinery failed.
        """
        listeners = Listeners(on_output, None, on_artifact)
        super().__init__(
            policy, inputs, argv, files, preload, listeners, idle_s, lifetime_s, functions, channels
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
        prepared, zygote = borrow(self._policy, self._preload)
        try:
            live = self._connect(prepared, zygote, Live, _desk, began)
            self._started(live, live.start())
            if self._first_put:
                self._put(self._first_put)
        except BaseException:
            self._drop()
            raise


def _desk(functions: Functions) -> Desk:
    from ..drivers.desk import Desk

    return Desk(functions)
