"""Flags -> policy (M3, M10)."""

from __future__ import annotations

from pathlib import Path

import pytest

from belljar import Policy, PolicyError
from belljar.cli.options import parse
from belljar.cli.policies import make_policy, split_place
from belljar.policy import PathGrant
from belljar.policy.baselines import baseline


def policy_of(*flags: str) -> Policy:
    return make_policy(parse(["run", *flags, "x.py"]))


def test_no_flag_grants_nothing() -> None:
    assert policy_of() == policy_of("--json", "-q") == Policy()


def test_grants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = tmp_path.resolve()
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.csv").touch()
    policy = policy_of(
        *("--read", "a.csv:/work/a.csv", "--read", "./sub/", "--write=sub/..:/out"),
        *("--package", "NumPy", "--package", "pandas", "--env", "A=b=c", "--env", "B="),
        *("--system-info", "--stdin"),
    )
    assert policy.write == (PathGrant(str(here), "/out"),)
    assert set(policy.read) == {
        PathGrant(f"{here}/a.csv", "/work/a.csv"),
        PathGrant(f"{here}/sub", f"{here}/sub"),
    }
    assert policy.packages == {"numpy", "pandas"}
    assert dict(policy.env) == {"A": "b=c", "B": ""}
    assert policy.streams == {"stdin"}
    assert policy.system_info


def test_dots_lead_where_the_kernel_leads(tmp_path: Path) -> None:
    """``link/..`` is the parent of where the link leads, not of the link."""
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to("far/away")
    policy = policy_of("--read", f"{tmp_path}/link/..:/in")
    assert policy.read == (PathGrant(f"{tmp_path.resolve()}/far", "/in"),)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ("a", "")),
        ("a:/b", ("a", "/b")),
        ("/a:/b", ("/a", "/b")),
        ("a:b", ("a:b", "")),
        ("a:b:/c", ("a:b", "/c")),
        ("/a:/b:/c", ("/a:/b", "/c")),
        (":/b", (":/b", "")),
    ],
)
def test_places(text: str, parts: tuple[str, str]) -> None:
    assert split_place(text) == parts


def test_limits_are_set_exactly_above_and_below() -> None:
    limits = policy_of(
        "--wall", "1m", "--cpu=500ms", "--memory", "64M", "--work-files", "99"
    ).limits
    assert (limits.wall_s, limits.cpu_s, limits.memory_bytes) == (60.0, 0.5, 64 * 2**20)
    assert limits.work_files == 99
    assert limits.output_bytes == Policy().limits.output_bytes


def test_flags_come_on_top_of_a_policy_file(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(
        'version = 1\n[grants]\nargv = ["first"]\nenv = { A = "1" }\n'
        '[limits]\nwall_s = "1s"\nthreads = 2\n'
    )
    policy = policy_of("--policy", str(file), "--env", "B=2", "--wall", "9s")
    assert dict(policy.env) == {"A": "1", "B": "2"}
    assert policy.argv == ("first",)
    assert (policy.limits.wall_s, policy.limits.threads) == (9.0, 2)
    assert policy_of("--policy", "baseline:compute-2026-11") == baseline("compute-2026-11")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--wall", "soon"], "--wall: expected a time such as 2s, got 'soon'"),
        (["--memory", "1M"], "--memory: 1048576 is out of range: "),
        (["--memory", "64MB"], "--memory: '64MB' has no known unit; 'mb' means two things"),
        (["--threads", "many"], "--threads: expected a whole number, got 'many'"),
        (["--env", "A"], "--env: expected NAME=VALUE, got 'A'"),
        (["--env", "=b"], "--env: the name of a variable is not empty"),
        (["--env", "A=1", "--env", "A=2"], "--env: already granted with another value"),
        (["--package", "numpy>=1"], "--package: 'numpy>=1' is not the name of a distribution"),
        (["--read="], "--read: the path is empty"),
        (["--read", "nosuch"], "--read: nosuch: No such file or directory"),
        (
            ["--write", "nosuch"],
            "--write: nosuch: No such file or directory; to let it create a file, "
            "grant its directory",
        ),
        (["--read", "a\0b"], "--read: a\0b: "),
        (["--read", "/"], "--read: / is the whole machine"),
        (["--read", "/proc/self"], "--read: '/proc/self' cannot be granted: it reaches into other"),
        (
            ["--read", "/etc"],
            "--read: '/etc' is reserved inside: it is made up, so that it tells nothing about "
            "the host; show it elsewhere: --read /etc:/data",
        ),
        (["--read", "/etc:/usr/x"], "--read: '/usr/x' is reserved inside"),
        (["--read", "/srv:/d", "--read", "/var:/d"], "--read: /d inside already shows /srv"),
        (["--policy", "nosuch.toml"], "nosuch.toml: cannot read the policy file: No such file"),
        (["--policy", "baseline:x"], "--policy: no baseline is called 'x'"),
    ],
)
def test_mistakes_name_the_flag(flags: list[str], message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        policy_of(*flags)
    assert str(caught.value).startswith(message)
