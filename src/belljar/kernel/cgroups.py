"""cgroup v2: processes whose memory and number the kernel counts together.

    tree = Tree(find().path)
    group = tree.make(memory_bytes=360 << 20, tasks=17)
    os.write(group.open_procs(), b"0")      # by whoever joins

What: a delegated group, in it a group of this program, in that a group for each guest.
Because: RLIMIT_AS bounds the address space of one process, while a group is charged for
everything that its processes make the kernel hold: heap, shared maps, page cache, files in
a tmpfs, dentries, page tables, sockets.  Then: the guest writes itself into its group, by a
descriptor that this process opened, before it confines itself; the kernel judges the move by
who opened the file (since 5.16 and the stable releases of its time), so that a guest needs no
right of its own to any group, and no process number is involved that could be reused.

Who lives is who holds a lock: a program keeps flock(2) on the directory of its group, and
a group that can be locked belongs to nobody any more.

See the kernel's Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import time

from .._record import Record
from . import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
HOST_GROUP = "belljar-host"  # where this program goes when its group must be free of processes
PREFIX = "belljar-"
END_S = 2.0  # for processes that were killed to be gone; exiting frees memory, which takes time
_READ_BYTES = 1 << 16
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_OPTIONAL = ("pids", "cpu")
_TRIES = 5
_PERIOD_US = 100_000  # the kernel's own default for cpu.max
SCOPE = "systemd-run --user --scope -p Delegate=yes PROGRAM"


class Finding(Record):
    """Where groups can be made: a directory and the controllers there, or the reason why not."""

    path: str = ""
    controllers: frozenset[str] = frozenset()
    why: str = ""


def find(proc: str = "/proc", mounts: tuple[str, ...] = MOUNTS) -> Finding:
    """The group in which this process may make groups with a memory limit.  Changes nothing."""
    own = _own_group(proc)
    if not own:
        return Finding(why="this process is in no cgroup v2 hierarchy")
    if "/.." in own:
        return Finding(why="its group lies outside of its cgroup namespace")
    finding = Finding(why="no cgroup v2 file system at /sys/fs/cgroup")
    for mount in mounts:
        path = mount + own.rstrip("/")
        if not os.path.exists(f"{path}/cgroup.controllers"):
            continue
        above, _, name = path.rpartition("/")
        if name == HOST_GROUP:
            path = above  # this program, or the one that started it, has put it there
        finding = _judge(path, proc)
        if not finding.path and name != HOST_GROUP and _says_delegated(above):
            # Whoever started the program has put it into a group beneath the one it hands over.
            other = _judge(above, proc)
            finding = other if other.path else finding
        if finding.path:
            break
    return finding


def _own_group(proc: str) -> str:
    for line in _read_text(f"{proc}/self/cgroup").splitlines():
        if line.startswith("0::/"):
            return line[3:]
    return ""


def _says_delegated(path: str) -> bool:
    """Whether systemd marked this group as handed over, with everything beneath it."""
    for name in ("user.delegate", "trusted.delegate"):
        try:
            if os.getxattr(path, name) == b"1":
                return True
        except OSError:
            continue
    return False


def _judge(path: str, proc: str) -> Finding:
    controllers = frozenset(_read_text(f"{path}/cgroup.controllers").split())
    if "memory" not in controllers:
        return Finding(why=f"{path} has no memory controller{_why_no_memory(proc)}")
    kind = _read_text(f"{path}/cgroup.type").strip()  # the root of all has none
    if kind not in ("", "domain"):
        return Finding(why=f"{path} is of the type {kind!r}, which limits no memory")
    for name in ("", "/cgroup.procs", "/cgroup.subtree_control"):
        if not os.access(path + name, os.W_OK):
            return Finding(
                why=f"{path} belongs to another user or is read-only; start the program in a "
                f"group of its own: {SCOPE}"
            )
    given = _read_text(f"{path}/cgroup.subtree_control").split()
    if kind and "memory" not in given:
        try:
            others = _strangers(path, proc)
        except OSError as error:
            return Finding(why=f"{path}: {error.strerror}")
        if others:
            return Finding(
                why=f"{path} holds {others} other process{'es' if others > 1 else ''}, and a group "
                f"that holds processes cannot pass limits on; start the program alone: {SCOPE}, "
                "or DelegateSubgroup= in its unit"
            )
    return Finding(path, controllers)


def _why_no_memory(proc: str) -> str:
    for line in _read_text(f"{proc}/cgroups").splitlines():
        fields = line.split()
        if fields[:1] == ["memory"] and len(fields) == 4:
            if fields[3] == "0":
                return "; boot with cgroup_enable=memory"
            if fields[1] != "0":
                return ": cgroup v1 has it; boot with systemd.unified_cgroup_hierarchy=1"
    return "; whoever delegates it must pass memory on (Delegate=yes)"


def _strangers(path: str, proc: str) -> int:
    """How many processes in a group are neither this one nor made by it."""
    return len(_members(path)) - len(_family(path, proc))


def _members(path: str) -> list[int]:
    """The processes of a group; 0 stands for one that this PID namespace does not know."""
    return [int(word) for word in _read_text(f"{path}/cgroup.procs").split()]


def _family(path: str, proc: str = "/proc") -> list[int]:
    """Those members of a group that are this process or descend from it."""
    own = os.getpid()
    found: list[int] = []
    for pid in _members(path):
        above = pid
        for _ in range(64):  # deeper trees are somebody else's
            if above in (0, 1, own):
                break
            above = _parent(above, proc)
        if above == own:
            found.append(pid)
    return found


def _parent(pid: int, proc: str) -> int:
    text = _read_text(f"{proc}/{pid}/stat")
    fields = text.rpartition(")")[2].split()
    return int(fields[1]) if len(fields) > 1 else 0


# ---------------------------------------------------------------------- groups


class Tree:
    """The group of this program in a delegated one, in which its guests get theirs.

    Raises ``OSError`` where the kernel refuses, with the file in ``filename``.
    """

    def __init__(self, base: str) -> None:
        self.base = base
        self.name = ""
        self._numbers = itertools.count(1)
        self._base = os.open(base, _DIRECTORY)
        self._own = -1
        try:
            with _Locked(self._base):
                sweep(self._base)
                self._pass_on()
                self._make_own()
        except BaseException:
            self.close()
            raise

    def _pass_on(self) -> None:
        """Let groups beneath have limits, out of the way of the rule of no inner processes."""
        for _ in range(_TRIES):
            try:
                _enable(self._base, "memory")
                break
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                self._move_host()
        else:
            raise OSError(errno.EBUSY, "processes keep coming into this group", self.base)
        for name in _OPTIONAL:
            _try_enable(self._base, name)

    def _move_host(self) -> None:
        """This process and those it made, into a group beside those of the guests."""
        family = _family(self.base)
        if len(family) != len(_members(self.base)):
            raise OSError(errno.EBUSY, "other processes are in this group", self.base)
        try:
            os.mkdir(HOST_GROUP, 0o755, dir_fd=self._base)
        except FileExistsError:
            pass
        _move(self._base, family, HOST_GROUP)

    def _make_own(self) -> None:
        for _ in range(_TRIES):
            name = PREFIX + os.urandom(6).hex()
            os.mkdir(name, 0o755, dir_fd=self._base)
            own = os.open(name, _DIRECTORY, dir_fd=self._base)
            try:
                fcntl.flock(own, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _enable(own, "memory")
                for controller in _OPTIONAL:
                    _try_enable(own, controller)
            except BaseException:
                os.close(own)
                _remove(self._base, name)
                raise
            self.name, self._own = name, own
            return

    def make(self, memory_bytes: int, tasks: int, cpu_share: float | None = None) -> Group:
        """A group for one guest.

        Args:
            memory_bytes: what all its processes together may make the kernel hold; beyond it
                the kernel reclaims, and then kills the whole group.
            tasks: processes and threads together, where the controller is there.
            cpu_share: processors' worth of time, 0.5 for half of one; None for no bound.
        """
        name = f"{next(self._numbers)}"
        os.mkdir(name, 0o755, dir_fd=self._own)
        group = Group(self._own, name)
        try:
            group.bound(memory_bytes, tasks, cpu_share)
        except BaseException:
            group.remove()
            raise
        return group

    def forget(self) -> None:
        """Let go of it without ending anything: in a fork, to which it does not belong."""
        for fd in (self._own, self._base):
            if fd >= 0:
                os.close(fd)
        self._own = self._base = -1

    def close(self) -> None:
        """End what is left in it and remove it; put this process back if nobody else needs it."""
        if self._base < 0:
            return
        if self.name:
            with _Locked(self._base):
                end_beneath(self._own)
                _remove(self._base, self.name)
                _move_back(self._base, _family(f"{self.base}/{HOST_GROUP}"))
        self.forget()
        self.name = ""


class Group:
    """The group of one guest."""

    def __init__(self, parent: int, name: str) -> None:
        self._parent = os.dup(parent)
        self._name = name
        self._peak = 0
        try:
            self._fd = os.open(name, _DIRECTORY, dir_fd=parent)
        except BaseException:
            os.close(self._parent)
            raise

    def bound(self, memory_bytes: int, tasks: int, cpu_share: float | None) -> None:
        """Set the limits; raises ``OSError`` where one that matters did not take."""
        # The whole group, because a guest that lost one of its processes is in no known state.
        _write(self._fd, "memory.oom.group", b"1")
        _write(self._fd, "memory.max", b"%d" % memory_bytes)
        found = _read(self._fd, "memory.max").strip()
        if not found.isdigit() or int(found) > memory_bytes:
            raise OSError(0, "the limit did not take effect", "memory.max")
        _write_if_there(self._fd, "memory.swap.max", b"0")  # a kernel without swap lacks it
        _write_if_there(self._fd, "pids.max", b"%d" % tasks)
        if cpu_share is not None:
            _write(self._fd, "cpu.max", b"%d %d" % (cpu_share * _PERIOD_US, _PERIOD_US))

    def open_procs(self) -> int:
        """A descriptor: whoever writes ``0`` to it is in this group, and stays."""
        return os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._fd)

    @property
    def populated(self) -> bool:
        """Whether a process that has not ended is in it."""
        return _key(_read(self._fd, "cgroup.events"), b"populated") != 0

    def memory_bytes(self) -> int | None:
        """What is charged to it now."""
        number = _number(self._fd, "memory.current")
        self._peak = max(self._peak, number or 0)
        return number

    def peak_bytes(self) -> int:
        """The most that was charged to it; before Linux 5.19, the most that was seen."""
        return max(_number(self._fd, "memory.peak") or 0, self.memory_bytes() or 0, self._peak)

    def oom_kills(self) -> int:
        """Processes that the kernel killed because the memory of the group was used up."""
        try:
            return _key(_read(self._fd, "memory.events"), b"oom_kill")
        except OSError:
            return 0

    def cpu_s(self) -> float | None:
        """Processor time of all processes that were ever in it."""
        try:
            return _key(_read(self._fd, "cpu.stat"), b"usage_usec") / 1e6
        except OSError:
            return None

    def kill(self) -> None:
        """SIGKILL every process in it, also those being made just now."""
        try:
            _kill(self._fd)
        except FileNotFoundError:
            return  # it has been removed, with all that was in it

    def freeze(self, frozen: bool = True) -> None:
        """Stop all of it, or let it go on; a frozen process can still be killed."""
        _write(self._fd, "cgroup.freeze", b"1" if frozen else b"0")

    def remove(self) -> None:
        """End what is in it and take it away.  May be called again."""
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        try:
            _remove(self._parent, self._name)
        finally:
            os.close(self._parent)


# ---------------------------------------------------------------------- ending


def sweep(base: int) -> None:
    """Remove the groups of programs that have ended; ``base`` is locked by the caller."""
    for name in _groups(base):
        if name == HOST_GROUP or not name.startswith(PREFIX):
            continue
        fd = _open_dir(base, name)
        if fd is None:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            end_beneath(fd)
        except OSError:
            continue  # somebody lives in it
        finally:
            os.close(fd)
        _remove(base, name)


def end_beneath(fd: int) -> None:
    """Kill and remove the group of every guest."""
    for name in _groups(fd):
        if name.isdigit():
            _remove(fd, name)


def clear(base_path: str, name: str) -> None:
    """What a program that has ended left: its group, and the one that it had moved to."""
    try:
        base = os.open(base_path, _DIRECTORY)
    except OSError:
        return  # whoever delegated it has removed all of it
    try:
        with _Locked(base):
            fd = _open_dir(base, name)
            if fd is not None:
                end_beneath(fd)
                os.close(fd)
                _remove(base, name)
            _move_back(base, _family(f"{base_path}/{HOST_GROUP}"))
    finally:
        os.close(base)


def _move_back(base: int, family: list[int]) -> None:
    """Undo ``_move_host``, unless other programs or other processes still need it."""
    rest = [name for name in _groups(base) if name != HOST_GROUP]
    host = _open_dir(base, HOST_GROUP)
    if host is None:
        return
    inside = _read(host, "cgroup.procs").split()
    os.close(host)
    if rest or len(inside) != len(family):
        return
    for name in ("memory", *_OPTIONAL):
        _try_enable(base, name, b"-")
    try:
        _move(base, family, ".")
        os.rmdir(HOST_GROUP, dir_fd=base)
    except OSError:
        return  # some process came or stayed; the group goes with its last one


def _groups(fd: int) -> list[str]:
    with os.scandir(fd) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def _open_dir(parent: int, name: str) -> int | None:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError:
        return None


def _remove(parent: int, name: str) -> None:
    """Kill what is in a group, wait until it is gone, remove the group; at most ``END_S``."""
    until = time.monotonic() + END_S
    while True:
        try:
            os.rmdir(name, dir_fd=parent)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > until:
                return  # the next program that starts here removes it
        fd = _open_dir(parent, name)
        if fd is None:
            continue
        try:
            end_beneath(fd)
            _kill(fd)
            _wait_until_empty(fd, until)
        except OSError:
            continue
        finally:
            os.close(fd)


def _wait_until_empty(fd: int, until: float) -> None:
    import select  # a file of its own, which the probe needs not

    events = os.open("cgroup.events", os.O_RDONLY | os.O_CLOEXEC, dir_fd=fd)
    try:
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        while _key(os.pread(events, _READ_BYTES, 0), b"populated"):
            left = until - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                return
    finally:
        os.close(events)
    time.sleep(0.001)  # empty, and yet a last one may be on its way out: rmdir says


def _kill(fd: int) -> None:
    try:
        _write(fd, "cgroup.kill", b"1")
        return
    except FileNotFoundError:
        pass  # before Linux 5.14
    for _ in range(_TRIES):
        for word in _read(fd, "cgroup.procs").split():
            try:
                pidfd = process.open_pidfd(int(word))
            except OSError:
                continue
            # Held by now, so its number cannot go to another process while we look again.
            if word in _read(fd, "cgroup.procs").split():
                process.signal_pidfd(pidfd, process.SIGKILL)
            os.close(pidfd)


# ---------------------------------------------------------------------- files


class _Locked:
    """flock(2) on the delegated directory: one program at a time changes what is shared."""

    def __init__(self, base: int) -> None:
        # A description of its own, because a lock belongs to the description.
        self._fd = os.open(f"/proc/self/fd/{base}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        # Closing alone would leave it to a process that was forked meanwhile by another thread.
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)


def _move(base: int, pids: Iterable[int], name: str) -> None:
    fd = os.open(f"{name}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=base)
    try:
        for pid in pids:
            try:
                os.write(fd, b"%d" % pid)
            except ProcessLookupError:
                continue
    finally:
        os.close(fd)


def _enable(fd: int, controller: str, sign: bytes = b"+") -> None:
    _write(fd, "cgroup.subtree_control", sign + controller.encode())


def _try_enable(fd: int, controller: str, sign: bytes = b"+") -> None:
    try:
        _enable(fd, controller, sign)
    except OSError:
        return  # it is not there, or the kernel cannot just now; what needs it says so


def _write(directory: int, name: str, data: bytes) -> None:
    try:
        fd = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
    except OSError as error:
        error.filename = name
        raise


def _write_if_there(directory: int, name: str, data: bytes) -> None:
    try:
        _write(directory, name, data)
    except FileNotFoundError:
        return


def _read(directory: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        data = b""
        while piece := os.read(fd, _READ_BYTES):
            data += piece
        return data
    finally:
        os.close(fd)


def _number(directory: int, name: str) -> int | None:
    try:
        return int(_read(directory, name))
    except (OSError, ValueError):
        return None


def _key(text: bytes, name: bytes) -> int:
    """The number behind a name in a file of ``name number`` lines; 0 if it is not there."""
    for line in text.splitlines():
        key, _, number = line.partition(b" ")
        if key == name:
            return int(number)
    return 0


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
