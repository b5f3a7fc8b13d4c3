"""Mounts: read-only to the last submount, bounded, and no way back (R4, R8, C9, R1)."""

from __future__ import annotations

import os

import pytest

from belljar.kernel.probe import probe_support
from belljar.testing import run_confined

SUPPORT = probe_support()
pytestmark = pytest.mark.skipif(
    not SUPPORT.isolated, reason=f"no mount namespaces here: {dict(SUPPORT.why)}"
)

# What every body here begins with: a mount namespace that this user owns.
HEAD = """
def body(p):
    import ctypes, errno, os
    from belljar.kernel import mounts, namespaces
    from belljar.kernel.mounts import (
        DATA, NODEV, NOEXEC, NOSUID, RDONLY, attach, change_mount, clone_tree, detach, enter_root,
        make_private, new_filesystem, new_tmpfs, open_path, show_self, subtree,
    )
    uid, gid = os.getuid(), os.getgid()
    namespaces.unshare(["user", "mount"])
    namespaces.map_identity(0, 0, uid, gid, os.open("/proc/self", os.O_PATH))
    make_private()

    def result(act):
        try:
            act()
            return "done"
        except OSError as error:
            return errno.errorcode.get(error.errno, str(error))

    def flags(path):
        return os.statvfs(path).f_flag & 15
""".replace("DATA, ", "")


def mounted(lines: str, place: str, user) -> object:
    body = HEAD + "\n".join("    " + line for line in lines.strip().splitlines()) + "\n"
    return run_confined(body, place, user=user)


@pytest.fixture
def tree(place):
    """A tree with a file, and places to mount on."""
    for name in ("from", "from/sub", "to", "root"):
        os.mkdir(f"{place}/{name}")
        os.chmod(f"{place}/{name}", 0o777)
    with open(f"{place}/from/file", "w") as file:
        file.write("text")
    os.chmod(f"{place}/from/file", 0o666)
    os.symlink("from", f"{place}/link")
    return place


def test_a_read_only_tree_is_so_in_every_submount(tree, user):
    lines = """
attach(new_tmpfs(1 << 16, 16, 0o777, 0), p + "/from/sub")
open(p + "/from/sub/inner", "w").close()
attach(clone_tree(p + "/from", RDONLY | NOSUID | NODEV | NOEXEC), p + "/to")
return [
    result(lambda: open(p + "/to/file", "r+")),
    result(lambda: open(p + "/to/sub/inner", "r+")),
    result(lambda: open(p + "/to/sub/new", "w")),
    result(lambda: os.unlink(p + "/to/file")),
    flags(p + "/to"), flags(p + "/to/sub"),
    result(lambda: open(p + "/from/file", "r+")),
    result(lambda: open(p + "/from/sub/inner", "r+")),
]
"""
    assert mounted(lines, tree, user) == ["EROFS"] * 4 + [15, 15, "done", "done"]


def test_nothing_is_executed_from_noexec(tree, user):
    """C9: not by execve, and not mapped as code."""
    lines = """
import mmap
with open(p + "/from/program", "w") as file:
    file.write("#!/bin/true")
os.chmod(p + "/from/program", 0o755)
attach(clone_tree(p + "/from", NOEXEC), p + "/to")
def mapped(path):
    fd = os.open(path, os.O_RDONLY)
    mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_EXEC).close()
return [
    result(lambda: os.posix_spawn(p + "/to/program", ["x"], {})),
    result(lambda: mapped(p + "/to/program")),
    result(lambda: os.posix_spawn(p + "/from/program", ["x"], {})),
    result(lambda: mapped(p + "/from/program")),
]
"""
    assert mounted(lines, tree, user) == ["EACCES", "EPERM", "done", "done"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes and set-id files")
def test_no_device_works_under_nodev(tree):
    def body(p):
        import errno
        import os

        from belljar.kernel import mounts, namespaces

        namespaces.unshare(["mount"])
        mounts.make_private()
        os.mknod(p + "/from/null", 0o020666, os.makedev(1, 3))
        mounts.attach(mounts.clone_tree(p + "/from", mounts.NODEV), p + "/to")
        os.close(os.open(p + "/from/null", os.O_RDONLY))
        try:
            os.open(p + "/to/null", os.O_RDONLY)
        except OSError as error:
            return errno.errorcode[error.errno]

    assert run_confined(body, tree) == "EACCES"


def test_a_symbolic_link_in_a_source_is_refused(tree, user):
    """Whoever swaps a directory for a link between planning and mounting gets nothing."""
    lines = """
return [
    result(lambda: clone_tree(p + "/link", RDONLY)),
    result(lambda: clone_tree(p + "/link/sub", RDONLY)),
    result(lambda: open_path("/proc/self/root")),
    result(lambda: os.close(open_path(p + "/from/sub"))),
]
"""
    assert mounted(lines, tree, user) == ["ELOOP"] * 3 + ["done"]


def test_a_failed_clone_leaves_no_descriptor(tree, user):
    lines = """
def count():
    return len(os.listdir("/proc/self/fd"))
before = count()
for _ in range(3):
    result(lambda: clone_tree(p + "/link", RDONLY))
    result(lambda: clone_tree(p + "/from", 1 << 40))
return count() - before
"""
    assert mounted(lines, tree, user) == 0


def test_a_tmpfs_holds_so_many_bytes_and_no_more(tree, user):
    """R1, R2: a size of 0 would mean no bound, so the smallest is a page."""
    lines = """
attach(new_tmpfs(1 << 16, 8, 0o777, NOSUID | NODEV), p + "/to")
fd = os.open(p + "/to/file", os.O_RDWR | os.O_CREAT)
written = 0
while result(lambda: os.pwrite(fd, b"x" * 4096, written)) == "done":
    written += 4096
last = result(lambda: os.pwrite(fd, b"x" * 4096, written))
made = 0
while result(lambda: os.mkdir(p + f"/to/{made}")) == "done":
    made += 1
attach(new_tmpfs(0, 0, 0o777, 0), p + "/root")
tiny = os.statvfs(p + "/root")
return [written, last, made, flags(p + "/to"), tiny.f_blocks * tiny.f_frsize, tiny.f_files]
"""
    # Eight inodes: the top, the file, and six directories.
    assert mounted(lines, tree, user) == [1 << 16, "ENOSPC", 6, 6, 4096, 2]


def test_the_guests_own_places_are_one_tmpfs(tree, user):
    """work_bytes counts /work and /tmp together."""
    lines = """
own = new_tmpfs(1 << 16, 16, 0o755, NOSUID)
for name in ("work", "tmp"):
    os.mkdir(name, 0o777, dir_fd=own)
attach(os.dup(own), p + "/root")
attach(subtree(own, b"work"), p + "/from")
attach(subtree(own, b"tmp"), p + "/to")
os.close(own)
with open(p + "/from/file", "wb") as file:
    file.write(bytes(1 << 15))
free = os.statvfs(p + "/to")
return [free.f_bfree * free.f_frsize, os.listdir(p + "/to")]
"""
    assert mounted(lines, tree, user) == [1 << 15, []]


def test_one_mount_alone_can_be_changed(tree, user):
    lines = """
attach(new_tmpfs(1 << 16, 16, 0o777, 0), p + "/to")
os.mkdir(p + "/to/inner")
attach(new_tmpfs(1 << 16, 16, 0o777, 0), p + "/to/inner")
change_mount(os.open(p + "/to", os.O_PATH), RDONLY)
return [flags(p + "/to"), flags(p + "/to/inner")]
"""
    assert mounted(lines, tree, user) == [1, 0]


def test_the_root_is_another_one_and_the_old_is_gone(tree, user):
    lines = """
root = new_tmpfs(1 << 16, 16, 0o755, NOSUID)
keep = os.dup(root)
attach(root, p + "/root")
os.mkdir(p + "/root/only")
parent = os.open("/", os.O_PATH)
os.close(parent)
enter_root(keep)
return [os.listdir("/"), os.getcwd(), result(lambda: os.stat(p)), result(lambda: os.chdir("..")),
        os.listdir(".")]
"""
    assert mounted(lines, tree, user) == [["only"], "/", "ENOENT", "done", ["only"]]


@pytest.mark.skipif(not SUPPORT.proc, reason="the kernel lends no proc file system here")
def test_proc_self_shows_single_files(tree, user):
    source = (
        HEAD
        + """
    namespaces.unshare(["pid"])
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    attach(new_tmpfs(1 << 16, 16, 0o777, 0), p + "/root")
    os.makedirs(p + "/root/proc/self/fd")
    open(p + "/root/proc/self/statm", "w").close()
    os.mkdir(p + "/root/old")
    keep = os.open(p + "/root", os.O_PATH)
    attach(new_filesystem(b"proc", {}, 0), p + "/root/old")
    enter_root(keep)
    show_self(["fd", "statm"], "/old/fs")
    fine = sorted(os.listdir("/proc/self")) == ["fd", "statm"]
    with open("/proc/self/statm") as file:
        fine = fine and len(file.read().split()) == 7
    fine = fine and os.listdir("/proc") == ["self"] and flags("/proc/self/statm") == 15
    os._exit(0 if fine else 1)
"""
    )
    assert run_confined(source, tree, user=user) == 0


# --- each check of an effect can fail ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "lines"),
    [
        ("mount_setattr", "clone_tree(p + '/from', RDONLY)"),
        ("mount_setattr", "change_mount(os.open(p, os.O_PATH), RDONLY)"),
        ("fsconfig", "new_tmpfs(1 << 16, 16, 0o755, 0)"),
        ("pivot_root", "enter_root(os.open(p + '/root', os.O_PATH))"),
    ],
)
def test_a_call_that_does_nothing_is_noticed(call, lines, tree, user):
    patched = f"""
real = mounts.syscall
def idle(name, *args):
    if name == {call!r} and (name != "fsconfig" or args[2] in (b"size", b"nr_inodes")):
        return 0
    return real(name, *args)
mounts.syscall = idle
class Libc:
    umount2 = staticmethod(lambda *args: 0)
mounts.libc = Libc()
return result(lambda: {lines})
"""
    assert "did not take effect" in str(mounted(patched, tree, user))


@pytest.mark.parametrize("ignored", ["size", "nr_inodes"])
def test_each_bound_of_a_tmpfs_is_checked(ignored, tree, user):
    patched = f"""
real = mounts.syscall
mounts.syscall = lambda name, *args: (
    0 if name == "fsconfig" and args[2] == {ignored.encode()!r} else real(name, *args)
)
return result(lambda: new_tmpfs(1 << 16, 16, 0o755, 0))
"""
    assert "did not take effect" in str(mounted(patched, tree, user))


def test_the_attributes_of_a_new_file_system_are_checked(tree, user):
    patched = """
real = mounts.syscall
mounts.syscall = lambda name, *args: real(name, *(args[:2] + (0,) if name == "fsmount" else args))
return result(lambda: new_filesystem(b"tmpfs", {}, RDONLY | NOEXEC))
"""
    assert "did not take effect" in str(mounted(patched, tree, user))


# --- mount points of grants: in trees that somebody else may be changing ------------------------

ROOT = """
from belljar.kernel.mounts import attach_to, mount_point
attach(new_tmpfs(1 << 16, 64, 0o755, 0), p + "/root")
root = os.open(p + "/root", os.O_PATH)
def place(path, source, where=root):
    tree = clone_tree(source, RDONLY)
    return result(lambda: attach_to(tree, mount_point(where, path, tree)))
"""


def test_R4_mount_points_are_made_in_the_root_itself(tree, user):
    lines = (
        ROOT
        + """
return [
    place("/data/deep", p + "/from"), os.listdir(p + "/root/data/deep"),
    place("/data/file", p + "/from/file"), open(p + "/root/data/file").read(),
    result(lambda: open(p + "/root/data/file", "a")),
]
"""
    )
    answer = mounted(lines, tree, user)
    assert answer == ["done", ["file", "sub"], "done", "text", "EROFS"]


def test_R4_no_mount_point_is_reached_through_a_link(tree, user):
    """A guest that may write in an outer grant puts a link where an inner one is to be mounted."""
    lines = (
        ROOT
        + """
os.mkdir(p + "/root/fixed"); os.mkdir(p + "/root/fixed/sub")
for name, to in (("in", "/fixed"), ("out", p + "/to"), ("up", "../../to")):
    os.symlink(to, p + "/from/" + name)
os.mkdir(p + "/inner")
outer = place("/data", p + "/from")
return [
    outer,
    *(place("/data/" + name + "/sub", p + "/inner") for name in ("in", "out", "up")),
    *(place("/data/" + name, p + "/inner") for name in ("in", "out", "up")),
    place("/data/../fixed", p + "/inner"),
    os.listdir(p + "/to"), os.listdir(p + "/root/fixed/sub"),
]
"""
    )
    outer, *through, climbing, beside, fixed = mounted(lines, tree, user)
    assert outer == "done"
    assert through == ["ELOOP"] * 6
    assert climbing in ("EXDEV", "EAGAIN", "ESTALE")
    assert (beside, fixed) == ([], [])


def test_R4_nothing_is_made_in_a_granted_tree_and_no_other_place_is_taken(tree, user):
    lines = (
        ROOT
        + """
os.mkdir(p + "/inner"); os.mkdir(p + "/from/other")
return [
    place("/data", p + "/from"),
    place("/data/missing", p + "/inner"), place("/data/missing/deeper", p + "/inner"),
    place("/data/other", p + "/inner"), place("/data/file", p + "/inner"),
    place("/data/sub", p + "/from/sub"), sorted(os.listdir(p + "/from")),
]
"""
    )
    answer = mounted(lines, tree, user)
    missing = ["ENOENT", "ENOENT"]
    assert answer == ["done", *missing, "ESTALE", "ESTALE", "done", ["file", "other", "sub"]]
