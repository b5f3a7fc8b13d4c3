"""M9, K9, K3: guests of one zygote know nothing of each other.

What: state that one guest leaves in every place it can reach, and another that looks for it,
after it and at the same time.  Because: they are forks of one process, and what is shared by
mistake is shared by all.  Then: the second finds a fresh interpreter, its own files and its
own randomness; a granted directory is the one thing that they have in common.
"""

from __future__ import annotations

import threading
from pathlib import Path

import belljar
from belljar import Policy

from .native import NUMBERS, PRELUDE, attack, outcome

# The namespaces of what is on the stack below the program: the agent's.
AGENT = """
import sys
def agent():
    frame = sys._getframe()
    while frame:
        if "/belljar/" in frame.f_code.co_filename:
            yield frame.f_globals
        frame = frame.f_back
"""

LEAVES = (
    AGENT
    + """
import builtins, gc, os, random, signal, sys, threading, types
for place in ("/work", "/tmp", "."):
    with open(place + "/left", "w") as file: file.write("canary")
os.mkdir("/work/folder")
os.environ["LEFT"] = "canary"
os.putenv("LEFT_TOO", "canary")
builtins.left = "canary"
builtins.print = lambda *a, **k: None
sys.left = "canary"
sys.modules["left"] = types.ModuleType("left")
import json, linecache, re, warnings
json.loads = lambda text: "canary"
sys.path.insert(0, "/work")
sys.meta_path.clear()
sys.path_hooks.clear()
sys.setrecursionlimit(77)
sys.setswitchinterval(1.5)
sys.stdout.write("partial line")
sys.excepthook = sys.displayhook = sys.unraisablehook = None
linecache.cache["left"] = (1, None, ["canary"], "left")
random.seed(0)
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [10, 12])
signal.setitimer(signal.ITIMER_REAL, 100)
os.umask(0)
os.chdir("/tmp")
os.nice(5)
kept = os.open("/work/left", 0)
os.set_inheritable(kept, True)
gc.disable()
threading.stack_size(1 << 20)
for globals_ in agent():
    globals_["left"] = "canary"
sys.meta_path[0].find_spec.__func__.__globals__["left"] = "canary"
memory = [b"canary-in-the-heap-%d" % i * 100 for i in range(10_000)]
memory = bytearray(b"canary-in-the-heap" * 1_000_000)
"""
)

FINDS = (
    AGENT
    + """
import builtins, gc, os, random, signal, sys, threading, time
import json, linecache
memory = open("/proc/self/statm").read()
{
    "files": [os.listdir("/work"), os.listdir("/tmp")],
    "environment": [dict(os.environ), os.getenv("LEFT_TOO")],
    "builtins": [hasattr(builtins, "left"), type(print).__name__],
    "sys": [hasattr(sys, "left"), "left" in sys.modules, "/work" in sys.path],
    "imports": [bool(sys.meta_path), bool(sys.path_hooks)],
    "json": json.loads("[1]"),
    "limits": [sys.getrecursionlimit(), sys.getswitchinterval()],
    "hooks": [callable(sys.excepthook), callable(sys.displayhook)],
    "sources": "left" in linecache.cache,
    "signals": [signal.getsignal(n) is signal.SIG_DFL for n in (10, 14)],
    "interrupt": signal.getsignal(2) is signal.default_int_handler,
    "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, []),
    "timer": signal.getitimer(signal.ITIMER_REAL),
    "umask": os.umask(0o22), "directory": os.getcwd(), "nice": os.nice(0),
    "descriptors": [n for n in range(4, 64) if not isinstance(call("fcntl", n, 1, 0), str)],
    "collector": gc.isenabled(), "stack": threading.stack_size(),
    "agent": ["left" in globals_ for globals_ in agent()],
    "finder": "left" in sys.meta_path[0].find_spec.__func__.__globals__,
    "threads": threading.active_count(),
    "sandboxed": builtins.__sandboxed__,
}
"""
)


def test_M9_nothing_of_one_run_is_found_by_the_next() -> None:
    before = outcome(FINDS)
    left = attack(LEAVES, Policy().limit(wall_s=5))
    assert left.status in ("ok", "raised", "crashed"), left
    assert "partial line" in left.stdout
    after = outcome(FINDS)
    assert after == before
    assert after["files"] == [[], []]
    assert after["environment"] == [{}, None]
    assert (after["directory"], after["umask"], after["nice"]) == ("/work", 0o22, 0)
    assert after["descriptors"] == []
    assert after["agent"]
    assert not any(after["agent"])
    assert after["json"] == [1]
    assert after["blocked"] == set()


SEARCH = """
first, second, found = b"canary-in-", b"the-heap", 0
reader, writer = os.pipe()
block = buffer(1 << 16)

def look(low, high):
    global found
    for address in range(low, high, 1 << 16):
        got = call("write", writer, _ctypes.c_void_p(address), min(1 << 16, high - address))
        if isinstance(got, int):
            data = block.raw[:call("read", reader, block, got)]
            place = data.find(first)
            while place >= 0:
                found += data[place + len(first):].startswith(second)
                place = data.find(first, place + 1)

size = 64 << 20
fresh = call("mmap", 0, size, 3, 0x22, -1, 0)
uninitialised = bytearray(64 << 20)
for line in open("/proc/self/maps").read().splitlines():
    bounds, mode, *_ = line.split(maxsplit=2)
    if "r" in mode and "[v" not in line:
        look(*(int(part, 16) for part in bounds.split("-")))
found
"""


def test_M9_memory_of_one_run_is_not_that_of_the_next() -> None:
    own = "kept = b''.join([first, second]) * 3\n"
    assert outcome(SEARCH.replace("\nsize", "\n" + own + "size", 1)) >= 3
    for _ in range(3):
        attack(LEAVES, Policy().limit(wall_s=5))
        assert outcome(SEARCH, Policy().limit(wall_s=5)) == 0


def test_M9_randomness_is_each_guests_own() -> None:
    code = """
import os, random, secrets, ssl, tempfile, uuid
[random.random(), secrets.token_hex(), str(uuid.uuid4()), os.urandom(8), ssl.RAND_bytes(8),
 random.SystemRandom().random(), next(tempfile._get_candidate_names())]
"""
    runs = [outcome(code) for _ in range(4)]
    for values in zip(*runs, strict=True):
        assert len(set(values)) == len(runs), values


def test_M7_sandboxed_is_true_inside() -> None:
    assert outcome("(__sandboxed__, type(__sandboxed__) is bool)") == (True, True)


def test_M9_two_guests_at_once_share_no_files() -> None:
    started = threading.Event()
    results: list[belljar.Result] = []

    def first() -> None:
        code = """
import time
open("/work/mine", "w").close(); open("/tmp/mine", "w").close()
print("ready", flush=True)
time.sleep(0.5)
sorted(os.listdir("/work") + os.listdir("/tmp"))
"""
        results.append(
            belljar.run(
                PRELUDE + code,
                inputs={"NUMBERS": NUMBERS},
                on_output=lambda *_: started.set(),
            )
        )

    thread = threading.Thread(target=first)
    thread.start()
    assert started.wait(60)
    seen = outcome(
        "open('/work/other', 'w').close(); open('/tmp/other', 'w').close()\n"
        "sorted(os.listdir('/work') + os.listdir('/tmp'))"
    )
    thread.join()
    assert seen == ["other", "other"]
    assert results[0].value == ["mine", "mine"]


MEET = """
import struct, time
N = b"\\0belljar-meeting"
found = {
    "abstract": call("bind", call("socket", 1, 1, 0), b"\\1\\0" + N, 18),
    "met": call("connect", call("socket", 1, 1, 0), b"\\1\\0" + N, 18), "queue": call("mq_open", b"meet", 0o102, 0o666, None),
    "segment": call("shmget", 4711, 4096, 0o1666), "semaphore": call("semget", 4711, 1, 0o1666),
    "messages": call("msgget", 4711, 0o1666), "key": call("add_key", b"user", b"meet", b"x", 1, -3),
    "fifo": call("mknodat", AT, b"/dev/shm/meet", 0o010666, 0),
    "lock": call("openat", AT, b"/dev/null", 2, 0) and call("flock", call("openat", AT, b"/usr/lib", 0, 0), 2),
    "watch": call("inotify_init1", 0), "locked file": call("openat", AT, b"/proc/locks", 0, 0),
}
{name: got for name, got in found.items() if not isinstance(got, str)}
"""


def test_K9_there_is_no_place_to_meet() -> None:
    assert outcome(MEET) == {}


def test_K9_a_lock_on_a_shared_file_is_not_shared() -> None:
    """Locks on read-only files of the interpreter would be a signal between guests, and a way
    to stop each other; they may work, as bits that pass are a covert channel, but never block."""
    code = """
import fcntl, json
file = open(json.__file__)
fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
"held"
"""
    assert outcome(code) in ("held",)
    assert outcome("import json; json.loads('[1]')") == [1]


def test_K9_a_granted_directory_is_what_guests_share(open_dir: Path) -> None:
    policy = Policy().allow(write=[str(open_dir)])
    inputs = {"D": str(open_dir)}
    outcome("open(D + '/note', 'w').write('for the next')", policy, inputs=inputs)
    assert outcome("open(D + '/note').read()", policy, inputs=inputs) == "for the next"
    assert outcome("os.path.exists(D)", inputs=inputs) is False


def test_K9_work_of_one_guest_does_not_count_for_another() -> None:
    fill = "with open('f', 'wb') as f: f.write(bytes(3 << 20))\nos.path.getsize('f')"
    policy = Policy().limit(work_bytes=4 * 2**20)
    for _ in range(5):
        assert outcome(fill, policy) == 3 << 20
