"""The launcher: the few milliseconds between a fresh process and the zygote's Python.

Who I am: a process that the host made, with nothing of the host's but one socket.  I carry
out the launch steps of a plan (own namespaces, the canonical root), and then I execute
the zygote's Python inside, so that no path of the host is ever in its memory.
What I trust: the host, whose steps I carry out without judging them.
What I hold: descriptor 0 is /dev/null, 1 the control socket, 2 where start-up errors go.
How I die: by executing the zygote; on any error, after one message that names the step;
and with the host, by the parent-death signal.
"""

from __future__ import annotations

import os
import resource
import stat
import sys

from ..kernel import fdpass, mounts, namespaces, process, rlimits
from ..plan.root import ZYGOTE_PROC
from ..plan.support import UNPRIVILEGED_ID
from ..wire.control import Unpacker, pack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CONTROL_FD = 1
_ROOT_BYTES = 1 << 20  # made-up files and mount points only; nothing of the guest's
_ROOT_FILES = 8192
_COVERS = {
    "empty": ".empty",
    "hide": ".covers/hide",
    "cover": ".covers/",
    "only": ".covers/",
    "folder": ".covers/",
}
_FROM_THE_HOST = ("bind", "bind?", "place")  # kinds of entries that bring a tree along
_PROC_ATTRIBUTES = mounts.NOSUID | mounts.NODEV | mounts.NOEXEC
_STACK_BYTES = 8 << 20  # what most systems have, whatever this host has
_BEHIND = "/tmp"  # any directory that every Linux has; the new root covers it for a moment


class Launch:
    """The state that steps share: entries, detached trees in their order, the new root."""

    def __init__(self, tied: bool) -> None:
        self.tied = tied
        self.entries: list[list[Any]] = []
        self.trees: list[int | None] = []
        self.places: list[tuple[str, int | None]] = []
        self.root = -1
        self.ahead_s = 0.0  # how far the zygote's monotonic clock is ahead of the host's

    def new_session(self) -> None:
        """Leave the terminal and the job of the host: no Ctrl-C, no TIOCSTI."""
        os.setsid()
        process.reset_personality()
        process.refuse_huge_pages()
        process.reset_timer_slack()
        os.umask(0o022)
        os.chdir("/")

    def unshare(self, kinds: list[str]) -> None:
        namespaces.unshare(kinds)

    def make_private(self) -> None:
        mounts.make_private()

    def map_identity(self, *ids: int) -> None:
        inside_uid, inside_gid, outside_uid, outside_gid = ids
        own = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        namespaces.map_identity(inside_uid, inside_gid, outside_uid, outside_gid, own)
        os.close(own)

    def open_sources(self, entries: list[list[Any]]) -> None:
        """Detached copies of every tree to bind, while this process may still see them."""
        self.entries = entries
        idmap = None
        for entry in entries:
            if entry[0] not in _FROM_THE_HOST:
                continue
            _, _, source, attributes, owner = entry
            try:
                if owner:
                    if idmap is None:
                        idmap = owner_map(UNPRIVILEGED_ID)
                    self.trees.append(clone_for_owner(source, attributes, idmap))
                else:
                    self.trees.append(mounts.clone_tree(source, attributes))
            except OSError as error:
                if entry[0] == "bind?" and isinstance(error, (FileNotFoundError, PermissionError)):
                    self.trees.append(None)
                    continue
                error.filename = source
                raise
        if idmap is not None:
            os.close(idmap)

    def become(self, uid: int, gid: int) -> None:
        process.become(uid, gid)

    def hide_uptime(self, start_s: int) -> None:
        """The first process and its children see clocks that do not tell when this host started."""
        own = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.ahead_s = namespaces.set_clocks(start_s, own)
        os.close(own)

    def first_process(self) -> None:
        """Go on as the first process of the new PID namespace, still a child of the host."""
        # It waits until the host knows its number: what it says first would be taken for ours.
        told, tell = os.pipe()
        pid = process.raw_clone(namespaces.CLONE_PARENT | namespaces.SIGCHLD)
        if pid:
            message = pack("launched", pid=pid, ahead_s=self.ahead_s)
            try:
                os.write(CONTROL_FD, message)
            except OSError:
                os.write(CONTROL_FD, message)  # without it nobody could reap that process
            os.write(tell, b"1")
            os._exit(0)
        os.close(tell)
        if not os.read(told, 1):
            os._exit(1)
        os.close(told)
        if self.tied:
            process.die_with_parent(0)

    def set_host_name(self, name: bytes) -> None:
        namespaces.set_host_name(name)

    def build_root(self, proc: bool) -> None:
        """Make the canonical tree in an empty tmpfs and seal it read-only."""
        root = mounts.new_tmpfs(_ROOT_BYTES, _ROOT_FILES, 0o755, mounts.NOSUID | mounts.NODEV)
        keep = os.dup(root)
        mounts.attach(root, _BEHIND)
        root = keep
        os.mkdir(_BEHIND + ZYGOTE_PROC, 0o700)
        os.mkdir(f"{_BEHIND}/.empty", 0o555)
        os.mkdir(f"{_BEHIND}/.covers", 0o700)
        write_new(f"{_BEHIND}/.covers/hide", b"", 0)
        if proc:
            # Whole, and out of the guests' sight: the kernel lends a new proc file system
            # only to those who see one already, and identity maps are written there.
            tree = mounts.new_filesystem(b"proc", {}, _PROC_ATTRIBUTES)
        else:
            # Where parts of it are masked, no new one is lent: the masked one serves the
            # zygote, and every guest lets go of it before it meets any code.
            tree = mounts.clone_tree("/proc", _PROC_ATTRIBUTES)
        mounts.attach(tree, _BEHIND + ZYGOTE_PROC)
        trees = iter(self.trees)
        covers = 0
        for kind, target, *rest in self.entries:
            if kind in _FROM_THE_HOST:
                tree_or_none = next(trees)
                if kind == "place":
                    self.places.append((target, tree_or_none))
                elif tree_or_none is not None:
                    make_mount_point(tree_or_none, _BEHIND + target)
                    mounts.attach(tree_or_none, _BEHIND + target)
            elif kind in _COVERS:
                source = _COVERS[kind]
                if kind in ("cover", "only", "folder"):
                    source += str(covers)
                    covers += 1
                if kind == "cover":
                    write_new(f"{_BEHIND}/{source}", rest[0])
                elif kind in ("only", "folder"):
                    os.mkdir(f"{_BEHIND}/{source}", 0o555)
                    files = rest[0] if kind == "folder" else dict.fromkeys(rest[0], b"")
                    for name, contents in files.items():
                        write_new(f"{_BEHIND}/{source}/{name}", contents)
                over = mounts.subtree(root, source.encode())
                mounts.change_mount(over, mounts.RDONLY | mounts.NOEXEC)
                mounts.attach(over, _BEHIND + target)
            elif kind == "dir":
                make_directory(_BEHIND + target)
            elif kind == "link":
                make_parent(_BEHIND + target)
                os.symlink(rest[0], _BEHIND + target)
            else:
                make_parent(_BEHIND + target)
                write_new(_BEHIND + target, rest[0])
        self.root = root

    def enter_root(self) -> None:
        mounts.enter_root(self.root)

    def place_grants(self) -> None:
        """Mount what the policy grants, now that no path leads to the host any more.

        Somebody may be renaming and linking in these trees while this happens: the guest of
        another policy, say.
        """
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        for target, tree in self.places:
            if tree is not None:
                mounts.attach_to(tree, mounts.mount_point(root, target, tree))
        os.close(root)

    def seal_root(self) -> None:
        """Make the tmpfs of the root itself read-only; the trees in it have their own flags."""
        root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        mounts.change_mount(root, mounts.RDONLY | mounts.NOEXEC)
        os.close(root)

    def execute(
        self, python: str, search: list[str], files: int, environment: dict[str, str]
    ) -> None:
        """Become the zygote: the guest's Python, isolated, with belljar's own directory."""
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if hard == resource.RLIM_INFINITY or hard > files:
            resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
        # Before the C library starts: it takes the size of every thread's stack from this.
        rlimits.set_rlimit("stack", _STACK_BYTES)
        file = f"{search[0]}/belljar/zygote/boot.py"
        boot = process.boot(search, f"exec(open({file!r}).read(), {{'__name__': '__main__'}})")
        flags = ["-I", "-S", "-B", "-X", "utf8", "-X", "frozen_modules=on"]
        os.execve(python, [python, *flags, "-c", boot], environment)


def make_mount_point(tree: int, path: str) -> None:
    """An empty file or directory, whichever the tree's own top is, unless there is one."""
    try:
        os.lstat(path)
        return
    except FileNotFoundError:
        pass
    if stat.S_ISDIR(os.fstat(tree).st_mode):
        make_directory(path)
    else:
        make_parent(path)
        write_new(path, b"")


def make_directory(path: str) -> None:
    """A directory and those above it, unless they are there.

    ``os.makedirs`` asks first, and takes a failure of asking for an answer.
    """
    try:
        os.mkdir(path, 0o755)
    except FileExistsError:
        return
    except FileNotFoundError:
        make_directory(path.rpartition("/")[0])
        os.mkdir(path, 0o755)


def make_parent(path: str) -> None:
    make_directory(path.rpartition("/")[0])


def write_new(path: str, contents: bytes, mode: int = 0o444) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(path, flags, mode)
    view = memoryview(contents)
    while view:
        view = view[os.write(fd, view) :]
    os.close(fd)


def clone_for_owner(source: str, attributes: int, idmap: int) -> int:
    """A granted tree in which root's files belong to the guest.

    Where the file system cannot map owners, the tree keeps its owners, and the guest may
    do what its permission bits let others do: less, never more.
    """
    try:
        return mounts.clone_tree(source, attributes, idmap)
    except OSError:
        return mounts.clone_tree(source, attributes)


def owner_map(guest: int) -> int:
    """A user namespace, as a descriptor, that maps file owner 0 to the guest's user.

    Everyone else keeps the number, so that permission bits mean what they meant; the
    guest's own number maps to root's place, because a map must not send two to one.
    """
    ready, go = os.pipe(), os.pipe()
    pid = process.raw_clone(namespaces.FLAGS["user"] | namespaces.SIGCHLD)
    if pid == 0:
        os.write(ready[1], b"1")
        os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    top = 0xFFFF_FFFE - guest
    lines = f"0 {guest} 1\n1 1 {guest - 1}\n{guest} 0 1\n{guest + 1} {guest + 1} {top}\n"
    try:
        for name in ("uid_map", "gid_map"):
            fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            os.write(fd, lines.encode())
            os.close(fd)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.write(go[1], b"1")
        os.waitpid(pid, 0)
        for fd in (*ready, *go):
            os.close(fd)


def launch(steps: list[list[Any]], tied: bool) -> None:
    """Carry out the launch steps; does not return.

    ``tied`` asks for the parent-death signal; it is sent when the *thread* that made this
    process ends, so it is for hosts whose main thread did.  A failing step is told on the
    control socket by its verb, and ends the process.
    """
    state = Launch(tied)
    # Every tree to bind is held at once and files are made up; the host's own soft limits are
    # none of its business.
    verb = "launch"
    try:
        for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):
            hard = resource.getrlimit(limit)[1]
            resource.setrlimit(limit, (hard, hard))
        for verb, *args in steps:
            act: Callable[..., None] = getattr(state, verb)
            act(*args)
    except OSError as error:
        text = f"{error.strerror or error} ({error.filename or ''})"
        message = pack("failed", step=verb, errno=error.errno or 0, text=text)
        os.write(CONTROL_FD, message)
    except BaseException as fault:
        # Ours; the host quotes what we say.
        sys.excepthook(type(fault), fault, fault.__traceback__)
    finally:
        os._exit(1)


def main() -> None:
    """A launcher that was executed afresh: its steps are the first control message."""
    import _socket

    process.close_from(3)
    control = _socket.socket(fileno=CONTROL_FD)
    data, _ = fdpass.receive(control)
    control.detach()
    if data:
        ((_, fields),) = Unpacker().feed(data)
        launch(fields["steps"], fields["tied"])
