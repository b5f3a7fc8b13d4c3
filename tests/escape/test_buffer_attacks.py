"""K1, K3, K8, R1: attacks on the way of large values, by a peer and by native code inside.

What: a guest names stretches of its memory, the host copies them; the host announces bytes, a
guest reads them.  Because: every address, size and order is the guest's claim.  Then: whatever
it claims there is one result, the host reads nothing but that guest's memory, takes no more
than ``value_bytes``, holds no descriptor of it and shares no page with it.
"""

from __future__ import annotations

import array
import ctypes
import gc
import mmap
import os
import socket
import threading
from typing import Any

import pytest

import belljar
from belljar import Policy, Result, Sandbox
from belljar.testing.hostile_peer import READY, Peer, finished, forge, play
from belljar.wire.bulk import MOST_PIECES

from .watch import descriptors, resident_bytes

HOLD, ROOM = 0x8B, 0x8A
SIZE = 100_000
NEXT_BYTES = b"\xd5\x0f\x0d\x00"  # a value: the next piece, as bytes
POLICY = Policy().limit(wall_s=2, value_bytes=2**22)
OPEN = Policy().allow(modules=["*"], value_bytes=2**24)


def hold(*stretches: tuple[int, int], run_id: int = 1) -> bytes:
    return forge(HOLD, [run_id, [one for one, _ in stretches], [size for _, size in stretches]])


def value_of(*raw: bytes) -> bytes:
    """The last word with these encoded values in a list."""
    value = bytes((0x90 | len(raw),)) + b"".join(raw)
    return forge(0x83, [1, "ok", value, None, None, None, []])


def place(data: Any) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(data))


def taken(data: bytes) -> bool:
    """What the host said to a Hold."""
    assert data[4] == 0x0A, data
    return data[-1:] == b"\xc3"


def broke(result: Result) -> bool:
    return result.error is not None and result.error.type == "GuestProtocolError"


# --- by a peer ------------------------------------------------------------------------------


def test_X4_the_honest_way() -> None:
    """Control: the peer can do it right."""

    def script(peer: Peer) -> None:
        peer.say(READY)
        peer.hear()
        data = bytearray(b"x" * SIZE)
        peer.say(hold((place(data), SIZE)))
        assert taken(peer.hear())
        peer.say(value_of(NEXT_BYTES))

    assert play(script, POLICY).value == [b"x" * SIZE]


def no_memory() -> list[tuple[int, int]]:
    page = mmap.mmap(-1, 1 << 20)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect(ctypes.c_void_p(place(page)), ctypes.c_size_t(1 << 20), 0)
    return [(place(page), SIZE)]


def cut_file() -> list[tuple[int, int]]:
    fd = os.memfd_create("x")
    os.truncate(fd, 1 << 20)
    page = mmap.mmap(fd, 1 << 20)
    os.truncate(fd, 0)
    KEPT.append(page)
    return [(place(page), SIZE)]


KEPT: list[Any] = []


@pytest.mark.parametrize(
    "stretches",
    [
        lambda: [(0, SIZE)],
        lambda: [(2**64 - 1, SIZE)],
        lambda: [(2**64 - SIZE, SIZE)],
        lambda: [(2**63, SIZE)],
        lambda: [(0xFFFF_8000_0000_0000, SIZE)],
        lambda: [(0x7FFF_FFFF_F000, SIZE)],
        no_memory,
        cut_file,
    ],
    ids=["null", "last", "wrap", "half", "kernel", "stack end", "protected", "cut file"],
)
def test_K1_memory_that_is_not_there_is_told_and_nothing_else_happens(stretches: Any) -> None:
    """Not a signal on the host: a file that was cut is SIGBUS for whoever has it mapped."""

    def script(peer: Peer) -> None:
        peer.say(READY)
        peer.hear()
        peer.say(hold(*stretches()))
        answer = taken(peer.hear())
        peer.say(finished(answer))

    before = descriptors()
    assert play(script, POLICY).value is False
    assert descriptors() == before


@pytest.mark.parametrize(
    "said",
    [
        hold((4096, 2**40)),
        hold((4096, 2**22 + 1)),
        hold(*[(4096, 2**20)] * 5),
        hold(*[(4096, SIZE)] * (MOST_PIECES + 1)),
        hold((4096, 1)),
        hold((4096, -1)),
        hold((-1, SIZE)),
        hold((2**64, SIZE)),
        hold(),
        hold((4096, SIZE), run_id=2),
        forge(HOLD, [1, [4096], [SIZE, SIZE]]),
        forge(HOLD, [1, [4096, 4096], [SIZE]]),
        forge(HOLD, [1, 4096, SIZE]),
        forge(HOLD, [1, [4096.0], [SIZE]]),
        forge(ROOM, []),
        forge(0x0A, [1, True]),
        forge(0x09, [[SIZE]]),
        hold((4096, SIZE)) * 2,
    ],
)
def test_K1_claims_that_no_agent_makes_end_the_guest(said: bytes) -> None:
    """Before any memory is taken for them: R1."""

    def script(peer: Peer) -> None:
        peer.say(READY)
        peer.hear()
        peer.say(said)
        peer.hear()
        peer.hear()

    before = resident_bytes()
    assert broke(play(script, POLICY))
    assert resident_bytes() - before < 2**22


def test_K1_a_hold_before_the_run() -> None:
    assert broke(play(lambda peer: (peer.say(READY + hold((4096, SIZE))), peer.hear()), POLICY))
    assert broke(play(lambda peer: (peer.say(hold((4096, SIZE))), peer.hear()), POLICY))


def test_K1_an_answer_that_does_not_wait() -> None:
    """Hold and the last word in one piece: the host copies what is there, or has nothing."""

    def script(peer: Peer) -> None:
        peer.say(READY)
        peer.hear()
        data = bytearray(b"x" * SIZE)
        peer.say(hold((place(data), SIZE)) + value_of(NEXT_BYTES))
        peer.hear()

    result = play(script, POLICY)
    assert result.status == "ok"
    assert result.value in (None, [b"x" * SIZE])


@pytest.mark.parametrize("refer", [0, 2, 3])
def test_K1_more_or_fewer_references_than_pieces(refer: int) -> None:
    def script(peer: Peer) -> None:
        peer.say(READY)
        peer.hear()
        data = bytearray(SIZE)
        peer.say(hold((place(data), SIZE)))
        assert taken(peer.hear())
        peer.say(value_of(*[NEXT_BYTES] * refer))

    result = play(script, POLICY)
    assert (result.status, result.value) == ("ok", None)
    assert "refer" in str(result.value_error)


def test_K1_references_without_pieces() -> None:
    def script(peer: Peer) -> None:
        peer.say(READY)
        peer.hear()
        peer.say(value_of(NEXT_BYTES))

    assert "refer" in str(play(script, POLICY).value_error)


def test_K10_a_guest_that_dies_with_its_memory() -> None:
    def script(peer: Peer) -> None:
        peer.say(READY)
        peer.hear()
        data = bytearray(2**22)
        peer.say(hold((place(data), 2**22)))
        os.kill(os.getpid(), 9)

    before = descriptors()
    for _ in range(5):
        result = play(script, POLICY)
        assert (result.status, result.signal, result.value) == ("crashed", 9, None)
    assert descriptors() == before


def test_R1_what_was_held_for_nothing_is_let_go() -> None:
    """Zeros that were never touched cost the guest nothing; the host has at most value_bytes."""

    def script(peer: Peer) -> None:
        peer.say(READY)
        peer.hear()
        data = mmap.mmap(-1, 2**22)
        peer.say(hold((place(data), 2**22)))
        taken(peer.hear())
        peer.say(finished(1))

    play(script, POLICY)
    gc.collect()
    before = resident_bytes()
    for _ in range(20):
        play(script, POLICY)
    gc.collect()
    assert resident_bytes() - before < 2**23


def test_K3_descriptors_on_the_link_reach_nobody() -> None:
    """The host reads its link without room for any: the kernel closes them."""

    def script(peer: Peer) -> None:
        peer.say(READY)
        peer.hear()
        link = socket.socket(fileno=os.dup(peer.link))
        ends = [link.fileno(), *os.pipe(), os.open("/", os.O_RDONLY), os.memfd_create("x")]
        ends.append(os.open("/proc/self/status", os.O_RDONLY))
        packed = array.array("i", ends * 40)
        for byte in finished(1)[:-1]:
            link.sendmsg([bytes((byte,))], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)])
        peer.say(finished(1)[-1:])

    before = descriptors()
    assert play(script, POLICY).value == 1
    assert descriptors() == before


# --- what the host pours --------------------------------------------------------------------


def guest_says(code: str, policy: Policy = OPEN) -> list[Any]:
    """Code inside takes the agent's place on the link (descriptor 3); the next thing is a set."""
    found: list[Any] = []
    head = "import os, struct\ndef say(kind, payload): os.write(3, struct.pack('>IB', len(payload), kind) + payload)\n"
    with Sandbox(policy.limit(wall_s=1)) as sandbox:
        sandbox.run("x = 1")
        for act in (
            lambda: sandbox.run(head + code),
            lambda: sandbox.run("1", inputs={"big": b"x" * 3_000_000}),
            lambda: sandbox.run("len(big)"),
        ):
            try:
                found.append(act())
            except belljar.BelljarError as error:
                found.append(type(error).__name__)
    return found


@pytest.mark.parametrize(
    "code",
    [
        "say(0x8a, b'\\x90')",
        "say(0x8a, b'\\x90') ; say(0x8a, b'\\x90')",
        "import threading\ndef eat():\n  while True: os.read(3, 1 << 16)\nthreading.Thread(target=eat, daemon=True).start()",
        "os.readv = None; import mmap; mmap.mmap = None",
        "os.set_blocking(3, False)",
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**27, 2**27))",
        "os.close(3)",
        "import socket; s = socket.socket(fileno=3); s.shutdown(socket.SHUT_RD); s.detach()",
    ],
    ids=["room", "twice", "eat", "patched", "unblocked", "no memory", "closed", "deaf"],
)
def test_K1_a_guest_that_takes_it_wrongly_has_an_outcome(code: str) -> None:
    guest_says("")  # so that what stays for others is there
    before = descriptors(), threading.active_count()
    for result in guest_says(code):
        assert result in ("ClosedError",) or isinstance(result, Result)
    gc.collect()
    assert (descriptors(), threading.active_count()) == before


def test_R1_inputs_that_do_not_fit_are_a_memory_error_before_anything_runs() -> None:
    policy = OPEN.limit(memory_bytes=2**27)
    result = belljar.run("print('ran')", policy, inputs={"x": bytes(2**28)})
    assert (result.status, result.stdout) == ("limit", "")
    assert result.limit is not None
    assert result.limit.name == "memory"
    with Sandbox(policy) as sandbox:
        assert sandbox.run("1", inputs={"x": bytes(2**28)}).status == "limit"
        assert sandbox.run("1 + 1").value == 2


# --- by code inside ---------------------------------------------------------------------------


def test_K3_nothing_is_shared_after_a_value_has_crossed() -> None:
    """The guest writes over its memory as soon as it can, from threads and in later runs."""
    code = (
        "import threading\n"
        "data = bytearray(b'a') * 4_000_000\n"
        "def spoil():\n"
        "  n = 0\n"
        "  while True:\n"
        "    n += 1; data[::4096] = bytes((n % 26 + 97,)) * len(data[::4096])\n"
        "threading.Thread(target=spoil, daemon=True).start()\n"
        "memoryview(data)"
    )
    with Sandbox(OPEN) as sandbox:
        value = sandbox.run(code).unwrap()
        seen = bytes(value)
        for _ in range(5):
            sandbox.run("import time; time.sleep(0.01); data[:] = b'z' * len(data)")
            assert bytes(value) == seen
    assert bytes(value) == seen
    assert value.readonly


def test_K3_what_went_in_is_the_guests_own_copy() -> None:
    data = bytearray(b"a" * 1_000_000)
    with Sandbox(OPEN) as sandbox:
        sandbox.set(data=data)
        sandbox.run("data[:] = b'b' * len(data)")
        assert data == b"a" * 1_000_000
        data[:] = b"c" * len(data)
        assert sandbox.get("data") == b"b" * 1_000_000


def test_C9_no_memory_file_is_ever_inside() -> None:
    """Such a file could be mapped executable, and no limit would count it."""
    code = (
        "import os\n"
        "big2 = bytes(big)\n"
        "names = []\n"
        "for n in range(64):\n"
        "  try: names.append(os.readlink(f'/proc/self/fd/{n}').partition(':')[0])\n"
        "  except OSError: pass\n"
        "names"
    )
    with Sandbox(OPEN, inputs={"big": bytearray(1_000_000)}) as sandbox:
        names = sandbox.run(code).unwrap()
        assert not [name for name in names if "memfd" in name]
        assert len(sandbox.get("big2")) == 1_000_000
        assert sandbox.run(code).unwrap() == names


def test_R1_a_guest_cannot_make_the_host_hold_more_than_value_bytes() -> None:
    """Untouched zeros are free inside; what is copied of them is what the host allows."""
    policy = OPEN.allow(memory_bytes=2**30).limit(value_bytes=2**22)
    result = belljar.run("[bytes(2**20)] * 5", policy)
    assert "value_bytes" in str(result.value_error)
    result = belljar.run("bytes(2**29)", policy)
    assert "value_bytes" in str(result.value_error)
    assert len(belljar.run("[bytes(2**20)] * 3", policy).unwrap()) == 3


def test_K10_hundreds_of_large_values_leave_nothing() -> None:
    with Sandbox(OPEN) as sandbox:
        for _ in range(10):
            sandbox.call("bytes", 2**20)
        gc.collect()
        before, open_before = resident_bytes(), descriptors()
        for _ in range(150):
            assert len(sandbox.call("len", bytes(2**17)).to_bytes(4, "big")) == 4
            sandbox.call("bytes", 2**20)
        gc.collect()
        assert descriptors() == open_before
        assert resident_bytes() - before < 40 * 2**20  # the history keeps 16 MiB of inputs


def test_K1_a_fork_that_goes_on_does_not_speak_for_the_run() -> None:
    policy = OPEN.allow(processes=4)
    code = "import os\npid = os.fork()\nb'c' * 200_000 if pid == 0 else b'p' * 200_000"
    assert belljar.run(code, policy).unwrap() == b"p" * 200_000


@pytest.mark.parametrize("missing", [0, 40 * 2**20 - 4096, 21 * 2**20])
def test_K1_a_hole_anywhere_in_what_two_threads_copy(missing: int) -> None:
    size = 40 * 2**20

    def script(peer: Peer) -> None:
        peer.say(READY)
        peer.hear()
        data = mmap.mmap(-1, size)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.munmap(ctypes.c_void_p(place(data) + missing), ctypes.c_size_t(4096))
        peer.say(hold((place(data), size)))
        peer.say(finished(taken(peer.hear())))
        os._exit(0)

    assert play(script, POLICY.allow(value_bytes=2**26, wall_s=10)).value is False


def test_X4_a_large_value_is_whole() -> None:
    """Copied by two threads: the seam is where it should be."""
    policy = OPEN.allow(memory_bytes=2**30, value_bytes=2**27)
    code = "import array\narray.array('I', range(10_000_019)).tobytes()"
    value = belljar.run(code, policy.allow(wall_s=60, cpu_s=60)).unwrap()
    assert len(value) == 40_000_076
    numbers = array.array("I", value)
    assert all(map(int.__eq__, numbers, range(10_000_019)))
