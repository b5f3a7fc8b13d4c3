"""R1, R2, C9, K9, K10: break-outs that several processes and programs make thinkable.

What: memory that is code in a program that was started, links that decide what the next guest
may start, connections that nobody takes, crash handlers of the host, privileges on a file, a
guest that is slow to die.  Because: executing a program is the kernel's own doing, past the
filter's rules on memory; and what ends slowly must not make others wait.  Then: each is refused
or bounded without the Python layer.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

import belljar
from belljar import Policy, PolicyError
from belljar.kernel import fdpass
from belljar.python import interpreter as described
from belljar.python.hops import hops
from belljar.wire.control import Unpacker
from belljar.zygote import server

from .native import outcome

SEVERAL = Policy().allow(processes=4, wall_s=60, cpu_s=60)

PT_LOAD, PT_GNU_STACK = 1, 0x6474E551
PF_X, PF_W = 1, 2


def program_with(directory: Path, kind: int, flags: int) -> str:
    """A copy of a small program of which the segments of one kind have these flags as well."""
    source = shutil.which("true")
    assert source is not None
    data = bytearray(Path(os.path.realpath(source)).read_bytes())
    (table,) = struct.unpack_from("<Q", data, 32)
    (count,) = struct.unpack_from("<H", data, 56)
    changed = 0
    for place in range(table, table + 56 * count, 56):
        found, before = struct.unpack_from("<II", data, place)
        if found == kind and (kind != PT_LOAD or before & PF_W):
            struct.pack_into("<I", data, place + 4, before | flags)
            changed += 1
    assert changed
    path = directory / "odd"
    path.write_bytes(data)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("kind", [PT_GNU_STACK, PT_LOAD], ids=["stack", "data"])
def test_C9_no_program_brings_memory_that_can_be_written_and_executed(
    open_dir: Path, kind: int
) -> None:
    """The kernel maps it so at execve(2): what the guest puts on such a stack is code."""
    policy = SEVERAL.allow(run=[program_with(open_dir, kind, PF_X)])
    with pytest.raises(PolicyError, match="executable; jit=True"):
        belljar.run("1", policy)
    start = "import subprocess; subprocess.run(['odd']).returncode"
    assert belljar.run(start, policy.allow(jit=True)).unwrap() == 0


@pytest.mark.parametrize("way", ["link", "directory"])
def test_C9_no_guest_chooses_what_the_next_one_may_start(open_dir: Path, way: str) -> None:
    """By a link where it may write: the next guest would read and start another host program."""
    program = shutil.which("true")
    assert program is not None
    if way == "link":
        (open_dir / "true").symlink_to(program)
        granted = open_dir / "true"
    else:
        (open_dir / "bin").symlink_to(os.path.dirname(program))
        granted = open_dir / "bin" / "true"
    policy = SEVERAL.allow(run=[str(granted)])
    assert belljar.run("1", policy).ok
    with pytest.raises(PolicyError, match="guests run as code"):
        belljar.run("1", policy.allow(write=[str(open_dir)]))


@pytest.mark.parametrize("writable", [".", "bin", "pyvenv.cfg"])
def test_R4_what_a_guest_may_replace_is_never_executed_outside(
    open_dir: Path, monkeypatch: pytest.MonkeyPatch, writable: str
) -> None:
    """An interpreter given by path is asked about itself, on the host, before any guest starts."""
    environment = open_dir / "environment"
    (environment / "bin").mkdir(parents=True)
    (environment / "pyvenv.cfg").write_text("home = /usr/bin\n")
    (environment / "bin" / "python").symlink_to(described.describe_interpreter().executable)
    for path in (environment, environment / "bin"):
        path.chmod(0o755)

    def executed(argv: list[str]) -> tuple[bytes, bytes]:
        raise AssertionError(f"executed: {argv[0]}")

    monkeypatch.setattr(described, "_run", executed)
    policy = Policy().allow(
        python=str(environment / "bin" / "python"), write=[str(environment / writable)]
    )
    with pytest.raises(PolicyError, match="guests run as code"):
        belljar.run("1", policy)


def test_C9_every_link_on_a_way_is_found(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "tool").write_text("")
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "tool").symlink_to("folder/../folder/tool")
    (tmp_path / "round").symlink_to("round")
    top = str(tmp_path)
    assert hops(f"{top}/tool") == (
        f"{top}/tool",
        f"{top}/folder",
        f"{top}/folder",
        f"{top}/real/tool",
    )
    assert hops(f"{top}/missing/x") == (f"{top}/missing/x",)
    assert set(hops(f"{top}/round")) == {f"{top}/round"}


def test_R1_connections_that_nobody_takes_are_few() -> None:
    """Each holds kernel memory that is nobody's descriptor: with 4096 of them 1.5 GiB."""
    code = """
import _socket
def waiting(backlog):
    server = _socket.socket(_socket.AF_UNIX)
    name = "\\0of-" + str(backlog)
    server.bind(name)
    answer = call("listen", server.fileno(), backlog)
    if answer != 0:
        return answer
    made = 0
    while True:
        client = _socket.socket(_socket.AF_UNIX)
        client.setblocking(False)
        try:
            client.connect(name)
        except BlockingIOError:
            return made
        made += 1
{backlog: waiting(backlog) for backlog in (0, 1, 2, 128, 4096, -1)}
"""
    found = outcome(code, SEVERAL)
    assert found == {0: 1, 1: 2, 2: "EPERM", 128: "EPERM", 4096: "EPERM", -1: "EPERM"}


@pytest.mark.parametrize("where", ["first", "anew"])
def test_R2_servers_listen_all_the_same(where: str) -> None:
    code = """
import socket, threading
server = socket.socket(socket.AF_UNIX)
server.bind("/tmp/server")
server.listen(128)
def ask(number):
    with socket.socket(socket.AF_UNIX) as end:
        end.connect("/tmp/server")
        end.sendall(b"%d" % number)
clients = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
for client in clients:
    client.start()
found = sorted(int(server.accept()[0].recv(9)) for _ in clients)
"""
    if where == "first":
        assert belljar.run(code + "found", SEVERAL).unwrap() == list(range(8))
    else:
        start = (
            "import subprocess, sys; subprocess.run([sys.executable, '-c', CODE + 'print(found)'],"
        )
        start += " capture_output=True, text=True).stdout"
        found = belljar.run(start, SEVERAL, inputs={"CODE": code}).unwrap()
        assert found == f"{list(range(8))}\n"


CRASH = """
import ctypes, os, resource
libc = ctypes.CDLL(None)
print(libc.prctl(3, 0, 0, 0, 0), resource.getrlimit(resource.RLIMIT_CORE), flush=True)
os.abort()
"""


def test_K10_a_crash_inside_starts_no_program_of_the_hosts() -> None:
    """A program that was executed can be dumped, as a fork of the zygote cannot.

    With a limit of 0 the kernel still starts the handler that core_pattern names, as root, and
    hands it the memory; with 1 it does not, and a file is smaller than any dump.  See core(5).
    """
    code = f"""
import os, subprocess, sys
done = subprocess.run([sys.executable, "-S", "-c", {CRASH!r}], capture_output=True, text=True)
(done.stdout, done.returncode, os.listdir("/work"))
"""
    assert belljar.run(code, SEVERAL).unwrap() == ("1 (1, 1)\n", -6, [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a program of root's set-user-ID")
@pytest.mark.parametrize("how", ["set-user-ID", "file capabilities"])
def test_M10_a_program_lends_no_privilege(open_dir: Path, how: str) -> None:
    path = open_dir / "lent"
    shutil.copyfile(described.describe_interpreter().executable, path)
    path.chmod(0o755)
    if how == "set-user-ID":
        path.chmod(0o6755)
    else:
        all_of_them = struct.pack("<IIIII", 0x0200_0001, *[0xFFFF_FFFF, 0xFFFF_FFFF, 0x1FF, 0x1FF])
        os.setxattr(path, "security.capability", all_of_them)
    code = """
import ctypes, os
libc = ctypes.CDLL(None)
bounding = [n for n in range(41) if libc.prctl(23, n, 0, 0, 0)]
try:
    os.setuid(0)
except PermissionError:
    refused = True
print(os.getresuid(), os.getresgid(), bounding, libc.prctl(39, 0, 0, 0, 0), refused)
"""
    start = "import subprocess; subprocess.run(['lent', '-S', '-c', CODE], text=True,"
    start += " capture_output=True).stdout"
    found = belljar.run(start, SEVERAL.allow(run=[str(path)]), inputs={"CODE": code}).unwrap()
    assert found == "(1000, 1000, 1000) (1000, 1000, 1000) [] 1 True\n"


def test_C9_variables_of_the_loader_load_nothing_of_the_guests_own() -> None:
    code = """
import glob, shutil, subprocess
library = min(glob.glob(os.path.dirname(os.__file__) + "/lib-dynload/*.so"), key=os.path.getsize)
found = {}
for place in ("/work", "/tmp", "/dev/shm"):
    own = shutil.copyfile(library, place + "/own.so")
    os.chmod(own, 0o755)
    for variable in ("LD_PRELOAD", "LD_AUDIT"):
        done = subprocess.run(["true"], env={"PATH": "/usr/bin", variable: own},
            capture_output=True, text=True)
        found[place, variable] = own in done.stderr
set(found.values())
"""
    assert outcome(code, SEVERAL.allow(run=["true"])) == {True}


def test_C9_no_name_of_an_open_file_is_executed() -> None:
    code = """
def started(path):
    child = os.fork()
    if child == 0:
        try:
            os.execv(path, [path])
        except OSError as error:
            os._exit(error.errno)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
with open("/usr/bin/true", "rb") as file:
    program = file.read()
found = {}
for place in ("/work", "/tmp", "/dev/shm"):
    end = os.open(place, os.O_TMPFILE | os.O_RDWR, 0o755)
    os.write(end, program)
    again = os.open(f"/proc/self/fd/{end}", os.O_RDONLY)
    os.close(end)
    found[place] = [started(f"/dev/fd/{again}"), started(f"/proc/self/fd/{again}")]
found
"""
    found = outcome(code, SEVERAL.allow(run=["true"]))
    assert found == {place: [13, 13] for place in ("/work", "/tmp", "/dev/shm")}


class _First:
    """A first process whose end takes its time."""

    pidfd = 77

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.waited_for = False

    def end(self) -> float:
        self.waited_for = True
        return 2.5


def test_K9_a_guest_that_is_slow_to_die_keeps_no_other_waiting() -> None:
    """What has made itself nice dies slowly beside others; the zygote goes on meanwhile."""
    theirs, ours = fdpass.message_pair()
    with (
        subprocess.Popen(["true"]) as guest_process,
        subprocess.Popen(["sleep", "100"]) as first_process,
    ):
        first = _First(first_process.pid)
        guest = server.Guest(guest_process.pid, os.dup(0), theirs, first, True)  # type: ignore[arg-type]
        zygote = object.__new__(server.Zygote)
        assert zygote.reap(guest) == first.pidfd  # to be polled
        guest_process.returncode = 0  # it was collected
        assert not first.waited_for
        assert first_process.wait() == -9
    zygote.tell_end(guest)
    assert first.waited_for
    data, _ = fdpass.receive(ours)
    ((kind, fields),) = Unpacker().feed(data)
    assert kind == "exited"
    assert fields["cpu_s"] >= 2.5
    ours.close()


def test_K9_others_are_served_while_one_dies() -> None:
    """End to end: the end of a guest with many processes, amid others that are at work."""
    code = """
import os, time
for _ in range(4):
    if os.fork() == 0:
        os.nice(19)
        while True:
            pass
os.nice(19)
"""
    for _ in range(5):
        assert belljar.run(code, SEVERAL).ok
        assert belljar.run("6 * 7", SEVERAL).unwrap() == 42
