"""The same filter in a real kernel: what the emulator promises is what happens.

A child installs the program on itself and tries things.  It prints what came out; a child
that should be killed is seen to die of SIGSYS.
"""

from __future__ import annotations

import errno
import json
import platform
import signal
import subprocess
import sys
import textwrap

import pytest

from belljar.bpf import ARCHES, FilterFeatures, arch, compile_filter, guest_filter

MACHINE = platform.machine()
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or MACHINE not in ARCHES, reason=f"no system call table for {MACHINE}"
)

INSTALL = """
import ctypes, errno, json, os, sys

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_char_p)]

def call(name, *args):
    ctypes.set_errno(0)
    result = libc.syscall(ctypes.c_long(table[name]), *map(ctypes.c_ulong, args))
    return ctypes.get_errno() if result < 0 else 0

def install():
    program = Program(len(code) // 8, code)
    assert libc.prctl(38, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS"
    assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0, "PR_SET_SECCOMP"

setup = json.load(sys.stdin)
table, code = setup["table"], bytes.fromhex(setup["program"])
"""


def confined(
    script: str, features: FilterFeatures | None = None
) -> subprocess.CompletedProcess[str]:
    features = features or FilterFeatures(MACHINE, own_root=True, sandboxed_signals=True)
    program = compile_filter(guest_filter(features))
    setup = json.dumps({"table": arch(MACHINE).table, "program": program.hex()})
    return subprocess.run(
        [sys.executable, "-I", "-c", INSTALL + textwrap.dedent(script)],
        input=setup,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def output(script: str, features: FilterFeatures | None = None) -> object:
    done = confined(script, features)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_calls_come_out_as_the_filter_says() -> None:
    found = output(
        """
        memory = ctypes.create_string_buffer(4096)
        buffer = ctypes.addressof(memory)
        r, w = os.pipe()
        garbage = 0xDEADBEEF << 32
        install()
        print(json.dumps({
            "getpid": call("getpid"),
            "getrandom": call("getrandom", buffer, 16, 0),
            "read a pipe": (os.write(w, b"x"), call("read", r, buffer, 1))[1],
            "map memory": call("mmap", 0, 4096, 3, 0x22, 2**64 - 1, 0),
            "map code": call("mmap", 0, 4096, 5, 0x22, 2**64 - 1, 0),
            "protect as code": call("mprotect", 0, 4096, 4),
            "execve": call("execve", buffer, 0, 0),
            "clone a process": call("clone", 17, 0, 0, 0, 0),
            "clone3": call("clone3", buffer, 88),
            "memfd": call("memfd_create", buffer, 0),
            "socket": call("socket", 2, 1, 0),
            "netlink": call("socket", 16, 3, 0),
            "datagram pair": call("socketpair", 1, 2, 0, buffer),
            "stream pair": call("socketpair", 1, 1, 0, buffer),
            "unshare": call("unshare", 0x10000000),
            "ptrace": call("ptrace", 0, 0, 0, 0),
            "type into the terminal": call("ioctl", 0, 0x5412 | garbage, buffer),
            "grow a pipe": call("fcntl", r, 1031, 1 << 20),
            "set dumpable": call("prctl", 4, 1),
            "name the thread": call("prctl", 15, buffer),
            "read a limit": call("prlimit64", 0, 7, 0, buffer),
            "set a limit": call("prlimit64", 0, 7, buffer, 0),
            "signal a group": call("kill", 0, 0),
            "signal self": call("kill", os.getpid(), 0),
            "io_uring": call("io_uring_setup", 1, buffer),
            "keyctl": call("keyctl", 0, 0),
        }))
        """
    )
    refused = [
        *("map code", "protect as code", "execve", "clone a process", "memfd"),
        *("datagram pair", "unshare", "ptrace", "type into the terminal", "grow a pipe"),
        *("set dumpable", "set a limit", "signal a group", "keyctl"),
    ]
    allowed = [
        *("getpid", "getrandom", "read a pipe", "map memory", "stream pair"),
        *("name the thread", "read a limit", "signal self"),
    ]
    absent = {"clone3": errno.ENOSYS, "io_uring": errno.ENOSYS}
    sockets = {"socket": errno.EACCES, "netlink": errno.EAFNOSUPPORT}
    expected = {**dict.fromkeys(refused, errno.EPERM), **dict.fromkeys(allowed, 0)}
    assert found == {**expected, **absent, **sockets}


def test_numbers_of_later_kernels_answer_enosys() -> None:
    script = """
        table["later"] = 1000
        install()
        print(call("later"))
        """
    assert output(script) == errno.ENOSYS


@pytest.mark.skipif(MACHINE != "x86_64", reason="x32 exists on x86_64 only")
@pytest.mark.parametrize("number", ["0x40000000 + 39", "2**64 - 1"])
def test_x32_and_negative_numbers_kill(number: str) -> None:
    done = confined(f"table['x32'] = {number}\ninstall()\ncall('x32')\nprint('alive')")
    assert done.returncode == -signal.SIGSYS
    assert done.stdout == ""


@pytest.mark.skipif(MACHINE != "x86_64", reason="int 0x80 exists on x86_64 only")
def test_the_32_bit_door_kills() -> None:
    """C9: int $0x80 reaches the table of another architecture."""
    done = confined(
        """
        import mmap
        page = mmap.mmap(-1, 4096, prot=7)
        page.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, 20 (getpid); int 0x80; ret
        enter = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
        install()
        enter()
        print("alive")
        """
    )
    assert done.returncode == -signal.SIGSYS
    assert done.stdout == ""


def test_the_standard_library_works_inside() -> None:
    """C8: threads, asyncio, sqlite, files, pipes, timers, ssl."""
    script = """
        import tempfile
        directory = tempfile.TemporaryDirectory()
        os.chdir(directory.name)
        install()
        import asyncio, concurrent.futures, fcntl, mmap, multiprocessing, platform, shutil
        import select, signal, socket, sqlite3, subprocess, threading, time, uuid

        thread = threading.Thread(target=time.sleep, args=(0.001,))
        thread.start()
        thread.join()
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            assert list(pool.map(abs, [-1, -2])) == [1, 2]

        async def main():
            return await asyncio.to_thread(abs, -3)

        assert asyncio.run(main()) == 3
        database = sqlite3.connect("a.db")
        database.execute("pragma journal_mode=wal")
        database.execute("create table t(a)")
        database.execute("insert into t values (1)")
        database.commit()
        database.close()
        with open("x", "wb") as file:
            file.write(b"x" * 100000)
            file.flush()
            os.fsync(file.fileno())
            fcntl.flock(file, fcntl.LOCK_EX)
        os.mkdir("d")
        shutil.copy2("x", "d/y")
        shutil.copytree("d", "e")
        os.symlink("x", "l"), os.link("x", "h"), os.replace("h", "i"), os.mkfifo("f")
        with open("x", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[:2] = b"ab"
            mapped.flush()
        shutil.rmtree("e")
        assert mmap.mmap(-1, 1 << 16, flags=mmap.MAP_PRIVATE).read(1) == b"\\0"
        a, b = socket.socketpair()
        a.settimeout(1)
        a.send(b"q")
        assert b.recv(1) == b"q"
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        time.sleep(0.01)
        signal.signal(signal.SIGURG, lambda *_: None)
        signal.raise_signal(signal.SIGURG)
        multiprocessing.Lock().acquire()
        uuid.uuid4(), platform.platform(), os.cpu_count(), os.nice(0), shutil.disk_usage(".")
        try:
            import ssl
        except ImportError:
            pass
        else:
            ssl.create_default_context()
        refused = []
        for name, action in {
            "fork": os.fork,
            "spawn": lambda: subprocess.run([sys.executable, "-c", ""]),
            "connect": lambda: socket.create_connection(("127.0.0.1", 9)),
            "chown": lambda: os.chown("x", 0, 0),
            "memfd": lambda: os.memfd_create("m"),
            "set-id": lambda: os.chmod("x", 0o4755),
        }.items():
            try:
                action()
            except PermissionError:
                refused.append(name)
        os.chdir("/")
        directory.cleanup()
        print(json.dumps(refused))
        """
    assert output(script) == ["fork", "spawn", "connect", "chown", "memfd", "set-id"]


def test_no_threads_is_the_error_python_knows() -> None:
    script = """
        import threading
        install()
        try:
            threading.Thread(target=print).start()
        except RuntimeError as problem:
            print(json.dumps(str(problem)))
        """
    features = FilterFeatures(MACHINE, threads=False)
    assert output(script, features) == "can't start new thread"


def test_granted_processes_work() -> None:
    script = """
        import time
        install()
        child = os.fork()
        if child == 0:
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """
    features = FilterFeatures(MACHINE, processes=True)
    assert output(script, features) == 7


def test_a_granted_jit_makes_code_from_data() -> None:
    """C9: libffi without static trampolines makes a callback in writable, executable memory."""
    script = """
        install()
        print(ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda n: n + 1)(3))
        """
    assert output(script, FilterFeatures(MACHINE, jit=True)) == 4
