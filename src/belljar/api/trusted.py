"""``Trusted``: a live interpreter without a policy, for code that needs none."""

from __future__ import annotations

import os
import sys

from ..drivers.live import Listeners
from ..errors import SHORTAGES, PolicyError, SetupFailed
from ..policy import Limits, Policy
from ..policy.limits import DAY_S, LIMITS, MIB, check_limit
from ..wire.limits import Budget
from .files import by_host
from .live import RUN_LIMITS, check_shapes
from .run import check_preload, lend, make_desk, make_order
from .threaded import Threaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    import weakref
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from ..broker.channels import ChannelEnd
    from ..drivers.live import ArtifactListener, Listener, Live
    from ..result import Result
    from .files import Contents

# The widest that there is where nothing but the clock is bounded, and what the host's own memory
# takes where output and values land there.
WIDE = Limits(
    wall_s=7 * DAY_S,
    cpu_s=7 * DAY_S,
    pause_s=7 * DAY_S,
    output_bytes=256 * MIB,  # the log of a long job
    value_bytes=256 * MIB,  # what fits into a message, decoded
    artifact_bytes=256 * MIB,
    file_bytes=2**40,  # as large as the disk
    work_bytes=2**40,
    threads=4096,  # nothing counts them; so many cores may be at work
)
_NOTHING = Policy()
_NO_POLICY = "a trusted interpreter has none, and could hold none; belljar.Sandbox takes one"


class Trusted(Threaded):
    """One live interpreter without a policy, walls or checks; for trusted code only.

        with belljar.Trusted() as trusted:
            trusted.run("import os; home = os.environ['HOME']")
            trusted.run("os.listdir(home)").value

    A plain CPython process of this user, with this process's environment and the host's files,
    network and processes, behind the interface of ``Sandbox``: for code that you wrote, for
    comparison, for development.  ``__sandboxed__`` is False inside, and ``import belljar`` is
    this very library, with what a sandbox finds there (``usage``, ``limits``, ``SandboxError``).

    As a sandbox it is stopped between two runs.  It ends with this process and, when it ends,
    so do the processes that it started and that stayed in its process group.
    """

    _no_policy = _NO_POLICY

    def __init__(
        self,
        policy: None = None,
        *,
        inputs: Mapping[str, Any] | None = None,
        argv: Sequence[str] = (),
        files: Mapping[str, Contents] | None = None,
        preload: Sequence[str] = (),
        on_output: Listener | None = None,
        on_artifact: ArtifactListener | None = None,
        idle_s: float | None = None,
        lifetime_s: float | None = None,
        python: str | os.PathLike[str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        channels: Mapping[str, ChannelEnd] | None = None,
        merge_stderr: bool = False,
        **limits: float,
    ) -> None:
        """Start an interpreter and wait until it is ready.

        Args:
            policy: none; anything else is an error, because nothing would hold it.
            inputs, argv, on_output, on_artifact, idle_s, lifetime_s, functions, channels,
                merge_stderr: as with ``Sandbox``.
            files: contents by path relative to ``cwd``; those that exist are replaced.
            preload: modules to import before anything else.
            python: the interpreter to execute, 3.11 or newer; this process's own if left out.
            cwd: the directory to work in; if left out, one of its own among the system's
                temporary ones, which goes when the interpreter does.
            limits: bounds of each run, those in ``RUN_LIMITS``, of the process itself without
                those that it starts.  If left out: a week for ``wall_s``, ``cpu_s`` and
                ``pause_s``, 256 MiB for ``output_bytes`` and ``value_bytes``.

        Raises:
            PolicyError: an argument makes no sense; names it.
            SandboxFailure: belljar's own machinery failed.
        """
        self._closing = True
        if policy is not None:
            raise PolicyError("policy", _NO_POLICY)
        listeners = Listeners(on_output, None, on_artifact)
        check_shapes(inputs, argv, files, listeners)
        if not hasattr(preload, "__iter__"):
            raise PolicyError("preload", f"expected names, got {type(preload).__name__}")
        self._preload = check_preload(preload)
        imports = "".join(f"__import__({name!r})\n" for name in self._preload)
        self._first_put = by_host(files or {}, _lowered(WIDE, limits))
        self._python = _check_python(python)
        self._cwd = _check_directory(cwd)
        self._own: weakref.finalize[..., Trusted] | None = None
        super().__init__(
            make_order(
                imports, _NOTHING, inputs, argv, files, "<start>", merge_stderr=merge_stderr
            ),
            _lowered(WIDE, limits),
            listeners,
            idle_s,
            lifetime_s,
        )
        self._functions = lend(functions, _NOTHING, self._first.inputs, channels)
        self._begin()

    @property
    def policy(self) -> None:
        """None: it may do whatever this process may."""
        return

    def _launch(self) -> None:
        from ..drivers.plain import PlainLive, start

        limits = self._limits
        settings: dict[str, Any] = {
            "value_bytes": limits.value_bytes,
            "artifact_bytes": limits.artifact_bytes,
            "time": [limits.wall_s, limits.cpu_s, limits.grace_s],
            "limits": {name: limits[name] for name in RUN_LIMITS},
            "abilities": {},
            "env": {},
            "builtins": {},
            "processes": 0,
            "explain": False,
            "keep": True,
        }
        try:
            directory = self._cwd or self._make_directory()
            ends = start(self._python, directory)
            ends.show_directory(directory, own=not self._cwd)
            desk = None
            if self._functions is not None and self._functions.settings:
                from ..drivers.desk import Desk

                settings.update(self._functions.settings)
                desk = make_desk(self._functions, ends, Desk)
            order = self._first.replace(settings={**settings, **self._first.settings})
            live = PlainLive(ends, order, limits, Budget(memory_bytes=limits.value_bytes), desk)
            self._take(live, settings)
            self._started(live, live.start())
            if self._first_put:
                self._put(self._first_put)
        except BaseException:
            self._drop()
            raise

    def _started(self, live: Live, result: Result) -> None:
        if live.waiting and result.error is not None:
            stage = "preload" if self._preload else "start"
            raise SetupFailed(stage, f"{result.error.type}: {result.error.message}")
        super()._started(live, result)

    def _make_directory(self) -> str:
        import tempfile
        import weakref

        try:
            made = tempfile.mkdtemp(prefix="belljar-trusted-")
        except OSError as error:
            text, short = error.strerror or str(error), error.errno in SHORTAGES
            raise SetupFailed("directory", text, retryable=short) from error
        self._own = weakref.finalize(self, _remove, made, os.getpid())
        return made

    def _let_go(self) -> None:
        own, self._own = self._own, None
        if own is not None:
            own()

    def _lower(self, limits: Mapping[str, float]) -> Limits:
        return _lowered(self._limits, limits)


def _remove(directory: str, pid: int) -> None:
    if os.getpid() == pid:  # it is not that of a forked process's parent
        import shutil

        shutil.rmtree(directory, ignore_errors=True)


def _lowered(limits: Limits, given: Mapping[str, float]) -> Limits:
    lower: dict[str, Any] = {}
    for name, value in given.items():
        if name not in RUN_LIMITS:
            key = f"limits.{name}" if name in LIMITS else name
            raise PolicyError(
                key, "not for a trusted interpreter; its limits are " + ", ".join(RUN_LIMITS)
            )
        lower[name] = check_limit(name, value)
        if name != "grace_s" and lower[name] > limits[name]:
            raise PolicyError(f"limits.{name}", f"{value:g} is above {limits[name]:g}")
    return limits.replace(**lower) if lower else limits


def _check_python(python: object) -> str:
    path = sys.executable if python is None else _path("python", python)
    if not os.access(path, os.X_OK) or os.path.isdir(path):
        raise PolicyError("python", f"{path!r} is not an interpreter; give the path of one")
    return os.path.abspath(path)  # not resolved: a virtual environment is found by its link


def _check_directory(cwd: object) -> str:
    if cwd is None:
        return ""
    path = _path("cwd", cwd)
    if not os.path.isdir(path):
        raise PolicyError("cwd", f"{path!r} is not a directory")
    return os.path.abspath(path)


def _path(key: str, value: object) -> str:
    if not isinstance(value, (str, os.PathLike)):
        raise PolicyError(key, f"expected a path, got {type(value).__name__}")
    path: str | bytes = os.fspath(value)
    if not isinstance(path, str) or "\0" in path:
        raise PolicyError(key, "expected a path as str, without NUL")
    return path
