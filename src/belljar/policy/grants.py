"""The grants and blocks that are not paths: what each one accepts.

What: streams, environment, arguments, names, packages, functions, checked and brought to one form.
Because: a policy is trusted once it exists, so nothing may get into one unchecked.  Then:
``Policy.allow`` only joins what these functions return; each refusal names the key path.
"""

from __future__ import annotations

from ..errors import PolicyError
from . import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from .values import Frozen

    Texts: TypeAlias = list[str] | tuple[str, ...] | set[str] | frozenset[str]

GRANTS = (
    "read",
    "write",
    "streams",
    "env",
    "argv",
    "names",
    "packages",
    "modules",
    "stand_ins",
    "run",
    "python",
    "jit",
    "functions",
    "builtins",
    "system_info",
    "abilities",
)
BLOCKS = ("modules", "packages", "functions", "builtins")
STREAMS = ("stdin", "stdout", "stderr")

MAX_ENV = 256  # variables; a login session has some dozens
MAX_ARGV = 1024  # arguments; what a shell expands from one pattern, not a data set
MAX_TEXT_BYTES = 128 * 2**10  # all arguments, or all variables: the floor of execve(2)'s own limit
MAX_NAMES = 256  # names put into the namespace; more belongs into one dict
MAX_PACKAGES = 1024  # distributions; several large environments together
MAX_PACKAGE_NAME = 128  # characters; longer than any name in ordinary use
MAX_FUNCTIONS = 1024  # blocked functions; whole modules have a rule of their own
MAX_PATH = 4095  # bytes; PATH_MAX without its NUL
MAX_STAND_INS = 64  # each is a mount
MAX_PROGRAMS = 256  # each is a mount, and some with its libraries
MAX_FUNCTION_NAME = 200  # characters

FrozenDict: Any = type(type.__dict__)  # types.MappingProxyType without importing types


def check_flag(name: str, value: object) -> bool:
    """True or False, and nothing that merely acts like it."""
    if not isinstance(value, bool):
        raise PolicyError(f"grants.{name}", f"expected True or False, got {checks.kind(value)}")
    return value


def _entries(name: str, value: object, most: int, what: str, table: str = "grants") -> list[object]:
    key = f"{table}.{name}"
    if not checks.is_bunch(value):
        hint = f"; write {name}=[{checks.show(value)}]" if isinstance(value, str) else ""
        raise PolicyError(key, f"expected a list of {what}, got {checks.kind(value)}{hint}")
    checks.check_count(len(value), most, key, what)
    return list(value)


def _mapping(name: str, value: object, example: str) -> dict[object, object]:
    table = checks.as_dict(value)
    if table is None:
        raise PolicyError(
            f"grants.{name}", f"expected a dict, got {checks.kind(value)}; write {name}={example}"
        )
    return table


def check_argv(value: object) -> tuple[str, ...]:
    """Texts in order, for ``sys.argv[1:]``."""
    key = "grants.argv"
    if isinstance(value, (set, frozenset)):
        raise PolicyError(key, "expected a list of arguments; a set has no order")
    texts: list[str] = []
    for index, item in enumerate(_entries("argv", value, MAX_ARGV, "arguments")):
        texts.append(checks.check_text(item, checks.at(key, index), "a text"))
    checks.check_count(sum(len(t.encode()) for t in texts), MAX_TEXT_BYTES, key, "bytes")
    return tuple(texts)


def check_streams(value: object) -> frozenset[str]:
    """Names out of ``STREAMS``."""
    streams: set[str] = set()
    for index, name in enumerate(_entries("streams", value, len(STREAMS), "streams")):
        key = checks.at("grants.streams", index)
        if not isinstance(name, str):
            raise PolicyError(key, f"expected the name of a stream, got {checks.kind(name)}")
        if name not in STREAMS:
            raise PolicyError(key, f"{checks.show(name)} is none of {', '.join(STREAMS)}")
        streams.add(str.__str__(name))
    return frozenset(streams)


def check_env(value: object) -> dict[str, str]:
    """Variables, name -> text.  The kernel's form is ``NAME=text`` with a final NUL."""
    wanted = _mapping("env", value, "{'LANG': 'C.UTF-8'}")
    checks.check_count(len(wanted), MAX_ENV, "grants.env", "variables")
    variables: dict[str, str] = {}
    for name, text in wanted.items():
        key = checks.at("grants.env", name)
        name = checks.check_text(name, key, "the name of a variable")
        if not name or "=" in name:
            raise PolicyError(key, "the name of a variable is not empty and holds no '='")
        variables[name] = checks.check_text(text, key, "a text")
    return variables


def check_names(held: dict[str, object], value: object) -> dict[str, Frozen]:
    """The names wanted, frozen; one budget covers them and those that are held."""
    from keyword import iskeyword

    from .values import Budget, freeze

    wanted = _mapping("names", value, "{'n': 10}")
    checks.check_count(len(wanted), MAX_NAMES, "grants.names", "names")
    budget = Budget()
    for old, item in held.items():
        if old not in wanted:
            freeze(item, checks.at("grants.names", old), budget)
    frozen: dict[str, Frozen] = {}
    for name, item in wanted.items():
        key = checks.at("grants.names", name)
        name = checks.check_text(name, key, "a name")
        if not name.isidentifier() or iskeyword(name):
            raise PolicyError(key, f"{checks.show(name)} is not a Python name")
        if name.startswith("__"):
            raise PolicyError(key, "names that start with two underscores belong to Python")
        frozen[name] = freeze(item, key, budget)
    return frozen


def check_packages(table: str, value: object) -> frozenset[str]:
    """Names of distributions, normalised; ``a[x,y]`` is ``a``, ``a[x]`` and ``a[y]``."""
    key = f"{table}.packages"
    names: set[str] = set()
    for index, item in enumerate(_entries("packages", value, MAX_PACKAGES, "packages", table)):
        place = checks.at(key, index)
        text = checks.check_text(item, place, "the name of a package")
        bare, bracket, extras = text.partition("[")
        name = normalise_package(bare, place)
        names.add(name)
        if not bracket:
            continue
        if table != "grants" or not extras.endswith("]"):
            raise PolicyError(
                place, f"{checks.show(text)} is not the name of a distribution; write 'numpy'"
            )
        for extra in extras[:-1].split(","):
            names.add(f"{name}[{normalise_package(extra.strip(), place)}]")
    return frozenset(names)


def normalise_package(name: str, key: str) -> str:
    """The name of a distribution in its one form (PEP 503): ``Foo__Bar.x`` is ``foo-bar-x``.

    Raises:
        PolicyError: not a name by PEP 508; a version or a pattern is not part of one.
    """
    ends = name[:1] + name[-1:]
    if (
        not name.isascii()
        or len(name) > MAX_PACKAGE_NAME
        or not ends.isalnum()
        or not name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    ):
        raise PolicyError(
            key, f"{checks.show(name)} is not the name of a distribution; write it bare, as 'numpy'"
        )
    parts = name.lower().replace("_", "-").replace(".", "-").split("-")
    return "-".join(part for part in parts if part)


def without(packages: frozenset[str], blocked: frozenset[str]) -> frozenset[str]:
    """``packages`` but those, with all their extras, that are blocked."""
    return frozenset(name for name in packages if name.partition("[")[0] not in blocked)


def check_functions(key: str, value: object) -> frozenset[str]:
    """Object references ``module:name`` or ``module:Class.name``, as entry points have them."""
    functions: set[str] = set()
    short = key.rpartition(".")[2]
    table = key.partition(".")[0]
    for index, item in enumerate(_entries(short, value, MAX_FUNCTIONS, "functions", table)):
        place = checks.at(key, index)
        text = checks.check_text(item, place, "the name of a function")
        module, colon, name = text.partition(":")
        parts = [*module.split("."), *name.split(".")]
        if (
            not colon
            or len(text) > MAX_FUNCTION_NAME
            or not all(part.isidentifier() for part in parts)
        ):
            raise PolicyError(
                place, f"{checks.show(text)} does not name a function; write 'os:system'"
            )
        if module == "builtins":
            raise PolicyError(place, f"a built-in is left out by name: block(builtins=[{name!r}])")
        functions.add(text)
    return frozenset(functions)


def check_stand_ins(value: object) -> dict[str, str]:
    """Module -> absolute host path of the file that takes its place."""
    key = "grants.stand_ins"
    wanted = _mapping("stand_ins", value, "{'_curses': '/srv/stand_ins/_curses.py'}")
    placed: dict[str, str] = {}
    for name, path in wanted.items():
        place = checks.at(key, name)
        module = checks.check_text(name, place, "the name of a module")
        if len(module) > MAX_FUNCTION_NAME or not all(
            part.isidentifier() for part in module.split(".")
        ):
            raise PolicyError(place, f"{checks.show(module)} is not the name of a module")
        placed[module] = _absolute(path, place, "a Python file")
    return placed


def check_programs(value: object) -> frozenset[str]:
    """Programs: absolute host paths, or bare names that are looked up when a plan is made."""
    key = "grants.run"
    programs: set[str] = set()
    for index, item in enumerate(_entries("run", value, MAX_PROGRAMS, "programs")):
        place = checks.at(key, index)
        text = checks.check_text(item, place, "the path or the name of a program")
        name = text.rpartition("/")[2]
        whole = text.startswith("/") or "/" not in text
        if not whole or name in ("", ".", "..") or len(text) > MAX_PATH:
            raise PolicyError(
                place,
                f"{checks.show(text)} is neither an absolute path nor a bare name; "
                "write '/usr/bin/git' or 'git'",
            )
        programs.add(text)
    return frozenset(programs)


def join_python(held: str | None, value: object) -> str:
    """The path of an interpreter or environment; a policy holds one."""
    path = _absolute(value, "grants.python", "an interpreter or a virtual environment")
    if held is not None and held != path:
        raise PolicyError(
            "grants.python", f"already granted as {checks.show(held)}; a policy holds one"
        )
    return path


def _absolute(value: object, key: str, what: str) -> str:
    """A path from the root on, as text; whether it exists is asked when it is used."""
    path = checks.check_text(value, key, f"the path of {what}")
    if not path.startswith("/") or len(path) > MAX_PATH:
        raise PolicyError(key, f"{checks.show(path)} is not an absolute path of {what}")
    return path


def join(
    grant: str, held: dict[str, Any], wanted: dict[str, Any], most: int, what: str
) -> dict[str, Any]:
    """Both dicts in one; a key with two different values is a contradiction."""
    for name, value in wanted.items():
        if held.get(name, value) != value:
            raise PolicyError(
                checks.at(f"grants.{grant}", name),
                "already granted with another value; a policy holds one",
            )
        held[name] = value
    checks.check_count(len(held), most, f"grants.{grant}", what)
    return held
