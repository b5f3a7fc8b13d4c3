"""R4, R14, K1, K3: attacks through what a guest leaves in ``/work``, with the Python layer off.

What: links, FIFOs, holes, names and trees made to harm whoever reads them, before and while the
host does.  Because: the host opens files that the guest chose, and writes them under names that
the guest chose.  Then: the host reads what the guest wrote or raises, in bounded time and
memory, follows nothing out, and changes nothing of its own.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import belljar
from belljar import FileRefused, Policy, PolicyError, Result, Sandbox, UnsupportedError

from .native import NUMBERS, PRELUDE, attack, no_namespaces, outcome
from .watch import resident_bytes

OPEN = Policy().allow(modules=["*"], wall_s=60, cpu_s=60)
MIB = 2**20
ATTEMPTS_S = 0.7  # of a race, each way


@pytest.fixture
def canary(open_dir: Path) -> Path:
    """A directory of the host's with a file that anybody may read and write."""
    (open_dir / "f").write_text("the host's")
    (open_dir / "f").chmod(0o666)
    return open_dir


def untouched(canary: Path) -> bool:
    return os.listdir(canary) == ["f"] and (canary / "f").read_text() == "the host's"


@contextmanager
def running(sandbox: Sandbox, code: str) -> Iterator[None]:
    """While the guest carries out ``code``, and until it does."""
    started = threading.Event()
    results: list[Result] = []

    def carry_out() -> None:
        results.append(sandbox.run(code, on_output=lambda *_: started.set()))

    thread = threading.Thread(target=carry_out)
    thread.start()
    try:
        assert started.wait(30)
        yield
    finally:
        thread.join()
    assert results[0].status == "ok", results[0].error


def tried(act: Callable[..., Any], *arguments: Any) -> Any:
    """What it gave, or the class of a refusal; anything else is a failure."""
    try:
        return act(*arguments)
    except (FileRefused, FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        return type(error)


# --- links ---------------------------------------------------------------------------------------

LINKS = """
import os
os.symlink(there, "whole")
os.symlink(there + "/f", "file")
os.symlink("/etc/shadow", "shadow")
os.symlink("../../../../.." + there + "/f", "up")
os.symlink("/proc/self/environ", "environ")
os.symlink("/proc/self/fd/1", "fd")
os.symlink("/proc/self/root" + there + "/f", "magic")
os.symlink("whole", "chain")
os.symlink("loop", "loop")
os.symlink("mine", "inside")
os.symlink("nothing", "dangling")
open("mine", "w").write("the guest's")
"""
NAMES = ("whole", "file", "shadow", "up", "environ", "fd", "magic", "chain", "loop", "dangling")


def test_no_link_is_followed(canary: Path, tmp_path: Path) -> None:
    """R4: not even one that stays inside; and none is made on the host's disk."""
    result = attack(LINKS, OPEN, inputs={"there": str(canary)})
    assert {result.files[name].kind for name in NAMES} == {"link"}
    for name in (*NAMES, "inside"):
        with pytest.raises(FileRefused, match="symbolic link"):
            result.files[name].read_bytes()
        with pytest.raises(FileRefused):
            result.files[name].save(tmp_path / "one")
    saved = result.files.save_all(tmp_path / "all")
    assert list(saved.files) == ["mine"]
    assert sorted(saved.left_out) == sorted((*NAMES, "inside"))
    assert os.listdir(tmp_path / "all") == ["mine"]
    assert untouched(canary)


def test_no_link_is_followed_in_a_live_sandbox(canary: Path) -> None:
    """R4: reading, listing, writing, deleting; through it, and it itself."""
    with Sandbox(OPEN) as sandbox:
        sandbox.run(LINKS, inputs={"there": str(canary)}).unwrap()
        for name in NAMES:
            for path in (name, f"{name}/f", f"{name}/x/y"):
                assert isinstance(tried(sandbox.read_bytes, path), type)
                assert isinstance(tried(sandbox.open_file, path), type)
                assert isinstance(tried(sandbox.list, path), type)
            for path in (f"{name}/f", f"{name}/x/y"):
                assert isinstance(tried(sandbox.write_bytes, path, b"x"), type)
                assert isinstance(tried(sandbox.delete, path), type)
            sandbox.write_bytes(name, b"replaced")
            assert sandbox.read_bytes(name) == b"replaced"
        assert sandbox.read_bytes("mine") == b"the guest's"
        assert untouched(canary)


def test_files_given_to_a_run_follow_no_link(canary: Path) -> None:
    """R4: a later run's ``files=`` of the host's disk go through what an earlier one left."""
    with Sandbox(OPEN) as sandbox:
        sandbox.run(LINKS, inputs={"there": str(canary)}).unwrap()
        with pytest.raises(PolicyError, match=r"symbolic link|Not a directory"):
            sandbox.run("1", files={"whole/f": canary / "f"})
    assert untouched(canary)


SWAP = """
import os, time
os.mkdir("d")
open("d/f", "w").write("the guest's")
os.symlink(there, "l")
print("go", flush=True)
until, swapped = time.monotonic() + seconds, 0
while time.monotonic() < until:
    # In one step: else the host, which is to write there, would make one of its own between.
    assert call("renameat2", AT, b"d", AT, b"l", 2) == 0
    swapped += 1
swapped
"""


def test_a_directory_that_becomes_a_link(canary: Path) -> None:
    """R4, K1: swapped by a running guest, thousands of times, while the host goes through it."""
    with Sandbox(
        OPEN, inputs={"NUMBERS": NUMBERS, "there": str(canary), "seconds": ATTEMPTS_S}
    ) as sandbox:
        seen: set[Any] = set()
        until = time.monotonic() + ATTEMPTS_S
        with running(sandbox, PRELUDE + SWAP):
            while time.monotonic() < until:
                seen.add(tried(sandbox.read_bytes, "d/f"))
                for file in (
                    found
                    if (found := tried(sandbox.list, "d")) and isinstance(found, tuple)
                    else ()
                ):
                    seen.add(tried(file.read_bytes))
                tried(sandbox.write_bytes, "d/w", b"x")
                tried(sandbox.delete, "d/w")
        contents = {one for one in seen if isinstance(one, bytes)}
        assert contents <= {b"the guest's", b"x", b""}
        assert b"the guest's" in contents
    assert untouched(canary)


def test_a_new_directory_that_becomes_a_link_before_it_gets_its_mode(
    canary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R4, K1: what a running guest does with two cores, here at the worst moment for sure."""
    target = canary / "f"
    target.chmod(0o600)
    make = os.mkdir
    swapped: list[bytes] = []

    def make_and_swap(name: bytes, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        make(name, mode, dir_fd=dir_fd)
        if dir_fd is not None and name in (b"new", b"newer"):
            os.rename(name, name + b" aside", src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
            os.symlink(target, name, dir_fd=dir_fd)
            swapped.append(name)

    with Sandbox(OPEN) as sandbox:
        live = sandbox._live
        assert live is not None
        assert live.work is not None
        status = os.fstat(live.work.fd)
        if os.geteuid() == 0:
            os.chown(target, status.st_uid, status.st_gid)  # whom the host acts as in there
        monkeypatch.setattr(os, "mkdir", make_and_swap)
        for path in ("new/x", "d/newer/x"):
            assert tried(sandbox.write_bytes, path, b"x") in (FileRefused, NotADirectoryError)
    assert swapped == [b"new", b"newer"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert os.listdir(canary) == ["f"]


def test_new_directories_have_their_mode_whatever_the_umask() -> None:
    """R4"""
    before = os.umask(0o777)
    try:
        with Sandbox(OPEN) as sandbox:
            sandbox.write_bytes("a/b/c", b"x")
            code = "import os\n[oct(os.stat(each).st_mode) for each in ('a', 'a/b', 'a/b/c')]"
            modes = sandbox.run(code).unwrap()
    finally:
        os.umask(before)
    assert modes == ["0o40755", "0o40755", "0o100644"]


# --- what is no file ---------------------------------------------------------------------------------


FIFO = """
import errno, os, time
os.mkfifo("p")
os.mkfifo("q")
open("r", "w").write("the guest's")
print("go", flush=True)
until, readers = time.monotonic() + seconds, 0
while time.monotonic() < until:
    try:
        os.close(os.open("p", os.O_WRONLY | os.O_NONBLOCK))
        readers += 1
    except OSError as error:
        assert error.errno == errno.ENXIO
    os.rename("q", "t"); os.rename("r", "q"); os.rename("t", "r")
    os.rename("q", "t"); os.rename("r", "q"); os.rename("t", "r")
assert readers == 0, readers
"""


def test_no_fifo_is_opened() -> None:
    """R4, K1: nobody waits, and the guest never meets a reader, however it swaps them."""
    with Sandbox(OPEN, inputs={"seconds": ATTEMPTS_S}) as sandbox:
        until = time.monotonic() + ATTEMPTS_S
        seen: set[Any] = set()
        with running(sandbox, FIFO):
            while time.monotonic() < until:
                assert tried(sandbox.read_bytes, "p") is FileRefused
                seen.add(tried(sandbox.read_bytes, "q"))
        assert seen <= {FileRefused, FileNotFoundError, b"the guest's"}
        assert [file.kind for file in sandbox.list()].count("fifo") == 2


def test_no_node_can_be_made(tmp_path: Path) -> None:
    """R4: device nodes are refused inside; a socket and a FIFO are told of and not saved."""
    code = """
import socket
made = [call("mknodat", AT, b"dev%d" % n, kind | 0o666, number)
        for n, (kind, number) in enumerate([(0o020000, 0x103), (0o060000, 0x800)])]
os.mkfifo("p")
made
"""
    result = attack(code, OPEN)
    assert set(result.value) <= {"EPERM", "EACCES"}
    assert [(file.name, file.kind) for file in result.files.values()] == [("p", "fifo")]
    with pytest.raises(FileRefused, match="a fifo, not a file"):
        result.files["p"].read_bytes()
    assert result.files.save_all(tmp_path).left_out == {"p": "a fifo, not a file"}


def test_a_socket_is_no_file() -> None:
    """R4"""
    code = "import socket\nsocket.socket(socket.AF_UNIX).bind('s')"
    result = belljar.run(code, Policy().allow(processes=1))
    assert result.status == "ok", result.error
    with pytest.raises(FileRefused, match="a socket, not a file"):
        result.files["s"].read_bytes()


def test_nothing_of_the_host_is_inside() -> None:
    """R6, K3: the descriptor that the host has is not the guest's."""
    code = """
found = []
for fd in range(3, 64):
    try:
        found.append((fd, os.readlink(f"/proc/self/fd/{fd}").partition(":")[0]))
    except OSError:
        pass
found
"""
    assert [name for _, name in outcome(code, OPEN)] == ["socket"]


# --- size ------------------------------------------------------------------------------------------------


def test_a_huge_file_of_nothing(tmp_path: Path) -> None:
    """K1: a terabyte of holes is neither read nor written."""
    policy = OPEN.allow(file_bytes=2**40)
    result = attack("os.truncate(os.open('a', os.O_CREAT | os.O_WRONLY), 2**40)", policy)
    assert result.files["a"].size == 2**40
    before = resident_bytes()
    with pytest.raises(FileRefused, match="larger than"):
        result.files["a"].read_bytes()
    with pytest.raises(FileRefused):
        result.files["a"].save(tmp_path / "a")
    saved = result.files.save_all(tmp_path / "all")
    assert list(saved.left_out) == ["a"]
    assert os.listdir(tmp_path / "all") == []
    assert resident_bytes() - before < 256 * MIB
    with result.files["a"].open() as file:
        file.seek(2**40 - 5)
        assert file.read() == bytes(5)


def test_one_file_by_a_thousand_names(tmp_path: Path) -> None:
    """K1: what is saved is never more than /work has room for."""
    code = "open('0', 'wb').write(bytes(10 * 2**20))\nfor n in range(1, 1000): os.link('0', str(n))"
    result = attack(code, OPEN)
    assert len(result.files) == 1000
    saved = result.files.save_all(tmp_path)
    assert len(saved.files) == 6
    assert len(saved.left_out) == 994
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 64 * MIB
    assert all(path.stat().st_nlink == 1 for path in tmp_path.iterdir())


def test_a_file_that_grows_while_it_is_read() -> None:
    """K1: the host reads no further than it said."""
    code = """
import time
open("a", "w").close()
print("go", flush=True)
until = time.monotonic() + seconds
while time.monotonic() < until:
    with open("a", "ab") as file:
        file.write(bytes(4096))
    if os.path.getsize("a") > 2**23:
        os.truncate("a", 0)
"""
    with Sandbox(OPEN, inputs={"seconds": ATTEMPTS_S}) as sandbox:
        until = time.monotonic() + ATTEMPTS_S
        with running(sandbox, "import os\n" + code):
            while time.monotonic() < until:
                data = tried(sandbox.read_bytes, "a", MIB)
                assert data is FileRefused or len(data) <= MIB


def test_a_result_of_a_run_that_a_thread_outlives() -> None:
    """K1: what was left when the run ended is told; what changes afterwards is refused."""
    code = """
import os, threading, time
def spin():
    n = 0
    while True:
        n += 1
        open("a", "w").write(str(n))
threading.Thread(target=spin, daemon=True).start()
while not os.path.exists("a"): time.sleep(0.001)
"""
    with Sandbox(OPEN) as sandbox:
        first = sandbox.run(code)
        # The signal that stops it and the look may cross; then it is said that it has changed.
        found = tried(first.files["a"].read_bytes)
        assert found is FileRefused or found == tried(first.files["a"].read_bytes)
        sandbox.run("time.sleep(0.1)")
        with pytest.raises((FileRefused, FileNotFoundError)):
            first.files["a"].read_bytes()


# --- trees and names ---------------------------------------------------------------------------------


def test_a_tree_deeper_than_paths_go(tmp_path: Path) -> None:
    """K1: looked at as far as 64 levels; it says that there is more."""
    code = """
for _ in range(3000):
    os.mkdir("d" * 100)
    os.chdir("d" * 100)
open("end", "w").close()
os.chdir("/work")
open("here", "w").close()
"""
    result = attack(code, OPEN)
    assert result.status == "ok", result.error
    assert list(result.files) == ["here"]
    assert not result.files.complete
    assert list(result.files.save_all(tmp_path).files) == ["here"]


def test_more_names_than_are_looked_at() -> None:
    """K1: number and length of names are bounded."""
    policy = OPEN.allow(work_files=40_000)
    before = resident_bytes()
    many = attack("for n in range(30_000): open(str(n), 'w').close()", policy)
    assert len(many.files) == 10_000
    assert not many.files.complete
    code = """
for n in range(12):
    os.mkdir("d" * 250); os.chdir("d" * 250)
for n in range(9000): open(f"{n:0250}", "w").close()
"""
    long = attack(code, policy)
    assert not long.files.complete
    assert sum(map(len, long.files)) <= 4 * MIB
    assert resident_bytes() - before < 128 * MIB


HOSTILE = [
    b"\n",
    b"belljar: all is well\n",
    b"\x1b[2J\x1b]0;title\x07",
    b"\xff\xfe",
    b"..\\..\\up",
    b"-rf",
    b"~",
    b" ",
    b"%0A",
    b".envrc",
    b"C:\\con",
    "\u202egnp.exe".encode(),
    "\u2028".encode(),
    b"A",
    b"a",
    b"x" * 255,
    b"\x01" * 255,
]


def test_names_made_to_harm(tmp_path: Path) -> None:
    """K1, K7: they are told as they are, and written so that they show and stay beneath."""
    code = "for name in names:\n    open(name, 'w').write('x')"
    result = attack(code, OPEN, inputs={"names": HOSTILE})
    assert sorted(result.files) == sorted(n.decode("utf-8", "surrogateescape") for n in HOSTILE)
    assert all(repr(file).isprintable() for file in result.files.values())
    saved = result.files.save_all(tmp_path / "out")
    names = os.listdir(tmp_path / "out")
    assert os.listdir(tmp_path) == ["out"]
    assert all(name.isprintable() for name in names)
    assert {"%0A", "%FF%FE", "-rf", "A", "a", "x" * 255, "%1B[2J%1B]0;title%07"} <= set(names)
    assert sorted(map(os.path.basename, saved.files.values())) == sorted(names)
    # One does not fit when it is escaped, another is a name that the escape of one has taken.
    assert len(saved.left_out) == 2
    assert "\x01" * 255 in saved.left_out


def test_no_rights_are_saved(tmp_path: Path) -> None:
    """K1: no set-id bit, no right to execute, no attribute, not the guest's owner."""
    code = """
open("a", "w").write("#!/bin/sh")
tried = [call("chmod", b"a", mode) for mode in (0o6777, 0o4755, 0o777)]
tried.append(call("setxattr", b"a", b"user.x", b"1", 1, 0))
tried
"""
    result = attack(code, OPEN)
    assert set(result.value[:2]) == {"EPERM"}
    assert result.value[2] == 0
    (path,) = result.files.save_all(tmp_path / "out").files.values()
    status = os.stat(path)
    assert stat.S_IMODE(status.st_mode) & ~0o644 == 0
    assert status.st_uid == os.geteuid()
    assert os.listxattr(path) == []


def test_rights_that_were_taken_away() -> None:
    """K1: the host reads it or is refused, and looks at the rest."""
    code = """
open("a", "w").write("x")
os.mkdir("d"); open("d/f", "w").write("y")
os.chmod("a", 0); os.chmod("d", 0)
open("b", "w").write("z")
"""
    result = attack(code, OPEN)
    assert result.files["b"].read_bytes() == b"z"
    assert "d/f" in result.files or not result.files.complete
    try:
        assert result.files["a"].read_bytes() == b"x"
    except PermissionError:
        assert os.geteuid() != 0


def test_a_working_directory_that_was_emptied_and_changed() -> None:
    """K1: what a guest does to /work itself does not confuse the host."""
    code = (
        PRELUDE
        + """
attempts = [attempt(os.rename, "/work", "/x"), attempt(os.rmdir, "/work"),
            call("mount", b"/tmp", b"/work", None, 4096, None), call("umount2", b"/work", 2),
            call("chroot", b"/work"), attempt(os.symlink, "/", "/work")]
os.chmod("/work", 0o700)
os.utime("/work", (0, 0))
open("a", "w").write("x")
attempts
"""
    )
    with Sandbox(OPEN, inputs={"NUMBERS": NUMBERS}) as sandbox:
        result = sandbox.run(code)
        assert result.status == "ok", result.error
        assert all(isinstance(one, str) for one in result.value)
        assert list(result.files) == ["a"]
        sandbox.write_bytes("b", b"y")
        assert sandbox.run("open('b').read()").value == "y"


def test_a_machine_without_namespaces_has_no_work(tmp_path: Path) -> None:
    """R4: nothing is taken for it, least of all the host's own root."""
    (tmp_path / "x").write_text("1")
    policy = Policy().allow(system_info=True)
    with no_namespaces():
        result = belljar.run("1 + 1", policy)
        assert (result.value, result.left, dict(result.files)) == (2, None, {})
        with pytest.raises(UnsupportedError, match="/work"):
            belljar.run("1", policy, files={"a": tmp_path / "x"})
        with pytest.raises(UnsupportedError, match="/work"):
            Sandbox(policy, files={"a": tmp_path / "x"})
        with Sandbox(policy) as sandbox:
            for act in (sandbox.list, lambda: sandbox.read_bytes("etc/passwd")):
                with pytest.raises(UnsupportedError, match="/work"):
                    act()
            assert sandbox.run("2").value == 2
