"""K1: what settings of systemd units do to belljar is what ``docs/how-to/systemd.md`` says.

What: host programs under the seccomp filters and mounts that the settings make.  Because:
units are hardened by lists that somebody wrote, and each line may take a wall away.  Then:
obstacles are refused with ``UnsupportedError``, all else runs the empty policy.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from belljar.kernel.probe import probe_support

from . import hosts
from .docs import HOW_TO
from .filters import only, rules

TIMEOUT_S = 300  # only a hang takes so long
ORDINARY_ID = 1234
PROGRAM = """
import belljar
def tried(policy):
    try:
        return belljar.run("6 * 7", policy).value
    except belljar.UnsupportedError as error:
        assert error.missing and error.remedy
        return "refused: " + " ".join(error.remedy)
print(tried(belljar.Policy()))
"""
NAMESPACE_FLAGS = "0x7E020000"
# By setting: the filter, in the words of systemd.exec(5).
HARMLESS = {
    "MemoryDenyWriteExecute as a switch": "libc.libc.prctl(65, 1, 0, 0, 0)",
    "MemoryDenyWriteExecute": "put({'mmap': If((Arg(2, width=32) & 6) == 6, REFUSE).else_(ALLOW), "
    "'mprotect': If((Arg(2, width=32) & 4) != 0, REFUSE).else_(ALLOW), "
    "'pkey_mprotect': If((Arg(2, width=32) & 4) != 0, REFUSE).else_(ALLOW)})",
    "LockPersonality": "put({'personality': If(Arg(0, width=32) != 0, REFUSE).else_(ALLOW)})",
    "RestrictAddressFamilies": "put({'socket': Errno(errno.EAFNOSUPPORT)})",
    "RestrictRealtime": "put({n: REFUSE for n in ('sched_setscheduler', 'sched_setattr')})",
    "ProtectClock": "put({n: REFUSE for n in ('clock_settime', 'settimeofday', 'adjtimex')})",
    "RestrictNamespaces but time": "put({'unshare': If((Arg(0, width=32) & 0x80) != 0, REFUSE)"
    ".else_(ALLOW), 'clone3': Errno(errno.ENOSYS)})",
}
OBSTACLES = {
    "RestrictNamespaces": (
        "put({'unshare': REFUSE, 'setns': REFUSE, 'clone3': Errno(errno.ENOSYS), 'clone': "
        f"If((Arg(0, width=32) & {NAMESPACE_FLAGS}) != 0, REFUSE).else_(ALLOW)}})",
        "unshare user: EPERM",
    ),
    "RestrictSUIDSGID": ("put({'openat2': Errno(errno.ENOSYS)})", "openat2: ENOSYS"),
    "ProtectHostname": ("put({'sethostname': REFUSE, 'setdomainname': REFUSE})", "sethostname"),
}
# What mounts of /proc ProtectProc and ProcSubset make, and what covers ProtectKernelTunables.
PROC = {
    "ProtectProc=invisible": "mount -t proc -o hidepid=invisible proc /proc",
    "ProcSubset=pid": "mount -t proc -o subset=pid proc /proc",
    "ProtectKernelTunables": "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys",
}


@pytest.fixture(autouse=True)
def namespaces() -> None:
    if not probe_support().isolated:
        pytest.skip("no namespaces here: " + str(probe_support().why))


def said(prelude: str, *before: str) -> str:
    """What the program says as an ordinary user, or as whoever we are."""
    python, conditions = hosts.python_for(ORDINARY_ID if os.geteuid() == 0 and not before else None)
    if before:
        python = hosts.python_for(ORDINARY_ID)[0]
    done = subprocess.run(
        [*before, python, "-S", "-c", prelude + PROGRAM],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        cwd="/",
        env=hosts.environment(),
        **conditions,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def put(text: str) -> str:
    return rules("{}").replace("put({})", text)


@pytest.mark.parametrize("setting", HARMLESS)
def test_K1_a_setting_that_is_no_obstacle(setting: str) -> None:
    assert setting.split(" ")[0] + "=" in page()
    assert said(put(HARMLESS[setting])) == "42"


@pytest.mark.parametrize("setting", OBSTACLES)
def test_K1_a_setting_that_is_one_is_refused_with_the_reason(setting: str) -> None:
    text, reason = OBSTACLES[setting]
    answer = said(put(text))
    assert answer.startswith("refused")
    assert reason in answer
    assert f"`{setting}=" in table()


@pytest.mark.parametrize("setting", PROC)
def test_K1_other_views_of_proc_are_no_obstacle(setting: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount")
    if missing := [tool for tool in ("unshare", "mount", "setpriv") if not shutil.which(tool)]:
        pytest.skip(f"no {missing[0]}: apt-get install util-linux")
    ids = f"--reuid {ORDINARY_ID} --regid {ORDINARY_ID} --clear-groups"
    script = f'mount --make-rprivate / && {PROC[setting]} && exec setpriv {ids} "$@"'
    assert said("", "unshare", "-m", "sh", "-c", script, "sh") == "42"


def test_K1_system_service_lacks_what_the_page_adds() -> None:
    plain = only(system_calls("@system-service") | system_calls("@default"))
    assert said(plain).startswith("refused")


def test_K1_system_service_with_the_additions_of_the_page() -> None:
    (setting,) = re.findall(r"`SystemCallFilter=(@system-service [^`]+)`", table())
    names: frozenset[str] = system_calls("@default")
    for word in setting.split():
        names |= system_calls(word) if word.startswith("@") else {word}
    assert said(only(names)) == "42"


def system_calls(group: str) -> frozenset[str]:
    """The system calls of one of systemd's groups, those of its groups included."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze: apt-get install systemd")
    listed = subprocess.run(
        ["systemd-analyze", "--no-pager", "syscall-filter", group],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    names: set[str] = set()
    for word in (line.strip() for line in listed.splitlines()[1:]):
        if word.startswith("@"):
            names |= system_calls(word)
        elif word and not word.startswith("#"):
            names.add(word)
    return frozenset(names)


def page() -> str:
    return (HOW_TO / "systemd.md").read_text(encoding="utf-8")


def table() -> str:
    """The settings that take something away, and what to set instead."""
    return "\n".join(line for line in page().splitlines() if line.startswith("|"))
