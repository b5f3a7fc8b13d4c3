"""X2, K9: attacks on branches, and by a sandbox on its own, with native code and the layer off.

What: guest code that copies itself without being told, that keeps what a branch must not have, and
that reaches for its siblings.  Because: everything inside is hostile when a branch is made of it,
the code that makes it included.  Then: the kernel refuses, or the host sees it from outside and
no code of the branch ever runs.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from belljar import (
    ClosedError,
    ForkRefused,
    Policy,
    Sandbox,
    SandboxFailure,
    UnsupportedError,
)
from belljar.api import machine
from belljar.bpf.compiler import compile_filter
from belljar.bpf.expr import ALLOW, Errno, Filter
from belljar.bpf.features import BRANCH, TAKE, FilterFeatures
from belljar.bpf.guest import guest_filter
from belljar.drivers import branch as driver
from belljar.drivers.account import children, pid_of
from belljar.kernel import process
from belljar.zygote.branches import Lineage

from .native import NUMBERS, PRELUDE, no_namespaces
from .watch import eventually

OPEN = Policy().allow(modules=["*"], wall_s=60, cpu_s=60)
SETUP = f"import os, sys, ctypes\nNUMBERS = {NUMBERS!r}\nBRANCH, TAKE = {BRANCH}, {TAKE}\n{PRELUDE}"
# The agent's own module for branches, which hostile code finds and changes.
AGENT = """
frame = sys._getframe()
while "branches" not in frame.f_globals:
    frame = frame.f_back
branch = vars(frame.f_globals["branches"])
del frame
"""


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(OPEN, branches=4) as made:
        made.run(SETUP + AGENT).unwrap()
        yield made


def process_of(sandbox: Sandbox) -> int:
    live = sandbox._live
    assert live is not None
    assert live.ends.pidfd is not None
    pid = pid_of(live.ends.pidfd)
    assert pid is not None
    return pid


def status_of(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text()
    return {
        name: value.strip()
        for name, _, value in (line.partition(":") for line in text.splitlines())
    }


def lineage(sandbox: Sandbox) -> list[int]:
    """Every process that is alive of a sandbox and its branches."""
    first = sandbox
    while first._parent is not None:
        first = first._parent
    group = process_of(first)
    found: list[int] = []
    zygote = int(status_of(group)["PPid"])
    for pid in children(zygote):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            found.append(pid)
    return found


# --- copies that nobody asked for ---------------------------------------------------------------


@pytest.mark.parametrize("flags", ["BRANCH", "TAKE"])
def test_k1_a_copy_that_nobody_asked_for_is_never_made(flags: str, sandbox: Sandbox) -> None:
    hit = sandbox.run(f"call('clone', {flags}, 0, 0, 0, 0)", wall_s=0.3)
    assert (hit.status, hit.limit and hit.limit.name) == ("limit", "wall")
    assert eventually(lambda: sandbox._live is None)


def test_k1_other_copies_are_refused(sandbox: Sandbox) -> None:
    code = """
flags = [17, 0x8000 | 17, 0x20000 | 17, BRANCH | 0x10000000, BRANCH | 0x20000000, BRANCH | 0x100,
         BRANCH | 0x400, BRANCH | 1 << 40, TAKE | 0x4000, 0x10000000 | 17]
[call("clone", each, 0, 0, 0, 0) for each in flags] + [
    call("fork"), call("vfork"), call("clone3", buffer(88), 88), call("unshare", 0x20000),
    call("setns", 0, 0), call("seccomp", 1, 8, buffer(16)),
]
"""
    answers = sandbox.run(code).unwrap()
    assert set(answers) <= {"EPERM", "ENOSYS"}, answers
    with sandbox.fork() as branch:
        assert branch.run(code).unwrap() == answers


def test_k1_one_that_copies_itself_twice_is_let_once(sandbox: Sandbox) -> None:
    sandbox.run("""
clone, answers = branch["_clone"], []
def twice():
    pid = clone()
    if pid:
        answers.append(call("clone", BRANCH, 0, 0, 0, 0))
    return pid
branch["_clone"] = twice
""").unwrap()
    for count in range(1, 5):
        with sandbox.fork() as made:
            assert made.run("6 * 7").unwrap() == 42
            assert sandbox.run("answers").unwrap() == ["EPERM"] * count
            assert eventually(lambda: len(lineage(sandbox)) == 2)


def test_k1_what_asks_all_the_time_keeps_nobody_from_a_branch(sandbox: Sandbox) -> None:
    """A sibling whose call waits on the same listener is told no."""
    with sandbox.fork() as busy:
        refused: list[Any] = []

        def ask() -> None:
            code = "[call('clone', BRANCH, 0, 0, 0, 0) for _ in range(3)]"
            refused.append(busy.run(code).unwrap())

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(0.2)
        for _ in range(4):
            with sandbox.fork() as made:
                assert made.run("6 * 7").unwrap() == 42
        thread.join()
        assert refused == [["EPERM"] * 3]
        assert eventually(lambda: len(lineage(sandbox)) == 2)


@pytest.mark.parametrize(
    "change",
    [
        "def leave(): os._exit(0)\nbranch['_take_descriptors'] = leave",
        "def leave(): ctypes.string_at(0)\nbranch['_take_descriptors'] = leave",
    ],
)
def test_k10_a_copy_that_does_not_do_its_part_is_told(change: str, sandbox: Sandbox) -> None:
    sandbox.run("before = branch['_take_descriptors']\n" + change).unwrap()
    with pytest.raises((ForkRefused, SandboxFailure)):
        sandbox.fork()
    assert eventually(lambda: len(lineage(sandbox)) == 1)
    sandbox.run("branch['_take_descriptors'] = before").unwrap()
    with sandbox.fork() as made:
        assert made.run("1").unwrap() == 1


def test_k10_a_copy_that_speaks_for_its_parent_ends_both(sandbox: Sandbox) -> None:
    sandbox.run("branch['_take_descriptors'] = lambda: None").unwrap()
    group = process_of(sandbox)
    with pytest.raises((ForkRefused, SandboxFailure)):
        sandbox.fork()
    with pytest.raises(ClosedError):
        sandbox.run("1")
    assert eventually(lambda: not Path(f"/proc/{group}").exists())


# --- what a branch must not have ----------------------------------------------------------------

KEPT = {
    "a pipe": ("import os; kept = os.pipe()", "pass"),
    "a socket pair": ("import socket; kept = socket.socketpair()", "pass"),
    "the parent's link": ("pass", "global kept; kept = os.dup(3)"),
    "the parent's output": (
        "pass",
        "global kept; kept = os.dup(1); branch['_open_anew'] = lambda *a: None",
    ),
    "the parent's directory": (
        "pass",
        "global kept; kept = [os.dup(f) for _, f in branch['_from']]\n"
        "    branch['_open_anew'] = lambda *a: None",
    ),
    "an open file": ("kept = open('/work/f', 'w')", "branch['_open_anew'] = lambda *a: None"),
    "the working directory": ("pass", "branch['os'] = Stays()"),
    "a mapping": (
        "import mmap\nf = open('/work/m', 'w+b'); f.truncate(4096)\n"
        "kept = mmap.mmap(f.fileno(), 4096); f.close()",
        "pass",
    ),
}


@pytest.mark.parametrize("what", list(KEPT))
def test_k9_what_a_hostile_branch_keeps_of_its_parents_is_seen(what: str, sandbox: Sandbox) -> None:
    keep, then = KEPT[what]
    sandbox.run(f"""
class Stays:
    def __getattr__(self, name): return getattr(os, name)
    def chdir(self, where): pass
{keep}
take = branch["_take_descriptors"]
def hostile():
    {then}
    take()
branch["_take_descriptors"] = hostile
""").unwrap()
    with pytest.raises(ForkRefused, match="would share"):
        sandbox.fork()
    assert eventually(lambda: len(lineage(sandbox)) == 1)


def test_k9_the_parent_never_holds_what_is_its_branchs(sandbox: Sandbox) -> None:
    with sandbox.fork() as made:
        own = {os.readlink(f"/proc/{process_of(made)}/fd/{n}") for n in range(4)}
        theirs = {
            os.readlink(f"/proc/{process_of(sandbox)}/fd/{n}")
            for n in os.listdir(f"/proc/{process_of(sandbox)}/fd")
        }
        assert len(own) == 4
        assert not own & theirs


# --- reaching for each other --------------------------------------------------------------------

REACH = """
import signal
answers = {}
for pid in (0, -1, -2, 1, 2, 3, 4, os.getpid()):
    answers["kill", pid] = call("kill", pid, 0)
    answers["tgkill", pid] = call("tgkill", pid, pid, 0)
    answers["tkill", pid] = call("tkill", pid, 0)
    answers["queue", pid] = call("rt_sigqueueinfo", pid, 10, buffer(128))
    answers["ptrace", pid] = call("ptrace", 16, pid, 0, 0)
    answers["seize", pid] = call("ptrace", 0x4206, pid, 0, 0)
    answers["readv", pid] = call("process_vm_readv", pid, buffer(16), 1, buffer(16), 1, 0)
    answers["pidfd", pid] = call("pidfd_open", pid, 0)
    answers["kcmp", pid] = call("kcmp", pid, pid, 0, 0, 0)
    answers["limits", pid] = call("prlimit64", pid, 7, 0, buffer(16)) if pid > 0 else "EPERM"
    answers["clock", pid] = call("clock_gettime", (~pid << 3) | 2, buffer(16)) if pid > 0 else "EPERM"
    answers["group", pid] = call("getpgid", pid) if pid else "EPERM"
    answers["session", pid] = call("getsid", pid) if pid else "EPERM"
    answers["affinity", pid] = call("sched_getaffinity", pid, 8, buffer(8)) if pid else "EPERM"
    answers["nice", pid] = call("setpriority", 0, pid, 5) if pid else "EPERM"
{repr(key): value for key, value in answers.items() if value not in ("EPERM", "ENOSYS")}
"""


def test_k9_branches_reach_nobody_by_number(sandbox: Sandbox) -> None:
    with sandbox.fork() as one, sandbox.fork() as other:
        for each in (sandbox, one, other):
            assert each.run(REACH).unwrap() == {}


LOOK = """
def look(top, most=20000):
    met, todo, seen = [], [top], 0
    while todo and seen < most:
        here = todo.pop()
        try:
            entries = list(os.scandir(here))
        except OSError:
            continue
        for entry in entries:
            seen += 1
            if "secret" in entry.name: met.append(entry.path)
            if entry.is_dir(follow_symlinks=False): todo.append(entry.path)
    return met
met = []
for top in ("/work", "/tmp", "/.places", "/proc", "/dev", "/.covers", "/.empty"):
    met += look(top)
for number in range(1, 8):
    for part in ("root", "cwd", "fd", "maps", "mem", "environ", "mountinfo", "ns/mnt"):
        try:
            os.stat(f"/proc/{number}/{part}")
            met.append(f"{number}/{part}")
        except OSError: pass
met
"""


def test_k9_files_of_others_are_nowhere(sandbox: Sandbox) -> None:
    sandbox.run("open('/work/secret-of-the-parent', 'w').write('x')").unwrap()
    with sandbox.fork() as one, sandbox.fork() as other:
        one.run("os.remove('/work/secret-of-the-parent'); open('/tmp/secret-of-one', 'w')")
        other.run("os.remove('/work/secret-of-the-parent'); open('secret-of-other', 'w')")
        own = {
            "/work/secret-of-the-parent": sandbox,
            "/tmp/secret-of-one": one,
            "/work/secret-of-other": other,
        }
        for path, each in own.items():
            met = each.run(LOOK).unwrap()
            # The number 2 is a link to /proc/self.
            assert [m for m in met if m.startswith("/") and not m.startswith("/proc")] == [path]
            assert [m for m in met if m[0] != "/" and not m.startswith("2/")] == []


MOUNTS = """
answers = [
    call("umount2", b"/work", 0), call("umount2", b"/work", 2), call("umount2", b"/proc/self/maps", 2),
    call("mount", b"none", b"/work", b"tmpfs", 0, 0), call("mount", b"/usr", b"/work", 0, 4096, 0),
    call("mount", 0, b"/", 0, 1 << 18, 0), call("pivot_root", b"/work", b"/work"),
    call("chroot", b"/work"), call("open_tree", AT, b"/work", 1), call("fsopen", b"tmpfs", 0),
    call("move_mount", 0, b"", AT, b"/work", 4), call("mount_setattr", AT, b"/usr", 0, buffer(32), 32),
    call("sethostname", b"x", 1), call("bpf", 0, buffer(64), 64), call("keyctl", 0, 0),
    call("unshare", 0x10000000), call("unshare", 0x20000), call("quotactl", 0, 0, 0, 0),
    call("name_to_handle_at", AT, b"/work", buffer(64), buffer(8), 0),
    call("open_by_handle_at", 0, buffer(64), 0), call("perf_event_open", buffer(128), 0, 0, 0, 0),
]
[answer for answer in answers if answer not in ("EPERM", "ENOSYS")]
"""


def test_m10_its_one_capability_opens_nothing(sandbox: Sandbox) -> None:
    """CAP_SYS_ADMIN in a user namespace that owns nothing but branches' views of mounts."""
    with sandbox.fork() as made:
        for each in (sandbox, made):
            assert each.run(MOUNTS).unwrap() == []
            said = status_of(process_of(each))
            for name in ("CapPrm", "CapEff"):
                assert int(said[name], 16) == 1 << 21
            for name in ("CapInh", "CapBnd", "CapAmb"):
                assert int(said[name], 16) == 0
            assert said["NoNewPrivs"] == "1"
            assert said["Seccomp"] == "2"


UNCOVER = """
answers = [
    call("umount2", b"/work", 0), call("umount2", b"/work", 2), call("umount2", b"/tmp", 2),
    call("umount2", b"/proc/self/maps", 2), call("mount", b"none", b"/work", b"tmpfs", 0, 0),
    call("mount", b"/usr", b"/work", 0, 4096, 0), call("mount", 0, b"/", 0, 1 << 18, 0),
    call("pivot_root", b"/work", b"/work"), call("chroot", b"/work"),
    call("move_mount", call("open_tree", AT, b"/work", 1), b"", AT, b"/tmp", 4),
]
[answer for answer in answers if answer != "EPERM"]
"""


def test_m10_without_the_filter_landlock_keeps_what_covers_the_parents_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second wall around mounts, alone: every call is allowed but the copying."""

    def open_filter(features: FilterFeatures) -> bytes:
        rules = {"clone": guest_filter(features).rules["clone"]}
        rules.update(dict.fromkeys(("unshare", "mlockall"), Errno(errno.EPERM)))
        return compile_filter(Filter(features.arch, rules, default=ALLOW))

    monkeypatch.setattr(machine, "filter_program", open_filter)
    with Sandbox(OPEN, branches=2) as sandbox:
        sandbox.run(SETUP + "open('/work/of-the-parent', 'w').close()").unwrap()
        with sandbox.fork() as made, made.fork() as deeper:
            for each in (made, deeper):
                assert each.run("call('getpgid', 2)").unwrap() == 2  # nothing is refused by it
                each.run("os.remove('/work/of-the-parent')").unwrap()
                assert each.run(UNCOVER).unwrap() == []
                assert each.run("os.listdir('/work')").unwrap() == []


def test_r1_a_tree_as_deep_as_it_gets_is_cleared_away(sandbox: Sandbox) -> None:
    with sandbox.fork() as made:
        made.run("""
os.chdir('/work')
for depth in range(600):
    os.mkdir('d'); open('f', 'w').close(); os.chdir('d')
""")
    for _ in range(20):
        with sandbox.fork() as made:
            assert made.run("os.listdir('/work')").unwrap() == []


@pytest.mark.parametrize("place", ["/work", "/tmp"])
def test_r1_what_a_branch_does_to_its_places_meets_no_other(place: str, sandbox: Sandbox) -> None:
    """Places are lent again: rights, times and files of the last one are gone."""
    modes = {"/work": "0o40755", "/tmp": "0o41777"}
    take_away = [
        f"os.chmod({place!r}, 0)",
        f"os.utime({place!r}, (1, 1)); os.chmod({place!r}, 0o500)",
        f"os.mkdir('{place}/d'); open('{place}/d/f', 'w').close()\n"
        f"os.chmod('{place}/d', 0); os.chmod({place!r}, 0)",
    ]
    look = (
        f"os.listdir({place!r}), oct(os.stat({place!r}).st_mode), os.stat({place!r}).st_mtime > 9"
    )
    for code in take_away:
        with sandbox.fork() as made:
            assert made.run(code).status == "ok"
        for _ in range(10):  # there are eight places
            with sandbox.fork() as made:
                assert made.run(look).unwrap() == ([], modes[place], True)


def test_r1_a_place_that_could_not_be_emptied_is_lent_to_nobody() -> None:
    lineage = Lineage.__new__(Lineage)
    lineage.free = []
    lineage.cleaners = {
        os.posix_spawn("/bin/sh", ["sh", "-c", f"exit {code}"], {}): place
        for place, code in ((1, 0), (2, 1))
    }

    def tidied() -> bool:
        lineage.tidy()
        return not lineage.cleaners

    assert eventually(tidied)
    assert lineage.free == [1]


def test_r1_a_branch_waits_for_those_that_take_long_to_be_gone() -> None:
    """What is slow to die has its place still; the next fork is not refused for it."""
    ended = [os.posix_spawn("/bin/sh", ["sh", "-c", "exit"], {}) for _ in range(2)]
    lineage = driver.Lineage.__new__(driver.Lineage)
    lineage.most, lineage.alive = 1, []
    lineage._ending = {pid: Path(f"/proc/{pid}/stat").read_bytes().split()[21] for pid in ended}
    threading.Timer(0.2, os.waitpid, (ended[0], 0)).start()
    lineage.await_place()
    assert list(lineage._ending) == [ended[1]]
    os.waitpid(ended[1], 0)
    assert not Path(f"/proc/{ended[0]}").exists()


def test_r2_threads_of_all_are_bounded_together(sandbox: Sandbox) -> None:
    code = """
import threading, time
made = 0
try:
    for made in range(500):
        threading.Thread(target=time.sleep, args=(0.3,), daemon=True).start()
except RuntimeError:
    pass
made
"""
    most = OPEN.limits.threads + 2 * 4
    with sandbox.fork() as one, sandbox.fork() as other:
        counts = [each.run(code).unwrap() for each in (one, other)]
    assert sum(counts) <= most + 2, counts


def test_k9_a_branch_that_goes_on_with_threads_gets_no_run(sandbox: Sandbox) -> None:
    """What moves while the host looks could hide from it what it has."""
    sandbox.run("""
import _thread, time
take = branch["_take_descriptors"]
def hostile():
    _thread.start_new_thread(time.sleep, (60,))
    take()
branch["_take_descriptors"] = hostile
""").unwrap()
    with pytest.raises((ForkRefused, SandboxFailure)):
        sandbox.fork()
    assert eventually(lambda: len(lineage(sandbox)) == 1)


def test_x2_a_machine_without_namespaces_says_so_and_nothing_runs() -> None:
    with (
        no_namespaces(),
        pytest.raises(UnsupportedError, match="branches of a sandbox: namespaces"),
    ):
        Sandbox(Policy().allow(system_info=True), branches=1)


def test_x2_a_host_that_may_not_look_at_its_guests_makes_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As root in a container without CAP_SYS_PTRACE."""

    def refused(pidfd: int, number: int) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted", "pidfd_getfd")

    monkeypatch.setattr(process, "descriptor_of", refused)
    with pytest.raises(UnsupportedError, match="CAP_SYS_PTRACE"):
        Sandbox(branches=1)
    monkeypatch.undo()
    with Sandbox(branches=1) as sandbox, sandbox.fork() as made:
        assert made.run("1").unwrap() == 1
