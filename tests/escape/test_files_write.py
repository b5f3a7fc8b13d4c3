"""R3, R4: a write grant is a grant on one tree, whatever the guest builds in it.

What: links, renames, ``..``, descriptors and races that start inside a granted directory.
Because: in there the guest may make any name it likes, and every name is a path for the
next call.  Then: nothing outside is read, changed, replaced or taken, and the host finds
nothing in the directory that would harm it (set-id files, devices, sockets).
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

import belljar
from belljar import Policy

from .conftest import Wall
from .native import REFUSED, attack, outcome

SECRET = "canary beside the grant"


class Ground:
    """A granted directory, and one beside it that everybody but the guest may use."""

    def __init__(self, base: Path) -> None:
        self.granted = base / "granted"
        self.beside = base / "beside"
        for path in (self.granted, self.beside):
            path.mkdir()
            path.chmod(0o777)
        self.secret = self.beside / "secret"
        self.secret.write_text(SECRET)
        self.secret.chmod(0o666)
        self.before = self.state()

    def state(self) -> tuple[object, ...]:
        status = self.secret.lstat()
        return (
            sorted(p.name for p in self.beside.iterdir()),
            self.secret.read_text(),
            status.st_mode,
            status.st_ino,
            status.st_nlink,
            status.st_mtime_ns,
        )

    @property
    def inputs(self) -> dict[str, str]:
        return {
            "GRANTED": str(self.granted),
            "BESIDE": str(self.beside),
            "SECRET": str(self.secret),
        }


@pytest.fixture
def ground(open_dir: Path) -> Ground:
    return Ground(open_dir)


ORDINARY = """
import shutil, tempfile
os.chdir(GRANTED)
with open("a", "w") as file: file.write("one")
with open("a", "a") as file: file.write(" two")
os.rename("a", "b")
os.link("b", "c")
os.symlink("b", "d")
os.makedirs("deep/er")
os.rename("c", "deep/er/c")
with tempfile.NamedTemporaryFile(dir=".") as file: file.write(b"x")
os.truncate("deep/er/c", 3)
shutil.copytree("deep", "copy")
shutil.rmtree("deep")
sorted(os.listdir(".")), open("d").read(), open("copy/er/c").read()
"""


def test_R4_ordinary_work_in_a_granted_directory(ground: Ground, tree_wall: Wall) -> None:
    policy = tree_wall.policy.allow(write=[str(ground.granted)])
    names, b, c = outcome(ORDINARY, policy, inputs=ground.inputs)
    assert (names, b, c) == (["b", "copy", "d"], "one", "one")
    assert (ground.granted / "copy/er/c").read_text() == "one"


def test_R4_new_files_belong_to_the_hosts_user(ground: Ground) -> None:
    """With the kernel's identity maps the guest's own number appears nowhere on the disk."""
    policy = Policy().allow(write=[str(ground.granted)])
    code = "open(GRANTED + '/new', 'w').close(); os.stat(GRANTED + '/new').st_uid"
    seen = outcome(code, policy, inputs=ground.inputs)
    made = (ground.granted / "new").stat()
    assert made.st_mode & 0o7777 == 0o644
    if made.st_uid == os.geteuid():
        assert seen == 1000
    else:
        pytest.skip("the file system of /var/tmp does not map owners")


WAYS_OUT = """
os.chdir(GRANTED)
G, B, S = GRANTED.encode(), BESIDE.encode(), SECRET.encode()

def contents(fd):
    if isinstance(fd, str):
        return fd
    text = buffer(64)
    got = call("read", fd, text, 64)
    return got if isinstance(got, str) else text.raw[:got].decode()

def two(first, second):
    return first if isinstance(first, str) else second()

call("symlinkat", S, AT, b"link")
call("symlinkat", B, AT, b"links")
call("symlinkat", b"../beside/secret", AT, b"relative")
call("symlinkat", b"links/secret", AT, b"chained")
call("symlinkat", b"/proc/self/cwd/../beside/secret", AT, b"magic")
call("symlinkat", b"/proc/self/root" + S, AT, b"rooted")
os.mkdir("sub")
sub = os.open("sub", os.O_RDONLY)
here = os.open(".", os.O_RDONLY)
with open("own", "w") as file: file.write("own")

{
    "link": contents(call("openat", AT, b"link", 0, 0)),
    "link for writing": call("openat", AT, b"link", 2, 0),
    "link cut": call("truncate", b"link", 0),
    "link appended": call("openat", AT, b"link", 0o2001, 0),
    "linked directory": contents(call("openat", AT, b"links/secret", 0, 0)),
    "create through it": call("openat", AT, b"links/new", 0o101, 0o666),
    "mkdir through it": call("mkdirat", AT, b"links/new", 0o777),
    "remove through it": call("unlinkat", AT, b"links/secret", 0),
    "relative": contents(call("openat", AT, b"relative", 0, 0)),
    "chained": contents(call("openat", AT, b"chained", 0, 0)),
    "magic": contents(call("openat", AT, b"magic", 0, 0)),
    "rooted": contents(call("openat", AT, b"rooted", 0, 0)),
    "dotdot": contents(call("openat", AT, b"../beside/secret", 0, 0)),
    "dotdot of descriptor": contents(call("openat", here, b"../beside/secret", 0, 0)),
    "dotdot twice": contents(call("openat", sub, b"../../beside/secret", 0, 0)),
    "rename out": call("renameat", AT, b"own", AT, b"../beside/own"),
    "rename out by link": call("renameat", AT, b"own", AT, b"links/own"),
    "rename over": call("renameat", AT, b"own", AT, S),
    "rename in": call("renameat", AT, S, AT, b"mine"),
    "exchange": call("renameat2", AT, b"own", AT, S, 2),
    "exchange directories": call("renameat2", AT, b"sub", AT, B, 2),
    "rename itself": call("renameat", AT, G, AT, G + b"2"),
    "move the directory": call("renameat", AT, b"sub", AT, b"../sub"),
    "hard link in": call("linkat", AT, S, AT, b"hard", 0),
    "hard link in, following": call("linkat", AT, b"link", AT, b"hard", 0x400),
    "hard link out": call("linkat", AT, b"own", AT, b"../beside/own", 0),
    "nameless file out": two(
        nameless := call("openat", AT, b".", 0o20200002, 0o600),
        lambda: call("linkat", AT, b"/proc/self/fd/%d" % nameless, AT, B + b"/new", 0x400),
    ),
    "remove itself": call("unlinkat", AT, G, 0x200),
    "listing beside": attempt(os.listdir, ".."),
    "mode of a linked file": call("fchmodat", AT, b"link", 0o777),
    "times of a linked file": call("utimensat", AT, b"link", None, 0),
}
"""


def test_R4_nothing_built_inside_leads_outside(ground: Ground, tree_wall: Wall) -> None:
    policy = tree_wall.policy.allow(write=[str(ground.granted)])
    found = outcome(WAYS_OUT, policy, inputs=ground.inputs)
    if tree_wall.name == "no Landlock":
        # The made-up directory around the granted one shows that one name, and may be read.
        assert found.pop("listing beside") == ["granted"]
    left = {n: got for n, got in found.items() if got not in REFUSED | {"EBUSY", "EXDEV"}}
    assert left == {}
    assert ground.state() == ground.before
    assert ground.granted.is_dir()


@pytest.mark.parametrize("inside", ["/tmp/data", "/work/data", "/work/a/b/data", "/elsewhere"])
def test_R4_an_alias_leads_no_further_than_the_place(
    ground: Ground, tree_wall: Wall, inside: str
) -> None:
    policy = Policy().allow(write={str(ground.granted): inside})
    code = """
with open(INSIDE + "/new", "w") as file: file.write("made inside")
os.symlink(SECRET, INSIDE + "/link")
os.symlink("../beside/secret", INSIDE + "/relative")
I = INSIDE.encode()
{
    "link": call("openat", AT, I + b"/link", 0, 0),
    "relative": call("openat", AT, I + b"/relative", 0, 0),
    "dotdot": call("openat", AT, I + b"/../beside/secret", 0, 0),
    "host path": call("openat", AT, SECRET.encode(), 0, 0),
    "host path of the place": call("openat", AT, GRANTED.encode(), 0, 0),
    "take its place": call("renameat", AT, I + b"/new", AT, I),
    "remove the place": call("unlinkat", AT, I, 0x200),
}
"""
    found = outcome(code, policy, inputs={**ground.inputs, "INSIDE": inside})
    assert {
        n: got for n, got in found.items() if got not in REFUSED | {"EBUSY", "EXDEV", "EISDIR"}
    } == {}
    assert (ground.granted / "new").read_text() == "made inside"
    assert ground.state() == ground.before


def test_R4_a_read_grant_around_a_write_grant_stays_one(open_dir: Path, tree_wall: Wall) -> None:
    """A file that may only be read must not become writable by a second name or a move."""
    inner = open_dir / "inner"
    inner.mkdir()
    inner.chmod(0o777)
    fixed = open_dir / "fixed"
    fixed.write_text("fixed")
    fixed.chmod(0o666)
    policy = tree_wall.policy.allow(read=[str(open_dir)], write=[str(inner)])
    code = """
os.chdir(OUTER)
os.symlink("../fixed", "inner/link")
os.mkdir("inner/sub")
with open("inner/own", "w") as file: file.write("own")
{
    "hard link": call("linkat", AT, b"fixed", AT, b"inner/fixed", 0),
    "rename": call("renameat", AT, b"fixed", AT, b"inner/fixed"),
    "exchange": call("renameat2", AT, b"fixed", AT, b"inner/own", 2),
    "through a link": call("openat", AT, b"inner/link", 1, 0),
    "dotdot": call("openat", AT, b"inner/../fixed", 1, 0),
    "own file out": call("renameat", AT, b"inner/own", AT, b"own"),
    "own directory out": call("renameat", AT, b"inner/sub", AT, b"sub"),
    "cut": call("truncate", b"inner/link", 0),
    "read": open("inner/link").read() and None,
}
"""
    found = outcome(code, policy, inputs={"OUTER": str(open_dir)})
    assert found.pop("read") is None
    assert {name: got for name, got in found.items() if got not in REFUSED} == {}
    assert (fixed.read_text(), fixed.stat().st_nlink) == ("fixed", 1)
    assert sorted(p.name for p in inner.iterdir()) == ["link", "own", "sub"]


def test_R3_a_grant_on_one_file_is_not_one_on_its_directory(
    ground: Ground, tree_wall: Wall
) -> None:
    file = ground.granted / "file"
    file.write_text("old")
    file.chmod(0o666)
    policy = tree_wall.policy.allow(write=[str(file)])
    code = """
with open(FILE, "a") as file: file.write(" and new")
P = FILE.encode()
found = {
    "replace": call("renameat", AT, b"/work/other", AT, P),
    "remove": call("unlinkat", AT, P, 0),
    "move": call("renameat", AT, P, AT, P + b"2"),
    "second name": call("linkat", AT, P, AT, P + b"2", 0),
    "neighbour": call("openat", AT, P + b"2", 0o101, 0o666),
}
(open(FILE).read(), found)
"""
    text, found = outcome(code, policy, inputs={"FILE": str(file)})
    assert text == "old and new" == file.read_text()
    assert {n: got for n, got in found.items() if got not in REFUSED | {"EBUSY"}} == {}
    assert os.listdir(ground.granted) == ["file"]


def test_R4_a_link_of_the_hosts_inside_a_granted_place_is_not_followed_out(
    ground: Ground, tree_wall: Wall
) -> None:
    (ground.granted / "to-secret").symlink_to(ground.secret)
    (ground.granted / "to-folder").symlink_to("../beside")
    policy = tree_wall.policy.allow(write=[str(ground.granted)])
    code = """
os.chdir(GRANTED)
[call("openat", AT, b"to-secret", 0, 0), call("openat", AT, b"to-folder/secret", 2, 0)]
"""
    found = outcome(code, policy, inputs=ground.inputs)
    assert all(got in REFUSED for got in found)


RACE = """
import threading, time
os.chdir(GRANTED)
os.mkdir("real")
with open("real/secret", "w") as file: file.write("own")
os.symlink(BESIDE, "link")
os.rename("real", "door")
seen, wrote, stop = set(), [], time.monotonic() + SECONDS

def swap():
    while time.monotonic() < stop:
        call("renameat2", AT, b"door", AT, b"link", 2)

def enter():
    text = buffer(64)
    while time.monotonic() < stop:
        fd = call("openat", AT, b"door/secret", 2, 0)
        if isinstance(fd, int):
            got = call("pread64", fd, text, 64, 0)
            seen.add(text.raw[:got].decode() if isinstance(got, int) else got)
            call("close", fd)
        fd = call("openat", AT, b"door/new", 0o101, 0o666)
        if isinstance(fd, int):
            call("close", fd)
        call("openat", AT, b"door/../../beside/secret", 0, 0)
        call("truncate", b"door/secret", 2)

threads = [threading.Thread(target=swap)] + [threading.Thread(target=enter) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
sorted(seen)
"""


def test_R4_no_race_leads_outside(ground: Ground, tree_wall: Wall) -> None:
    policy = tree_wall.policy.allow(write=[str(ground.granted)])
    found = outcome(RACE, policy, inputs={**ground.inputs, "SECONDS": 0.4})
    assert set(found) <= {"own", "ow"}
    assert "ow" in found or "own" in found, "the race never hit the guest's own file"
    assert ground.state() == ground.before


def test_R4_a_directory_moved_by_the_host_takes_no_guest_along(ground: Ground) -> None:
    """A working directory that leaves the granted tree while the guest sits in it."""
    inner = ground.granted / "inner"
    inner.mkdir()
    inner.chmod(0o777)
    code = """
import time
os.chdir(GRANTED + "/inner")
held = os.open(".", os.O_RDONLY)
print("here", flush=True)
while os.path.exists(GRANTED + "/inner"):
    time.sleep(0.01)
# Now ".." is the directory beside, and the file there is world-readable.
[call("openat", AT, b"../secret", 0, 0), call("openat", held, b"../secret", 0, 0),
 call("openat", AT, b"new", 0o101, 0o666), call("openat", held, b"..", 0, 0)]
"""

    def move(stream: str, data: bytes) -> None:
        if inner.exists():
            inner.rename(ground.beside / "moved")

    policy = Policy().allow(write=[str(ground.granted)])
    found = outcome(code, policy, inputs=ground.inputs, on_output=move)
    assert all(got in REFUSED for got in found[:2])
    assert ground.secret.read_text() == SECRET


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_R4_a_place_that_turns_into_a_link_is_refused(ground: Ground, kind: str) -> None:
    """Between two runs of one policy the place is replaced by a link to somewhere else."""
    place = ground.granted / "place"
    if kind == "file":
        place.write_text("granted")
        target, code = ground.secret, "open(PATH).read()"
    else:
        place.mkdir()
        (place / "secret").write_text("granted")
        target, code = ground.beside, "open(PATH + '/secret').read()"
    policy = Policy().allow(read=[str(place)])
    inputs = {"PATH": str(place)}
    assert belljar.run(code, policy, inputs=inputs).unwrap() == "granted"
    belljar.close()  # the next run starts a new zygote, by a plan that is already made
    place.rename(ground.granted / "away")
    place.symlink_to(target)
    with pytest.raises(belljar.PolicyError, match="symbolic link to") as caught:
        belljar.run(code, policy, inputs=inputs)
    assert caught.value.key == "grants.read[0]"


TRAPS = """
os.chdir(GRANTED)
def made(*arguments):
    got = call(*arguments)
    return got if isinstance(got, str) else "made"
open("plain", "w").close()
{
    "set-id file": made("openat", AT, b"suid", 0o101, 0o4755),
    "set-group file": made("openat", AT, b"sgid", 0o101, 0o2755),
    "set-id by creat": made("creat", b"suid2", 0o6755),
    "set-id node": made("mknodat", AT, b"suid3", 0o104755, 0),
    "set-id nameless": made("openat", AT, b".", 0o20200002, 0o4755),
    "set-id mode": made("fchmodat", AT, b"plain", 0o4755),
    "set-id mode, newer": made("fchmodat2", AT, b"plain", 0o4755, 0),
    "device": made("mknodat", AT, b"kmem", 0o020666, 0x0102),
    "disk": made("mknodat", AT, b"disk", 0o060666, 0x0800),
    "whiteout": made("renameat2", AT, b"plain", AT, b"white", 4),
    "socket node": made("mknodat", AT, b"sock", 0o140777, 0),
    "pipe node": made("mknodat", AT, b"pipe", 0o010666, 0),
    "capability": made("setxattr", b"plain", b"security.capability", bytes(20), 20, 0),
    "attribute": made("setxattr", b"plain", b"user.a", b"1", 1, 0),
    "owner": made("fchownat", AT, b"plain", 0, 0, 0),
    "immutable": made("ioctl", os.open("plain", 0), 0x40086602, bytes([16, 0, 0, 0, 0, 0, 0, 0])),
    "lease": made("fcntl", os.open("plain", 0), 1024, 0),
    "notify": made("fcntl", os.open(".", 0), 1026, 0xF),
}
"""


def test_R4_nothing_is_left_that_would_trap_the_host(ground: Ground) -> None:
    policy = Policy().allow(write=[str(ground.granted)])
    found = outcome(TRAPS, policy, inputs=ground.inputs)
    assert {name for name, got in found.items() if got == "made"} == set()
    for path in ground.granted.iterdir():
        mode = path.lstat().st_mode
        assert stat.S_ISREG(mode), path
        assert not mode & 0o6000, path


def test_R2_file_bytes_hold_in_a_granted_directory(ground: Ground) -> None:
    policy = Policy().allow(write=[str(ground.granted)]).limit(file_bytes=100_000)
    grown = attack(
        "open(GRANTED + '/big', 'wb').write(bytes(200_000))", policy, inputs=ground.inputs
    )
    assert grown.status == "limit"
    assert grown.limit is not None
    assert grown.limit.name == "file"
    for code in ("os.truncate('f', 10**9)", "os.posix_fallocate(file.fileno(), 0, 10**9)"):
        code = f"os.chdir(GRANTED)\nfile = open('f', 'wb')\n{code}"
        result = attack(code, policy, inputs=ground.inputs)
        assert result.status == "limit", code
        assert result.limit is not None
        assert result.limit.name == "file"
    assert all(path.stat().st_size <= 100_000 for path in ground.granted.iterdir())
    small = attack(
        "open(GRANTED + '/small', 'wb').write(bytes(90_000))", policy, inputs=ground.inputs
    )
    assert small.value == 90_000


@pytest.mark.parametrize("where", ["/tmp", "/var/tmp"])
def test_R4_a_fifo_under_a_read_grant_cannot_be_written(where: str) -> None:
    """Below /tmp the guest may write in the directory around; the read-only mount is no wall here."""
    with tempfile.TemporaryDirectory(dir=where) as folder:
        path = os.path.join(folder, "fifo")
        os.mkfifo(path)
        os.chmod(folder, 0o755)
        os.chmod(path, 0o666)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            policy = Policy().allow(read=[folder])
            code = """
name = buffer(PATH.encode())
[call("openat", AT, name, flags, 0) for flags in (0o1 | 0o4000, 0o2 | 0o4000)]
"""
            for got in outcome(code, policy, inputs={"PATH": path}):
                assert got in REFUSED
            assert os.read(reader, 10) == b""
            allowed = outcome(code, Policy().allow(write=[folder]), inputs={"PATH": path})
            assert all(isinstance(got, int) for got in allowed)
        finally:
            os.close(reader)
