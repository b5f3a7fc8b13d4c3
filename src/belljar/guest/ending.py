"""Told to end: the host's signals become exceptions in the code's main thread (K6, R2).

What: SIGINT is ``KeyboardInterrupt``, as everywhere; SIGURG, of which nobody else makes use
and whose default action is to be ignored, is ``TimeoutError``.  Because: an exception runs
``finally`` and lets what there is of a result arrive, and a signal also ends a sleep or a
read.  Then: an exception is raised while the code runs, once; before that it waits for the
code to begin, and afterwards it is too late, so that no frame to the host is ever cut.

Not a wall: code may catch, block or reset all of it, and is killed when its grace is over.
"""

from __future__ import annotations

import _thread
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from typing import Any
else:
    import _signal

_INT, _OVER = int(_signal.SIGINT), int(_signal.SIGURG)
# Bound now, because the code can put anything in their places.
_set: Any = _signal.signal
_interrupted: Any = _signal.default_int_handler
_cpu_s = time.process_time

_main_thread = _thread.get_ident()  # the zygote's only one, and after the fork the guest's first
_get_ident = _thread.get_ident

_held: list[int] = []  # the signal that came before the code began
_before: Any = _interrupted  # what SIGINT does in the code
_limits: dict[str, float] = {}


def hold() -> None:
    """Before the host is told that the guest is ready: whatever comes now has to wait."""
    global _before
    found = _signal.getsignal(_INT)
    # A host that ignores SIGINT (``nohup``, a background job) is no reason for its guests to;
    # what a preload has put there is.
    _before = found if callable(found) else _interrupted
    _set(_INT, _hold)
    _set(_OVER, _hold)


def expect(wall_s: float, cpu_s: float, grace_s: float) -> None:
    """The limits of the run to come, for the message."""
    _limits.update(wall_s=wall_s, cpu_s=cpu_s, grace_s=grace_s)


def begin() -> None:
    """The code begins: from here on it is told.  Raises what has waited."""
    _set(_INT, _before)
    _set(_OVER, _time_is_over if _limits.get("grace_s") else _signal.SIG_DFL)
    if _held:
        raise KeyboardInterrupt if _held.pop() == _INT else _timeout()


def end() -> None:
    """The code has ended: the agent is not to be disturbed any more."""
    for number in (_INT, _OVER):
        while True:
            try:
                _set(number, _hold)
                break
            except MemoryError:
                raise  # trying again would not help, and the caller has some in reserve
            except BaseException as exception:
                # It came in this very moment: too late to be of use.
                del exception


def until_the_next() -> None:
    """The run has ended, and another may come: what it made of Ctrl-C holds there too."""
    global _before
    found = _signal.getsignal(_INT)
    if callable(found) and found is not _hold:
        _before = found
    # Before the host counts what this run has used, so that the next one has used no less by our
    # count than by the host's.
    _limits["cpu_before_s"] = _cpu_s()
    end()


def _hold(number: int, _frame: object) -> None:
    _held[:] = [number]  # one is enough, however many come


def _time_is_over(_number: int, _frame: object) -> None:
    raise _timeout()


def _timeout() -> TimeoutError:
    used_s = _cpu_s() - _limits.get("cpu_before_s", 0.0)
    name = "cpu_s" if used_s >= _limits["cpu_s"] else "wall_s"
    return TimeoutError(
        f"{name}: {_limits[name]:g} s are over; the code is ended in {_limits['grace_s']:g} s"
    )


def in_main_thread() -> bool:
    """Whether this is the thread in which Python's signal handlers run."""
    return _get_ident() == _main_thread


class _Woken(Exception):
    """A signal came while nothing was under way but waiting."""


class Undisturbed:
    """Around what a signal's handler must not cut in two; for the main thread.

    What: both signals are noted.  Because: an exception between the bytes of a frame, or between
    reading some and keeping them, would break the link.  Then: waiting alone is cut short, and at
    the end what has come is handed to the handlers of the code's own, which may raise.
    """

    __slots__ = ("_before", "_waiting", "came")

    def __init__(self) -> None:
        self._before: list[tuple[int, Any]] = []
        self._waiting = False
        self.came: list[int] = []

    def __enter__(self) -> Undisturbed:
        self.came = []
        try:
            for number in (_INT, _OVER):
                # The next two lines may be cut in two: what was there is still known then.
                self._before.append((number, _signal.getsignal(number)))
                _set(number, self._note)
        except BaseException:
            self._restore()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._restore()
        if kind is None:
            self._deliver()

    def _restore(self) -> None:
        try:
            while self._before:
                number, handler = self._before[-1]
                if handler is not None:  # else it was not set from Python
                    _set(number, handler)
                self._before.pop()
        finally:
            if self._before:
                self._restore()  # a handler that is back has raised: the others come back, too

    def _note(self, number: int, _frame: object) -> None:
        self.came.append(number)
        if self._waiting:
            self._waiting = False
            raise _Woken

    def wait(self, function: Callable[[], object]) -> None:
        """Call what does nothing but wait; a signal cuts it short."""
        try:
            self._waiting = True
            if not self.came:
                function()
            self._waiting = False
        except _Woken:
            self._waiting = False

    def _deliver(self) -> None:
        came, self.came = self.came, []
        for number in dict.fromkeys(came):
            handler = _signal.getsignal(number)
            if callable(handler):
                handler(number, None)
