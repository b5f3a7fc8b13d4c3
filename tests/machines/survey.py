"""A survey of one machine: what ``belljar check`` claims there, and what attacks find.

What: a program of its own, run on that machine; it asks ``belljar check``, runs guests under
the weakest policy that is enforced there, attacks each guarantee from inside by raw system
calls without the Python layer, makes the same attacks from a plain process, and prints all of
it as one JSON object.  Because: a claim is right where the attacks find nothing, and attacks
prove something where they succeed outside.  Then: ``judged.py`` compares.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

import belljar
from belljar import Policy
from belljar.api import machine
from belljar.bpf.syscalls import arch
from belljar.kernel.libc import MACHINE

NUMBERS = arch(MACHINE).table
KEY = 0x7E11AB1E  # of the System V shared memory that the host shares with nobody
# What every host program here does first; a test may have put it before this one.
BEFORE: str = globals().get("BEFORE", "")
LIBC = ctypes.CDLL(None, use_errno=True)

# What runs inside, and outside for comparison.  ``fell`` maps guarantees to what got through.
ATTACKS = r"""
import ctypes, errno, os
_call = ctypes.CDLL(None, use_errno=True).syscall
_call.restype = ctypes.c_long
AT = -100
fell = {}

def call(name, *arguments):
    '''The raw system call: its result, or the name of its error.'''
    words = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = _call(ctypes.c_long(NUMBERS.get(name, 100000)), *words)
    return errno.errorcode.get(ctypes.get_errno(), "error") if result == -1 else result

def through(guarantee, how, answer):
    if not isinstance(answer, str) and answer is not False:
        fell.setdefault(guarantee, []).append(how)

def child(guarantee, how, answer):
    if answer == 0:
        call("exit_group", 0)
    through(guarantee, how, answer)
    if isinstance(answer, int):
        call("wait4", answer, None, 0, None)

def has(path, wanted):
    fd = call("openat", AT, path.encode(), 0, 0)
    return False if isinstance(fd, str) else wanted in os.read(fd, 64)

# 0 to 3 are the guest's own.  First of all, because the attacks open some.
for fd in range(4, 1024):
    through("descriptors", f"descriptor {fd}", call("fcntl", fd, 1, 0))
P = PLACE.encode()
HERE = os.getcwd()
through("files", "read", has(PLACE + "/canary", b"canary"))
through("files", "read by /proc", has("/proc/self/root" + PLACE + "/canary", b"canary"))
through("files", "read by ..", has("/tmp/../../.." + PLACE + "/canary", b"canary"))
through("files", "read by root of pid 1", has("/proc/1/root" + PLACE + "/canary", b"canary"))
through("files", "read passwd", has("/etc/passwd", b"user:x:") or has("/etc/passwd", b"daemon:x:"))
through("files", "open for writing", call("openat", AT, P + b"/canary", 1, 0))
through("files", "truncate", call("truncate", P + b"/canary2", 0))
through("files", "unlink", call("unlinkat", AT, P + b"/canary3", 0))
through("files", "rename", call("renameat", AT, P + b"/canary4", AT, P + b"/canary5"))
through("files", "make", call("openat", AT, P + b"/made", 0o101, 0o644))
through("files", "make a directory", call("mkdirat", AT, P + b"/madedir", 0o755))
through("files", "link", call("linkat", AT, P + b"/canary2", AT, P + b"/linked", 0))
through("files", "symlink", call("symlinkat", b"/", AT, P + b"/sym"))
through("files", "list", call("openat", AT, P, 0o200000, 0))

through("names", "stat", call("newfstatat", AT, P + b"/canary", ctypes.create_string_buffer(256), 0))
through("names", "host name", os.uname().nodename == HOST_NAME)
through("names", "release", os.uname().release == RELEASE)
through("names", "process by /proc", call("newfstatat", AT, b"/proc/%d" % VICTIM, ctypes.create_string_buffer(256), 0))

def connected(family, kind, address):
    fd = call("socket", family, kind, 0)
    if isinstance(fd, str):
        return fd
    got = call("connect", fd, address, len(address))
    call("close", fd)
    return got

inet = bytes([2, 0]) + PORT.to_bytes(2, "big") + bytes([127, 0, 0, 1]) + bytes(8)
through("network", "TCP", connected(2, 1, inet))
through("network", "UDP", connected(2, 2, inet))
through("network", "Unix socket", connected(1, 1, bytes([1, 0]) + P + b"/socket\0"))
through("network", "abstract socket", connected(1, 1, bytes([1, 0, 0]) + ABSTRACT.encode()))
through("network", "netlink", connected(16, 3, bytes([16, 0]) + bytes(10)))

child("processes", "fork", call("fork"))
child("processes", "clone", call("clone", 17, 0, 0, 0, 0))
arguments = bytes(32) + (17).to_bytes(8, "little") + bytes(24)
child("processes", "clone3", call("clone3", arguments, 64))

def mapped(*words):
    got = call("mmap", 0, 4096, *words)
    return got

through("native code", "writable and executable", mapped(7, 0x22, -1, 0))
through("native code", "executable", mapped(5, 0x22, -1, 0))
page = mapped(3, 0x22, -1, 0)
through("native code", "mprotect", call("mprotect", page, 4096, 5))
through("native code", "pkey_mprotect", call("pkey_mprotect", page, 4096, 5, -1))
memfd = call("memfd_create", b"x", 0)
through("native code", "memfd", memfd if isinstance(memfd, str) else mapped(5, 2, memfd, 0))
for where in (HERE, "/tmp", "/dev/shm", "/var/tmp"):
    fd = call("openat", AT, os.path.join(where, "code").encode(), 0o102, 0o700)
    if not isinstance(fd, str):
        os.write(fd, bytes(4096))
        through("native code", "file in " + where, mapped(5, 2, fd, 0))

for path in REFUSED_MODULES:
    through("C modules", path, has(path, b"\x7fELF"))

def numbers(pid):
    yield "kill", call("kill", pid, 0)
    yield "tkill", call("tkill", pid, 0)
    yield "tgkill", call("tgkill", pid, pid, 0)
    yield "sigqueue", call("rt_sigqueueinfo", pid, 0, bytes(128))
    yield "pidfd", call("pidfd_open", pid, 0)
    yield "ptrace", call("ptrace", 0x4206, pid, 0, 0)
    yield "getpgid", call("getpgid", pid)
    yield "priority", call("setpriority", 0, pid, 19)
    yield "affinity", call("sched_getaffinity", pid, 128, ctypes.create_string_buffer(128))
    yield "limits", call("prlimit64", pid, 7, None, ctypes.create_string_buffer(16))
    yield "end", call("kill", pid, 9)

for how, answer in numbers(VICTIM):
    through("others", how, answer)
through("others", "shared memory", call("shmget", KEY, 4096, 0))
through("others", "shared memory made", call("shmget", KEY + 1, 4096, 0o1666))

through("privileges", "root's number", os.geteuid() == 0 or os.getuid() == 0)
through("privileges", "setuid", call("setresuid", 0, 0, 0))
through("privileges", "user namespace", call("unshare", 0x10000000))
through("privileges", "mount", call("mount", b"x", b"/tmp", b"tmpfs", 0, None))
through("privileges", "chroot", call("chroot", b"/tmp"))
through("privileges", "host name set", call("sethostname", b"x", 1))
through("privileges", "no_new_privs is off", call("prctl", 39, 0, 0, 0, 0) != 1)
head, sets = ctypes.create_string_buffer(bytes.fromhex("2205082000000000")), ctypes.create_string_buffer(24)
through("privileges", "capabilities held", call("capget", head, sets) == 0 and sets.raw != bytes(24))

for name, *arguments in (
    ("io_uring_setup", 1, ctypes.create_string_buffer(120)), ("add_key", b"user", b"k", b"v", 1, -2),
    ("keyctl", 0, -3, 1), ("userfaultfd", 0x80001), ("fsopen", b"tmpfs", 0),
    ("open_tree", AT, b"/", 1), ("bpf", 0, ctypes.create_string_buffer(64), 64),
    ("perf_event_open", ctypes.create_string_buffer(112), 0, -1, -1, 0), ("inotify_init1", 0),
    ("memfd_create", b"y", 0), ("seccomp", 2, 0, (0x7FFF0000).to_bytes(4, "little")),
):
    through("filter", name, call(name, *arguments))
"""

# One program for each limit: guarantee, limits, code, the limit that is to end it.
LIMITS = [
    ("memory", {"memory_bytes": 64 << 20}, "x = bytearray(10**9)", "memory"),
    (
        "memory",
        {"memory_bytes": 64 << 20},
        "import mmap\nx = []\nwhile 1: x.append(mmap.mmap(-1, 2**20, flags=mmap.MAP_SHARED))",
        "memory",
    ),
    ("cpu", {"cpu_s": 0.5}, "while True: pass", "cpu"),
    ("wall", {"wall_s": 0.5}, "import time; time.sleep(60)", "wall"),
    ("output", {"output_bytes": 10_000}, "while True: print('x' * 1000)", "output"),
    ("descriptors", {"open_files": 32}, "import os\nwhile True: os.dup(0)", "open_files"),
    (
        "threads",
        {"threads": 2},
        "import threading, time\n"
        "for _ in range(9): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
        "threads",
    ),
]

FILL = """
done = 0
try:
    for n in range(1000):
        for place in ("/work", "/tmp"):
            with open(f"{place}/{n}", "wb") as file:
                done += file.write(bytes(2**18))
except OSError as error:
    pass
done
"""


class Listeners:
    """What must not be reached: sockets of all kinds, and how many came."""

    def __init__(self, place: str) -> None:
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(place + "/socket")
        os.chmod(place + "/socket", 0o777)
        self.name = f"belljar-survey-{os.getpid()}"
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind("\0" + self.name)
        for one in (self.unix, self.abstract):
            one.listen()

    @property
    def port(self) -> int:
        return int(self.tcp.getsockname()[1])

    def reached(self) -> int:
        """How many connections have arrived since last asked."""
        count = 0
        for one in (self.tcp, self.unix, self.abstract):
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    one.accept()[0].close()
                    count += 1
        return count


def start_victim() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-IS", "-c", "import time; time.sleep(3600)"])


def canaries(place: str) -> None:
    os.chmod(place, 0o777)
    for name in ("canary", "canary2", "canary3", "canary4"):
        with open(f"{place}/{name}", "w") as file:
            file.write("canary")
        os.chmod(f"{place}/{name}", 0o666)


def state(place: str) -> list[object]:
    found: list[object] = []
    for name in sorted(os.listdir(place)):
        status = os.lstat(f"{place}/{name}")
        found.append([name, status.st_mode, status.st_size, status.st_mtime_ns])
    return found


def refused_modules() -> list[str]:
    """Extension modules that are on the disk and not on the default whitelist."""
    from belljar.policy.whitelist import ALLOWED

    directory = next((p for p in sys.path if p.endswith("lib-dynload")), "")
    files = sorted(os.listdir(directory)) if directory else []
    return [f"{directory}/{f}" for f in files if f.split(".")[0] not in ALLOWED]


def attack_inputs(place: str, listeners: Listeners, victim: int) -> dict[str, object]:
    return {
        "NUMBERS": NUMBERS,
        "PLACE": place,
        "HOST_NAME": os.uname().nodename,
        "RELEASE": os.uname().release,
        "PORT": listeners.port,
        "ABSTRACT": listeners.name,
        "VICTIM": victim,
        "KEY": KEY,
        "PYTHON": sys.executable,
        "REFUSED_MODULES": refused_modules(),
    }


def told(result: belljar.Result) -> dict[str, object]:
    return {
        "status": result.status,
        "value": result.value,
        "limit": result.limit and result.limit.name,
        "signal": result.signal,
        "stdout": result.stdout[-200:],
        "error": result.error and result.error.traceback[-600:],
    }


def tried(policy: Policy) -> dict[str, object]:
    """One plain run: its outcome, or which refusal and what it says."""
    try:
        return told(belljar.run("print(6 * 7); 'ran'", policy))
    except belljar.UnsupportedError as error:
        return {
            "status": "unsupported",
            "missing": list(error.missing),
            "remedy": list(error.remedy),
        }
    except belljar.BelljarError as error:
        return {"status": type(error).__name__, "error": str(error)}


def attacked(policy: Policy) -> dict[str, object]:
    """What each attack found under a policy that is enforced here."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        canaries(place)
        listeners = Listeners(place)
        before = state(place)
        keep = os.open(f"{place}/canary", os.O_RDWR)
        os.dup2(keep, 200, inheritable=True)
        victim = start_victim()
        inputs = attack_inputs(place, listeners, victim.pid)
        got = told(belljar.run(ATTACKS + "\nfell", policy.limit(threads=0), inputs=inputs))
        executes = ATTACKS.split("P = PLACE")[0] + (
            "\n[call('execve', b'/bin/true', None, None), call('execve', PYTHON.encode(), None, None)]"
        )
        got["execve"] = told(belljar.run(executes, policy, inputs=inputs))
        got["changed"] = state(place) != before
        got["reached"] = listeners.reached()
        got["victim"] = victim.poll()
        victim.kill()
        victim.wait()
        os.close(keep)
        os.close(200)
    return got


def limited(policy: Policy) -> list[object]:
    return [
        [guarantee, expected, told(belljar.run(code, policy.limit(**limits)))]
        for guarantee, limits, code, expected in LIMITS
    ]


HOST = """
import belljar, sys
from belljar import Policy
policy = Policy().limit(wall_s=5) if sys.argv[1] == "empty" else Policy().allow(system_info=True)
belljar.run("print('inside', flush=True)\\nimport time\\ntime.sleep(3600)",
            policy.allow(wall_s=3600), on_output=lambda s, d: print("running", flush=True))
"""


def ended(name: str) -> dict[str, object]:
    """A host that is killed while its guest runs: who is left."""
    host = subprocess.Popen(
        [sys.executable, "-S", "-c", BEFORE + HOST, name], stdout=subprocess.PIPE, text=True
    )
    assert host.stdout is not None
    host.stdout.readline()
    family = descendants(host.pid)
    host.kill()
    host.wait()
    for _ in range(100):
        left = [pid for pid in family if alive(pid)]
        if not left:
            break
        time.sleep(0.1)
    return {"family": len(family), "left": len(left)}


def descendants(pid: int) -> list[int]:
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{entry}/stat") as file:
                parents[int(entry)] = int(file.read().rpartition(")")[2].split()[1])
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        children = [one for one, its in parents.items() if its == parent]
        found += children
        todo += children
    return found


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def control() -> dict[str, object]:
    """The same attacks from a plain process: they must get through."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        canaries(place)
        listeners = Listeners(place)
        victim = start_victim()
        inputs = attack_inputs(place, listeners, victim.pid)
        shared = LIBC.shmget(KEY, 4096, 0o1666)
        # In a child, because some of it changes the process for good.
        code = (
            "import json, os, sys\ninputs, code = json.load(sys.stdin)\nos.chdir('/var/tmp')\n"
            "exec(code, inputs)\nprint(json.dumps(inputs['fell']))"
        )
        os.set_inheritable(listeners.tcp.fileno(), True)
        done = subprocess.run(
            [sys.executable, "-IS", "-c", code],
            input=json.dumps([inputs, ATTACKS]),
            capture_output=True,
            text=True,
            check=False,
            close_fds=False,
        )
        if shared >= 0:
            LIBC.shmctl(shared, 0, None)
        victim.kill()
        victim.wait()
        with contextlib.suppress(OSError):
            os.unlink("/var/tmp/code")
    if done.returncode:
        return {"failed": done.stderr[-2000:]}
    found: dict[str, object] = json.loads(done.stdout)
    return found


def command(*words: str) -> dict[str, object]:
    code = f"{BEFORE}\nimport sys\nfrom belljar.cli import main\nmain()"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, *words, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        data = json.loads(done.stdout)
    except ValueError:
        data = {"stdout": done.stdout, "stderr": done.stderr}
    data["exit"] = done.returncode
    return dict(data)


def survey() -> dict[str, object]:
    machine.explain_refusals = False
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    policies = {"empty": Policy(), "system_info": Policy().allow(system_info=True)}
    found: dict[str, object] = {
        "release": os.uname().release,
        "uid": os.getuid(),
        "check": command("check"),
        "control": control(),
        "run": {name: tried(policy) for name, policy in policies.items()},
    }
    name = next((n for n, p in policies.items() if tried(p)["status"] == "ok"), None)
    found["policy"] = name
    if name is None:
        return found
    policy = policies[name]
    shared = LIBC.shmget(KEY, 4096, 0o1666)
    try:
        found["explain"] = command("explain", *(["--system-info"] if name == "system_info" else []))
        found["attacks"] = attacked(policy)
        found["limits"] = limited(policy)
        found["end"] = ended(name)
        if name == "empty":
            found["fill"] = told(belljar.run(FILL, policy.limit(work_bytes=2**21)))
    finally:
        if shared >= 0:
            LIBC.shmctl(shared, 0, None)
        belljar.close()
    found["left"] = [pid for pid in descendants(os.getpid()) if alive(pid)]
    return found


if __name__ == "__main__":
    print(json.dumps(survey()))
