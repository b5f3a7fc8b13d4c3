"""Any text gives a policy or one PolicyError; a policy that is read can be written and read again.

What: tables drawn from the words of the format (right ones with odd values, odd ones with
right values), written as TOML or JSON by this file's own writer, then damaged now and then;
and random bytes.  Because: a policy file may come from whoever sends a patch.  Then: reading
it raises nothing else, ``loads(dumps(policy)) == policy`` in both notations, and the
intersection of two that were read is at most either of them.
"""

from __future__ import annotations

import json
import math
import os
import random
import tempfile
from pathlib import Path
from typing import Any

from belljar.errors import PolicyError
from belljar.policy import Policy
from belljar.policy.files import (
    dumps_json,
    dumps_toml,
    from_data,
    load_policy,
    loads_json,
    loads_toml,
    to_data,
)
from belljar.policy.grants import BLOCKS, GRANTS
from belljar.policy.limits import LIMITS

TEXTS = [
    *("", "a", "/", "/a", "/a/b", "/a/../b", "//a", "a/b", "/proc/self", "/work", "/tmp/x", "."),
    *("numpy", "Foo_Bar[x, y]", "a==1", "*", "a.*", "_ctypes", "os:system", "builtins:open"),
    *(
        "open",
        "256M",
        "2s",
        "1.5 GiB",
        "-1",
        "1e9",
        "0",
        "nan",
        "ä",
        "\0",
        "\x1b[2J",
        "\u202e",
        "'\"\\",
    ),
    *("x" * 5000, "stdin", "stdout", "$bytes", "$set", "9" * 5000, "\n", "𝄞", "1_000", "٣"),
]
NUMBERS: list[Any] = [
    *(0, 1, -1, 16, 4096, 2**24, 2**31, 2**63, 2**64, 10**30, 0.0, 0.5, -0.0, 1e308, 5.25),
    *(math.inf, -math.inf, math.nan, True, False),
]


def _text(rng: random.Random) -> str:
    if rng.random() < 0.7:
        return rng.choice(TEXTS)
    return "".join(
        chr(rng.choice([rng.randrange(32, 127), rng.randrange(0x2FFF)])) for _ in range(5)
    )


def _anything(rng: random.Random, depth: int = 3) -> Any:
    draw = rng.random()
    if not depth or draw < 0.5:
        return rng.choice([_text(rng), rng.choice(NUMBERS)])
    if draw < 0.75:
        return [_anything(rng, depth - 1) for _ in range(rng.choice([0, 1, 2, 3, 70]))]
    return {_text(rng): _anything(rng, depth - 1) for _ in range(rng.randint(0, 4))}


def _place(rng: random.Random) -> Any:
    host = rng.choice(["/a", "/b", "/a/b", "/a/b/c", "/srv/ä"])
    if rng.random() < 0.5:
        return host
    return {"host": host, "inside": rng.choice(["/x", "/x/y", "/a", "/tmp/out", "/work"])}


def _some(rng: random.Random, *choices: Any) -> list[Any]:
    return [rng.choice(choices) for _ in range(rng.randint(0, 4))]


def _grant(rng: random.Random, name: str) -> Any:
    """A value that fits, as a rule."""
    if rng.random() < 0.05:
        return _anything(rng)
    if name in ("read", "write"):
        return [_place(rng) for _ in range(rng.randint(0, 4))]
    if name in ("jit", "system_info"):
        return rng.choice([True, False])
    if name == "env":
        return {_text(rng) if rng.random() < 0.05 else "A": _text(rng) for _ in range(3)}
    if name == "names":
        return {rng.choice("nm"): _plain(rng) for _ in range(2)}
    if name == "stand_ins":
        return {rng.choice(["_curses", "a.b"]): "/x.py"}
    if name == "python":
        return rng.choice(["/usr/bin/python3", "/venv", "python3"])
    if name == "streams":
        return _some(rng, "stdin", "stdout", "stderr")
    if name == "packages":
        return _some(rng, "numpy", "Foo.Bar", "a[x]")
    if name == "functions":
        return _some(rng, "os:system", "a.b:C.d")
    if name == "builtins" or name == "usual_builtins":
        return _some(rng, "open", "print", "*")
    return _some(rng, "a", "a.*", "a.b", "_ctypes", "*")


def _plain(rng: random.Random) -> Any:
    tagged = {
        "$tuple": [1],
        "$bytes": "AA==",
        "$set": [1, 2],
        "$decimal": "1.5",
        "$date": "2024-01-01",
    }
    name = rng.choice(list(tagged))
    return rng.choice([_anything(rng, 2), {name: tagged[name]}, {name: _anything(rng, 1)}])


def tables(rng: random.Random) -> Any:
    """What a file holds: right at the top, almost always."""
    if rng.random() < 0.05:
        return _anything(rng, 5)
    names = [*GRANTS, "usual_modules", "usual_builtins"]
    data: dict[str, Any] = {"version": rng.choice([1] * 20 + [2, True, "1", 1.0])}
    grants = {name: _grant(rng, name) for name in rng.sample(names, rng.randint(0, 4))}
    blocks = {name: _grant(rng, name) for name in rng.sample(BLOCKS, rng.randint(0, 2))}
    limits: dict[str, Any] = {}
    for name in rng.sample(list(LIMITS), rng.randint(0, 3)):
        low, high = LIMITS[name].low, LIMITS[name].high
        fit = [high, int(high), f"{int(high)}"] * 2 + [low, (low + high) / 2]
        limits[name] = rng.choice([*fit, *fit, rng.choice(NUMBERS), _text(rng)])
    for name, table in (("grants", grants), ("blocks", blocks), ("limits", limits)):
        if rng.random() < 0.8:
            data[name] = table
        if rng.random() < 0.03:
            table[_text(rng)] = _anything(rng)
    if rng.random() < 0.03:
        data[_text(rng)] = _anything(rng)
    return data


def as_json(rng: random.Random, data: Any) -> str:
    text = json.dumps(data, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 2]))
    if rng.random() < 0.05:
        text = text.replace("{", '{"version": 1, ', 1)  # a key twice
    return text


def as_toml(data: Any) -> str:
    """TOML by a writer of our own: everything but the top level in one line."""
    if not isinstance(data, dict):
        return f"version = {_toml(data)}\n"
    return "".join(f"{_quoted(str(name))} = {_toml(value)}\n" for name, value in data.items())


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return "{" + ", ".join(f"{_quoted(str(k))} = {_toml(v)}" for k, v in value.items()) + "}"


def _quoted(text: str) -> str:
    def escape(character: str) -> str:
        if character in '"\\' or ord(character) < 32 or ord(character) == 127:
            return f"\\u{ord(character):04x}"
        return character

    return '"' + "".join(map(escape, text)) + '"'


def damage(rng: random.Random, text: str) -> str:
    """Cut, double, put something else in."""
    a, b = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
    odd = [
        "[",
        "{",
        "]" * 3,
        '"',
        "'''",
        "\0",
        "\ud800",
        "=",
        "[[a]]",
        "[" * 99,
        "1979-05-27",
        "1e400",
        "#",
    ]
    odd += [
        "NaN",
        "-",
        '"\\ud800"',
        "\ufeff",
        "inf",
        "[" * 5000,
        '{"a":' * 3000,
        "a." * 3000,
        "9" * 5000,
    ]
    return rng.choice(
        [
            text[:a],
            text[:a] + text[b:],
            text[:a] + text[a:b] * 2 + text[b:],
            text[:a] + rng.choice(odd) + text[a:],
            text[:a] + rng.choice(odd) + text[b:],
        ]
    )


def read(rng: random.Random) -> Policy | None:
    """One text, read in one of the ways; None where it is refused."""
    data = tables(rng)
    is_json = rng.random() < 0.5
    text = as_json(rng, data) if is_json else as_toml(data)
    while rng.random() < 0.2:
        text = damage(rng, text)
    way = rng.random()
    try:
        if way < 0.1:
            return from_data(data)
        if way < 0.3:
            return _from_file(rng, text, ".json" if is_json else ".toml")
        return loads_json(text) if is_json else loads_toml(text)
    except PolicyError as error:
        _fit_to_print(str(error))
        return None


def _fit_to_print(text: str) -> None:
    assert text, "no words"
    assert text.isprintable(), text
    assert len(text) < 2_000, len(text)


def _from_file(rng: random.Random, text: str, suffix: str) -> Policy:
    data = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.2:
        place = rng.randint(0, len(data))
        data = data[:place] + rng.randbytes(rng.randint(1, 9)) + data[place:]
    if rng.random() < 0.05:
        data = rng.randbytes(rng.choice([0, 1, 50, 3000]))
    handle, name = tempfile.mkstemp(
        prefix="belljar-test-", suffix=rng.choice([suffix, suffix, "", ".toml"])
    )
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        return load_policy(rng.choice([name, Path(name)]))
    finally:
        os.unlink(name)


def target(rng: random.Random) -> None:
    """Two texts: each is a policy or one error; those that are policies keep the laws."""
    policies = [policy for policy in (read(rng), read(rng)) if policy is not None]
    for policy in policies:
        assert from_data(to_data(policy)) == policy
        assert loads_json(dumps_json(policy)) == policy
        assert loads_toml(dumps_toml(policy)) == policy
        assert policy <= policy
        hash(policy)
        repr(policy)
    if len(policies) == 2:
        a, b = policies
        try:
            both = a & b
        except PolicyError:
            return  # two that no policy can be: it says so
        assert both <= a
        assert both <= b
        assert both == b & a
        assert both & a == both
