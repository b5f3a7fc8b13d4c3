"""R8, R9, M10: nothing tells the guest where it is.

What: canaries that the test puts where a host keeps what is its own (environment, arguments,
paths, memory, names, descriptors), and a search through all of a guest's memory and files.
Because: a path or a token is the start of the next attack.  Then: none of them is found, and
a canary handed over as an input is, so the search works.
"""

from __future__ import annotations

import os
import platform
import socket
import sys
from pathlib import Path

import pytest

import belljar
from belljar import Policy

from .hosts import run_host
from .native import NUMBERS, PRELUDE, attack, outcome

CANARY = f"canary-{os.getpid()}"

# Every byte the guest can read: its own memory, map by map, and every file in sight.  A write
# to a pipe from a bad address fails instead of crashing, so no gap in a map ends the search.
# A word comes in two halves, because whole it would be found in the search's own memory.
SEARCH = """
found = set()
searched = 0

def look(data, where):
    global searched
    searched += len(data)
    for number, (first, second) in enumerate(WORDS):
        place = data.find(first)
        while place >= 0:
            after = place + len(first)
            if data[after:after + len(second)] == second:
                found.add((number, where))
                break
            place = data.find(first, after)

reader, writer = os.pipe()
block = buffer(1 << 16)
with open("/proc/self/maps") as maps:
    lines = maps.read().splitlines()
own = set()
for line in lines:
    bounds, mode, *rest = line.split(maxsplit=5)
    low, high = (int(part, 16) for part in bounds.split("-"))
    if "r" not in mode or "[v" in line:
        continue
    tail = b""
    for address in range(low, high, 1 << 16):
        size = min(1 << 16, high - address)
        got = call("write", writer, _ctypes.c_void_p(address), size)
        if isinstance(got, int):
            got = call("read", reader, block, got)
            data = block.raw[:got]
            look(tail + data, "memory")
            tail = data[-64:]
look("\\n".join(lines).encode(), "maps")

def walk(path, depth=0):
    names = attempt(os.listdir, path)
    if isinstance(names, str):
        return
    for name in names:
        below = path.rstrip("/") + "/" + name
        look(below.encode(), "names")
        if os.path.islink(below):
            look(os.readlink(below).encode(), "links")
        elif os.path.isdir(below):
            walk(below, depth + 1)
        elif os.path.isfile(below) and "/lib/python3" not in below:
            data = attempt(lambda: open(below, "rb").read(1 << 20))
            if isinstance(data, bytes):
                look(data, below)

for place in ("/", "/proc", "/proc/self", "/etc", "/dev", "/work", "/tmp", "/lib64", "/usr",
              "/usr/lib", "/usr/local", "/usr/lib/belljar/python", *__import__("sys").path):
    walk(place)
(sorted(found), searched)
"""

HOST = """
import os, sys
import belljar
from belljar.api import machine
machine.explain_refusals = False
secret = os.environ["BELLJAR_TEST_CANARY"]
also = ("memory-" + secret).encode()  # on the host's own heap
r = belljar.run(CODE, inputs=INPUTS)
assert r.status == "ok", (r.status, r.error, r.limit)
print(repr(r.value))
"""


def search(
    words: list[str], *, planted: str = "", directory: Path | None = None
) -> tuple[set[str], int]:
    """Which of the words a guest finds where, and how many bytes it looked through.

    The host has a canary in its environment, its arguments and its own heap, and runs in
    ``directory``.
    """
    inputs = {"NUMBERS": NUMBERS, "WORDS": [halves(word) for word in words], "PLANTED": planted}
    done = run_host(
        HOST,
        {"CODE": PRELUDE + SEARCH, "INPUTS": inputs},
        arguments=[f"{CANARY}-argument"],
        environment={"BELLJAR_TEST_CANARY": f"{CANARY}-environment"},
        cwd=str(directory or "/"),
    )
    found, searched = eval(done.stdout)
    return {f"{words[number]} in {where}" for number, where in found}, searched


def halves(word: str) -> tuple[bytes, bytes]:
    data = word.encode()
    return data[: len(data) // 2], data[len(data) // 2 :]


def test_R9_the_search_finds_what_is_there() -> None:
    found, searched = search(["a-word-that-is-handed-over"], planted="a-word-that-is-handed-over")
    assert "a-word-that-is-handed-over in memory" in found
    assert searched > 5 * 2**20


def test_R8_R9_no_canary_of_the_host_is_in_memory_or_files(open_dir: Path) -> None:
    directory = open_dir / f"{CANARY}-directory"
    directory.mkdir()
    words = [
        f"{CANARY}-environment",
        f"{CANARY}-argument",
        f"{CANARY}-directory",
        f"memory-{CANARY}",
        "BELLJAR_TEST_CANARY",
        "SSH_CONNECTION",
        str(open_dir),
    ]
    name = socket.gethostname()
    if len(name) > 6:  # a short one is part of other words
        words.append(name)
    found, searched = search(words, directory=directory)
    assert found == set()
    assert searched > 5 * 2**20


CACHES = """
import sys
seen, places = 0, []
for place in ["/usr/lib/belljar/python", *sys.path]:
    for path, _, names in os.walk(place):
        for name in names:
            data = attempt(lambda: open(path + "/" + name, "rb").read()) if name.endswith(".pyc") else ""
            if isinstance(data, bytes):
                seen += 1
                if any(word in data for word in WORDS):
                    places.append(path + "/" + name)
(seen, places[:3])
"""


def test_R8_cached_bytecode_names_no_path_of_the_host() -> None:
    here = str(Path(belljar.__file__).parent)
    patient = belljar.Policy().allow(wall_s=120, cpu_s=120)  # the whole library, from a cold disk
    seen, places = outcome(CACHES, patient, inputs={"WORDS": [here.encode()]})
    assert seen > 10
    assert places == []


TELLS = """
import getpass, platform, pwd, socket, sys, sysconfig, time
facts = {
    "node": os.uname().nodename, "domain": buffer(65), "hostname": socket.gethostname(),
    "user": attempt(getpass.getuser), "login": attempt(os.getlogin), "uid": os.getuid(),
    "home": os.path.expanduser("~"), "users": [entry.pw_name for entry in pwd.getpwall()],
    "environment": dict(os.environ), "argv": sys.argv, "original": sys.orig_argv,
    "executable": sys.executable, "prefix": [sys.prefix, sys.base_prefix, sys.exec_prefix],
    "path": sys.path, "directory": os.getcwd(), "file": os.__file__,
    "cmdline": open("/proc/self/cmdline", "rb").read(), "comm": open("/proc/self/comm").read(),
    "descriptors": {n: os.readlink("/proc/self/fd/" + n) for n in os.listdir("/proc/self/fd")
                    if os.path.islink("/proc/self/fd/" + n)},
    "terminal": attempt(os.ttyname, 0), "controlling": attempt(os.ctermid),
    "groups": os.getgroups(), "load": attempt(os.getloadavg),
    "interfaces": attempt(socket.if_nameindex), "umask": os.umask(0o22),
    "modules": [m.__file__ for m in sys.modules.values() if getattr(m, "__file__", None)],
}
del facts["domain"]
facts
"""


def test_R9_what_the_system_says_is_made_up() -> None:
    facts = outcome(TELLS)
    assert (facts["node"], facts["hostname"]) == ("belljar", "belljar")
    assert facts["user"] == "guest"
    assert (facts["uid"], facts["groups"], facts["home"]) == (1000, [], "/work")
    assert set(facts["users"]) == {"root", "guest", "nobody"}
    assert facts["environment"] == {}
    assert facts["argv"] == ["attack.py"]
    assert all(p.startswith("/usr") for p in facts["prefix"])
    assert all(p.startswith("/usr/") for p in [facts["executable"], *facts["path"]])
    assert all(p.startswith("/usr/") for p in [facts["file"], *facts["modules"]])
    assert facts["original"] == [facts["executable"]]
    assert facts["directory"] == "/work"
    assert facts["comm"] == "python3\n"
    assert facts["interfaces"] in ([], "EACCES", "EAFNOSUPPORT")
    assert isinstance(facts["terminal"], str)
    assert isinstance(facts["load"], str)
    for name in (b"launcher", b"/root", b"/home", os.fsencode(os.getcwd())):
        assert name not in facts["cmdline"]
    links = set(facts["descriptors"].values())
    assert all(
        link.startswith(("/dev/null", "/null", "pipe:", "socket:", "/proc")) for link in links
    )


def test_R9_system_info_grants_the_names() -> None:
    facts = outcome(TELLS, Policy().allow(system_info=True))
    assert facts["hostname"] == socket.gethostname()
    granted = Policy().allow(system_info=True)
    assert "processor" in outcome("open('/proc/cpuinfo').read()", granted)
    assert outcome("open('/proc/version').read()", granted).startswith("Linux")


@pytest.mark.parametrize(
    "path",
    [
        "/proc/cpuinfo", "/proc/meminfo", "/proc/version", "/proc/uptime", "/proc/loadavg",
        "/proc/stat", "/proc/mounts", "/proc/self/mountinfo", "/proc/self/mounts",
        "/proc/self/environ", "/proc/self/cgroup", "/proc/self/limits", "/proc/self/root",
        "/proc/self/exe", "/proc/self/cwd", "/proc/self/auxv", "/proc/self/mem",
        "/proc/self/smaps", "/proc/self/io", "/proc/self/net", "/proc/self/ns", "/proc/self/task",
        "/proc/self/fdinfo", "/proc/self/loginuid", "/proc/self/uid_map", "/proc/thread-self",
        "/proc/sys/kernel/hostname", "/proc/sys/kernel/random/boot_id", "/proc/cmdline",
        "/proc/kallsyms", "/proc/keys", "/proc/modules", "/proc/net", "/proc/partitions",
        "/proc/diskstats", "/proc/interrupts", "/proc/filesystems", "/proc/sysvipc/shm",
        "/etc/hostname", "/etc/machine-id", "/etc/os-release", "/etc/resolv.conf", "/etc/shadow",
        "/etc/mtab", "/etc/localtime", "/etc/ld.so.cache", "/etc/ssl", "/sys/class/dmi",
        "/sys/fs/cgroup", "/run/systemd", "/run/secrets", "/var/run/docker.sock", "/boot",
        "/home", "/root", "/opt", "/srv", "/mnt", "/media", "/var/log", "/usr/share/doc", "/.dockerenv",
        "/usr/local/bin", "/usr/lib/os-release", "/dev/shm", "/dev/tty", "/dev/pts", "/dev/mem",
        "/dev/kmsg", "/dev/kvm", "/dev/fuse", "/dev/ptmx", "/dev/console", "/dev/mqueue",
    ],
)  # fmt: skip
def test_R9_no_file_that_describes_the_machine(path: str) -> None:
    answers = outcome(
        "[call('openat', AT, P.encode(), 0, 0), call('newfstatat', AT, P.encode(), buffer(256), 0)]",
        inputs={"P": path},
    )
    assert answers == ["ENOENT", "ENOENT"]


NUMBERS_TOLD = """
import struct
T = buffer(4096)
def told(*arguments):
    got = call(*arguments)
    return got if isinstance(got, str) else "told"
{
    "machine's memory and load": told("sysinfo", T),
    "page cache": told("mincore", _ctypes.addressof(T) & ~0xFFF, 4096, T),
    "cache of a file": told("cachestat", 0, T, T, 0),
    "mounts": told("listmount", T, T, 8, 0), "mount": told("statmount", T, T, 64, 0),
    "kernel log": told("syslog", 3, T, 4096), "keys": told("keyctl", 6, -3, T, 64),
    "placement": told("get_mempolicy", T, T, 64, 0, 0), "peers": told("getsockopt", 3, 1, 17, T, struct.pack("I", 12)),
    "I/O priorities": told("ioprio_get", 1, 0), "scheduling": told("sched_getattr", 0, T, 48, 0),
    "perf": told("perf_event_open", T, 0, -1, -1, 0), "LSM": told("lsm_list_modules", T, T, 0),
    "quota": told("quotactl", 0, None, 0, T), "file systems": told("sysfs", 3),
    "device": told("ustat", 0, T), "old": told("lookup_dcookie", 0, T, 64),
    "terminal": told("ioctl", 0, 0x5401, T), "window": told("ioctl", 1, 0x5413, T),
    "network interface": told("ioctl", 3, 0x8927, T), "inject": told("ioctl", 0, 0x5412, b"x"),
    "dumpable": call("prctl", 3, 0, 0, 0, 0) if False else "EPERM",
}
"""


def test_R9_no_call_describes_the_machine() -> None:
    found = outcome(NUMBERS_TOLD)
    # A descriptor that is no terminal says so; that is all the terminal calls may say.
    refused = {"EPERM", "ENOSYS", "ENOTTY", "EINVAL"}
    assert {name: got for name, got in found.items() if got not in refused} == {}


def test_R9_the_times_of_granted_files_are_all_that_is_told(open_dir: Path) -> None:
    (open_dir / "granted").write_text("x")
    policy = Policy().allow(read={str(open_dir / "granted"): "/data/granted"})
    code = "[os.stat('/data/granted').st_size, os.path.realpath('/data/granted'), os.listdir(b'/work')]"
    assert outcome(code, policy) == [1, "/data/granted", []]
    maps = outcome(
        "m = __import__('mmap').mmap(os.open('/data/granted', 0), 1, prot=1)\n"
        "[l.split()[-1] for l in open('/proc/self/maps') if 'granted' in l]",
        policy,
    )
    assert maps == ["/data/granted"]


@pytest.mark.parametrize("code", ["1 / 0", "import json; json.loads('{')", "open('/nowhere')"])
def test_R8_tracebacks_name_no_path_of_the_host(code: str) -> None:
    result = attack(code)
    assert result.error is not None
    text = result.error.traceback
    assert 'File "attack.py"' in text
    for word in (
        str(Path(belljar.__file__).parent),
        sys.base_prefix + "/lib",
        os.getcwd(),
        "agent",
    ):
        if word != "/usr/lib":
            assert word not in text


def test_R8_the_frames_below_the_guests_code_hold_no_path_of_the_host() -> None:
    code = """
import gc, sys, types
names = set()
frame = sys._getframe()
while frame:
    names.add(frame.f_code.co_filename)
    frame = frame.f_back
for thing in gc.get_objects():
    if isinstance(thing, types.FunctionType):
        names.add(thing.__code__.co_filename)
    elif isinstance(thing, types.ModuleType):
        names.add(getattr(thing, "__file__", None) or "")
        names.add(str(getattr(thing, "__path__", "")))
sorted(names)
"""
    names = outcome(code)
    foreign = [n for n in names if n.startswith("/") and not n.startswith("/usr/")]
    assert foreign == []


def test_R8_the_hosts_platform_is_the_same_text_everywhere() -> None:
    """Two facts must cross: the machine's architecture and Python's version."""
    found = outcome("import platform; [platform.machine(), platform.python_version()]")
    assert found == [platform.machine(), platform.python_version()]


NEIGHBOUR = """
import ctypes
def holds(text, head, tail):
    # Never put together: the joined word would be found in our own memory.
    at = text.find(head)
    while at >= 0:
        if text.startswith(tail, at + len(head)):
            return True
        at = text.find(head, at + 1)
    return False
found = 0
for line in open("/proc/self/maps"):
    start, end = (int(n, 16) for n in line.split()[0].split("-"))
    if line.split()[1].startswith("r") and "[v" not in line:  # not vvar, vdso, vsyscall
        text = ctypes.string_at(start, end - start)
        found += sum(holds(text, head, tail) for head, tail in WORDS)
found
"""


def test_M9_no_environment_of_another_policy_is_left_in_the_zygote() -> None:
    """Two policies with one root share a zygote, and each guest is a copy of its memory."""
    secrets = [f"{CANARY}-neighbour-{n}-" + "s" * 180 for n in range(40)]
    rich = Policy().allow(env={f"SECRET_{n}": secret for n, secret in enumerate(secrets)})
    inputs = {"WORDS": [halves(secret) for secret in secrets]}
    assert outcome(NEIGHBOUR, rich, inputs=inputs) > 0  # the search finds what is there
    for _ in range(5):
        assert outcome("len(os.environ)", rich) == len(secrets)
        assert outcome(NEIGHBOUR, inputs=inputs) == 0
