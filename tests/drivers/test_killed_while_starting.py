"""K10: a zygote that somebody kills while it starts is an error that says that trying again helps."""

from __future__ import annotations

import os
import signal

import pytest

from belljar import Policy, SetupFailed
from belljar.api import machine
from belljar.drivers.zygotes import Zygote

pytestmark = pytest.mark.usefixtures("walls")


def start() -> Zygote:
    return Zygote(machine.prepare(Policy()).plan)


def test_killed_from_outside_may_be_tried_again() -> None:
    zygote = start()
    assert zygote._child is not None
    os.kill(zygote._child._pid, signal.SIGKILL)
    with pytest.raises(SetupFailed) as error:
        zygote.ensure_ready()
    assert error.value.retryable
    assert not zygote.alive


def test_another_end_may_not() -> None:
    """A signal that a fault of its own raises would come again."""
    zygote = start()
    assert zygote._child is not None
    os.kill(zygote._child._pid, signal.SIGSEGV)
    with pytest.raises(SetupFailed, match="signal 11") as error:
        zygote.ensure_ready()
    assert not error.value.retryable
