"""K1: inside other sandboxes of this machine, what is claimed is what attacks find.

What: the survey inside bubblewrap, under what Docker does by default and with the additions of
the how-to, and with rulesets of each Landlock ABI.  Because: belljar runs in containers more
often than on machines of its own.  Then: each is judged as a machine is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import belljar
from belljar.kernel.probe import probe_support

from . import hosts
from .docker import container
from .docs import seccomp_additions
from .judged import Survey, claimed, judge, read

PROGRAM = Path(__file__).with_name("survey.py").read_text()
FUTURE = "from __future__ import annotations"
TIMEOUT_S = 300  # only a hang takes so long
ORDINARY_ID = 1234  # no user of any machine
USERS = [pytest.param(None, id="as we are"), pytest.param(ORDINARY_ID, id="ordinary")]
BWRAP = "--ro-bind / / --unshare-all --dev /dev --proc /proc --tmpfs /var/tmp --die-with-parent"
NO_MORE = "--unshare-user --disable-userns"  # no user namespaces inside


@pytest.fixture(autouse=True)
def namespaces() -> None:
    """Skips where this machine is degraded itself: its own survey is another test."""
    if not probe_support().isolated:
        pytest.skip("no namespaces here: " + str(probe_support().why))


def surveyed(*before: str, user: int | None = None, prelude: str = "") -> Survey:
    """The survey as a program of its own, inside ``before``."""
    python, conditions = hosts.python_for(user, plain=True)
    done = subprocess.run(
        [*before, python, "-S", "-"],
        input=f"{FUTURE}\n{prelude}\n{PROGRAM.replace(FUTURE, '')}",
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        cwd="/",
        env=hosts.environment(),
        **conditions,
    )
    assert done.returncode == 0, done.stderr
    found = read(done.stdout)
    judge(found)
    return found


def bubblewrap(words: str) -> list[str]:
    if shutil.which("bwrap") is None:
        pytest.skip("no bwrap: apt-get install bubblewrap")
    return ["bwrap", *words.split()]


def why_user(found: Survey) -> str:
    return str(found["check"]["machine"]["why"].get("user", ""))


def test_K1_inside_bubblewrap_everything_holds() -> None:
    found = surveyed(*bubblewrap(BWRAP), user=ORDINARY_ID)
    assert found["policy"] == "empty"
    assert claimed(found) == {g["name"] for g in found["check"]["guarantees"]}


def test_K1_inside_bubblewrap_without_user_namespaces() -> None:
    found = surveyed(*bubblewrap(f"{BWRAP} {NO_MORE}"), user=ORDINARY_ID)
    assert found["check"]["machine"]["namespaces"] == []
    assert "max_user_namespaces" in why_user(found)
    assert found["policy"] in ("system_info", None)


@pytest.mark.parametrize(
    ("user", "words"),
    [
        pytest.param(None, "", id="by root"),
        pytest.param(ORDINARY_ID, "--uid 0 --gid 0", id="a root that is an ordinary user"),
    ],
)
def test_K1_a_root_that_is_alone_has_nobody_to_lend(user: int | None, words: str) -> None:
    if user is None and os.geteuid() != 0:
        pytest.skip("needs root")
    found = surveyed(*bubblewrap(f"{BWRAP} {words}"), user=user)
    assert found["uid"] == 0
    assert "alone in its user namespace" in why_user(found)
    assert found["policy"] in ("system_info", None)


@pytest.mark.parametrize("user", USERS)
def test_K1_dockers_defaults_leave_landlock_alone(user: int | None) -> None:
    found = surveyed(user=user, prelude=container())
    assert found["check"]["machine"]["namespaces"] == []
    assert "unshare user: EPERM" in why_user(found)
    assert found["policy"] in ("system_info", None)


@pytest.mark.parametrize("masks", [True, False], ids=["masked proc", "whole proc"])
@pytest.mark.parametrize("user", USERS)
def test_K1_dockers_profile_with_the_additions_of_the_how_to(user: int | None, masks: bool) -> None:
    found = surveyed(user=user, prelude=container(additions=seccomp_additions(), masks=masks))
    assert found["check"]["machine"]["proc"] is not masks
    assert found["policy"] == "empty"


@pytest.mark.parametrize("name", ["", *sorted(seccomp_additions())])
def test_each_addition_is_needed(name: str) -> None:
    additions = seccomp_additions() - {name}
    program = """
import belljar
try:
    belljar.run("1")
    print("ran")
except belljar.BelljarError as error:
    print(type(error).__name__)
"""
    python, conditions = hosts.python_for(None, plain=True)
    done = subprocess.run(
        [python, "-S", "-c", f"{container(additions=additions, masks=False)}\n{program}"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        env={"PYTHONPATH": str(Path(belljar.__file__).parents[1])},
        **conditions,
    )
    # setns is missed only when a guest is started, which a launch does not try.
    wanted = {"": "ran", "setns": "SetupFailed"}.get(name, "UnsupportedError")
    assert (done.stdout, done.stderr) == (f"{wanted}\n", "")


BEFORE = """
BEFORE = '''import belljar.kernel.landlock
belljar.kernel.landlock.probe_abi = lambda: {abi}
'''
exec(BEFORE)
"""
NOT_LONG = {("namespaces", 1), ("no namespaces", 3)}


@pytest.mark.parametrize(
    ("kind", "abi"),
    [
        pytest.param(kind, abi, marks=() if (kind, abi) in NOT_LONG else pytest.mark.long)
        for kind in ("namespaces", "no namespaces")
        for abi in range(7)
    ],
)
def test_K1_each_landlock_abi_is_used_as_far_as_it_goes(kind: str, abi: int) -> None:
    """A newer kernel, told to use no more than an older one has; kernels are tested apart."""
    if probe_support().landlock_abi < abi:
        pytest.skip(f"this kernel has no Landlock of ABI {abi}")
    prelude = "" if kind == "namespaces" else container(masks=False)
    found = surveyed(prelude=prelude + BEFORE.format(abi=abi))
    assert found["check"]["machine"]["landlock_abi"] == abi
    if kind == "namespaces":
        assert found["policy"] == "empty"
    else:
        assert found["policy"] == ("system_info" if abi >= 3 else None)
