"""X2: ``Sandbox.fork``, a copy of a live interpreter that goes its own way."""

from __future__ import annotations

import gc
import os
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import belljar
from belljar import ClosedError, ForkRefused, Policy, PolicyError, Sandbox
from belljar.drivers.account import pid_of

PATIENCE_S = 60  # only a hang takes so long
pytestmark = pytest.mark.usefixtures("walls")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(Policy().allow(wall_s=PATIENCE_S), branches=8) as made:
        yield made


def process_of(sandbox: Sandbox) -> int:
    live = sandbox._live
    assert live is not None
    assert live.ends.pidfd is not None
    pid = pid_of(live.ends.pidfd)
    assert pid is not None
    return pid


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def eventually(condition: Any) -> bool:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


# --- memory -------------------------------------------------------------------------------------


def test_x2_names_are_there_and_changes_stay_apart(sandbox: Sandbox) -> None:
    sandbox.run("x = 20; data = {'deep': [1, 2]}").unwrap()
    with sandbox.fork() as one, sandbox.fork() as other:
        assert one.run("x += 1; data['deep'].append(3); (x, data)").unwrap() == (
            21,
            {"deep": [1, 2, 3]},
        )
        assert other.run("(x, data)").unwrap() == (20, {"deep": [1, 2]})
        sandbox.run("x = 0").unwrap()
        assert one.get("x") == 21
        assert other.get("x") == 20
    assert sandbox.get("data") == {"deep": [1, 2]}


def test_x2_branches_have_branches(sandbox: Sandbox) -> None:
    sandbox.run("path = []").unwrap()
    with sandbox.fork() as one:
        one.run("path.append(1)")
        with one.fork() as two:
            two.run("path.append(2)")
            with two.fork() as three:
                assert three.run("path.append(3); path").unwrap() == [1, 2, 3]
            assert two.get("path") == [1, 2]
            assert one.branches == (two,)
        assert not one.branches
    assert sandbox.get("path") == []


def test_x2_many_branches_run_at_the_same_time() -> None:
    with Sandbox(Policy().allow(wall_s=PATIENCE_S), branches=24) as sandbox:
        sandbox.run("base = list(range(1000))").unwrap()
        branches = [sandbox.fork() for _ in range(24)]
        found: dict[int, Any] = {}

        def work(index: int, branch: Sandbox) -> None:
            found[index] = branch.run(f"base[0] = {index}; sum(base)").unwrap()

        threads = [
            threading.Thread(target=work, args=(index, branch))
            for index, branch in enumerate(branches)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == {index: 499500 + index for index in range(24)}
        assert sandbox.run("sum(base)").unwrap() == 499500


def test_x2_places_are_lent_again_when_branches_are_closed() -> None:
    with Sandbox(branches=2) as sandbox:
        for round_ in range(12):
            with sandbox.fork() as branch:
                code = (
                    "import os\nos.makedirs('a/b/c'); open('a/b/c/d', 'w').write('x'); os.listdir()"
                )
                assert branch.run(code).unwrap() == ["a"], round_
        with sandbox.fork() as branch:
            assert branch.run("import os; os.listdir('/work') + os.listdir('/tmp')").unwrap() == []


# --- files --------------------------------------------------------------------------------------


def test_x2_files_are_copied_under_the_same_paths(sandbox: Sandbox) -> None:
    sandbox.run(
        "import os, pathlib\n"
        "os.makedirs('deep/er'); pathlib.Path('deep/er/f').write_text('one')\n"
        "os.symlink('deep/er/f', 'link'); os.link('deep/er/f', 'hard'); os.mkfifo('pipe')\n"
        "pathlib.Path('/tmp/t').write_text('tmp'); os.chmod('/tmp/t', 0o000)\n"
        "os.utime('deep/er/f', (1, 2)); os.chmod('deep', 0o500)\n"
        "open('sparse', 'wb').truncate(10_000_000)"
    ).unwrap()
    look = (
        "import os\n(os.getcwd(), sorted(os.listdir()), os.readlink('link'), open('hard').read(),"
        " os.stat('hard').st_nlink, int(os.stat('hard').st_mtime), oct(os.stat('deep').st_mode),"
        " oct(os.stat('/tmp/t').st_mode), os.stat('sparse').st_size, os.stat('sparse').st_blocks)"
    )
    before = sandbox.run(look).unwrap()
    with sandbox.fork() as branch:
        assert branch.run(look).unwrap() == before
        branch.run(
            "pathlib.Path('hard').write_text('two'); os.remove('link'); open('/tmp/new', 'w').close()"
        ).unwrap()
        assert branch.run("open('deep/er/f').read()").unwrap() == "two"
        sandbox.run("open('mine', 'w').close()").unwrap()
        assert "mine" not in branch.run("os.listdir()").unwrap()
    assert sandbox.run("open('hard').read(), os.path.exists('/tmp/new')").unwrap() == ("one", False)
    assert sandbox.run("os.readlink('link')").unwrap() == "deep/er/f"


def test_x2_open_files_are_opened_anew_at_the_same_position(sandbox: Sandbox) -> None:
    sandbox.run(
        "import os, tempfile\n"
        "f = open('f', 'w+'); f.write('hello'); f.flush(); f.seek(2)\n"
        "t = tempfile.TemporaryFile(); t.write(b'abcdef'); t.flush(); t.seek(3)\n"
        "own = open(os.__file__); first = own.readline()\n"
        "d = os.open('.', os.O_RDONLY); out = os.dup(1)\n"
        "null = open('/dev/null', 'w'); noise = open('/dev/urandom', 'rb'); os.close(0)"
    ).unwrap()
    with sandbox.fork() as branch:
        assert branch.run("(f.read(), t.read())").unwrap() == ("llo", b"def")
        assert branch.run("null.write('x'); len(noise.read(8))").unwrap() == 8
        branch.run("f.write(' there'); f.flush(); t.write(b'!'); t.flush()").unwrap()
        assert branch.run("os.write(out, b'mine'); os.listdir(d)").stdout == "mine"
    assert sandbox.run("(f.read(), t.read(), open('f').read())").unwrap() == (
        "llo",
        b"def",
        "hello",
    )
    assert sandbox.run("own.tell() > 0 and len(own.read()) > 100").unwrap() is True


def test_x2_a_working_directory_elsewhere_stays(sandbox: Sandbox) -> None:
    sandbox.run("import os; os.makedirs('/tmp/a/b'); os.chdir('/tmp/a/b')").unwrap()
    with sandbox.fork() as branch:
        assert branch.run("open('x', 'w'); os.getcwd()").unwrap() == "/tmp/a/b"
    assert sandbox.run("os.listdir()").unwrap() == []
    sandbox.run("os.chdir('/usr/lib')").unwrap()
    with sandbox.fork() as branch:
        assert branch.run("os.getcwd()").unwrap() == "/usr/lib"


def test_x2_granted_places_stay_shared(open_dir: Path) -> None:
    """What a policy lends is the host's, and there is one of it."""
    with Sandbox(Policy().allow(write=[str(open_dir)]), branches=1) as sandbox:
        sandbox.run(f"f = open('{open_dir}/f', 'w')").unwrap()
        with sandbox.fork() as branch:
            branch.run("f.write('from the branch'); f.close()").unwrap()
            assert (open_dir / "f").read_text() == "from the branch"


def test_r1_files_of_all_branches_count_together() -> None:
    policy = Policy().limit(work_bytes=1 << 20)
    with Sandbox(policy, branches=4) as sandbox:
        sandbox.run("open('f', 'wb').write(bytes(700_000))").unwrap()
        with pytest.raises(ForkRefused, match="No space left"):
            sandbox.fork()
        assert sandbox.run("open('f', 'rb').read() == bytes(700_000)").unwrap() is True
        sandbox.run("open('f', 'wb').write(b'x')").unwrap()
        with sandbox.fork() as branch:
            hit = branch.run("open('g', 'wb').write(bytes(2_000_000))")
            assert (hit.status, hit.limit and hit.limit.name) == ("limit", "work")


# --- what cannot be copied ----------------------------------------------------------------------

REFUSED = {
    "a thread": (
        "import threading, time\nt = threading.Thread(target=time.sleep, args=(0.5,)); t.start()",
        "2 threads",
        "t.join()",
    ),
    "a task": (
        "import asyncio\nasync def nap(): await asyncio.sleep(0.01)\n"
        "async def begin():\n    global task\n    task = asyncio.create_task(nap())\n"
        "await begin()",
        "asyncio task",
        "await task",
    ),
    "a pipe": ("import os\na, b = os.pipe()", "pipe:", "os.close(a); os.close(b)"),
    "a socket": (
        "import socket\na, b = socket.socketpair()",
        "socket:",
        "a.close(); b.close()",
    ),
    "a selector": ("import select\ne = select.epoll()", "eventpoll", "e.close()"),
    "a shared mapping": (
        "import mmap\nf = open('f', 'w+b'); f.truncate(4096)\nm = mmap.mmap(f.fileno(), 4096)",
        "mapping of '/work/f'",
        "m.close()",
    ),
    "a private mapping of its files": (
        "import mmap\nf = open('f', 'w+b'); f.truncate(4096)\n"
        "m = mmap.mmap(f.fileno(), 4096, access=mmap.ACCESS_COPY)",
        "mapping of '/work/f'",
        "m.close()",
    ),
}


@pytest.mark.parametrize("what", list(REFUSED))
def test_x2_what_cannot_be_there_twice_is_refused_by_name(what: str, sandbox: Sandbox) -> None:
    make, told, unmake = REFUSED[what]
    sandbox.run(make).unwrap()
    with pytest.raises(ForkRefused, match=told):
        sandbox.fork()
    sandbox.run(unmake).unwrap()
    with sandbox.fork() as branch:
        assert branch.run("6 * 7").unwrap() == 42


def test_x2_more_than_were_allowed_are_refused() -> None:
    with Sandbox(branches=2) as sandbox:
        with sandbox.fork() as one, one.fork(), pytest.raises(ForkRefused, match="2 branches"):
            sandbox.fork()
        with sandbox.fork() as again:
            assert again.run("1").unwrap() == 1


def test_x2_without_branches_there_are_none() -> None:
    with Sandbox() as sandbox, pytest.raises(PolicyError, match="without branches"):
        sandbox.fork()
    for wrong in (-1, 513, True, "8", 1.5):
        with pytest.raises(PolicyError, match="branches"):
            Sandbox(branches=wrong)  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match="processes"):
        Sandbox(Policy().allow(processes=2), branches=1)


# --- state of the interpreter -------------------------------------------------------------------


def test_m9_random_goes_on_and_what_must_be_ones_own_is(sandbox: Sandbox) -> None:
    """``random`` gives both the same numbers, so that a search can be repeated."""
    sandbox.run("import random, secrets, uuid, os; random.random(); uuid.uuid1()").unwrap()
    look = (
        "(random.random(), secrets.token_hex(), str(uuid.uuid4()), uuid.uuid1().node, os.getpid())"
    )
    with sandbox.fork() as one, sandbox.fork() as other:
        rows = [each.run(look).unwrap() for each in (sandbox, one, other)]
    same, *own = zip(*rows, strict=True)
    assert len(set(same)) == 1
    assert all(len(set(column)) == 3 for column in own)


def test_x2_the_event_loop_begins_anew_and_the_parents_goes_on(sandbox: Sandbox) -> None:
    sandbox.run("import asyncio\nawait asyncio.sleep(0)\nq = asyncio.Queue()").unwrap()
    with sandbox.fork() as branch:
        assert branch.run("await asyncio.sleep(0.01); q.put_nowait(1); await q.get()").unwrap() == 1
        assert sandbox.run("await asyncio.sleep(0.01); q.qsize()").unwrap() == 0
        with branch.fork() as deeper:
            assert deeper.run("await asyncio.sleep(0.01, 'again')").unwrap() == "again"


def test_x2_threads_and_loops_can_be_made_afterwards(sandbox: Sandbox) -> None:
    code = (
        "from concurrent.futures import ThreadPoolExecutor as P\n"
        "with P(4) as p: r = sum(p.map(abs, range(-50, 50)))\nr"
    )
    sandbox.run(code).unwrap()
    with sandbox.fork() as branch:
        assert branch.run(code).unwrap() == 2500
        with branch.fork() as deeper:
            assert deeper.run(code).unwrap() == 2500


def test_r13_streams_are_its_own(sandbox: Sandbox) -> None:
    sandbox.run("import sys; sys.stdout.write('before')").unwrap()
    heard: list[bytes] = []
    with sandbox.fork(on_output=lambda _, data: heard.append(data)) as branch:
        result = branch.run("print(input(), file=sys.stderr)\nprint('out')", stdin="in\n")
        assert (result.stdout, result.stderr) == ("out\n", "in\n")
    assert b"".join(sorted(heard)) == b"in\nout\n"
    assert sandbox.run("print('mine')").stdout == "mine\n"


def test_x2_history_begins_with_the_parents(sandbox: Sandbox) -> None:
    sandbox.run("x = 1")
    with sandbox.fork() as branch:
        branch.run("x += 1")
        sandbox.run("x = 7")
        assert [step.code for step in branch.history] == ["x = 1", "x += 1"]
        with Sandbox() as other:
            assert other.replay(branch.history)[-1].status == "ok"
            assert other.get("x") == 2


# --- limits -------------------------------------------------------------------------------------


def test_n2_limits_of_a_branch_are_its_own_and_never_above(sandbox: Sandbox) -> None:
    with sandbox.fork(wall_s=0.2) as branch:
        hit = branch.run("while True: pass")
        assert (hit.status, hit.limit and hit.limit.name) == ("limit", "wall")
        with pytest.raises(ClosedError):
            branch.run("1")
        assert sandbox.run("1").unwrap() == 1
    with pytest.raises(PolicyError):
        sandbox.fork(wall_s=PATIENCE_S * 2)
    with pytest.raises(PolicyError, match="memory_bytes"):
        sandbox.fork(memory_bytes=1 << 24)
    with sandbox.fork(cpu_s=1.0) as branch, pytest.raises(PolicyError):
        branch.fork(cpu_s=2.0)


def test_r1_memory_is_bounded_in_a_branch_too() -> None:
    with Sandbox(Policy().limit(memory_bytes=64 << 20), branches=1) as sandbox:
        with sandbox.fork() as branch:
            hit = branch.run("x = bytearray(200 << 20)")
            assert (hit.status, hit.limit and hit.limit.name) == ("limit", "memory")
        assert sandbox.run("1").unwrap() == 1


def test_r2_a_branch_is_stopped_between_runs(sandbox: Sandbox) -> None:
    sandbox.run("import signal\nsignal.signal(signal.SIGALRM, lambda *_: None)").unwrap()
    with sandbox.fork() as branch:
        pid = process_of(branch)
        branch.run("signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)").unwrap()
        time.sleep(0.05)  # the stop itself takes a moment
        before = time.clock_gettime((~pid << 3) | 2)
        time.sleep(0.1)
        assert time.clock_gettime((~pid << 3) | 2) == before


def test_x2_usage_of_a_run_is_the_runs(sandbox: Sandbox) -> None:
    sandbox.run("sum(range(3_000_000))").unwrap()
    with sandbox.fork() as branch:
        assert branch.run("1").usage.cpu_s < 1.0
        used = branch.run("sum(range(3_000_000))").usage
        assert used.cpu_s > 0.005
        assert used.peak_memory_bytes > 1 << 20


# --- ends ---------------------------------------------------------------------------------------


def test_x2_closing_the_parent_closes_branches() -> None:
    with Sandbox(branches=4) as sandbox:
        one = sandbox.fork()
        two = one.fork()
        pids = [process_of(each) for each in (one, two)]
    assert one.closed
    assert two.closed
    assert eventually(lambda: all(map(gone, pids)))
    with pytest.raises(ClosedError, match="forked from has ended"):
        two.run("1")


def test_x2_a_parent_that_crashes_takes_its_branches_along(sandbox: Sandbox) -> None:
    with sandbox.fork() as one:
        pid = process_of(one)
        assert sandbox.run("import os; os._exit(3)").exit_code == 3
        assert one.closed
        assert eventually(lambda: gone(pid))


def test_x2_a_branch_that_ends_harms_nobody(sandbox: Sandbox) -> None:
    sandbox.run("import os, ctypes\nx = 1").unwrap()
    with sandbox.fork() as one, sandbox.fork() as other:
        assert one.run("os._exit(4)").exit_code == 4
        with sandbox.fork() as third:
            assert third.run("ctypes.string_at(0)").signal == 11
        assert other.get("x") == 1
        assert sandbox.get("x") == 1
        with pytest.raises(ClosedError, match="exit code 4"):
            one.run("1")


def test_x2_a_branch_is_closed_twice_and_never_reset(sandbox: Sandbox) -> None:
    branch = sandbox.fork()
    with pytest.raises(ClosedError, match="fork its parent again"):
        branch.reset()
    branch.close()
    branch.close()
    assert sandbox.branches == ()
    with sandbox.fork() as branch:
        sandbox.reset()
        assert branch.closed
    with sandbox.fork() as branch:
        assert branch.run("'x' in globals()").unwrap() is False


def test_x2_an_unclosed_branch_warns_and_is_ended(sandbox: Sandbox) -> None:
    branch = sandbox.fork()
    pid = process_of(branch)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del branch
        gc.collect()
    assert [w.category for w in caught] == [ResourceWarning]
    assert eventually(lambda: gone(pid))


def test_x2_idle_branches_are_closed(sandbox: Sandbox) -> None:
    with sandbox.fork(idle_s=0.05) as branch:
        assert eventually(lambda: branch.closed)
    assert sandbox.run("1").unwrap() == 1


def test_k10_nothing_is_left_of_branches() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with Sandbox(branches=4) as sandbox:
        sandbox.run("x = 1").unwrap()
        with sandbox.fork():
            pass
    before = descriptors()
    with Sandbox(branches=4) as sandbox:
        made = [sandbox.fork() for _ in range(4)]
        made[0].close()
        sandbox.run("import os; a = os.pipe()").unwrap()
        with pytest.raises(ForkRefused):
            sandbox.fork()
    del made
    assert eventually(lambda: descriptors() <= before)


def test_k10_branches_die_with_the_zygote_and_it_is_told() -> None:
    from belljar.drivers.account import children

    with Sandbox(branches=2) as sandbox, sandbox.fork() as branch:
        pids = [process_of(sandbox), process_of(branch)]
        (zygote,) = [pid for pid in children(os.getpid()) if pids[0] in children(pid)]
        os.kill(zygote, 9)
        assert eventually(lambda: all(map(gone, pids)))
        with pytest.raises((ClosedError, belljar.SandboxFailure)):
            branch.run("1")
    with Sandbox(branches=1) as sandbox, sandbox.fork() as branch:
        assert branch.run("1").unwrap() == 1


def test_k10_branches_die_with_the_host(tmp_path: Path) -> None:
    import subprocess
    import sys

    source = str(Path(belljar.__file__).parent.parent)
    code = (
        f"import sys; sys.path.insert(0, {source!r})\n"
        "import belljar\n"
        "from belljar.drivers.account import pid_of\n"
        "s = belljar.Sandbox(branches=2); b = s.fork(); c = b.fork()\n"
        "print(*[pid_of(x._live.ends.pidfd) for x in (s, b, c)], flush=True)\n"
        "c.run('while True: pass')\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        pids = [int(word) for word in host.stdout.readline().split()]
        assert len(pids) == 3
        host.kill()
    assert eventually(lambda: all(map(gone, pids)))


def test_x2_a_fork_from_within_a_run_is_refused(sandbox: Sandbox) -> None:
    said: list[str] = []

    def heard(_stream: str, _data: bytes) -> None:
        try:
            sandbox.fork()
        except ClosedError as error:
            said.append(str(error))

    sandbox.run("print(1)", on_output=heard).unwrap()
    assert said
    assert "busy" in said[0]


def test_x2_interrupting_a_branch_leaves_it(sandbox: Sandbox) -> None:
    with sandbox.fork() as branch:
        running = threading.Event()

        def heard(_stream: str, _data: bytes) -> None:
            running.set()

        thread = threading.Thread(
            target=lambda: branch.run(
                "try:\n    print('on', flush=True)\n    while True: pass\nexcept KeyboardInterrupt:\n    x = 5",
                on_output=heard,
            )
        )
        thread.start()
        assert running.wait(PATIENCE_S)
        assert eventually(branch.interrupt)
        thread.join(PATIENCE_S)
        assert branch.get("x") == 5


def test_X2_X3_a_branch_has_the_functions_and_uses_up_the_same_bounds() -> None:
    asked: list[int] = []

    def double(x: int) -> int:
        asked.append(x)
        return 2 * x

    lent = belljar.HostFunction(double, calls=3)
    with belljar.Sandbox(branches=2, functions={"double": lent}) as sandbox:
        sandbox.run("double(1)").unwrap()
        with sandbox.fork() as branch, branch.fork() as leaf:
            assert (branch.run("double(2)").value, leaf.run("double(3)").value) == (4, 6)
            for each in (sandbox, branch, leaf):
                assert each.run("double(4)").error.type.endswith("FunctionRefused")
    assert asked == [1, 2, 3]


def test_X2_K3_revoked_in_a_branch_is_revoked_in_its_lineage() -> None:
    with belljar.Sandbox(branches=1, functions={"f": len}) as sandbox, sandbox.fork() as branch:
        assert branch.run("f('ab')").value == 2
        branch.functions.revoke("f")
        for each in (sandbox, branch):
            assert each.run("f('ab')").error.type.endswith("FunctionRefused")


def test_X2_R14_the_host_reads_and_writes_the_files_of_a_branch() -> None:
    with belljar.Sandbox(branches=1, files={"a": "1"}) as sandbox, sandbox.fork() as branch:
        branch.write_text("b", "2")
        result = branch.run("open('c', 'w').write(open('a').read() + open('b').read())")
        assert {name: file.read_text() for name, file in result.files.items()} == {"c": "12"}
        assert [file.name for file in branch.list()] == ["a", "b", "c"]
        assert [file.name for file in sandbox.list()] == ["a"]
        assert not sandbox.run("1").files


def test_X2_X9_X4_artifacts_and_large_values_of_a_branch() -> None:
    shown = "class Page:\n    def _repr_html_(self):\n        return '<b>'\ndisplay(Page())"
    with belljar.Sandbox(branches=1) as sandbox, sandbox.fork() as branch:
        (artifact,) = branch.run(shown).artifacts
        assert artifact.data == b"<b>"
        assert branch.run("b'x' * 300_000").value == b"x" * 300_000
        assert branch.run("len(y)", inputs={"y": b"y" * 300_000}).value == 300_000


def test_X2_K2_a_channel_stays_with_the_sandbox_that_it_was_given_to() -> None:
    ours, theirs = belljar.channel()
    with belljar.Sandbox(branches=1, channels={"jobs": theirs}) as sandbox:
        with sandbox.fork() as branch:
            assert branch.run("jobs.recv(timeout=1)").status != "ok"
        ours.send(5)
        assert sandbox.run("jobs.recv()").value == 5


def test_X2_R13_streams_of_a_branch() -> None:
    code = "import sys\nprint('out', flush=True)\nprint('err', file=sys.stderr)\nprint(input())"
    with belljar.Sandbox(branches=1, merge_stderr=True) as sandbox, sandbox.fork() as branch:
        for each in (branch, sandbox):
            with each.stream(code, stdin=iter([b"typ", b"ed\n"])) as stream:
                assert [line for _, line in stream.lines()] == ["out", "err", "typed"]
            assert stream.result.stderr == ""
