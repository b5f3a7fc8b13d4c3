"""R8: the build variables of an interpreter, shown inside without the paths of its build."""

from __future__ import annotations

import json
import os
import pprint
import re
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from belljar.python.buildinfo import NEUTRAL, scrub_sysconfig

STANDARD = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/dev", "/build")
PREFIXES = ("prefix", "exec_prefix", "installed_base", "installed_platbase")


def data_file() -> Path:
    """The file of the running interpreter."""
    name = str(sysconfig._get_sysconfigdata_name())  # type: ignore[attr-defined]
    found = Path(str(__import__(name).__file__))
    assert found.name == f"{name}.py"
    return found


def data_files() -> list[Path]:
    """That of the running interpreter, and those of others that lie beside it."""
    own = data_file()
    above = own.parents[3]
    others = {
        path.resolve()
        for folder in (above, Path("/usr"))
        for path in folder.glob("*/lib/python3.*/_sysconfigdata*.py")
    }
    others |= {path.resolve() for path in Path("/usr/lib").glob("python3.*/_sysconfigdata*.py")}
    return [own, *sorted(others - {own.resolve()})]


def variables(text: bytes) -> dict[str, Any]:
    space: dict[str, Any] = {}
    exec(compile(text, "data", "exec"), space)
    found: dict[str, Any] = space["build_time_vars"]
    return found


def replacements(values: Mapping[str, Any]) -> list[tuple[bytes, bytes]]:
    prefixes = {os.fsencode(values[name]) for name in PREFIXES if values.get(name)}
    return [(prefix, b"/usr") for prefix in sorted(prefixes)]


def scrub(values: Mapping[str, Any], *pairs: tuple[bytes, bytes]) -> dict[str, Any]:
    """Scrubbed values, from the text that an installation would write."""
    text = "build_time_vars = " + pprint.pformat(dict(values)) + "\n"
    return variables(scrub_sysconfig(text.encode(), pairs))


@pytest.mark.parametrize("path", data_files(), ids=str)
def test_the_interpreters_of_this_machine(path: Path) -> None:
    text = path.read_bytes()
    before = variables(text)
    pairs = replacements(before)
    shown = scrub_sysconfig(text, pairs)
    after = variables(shown)
    assert list(after) == list(before)
    assert {name: type(value) for name, value in after.items()} == {
        name: type(value) for name, value in before.items()
    }
    assert after["prefix"] == after["exec_prefix"] == "/usr"
    for name in ("abs_builddir", "abs_srcdir"):
        assert before[name].encode() not in shown
        assert after[name].startswith(NEUTRAL.decode())
    for prefix, _ in pairs:
        assert prefix in STANDARD_BYTES or prefix not in shown
    # By another way than the function's own: what looks like an absolute path to a person.
    for found in re.findall(rb"(?<![\w./$)}+*-])/[\w.+-]+", shown):
        assert found.decode() in STANDARD
    assert scrub_sysconfig(shown, []) == shown  # nothing is left to do
    same = [name for name, value in before.items() if "/" not in str(value)]
    assert all(after[name] == before[name] for name in same)


STANDARD_BYTES = {name.encode() for name in STANDARD}


QUESTION = """
import json, sys, sysconfig
name = sysconfig._get_sysconfigdata_name()
print(json.dumps([__import__(name).__file__, sysconfig.get_config_vars(), sysconfig.get_paths(),
                  sysconfig.get_platform(), sysconfig.get_python_version(),
                  sysconfig.get_config_var("EXT_SUFFIX"), sysconfig.get_makefile_filename()]))
"""


def test_sysconfig_works_with_it(tmp_path: Path) -> None:
    path = data_file()
    text = path.read_bytes()
    shown = tmp_path / path.name
    shown.write_bytes(scrub_sysconfig(text, replacements(variables(text))))

    def ask(environment: dict[str, str]) -> list[Any]:
        command = [os.path.realpath(sys.executable), "-S", "-c", QUESTION]
        done = subprocess.run(command, env=environment, capture_output=True, check=True)
        answer: list[Any] = json.loads(done.stdout)
        return answer

    plain, scrubbed = ask({}), ask({"PYTHONPATH": str(tmp_path)})
    assert scrubbed[0] == str(shown)
    assert scrubbed[1].keys() == plain[1].keys()
    # What depends on the interpreter and not on its build is the same.
    assert scrubbed[2:] == plain[2:]
    for name in ("EXT_SUFFIX", "SOABI", "VERSION", "py_version", "SIZEOF_VOID_P", "Py_DEBUG"):
        assert scrubbed[1][name] == plain[1][name]


def test_the_longest_prefix_is_taken_and_only_whole_names() -> None:
    after = scrub(
        {
            "A": "/opt/py/lib/python3.13",
            "B": "/opt/py-extra/include",
            "C": "/opt/py/exec/bin:/opt/py:/opt/python",
            "D": "--prefix=/opt/py",
        },
        (b"/opt/py", b"/usr"),
        (b"/opt/py/exec", b"/usr/exec"),
    )
    assert after == {
        "A": "/usr/lib/python3.13",
        "B": "/build",
        "C": "/usr/exec/bin:/usr:/build",
        "D": "--prefix=/usr",
    }


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("gcc -I/home/me/ssl/include -L/home/me/ssl/lib -lssl", "gcc -I/build -L/build -lssl"),
        ("-isystem/home/me/x -B/home/me/y", "-isystem/build -B/build"),
        ("-Wl,-rpath,/home/me/lib -Wl,-rpath=/home/me/lib", "-Wl,-rpath,/build -Wl,-rpath=/build"),
        ("-ffile-prefix-map=/home/me/src=.", "-ffile-prefix-map=/build=."),
        ("'--with-openssl=/home/me/ssl' 'CC=/opt/x/gcc'", "'--with-openssl=/build' 'CC=/build'"),
        (
            "LD_LIBRARY_PATH=/home/me/a:/home/me/b ./python",
            "LD_LIBRARY_PATH=/build:/build ./python",
        ),
        ("ssh://me@host.example.org/x", "ssh:/build"),
        ("/home/me", "/build"),
        ("/", "/"),
        ("/* a comment */ // another", "/* a comment */ // another"),
        ("a / b", "a / b"),
        ("Modules/_io/fileio.o ./Include ../Include $(srcdir)/Lib", None),
        ("/usr/bin/install -c -m 644", None),
        ("/usr /bin/sh /etc/zoneinfo /dev/null /lib64/x", None),
        ("-DX='\"/usr/share\"'", None),
        ("", None),
    ],
)
def test_paths_among_other_words(before: str, after: str | None) -> None:
    wanted = {"A": before if after is None else after, "Z": 1}
    assert scrub({"A": before, "Z": 1}) == wanted


def test_directories_of_the_build_keep_what_is_below_them() -> None:
    after = scrub(
        {
            "COVERAGE_INFO": "/home/me/cpython/build/coverage.info",
            "abs_builddir": "/home/me/cpython/build",
            "abs_srcdir": "/home/me/cpython",
            "srcdir": "..",
        }
    )
    assert after["COVERAGE_INFO"] == "/build/coverage.info"
    assert after["abs_builddir"] == after["abs_srcdir"] == "/build"
    assert after["srcdir"] == ".."


@pytest.mark.parametrize("directory", ["..", ".", ""])
def test_directories_of_the_build_may_be_relative(directory: str) -> None:
    values = {"abs_builddir": directory, "abs_srcdir": directory, "z": "a/b /home/me"}
    assert scrub(values) == {**values, "z": "a/b /build"}


@pytest.mark.parametrize(
    "prefix",
    ["/home/a name/with spaces", "/home/o'brien/py", '/home/"q"/py', "/home/b\\s/py", "/ü"],
)
def test_prefixes_that_need_quotes(prefix: str) -> None:
    """Some are broken over two lines, some are escaped."""
    values: dict[str, object] = {
        "BINDIR": f"{prefix}/bin",
        "LDFLAGS": " ".join(f"-L{prefix}/lib{n} -Wl,-rpath,{prefix}/lib" for n in range(6)),
        "prefix": prefix,
    }
    after = scrub(values, (prefix.encode(), b"/usr"))
    assert after["BINDIR"] == "/usr/bin"
    assert after["prefix"] == "/usr"
    assert after["LDFLAGS"].startswith("-L/usr/lib0 -Wl,-rpath,/usr/lib -L/usr/lib1 ")
    assert prefix.rpartition("/")[2] not in repr(after)


def test_json_is_scrubbed_alike() -> None:
    """Since Python 3.14 the variables are written as JSON, too."""
    values = {"abs_builddir": "/home/me/b", "prefix": "/opt/py", "X": "-L/home/me/b/x -L/opt/py"}
    text = json.dumps(values, indent=2).encode()
    after = json.loads(scrub_sysconfig(text, [(b"/opt/py", b"/usr")]))
    assert after == {"abs_builddir": "/build", "prefix": "/usr", "X": "-L/build/x -L/usr"}


def test_what_is_no_module_stays_as_it_is() -> None:
    for text in (b"", b"/", b"x", b"\xff\xfe\x00", b"abs_builddir", b"'abs_builddir': '/"):
        assert isinstance(scrub_sysconfig(text, []), bytes)
    assert scrub_sysconfig(b"a = 1\n", [(b"/opt", b"/usr")]) == b"a = 1\n"


def test_it_imports_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import belljar.python.buildinfo\n"
        "print(sorted(n for n in set(sys.modules) - before if not n.startswith('belljar')))"
    )
    source = str(Path(__file__).parents[2] / "src")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "['__future__']\n"
