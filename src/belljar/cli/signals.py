"""Signals to and from this command, and its end.

What: the few names of the C module that are needed, with the types of the ``signal``
module.  Because: ``signal`` makes enums, which costs 2 ms of a start.  Then: nothing else
in the command imports either.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
    from typing import NoReturn
else:
    import _signal

SIGHUP = int(_signal.SIGHUP)
SIGINT = int(_signal.SIGINT)
SIGPIPE = int(_signal.SIGPIPE)
SIGTERM = int(_signal.SIGTERM)


class Terminated(BaseException):
    """A signal asked this command to end.  Raised wherever the main thread is."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def raise_on_signals() -> None:
    """Let SIGTERM and SIGHUP unwind the stack, as SIGINT does, so that the guest ends first.

    One that the parent had us ignore (``nohup``) stays ignored.
    """
    for number in (SIGTERM, SIGHUP):
        if _signal.getsignal(number) == _signal.SIG_DFL:
            _signal.signal(number, _terminate)


def raise_on_second_interrupt(ask: Callable[[], object]) -> None:
    """Let the first Ctrl-C call ``ask``, and raise ``KeyboardInterrupt`` where that is false.

    A SIGINT that the parent had us ignore (a background job of a script) stays ignored.
    """

    def interrupt(number: int, frame: object) -> None:
        if not ask():
            raise KeyboardInterrupt

    if _signal.getsignal(SIGINT) is _signal.default_int_handler:
        _signal.signal(SIGINT, interrupt)


def _terminate(number: int, _frame: object) -> None:
    raise Terminated(number)


def call_every(seconds: float, call: Callable[[], object]) -> None:
    """Call ``call`` on the main thread, between any two of its steps; 0 stops it."""
    if seconds:
        _signal.signal(_signal.SIGALRM, lambda _number, _frame: call())
    _signal.setitimer(_signal.ITIMER_REAL, seconds, seconds)


def describe(number: int) -> str:
    """``Segmentation fault`` for 11."""
    return _signal.strsignal(number) or "unknown"


def die_by(number: int) -> NoReturn:
    """End by a signal, so that the shell sees 128 + its number, and a script's loop ends."""
    try:
        _signal.signal(number, _signal.SIG_DFL)
        os.kill(os.getpid(), number)
    finally:
        # The first process of a container does not die by a signal that it has no handler for.
        leave(128 + number)


def leave(code: int) -> NoReturn:
    """End now.  Tearing the interpreter down would take 5 ms of 70 more (median of 40 pairs)."""
    os._exit(code)
