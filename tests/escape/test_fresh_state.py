"""Guests of one zygote: fresh state after a preload (M9, C5), and what a preload may leave.

What: a made-up distribution is preloaded that uses every source of chance, leaves state wherever
a module can, or ends in every way that an import can end.  Because: each guest is a copy of the
process that imported it.  Then: two guests share nothing that is random or that one of them
changes, no guest has anything of the zygote's, and an import that goes wrong is one typed error.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import belljar
from belljar import Policy, PolicyError, Result, SetupFailed
from belljar.api import machine
from belljar.drivers import zygotes
from belljar.python.interpreter import Interpreter, describe_interpreter

from .hosts import run_host
from .native import no_namespaces

POLICY = Policy().allow(packages=["leaver"], memory_bytes=2**29, wall_s=60, threads=4)
Preloaded = Callable[..., Result]


@pytest.fixture
def preloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Preloaded:
    """``preloaded(source, code)``: run ``code`` where a module ``leaver`` of that source is loaded."""
    own = describe_interpreter()
    site = tmp_path / "site-packages"

    def with_site(_python: str | None) -> Interpreter:
        return own.replace(site_dirs=(str(site), *own.site_dirs))

    monkeypatch.setattr(machine, "describe_interpreter", with_site)

    def run(source: str, code: str = "None", policy: Policy = POLICY, **named: Any) -> Result:
        install(site, source)
        return belljar.run(code, policy, preload=["leaver"], **named)

    return run


def install(site: Path, source: str) -> None:
    info = site / "leaver-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (site / "leaver.py").write_text(source)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: leaver\nVersion: 1.0\n")
    (info / "RECORD").write_text("leaver.py,,\nleaver-1.0.dist-info/METADATA,,\n")


@pytest.fixture(autouse=True)
def no_zygote_before() -> None:
    """A source that changes is another preload, and the same name."""
    machine.close()


def children() -> set[str]:
    """The processes that this one has made, as far as the kernel lists them."""
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


# -- chance ---------------------------------------------------------------------------------

CHANCES = {
    "random.random()": "random",
    "random.getrandbits(64)": "random",
    "random.Random().random()": "random",
    "random.SystemRandom().random()": "random",
    "ssl.RAND_bytes(16)": "ssl",
    "secrets.token_bytes(16)": "secrets",
    "os.urandom(16)": "os",
    "os.getrandom(16)": "os",
    "uuid.uuid1().int": "uuid",
    "uuid.uuid1().node": "uuid",
    "uuid.getnode()": "uuid",
    "uuid.uuid4().int": "uuid",
    "next(tempfile._get_candidate_names())": "tempfile",
    "tempfile.mkdtemp()": "tempfile",
    "hashlib.blake2b(os.urandom(8)).hexdigest()": "hashlib",
    "email.utils.make_msgid()": "email.utils",
    "bytes(multiprocessing.current_process().authkey)": "multiprocessing",
}
USED = f"""
import {", ".join(sorted({*CHANCES.values()}))}
for expression in {list(CHANCES)!r}:
    for _ in range(3):
        try:
            eval(expression)
        except FileNotFoundError:
            pass  # there is nowhere to put a file yet
"""


@pytest.mark.parametrize("expression", CHANCES)
def test_M9_guests_of_one_preload_differ_in_all_that_is_random(
    expression: str, preloaded: Preloaded
) -> None:
    code = f"import os, {CHANCES[expression]}\n[{expression} for _ in range(4)]"
    told = [preloaded(USED, code).unwrap() for _ in range(3)]
    # The node of a version 1 is one for a whole guest, and all the others are new each time.
    assert not set(told[0]) & set(told[1])
    assert not set(told[1]) & set(told[2])
    assert not set(told[0]) & set(told[2])


def test_M9_a_seed_that_a_preload_gives_is_not_shared(preloaded: Preloaded) -> None:
    source = "import random\nrandom.seed(42)\nown = random.Random(42)\n"
    one, other = (
        preloaded(source, "import random, leaver\n[random.random(), leaver.own.random()]").unwrap()
        for _ in range(2)
    )
    assert one[0] != other[0]
    assert one[1] == other[1] == 0.6394267984578837  # what was asked for by name stays


# -- state ----------------------------------------------------------------------------------

LEAVES = """
import atexit, gc, locale, logging, os, signal, socket, sys, threading, warnings
events = []
atexit.register(events.append, "exit")
signal.signal(signal.SIGUSR1, lambda *_: events.append("signal"))
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.set_wakeup_fd(os.open("/dev/null", os.O_WRONLY | os.O_NONBLOCK), warn_on_full_buffer=False)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
signal.setitimer(signal.ITIMER_REAL, 1000, 0.001)
os.environ["LEFT"] = "environment"
os.putenv("LEFT_IN_C", "environment")
held = open("/dev/zero", "rb")
sys.path.append("/left/by/leaver")
locale.setlocale(locale.LC_ALL, "C")
os.umask(0o077)
os.chdir("/usr")
gc.callbacks.append(lambda *_: None)
gc.disable()
os.register_at_fork(before=lambda: None, after_in_child=lambda: events.append("fork"))
sys.addaudithook(lambda *_: None)
sys.settrace(lambda *_: events.append("traced"))
sys.setprofile(lambda *_: None)
threading.settrace(lambda *_: None)
logging.basicConfig(level=logging.DEBUG)
warnings.simplefilter("error")
sys.setrecursionlimit(500)
sys.stdout.write("text in a buffer")
sys.stderr.write("more text")
os.write(1, b"to fd 1")
os.write(2, b"to fd 2")
try:
    server = socket.create_server(("127.0.0.1", 0))
    left = [os.dup(server.fileno()) for _ in range(5)] + list(os.pipe())
except OSError:
    left = list(os.pipe())
shared = [1, 2, 3]
"""


def test_M9_the_state_that_a_preload_leaves_is_each_guests_own(preloaded: Preloaded) -> None:
    code = """
import gc, leaver, os, signal, sys, threading
seen = {
    "shared": list(leaver.shared), "environ": os.environ["LEFT"], "path": sys.path[-1],
    "umask": os.umask(0o022), "cwd": os.getcwd(), "trace": sys.gettrace(), "gc": gc.isenabled(),
    "limit": sys.getrecursionlimit(), "wakeup": signal.set_wakeup_fd(-1),
    "timer": list(signal.getitimer(signal.ITIMER_REAL)), "events": list(leaver.events),
    "threads": threading.active_count(),
}
leaver.shared.append("mine")
leaver.events.append("mine")
os.environ["LEFT"] = "mine"
sys.path[-1] = "mine"
sys.setrecursionlimit(400)
seen
"""
    one = preloaded(LEAVES, code)
    other = preloaded(LEAVES, code)
    assert one.unwrap() == other.unwrap()
    seen = one.unwrap()
    assert seen["shared"] == [1, 2, 3]
    assert seen["trace"] is None
    assert seen["gc"] is True
    assert seen["cwd"] == "/work"
    assert seen["wakeup"] == -1
    assert seen["timer"] == [0.0, 0.0]
    assert seen["threads"] == 1
    assert "mine" not in seen["events"]
    assert (one.stdout, one.stderr) == ("", "")


DESCRIPTORS = """
import os
def reachable():
    for number in range(4096):
        try:
            os.fstat(number)
        except OSError:
            continue
        yield number
[*reachable()], sorted(map(int, os.listdir("/proc/self/fd")))
"""


def test_M9_no_descriptor_of_the_zygotes_is_in_a_guest(preloaded: Preloaded) -> None:
    """The three streams and the link to the host; none of the preload's, none of the zygote's."""
    plain = belljar.run(DESCRIPTORS).unwrap()
    preloaded(LEAVES, "None").unwrap()
    assert preloaded(LEAVES, DESCRIPTORS).unwrap() == plain
    assert plain[0] == [0, 1, 2, 3]


def test_M9_a_guest_prints_nothing_that_a_preload_printed(preloaded: Preloaded) -> None:
    """Python's buffers and the C library's are copied with the process."""
    source = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.printf(b"left in the buffer of C")
libc.puts(b"a line of C")
sys.stdout.write("left in Python's")
sys.stdout.buffer.write(b"and in its bytes")
sys.__stderr__.write("and here")
print("a line")
os.write(1, b"x" * 1000)
libc.perror(b"an error")
assert sys.stdin.read() == os.read(0, 10).decode() == ""
try:
    input()
except EOFError:
    pass
"""
    code = "import ctypes\nprint('mine')\nctypes.CDLL(None).fflush(None)\ninput()"
    for _ in range(2):
        result = preloaded(source, code, stdin="a line for me\n")
        assert (result.stdout, result.stderr, result.value) == ("mine\n", "", "a line for me")


@pytest.mark.parametrize(
    "source",
    [
        "import os; os.close(0); os.close(1); os.close(2)",
        "import os; os.close(0); held = open('/dev/zero', 'rb')",
        "import os; os.close(2); held = os.open('/dev/full', os.O_WRONLY)",
        "import sys; sys.stdout.close(); sys.stdout = None; sys.stderr = None",
        "import os, sys; sys.stdin.close(); os.close(0)",
    ],
)
def test_M9_streams_that_a_preload_closes_are_whole_again(
    source: str, preloaded: Preloaded
) -> None:
    code = "import os\nos.write(1, b'one')\nos.write(2, b'two')\nos.read(0, 5).decode()"
    for _ in range(3):
        result = preloaded(source, code, stdin="three")
        assert (result.stdout, result.stderr, result.value) == ("one", "two", "three")


@pytest.mark.parametrize(
    "source",
    [
        "import signal\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        """
import os, signal
def reap(*_):
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return
signal.signal(signal.SIGCHLD, reap)
""",
    ],
    ids=["ignored", "taken"],
)
def test_M9_the_ends_of_guests_are_the_zygotes_to_hear(source: str, preloaded: Preloaded) -> None:
    for _ in range(3):
        assert preloaded(source, "6 * 7").unwrap() == 42


def test_C5_what_a_preload_pulled_in_beyond_the_whitelist_is_hidden(
    preloaded: Preloaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "explain_refusals", True)
    source = "import bisect, fractions, json.decoder\n"
    code = """
import sys
def refused(name):
    try:
        __import__(name)
    except ImportError as error:
        return type(error).__name__
found = [name for name in ("_bisect", "fractions", "json.decoder") if name in sys.modules]
found, [refused(name) for name in ("_bisect", "fractions", "json.decoder", "json")]
"""
    policy = POLICY.block(modules=["_bisect", "fractions", "json.decoder"])
    found, answers = preloaded(source, code, policy).unwrap()
    assert found == []
    assert answers[:3] == ["ModuleRefused"] * 3


def test_C5_a_module_that_a_policy_refuses_is_no_preload() -> None:
    with pytest.raises(PolicyError, match=r"preload\[1\].*_curses.*allow\(modules=\[\"_curses\"\]"):
        belljar.run("None", preload=["json", "_curses"])
    with pytest.raises(PolicyError, match=r"preload\[0\].*does not allow json.decoder"):
        belljar.run("None", Policy().block(modules=["json.*"]), preload=["json.decoder"])
    allowed = Policy().block(modules=["*"]).allow(modules=["json.*"])
    assert belljar.run("import json; json.loads('1')", allowed, preload=["json"]).value == 1


# -- a channel between guests ------------------------------------------------------------------

SHARED = {
    "C": """
import ctypes
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.mmap(None, 8192, 3, 0x21, -1, 0)
""",
    "a file": """
import mmap, os
fd = os.memfd_create("x")
os.ftruncate(fd, 4096)
m = mmap.mmap(fd, 4096)
""",
}


@pytest.mark.parametrize("how", SHARED)
def test_M9_shared_memory_would_be_a_channel_between_guests(how: str, preloaded: Preloaded) -> None:
    with pytest.raises(SetupFailed, match=r"preload: leaver: \d+ bytes of shared memory"):
        preloaded(SHARED[how])


def test_M9_shared_memory_that_is_given_back_is_no_trouble(preloaded: Preloaded) -> None:
    source = SHARED["a file"] + "\nm.close()\nn = mmap.mmap(-1, 4096)\nn[:4] = b'left'"
    code = "import leaver\nold = leaver.n[:4]\nleaver.n[:4] = b'mine'\nold"
    assert [preloaded(source, code).unwrap() for _ in range(2)] == [b"left", b"left"]


# -- imports that go wrong ------------------------------------------------------------------

ENDS = {
    "raises": ("raise ValueError('boom')", r"^preload: import leaver: ValueError: boom$"),
    "raises what is no text": (
        "raise ValueError('\\udcff' * 9000)",
        r"^preload: import leaver: ValueError: \\udcff",
    ),
    "syntax": ("def", r"^preload: import leaver: SyntaxError"),
    "SystemExit": ("raise SystemExit(3)", r"^preload: import leaver: SystemExit: 3$"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", r"import leaver: KeyboardInterrupt"),
    "not there": ("import nowhere", r"import leaver: ModuleNotFoundError: No module named 'nowhe"),
    "os._exit": (
        "import os; os._exit(3)",
        r"^preload: import leaver: it ended before it was ready with exit code 3: it said nothing$",
    ),
    "os._exit with words": (
        "import os; os.write(2, b'last words'); os._exit(0)",
        r"import leaver: it ended before it was ready: last words$",
    ),
    "SIGSEGV": (
        "import ctypes; ctypes.string_at(8)",
        r"^preload: import leaver: it ended before it was ready by signal 11: it said nothing$",
    ),
    "abort": ("import os; os.abort()", r"import leaver: it ended before it was ready by signal"),
    "flood, then an error": (
        "import os\nfor _ in range(200): os.write(2, b'x' * 9999)\nos.write(2, b'END'); os._exit(1)",
        r"import leaver: it ended .* exit code 1: x+END$",
    ),
    "threads": (
        "import threading, time\nfor _ in 'ab': threading.Thread(target=time.sleep, args=(99,)).start()",
        r"^preload: leaver: 2 threads are left running",
    ),
    "daemon threads": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
        r"^preload: leaver: 1 threads are left running",
    ),
    "a child": (
        "import os, time\nif not os.fork(): time.sleep(99)",
        r"^preload: leaver: a child process is left",
    ),
    "a grandchild": (
        "import os, time\nif not (pid := os.fork()):\n    if not os.fork(): time.sleep(99)\n"
        "    os._exit(0)\nos.waitpid(pid, 0)",
        r"^preload: leaver: a child process is left",
    ),
    "a fork that both leave": (
        "import os\nos.fork()",
        r"^preload: leaver: a child process is left",
    ),
    "a fork that fails": (
        "import os\nif not os.fork(): raise ValueError('in the child')",
        r"^preload: leaver: a child process is left",
    ),
    "exit functions that hang": (
        "import atexit, time\natexit.register(time.sleep, 99)\nraise ValueError('boom')",
        r"^preload: import leaver: ValueError: boom$",
    ),
    "writes to every descriptor": (
        "import os\nfor fd in range(3, 9):\n    try: os.write(fd, b'garbage')\n    except OSError: pass",
        r"^preload: import leaver: it sent what is no message$",
    ),
    "writes half a message": (
        "import os\nfor fd in range(3, 9):\n    try: os.write(fd, b'\\x82')\n    except OSError: pass",
        r"^preload: import leaver: it sent what is no message$",
    ),
    "closes everything": (
        "import os; os.closerange(0, 4096)",
        r"^preload: import leaver: it ended before it was ready",
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_preload_that_goes_wrong_is_one_typed_error(end: str, preloaded: Preloaded) -> None:
    source, message = ENDS[end]
    machine.support()
    before = children()
    began = time.monotonic()
    with pytest.raises(SetupFailed, match=message) as caught:
        preloaded(source)
    assert caught.value.stage == "preload"
    assert not caught.value.retryable
    assert time.monotonic() - began < zygotes.START_S
    assert children() == before
    assert belljar.run("6 * 7").value == 42


def test_a_preload_that_hangs_is_ended(
    preloaded: Preloaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.support()
    before = children()
    monkeypatch.setattr(zygotes, "START_S", 1.0)
    with pytest.raises(SetupFailed, match=r"^preload: import leaver: not ready after 1 s$"):
        preloaded("import time; time.sleep(99)")
    assert children() == before


def test_a_preload_may_say_as_much_as_it_likes(preloaded: Preloaded) -> None:
    """Nobody needs its words, and a full pipe would stop it."""
    source = (
        "import sys\nfor _ in range(500): sys.stderr.write('w' * 999 + '\\n'); print('o' * 999)"
    )
    result = preloaded(source, "6 * 7")
    assert (result.value, result.stdout, result.stderr) == (42, "", "")


def test_threads_that_a_preload_waited_for_are_none_left(preloaded: Preloaded) -> None:
    source = """
import subprocess, threading
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    assert list(pool.map(abs, range(-40, 0))) == list(range(40, 0, -1))
for _ in range(20):
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
try:
    subprocess.run(["gcc"])
except OSError:
    pass
"""
    assert preloaded(source, "6 * 7").unwrap() == 42


ENDED_HOST = """
import os, threading
import belljar
def end():
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        print(file.read(), flush=True)
    os._exit(0)
machine = belljar.run("None", preload=["json"])
threading.Timer(1.0, end).start()
belljar.run("None", belljar.Policy().allow(stand_ins={"leaver": PATH}), preload=["leaver"])
"""


def test_a_preload_does_not_outlive_its_host(open_dir: Path) -> None:
    """Its process dies with the host, whatever it is at."""
    (open_dir / "leaver.py").write_text("import time; time.sleep(99)")
    done = run_host(ENDED_HOST, {"PATH": str(open_dir / "leaver.py")})
    started = done.stdout.split()
    assert len(started) == 2  # one that serves, and one that imports
    until = time.monotonic() + 30
    while any(alive(pid) for pid in started):
        assert time.monotonic() < until
        time.sleep(0.01)


def alive(pid: str) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


# -- without namespaces -----------------------------------------------------------------------


def test_M9_chance_and_state_without_namespaces() -> None:
    with no_namespaces():
        machine.close()
        policy = Policy().allow(system_info=True)
        code = "import random, uuid\n[random.random(), uuid.uuid1().int, uuid.getnode()]"
        one, other = (
            belljar.run(code, policy, preload=["random", "uuid"]).unwrap() for _ in range(2)
        )
        assert not set(one) & set(other)


# -- NumPy ----------------------------------------------------------------------------------

NUMBERS = """
import numpy, os, sys
numpy.linalg.inv(numpy.eye(200) * 2)[0, 0], numpy.random.random(3).tolist()
"""


@pytest.mark.parametrize("preload", [["numpy"], ["numpy.random"], ["numpy", "numpy.linalg"]])
def test_M9_NumPy_after_a_preload(preload: list[str]) -> None:
    policy = Policy().allow(packages=["numpy"], memory_bytes=2**30, wall_s=60)
    try:
        machine.plan_for(policy, machine.support())
    except PolicyError as error:
        pytest.skip(f"no NumPy: {error}")
    (inverse, one), (_, other) = (
        belljar.run(NUMBERS, policy, preload=preload).unwrap() for _ in range(2)
    )
    assert inverse == 0.5
    assert not set(one) & set(other)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_M9_BLAS_with_threads_of_its_own_after_a_preload(threads: str) -> None:
    env = {"OPENBLAS_NUM_THREADS": threads}
    policy = Policy().allow(packages=["numpy"], memory_bytes=2**31, wall_s=60, threads=4, env=env)
    try:
        machine.plan_for(policy, machine.support())
    except PolicyError as error:
        pytest.skip(f"no NumPy: {error}")
    code = "import numpy\na = numpy.ones((600, 600))\nfloat((a @ a)[0, 0])"
    for preload in ([], ["numpy"]):
        assert belljar.run(code, policy, preload=preload).unwrap() == 600.0
