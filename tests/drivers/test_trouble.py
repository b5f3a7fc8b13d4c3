"""Whose error an ``OSError`` is, and what a process said before it went away (K10)."""

from __future__ import annotations

import errno
import os

import pytest

from belljar.drivers import zygotes
from belljar.drivers.trouble import typed
from belljar.errors import SetupFailed, WorkerDied
from belljar.kernel import fdpass, process


def caught(act: object) -> OSError | MemoryError:
    try:
        act()  # type: ignore[operator]
    except (OSError, MemoryError) as error:
        return error
    raise AssertionError("nothing was raised")


def test_K10_an_error_of_belljars_own_calls_is_typed() -> None:
    error = caught(lambda: process.open_pidfd(-1))
    failure = typed(error, handed_over=False)
    assert isinstance(failure, SetupFailed)
    assert (failure.stage, failure.retryable) == ("host", False)
    error.errno = errno.EMFILE
    failure = typed(error, handed_over=True)
    assert isinstance(failure, WorkerDied)
    assert failure.retryable


def test_K10_an_error_of_the_application_is_not() -> None:
    def handler() -> None:
        raise TimeoutError("of the application")

    for act in (handler, lambda: os.read(-1, 1)):  # in a frame that is not belljar's
        error = caught(act)
        assert typed(error, handed_over=True) is error


def test_K10_the_last_message_of_one_who_left_messages_unread() -> None:
    """The kernel tells of the end first; what was said is still there."""
    ours, theirs = fdpass.message_pair()
    fdpass.send(ours, b"never read")
    fdpass.send(theirs, b"why I go")
    theirs.close()
    assert fdpass.receive(ours) == (b"why I go", [])
    assert fdpass.receive(ours) == (b"", [])
    ours.close()


@pytest.mark.parametrize(
    ("said", "short"),
    [
        ("error while loading shared libraries: Cannot allocate memory", True),
        ("MemoryError", True),
        ("OSError: [Errno 24] Too many open files", True),
        ("ModuleNotFoundError: No module named 'encodings'", False),
        ("it said nothing", False),
    ],
)
def test_K10_last_words_tell_a_shortage(said: str, short: bool) -> None:
    assert zygotes._is_shortage(said, None) is short
