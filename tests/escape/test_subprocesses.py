"""R2, C9, K9, R6: what a guest of several processes still cannot do, without the Python layer.

What: fork bombs, programs that are not granted, executables of its own making, signals and
sockets to others, endings that nobody waits for.  Because: ``processes`` opens system calls
that are shut otherwise, and each of them has its own way out.  Then: the number holds, only
what is listed is executed, nobody else is reached, and everything ends with the guest.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import belljar
from belljar import Policy

from .native import outcome

SEVERAL = Policy().allow(processes=4, wall_s=60, cpu_s=60)

BOMB = """
import os, time
made = 1
try:
    while True:
        if os.fork() == 0:
            time.sleep(1000)
        made += 1
except OSError as error:
    answer = error.errno
(made, answer)
"""


@pytest.mark.parametrize("processes", [1, 3, 20])
def test_R2_tasks_are_counted_together(processes: int) -> None:
    policy = Policy().allow(processes=processes).limit(threads=2)
    made, errno = belljar.run(BOMB, policy).unwrap()
    assert (made, errno) == (1 + processes + 2, 11)  # threads count in the same account


def test_R2_the_forgotten_do_not_use_up_the_number() -> None:
    code = """
import os, time
for _ in range(50):
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            os._exit(0)  # its parent is gone: the first process of the namespace collects it
        os._exit(0)
    os.waitpid(child, 0)
    for _ in range(1000):
        try:
            probe = os.fork()
        except BlockingIOError:
            time.sleep(0.01)
            continue
        if probe == 0:
            os._exit(0)
        os.waitpid(probe, 0)
        break
    else:
        raise SystemExit("full")
"""
    policy = Policy().allow(processes=2, wall_s=60, cpu_s=60).limit(threads=0)
    result = belljar.run(code, policy)
    assert result.ok, result


EXECUTE = """
import os
def starts(path, *arguments):
    child = os.fork()
    if child == 0:
        try:
            os.execv(path, [path, *arguments])
        except OSError as error:
            os._exit(error.errno)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
def copied(source, target):
    with open(source, "rb") as one, open(target, "xb") as other:
        other.write(one.read())
    os.chmod(target, 0o755)
    return target
with open("/work/script", "w") as file:
    file.write("#!/usr/bin/true\\n")
os.chmod("/work/script", 0o755)
os.symlink("/usr/bin/true", "/work/link")
loader = next(
    line.split()[-1] for line in open("/proc/self/maps") if "/ld-" in line or "ld-linux" in line)
{
    "granted": starts("/usr/bin/true"),
    "by a link": starts("/work/link"),
    "its own copy": starts(copied("/usr/bin/true", "/work/copy")),
    "in shared memory": starts(copied("/usr/bin/true", "/dev/shm/copy")),
    "a script of its own": starts("/work/script"),
    "by the loader": starts(loader, "/work/copy"),
    "not granted": starts("/usr/bin/false"),
    "a data file": starts("/etc/passwd"),
    "a library": starts("/usr/lib/belljar/lib/libc.so.6"),
}
"""


def test_C9_only_what_is_listed_is_executed() -> None:
    """Not even a copy of a granted program, nor by the dynamic loader, which is one itself."""
    found = belljar.run(EXECUTE, SEVERAL.allow(run=["true"])).unwrap()
    assert (found.pop("granted"), found.pop("by a link")) == (0, 0)
    assert 0 not in found.values(), found


def test_C9_a_program_can_be_neither_changed_nor_replaced() -> None:
    code = """
attempts = {
    "write": attempt(open, "/usr/bin/true", "wb"),
    "remove": attempt(os.remove, "/usr/bin/true"),
    "rename": attempt(os.rename, "/usr/bin/true", "/usr/bin/other"),
    "replace": attempt(os.rename, "/work", "/usr/bin"),
    "add": attempt(open, "/usr/bin/new", "wb"),
    "link": attempt(os.symlink, "/work/x", "/usr/bin/new"),
    "bin": attempt(os.remove, "/bin"),
}
attempts
"""
    found = outcome(code, SEVERAL.allow(run=["true"]))
    assert all(isinstance(answer, str) for answer in found.values()), found


def test_C9_other_ways_to_execute_stay_shut() -> None:
    code = """
fd = os.open("/usr/bin/true", os.O_RDONLY)
argv = (_ctypes.c_char_p * 2)(b"true", None)
{
    "execveat": call("execveat", fd, b"", argv, None, 0x1000),
    "uselib": call("uselib", b"/usr/bin/true"),
    "memfd": call("memfd_create", b"x", 0),
    "ptrace": call("ptrace", 0, 0, 0, 0),
    "unshare": call("unshare", 0x10000000),
    "new user": call("clone", 17 | 0x10000000, 0, 0, 0, 0),
    "new pid": call("clone", 17 | 0x20000000, 0, 0, 0, 0),
    "another's child": call("clone", 17 | 0x8000, 0, 0, 0, 0),
    "no signal": call("clone", 0, 0, 0, 0, 0),
}
"""
    found = outcome(code, SEVERAL.allow(run=["true"]))
    assert {
        name: answer for name, answer in found.items() if answer not in ("EPERM", "ENOSYS")
    } == {}


def test_K9_signals_reach_nobody_else() -> None:
    """A whole group and "everybody" are the guest's own; the first process is out of reach."""
    code = """
import signal
signal.signal(signal.SIGUSR1, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    while True:
        signal.pause()
{
    "own group": attempt(os.kill, 0, signal.SIGUSR1),
    "everybody": attempt(os.kill, -1, signal.SIGUSR1),
    "first": attempt(os.kill, 1, signal.SIGUSR1),
    "zygote's group": os.getpgid(0),
    "session": os.getsid(0),
    "others": [n for n in range(4, 3000) if attempt(os.kill, n, 0) is None],
}
"""
    before = belljar.run("1", SEVERAL)
    found = outcome(code, SEVERAL)
    assert before.ok
    assert found == {
        "own group": None,
        "everybody": None,
        "first": "EPERM",
        "zygote's group": 2,
        "session": 2,
        "others": [],
    }
    assert belljar.run("2", SEVERAL).ok  # the zygote is well


def test_K9_siblings_cannot_meet_by_the_names_of_sockets() -> None:
    """Two guests of one zygote: an abstract name and a path of one are nothing in the other."""
    listen = """
import socket, time
ends = []
for name in ("\\0belljar-meeting", "/tmp/meeting", "/dev/shm/meeting"):
    end = socket.socket(socket.AF_UNIX)
    try:
        end.bind(name)
        end.listen()
        ends.append(name)
    except OSError:
        pass
print("listening", flush=True)
time.sleep(1000)
"""
    connect = """
{
    name: attempt(__import__("socket").socket(1, 1).connect, name)
    for name in ("\\0belljar-meeting", "/tmp/meeting", "/dev/shm/meeting")
}
"""
    found: list[object] = []

    class Enough(Exception):
        pass

    def heard(stream: str, data: bytes) -> None:
        found.append(outcome(connect, SEVERAL))
        raise Enough

    with pytest.raises(Enough):
        belljar.run(listen, SEVERAL, on_output=heard)
    assert found == [
        {
            "\0belljar-meeting": "ECONNREFUSED",
            "/tmp/meeting": "ENOENT",
            "/dev/shm/meeting": "ENOENT",
        }
    ]


def test_R10_a_socket_in_a_granted_folder_cannot_be_reached(open_dir: Path) -> None:
    import socket

    path = open_dir / "socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        path.chmod(0o777)
        server.listen()
        code = f"""
import socket
attempt(socket.socket(socket.AF_UNIX).connect, {str(path)!r})
"""
        assert outcome(code, SEVERAL.allow(read=[str(open_dir)])) == "EPERM"


def test_R10_no_other_kind_of_socket_is_made() -> None:
    code = """
import socket
{
    "inet": attempt(socket.socket, socket.AF_INET),
    "inet6": attempt(socket.socket, socket.AF_INET6),
    "datagram": attempt(socket.socket, socket.AF_UNIX, socket.SOCK_DGRAM),
    "netlink": attempt(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW),
    "vsock": attempt(socket.socket, 40),
}
"""
    found = outcome(code, SEVERAL)
    assert set(found.values()) <= {"EACCES", "EAFNOSUPPORT", "EPERM"}, found


def test_K9_shared_memory_is_the_guests_own_and_counted() -> None:
    assert outcome("open('/dev/shm/left', 'w').close(); os.listdir('/dev/shm')", SEVERAL) == [
        "left"
    ]
    assert outcome("os.listdir('/dev/shm')", SEVERAL) == []
    fill = """
import mmap
made = 0
try:
    for name in ("/work/a", "/dev/shm/b", "/tmp/c"):
        with open(name, "wb") as file:
            while True:
                made += file.write(b"x" * 65536)
except OSError as error:
    answer = error.errno
(made, answer)
"""
    made, errno = outcome(fill, SEVERAL.limit(work_bytes=2**20))
    assert errno == 28
    assert made <= 2**20


def test_R6_a_program_inherits_no_link() -> None:
    code = """
import subprocess, sys
probe = '''
import os
held = []
for number in range(256):
    try:
        os.fstat(number)
        held.append(number)
    except OSError:
        pass
print(held)
'''
made = subprocess.run(
    [sys.executable, "-c", probe], close_fds=False, stdin=0, capture_output=True, text=True)
made.stdout
"""
    assert belljar.run(code, SEVERAL).unwrap() == "[0, 1, 2]\n"


def test_K1_a_bomb_that_ends_its_first_process_leaves_nothing() -> None:
    """The first process goes, its children try to stay: descriptors, groups, sessions, signals."""
    code = """
import os, signal, sys
if os.fork() == 0:
    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    while True:
        try:
            if os.fork() == 0:
                os.setsid()
        except OSError:
            pass
os._exit(5)
"""
    before = _descendants()
    began = time.monotonic()
    result = belljar.run(code, SEVERAL)
    assert (result.status, result.exit_code) == ("exited", 5)
    assert time.monotonic() - began < 300  # only a hang takes so long
    for _ in range(500):
        if _descendants() <= before | _zygotes():
            return
        time.sleep(0.01)
    raise AssertionError("processes are left")


@pytest.mark.parametrize("how", ["spin", "sleep"])
def test_R2_time_ends_all_of_them(how: str) -> None:
    act = {"spin": "pass", "sleep": "__import__('time').sleep(1)"}[how]
    code = f"""
import os
for _ in range(3):
    os.fork()
while True:
    {act}
"""
    result = belljar.run(code, SEVERAL.allow(processes=8).limit(wall_s=0.5))
    assert result.limit is not None
    assert result.limit.name == "wall"


def test_C9_an_interpreter_started_anew_is_within_the_same_walls(open_dir: Path) -> None:
    canary = open_dir / "canary"
    canary.write_text("secret")
    probe = f"""
import os
def refused(act, *arguments):
    try:
        act(*arguments)
    except OSError as error:
        return error.errno
    return 0
import ctypes, mmap
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
print([
    refused(open, {str(canary)!r}),
    refused(os.listdir, "/"),
    refused(os.mkdir, "/new"),
    refused(os.setuid, 0),
    refused(os.chroot, "/tmp"),
    libc.mmap(None, 4096, 7, 0x22, -1, 0) == ctypes.c_void_p(-1).value,
    open("/proc/self/status").read().count("Seccomp:\\t2"),
])
"""
    code = f"""
import subprocess, sys
subprocess.run([sys.executable, "-S", "-c", {probe!r}], capture_output=True, text=True).stdout
"""
    assert belljar.run(code, SEVERAL).unwrap() == "[2, 13, 30, 1, 1, True, 1]\n"


def _descendants() -> set[int]:
    """Every process below this one."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    parents[int(name)] = int(file.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found: set[int] = set()
    todo = [os.getpid()]
    while todo:
        parent = todo.pop()
        children = [pid for pid, above in parents.items() if above == parent and pid not in found]
        found.update(children)
        todo += children
    return found


def _zygotes() -> set[int]:
    """Children of this process: zygotes, which are meant to stay."""
    own = os.getpid()
    with open(f"/proc/{own}/task/{own}/children") as file:
        return set(map(int, file.read().split()))
