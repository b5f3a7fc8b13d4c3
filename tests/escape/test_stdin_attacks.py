"""K1, K7, R2: a guest that asks the host for standard input as no honest one does.

What: asks without end, asks that nobody waits for, asks in the name of another run.  Because: each
answer costs the host something, and the guest writes what it likes on its link.  Then: the end
of the input is told at a rate, what waits is bounded, and nobody gets what is another run's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import belljar
from belljar import ClosedError, Sandbox
from belljar.engine.calls import REFUSALS, REFUSALS_PER_S
from belljar.wire.events import STDIN
from belljar.wire.frames import encode_frame
from belljar.wire.limits import CALLS
from belljar.wire.values import encode

LINK = 3  # the guest's end of the link
ASK = """
import os

def ask(frame):
    os.write(3, frame)
    return os.read(3, 1 << 17)
"""


@pytest.fixture(autouse=True)
def machine_with_walls(walls: None) -> None:
    """Each test here needs a machine that can hold the empty policy."""


def ask(call_id: int, run_id: int) -> bytes:
    fields: Any = [call_id, STDIN, bytes(encode(run_id))]
    return bytes(encode_frame(0x84, encode(fields), 2**20))


ASK_FOR_A_SECOND = (
    ASK
    + """
import time
answered, began = 0, time.monotonic()
while time.monotonic() < began + 1.0:
    ask(asks[answered])
    answered += 1
answered, time.monotonic() - began
"""
)


@pytest.mark.parametrize("given", [None, "", "nothing more"])
def test_R2_the_end_of_the_input_is_told_at_a_rate(given: str | None) -> None:
    with Sandbox() as sandbox:
        sandbox.run("1")
        asks = [ask(n, 3) for n in range(1, 5000)]
        stdin = None if given is None else iter([given])
        value: Any = sandbox.run(ASK_FOR_A_SECOND, inputs={"asks": asks}, stdin=stdin).unwrap()
    answered, seconds = value
    assert REFUSALS < answered < REFUSALS + REFUSALS_PER_S * seconds + 5


def test_K1_asks_that_nobody_waits_for_are_bounded() -> None:
    asks = b"".join(ask(n, 2) for n in range(1, CALLS + 2))
    with Sandbox() as sandbox:
        with sandbox.stream(
            "import os; os.write(3, asks); os.read(0, 1); import time; time.sleep(60)",
            inputs={"asks": asks},
            stdin=belljar.PIPE,
        ) as stream:
            list(stream)
        assert stream.result.error is not None
        assert stream.result.error.type == "GuestProtocolError"
        with pytest.raises(ClosedError):
            sandbox.run("1")
        sandbox.reset()
        assert sandbox.run("1").value == 1


def test_K1_answers_that_the_guest_does_not_read_are_bounded() -> None:
    taken = 0
    seen: list[int] = []

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 65536

    code = """
import os, time
os.write(3, asks)
time.sleep(0.5)
print("now", flush=True)
got = 0
while got < 40 * 65536:
    got += len(os.read(3, 1 << 20))
"""
    asks = b"".join(ask(n, 2) for n in range(1, 41))
    with Sandbox() as sandbox:
        result = sandbox.run(
            code,
            inputs={"asks": asks},
            stdin=pieces(),
            on_output=lambda _stream, _data: seen.append(taken),
        )
        assert result.status == "ok"  # the rest was given when it had read
    assert seen[0] < 35
    assert taken == 40


def test_K7_an_ask_in_the_name_of_another_run_finds_the_end() -> None:
    code = ASK + "\nimport sys\nfound = [b'secret' in ask(each) for each in asks]\n"
    with Sandbox() as sandbox:
        asks = [ask(n, run_id) for n, run_id in enumerate((1, 3, 4, 2**40), 1)]
        sandbox.run(code, inputs={"asks": asks}, stdin=iter(["secret"]))
        assert sandbox.get("found") == [False] * 4
        # What it left unread of this one is nobody's.
        code = "[(b'secret' in each, b'mine' in each) for each in map(ask, asks)]"
        asks = [ask(n, run_id) for n, run_id in enumerate((2, 3, 4), 5)]
        result = sandbox.run(code, inputs={"asks": asks}, stdin=iter(["mine"]))
        assert result.value == [(False, False), (False, False), (False, True)]


def test_K7_an_ask_that_was_left_behind_gets_nothing_of_the_next_run() -> None:
    with Sandbox() as sandbox:
        code = ASK + "\nos.write(3, left)"
        with sandbox.stream(code, inputs={"left": ask(1, 2)}, stdin=belljar.PIPE) as stream:
            list(stream)
        assert stream.result.status == "ok"
        result = sandbox.run("import sys; sys.stdin.read()", stdin=iter(["mine"]))
        # The agent finds an answer that it has not asked for: its own interpreter's end.
        assert result.value in ("mine", None)
        assert result.value == "mine" or sandbox.ended


def test_K1_a_guest_for_one_run_has_nobody_to_ask() -> None:
    code = "import os, time; os.write(3, ask); time.sleep(60)"
    result = belljar.run(code, inputs={"ask": ask(1, 1)}, stdin=iter(["x"]))
    assert result.error is not None
    assert result.error.type == "GuestProtocolError"
