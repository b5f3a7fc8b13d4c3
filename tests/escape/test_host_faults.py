"""K10, K1: what a host, or its machine, may lack or do to belljar, each for real.

What: hosts killed at every moment, short of descriptors, memory and disk, without ``/proc`` or
``/dev/shm``, with a clock that jumps, under storms of signals, as process 1, stopped and
continued.  Because: a library meets the machine on its worst day.  Then: a right result or one
typed error, nothing left behind, and the next run works.  docs/reference/faults.md names each.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from .hosts import ORDINARY_ID, SOURCE, run_host, start_host
from .watch import alive, descendants, eventually, litter, mounts

# Describes one run: the value, or the kind of failure and whether to try again.
TRY = """
import belljar
def attempt(code="1 + 1", *policy):
    try:
        result = belljar.run(code, *policy)
        return result.value if result.status == "ok" else result.status
    except belljar.SandboxFailure as error:
        return type(error).__name__, error.retryable
"""

# A mount namespace of the host's own, in which it may cover what it likes.
OWN_MOUNTS = """
from belljar.kernel import mounts, namespaces
from belljar.kernel.libc import libc
namespaces.unshare(["mount"])
mounts.make_private()
def cover(path, size=1 << 20):
    tree = mounts.new_tmpfs(size, 1000, 0o1777, 0)
    mounts.attach(tree, path)
"""


def coverable(*places: str) -> list[str]:
    """Those that are there and that neither belljar nor Python lies in."""
    needed = (SOURCE, os.path.realpath(sys.executable), sys.prefix)
    return [p for p in places if os.path.isdir(p) and not any(n.startswith(p) for n in needed)]


@pytest.fixture
def root() -> None:
    """Skips where the host's own mounts cannot be changed."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a host mounts of its own")


# ------------------------------------------------------------------------ the host's end

WORKING = """
import belljar
print("started", flush=True)
policy = belljar.Policy().allow(wall_s=60)
while True:
    belljar.run("print('x' * 1000); sum(range(1000))", policy)
    belljar.run("import os; os.abort()", policy)
    if CLOSE: belljar.close()
"""


def kill_at_random(times: int, seed: int) -> None:
    chance = random.Random(seed)
    before = mounts(), litter()
    families: list[int] = []
    for turn in range(times):
        host = start_host(WORKING, {"CLOSE": turn % 2 == 1})
        assert host.stdout is not None
        host.stdout.readline()
        time.sleep(chance.uniform(0, 0.4))
        families += [p.pid for p in descendants(host.pid)]
        host.kill()
        host.communicate()
    assert eventually(lambda: not any(alive(pid) for pid in families))
    assert eventually(lambda: not orphans())
    assert (mounts(), litter()) == before


def orphans() -> list[int]:
    """Zygotes and guests whose host is no more: adopted, and in a PID namespace of their own."""
    found: list[int] = []
    for process in descendants(1):
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            continue
        ours = process.name in ("belljar-zygote", "python3") and "\nNSpid:" in status
        nested = len(status.partition("\nNSpid:")[2].partition("\n")[0].split()) > 1
        if ours and nested and process.parent == 1 and process.state not in "ZX":
            found.append(process.pid)
    return found


def test_K10_a_host_killed_at_random_moments() -> None:
    kill_at_random(10, 1)


@pytest.mark.long
def test_K10_a_host_killed_at_random_moments_often() -> None:
    kill_at_random(300, 2)


@pytest.mark.parametrize("hanging", ["import time; time.sleep(1e6)", "while True: pass"])
@pytest.mark.parametrize("threaded", [False, True], ids=["main thread", "other thread"])
def test_K10_a_hanging_preload_ends_with_its_host(
    open_dir: Path, hanging: str, threaded: bool
) -> None:
    """The parent-death signal is for main threads only; the socket tells the others."""
    module = open_dir / "hanging.py"
    module.write_text(f"open({str(open_dir / 'begun')!r}, 'w').close()\n{hanging}\n")
    code = """
import belljar, threading
policy = belljar.Policy().allow(stand_ins={"hanging": MODULE}, write=[PLACE])
def work(): belljar.run("1", policy, preload=["hanging"])
if THREADED:
    thread = threading.Thread(target=work); thread.start(); thread.join()
else:
    work()
"""
    place = open_dir / "place"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    module.write_text(f"open({str(place / 'begun')!r}, 'w').close()\n{hanging}\n")
    names = {"MODULE": str(module), "PLACE": str(place), "THREADED": threaded}
    host = start_host(code, names)
    assert eventually(lambda: (place / "begun").exists() or host.poll() is not None)
    assert host.poll() is None, host.communicate()
    family = [p.pid for p in descendants(host.pid)]
    assert family
    host.kill()
    host.communicate()
    assert eventually(lambda: not any(alive(pid) for pid in family))


def test_K10_a_preload_does_not_change_what_SIGIO_does_to_a_guest() -> None:
    """The zygote's handler during a preload is no guest's."""
    code = (
        TRY
        + """
import signal
r = belljar.run("import os, signal; os.kill(os.getpid(), signal.SIGIO)", preload=["json"])
print(r.status, r.signal)
"""
    )
    assert run_host(code).stdout == f"crashed {signal.SIGIO.value}\n"


# ------------------------------------------------------------------------ shortages

DESCRIPTORS = (
    TRY
    + """
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
import belljar.api.run, belljar.drivers.trouble, threading, atexit
seen = []
for number in range(10, 120):
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
    got = attempt()
    seen.append(got)
    if got == 2: break
first = number
assert {*seen[:-1]} <= {("SetupFailed", True), ("WorkerDied", True)}, seen
print(seen[-1], len(seen) > 1)
belljar.close()
print(attempt())
"""
)


def test_K10_descriptors_from_ten_up_until_it_works() -> None:
    assert run_host(DESCRIPTORS).stdout == "2 True\n2\n"


@pytest.mark.parametrize("hard", [12, 20, 32, 64, 128])
def test_K10_a_hard_limit_on_descriptors(hard: int) -> None:
    """What the launcher holds at once does not fit; no limit can be raised."""
    code = (
        TRY
        + """
import resource
import belljar.api.run, belljar.drivers.trouble
resource.setrlimit(resource.RLIMIT_NOFILE, (HARD, HARD))
for _ in range(2): print(attempt())
"""
    )
    out = run_host(code, {"HARD": hard}, uid=ORDINARY_ID if os.geteuid() == 0 else None).stdout
    assert all(
        line == "2" or "SetupFailed" in line or "WorkerDied" in line for line in out.splitlines()
    )
    assert len(out.splitlines()) == 2


MEMORY = (
    TRY
    + """
import resource
belljar.run("1"); belljar.close()
held = int(open("/proc/self/statm").read().split()[0]) * 4096
limits = resource.getrlimit(resource.RLIMIT_AS)
for extra in EXTRAS:
    resource.setrlimit(resource.RLIMIT_AS, (held + (extra << 20), limits[1]))
    got = attempt()
    resource.setrlimit(resource.RLIMIT_AS, limits)
    assert got in (2, "limit", ("SetupFailed", True), ("WorkerDied", True)), (extra, got)
    belljar.close()
    assert attempt() == 2, extra
    belljar.close()
print("survived", belljar.run("3").value)
"""
)


def test_K10_tight_memory() -> None:
    """The host's own address space, and by inheritance every process's."""
    out = run_host(MEMORY, {"EXTRAS": [0, 1, 4, 12, 16, 24, 48, 200]}).stdout
    assert out == "survived 3\n"


@pytest.mark.long
def test_K10_tight_memory_at_every_size() -> None:
    out = run_host(MEMORY, {"EXTRAS": [*range(0, 80, 1)]}).stdout
    assert out == "survived 3\n"


def test_K10_tight_memory_does_not_make_a_machine_unsupported() -> None:
    """A launch that fails for want of memory says nothing about what the kernel can do."""
    code = (
        TRY
        + """
import resource
belljar.run("1"); belljar.close()
limits = resource.getrlimit(resource.RLIMIT_AS)
def short(): resource.setrlimit(resource.RLIMIT_AS, (12 << 20, limits[1]))
import belljar.api.machine as machine
class Short(machine.Zygote):
    def __init__(self, *args, **more):
        short()
        try: super().__init__(*args, **more)
        finally: resource.setrlimit(resource.RLIMIT_AS, limits)
right, machine.Zygote = machine.Zygote, Short
print([attempt() for _ in range(3)])
machine.Zygote = right
print(attempt())
"""
    )
    first, second = run_host(code).stdout.splitlines()
    assert eval(first) == [("SetupFailed", True)] * 3
    assert second == "2"


def test_K10_a_full_disk(root: None) -> None:
    """Full in ``/tmp`` and the current directory; belljar writes on no disk."""
    code = (
        TRY
        + OWN_MOUNTS
        + """
import os
for place in PLACES:
    cover(place, 4096 * 4)
    os.chdir(place)
    with open(place + "/full", "wb", buffering=0) as file:
        try:
            while True: file.write(bytes(4096))
        except OSError: pass
print(attempt("open('/work/file', 'wb').write(bytes(10**6))"))
"""
    )
    places = coverable("/tmp", "/var/tmp", "/dev/shm")
    assert run_host(code, {"PLACES": places}).stdout == "1000000\n"


def test_K10_a_full_disk_in_a_granted_place(root: None, open_dir: Path) -> None:
    """The guest is told what any program is told."""
    code = (
        TRY
        + OWN_MOUNTS
        + """
cover(PLACE, 4096 * 4)
policy = belljar.Policy().allow(write=[PLACE])
r = belljar.run(f"open({PLACE + '/f'!r}, 'wb').write(bytes(10**6))", policy)
print(r.error.type, r.error.message)
print(attempt())
"""
    )
    out = run_host(code, {"PLACE": str(open_dir)}).stdout
    assert out.startswith("OSError [Errno 28]")
    assert out.endswith("\n2\n")


# ------------------------------------------------------------------------ the machine


@pytest.mark.parametrize("subset", [b"hidepid", b"masked"])
def test_K10_a_proc_that_hides(root: None, subset: bytes) -> None:
    code = (
        TRY
        + OWN_MOUNTS
        + """
if SUBSET == b"hidepid":
    tree = mounts.new_filesystem(b"proc", {b"hidepid": b"2"}, 0)
    mounts.attach(tree, "/proc")
else:
    cover("/proc/sys/kernel")
print(attempt(), attempt("open('/etc/passwd').read(4)"))
"""
    )
    assert run_host(code, {"SUBSET": subset}).stdout == "2 root\n"


def test_K10_no_proc(root: None) -> None:
    """Identity maps are written there: nothing runs, and the error is typed."""
    code = (
        OWN_MOUNTS
        + """
import belljar
cover("/proc")
for _ in range(2):
    try:
        print(belljar.run("1 + 1").value)
    except belljar.BelljarError as error:
        print(type(error).__name__)
"""
    )
    out = run_host(code).stdout.splitlines()
    assert {*out} <= {"SetupFailed", "UnsupportedError"}
    assert len(out) == 2


def test_K10_a_read_only_root(root: None) -> None:
    code = (
        TRY
        + OWN_MOUNTS
        + """
import os
libc.mount(b"none", b"/", None, 4096 | 32 | 1, None)  # MS_BIND, MS_REMOUNT, MS_RDONLY
for place in PLACES:
    mounts.attach(mounts.clone_tree("/usr", mounts.RDONLY), place)
try: open("/written", "w"); print("not read-only")
except OSError: pass
print(attempt("open('/work/f', 'w').write('abc')"))
"""
    )
    assert run_host(code, {"PLACES": coverable("/tmp", "/var/tmp", "/dev/shm")}).stdout == "3\n"


def test_K10_no_dev_shm(root: None) -> None:
    code = (
        TRY
        + OWN_MOUNTS
        + """
import os
cover("/dev")
os.mknod("/dev/null", 0o666 | 0o020000, os.makedev(1, 3))
for name, minor in (("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)):
    os.mknod("/dev/" + name, 0o666 | 0o020000, os.makedev(1, minor))
assert not os.path.exists("/dev/shm")
print(attempt())
"""
    )
    assert run_host(code).stdout == "2\n"


def test_K10_clocks_that_jump() -> None:
    """Only the monotonic clock counts: the time of day goes mad, and no limit moves."""
    code = (
        TRY
        + """
import itertools, time
jumps = itertools.cycle([0.0, 4e9, 1.0, 2e9])
time.time = lambda: next(jumps)
time.time_ns = lambda: int(next(jumps) * 1e9)
real = time.clock_gettime
time.clock_gettime = lambda clock: next(jumps) if clock == time.CLOCK_REALTIME else real(clock)
print(attempt(), attempt("import time; time.sleep(0.05); 3"))
r = belljar.run("while True: pass", belljar.Policy().limit(wall_s=0.3).allow(cpu_s=9))
print(r.status, r.limit.name, 0.2 < r.limit.used < 30)
"""
    )
    assert run_host(code).stdout == "2 3\nlimit wall True\n"


def test_K10_nothing_of_the_host_reads_the_time_of_day() -> None:
    """The other half of the same: no line of it asks."""
    import belljar

    top = Path(belljar.__file__).parent
    asked = [
        f"{path.relative_to(top)}: {line.strip()}"
        for path in top.rglob("*.py")
        if "testing" not in path.parts
        for line in path.read_text().splitlines()
        if re.search(r"(?<!date)time\.time(_ns)?\(|clock_gettime\(time.CLOCK_REALTIME", line)
    ]
    assert asked == []


# ------------------------------------------------------------------------ signals


def test_K10_a_storm_of_interrupted_calls() -> None:
    """A signal every millisecond, with a handler, during fifty runs."""
    code = (
        TRY
        + """
import signal
count = 0
def handler(*_):
    global count
    count += 1
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
values = {attempt(f"{n} * 0 + 2") for n in range(48)}
belljar.close()
values |= {attempt() for _ in range(2)}
signal.setitimer(signal.ITIMER_REAL, 0)
print(values, count > 50)
"""
    )
    assert run_host(code).stdout == "{2} True\n"


def test_K10_an_application_that_reaps_every_child() -> None:
    """In a thread, with waitpid(-1), as some process keepers do."""
    code = (
        TRY
        + """
import os, threading, time
stop = False
def reap():
    while not stop:
        try: os.waitpid(-1, os.WNOHANG)
        except ChildProcessError: pass
        time.sleep(0.0005)
thread = threading.Thread(target=reap); thread.start()
for _ in range(4):
    print(attempt(), attempt("import os; os.abort()"))
    belljar.close()
stop = True; thread.join()
"""
    )
    assert run_host(code).stdout == "2 crashed\n" * 4


@pytest.mark.parametrize("action", ["SIG_DFL", "SIG_IGN"])
def test_K10_a_guest_that_closes_its_streams_under_a_writing_host(action: str) -> None:
    """Standard input to a guest that does not take it, whatever SIGPIPE does to the host."""
    code = (
        TRY
        + f"""
import signal
signal.signal(signal.SIGPIPE, signal.{action})
r = belljar.run("import os; os.close(0); os.close(3)", stdin="x" * 10**6)
print(r.status in ("ok", "exited", "crashed"))
print(attempt(), signal.sigpending())
"""
    )
    assert run_host(code).stdout == "True\n2 set()\n"


def test_K10_an_exception_of_the_application_is_its_own() -> None:
    """A handler's or a callback's OSError is not renamed; the guest is gone, and the next runs."""
    code = (
        TRY
        + """
import os, signal
def late(*_): raise TimeoutError("of the application")
signal.signal(signal.SIGALRM, late)
signal.setitimer(signal.ITIMER_REAL, 0.2)
def failing(error):
    def callback(*_): raise error
    return callback
for kwargs in (
    {"code": "import time; time.sleep(9)"},
    {"code": "print(1, flush=True); import time; time.sleep(9)", "on_output": failing(OSError(28, "own"))},
    {"code": "print(1, flush=True); import time; time.sleep(9)", "on_output": failing(MemoryError())},
    {"code": "print(1, flush=True); import time; time.sleep(9)", "on_output": lambda *_: os.read(-1, 1)},
):
    try: belljar.run(**kwargs)
    except BaseException as error: print(type(error).__name__)
print(attempt())
"""
    )
    assert run_host(code).stdout == "TimeoutError\nOSError\nMemoryError\nOSError\n2\n"


def test_K10_a_host_that_is_stopped_and_continued() -> None:
    """Longer than the wall limit: what finished meanwhile has finished."""
    code = (
        TRY
        + """
import os
belljar.run("1")
print("ready", flush=True)
policy = belljar.Policy().limit(wall_s=2)
print(belljar.run("import time; time.sleep(0.5); 7", policy).value, flush=True)
print(attempt())
"""
    )
    with start_host(code) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "ready\n"
        time.sleep(0.2)
        host.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        host.send_signal(signal.SIGCONT)
        out, err = host.communicate(timeout=60)
    assert out == "7\n2\n", err


# ------------------------------------------------------------------------ kinds of hosts


def test_K10_a_host_that_is_process_one() -> None:
    """In a PID namespace of its own, where it adopts and reaps, and has no default signals."""
    code = (
        TRY
        + """
import os
from belljar.kernel import namespaces
if os.geteuid():
    uid, gid = os.geteuid(), os.getegid()
    namespaces.unshare(["user", "pid"])
    own = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)
    namespaces.map_identity(uid, gid, uid, gid, own)
else:
    namespaces.unshare(["pid", "mount"])
pid = os.fork()
if pid == 0:
    assert os.getpid() == 1
    if os.geteuid() == 0:
        from belljar.kernel import mounts
        mounts.make_private()
        mounts.attach(mounts.new_filesystem(b"proc", {}, 0), "/proc")
    print([attempt() for _ in range(3)], attempt("import os; os.abort()"), flush=True)
    belljar.close()
    try: os.waitpid(-1, os.WNOHANG); print("a child is left", flush=True)
    except ChildProcessError: print("none left", flush=True)
    os._exit(0)
os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    )
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a proc of its own in a PID namespace")
    assert run_host(code).stdout == "[2, 2, 2] crashed\nnone left\n"


def test_K10_a_host_inside_an_event_loop() -> None:
    """Called in the loop itself it blocks the loop, and harms nothing."""
    code = (
        TRY
        + """
import asyncio
async def main():
    direct = attempt()
    both = await asyncio.gather(*(asyncio.to_thread(attempt) for _ in range(3)))
    child = await asyncio.create_subprocess_exec("true")
    return direct, both, await child.wait()
print(asyncio.run(main()))
"""
    )
    assert run_host(code).stdout == "(2, [2, 2, 2], 0)\n"


def test_K10_a_host_that_starts_programs_beside_it() -> None:
    """``preexec_fn`` forks a host that has run; nothing of the zygote's is there to end."""
    code = (
        TRY
        + """
import subprocess, threading
belljar.run("1")
def other():
    for _ in range(5): subprocess.run(["true"], preexec_fn=lambda: None, check=True)
threads = [threading.Thread(target=other) for _ in range(2)]
for thread in threads: thread.start()
print({attempt() for _ in range(10)})
for thread in threads: thread.join()
print(attempt())
"""
    )
    assert run_host(code, arguments=()).stdout == "{2}\n2\n"


def test_K10_threads_that_end_while_others_run() -> None:
    """Each starts, runs and ends; the zygote outlives the one that made it."""
    code = (
        TRY
        + """
import threading
found = []
def chain(left):
    found.append(attempt())
    if left: threading.Thread(target=chain, args=(left - 1,)).start()
for _ in range(4): threading.Thread(target=chain, args=(4,)).start()
while (others := [t for t in threading.enumerate() if t is not threading.main_thread()]):
    for thread in others: thread.join()
print(len(found), {*found})
"""
    )
    assert run_host(code).stdout == "20 {2}\n"


@pytest.mark.parametrize(
    "limits",
    ["RLIMIT_CORE, (0, 0)", "RLIMIT_FSIZE, (0, -1)", "RLIMIT_STACK, (1 << 20, 1 << 20)",
     "RLIMIT_MEMLOCK, (0, 0)", "RLIMIT_SIGPENDING, (0, 0)", "RLIMIT_MSGQUEUE, (0, 0)"],
)  # fmt: skip
def test_K10_a_host_with_odd_limits(limits: str) -> None:
    code = (
        TRY
        + f"""
import resource, os
os.nice(10)
resource.setrlimit(resource.{limits})
print(attempt(), attempt("import os; os.abort()"))
"""
    )
    user = ORDINARY_ID if os.geteuid() == 0 else None
    assert run_host(code, uid=user).stdout == "2 crashed\n"
