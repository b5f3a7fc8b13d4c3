"""C1, C3, C4, C5: which modules code may load, as a user chooses them.

What: the default list, names, patterns, whole distributions; and what is said of a refusal.
Because: a whitelist that refuses without a word is switched off, and one that refuses too
little is none.  Then: every C module of this interpreter is tried, and a refusal names the
grant that helps, and with that grant the module imports.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import belljar
from belljar import Policy, PolicyError, Result
from belljar.plan.whitelist import STARTS_WITH
from belljar.policy.whitelist import ALLOWED, BLOCKED, FACADES
from belljar.python.interpreter import describe_interpreter, link

from .packages import Environment, c_module

INTERPRETER = describe_interpreter()
FILES = dict(INTERPRETER.extensions)
STANDARD = sorted({*FILES, *INTERPRETER.builtins})
NOTE = 'belljar refused import {}: {}; allow(modules=["{}"]) would allow it'
NOT_LISTED = "it is not on the default list of C modules"
BY_POLICY = "the policy blocks it"

IMPORTS = """
import belljar, importlib
found = {}
for name in NAMES:
    try:
        importlib.import_module(name)
        found[name] = "imported"
    except ModuleNotFoundError as error:
        kind = "refused" if isinstance(error, belljar.SandboxError) else "missing"
        found[name] = (kind, type(error).__name__, error.name, str(error), *getattr(error, "__notes__", ()))
    except Exception as error:
        found[name] = repr(error)
found
"""


def imports(names: list[str], policy: Policy | None = None) -> dict[str, object]:
    """What became of each import inside, all in one guest."""
    found: dict[str, object] = belljar.run(IMPORTS, policy, inputs={"NAMES": names}).unwrap()
    return found


def refused(name: str, why: str = BY_POLICY) -> tuple[str, ...]:
    """What a refused import looks like inside."""
    note = NOTE.format(name, why, name)
    return ("refused", "ModuleRefused", name, f"No module named {name!r}", note)


def error_of(result: Result) -> belljar.ErrorText:
    assert result.status == "raised"
    assert result.error is not None
    return result.error


# --------------------------------------------------------------------------- the default


def test_C3_every_module_of_the_default_list_imports() -> None:
    names = [name for name in STANDARD if name in ALLOWED]
    lost = {
        name for name, path in FILES.items() if path in {asker for _, asker in INTERPRETER.missing}
    }
    assert imports([name for name in names if name not in lost]) == dict.fromkeys(
        [name for name in names if name not in lost], "imported"
    )


def test_C3_every_other_one_is_refused_with_the_grant_that_helps() -> None:
    names = [name for name in STANDARD if name not in ALLOWED]
    assert {"readline", "syslog", "xxsubtype"} & {*names}
    result = belljar.run(IMPORTS, inputs={"NAMES": names})
    assert result.unwrap() == {name: refused(name, NOT_LISTED) for name in names}
    assert [(d.action, d.target, d.grant) for d in result.denials] == [
        ("import", name, f'allow(modules=["{name}"])') for name in names
    ]


@pytest.mark.parametrize("name", sorted(BLOCKED))
def test_C4_with_the_grant_it_imports(name: str) -> None:
    """Its libraries come with it; what does not import outside does not inside."""
    if name not in STANDARD:
        pytest.skip(f"this interpreter has no module {name}")
    # A C module may need another one: the last of a facade's needs those before it.
    granted = next((needed for needed in FACADES.values() if needed[-1] == name), (name,))
    missing = link(INTERPRETER, frozenset(granted)).missing
    if missing:
        pytest.skip(f"{name} needs {missing[0][0]}, which this host does not have")
    outside = subprocess.run(
        [sys.executable, "-I", "-c", f"import {name}"], capture_output=True, text=True, check=False
    )
    if outside.returncode:
        pytest.skip(f"{name} does not import outside: {outside.stderr.splitlines()[-1]}")
    other = next(module for module in STANDARD if module in BLOCKED and module not in granted)
    found = imports([name, other], Policy().allow(modules=granted))
    assert found == {name: "imported", other: refused(other, NOT_LISTED)}


def test_C3_the_exception_is_an_import_error_to_code_that_knows_nothing() -> None:
    code = """
caught = []
for kind in (ImportError, ModuleNotFoundError, Exception):
    try:
        import readline
    except kind as error:
        caught.append((error.name, error.path, error.msg))
try:
    import readline
except ImportError:
    readline = None
import belljar
try:
    import readline
except belljar.ModuleRefused as error:
    caught.append(error.__notes__)
caught
"""
    one = ("readline", None, "No module named 'readline'")
    note = NOTE.format("readline", NOT_LISTED, "readline")
    result = belljar.run(code)
    assert result.unwrap() == [one, one, one, [note]]
    assert len(result.denials) == 1


def test_C5_a_facade_says_what_it_needs() -> None:
    error = error_of(belljar.run("import curses"))
    assert error.type == "belljar.ModuleRefused"
    assert error.message == "No module named '_curses'"
    assert error.notes == (NOTE.format("_curses, which curses needs", NOT_LISTED, "_curses"),)
    with pytest.raises(belljar.Denied):
        belljar.run("import curses").unwrap()


def test_M6_the_traceback_of_a_refusal_shows_no_line_of_ours() -> None:
    text = error_of(belljar.run("import curses", name="draws.py")).traceback
    assert text.splitlines()[1:3] == ['  File "draws.py", line 1, in <module>', "    import curses"]
    assert "belljar/" not in text
    assert text.splitlines()[-2:] == [
        "belljar.ModuleRefused: No module named '_curses'",
        NOTE.format("_curses, which curses needs", NOT_LISTED, "_curses"),
    ]


def test_C3_a_grant_that_a_refusal_names_is_taken() -> None:
    """Whoever follows the notes one after the other comes to the end."""
    policy = Policy().block(modules=["*"])
    code = "import json; json.dumps([1.5])"
    while not (result := belljar.run(code, policy)).ok:
        assert error_of(result).type == "belljar.ModuleRefused"
        policy = eval(f"policy.{result.denials[-1].grant}", {"policy": policy})
    assert result.value == "[1.5]"
    assert not belljar.run("import ctypes", policy).ok


# ------------------------------------------------------------------------- names, patterns


def test_C4_a_name_is_blocked_and_what_needs_it_fails() -> None:
    policy = Policy().block(modules=["_sqlite3", "_ctypes", "zlib"])
    names = ["_sqlite3", "_ctypes", "zlib"]
    assert imports(names, policy) == {name: refused(name) for name in names}
    error = error_of(belljar.run("import sqlite3", policy))
    assert error.notes == (
        NOTE.format("_sqlite3, which sqlite3.dbapi2 needs", BY_POLICY, "_sqlite3"),
    )
    assert belljar.run("import ssl, hashlib, json", policy).ok


def test_C4_a_library_that_can_do_without_does_without() -> None:
    code = "import heapq, json, bisect\n[json.loads('[1]'), heapq.nsmallest(1, [2, 1])]"
    policy = Policy().block(modules=["_json", "_heapq", "_bisect"])
    result = belljar.run(code, policy)
    assert result.unwrap() == [[1], [1]]
    assert {denial.target for denial in result.denials} == {"_json", "_heapq", "_bisect"}


def test_C4_every_one_but_those_that_are_named() -> None:
    policy = Policy().block(modules=["*"]).allow(modules=["math", "_struct"])
    others = [
        name for name in STANDARD if name not in STARTS_WITH and name not in ("math", "_struct")
    ]
    found = imports(
        ["math", "_struct", *sorted(STARTS_WITH)],
        policy.allow(modules=["_operator", "itertools", "_functools", "_collections"]),
    )
    assert {*found.values()} == {"imported"}
    code = "found = {}\nfor name in NAMES:\n try: __import__(name)\n except ImportError as e: found[name] = e.__notes__[0]\nfound"
    told = belljar.run(code, policy, inputs={"NAMES": others}).unwrap()
    assert told == {name: NOTE.format(name, BY_POLICY, name) for name in others}


def test_C4_everything_may_be_allowed() -> None:
    some = ("readline", "syslog", "nis", "xxlimited", "_testcapi")
    names: list[str] = [name for name in some if name in STANDARD]
    result = imports(names, Policy().allow(modules=["*"]))
    assert not [what for what in result.values() if what[0] == "refused"]  # type: ignore[index]


@pytest.mark.parametrize(
    "name", ["json", "json.*", "os", "importlib.*", "traceback", "asyncio", "io"]
)
def test_C4_pure_python_is_blocked_by_name_and_the_rest_goes_on(name: str) -> None:
    """The agent stands on some of these modules itself, and reports all the same."""
    policy = Policy().block(modules=[name])
    package = name.removesuffix(".*")
    result = belljar.run(f"import {package}", policy)
    error = error_of(result)
    grant = f'a policy without block(modules=["{name}"])'
    assert error.type == "belljar.ModuleRefused"
    assert error.notes == (
        f"belljar refused import {package}: {BY_POLICY}; {grant} would allow it",
    )
    assert [(d.target, d.grant) for d in result.denials] == [(package, grant)]
    error = error_of(belljar.run("1 / 0", policy))
    assert error.traceback.endswith("    1 / 0\n    ~~^~~\nZeroDivisionError: division by zero\n")
    assert belljar.run("[print('x'), 5]", policy, files={"a/b": "c"}).value == [None, 5]


def test_C4_of_a_blocked_package_one_module_may_be_allowed() -> None:
    policy = Policy().block(modules=["xml.*"]).allow(modules=["xml", "xml.sax.*"])
    found = imports(["xml.sax.saxutils", "xml", "xml.dom"], policy)
    assert found["xml.sax.saxutils"] == found["xml"] == "imported"
    assert found["xml.dom"][:3] == ("refused", "ModuleRefused", "xml.dom")  # type: ignore[index]


@pytest.mark.parametrize("name", sorted(STARTS_WITH))
def test_C4_what_the_interpreter_stands_on_cannot_be_blocked(name: str) -> None:
    for pattern in (name, f"{name}.*"):
        with pytest.raises(PolicyError, match="the interpreter itself stands on it") as caught:
            belljar.run("1", Policy().block(modules=[pattern]))
        assert caught.value.key == "blocks.modules"


@pytest.mark.parametrize("name", sorted(FACADES))
def test_C4_a_facade_is_no_module_to_allow(name: str) -> None:
    with pytest.raises(PolicyError) as caught:
        belljar.run("1", Policy().allow(modules=[name]))
    assert caught.value.key == "grants.modules"
    needed = ", ".join(map(repr, FACADES[name]))
    assert caught.value.message == (
        f"{name} is pure Python and needs {needed}; write modules=[{needed}]"
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_such", "no C module is called 'no_such' in this interpreter"),
        ("os", "pure Python needs no grant, and a package is granted by packages=[...]"),
        ("ctypes", "pure Python needs no grant but for what is beneath it ('_ctypes')"),
        ("pluggy", "a package is granted by packages=[...]"),
        ("_curses.no_such", "no C module is called '_curses.no_such'"),
    ],
)
def test_C4_a_name_that_no_c_module_has_says_what_to_write(name: str, words: str) -> None:
    with pytest.raises(PolicyError) as caught:
        belljar.run("1", Policy().allow(modules=[name]))
    assert caught.value.key == "grants.modules"
    assert words in caught.value.message


def test_C4_a_name_of_another_version_is_no_slip() -> None:
    """One policy file serves interpreters that have a module and those that have not."""
    names = [
        name for name in ("_zstd", "_sysconfig", "nis", "_interpreters") if name not in STANDARD
    ]
    assert names
    assert belljar.run("1", Policy().allow(modules=names)).value == 1


def test_C3_the_file_decides_and_not_the_name() -> None:
    """A Python file of the guest's own may be called like a module that is not allowed."""
    code = "import sys; sys.path.insert(0, '/work'); import syslogs; syslogs.here"
    assert belljar.run(code, files={"syslogs.py": "here = 1"}).value == 1
    refusal = error_of(
        belljar.run(code.replace("syslogs", "syslog"), files={"syslog.py": "here = 1"})
    )
    assert refusal.type == "belljar.ModuleRefused"


# ------------------------------------------------------------------------------- packages


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """``pkg`` with C modules, its requirement ``dep``, and ``opt`` for the extra ``more``."""
    made = Environment(tmp_path_factory.mktemp("environment") / "env")
    file, contents = c_module("_json")
    made.install(
        "pkg",
        {
            "pkg/__init__.py": "",
            f"pkg/{file}": contents,
            "pkg/sub/__init__.py": "",
            f"pkg/sub/{file}": contents,
            "pkg/careful.py": "try:\n    from pkg._json import scanstring\nexcept ImportError:\n    scanstring = None\n",
        },
        [
            "dep",
            "opt; extra == 'more'",
            "never; python_version < '3'",
            "here; python_version > '3'",
        ],
        ["more"],
    )
    made.install("dep", {"dep.py": "import sys"})
    made.install("here", {"here.py": ""})
    made.install("opt", {"opt/__init__.py": "", f"opt/{file}": contents})
    return made


PACKAGES = ["pkg", "pkg._json", "pkg.sub._json", "pkg.careful", "dep", "here", "opt", "opt._json"]


def parts(policy: Policy) -> str:
    """A letter for each of ``PACKAGES``: imported, refused, missing."""
    found = imports(PACKAGES, policy)
    return "".join("i" if what == "imported" else what[0][0] for what in found.values())  # type: ignore[index]


def test_C4_a_distribution_brings_its_c_modules_and_requirements(environment: Environment) -> None:
    policy = environment.policy
    assert parts(policy) == "mmmmmmmm"
    granted = policy.allow(packages=["pkg"])
    assert parts(granted) == "iiiiiimm"
    assert parts(policy.allow(packages=["pkg[more]"])) == "iiiiiiii"
    assert parts(policy.allow(packages=["opt"])) == "mmmmmmii"
    assert parts(granted.block(packages=["dep"])) == "iiiimimm"
    assert parts(granted.block(packages=["pkg"])) == "mmmmmmmm"
    assert parts(granted.allow(packages=["opt"]).block(packages=["no-such"])) == "iiiiiiii"


def test_C4_c_modules_of_a_distribution_are_blocked_like_others(environment: Environment) -> None:
    granted = environment.policy.allow(packages=["pkg"])
    assert parts(granted.block(modules=["pkg._json"])) == "iriiiimm"
    assert parts(granted.block(modules=["pkg.sub.*"])) == "iiriiimm"
    assert parts(granted.block(modules=["pkg.*"])) == "rrrriimm"
    assert parts(granted.block(modules=["_json"])) == "iiiiiimm"
    some = ["pkg.sub._json", "_operator", "itertools", "_functools", "_collections"]
    assert parts(granted.block(modules=["*"]).allow(modules=some)) == "iriiiimm"
    assert parts(granted.block(modules=["pkg.*"]).allow(modules=["pkg", "pkg._json"])) == "iirriimm"


def test_C4_a_blocked_one_is_said_to_be_blocked(environment: Environment) -> None:
    policy = environment.policy.allow(packages=["pkg"]).block(modules=["pkg._json"])
    found = imports(["pkg._json"], policy)
    assert found == {"pkg._json": refused("pkg._json")}
    result = belljar.run("import pkg.careful; pkg.careful.scanstring", policy)
    assert (result.status, result.value, len(result.denials)) == ("ok", None, 1)
    assert belljar.run("import pkg._json", policy.allow(modules=["pkg._json"])).ok


def test_C4_what_a_packages_grant_may_say(environment: Environment) -> None:
    for names, words in (
        (["pkg[less]"], "'pkg' 1.0 has no extra 'less'"),
        (["absent"], "'absent' is not installed for "),
    ):
        with pytest.raises(PolicyError, match=r"^grants\.packages: ") as caught:
            belljar.run("1", environment.policy.allow(packages=names))
        assert words in caught.value.message
    with pytest.raises(PolicyError) as caught:
        belljar.run("1", environment.policy.allow(packages=["pkg"], modules=["pkg._jsn"]))
    assert (caught.value.key, "'pkg._jsn'" in caught.value.message) == ("grants.modules", True)


def test_C4_a_package_without_a_grant_says_which(environment: Environment) -> None:
    result = belljar.run("import pkg", environment.policy)
    grant = 'allow(packages=["pkg"])'
    assert error_of(result).notes == (
        f"belljar grants no package pkg; if it is installed, {grant} would allow it",
    )
    assert [(d.action, d.target, d.grant) for d in result.denials] == [("import", "pkg", grant)]


def test_C5_a_preload_lends_no_refused_module(environment: Environment) -> None:
    policy = environment.policy.allow(packages=["pkg"]).block(modules=["_json", "pkg.sub._json"])
    code = """
import json, sys
found = [name in sys.modules for name in ("json", "_json", "pkg._json")]
for name in ("_json", "pkg.sub._json", "pkg._json"):
    try:
        __import__(name)
        found.append(name)
    except ImportError:
        pass
[found, json.encoder.c_make_encoder, json.loads("[1]")]
"""
    value = belljar.run(code, policy, preload=["json", "pkg.careful"]).unwrap()
    assert value == [[True, False, True, "pkg._json"], None, [1]]


# ------------------------------------------------------------------- what a guest begins with

LOADED = "import sys, json\nprint(json.dumps(sorted(before)))"


def test_C5_the_modules_of_a_fresh_guest_are_those_of_an_ordinary_start() -> None:
    """Those that the interpreter and ``site`` load; not ``site`` itself, but ``belljar``."""
    listing = "import sys\nbefore = list(sys.modules)\n" + LOADED
    outside = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "utf8", "-c", f"import site\n{listing}"],
        capture_output=True,
        check=True,
    )
    inside = belljar.run(listing)
    assert {*json.loads(inside.stdout)} ^ {*json.loads(outside.stdout)} == {"belljar", "site"}


def test_C1_M9_two_guests_share_no_module() -> None:
    """Neither what was loaded nor what was changed, of the same policy and preload."""
    policy = Policy().limit(wall_s=4)
    change = "import json, string, colorsys\njson.mark = string.digits = 5\nimport sys; sys.mark = 1; len(sys.modules)"
    look = "import sys\n[hasattr(sys, 'mark'), 'colorsys' in sys.modules]\nimport json, string\n[hasattr(sys, 'mark'), hasattr(json, 'mark'), string.digits, 'colorsys' in sys.modules]"
    for preload in ((), ("json", "string")):
        belljar.run(change, policy, preload=preload).unwrap()
        assert belljar.run(look, policy, preload=preload).unwrap() == [
            False,
            False,
            "0123456789",
            False,
        ]


def test_C1_modules_of_the_guests_own_import(tmp_path: Path) -> None:
    files = {"own/__init__.py": "from . import part", "own/part.py": "x = 1", "single.py": "y = 2"}
    code = "import own.part, single\nimport sys\n[own.part.x, single.y, own.__file__, sys.path[0]]"
    result = belljar.run("import sys; sys.path.insert(0, '/work')\n" + code, files=files)
    assert result.unwrap() == [1, 2, "/work/own/__init__.py", "/work"]
