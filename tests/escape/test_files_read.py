"""R3, R4, R5, M12: no way to read a file that is not granted.

What: every route from a path to contents that we know, by raw system calls.  Because: a wall
around ``open`` is not a wall around files.  Then: each route is tried against the canonical
root and Landlock together and against each alone, and the same routes are shown to lead
somewhere once the file is granted.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from belljar import Policy

from .conftest import Wall
from .native import REFUSED, landlock_abi, outcome, without

SECRET = "canary in a file"

# Each route gives what it read of the file TARGET in the directory FOLDER, or an errno.
ROUTES = """
import struct
O_PATH, O_DIRECTORY = 0o10000000, os.O_DIRECTORY
T, F = TARGET.encode(), FOLDER.encode()

def contents(fd):
    if isinstance(fd, str):
        return fd
    text = buffer(64)
    got = call("read", fd, text, 64)
    call("close", fd)
    return got if isinstance(got, str) else text.raw[:got].decode()

def by_open():
    return contents(call("open", T, 0, 0))

def by_openat():
    return contents(call("openat", AT, T, 0, 0))

def by_openat2():
    how = struct.pack("QQQ", 0, 0, 0)
    return contents(call("openat2", AT, T, how, len(how)))

def by_directory():
    folder = call("openat", AT, F, O_PATH | O_DIRECTORY, 0)
    return folder if isinstance(folder, str) else contents(call("openat", folder, b"secret", 0, 0))

def by_dotdot():
    return contents(call("openat", AT, b"../../../../../.." + T, 0, 0))

def by_tmp_dotdot():
    return contents(call("openat", AT, b"/tmp/.." + T, 0, 0))

def by_proc_root():
    return contents(call("openat", AT, b"/proc/self/root" + T, 0, 0))

def by_proc_cwd():
    return contents(call("openat", AT, b"/proc/self/cwd/.." + T, 0, 0))

def by_other_root():
    for pid in (1, 2, os.getppid()):
        got = contents(call("openat", AT, b"/proc/%d/root" % pid + T, 0, 0))
        if got not in REFUSED:
            return got
    return got

def by_path_descriptor():
    fd = call("openat", AT, T, O_PATH, 0)
    if isinstance(fd, str):
        return fd
    return contents(call("openat", AT, b"/proc/self/fd/%d" % fd, 0, 0))

def by_empty_path():
    fd = call("openat", AT, T, O_PATH, 0)
    return fd if isinstance(fd, str) else contents(call("openat", fd, b"", 0, 0))

def by_symlink():
    made = call("symlinkat", T, AT, b"link")
    return made if isinstance(made, str) else contents(call("openat", AT, b"link", 0, 0))

def by_folder_symlink():
    made = call("symlinkat", F, AT, b"folder-link")
    if isinstance(made, str):
        return made
    return contents(call("openat", AT, b"folder-link/secret", 0, 0))

def by_hard_link():
    made = call("linkat", AT, T, AT, b"hard", 0)
    return made if isinstance(made, str) else contents(call("openat", AT, b"hard", 0, 0))

def by_hard_link_of_descriptor():
    fd = call("openat", AT, T, O_PATH, 0)
    if isinstance(fd, str):
        return fd
    made = call("linkat", fd, b"", AT, b"hard2", 0x1000)
    return made if isinstance(made, str) else contents(call("openat", AT, b"hard2", 0, 0))

def by_rename():
    made = call("renameat", AT, T, AT, b"mine")
    return made if isinstance(made, str) else contents(call("openat", AT, b"mine", 0, 0))

def by_chdir():
    moved = call("chdir", F)
    return moved if isinstance(moved, str) else contents(call("openat", AT, b"secret", 0, 0))

def by_handle():
    handle, mount = buffer(struct.pack("Ii", 128, 0) + bytes(128)), buffer(8)
    made = call("name_to_handle_at", AT, T, handle, mount, 0)
    return made if isinstance(made, str) else contents(call("open_by_handle_at", AT, handle, 0))

def by_chroot():
    return call("chroot", F)

def by_bind_mount():
    return call("mount", F, b"/work", None, 4096, None)

def by_open_tree():
    return contents(call("open_tree", AT, T, 1))

def by_handle_of_root():
    # The host's root directory is inode 2 on most file systems: no name is needed.
    handle = struct.pack("IiII", 8, 1, 2, 0)
    return contents(call("open_by_handle_at", 0, handle, O_DIRECTORY))

def by_io_uring():
    return call("io_uring_setup", 8, bytes(120))

def by_watch():
    watch = call("inotify_init1", 0)
    return watch if isinstance(watch, str) else call("inotify_add_watch", watch, F, 0xFFF)

def by_fanotify():
    return call("fanotify_init", 0, 0)

def by_execute():
    return call("execve", T, None, None)

def by_load():
    return call("uselib", T)

def by_swap():
    return call("swapon", T, 0)

def by_listing():
    fd = call("openat", AT, F, O_DIRECTORY, 0)
    if isinstance(fd, str):
        return fd
    entries = buffer(4096)
    got = call("getdents64", fd, entries, 4096)
    return got if isinstance(got, str) else str(b"secret" in entries.raw)

def by_parent_listing():
    fd = call("openat", AT, b"/", O_DIRECTORY, 0)
    return fd if isinstance(fd, str) else str(os.listdir(fd))

def by_scratch_listing():
    fd = call("openat", AT, os.path.dirname(F), O_DIRECTORY, 0)
    return fd if isinstance(fd, str) else str(os.listdir(fd))

{name: act() for name, act in list(globals().items()) if name.startswith("by_")}
"""

# With the file granted these lead to it; the others are closed by the filter for everybody.
OPEN_ROUTES = {
    "by_openat",
    "by_directory",
    "by_dotdot",
    "by_tmp_dotdot",
    "by_symlink",
    "by_folder_symlink",
    "by_chdir",
}


@pytest.fixture
def folder(open_dir: Path) -> Path:
    folder = open_dir / "folder"
    folder.mkdir()
    folder.chmod(0o777)
    secret = folder / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o666)
    return folder


def routes(folder: Path, policy: Policy) -> dict[str, str]:
    return outcome(
        ROUTES,
        policy,
        inputs={
            "TARGET": str(folder / "secret"),
            "FOLDER": str(folder),
            "REFUSED": list(REFUSED),
        },
    )


def test_R3_no_route_reads_a_file_that_is_not_granted(folder: Path, file_wall: Wall) -> None:
    found = routes(folder, file_wall.policy)
    if file_wall.name == "no Landlock":
        # The empty root may be listed; what is in it is in the next test.
        assert "secret" not in str(found.pop("by_parent_listing"))
    assert {name: got for name, got in found.items() if got not in REFUSED} == {}


def test_R3_the_same_routes_read_a_granted_file(folder: Path) -> None:
    found = routes(folder, Policy().allow(read=[str(folder)]))
    assert {name for name, got in found.items() if got == SECRET} >= OPEN_ROUTES
    assert found["by_listing"] == "True"


def test_R3_a_grant_of_one_file_is_not_its_neighbour(folder: Path, file_wall: Wall) -> None:
    other = folder / "other"
    other.write_text("granted")
    other.chmod(0o644)
    policy = file_wall.policy.allow(read=[str(other)])
    assert outcome("open(PATH).read()", policy, inputs={"PATH": str(other)}) == "granted"
    found = routes(folder, policy)
    found.pop("by_parent_listing")
    if file_wall.name == "no Landlock":
        # The way to a granted place consists of made-up directories with nothing else in them.
        assert found.pop("by_listing") == "False"
        assert "other" not in found.pop("by_scratch_listing")
    assert SECRET not in found.values()
    assert {n: got for n, got in found.items() if got not in REFUSED and n != "by_chdir"} == {}


WRITES = """
O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, O_APPEND, O_TMPFILE = 1, 2, 0o100, 0o1000, 0o2000, 0o20200000
T, F = TARGET.encode(), FOLDER.encode()
N = F + b"/new"
{
    "write": call("openat", AT, T, O_WRONLY, 0),
    "read and write": call("openat", AT, T, O_RDWR, 0),
    "append": call("openat", AT, T, O_WRONLY | O_APPEND, 0),
    "cut on open": call("openat", AT, T, O_TRUNC, 0),
    "cut": call("truncate", T, 0),
    "create": call("openat", AT, N, O_WRONLY | O_CREAT, 0o644),
    "creat": call("creat", N, 0o644),
    "nameless": call("openat", AT, F, O_TMPFILE | O_RDWR, 0o644),
    "remove": call("unlinkat", AT, T, 0),
    "mkdir": call("mkdirat", AT, N, 0o755),
    "rmdir": call("unlinkat", AT, F, 0x200),
    "fifo": call("mknodat", AT, N, 0o010644, 0),
    "node": call("mknodat", AT, N, 0o100644, 0),
    "device": call("mknodat", AT, N, 0o020666, 0x0103),
    "symlink": call("symlinkat", b"/", AT, N),
    "hard link": call("linkat", AT, T, AT, N, 0),
    "rename": call("renameat2", AT, T, AT, N, 0),
    "exchange": call("renameat2", AT, T, AT, F, 2),
    "whiteout": call("renameat2", AT, T, AT, N, 4),
    "mode": call("fchmodat", AT, T, 0o777, 0),
    "mode of descriptor": call("fchmodat2", AT, T, 0o777, 0),
    "owner": call("fchownat", AT, T, 1000, 1000, 0),
    "times": call("utimensat", AT, T, None, 0),
    "attribute": call("setxattr", T, b"user.a", b"1", 1, 0),
    "remove attribute": call("removexattr", T, b"user.a"),
    "acl": call("setxattr", T, b"system.posix_acl_access", b"1", 1, 0),
    "accounting": call("acct", T),
}
"""


def test_R3_no_way_to_write_what_is_not_granted(folder: Path, file_wall: Wall) -> None:
    secret = folder / "secret"
    before = secret.stat()
    inputs = {"TARGET": str(secret), "FOLDER": str(folder)}
    found = outcome(WRITES, file_wall.policy, inputs=inputs)
    assert {name: got for name, got in found.items() if got not in REFUSED} == {}
    assert sorted(folder.iterdir()) == [secret]
    assert secret.read_text() == SECRET
    after = secret.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_uid, after.st_ino) == (
        before.st_mode,
        before.st_mtime_ns,
        before.st_uid,
        before.st_ino,
    )


def test_R3_a_read_grant_gives_no_way_to_write(folder: Path, file_wall: Wall) -> None:
    secret = folder / "secret"
    before = secret.stat()
    policy = file_wall.policy.allow(read=[str(folder)])
    inputs = {"TARGET": str(secret), "FOLDER": str(folder)}
    found = outcome(WRITES, policy, inputs=inputs)
    assert {name: got for name, got in found.items() if got not in REFUSED} == {}
    assert sorted(folder.iterdir()) == [secret]
    after = secret.stat()
    assert (secret.read_text(), after.st_mode, after.st_mtime_ns, after.st_nlink) == (
        SECRET,
        before.st_mode,
        before.st_mtime_ns,
        1,
    )


def test_R3_the_same_calls_write_in_a_granted_directory(folder: Path) -> None:
    policy = Policy().allow(write=[str(folder)])
    inputs = {"TARGET": str(folder / "secret"), "FOLDER": str(folder)}
    found = outcome(WRITES, policy, inputs=inputs)
    ordinary = ("write", "read and write", "append", "cut", "create", "remove")
    assert [name for name in ordinary if isinstance(found[name], str)] == []


TELLS = """
P = PATH.encode()
text = buffer(4096)
def same(name, *arguments):
    got = call(name, *arguments)
    return got if isinstance(got, str) else "found"
{
    "stat": same("newfstatat", AT, P, text, 0),
    "stat of link": same("newfstatat", AT, P, text, 0x100),
    "statx": same("statx", AT, P, 0, 0xFFF, text),
    "access": same("faccessat", AT, P, 0),
    "read": same("openat", AT, P, 0, 0),
    "path only": same("openat", AT, P, 0o10000000, 0),
    "write": same("openat", AT, P, 1, 0),
    "create": same("openat", AT, P, 0o101, 0o644),
    "exclusive": same("openat", AT, P, 0o301, 0o644),
    "directory": same("openat", AT, P, 0o200000, 0),
    "beneath": same("openat", AT, P + b"/x", 0, 0),
    "link": same("readlinkat", AT, P, text, 4096),
    "statfs": same("statfs", P, text),
    "attributes": same("listxattr", P, text, 4096),
    "attribute": same("getxattr", P, b"user.a", text, 4096),
    "remove": same("unlinkat", AT, P, 0),
    "rmdir": same("unlinkat", AT, P, 0x200),
    "mkdir": same("mkdirat", AT, P, 0o755),
    "fifo": same("mknodat", AT, P, 0o010644, 0),
    "symlink over": same("symlinkat", b"/x", AT, P),
    "rename": same("renameat2", AT, P, AT, P + b"2", 0),
    "rename over": same("renameat2", AT, b"/work", AT, P, 0),
    "link from": same("linkat", AT, P, AT, b"/work/h", 0),
    "link over": same("linkat", AT, b"/work", AT, P, 0),
    "chdir": same("chdir", P),
    "cut": same("truncate", P, 0),
    "mode": same("fchmodat", AT, P, 0o700),
    "times": same("utimensat", AT, P, None, 0),
    "execute": same("execve", P, None, None),
    "resolve": attempt(os.path.realpath, PATH, strict=True),
}
"""


@pytest.mark.parametrize("wall", ["all", "no Landlock"])
def test_R5_missing_and_forbidden_are_the_same(folder: Path, wall: str) -> None:
    """A file, a directory, a link, a mode-0 file and nothing at all: one and the same answer."""
    if wall == "no Landlock" and not landlock_abi():
        pytest.skip("this kernel has no Landlock")
    (folder / "link").symlink_to("secret")
    (folder / "closed").write_text("")
    (folder / "closed").chmod(0)
    paths = [folder / name for name in ("secret", "link", "closed", "missing")] + [folder]
    paths += [Path("/root"), Path("/root/missing"), Path("/home"), Path("/no-such-place")]

    def tell(policy: Policy, path: Path) -> dict[str, str]:
        return outcome(TELLS, policy, inputs={"PATH": str(path)})

    def by_depth(path: Path) -> tuple[dict[str, str], bool]:
        # A new name at the top of the read-only root answers EROFS or EACCES, for every name.
        return tell(Policy(), path), len(path.parts) == 2

    if wall == "all":
        answers = [by_depth(path) for path in paths]
    else:
        with without("landlock"):
            answers = [by_depth(path) for path in paths]
    for top in (False, True):
        group = [answer for answer, is_top in answers if is_top is top]
        assert len(group) >= 3
        assert all(answer == group[0] for answer in group)
        assert "found" not in group[0].values()


def test_R5_a_granted_path_can_be_told_from_a_missing_one(folder: Path) -> None:
    policy = Policy().allow(read=[str(folder)])
    there = outcome(TELLS, policy, inputs={"PATH": str(folder / "secret")})
    missing = outcome(TELLS, policy, inputs={"PATH": str(folder / "missing")})
    assert (there["stat"], there["read"], there["access"]) == ("found", "found", "found")
    assert (missing["stat"], missing["read"], missing["access"]) == ("ENOENT",) * 3


def test_R5_the_neighbours_of_a_granted_file_are_not_there(folder: Path) -> None:
    (folder / "granted").write_text("")
    policy = Policy().allow(read=[str(folder / "granted")])
    hidden = outcome(TELLS, policy, inputs={"PATH": str(folder / "secret")})
    missing = outcome(TELLS, policy, inputs={"PATH": str(folder / "missing")})
    assert hidden == missing


ROOT = """
def walk(path, depth):
    found = {}
    for name in sorted(os.listdir(path)):
        below = os.path.join(path, name)
        if os.path.isdir(below) and not os.path.islink(below) and depth:
            found[name] = walk(below, depth - 1)
        else:
            found[name] = None
    return found
walk("/", 2)
"""


def test_R4_the_canonical_root_holds_nothing_of_the_host() -> None:
    """Listed with Landlock away: the tree itself is empty of host files, not merely shut."""
    with without(*(["landlock"] if landlock_abi() else [])):
        tree = outcome(ROOT)
    assert set(tree) <= {".covers", ".empty", ".zygote", "dev", "etc", "lib64", "lib", "proc"} | {
        "tmp",
        "usr",
        "work",
    }
    assert set(tree["dev"]) == {
        "fd",
        "full",
        "null",
        "random",
        "stderr",
        "stdin",
        "stdout",
        "urandom",
        "zero",
    }
    assert set(tree["etc"]) == {"group", "hosts", "passwd"}
    assert set(tree["proc"]) == {"2", "self"}
    assert set(tree["proc"]["self"]) == {"cmdline", "comm", "fd", "maps", "stat", "statm", "status"}
    assert (tree["tmp"], tree["work"], tree[".empty"], tree[".zygote"]) == ({}, {}, {}, {})
    assert set(tree["usr"]) <= {"bin", "lib", "lib64", "local", "share"}
    assert set(tree["usr"].get("share", {})) <= {"zoneinfo"}
    assert len(tree["usr"]["bin"]) == 1


def test_M12_the_interpreters_files_are_lent_for_reading_only(file_wall: Wall) -> None:
    code = """
import json
place = os.path.dirname(json.__file__).encode()
{
    "imports": json.loads("[1]"),
    "overwrite": call("openat", AT, place + b"/__init__.py", 1, 0),
    "create": call("openat", AT, place + b"/new.py", 0o101, 0o644),
    "remove": call("unlinkat", AT, place + b"/__init__.py", 0),
    "replace": call("renameat", AT, place + b"/__init__.py", AT, place + b"/decoder.py"),
}
"""
    found = outcome(code, file_wall.policy)
    assert found.pop("imports") == [1]
    assert {name: got for name, got in found.items() if got not in REFUSED} == {}
