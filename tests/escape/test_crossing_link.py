"""K1, K3, K7: whatever the guest writes on its link, the host gets one typed result.

What: forged frames, replays, halves, garbage, wrong order, sizes that lie, descriptors, silence.
Because: the guest owns its end of the link, and everything it says is a claim.  Then: a breach
of the protocol ends the guest and is told as such, a forged answer is no more than an answer,
and facts (limits, signals, usage) cannot be forged at all.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

import belljar
from belljar import Policy, Result
from belljar.wire import events as wire
from belljar.wire.connection import Connection
from belljar.wire.frames import encode_frame
from belljar.wire.values import encode

from .native import attack, outcome
from .watch import descriptors, resident_bytes

LINK = 3  # the guest's descriptor of the link


def frame(event: Any) -> bytes:
    """A frame as an honest guest would write it in the middle of a run."""
    connection = Connection("guest")
    host = Connection("host")
    host.receive_data(connection.send(wire.Ready(stages={})))
    connection.receive_data(host.send(wire.Run(run_id=1, code="", name="x", inputs={})))
    return connection.send(event)


def answer(value: object, run_id: int = 1) -> bytes:
    if run_id == 1:
        return frame(wire.Finished(run_id=1, outcome="ok", value=encode(value)))
    fields = [run_id, "ok", encode(value), None, None, None, []]
    return encode_frame(0x83, encode(fields), 2**25)


def say(data: bytes, then: str = "os._exit(0)", policy: Policy | None = None) -> Result:
    """Write bytes on the link, then do something."""
    return attack(
        f"view = memoryview(DATA)\nwhile view: view = view[os.write({LINK}, view):]\n{then}",
        policy or Policy().limit(wall_s=2),
        inputs={"DATA": data},
    )


def broke(result: Result) -> bool:
    return (
        result.status == "crashed"
        and result.signal is None
        and result.error is not None
        and result.error.type == "GuestProtocolError"
    )


READY = Connection("guest").send(wire.Ready(stages={}))
RUN = encode_frame(0x01, encode([1, "1", "x", {}, [], True, {}]), 2**20)
CLOSE = encode_frame(0x02, encode([]), 100)

BREACHES = {
    "garbage": b"\xff" * 100,
    "zeros": bytes(100),
    "text": b"HTTP/1.1 200 OK\r\n\r\n",
    "pickle": b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93.",
    "kind of the host": RUN,
    "close of the host": CLOSE,
    "kind of the zygote": encode_frame(0x43, encode(["exited", {"signal": 0}]), 2**20),
    "unknown kind": encode_frame(0x7F, encode([]), 100),
    "ready again": READY,
    "another run's answer": answer(1, run_id=2),
    "run zero": answer(1, run_id=0),
    "run beyond": answer(1, run_id=2**63 - 1),
    "length of 4 GiB": b"\xff\xff\xff\xff\x83",
    "length over the cap": (2**26).to_bytes(4, "big") + b"\x83",
    "length over the kind's cap": (2**24).to_bytes(4, "big") + b"\x82",
    "empty payload": encode_frame(0x83, b"", 100),
    "not a list": encode_frame(0x83, encode(5), 100),
    "too few fields": encode_frame(0x83, encode([1, "ok"]), 100),
    "too many fields": encode_frame(0x83, encode([1, "ok", None, None, None, None, [], 1]), 100),
    "wrong types": encode_frame(0x83, encode(["1", 5, 3, 4, 5, 6, 7]), 100),
    "unknown outcome": encode_frame(0x83, encode([1, "limit", None, None, None, None, []]), 100),
    "crash by claim": encode_frame(0x83, encode([1, "crashed", None, None, None, None, []]), 100),
    "contradiction": encode_frame(0x83, encode([1, "ok", b"\xc0", None, None, 3, []]), 100),
    "raised without error": encode_frame(0x83, encode([1, "raised", None, None, None, None, []]), 100),
    "bytes left over": encode_frame(0x83, encode([1]) + b"\xc0", 100),
    "cut payload": encode_frame(0x83, b"\x97\x01", 100),
    "array of 4 G": encode_frame(0x83, b"\xdd\xff\xff\xff\xff", 100),
    "text of 4 G": encode_frame(0x83, b"\x97\x01\xdb\xff\xff\xff\xff", 100),
    "deep": encode_frame(0x83, b"\x91" * 10_000, 20_000),
    "many": encode_frame(0x83, b"\xdc\xff\xff" + b"\x90" * 65535, 70_000),
    "reserved byte": encode_frame(0x83, b"\xc1", 100),
    "text that is no text": encode_frame(0x83, b"\x97\x01\xa2\xff\xfe\xc0\xc0\xc0\xc0\x90", 100),
    "denials of nothing": encode_frame(0x82, encode([1, []]), 100),
    "too many denials": encode_frame(0x82, encode([1, [["a", "b", "c"]] * 65]), 5000),
    "long denial": encode_frame(0x82, encode([1, [["a" * 65, "b", "c"]]]), 5000),
    "good, then bad": frame(wire.Denied(1, (wire.Denial("a", "b", "c"),))) + b"\xff" * 9,
    "long type name": encode_frame(
        0x83, encode([1, "raised", None, None, ["E" * 201, "", "", [], None], None, []]), 2000
    ),
    "long message": encode_frame(
        0x83, encode([1, "raised", None, None, ["E", "m" * 2**17, "", [], None], None, []]), 2**18
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", BREACHES)
def test_K1_a_breach_ends_the_guest_and_is_told(how: str) -> None:
    """It is killed at once: an endless loop afterwards meets no limit."""
    result = say(BREACHES[how], "while True: pass", Policy().limit(wall_s=5))
    assert broke(result), result
    assert result.value is None
    with pytest.raises(belljar.GuestCrashed):
        result.unwrap()


def test_K1_a_breach_in_single_bytes_is_the_same() -> None:
    code = "for byte in DATA: os.write(3, bytes([byte]))\nwhile True: pass"
    for how in ("too few fields", "kind of the host", "length of 4 GiB"):
        result = attack(code, Policy().limit(wall_s=5), inputs={"DATA": BREACHES[how]})
        assert broke(result), how


def test_K1_an_honest_frame_is_taken() -> None:
    """The frames of this file are right in all but what they are meant to be wrong in."""
    result = say(answer({"forged": True}))
    assert (result.status, result.value) == ("ok", {"forged": True})
    assert say(READY[:0] + frame(wire.Denied(1, (wire.Denial("a", "b", "c"),)))).denials == (
        belljar.Denial("a", "b", "c"),
    )


def test_K3_a_forged_answer_is_an_answer_and_nothing_more() -> None:
    """It replaces the value, which is the guest's word anyway; the facts stay facts."""
    forged = say(answer("forged"), "x = bytearray(50 << 20); sum(range(10**6)); os._exit(3)")
    assert (forged.status, forged.value) == ("ok", "forged")
    assert forged.usage.peak_memory_bytes > 50 * 2**20
    assert forged.usage.cpu_s > 0
    assert forged.limit is None


def test_K1_the_first_answer_counts() -> None:
    replay = say(answer("first") + answer("second"))
    assert replay.value == "first" or broke(replay)
    later = say(answer("first"), f"import time; time.sleep(0.05); os.write({LINK}, b'x' * 1000)")
    assert (later.status, later.value) == ("ok", "first")


def test_K1_after_its_answer_a_guest_has_a_moment_and_no_more() -> None:
    """It cannot live on beside the host by saying that it is done."""
    result = say(answer("done"), "while True: pass", Policy().limit(wall_s=5))
    assert (result.status, result.value) == ("ok", "done")
    result = say(answer("done"), "import time; time.sleep(3600)", Policy().limit(wall_s=5))
    assert (result.status, result.value) == ("ok", "done")


def test_K1_output_after_the_answer_is_still_bounded() -> None:
    flood = "while True: os.write(1, bytes(65536))"
    result = say(answer("done"), flood, Policy().limit(wall_s=5, output_bytes=10_000))
    assert len(result.stdout_bytes) <= 10_000
    assert result.truncated == ("stdout",)


CLAIMS = ["wall", "cpu", "output", "value", "", "nonsense"]


@pytest.mark.parametrize("name", CLAIMS)
def test_K3_limits_that_only_the_host_sees_cannot_be_claimed(name: str) -> None:
    error = wire.ErrorText(type="E", message="m", traceback="t", notes=(), limit=name)
    result = say(frame(wire.Finished(run_id=1, outcome="raised", error=error)))
    assert (result.status, result.limit) == ("raised", None)


def test_K3_a_claimed_limit_is_marked_as_a_claim() -> None:
    error = wire.ErrorText(type="E", message="m", traceback="t", notes=(), limit="memory")
    result = say(frame(wire.Finished(run_id=1, outcome="raised", error=error)))
    assert result.limit is not None
    assert result.limit.evidence == "guest"


def test_K1_half_a_frame_and_silence() -> None:
    half = answer("x" * 1000)[:100]
    waiting = say(half, "import time; time.sleep(3600)", Policy().limit(wall_s=0.3))
    assert waiting.limit is not None
    assert waiting.limit.name == "wall"
    ended = say(half, "os._exit(0)")
    assert ended.status in ("exited", "crashed")
    assert ended.value is None
    killed = say(half, "os.kill(os.getpid(), 9)")
    assert (killed.status, killed.signal) == ("crashed", 9)


def test_K1_half_a_frame_swallows_the_agents_own_and_nothing_comes_of_it() -> None:
    result = say(answer("x" * 1000)[:100], "'an honest value'")
    assert result.value is None
    assert broke(result) or (result.status, result.exit_code) == ("exited", 0)


def test_K1_frames_of_the_largest_size_cost_bounded_memory() -> None:
    """A frame that promises 30 MiB and sends them byte by slow piece."""
    before = resident_bytes()
    length = (30 * 2**20).to_bytes(4, "big") + b"\x83"
    code = "os.write(3, HEAD)\nwhile True: os.write(3, b'\\x91' * 65536)"
    for _ in range(3):
        result = attack(code, Policy().limit(wall_s=1), inputs={"HEAD": length})
        assert broke(result) or result.status == "limit"
    assert resident_bytes() - before < 100 * 2**20


def test_K1_a_million_denials_are_a_flood() -> None:
    entry = wire.Denial("a" * 60, "t" * 4000, "g" * 4000)
    one = frame(wire.Denied(1, (entry,) * 64))
    code = "while True: os.write(3, DATA)"
    before = resident_bytes()
    result = attack(code, Policy().limit(wall_s=2), inputs={"DATA": one})
    assert result.status in ("limit", "crashed")
    assert len(result.denials) <= 1000
    del result
    assert resident_bytes() - before < 100 * 2**20


DESCRIPTORS = """
import array, socket
link = socket.socket(fileno=os.dup(3))
sent = 0
for _ in range(200):
    fds = array.array("i", [0, 1, 2] * 80)
    try:
        link.sendmsg([DATA], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)], socket.MSG_DONTWAIT)
        sent += 240
    except OSError:
        break
os._exit(sent > 0)
"""


def test_R6_K3_descriptors_sent_over_the_link_arrive_nowhere() -> None:
    belljar.run("1")
    before = descriptors()
    for data in (frame(wire.Denied(1, (wire.Denial("a", "b", "c"),))), answer(1)):
        result = attack(DESCRIPTORS, inputs={"DATA": data})
        assert result.status in ("ok", "exited", "crashed")
        assert descriptors() == before


HELD = """
kept = {}
for fd in range(200):
    flags = call("fcntl", fd, 1, 0)
    if not isinstance(flags, str):
        status = os.fstat(fd)
        kept[fd] = (status.st_mode >> 12, call("fcntl", fd, 3, 0) & 3)
kept
"""


def test_R6_the_guest_holds_four_descriptors() -> None:
    """Null device or pipe, two pipes, one socket; a host with many leaves none inside."""
    leaked = [os.open("/etc/passwd", os.O_RDONLY) for _ in range(20)]
    high = os.dup2(leaked[0], 150, inheritable=True)
    for fd in leaked:
        os.set_inheritable(fd, True)
    belljar.close()
    try:
        held = outcome(HELD)
    finally:
        for fd in [*leaked, high]:
            os.close(fd)
        belljar.close()
    pipe, socket, character = 1, 12, 2
    assert held.pop(0) in ((pipe, 0), (character, 0))
    assert held == {1: (pipe, 1), 2: (pipe, 1), 3: (socket, 2)}


def test_K3_nothing_waits_on_the_link() -> None:
    """No message of another run, none of the zygote's, no path of the host."""
    code = """
import select
ready = select.select([3], [], [], 0.05)[0]
[bool(ready), call("recvfrom", 3, buffer(64), 64, 0x42, None, None), call("recvmsg", 3, bytes(56), 0x40)]
"""
    ready, peeked, received = outcome(code)
    assert ready is False
    assert (peeked, received) == ("EAGAIN", "EAGAIN")


QUIET = {
    "closed link": "os.close(3); 1",
    "everything closed": "os.closerange(0, 1000); 1",
    "link over stdout": "os.dup2(3, 1); print('x' * 1000)",
    "stdout over link": "os.dup2(1, 3); 1",
    "null over all": "n = os.open('/dev/null', 2)\nfor f in range(4): os.dup2(n, f)\n1",
    "half closed": "import socket; socket.socket(fileno=3).shutdown(socket.SHUT_WR); 1",
    "other half closed": "import socket; socket.socket(fileno=3).shutdown(socket.SHUT_RD); 1",
    "read away": "import threading\n"
    "threading.Thread(target=lambda: os.read(3, 65536), daemon=True).start(); 1",
    "blocking mode": "os.set_blocking(3, False); 'x' * 10**6",
    "agent's frames": "import gc\nfor o in gc.get_objects():\n"
    "  if isinstance(o, dict) and 'connection' in o: o.clear()\n1",
    "write replaced": "os.write = lambda fd, data: len(data)\n1",
    "exit replaced": "os._exit = lambda code: None\n1",
    "modules gone": "import sys\nsys.modules.clear()\n1",
    "builtins gone": "import builtins\nfor n in list(vars(builtins)):\n  delattr(builtins, n)",
    "encode replaced": "import belljar.wire.encoder as e\ne.encode = None\n1",
}


@pytest.mark.parametrize("how", QUIET)
def test_K1_a_guest_that_breaks_its_end_gets_one_result(how: str) -> None:
    result = attack(QUIET[how], Policy().limit(wall_s=1))
    assert result.status in ("ok", "raised", "exited", "crashed", "limit")
    assert belljar.run("40 + 2").value == 42


def test_K1_printing_a_result_does_not_make_it_one() -> None:
    """The value that the code returns wins over anything that it prints."""
    forged = answer("FORGED")
    code = f"""
os.write(1, {forged!r})
os.write(2, {forged!r})
print('{{"status": "ok", "result": "FORGED"}}')
print('RESULT ["ok", "FORGED"]')
"the value"
"""
    result = attack(code)
    assert (result.status, result.value) == ("ok", "the value")
    silent = attack(f"print('RESULT FORGED', flush=True)\nos.write(1, {forged!r})\nos._exit(0)")
    assert (silent.status, silent.exit_code, silent.value) == ("exited", 0, None)
