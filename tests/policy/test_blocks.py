"""``block()``, the rules and ``[blocks]`` of files: what they accept, say and print (C4, C7, C10)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given

from belljar.errors import PolicyError
from belljar.policy import PathGrant, Policy
from belljar.policy.files import dumps_json, dumps_toml, loads_json, loads_toml, to_data

from .strategies import policies


def refused(act: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(PolicyError) as caught:
        act()
    return caught.value.key, caught.value.message


NAMES: dict[str, Any] = {
    "Policy": Policy,
    "PathGrant": PathGrant,
    "inf": float("inf"),
    "nan": float("nan"),
}
for module in ("datetime", "decimal", "fractions", "uuid"):
    NAMES[module] = __import__(module)
NAMES.update(
    {
        name: getattr(NAMES[name.lower() + end], name)
        for name, end in (("Decimal", ""), ("Fraction", "s"), ("UUID", ""))
    }
)


@given(policies())
def test_the_text_of_a_policy_makes_it_again(policy: Policy) -> None:
    """``eval(repr(p)) == p``, rules that only an intersection leaves included."""
    assert eval(repr(policy), dict(NAMES)) == policy


@given(policies(), policies())
def test_so_does_the_text_of_an_intersection(a: Policy, b: Policy) -> None:
    assert eval(repr(a & b), dict(NAMES)) == a & b


@given(policies(wide_values=True))
def test_files_keep_every_policy(policy: Policy) -> None:
    assert loads_toml(dumps_toml(policy)) == loads_json(dumps_json(policy)) == policy


@given(policies(), policies())
def test_files_keep_every_intersection(a: Policy, b: Policy) -> None:
    """``usual_modules`` is what an intersection may need."""
    both = a & b
    assert loads_toml(dumps_toml(both)) == loads_json(dumps_json(both)) == both


@pytest.mark.parametrize(
    ("wanted", "key", "words"),
    [
        ({"modules": "_ctypes"}, "blocks.modules", "expected a list of modules, got str; write modules=['_ctypes']"),
        ({"modules": ["_ctypes", "a-b"]}, "blocks.modules[1]", "'a-b' is none of these: a name, 'name.*' or '*'"),
        ({"modules": None}, "blocks.modules", "expected a list of modules, got None"),
        ({"packages": "numpy"}, "blocks.packages", "write packages=['numpy']"),
        ({"packages": ["pandas[excel]"]}, "blocks.packages[0]", "is not the name of a distribution"),
        ({"packages": ["numpy>=2"]}, "blocks.packages[0]", "write it bare"),
        ({"functions": "os:system"}, "blocks.functions", "write functions=['os:system']"),
        ({"functions": ["os.system"]}, "blocks.functions[0]", "'os.system' does not name a function; write 'os:system'"),
        ({"functions": ["os:"]}, "blocks.functions[0]", "does not name a function"),
        ({"functions": ["os:a b"]}, "blocks.functions[0]", "does not name a function"),
        ({"functions": ["os:x:y"]}, "blocks.functions[0]", "does not name a function"),
        ({"functions": ["builtins:open"]}, "blocks.functions[0]", "a built-in is left out by name: block(builtins=['open'])"),
        ({"builtins": "open"}, "blocks.builtins", "write builtins=['open']"),
        ({"builtins": ["os.path"]}, "blocks.builtins[0]", "'os.path' is none of these: a name or '*'"),
        ({"builtins": ["a.*"]}, "blocks.builtins[0]", "is none of these: a name or '*'"),
        ({"read": ["/srv"]}, "blocks.read", "read is granted; use a & b to take grants away"),
        ({"module": ["x"]}, "blocks.module", "unknown key 'module'; did you mean modules?"),
        ({"wall_s": 1}, "blocks.wall_s", "unknown key 'wall_s'"),
    ],
)  # fmt: skip
def test_what_block_refuses(wanted: dict[str, Any], key: str, words: str) -> None:
    found, message = refused(lambda: Policy().block(**wanted))
    assert found == key
    assert words in message


def test_block_takes_what_allow_gave_and_back() -> None:
    policy = Policy().allow(packages=["pandas[excel]", "numpy"], modules=["_curses"])
    assert policy.block(packages=["Pandas"]).packages == {"numpy"}
    assert (
        policy.block(packages=["pandas"]).allow(packages=["pandas"]).blocked_packages == frozenset()
    )
    assert policy.block(modules=["_curses"]) == policy.block(modules=["_curses", "_curses"])
    assert policy.block(functions=["os:system"]).allow(functions=["os:system"]) == policy
    assert policy.allow(functions=["os:never_blocked"]) == policy
    assert policy.block(builtins=["open"]).allow(builtins=["*"]) == policy
    assert Policy().block(builtins=["*"]).allow(builtins=["*"]) == Policy()
    assert policy.block() == policy


def test_a_wider_pattern_replaces_the_narrower_ones() -> None:
    policy = Policy().allow(modules=["a.b", "a.c.*", "other"]).block(modules=["a.*"])
    assert policy == Policy().allow(modules=["other"]).block(modules=["a.*"])
    assert Policy().block(modules=["a.b"]).block(modules=["*"]) == Policy().block(modules=["*"])
    assert Policy().allow(modules=["*"]).allow(modules=["a"]) == Policy().allow(modules=["*"])


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        ("[blocks]\nmodules = '_ssl'", "blocks.modules", "expected a list of modules"),
        ("[blocks]\nreed = []", "blocks.reed", "unknown key 'reed'"),
        ("[blocks]\nread = []", "blocks.read", "unknown key 'read'"),
        ("blocks = 5", "blocks", "expected a table"),
        ("[grants]\nmodules = ['a']\n[blocks]\nmodules = ['a']", "grants.modules", "'a' is in another list already"),
        ("[grants]\nusual_modules = ['a']\nmodules = ['a']", "grants.modules", "'a' is in another list already"),
        ("[grants]\nbuiltins = ['open']\n[blocks]\nbuiltins = ['open']", "grants.builtins", "'open' is in another list already"),
        ("[grants]\nusual_builtins = ['open']", "grants.usual_builtins", "unknown key"),
        ("[grants]\nfunctions = ['os:system']", "grants.functions", "unknown key 'functions'"),
        ("[grants]\npackages = ['x']\n[blocks]\npackages = ['X']", "blocks.packages", "'x' is granted as well"),
        ("[grants]\nusual_modules = ['a b']", "grants.usual_modules[0]", "is none of these"),
        ("[grants]\npython = 'python3'", "grants.python", "is not an absolute path"),
        ("[grants]\njit = 1", "grants.jit", "expected True or False"),
        ("[grants.stand_ins]\nreadline = 'x.py'", "grants.stand_ins.readline", "is not an absolute path"),
    ],
)  # fmt: skip
def test_what_a_file_refuses(text: str, key: str, words: str) -> None:
    found, message = refused(lambda: loads_toml(f"version = 1\n{text}\n"))
    assert (found, words in message) == (key, True), (found, message)


def test_both_notations_say_the_same() -> None:
    text = """
version = 1
[grants]
modules = ["math", "a.*"]
usual_modules = ["a.b"]
builtins = ["print"]
jit = true
[grants.stand_ins]
readline = "/srv/readline.py"
[blocks]
modules = ["*"]
packages = ["Foo_Bar"]
functions = ["os:system"]
builtins = ["*"]
"""
    policy = loads_toml(text)
    assert loads_json(json.dumps(to_data(policy))) == policy
    assert policy.blocked_packages == {"foo-bar"}
    assert [policy.modules.at(name) for name in ("math", "other", "a.c", "a.b")] == [2, 0, 2, 1]
    assert [policy.builtins.at(name) for name in ("print", "open")] == [2, 0]
    data = to_data(policy)
    assert data["blocks"] == {
        "modules": ["*"],
        "packages": ["foo-bar"],
        "functions": ["os:system"],
        "builtins": ["*"],
    }
