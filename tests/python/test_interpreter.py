"""Descriptions of interpreters: the running one, others by path, and what is none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from belljar.errors import PolicyError
from belljar.policy.whitelist import BLOCKED, standing
from belljar.python import interpreter as module
from belljar.python.interpreter import describe_interpreter, link

SOURCE = str(Path(__file__).parents[2] / "src")
BASE = os.path.realpath(sys.executable)


def test_the_running_interpreter() -> None:
    own = describe_interpreter()
    assert own.executable == BASE
    assert own.version == sys.version_info[:3]
    assert own.stdlib == os.path.realpath(os.path.dirname(os.__file__))
    assert own.prefix == sys.base_prefix
    assert own.machine == os.uname().machine
    assert own.loader is not None
    assert os.path.samefile(*own.loader)
    names = [name for name, _ in own.libraries]
    assert len(names) == len(set(names))
    assert any(name.startswith("libc.") for name in names)
    assert all(os.path.isfile(path) for _, path in (*own.libraries, *own.extensions))
    assert all(os.path.realpath(path) == path for _, path in own.libraries)


def test_every_module_of_the_standard_library_is_listed() -> None:
    own = describe_interpreter()
    listed = {name for name, _ in own.extensions}
    present = {name.partition(".")[0] for folder in own.dynload for name in os.listdir(folder)}
    assert present - {"__pycache__"} == listed
    assert own.builtins == sys.builtin_module_names


def test_no_library_of_a_blocked_module_is_dragged_in() -> None:
    """C3: the default whitelist decides which libraries there are as well."""
    names = " ".join(name for name, _ in describe_interpreter().libraries)
    assert not any(part in names for part in ("libX11", "libtk", "libreadline", "libncurses"))


def test_other_modules_bring_other_libraries() -> None:
    """C4: an operator's own whitelist decides as well."""
    own = describe_interpreter()
    modules = {name for name, _ in own.extensions}
    everything, nothing = link(own, frozenset(modules)), link(own, frozenset())
    least, usual, most = ({n for n, _ in one.libraries} for one in (nothing, own, everything))
    assert least < usual
    assert usual <= most
    assert link(own, frozenset(name for name in modules if standing(name))) is own
    if modules & {"_curses"} <= BLOCKED.keys() and "_curses" in modules:
        assert any("ncurses" in name for name in most) or everything.missing


def test_the_site_directories_hold_what_this_process_imports() -> None:
    directories = describe_interpreter().site_dirs
    assert any(pytest.__file__.startswith(f"{path}/") for path in directories)


def test_it_imports_nothing_heavy() -> None:
    heavy = (
        "argparse collections contextlib ctypes dataclasses enum functools importlib.metadata "
        "inspect json packaging pathlib re selectors signal socket subprocess sysconfig typing"
    )
    code = (
        f"import sys; sys.path.insert(0, {SOURCE!r})\n"
        "from belljar.python.interpreter import describe_interpreter\n"
        "describe_interpreter()\n"
        f"print(*[name for name in {heavy.split()!r} if name in sys.modules])"
    )
    done = subprocess.run([BASE, "-I", "-S", "-c", code], capture_output=True, check=True)
    assert done.stdout.decode().split() == []


def test_asking_gives_what_the_running_interpreter_knows(tmp_path: Path) -> None:
    link = tmp_path / "python"
    link.symlink_to(BASE)
    code = (
        f"import sys; sys.path.insert(0, {SOURCE!r})\n"
        "from belljar.python.interpreter import describe_interpreter\n"
        f"own, asked = describe_interpreter(), describe_interpreter({str(link)!r})\n"
        "assert asked.command != own.command\n"
        "print([name for name in own._fields if getattr(own, name) != getattr(asked, name)])"
    )
    done = subprocess.run([BASE, "-c", code], capture_output=True, check=True, cwd="/")
    assert done.stdout.decode().strip() == "['command']"


@pytest.mark.parametrize("shared", [False, True])
def test_a_virtual_environment_by_directory_and_by_binary(tmp_path: Path, shared: bool) -> None:
    place = tmp_path / "env"
    options = ["--system-site-packages"] if shared else []
    subprocess.run([BASE, "-I", "-m", "venv", "--without-pip", *options, place], check=True)
    asked = describe_interpreter(str(place))
    assert asked.command == str(place / "bin/python")
    assert asked.executable == BASE
    assert asked.site_dirs[0].startswith(os.path.realpath(place))
    assert (len(asked.site_dirs) > 1) == shared
    assert asked.prefix == sys.base_prefix
    assert describe_interpreter(str(place / "bin/python3")).site_dirs == asked.site_dirs
    # The same, as the environment's own interpreter sees itself.
    code = (
        f"import sys; sys.path.insert(0, {SOURCE!r})\n"
        "from belljar.python.interpreter import describe_interpreter\n"
        "print(*describe_interpreter().site_dirs, sep='\\n')"
    )
    done = subprocess.run([asked.command, "-c", code], capture_output=True, check=True)
    assert tuple(done.stdout.decode().splitlines()) == asked.site_dirs


def _system_version() -> tuple[int, ...]:
    """The version of /usr/bin/python3, (0,) where there is none."""
    code = "import sys; print(*sys.version_info[:2])"
    try:
        done = subprocess.run(
            ["/usr/bin/python3", "-I", "-c", code], capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return (0,)
    return tuple(map(int, done.stdout.split()))


@pytest.mark.skipif(_system_version() < (3, 11), reason="no /usr/bin/python3 from 3.11 on")
def test_the_system_python() -> None:
    system = describe_interpreter("/usr/bin/python3")
    assert system.executable == os.path.realpath("/usr/bin/python3")
    assert os.path.isfile(f"{system.stdlib}/os.py")
    assert any(name.startswith("libc.") for name, _ in system.libraries)


def test_the_outcome_is_kept_while_the_file_stays_the_same(tmp_path: Path) -> None:
    assert describe_interpreter() is describe_interpreter()
    assert describe_interpreter(sys.executable) is describe_interpreter()
    link = tmp_path / "python"
    link.symlink_to(BASE)
    assert describe_interpreter(str(link)) is describe_interpreter(str(link))


def test_the_environment_of_the_host_does_not_reach_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('imported from PYTHONPATH')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    link = tmp_path / "python"
    link.symlink_to(BASE)
    assert describe_interpreter(str(link)).prefix == sys.base_prefix


def test_a_bare_name_is_looked_up_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "python-for-belljar").symlink_to(BASE)
    monkeypatch.setenv("PATH", f"/nowhere:{tmp_path}")
    found = describe_interpreter("python-for-belljar")
    assert found.command == str(tmp_path / "python-for-belljar")


def _refusal(path: object) -> str:
    with pytest.raises(PolicyError) as caught:
        describe_interpreter(str(path))
    assert caught.value.key == "python"
    return caught.value.message


def test_what_is_no_interpreter_is_refused_by_name(
    tmp_path: Path, make_elf: Callable[..., bytes]
) -> None:
    def write(name: str, data: bytes, mode: int = 0o755) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        path.chmod(mode)
        return path

    other = {"x86_64": 183, "aarch64": 62}[os.uname().machine]
    assert "No such file" in _refusal(tmp_path / "gone")
    assert "null" in _refusal("a\0b")
    assert "empty" in _refusal("")
    assert "without bin/python" in _refusal(tmp_path)
    assert "not a regular file" in _refusal("/dev/null")
    assert "not executable" in _refusal(write("plain", b"\x7fELF", 0o644))
    assert "is a script" in _refusal(write("script", b"#!/bin/sh\necho {}\n"))
    assert "not an ELF file" in _refusal(write("data", b"hello"))
    assert "is built for" in _refusal(write("foreign", make_elf(machine=other)))
    assert "32-bit" in _refusal(write("narrow", b"\x7fELF\x01" + bytes(100)))
    assert "cannot be started" in _refusal(write("hollow", make_elf(interpreter="/nowhere/ld.so")))


@pytest.mark.skipif(shutil.which("true") is None, reason="no program named true")
def test_a_program_that_is_no_python_is_refused() -> None:
    program = shutil.which("true")
    assert "does not answer as a CPython does" in _refusal(program)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ('{"implementation": "pypy", "version": [3, 11, 0]}', "is pypy; belljar runs CPython only"),
        ('{"implementation": "cpython", "version": [3, 10, 4]}', "is Python 3.10.4"),
        ('{"implementation": "cpython", "version": [3, 12, 0]}', "does not answer"),
        ('{"implementation": "cpython", "version": 3}', "does not answer"),
        ("[" * 100_000, "does not answer"),
        ("[]", "does not answer"),
        ("\\xff", "does not answer"),
    ],
)
def test_an_answer_that_will_not_do_is_refused(
    answer: str, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "_QUESTION", f"print({answer!r})")
    link = tmp_path / "python"
    link.symlink_to(BASE)
    assert text in _refusal(link)


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("while True: print('x' * 4096)", "does not answer"),
        ("import time; time.sleep(600)", "did not answer within 0.5 s"),
        ("import os, time; os.fork() or time.sleep(600)", "did not answer within 0.5 s"),
    ],
)
def test_a_program_that_floods_or_hangs_is_ended(
    program: str, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "_QUESTION", program)
    if "within" in text:
        monkeypatch.setattr(module, "_ASK_TIMEOUT_S", 0.5)
    link = tmp_path / "python"
    link.symlink_to(BASE)
    assert text in _refusal(link)


def test_a_program_that_embeds_python_is_told_to_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_base_executable", "")
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(PolicyError, match="embeds Python"):
        describe_interpreter()


def test_another_implementation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Implementation:
        name = "pypy"
        cache_tag = "pypy311"

    monkeypatch.setattr(module, "_memo", {})
    monkeypatch.setattr(sys, "implementation", Implementation())
    with pytest.raises(PolicyError, match="belljar runs CPython only"):
        describe_interpreter()
