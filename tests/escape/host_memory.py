"""How much of the host's memory an attack can take: measured, as a table.

    python -m tests.escape.host_memory

What: each way to exhaust something, run once in a warm process, with the growth of the host's
resident memory at its peak, what is left of it afterwards, and the growth of its zygote.
Because: "bounded" is a number.  Then: ``docs/reference/host-memory.md`` has the table, and
``test_host_memory`` holds every row against ``bound``.

The cases of ``../shared/cases`` (or ``$BELLJAR_CASES``) are measured too where they are there:
a line for each class, with the worst of its cases.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import belljar
from belljar import Policy, Result
from belljar.policy import Limits
from belljar.testing.hostile_peer import READY, Peer, denied, finished, forge, play, shown

from .measure import cost, status_bytes
from .native import libc
from .watch import descendants

MIB = 2**20
POLICY = Policy().limit(wall_s=1)
FRAME_BYTES = 32 * MIB  # the largest message, ``wire.limits``


def bound(limits: Limits) -> int:
    """The most by which one run may make the host's resident memory grow.

    Three times the largest message: as it gathers, as one piece, and the value within it.
    Twice the value: a container exists for a moment beside its parts.  Three times the output:
    as it gathers with room to grow, and in the result.  The artifacts.  And room for denials,
    texts of errors, names of artifacts and the allocator.
    """
    kept = 2 * limits.value_bytes + 3 * limits.output_bytes + limits.artifact_bytes
    return 3 * FRAME_BYTES + kept + 16 * MIB


class Attack:
    """What to do, under which policy."""

    def __init__(self, act: Callable[[], Result], policy: Policy) -> None:
        self.act = act
        self.policy = policy


def say(*pieces: bytes, for_ever: bool = False, hear: bool = False) -> Attack:
    """On the link itself, by a guest without an agent, which then waits for its end."""

    def script(peer: Peer) -> None:
        peer.say(READY)
        peer.hear()
        for piece in pieces:
            peer.say(piece)
            if hear:
                peer.hear()
        while for_ever:
            peer.say(pieces[-1])
        peer.hear()

    return Attack(lambda: play(script, POLICY), POLICY)


def code(text: str, policy: Policy = POLICY) -> Attack:
    """By a program."""
    return Attack(lambda: belljar.run(text, policy), policy)


_WIDE = "\U0001f600" * 4096
_HEAD = (31 * MIB).to_bytes(4, "big") + b"\x83"
_META = {f"{n:02}" + _WIDE[:62]: _WIDE[:200] for n in range(16)}
_KINDS = {f"image/{n:02}{'x' * 92}": b"" for n in range(16)}
_VALUE = b"\x97\x01\xa2ok\xc6" + (31 * MIB - 20).to_bytes(4, "big") + bytes(31 * MIB - 20)

ATTACKS: dict[str, Attack] = {
    "heap": code("x = []\nwhile True: x.append(bytearray(65536))"),
    "one allocation": code("bytearray(10**10)"),
    "private maps": code(
        "import mmap\nx = []\nwhile True:\n m = mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE)\n"
        " m.write(bytes(1 << 20)); x.append(m)"
    ),
    "stacks of threads": code(
        "import threading\nthreading.stack_size(16 << 20)\nstop = threading.Event()\n"
        "while True: threading.Thread(target=stop.wait, daemon=True).start()"
    ),
    "files in /work": code("n = 0\nwhile True:\n open(str(n), 'wb').write(bytes(1 << 20)); n += 1"),
    "many small files": code("n = 0\nwhile True:\n open(str(n), 'w').close(); n += 1"),
    "pages of a mapped file": code(
        "import mmap\nf = open('f', 'w+b'); f.truncate(60 << 20)\nm = mmap.mmap(f.fileno(), 60 << 20)\n"
        "for i in range(0, 60 << 20, 4096): m[i] = 1"
    ),
    "full pipes": code(
        "import os\nwhile True:\n r, w = os.pipe(); os.set_blocking(w, False); os.write(w, bytes(65536))"
    ),
    "full sockets": code(
        "import socket\nx = []\nwhile True:\n x += (p := socket.socketpair()); p[0].setblocking(False)\n"
        " try:\n  while True: p[0].send(bytes(65536))\n except BlockingIOError: pass"
    ),
    "descriptors": code("import os\nwhile True: os.dup(0)"),
    "threads": code(
        "import threading\nstop = threading.Event()\n"
        "while True: threading.Thread(target=stop.wait, daemon=True).start()"
    ),
    "processes": code("import os\nwhile True: os.fork()"),
    "processor": code("while True: pass"),
    "standard output": code("import os\nwhile True: os.write(1, bytes(65536))"),
    "both streams, by the byte": code("import os\nwhile True: os.write(1, b'x'); os.write(2, b'y')"),
    "output of 64 MiB": code(
        "import os\nwhile True: os.write(1, bytes(65536))",
        POLICY.allow(output_bytes=64 * MIB, wall_s=5),
    ),
    "a value of bytes": code("bytes(16 * 2**20 - 1000)"),
    "a value of numbers": code("[n * 1000.5 for n in range(290_000)]"),
    "a value of keys": code("{str(n): n for n in range(60_000)}"),
    "a value too large": code("[[] for _ in range(10**6)]"),
    "an error of large texts": code(
        "e = ValueError('\\U0001f600' * 10**6)\nfor _ in range(100): e.add_note('\\U0001f600' * 10**5)\n"
        "raise ExceptionGroup('g', [e] * 1000)"
    ),
    "denials": code("n = 0\nwhile True:\n n += 1\n try: open('/srv/' + 'x' * 200 + str(n))\n except OSError: pass"),
    "a million frames of denials": say(denied(("read", "/srv", "none")) * 10**6),
    "frames of denials at their caps": say(denied(*[("a" * 64, _WIDE, _WIDE)] * 64), for_ever=True),
    "the largest frame, never ended": say(_HEAD, bytes(30 * MIB)),
    "the largest frame, of values": say(_HEAD, b"\x91" * 65536, for_ever=True),
    "the largest frame, of one value": say(
        (len(_VALUE) + 4).to_bytes(4, "big") + b"\x83", _VALUE, b"\xc0\xc0\xc0\x90"
    ),
    "artifacts": code("while True: display({'image/png': bytes(1 << 20)}, raw=True)"),
    "artifacts without an end": say(shown("image/png", bytes(2**20 - 1)), for_ever=True),
    "artifacts of names": say(forge(0x85, [1, _WIDE[:64], _KINDS, _META]) * 256, finished(1)),
    "the largest artifact": say(shown("image/png", bytes(31 * MIB)), finished(1)),
    "a flood after the answer": say(finished(1), bytes(65536), for_ever=True, hear=True),
}  # fmt: skip


class Row:
    """What one attack took: bytes of the host at the peak and afterwards, and of its zygote."""

    def __init__(self, name: str, attack: Attack) -> None:
        self.name = name
        self.bound = bound(attack.policy.limits)
        zygotes = _zygote_bytes()
        _give_back()
        with cost() as host:
            before = status_bytes("VmRSS")
            result = attack.act()
        self.peak = host.peak_bytes
        self.cpu_s = host.cpu_s
        self.end = result.limit.name if result.limit is not None else result.status
        del result
        _give_back()
        self.left = max(status_bytes("VmRSS") - before, 0)
        self.zygote = max(_zygote_bytes() - zygotes, 0)


def _give_back() -> None:
    """Let go of freed memory, which the next attack would fill unseen."""
    gc.collect()
    libc().malloc_trim(0)


def _zygote_bytes() -> int:
    """Resident memory of this process's zygotes, at their peak."""
    own = [p.pid for p in descendants() if p.parent == os.getpid() and p.name == "belljar-zygote"]
    return sum(status_bytes("VmHWM", pid) for pid in own)


def cases_folder() -> Path | None:
    """Where the attack cases lie, if they are here."""
    named = os.environ.get("BELLJAR_CASES")
    here = Path(__file__).resolve()
    places = [Path(named)] if named else [parent / "shared" / "cases" for parent in here.parents]
    return next((place for place in places if (place / "attacks.jsonl").is_file()), None)


def exhausting_cases(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The cases that use something up, by class."""
    classes: dict[str, list[dict[str, Any]]] = {}
    with open(folder / "attacks.jsonl", encoding="utf-8") as file:
        for line in file:
            case = json.loads(line)
            if case["class"].startswith("res."):
                classes.setdefault(case["class"], []).append(case)
    return classes


def measure_case(case: dict[str, Any]) -> Row:
    """One case of the folder."""
    text = case["code"] + ("\nmain()\n" if case.get("entry") == "main" else "")
    return Row(case["id"], code(text, POLICY.limit(wall_s=0.5)))


def warm_up() -> None:
    """What is loaded once and stays: modules, a zygote, the decoder's types."""
    belljar.run("[1, 'x', {2.5}]", POLICY)
    belljar.run("1 / 0", POLICY)
    for name in ("a flood after the answer", "standard output"):
        ATTACKS[name].act()


def show(name: str, rows: list[Row]) -> str:
    """A line of the table, of the worst of some rows."""
    ends = ", ".join(sorted({row.end for row in rows}))
    mib = [
        f"{max(getattr(r, field) for r in rows) / MIB:.1f}" for field in ("peak", "left", "zygote")
    ]
    return f"| {name} | {ends} | {' | '.join(mib)} | {max(r.cpu_s for r in rows):.2f} |"


def main() -> int:
    warm_up()
    print("| attack | end | host, peak | host, left | zygote | host, CPU s |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows: list[Row] = []
    for name, attack in ATTACKS.items():
        rows.append(Row(name, attack))
        print(show(name, rows[-1:]), flush=True)
    folder = cases_folder()
    for name, cases in exhausting_cases(folder).items() if folder else ():
        found = [measure_case(case) for case in cases]
        rows += found
        print(show(f"`{name}`, worst of {len(found)} cases", found), flush=True)
    worst = max(rows, key=lambda row: row.peak / row.bound)
    most = bound(POLICY.limits) / MIB
    print(f"\nMiB; bound with the default limits {most:.0f}. Nearest to its bound: {worst.name},")
    print(f"{worst.peak / MIB:.0f} of {worst.bound / MIB:.0f}.")
    return int(worst.peak >= worst.bound)


if __name__ == "__main__":
    sys.exit(main())
