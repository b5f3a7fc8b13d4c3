"""Mounts by descriptor: open a tree, set its attributes, put it into a new root.

The descriptor interface (Linux 5.12) is used throughout, because attributes can be set
recursively on a tree that nobody sees yet; the older one changes a bind mount only after
it is visible, and only its top.  See mount_setattr(2), open_tree(2), fsopen(2),
move_mount(2), pivot_root(2).
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from .libc import failure, libc, syscall

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = 0o2000000
MOVE_MOUNT_F_EMPTY_PATH = 4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
RDONLY, NOSUID, NODEV, NOEXEC, IDMAP = 1, 2, 4, 8, 0x100000
_MS_PRIVATE_RECURSIVE = (1 << 18) | 16384
_MNT_DETACH = 2
_RESOLVE_NO_SYMLINKS = 4
_RESOLVE_NO_MAGICLINKS = 2
_RESOLVE_BENEATH = 8


def make_private() -> None:
    """Stop mount events from passing between this mount namespace and others."""
    if libc.mount(None, b"/", None, _MS_PRIVATE_RECURSIVE, None) < 0:
        raise failure("mount")


def open_path(path: str) -> int:
    """A descriptor for an absolute path of which no part is a symbolic link.

    The plan holds resolved paths; a link that appears between planning and mounting is
    somebody's race, and ``ELOOP`` ends it.
    """
    how = struct.pack(
        "QQQ", os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS
    )
    return syscall("openat2", AT_FDCWD, os.fsencode(path), how, len(how))


def clone_tree(path: str, attributes: int, idmap: int | None = None) -> int:
    """A detached copy of the tree at ``path``, with attributes set on every mount in it.

    ``idmap`` is a descriptor of a user namespace that maps the owners of its files.
    """
    place = open_path(path)
    try:
        flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH
        tree = syscall("open_tree", place, b"", flags)
    finally:
        os.close(place)
    try:
        if idmap is None:
            change_tree(tree, attributes)
        else:
            change_tree(tree, attributes | IDMAP, idmap)
    except OSError:
        os.close(tree)
        raise
    return tree


def change_tree(tree: int, attributes: int, idmap: int = 0) -> None:
    """Set mount attributes on a tree and on everything mounted in it."""
    change = struct.pack("QQQQ", attributes, 0, 0, idmap)
    syscall("mount_setattr", tree, b"", AT_EMPTY_PATH | AT_RECURSIVE, change, len(change))
    _check_attributes(tree, attributes, "mount_setattr")


def change_mount(mount: int, attributes: int) -> None:
    """Set mount attributes on one mount alone."""
    change = struct.pack("QQQQ", attributes, 0, 0, 0)
    syscall("mount_setattr", mount, b"", AT_EMPTY_PATH, change, len(change))
    _check_attributes(mount, attributes, "mount_setattr")


def _check_attributes(mount: int, attributes: int, call: str) -> None:
    """Whether a mount has them, as statfs(2) sees it: the flags have the same numbers."""
    wanted = attributes & (RDONLY | NOSUID | NODEV | NOEXEC)
    if os.fstatvfs(mount).f_flag & wanted != wanted:
        raise OSError(0, "the mount attributes did not take effect", call)


def new_filesystem(kind: bytes, options: dict[bytes, bytes], attributes: int) -> int:
    """A new, detached mount of a file system such as ``tmpfs`` or ``proc``."""
    context = syscall("fsopen", kind, 1)
    try:
        for key, value in options.items():
            syscall("fsconfig", context, FSCONFIG_SET_STRING, key, value, 0)
        syscall("fsconfig", context, FSCONFIG_CMD_CREATE, None, None, 0)
        mount = syscall("fsmount", context, 1, attributes)
    finally:
        os.close(context)
    _check_attributes(mount, attributes, "fsmount")
    return mount


def new_tmpfs(size_bytes: int, inodes: int, mode: int, attributes: int) -> int:
    """A tmpfs of bounded size: bytes of contents and number of files."""
    options = {
        b"size": b"%d" % max(size_bytes, 4096),  # size=0 would mean no bound at all
        b"nr_inodes": b"%d" % max(inodes, 2),
        b"mode": b"%o" % mode,
    }
    mount = new_filesystem(b"tmpfs", options, attributes)
    bounds = os.fstatvfs(mount)
    if not 0 < bounds.f_blocks * bounds.f_frsize < max(size_bytes, 4096) + bounds.f_frsize:
        raise OSError(0, "the size of the tmpfs did not take effect", "fsconfig")
    if bounds.f_files != max(inodes, 2):
        raise OSError(0, "the number of files of the tmpfs did not take effect", "fsconfig")
    return mount


def subtree(tree: int, path: bytes) -> int:
    """A detached copy of one place inside an attached mount.

    Linux 6.15 copies out of detached ones as well; before, open_tree(2) says ``EINVAL``.
    """
    return syscall("open_tree", tree, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)


def attach(tree: int, path: str, root: int = AT_FDCWD) -> None:
    """Put a detached mount at a path, seen from ``root``, and let go of it."""
    syscall("move_mount", tree, b"", root, os.fsencode(path), MOVE_MOUNT_F_EMPTY_PATH)
    os.close(tree)


def attach_to(tree: int, place: int) -> None:
    """Put a detached mount on the file or directory behind a descriptor, and let go of both."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    syscall("move_mount", tree, b"", place, b"", flags)
    os.close(place)
    os.close(tree)


def mount_point(root: int, path: str, tree: int) -> int:
    """A descriptor for where ``tree`` is to be mounted: ``path`` beneath ``root``.

    No symbolic link is followed on the way, and none leads out.  What is missing is made,
    but only in the file system of ``root`` itself: whatever else is mounted there belongs
    to somebody who may be changing it at this moment.  A place inside such a tree must be
    the very file that ``tree`` shows, else ``ESTALE``: it was exchanged.
    """
    ours = os.fstat(root).st_dev
    wanted = os.fstat(tree)
    here = os.open(".", os.O_PATH | os.O_CLOEXEC, dir_fd=root)
    parts = path.strip("/").split("/")
    for depth, part in enumerate(parts, 1):
        try:
            found = open_beneath(here, part)
        except FileNotFoundError:
            if os.fstat(here).st_dev != ours:
                raise
            if depth < len(parts) or stat.S_ISDIR(wanted.st_mode):
                os.mkdir(part, 0o755, dir_fd=here)
            else:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                os.close(os.open(part, flags, 0o444, dir_fd=here))
            found = open_beneath(here, part)
        os.close(here)
        here = found
    status = os.fstat(here)
    same = (status.st_dev, status.st_ino) == (wanted.st_dev, wanted.st_ino)
    if status.st_dev != ours and not same:
        raise OSError(errno.ESTALE, "the place was exchanged for another", path)
    return here


def open_beneath(directory: int, name: str) -> int:
    """A descriptor for something beneath a directory, through no symbolic link."""
    resolve = _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS | _RESOLVE_BENEATH
    how = struct.pack("QQQ", os.O_PATH | os.O_CLOEXEC, 0, resolve)
    return syscall("openat2", directory, os.fsencode(name), how, len(how))


def enter_root(root: int) -> None:
    """Make an attached mount the root of everything; nothing of the old one remains.

    The old root is stacked on the new one and then detached, which needs no directory
    for it in the new tree.
    """
    os.fchdir(root)
    syscall("pivot_root", b".", b".")
    if libc.umount2(b".", _MNT_DETACH) < 0:
        raise failure("umount2")
    os.chdir("/")
    ours, now = os.fstat(root), os.stat("/")
    if (ours.st_dev, ours.st_ino) != (now.st_dev, now.st_ino):
        raise OSError(0, "the new root did not take effect", "pivot_root")
    os.close(root)


def show_self(parts: list[str], behind: str) -> None:
    """Put the named files of a new ``/proc/self`` in their places.

    Only single files are shown, because the directory also holds ``mountinfo``, which
    names the host's paths.  The whole of it stays mounted at ``behind``, for the caller to
    let go of.
    """
    attributes = RDONLY | NOSUID | NODEV | NOEXEC
    proc = new_filesystem(b"proc", {b"subset": b"pid"}, attributes)
    attach(os.dup(proc), behind)
    own = str(os.getpid())
    for part in parts:
        attach(subtree(proc, f"{own}/{part}".encode()), f"/proc/self/{part}")
    os.close(proc)


def detach(path: str) -> None:
    """Unmount a tree from this mount namespace at once."""
    if libc.umount2(os.fsencode(path), _MNT_DETACH) < 0:
        raise failure("umount2")
