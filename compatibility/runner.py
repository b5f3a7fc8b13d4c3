"""Runs one module of CPython's own tests; the same program inside a sandbox and outside.

``runner.py MODULE [SECONDS]`` writes lines that begin with ``MARK``, each with one JSON
object: the ids of all tests, then a line when a test begins and one with its outcome, then
that it has come to its end.  A line each, because a test may take the whole process with it.
A test that takes more than ``SECONDS`` is interrupted: a server that was refused its socket
keeps those who wait for it.  Standard library only, and nothing of belljar's.
"""

from __future__ import annotations

import _thread
import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
import unittest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Any, TypeAlias

    Error: TypeAlias = (
        tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
    )

MARK = "\x1ereport "
# Of a traceback: its beginning has the cause of the cause, its end the message.
HEAD, TAIL = 3000, 3000
# What tests may ask for.  Not: network, urlfetch, largefile, audio, gui (nothing of it is in
# a sandbox), cpu and walltime (minutes each).
RESOURCES = ["decimal", "subprocess", "tzdata"]
MOST_THREADS = 3  # exceptions of threads that are kept for one test
STUCK_S = 0.5  # what a test may take after two of its class did not end

# Bound now: tests put other things in their place.
_out = os.dup(1)
_write = os.write
_dumps = json.dumps
_sleep, _now = time.sleep, time.monotonic
_pthread_kill = signal.pthread_kill
_INTERRUPT = signal.SIGRTMIN + 7  # no test uses it


def tell(**record: object) -> None:
    """One line of the report."""
    data = f"\n{MARK}{_dumps(record)}\n".encode("ascii")
    while data:
        data = data[_write(_out, data) :]


def shorten(text: str) -> str:
    if len(text) <= HEAD + TAIL:
        return text
    return f"{text[:HEAD]}\n...\n{text[-TAIL:]}"


def describe(kind: Any, value: Any, trace: Any) -> str:
    """A traceback as text, whatever the exception's own methods do."""
    try:
        return shorten("".join(traceback.format_exception(kind, value, trace)))
    except Exception as trouble:
        return f"{kind.__name__}: not printable ({type(trouble).__name__})"


class Ids:
    """Names each test, the second of the same id ``id #2``."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def name(self, test: unittest.TestCase) -> str:
        key = test.id()
        number = self.counts[key] = self.counts.get(key, 0) + 1
        return key if number == 1 else f"{key} #{number}"


class TookTooLong(Exception):
    """Raised in a test that has no end."""


WORST = ("passed", "expected failure", "skipped", "unexpected success", "failed", "error")


class Report(unittest.TestResult):
    """Tells each outcome as soon as it is known; of several the worst counts."""

    def __init__(self) -> None:
        super().__init__()
        self.ids = Ids()
        self.current: unittest.TestCase | None = None
        self.name = ""
        self.outcome = ("passed", "")
        self.began = 0.0
        self.threads: list[str] = []  # what threads of the present test died of

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.name = self.ids.name(test)
        self.outcome = ("passed", "")
        self.threads = []
        tell(begin=self.name)
        self.began = _now()
        self.current = test

    def stopTest(self, test: unittest.TestCase) -> None:
        self.current = None
        seconds = _now() - self.began
        outcome, text = self.outcome
        if outcome in ("failed", "error"):
            text = "\n".join([*self.threads, text])
        tell(test=self.name, outcome=outcome, text=text, seconds=round(seconds, 2))
        super().stopTest(test)

    def note(self, test: unittest.TestCase, outcome: str, text: str = "") -> None:
        if self.current is None:
            # setUpModule, setUpClass and their like: no test, but all tests of one place.
            tell(place=test.id(), outcome=outcome, text=text)
        elif WORST.index(outcome) > WORST.index(self.outcome[0]):
            self.outcome = (outcome, text)

    def addError(self, test: unittest.TestCase, err: Error) -> None:
        self.note(test, "error", describe(*err))

    def addFailure(self, test: unittest.TestCase, err: Error) -> None:
        self.note(test, "failed", describe(*err))

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self.note(test, "skipped", shorten(str(reason)))

    def addExpectedFailure(self, test: unittest.TestCase, err: Error) -> None:
        self.note(test, "expected failure")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self.note(test, "unexpected success")

    def addSubTest(
        self, test: unittest.TestCase, subtest: unittest.TestCase, err: Error | None
    ) -> None:
        if err is not None and err[0] is not None:
            failed = issubclass(err[0], test.failureException)
            self.note(test, "failed" if failed else "error", describe(*err))

    def watch_threads(self) -> None:
        """Keep the exceptions that end threads; the test sees their effect only."""

        def also(usual: Callable[[Any], object]) -> Callable[[Any], None]:
            def hook(args: Any) -> None:
                if len(self.threads) < MOST_THREADS and args.exc_type is not SystemExit:
                    text = describe(args.exc_type, args.exc_value, args.exc_traceback)
                    self.threads.append(f"in a thread: {text}")
                usual(args)

            return hook

        threading.excepthook = also(threading.excepthook)
        sys.unraisablehook = also(sys.unraisablehook)  # threads of the module _thread

    def watch_time(self, seconds: float) -> None:
        """Interrupt whatever test takes longer; what hangs twice in a class hangs always."""
        main = _thread.get_ident()
        stuck: dict[type, int] = {}

        def interrupt(number: int, frame: object) -> None:
            raise TookTooLong

        begun = _thread.allocate_lock()
        begun.acquire()

        def watch() -> None:
            begun.release()
            while True:
                _sleep(0.25)
                test = self.current
                most = seconds if stuck.get(type(test), 0) < 2 else STUCK_S
                if test is not None and _now() - self.began > most:
                    stuck[type(test)] = stuck.get(type(test), 0) + 1
                    self.began = _now()
                    _pthread_kill(main, _INTERRUPT)

        signal.signal(_INTERRUPT, interrupt)
        _thread.start_new_thread(watch, ())
        begun.acquire()  # tests count threads


def every_test(suite: unittest.BaseTestSuite) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.BaseTestSuite):
            yield from every_test(test)
        elif test is not None:  # pyright: ignore[reportUnnecessaryComparison]
            yield test  # a suite puts None in the place of a test that is over


def main(name: str, seconds: str = "") -> None:
    support: Any = importlib.import_module("test.support")
    support.use_resources = RESOURCES
    support.verbose = 0
    try:
        module = importlib.import_module(name)
    except unittest.SkipTest as skip:
        tell(module="skipped", text=shorten(str(skip)))
        return
    except BaseException:
        tell(module="error", text=describe(*sys.exc_info()))
        return
    suite = unittest.defaultTestLoader.loadTestsFromModule(module)
    ids = Ids()
    tell(tests=[ids.name(test) for test in every_test(suite)])
    report = Report()
    report.watch_threads()
    if seconds:
        report.watch_time(float(seconds))
    suite.run(report)
    tell(module="done", text="")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except BaseException:
        tell(module="error", text=describe(*sys.exc_info()))
    os._exit(0)  # threads that tests left behind are of no interest
