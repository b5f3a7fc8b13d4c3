"""R1, R2, K1, K6: attempts to be counted for less than what is used, and to outlive an end.

What: memory that is held where nobody looks (behind a first thread that has ended, in page
tables, in the buffers of sockets), looking made dear, memory that must not count twice, and
code that fights its end.  Because: where no cgroup counts, the host's own watch is the wall, and
a watch can be deceived.  Then: each ends by the limit's name, without the Python layer.
"""

from __future__ import annotations

import time
from typing import Any

import pytest

import belljar
from belljar import Policy

from . import watch
from .native import attack, outcome

MIB = 2**20
SEVERAL = Policy().allow(processes=4, wall_s=60, cpu_s=60)

# The first thread of each process ends; another one holds the memory.
WITHOUT_FIRST_THREAD = """
import threading, time

def hold():
    time.sleep(0.2)
    held = b"x" * (40 << 20)
    time.sleep(60)

for _ in range(4):
    if os.fork() == 0:
        threading.Thread(target=hold).start()
        call("exit", 0)
time.sleep(60)
"""
# A page for each GiB of the address space, which costs two of page tables.  It is only read, so
# that it is the kernel's page of zeros and counts as nothing.
PAGE_TABLES = """
import time

def spread():
    for number in range(15_000):
        at = (1 << 32) + (number << 30)
        call("mmap", at, 4096, 1, 0x22 | 0x10_0000, -1, 0)
        _ctypes.string_at(at, 1)

for _ in range(2):
    if os.fork() == 0:
        spread()
        time.sleep(60)
time.sleep(60)
"""
# Each process hands its memory to a child and ends, as fast as it can.
ON_THE_RUN = """
import signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)

def run():
    held = b"x" * (40 << 20)
    while True:
        try:
            if os.fork():
                os._exit(0)
        except BlockingIOError:
            time.sleep(0.001)

for _ in range(3):
    if os.fork() == 0:
        run()
time.sleep(60)
"""
# Sixteen thousand maps in each process, so that it takes long to look at them, and then a fill.
HARD_TO_SEE = """
import time

def split():
    size = 16_000 * 4096
    at = call("mmap", 0, size, 1, 0x22, -1, 0)
    for page in range(0, size, 8192):
        call("mprotect", at + page, 4096, 3)

for _ in range(4):
    if os.fork() == 0:
        split()
        time.sleep(1)
        held = b"x" * (40 << 20)
        time.sleep(60)
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        (WITHOUT_FIRST_THREAD, 64 * MIB),
        (PAGE_TABLES, 64 * MIB),
        (ON_THE_RUN, 64 * MIB),
        (HARD_TO_SEE, 128 * MIB),
    ],
    ids=["first thread ended", "page tables", "on the run", "hard to see"],
)
def test_R1_memory_of_several_processes_is_seen_wherever_it_is(code: str, allowed: int) -> None:
    result = attack(code, SEVERAL.limit(memory_bytes=allowed))
    assert result.status == "limit", (result.status, result.error, result.stderr)
    assert result.limit is not None
    assert (result.limit.name, result.limit.evidence) == ("memory", "kernel")
    assert result.usage.peak_memory_bytes > allowed


def test_R1_memory_that_a_vfork_borrows_counts_once() -> None:
    """Until it executes a program it lives in its parent's memory, here for a second."""
    code = """
import posix, time
held = b"x" * (100 << 20)
os.mkfifo("/work/gate")
if os.fork() == 0:
    time.sleep(1)
    os.write(os.open("/work/gate", os.O_WRONLY), b"x")
    os._exit(0)
opening = [(posix.POSIX_SPAWN_OPEN, 0, "/work/gate", os.O_RDONLY, 0)]
child = posix.posix_spawn("/usr/bin/true", ["true"], {}, file_actions=opening)
os.waitpid(child, 0)[1]
"""
    policy = SEVERAL.limit(memory_bytes=128 * MIB).allow(run=["true"])
    assert outcome(code, policy) == 0


def test_R1_pages_of_files_do_not_hide_in_the_buffers_of_sockets() -> None:
    """Two bytes of two pages held both, in no file and no process: 2 MiB for each socket."""
    code = """
import socket
left, right = socket.socketpair()
file = os.open("/work/file", os.O_RDWR | os.O_CREAT)
os.pwrite(file, b"xx", 4095)
_, pipe = os.pipe()
at = _ctypes.c_long(4095)
{
    end: call("sendfile", number, file, _ctypes.byref(at), 2)
    for end, number in (("socket", left.fileno()), ("pipe", pipe), ("file", 1))
}
"""
    assert outcome(code) == dict.fromkeys(("socket", "pipe", "file"), "ENOSYS")


def test_R2_copying_does_without_sendfile() -> None:
    code = """
import asyncio, shutil, socket
data = os.urandom(300_000)
with open("/work/from", "wb") as file:
    file.write(data)
shutil.copyfile("/work/from", "/work/to")
with open("/work/to", "rb") as file:
    copied = file.read() == data

def received(end):
    found = b""
    while len(found) < 1000:
        found += end.recv(1000)
    return found == data[:1000]

left, right = socket.socketpair()
with open("/work/from", "rb") as file:
    left.sendfile(file, count=1000)
sent = received(right)

async def main():
    with open("/work/from", "rb") as file:
        left.setblocking(False)
        await asyncio.get_running_loop().sock_sendfile(left, file, 0, 1000)

asyncio.run(main())
(copied, sent, received(right))
"""
    assert outcome(code) == (True, True, True)


def test_R1_the_host_is_told_of_a_guest_whose_first_thread_has_ended() -> None:
    code = """
import threading, time
def go_on():
    held = b"x" * (40 << 20)
    time.sleep(1)
threading.Thread(target=go_on).start()
call("exit", 0)
"""
    told: list[belljar.UsageNow] = []
    attack(code, on_usage=told.append)
    assert told
    assert told[-1].memory_bytes > 40 * MIB
    assert told[-1].peak_memory_bytes > 40 * MIB


FIGHTS: dict[str, str] = {
    "swallows it": "while True:\n try:\n  while True: time.sleep(0.01)\n except BaseException: pass",
    "goes on in __del__": "class Again:\n def __del__(self):\n  while True: Again()\n"
    "try:\n while True: time.sleep(0.01)\nfinally:\n again = Again(); del again",
    "signals itself": "import signal\nsignal.signal(23, lambda *_: None)\n"
    "while True: os.kill(os.getpid(), 23)",
    "forges frames": "try: time.sleep(60)\nexcept TimeoutError:\n"
    " while True: os.write(3, b'\\0\\0\\0\\5hello' * 1000)",
    "stops itself": "os.fork() or [os.kill(os.getppid(), 19) for _ in iter(int, 1)]\ntime.sleep(60)",
    "leaves it to others": "import threading\nfor _ in range(3):\n"
    " threading.Thread(target=time.sleep, args=(60,)).start()\n os.fork()\ncall('exit', 0)",
    "prints in the grace": "try: time.sleep(60)\nexcept TimeoutError:\n"
    " while True: os.write(1, b'x'); time.sleep(0.001)",
}


@pytest.mark.parametrize("how", FIGHTS)
def test_K6_no_code_outlives_its_grace(how: str) -> None:
    """One result, by the limit's name, and nothing left."""
    policy = Policy().allow(processes=8, grace_s=0.5).limit(wall_s=0.3, pause_s=0.5)
    heard: list[Any] = []

    def listen(stream: str, data: bytes) -> None:
        heard.append(data)
        time.sleep(0.01)

    attack("1", policy)
    before = watch.descriptors(), {p.pid for p in watch.descendants()}
    result = attack("import time\n" + FIGHTS[how], policy, on_output=listen)
    assert result.status == "limit", (result.status, result.error, result.stderr)
    assert result.limit is not None
    assert result.limit.name == "wall"
    assert watch.eventually(
        lambda: (watch.descriptors(), {p.pid for p in watch.descendants()}) == before
    )
