"""Programs that a policy names: found on this host with what they need, or refused by name (R2)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from belljar.errors import PolicyError
from belljar.python.interpreter import describe_interpreter
from belljar.python.ldcache import make_cache, parse_cache
from belljar.python.programs import find_programs


def found(*programs: str):
    return find_programs(frozenset(programs), describe_interpreter())


def script(place: Path, text: str, mode: int = 0o755) -> str:
    place.write_text(text)
    place.chmod(mode)
    return str(place)


def test_a_bare_name_is_found_with_loader_and_libraries() -> None:
    programs = found("ls")
    ((name, real),) = programs.files
    assert name == "ls"
    assert os.path.samefile(real, "/bin/ls")
    assert all(os.path.isfile(path) for _, path in (*programs.loaders, *programs.libraries))
    said = subprocess.run(["ldd", real], capture_output=True, text=True, check=True).stdout
    for soname, _ in programs.libraries:
        assert soname in said


def test_a_link_keeps_its_name_and_leads_to_the_file() -> None:
    ((name, real),) = found("/bin/sh").files
    assert name == "sh"
    assert real == os.path.realpath("/bin/sh")


def test_nothing_wanted_needs_nothing() -> None:
    assert found().files == ()


def test_the_guests_own_python_is_there_already() -> None:
    own = describe_interpreter().executable
    if os.path.basename(own) != f"python{sys.version_info[0]}.{sys.version_info[1]}":
        pytest.skip("this interpreter has a name of its own")
    assert found(own).files == ()


def test_a_script_comes_with_its_interpreter(tmp_path: Path) -> None:
    path = script(tmp_path / "tool", "#!/bin/sh\necho hi\n")
    assert [name for name, _ in found(path, "sh").files] == ["sh", "tool"]
    by_env = script(tmp_path / "other", "#!/usr/bin/env python3\n")
    assert [name for name, _ in found(by_env, "env").files] == ["env", "other"]


@pytest.mark.parametrize(
    ("text", "mode", "message"),
    [
        ("#!/bin/sh\n", 0o755, "it is a script for /bin/sh: grant sh as well"),
        ("#!/usr/bin/env ruby\n", 0o755, "it is a script for /usr/bin/env: grant env as well"),
        ("#!/opt/venv/bin/python\n", 0o755, "/opt/venv/bin/python: which is not there inside"),
        ("#!\n", 0o755, "its first line names no interpreter"),
        ("echo hi\n", 0o755, "it cannot be read as a program"),
        ("#!/bin/sh\n", 0o644, "is not executable"),
    ],
)
def test_what_could_not_start_is_refused(
    tmp_path: Path, text: str, mode: int, message: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        found(script(tmp_path / "tool", text, mode))
    assert caught.value.key == "grants.run"
    assert message in caught.value.message


def test_one_name_is_one_program(tmp_path: Path) -> None:
    mine = script(tmp_path / "ls", "#!/bin/sh\n")
    with pytest.raises(PolicyError, match="another program is granted as /usr/bin/ls"):
        found(mine, "ls", "sh")
    python = script(tmp_path / "python3", "#!/bin/sh\n")
    with pytest.raises(PolicyError, match="the guest's own Python is /usr/bin/python3"):
        found(python, "sh")


@pytest.mark.parametrize("program", ["no-such-program", "/no/such/program"])
def test_a_program_that_is_not_there(program: str) -> None:
    with pytest.raises(PolicyError, match=f"{program}: "):
        found(program)


def test_a_program_for_another_machine(tmp_path: Path) -> None:
    data = bytearray(Path("/bin/ls").resolve().read_bytes())
    data[18:20] = (183 if data[18] == 62 else 62).to_bytes(2, "little")  # e_machine
    path = tmp_path / "ls"
    path.write_bytes(data)
    path.chmod(0o755)
    with pytest.raises(PolicyError, match="it is built for"):
        found(str(path))


def test_a_cache_that_is_written_reads_back() -> None:
    libraries = {
        name: f"/lib/{name}" for name in ("libb.so.10", "libb.so.9", "liba.so", "lib.1.so")
    }
    data = make_cache(libraries, "x86_64")
    assert parse_cache(data, "x86_64") == libraries
    assert parse_cache(data, "aarch64") == {}
    assert parse_cache(make_cache({}, "aarch64"), "aarch64") == {}


def test_a_cache_is_in_the_order_of_the_loaders_search() -> None:
    """Descending, digits by value and after everything else (_dl_cache_libcmp of glibc)."""
    names = ["libb.so.10", "libb.so.9", "libb.so", "liba.so.2", "lib_.so"]
    data = make_cache(dict.fromkeys(reversed(names), "/x"), "x86_64")
    strings = data[48 + 24 * len(names) :].decode().split("\0")
    assert [text for text in strings if text.startswith("lib")] == [
        "libb.so.10",
        "libb.so.9",
        "libb.so",
        "liba.so.2",
        "lib_.so",
    ]
