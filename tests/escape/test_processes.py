"""R2, C9: no process is made, no program executed.

What: every call that makes a process, with every combination of flags that matters, and every
way to execute.  Because: a second process has a second set of limits, and another program
another set of surprises.  Then: all of them are refused, with and without namespaces, and
threads, which are made by the same call, work.
"""

from __future__ import annotations

import pytest

from belljar import Policy
from belljar.api import machine

from .conftest import Wall
from .native import REFUSED, attack, outcome

FORKS = """
import struct
SIGCHLD = 17
VM, FS, FILES, SIGHAND, PIDFD, VFORK, PARENT, THREAD = (
    0x100, 0x200, 0x400, 0x800, 0x1000, 0x4000, 0x8000, 0x10000)
NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, IO, UNTRACED, INTO_CGROUP = (
    0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000, 0x80000000,
    0x800000, 1 << 33)

def made(*arguments):
    got = call(*arguments)
    if got == 0:
        call("exit_group", 99)  # we are the child, and that is all we need to know
    return got

flags = {
    "fork": SIGCHLD, "silent": 0, "another signal": 9, "another's child": PARENT | SIGCHLD,
    "idle": SIGCHLD | IO, "with pidfd": SIGCHLD | PIDFD, "files shared": SIGCHLD | FILES,
    "user": SIGCHLD | NEWUSER, "pid": SIGCHLD | NEWPID, "net": SIGCHLD | NEWNET,
    "mounts": SIGCHLD | NEWNS, "ipc": SIGCHLD | NEWIPC, "names": SIGCHLD | NEWUTS,
    "cgroup": SIGCHLD | NEWCGROUP, "high half": SIGCHLD | INTO_CGROUP,
    "high half of nothing": 1 << 40, "untraced": SIGCHLD | UNTRACED,
}
found = {name: made("clone", bits, 0, 0, 0, 0) for name, bits in flags.items()}
found["fork call"] = made("fork")
arguments = struct.pack("8Q", 0, 0, 0, 0, SIGCHLD, 0, 0, 0)
found["clone3"] = made("clone3", arguments, len(arguments))
arguments = struct.pack("8Q", NEWUSER, 0, 0, 0, SIGCHLD, 0, 0, 0)
found["clone3 user"] = made("clone3", arguments, len(arguments))
for name, bits in {
    "shared memory": VM | SIGCHLD, "shared memory, waiting": VM | VFORK | SIGCHLD,
    "almost a thread": VM | FS | FILES | SIGHAND | SIGCHLD,
    "thread with files of its own": VM | FS | SIGHAND | THREAD,
    "thread with a directory of its own": VM | FILES | SIGHAND | THREAD,
    "thread in a namespace": VM | FS | FILES | SIGHAND | THREAD | NEWNET,
    "traced thread": VM | FS | FILES | SIGHAND | THREAD | 0x2000,
    "foreign thread": VM | FS | FILES | SIGHAND | THREAD | PARENT,
    "idle thread": VM | FS | FILES | SIGHAND | THREAD | IO,
}.items():
    stack = buffer(1 << 16)  # never run on: the call is refused
    found[name] = call("clone", bits, _ctypes.addressof(stack) + (1 << 16) - 64, 0, 0, 0)
for name, act in {
    "os.fork": lambda: os.fork() or os._exit(99),
    "forkpty": lambda: os.forkpty()[0] or os._exit(99),
    "system": lambda: os.system("exit 0") and None,
    "popen": lambda: os.popen("exit 0").read(),
}.items():
    found[name] = attempt(act)
found
"""


@pytest.mark.parametrize("layer", [False, True])
@pytest.mark.parametrize("call_wall", ["all", "no root"], indirect=True)
def test_R2_no_call_makes_a_process(
    call_wall: Wall, layer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "explain_refusals", layer)
    found = outcome(FORKS, call_wall.policy)
    assert found.pop("system") is None  # system(3) says -1, which is "could not fork"
    assert {name: got for name, got in found.items() if got not in REFUSED | {"ENOTTY"}} == {}


@pytest.mark.parametrize("call_wall", ["no filter"], indirect=True)
def test_R2_without_the_filter_the_kernel_counts(call_wall: Wall) -> None:
    """RLIMIT_NPROC in a user namespace of the guest's own: the second wall bounds the number."""
    code = """
children = []
while len(children) < 100:
    got = call("clone", 17, 0, 0, 0, 0)
    if got == 0:
        call("pause")
    if isinstance(got, str):
        break
    children.append(got)
for child in children:
    os.kill(child, 9)
    os.waitpid(child, 0)
(len(children), got)
"""
    assert outcome(code, Policy().limit(threads=5)) == (5, "EAGAIN")


EXECUTES = """
import sys
T = PROGRAM.encode()
found = {}
vector = (_ctypes.c_char_p * 2)(T, None)
found["execve"] = call("execve", T, vector, None)
found["execveat"] = call("execveat", AT, T, vector, None, 0)
fd = call("openat", AT, T, 0, 0)
if isinstance(fd, int):
    found["by descriptor"] = call("execveat", fd, b"", vector, None, 0x1000)
    found["by proc"] = call("execve", b"/proc/self/fd/%d" % fd, vector, None)
memory = call("memfd_create", b"x", 0)
found["memory file"] = memory
if isinstance(memory, int):
    found["memory program"] = call("execveat", memory, b"", vector, None, 0x1000)
with open("/work/script", "w") as file: file.write("#!" + PROGRAM + "\\n")
attempt(os.chmod, "/work/script", 0o755)
found["script"] = call("execve", b"/work/script", vector, None)
found["missing"] = call("execve", b"/no/such/program", vector, None)
found["null"] = call("execve", None, None, None)
found["self"] = call("execve", sys.executable.encode(), vector, None)
found["loader"] = call("execve", b"/lib64/ld-linux-x86-64.so.2", vector, None)
found["python"] = attempt(os.execv, PROGRAM, [PROGRAM])
found["spawn"] = attempt(os.posix_spawn, PROGRAM, [PROGRAM], {})
found
"""


def test_C9_nothing_is_executed(call_wall: Wall) -> None:
    """If one of these worked, the guest would end without a value."""
    if call_wall.name == "no root":
        code = EXECUTES.replace('with open("/work/script"', 'with open("/dev/null"')
        program = "/bin/sh"
    else:
        code = EXECUTES
        program = outcome("import sys; sys.executable")
    found = outcome(code, call_wall.policy, inputs={"PROGRAM": program})
    if call_wall.name == "no filter":
        found.pop("memory file")  # made, but neither Landlock nor its mount lets it run
        assert found.pop("memory program") in ("EACCES", "EPERM", "ENOEXEC", "EFAULT")
    refused = REFUSED | {"EFAULT"}
    assert {name: got for name, got in found.items() if got not in refused} == {}


@pytest.mark.parametrize(
    "code",
    [
        "import subprocess; subprocess.run(['/bin/sh', '-c', 'exit 0'])",
        "import subprocess; subprocess.run('exit 0', shell=True, check=True)",
        "import multiprocessing as m; p = m.get_context('fork').Process(); p.start()",
        "import multiprocessing as m; p = m.get_context('spawn').Process(); p.start()",
        "import pty; pty.spawn('/bin/sh')",
        "import concurrent.futures as c\n"
        "with c.ProcessPoolExecutor(1) as pool: pool.submit(int).result()",
        "import asyncio\nawait asyncio.create_subprocess_exec('/bin/true')",
    ],
)
def test_M6_the_library_says_so_with_ordinary_exceptions(code: str) -> None:
    result = attack(code, Policy().limit(wall_s=5))
    assert result.status in ("raised", "limit")
    assert result.limit is None or result.limit.name == "processes"
    assert result.error is not None
    assert result.error.type in (
        "PermissionError",
        "BlockingIOError",
        "OSError",
        "FileNotFoundError",
    )


def test_R2_threads_work_within_their_limit() -> None:
    code = """
import threading
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool:
    total = sum(pool.map(lambda n: n * n, range(100)))
barrier = threading.Barrier(9)
threads = [threading.Thread(target=barrier.wait) for _ in range(8)]
for thread in threads: thread.start()
barrier.wait()
for thread in threads: thread.join()
total
"""
    assert outcome(code, Policy().limit(threads=8)) == 328350


def test_C8_subprocess_imports_all_the_same() -> None:
    assert outcome("import subprocess, multiprocessing, pty, ctypes, socket; 1") == 1
