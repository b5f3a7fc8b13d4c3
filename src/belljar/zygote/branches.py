"""Lineages: a guest, its branches, and what is kept apart for each.

Who I am: the zygote, where guests may have branches.  What I trust: the host, which says which
process is a branch; that it is a child of mine I ask the kernel.  What I hold: for each lineage
one tmpfs with a place for each member, and a proc file system that shows its PID namespace.
How it ends: with its first guest; a branch may end before.

A branch is a copy that a guest made of itself, with CLONE_PARENT, so that it is my child as the
guest is: I get its status, and the first process of the PID namespace never hears of it.  It has
a mount namespace of its own, in which I put its own ``/work``, ``/tmp`` and ``/proc/self`` over
those of its parent.  It cannot take them away again: Landlock and its filter refuse that.
"""

from __future__ import annotations

import errno
import os
import time

from ..bpf.features import BRANCH, TAKE
from ..confine import ATTRIBUTES, Confinement
from ..guest import agent, branch
from ..kernel import caps, fdpass, landlock, mounts, namespaces, notify, process
from ..kernel.libc import SYSCALLS, failure, libc
from ..wire.control import pack
from .server import Guest, Zygote, tell

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable
    from typing import Any

_HOME = "fs"  # a directory that every proc has; guests let go of the zygote's proc as a whole
_HOME_BYTES, _HOME_FILES = 1 << 20, 1 << 14  # mount points only
_MODES = (("work", 0o755), ("tmp", 0o1777))  # of the directories of a place
_PAUSE_MS = 5  # between two looks at what is ending


class Lineage:
    """One guest and its branches: their places, and who is alive."""

    def __init__(self, home: str, size: int, files: int, places: int) -> None:
        self.path = home
        os.mkdir(home)
        os.mkdir(f"{home}/places")
        os.mkdir(f"{home}/proc")
        self.tree = mounts.new_tmpfs(size, files, 0o755, ATTRIBUTES)
        mounts.attach(os.dup(self.tree), f"{home}/places")
        for place in range(places):
            os.mkdir(f"{place}", 0o755, dir_fd=self.tree)
            for name, mode in _MODES:
                os.mkdir(f"{place}/{name}", mode, dir_fd=self.tree)
                os.chmod(f"{place}/{name}", mode, dir_fd=self.tree)
        self.places = places
        self.free = list(range(places - 1, 0, -1))  # 0 is the first guest's
        self.proc = -1
        self.members: list[Member] = []
        self.cleaners: dict[int, int] = {}  # process -> the place that it empties

    def mounted(self, place: int) -> list[tuple[int, str]]:
        """Detached mounts of a place, each with where it belongs."""
        return [
            (mounts.subtree(self.tree, f"{place}/work".encode()), "/work"),
            (mounts.subtree(self.tree, f"{place}/tmp".encode()), "/tmp"),
        ]

    def show(self, proc: int) -> None:
        """Keep the proc file system of its PID namespace, which the first guest has made."""
        mounts.attach(os.dup(proc), f"{self.path}/proc")
        self.proc = os.dup(proc)

    def empty(self, place: int) -> None:
        """Take away what a branch has left, and lend the place again when that is done."""
        folders = [f"{place}/{name}" for name, _ in _MODES]
        for folder, (_, mode) in zip(folders, _MODES, strict=True):
            os.chmod(folder, mode, dir_fd=self.tree)  # the next one is to find it as it was
            os.utime(folder, dir_fd=self.tree)
        if not any(map(self._holds, folders)):
            self.free.append(place)
            return
        pid = os.fork()
        if pid == 0:
            # Apart, because it takes as long as there are files.
            code = 1
            try:
                for folder in folders:
                    clear(self.tree, folder)
                code = 0
            finally:
                os._exit(code)
        self.cleaners[pid] = place

    def _holds(self, folder: str) -> bool:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.tree)
        try:
            with os.scandir(fd) as found:
                return any(True for _ in found)
        finally:
            os.close(fd)

    def tidy(self) -> None:
        """Lend the places again that are empty by now."""
        for pid, place in list(self.cleaners.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del self.cleaners[pid]
                if not status:  # else it is lent to nobody: what was left in it is another's
                    self.free.append(place)

    def close(self) -> None:
        """Let go of everything.  Nobody is alive any more."""
        for pid in self.cleaners:
            os.kill(pid, process.SIGKILL)
            os.waitpid(pid, 0)
        os.close(self.tree)
        if self.proc >= 0:
            os.close(self.proc)
            mounts.detach(f"{self.path}/proc")
        mounts.detach(f"{self.path}/places")
        for name in ("places", "proc", ""):
            os.rmdir(f"{self.path}/{name}")


class Member(Guest):
    """A branch as its zygote sees it."""

    def __init__(self, pidfd: int, status: _socket.socket, lineage: Lineage, place: int) -> None:
        super().__init__(-1, pidfd, status, None, False)
        self.lineage = lineage
        self.place = place


class BranchConfinement(Confinement):
    """The verbs of a guest that may have branches; ``plan.branches`` says what each is for."""

    def __init__(self, brought: list[int], places: int, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._tree, self._work, self._tmp = brought
        self._places = places
        self.proc = -1
        self.listener = -1

    def lead_lineage(self) -> None:
        os.setsid()

    def mount_place(self, proc_parts: list[str], links: list[list[str]], hidden: list[str]) -> None:
        """As ``mount_own``, with the first place of the lineage's tmpfs."""
        namespaces.unshare(["mount"])
        mounts.attach(self._work, "/work")
        mounts.attach(self._tmp, "/tmp")
        self.link_places(links)
        for path in hidden:
            mounts.detach(path)
        if proc_parts:
            behind = f"{self._proc}/{_HOME}"
            mounts.show_self(proc_parts, behind)
            whole = os.open(behind, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self.proc = mounts.subtree(whole, b".")
            os.close(whole)
        mounts.detach(self._proc)
        os.chdir("/work")
        self.hand_over_work()

    def keep_branching(self) -> None:
        caps.drop_bounding()
        caps.keep_only(caps.SYS_ADMIN)

    def landlock_places(
        self,
        abi: int,
        handled_fs: int,
        handled_net: int,
        scoped: int,
        rules: list[list[Any]],
        rights: int,
    ) -> None:
        ruleset = landlock.make_ruleset(abi, handled_fs, handled_net, scoped)
        for path, allowed in rules:
            landlock.allow_beneath(ruleset, path, allowed)
        for place in range(self._places):
            for name in ("work", "tmp"):
                flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
                fd = os.open(f"{place}/{name}", flags, dir_fd=self._tree)
                landlock.allow_in(ruleset, fd, rights)
                os.close(fd)
        os.close(self._tree)
        landlock.restrict_self(ruleset, "/")
        os.close(ruleset)

    def seccomp_listened(self) -> None:
        self.listener = notify.install_listened(self._program)


class BranchingZygote(Zygote):
    """A zygote whose guests may have branches."""

    @staticmethod
    def prepare() -> None:
        """Let the agent of every guest know how."""
        branch.clone, branch.copy_flags, branch.take_flags = SYSCALLS["clone"], BRANCH, TAKE
        agent.branches = branch

    def __init__(self, control: _socket.socket, settings: dict[str, Any]) -> None:
        super().__init__(control, settings)
        self.home = f"{self.proc}/{_HOME}"
        mounts.attach(mounts.new_tmpfs(_HOME_BYTES, _HOME_FILES, 0o700, ATTRIBUTES), self.home)
        own = f"{self.proc}/self/ns/mnt"
        self.own_mounts = os.open(own, os.O_RDONLY | os.O_CLOEXEC)
        self.lineages: dict[int, Lineage] = {}  # by the host's number for it
        self.first: dict[Guest, Lineage] = {}  # by its first guest
        self.founding: Lineage | None = None
        self.taken_down: list[Guest] = []  # first guests that have ended, with others alive

    # --- the first guest -----------------------------------------------------------------

    def spawn(
        self, status: _socket.socket, descriptors: list[int], fields: dict[str, Any]
    ) -> Guest:
        (verb, number, size, files, places), *steps = fields["steps"]
        if verb != "found_lineage":
            raise AssertionError(f"unknown step {verb}")
        lineage = Lineage(f"{self.home}/{number}", size, files, places)
        self.founding = lineage
        brought: list[int] = []
        try:
            brought = [fd for fd, _ in lineage.mounted(0)]
            self.brought = [lineage.tree, *brought]
            guest = super().spawn(status, descriptors, {**fields, "steps": steps})
        except BaseException:
            lineage.close()
            raise
        finally:
            self.founding, self.brought = None, []
            for fd in brought:
                os.close(fd)
        self.lineages[number] = self.first[guest] = lineage
        return guest

    def confinement(
        self,
        fields: dict[str, Any],
        group: int,
        brought: list[int],
        show_work: Callable[[int], None],
    ) -> Confinement:
        if self.founding is None:
            raise AssertionError("no lineage is being founded")
        return BranchConfinement(
            brought,
            self.founding.places,
            fields["program"],
            fields["pid_mark"],
            self.proc,
            0,
            group,
            show_work,
        )

    def hand_over(self, reports: _socket.socket, confinement: Confinement) -> None:
        """Before any code comes: to the host, what only trusted ones may have.

        It takes them itself, and says so: what this process could have in flight on a socket is
        bounded by its limit on open files, and counted together with all others of its user.
        """
        if not isinstance(confinement, BranchConfinement):
            raise AssertionError("it was confined in another way")
        held = [fd for fd in (confinement.listener, confinement.proc) if fd >= 0]
        # Not by ``tell``: a guest that could not give them away has to end.
        fdpass.send(reports, pack("confined", at=time.monotonic(), held=held))
        if not reports.recv(1):
            os._exit(1)
        for fd in held:
            os.close(fd)

    # --- a branch ------------------------------------------------------------------------

    def other(
        self, kind: str, status: _socket.socket, descriptors: list[int], fields: dict[str, Any]
    ) -> Guest:
        """Take a branch in: it gets its place, and its end is told.  Or end one, and collect it."""
        if kind == "collect":
            process.signal_pidfd(descriptors[0], process.SIGKILL)
            os.waitid(os.P_PIDFD, descriptors[0], os.WEXITED)
            raise OSError(errno.ECANCELED, "it was never a branch", "collect")
        if kind != "adopt":
            raise AssertionError(f"unknown request {kind}")
        lineage = self.lineages.get(fields["lineage"])
        if lineage is None:
            raise OSError(errno.ESRCH, "the sandbox has ended", "adopt")
        if lineage.proc < 0 and len(descriptors) > 1:
            lineage.show(descriptors[1])  # it comes once, whatever becomes of this branch
        pidfd = os.dup(descriptors[0])
        place = -1
        trees: list[tuple[int, str]] = []
        try:
            if os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                raise OSError(errno.ESRCH, "it ended at once", "adopt")
            if not lineage.free:
                raise OSError(errno.EAGAIN, "every place is taken", "adopt")
            place = lineage.free.pop()
            trees = lineage.mounted(place)
            for part in fields["parts"]:
                path = f"{fields['pid']}/{part}".encode()
                trees.append((mounts.subtree(lineage.proc, path), f"/proc/self/{part}"))
            self.put(trees, pidfd, status)
            fdpass.send(status, pack("spawned", at=time.monotonic()), [pidfd])
        except ChildProcessError:
            os.close(pidfd)
            raise OSError(errno.ECHILD, "it is no child of the zygote", "adopt") from None
        except OSError as error:
            for fd, _ in trees:
                os.close(fd)
            if place >= 0:
                lineage.free.append(place)
            # Nobody else would collect it.
            process.signal_pidfd(pidfd, process.SIGKILL)
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
            os.close(pidfd)
            raise OSError(error.errno, error.strerror, "adopt") from None
        member = Member(pidfd, status, lineage, place)
        lineage.members.append(member)
        return member

    def put(self, trees: list[tuple[int, str]], pidfd: int, status: _socket.socket) -> None:
        """Mount these in the mount namespace of a branch, over what is there."""
        if libc.setns(pidfd, namespaces.FLAGS["mount"]) < 0:
            raise failure("setns mount")
        try:
            while trees:
                mounts.attach(*trees[0])
                del trees[0]
        finally:
            if libc.setns(self.own_mounts, namespaces.FLAGS["mount"]) < 0:
                # As where the way back to its PID namespace is barred.
                text = failure("setns mount").strerror or ""
                tell(status, "failed", step="setns mount", errno=0, text=text)
                os._exit(1)

    # --- ends ----------------------------------------------------------------------------

    def reap(self, guest: Guest) -> int:
        if isinstance(guest, Member):
            return self.reap_member(guest)
        lineage = self.first[guest]
        guest.ending = os.wait4(guest.pid, 0)
        for member in lineage.members:
            process.signal_pidfd(member.pidfd, process.SIGKILL)
        if guest.parked is not None:
            os.kill(guest.parked.pid, process.SIGKILL)  # and with it whoever was not told of
        self.taken_down.append(guest)
        return -1

    def reap_member(self, guest: Member) -> int:
        found = os.waitid(os.P_PIDFD, guest.pidfd, os.WEXITED | os.WNOWAIT)
        if found is None:
            raise AssertionError("it has not ended")
        guest.ending = os.wait4(found.si_pid, 0)
        guest.lineage.members.remove(guest)
        self.tell_end(guest)
        guest.lineage.empty(guest.place)
        return -1

    def patience(self) -> int | None:
        busy = self.taken_down or any(lineage.cleaners for lineage in self.lineages.values())
        return _PAUSE_MS if busy else None

    def tidy(self) -> None:
        for lineage in self.lineages.values():
            lineage.tidy()
        for guest in list(self.taken_down):
            lineage = self.first[guest]
            if lineage.members or not self._all_collected(guest.pid):
                continue
            self.taken_down.remove(guest)
            del self.first[guest]
            for number, known in list(self.lineages.items()):
                if known is lineage:
                    del self.lineages[number]
            self.tell_end(guest)
            lineage.close()

    def _all_collected(self, group: int) -> bool:
        """Whether none is left of the processes that a first guest has led.

        The host lets a guest copy itself once for each branch.  One that did it more often has
        made children of ours of which nobody told us.
        """
        while True:
            try:
                found, _ = os.waitpid(-group, os.WNOHANG)
            except ChildProcessError:
                return True
            if not found:
                return False


def clear(tree: int, folder: str) -> None:
    """Empty a directory, however deep: what lies deeper is first moved up.

    Names are never joined to paths, and no link is followed.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    top = os.open(folder, flags, dir_fd=tree)
    moved, fresh = 0, os.urandom(16).hex()
    while True:
        names = os.listdir(top)
        if not names:
            break
        for name in names:
            try:
                os.unlink(name, dir_fd=top)
                continue
            except IsADirectoryError:
                pass
            inner = os.open(name, flags, dir_fd=top)
            for deeper in os.listdir(inner):
                try:
                    os.unlink(deeper, dir_fd=inner)
                except IsADirectoryError:
                    os.rename(deeper, f"{fresh}{moved}", src_dir_fd=inner, dst_dir_fd=top)
                    moved += 1
            os.close(inner)
            os.rmdir(name, dir_fd=top)
    os.close(top)
