"""The kit that the other tests here stand on: what fails in there must fail here."""

from __future__ import annotations

import os
import subprocess

import pytest

from belljar.testing import ConfinedFailure, run_confined

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")


def test_arguments_go_in_and_the_answer_comes_out():
    def body(a, b):
        return {"sum": a + b, "pair": (a, b)}

    assert run_confined(body, 1, 2) == {"sum": 3, "pair": [1, 2]}


def test_source_will_do():
    assert run_confined("def body():\n    return 7\n") == 7


def test_a_failed_assertion_fails_here_and_shows_its_line():
    def body():
        print("noise")
        assert 1 == 2, "one is not two"

    with pytest.raises(ConfinedFailure, match="one is not two") as caught:
        run_confined(body)
    assert caught.value.kind == "AssertionError"
    assert 'assert 1 == 2, "one is not two"' in caught.value.trace


def test_an_end_without_an_answer_fails():
    def body():
        import os
        import sys

        print("last words", file=sys.stderr, flush=True)
        os._exit(3)

    with pytest.raises(ConfinedFailure, match="ended with 3 and no answer"):
        run_confined(body)


def test_an_expected_signal_must_come():
    def crash():
        import os

        os.abort()

    def live():
        return 1

    assert run_confined(crash, signal=6) is None
    with pytest.raises(ConfinedFailure, match="expected signal 6, got 0"):
        run_confined(live, signal=6)
    with pytest.raises(ConfinedFailure, match="ended with -6"):
        run_confined(crash)


def test_a_body_that_hangs_is_ended():
    def body():
        import time

        time.sleep(60)

    with pytest.raises(subprocess.TimeoutExpired):
        run_confined(body, timeout_s=0.5)


@AS_ROOT
def test_another_user():
    def body():
        import os

        return [os.getresuid(), os.getresgid(), os.getgroups()]

    assert run_confined(body, user=(65534, 65533)) == [[65534] * 3, [65533] * 3, []]
