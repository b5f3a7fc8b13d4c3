"""``belljar check`` and ``belljar explain`` (X6)."""

from __future__ import annotations

import json

import pytest

from belljar.cli import machine as commands
from belljar.cli.options import parse
from belljar.plan.guarantees import GUARANTEES
from belljar.policy import LIMITS
from belljar.policy.files import from_data

from .command import belljar

pytestmark = pytest.mark.usefixtures("walls")


def test_check() -> None:
    done = belljar("check")
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    assert text.startswith("machine\n  kernel ")
    for guarantee in GUARANTEES:
        assert f"\n  {guarantee.name} " in text
        assert guarantee.promise in text
    assert text.endswith("\nPolicy() can be enforced here.\n")
    assert "\x1b" not in text


def test_check_as_json() -> None:
    done = belljar("check", "--json")
    data = json.loads(done.stdout)
    assert (done.returncode, data["enforceable"], data["missing"]) == (0, True, [])
    assert [row["name"] for row in data["guarantees"]] == [g.name for g in GUARANTEES]
    assert all(row["mechanisms"] for row in data["guarantees"])
    assert data["machine"]["landlock_abi"] >= 0
    assert "user" in data["machine"]["namespaces"]


def test_explain() -> None:
    done = belljar("explain", "--read", "/var:/data", "--env", "A=b", "--wall=90s", "--filter")
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    assert "read  /var, shown as /data\n" in text
    assert "env   A=b\n" in text
    assert "1.5 min" in text or "90 s" in text
    for name in LIMITS:
        assert f"\n  {name} " in text
    assert "landlock" in text
    assert "\nfilter for " in text
    assert "return ALLOW" in text


def test_explain_as_json() -> None:
    done = belljar("explain", "--json", "--filter", "--memory", "64M")
    assert done.returncode == 0
    data = json.loads(done.stdout)
    assert data["enforceable"] is True
    assert data["limits"]["memory_bytes"] == 64 * 2**20
    assert from_data(data["policy"]).limits.memory_bytes == 64 * 2**20
    assert data["guest"][-1][0] == "seccomp"
    assert data["filter"].startswith("filter for ")


def test_explain_names_mistakes() -> None:
    done = belljar("explain", "--read", "/no/such")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr == b"belljar: --read: /no/such: No such file or directory\n"
    done = belljar("explain", "--package", "belljar-no-such")
    assert done.returncode == 2
    assert b"belljar-no-such" in done.stderr
    done = belljar("check", "extra")
    assert done.returncode == 2


def test_a_machine_that_cannot(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3, every missing guarantee, and how to get it."""
    from belljar.api import machine

    poor = machine.support().replace(
        namespaces=frozenset(), mounts=False, proc=False, why=(("user", "unshare: EPERM"),)
    )
    monkeypatch.setattr(machine, "support", lambda: poor)
    assert commands.check(parse(["check"])) == 3
    text = capfd.readouterr().out
    assert "missing  names: " in text
    assert "remedy   " in text
    assert "why no user" in text
    assert text.endswith("Policy() cannot be enforced here.\n")
    assert commands.check(parse(["check", "--json"])) == 3
    data = json.loads(capfd.readouterr().out)
    assert data["enforceable"] is False
    assert data["missing"]
    assert data["remedy"]
    assert commands.explain(parse(["explain"])) == 3
    seen = capfd.readouterr()
    assert "missing  names: " in seen.out
    assert seen.err == "belljar: this machine cannot enforce the policy\n"
    assert commands.explain(parse(["explain", "--json"])) == 3
    assert json.loads(capfd.readouterr().out)["enforceable"] is False
    assert commands.explain(parse(["explain", "--system-info"])) == 0
    text = capfd.readouterr().out
    assert "given up by the policy" in text
    assert "Landlock rules" in text
    assert "the host's tree, as far as Landlock lets it" in text


def test_a_machine_of_another_kind(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """An architecture for which no filter is written is a refusal, not a fault."""
    from belljar.api import machine
    from belljar.errors import UnsupportedError

    def refuse() -> None:
        raise UnsupportedError(["filters for the riscv64 architecture"], ["use x86_64"])

    monkeypatch.setattr(machine, "support", refuse)
    for arguments in (["check"], ["explain"]):
        assert commands.check(parse(["check"])) == 3
        assert "riscv64" in capfd.readouterr().out
        command = parse([*arguments, "--json"])
        run = commands.check if arguments == ["check"] else commands.explain
        assert run(command) == 3
        assert json.loads(capfd.readouterr().out)["remedy"] == ["use x86_64"]
