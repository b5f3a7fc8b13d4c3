"""Policy files: TOML and JSON, both ways, strict (issue: unreadable policy file, bad input)."""

from __future__ import annotations

import json
import pathlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.errors import PolicyError
from belljar.policy import LIMITS, Limits, PathGrant, Policy
from belljar.policy.files import (
    MAX_FILE_BYTES,
    dumps_json,
    dumps_toml,
    load_policy,
    loads_json,
    loads_toml,
)

from .strategies import policies, values

EXAMPLE = """\
# what the nightly report may do
version = 1

[grants]
read = ["/srv/data", { host = "/usr/share/dict", inside = "/dict" }]
write = { "/srv/reports/out" = "/out" }
streams = ["stdout"]
argv = ["--quick"]
packages = ["NumPy"]
system_info = true

[grants.env]
LANG = "C.UTF-8"

[grants.names]
rows = 10
when = 2026-11-23T10:00:00Z
key = { "$bytes" = "AAE=" }

[limits]
wall_s = "1m"
memory_bytes = "1G"
processes = 1
"""


@settings(max_examples=60, deadline=None)
@given(policies(wide_values=True))
def test_round_trip(policy: Policy) -> None:
    assert loads_toml(dumps_toml(policy)) == policy
    assert loads_json(dumps_json(policy)) == policy


def same(a: object, b: object) -> bool:
    """Equal in type and content all the way down; NaN is itself, and -0.0 is not 0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return len(a) == len(b) and all(map(same, a.items(), b.items()))
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, (set, frozenset)):
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    return repr(a) == repr(b)


@settings(max_examples=100, deadline=None)
@given(values)
def test_values_come_back_with_their_types(value: object) -> None:
    policy = Policy().allow(names={"n": value})
    assert same(policy.names["n"], value)
    for again in (loads_toml(dumps_toml(policy)), loads_json(dumps_json(policy))):
        assert again == policy
        assert same(again.names["n"], value)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(max_codepoint=0x2FF, exclude_characters="\0"), max_size=20))
def test_texts_are_escaped(text: str) -> None:
    policy = Policy().allow(argv=[text], names={"n": {text: "\0" + text}})
    assert loads_toml(dumps_toml(policy)) == policy
    assert loads_json(dumps_json(policy)) == policy


def test_one_policy_has_one_text() -> None:
    one = Policy().allow(names={"n": {"b", "a", "c"}}, packages=["x", "y"], env={"B": "", "A": ""})
    two = Policy().allow(names={"n": {"c", "b", "a"}}, packages=["y", "x"], env={"A": "", "B": ""})
    assert dumps_toml(one) == dumps_toml(two)
    assert dumps_json(one) == dumps_json(two)


def test_a_file_by_example(tmp_path: pathlib.Path) -> None:
    from datetime import UTC, datetime

    path = tmp_path / "report.toml"
    path.write_text(EXAMPLE)
    policy = load_policy(path)
    assert policy.read == (
        PathGrant("/usr/share/dict", "/dict"),
        PathGrant("/srv/data", "/srv/data"),
    )
    assert policy.write == (PathGrant("/srv/reports/out", "/out"),)
    assert policy.names["when"] == datetime(2026, 11, 23, 10, tzinfo=UTC)
    assert policy.names["key"] == b"\0\1"
    assert policy.packages == {"numpy"}
    assert policy.limits == Limits(wall_s=60, memory_bytes=2**30, processes=1)


def test_limits_in_a_file_are_exact() -> None:
    low = loads_toml("version = 1\n[limits]\nwall_s = 1\nthreads = 99\n")
    assert (low.limits.wall_s, low.limits.threads) == (1.0, 99)
    assert loads_toml("version = 1") == Policy()
    assert loads_json('{"version": 1, "grants": {}, "limits": {}}') == Policy()


def test_golden_texts() -> None:
    policy = Policy().allow(read=["/srv"], env={"A.B": 'a"\n\x7f'}, names={"n": (1, None)})
    head, limits = dumps_toml(policy).split("[limits]\n")
    assert head == (
        'version = 1\n\n[grants]\nread = ["/srv"]\n\n'
        '[grants.env]\n"A.B" = "a\\"\\n\\u007f"\n\n'
        '[grants.names]\nn = { "$tuple" = [1, { "$none" = true }] }\n\n'
    )
    assert limits.splitlines()[:3] == ["wall_s = 5.0", "cpu_s = 5.0", "grace_s = 0.0"]
    assert len(limits.splitlines()) == len(LIMITS)


# ---------------------------------------------------------------------- refusals

GOOD = {"version": 1, "grants": {}, "limits": {}}
DATA = [
    ([], "policy", "expected a table, got list"),
    ({}, "version", "missing; write version = 1"),
    ({"version": 2}, "version", "2 is unknown; this belljar reads 1"),
    ({"version": True}, "version", "True is unknown"),
    ({"version": "1"}, "version", "'1' is unknown"),
    ({"version": 1.0}, "version", "1.0 is unknown"),
    ({**GOOD, "grant": {}}, "grant", "did you mean grants?"),
    ({**GOOD, "grants": []}, "grants", "expected a table, got list"),
    ({**GOOD, "limits": 5}, "limits", "expected a table, got int"),
    ({**GOOD, "grants": {"reads": []}}, "grants.reads", "did you mean read?"),
    ({**GOOD, "grants": {"wall_s": 1}}, "grants.wall_s", "unknown key"),
    ({**GOOD, "limits": {"wall": 1}}, "limits.wall", "did you mean wall_s?"),
    ({**GOOD, "limits": {"wall_s": "2 parsecs"}}, "limits.wall_s", "no known unit"),
    ({**GOOD, "limits": {"wall_s": False}}, "limits.wall_s", "got bool"),
    ({**GOOD, "limits": {"wall_s": -2}}, "limits.wall_s", "out of range"),
    ({**GOOD, "limits": {"memory_bytes": "256MB"}}, "limits.memory_bytes", "write MiB"),
    ({**GOOD, "limits": {"memory_bytes": []}}, "limits.memory_bytes", "got list"),
    ({**GOOD, "grants": {"read": "/srv"}}, "grants.read", "write read=['/srv']"),
    ({**GOOD, "grants": {"read": ["/srv", {}]}}, "grants.read[1].host", "expected a path"),
    ({**GOOD, "grants": {"read": [{"host": "/a"}]}}, "grants.read[0].inside", "expected"),
    (
        {**GOOD, "grants": {"read": [{"host": "/a", "inside": "/b", "mode": "w"}]}},
        "grants.read[0].mode",
        "unknown key 'mode'",
    ),
    ({**GOOD, "grants": {"read": [["/a"]]}}, "grants.read[0]", "got list"),
    ({**GOOD, "grants": {"env": {"A": 1}}}, "grants.env.A", "got int"),
    ({**GOOD, "grants": {"abilities": []}}, "grants.abilities", "expected a dict, got list"),
    ({**GOOD, "grants": {"abilities": {"n": False}}}, "grants.abilities.n", "leave it out"),
    ({**GOOD, "grants": {"abilities": {"n": [1]}}}, "grants.abilities.n[0]", "got int"),
    ({**GOOD, "abilities": {"n": 1}}, "abilities", "unknown key"),
    ({**GOOD, "grants": {"names": [1]}}, "grants.names", "expected a dict"),
    ({**GOOD, "grants": {"names": {"n": {"$what": 1}}}}, "grants.names.n['$what']", "unknown"),
    (
        {**GOOD, "grants": {"names": {"n": {"$bytes": "", "x": 1}}}},
        "grants.names.n['$bytes']",
        "stands alone",
    ),
    ({**GOOD, "grants": {"names": {"n": {"$bytes": 1}}}}, "grants.names.n['$bytes']", "str"),
    ({**GOOD, "grants": {"names": {"n": {"$bytes": "!"}}}}, "grants.names.n['$bytes']", "not a"),
    ({**GOOD, "grants": {"names": {"n": {"$none": False}}}}, "grants.names.n['$none']", "true"),
    ({**GOOD, "grants": {"names": {"n": {"$float": "1"}}}}, "grants.names.n['$float']", "nan"),
    ({**GOOD, "grants": {"names": {"n": {"$complex": [1]}}}}, "grants.names.n['$complex']", "two"),
    ({**GOOD, "grants": {"names": {"n": {"$uuid": "x"}}}}, "grants.names.n['$uuid']", "not a"),
    ({**GOOD, "grants": {"names": {"n": {"$date": "x"}}}}, "grants.names.n['$date']", "not a"),
    (
        {**GOOD, "grants": {"names": {"n": {"$decimal": "x"}}}},
        "grants.names.n['$decimal']",
        "not a decimal",
    ),
    (
        {**GOOD, "grants": {"names": {"n": {"$fraction": "1/0"}}}},
        "grants.names.n['$fraction']",
        "not a fraction",
    ),
    (
        {**GOOD, "grants": {"names": {"n": {"$fraction": "1e999999999"}}}},
        "grants.names.n['$fraction']",
        "expected 'n/d'",
    ),
    (
        {**GOOD, "grants": {"names": {"n": {"$timedelta_us": 10**30}}}},
        "grants.names.n['$timedelta_us']",
        "not a timedelta_us",
    ),
    ({**GOOD, "grants": {"names": {"n": {"$set": [[1]]}}}}, "grants.names.n['$set']", "not a set"),
    (
        {**GOOD, "grants": {"names": {"n": {"$set": [1, True]}}}},
        "grants.names.n['$set']",
        "twice",
    ),
    (
        {**GOOD, "grants": {"names": {"n": {"$dict": [[1, 2], [True, 3]]}}}},
        "grants.names.n['$dict'][1]",
        "the key True is there twice",
    ),
    (
        {**GOOD, "grants": {"names": {"n": {"$dict": [[1]]}}}},
        "grants.names.n['$dict'][0]",
        "expected [key, value]",
    ),
]


@pytest.mark.parametrize(
    ("data", "key", "message"), DATA, ids=[f"{i}-{key}" for i, (_, key, _) in enumerate(DATA)]
)
def test_wrong_content_is_refused_with_its_key(data: object, key: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        loads_json(json.dumps(data))
    assert caught.value.key == key
    assert message in caught.value.message


TEXTS = [
    (loads_toml, "version = =", "policy", "not TOML: Invalid value (at line 1, column 11)"),
    (loads_toml, "version = 1\nversion = 1", "policy", "not TOML: Cannot overwrite a value"),
    (loads_toml, "version = " + "9" * 5000, "policy", "not TOML"),
    (loads_toml, "x = " + "[" * 100_000, "policy", "nested too deeply"),
    (loads_toml, "#" * (MAX_FILE_BYTES + 1), "policy", "larger than"),
    (loads_toml, "", "version", "missing"),
    (loads_toml, b"version = 1", "policy", "expected a text (str), got bytes"),
    (loads_toml, "version = 1\n[limits]\nwall_s = inf", "limits.wall_s", "inf is out of range"),
    (loads_toml, "version = 1\n[limits]\nwall_s = nan", "limits.wall_s", "nan is out of range"),
    (loads_toml, "version = 1\n[limits]\nwall_s = 2026-01-01", "limits.wall_s", "got date"),
    (
        loads_toml,
        "version = 1\n[grants.abilities]\nmail.send = true",
        "grants.abilities.mail",
        "a name with a dot is written in quotes",
    ),
    (loads_json, "", "policy", "not JSON: Expecting value: line 1 column 1"),
    (loads_json, '{"version": 1,}', "policy", "not JSON"),
    (loads_json, '{"version": NaN}', "policy", "NaN is not a JSON number"),
    (loads_json, '{"version": -Infinity}', "policy", "-Infinity is not a JSON number"),
    (loads_json, '{"version": ' + "9" * 5000 + "}", "policy", "not JSON"),
    (loads_json, "[" * 100_000, "policy", "nested deeper than 80 levels"),
    (loads_json, '{"a":' * 100_000, "policy", "nested deeper than 80 levels"),
    (loads_json, '"\\"' + "[" * 200, "policy", "not JSON: Unterminated string"),
    (loads_json, '{"version": 1, "version": 1}', "version", "the key is there twice"),
    (
        loads_json,
        '{"version": 1, "grants": {"names": {"n": [{"a": 1, "a": 2}]}}}',
        "grants.names.n[0].a",
        "the key is there twice",
    ),
    (loads_json, '{"version": 1, "grants": {"argv": ["\\ud800"]}}', "grants.argv[0]", "surrogate"),
    (loads_json, None, "policy", "got None"),
]


@pytest.mark.parametrize(
    ("load", "text", "key", "message"), TEXTS, ids=[f"{i}-{t[2]}" for i, t in enumerate(TEXTS)]
)
def test_wrong_texts_are_refused(load: object, text: object, key: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        load(text)
    assert caught.value.key == key
    assert message in caught.value.message


def test_brackets_in_strings_are_no_nesting() -> None:
    policy = Policy().allow(argv=["[" * 500 + '"\\{'])
    assert loads_json(dumps_json(policy)) == policy


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.toml", b"\xff\xfe", "not UTF-8 at byte 0"),
        ("a.toml", b" " * (MAX_FILE_BYTES + 1), "larger than 1048576 bytes"),
        ("a.toml", b"{}", "not TOML"),
        ("a.json", b"version = 1", "not JSON"),
    ],
)
def test_a_file_that_is_no_policy(
    tmp_path: pathlib.Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    assert caught.value.key == str(path)
    assert message in caught.value.message


def test_a_file_that_cannot_be_read(tmp_path: pathlib.Path) -> None:
    for path, reason in [
        (tmp_path / "none.toml", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / ("x" * 300), "File name too long"),
        (f"{tmp_path}/a\0b", "null byte"),
        ("", "No such file or directory"),
    ]:
        with pytest.raises(PolicyError, match="cannot read the policy file") as caught:
            load_policy(path)
        assert reason in caught.value.message
    for wrong in (0, None, b"/srv/p.toml"):  # open(0) would read standard input
        with pytest.raises(PolicyError, match="expected the path of a file"):
            load_policy(wrong)


def test_a_fault_in_a_file_names_key_and_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "p.json"
    path.write_text('{"version": 1, "limits": {"wall": 2}}')
    with pytest.raises(PolicyError) as caught:
        load_policy(path)
    assert caught.value.key == "limits.wall"
    assert caught.value.message.endswith(f"(in {path})")


def test_without_a_suffix_the_content_tells(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "policy"
    for text in ("\ufeffversion = 1\n", ' {"version": 1}'):
        path.write_text(text)
        assert load_policy(str(path)) == Policy()


def test_what_no_file_could_hold_is_not_written() -> None:
    many = Policy().allow(read=["/c", *(f"/d/{i}" for i in range(255))])
    more = Policy().allow(read=["/d", *(f"/c/{i}" for i in range(255))])
    assert len((many & more).read) == 510
    for dumps in (dumps_toml, dumps_json):
        with pytest.raises(PolicyError, match="510 paths; at most 256"):
            dumps(many & more)
        with pytest.raises(PolicyError, match="larger than the 1048576 bytes of a file"):
            dumps(Policy().allow(write={f"/{i:03}{'/xyz' * 1022}": f"/{i}" for i in range(256)}))
