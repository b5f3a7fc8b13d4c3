"""Told to end: the host's signals become exceptions in the code's main thread (K6, R2).

What: SIGINT is ``KeyboardInterrupt``, as everywhere; SIGURG, of which nobody else makes use
and whose default action is to be ignored, is ``TimeoutError``.  Because: an exception runs
``finally`` and lets what there is of a result arrive, and a signal also ends a sleep or a
read.  Then: an exception is raised while the code runs, once; before that it waits for the
code to begin, and afterwards it is too late, so that no frame to the host is ever cut.

Not a wall: code may catch, block or reset all of it, and is killed when its grace is over.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any
else:
    import _signal

_INT, _OVER = int(_signal.SIGINT), int(_signal.SIGURG)
# Bound now, because the code can put anything in their places.
_set: Any = _signal.signal
_interrupted: Any = _signal.default_int_handler
_cpu_s = time.process_time

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
