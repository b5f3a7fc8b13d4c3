"""R8, R9: nothing of the host is in sight, but for a list of known things.

What: ``scan.py`` runs inside and looks everywhere for what identifies this host, and what it
is told is compared between two hosts.  Because: a name leaks where nobody thought of looking.
Then: whatever it finds is an entry of ``KNOWN_FINDS`` or ``KNOWN_FACTS`` with its reason, or a
test fails; and an entry that is no longer true fails, too.

The values themselves are in no message: only what they are called, and where they were found.
"""

from __future__ import annotations

import json
import os
import platform
import pwd
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import belljar
from belljar import Policy
from belljar.api import machine
from belljar.plan.make import CLOCKS_START_S
from belljar.python.interpreter import Interpreter, describe_interpreter

from .hosts import run_host

SCANNER = (Path(__file__).parent / "scan.py").read_text()
CANARY = f"canary-{os.getpid()}"
TIMEOUT_S = 300  # only a hang takes so long
PATIENT = Policy().allow(wall_s=120, cpu_s=120, memory_bytes=2**30, output_bytes=8 * 2**20)


# -- what identifies this host --------------------------------------------------------------

# Equal on every host, or words that occur anywhere.
ORDINARY = re.compile(
    r"/?|/(root|home|tmp|work|dev|proc|sys|etc|run|opt|srv|mnt|var)/?"
    r"|/(usr|bin|sbin|lib)(/local)?(/s?bin|/lib|/share|/games)?/?|[a-z0-9]{1,6}|[0-9.:]{1,7}"
    r"|(localhost|localdomain|unknown|default|overlay|systemd|running|stopped|disabled|enabled).*"
    r"|xterm.*|screen.*|linux|vt\d+|truecolor|[Cc]\.[Uu][Tt][Ff]-?8|[a-z]{2}_[A-Z]{2}\.UTF-8|GMT|UTC"
    r"|(noninteractive|/bin/(ba|z|da)?sh|/usr(/local)?/bin/(env|python[.0-9]*|vim?|nano|less))"
)
PREFIX, BUILD = "interpreter's prefix", "interpreter's build directory"
PLACE = "place of belljar"
HERE = str(Path(belljar.__file__).parent)


def distinctive(text: str) -> bool:
    return len(text) > 6 and ORDINARY.fullmatch(text) is None


def first(path: str) -> str:
    """A small file of this host, stripped; empty if it is not there."""
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def words_of(text: str) -> Iterator[str]:
    """A value, and the parts of a list of paths."""
    yield text
    if ":" in text and "/" in text:
        yield from text.split(":")


@cache
def os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def addresses() -> Iterator[tuple[str, str]]:
    for path in Path("/sys/class/net").glob("*/address"):
        if first(str(path)).strip("0:"):
            yield f"MAC address of {path.parent.name}", first(str(path))
    for number, address in enumerate(
        set(re.findall(r"\|-- (\S+)\n\s+/32 host", first("/proc/net/fib_trie")))
    ):
        if not address.startswith("127."):
            yield f"IP address {number}", address
    for line in first("/proc/net/if_inet6").splitlines():
        if line.split()[0].strip("0") != "1":
            yield f"IPv6 address of {line.split()[-1]}", line.split()[0]


def other_processes() -> Iterator[tuple[str, str]]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        line = first(str(path)).rstrip("\0")
        own = path.parent.name == str(os.getpid())
        # A guest is started by the same words wherever it is.
        if not own and len(line) > 11 and re.search("belljar[./]zygote", line) is None:
            yield "other process", line


def mounted() -> Iterator[tuple[str, str]]:
    for line in first("/proc/self/mountinfo").splitlines():
        left, _, right = line.partition(" - ")
        if not left.split()[4].startswith(("/proc", "/sys", "/dev", "/run")):
            yield "mount source", right.split()[1]
            yield "mount point", left.split()[4]


class Identity(dict[str, str]):
    """Text -> what it is: all that must not be inside.  Never printed: there are secrets in it."""

    def __repr__(self) -> str:
        return f"<{len(self)} texts>"


def user_name() -> str:
    """What this user is called; empty where nobody says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""


def identity() -> Identity:
    """What identifies this host, as far as it can be told from other text."""
    release = os.uname().release
    gathered: list[tuple[str, str]] = [
        ("host name", socket.gethostname()),
        ("host name in full", socket.getfqdn()),
        ("user name", user_name()),
        ("home directory", os.path.expanduser("~")),
        ("current directory", os.getcwd()),
        ("repository", str(Path(__file__).resolve().parents[2])),
        (PLACE, HERE),
        ("virtual environment", sys.prefix),
        (PREFIX, sys.base_prefix),
        ("executable", sys.executable),
        ("real executable", os.path.realpath(sys.executable)),
        (BUILD, str(sysconfig.get_config_var("abs_builddir") or "")),
        ("kernel release", release),
        ("kernel build", os.uname().version),
        ("distribution", os_release().get("PRETTY_NAME", "")),
        ("distribution", os_release().get("VERSION_CODENAME", "")),
        ("processor", "".join(re.findall(r"model name\s*: (.*)", first("/proc/cpuinfo"))[:1])),
        ("machine id", first("/etc/machine-id")),
        ("boot id", first("/proc/sys/kernel/random/boot_id")),
        ("time zone", os.path.realpath("/etc/localtime").partition("zoneinfo/")[2]),
        ("locale", os.environ.get("LANG", "")),
        ("product", first("/sys/class/dmi/id/product_name")),
        ("canary", CANARY),
        *addresses(),
        *other_processes(),
        *mounted(),
    ]
    for name, value in os.environ.items():
        if name == "PYTEST_CURRENT_TEST":  # another one by the time of the scan
            continue
        gathered += [(f"environment: {name}", word) for word in words_of(value)]
    found = Identity()
    for label, text in gathered:
        if not distinctive(text):
            continue
        # Whatever is above the interpreter's prefix, or in it, shows wherever that shows.
        above_or_in = sys.base_prefix.startswith(text) or text.startswith(sys.base_prefix)
        if above_or_in and distinctive(sys.base_prefix):
            label = PREFIX
        elif HERE.startswith(text) or text.startswith(HERE):
            label = PLACE
        if text not in found:
            if label not in (PREFIX, BUILD, PLACE) and label in found.values():
                label += f", number {len(found)}"
            found[text] = label
    return found


@pytest.fixture(scope="module")
def host() -> Iterator[Identity]:
    """The identity of this host, which has a distinctive process beside it meanwhile."""
    os.environ["BELLJAR_TEST_CANARY"] = f"{CANARY}-environment"
    code = "import sys; sys.stdin.read()"
    arguments = [sys.executable, "-c", code, f"{CANARY}-process"]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE) as beside:
        yield identity()
        beside.communicate()
    del os.environ["BELLJAR_TEST_CANARY"]


def masked(text: str) -> str:
    """As the scanner takes it, so that it has no needle in its own memory."""
    mask = bytes((byte * 165 + 77) % 256 for byte in range(256))
    return text.encode("utf-8", "surrogateescape").translate(mask).hex()


def needles(host: Identity) -> list[list[str]]:
    return [[label, masked(text)] for text, label in host.items()]


# -- what is known to show ------------------------------------------------------------------

NATIVE = frozenset(
    f"{where}{what}"
    for where in ("", "memory: ")
    for what in ("native code of the standard library", "system libraries", "heap", "[stack]")
)


class Find(NamedTuple):
    """Text of this host that is known to be found: what, where, and why it is there.

    ``proof`` names the test that shows it to be true, where an ordinary scan may not; ``here``
    says whether this interpreter can show it at all.
    """

    label: str
    places: frozenset[str]
    reason: str
    proof: str = ""
    here: Callable[[], bool] = lambda: True


@cache
def debugged() -> bool:
    """Whether this interpreter's native code still has its debugging information."""
    own = describe_interpreter()
    place = os.fsencode(sysconfig.get_config_var("abs_builddir") or "/")
    files = [own.executable, *(path for _, path in own.extensions)]
    files += [path for name, path in own.libraries if "python" in name]
    return any(place in Path(path).read_bytes() for path in files)


CANNOT_BE_ORDINARY = {PREFIX, BUILD, PLACE, "canary", "kernel release", "host name"}
KNOWN_FINDS = {
    "prefix in native code": Find(
        PREFIX,
        NATIVE,
        "the interpreter's binary and its extension modules have search paths compiled in",
    ),
    "prefix in bytecode": Find(
        PREFIX,
        frozenset(["bytecode of the standard library"]),
        "bytecode files hold the path that their source had when they were compiled",
    ),
    "build directory in native code": Find(
        BUILD,
        NATIVE,
        "debugging information names the directory of the sources",
        here=debugged,
    ),
    "kernel release in the vDSO": Find(
        "kernel release",
        frozenset(["memory: [vdso]"]),
        "the kernel maps a library of its own into every process, with its version in it",
    ),
}

Facts = dict[str, str]


@dataclass(frozen=True)
class Fact:
    """A fact about this machine that is known to be told, and a check that it is."""

    told: Callable[[Facts], bool]
    reason: str


def _status(facts: Facts, word: str) -> bool:
    own = [line for line in first("/proc/self/status").splitlines() if line.startswith(word)]
    return bool(own) and all(line in facts["/proc/self/status"] for line in own)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"-?\d+", text))


def _library(facts: Facts) -> str:
    """Where ``os.py`` is inside."""
    return facts["module: os.__spec__.loader_state.filename"]


KNOWN_FACTS: dict[str, Fact] = {
    "kernel version": Fact(
        lambda facts: os.uname().release.startswith(facts["vdso: Linux"]),
        "a note in the vDSO, which the kernel maps into every process",
    ),
    "processors": Fact(
        lambda facts: facts["os: affinity"] == repr(sorted(os.sched_getaffinity(0))),
        "thread pools ask how many there are",
    ),
    "processors by number": Fact(
        lambda facts: _status(facts, "Cpus_allowed"), "a line of /proc/self/status"
    ),
    "processor's weaknesses": Fact(
        lambda facts: _status(facts, "Speculation"), "lines of /proc/self/status"
    ),
    "processor's abilities": Fact(
        lambda facts: "processor: OpenSSL 9" in facts or "auxv: 16" in facts,
        "the kernel tells each program, libraries choose their fastest code by it",
    ),
    "time since boot": Fact(
        lambda facts: (
            abs(os.times().elapsed - float(facts["clock: os.times"].rpartition("elapsed=")[2][:-1]))
            < TIMEOUT_S
        ),
        "times(2) counts ticks, which no time namespace changes",
    ),
    "time": Fact(
        lambda facts: abs(time.time() - float(facts["clock: CLOCK_REALTIME"])) < TIMEOUT_S,
        "clocks are read without a system call",
    ),
    "inode and device of files": Fact(
        lambda facts: (
            _numbers(facts[f"number: stat {_library(facts)}"])[1:3]
            == (os.stat(os.__file__).st_ino, os.stat(os.__file__).st_dev)
        ),
        "stat tells them, and os.path.samefile compares them",
    ),
    "size of the disk": Fact(
        lambda facts: (
            _numbers(facts[f"number: statvfs {_library(facts)}"])[2]
            == os.statvfs(os.__file__).f_blocks
        ),
        "statfs tells it of the file system below the standard library",
    ),
    "size of memory": Fact(
        lambda facts: (
            _numbers(facts["number: statvfs /dev/null"])[2] == os.statvfs("/dev/null").f_blocks
        ),
        "the file system of devices has a size, which is a share of memory",
    ),
    "time of boot": Fact(
        lambda facts: (
            os.lstat("/dev/null").st_mtime_ns
            in range(*(_numbers(facts["number: times below /dev"])[n] + n for n in (0, 1)))
        ),
        "devices have the times of their making",
    ),
    "priority": Fact(
        lambda facts: facts["os: priority"] == str(os.getpriority(os.PRIO_PROCESS, 0)),
        "nobody may raise it again, so it is the host's",
    ),
    "interpreter's build": Fact(
        lambda facts: facts["sys: version"] == sys.version,
        "it is in the interpreter's binary, with date and compiler",
    ),
    "C library": Fact(
        lambda facts: (
            facts["version: confstr CS_GNU_LIBC_VERSION"] == os.confstr("CS_GNU_LIBC_VERSION")
        ),
        "libraries are the host's own files",
    ),
}


# -- scans ----------------------------------------------------------------------------------


def read_scan(output: str) -> tuple[set[tuple[str, str]], Facts]:
    """(label, place) of each find, and the facts; those told several times joined."""
    finds: set[tuple[str, str]] = set()
    facts: Facts = {}
    for line in output.splitlines():
        entry = json.loads(line)
        where, what = entry["where"], entry["what"]
        label = where.removeprefix("found: ")
        if label != where:
            finds.add((label, what))
        else:
            facts[where] = f"{facts[where]}\n{what}" if where in facts else what
    assert "end" in facts
    assert "incomplete" not in facts, facts["incomplete"]
    return finds, facts


def scan_inside(
    host: Identity, policy: Policy = PATIENT, **settings: bool
) -> tuple[set[tuple[str, str]], Facts]:
    inputs = {"NEEDLES": needles(host), **settings}
    result = belljar.run(SCANNER, policy, inputs=inputs, name="scan.py")
    assert result.status == "ok", (result.status, result.limit, result.error, result.stderr)
    return read_scan(result.stdout)


def check_finds(finds: set[tuple[str, str]], host: Identity, known: dict[str, Find]) -> None:
    """Every find is known, and everything known that this host can show is found.

    What occurs in the source of the standard library occurs there on every host.
    """
    ordinary = {label for label, place in finds if place == "source of the standard library"}
    assert not ordinary & CANNOT_BE_ORDINARY
    finds = {find for find in finds if find[0] not in ordinary}
    expected = {(find.label, place) for find in known.values() for place in find.places}
    assert finds - expected == set()
    labels = set(host.values())
    stale = [
        name
        for name, find in known.items()
        if find.label in labels
        and not find.proof
        and find.here()
        and not any(label == find.label and place in find.places for label, place in finds)
    ]
    assert stale == [], "no longer true: delete these entries, and their lines in the docs"


@pytest.mark.parametrize("layer", [True, False], ids=["with the layer", "without the layer"])
def test_R8_R9_nothing_of_the_host_but_what_is_known(
    layer: bool, host: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "explain_refusals", layer)
    finds, facts = scan_inside(host)
    check_finds(finds, host, KNOWN_FINDS)
    stale = [name for name, fact in KNOWN_FACTS.items() if not fact.told(facts)]
    assert stale == [], "no longer true: delete these entries, and their lines in the docs"
    assert_made_up(facts)


def assert_made_up(facts: Facts) -> None:
    """Short words occur anywhere, so these are compared whole, where they would be told."""
    assert facts["socket: gethostname"] == "belljar"
    assert facts["getpass"] == "guest"
    assert facts["home"] == facts["os: getcwd"] == "/work"
    assert facts["os.environ"] == facts["os.environb"] == "{}"
    assert facts["time: tzname"] == "('UTC', 'UTC')"
    assert facts["locale: default"] == "C"
    assert facts["os: getppid"] == "0"
    if "time" in machine.support().namespaces:
        for name in ("MONOTONIC", "MONOTONIC_RAW", "BOOTTIME"):
            since = float(facts[f"clock: CLOCK_{name}"]) - CLOCKS_START_S
            # The raw clock has not been slewed as the others have since the host started.
            assert -TIMEOUT_S < since < TIMEOUT_S
    assert "other processes" not in facts
    assert str(os.getpid()) not in facts["os: getpid"].split()
    paths = facts["code objects"].splitlines()
    paths += [what for where, what in facts.items() if where.startswith("module: ")]
    assert len(paths) > 1000
    absolute = {path for path in paths if path.startswith("/")}
    assert {path for path in absolute if not path.startswith("/usr/")} == set()


@pytest.mark.parametrize("layer", [True, False], ids=["with the layer", "without the layer"])
def test_R8_R9_a_package_from_a_local_path_does_not_show_it(
    layer: bool, host: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_local_package(tmp_path)
    own = describe_interpreter()

    def with_site(_python: str | None) -> Interpreter:
        return own.replace(site_dirs=(str(site), *own.site_dirs))

    monkeypatch.setattr(machine, "explain_refusals", layer)
    monkeypatch.setattr(machine, "describe_interpreter", with_site)
    wanted = Identity({**host, str(tmp_path): "canary"})
    finds, facts = scan_inside(wanted, PATIENT.allow(packages=["localthing"]), MODULES=False)
    assert facts["distribution: localthing"] == "1.0"
    check_finds(finds, host, KNOWN_FINDS)
    assert "canary" not in {label for label, _ in finds}


def make_local_package(tmp_path: Path) -> Path:
    """A distribution as ``pip install ./localthing`` leaves it."""
    site = tmp_path / "site-packages"
    info = site / "localthing-1.0.dist-info"
    info.mkdir(parents=True)
    source = tmp_path / f"{CANARY}-source" / "localthing"
    files = {
        "localthing.py": "value = 42\n",
        "localthing-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: localthing\nVersion: 1.0\n",
        "localthing-1.0.dist-info/INSTALLER": "pip\n",
        "localthing-1.0.dist-info/direct_url.json": json.dumps(
            {"dir_info": {}, "url": source.as_uri()}
        ),
    }
    for name, text in files.items():
        (site / name).write_text(text)
    record = "".join(f"{name},,\n" for name in [*files, "localthing-1.0.dist-info/RECORD"])
    (info / "RECORD").write_text(record)
    return site


BELLJAR_ELSEWHERE = """
import sys
import belljar
from belljar.api import machine
machine.explain_refusals = False
policy = belljar.Policy().allow(wall_s=120, cpu_s=120, memory_bytes=2**30)
inputs = {"NEEDLES": NEEDLES, "FILES": False, "MODULES": False}
result = belljar.run(SCANNER, policy, inputs=inputs, name="scan.py")
assert result.status == "ok", (result.status, result.error)
sys.stdout.write(result.stdout)
"""


def test_R8_bytecode_that_the_zygote_read_leaves_no_path_in_its_heap() -> None:
    """Small files stay whole in memory that was freed; which ones depends on their size."""
    for length in range(8, 40, 8):
        # Its bytecode files are written by the launcher of the first run.
        place = Path(tempfile.mkdtemp(prefix="cn-", suffix="x" * length, dir="/var/tmp"))
        place.chmod(0o755)
        try:
            shutil.copytree(HERE, place / "belljar", ignore=shutil.ignore_patterns("__pycache__"))
            for _ in range(2):
                done = run_host(
                    BELLJAR_ELSEWHERE,
                    {"NEEDLES": [["place", masked(place.name)]], "SCANNER": SCANNER},
                    environment={"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": ""},
                )
                assert read_scan(done.stdout)[0] == set()
            assert list(place.glob("belljar/kernel/__pycache__/process.*")), "nothing was read"
        finally:
            shutil.rmtree(place)


def test_R9_system_info_grants_what_it_says(host: Identity) -> None:
    granted = PATIENT.allow(system_info=True)
    _, facts = scan_inside(host, granted, FILES=False, MODULES=False)
    assert facts["socket: gethostname"] == socket.gethostname()
    assert facts["uname in C: release"] == os.uname().release
    assert facts["sysinfo"] == "answers"
    for name in ("cpuinfo", "meminfo", "version", "uptime", "loadavg", "stat"):
        assert facts[f"file: /proc/{name}"]
    if Path("/usr/lib/os-release").exists():
        assert facts["file: /etc/os-release"].startswith(first("/usr/lib/os-release")[:100])
    model = re.findall(r"model name.*", first("/proc/cpuinfo"))[:1]
    assert all(line in facts["file: /proc/cpuinfo"] for line in model)


def test_R9_system_info_grants_no_more_than_that(host: Identity) -> None:
    finds, facts = scan_inside(host, PATIENT.allow(system_info=True))
    live = {"file", "/proc/cpuinfo", "/proc/version", "/proc/stat", "/etc/os-release", "platform"}
    live |= {"uname", "uname in C", "socket"}
    granted = {"kernel release", "kernel build", "distribution", "processor", "host name"}
    granted.add("host name in full")
    rest = {
        (label, place)
        for label, place in finds
        if not (label.partition(",")[0] in granted and place in live)
    }
    check_finds(rest, Identity(), KNOWN_FINDS)
    assert facts["os.environ"] == "{}"
    assert facts["getpass"] == "guest"


# -- the scanner can fail -------------------------------------------------------------------


def test_R8_R9_outside_the_scanner_finds_nearly_everything(host: Identity) -> None:
    """A control: plain Python in this environment, in this directory."""
    settings = {"NEEDLES": needles(host), "FILES": False, "MODULES": False}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parent / "scan.py")],
        input=json.dumps(settings),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    finds, facts = read_scan(done.stdout)
    found = {label for label, _ in finds}
    wanted = set(host.values()) - {BUILD}  # only files have it
    missed = wanted - found
    assert len(missed) * 5 <= len(wanted), missed
    assert "canary" in found
    assert {PREFIX, PLACE, "other process", "kernel release"} & wanted <= found
    assert facts["socket: gethostname"] == socket.gethostname()
    assert facts["other processes"]


# -- two hosts ------------------------------------------------------------------------------

HOST = """
import ctypes, os, resource, signal, sys
libc = ctypes.CDLL(None)
if OTHER:
    if libc.unshare(0x0400_0000) == 0:  # CLONE_NEWUTS
        libc.sethostname(b"another-host", 12)
    os.nice(3)
    resource.setrlimit(resource.RLIMIT_STACK, (4 << 20, 4 << 20))
    resource.setrlimit(resource.RLIMIT_CORE, (12345, 12345))
    resource.setrlimit(resource.RLIMIT_DATA, (1 << 40, 1 << 40))
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    os.umask(0o077)
    libc.prctl(29, 123456, 0, 0, 0)  # PR_SET_TIMERSLACK
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    os.dup2(0, 17)
import belljar
from belljar.api import machine
machine.explain_refusals = False
policy = belljar.Policy().allow(wall_s=120, cpu_s=120, memory_bytes=2**30, output_bytes=8 * 2**20)
result = belljar.run(SCANNER, policy, inputs={"NEEDLES": [], "FILES": False}, name="scan.py")
assert result.status == "ok", (result.status, result.error)
sys.stdout.write(result.stdout)
"""
# What two hosts on one machine, with one installation, tell differently; all of it is known.
DIFFERENT = {
    "rlimit: RLIMIT_STACK": "hard limits below those of the plan",
    "os: priority": "priority",
    "os: affinity": "processors",
    "os: cpu_count": "processors",
    "os: process_cpu_count": "processors",
    "sysconf: SC_NPROCESSORS_CONF": "processors",
    "sysconf: SC_NPROCESSORS_ONLN": "processors",
    "sysconf: SC_ARG_MAX": "hard limits below those of the plan",
    "/proc/self/status": "processors by number",
    "rlimit: RLIMIT_DATA": "limits that the plan does not set",
}


def test_R8_R9_two_hosts_tell_the_same(tmp_path: Path) -> None:
    """Environment, directory, arguments, host name, limits, masks: none of it comes through."""
    one = run_host(HOST, {"OTHER": False, "SCANNER": SCANNER}, cwd="/")
    other = run_host(
        HOST,
        {"OTHER": True, "SCANNER": SCANNER},
        cwd=str(tmp_path),
        arguments=["another", "argument"],
        environment={"TZ": "Asia/Tokyo", "LANG": "de_DE.UTF-8", "HOME": str(tmp_path),
                     "USER": "another", "OMP_NUM_THREADS": "3", "MALLOC_ARENA_MAX": "7",
                     "PYTHONHASHSEED": "1", "PYTHONUTF8": "0", "PYTHONMALLOC": "malloc"},
    )  # fmt: skip
    (_, first_facts), (_, second_facts) = read_scan(one.stdout), read_scan(other.stdout)
    random = ("random: ", "clock: ", "number: ")
    differing = {
        where
        for where in first_facts.keys() | second_facts.keys()
        if not where.startswith(random)
        and lines(first_facts.get(where)) != lines(second_facts.get(where))
    }
    assert differing - DIFFERENT.keys() - {"end"} == set()
    # Where one processor is all there is, both hosts have it.
    optional = {where for where, name in DIFFERENT.items() if name.startswith("processors")}
    optional.add("os: process_cpu_count")
    assert DIFFERENT.keys() - differing - optional == set(), "no longer true: delete these entries"


def lines(text: str | None) -> list[str]:
    return sorted((text or "").splitlines())


def test_R8_R9_needles_are_looked_for_everywhere_they_could_be() -> None:
    """A needle that is handed over whole is found, in memory and in what is told."""
    word = f"{CANARY}-handed-over"
    result = belljar.run(
        SCANNER,
        PATIENT.allow(env={"GIVEN": word}),
        inputs={"NEEDLES": [["word", masked(word)]], "FILES": False, "MODULES": False},
        name="scan.py",
    )
    finds, _ = read_scan(result.stdout)
    assert {place for label, place in finds if label == "word"} >= {"memory: heap", "os.environ"}
