"""R1, R2, K1: every limit holds, names itself, and says what was allowed.

What: for each field of ``Limits`` the ways to use it up, in Python and below it, and the same
use within the limit.  Because: what can be exhausted will be.  Then: the run ends with the
limit's name, or the guest sees the error that programs know, and the host goes on.
"""

from __future__ import annotations

import pytest

import belljar
from belljar import Policy, Result

from .conftest import Wall
from .native import attack, outcome
from .watch import resident_bytes

MIB = 2**20


def limited(result: Result, name: str, allowed: float) -> None:
    """The run ended at this limit, and says so."""
    assert result.status == "limit", (result.status, result.signal, result.error)
    assert result.limit is not None
    assert (result.limit.name, result.limit.allowed) == (name, allowed)


# ---------------------------------------------------------------------------- memory

FILLS = {
    "heap list": "x = []\nwhile True: x.append([0] * 1000)",
    "bytearray": "x = bytearray(200 * 2**20)",
    "growing bytes": "x = b'x'\nwhile True: x += x",
    "text": "'x' * 10**9",
    "dict": "x = {}\nwhile True: x[len(x)] = str(len(x)) * 100",
    "shift": "1 << 10**10",
    "format": "f'{1:{10**9}}'",
    "repeat": "[[]] * 10**9",
    "anonymous map": "import mmap; x = mmap.mmap(-1, 200 * 2**20, flags=mmap.MAP_PRIVATE)",
    "many maps": "import mmap; x = []\n"
    "while True: x.append(mmap.mmap(-1, 2**20, flags=mmap.MAP_PRIVATE))",
    "decompression": "import zlib\nx = zlib.compressobj(9)\nd = x.compress(bytes(2**20))\n"
    "for _ in range(300): d += x.compress(bytes(2**20))\nd += x.flush()\nzlib.decompress(d)",
    "array": "import array; array.array('d', [0.0]) * 10**8",
    "decimal": "import decimal; decimal.getcontext().prec = 10**9; decimal.Decimal(1) / 3",
    "recursion of data": "x = ()\nwhile True: x = (x, [0] * 1000)",
}


@pytest.mark.parametrize("how", FILLS)
def test_R1_memory_ends_the_run_or_is_refused(how: str) -> None:
    allowed = 64 * MIB
    policy = Policy().limit(memory_bytes=allowed)
    before = resident_bytes()
    result = belljar.run(FILLS[how], policy)
    limited(result, "memory", allowed)
    # Interpreter and limit together; the address space of libraries is not resident.
    assert result.usage.peak_memory_bytes < allowed + 64 * MIB
    assert resident_bytes() - before < 32 * MIB


def test_R1_the_same_memory_is_had_within_the_limit() -> None:
    policy = Policy().limit(memory_bytes=128 * MIB)
    assert outcome("x = bytearray(64 * 2**20); len(x)", policy) == 64 * MIB


def test_R1_memory_error_can_be_caught_inside() -> None:
    code = """
try:
    x = bytearray(10**9)
except MemoryError:
    answer = "refused"
answer
"""
    assert outcome(code, Policy().limit(memory_bytes=64 * MIB)) == "refused"


NATIVE_FILLS = """
size, kept, taken = 1 << 20, [], 0
while taken < 1000 * size:
    got = call("mmap", 0, size, 3, FLAGS, -1, 0)
    if isinstance(got, str):
        break
    kept.append(got)
    _ctypes.memset(got, 1, size)
    taken += size
(taken, got if isinstance(got, str) else "no end")
"""


@pytest.mark.parametrize("flags", [0x22, 0x22 | 0x4000, 0x22 | 0x8000, 0x22 | 0x20000])
def test_R1_raw_maps_end_at_the_limit(flags: int) -> None:
    """Private, unreserved, populated, stack-like."""
    policy = Policy().limit(memory_bytes=64 * MIB)
    taken, error = outcome(NATIVE_FILLS, policy, inputs={"FLAGS": flags})
    assert error == "ENOMEM"
    assert 16 * MIB < taken <= 64 * MIB


SHARED = """
found = {}
for flags in (0x21, 0x23, 0x21 | 0x4000, 0x21 | 0x8000):
    found[hex(flags)] = call("mmap", 0, 1 << 20, 3, flags, -1, 0)
found["device"] = call("mmap", 0, 1 << 20, 3, 1, call("openat", AT, b"/dev/zero", 2, 0), 0)
found["memory file"] = call("memfd_create", b"x", 0)
found["segment"] = call("shmget", 0, 1 << 20, 0o1600)
{name: got for name, got in found.items() if not isinstance(got, str)}
"""


@pytest.mark.parametrize("call_wall", ["all", "no root"], indirect=True)
def test_R1_memory_that_no_limit_would_count_is_not_had(call_wall: Wall) -> None:
    """Shared memory without a file lives as long as one page of it is mapped."""
    assert outcome(SHARED, call_wall.policy) == {}


def test_R1_brk_and_mremap_end_at_the_limit() -> None:
    code = """
start = call("brk", 0)
grown = call("brk", start + (200 << 20))
map = call("mmap", 0, 4096, 3, 0x22, -1, 0)
(grown - start if isinstance(grown, int) else grown, call("mremap", map, 4096, 200 << 20, 1, 0))
"""
    grown, moved = outcome(code, Policy().limit(memory_bytes=64 * MIB))
    assert grown == "ENOMEM" or grown < MIB
    assert moved == "ENOMEM"


KERNEL_FILLS = """
import socket, struct
found = {}
def fill(write):
    total = 0
    while total < 1 << 30:
        got = write()
        if isinstance(got, str) or got <= 0:
            return total
        total += got
    return total

kept, total = [], 0
while True:
    pair = buffer(8)
    got = call("pipe2", pair, 0o4000)
    if isinstance(got, str):
        break
    left, right = struct.unpack("ii", pair.raw)
    kept.append(left)
    total += fill(lambda: call("write", right, bytes(65536), 65536))
    found["larger pipe"] = call("fcntl", right, 1031, 1 << 20)
found["pipes"] = total
for fd in range(5, 200):
    call("close", fd)
total = 0
while True:
    try:
        left, right = socket.socketpair()
    except OSError:
        break
    kept += [left, right]
    found["larger socket"] = attempt(left.setsockopt, 1, 7, 1 << 24)
    found["forced"] = attempt(left.setsockopt, 1, 32, 1 << 24)
    left.setblocking(False)
    total += fill(lambda: attempt(left.send, bytes(65536)))
found["sockets"] = total
found["memory file"] = call("memfd_create", b"x", 0)
found["segment"] = call("shmget", 0, 1 << 30, 0o1777)
found["queue"] = call("mq_open", b"q", 0o102, 0o600, None)
found["keys"] = call("add_key", b"user", b"x", bytes(1000), 1000, -2)
found["locked"] = call("mlock", bytes(4096), 4096)
timers = 0
while timers < 100_000 and not isinstance(call("timer_create", 1, None, buffer(8)), str):
    timers += 1
found["timers"] = timers
events = 0
found
"""


def test_R1_kernel_memory_is_bounded_too() -> None:
    """Pipes, socket buffers, timers: a few megabytes, whatever the guest tries."""
    found = outcome(KERNEL_FILLS, Policy().limit(wall_s=5))
    assert found["pipes"] <= 64 * 2**16
    assert found["sockets"] <= 64 * 2 * MIB
    assert found["timers"] <= 64
    for name in ("larger pipe", "larger socket", "forced", "memory file", "segment", "queue"):
        assert isinstance(found[name], str), name
    for name in ("keys", "locked"):
        assert isinstance(found[name], str), name


def test_R1_stacks_of_threads_count() -> None:
    code = """
import threading
threading.stack_size(32 << 20)
gate = threading.Event()
threads = []
try:
    while len(threads) < 16:
        thread = threading.Thread(target=gate.wait)
        thread.start()
        threads.append(thread)
except RuntimeError:
    pass
gate.set()
for thread in threads: thread.join()
len(threads)
"""
    # Four or five stacks of 32 MiB are more than 128 MiB.
    assert outcome(code, Policy().limit(memory_bytes=128 * MIB)) < 5


DEEP = [
    "def f(): f()\nf()",
    "import sys; sys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
    "x = []\nfor _ in range(10**6): x = [x]\nrepr(x)",
    "import re; re.compile('(' * 10**5)",
    "x = None\nfor _ in range(10**6): x = {'a': x}\nx == x",
]


@pytest.mark.parametrize("code", DEEP)
def test_K1_recursion_harms_the_guest_at_most(code: str) -> None:
    result = belljar.run(code, Policy().limit(cpu_s=1))
    assert result.status in ("ok", "raised", "crashed", "limit")
    assert belljar.run("1 + 1").value == 2


# ------------------------------------------------------------------------ work files

WORK_FILLS = {
    "bytes": "with open('f', 'wb') as f:\n while True: f.write(bytes(2**16))",
    "tmp": "with open('/tmp/f', 'wb') as f:\n while True: f.write(bytes(2**16))",
    "many": "i = 0\nwhile True:\n i += 1\n with open(str(i), 'wb') as f: f.write(bytes(2**16))",
    "reserved": "import os; os.posix_fallocate(os.open('f', os.O_RDWR | os.O_CREAT), 0, 8 * 2**20)",
}


@pytest.mark.parametrize("how", WORK_FILLS)
def test_R1_work_bytes_end_the_run(how: str) -> None:
    policy = Policy().limit(work_bytes=4 * MIB)
    limited(belljar.run(WORK_FILLS[how], policy), "work", 4 * MIB)


def test_R1_work_bytes_are_counted_by_the_kernel() -> None:
    """Maps, holes, links and deleted files that stay open: nothing beyond the limit."""
    code = """
import mmap
fd = os.open("hole", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 32 << 20)
total = 0
kept = []
while total < 64 << 20:
    try:
        name = str(len(kept))
        held = os.open(name, os.O_RDWR | os.O_CREAT)
        total += os.write(held, bytes(1 << 16))
        os.unlink(name)
        kept.append(held)
        if len(kept) > 20:
            while True: total += os.write(held, bytes(1 << 16))
    except OSError as full:
        error = full.errno
        break
(total, error)
"""
    total, error = outcome(code, Policy().limit(work_bytes=4 * MIB))
    assert error == 28
    assert total <= 4 * MIB
    mapped = attack(
        "import mmap\nfd = os.open('hole', os.O_RDWR | os.O_CREAT)\nos.ftruncate(fd, 32 << 20)\n"
        "m = mmap.mmap(fd, 32 << 20)\nfor i in range(0, 32 << 20, 4096): m[i] = 1",
        Policy().limit(work_bytes=4 * MIB),
    )
    # A page of a full file system that is touched through a map is a bus error.
    assert (mapped.status, mapped.signal) == ("crashed", 7)


@pytest.mark.parametrize(
    "make",
    [
        "open(str(i), 'w').close()",
        "os.mkdir(str(i))",
        "os.symlink('x', str(i))",
        "os.mkfifo(str(i))",
    ],
)
def test_R2_work_files_end_the_run(make: str) -> None:
    code = f"import os\nfor i in range(10_000): {make}"
    limited(belljar.run(code, Policy().limit(work_files=100)), "work_files", 100)


def test_R2_work_files_and_bytes_within_the_limit() -> None:
    code = """
for i in range(50): open(f"f{i}", "w").close()
with open("big", "wb") as file: file.write(bytes(3 << 20))
len(os.listdir(".")), os.statvfs(".").f_blocks * os.statvfs(".").f_frsize
"""
    policy = Policy().limit(work_files=100, work_bytes=4 * MIB)
    assert outcome(code, policy) == (51, 4 * MIB)


def test_R2_file_bytes_end_the_run() -> None:
    policy = Policy().limit(file_bytes=MIB)
    limited(belljar.run("open('f', 'wb').write(bytes(2 * 2**20))", policy), "file", MIB)
    limited(belljar.run("import os; os.truncate(os.open('f', 66), 2 * 2**20)", policy), "file", MIB)
    assert belljar.run("open('f', 'wb').write(bytes(2**20))", policy).value == MIB


# ------------------------------------------------------------------------------ time

BUSY = {
    "loop": "while True: pass",
    "power": "pow(7, 10**7) and None",
    "modular power": "pow(3, 2**400_000, 2**400_000 - 1) and None",
    "sum": "sum(range(10**12))",
    "count": "import itertools, collections; collections.deque(itertools.count(), 0)",
    "regular expression": "import re; re.match(r'(a+)+$', 'a' * 40 + 'b')",
    "digits": "import sys; sys.set_int_max_str_digits(0); str(1 << 10**8)",
    "sort": "sorted([1.0] * 10**6, key=lambda x: [x] * 1000 == [x] * 1000)",
    "caught": "while True:\n try:\n  while True: pass\n except BaseException: pass",
    "blocked signals": "import signal\n"
    "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\nwhile True: pass",
    "in a finaliser": "class A:\n def __del__(self):\n  while True: pass\nx = A(); del x",
    "at exit": "import atexit\n@atexit.register\ndef f():\n while True: pass",
    "in repr": "class A(Exception):\n def __str__(self):\n  while True: pass\nraise A",
    "importing": "import sys\nwhile True:\n import json.tool\n for m in list(sys.modules):\n"
    "  if m.startswith('json'): del sys.modules[m]",
    "system calls": "import os\nwhile True: os.getppid()",
    "hash": "import hashlib; hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10**9)",
}


@pytest.mark.parametrize("how", BUSY)
def test_R2_cpu_time_ends_the_run(how: str) -> None:
    policy = Policy().limit(cpu_s=0.15)
    result = belljar.run(BUSY[how], policy.allow(wall_s=60))
    limited(result, "cpu", 0.15)
    assert result.limit is not None
    assert result.limit.evidence == "kernel"
    assert result.limit.used is not None
    assert result.limit.used >= 0.15
    assert result.usage.cpu_s >= 0.15


def test_R2_cpu_time_is_that_of_all_threads() -> None:
    code = """
import hashlib, threading
def work():
    while True: hashlib.sha256(bytes(1 << 20)).digest()
for _ in range(8): threading.Thread(target=work).start()
"""
    limited(belljar.run(code, Policy().limit(cpu_s=0.3).allow(wall_s=60)), "cpu", 0.3)


def test_R2_a_busy_second_within_the_limit() -> None:
    assert outcome("sum(range(10**6))", Policy().limit(cpu_s=2)) == 499999500000


def test_R2_rlimit_cpu_is_the_second_wall() -> None:
    """The kernel's own clock, with the host looking away: SIGXCPU, and SIGKILL after it."""
    code = "import resource; resource.getrlimit(resource.RLIMIT_CPU)"
    assert outcome(code, Policy().limit(cpu_s=2.5)) == (3, 3)


IDLE = {
    "sleep": "import time; time.sleep(3600)",
    "caught sleep": "import time\nwhile True:\n try: time.sleep(3600)\n except BaseException: pass",
    "pause": "import signal; signal.pause()",
    "deadlock": "import threading; l = threading.Lock(); l.acquire(); l.acquire()",
    "thread": "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,)).start()",
    "daemon at the end": "import atexit, time; atexit.register(time.sleep, 3600)",
    "pipe": "import os; r, w = os.pipe(); os.read(r, 1)",
    "full pipe": "import os; r, w = os.pipe()\nwhile True: os.write(w, bytes(65536))",
    "stopped": "import os; os.kill(os.getpid(), 19)",
    "select": "import select; select.select([], [], [])",
    "asyncio": "import asyncio; await asyncio.sleep(3600)",
    "fifo": "import os; os.mkfifo('f'); open('f')",
    "lock of a file": "import fcntl, os; a, b = open('f', 'w'), open('f'); fcntl.flock(a, 2); fcntl.flock(b, 2)",
    "link closed": "import os, time; os.closerange(3, 100); time.sleep(3600)",
    "streams closed": "import os, time; os.closerange(0, 3); time.sleep(3600)",
    "everything closed": "import os, time; os.closerange(0, 100); time.sleep(3600)",
}


@pytest.mark.parametrize("how", IDLE)
def test_R2_wall_time_ends_the_run(how: str) -> None:
    result = belljar.run(IDLE[how], Policy().limit(wall_s=0.3))
    limited(result, "wall", 0.3)
    assert result.limit is not None
    assert result.limit.evidence == "kernel"
    assert result.limit.used is not None
    assert result.limit.used >= 0.3
    assert result.usage.wall_s >= 0.3


def test_R2_a_pause_within_the_limit() -> None:
    assert outcome("import time; time.sleep(0.05); 1", Policy().limit(wall_s=60 / 12)) == 1


# --------------------------------------------------------------------------- numbers


def test_R2_threads_end_the_run() -> None:
    code = "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(0.2,)).start()"
    limited(belljar.run(code, Policy().limit(threads=3, wall_s=5)), "threads", 3)


def test_R2_threads_are_counted_by_the_kernel() -> None:
    code = """
import _thread, time
started = 0
try:
    while started < 1000:
        _thread.start_new_thread(time.sleep, (1,))
        started += 1
except RuntimeError:
    pass
started
"""
    for number in (0, 1, 7):
        assert outcome(code, Policy().limit(threads=number)) == number


def test_R2_one_guests_threads_are_not_anothers() -> None:
    """Counted per guest, though all of them are one user's: K9."""
    import threading

    code = """
import threading, time
threads = [threading.Thread(target=time.sleep, args=(0.3,)) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"ran"
"""
    values: list[object] = []
    hosts = [
        threading.Thread(
            target=lambda: values.append(belljar.run(code, Policy().limit(threads=8)).value)
        )
        for _ in range(4)
    ]
    for host in hosts:
        host.start()
    for host in hosts:
        host.join()
    assert values == ["ran"] * 4


@pytest.mark.parametrize(
    "more",
    [
        "open('/dev/null')",
        "os.dup(0)",
        "os.pipe()",
        "__import__('socket').socketpair()",
        "os.eventfd(0)",
        "__import__('select').epoll()",
        "os.open('.', os.O_RDONLY)",
    ],
)
def test_R2_open_files_end_the_run(more: str) -> None:
    code = f"import os\nkept = []\nwhile True: kept.append({more})"
    limited(belljar.run(code, Policy().limit(open_files=32)), "open_files", 32)


def test_R2_open_files_are_counted_by_the_kernel() -> None:
    code = """
fds = []
while isinstance(fd := call("dup", 0), int):
    fds.append(fd)
(max(fds), fd, call("dup2", 0, 40), call("fcntl", 0, 0, 5000), call("dup3", 0, 64, 0))
"""
    assert outcome(code, Policy().limit(open_files=32)) == (
        31,
        "EMFILE",
        "EBADF",
        "EINVAL",
        "EBADF",
    )
    assert (
        outcome("len([open('/dev/null') for _ in range(20)])", Policy().limit(open_files=32)) == 20
    )


# ---------------------------------------------------------------------------- output

FLOODS = {
    "print": "while True: print('x' * 1000)",
    "stderr": "import sys\nwhile True: print('x' * 1000, file=sys.stderr)",
    "both": "import sys\nwhile True: print('x' * 1000); print('y' * 1000, file=sys.stderr)",
    "descriptor": "import os\nwhile True: os.write(1, bytes(65536))",
    "one line": "print('x' * 10**7)",
    "C code": "import ctypes\nlibc = ctypes.CDLL(None)\nwhile True: libc.puts(b'x' * 1000)",
    "by number": "import ctypes\nl = ctypes.CDLL(None)\nwhile True: l.write(2, b'x' * 10000, 10000)",
    "duplicate": "import os\nfd = os.dup(1)\nos.closerange(0, 3)\nwhile True: os.write(fd, bytes(4096))",
    "ignoring the end": "import os, signal\nsignal.signal(signal.SIGPIPE, signal.SIG_IGN)\n"
    "while True:\n try: os.write(1, bytes(65536))\n except OSError: pass",
    "traceback": "raise ValueError('x' * 10**7)",
    "warnings": "import warnings\nfor i in range(10**6): warnings.warn(str(i))",
}


@pytest.mark.parametrize("how", FLOODS)
def test_R2_output_is_cut_and_ends_the_run(how: str) -> None:
    allowed = 100_000
    heard: list[bytes] = []
    result = belljar.run(
        FLOODS[how],
        Policy().limit(output_bytes=allowed, wall_s=5),
        on_output=lambda stream, data: heard.append(data),
    )
    kept = len(result.stdout_bytes) + len(result.stderr_bytes)
    assert kept <= allowed
    assert sum(map(len, heard)) == kept
    if how == "traceback":
        assert result.error is not None
        assert len(result.error.traceback) + len(result.error.message) < 200_000
        return
    limited(result, "output", allowed)
    assert result.truncated
    assert kept == allowed


def test_R2_output_within_the_limit_is_whole() -> None:
    result = belljar.run("print('x' * 99_999)", Policy().limit(output_bytes=100_000))
    assert (result.status, len(result.stdout), result.truncated) == ("ok", 100_000, ())
    none = belljar.run("print('x')", Policy().limit(output_bytes=0))
    assert (none.status, none.stdout_bytes, none.truncated) == ("limit", b"", ("stdout",))


VALUES = {
    "text": "'x' * 5_000_000",
    "list": "[0.5] * 100_000",
    "bytes": "bytes(5_000_000)",
    "nested": "[[] for _ in range(100_000)]",
    "integer": "1 << 10**7",
}


@pytest.mark.parametrize("how", VALUES)
def test_R2_value_bytes_hold_for_what_is_decoded(how: str) -> None:
    result = belljar.run(VALUES[how], Policy().limit(value_bytes=100_000))
    assert result.status == "ok"
    assert result.value is None
    assert result.value_error
    with pytest.raises(belljar.GuestRaised):
        result.unwrap()


def test_R2_value_bytes_within_the_limit() -> None:
    result = belljar.run("'x' * 50_000", Policy().limit(value_bytes=100_000))
    assert result.unwrap() == "x" * 50_000


def test_K1_the_first_cause_wins() -> None:
    """Output beyond its limit, then an endless loop: the limit on output ended the run."""
    code = "print('x' * 200_000)\nwhile True: pass"
    result = belljar.run(code, Policy().limit(output_bytes=100_000, wall_s=5))
    limited(result, "output", 100_000)


def test_K1_bombs_leave_the_host_able_to_work() -> None:
    for code in (
        "import os\nwhile True: os.fork()",
        "x = [0]\nwhile True: x += x",
        "import threading\nwhile True: threading.Thread(target=threading.Event().wait).start()",
    ):
        assert belljar.run(code, Policy().limit(wall_s=2)).status in ("raised", "limit")
    assert belljar.run("1 + 1").value == 2


def test_R1_no_huge_pages_are_given() -> None:
    """Of a huge page that is unmapped but for one small one, limits count the small one."""
    assert outcome('call("prctl", 42, 0, 0, 0, 0)') == 1  # PR_GET_THP_DISABLE
