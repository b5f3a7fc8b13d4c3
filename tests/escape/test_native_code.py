"""C3, C9: no executable memory is made from data.

What: the calls that turn bytes into instructions, and the detours around them.  Because: with
native code of its own choice the attacker is free of Python, and what is left is the kernel.
Then: no page is ever both chosen by the guest and executable, wherever it comes from, and
what needs executable memory for good reasons (ctypes callbacks, extension modules of the
standard library) still works.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from belljar import Policy

from .conftest import Wall
from .native import REFUSED, landlock_abi, outcome, outside, without

MAPS = """
READ, WRITE, EXEC = 1, 2, 4
SHARED, PRIVATE, FIXED, ANON = 1, 2, 16, 32
SIZE = 4096

def mapped(address, size, prot, flags, fd=-1, offset=0):
    got = call("mmap", address, size, prot, flags, fd, offset)
    return got if isinstance(got, str) else "mapped"

def remapped(prot, then, *, name="mprotect", more=()):
    got = call("mmap", 0, SIZE, prot, PRIVATE | ANON, -1, 0)
    if isinstance(got, str):
        return got
    changed = call(name, got, SIZE, then, *more)
    return "changed" if changed == 0 else changed

found = {
    "anonymous": mapped(0, SIZE, READ | WRITE | EXEC, PRIVATE | ANON),
    "anonymous, not writable": mapped(0, SIZE, READ | EXEC, PRIVATE | ANON),
    "execute only": mapped(0, SIZE, EXEC, PRIVATE | ANON),
    "shared": mapped(0, SIZE, READ | EXEC, SHARED | ANON),
    "high bits of prot": mapped(0, SIZE, READ | EXEC | 1 << 32, PRIVATE | ANON),
    "stack": mapped(0, SIZE, READ | EXEC, PRIVATE | ANON | 0x20000),
    "growing": mapped(0, SIZE, READ | WRITE, PRIVATE | ANON | 0x100),
    "huge": mapped(0, 1 << 21, READ | WRITE, PRIVATE | ANON | 0x40000),
    "locked": mapped(0, SIZE, READ | WRITE, PRIVATE | ANON | 0x2000),
    "fixed over a function": mapped(
        _ctypes.cast(_syscall, _ctypes.c_void_p).value & ~0xFFF, SIZE, EXEC, PRIVATE | ANON | FIXED),
    "of zero device": mapped(0, SIZE, READ | WRITE | EXEC, PRIVATE, os.open("/dev/zero", os.O_RDONLY)),
    "of zero device, shared": mapped(0, SIZE, READ | EXEC, SHARED, os.open("/dev/zero", os.O_RDONLY)),
    "later": remapped(READ | WRITE, READ | EXEC),
    "later, both": remapped(READ | WRITE, READ | WRITE | EXEC),
    "later, high bits": remapped(READ | WRITE, EXEC | 1 << 32),
    "later, growing": remapped(READ | WRITE, EXEC | 0x01000000),
    "later, by key": remapped(READ, EXEC, name="pkey_mprotect", more=(-1,)),
    "rearranged": remapped(READ | WRITE, EXEC, name="remap_file_pages", more=(0, 0)),
    "memory file": call("memfd_create", b"code", 0),
    "secret memory file": call("memfd_secret", 0),
    "shared segment": call("shmget", 0, SIZE, 0o1777),
    "personality": call("personality", 0x0400000),
    "fault handler": call("userfaultfd", 0),
    "shadow stack": call("map_shadow_stack", 0, SIZE, 0),
    "descriptors of segments": call("modify_ldt", 0x11, buffer(16), 16),
    "another vdso": call("arch_prctl", 0x2003, 0),
    "filter program": call("seccomp", 1, 0, buffer(16)),
    "kernel program": call("bpf", 5, buffer(128), 128),
    "library": call("uselib", b"/lib64/ld-linux-x86-64.so.2"),
    "image of the process": call("prctl", 35, 13, 0, 0, 0),
    "executable memory policy": call("prctl", 65, 0, 0, 0, 0),
    "emulation": call("prctl", 59, 1, 0, 0, 0),
}
found
"""


@pytest.mark.parametrize("call_wall", ["all", "no root"], indirect=True)
def test_C9_no_call_makes_memory_executable(call_wall: Wall) -> None:
    """Anonymous memory is the filter's alone to refuse."""
    found = outcome(MAPS, call_wall.policy)
    assert {name: got for name, got in found.items() if got not in REFUSED} == {}


def test_C9_ordinary_mappings_work(call_wall: Wall) -> None:
    code = """
import mmap
found = []
with mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as m:
    m[:4] = b"data"
    found.append(m[:4])
    m.madvise(mmap.MADV_DONTNEED)
address = call("mmap", 0, 8192, 3, 0x22, -1, 0)
found.append(call("mprotect", address, 4096, 1))
found.append(call("munmap", address, 8192))
found
"""
    assert outcome(code, call_wall.policy) == [b"data", 0, 0]


FILES = """
READ, WRITE, EXEC, SHARED, PRIVATE = 1, 2, 4, 1, 2

def mapped(path, prot, flags, mode=os.O_RDONLY):
    fd = attempt(os.open, path, mode)
    if isinstance(fd, str):
        return fd
    got = call("mmap", 0, 4096, prot, flags, fd, 0)
    if isinstance(got, str):
        return got
    return "mapped"

def written(place):
    with open(place + "/code", "wb") as file:
        file.write(bytes(8192))
    fd = os.open(place + "/code", os.O_RDWR)
    address = call("mmap", 0, 4096, READ | WRITE, SHARED, fd, 0)
    return {
        f"{place} private": mapped(place + "/code", READ | EXEC, PRIVATE),
        f"{place} shared": mapped(place + "/code", READ | EXEC, SHARED),
        f"{place} writable": mapped(place + "/code", READ | WRITE | EXEC, SHARED, os.O_RDWR),
        f"{place} later": call("mprotect", address, 4096, READ | EXEC),
        f"{place} nameless": (
            fd if isinstance(fd := attempt(os.open, place, os.O_TMPFILE | os.O_RDWR), str)
            else call("mmap", 0, 4096, READ | EXEC, PRIVATE, fd, 0)
        ),
    }

found = {}
for place in PLACES:
    found |= written(place)
for path in READABLE:
    found[path] = mapped(path, READ | EXEC, PRIVATE)
found
"""


@pytest.mark.parametrize("tree_wall", ["all", "no filter"], indirect=True)
def test_C9_no_file_of_the_guests_is_mapped_as_code(open_dir: Path, tree_wall: Wall) -> None:
    """Everything the guest can write, or was granted, is on a noexec mount."""
    granted = open_dir / "granted"
    granted.mkdir()
    granted.chmod(0o777)
    read_only = open_dir / "data"
    read_only.write_bytes(bytes(8192))
    policy = Policy().allow(write=[str(granted)], read=[str(read_only)])
    inputs = {
        "PLACES": ["/work", "/tmp", str(granted)],
        "READABLE": [str(read_only), "/etc/passwd", "/dev/zero"],
    }
    found = outcome(FILES, policy, inputs=inputs)
    if tree_wall.name == "no filter":
        # A device gives anonymous memory, which only the filter can refuse.
        found = {n: got for n, got in found.items() if n != "/dev/zero"}
    assert {name: got for name, got in found.items() if got not in REFUSED} == {}


DETOURS = """
import sys
READ, WRITE, EXEC, PRIVATE, FIXED = 1, 2, 4, 2, 16
fd = os.open(LIBRARY, os.O_RDONLY)
code = call("mmap", 0, 4096, READ | EXEC, PRIVATE, fd, 0)
assert isinstance(code, int), code
found = {
    "writable": call("mprotect", code, 4096, READ | WRITE | EXEC),
    "shared file as code": call("mmap", 0, 4096, READ | EXEC, 1, fd, 0),
    "writable file as code": call("mmap", 0, 4096, READ | WRITE | EXEC, PRIVATE, fd, 0),
}
# Made writable it is no code any more, and cannot become it again.
found["off"] = call("mprotect", code, 4096, READ | WRITE)
_ctypes.memset(code, 0x90, 4096)
found["on again"] = call("mprotect", code, 4096, READ | EXEC)
more = call("mmap", 0, 8192, READ | EXEC, PRIVATE, fd, 0)
data = call("mmap", 0, 8192, READ | WRITE, PRIVATE | 32, -1, 0)
# Data moved onto the place of code stays data.
moved = call("mremap", data, 4096, 4096, 3, more)
found["moved"] = moved if isinstance(moved, str) else call("mprotect", moved, 4096, READ | EXEC)
memory = call("openat", AT, b"/proc/self/mem", 2, 0)
found["by proc"] = memory
found["by another process"] = call("process_vm_writev", os.getpid(), None, 0, None, 0, 0)
found["traced"] = call("ptrace", 0, 0, 0, 0)
found["file replaced"] = call("openat", AT, LIBRARY.encode(), 1, 0)
found["advice"] = call("madvise", more, 4096, 12)
found
"""


def test_C9_code_of_a_file_cannot_be_changed() -> None:
    """The mapping of a library is the one executable thing; nothing writes into it."""
    library = outcome("import _ctypes; _ctypes.__file__")
    found = outcome(DETOURS, inputs={"LIBRARY": library})
    assert found.pop("off") == 0
    assert {name: got for name, got in found.items() if got not in REFUSED} == {}


LOADS = """
import importlib.machinery, importlib.util, shutil, sys
import _ctypes as extension

def load(path):
    loader = importlib.machinery.ExtensionFileLoader("_ctypes", path)
    spec = importlib.util.spec_from_file_location("_ctypes", path, loader=loader)
    try:
        importlib.util.module_from_spec(spec)
    except ImportError as error:
        return "refused"
    return "loaded"

found = {"where it belongs": load(extension.__file__)}
for place in PLACES:
    copy = place + "/copy.so"
    shutil.copyfile(extension.__file__, copy)
    found[place] = load(copy)
    found[place + " by ctypes"] = attempt(_ctypes.CDLL, copy)
found
"""


@pytest.mark.parametrize("tree_wall", ["all", "no filter"], indirect=True)
def test_C3_a_library_is_loaded_from_its_own_place_only(open_dir: Path, tree_wall: Wall) -> None:
    policy = Policy().allow(write=[str(open_dir)])
    places = ["/work", "/tmp", str(open_dir)]
    found = outcome(LOADS, policy, inputs={"PLACES": places})
    assert found.pop("where it belongs") == "loaded"
    for place in places:
        assert found.pop(place) == "refused"
        assert found.pop(f"{place} by ctypes") in ("OSError", *REFUSED)
    assert found == {}


def test_C3_what_was_not_chosen_is_not_there() -> None:
    """The host's own site-packages hold compiled modules; none of them is in sight."""
    site = sysconfig.get_paths()["platlib"]
    code = """
import importlib.util, sys
[importlib.util.find_spec("librt"), importlib.util.find_spec("pluggy"),
 call("openat", AT, SITE.encode(), 0, 0), [p for p in sys.path if os.path.isdir(p + "/pytest")]]
"""
    found = outcome(code, inputs={"SITE": site})
    assert found[:2] == [None, None]
    assert found[2] in REFUSED
    assert found[3] == []


def test_C2_bytecode_of_the_guests_is_not_loaded_by_import(open_dir: Path) -> None:
    """Neither beside a module of the standard library, nor from places that can be written."""
    code = """
import importlib.util, py_compile, sys
with open("evil.py", "w") as file: file.write("value = 'from bytecode'")
made = py_compile.compile("evil.py", cfile=GRANTED + "/evil.pyc")
os.remove("evil.py")
[
    importlib.util.find_spec("evil") is not None,
    call("openat", AT, os.path.dirname(importlib.util.__file__).encode() + b"/evil.pyc", 0o101, 0o644),
    [path for path in sys.path if path.startswith(("/work", "/tmp", GRANTED)) or not path],
]
"""
    policy = Policy().allow(write=[str(open_dir)])
    found = outcome(code, policy, inputs={"GRANTED": str(open_dir)})
    assert found[0] is False
    assert found[1] in REFUSED
    assert found[2] == []


def test_C9_extension_modules_work(call_wall: Wall) -> None:
    code = """
import ctypes, decimal, hashlib, json, math, sqlite3, ssl, zlib, _elementtree
[ctypes.CDLL(None).abs(-3), sqlite3.connect(":memory:").execute("select 6 * 7").fetchone()[0],
 zlib.decompress(zlib.compress(b"x")), str(decimal.Decimal(1) / 4)]
"""
    assert outcome(code, call_wall.policy) == [3, 42, b"x", "0.25"]


CALLBACK = """
def callback():
    kind = _ctypes.CFUNCTYPE(_ctypes.c_int)
    return kind(lambda: 42)()

answer = attempt(callback)
with open("/proc/self/maps") as maps:
    written = [line for line in maps if line.split()[1].startswith("rwx")]
(answer, bool(written))
"""


def test_C9_callbacks_work_where_libffi_brings_their_code() -> None:
    """A libffi that writes the code of a callback at run time is refused just that."""
    answer, writes_code = outside(CALLBACK)
    assert answer == 42
    assert outcome(CALLBACK) == (("MemoryError", False) if writes_code else (42, False))


def test_C9_the_walls_hold_in_a_thread() -> None:
    code = """
import threading
found = []
def act():
    found.append(call("mmap", 0, 4096, 7, 0x22, -1, 0))
    found.append(call("openat", AT, b"/", 0, 0))
    found.append(call("socket", 2, 1, 0))
    found.append(call("clone", 17, 0, 0, 0, 0))
threads = [threading.Thread(target=act) for _ in range(3)]
for thread in threads:
    thread.start()
    thread.join()
found
"""
    found = outcome(code)
    assert len(found) == 12
    assert all(got in REFUSED for got in found)
    with without(*(["landlock"] if landlock_abi() else [])):
        root = outcome(code)[1]
    assert landlock_abi() == 0 or isinstance(root, int), "the probe of Landlock proves nothing"
