"""R8: bytecode of belljar's own gets into a zygote without the host's path."""

from __future__ import annotations

import importlib.util
import marshal
import os
import py_compile
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

import belljar
from belljar.zygote.boot import put_path

INSIDE = "/usr/lib/belljar/python/belljar/engine/thing.py"
TAIL = "belljar/engine/thing.py"
SOURCE = """
class A:
    def f(self): return [lambda: x for x in (1, 2)]
def g(): return lambda: "belljar/engine/thing.py"
"""
PLACES = {
    "short": "/a/",
    "relative": "./",
    "none": "",
    "an ordinary one": "/home/somebody/.venv/lib/python3.11/site-packages/",
    "as long as one byte counts": "/" + "d" * (255 - len(TAIL) - 2) + "/",
    "longer": "/" + "d" * 300 + "/",
    "not ASCII": "/home/Zo\u00eb/\u6f22\u5b57/",
    "beyond the first plane": "/home/\U0001f600/",
    "not even text": "/home/\udcff/",
    "like a head": "/home/" + "zz.//+" * 9 + "/",
    "Arabic": "/home/\u06a0\u06b7" + "\u0680" * 60 + "/",
}


def files_of(code: CodeType) -> Iterator[str]:
    yield code.co_filename
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from files_of(constant)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_R8_the_path_is_replaced_in_every_code_object(place: str) -> None:
    code = compile(SOURCE, place + TAIL, "exec")
    data = bytearray(16) + marshal.dumps(code)
    assert put_path(data, INSIDE, TAIL)
    made = marshal.loads(memoryview(data)[16:])
    assert set(files_of(made)) == {INSIDE}
    words = [word for word in place.encode("utf-8", "surrogatepass").split(b"/") if len(word) > 3]
    assert not any(word in data for word in words)
    namespace: dict[str, object] = {}
    exec(made, namespace)
    assert namespace["g"]()() == TAIL  # type: ignore[operator]


def test_R8_every_length_of_a_directory_is_replaced() -> None:
    """Where a length is one byte, it may look like any letter of a path."""
    for length in range(1, 400):
        place = "/" + "zZ0123456789"[length % 12] * length + "/"
        data = bytearray(marshal.dumps(compile(SOURCE, place + TAIL, "exec")))
        assert put_path(data, INSIDE, TAIL)
        assert set(files_of(marshal.loads(data))) == {INSIDE}


def test_R8_bytecode_of_something_else_is_refused() -> None:
    for name in ("/home/me/other/thing.py", "<string>", ""):
        data = bytearray(marshal.dumps(compile(SOURCE, name, "exec")))
        before = bytes(data)
        assert not put_path(data, INSIDE, TAIL)
        assert data == before
    for data in (bytearray(), bytearray(TAIL.encode()), bytearray(b"\xf5\0\0\0\0")):
        assert not put_path(data, INSIDE, TAIL)


def test_R8_belljars_own_bytecode_is_not_refused(tmp_path: Path) -> None:
    """A zygote that compiled sources would start slowly and nobody would know why."""
    package = Path(belljar.__file__).parent
    for source in package.rglob("*.py"):
        made = py_compile.compile(str(source), str(tmp_path / "made.pyc"), doraise=True)
        assert made is not None
        data = bytearray(Path(made).read_bytes())
        tail = f"belljar/{source.relative_to(package)}"
        assert put_path(data, f"/usr/lib/belljar/python/{tail}", tail), source
        assert os.fsencode(source.parent.parent) not in data


HOST = """
import sys
sys.path[:0] = [PLACE]
from belljar.zygote import boot
import _frozen_importlib_external as external
external.SourceFileLoader.get_data = boot.read
from belljar.wire import limits
del external.SourceFileLoader.get_data
print(limits.__spec__.cached, limits.Budget.__post_init__.__code__.co_filename)
"""


@pytest.mark.parametrize("compiled_for", ["this place", "something else"])
def test_R8_modules_load_with_it(compiled_for: str, tmp_path: Path) -> None:
    """Refused bytecode is no error: the source is compiled."""
    package = Path(belljar.__file__).parent
    source = package / "wire" / "limits.py"
    (tmp_path / "belljar").symlink_to(package)
    code = HOST.replace("PLACE", repr(str(tmp_path)))
    cached = importlib.util.cache_from_source(str(source))
    # Where bytecode is looked for may be moved, so that nothing is written into this checkout.
    moved = tmp_path / "cache"
    target = Path(f"{moved}{tmp_path}/belljar/wire/{Path(cached).name.split('.')[0]}")
    target = target.with_name(f"limits.{sys.implementation.cache_tag}.pyc")
    name = "/other.py" if compiled_for == "something else" else str(source)
    py_compile.compile(str(source), str(target), dfile=name, doraise=True)
    done = subprocess.run(
        [sys.executable, "-I", "-B", "-X", f"pycache_prefix={moved}", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(target), f"{tmp_path}/belljar/wire/limits.py"]
