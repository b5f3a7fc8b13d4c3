"""R2, C8, C9: processes and programs as a grant, with the Python layer on.

What: what people start processes for, each in one guest: fork, subprocess, pools, shared
memory, managers, every start method.  Because: library code must not notice that it is in a
sandbox once it is granted what it needs.  Then: the right value comes back, and what is not
granted is an ordinary OSError with the grant that would allow it.
"""

from __future__ import annotations

import errno
from importlib.util import find_spec
from pathlib import Path

import pytest

import belljar
from belljar import Policy

pytestmark = pytest.mark.usefixtures("walls")

SEVERAL = Policy().allow(processes=8, wall_s=60, cpu_s=60)
SQUARES = [0, 1, 4, 9, 16]

FORK = """
import os
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    os.write(writer, b"%d of %d" % (os.getpid(), os.getppid()))
    os._exit(7)
_, status = os.waitpid(child, 0)
(os.read(reader, 100), os.waitstatus_to_exitcode(status), os.getpid())
"""
POOL = """
import multiprocessing
def square(x):
    return x * x
with multiprocessing.Pool(2) as pool:
    found = pool.map(square, range(5))
found
"""
EXECUTOR = """
from concurrent.futures import ProcessPoolExecutor
def square(x):
    return x * x
with ProcessPoolExecutor(2) as pool:
    found = list(pool.map(square, range(5)))
found
"""
OF_A_MODULE = """
import multiprocessing, sys
with open("/work/squares.py", "w") as file:
    file.write("def square(x):\\n    return x * x\\n")
sys.path.insert(0, "/work")
import squares
with multiprocessing.get_context(METHOD).Pool(2) as pool:
    found = pool.map(squares.square, range(5))
found
"""
SHARED = """
import mmap, os
from multiprocessing import Process, Value, shared_memory
block = shared_memory.SharedMemory(create=True, size=8)
total = Value("i", 0)
plain = mmap.mmap(-1, 16)
def work(number):
    view = shared_memory.SharedMemory(name=block.name)
    view.buf[number] = number
    view.close()
    with total.get_lock():
        total.value += number
    plain[number:number + 1] = bytes([number])
workers = [Process(target=work, args=(number,)) for number in (1, 2, 3)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
found = (bytes(block.buf[:4]), total.value, plain[:4])
block.close()
block.unlink()
found
"""
MANAGER = """
import multiprocessing
with multiprocessing.Manager() as manager:
    table = manager.dict()
    def work(number):
        table[number] = number * number
    workers = [multiprocessing.Process(target=work, args=(n,)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = dict(table)
found
"""
QUEUE = """
import multiprocessing
queue = multiprocessing.Queue()
worker = multiprocessing.Process(target=queue.put, args=([1, "two"],))
worker.start()
found = queue.get()
worker.join()
found
"""
ITSELF = """
import subprocess, sys
code = "import os, platform, sys; print(__sandboxed__, platform.node(), os.getcwd(), sys.executable)"
subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
"""
ASYNCIO = """
import asyncio, sys
async def main():
    made = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "print(6 * 7)", stdout=asyncio.subprocess.PIPE)
    out, _ = await made.communicate()
    return out
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("code", "value"),
    [
        (FORK, (b"3 of 2", 7, 2)),
        (POOL, SQUARES),
        (EXECUTOR, SQUARES),
        (SHARED, (bytes([0, 1, 2, 3]), 6, bytes([0, 1, 2, 3]))),
        (MANAGER, {0: 0, 1: 1, 2: 4}),
        (QUEUE, [1, "two"]),
        (ASYNCIO, b"42\n"),
    ],
    ids=["fork", "pool", "executor", "shared memory", "manager", "queue", "asyncio"],
)
def test_R2_processes_work(code: str, value: object) -> None:
    result = belljar.run(code, SEVERAL)
    assert result.unwrap() == value
    assert result.denials == ()


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_R2_every_start_method(method: str) -> None:
    assert belljar.run(OF_A_MODULE, SEVERAL, inputs={"METHOD": method}).unwrap() == SQUARES


def test_M7_R9_an_interpreter_started_anew_has_the_shape_of_the_first() -> None:
    sandboxed, node, directory, executable = belljar.run(ITSELF, SEVERAL).unwrap().split()
    assert (sandboxed, node, directory) == ("True", "belljar", "/work")
    assert executable.startswith("/usr/bin/python")


def test_C6_a_stand_in_serves_it_too(open_dir: Path) -> None:
    stand_in = open_dir / "_curses.py"
    stand_in.write_text("COLS = 132\n")
    code = (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'import _curses; print(_curses.COLS)'],"
        " capture_output=True, text=True).stdout"
    )
    policy = SEVERAL.allow(stand_ins={"_curses": str(stand_in)})
    assert belljar.run(code, policy).unwrap() == "132\n"


def test_C2_it_loads_bytecode_from_trusted_places_only() -> None:
    code = """
import py_compile, subprocess, sys
with open("lie.py", "w") as file:
    file.write("print('bytecode')")
py_compile.compile("lie.py", cfile="lie.pyc")
import os
os.remove("lie.py")
done = subprocess.run([sys.executable, "-c", "import lie"], capture_output=True, text=True)
(done.stdout, done.stderr.splitlines()[-1])
"""
    assert belljar.run(code, SEVERAL).unwrap() == ("", "ModuleNotFoundError: No module named 'lie'")


def test_R2_programs_run_by_name_and_by_the_shell() -> None:
    policy = SEVERAL.allow(run=["sh", "/bin/cat", "sort"])
    code = """
import os, subprocess
piped = subprocess.run("cat | sort", shell=True, input="b\\na\\n", capture_output=True, text=True)
(piped.stdout, os.popen("cat /etc/passwd").read().count("\\n"), os.system("exit 3"))
"""
    assert belljar.run(code, policy).unwrap() == ("a\nb\n", 3, 768)


def test_R2_a_script_runs_with_its_interpreter(open_dir: Path) -> None:
    tool = open_dir / "greet"
    tool.write_text("#!/usr/bin/env python3\nimport sys\nprint('hello', sys.argv[1])\n")
    tool.chmod(0o755)
    policy = SEVERAL.allow(run=[str(tool), "env"])
    code = "import subprocess; subprocess.run(['greet', 'you'], capture_output=True).stdout"
    assert belljar.run(code, policy).unwrap() == b"hello you\n"


def test_X7_what_is_not_granted_says_what_to_grant() -> None:
    code = "import subprocess; subprocess.run(['git', 'status'])"
    result = belljar.run(code, SEVERAL)
    assert result.status == "raised"
    assert result.error is not None
    assert result.error.type == "FileNotFoundError"
    assert [d.grant for d in result.denials] == ['allow(run=["git"])']
    result = belljar.run(code)
    assert [d.grant for d in result.denials] == ['allow(run=["git"], processes=1)']
    result = belljar.run("import os; os.fork()")
    assert [d.grant for d in result.denials] == ["allow(processes=1)"]


def test_X7_a_pool_without_the_grant_says_what_to_grant() -> None:
    """Its locks come first, and they lack /dev/shm: an error that would name no grant."""
    result = belljar.run(POOL)
    assert result.error is not None
    assert (result.status, result.error.type) == ("raised", "FileNotFoundError")
    assert result.denials[-1].grant == "allow(processes=1)"
    assert "allow(processes=1) would allow it" in result.error.notes[-1]


@pytest.mark.skipif(find_spec("joblib") is None, reason="not installed: joblib")
@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_R2_joblib_works(backend: str) -> None:
    code = (
        "from joblib import Parallel, delayed\ndef square(x):\n return x * x\n"
        f"Parallel(n_jobs=2, backend={backend!r})(delayed(square)(x) for x in range(5))"
    )
    policy = SEVERAL.allow(packages=["joblib"], memory_bytes=2**29)
    assert belljar.run(code, policy).value == SQUARES


MAPS = """
import mmap, os
held = []
for _ in range(COUNT):
    held.append(mmap.mmap(-1, 16 << 20))
    held[-1][:] = b"x" * (16 << 20)
if os.fork() == 0:
    held[0][0] = 7
    os._exit(0)
os.wait()
held[0][0]
"""


def test_R1_shared_maps_end_by_work_bytes_and_not_by_a_signal() -> None:
    """All of a map is had at once, because a page that is missing later is SIGBUS."""
    assert belljar.run(MAPS, SEVERAL, inputs={"COUNT": 3}).value == 7
    result = belljar.run(MAPS, SEVERAL, inputs={"COUNT": 5})
    assert result.limit is not None
    assert (result.status, result.limit.name) == ("limit", "work")
    caught = f"try: exec({MAPS!r})\nexcept OSError as error: number = error.errno\nnumber"
    assert belljar.run(caught, SEVERAL, inputs={"COUNT": 5}).value == errno.ENOSPC


def test_R2_programs_without_processes_are_a_contradiction() -> None:
    with pytest.raises(belljar.PolicyError, match="processes=1"):
        belljar.run("1", Policy().allow(run=["ls"]))


def test_R2_no_guest_may_write_what_it_may_start(open_dir: Path) -> None:
    tool = open_dir / "tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    policy = SEVERAL.allow(run=[str(tool), "sh"], write=[str(open_dir)])
    with pytest.raises(belljar.PolicyError, match="guests run as code"):
        belljar.run("1", policy)


@pytest.mark.parametrize(("way", "code"), [("exit(4)", 4), ("raise KeyError('x')", 1), ("1", 0)])
def test_K6_a_fork_that_reaches_the_end_of_the_program_is_not_the_run(way: str, code: int) -> None:
    text = f"""
import os
if os.fork() == 0:
    {way}
else:
    found = os.waitstatus_to_exitcode(os.wait()[1])
globals().get("found")
"""
    result = belljar.run(text, SEVERAL)
    assert result.unwrap() == code
    assert ("KeyError: 'x'" in result.stderr) == (code == 1)


def test_R2_what_is_still_running_ends_with_the_program() -> None:
    code = """
import os, time
if os.fork() == 0:
    os.setsid()
    time.sleep(1000)
"started"
"""
    assert belljar.run(code, SEVERAL).unwrap() == "started"


def test_R2_usage_counts_the_children() -> None:
    busy = "sum(i * i for i in range(1_000_000))"
    code = f"""
import os
for _ in range(3):
    if os.fork() == 0:
        {busy}
        os._exit(0)
for _ in range(3):
    os.wait()
"""
    one = belljar.run(busy, SEVERAL).usage.cpu_s
    assert belljar.run(code, SEVERAL).usage.cpu_s > 1.5 * one


def test_R2_a_fork_too_many_names_the_limit() -> None:
    code = """
import os
while True:
    if os.fork() == 0:
        import time
        time.sleep(1000)
"""
    result = belljar.run(code, Policy().allow(processes=2).limit(threads=0))
    assert result.status == "limit"
    assert result.limit is not None
    assert (result.limit.name, result.limit.allowed) == ("processes", 2)
    assert result.error is not None
    assert result.error.type == "BlockingIOError"


def test_R2_the_guest_may_become_a_program() -> None:
    """Then the program's end is the run's, as the kernel tells it."""
    policy = SEVERAL.allow(run=["sh"])
    code = "import os; os.execv('/usr/bin/sh', ['sh', '-c', 'echo hi; exit 5'])"
    result = belljar.run(code, policy)
    assert (result.status, result.exit_code, result.stdout) == ("exited", 5, "hi\n")
    assert result.error is None


def test_R2_a_guest_with_a_package_has_it_in_every_interpreter() -> None:
    code = (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'import msgpack; print(msgpack.__file__)'],"
        " capture_output=True, text=True).stdout"
    )
    pytest.importorskip("msgpack", reason="msgpack is not installed")
    where = belljar.run(code, SEVERAL.allow(packages=["msgpack"])).unwrap()
    assert where.startswith("/usr/local/lib/python3.")
    assert belljar.run(code, SEVERAL).unwrap() == ""
