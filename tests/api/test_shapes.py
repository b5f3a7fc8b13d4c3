"""C6, C7, C10, M6, M7, M13: what code sees, where that is shaped and no wall.

What: stand-ins, blocked functions, chosen built-ins, ``__sandboxed__``, ``import belljar``.
Because: a program that is told in Python's own words what it has not got goes on, and a
person reads in the result what to grant.  Then: each refusal is the exception that ordinary
code expects, is in ``denials``, and disturbs nothing that the interpreter itself needs.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import belljar
from belljar import Policy, PolicyError, Result


def error_of(result: Result) -> belljar.ErrorText:
    assert result.status == "raised"
    assert result.error is not None
    return result.error


def blocks(*functions: str) -> Policy:
    return Policy().block(functions=list(functions))


def without(*names: str) -> Policy:
    return Policy().block(builtins=list(names))


# ------------------------------------------------------------------------------ stand-ins


@pytest.fixture
def stands_in(open_dir: Path) -> StandsIn:
    return StandsIn(open_dir)


class StandsIn:
    """Files that take the place of modules."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, **modules: str) -> Policy:
        """A policy in which each module is made of this source; ``__`` is a dot."""
        files: dict[str, str] = {}
        for name, source in modules.items():
            file = self.folder / f"{name}.txt"
            file.write_text(source)
            file.chmod(0o644)
            files[name.replace("__", ".")] = str(file)
        return Policy().allow(stand_ins=files)


def test_C6_a_file_stands_in_for_a_blocked_module(stands_in: StandsIn) -> None:
    policy = stands_in(readline="def parse_and_bind(line): return [__name__, line]")
    code = (
        "import readline\n[readline.parse_and_bind('x'), readline.__file__, readline.__spec__.name]"
    )
    result = belljar.run(code, policy)
    assert result.unwrap() == [
        ["readline", "x"],
        "/usr/lib/belljar/stand-ins/readline.py",
        "readline",
    ]
    assert result.denials == ()
    assert belljar.run(code, policy.block(modules=["readline"])).ok


def test_C6_and_for_one_that_would_be_there(stands_in: StandsIn) -> None:
    """A C module, one in Python, one of a package, one that an interpreter starts with."""
    policy = stands_in(
        math="x = 'math'", colorsys="x = 'colorsys'", json__tool="x = 'json.tool'", os="x = 'os'",
        stat="x = 'stat'", own="import math\nx = 'own ' + math.x",
    )  # fmt: skip
    code = "import math, colorsys, json.tool, os, stat, own\n[m.x for m in (math, colorsys, json.tool, os, stat, own)]"
    assert belljar.run(code, policy).unwrap() == [
        "math",
        "colorsys",
        "json.tool",
        "os",
        "stat",
        "own math",
    ]


def test_C6_a_library_uses_the_stand_in(stands_in: StandsIn) -> None:
    policy = stands_in(_json="def scanstring(*a): return 'stand-in', a[1]")
    assert belljar.run("import json.decoder; json.decoder.c_scanstring('x', 5)", policy).value == (
        "stand-in",
        5,
    )


def test_C6_each_guest_loads_it_afresh(stands_in: StandsIn) -> None:
    policy = stands_in(own="import sys\nseen = []")
    for _ in range(2):
        assert belljar.run("import own\nown.seen.append(1)\nown.seen", policy).unwrap() == [1]


@pytest.mark.parametrize(
    ("source", "kind", "line"),
    [
        ("x = (", "SyntaxError", '  File "/usr/lib/belljar/stand-ins/own.py", line 1'),
        (
            "1 / 0",
            "ZeroDivisionError",
            '  File "/usr/lib/belljar/stand-ins/own.py", line 1, in <module>',
        ),
        ("import nosuch", "ModuleNotFoundError", "    import nosuch"),
        ("import syslog", "belljar.ModuleRefused", "    import syslog"),
    ],
)
def test_C6_its_faults_are_the_programs(
    stands_in: StandsIn, source: str, kind: str, line: str
) -> None:
    error = error_of(belljar.run("import own", stands_in(own=source)))
    assert error.type == kind
    assert line in error.traceback.splitlines()
    assert str(stands_in.folder) not in error.traceback


@pytest.mark.parametrize("module", ["traceback", "linecache", "collections", "threading", "io", "os", "asyncio", "tokenize"])  # fmt: skip
def test_C6_M12_the_agent_reports_without_the_stand_in(stands_in: StandsIn, module: str) -> None:
    policy = stands_in(**{module: "x = 1"})
    result = belljar.run(f"import {module}\n{module}.x / 0", policy)
    text = error_of(result).traceback
    assert text.endswith(
        f"    {module}.x / 0\n    {'~' * len(module)}~~~^~~\nZeroDivisionError: division by zero\n"
    )
    assert belljar.run(f"import {module}\n{module}.x", policy).unwrap() == 1


@pytest.mark.parametrize(
    "module", ["sys", "posix", "builtins", "time", "_io", "belljar", "belljar.x", "__main__"]
)
def test_C6_where_nothing_can_stand_in_it_is_said(stands_in: StandsIn, module: str) -> None:
    policy = stands_in(**{module.replace(".", "__") if module != "__main__" else "x": ""})
    if module == "__main__":
        policy = Policy().allow(stand_ins={"__main__": policy.stand_ins["x"]})
    with pytest.raises(PolicyError) as caught:
        belljar.run("1", policy)
    assert caught.value.key == f"grants.stand_ins.{module}"
    assert caught.value.message in (
        "the interpreter itself stands on it, so nothing can stand in",
        "this name is taken inside",
    )


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("{}/nosuch.py", "/nosuch.py: No such file or directory"),
        ("{}", " is not a file"),
        ("/proc/self/environ", "cannot be granted: it reaches into other processes"),
        ("/dev/null", "cannot be granted: devices reach past every wall"),
    ],
)
def test_C6_what_is_no_file_is_refused(open_dir: Path, path: str, words: str) -> None:
    policy = Policy().allow(stand_ins={"readline": path.format(open_dir)})
    with pytest.raises(PolicyError) as caught:
        belljar.run("1", policy)
    assert caught.value.key == "grants.stand_ins.readline"
    assert words in caught.value.message


# ------------------------------------------------------------------------------ functions


@pytest.mark.parametrize(
    ("function", "code"),
    [
        ("os:listdir", "import os; os.listdir('.')"),
        ("os:listdir", "from os import listdir; listdir()"),
        ("os:listdir", "import shutil, os; os.mkdir('d'); shutil.os.listdir('d')"),
        ("os:path.join", "import os; os.path.join('a')"),
        ("os.path:join", "import os.path; os.path.join('a')"),
        ("posixpath:join", "import os; os.path.join('a')"),
        ("posix:listdir", "import posix; posix.listdir()"),
        ("sys:exit", "import sys; sys.exit(0)"),
        ("sys:_getframe", "import sys; sys._getframe()"),
        ("time:sleep", "import time; time.sleep(0)"),
        ("gc:collect", "import gc; gc.collect()"),
        ("json:loads", "import json; json.loads('1')"),
        ("json.decoder:JSONDecoder.decode", "import json; json.loads('1')"),
        ("pathlib:Path.unlink", "import pathlib; pathlib.Path('x').unlink()"),
        ("pathlib:Path.cwd", "import pathlib; pathlib.Path.cwd()"),
        ("pathlib:Path.cwd", "import pathlib; pathlib.Path('x').cwd()"),
        ("pathlib:PurePath.name", "import pathlib; pathlib.PurePath('x').name()"),
        ("string:Template.substitute", "import string; string.Template('x').substitute()"),
        ("subprocess:Popen", "import subprocess; subprocess.run(['true'])"),
        ("socket:socket", "import socket; socket.create_server(('127.0.0.1', 0))"),
        ("socket:gethostname", "import socket; socket.gethostname()"),
        ("mmap:mmap", "import mmap; mmap.mmap(-1, 10)"),
        ("math:sqrt", "import math; math.sqrt(4)"),
        ("asyncio:run", "import asyncio; asyncio.run(None)"),
        ("traceback:format_exception", "import traceback; traceback.format_exception(None)"),
        ("linecache:getlines", "import linecache; linecache.getlines('x')"),
    ],
)
def test_C7_a_blocked_function_is_an_oserror_with_the_grant(function: str, code: str) -> None:
    """In modules that are loaded already, loaded later, or stood upon by the agent itself."""
    result = belljar.run(code, blocks(function), name="lists.py")
    error = error_of(result)
    assert (error.type, error.message) == (
        "belljar.FunctionRefused",
        "[Errno 1] Operation not permitted",
    )
    grant = f'allow(functions=["{function}"])'
    note = f"belljar refused {function}: the policy blocks it; {grant} would allow it"
    assert error.notes == (note,)
    assert [(d.action, d.target, d.grant) for d in result.denials] == [("call", function, grant)]
    lines = error.traceback.splitlines()
    assert lines[1] == '  File "lists.py", line 1, in <module>'
    assert lines[-1] == note
    assert "belljar/" not in error.traceback
    with pytest.raises(belljar.Denied):
        result.unwrap()
    allowed = belljar.run(code, blocks(function).allow(functions=[function]))
    assert allowed.error is None or "FunctionRefused" not in allowed.error.type


def test_C7_code_catches_it_as_it_would_the_kernels() -> None:
    code = """
import os, errno, belljar, inspect
caught = []
for kind in (PermissionError, OSError, belljar.SandboxError, belljar.FunctionRefused):
    try:
        os.listdir(".")
    except kind as error:
        caught.append(error.errno == errno.EPERM and error.filename is None)
[caught, os.listdir.__name__, os.listdir.__module__, callable(os.listdir)]
"""
    value = belljar.run(code, blocks("os:listdir")).unwrap()
    assert value == [[True] * 4, "listdir", "os", True]


def test_C7_it_is_shape_and_the_same_function_is_elsewhere() -> None:
    assert belljar.run("import posix; posix.listdir('.')", blocks("os:listdir")).unwrap() == []
    assert belljar.run("import os; os.listdir('.')", blocks("posix:listdir")).unwrap() == []


@pytest.mark.parametrize("function", ["posix:listdir", "posix:stat", "posix:getcwd", "os:stat", "io:open", "io:open_code", "posix:fspath", "builtins_:x"])  # fmt: skip
def test_C7_M12_imports_go_on_whatever_is_blocked(function: str) -> None:
    code = "import sys; sys.path.insert(0, '/work')\nimport own, colorsys, email.utils\nown.x"
    assert belljar.run(code, blocks(function), files={"own.py": "x = 1"}).unwrap() == 1


def test_C7_M12_runs_end_well_whatever_is_blocked() -> None:
    policy = blocks(
        "os:write", "os:read", "os:makedirs", "posix:write", "gc:collect", "io:FileIO", "sys:exit",
        "atexit:_run_exitfuncs", "os:mkdir", "traceback:format_exception",
        "linecache:getline", "os:statvfs", "resource:getrlimit", "tokenize:detect_encoding",
    )  # fmt: skip
    result = belljar.run("import threading, io\nprint('x')\n[5]", policy)
    assert (result.unwrap(), result.stdout) == ([5], "x\n")
    assert belljar.run("open('a/b').read()", policy, files={"a/b": "c"}).unwrap() == "c"
    error = error_of(
        belljar.run(b"# coding: latin-1\nimport gc, os, resource\nint('\xe9')", policy)
    )
    assert error.traceback.endswith(
        "    int('\u00e9')\nValueError: invalid literal for int() with base 10: '\u00e9'\n"
    )


def test_C7_a_blocked_class_can_still_be_derived_from_and_asked_of() -> None:
    code = """
import ssl, asyncio, subprocess, socket
class Own(subprocess.Popen): pass
a, b = socket.socketpair()
caught = []
for kind in (socket.socket, ssl.SSLSocket, Own):
    try:
        kind()
    except PermissionError as error:
        caught.append(type(error).__name__)
[caught, isinstance(5, socket.socket), subprocess.Popen[str].__origin__ is subprocess.Popen]
"""
    value = belljar.run(code, blocks("socket:socket", "subprocess:Popen"))
    # socketpair makes what it hands out of the class that is blocked
    assert error_of(value).type == "belljar.FunctionRefused"
    code = code.replace("a, b = socket.socketpair()\n", "")
    assert belljar.run(code, blocks("socket:socket", "subprocess:Popen")).unwrap() == [
        ["FunctionRefused"] * 3,
        False,
        True,
    ]


@pytest.mark.parametrize(
    "function",
    ["datetime:datetime.now", "collections:deque.append", "_struct:Struct.pack", "io:FileIO.read"],
)
def test_C7_a_type_that_cannot_be_changed_takes_its_module_along(function: str) -> None:
    module = function.partition(":")[0]
    result = belljar.run(f"import {module}", blocks(function))
    error = error_of(result)
    grant = f'allow(functions=["{function}"])'
    assert (error.type, error.message) == ("belljar.ModuleRefused", f"No module named '{module}'")
    assert error.notes == (
        f"belljar refused import {module}: {function} cannot be replaced; {grant} would allow it",
    )
    assert [(d.target, d.grant) for d in result.denials] == [(module, grant)]
    assert "belljar/" not in error.traceback
    assert belljar.run("1", blocks(function)).value == 1
    again = f"for _ in '12':\n try: import {module}\n except ImportError: pass\n else: 1 / 0\n{module!r} in __import__('sys').modules"
    assert belljar.run(again, blocks(function)).unwrap() is False


def test_C7_what_this_version_does_not_have_is_no_error() -> None:
    policy = blocks(
        "os:no_such", "json:a.b.c", "no_such:x", "colorsys:YIQ.x", "sys:modules", "os:sep"
    )
    assert belljar.run("import json, colorsys; json.loads('1')", policy).unwrap() == 1


def test_C7_a_module_that_is_loaded_again_is_blocked_again() -> None:
    code = "import importlib, json, sys\nimportlib.reload(json)\ndel sys.modules['json']\nimport json\njson.loads('1')"
    assert error_of(belljar.run(code, blocks("json:loads"))).type == "belljar.FunctionRefused"


def test_C7_preloaded_modules_are_blocked_as_well() -> None:
    code = "import json; json.loads('1')"
    for policy, type_ in ((blocks("json:loads"), "belljar.FunctionRefused"), (Policy(), None)):
        result = belljar.run(code, policy, preload=["json"])
        assert (result.error.type if result.error else None) == type_


# ------------------------------------------------------------------------------ built-ins


@pytest.mark.parametrize(
    ("name", "code", "kind"),
    [
        ("open", "open('x')", "NameError"),
        ("eval", "eval('1')", "NameError"),
        ("exec", "exec('1')", "NameError"),
        ("print", "def f():\n    print(1)\nf()", "NameError"),
        ("print", "[print(x) for x in (1,)]", "NameError"),
        ("open", "exec('open(1)')", "NameError"),
        ("open", "exec('open(1)', {})", "NameError"),
        ("open", "eval('open')", "NameError"),
        ("open", "type(lambda: 0)((lambda: open).__code__, {**globals()})()", "NameError"),
        ("ValueError", "try:\n    1 / 0\nexcept ValueError:\n    pass", "NameError"),
        ("__import__", "import json", "ImportError"),
        ("__import__", "from json import loads", "ImportError"),
        ("__build_class__", "class A: pass", "NameError"),
    ],
)
def test_C10_a_name_that_is_left_out_is_not_defined(name: str, code: str, kind: str) -> None:
    for policy in (
        without(name),
        without("*")
        .allow(builtins=["exec", "eval", "type", "globals", "lambda_"])
        .block(builtins=[name]),
    ):
        result = belljar.run(code, policy)
        error = error_of(result)
        assert error.type == kind
        grant = f'allow(builtins=["{name}"])'
        assert error.notes == (
            f"belljar refused {name}: the policy blocks it; {grant} would allow it",
        )
        assert [(d.action, d.target, d.grant) for d in result.denials] == [("name", name, grant)]
    again = without(name).allow(builtins=[name])
    assert again == Policy()


def test_C10_a_slip_of_the_programs_is_not_laid_at_the_policys_door() -> None:
    for code, policy in (
        ("opne('x')", without("open")),
        ("print", without("open")),
        ("nosuch", without("*")),
        ("raise NameError('open', name=5)", without("open")),
        ("open", Policy()),
        ("raise NameError('x', name='print')", without("open")),
    ):
        result = belljar.run(code, policy)
        assert result.denials == ()
        assert result.error is None or result.error.notes == ()


def test_C10_nothing_but_what_is_named() -> None:
    policy = without("*").allow(builtins=["sum", "range", "__build_class__"])
    code = """
class A:
    x = [n * 2 for n in range(3)]
    def total(self): return sum(self.x)
def gen():
    yield from (1, 2)
match [1, 2]:
    case [a, b]: pass
f"{a!r}", (lambda: A().total())(), {k: v for k, v in {1: 2}.items()}, [*gen()], __sandboxed__, __debug__, __name__
"""
    value = belljar.run(code, policy).unwrap()
    assert value == ("1", 6, {1: 2}, [1, 2], True, True, "__main__")
    assert belljar.run("async def f(): return 5\nawait f()", without("*")).unwrap() == 5
    assert belljar.run("assert 0, 'x'", without("*")).error.type == "AssertionError"  # type: ignore[union-attr]


def test_C10_libraries_keep_theirs() -> None:
    code = """
import json, io, threading, pathlib, dataclasses, collections, builtins
pathlib.Path("f").write_text("x")
@dataclasses.dataclass
class Point:
    x: int
found = []
thread = threading.Thread(target=lambda: found.append(sorted((2, 1))))
thread.start()
thread.join()
[io.open("f").read(), Point(1).x, collections.namedtuple("P", "x")(5).x, found, callable(builtins.open)]
"""
    assert belljar.run(code, without("open", "exec", "eval", "compile")).unwrap() == [
        "x",
        1,
        5,
        [[1, 2]],
        True,
    ]


def test_C10_the_namespace_has_a_dict_of_its_own() -> None:
    code = "[type(__builtins__).__name__, 'open' in __builtins__, __builtins__['len']((1,))]"
    assert belljar.run(code, without("open")).unwrap() == ["dict", False, 1]
    assert belljar.run("type(__builtins__).__name__").unwrap() == "module"
    assert belljar.run("__builtins__['mine'] = 5\nmine", without("open")).unwrap() == 5
    assert error_of(belljar.run("mine", without("open"))).type == "NameError"


def test_M13_names_and_inputs_come_before_built_ins() -> None:
    policy = without("open").allow(names={"open": 5, "data": [1]})
    assert belljar.run("data.append(open)\ndata", policy).unwrap() == [1, 5]
    assert belljar.run("data", policy).unwrap() == [1]
    assert belljar.run("data", policy, inputs={"data": "closer"}).unwrap() == "closer"
    assert belljar.run("print", inputs={"print": 7}).unwrap() == 7
    assert policy.names == {"open": 5, "data": [1]}


# --------------------------------------------------------------------------- __sandboxed__


def test_M7_it_says_true_everywhere() -> None:
    code = """
import builtins, own
space = {}
exec("seen = __sandboxed__", space)
[__sandboxed__, builtins.__sandboxed__, __builtins__.__sandboxed__, own.seen, space["seen"],
 type(__sandboxed__).__name__, "__sandboxed__" in dir(builtins)]
"""
    run = belljar.run(
        "import sys; sys.path.insert(0, '/work')\n" + code, files={"own.py": "seen = __sandboxed__"}
    )
    assert run.unwrap() == [True, True, True, True, True, "bool", True]


@pytest.mark.parametrize(
    "act",
    [
        "builtins.__sandboxed__ = False",
        "del builtins.__sandboxed__",
        "setattr(builtins, '__sandboxed__', False)",
        "delattr(builtins, '__sandboxed__')",
        "builtins.__setattr__('__sandboxed__', False)",
    ],
)
def test_M7_it_is_read_only(act: str) -> None:
    code = f"import builtins\ntry:\n    {act}\nexcept AttributeError as error:\n    said = str(error)\n[said, __sandboxed__]"
    assert belljar.run(code).unwrap() == ["__sandboxed__ is read-only", True]


def test_M7_the_rest_of_builtins_can_be_changed_as_ever() -> None:
    code = """
import builtins
from unittest import mock
found = []
builtins.mine = 5
found.append(mine)
del builtins.mine
found.append(hasattr(builtins, "mine"))
with mock.patch("builtins.open", lambda *a: "patched"), mock.patch.object(builtins, "len", lambda x: -1):
    found += [open("x"), len([])]
found += [len([]), open.__name__]
try:
    del builtins.mine
except AttributeError as error:
    found.append("mine" in str(error))
found
"""
    assert belljar.run(code).unwrap() == [5, False, "patched", -1, 0, "open", True]


def test_M7_builtins_is_a_module_to_all_who_ask() -> None:
    code = """
import builtins, copy, inspect, importlib, pickle, pydoc, sys, types
try:
    pickle.dumps(builtins)
except TypeError as error:
    told = str(error)
[repr(builtins), inspect.ismodule(builtins), isinstance(builtins, types.ModuleType),
 repr(type(builtins)), type(builtins).__name__, builtins.__name__, builtins.__spec__.name,
 importlib.reload(builtins) is builtins, sys.modules["builtins"] is builtins, told,
 inspect.getmodule(len) is builtins, pydoc.render_doc(builtins).splitlines()[0],
 __sandboxed__, vars(builtins)["len"] is len, type(importlib.util.find_spec("builtins")).__name__]
"""
    assert belljar.run("import importlib.util" + code).unwrap() == [
        "<module 'builtins' (built-in)>", True, True, "<class 'module'>", "module", "builtins",
        "builtins", True, True, "cannot pickle 'module' object", True,
        "Python Library Documentation: built-in module builtins", True, True, "ModuleSpec",
    ]  # fmt: skip


def test_M7_help_prints() -> None:
    result = belljar.run("help(len)\nhelp('keywords')")
    assert result.ok
    assert result.stdout.startswith("Help on built-in function len in module builtins:")
    assert "continue" in result.stdout


# ------------------------------------------------------------------------ import belljar


def test_M6_import_belljar_gives_the_exceptions() -> None:
    code = """
import belljar, importlib.util, inspect, pickle
from belljar import *
first = pickle.loads(pickle.dumps(ModuleRefused("x", name="y")))
[sorted(n for n in dir(belljar) if n[:2] != "__"), belljar.__all__, inspect.ismodule(belljar), belljar.__doc__,
 [[c.__module__ + "." + c.__qualname__ for c in kind.__mro__] for kind in (ModuleRefused, FunctionRefused)],
 first.name, importlib.util.find_spec("belljar").name]
"""
    names = [
        "FunctionRefused",
        "ModuleRefused",
        "SandboxError",
        "abilities",
        "display",
        "limits",
        "usage",
    ]
    tail = ["builtins.Exception", "builtins.BaseException", "builtins.object"]
    assert belljar.run(code).unwrap() == [
        names, names, True, "Inside a sandbox: exceptions of refusals, display, usage, limits, abilities.",
        [["belljar.ModuleRefused", "belljar.SandboxError", "builtins.ModuleNotFoundError", "builtins.ImportError", *tail],
         ["belljar.FunctionRefused", "belljar.SandboxError", "builtins.PermissionError", "builtins.OSError", *tail]],
        "y", "belljar",
    ]  # fmt: skip


def test_M6_and_nothing_of_ours() -> None:
    for code, kind in (
        ("from belljar import Policy", "ImportError"),
        ("import belljar.guest", "ModuleNotFoundError"),
        ("import belljar.guest.imports", "ModuleNotFoundError"),
    ):
        assert error_of(belljar.run(code)).type == kind


# -------------------------------------------------------------- reports on odd exceptions


@pytest.mark.parametrize(
    ("code", "type_"),
    [
        ("raise ModuleNotFoundError('x', name=5)", "ModuleNotFoundError"),
        ("raise ImportError('x', name=b'x')", "ImportError"),
        ("class E(OSError):\n    filename = property(lambda self: 1 / 0)\ntry: open('/x')\nexcept OSError: pass\nraise E(2, 'x')", "E"),
        ("class E(OSError):\n    errno = property(lambda self: 1 / 0)\nraise E(2, 'x')", "E"),
        ("class E(NameError):\n    name = property(lambda self: 1 / 0)\nraise E('x')", "E"),
        ("class A(tuple):\n    def __str__(self): 1 / 0\n    __repr__ = __str__\nclass E(MemoryError):\n    args = A()\nraise E", "E"),
        ("import sys\nsys.modules['traceback'] = sys.modules['linecache'] = None\nraise KeyError", "KeyError"),
        ("import sys\nsys.modules['threading'] = sys\nraise KeyError", "KeyError"),
        ("import collections\ndel collections.namedtuple\nraise KeyError", "KeyError"),
    ],
)  # fmt: skip
def test_K7_an_odd_exception_is_reported_like_any(code: str, type_: str) -> None:
    """Attributes that raise, or are of other types than their class promises."""
    for policy in (Policy(), without("open")) if "open" not in code else (Policy(),):
        error = error_of(belljar.run(code, policy))
        assert error.type == type_
        last = len(code.splitlines())
        assert f'  File "<code>", line {last}, in <module>\n' in error.traceback


def test_K7_carets_stand_beneath_what_failed() -> None:
    """Also in the last line, which ends without a newline."""
    for code, lines in (
        ("f(1 / 0)", ["    f(1 / 0)", "      ~~^~~"]),
        ("x = 5\nx.nosuch + 1", ["    x.nosuch + 1", "    ^^^^^^^^"]),
        ("x = 5\r\n(x.nosuch)\r\n", ["    (x.nosuch)", "     ^^^^^^^^"]),
    ):
        result = belljar.run(("def f(x): 0\n" + code).encode() if "f(" in code else code)
        assert error_of(result).traceback.splitlines()[2:4] == lines


@pytest.mark.parametrize("odd", ["'\u2028\x85\x1c'", "\f", "'''\v\n'''", "#\u2029"])
def test_K7_lines_are_counted_as_the_compiler_counts_them(odd: str) -> None:
    last = odd.count("\n") + 2
    error = error_of(belljar.run(f"{odd}\nraise KeyError('here')\n"))
    assert error.traceback.splitlines()[1:3] == [
        f'  File "<code>", line {last}, in <module>',
        "    raise KeyError('here')",
    ]
