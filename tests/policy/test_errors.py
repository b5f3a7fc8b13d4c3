"""Every refusal is a ``PolicyError`` that names the key and the remedy (issue: bad input)."""

from __future__ import annotations

import os
import pathlib
import sys
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from belljar.errors import BelljarError, PolicyError
from belljar.policy import LIMITS, Limits, PathGrant, Policy
from belljar.policy.paths import MAX_PATHS, RESERVED_ROOTS, RESERVED_TREES, check_host

P = Policy()


def deep(levels: int) -> list[object]:
    value: list[object] = []
    for _ in range(levels):
        value = [value]
    return value


class Odd:
    def __fspath__(self) -> bytes:
        return b"/srv"


# keyword arguments of allow() -> key of the error, a part of its message
ALLOW = [
    # paths: the container
    ({"read": "/srv"}, "grants.read", "expected a list of paths, got str; write read=['/srv']"),
    ({"write": "/srv"}, "grants.write", "write write=['/srv']"),
    ({"read": pathlib.Path("/srv")}, "grants.read", "expected a list of paths"),
    ({"read": None}, "grants.read", "got None"),
    ({"read": True}, "grants.read", "got bool"),
    ({"read": iter(["/srv"])}, "grants.read", "got list_iterator"),
    ({"read": [f"/srv/{i}" for i in range(MAX_PATHS + 1)]}, "grants.read", "at most 256"),
    ({"read": {f"/srv/{i}": "/x" for i in range(MAX_PATHS + 1)}}, "grants.read", "at most 256"),
    # paths: one of them
    ({"read": ["/srv", 3]}, "grants.read[1]", "expected a path (str), got int"),
    ({"read": ["/srv", None]}, "grants.read[1]", "got None"),
    ({"read": [b"/srv"]}, "grants.read[0]", "got bytes"),
    ({"read": [Odd()]}, "grants.read[0]", "got bytes"),
    ({"read": [""]}, "grants.read[0]", "empty"),
    ({"read": ["srv/data"]}, "grants.read[0]", "not absolute"),
    ({"read": ["."]}, "grants.read[0]", "not absolute"),
    ({"read": ["~/data"]}, "grants.read[0]", "~ is not expanded"),
    ({"read": ["/srv/../etc"]}, "grants.read[0]", "'..'"),
    ({"read": ["/srv/.."]}, "grants.read[0]", "'..'"),
    ({"read": ["/srv\0/x"]}, "grants.read[0]", "NUL"),
    ({"read": ["/srv/\ud800"]}, "grants.read[0]", "surrogate"),
    ({"read": ["/"]}, "grants.read[0]", "whole machine"),
    ({"write": ["//"]}, "grants.write[0]", "whole machine"),
    ({"read": ["/./"]}, "grants.read[0]", "whole machine"),
    ({"read": ["/" + "a" * 5000]}, "grants.read[0]", "longer than 4095 bytes"),
    # paths: reserved and refused places
    ({"read": ["/etc"]}, "grants.read[0]", "reserved inside"),
    ({"read": ["/usr/share/dict"]}, "grants.read[0]", "read={'/usr/share/dict': '/data'}"),
    ({"write": ["/tmp"]}, "grants.write[0]", "write={'/tmp': '/data'}"),
    ({"read": {"/srv": "/work"}}, "grants.read['/srv']", "the guest's own current directory"),
    ({"read": {"/srv": "/lib64/x"}}, "grants.read['/srv']", "reserved inside"),
    ({"read": {"/srv": "/"}}, "grants.read['/srv']", "whole machine"),
    ({"read": {"/srv": "data"}}, "grants.read['/srv']", "not absolute"),
    ({"read": {"/srv": 1}}, "grants.read['/srv']", "got int"),
    ({"read": {"/proc": "/p"}}, "grants.read['/proc']", "other processes"),
    ({"read": {"/proc/1/root": "/p"}}, "grants.read['/proc/1/root']", "cannot be granted"),
    ({"write": {"/dev/sda": "/disk"}}, "grants.write['/dev/sda']", "devices"),
    ({"write": {"/dev/shm": "/shm"}}, "grants.write['/dev/shm']", "devices"),
    ({"write": {"/sys/fs/cgroup": "/c"}}, "grants.write['/sys/fs/cgroup']", "kernel"),
    ({"read": {3: "/x"}}, "grants.read[3]", "got int"),
    # paths: contradictions
    ({"read": {"/a": "/x", "/b": "/x"}}, "grants.read['/b']", "/x inside already shows /a"),
    ({"read": {"/a": "/x", "/b": "/x/y"}}, "grants.read['/b']", "which shows /a/y there"),
    ({"read": {"/b": "/x/y", "/a": "/x"}}, "grants.read['/a']", "which shows /a/y there"),
    ({"read": ["/srv"], "write": {"/out": "/srv"}}, "grants.write['/out']", "already shows /srv"),
    ({"read": [PathGrant("/a", "/x"), PathGrant("/b", "/x")]}, "grants.read[1]", "already"),
    ({"read": [PathGrant("a", "/x")]}, "grants.read[0]", "not absolute"),
    # streams
    ({"streams": "stdout"}, "grants.streams", "write streams=['stdout']"),
    ({"streams": ["stdout", "stdlog"]}, "grants.streams[1]", "none of stdin, stdout, stderr"),
    ({"streams": [1]}, "grants.streams[0]", "got int"),
    ({"streams": True}, "grants.streams", "got bool"),
    ({"streams": ["stdin"] * 4}, "grants.streams", "at most 3"),
    # env
    ({"env": ["LANG=C"]}, "grants.env", "write env={'LANG': 'C.UTF-8'}"),
    ({"env": None}, "grants.env", "got None"),
    ({"env": {1: "x"}}, "grants.env[1]", "got int"),
    ({"env": {"": "x"}}, "grants.env['']", "not empty"),
    ({"env": {"A=B": "x"}}, "grants.env['A=B']", "no '='"),
    ({"env": {"A\0": "x"}}, "grants.env['A\\x00']", "NUL"),
    ({"env": {"N": 1}}, "grants.env.N", "got int"),
    ({"env": {"N": "\0"}}, "grants.env.N", "NUL"),
    ({"env": {"N": "\udcff"}}, "grants.env.N", "surrogate"),
    ({"env": {"N": "x" * 2**17}}, "grants.env", "bytes"),
    ({"env": {f"N{i}": "" for i in range(257)}}, "grants.env", "at most 256"),
    # argv
    ({"argv": "-v"}, "grants.argv", "write argv=['-v']"),
    ({"argv": {"-v"}}, "grants.argv", "a set has no order"),
    ({"argv": ["-v", 3]}, "grants.argv[1]", "got int"),
    ({"argv": ["a\0"]}, "grants.argv[0]", "NUL"),
    ({"argv": ["x"] * 1025}, "grants.argv", "at most 1024"),
    ({"argv": ["x" * 2**17, "x"]}, "grants.argv", "bytes"),
    # names
    ({"names": ["n"]}, "grants.names", "write names={'n': 10}"),
    ({"names": {"": 1}}, "grants.names['']", "not a Python name"),
    ({"names": {"a b": 1}}, "grants.names['a b']", "not a Python name"),
    ({"names": {"class": 1}}, "grants.names.class", "not a Python name"),
    ({"names": {"__builtins__": 1}}, "grants.names.__builtins__", "belong to Python"),
    ({"names": {1: 1}}, "grants.names[1]", "got int"),
    ({"names": {"n": object()}}, "grants.names.n", "object is not plain data"),
    ({"names": {"n": print}}, "grants.names.n", "not plain data"),
    ({"names": {"n": OrderedDict()}}, "grants.names.n", "OrderedDict is not plain data"),
    ({"names": {"n": {"a": [1, sys]}}}, "grants.names.n.a[1]", "module is not plain data"),
    ({"names": {"n": {"a": {object(): 1}}}}, "grants.names.n.a[a object]", "object is not plain"),
    ({"names": {"n": {object}}}, "grants.names.n[0]", "type is not plain data"),
    ({"names": {"n": "\ud800"}}, "grants.names.n", "surrogate"),
    ({"names": {"n": 1 << 5000}}, "grants.names.n", "4096 bits"),
    ({"names": {"n": deep(20)}}, "grants.names.n" + "[0]" * 17, "deeper than 16"),
    ({"names": {"n": list(range(20_000))}}, "grants.names.n[9999]", "more than 10000 values"),
    ({"names": {"n": b"x" * 2**19}}, "grants.names.n", "more than 262144 bytes"),
    ({"names": {"n": Decimal("1" * 2**19)}}, "grants.names.n", "more than 262144 bytes"),
    ({"names": {"n": datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC"))}}, "grants.names.n", "ZoneInfo"),
    ({"names": {"n": datetime(2026, 1, 1, fold=1)}}, "grants.names.n", "fold=1"),
    ({"names": {f"n{i}": 1 for i in range(257)}}, "grants.names", "at most 256"),
    # packages
    ({"packages": "numpy"}, "grants.packages", "write packages=['numpy']"),
    ({"packages": ["numpy>=2"]}, "grants.packages[0]", "write it bare, as 'numpy'"),
    ({"packages": ["*"]}, "grants.packages[0]", "not the name"),
    ({"packages": [""]}, "grants.packages[0]", "not the name"),
    ({"packages": ["-x"]}, "grants.packages[0]", "not the name"),
    ({"packages": ["x."]}, "grants.packages[0]", "not the name"),
    ({"packages": ["nümpy"]}, "grants.packages[0]", "not the name"),
    ({"packages": ["x" * 129]}, "grants.packages[0]", "not the name"),
    ({"packages": ["ok", None]}, "grants.packages[1]", "got None"),
    ({"packages": [f"p{i}" for i in range(1025)]}, "grants.packages", "at most 1024"),
    # flags
    ({"system_info": 1}, "grants.system_info", "expected True or False, got int"),
    ({"system_info": "yes"}, "grants.system_info", "got str"),
    ({"system_info": None}, "grants.system_info", "got None"),
    # abilities
    ({"abilities": ["send"]}, "grants.abilities", "got list; write abilities={'send_mail': True"),
    ({"abilities": True}, "grants.abilities", "got bool"),
    ({"abilities": {"send": False}}, "grants.abilities.send", "leave it out"),
    ({"abilities": {"send": None}}, "grants.abilities.send", "a text (a value), got None"),
    ({"abilities": {"send": b"x"}}, "grants.abilities.send", "got bytes"),
    ({"abilities": {"send": {"a": True}}}, "grants.abilities.send", "got dict; in a TOML file"),
    ({"abilities": {"send": Decimal(1)}}, "grants.abilities.send", "got Decimal"),
    ({"abilities": {"n": -1}}, "grants.abilities.n", "-1 is out of range: 0 to 9,223,372,"),
    ({"abilities": {"n": float("nan")}}, "grants.abilities.n", "nan is out of range"),
    ({"abilities": {"n": float("inf")}}, "grants.abilities.n", "inf is out of range"),
    ({"abilities": {"n": 2.0**63}}, "grants.abilities.n", "out of range"),
    ({"abilities": {"n": 1 << 5000}}, "grants.abilities.n", "an int of 5001 bits"),
    ({"abilities": {"t": ["a", 1]}}, "grants.abilities.t[1]", "an entry (str), got int"),
    ({"abilities": {"t": ["a\0"]}}, "grants.abilities.t[0]", "NUL"),
    ({"abilities": {"t": "\ud800"}}, "grants.abilities.t", "surrogate"),
    ({"abilities": {"t": "x" * 4097}}, "grants.abilities.t", "4097 characters; at most 4096"),
    ({"abilities": {"t": ["x" * 4097]}}, "grants.abilities.t[0]", "at most 4096"),
    ({"abilities": {"t": [str(i) for i in range(4097)]}}, "grants.abilities.t", "4097 entries"),
    ({"abilities": {f"t{i}": "x" * 4096 for i in range(64)}}, "grants.abilities", "bytes; at most"),
    ({"abilities": {f"n{i}": 1 for i in range(257)}}, "grants.abilities", "at most 256"),
    ({"abilities": {"": True}}, "grants.abilities['']", "is not a name"),
    ({"abilities": {"a b": True}}, "grants.abilities['a b']", "write 'send_mail' or 'mail.send'"),
    ({"abilities": {"a..b": True}}, "grants.abilities['a..b']", "is not a name"),
    ({"abilities": {"1a": True}}, "grants.abilities['1a']", "is not a name"),
    ({"abilities": {1: True}}, "grants.abilities[1]", "got int"),
    ({"abilities": {"n" * 65: True}}, f"grants.abilities.{'n' * 65}", "65 characters; at most 64"),
    # limits
    ({"wall_s": "2s"}, "limits.wall_s", "expected a number of seconds, got str '2s'"),
    ({"wall_s": None}, "limits.wall_s", "got None"),
    ({"wall_s": True}, "limits.wall_s", "got bool"),
    ({"wall_s": 1j}, "limits.wall_s", "got complex"),
    ({"wall_s": float("nan")}, "limits.wall_s", "nan is out of range: 0.001 to 604,800"),
    ({"wall_s": float("inf")}, "limits.wall_s", "inf is out of range"),
    ({"wall_s": 0}, "limits.wall_s", "0 is out of range"),
    ({"wall_s": -1}, "limits.wall_s", "-1 is out of range"),
    ({"cpu_s": 10**400}, "limits.cpu_s", "an int of 1329 bits is out of range"),
    ({"memory_bytes": "256M"}, "limits.memory_bytes", "policy files"),
    ({"memory_bytes": 1e9}, "limits.memory_bytes", "expected a whole number of bytes (int)"),
    ({"memory_bytes": 2**20}, "limits.memory_bytes", "out of range: 16,777,216 to"),
    ({"memory_bytes": 2**41}, "limits.memory_bytes", "out of range"),
    ({"processes": -1}, "limits.processes", "out of range: 0 to 4,096 (count)"),
    ({"open_files": 3}, "limits.open_files", "out of range: 16 to 65,536"),
    ({"work_bytes": 0}, "limits.work_bytes", "out of range"),
    ({"work_files": 0}, "limits.work_files", "out of range"),
    ({"threads": 1.5}, "limits.threads", "got float 1.5"),
    # unknown keys
    ({"reed": ["/srv"]}, "reed", "did you mean read?"),
    ({"memory": 1}, "memory", "did you mean memory_bytes?"),
    ({"zzz": 1}, "zzz", "known: abilities, argv, "),
    ({"a b": 1}, "['a b']", "unknown key 'a b'"),
]

# a call -> key of the error, a part of its message
CALLS: list[tuple[Callable[[], object], str, str]] = [
    (lambda: P.limit(wall_s=60), "limits.wall_s", "60 is above the present limit of 5"),
    (lambda: P.limit(wall_s=60), "limits.wall_s", "use allow(wall_s=60) to raise it"),
    (
        lambda: P.limit(memory_bytes=2**28 + 1),
        "limits.memory_bytes",
        "use allow(memory_bytes=268435457)",
    ),
    (lambda: P.limit(wall=1), "limits.wall", "did you mean wall_s?"),
    (lambda: P.limit(read=[]), "limits.read", "use a & b to take grants away"),
    (lambda: P.limit(cpu_s="1"), "limits.cpu_s", "got str '1'"),
    (lambda: P.limit(cpu_s=None), "limits.cpu_s", "got None"),
    (lambda: Limits(threads=-1), "limits.threads", "out of range"),
    (lambda: Limits(value_bytes=0), "limits.value_bytes", "out of range"),
    (lambda: Policy(read=["/srv"]), "read", "write Policy().allow(read=…)"),
    (lambda: Policy(wall_s=1), "wall_s", "write Policy().limit(wall_s=…)"),
    (
        lambda: P.allow(env={"A": "1"}).allow(env={"A": "2"}),
        "grants.env.A",
        "already granted with another value",
    ),
    (lambda: P.allow(argv=["a"]).allow(argv=["b"]), "grants.argv", "already granted"),
    (
        lambda: P.allow(names={"n": 1}).allow(names={"n": True}),
        "grants.names.n",
        "already granted with another value",
    ),
    (
        lambda: P.allow(abilities={"n": 1}).allow(abilities={"n": True}),
        "grants.abilities.n",
        "already granted as a cap, and this is a flag",
    ),
    (
        lambda: P.allow(abilities={"t": ["a"]}).allow(abilities={"t": "a"}),
        "grants.abilities.t",
        "already granted as a membership, and this is a value",
    ),
    (
        lambda: P.allow(abilities={"of": "acme"}).allow(abilities={"of": "other"}),
        "grants.abilities.of",
        "already granted with another value",
    ),
    (
        lambda: P.allow(abilities={f"a{i}": 1 for i in range(200)}).allow(
            abilities={f"b{i}": 1 for i in range(200)}
        ),
        "grants.abilities",
        "400 abilities; at most 256",
    ),
    (
        lambda: P.allow(read={"/a": "/x"}).allow(write={"/b": "/x"}),
        "grants.write['/b']",
        "/x inside already shows /a",
    ),
    (
        lambda: P.allow(read=[f"/a/{i}" for i in range(200)]).allow(
            write=[f"/b/{i}" for i in range(200)]
        ),
        "grants",
        "400 paths; at most 256",
    ),
    (
        lambda: P.allow(names={"a": b"x" * 200_000}).allow(names={"b": b"x" * 200_000}),
        "grants.names.b",
        "more than 262144 bytes",
    ),
    (lambda: check_host("/proc/self", "grants.read[0]"), "grants.read[0]", "other processes"),
    (lambda: check_host("/", "grants.read[0]"), "grants.read[0]", "whole machine"),
]


@pytest.mark.parametrize(
    ("wanted", "key", "message"), ALLOW, ids=[f"{i}-{key}" for i, (_, key, _) in enumerate(ALLOW)]
)
def test_allow_refuses(wanted: dict[str, object], key: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Policy().allow(**wanted)
    assert caught.value.key == key
    assert message in caught.value.message
    assert str(caught.value) == f"{key}: {caught.value.message}"
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("call", "key", "message"), CALLS, ids=[f"{i}-{key}" for i, (_, key, _) in enumerate(CALLS)]
)
def test_other_calls_refuse(call: Callable[[], object], key: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        call()
    assert caught.value.key == key
    assert message in caught.value.message


def test_a_policy_error_is_a_value_error_and_ours() -> None:
    with pytest.raises(ValueError, match="wall_s"):
        Policy().limit(wall_s=-1)
    assert issubclass(PolicyError, BelljarError)


@pytest.mark.parametrize("place", [*RESERVED_TREES, *RESERVED_ROOTS])
def test_reserved_places_and_what_lies_beneath(place: str) -> None:
    for inside in (place, f"{place}/x"):
        if inside == "/tmp/x" or inside == "/work/x":
            assert Policy().allow(read={"/srv": inside}).read[0].inside == inside
        else:
            with pytest.raises(PolicyError, match="reserved inside"):
                Policy().allow(read={"/srv": inside})
    assert Policy().allow(read={"/srv": f"{place}x-data"}).read[0].inside == f"{place}x-data"


def test_what_is_accepted() -> None:
    """The other side of the tables: near misses that must work."""
    policy = Policy().allow(
        read=(pathlib.PurePosixPath("/srv//data/./x/"), "//opt/..data"),
        write={os.fspath("/tmp/out"): "/tmp/out", "/dev/shm/pool": "/pool"},
        streams={"stdout"},
        env={"EMPTY": "", "ümlaut": "\n"},
        argv=("", "-v"),
        names={"n": None, "größe": ()},
        packages=frozenset({"Zope.Interface", "ruamel__yaml", "a", "A"}),
        system_info=False,
    )
    assert [grant.host for grant in policy.read] == ["/opt/..data", "/srv/data/x"]
    assert policy.write == (PathGrant("/dev/shm/pool", "/pool"), PathGrant("/tmp/out", "/tmp/out"))
    assert policy.packages == {"zope-interface", "ruamel-yaml", "a"}
    assert policy.env == {"EMPTY": "", "ümlaut": "\n"}
    assert policy.argv == ("", "-v")
    assert policy.names == {"n": None, "größe": ()}
    assert policy.system_info is False
    assert policy.allow(env=policy.env, names=policy.names, read=policy.read) == policy
    assert policy.allow(argv=[]) == policy
    assert policy.allow(env=OrderedDict(A="1")).env["A"] == "1"
    assert Policy().allow(read=[], write={}, env={}, packages=()) == Policy()


def test_empty_means_nothing() -> None:
    """M10: deny by default."""
    policy = Policy()
    assert (policy.read, policy.write, policy.argv) == ((), (), ())
    assert (policy.streams, policy.packages) == (frozenset(), frozenset())
    assert (dict(policy.env), dict(policy.names)) == ({}, {})
    assert policy.system_info is False
    assert policy.limits == Limits()
    assert all(policy <= other for other in (policy, policy.allow(read=["/srv"])))


def test_every_bound_of_every_limit() -> None:
    """The ends of each range are accepted, what lies beyond is not."""
    assert set(LIMITS) == set(Limits._fields)
    for name, spec in LIMITS.items():
        kind = int if spec.kind == "int" else float
        assert spec.low <= Limits()[name] <= spec.high
        assert type(Limits()[name]) is kind
        for value in (spec.low, spec.high):
            assert Limits(**{name: value})[name] == value
        for value in (kind(spec.low) - 1, kind(spec.high) + 1):
            with pytest.raises(PolicyError, match=f"^limits.{name}: "):
                Limits(**{name: value})
