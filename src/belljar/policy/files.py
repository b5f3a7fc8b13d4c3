"""Policies as files: TOML and JSON.

What: one layout (``version = 1``, ``[grants]``, ``[blocks]``, ``[limits]``) in two notations, both ways.
Because: a policy is reviewed and versioned like code, so its file must be strict: a key that
is misspelt must never be a key that is ignored.  Then: every fault is a ``PolicyError`` with
the key path, and ``loads(dumps(policy)) == policy`` for both notations.

In a file a limit is set exactly, above or below its default: the file is the creator's own
statement, not a change to somebody else's.  A limit that is not named has its default.
"""

from __future__ import annotations

from ..errors import PolicyError
from . import checks
from .grants import BLOCKS, GRANTS, STREAMS
from .limits import LIMITS, Limits
from .paths import MAX_PATHS, PathGrant
from .policy import Policy, exactly
from .rules import ALLOW, BLOCK, MAX_RULES, USUAL, Rules, check_patterns
from .units import parse_limit

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Any

VERSION = 1
_TABLES = ("version", "grants", "blocks", "limits")
# What is granted in a file: ``functions`` only ever undoes a block.
_FILE_GRANTS = (*(name for name in GRANTS if name != "functions"), "usual_modules")
MAX_FILE_BYTES = 2**20  # a policy at all its own bounds; more is a file given by mistake
MAX_FILE_DEPTH = 80  # four levels of layout and the deepest plain value; parsers recurse


# ---------------------------------------------------------------------- reading


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """The policy in the file at ``path``.

    The notation goes by the suffix, ``.toml`` or ``.json``; without either, a file that starts
    with ``{`` is JSON and any other TOML.

    Raises:
        PolicyError: the file cannot be read (with the system's reason), is larger than 1 MiB,
            is not UTF-8, or does not hold a policy (with the key path).
    """
    fspath = getattr(type(path), "__fspath__", None)
    name: object = path if isinstance(path, str) or fspath is None else fspath(path)
    if not isinstance(name, str):
        raise PolicyError("policy", f"expected the path of a file, got {checks.kind(name)}")
    place = name if name and name.isprintable() else checks.show(name)
    try:
        with open(name, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PolicyError(place, f"cannot read the policy file: {reason}") from error
    if len(data) > MAX_FILE_BYTES:
        raise PolicyError(place, f"larger than {MAX_FILE_BYTES} bytes; not a policy file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PolicyError(place, f"not UTF-8 at byte {error.start}") from error
    is_json = name.endswith(".json") or (
        not name.endswith(".toml") and text.lstrip().startswith("{")
    )
    try:
        return loads_json(text) if is_json else loads_toml(text)
    except PolicyError as error:
        if error.key == "policy":
            raise PolicyError(place, error.message) from error
        raise PolicyError(error.key, f"{error.message} (in {place})") from error


def loads_toml(text: str) -> Policy:
    """The policy in a TOML text.

    Raises:
        PolicyError: not TOML (with line and column), or not a policy (with the key path).
    """
    import tomllib

    _check_size(text)
    try:
        data = tomllib.loads(text)
    except RecursionError:
        raise PolicyError("policy", "nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, and digits beyond what int() reads
        raise PolicyError("policy", f"not TOML: {checks.told(error)}") from None
    return from_data(data)


def loads_json(text: str) -> Policy:
    """The policy in a JSON text.

    Raises:
        PolicyError: not JSON (with line and column), a key twice, or not a policy (with the
            key path).
    """
    import json

    _check_size(text)
    if _nesting(text) > MAX_FILE_DEPTH:
        raise PolicyError("policy", f"nested deeper than {MAX_FILE_DEPTH} levels")
    try:
        data = json.loads(text, object_pairs_hook=_Pairs, parse_constant=_refuse_constant)
    except RecursionError:
        raise PolicyError("policy", "nested too deeply") from None
    except PolicyError:
        raise
    except ValueError as error:  # JSONDecodeError, and digits beyond what int() reads
        raise PolicyError("policy", f"not JSON: {checks.told(error)}") from None
    return from_data(_merge(data, ""))


class _Pairs:
    """A JSON object as read, before its keys are known to differ."""

    def __init__(self, pairs: list[tuple[str, object]]) -> None:
        self.pairs = pairs


def _merge(data: object, key: str) -> object:
    """``data`` with plain dicts; a key that occurs twice is refused with its path."""
    if checks.is_list(data):
        return [_merge(item, checks.at(key, i)) for i, item in enumerate(data)]
    if not isinstance(data, _Pairs):
        return data
    table: dict[str, object] = {}
    for name, item in data.pairs:
        path = checks.at(key, name)
        if name in table:
            raise PolicyError(path, "the key is there twice")
        table[name] = _merge(item, path)
    return table


def _refuse_constant(name: str) -> object:
    raise PolicyError("policy", f"not JSON: {name} is not a JSON number")


def _check_size(text: object) -> None:
    if not isinstance(text, str):
        raise PolicyError("policy", f"expected a text (str), got {checks.kind(text)}")
    if len(text) > MAX_FILE_BYTES:
        raise PolicyError("policy", f"larger than {MAX_FILE_BYTES} characters; not a policy")


def _nesting(text: str) -> int:
    """How deep brackets nest in a JSON text, strings left out.

    Asked before parsing: the parser recurses in C, and a small thread's stack ends first.
    """
    if text.count("[") + text.count("{") <= MAX_FILE_DEPTH:
        return 0
    depth = deepest = 0
    in_string = escaped = False
    for character in text:
        if in_string:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


# ---------------------------------------------------------------------- data <-> policy


def from_data(data: object) -> Policy:
    """The policy that the tables of a file stand for (what ``to_data`` makes).

    Raises:
        PolicyError: unknown or missing key, wrong type, contradiction; names the key path.
    """
    top = _table(data, "policy")
    for name in top:
        if name not in _TABLES:
            raise checks.unknown("", name, _TABLES)
    version = top.get("version")
    if "version" not in top:
        raise PolicyError("version", f"missing; write version = {VERSION}")
    if type(version) is not int or version != VERSION:
        raise PolicyError(
            "version", f"{checks.show(version)} is unknown; this belljar reads {VERSION}"
        )
    grants = _table(top.get("grants", {}), "grants")
    wanted: dict[str, Any] = {}
    for name, value in grants.items():
        if name not in _FILE_GRANTS:
            raise checks.unknown("grants", name, _FILE_GRANTS)
        wanted[name] = _read_grant(name, value)
    blocks: dict[str, Any] = {**_table(top.get("blocks", {}), "blocks")}
    for name in blocks:
        if name not in BLOCKS:
            raise checks.unknown("blocks", name, BLOCKS)
    bounds: dict[str, Any] = {
        name: parse_limit(name, value)
        for name, value in _table(top.get("limits", {}), "limits").items()
    }
    modules = _read_rules(wanted, blocks, "modules", Policy().modules)
    builtins = _read_rules(wanted, blocks, "builtins", Policy().builtins)
    policy = Policy().block(**blocks).allow(**wanted)
    _check_packages(policy, blocks)
    return exactly(policy, Limits(**bounds), modules, builtins)


def _read_rules(wanted: dict[str, Any], blocks: dict[str, Any], name: str, start: Rules) -> Rules:
    """The rules of both tables together: a pattern stands in one of them.

    A list of patterns that the usual list decides again is what an intersection may leave.
    """
    said: dict[str, int] = {}
    for key, value, meaning in (
        (f"blocks.{name}", blocks.pop(name, []), BLOCK),
        (f"grants.usual_{name}", wanted.pop(f"usual_{name}", []), USUAL),
        (f"grants.{name}", wanted.pop(name, []), ALLOW),
    ):
        for pattern in check_patterns(key, value, name, dotted=name == "modules"):
            if said.setdefault(pattern, meaning) != meaning:
                raise PolicyError(key, f"{checks.show(pattern)} is in another list already")
    checks.check_count(len(said), MAX_RULES, f"grants.{name}", "rules")
    return Rules(start.base, said)


def _check_packages(policy: Policy, blocks: dict[str, Any]) -> None:
    """A distribution that is both granted and blocked is a contradiction, not an order."""
    if "packages" in blocks:
        lost = Policy().block(packages=blocks["packages"]).blocked_packages
        both = sorted(lost - policy.blocked_packages)
        if both:
            raise PolicyError("blocks.packages", f"{checks.show(both[0])} is granted as well")


def _read_grant(name: str, value: object) -> object:
    key = f"grants.{name}"
    if name in ("read", "write") and checks.is_list(value):
        return [_read_place(place, checks.at(key, i)) for i, place in enumerate(value)]
    if name == "names" and checks.is_table(value):
        from .values import from_plain

        return {k: from_plain(item, checks.at(key, k)) for k, item in value.items()}
    return value


def _read_place(place: object, key: str) -> object:
    if not checks.is_table(place):
        return place
    for name in place:
        if name not in ("host", "inside"):
            raise checks.unknown(key, name, ("host", "inside"))
    for name in ("host", "inside"):
        if not isinstance(place.get(name), str):
            raise PolicyError(checks.at(key, name), "expected a path (str)")
    return PathGrant(str(place["host"]), str(place["inside"]))


def _table(value: object, key: str) -> dict[str, object]:
    if not checks.is_table(value):
        raise PolicyError(key, f"expected a table, got {checks.kind(value)}")
    return value


def to_data(policy: Policy) -> dict[str, object]:
    """``policy`` as tables, lists, texts and numbers; every limit is written out.

    Raises:
        PolicyError: more path grants than a file may hold, after many intersections.
    """
    grants: dict[str, object] = {}
    checks.check_count(len(policy.read) + len(policy.write), MAX_PATHS, "grants", "paths")
    for name, places in (("read", policy.read), ("write", policy.write)):
        if places:
            grants[name] = [
                place.host
                if place.host == place.inside
                else {"host": place.host, "inside": place.inside}
                for place in places
            ]
    if policy.streams:
        grants["streams"] = [name for name in STREAMS if name in policy.streams]
    if policy.argv:
        grants["argv"] = list(policy.argv)
    if policy.packages:
        grants["packages"] = sorted(policy.packages)
    for name, rules in (("modules", policy.modules), ("builtins", policy.builtins)):
        for key, said in ((name, ALLOW), (f"usual_{name}", USUAL)):
            if rules.patterns(said):
                grants[key] = rules.patterns(said)
    if policy.run:
        grants["run"] = sorted(policy.run)
    if policy.python is not None:
        grants["python"] = policy.python
    for name in ("jit", "system_info"):
        if getattr(policy, name):
            grants[name] = True
    if policy.stand_ins:
        grants["stand_ins"] = dict(policy.stand_ins)
    if policy.env:
        grants["env"] = dict(policy.env)
    if policy.abilities:
        from .abilities import to_plain as abilities_to_plain

        grants["abilities"] = abilities_to_plain(policy.abilities)
    frozen = policy._names  # pyright: ignore[reportPrivateUsage]
    if frozen:
        from .values import to_plain

        grants["names"] = {name: to_plain(value) for name, value in frozen}
    blocked: dict[str, list[str]] = {
        "modules": policy.modules.patterns(BLOCK),
        "packages": sorted(policy.blocked_packages),
        "functions": sorted(policy.blocked_functions),
        "builtins": policy.builtins.patterns(BLOCK),
    }
    blocks = {name: list(names) for name, names in blocked.items() if names}
    limits = {name: policy.limits[name] for name in LIMITS}
    tables: dict[str, object] = {"version": VERSION, "grants": grants}
    if blocks:
        tables["blocks"] = blocks
    return {**tables, "limits": limits}


# ---------------------------------------------------------------------- writing


def dumps_json(policy: Policy) -> str:
    """``policy`` as JSON; ``loads_json`` gives it back.

    Raises:
        PolicyError: it does not fit into a policy file.
    """
    import json

    return _fits(json.dumps(to_data(policy), indent=2, allow_nan=False) + "\n")


def dumps_toml(policy: Policy) -> str:
    """``policy`` as TOML; ``loads_toml`` gives it back.

    Raises:
        PolicyError: it does not fit into a policy file.
    """
    data = to_data(policy)
    grants = _table(data["grants"], "grants")
    lines = [f"version = {VERSION}", "", "[grants]"]
    tables: list[str] = []
    for name, value in grants.items():
        if checks.is_table(value):
            tables += ["", f"[grants.{name}]", *_toml_lines(value)]
        else:
            lines.append(f"{name} = {_toml(value)}")
    lines += tables
    if "blocks" in data:
        lines += ["", "[blocks]", *_toml_lines(_table(data["blocks"], "blocks"))]
    lines += ["", "[limits]", *_toml_lines(_table(data["limits"], "limits"))]
    return _fits("\n".join(lines) + "\n")


def _fits(text: str) -> str:
    if len(text.encode()) > MAX_FILE_BYTES:
        raise PolicyError("policy", f"its text is larger than the {MAX_FILE_BYTES} bytes of a file")
    return text


def _toml_lines(table: dict[str, object]) -> list[str]:
    return [f"{_toml_key(name)} = {_toml(value)}" for name, value in table.items()]


def _toml(value: object) -> str:
    """One value in TOML, on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return _toml_text(value)
    if checks.is_list(value):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    inner = ", ".join(_toml_lines(_table(value, "value")))
    return f"{{ {inner} }}" if inner else "{}"


def _toml_key(name: str) -> str:
    bare = name.isascii() and name.replace("-", "_").replace("_", "a").isalnum()
    return name if bare else _toml_text(name)


_ESCAPES = {
    **{code: f"\\u{code:04x}" for code in (*range(0x20), 0x7F)},
    ord("\b"): "\\b",
    ord("\t"): "\\t",
    ord("\n"): "\\n",
    ord("\f"): "\\f",
    ord("\r"): "\\r",
    ord('"'): '\\"',
    ord("\\"): "\\\\",
}


def _toml_text(text: str) -> str:
    """A TOML basic string: quotation mark, backslash and control characters escaped."""
    return f'"{text.translate(_ESCAPES)}"'
