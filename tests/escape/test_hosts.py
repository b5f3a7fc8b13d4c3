"""M11, K10: belljar in all kinds of host programs.

What: threads, asyncio, forks, signal settings, inheritable descriptors, small limits, ordinary
users, odd streams and working directories.  Because: a library meets programs that do not know
it.  Then: results are right, nothing of the host's goes inside, and where a resource is missing
the error is typed, says that a retry may help, and leaks nothing.
"""

from __future__ import annotations

import asyncio
import os
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import belljar
from belljar import Policy
from belljar.kernel import libc, process

from .hosts import ORDINARY_ID, run_host
from .watch import descriptors


def test_M11_eight_threads() -> None:
    def work(number: int) -> object:
        code = "print(n, flush=True)\nimport time; time.sleep(0.01)\nn * n"
        result = belljar.run(code, inputs={"n": number})
        assert result.stdout == f"{number}\n"
        return result.value

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(48))) == [n * n for n in range(48)]


def test_M11_threads_with_policies_of_their_own() -> None:
    """More policies at once than zygotes are kept: some are ended while others use them."""

    def work(number: int) -> object:
        policy = Policy().allow(env={"N": str(number % 6)}, system_info=False)
        if number % 2:
            policy = policy.limit(memory_bytes=(64 + number) * 2**20)
        return belljar.run("import os; os.environ['N']", policy).value

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(36))) == [str(n % 6) for n in range(36)]


def test_M11_more_roots_than_zygotes_are_kept(open_dir: Path) -> None:
    for number in range(7):
        (open_dir / str(number)).write_text(str(number))

    def work(number: int) -> object:
        path = str(open_dir / str(number % 7))
        try:
            return belljar.run(f"open({path!r}).read()", Policy().allow(read=[path])).value
        except belljar.WorkerDied as error:
            if not error.retryable:
                raise
            return None

    with ThreadPoolExecutor(4) as pool:
        values = list(pool.map(work, range(28)))
    assert all(value in (None, str(n % 7)) for n, value in enumerate(values))
    assert work(0) == "0"


def test_M11_inside_asyncio() -> None:
    async def main() -> list[object]:
        results = await asyncio.gather(
            *(asyncio.to_thread(belljar.run, "n + 1", inputs={"n": n}) for n in range(6))
        )
        return [result.value for result in results]

    assert asyncio.run(main()) == [1, 2, 3, 4, 5, 6]
    assert (
        asyncio.run(asyncio.to_thread(belljar.run, "await __import__('asyncio').sleep(0, 5)")).value
        == 5
    )


def test_M11_a_cancelled_task_does_not_harm_the_next() -> None:
    async def main() -> object:
        slow = asyncio.create_task(asyncio.to_thread(belljar.run, "import time; time.sleep(0.3)"))
        await asyncio.sleep(0.05)
        slow.cancel()
        return (await asyncio.to_thread(belljar.run, "7")).value

    assert asyncio.run(main()) == 7


FORKING = """
import belljar, os, sys
first = belljar.run("1").value
pid = os.fork()
if pid == 0:
    # The parent's zygote is not ours: we start our own, and end it.
    ok = belljar.run("2").value == 2
    belljar.close()
    os._exit(0 if ok else 1)
assert os.waitpid(pid, 0)[1] == 0
print(first, belljar.run("3").value)
pids = [os.fork() for _ in range(1)]
if pids[0] == 0:
    os._exit(0)  # ends without a run: nothing of the parent's may end with it
os.waitpid(pids[0], 0)
print(belljar.run("4").value)
"""


def test_M11_after_a_fork_of_the_host() -> None:
    assert run_host(FORKING).stdout == "1 3\n4\n"


def test_M11_multiprocessing_hosts() -> None:
    code = """
import multiprocessing, belljar
def work(n):
    return belljar.run("n * 2", inputs={"n": n}).value
belljar.run("1")
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(3) as pool:
        print(pool.map(work, range(6)))
"""
    assert run_host(code).stdout == "[0, 2, 4, 6, 8, 10]\n"


@pytest.mark.parametrize(
    "setting",
    [
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "signal.signal(signal.SIGPIPE, signal.SIG_DFL)",
        "signal.signal(signal.SIGINT, signal.SIG_IGN)",
        "signal.signal(signal.SIGCHLD, lambda *a: os.waitpid(-1, os.WNOHANG))",
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
        "signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002), signal.signal(signal.SIGALRM, lambda *a: None)",
        "signal.siginterrupt(signal.SIGCHLD, True)",
    ],
)  # fmt: skip
def test_M11_signal_settings_of_the_host(setting: str) -> None:
    order = setting
    if "setitimer" in setting:
        first, second = setting.split("), ", 1)
        order = f"{second}\n{first})"
    code = f"""
import os, signal
{order}
import belljar
print([belljar.run("import signal, time; time.sleep(0.02); n", inputs={{"n": n}}).value for n in range(3)])
r = belljar.run("import os; os.abort()")
print(r.status, r.signal)
print(belljar.run("import signal; signal.alarm(1); 'own signals work'").value)
r = belljar.run("import signal, os; os.kill(os.getpid(), signal.SIGTERM)")
print(r.status, r.signal)
belljar.close()
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    out = run_host(code).stdout
    assert out == "[0, 1, 2]\ncrashed 6\nown signals work\ncrashed 15\n"


def test_R6_many_inheritable_descriptors() -> None:
    code = """
import os
held = [os.open("/etc/passwd", os.O_RDONLY) for _ in range(300)]
for fd in held: os.set_inheritable(fd, True)
import belljar
r = belljar.run('''
import os
kept = []
for fd in range(1000):
    try: os.fstat(fd)
    except OSError: continue
    kept.append(fd)
kept
''')
print(r.value)
"""
    assert run_host(code).stdout == "[0, 1, 2, 3]\n"


SCARCE = """
import belljar, os, resource
belljar.run("1")
RESTART
count = lambda: len(os.listdir("/proc/self/fd"))
held, failures, values = count(), [], []
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
for room in range(0, 40):
    resource.setrlimit(resource.RLIMIT_NOFILE, (held + room, hard))
    try:
        values.append(belljar.run("1 + 1").value)
    except belljar.SandboxFailure as error:
        assert error.retryable, error
        failures.append(error.stage)
    RESTART
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert count() == held, (room, held, count(), os.popen(f"ls -l /proc/{os.getpid()}/fd").read())
print(len(failures) > 3, set(values), belljar.run("2").value)
"""


@pytest.mark.parametrize("restart", ["", "belljar.close()"], ids=["warm zygote", "new zygote"])
def test_K10_too_few_descriptors_are_a_typed_retryable_error(restart: str) -> None:
    """With room for 0, 1, 2, ... more descriptors: an error or a result, and never a leak."""
    out = run_host(SCARCE.replace("RESTART", restart)).stdout
    assert out == "True {2} 2\n"


def test_K10_too_few_processes_are_a_typed_retryable_error() -> None:
    """The user's limit on processes, below what a zygote needs; only an ordinary user has one."""
    if os.geteuid() != 0:
        pytest.skip("needs a user of its own, whose processes can be counted, and so root")
    code = """
import belljar, os, resource
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
try:
    print(belljar.run("1").value)
except belljar.SandboxFailure as error:
    print(type(error).__name__, error.retryable)
print(len(os.listdir("/proc/self/fd")) < 10)
"""
    out = run_host(code, uid=ORDINARY_ID + 1).stdout
    assert out == "SetupFailed True\nTrue\n"


@pytest.mark.parametrize("uid", [65534, ORDINARY_ID])
def test_M1_an_ordinary_user(uid: int) -> None:
    """No root, no set-id program: the same walls for everybody."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root; the other tests run as one")
    code = """
import belljar, os
assert os.geteuid() == UID
r = belljar.run('''
import os
lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
[os.getuid(), os.listdir("/work"), lines["CapEff"].strip("\\\\t0\\\\n"), lines["Seccomp"].strip(), os.uname().nodename]
''')
print(r.status, r.value, r.error and r.error.traceback)
for path in ("/etc/shadow", "/home", "/proc/1/status"):
    r = belljar.run(f"open({path!r})")
    print(r.error.type)
print(belljar.run("import os\\nwhile True: os.fork()").error.type)
print(belljar.run("x = bytearray(10**9)").limit.name)
"""
    out = run_host(code, {"UID": uid}, uid=uid).stdout
    assert out.splitlines() == [
        "ok [1000, [], '', '2', 'belljar'] None",
        "FileNotFoundError",
        "FileNotFoundError",
        "FileNotFoundError",
        "PermissionError",
        "memory",
    ]


def test_M1_grants_of_an_ordinary_user_are_no_wider_than_the_user(open_dir: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    theirs, ours = open_dir / "theirs", open_dir / "ours"
    for path in (theirs, ours):
        path.mkdir()
        path.chmod(0o700)
        (path / "file").write_text("contents")
        (path / "file").chmod(0o600)
    os.chown(theirs, ORDINARY_ID, ORDINARY_ID)
    os.chown(theirs / "file", ORDINARY_ID, ORDINARY_ID)
    code = """
import belljar
policy = belljar.Policy().allow(write=[THEIRS, OURS])
for place in (THEIRS, OURS):
    r = belljar.run(f"open({place + '/file'!r}).read()", policy)
    print(r.value, r.error and r.error.type)
print(belljar.run(f"open({THEIRS + '/new'!r}, 'w').write('x')", policy).value)
"""
    out = run_host(code, {"THEIRS": str(theirs), "OURS": str(ours)}, uid=ORDINARY_ID).stdout
    assert out == "contents None\nNone PermissionError\n1\n"
    assert (theirs / "new").stat().st_uid == ORDINARY_ID


CAP_KILL, CAP_SYS_PTRACE = 5, 19
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to lose")


def without(*capabilities: int) -> Callable[[], None]:
    """For ``preexec_fn``: root without these, as in a container.  See capabilities(7)."""

    def drop() -> None:
        for number in capabilities:
            process.prctl(process.PR_CAPBSET_DROP, number)
        header, data = struct.pack("Ii", 0x20080522, 0), libc.buffer(24)
        libc.syscall("capget", header, data)
        words = list(struct.unpack("6I", data.raw))
        words[2] = words[5] = 0  # inheritable ones would come back with the new program
        libc.syscall("capset", header, struct.pack("6I", *words))

    return drop


BUSY_ORPHANS = """
import os, time
began = time.monotonic()
for _ in range(3):
    if os.fork() == 0:
        if os.fork():
            os._exit(0)
        while time.monotonic() < began + 1: pass
        os._exit(0)
time.sleep(1)
"""
HOLDING_ORPHANS = """
import os, time
for _ in range(5):
    if os.fork() == 0:
        if os.fork():
            os._exit(0)
        held = b"x" * (48 << 20)
        time.sleep(60)
time.sleep(60)
"""


@ROOT
def test_R2_root_without_ptrace_counts_and_stops_all_processes() -> None:
    """A container's root may not ask for a guest's namespaces; throttle and watch work."""
    throttled = """
import belljar
code = CODE
policy = belljar.Policy().allow(processes=6).limit(cpu_cores=0.2)
result = belljar.run(code, policy)
print(result.status, result.usage.cpu_s < 0.7 * result.usage.wall_s)
held = belljar.run(HOLD, belljar.Policy().allow(processes=12).limit(memory_bytes=128 * 2**20))
print(held.status, held.limit and held.limit.name, held.limit and held.limit.evidence)
"""
    names = {"CODE": BUSY_ORPHANS, "HOLD": HOLDING_ORPHANS}
    done = run_host(throttled, names, preexec_fn=without(CAP_SYS_PTRACE))
    assert done.stdout.splitlines() == ["ok True", "limit memory kernel"]


@ROOT
def test_K1_root_that_could_not_end_a_guest_starts_none() -> None:
    """Guests of root are another user's, and to end them takes CAP_KILL."""
    code = """
import belljar
try:
    belljar.run("while True: pass", belljar.Policy().limit(wall_s=0.2))
except belljar.UnsupportedError as error:
    print("CAP_KILL" in str(error))
policy = belljar.Policy().allow(system_info=True).limit(wall_s=0.2)
try:
    print(belljar.run("while True: pass", policy).limit.name)
except belljar.UnsupportedError:
    print("wall")  # no Landlock that would hold alone
"""
    done = run_host(code, preexec_fn=without(CAP_KILL))
    assert done.stdout.splitlines() == ["True", "wall"]


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2), (0, 2)])
def test_M11_hosts_without_standard_streams(closed: tuple[int, ...], open_dir: Path) -> None:
    """A daemon with 0, 1 and 2 closed: our descriptors take those numbers."""
    code = f"""
import os
for fd in {closed}: os.close(fd)
import belljar
values = [belljar.run("print('x'); input()", stdin="typed\\n").stdout for _ in range(2)]
values.append(belljar.run("import sys; sys.stdin.read()", stdin="typed").value)
with open(OUT, "w") as file: file.write(repr(values))
belljar.close()
os._exit(0)
"""
    out = open_dir / "out"
    run_host(code, {"OUT": str(out)})
    assert out.read_text() == "['x\\n', 'x\\n', 'typed']"


def test_M11_a_host_whose_directory_is_gone(open_dir: Path) -> None:
    code = """
import os
os.mkdir(D + "/gone"); os.chdir(D + "/gone"); os.rmdir(D + "/gone")
import belljar
print(belljar.run("import os; os.getcwd()").value)
"""
    assert run_host(code, {"D": str(open_dir)}).stdout == "/work\n"


def test_M11_a_host_with_odd_settings() -> None:
    code = """
import gc, os, sys, locale, threading
os.environ.clear()
os.umask(0o777)
sys.path[:] = [p for p in sys.path]
gc.disable()
sys.setrecursionlimit(200)
threading.stack_size(64 * 1024)
os.nice(5)
sys.stdin = sys.stdout = None
import belljar
out = []
thread = threading.Thread(target=lambda: out.append(belljar.run("open('f', 'w').close(); 1 + 1").value))
thread.start(); thread.join()
os.write(1, repr(out).encode())
"""
    assert run_host(code).stdout == "[2]"


def test_K10_descriptors_of_the_host_are_as_before() -> None:
    belljar.run("1")
    before = descriptors()
    threads = [threading.Thread(target=belljar.run, args=("1",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert descriptors() == before
