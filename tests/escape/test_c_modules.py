"""C3, C5: C modules that are not allowed are nowhere, whatever Python says.

What: guests without the Python layer look for refused C modules by import, by path, by the
dynamic loader, and bring copies along.  Because: a name that is refused by Python is a sign
on a door.  Then: the files are not there, and a copy cannot be mapped as code.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import belljar
from belljar import Policy
from belljar.api import machine
from belljar.plan.root import dynload_inside
from belljar.policy.whitelist import ALLOWED
from belljar.python.interpreter import describe_interpreter

from .native import outcome

INTERPRETER = describe_interpreter()
DYNLOAD = dynload_inside(INTERPRETER)
FILES = {name: os.path.basename(path) for name, path in INTERPRETER.extensions}
REFUSED = {name: file for name, file in FILES.items() if name not in ALLOWED}

SEARCH = """
import os, sys, importlib.machinery
imported, seen = [], []
for name in NAMES:
    try:
        __import__(name)
        imported.append(name)
    except ImportError as error:
        assert type(error) is ModuleNotFoundError and error.name == name, (name, error)
def walk(place, depth):
    try:
        names = os.listdir(place)
    except OSError:
        return
    for name in names:
        path = place.rstrip("/") + "/" + name
        seen.append(path) if name in FILES else None
        if depth and os.path.isdir(path) and not os.path.islink(path):
            walk(path, depth - 1)
walk("/", 6)
for folder in (*sys.path, "/usr/lib/belljar/dynload", "/usr/lib/belljar/runtime", *EXTRA):
    for file in FILES:
        for path in (folder + "/" + file, "/proc/self/root" + folder + "/" + file):
            try:
                os.close(os.open(path, os.O_RDONLY))
                seen.append(path)
            except OSError:
                pass
[imported, seen]
"""


def look(names: dict[str, str], policy: Policy | None = None) -> list[list[str]]:
    inputs = {
        "NAMES": list(names),
        "FILES": list(names.values()),
        "EXTRA": [*INTERPRETER.dynload, INTERPRETER.stdlib + "/lib-dynload"],
    }
    found: list[list[str]] = belljar.run(SEARCH, policy, inputs=inputs).unwrap()
    return found


def test_C3_what_is_not_on_the_default_list_is_nowhere() -> None:
    if not REFUSED:
        pytest.skip("this interpreter has all its C modules built in")
    assert look(REFUSED) == [[], []]


def test_C3_the_search_finds_what_is_there() -> None:
    name = next((name for name in ("_json", "math", "_struct") if name in FILES), None)
    if name is None:
        pytest.skip("this interpreter has all its C modules built in")
    imported, seen = look({name: FILES[name]})
    assert imported == [name]
    assert f"{DYNLOAD}/{FILES[name]}" in seen


def test_C4_with_everything_blocked_no_file_is_left() -> None:
    """Those that the zygote itself is made with included."""
    policy = Policy().block(modules=["*"])
    code = """
import posix, sys
found = []
for folder in sys.path + ["/usr/lib/belljar/dynload", "/usr/lib/belljar/runtime"]:
    try:
        found += [name for name in posix.listdir(folder) if ".so" in name]
    except OSError:
        pass
for folder in ("/usr/lib/belljar/dynload/", "/usr/lib/belljar/runtime/"):
    for name in FILES:
        try:
            found.append(posix.open(folder + name, posix.O_RDONLY))
        except OSError:
            pass
found
"""
    files = list(FILES.values())
    value = belljar.run(code, policy, inputs={"FILES": files}).unwrap()
    # A file that each guest lets go of leaves an empty, unmapped name behind at most.
    assert [found for found in value if isinstance(found, str)] == []
    code = "found = []\nfor name in NAMES:\n try: __import__(name)\n except ImportError: pass\n else: found.append(name)\nfound"
    assert belljar.run(code, policy, inputs={"NAMES": list(FILES)}).unwrap() == []


@pytest.mark.parametrize("name", ["_ctypes", "_socket", "_sqlite3", "mmap", "select"])
def test_C4_a_module_that_is_blocked_by_name_is_nowhere(name: str) -> None:
    if name not in FILES:
        pytest.skip(f"{name} is no file of its own in this interpreter")
    imported, seen = look({name: FILES[name]}, Policy().block(modules=[name]))
    assert imported == []
    assert [path for path in seen if os.path.basename(os.path.dirname(path)) != "runtime"] == []


def test_C3_a_copy_that_is_brought_along_is_no_code(open_dir: Path) -> None:
    """From /work, /tmp, a granted place, by import and by the loader."""
    name = next(
        (name for name in ("readline", "syslog", "_testcapi", "xxlimited") if name in FILES), None
    )
    if name is None:
        pytest.skip("this interpreter has no refused C module of its own file")
    path = dict(INTERPRETER.extensions)[name]
    file = FILES[name]
    (open_dir / file).write_bytes(Path(path).read_bytes())
    (open_dir / file).chmod(0o755)
    policy = Policy().allow(read={str(open_dir): "/data"}, memory_bytes=2**29)
    code = """
import importlib.machinery, importlib.util, shutil, sys
results = []
shutil.copy("/data/" + FILE, "/tmp/" + FILE)
os.chmod("/tmp/" + FILE, 0o755)
for folder in ("/work", "/tmp", "/data"):
    path = folder + "/" + FILE
    assert open(path, "rb").read(4) == b"\\x7fELF"
    results.append(attempt(_ctypes.CDLL, path))
    sys.path.insert(0, folder)
    results.append(attempt(__import__, NAME))
    spec = importlib.util.spec_from_file_location(NAME, path)
    results.append(attempt(importlib.util.module_from_spec, spec))
[result for result in results if result not in ("OSError", "ImportError", "EPERM", "EACCES")]
"""
    inputs = {"FILE": file, "NAME": name}
    assert outcome(code, policy, inputs=inputs, files={file: Path(path).read_bytes()}) == []


def test_C5_machine_code_that_the_zygote_needed_has_no_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the Python layer on and off: the modules of the runtime are out of sight."""
    code = """
import sys
[name for name in ("_ctypes", "_socket", "_struct", "fcntl", "mmap", "resource", "select") if name in sys.modules]
"""
    for explain in (False, True):
        monkeypatch.setattr(machine, "explain_refusals", explain)
        machine._known.prepared.clear()  # pyright: ignore[reportPrivateUsage]
        assert belljar.run(code).unwrap() == []


def test_C1_M9_guests_share_no_module_without_the_python_layer() -> None:
    change = "import json, string\njson.mark = string.digits = 5\nimport sys; sys.mark = 1; 1"
    look = "import sys, json, string\n[hasattr(sys, 'mark'), hasattr(json, 'mark'), string.digits]"
    for preload in ((), ("json", "string")):
        belljar.run(change, preload=preload).unwrap()
        assert belljar.run(look, preload=preload).unwrap() == [False, False, "0123456789"]
