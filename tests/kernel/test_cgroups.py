"""cgroup v2: found where it can be used, with the reason where not; ended and removed (R1, K10).

What: ``find`` on directories made up like the kernel's, and groups of the real kernel, where
there is a cgroup v2 file system that this user may write to.  Because: the memory controller is
seldom to be had, but groups, their ends and their locks work without any controller.  Then:
``tests/machines/test_cgroups.py`` shows the limits themselves, on a kernel of its own.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from belljar.kernel import cgroups

SLEEP = "import time; print('up', flush=True); time.sleep(600)"


# --- finding -----------------------------------------------------------------------------------


class Machine:
    """A made-up ``/proc`` and cgroup file system."""

    def __init__(self, root: Path, own: str = "/user.slice/app.scope") -> None:
        self.proc, self.mount, self.own = root / "proc", root / "cgroup", own
        (self.proc / "self").mkdir(parents=True)
        (self.proc / "self/cgroup").write_text(f"0::{own}\n")
        self.group(own)
        self.process(os.getpid(), 1)

    def group(self, path: str, **files: str) -> Path:
        place = self.mount / path.lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        usual = {
            "cgroup.controllers": "cpu memory pids\n",
            "cgroup.type": "domain\n",
            "cgroup.procs": f"{os.getpid()}\n",
            "cgroup.subtree_control": "\n",
        }
        for name, text in {
            **usual,
            **{k.replace("_", ".", 1): v for k, v in files.items()},
        }.items():
            (place / name).write_text(text)
        return place

    def process(self, pid: int, parent: int) -> None:
        (self.proc / str(pid)).mkdir()
        (self.proc / f"{pid}/stat").write_text(f"{pid} (a) b) S {parent} 1 1 0")

    def find(self) -> cgroups.Finding:
        return cgroups.find(str(self.proc), (str(self.mount),))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_group_of_our_own_with_the_controller_is_found(machine: Machine) -> None:
    found = machine.find()
    assert found.path == f"{machine.mount}{machine.own}"
    assert found.controllers == {"cpu", "memory", "pids"}
    assert found.why == ""


def test_children_may_be_in_it(machine: Machine) -> None:
    machine.process(70001, os.getpid())
    machine.process(70002, 70001)
    machine.group(machine.own, cgroup_procs=f"{os.getpid()}\n70001\n70002\n")
    assert machine.find().path


@pytest.mark.parametrize("other", ["70001", "0"])
def test_anybody_else_in_it_is_a_reason(machine: Machine, other: str) -> None:
    """0 is a process that this PID namespace does not show."""
    machine.process(70001, 1)
    machine.group(machine.own, cgroup_procs=f"{os.getpid()}\n{other}\n")
    found = machine.find()
    assert found.path == ""
    assert "holds 1 other process," in found.why
    assert "Delegate=yes" in found.why


def test_anybody_may_be_in_it_once_it_passes_memory_on(machine: Machine) -> None:
    machine.group(machine.own, cgroup_procs="1\n2\n", cgroup_subtree_control="memory\n")
    assert machine.find().path


def test_the_root_of_all_may_hold_anybody(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "/")
    (machine.mount / "cgroup.type").unlink()
    (machine.mount / "cgroup.procs").write_text("1\n2\n")
    assert machine.find().path == str(machine.mount)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"cgroup_controllers": "cpu\n"}, "has no memory controller"),
        ({"cgroup_type": "threaded\n"}, "type 'threaded'"),
    ],
)
def test_a_group_that_limits_no_memory_is_a_reason(
    machine: Machine, files: dict[str, str], why: str
) -> None:
    machine.group(machine.own, **files)
    found = machine.find()
    assert (found.path, found.controllers) == ("", frozenset())
    assert why in found.why


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("memory\t3\t9\t1\n", "cgroup v1 has it"),
        ("memory\t0\t9\t0\n", "cgroup_enable=memory"),
        ("memory\t0\t9\t1\n", "Delegate=yes"),
    ],
)
def test_the_reason_names_the_remedy(machine: Machine, line: str, why: str) -> None:
    (machine.proc / "cgroups").write_text(f"#subsys_name\n{line}")
    machine.group(machine.own, cgroup_controllers="cpu\n")
    assert why in machine.find().why


@pytest.mark.parametrize("line", ["", "4:memory:/\n", "0::/../elsewhere\n"])
def test_no_group_in_sight_is_a_reason(machine: Machine, line: str) -> None:
    (machine.proc / "self/cgroup").write_text(line)
    assert machine.find().path == ""
    assert machine.find().why


def test_a_group_of_somebody_elses_is_a_reason(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups.os, "access", lambda path, mode: "subtree" not in path)
    assert "belongs to another user" in machine.find().why


def test_where_this_program_moved_to_is_no_other_group(tmp_path: Path) -> None:
    """Neither for itself nor for the programs that it starts."""
    machine = Machine(tmp_path, f"/app.scope/{cgroups.HOST_GROUP}")
    machine.group("/app.scope", cgroup_procs="", cgroup_subtree_control="memory pids\n")
    assert machine.find().path == f"{machine.mount}/app.scope"


def test_a_delegated_group_above_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As systemd marks it, with DelegateSubgroup= for the program itself."""
    machine = Machine(tmp_path, "/app.service/main")
    machine.group("/app.service/main", cgroup_procs=f"{os.getpid()}\n0\n")
    above = str(machine.group("/app.service", cgroup_procs=""))
    assert machine.find().path == ""
    marks = {(above, "user.delegate"): b"1"}

    def mark(path: str, name: str) -> bytes:
        if (path, name) not in marks:
            raise OSError(61, "No data available")
        return marks[path, name]

    monkeypatch.setattr(cgroups.os, "getxattr", mark)
    assert machine.find().path == above


# --- the real kernel ---------------------------------------------------------------------------


@pytest.fixture
def base(cgroup: str) -> str:
    return cgroup


def sleeper(path: str) -> subprocess.Popen[str]:
    """A process in a group, asleep."""
    child = subprocess.Popen([sys.executable, "-c", SLEEP], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    Path(path, "cgroup.procs").write_text(str(child.pid))
    return child


def ended(child: subprocess.Popen[str]) -> bool:
    code = child.wait(60)
    assert child.stdout is not None
    child.stdout.close()
    return code == -signal.SIGKILL


def open_group(base: str) -> cgroups.Group:
    os.mkdir(f"{base}/1")
    parent = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    group = cgroups.Group(parent, "1")
    os.close(parent)
    return group


def test_whoever_writes_a_0_is_in_the_group(base: str) -> None:
    group = open_group(base)
    door = group.open_procs()
    assert not group.populated
    ready, go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(door, b"0")
        os.write(ready[1], b"1")
        os.read(go[0], 1)
        os._exit(0)
    os.close(door)
    os.read(ready[0], 1)
    assert group.populated
    assert Path(base, "1/cgroup.procs").read_text().split() == [str(pid)]
    os.write(go[1], b"1")
    os.waitpid(pid, 0)
    cpu_s = group.cpu_s()
    assert cpu_s is not None
    assert cpu_s >= 0
    group.remove()
    for fd in (*ready, *go):
        os.close(fd)
    assert not os.path.exists(f"{base}/1")


def test_a_group_is_killed_and_removed_with_all_in_it(base: str) -> None:
    group = open_group(base)
    children = [sleeper(f"{base}/1") for _ in range(3)]
    group.remove()
    group.remove()  # once more is no error
    assert all(ended(child) for child in children)
    assert os.listdir(base).count("1") == 0


def test_before_linux_5_14_each_process_is_killed(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = cgroups._write

    def without_kill(directory: int, name: str, data: bytes) -> None:
        if name == "cgroup.kill":
            raise FileNotFoundError(2, "No such file or directory", name)
        write(directory, name, data)

    monkeypatch.setattr(cgroups, "_write", without_kill)
    group = open_group(base)
    child = sleeper(f"{base}/1")
    group.kill()
    assert ended(child)
    group.remove()


def test_a_frozen_group_can_be_killed(base: str) -> None:
    group = open_group(base)
    child = sleeper(f"{base}/1")
    group.freeze()
    group.freeze(False)
    group.freeze()
    group.kill()
    assert ended(child)
    group.remove()


def test_without_the_controller_no_guest_runs_unlimited(base: str) -> None:
    """Fail closed: a limit that cannot be set is an error, and leaves nothing."""
    if "memory" in Path(base, "cgroup.controllers").read_text().split():
        pytest.skip("the memory controller is here; tests/machines covers it")
    with pytest.raises(OSError, match="subtree_control"):
        cgroups.Tree(base)
    group = open_group(base)
    with pytest.raises(OSError, match="memory"):
        group.bound(1 << 28, 17, None)
    group.remove()
    assert not [entry for entry in os.scandir(base) if entry.is_dir()]


def test_groups_of_the_dead_are_swept_and_those_of_the_living_stay(base: str) -> None:
    import fcntl

    for name in ("belljar-dead", "belljar-alive"):
        os.makedirs(f"{base}/{name}/1")
    os.mkdir(f"{base}/7")  # somebody else's
    doomed, safe = sleeper(f"{base}/belljar-dead/1"), sleeper(f"{base}/belljar-alive/1")
    lock = os.open(f"{base}/belljar-alive", os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    cgroups.sweep(fd)
    assert sorted(entry.name for entry in os.scandir(base) if entry.is_dir()) == [
        "7",
        "belljar-alive",
    ]
    assert ended(doomed)
    assert safe.poll() is None
    os.close(lock)
    cgroups.sweep(fd)
    os.close(fd)
    assert ended(safe)


def test_a_process_that_will_not_go_does_not_hold_us_up(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "END_S", 0.1)
    monkeypatch.setattr(cgroups, "_kill", lambda fd: None)
    group = open_group(base)
    child = sleeper(f"{base}/1")
    group.remove()
    assert os.path.exists(f"{base}/1")
    assert child.poll() is None
    child.kill()
    assert ended(child)
    until = time.monotonic() + 60
    while os.path.exists(f"{base}/1") and time.monotonic() < until:
        try:
            os.rmdir(f"{base}/1")
        except OSError:
            time.sleep(0.01)


def test_the_lock_is_not_left_to_a_process_forked_meanwhile(tmp_path: Path) -> None:
    """A fork in another thread copies the descriptor, and a lock belongs to the description."""
    base = os.open(tmp_path, os.O_RDONLY)
    lock = cgroups._Locked(base)
    with lock:
        copy = os.dup(lock._fd)
    again = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for fd in (base, copy, again):
        os.close(fd)
