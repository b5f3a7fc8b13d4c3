"""The grants that are not paths: what each one accepts.

What: streams, environment, arguments, names and packages, checked and brought to one form.
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

GRANTS = ("read", "write", "streams", "env", "argv", "names", "packages", "system_info")
STREAMS = ("stdin", "stdout", "stderr")

MAX_ENV = 256  # variables; a login session has some dozens
MAX_ARGV = 1024  # arguments; what a shell expands from one pattern, not a data set
MAX_TEXT_BYTES = 128 * 2**10  # all arguments, or all variables: the floor of execve(2)'s own limit
MAX_NAMES = 256  # names put into the namespace; more belongs into one dict
MAX_PACKAGES = 1024  # distributions; several large environments together
MAX_PACKAGE_NAME = 128  # characters; longer than any name in ordinary use

FrozenDict: Any = type(type.__dict__)  # types.MappingProxyType without importing types


def check_flag(name: str, value: object) -> bool:
    """True or False, and nothing that merely acts like it."""
    if not isinstance(value, bool):
        raise PolicyError(f"grants.{name}", f"expected True or False, got {checks.kind(value)}")
    return value


def _entries(name: str, value: object, most: int, what: str) -> list[object]:
    key = f"grants.{name}"
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


def check_packages(value: object) -> frozenset[str]:
    """Names of distributions, normalised."""
    names: set[str] = set()
    for index, item in enumerate(_entries("packages", value, MAX_PACKAGES, "packages")):
        key = checks.at("grants.packages", index)
        names.add(normalise_package(checks.check_text(item, key, "the name of a package"), key))
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
