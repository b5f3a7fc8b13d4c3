"""Files in and out of ``/work``: ``files=``, ``result.files``, a live sandbox's own (R3, R14, K3)."""

from __future__ import annotations

import copy
import gc
import os
import pickle
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import belljar
from belljar import ClosedError, FileRefused, Policy, PolicyError, Sandbox

MIB = 2**20


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as made:
        yield made


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


# --- what a run left ------------------------------------------------------------------------------


def test_nothing_left_is_an_empty_mapping() -> None:
    """R14; and nothing is held for it."""
    result = belljar.run("1 + 1")
    assert result.left is None
    assert dict(result.files) == {}
    assert (result.files.deleted, result.files.complete) == ((), True)


def test_what_was_made_and_taken_away_again_is_not_left() -> None:
    """R14"""
    result = belljar.run("import os\nopen('a', 'w').close()\nos.remove('a')")
    assert result.left is None


def test_what_was_made_is_there_after_the_end() -> None:
    """R14: names are paths in /work, contents are read when asked for."""
    code = "import os\nos.makedirs('d/e')\nopen('d/e/f', 'wb').write(b'\\0\\xff')\nopen('g', 'w').write('ä')"
    result = belljar.run(code)
    assert list(result.files) == ["d/e/f", "g"]
    assert result.files["d/e/f"].read_bytes() == b"\0\xff"
    assert result.files["g"].read_text() == "ä"
    assert (result.files["g"].kind, result.files["g"].size) == ("file", 2)
    assert "x" not in result.files
    with pytest.raises(KeyError):
        result.files["x"]


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("1 / 0", "raised"),
        ("import sys; sys.exit(3)", "exited"),
        ("import os; os._exit(3)", "exited"),
        ("import os; os.abort()", "crashed"),
        ("while True: pass", "limit"),
        ("bytearray(2**40)", "limit"),
    ],
)
def test_whatever_the_end(end: str, status: str) -> None:
    """R14, K1"""
    code = f"with open('a', 'w') as file: file.write('so far')\n{end}"
    result = belljar.run(code, Policy().limit(wall_s=0.5))
    assert result.status == status
    assert result.files["a"].read_text() == "so far"


def test_files_of_several_processes() -> None:
    """R14"""
    code = "import os\nif not os.fork():\n    open('child', 'w').write('c')\n    os._exit(0)\nos.wait()[1]"
    result = belljar.run(code, Policy().allow(processes=2))
    assert result.files["child"].read_bytes() == b"c"


def test_only_work_is_looked_at() -> None:
    """R14: /tmp is scratch."""
    result = belljar.run("open('/tmp/a', 'w').write('x')")
    assert dict(result.files) == {}


def test_given_files_count_when_they_were_changed() -> None:
    """R14"""
    given = {"same": "1", "changed": "2", "longer": "3", "gone": "4", "touched": "5"}
    code = """
import os
open('changed', 'w').write('x')
open('longer', 'a').write('x')
os.remove('gone')
os.utime('touched')
open('same').read()
"""
    result = belljar.run(code, files=given)
    assert list(result.files) == ["changed", "longer"]
    assert result.files.deleted == ("gone",)
    assert belljar.run("1", files=given).left is None


def test_many_given_files_are_compared_late() -> None:
    """R14: beyond a mebibyte nothing is read unless asked for."""
    given = {"a": bytes(MIB), "b": bytes(MIB)}
    result = belljar.run("open('b', 'ab').write(b'x')", files=given)
    assert list(result.files) == ["b"]
    assert result.files["b"].size == MIB + 1


def test_the_files_are_let_go_of() -> None:
    """K1: the host holds a descriptor only for a run that left something, and until the end of it."""
    belljar.run("1")
    before = descriptors()
    kept = [belljar.run("open('a', 'w').write('x')") for _ in range(3)]
    assert descriptors() == before + 3
    kept[0].files.close()
    assert descriptors() == before + 2
    assert len(kept[1].files) == 1
    kept[1].files.close()
    assert descriptors() == before + 1
    kept.clear()
    assert descriptors() == before


def test_what_was_closed_says_so() -> None:
    """K3"""
    result = belljar.run("open('a', 'w').write('x')")
    result.files.close()
    with pytest.raises(ClosedError, match="close"):
        len(result.files)
    result = belljar.run("open('a', 'w').write('x')")
    file = result.files["a"]
    result.files.close()
    assert list(result.files) == ["a"]
    with pytest.raises(ClosedError):
        file.read_bytes()


@pytest.mark.parametrize("again", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_result_can_be_copied_without_the_contents(again: Any) -> None:
    """K3: names and sizes go along, descriptors do not."""
    result = belljar.run("open('a', 'w').write('x')")
    twin = again(result)
    assert [(one.name, one.kind, one.size) for one in twin.files.values()] == [("a", "file", 1)]
    with pytest.raises(ClosedError, match="not held"):
        twin.files["a"].read_bytes()
    assert result.files["a"].read_bytes() == b"x"


def test_a_file_as_a_stream() -> None:
    """R14"""
    result = belljar.run("open('a', 'wb').write(bytes(3 * 2**20) + b'end')")
    with result.files["a"].open() as file:
        assert len(file.read(MIB)) == MIB
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"end"
        assert not file.writable()


def test_no_more_than_asked_for() -> None:
    """K1"""
    result = belljar.run("open('a', 'wb').write(bytes(1000))")
    assert len(result.files["a"].read_bytes(1000)) == 1000
    with pytest.raises(FileRefused, match="larger than 999"):
        result.files["a"].read_bytes(999)


# --- saving -----------------------------------------------------------------------------------------


def test_save_one(tmp_path: Path) -> None:
    """R14"""
    result = belljar.run("import os\nopen('a', 'w').write('x')\nos.chmod('a', 0o777)")
    path = tmp_path / "b"
    before = os.umask(0o022)
    try:
        result.files["a"].save(path)
    finally:
        os.umask(before)
    assert path.read_bytes() == b"x"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    with pytest.raises(FileExistsError):
        result.files["a"].save(path)
    with pytest.raises(FileRefused):
        result.files["a"].save(tmp_path / "c", most_bytes=0)
    assert not (tmp_path / "c").exists()


def test_save_all(tmp_path: Path) -> None:
    """R14"""
    code = "import os\nos.makedirs('d/e')\nopen('d/e/f', 'w').write('1')\nopen('g', 'w').write('2')"
    saved = belljar.run(code).files.save_all(tmp_path / "out")
    assert saved.files == {
        "d/e/f": str(tmp_path / "out/d/e/f"),
        "g": str(tmp_path / "out/g"),
    }
    assert saved.left_out == {}
    assert (tmp_path / "out/d/e/f").read_text() == "1"
    assert (tmp_path / "out/g").read_text() == "2"


def test_save_all_takes_an_empty_directory_and_no_other(tmp_path: Path) -> None:
    """K1: the guest chooses the names."""
    result = belljar.run("open('a', 'w').write('x')")
    result.files.save_all(tmp_path)
    with pytest.raises(PolicyError, match="not empty") as caught:
        result.files.save_all(tmp_path)
    assert caught.value.key == "directory"
    with pytest.raises(FileNotFoundError):
        result.files.save_all(tmp_path / "no/where")


def test_save_all_writes_no_more_than_asked_for(tmp_path: Path) -> None:
    """K1"""
    result = belljar.run("for name in 'abc': open(name, 'wb').write(bytes(400))")
    saved = result.files.save_all(tmp_path, most_bytes=1000)
    assert list(saved.files) == ["a", "b"]
    assert list(saved.left_out) == ["c"]
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


# --- a file of the host's ---------------------------------------------------------------------------


def test_a_path_of_the_host(tmp_path: Path) -> None:
    """R3: its contents go in, under the name that the caller gives."""
    path = tmp_path / "data.bin"
    path.write_bytes(os.urandom(3 * MIB))
    code = "import hashlib\nhashlib.sha256(open('d/in.bin', 'rb').read()).hexdigest()"
    result = belljar.run(code, files={"d/in.bin": path})
    assert result.value == __import__("hashlib").sha256(path.read_bytes()).hexdigest()
    assert result.left is None


def test_contents_beyond_a_message() -> None:
    """R14: more than what a message takes, and more than the guest's memory."""
    policy = Policy().allow(work_bytes=128 * MIB, file_bytes=64 * MIB).limit(memory_bytes=32 * MIB)
    result = belljar.run(
        "import os\n[os.path.getsize(n) for n in 'ab']",
        policy,
        files={"a": bytes(40 * MIB), "b": bytes(40 * MIB)},
    )
    assert result.value == [40 * MIB, 40 * MIB]


def test_what_the_host_put_there_belongs_to_the_program(tmp_path: Path) -> None:
    """R4: whoever the host is, the guest owns it, with the usual mode."""
    path = tmp_path / "a"
    path.write_text("1")
    path.chmod(0o600)
    code = """
import os
status = os.stat('d/a')
found = [oct(status.st_mode), status.st_uid == os.getuid(), oct(os.stat('d').st_mode)]
open('d/a', 'a').write('2')
os.rename('d', 'e')
found + [open('e/a').read()]
"""
    before = os.umask(0o077)
    try:
        result = belljar.run(code, files={"d/a": path})
    finally:
        os.umask(before)
    assert result.unwrap() == ["0o100644", True, "0o40755", "12"]
    assert list(result.files) == ["e/a"]
    assert result.files.deleted == ("d/a",)


def test_the_host_is_as_it_was(tmp_path: Path) -> None:
    """K1: writing as the guest's user leaves no trace in the host."""
    (tmp_path / "a").write_text("1")
    before = Path("/proc/self/status").read_text().splitlines()
    belljar.run("1", files={"a": tmp_path / "a"})
    after = Path("/proc/self/status").read_text().splitlines()
    names = ("Uid:", "Gid:", "Groups:", "CapEff:", "CapPrm:")
    for name in names:
        kept = [[line for line in lines if line.startswith(name)] for lines in (before, after)]
        assert kept[0] == kept[1]
    libc = __import__("ctypes").CDLL(None)
    assert libc.prctl(3, 0, 0, 0, 0) == 1  # PR_GET_DUMPABLE


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "is a directory"),
        (lambda path: os.mkfifo(path), "not a regular file"),
    ],
)
def test_a_path_that_is_no_file(tmp_path: Path, make: Any, reason: str) -> None:
    """R3"""
    path = tmp_path / "x"
    make(path)
    with pytest.raises(PolicyError, match=reason) as caught:
        belljar.run("1", files={"a": path})
    assert caught.value.key == "files['a']"


def test_a_path_that_does_not_fit(tmp_path: Path) -> None:
    """R2"""
    path = tmp_path / "x"
    path.write_bytes(bytes(21_000))
    with pytest.raises(PolicyError, match="file_bytes"):
        belljar.run("1", Policy().limit(file_bytes=20_000), files={"a": path})
    with pytest.raises(PolicyError, match="work_bytes"):
        belljar.run("1", Policy().limit(work_bytes=65_536), files=dict.fromkeys("abcd", path))
    with pytest.raises(PolicyError, match="full"):
        # Each takes six pages of the sixteen.
        belljar.run("1", Policy().limit(work_bytes=65_536), files=dict.fromkeys("abc", path))
    assert belljar.run("1", files={"a": path}).value == 1


def test_a_path_that_stands_in_the_way_of_another(tmp_path: Path) -> None:
    """R4"""
    path = tmp_path / "x"
    path.write_text("1")
    with pytest.raises(PolicyError) as caught:
        belljar.run("1", files={"a": path, "a/b": path})
    assert caught.value.key == "files['a/b']"


# --- a live sandbox ----------------------------------------------------------------------------------


def test_each_run_has_its_own_files() -> None:
    """R14"""
    with Sandbox(files={"given": "1"}) as sandbox:
        assert sandbox.run("1").left is None
        first = sandbox.run("open('a', 'w').write('x')\nopen('b', 'w').write('x')")
        assert list(first.files) == ["a", "b"]
        assert sandbox.run("open('a').read()").left is None
        second = sandbox.run("import os\nopen('a', 'a').write('y')\nos.remove('given')")
        assert list(second.files) == ["a"]
        assert second.files.deleted == ("given",)
        assert second.files["a"].read_bytes() == b"xy"
        assert first.files["b"].read_bytes() == b"x"
        third = sandbox.run("os.rename('b', 'c')")
        assert (list(third.files), third.files.deleted) == (["c"], ("b",))


def test_contents_of_an_earlier_run_are_those_or_none(sandbox: Sandbox) -> None:
    """R14: what is read is what the run left, or it is said that it is not."""
    first = sandbox.run("open('a', 'w').write('1')")
    sandbox.run("open('a', 'w').write('2')")
    with pytest.raises(FileRefused, match="has changed"):
        first.files["a"].read_bytes()
    sandbox.run("import os\nos.remove('a')")
    with pytest.raises(FileNotFoundError):
        first.files["a"].read_bytes()


def test_files_outlive_the_sandbox() -> None:
    """M2, R14: a result holds what it tells of."""
    with Sandbox() as sandbox:
        result = sandbox.run("open('a', 'w').write('1')")
        last = sandbox.run("open('b', 'w').write('2')\nimport os; os._exit(1)")
    assert result.files["a"].read_bytes() == b"1"
    assert last.files["b"].read_bytes() == b"2"


def test_read_and_write(sandbox: Sandbox) -> None:
    """R14, both ways, in one line each."""
    sandbox.write_bytes("d/a", b"\0\1")
    sandbox.write_text("/work/t", "ä")
    assert sandbox.run("[open('d/a', 'rb').read(), open('t').read()]").value == [b"\0\1", "ä"]
    sandbox.run("open('d/a', 'ab').write(b'\\2')")
    assert sandbox.read_bytes("d/a") == b"\0\1\2"
    assert sandbox.read_text(Path("/work/t")) == "ä"
    sandbox.write_bytes("d/a", b"anew")
    assert sandbox.run("open('d/a').read()").value == "anew"
    sandbox.delete("d/a")
    sandbox.delete("d")
    assert [file.name for file in sandbox.list()] == ["t"]


def test_what_the_host_wrote_no_run_has_changed(sandbox: Sandbox) -> None:
    """R14"""
    sandbox.write_bytes("a", b"1")
    with sandbox.open_file("b", "wb") as file:
        file.write(b"2" * MIB)
    assert sandbox.run("open('a').read()", files={"c": "3"}).left is None
    sandbox.delete("a")
    assert sandbox.run("1").left is None
    assert list(sandbox.run("open('b', 'a').write('x')").files) == ["b"]


def test_list(sandbox: Sandbox) -> None:
    """R14"""
    code = "import os\nos.makedirs('d/e')\nopen('d/f', 'w').write('12')\nos.symlink('x', 'l')\nos.mkfifo('p')"
    sandbox.run(code)
    found = [(file.name, file.kind) for file in sandbox.list()]
    assert found == [("d", "directory"), ("l", "link"), ("p", "fifo")]
    assert [(f.name, f.kind) for f in sandbox.list("d")] == [("d/e", "directory"), ("d/f", "file")]
    assert sandbox.list("/work/d")[1].read_bytes() == b"12"
    assert sandbox.list("/work/") == sandbox.list("/work")


def test_streams_both_ways(sandbox: Sandbox) -> None:
    """R14"""
    with sandbox.open_file("a", "wb") as file:
        for number in range(100):
            file.write(bytes([number]) * 65536)
    assert sandbox.run("import os\nos.path.getsize('a')").value == 100 * 65536
    with sandbox.open_file("a") as file:
        assert file.read(1) == b"\0"
        file.seek(-1, os.SEEK_END)
        assert file.read() == bytes([99])
    with pytest.raises(PolicyError):
        sandbox.open_file("a", "r+")


def test_limits_hold_for_the_host_too() -> None:
    """R1, R2: and what did not fit is not there."""
    with Sandbox(Policy().limit(work_bytes=MIB, file_bytes=800_000, work_files=20)) as sandbox:
        with pytest.raises(FileRefused, match="larger than 800000"):
            sandbox.write_bytes("a", bytes(800_001))
        sandbox.write_bytes("a", bytes(700_000))
        with pytest.raises(FileRefused, match="work_bytes"):
            sandbox.write_bytes("b", bytes(700_000))
        assert [file.name for file in sandbox.list()] == ["a"]
        sandbox.run("for n in range(30): open(str(n), 'w').close()")
        with pytest.raises(FileRefused, match="work_files"):
            sandbox.write_bytes("one more", b"")
        assert sandbox.run("1 + 1").value == 2


@pytest.mark.parametrize(
    "path", ["", "../a", "/etc/passwd", "a//b", "a/../b", "x\0", 5, None, b"a"]
)
def test_paths_that_make_no_sense(sandbox: Sandbox, path: Any) -> None:
    """R4"""
    for act in (sandbox.read_bytes, sandbox.open_file, sandbox.list, sandbox.delete):
        with pytest.raises(PolicyError) as caught:
            act(path)
        assert caught.value.key == "path"
    with pytest.raises(PolicyError):
        sandbox.write_bytes(path, b"")


def test_what_is_not_there(sandbox: Sandbox) -> None:
    """R14: errors are those of ``open``, with the name that was asked for."""
    sandbox.run("import os\nos.mkdir('d')\nopen('f', 'w').close()")
    with pytest.raises(FileNotFoundError, match="nothing"):
        sandbox.read_bytes("nothing")
    with pytest.raises(IsADirectoryError):
        sandbox.read_bytes("d")
    with pytest.raises(NotADirectoryError):
        sandbox.list("f")
    with pytest.raises(IsADirectoryError):
        sandbox.write_bytes("d", b"")
    with pytest.raises(NotADirectoryError):
        sandbox.write_bytes("f/x", b"")
    with pytest.raises(FileNotFoundError):
        sandbox.delete("nothing")
    sandbox.write_bytes("d/x", b"")
    with pytest.raises(OSError, match="not empty"):
        sandbox.delete("d")


def test_while_code_runs(sandbox: Sandbox) -> None:
    """R14: from a function that the run calls, or another thread."""
    seen: list[bytes] = []

    def look(_stream: str, _data: bytes) -> None:
        seen.append(sandbox.read_bytes("a"))
        sandbox.write_bytes("b", b"from the host")

    code = """
import os, time
open('a', 'w').write('so far')
print('there', flush=True)
while not os.path.exists('b') or not os.path.getsize('b'):
    time.sleep(0.01)
open('b').read()
"""
    result = sandbox.run(code, on_output=look)
    assert result.value == "from the host"
    assert seen == [b"so far"]


def test_what_is_closed_says_so() -> None:
    """M2"""
    sandbox = Sandbox()
    sandbox.run("open('a', 'w').write('x')\nimport os; os._exit(1)")
    with pytest.raises(ClosedError, match="exit code 1"):
        sandbox.read_bytes("a")
    sandbox.reset()
    assert sandbox.list() == ()
    sandbox.close()
    for act in (sandbox.list, lambda: sandbox.write_bytes("a", b"")):
        with pytest.raises(ClosedError):
            act()


def test_paths_of_the_host_in_a_sandbox(tmp_path: Path) -> None:
    """R3: at its start, again after a reset, and in a run."""
    path = tmp_path / "x"
    path.write_text("one")
    with Sandbox(files={"a": path, "b": "text"}) as sandbox:
        assert sandbox.run("open('a').read() + open('b').read()").value == "onetext"
        path.write_text("two")
        assert sandbox.run("open('c').read()", files={"c": path}).value == "two"
        assert sandbox.run("1").left is None
        sandbox.reset()
        assert sandbox.run("open('a').read()").value == "two"
        with pytest.raises(PolicyError, match="No such file"):
            sandbox.run("1", files={"c": tmp_path / "nothing"})
        assert sandbox.run("2").value == 2


def test_a_start_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """K10"""
    (tmp_path / "x").write_bytes(bytes(21_000))
    belljar.run("1")
    before = descriptors()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PolicyError, match="full"):
            Sandbox(
                Policy().limit(work_bytes=65_536),
                files={"a": tmp_path / "x", "b": tmp_path / "x", "c": tmp_path / "x"},
            )
    assert descriptors() <= before + 4  # the zygote of that policy


def test_more_than_is_watched(sandbox: Sandbox) -> None:
    """K1: what a run left is told up to a bound, and it says so."""
    result = sandbox.run("for n in range(1500): open(f'{n:04}', 'w').close()")
    assert not result.files.complete
    assert len(result.files) <= 1000
    assert len(sandbox.list()) == 1500
    assert belljar.run("for n in range(1500): open(f'{n:04}', 'w').close()").files.complete


def test_a_program_that_keeps_its_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """K1: the newest hold their files, by number; the older ones say that they do not."""
    from belljar.drivers import work

    monkeypatch.setattr(work, "MOST_HELD", 3)
    before = descriptors()
    kept = [belljar.run("open('a', 'w').write('x')") for _ in range(6)]
    assert descriptors() <= before + 4
    assert [one.files["a"].read_bytes() for one in kept[3:]] == [b"x"] * 3
    for one in kept[:3]:
        with pytest.raises(ClosedError, match="newer results"):
            len(one.files)


def test_a_program_that_keeps_large_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """K1, R1: and by what they hold."""
    from belljar.drivers import work

    monkeypatch.setattr(work, "MOST_HELD_BYTES", 5 * MIB)
    kept = [belljar.run("open('a', 'wb').write(bytes(2**21))") for _ in range(4)]
    assert [len(one.files) for one in kept[2:]] == [1, 1]
    for one in kept[:2]:
        with pytest.raises(ClosedError):
            len(one.files)
    large = belljar.run("open('a', 'wb').write(bytes(2**23))")
    assert large.files["a"].size == 2**23
    with Sandbox() as sandbox:
        results = [sandbox.run("open('b', 'ab').write(bytes(2**20))") for _ in range(4)]
        assert results[-1].files["b"].size == 4 * MIB


def test_many_threads_write_and_the_process_is_as_it_was() -> None:
    """K1: a host that is root writes as another user, and is whole again afterwards."""
    import ctypes
    import threading

    prctl = ctypes.CDLL(None).prctl
    before = prctl(3, 0, 0, 0, 0)  # PR_GET_DUMPABLE
    with Sandbox() as sandbox:

        def write(number: int) -> None:
            for turn in range(50):
                sandbox.write_bytes(f"{number}/{turn}", b"x")

        threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sandbox.run("import os\nsum(len(f) for _, _, f in os.walk('.'))").value == 400
    assert prctl(3, 0, 0, 0, 0) == before
    assert Path("/proc/self/status").read_text().split("Uid:")[1].split()[3] == str(os.geteuid())
