"""``Policy().allow(python=...)``: guests of another interpreter than the host's.

What: each CPython of this machine that belljar can lend, as it is and as a virtual environment.
Because: everything that is true of the host's own must be true of them, and they differ in
version, layout, modules and bytecode.  Then: an interpreter that is not here skips its tests, and
what is no interpreter is one clear ``PolicyError``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from uuid import UUID

import pytest

import belljar
from belljar import Policy, PolicyError
from belljar.api import machine
from belljar.policy.whitelist import BLOCKED
from belljar.python.interpreter import describe_interpreter

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
TOO_OLD = ("3.10", "3.9", "3.8", "3.7", "3.6", "2.7")
TIMEOUT_S = 60  # only a hang takes so long
ASK = "import sys; print('%d.%d' % sys.version_info[:2], getattr(sys, '_base_executable', sys.executable))"


@cache
def find(version: str) -> str | None:
    """The binary of a CPython that is not this one, or None."""
    places = [Path(folder) for folder in os.get_exec_path() if folder.startswith("/")]
    # Version managers put them side by side.
    places += sorted(Path(sys.base_prefix).parent.glob("*/bin"))
    for place in places:
        found = place / f"python{version}"
        if not os.access(found, os.X_OK) or found.read_bytes()[:2] == b"#!":
            continue
        done = subprocess.run(
            [found, "-S", "-c", ASK],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
            cwd="/",
        )
        said, _, path = done.stdout.strip().partition(" ")
        if done.returncode == 0 and said == version:
            real = os.path.realpath(path)
            if real != os.path.realpath(getattr(sys, "_base_executable", sys.executable)):
                return real
    return None


@pytest.fixture(params=VERSIONS)
def python(request: pytest.FixtureRequest) -> str:
    version: str = request.param
    found = find(version)
    if found is None:
        pytest.skip(f"no other CPython {version} here, on PATH or beside this one")
    return found


@pytest.fixture
def policy(python: str) -> Policy:
    return Policy().allow(python=python, wall_s=60)


@pytest.fixture
def environment(python: str, tmp_path: Path) -> Path:
    """A virtual environment of it, in which a distribution ``other-thing`` is installed."""
    made = tmp_path / "environment"
    done = subprocess.run(
        [python, "-I", "-m", "venv", "--without-pip", made],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"{python} makes no virtual environments: {done.stderr}")
    (site,) = made.glob("lib/python*/site-packages")
    info = site / "other_thing-2.5.dist-info"
    info.mkdir()
    files = {
        "other_thing/__init__.py": "import sys\nfrom .part import value\nwhere = __file__\n",
        "other_thing/part.py": "value = 42\ndef fail():\n    raise LookupError('in a package')\n",
        f"{info.name}/METADATA": "Metadata-Version: 2.1\nName: other-thing\nVersion: 2.5\n",
    }
    for name, text in files.items():
        (site / name).parent.mkdir(exist_ok=True)
        (site / name).write_text(text)
    (info / "RECORD").write_text("".join(f"{name},,\n" for name in [*files, f"{info.name}/RECORD"]))
    return made


def version_of(python: str) -> tuple[int, int, int]:
    return describe_interpreter(python).version


# -- it is another interpreter ----------------------------------------------------------------


def test_the_guest_is_that_interpreter(python: str, policy: Policy) -> None:
    code = """
import platform, sys, sysconfig
assert not [name for name in vars(sys.modules["builtins"]) if "belljar" in name]
[list(sys.version_info[:3]), sys.executable, sys.prefix, platform.python_version(), sys.flags.isolated]
"""
    version = version_of(python)
    text = ".".join(map(str, version))
    told = belljar.run(code, policy).unwrap()
    assert told[0] == [*version]
    assert told[1] == f"/usr/bin/python{version[0]}.{version[1]}"
    assert told[2] in ("/usr", "/usr/local")
    assert told[3].startswith(text)
    assert told[4] == 1
    # And the host's own is still itself.
    assert belljar.run("import sys; sys.version_info[:3]").value == sys.version_info[:3]


def test_R8_nothing_of_where_it_lies_is_told(python: str, policy: Policy) -> None:
    own = describe_interpreter(python)
    code = """
import json, os, sys
[os.__file__, sys.path, sys.executable, sys.prefix, sys.exec_prefix, sys.base_prefix,
 sys._base_executable, json.loads.__code__.co_filename, sys.orig_argv, os.environ.copy()]
"""
    told = repr(belljar.run(code, policy).unwrap())
    for path in (own.executable, own.stdlib, own.prefix):
        if not path.startswith("/usr"):
            assert path not in told
    assert str(Path(belljar.__file__).parent) not in told


VALUES = {
    "none": None,
    "truth": [True, False],
    "numbers": [0, -1, 2**63, -(2**200), 0.1, -0.0, float("inf"), 1 + 2j],
    "text": ["", "Zo\u00eb \U0001f600", "\udcff", b"\0\xff"],
    "bunches": [[], (1, (2,)), {"a": {1: None}}, {1, 2}, frozenset([(3,)])],
    "times": [
        date(2024, 2, 29),
        time(1, 2, 3, 4),
        datetime(2024, 2, 29, 12, tzinfo=UTC),
        timedelta(-1, 5, 7),
    ],
    "others": [Decimal("1.50"), Fraction(-1, 3), UUID(int=7)],
}


def test_values_of_every_type_cross_both_ways(policy: Policy) -> None:
    code = "[none, truth, numbers, text, bunches, times, others]"
    result = belljar.run(code, policy, inputs=VALUES)
    assert repr(result.unwrap()) == repr([*VALUES.values()])


def test_a_run_has_its_streams_files_and_arguments(policy: Policy) -> None:
    code = """
import sys
print(sys.argv[1:], input(), open("f").read())
print("error", file=sys.stderr)
sys.exit(3)
"""
    result = belljar.run(code, policy, argv=["a", "b"], stdin="line\n", files={"f": "file"})
    assert result.stdout == "['a', 'b'] line file\n"
    assert result.stderr == "error\n"
    assert result.exit_code == 3


def test_tracebacks_have_lines_of_the_program(policy: Policy) -> None:
    result = belljar.run("def f():\n    return 1 / 0\n\nf()\n", policy, name="program.py")
    error = result.error
    assert error is not None
    assert error.type == "ZeroDivisionError"
    assert 'File "program.py", line 2, in f' in error.traceback
    assert "return 1 / 0" in error.traceback
    assert "belljar" not in error.traceback
    wrong = belljar.run("1 +", policy, name="program.py").error
    assert wrong is not None
    assert wrong.type == "SyntaxError"
    groups = belljar.run("raise ExceptionGroup('g', [ValueError(1), KeyError(2)])", policy).error
    assert groups is not None
    assert "ValueError: 1" in groups.traceback


def test_await_at_top_level(policy: Policy) -> None:
    code = """
import asyncio
async def f(n):
    await asyncio.sleep(0.001)
    return n
async with asyncio.timeout(30):
    values = await asyncio.gather(*map(f, range(3)))
values
"""
    assert belljar.run(code, policy).unwrap() == [0, 1, 2]


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        ("wall", "import time; time.sleep(60)"),
        ("cpu", "while True: pass"),
        ("memory", "b'x' * 2**31"),
        ("output", "print('x' * 2**20)"),
        ("value", "'x' * 2**20"),
    ],
)
def test_limits_hold(limit: str, code: str, policy: Policy) -> None:
    bounds = {
        "wall": {"wall_s": 0.3},
        "cpu": {"cpu_s": 0.3},
        "memory": {"memory_bytes": 64 * 2**20},
        "output": {"output_bytes": 1000},
        "value": {"value_bytes": 1024},
    }[limit]
    result = belljar.run(code, policy.limit(**bounds))  # type: ignore[arg-type]
    if limit == "value":
        assert result.value is None
        assert result.value_error
        return
    if limit == "output":
        assert result.truncated or result.limit is not None
        return
    assert result.status == "limit"
    assert result.limit is not None
    assert result.limit.name == limit


# -- the whitelist ----------------------------------------------------------------------------

# The directories of extension modules, wherever this version of belljar shows them.
FILES = '[file for p in sys.path if "dynload" in p and os.path.isdir(p) for file in os.listdir(p)]'
REFUSALS = f"""
import os, sys
def answer(name):
    try:
        __import__(name)
    except ImportError as error:
        return type(error).__name__
    return "imported"
{{name: answer(name) for name in names}}, {FILES}
"""


def test_C3_the_whitelist_holds_for_its_own_modules(python: str, policy: Policy) -> None:
    own = describe_interpreter(python)
    there = {name for name, _ in own.extensions} | {*own.builtins}
    blocked = sorted(there & BLOCKED.keys())
    assert blocked
    answers, files = belljar.run(REFUSALS, policy, inputs={"names": blocked}).unwrap()
    assert {*answers.values()} == {"ModuleRefused"}
    assert not {file.partition(".")[0] for file in files} & {*blocked}


def test_C3_each_allowed_module_imports(python: str, policy: Policy) -> None:
    own = describe_interpreter(python)
    code = REFUSALS
    allowed = sorted({name for name, _ in own.extensions} - BLOCKED.keys())
    lacking = {name for name, _ in own.missing}
    answers, _ = belljar.run(code, policy, inputs={"names": allowed}).unwrap()
    refused = {name for name, answer in answers.items() if answer != "imported"}
    assert refused == set() or lacking


def test_C1_no_C_module_at_all(policy: Policy) -> None:
    """What ``block(modules=["*"])`` leaves is enough to run."""
    nothing = policy.block(modules=["*"])
    code = f"""
import os, sys
try:
    import _socket
except ImportError as error:
    answer = type(error).__name__
answer, sorted({{3, 1}}), {FILES}, b"%d" % 7
"""
    assert belljar.run(code, nothing).unwrap() == ("ModuleRefused", [1, 3], [], b"7")
    result = belljar.run("def f():\n    1 / 0\nf()", nothing)
    assert result.error is not None
    assert "line 2, in f" in result.error.traceback


def test_a_preload_of_that_interpreter(policy: Policy) -> None:
    code = "import random, sys\n'json' in sys.modules, random.random()"
    one, other = (belljar.run(code, policy, preload=["json", "random"]).unwrap() for _ in range(2))
    assert one[0] is other[0] is True
    assert one[1] != other[1]


# -- environments -------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["directory", "binary"])
def test_packages_are_those_of_the_environment(form: str, environment: Path) -> None:
    given = environment if form == "directory" else environment / "bin" / "python"
    policy = Policy().allow(python=str(given), packages=["other-thing"], wall_s=60)
    code = """
import importlib.metadata, other_thing
[other_thing.value, other_thing.where, importlib.metadata.version("other-thing")]
"""
    value, where, version = belljar.run(code, policy).unwrap()
    assert (value, version) == (42, "2.5")
    assert where.startswith("/usr/local/lib/python")
    failed = belljar.run("import other_thing.part; other_thing.part.fail()", policy)
    assert failed.error is not None
    assert str(environment) not in failed.error.traceback
    assert "/other_thing/part.py" in failed.error.traceback
    loaded = belljar.run(
        "import sys; 'other_thing' in sys.modules", policy, preload=["other_thing"]
    )
    assert loaded.value is True


def test_packages_of_the_host_are_not_there(environment: Path) -> None:
    """pytest is installed for the host, and not there."""
    policy = Policy().allow(python=str(environment), packages=["pytest"])
    with pytest.raises(PolicyError, match=r"'pytest' is not installed for .*environment"):
        belljar.run("None", policy)
    bare = Policy().allow(python=str(environment))
    result = belljar.run("import other_thing", bare)
    assert result.error is not None
    assert result.error.type == "ModuleNotFoundError"


def test_pth_files_of_an_environment_are_not_run(environment: Path, open_dir: Path) -> None:
    """They are code, and describing an interpreter must not start it."""
    (site,) = environment.glob("lib/python*/site-packages")
    mark = open_dir / "mark"
    (site / "evil.pth").write_text(f"import os; open({str(mark)!r}, 'w')\n")
    (site / "sitecustomize.py").write_text(f"open({str(mark)!r}, 'w')\n")
    assert belljar.run("1", Policy().allow(python=str(environment))).value == 1
    assert not mark.exists()


def test_nothing_is_left_on_the_hosts_disk(python: str, environment: Path, open_dir: Path) -> None:
    """Neither beside that interpreter nor beside belljar does bytecode appear.

    belljar's own is compiled by whoever installs it, for the version that it is installed for.
    """
    shutil.copytree(
        Path(belljar.__file__).parent,
        open_dir / "belljar",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    code = """
import belljar
assert belljar.run("import colorsys, sys; 1", belljar.Policy().allow(python=GIVEN)).value == 1
""".replace("GIVEN", repr(str(environment)))
    subprocess.run(
        [sys.executable, "-B", "-c", code],
        env={"PYTHONPATH": str(open_dir)},
        check=True,
        timeout=TIMEOUT_S,
    )
    assert not list(open_dir.rglob("*.pyc"))
    assert not list(environment.rglob("*.pyc"))


# -- what is none -------------------------------------------------------------------------------


def check(given: object, message: str) -> None:
    with pytest.raises(PolicyError, match=message) as caught:
        belljar.run("None", Policy().allow(python=str(given)))
    assert caught.value.key == "python"


def test_what_is_not_there(tmp_path: Path) -> None:
    check(tmp_path / "nowhere" / "python3", "No such file or directory; give the path of a CPython")
    link = tmp_path / "python3"
    link.symlink_to(tmp_path / "gone")
    check(link, "No such file")


def test_a_directory_without_an_interpreter(tmp_path: Path) -> None:
    check(tmp_path, "is a directory without bin/python; give an environment or a CPython")


def test_what_is_no_python(tmp_path: Path) -> None:
    check("/bin/true", "does not answer as a CPython does")
    text = tmp_path / "text"
    text.write_text("no program")
    text.chmod(0o755)
    check(text, "is no program for this machine")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    check(fifo, "is not a regular file")


def test_what_cannot_be_executed(tmp_path: Path) -> None:
    copy = tmp_path / "python3"
    copy.write_bytes(b"\x7fELF")
    copy.chmod(0o644)
    check(copy, "is not executable for this user")


def test_a_script_that_says_that_it_is_an_old_one(tmp_path: Path) -> None:
    """It is not started: what a script starts is not what guests would get."""
    script = tmp_path / "python3"
    mark = tmp_path / "mark"
    script.write_text(f"#!/bin/sh\ntouch {mark}\necho Python 2.7.18\n")
    script.chmod(0o755)
    check(script, "is a script; give the binary that it starts")
    assert not mark.exists()


@pytest.mark.parametrize("version", TOO_OLD)
def test_an_interpreter_that_is_too_old(version: str) -> None:
    found = find(version)
    if found is None:
        pytest.skip(f"no CPython {version} here, on PATH or beside this one")
    check(found, rf"is Python {version}\.\d+; belljar needs 3.11 or newer")


def test_a_program_for_another_machine(tmp_path: Path) -> None:
    other = {"x86_64": (183, "aarch64"), "aarch64": (62, "x86_64")}
    number, name = other[os.uname().machine]
    data = bytearray(Path(describe_interpreter().executable).read_bytes())
    data[18:20] = number.to_bytes(2, "little")
    copy = tmp_path / "python3"
    copy.write_bytes(data)
    copy.chmod(0o755)
    check(copy, f"is built for {name}, and this machine is {os.uname().machine}")


def test_an_environment_whose_interpreter_has_gone(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(tmp_path / "gone")
    (tmp_path / "pyvenv.cfg").write_text(f"home = {tmp_path / 'gone'}\n")
    check(tmp_path, "No such file|without bin/python")


def test_each_interpreter_has_a_zygote_of_its_own() -> None:
    found = [python for version in VERSIONS if (python := find(version))]
    if not found:
        pytest.skip("no other CPython here, on PATH or beside this one")
    machine.close()
    for _ in range(2):
        for python in found:
            policy = Policy().allow(python=python, wall_s=60)
            code = "import sys; sys.version_info[:3]"
            assert belljar.run(code, policy).value == version_of(python)
