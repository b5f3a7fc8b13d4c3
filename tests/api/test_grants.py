"""Grants through ``run``: files, environment, names, arguments, packages, system_info."""

from __future__ import annotations

import os
import socket
import sys
import sysconfig
import tempfile
from importlib import metadata
from pathlib import Path

import pytest

import belljar
from belljar import Policy, PolicyError
from belljar.testing import run_confined


@pytest.fixture
def data(open_dir: Path) -> Path:
    (open_dir / "a.csv").write_text("1,2\n")
    (open_dir / "sub").mkdir()
    (open_dir / "sub" / "b.csv").write_text("3,4\n")
    return open_dir


def test_R4_a_directory_for_reading(data: Path) -> None:
    policy = Policy().allow(read=[data])
    code = "import os\n[open(D + '/a.csv').read(), sorted(os.listdir(D)), open(D + '/sub/b.csv').read()]"
    assert belljar.run(code, policy, inputs={"D": str(data)}).unwrap() == [
        "1,2\n",
        ["a.csv", "sub"],
        "3,4\n",
    ]
    result = belljar.run("open(D + '/a.csv', 'w')", policy, inputs={"D": str(data)})
    assert result.error is not None
    assert result.error.type in ("PermissionError", "OSError")
    assert (data / "a.csv").read_text() == "1,2\n"
    without = belljar.run(code, inputs={"D": str(data)})
    assert without.error is not None
    assert without.error.type == "FileNotFoundError"


def test_R3_one_file_for_reading(data: Path) -> None:
    policy = Policy().allow(read=[str(data / "a.csv")])
    inputs = {"D": str(data)}
    assert belljar.run("open(D + '/a.csv').read()", policy, inputs=inputs).value == "1,2\n"
    other = belljar.run("open(D + '/sub/b.csv').read()", policy, inputs=inputs)
    assert other.error is not None
    assert other.error.type == "FileNotFoundError"


def test_R4_a_directory_for_writing(data: Path) -> None:
    policy = Policy().allow(write=[str(data)])
    code = """
import os, pathlib, shutil
d = pathlib.Path(D)
(d / "new").mkdir()
(d / "new" / "file").write_text("made")
(d / "a.csv").unlink()
os.replace(d / "sub" / "b.csv", d / "c.csv")
shutil.rmtree(d / "sub")
sorted(p.name for p in d.iterdir())
"""
    assert belljar.run(code, policy, inputs={"D": str(data)}).unwrap() == ["c.csv", "new"]
    assert (data / "new" / "file").read_text() == "made"


def test_R3_one_file_for_writing(data: Path) -> None:
    policy = Policy().allow(write=[str(data / "a.csv")])
    inputs = {"D": str(data)}
    belljar.run("open(D + '/a.csv', 'a').write('5,6\\n')", policy, inputs=inputs).unwrap()
    assert (data / "a.csv").read_text() == "1,2\n5,6\n"
    other = belljar.run("open(D + '/new.csv', 'w')", policy, inputs=inputs)
    assert other.status == "raised"
    assert not (data / "new.csv").exists()


@pytest.mark.parametrize("inside", ["/data", "/tmp/data", "/work/data", "/srv/deep/er/data"])
def test_R8_an_alias_hides_the_hosts_path(data: Path, inside: str) -> None:
    policy = Policy().allow(read={str(data): inside})
    code = """
import os
[open(P + '/a.csv').read(), os.path.realpath(P), os.path.exists(D), open(P + '/sub/b.csv').read()]
"""
    value = belljar.run(code, policy, inputs={"P": inside, "D": str(data)}).unwrap()
    assert (value[0], value[2], value[3]) == ("1,2\n", False, "3,4\n")
    assert str(data) not in value[1]


def test_R4_a_place_under_the_hosts_tmp(tmp_path: Path) -> None:
    """``/tmp`` is the guest's own; a granted place of the host's shows in it at its path."""
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        Path(name, "f").write_text("x")
        policy = Policy().allow(write=[name])
        code = "import os\nopen(D + '/g', 'w').close()\n[open(D + '/f').read(), len(os.listdir('/tmp'))]"
        assert belljar.run(code, policy, inputs={"D": name}).unwrap() == ["x", 1]
        assert sorted(os.listdir(name)) == ["f", "g"]


def test_R4_read_and_write_together(data: Path) -> None:
    policy = Policy().allow(read=[str(data)], write=[str(data / "sub")])
    inputs = {"D": str(data)}
    code = "open(D + '/sub/new', 'w').write(open(D + '/a.csv').read())"
    assert belljar.run(code, policy, inputs=inputs).unwrap() == 4
    refused = belljar.run("open(D + '/new', 'w')", policy, inputs=inputs)
    assert refused.status == "raised"
    two = belljar.run("import os; sorted(os.listdir(D))", policy, inputs=inputs)
    assert two.value == ["a.csv", "sub"]


def test_R4_a_link_is_not_granted_but_where_it_leads(data: Path) -> None:
    """A guest that may write there could have put it."""
    (data / "link").symlink_to("sub")
    policy = Policy().allow(read=[str(data / "link")])
    code = "import os; os.listdir(D + '/link')"
    with pytest.raises(belljar.PolicyError, match="symbolic link to") as caught:
        belljar.run(code, policy, inputs={"D": str(data)})
    assert caught.value.key == "grants.read[0]"
    policy = Policy().allow(read={str(data / "sub"): str(data / "link")})
    assert belljar.run(code, policy, inputs={"D": str(data)}).value == ["b.csv"]


def test_a_place_that_is_not_there_is_named(data: Path) -> None:
    with pytest.raises(PolicyError, match="No such file") as caught:
        belljar.run("1", Policy().allow(read=[str(data), str(data.parent / "missing-place")]))
    assert caught.value.key.startswith("grants.read")


@pytest.mark.parametrize("place", ["/proc", "/sys", "/dev", "/proc/self/environ", "/dev/null"])
def test_places_that_reach_past_the_walls_are_refused(place: str) -> None:
    with pytest.raises(PolicyError):
        belljar.run("1", Policy().allow(read={place: "/data"}))


def test_a_link_to_a_place_that_reaches_past_the_walls_is_refused(data: Path) -> None:
    (data / "link").symlink_to("/proc")
    with pytest.raises(PolicyError):
        belljar.run("1", Policy().allow(read={str(data / "link"): "/data"}))


# ----------------------------------------------------- environment, names, arguments


def test_M13_environment_names_and_arguments() -> None:
    policy = Policy().allow(
        env={"LANG": "C.UTF-8", "EMPTY": "", "UML": "ä"}, names={"limit": 5}, argv=["-x"]
    )
    code = """
import os, sys
[dict(os.environ), limit, sys.argv[1:], os.getenv("LANG")]
"""
    assert belljar.run(code, policy).unwrap() == [
        {"LANG": "C.UTF-8", "EMPTY": "", "UML": "ä"},
        5,
        ["-x"],
        "C.UTF-8",
    ]


def test_M13_without_grants_there_is_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELLJAR_SECRET", "canary")
    code = "import os, sys\n[dict(os.environ), sys.argv[1:], 'limit' in globals()]"
    assert belljar.run(code).unwrap() == [{}, [], False]


def test_M13_the_environment_reaches_c_code() -> None:
    code = """
import ctypes
getenv = ctypes.CDLL(None).getenv
getenv.restype = ctypes.c_char_p
getenv(b"TZ")
"""
    policy = Policy().allow(env={"TZ": "UTC"})
    value = belljar.run(code, policy).unwrap()
    assert value == b"UTC"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LD_PRELOAD", "/work/evil.so"),
        ("PYTHONPATH", "/work"),
        ("PYTHONSTARTUP", "/work/x.py"),
        ("LD_LIBRARY_PATH", "/work"),
    ],
)
def test_M13_variables_of_the_loader_do_nothing(name: str, value: str) -> None:
    """The interpreter has started long before; nothing is executed that would read them."""
    code = "import sys, json, sqlite3\n[p for p in sys.path if p.startswith('/work')]"
    assert belljar.run(code, Policy().allow(env={name: value})).unwrap() == []


# -------------------------------------------------------------------------- packages


def installed(name: str) -> str:
    """The version of a distribution in this interpreter's own site-packages; skips without."""
    try:
        found = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed here")
    if Path(str(found.locate_file(""))).resolve() != Path(sysconfig.get_path("purelib")).resolve():
        pytest.skip(f"{name} is not among this interpreter's own packages")
    return found.version


@pytest.mark.parametrize("package", ["pluggy", "iniconfig"])
def test_C4_a_granted_distribution_imports(package: str) -> None:
    version = installed(package)
    policy = Policy().allow(packages=[package])
    code = f"""
import {package}, importlib.metadata
[{package}.__name__, {package}.__file__.startswith("/usr/"), importlib.metadata.version("{package}")]
"""
    assert belljar.run(code, policy).unwrap() == [package, True, version]


def test_C4_without_the_grant_it_is_missing() -> None:
    installed("pluggy")
    for policy in (Policy(), Policy().allow(packages=["iniconfig"])):
        result = belljar.run("import pluggy", policy)
        assert result.error is not None
        assert result.error.type == "ModuleNotFoundError"


def test_C4_its_dependencies_come_along_and_nothing_else() -> None:
    for name in ("pytest", "pluggy", "iniconfig", "packaging", "hypothesis"):
        installed(name)
    policy = Policy().allow(packages=["pytest"])
    code = """
import importlib.util
[importlib.util.find_spec(n) is not None for n in ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "hypothesis")]
"""
    assert belljar.run(code, policy).unwrap() == [True] * 5 + [False]


def test_C4_its_files_are_read_only() -> None:
    installed("pluggy")
    code = "import pluggy, os\nopen(os.path.dirname(pluggy.__file__) + '/_version.py', 'a')"
    result = belljar.run(code, Policy().allow(packages=["pluggy"]))
    assert result.status == "raised"


def test_C4_a_distribution_that_is_not_there_is_named() -> None:
    with pytest.raises(PolicyError, match="no-such-distribution") as caught:
        belljar.run("1", Policy().allow(packages=["no-such-distribution"]))
    assert "packages" in caught.value.key


def test_C1_the_standard_library_imports_freely() -> None:
    names = """abc argparse array ast asyncio base64 bisect bz2 calendar cmath codecs collections
    colorsys concurrent.futures configparser contextlib contextvars copy csv ctypes dataclasses
    datetime decimal difflib dis doctest email enum errno fcntl fnmatch fractions functools gc
    getpass glob graphlib gzip hashlib heapq hmac html http.client importlib.resources inspect io
    ipaddress itertools json keyword linecache locale logging lzma math mimetypes mmap
    multiprocessing numbers operator os pathlib pickle platform pprint profile pwd queue random re
    resource sched secrets select selectors shelve shlex shutil signal smtplib socket sqlite3 ssl
    stat statistics string struct subprocess symtable sysconfig tarfile tempfile textwrap threading
    time timeit token tokenize tomllib traceback tracemalloc types typing unicodedata unittest
    urllib.request uuid venv warnings wave weakref xml.etree.ElementTree zipfile zlib zoneinfo"""
    code = """
import importlib
failed = {}
for name in NAMES:
    try: importlib.import_module(name)
    except Exception as error: failed[name] = repr(error)
failed
"""
    there = [
        n for n in names.split() if n != "bz2" or "_bz2" in sys.builtin_module_names or _has(n)
    ]
    assert belljar.run(code, inputs={"NAMES": there}).unwrap() == {}


def _has(name: str) -> bool:
    try:
        __import__(name)
    except ImportError:
        return False
    return True


def test_C8_an_anonymous_map_works_as_programs_make_it() -> None:
    """Its default is shared memory, which no limit counts; inside, private memory stands in."""
    code = """
import mmap
found = []
for arguments in ((), (mmap.MAP_PRIVATE,), (mmap.MAP_SHARED,)):
    with mmap.mmap(-1, 8192, *arguments) as memory:
        memory[:5] = b"hello"
        memory.resize(16384)
        found.append((memory[:5], len(memory), isinstance(memory, mmap.mmap)))
with mmap.mmap(-1, 4096, access=mmap.ACCESS_WRITE) as memory:
    found.append(memory.write(b"x"))
with open("f", "w+b") as file:
    file.write(b"contents")
    file.flush()
    with mmap.mmap(file.fileno(), 0) as memory:
        memory[0:1] = b"C"
found.append(open("f").read())
found
"""
    mapped = (b"hello", 16384, True)
    assert belljar.run(code).unwrap() == [mapped, mapped, mapped, 1, "Contents"]


# ------------------------------------------------------------------------ system_info


def test_R9_system_info_shows_the_machine_and_no_more() -> None:
    policy = Policy().allow(system_info=True)
    code = "import os, socket\n[socket.gethostname(), os.path.exists('/home'), dict(os.environ), os.listdir('/work')]"
    assert belljar.run(code, policy).unwrap() == [socket.gethostname(), False, {}, []]
    assert belljar.run("import socket; socket.gethostname()").value == "belljar"


def test_M11_policies_side_by_side(data: Path) -> None:
    policies = [
        (Policy(), "FileNotFoundError"),
        (Policy().allow(read=[str(data)]), None),
        (Policy().allow(env={"A": "1"}), "FileNotFoundError"),
        (Policy().allow(write=[str(data)]).limit(memory_bytes=64 * 2**20), None),
    ]
    for policy, kind in policies * 2:
        result = belljar.run("open(D + '/a.csv').read()", policy, inputs={"D": str(data)})
        assert (result.error.type if result.error else None) == kind


def test_R8_a_mount_that_shows_the_kernel_is_not_brought_along(tmp_path: Path) -> None:
    """Paths of mountinfo: spaces and backslashes are escaped there, other bytes are not."""
    from belljar.api.machine import _unescape

    assert _unescape(rb"/a\040b/c\134d") == "/a b/c\\d"
    assert _unescape("/données".encode()) == "/données"
    assert _unescape(b"/\xff") == "/\udcff"
    with tempfile.TemporaryDirectory(dir="/dev/shm") as shared:
        for ordinary in (shared, str(tmp_path)):
            assert belljar.run("1", Policy().allow(read={ordinary: "/data"})).value == 1


@pytest.mark.parametrize("name", ["proc", "donn\u00e9es", "with space"])
def test_R9_a_grant_that_holds_a_proc_file_system_is_refused(tmp_path: Path, name: str) -> None:
    """As mounted by whoever runs containers below a folder that is granted."""
    (tmp_path / name).mkdir()

    def body(folder: str, name: str) -> list[str]:
        import os

        from belljar.api.machine import _refuse_kernel_trees
        from belljar.errors import PolicyError
        from belljar.kernel import mounts, namespaces
        from belljar.plan.root import Place

        uid, gid = os.getuid(), os.getgid()
        namespaces.unshare(["user", "mount"])
        namespaces.map_identity(0, 0, uid, gid, os.open("/proc/self", os.O_PATH))
        mounts.make_private()
        inner = f"{folder}/{name}"
        answers = []
        for mounted in (False, True):
            if mounted:
                mounts.attach(mounts.clone_tree("/proc", 0), inner)
            for host in (folder, inner, f"{folder}-beside"):
                try:
                    _refuse_kernel_trees([Place(host, host, True, False)])
                    answers.append("taken")
                except PolicyError as error:
                    answers.append("refused" if "proc" in str(error) else str(error))
        return answers

    answers = run_confined(body, str(tmp_path), name)
    assert answers == ["taken"] * 3 + ["refused", "refused", "taken"]
