"""C2, C3, C5, C9: what the whitelist of C modules refuses is nowhere, and data stays data.

What: ways to a refused module's file, to the covers over it, and from bytes of a guest's own to
instructions, by raw system calls, with each wall taken away in turn.  Because: the attacker has
ctypes, so a refusal by name stops nobody.  Then: not one byte of a refused file is read, no page
can be written and executed, and the same probes reach what is allowed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import belljar
from belljar import Policy, PolicyError
from belljar.errors import SetupFailed
from belljar.plan.root import LIBRARIES, RUNTIME, dynload_inside, stdlib_inside
from belljar.plan.whitelist import RUNTIME as SEVEN
from belljar.policy.whitelist import standing
from belljar.python.interpreter import describe_interpreter

from .conftest import Wall
from .hosts import ORDINARY_ID, run_host
from .native import (
    NUMBERS,
    PRELUDE,
    REFUSED,
    attack,
    landlock_abi,
    no_namespaces,
    outcome,
    outside,
    without,
)

ANSWERS = REFUSED | {"EISDIR", "ENOTEMPTY", "EEXIST", "EBUSY", "ENOMEM", "EFAULT"}
ELF = b"\x7fELF"


# -- files of refused modules -----------------------------------------------------------------

DYNLOAD = dynload_inside(describe_interpreter())

READS = """
import os

def bytes_of(fd):
    '''The first four bytes behind a descriptor, by each call that could tell them.'''
    got, size = {}, 4
    space = buffer(8)
    into = os.open("/work/copy", os.O_RDWR | os.O_CREAT | os.O_TRUNC) if ISOLATED else -1
    out, back = os.pipe()
    got["pread64"] = space.raw[:4] if call("pread64", fd, space, size, 0) == 4 else None
    vector = (_ctypes.c_void_p * 2)(_ctypes.addressof(space), size)
    got["preadv"] = space.raw[:4] if call("preadv", fd, vector, 1, 0, 0) == 4 else None
    at = _ctypes.c_long(0)
    got["sendfile"] = os.read(out, 4) if call("sendfile", back, fd, _ctypes.byref(at), 4) == 4 else None
    got["splice"] = os.read(out, 4) if call("splice", fd, None, back, None, 4, 0) == 4 else None
    if ISOLATED and call("copy_file_range", fd, _ctypes.byref(_ctypes.c_long(0)), into, None, 4, 0) == 4:
        got["copy_file_range"] = os.pread(into, 4, 0)
    for name, prot, flags in (("mmap", 1, 2), ("shared mmap", 1, 1), ("mmap as code", 5, 2)):
        address = call("mmap", 0, 4096, prot, flags, fd, 0)
        got[name] = None if isinstance(address, str) else _ctypes.string_at(address, 4)
    for end in (out, back, *([into] if ISOLATED else [])):
        os.close(end)
    return {name: data for name, data in got.items() if data}

def read(*how):
    fd = call(*how)
    if isinstance(fd, str):
        return fd
    found = bytes_of(fd)
    path = f"/proc/self/fd/{fd}".encode()
    again = call("openat", AT, path, 0, 0)
    if isinstance(again, int):
        found |= {f"reopened, {name}": data for name, data in bytes_of(again).items()}
        os.close(again)
    os.close(fd)
    return found or "nothing"

def routes(directory, name):
    '''Ways to one file of one directory.'''
    path = directory + "/" + name
    up = os.path.dirname(directory)
    yield "path", read("openat", AT, path.encode(), 0, 0)
    yield "by O_PATH", read("openat", AT, path.encode(), os.O_PATH, 0)
    yield "written", read("openat", AT, path.encode(), 2, 0)
    yield "open", read("open", path.encode(), 0, 0)
    yield "openat2", read("openat2", AT, path.encode(), bytes(24), 24)
    yield "open_tree", read("open_tree", AT, path.encode(), 0)
    yield "cloned tree", read("open_tree", AT, path.encode(), 1)
    yield "handle", call("name_to_handle_at", AT, path.encode(), buffer(136), buffer(8), 0)
    yield "of a handle", call("open_by_handle_at", AT, buffer(136), 0)
    yield "watch", call("inotify_add_watch", 0, path.encode(), 0xFFF)
    yield "root", read("openat", AT, b"/proc/self/root" + path.encode(), 0, 0)
    yield "task's root", read("openat", AT, b"/proc/thread-self/root" + path.encode(), 0, 0)
    yield "init's root", read("openat", AT, b"/proc/1/root" + path.encode(), 0, 0)
    yield "cwd", read("openat", AT, b"/proc/self/cwd/.." + path.encode(), 0, 0)
    yield "dots", read("openat", AT, (up + "/../" + os.path.basename(up) + "/./" +
                                      os.path.basename(directory) + "//" + name).encode(), 0, 0)
    for label, place in (("above", up), ("directory", directory)):
        fd = call("openat", AT, place.encode(), os.O_PATH | os.O_DIRECTORY, 0)
        if isinstance(fd, str):
            continue
        rest = os.path.relpath(path, place)
        yield label, read("openat", fd, rest.encode(), 0, 0)
        yield label + ", dots", read("openat", fd, ("../" + os.path.relpath(path, os.path.dirname(place))).encode(), 0, 0)
        yield label + ", fd", read("openat", AT, f"/proc/self/fd/{fd}/{rest}".encode(), 0, 0)
        yield label + ", fd and dots", read("openat", AT, f"/dev/fd/{fd}/../{os.path.basename(place)}/{rest}".encode(), 0, 0)
        if call("fchdir", fd) == 0:
            yield label + ", from there", read("openat", AT, rest.encode(), 0, 0)
            os.chdir("/work" if ISOLATED else "/")
        os.close(fd)
    if not ISOLATED:
        return
    for kind, *how in (("link", "linkat", AT, path.encode(), AT, b"/work/a", 0),
                       ("rename", "renameat", AT, path.encode(), AT, b"/work/a"),
                       ("exchange", "renameat2", AT, path.encode(), AT, b"/work/copy", 2),
                       ("symlink", "symlinkat", path.encode(), AT, b"/work/a")):
        made = call(*how)
        yield kind, read("openat", AT, b"/work/a", 0, 0) if made == 0 else made
        call("unlinkat", AT, b"/work/a", 0)
        call("unlinkat", AT, b"/work/copy", 0)
    call("symlinkat", directory.encode(), AT, b"/work/d")
    yield "symlinked directory", read("openat", AT, b"/work/d/" + name.encode(), 0, 0)
    call("unlinkat", AT, b"/work/d", 0)

{f"{directory}/{name}: {how}": got for directory, name in FILES for how, got in routes(directory, name)}
"""


def refused_files() -> list[str]:
    """Host paths of extension modules that the default whitelist refuses."""
    found = [path for name, path in describe_interpreter().extensions if not standing(name)]
    if not found:
        pytest.skip("this interpreter has no extension module that is refused")
    return found


def allowed_file() -> str:
    for name, path in describe_interpreter().extensions:
        if standing(name) and name not in SEVEN:
            return path
    pytest.skip("this interpreter has no extension modules as files")


def places_inside(path: str) -> list[tuple[str, str]]:
    """Where a standard extension module could be: on the host, and wherever one is inside."""
    directory, name = os.path.split(path)
    stdlib = stdlib_inside(describe_interpreter())
    inside = [f"{stdlib}/lib-dynload", DYNLOAD, RUNTIME, "/.empty", "/.covers", LIBRARIES]
    return [(place, name) for place in (directory, *inside)]


def content(found: Mapping[str, Any]) -> dict[str, Any]:
    """What was not refused."""
    refused = {*ANSWERS, "nothing"}
    return {how: g for how, g in found.items() if not (isinstance(g, str) and g in refused)}


def test_C3_no_route_leads_to_a_refused_module(file_wall: Wall) -> None:
    isolated = file_wall.name != "no root"
    for path in refused_files()[:3]:
        inputs = {"FILES": [list(p) for p in places_inside(path)], "ISOLATED": isolated}
        assert content(outcome(READS, file_wall.policy, inputs=inputs)) == {}


def test_C3_the_same_routes_lead_to_an_allowed_module(file_wall: Wall) -> None:
    """Control: most of these calls read, if there is something to read."""
    isolated = file_wall.name != "no root"
    directory, name = os.path.split(allowed_file())
    place = DYNLOAD if isolated else directory
    inputs = {"FILES": [[place, name]], "ISOLATED": isolated}
    found = content(outcome(READS, file_wall.policy, inputs=inputs))
    read = {
        how.partition(": ")[2]
        for how, got in found.items()
        if isinstance(got, dict) and ELF in got.values()
    }
    assert {"path", "open", "dots", "above", "directory", "directory, from there"} <= read
    ways = found[f"{place}/{name}: path"]
    assert {"pread64", "preadv", "mmap", "shared mmap", "mmap as code"} <= ways.keys()
    assert not {"splice", "sendfile"} & ways.keys()
    if isolated:
        assert {"symlink", "symlinked directory"} <= read
        assert not {"link", "rename", "exchange"} & read


USERS = [pytest.param(None, id="as we are"), pytest.param(ORDINARY_ID, id="ordinary")]

EACH_FILE = """
import belljar, json, os
from belljar.api import machine
from belljar.policy.whitelist import standing
from belljar.python.interpreter import describe_interpreter
machine.explain_refusals = False
files, first = [], None
for name, path in describe_interpreter().extensions:
    directory, file = os.path.split(path)
    places = [directory, *PLACES, PLACES[0].replace("STDLIB", "%s/python%d.%d" % (
        describe_interpreter().platlibdir, *describe_interpreter().version[:2]))]
    if not standing(name):
        files.extend([place, file] for place in places)
    elif first is None and name not in SEVEN:
        first = [[place, file] for place in places]
policy = belljar.Policy().allow(system_info=True, wall_s=60, cpu_s=60)
outcomes = []
for wanted in (files[:60], first):
    r = belljar.run(PRELUDE + CODE, policy, inputs={"NUMBERS": NUMBERS, "FILES": wanted, "ISOLATED": ISOLATED})
    assert r.status == "ok", (r.status, r.limit, r.error)
    outcomes.append({how: repr(got) for how, got in r.value.items() if not isinstance(got, str)})
print(json.dumps(outcomes))
"""


@pytest.mark.parametrize("namespaces", [True, False], ids=["isolated", "degraded"])
@pytest.mark.parametrize("uid", USERS)
def test_C3_no_route_leads_there_on_other_hosts(uid: int | None, namespaces: bool) -> None:
    if not namespaces and landlock_abi() < 3:
        pytest.skip("without Landlock (ABI 3) a machine without namespaces is refused whole")
    if uid is not None and os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    names = {
        "PRELUDE": PRELUDE,
        "NUMBERS": NUMBERS,
        "CODE": READS,
        "SEVEN": SEVEN,
        "ISOLATED": namespaces,
        "PLACES": ["/usr/STDLIB/lib-dynload", DYNLOAD, RUNTIME],
    }
    said = run_host(EACH_FILE, names, uid=uid, namespaces=namespaces).stdout
    refused, allowed = json.loads(said)
    assert refused == {}
    assert any("ELF" in got for got in allowed.values())


EVERYTHING = """
import hashlib, os, stat
seen, unread = set(), 0
for above, directories, files in os.walk("/"):
    if above in ("/proc", "/dev"):
        directories.clear()
        continue
    for name in files:
        try:
            if stat.S_ISREG(os.lstat(above + "/" + name).st_mode):
                with open(above + "/" + name, "rb") as file:
                    seen.add(hashlib.sha256(file.read()).hexdigest())
        except OSError:
            unread += 1
(sorted(seen & set(WANTED)), len(seen))
"""


@pytest.mark.parametrize("modules", [(), SEVEN], ids=["default", "less than the runtime"])
def test_C3_C5_no_copy_of_a_refused_module_is_in_the_whole_tree(modules: tuple[str, ...]) -> None:
    """Looked for by contents, in a guest that Landlock does not hinder from looking."""

    def digest(path: str) -> str:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()

    policy = Policy().allow(wall_s=60, cpu_s=60)
    # _struct and _ctypes are what the prelude needs; the other five are as good.
    modules = tuple(name for name in modules if name not in ("_ctypes", "_struct"))
    if modules:
        policy = policy.block(modules=list(modules))
    refused = set(map(digest, refused_files()))
    refused |= {digest(p) for name, p in describe_interpreter().extensions if name in modules}
    allowed = {digest(allowed_file())}
    with without(*(["landlock"] if landlock_abi() else [])):
        found, files = outcome(EVERYTHING, policy, inputs={"WANTED": sorted(refused | allowed)})
    assert set(found) == allowed
    assert files > 100


RUNTIME_GONE = """
import os
directory = {0!r}
found = []
for above in ("/usr", "/usr/lib", "/usr/lib/belljar", directory):
    try:
        found.append(os.listdir(above))
    except OSError as error:
        found.append(type(error).__name__)
sizes = []
for name in {1!r}:
    try:
        sizes.append(os.stat(directory + "/" + name).st_size)
    except OSError as error:
        sizes.append(type(error).__name__)
(found, sizes)
"""


def test_C5_the_runtimes_modules_are_unmounted_in_guests_that_refuse_them() -> None:
    files = [os.path.basename(p) for name, p in describe_interpreter().extensions if name in SEVEN]
    code = RUNTIME_GONE.format(RUNTIME, files)
    policy = Policy().block(modules=list(SEVEN))
    assert set(belljar.run(code, policy).unwrap()[1]) <= {0, "FileNotFoundError"}
    with without("landlock"):
        found, sizes = belljar.run(code, policy).unwrap()
    assert set(sizes) <= {0, "FileNotFoundError"}
    assert files == [] or sorted(found[-1]) == sorted(files), "the empty mount points are left"


# -- the covers, and mounts ----------------------------------------------------------------------

CHANGES = """
import os
directory = os.path.dirname(__import__("demo").__file__)
hidden = (directory + "/" + NAME).encode()
def state():
    # Not the owners: without the filter the guest can make a namespace in which it is nobody.
    all = [os.lstat(p) for p in (hidden, b"/.empty", b"/")]
    return [(s.st_mode, s.st_ino, s.st_nlink, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in all]
before, found = state(), {}
for path in (hidden, b"/.covers/hide", b"/.covers", b"/.empty", STDLIB.encode() + b"/lib-dynload"):
    label = path.decode()
    found |= {
        f"{label}: read": call("openat", AT, path, 0, 0),
        f"{label}: write": call("openat", AT, path, 1, 0),
        f"{label}: O_PATH, chmod": call("fchmodat2", call("openat", AT, path, os.O_PATH, 0), b"", 0o777, 0x1000),
        f"{label}: chmod": call("chmod", path, 0o777),
        f"{label}: fchmodat": call("fchmodat", AT, path, 0o777),
        f"{label}: chown": call("chown", path, 1000, 1000),
        f"{label}: truncate": call("truncate", path, 4096),
        f"{label}: times": call("utimensat", AT, path, None, 0),
        f"{label}: attribute": call("setxattr", path, b"user.a", b"1", 1, 0),
        f"{label}: unlink": call("unlinkat", AT, path, 0),
        f"{label}: rmdir": call("unlinkat", AT, path, 0x200),
        f"{label}: rename": call("renameat", AT, path, AT, path + b"x"),
        f"{label}: exchange": call("renameat2", AT, path, AT, b"/work", 2),
        f"{label}: hard link": call("linkat", AT, path, AT, b"/work/l", 0),
        f"{label}: in it": call("openat", AT, path + b"/new", 0o102, 0o666),
        f"{label}: directory in it": call("mkdirat", AT, path + b"/new", 0o777),
        f"{label}: unmount": call("umount2", path, 0),
        f"{label}: detach": call("umount2", path, 2 | 8),
        f"{label}: bind": call("mount", path, b"/work", None, 4096, None),
        f"{label}: remount": call("mount", None, path, None, 32 | 4096, None),
        f"{label}: attributes": call("mount_setattr", AT, path, 0, bytes(8) + b"\\x09" + bytes(23), 32),
        f"{label}: tree": call("open_tree", AT, path, 1),
        f"{label}: move": call("move_mount", AT, path, AT, b"/work", 0),
    }
found["root by exchange"] = call("pivot_root", b"/work", b"/work")
found["root"] = call("chroot", b"/work")
found["namespace"] = call("unshare", 0x10020000)
found["enter"] = call("setns", 0, 0)
(found, before == state(), before[0][0] & 0o777)
"""


def environment(place: Path, files: Mapping[str, bytes], unlisted: Mapping[str, bytes]) -> Policy:
    """A grant of the made-up distribution ``demo`` in an environment of its own.

    ``unlisted`` files lie among its own, and no list of files names them.
    """
    base = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    home = place / "environment"
    site = home / "lib" / python / "site-packages"
    info = site / "demo-1.0.dist-info"
    info.mkdir(parents=True)
    (home / "bin").mkdir()
    (home / "bin" / "python").symlink_to(base)
    (home / "pyvenv.cfg").write_text(f"home = {os.path.dirname(base)}\n")
    for name, data in {**files, **unlisted}.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_bytes(data)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: demo\nVersion: 1.0\n")
    names = [*files, f"{info.name}/METADATA", f"{info.name}/RECORD"]
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in names))
    return Policy().allow(python=str(home), packages=["demo"])


def test_C3_the_covers_cannot_be_changed(open_dir: Path, tree_wall: Wall) -> None:
    """They belong to a user that is the guest's own; Landlock, filter or mount say no."""
    code = Path(allowed_file()).read_bytes()
    files = {"demo/__init__.py": b"", "demo/_c.so": code, "demo/_d.so": code}
    policy = environment(open_dir, files, {}).block(modules=["demo._c"])
    inputs = {"NAME": "_c.so", "STDLIB": stdlib_inside(describe_interpreter())}
    found, unchanged, mode = outcome(CHANGES, policy, inputs=inputs)
    if tree_wall.name == "no filter":
        # Alone in a user namespace it is root over nothing: what it tries there has its own test.
        assert found.pop("namespace") in {0, *ANSWERS}
    # To list an empty directory, and the covers, tells nothing.
    listed = {how for how in found if how.endswith(("/.empty: read", "/.covers: read"))}
    listed |= {how for how in found if how.endswith("lib-dynload: read")}
    assert content(found).keys() <= listed, found
    assert unchanged
    assert mode == 0


NAMESPACES = """
import os, ctypes
assert call("unshare", 0x10020000) == 0
def write(name, text):
    fd = os.open("/proc/self/" + name, os.O_WRONLY)
    os.write(fd, text)
directory = os.path.dirname(__import__("demo").__file__)
found = {}
os.makedirs("/work/m")
control = [call("mount", b"none", b"/work/m", b"tmpfs", 0, None), call("umount2", b"/work/m", 2)]
for path in (directory + "/" + NAME, STDLIB + "/lib-dynload", directory, STDLIB, "/", "/usr/lib/belljar/dynload"):
    p = path.encode()
    found |= {
        f"{path}: unmount": call("umount2", p, 0),
        f"{path}: detach": call("umount2", p, 2),
        f"{path}: executable": call("mount_setattr", AT, p, 0, bytes(8) + b"\\x08" + bytes(23), 32),
        f"{path}: writable": call("mount_setattr", AT, p, 0, bytes(8) + b"\\x01" + bytes(23), 32),
        f"{path}: remount": call("mount", None, p, None, 32 | 4096, None),
        f"{path}: move": call("mount", p, b"/work/m", None, 8192, None),
    }
    tree = call("open_tree", AT, p, 1)
    # A copy of one mount without the locked ones over it would show what they cover.
    found[f"{path}: copy"] = tree if isinstance(tree, str) else (
        "EPERM" if path.endswith(("/_c.so", "/lib-dynload", "/dynload")) else "copied")
    bound = call("mount", p, b"/work/m", None, 4096, None)
    found[f"{path}: bind"] = bound if isinstance(bound, str) else (
        "EPERM" if path.endswith(("/lib-dynload", "/dynload")) else "bound")
    if bound == 0:
        call("umount2", b"/work/m", 2)
tree = call("open_tree", AT, b"/", 1 | 0x8000)
if isinstance(tree, int):
    fd = call("openat", tree, (directory + "/" + NAME).encode()[1:], 0, 0)
    found["recursive copy: read"] = fd
    fd = call("openat", tree, (STDLIB + "/lib-dynload/" + FILE).encode()[1:], 0, 0)
    found["recursive copy: read standard"] = fd
(control, found)
"""


def test_C3_covers_hold_against_root_of_another_namespace(open_dir: Path) -> None:
    """No filter, no Landlock: locked mounts are the third wall (mount_namespaces(7))."""
    code = Path(allowed_file()).read_bytes()
    files = {"demo/__init__.py": b"", "demo/_c.so": code, "demo/_d.so": code}
    policy = environment(open_dir, files, {}).block(modules=["demo._c"])
    inputs = {
        "NAME": "_c.so",
        "STDLIB": stdlib_inside(describe_interpreter()),
        "FILE": os.path.basename(refused_files()[0]),
    }
    with without("seccomp", *(["landlock"] if landlock_abi() else [])):
        control, found = outcome(NAMESPACES, policy, inputs=inputs)
    assert control == [0, 0], "the probe has no rights and proves nothing"
    assert content(found) == {}


# -- modules of packages -------------------------------------------------------------------------

PACKAGE = """
import os
directory = os.path.dirname(__import__("demo").__file__)

def shown(name):
    fd = call("openat", AT, (directory + "/" + name).encode(), 0, 0)
    if isinstance(fd, str):
        return fd
    code = call("mmap", 0, 4096, 5, 2, fd, 0)
    return os.read(fd, 4), code if isinstance(code, str) else "mapped"

{name: shown(name) for name in NAMES}
"""
NAMES = ["_c.so", "_d.so", "_late.so", "sub/_e.so", "libown.so.1", "linked.bin", "same.bin"]


def package(place: Path, *, link: bool = True) -> Policy:
    code = Path(allowed_file()).read_bytes()
    listed = dict.fromkeys(("demo/_c.so", "demo/_d.so", "demo/libown.so.1"), code)
    listed["demo/__init__.py"] = b""
    later = {"demo/_late.so": code, "demo/sub/_e.so": code, "demo/linked.bin": code}
    policy = environment(place, listed, later)
    (site,) = place.glob("environment/lib/*/site-packages/demo")
    os.link(site / "_c.so", site / "same.bin")
    if link:
        (site / "_link.so").symlink_to("linked.bin")
    return policy


READ = (ELF, "mapped")


def test_C3_modules_of_a_package_are_there_unless_they_are_blocked(open_dir: Path) -> None:
    found = outcome(PACKAGE, package(open_dir), inputs={"NAMES": NAMES})
    assert found == dict.fromkeys(NAMES, READ)


def test_C3_a_package_without_its_c_modules_holds_no_code(open_dir: Path) -> None:
    """Those that came after the list of files was written are of the package, too."""
    policy = package(open_dir).block(modules=["demo.*"])
    found = outcome(PACKAGE, policy, inputs={"NAMES": NAMES})
    assert found.pop("same.bin") == (ELF, "EPERM"), "a second name can be read; it is no code"
    assert set(found.values()) == {"EACCES"}


def test_C3_one_module_of_a_package_is_blocked_and_the_others_are_not(open_dir: Path) -> None:
    policy = package(open_dir).block(modules=["demo._c", "demo._link"])
    found = outcome(PACKAGE, policy, inputs={"NAMES": NAMES})
    assert found.pop("_c.so") == found.pop("linked.bin") == "EACCES"
    assert found.pop("same.bin") == (ELF, "EPERM")
    assert found == dict.fromkeys(["_d.so", "_late.so", "sub/_e.so", "libown.so.1"], READ)


def test_C3_without_a_root_a_single_module_cannot_be_blocked(open_dir: Path) -> None:
    policy = package(open_dir).block(modules=["demo._late"]).allow(system_info=True)
    with no_namespaces(), pytest.raises(belljar.UnsupportedError, match="hidden one by one"):
        belljar.run("1", policy)


def test_C9_code_that_guests_run_cannot_be_granted_for_writing(open_dir: Path) -> None:
    """Else what a guest wrote by the one name is mapped as code by the other."""
    policy = package(open_dir)
    (site,) = open_dir.glob("environment/lib/*/site-packages")
    stand_in = open_dir / "apart" / "_curses.py"
    stand_in.parent.mkdir()
    stand_in.write_text("")
    policy = policy.allow(stand_ins={"_curses": str(stand_in)})
    (site / "demo" / "cache").mkdir()
    held = [open_dir, site, site / "demo", site / "demo" / "cache", stand_in.parent, stand_in]
    held += [Path(belljar.__file__).parent, Path(describe_interpreter().stdlib) / "json"]
    for place in held:
        with pytest.raises(PolicyError, match="in one tree"):
            belljar.run("1", policy.allow(write={str(place): "/out"}))
    beside = open_dir / "environment" / "data"
    beside.mkdir()
    assert belljar.run("1", policy.allow(write={str(beside): "/out"})).value == 1


# -- executable memory ---------------------------------------------------------------------------

AS_CODE = """
import os, stat
mapped, files = [], 0
for above, directories, names in (found for top in TOPS for found in os.walk(top)):
    if above == "/proc":
        directories.clear()
    for name in names:
        path = above + "/" + name
        try:
            if not stat.S_ISREG(os.stat(path).st_mode) and not path.startswith("/dev/"):
                continue
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            continue
        files += 1
        for flags in (1, 2):
            for prot in (4, 5, 7):
                if not isinstance(call("mmap", 0, 4096, prot, flags, fd, 0), str):
                    mapped.append(path)
        os.close(fd)
(sorted(set(mapped)), files)
"""


@pytest.mark.parametrize("wall", ["landlock", "seccomp"])
def test_C9_only_the_allowed_code_is_mapped_as_code(open_dir: Path, wall: str) -> None:
    """Every file of the tree is tried, in a guest that may list them, and in one that may map."""
    if wall == "landlock" and not landlock_abi():
        pytest.skip("this kernel has no Landlock")
    granted = open_dir / "granted"
    granted.mkdir()
    (granted / "code.so").write_bytes(Path(allowed_file()).read_bytes())
    stand_in = open_dir / "_curses.py"
    stand_in.write_bytes(bytes(4096))
    policy = package(open_dir).block(modules=["demo._c", "demo._link"])
    policy = policy.allow(
        stand_ins={"_curses": str(stand_in)}, read=[str(granted)], system_info=True
    )
    policy = policy.allow(wall_s=60, cpu_s=60)
    # Landlock lets nobody list the whole tree.
    tops = ["/"]
    if wall == "seccomp":
        tops = ["/etc", "/dev", "/work", "/tmp", "/usr/share/zoneinfo", DYNLOAD, str(granted)]
        tops += ["/usr/lib/belljar/stand-ins", stdlib_inside(describe_interpreter())]
        tops += [f"/usr/local/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"]
    with without(wall):
        mapped, files = outcome(AS_CODE, policy, inputs={"TOPS": tops})
    site = f"/usr/local/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages/demo/"
    places = (DYNLOAD + "/", LIBRARIES + "/", site)
    loader = describe_interpreter().loader
    single = {f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"}
    single |= {loader[0]} if loader else set()
    assert [path for path in mapped if not path.startswith(places) and path not in single] == []
    ours = {path.removeprefix(site) for path in mapped if path.startswith(site)}
    assert ours <= {"_d.so", "_late.so", "sub/_e.so", "libown.so.1"}
    assert f"{DYNLOAD}/{os.path.basename(allowed_file())}" in mapped
    assert files > 100
    assert ours


KEPT = """
import os
PATH = next(line.split()[-1] for line in open("/proc/self/maps") if "r-xp" in line and DYNLOAD in line)
fd = os.open(PATH, os.O_RDONLY)
code = call("mmap", 0, 8192, 5, 2, fd, 0)
data = call("mmap", 0, 8192, 3, 0x22, -1, 0)
vector = (_ctypes.c_void_p * 2)
mine, theirs = vector(data, 16), vector(code, 16)
_ctypes.memmove(data, b"\\xc3" * 16, 16)
before = _ctypes.string_at(code, 16)
pid = os.getpid()
grown = call("mremap", code, 4096, 4096, 3, data)
found = {
    "write by process_vm_writev": call("process_vm_writev", pid, mine, 1, theirs, 1, 0),
    "trace itself": call("ptrace", 0, 0, 0, 0),
    "poke": call("ptrace", 4, pid, code, 0),
    "memory file": call("openat", AT, b"/proc/self/mem", 2, 0),
    "memory of a thread": call("openat", AT, b"/proc/thread-self/mem", 2, 0),
    "map files": call("openat", AT, b"/proc/self/map_files", 0, 0),
    "advice of a process": call("process_madvise", 0, mine, 1, 4, 0),
    "collapse": call("madvise", code, 8192, 25),
    "hardware poison": call("madvise", code, 4096, 100),
    "merge": call("madvise", data, 8192, 12),
    "seal": call("mseal", code, 4096, 0),
    "read into code": call("read", os.open("/dev/zero", 0), code, 16),
    "vmsplice": call("vmsplice", 1, mine, 1, 0),
    "move pages": call("move_pages", 0, 0, 0, 0, 0, 0),
    "policy": call("mbind", code, 4096, 0, 0, 0, 0),
    "key": call("pkey_alloc", 0, 0),
    "dump": call("prctl", 4, 1, 0, 0, 0),
    "shared segment": call("shmat", 0, 0, 0o100000),
    "old library": call("uselib", PATH.encode()),
    "execute": call("execve", PATH.encode(), None, None),
    "execute descriptor": call("execveat", fd, b"", None, None, 0x1000),
    "loader": call("execve", b"/lib64/ld-linux-x86-64.so.2", None, None),
    "loader, mapped": call("openat", AT, b"/lib64/ld-linux-x86-64.so.2", 0, 0),
    "binary, mapped": call("openat", AT, b"/usr/bin/" + PYTHON.encode(), 0, 0),
    "opened for writing": call("openat", AT, f"/proc/self/fd/{fd}".encode(), 2, 0),
    "moved code, writable": "EPERM" if isinstance(grown, str) else call("mprotect", grown, 4096, 7),
    "data over code, executable": call("mprotect", call("mremap", data, 8192, 8192, 3, code), 8192, 5),
    "a second mapping": call("mremap", code, 0, 4096, 1),
}
def twice():
    # A shared mapping can be had twice; one of two must not become code.
    with open("/work/f", "wb+") as file:
        file.truncate(4096)
        one = call("mmap", 0, 4096, 3, 1, file.fileno(), 0)
    two = call("mremap", one, 0, 4096, 1)
    return call("mprotect", two, 4096, 5) if isinstance(two, int) else two
found["twice"] = twice()
found
"""


def test_C9_mapped_code_cannot_be_changed() -> None:
    """Pages that are code already, by each call that writes elsewhere than the instructions do."""
    python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    inputs = {"DYNLOAD": DYNLOAD, "PYTHON": python}
    found = outcome(KEPT, inputs=inputs)
    assert content(found) == {}


EXECUTABLE = """
[line.strip() for line in open("/proc/self/maps")
 if "x" in line.split()[1] and ("w" in line.split()[1] or "s" in line.split()[1] or line.split()[4] == "0")
 and line.split()[-1] not in ("[vdso]", "[vsyscall]")]
"""

# What a compiler at run time does; where the library is one, what an old library asks for.
JIT = b"import mmap\npage = mmap.mmap(-1, 4096, prot=7)\n"
JIT_SHARED = b"""
import mmap, os
fd = os.memfd_create("code")
os.truncate(fd, 4096)
code = mmap.mmap(fd, 4096, flags=mmap.MAP_PRIVATE, prot=5)
page = mmap.mmap(fd, 4096)
"""
FINISHED = b"""
import mmap, ctypes
page = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), 4096, 5) == 0
"""
USE = """
lines = [line.split()[0] for line in open("/proc/self/maps") if "rwx" in line]
address = int(lines[0].partition("-")[0], 16)
_ctypes.memmove(address, CODE, len(CODE))
_ctypes.CFUNCTYPE(_ctypes.c_int)(address)()
"""
RETURNS_42 = {"x86_64": b"\xb8\x2a\0\0\0\xc3", "aarch64": b"\x40\x05\x80\x52\xc0\x03\x5f\xd6"}


@pytest.mark.parametrize("module", [JIT, JIT_SHARED], ids=["both", "two mappings"])
def test_C9_a_preload_leaves_no_code_that_can_be_written(open_dir: Path, module: bytes) -> None:
    policy = environment(open_dir, {"demo/__init__.py": module}, {})
    with pytest.raises(SetupFailed, match=r"write and execute|shared memory"):
        belljar.run("1", policy, preload=["demo"])


def test_C9_what_such_a_preload_would_be_good_for(open_dir: Path) -> None:
    """Control: with ``jit`` it is allowed, and the inherited page runs the guest's bytes."""
    policy = environment(open_dir, {"demo/__init__.py": JIT}, {}).allow(jit=True)
    code = RETURNS_42.get(os.uname().machine)
    if code is None:
        pytest.skip("no instructions for this processor at hand")
    assert outcome(USE, policy, preload=["demo"], inputs={"CODE": code}) == 42
    # The next guest of a policy without it is not made of the same process.
    assert outcome(EXECUTABLE) == []


def test_C9_finished_code_of_a_preload_stays_unwritable(open_dir: Path) -> None:
    policy = environment(open_dir, {"demo/__init__.py": FINISHED}, {})
    code = """
line = LINES[0]
address = int(line.partition("-")[0], 16)
[call("mprotect", address, 4096, 7), call("mprotect", address, 4096, 3), call("mprotect", address, 4096, 5)]
"""
    (line,) = outcome(EXECUTABLE, policy, preload=["demo"])
    assert "r-xp" in line
    got = outcome("LINES = " + EXECUTABLE.strip() + code, policy, preload=["demo"])
    assert got == ["EPERM", 0, "EPERM"]


def test_C9_a_library_that_wants_an_executable_stack(open_dir: Path) -> None:
    """In a guest it does not load; in the zygote it would make every guest's stack executable."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make such a library with")
    library = open_dir / "stack.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-z", "execstack", "-x", "c", "-", "-o", str(library)],
        input=b"int f(void) { return 42; }",
        check=True,
        capture_output=True,
    )
    load = b"import ctypes, os\nlibrary = ctypes.CDLL(os.path.dirname(__file__) + '/stack.so')\n"
    files = {"demo/__init__.py": load, "demo/stack.so": library.read_bytes()}
    policy = environment(open_dir, files, {})
    result = belljar.run("import demo", policy)
    assert result.status == "raised"
    assert result.error is not None
    assert result.error.type == "OSError"
    with pytest.raises(SetupFailed, match=r"write and execute|executable stack"):
        belljar.run("1", policy, preload=["demo"])


def test_C9_guests_begin_without_code_of_data() -> None:
    assert outcome(EXECUTABLE) == []


@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "degraded"])
def test_C5_a_preload_brings_no_refused_module_along(open_dir: Path, isolated: bool) -> None:
    """Without mounts to hide the file, the zygote refuses it by name as a guest would."""
    path = refused_files()[0]
    name = os.path.basename(path).partition(".")[0]
    module = f"try:\n    import {name} as c\nexcept ImportError:\n    c = None\n".encode()
    policy = environment(open_dir, {"demo/__init__.py": module}, {}).allow(system_info=True)
    code = f"import demo, sys\n(demo.c is None, {name!r} in sys.modules)"
    maps = "any(NAME in line for line in open('/proc/self/maps'))"

    def check() -> None:
        assert outcome(code, policy, preload=["demo"]) == (True, False)
        lent = policy.allow(modules=[name])
        result = attack(code, lent, preload=["demo"])
        assert result.value in ((False, True), (True, False)), result.error

    if isolated:
        check()
        inputs = {"NAME": os.path.basename(path)}
        assert outcome(maps, policy, preload=["demo"], inputs=inputs) is False
    else:
        with no_namespaces():
            check()


# -- bytecode ------------------------------------------------------------------------------------

BYTECODE = """
import importlib, importlib.util, os, pkgutil, py_compile, runpy, shutil, sys, types, warnings, zipfile

tag = sys.implementation.cache_tag
os.chdir("/work")
os.makedirs("made")
with open("made/evil.py", "w") as file:
    file.write("value = 'bytecode'")
evil = py_compile.compile("made/evil.py", cfile="/work/made/evil.pyc",
                          invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)

def fresh(place):
    os.makedirs(place + "/__pycache__", exist_ok=True)
    with open(place + "/evil.py", "w") as file:
        file.write("value = 'source'")
    shutil.copy(evil, f"{place}/__pycache__/evil.{tag}.pyc")
    shutil.copy(evil, place + "/evil.pyc")
    return place

def imported(*path, name="evil"):
    for known in [n for n in sys.modules if n.partition(".")[0] in ("evil", "above")]:
        del sys.modules[known]
    sys.path_importer_cache.clear()
    before, sys.path[:0] = sys.path[:], path
    try:
        importlib.import_module(name)
        return sys.modules[name].value
    except Exception as error:
        return type(error).__name__
    finally:
        sys.path[:] = before

def by_path(path):
    spec = importlib.util.spec_from_file_location("evil", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError:
        return "ImportError"
    return module.value

found = {}
std = os.path.dirname(os.__file__)
for place in PLACES:
    directory = fresh(place + "/d")
    os.makedirs(place + "/only", exist_ok=True)
    shutil.copy(evil, place + "/only/evil.pyc")
    os.makedirs(place + "/p/above/evil", exist_ok=True)
    shutil.copy(evil, place + "/p/above/evil/__init__.pyc")
    with zipfile.ZipFile(place + "/z.zip", "w") as archive:
        archive.write(evil, "evil.pyc")
    with zipfile.ZipFile(place + "/both.zip", "w") as archive:
        archive.write(evil, "evil.pyc")
        archive.writestr("evil.py", "value = 'source'")
    os.symlink(std, place + "/std")
    os.symlink(directory, place + "/link")
    os.chdir(directory)
    up = "/.." * std.count("/")
    found |= {f"{place}: {how}": got for how, got in {
        "plain": imported(directory),
        "relative": imported("../d"),
        "here": imported(""),
        "dot": imported("."),
        "slash": imported("/" + directory + "//"),
        "under the library": imported(std + up + directory),
        "under the library, slashes": imported(std + "/" + up.replace("/", "//") + directory),
        "under a link": imported(place + "/std" + up + directory),
        "by a link": imported(place + "/link"),
        "name of the library first": imported(std + ":" + directory, directory),
        "sourceless": imported(place + "/only"),
        "package": imported(place + "/p", name="above.evil"),
        "zip": imported(place + "/z.zip"),
        "zip with both": imported(place + "/both.zip"),
        "file by its path": by_path(directory + "/evil.py"),
        "bytecode by its path": by_path(directory + "/evil.pyc"),
        "file under the library": by_path(std + up + directory + "/evil.py"),
        "runpy": runpy.run_path(directory + "/evil.py")["value"],
        "pkgutil": type(pkgutil.get_importer(place + "/only").find_spec("evil")).__name__,
    }.items()}
    parent = types.ModuleType("above")
    parent.__path__ = [directory]
    sys.modules["above"] = parent
    found[place + ": search path of a package"] = importlib.import_module("above.evil").value
    del sys.modules["above.evil"], sys.modules["above"]
    os.chdir("/work")
found
"""


@pytest.mark.parametrize("layer", [True, False])
def test_C2_bytecode_of_guests_is_loaded_by_no_import(
    open_dir: Path, layer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from belljar.api import machine

    monkeypatch.setattr(machine, "explain_refusals", layer)
    policy = Policy().allow(write=[str(open_dir)])
    inputs = {"PLACES": ["/work/w", str(open_dir)]}
    found = outcome("import os\nos.makedirs('/work/w')\n" + BYTECODE, policy, inputs=inputs)
    assert {how: got for how, got in found.items() if got == "bytecode"} == {}
    read = {how.partition(": ")[2] for how, got in found.items() if got == "source"}
    assert {"plain", "relative", "here", "by a link", "zip with both", "file by its path"} <= read


def test_C2_outside_the_same_bytecode_is_loaded(tmp_path: Path) -> None:
    """Control: the probes load bytecode where nothing keeps them from it."""
    code = BYTECODE.replace('"/work', f'"{tmp_path}')
    found = outside(code, {"PLACES": [str(tmp_path)]})
    loaded = {how.partition(": ")[2] for how, got in found.items() if got == "bytecode"}
    assert {"plain", "sourceless", "zip", "file by its path", "bytecode by its path"} <= loaded


def test_C2_the_standard_library_is_loaded_from_bytecode_still() -> None:
    code = "import fractions\nfractions.__cached__, type(fractions.__loader__).__name__"
    assert belljar.run(code).unwrap()[1] == "SourceFileLoader"
    broken = """
open("bad.py", "w").write("x = (")
import sys, traceback
sys.path.insert(0, "/work")
try:
    import bad
except SyntaxError:
    shown = traceback.format_exc()
"belljar" in shown
"""
    assert belljar.run(broken).value is False


# -- stand-ins, other interpreters, sockets ------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "..", "a..b", ".a", "", "a b", "a\0", "-x", "x" * 201]
)
def test_C3_a_stand_in_is_for_a_module_and_no_path(name: str) -> None:
    with pytest.raises(PolicyError):
        Policy().allow(stand_ins={name: "/etc/passwd"})


def test_C3_a_stand_in_that_becomes_a_link_shows_nothing(
    open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody exchanges the file between the check and the mount."""
    from belljar.api import machine

    secret = open_dir / "secret"
    secret.write_text("value = 'canary'")
    file = open_dir / "_curses.py"
    file.write_text("value = 'stands in'")
    policy = Policy().allow(stand_ins={"_curses": str(file)})
    assert belljar.run("import _curses\n_curses.value", policy).value == "stands in"
    machine.close()
    original = machine._find_stand_ins

    def exchanged(policy: Policy) -> tuple[tuple[str, str], ...]:
        found = original(policy)
        file.unlink()
        file.symlink_to(secret)
        return found

    monkeypatch.setattr(machine, "_find_stand_ins", exchanged)
    machine._known.prepared.clear()
    # Where the failure makes the host find out anew what it can do, the check comes again.
    with pytest.raises((SetupFailed, PolicyError)):
        belljar.run("import _curses\n_curses.value", policy)


def test_R3_C3_a_stand_in_that_is_a_link_is_refused(open_dir: Path) -> None:
    """A guest that may write beside it would choose which file of the host the next one reads."""
    (open_dir / "secret").write_text("value = 'canary'")
    (open_dir / "_curses.py").symlink_to("secret")
    policy = Policy().allow(stand_ins={"_curses": str(open_dir / "_curses.py")})
    with pytest.raises(PolicyError, match="symbolic link"):
        belljar.run("import _curses\n_curses.value", policy)
    policy = Policy().allow(stand_ins={"_curses": str(open_dir / "secret")})
    assert belljar.run("import _curses\n_curses.value", policy).value == "canary"


LIES: dict[str, Any] = {
    "executable": ["/a\0b", "/\ud800", "/", 7],
    "os_file": ["/a\0/os.py", "os.py", "/etc/passwd"],
    "prefix": ["/\ud800", "\0"],
    "exec_prefix": ["/\ud800"],
    "platlibdir": ["../../var/tmp", "", "..", "a\0"],
    "site_dirs": [["/a\0"], 7, None],
    "builtins": [None, 7],
    "version": [[3, 1e400, 1], ["9" * 5000, 1, 1], {}, [3], None],
}


@pytest.mark.parametrize("key", LIES)
def test_C3_what_another_interpreter_says_is_checked(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a program of the operator's choice; its answer still is text from outside."""
    from belljar.python import interpreter

    base = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    truth = {
        "implementation": "cpython",
        "version": list(sys.version_info[:3]),
        "executable": base,
        "cache_tag": sys.implementation.cache_tag,
        "prefix": sys.base_prefix,
        "exec_prefix": sys.base_exec_prefix,
        "platlibdir": sys.platlibdir,
        "os_file": os.__file__,
        "builtins": list(sys.builtin_module_names),
        "site_dirs": [],
    }
    said: list[dict[str, Any]] = [truth]

    def answer(argv: list[str]) -> tuple[bytes, bytes]:
        return json.dumps(said[0]).encode(), b""

    monkeypatch.setattr(interpreter, "_run", answer)
    assert interpreter._describe("x", interpreter._ask("x")).executable == base
    for lie in LIES[key]:
        said[0] = {**truth, key: lie}
        with pytest.raises(PolicyError):
            interpreter._describe("x", interpreter._ask("x"))


SOCKETS = """
import os, socket
made = {kind: call("socket", 1, kind, 0) for kind in (1, 5)}
found = {f"kind {kind}": call("socket", 1, kind, 0) for kind in (2, 3, 4, 6, 10, 1 | 0x100, 5 | 0x1000)}
found["protocol"] = call("socket", 1, 1, 17)
abstract, named = b"\\1\\0\\0belljar", b"\\1\\0/work/s\\0"
for kind, fd in made.items():
    message = (_ctypes.c_void_p * 7)(_ctypes.cast(_ctypes.c_char_p(abstract), _ctypes.c_void_p), 10,
        _ctypes.cast((_ctypes.c_void_p * 2)(_ctypes.cast(_ctypes.c_char_p(b"x"), _ctypes.c_void_p), 1), _ctypes.c_void_p), 1, 0, 0, 0)
    for label, address in (("abstract", abstract), ("named", named), ("autobind", b"\\1\\0"), (TARGET, b"\\1\\0" + TARGET.encode() + b"\\0")):
        for name in ("bind", "connect"):
            found[f"{kind} {name} {label}"] = call(name, fd, address, len(address))
        found[f"{kind} sendto {label}"] = call("sendto", fd, b"x", 1, 0x4000, address, len(address))
    found |= {
        f"{kind} sendmsg": call("sendmsg", fd, message, 0x4000),
        f"{kind} sendmmsg": call("sendmmsg", fd, buffer(64), 1, 0x4000),
        f"{kind} send": call("sendto", fd, b"x", 1, 0x4000, 0, 0),
        f"{kind} receive": call("recvfrom", fd, buffer(8), 8, 0x40, 0, 0),
        f"{kind} receive many": call("recvmmsg", fd, buffer(64), 1, 0x40, 0),
        f"{kind} listen": call("listen", fd, 1),
        f"{kind} accept": call("accept4", fd, 0, 0, 0),
        f"{kind} file": call("ioctl", fd, 0x89E0, 0),
        f"{kind} size": call("setsockopt", fd, 1, 7, b"\\0\\0\\0\\1", 4),
        f"{kind} size by force": call("setsockopt", fd, 1, 32, b"\\0\\0\\0\\1", 4),
        f"{kind} filter": call("setsockopt", fd, 1, 26, buffer(16), 16),
        f"{kind} credentials": call("setsockopt", fd, 1, 16, b"\\1\\0\\0\\0", 4),
        f"{kind} peer": call("getsockopt", fd, 1, 17, buffer(12), b"\\x0c\\0\\0\\0"),
        f"{kind} peer's pidfd": call("getsockopt", fd, 1, 77, buffer(4), b"\\4\\0\\0\\0"),
        f"{kind} urgent": call("sendto", fd, b"x", 1, 0x4001, 0, 0),
    }
    for request in (0x8901, 0x8902, 0x8904, 0x8905, 0x8910, 0x8912, 0x8913, 0x8927, 0x8933, 0x8942, 0x8946, 0x89F0, 0x5411):
        found[f"{kind} ioctl {request:#x}"] = call("ioctl", fd, request, buffer(64))
(sorted(made), all(isinstance(fd, int) for fd in made.values()), found)
"""


@pytest.mark.parametrize("call_wall", ["all", "no root"], indirect=True)
def test_R10_C9_an_unconnected_socket_leads_nowhere(call_wall: Wall, open_dir: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        target = str(open_dir / "service")
        server.bind(target)
        os.chmod(target, 0o777)
        server.listen()
        server.setblocking(False)
        _, made, found = outcome(SOCKETS, call_wall.policy, inputs={"TARGET": target})
        with pytest.raises(BlockingIOError):
            server.accept()
    refused = ANSWERS | {"ENOTCONN", "ENOTSUP", "EPIPE", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT"}
    assert made
    assert {how: got for how, got in found.items() if got not in refused} == {}


IN_FLIGHT = """
import array, socket
one, other = socket.socketpair()
fds = array.array("i", [0] * 253)
keep, sent = [], 0
for _ in range(1000):
    try:
        one.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)], socket.MSG_DONTWAIT)
        sent += 253
    except OSError as error:
        why = _errno.errorcode[error.errno]
        break
(sent, why)
"""


def test_R2_descriptors_in_flight_are_bounded_by_open_files() -> None:
    """The kernel counts them per user, with the sender's own RLIMIT_NOFILE and one message more."""
    sent, why = outcome(IN_FLIGHT, Policy().limit(open_files=64))
    assert why == "ETOOMANYREFS"
    assert sent <= 64 + 253
