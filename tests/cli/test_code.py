"""``--module``, ``--block-module``, ``--python``, ``--jit``: which code the command lets in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from belljar import Policy, PolicyError
from belljar.cli.options import UsageError, parse
from belljar.cli.policies import make_policy

from .command import belljar


def policy_of(*flags: str) -> Policy:
    return make_policy(parse(["run", *flags, "x.py"]))


def test_C4_flags_are_the_verbs_of_the_policy() -> None:
    policy = policy_of(
        *("--module", "_curses", "--module=xx.*", "--block-module", "*", "--block-module=_ssl"),
        *("--python", "/srv/venv", "--jit"),
    )
    every = Policy().allow(python="/srv/venv", jit=True).block(modules=["*"])
    assert policy == every.allow(modules=["_curses", "xx.*"])
    assert policy_of("--module", "xx.*", "--block-module", "xx.y") == (
        Policy().allow(modules=["xx.*"]).block(modules=["xx.y"])
    )
    assert policy_of("--module", "_ssl", "--block-module", "_ssl") == Policy().block(
        modules=["_ssl"]
    )
    assert policy_of("--module", "syslog") == Policy().allow(modules=["syslog"])
    assert policy_of("--block-module", "_ssl") == Policy().block(modules=["_ssl"])
    assert not policy_of("--module", "syslog").jit


def test_C4_a_flag_is_the_last_word_on_a_policy_file(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(
        'version = 1\n[grants]\nmodules = ["syslog"]\n[blocks]\nmodules = ["*"]\n'
        'functions = ["os:system"]\nbuiltins = ["open"]\n'
    )
    policy = policy_of("--policy", str(file), "--module", "math", "--block-module", "syslog")
    assert policy == Policy().block(
        modules=["*"], functions=["os:system"], builtins=["open"]
    ).allow(modules=["math"])


def test_python_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert policy_of("--python", "venv/../env").python == str(tmp_path.resolve() / "env")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--module", "num*"], "--module: 'num*' is none of these: a name, 'name.*' or '*'"),
        (["--module="], "--module: '' is none of these"),
        (["--block-module", "a b"], "--block-module: 'a b' is none of these"),
        (["--python="], "--python: the path is empty"),
    ],
)
def test_mistakes_name_the_flag(flags: list[str], message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        policy_of(*flags)
    assert str(caught.value).startswith(message)


def test_two_interpreters_and_a_value_for_a_switch_are_usage_errors() -> None:
    with pytest.raises(UsageError, match=r"^--python is given twice; "):
        parse(["run", "--python", "a", "--python", "b", "x.py"])
    with pytest.raises(UsageError, match=r"^--jit takes no value$"):
        parse(["run", "--jit=yes", "x.py"])


# ------------------------------------------------------------------- by the real command

walls = pytest.mark.usefixtures("walls")


@walls
def test_C3_a_refused_module_is_told_on_stderr_and_in_json() -> None:
    done = belljar("run", "-c", "import curses")
    assert done.returncode == 1
    lines = done.stderr.decode().splitlines()
    assert "belljar.ModuleRefused: No module named '_curses'" in lines
    assert (
        "belljar refused import _curses, which curses needs: it is not on the default list of "
        'C modules; allow(modules=["_curses"]) would allow it'
    ) in lines
    assert b"/belljar/" not in done.stderr
    done = belljar("run", "--json", "--block-module", "zlib", "-c", "import zlib")
    data = json.loads(done.stdout)
    assert data["denials"] == [
        {"action": "import", "target": "zlib", "grant": 'allow(modules=["zlib"])'}
    ]
    assert "the policy blocks it" in data["error"]["traceback"]


@walls
def test_C4_module_and_block_module_reach_the_guest() -> None:
    code = "import syslog, math; print(syslog.__name__, math.pi > 3)"
    assert belljar("run", "--module", "syslog", "-c", code).stdout == b"syslog True\n"
    only = ["run", "--block-module", "*", "--module", "math", "-c"]
    assert belljar(*only, "import math; print(math.pi > 3)").stdout == b"True\n"
    assert belljar(*only, code).returncode == 1


@walls
@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--module", "curses"], b"curses is pure Python and needs '_curses'"),
        (["--module", "no_such"], b"no C module is called 'no_such'"),
        (["--block-module", "sys"], b"sys: the interpreter itself stands on it"),
        (["--python", "/nonexistent/python"], b"/nonexistent/python"),
    ],
)
def test_what_is_no_module_or_interpreter_is_a_policy_error(flags: list[str], words: bytes) -> None:
    for command in ("run", "explain"):
        program = ["-c", "1"] if command == "run" else []
        done = belljar(command, *flags, *program)
        assert done.returncode == 2
        assert words in done.stderr
        assert b"Traceback" not in done.stderr


@walls
def test_python_runs_a_virtual_environment(open_dir: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(open_dir / "env")], check=True
    )
    code = "import sys; print(sys.version_info[:2], sys.prefix)"
    for place in (open_dir / "env", open_dir / "env" / "bin" / "python"):
        done = belljar("run", "--python", str(place), "-c", code)
        assert done.stdout.startswith(f"{sys.version_info[:2]} /usr".encode()), done.stderr
    done = belljar("run", "--python", str(open_dir / "env"), "--package", "pluggy", "-c", "1")
    assert done.returncode == 2
    assert b"'pluggy' is not installed for" in done.stderr


@walls
def test_C9_jit_lets_memory_become_code() -> None:
    code = (
        "import ctypes, mmap\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "libc.mmap.restype = ctypes.c_void_p\n"
        "libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]\n"
        "print(libc.mmap(None, 4096, 7, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0) not in (None, 2**64 - 1))\n"
    )
    assert belljar("run", "-c", code).stdout == b"False\n"
    assert belljar("run", "--jit", "-c", code).stdout == b"True\n"
