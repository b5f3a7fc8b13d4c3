"""R5, R9 and the rest on a machine that forbids namespaces, as default Docker does.

What: hosts under a filter that refuses namespaces and mounts, as root and as ordinary users.
Because: there the canonical root is missing and half of the walls with it.  Then: the empty
policy is refused with what is missing and how to get it; with ``system_info`` every guarantee
but the hiding of names holds; and grants that nothing there could bound are refused.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from .hosts import ORDINARY_ID, run_host
from .native import NUMBERS, PRELUDE, REFUSED, landlock_abi

USERS = [pytest.param(None, id="as we are")] + [
    pytest.param(uid, id=str(uid)) for uid in (65534, ORDINARY_ID)
]

HOST = """
import json, sys
import belljar
from belljar import Policy
from belljar.api import machine
machine.explain_refusals = LAYER
outcomes = {}
for name, (code, limits, inputs) in PROGRAMS.items():
    policy = Policy().allow(system_info=True)
    if inputs.get("READ"):
        policy = policy.allow(read=[inputs["READ"]])
    r = belljar.run(PRELUDE + code, policy.limit(**limits), inputs={"NUMBERS": NUMBERS, **inputs})
    outcomes[name] = {
        "status": r.status, "value": r.value, "limit": r.limit and r.limit.name,
        "signal": r.signal, "error": r.error and r.error.traceback, "value_error": r.value_error,
        "denials": [d.grant for d in r.denials], "stdout": r.stdout, "used": r.limit and r.limit.used,
    }
print(json.dumps(outcomes))
"""


@pytest.fixture(scope="session")
def walls() -> None:
    """These tests run on a degraded machine too, where the others are skipped."""


@pytest.fixture(autouse=True)
def landlock() -> None:
    if landlock_abi() < 3:
        pytest.skip("without Landlock (ABI 3) a machine without namespaces is refused whole")


def conditions(uid: int | None) -> dict[str, Any]:
    if uid is not None and os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    return {"uid": uid, "namespaces": False}


def outcomes(
    programs: dict[str, Any], uid: int | None = None, *, layer: bool = False
) -> dict[str, dict[str, Any]]:
    """Each program's outcome.  A program is its code, its limits and its inputs."""
    filled = {
        name: (p, {}, {}) if isinstance(p, str) else (*p, {})[:3] for name, p in programs.items()
    }
    names = {"PROGRAMS": filled, "PRELUDE": PRELUDE, "NUMBERS": NUMBERS, "LAYER": layer}
    done = run_host(HOST, names, **conditions(uid))
    return json.loads(done.stdout)


REFUSAL = """
import belljar
try:
    belljar.run("print('ran')")
except belljar.UnsupportedError as error:
    print(error)
    print("MISSING", *[line.split(":")[0] for line in error.missing])
"""


@pytest.mark.parametrize("uid", USERS)
def test_R9_the_empty_policy_is_refused_and_says_why(uid: int | None) -> None:
    said = run_host(REFUSAL, **conditions(uid)).stdout
    assert said.startswith("this machine cannot enforce the policy; nothing ran")
    assert "MISSING names\n" in said
    assert "grant system_info" in said
    assert "user namespace: unshare user: EPERM" in said
    assert "\nran" not in said


PLAIN = {
    "computes": "import json, decimal, sqlite3, ssl, asyncio\nsum(range(10))",
    "awaits": "import asyncio\nawait asyncio.sleep(0)\n'awaited'",
    "prints": "print('hello')",
    "raises": "1 / 0",
    "exits": "raise SystemExit(3)",
    "crashes": "os.abort()",
}


@pytest.mark.parametrize("uid", USERS)
def test_M1_programs_run_with_system_info(uid: int | None) -> None:
    got = outcomes(PLAIN, uid)
    assert got["computes"]["value"] == 45
    assert got["awaits"]["value"] == "awaited"
    assert got["prints"]["stdout"] == "hello\n"
    assert "ZeroDivisionError" in got["raises"]["error"]
    assert got["exits"]["status"] == "exited"
    assert (got["crashes"]["status"], got["crashes"]["signal"]) == ("crashed", 6)


PROBES = {
    "files": """
paths = ["/etc/passwd", "/etc/hostname", "/proc/self/environ", "/proc/self/mem", "/proc/1/status",
         "/dev/tty", "/dev/shm", "/tmp", "/var/tmp", "/root", "/home", "/", "/sys", SECRET,
         "/proc/self/root" + SECRET, "/tmp/../" + SECRET]
[call("openat", AT, p.encode(), mode, 0o600) for p in paths for mode in (0, 1, 0o101, 0o200000)]
""",
    "changes": """
S = SECRET.encode()
[call("unlinkat", AT, S, 0), call("truncate", S, 0), call("renameat", AT, S, AT, S + b"2"),
 call("fchmodat", AT, S, 0o777), call("utimensat", AT, S, None, 0), call("linkat", AT, S, AT, S + b"2", 0),
 call("setxattr", S, b"user.a", b"1", 1, 0), call("mkdirat", AT, S + b"d", 0o777),
 call("symlinkat", b"/", AT, S + b"l"), call("mknodat", AT, S + b"f", 0o010644, 0),
 call("fchownat", AT, S, 0, 0, 0), call("chroot", b"/tmp")]
""",
    "network": "[call('socket', f, k, 0) for f in (1, 2, 10, 16, 17, 40) for k in (1, 2, 3) if f + k > 2]"
    " + [call(c, call('socket', 1, 1, 0), bytes([1, 0, 0, 88]), 4) for c in ('bind', 'connect')]",
    "processes": """
def made(*a):
    got = call(*a)
    if got == 0:
        call("exit_group", 99)
    return got
[made("fork"), made("vfork") if False else "EPERM", made("clone", 17, 0, 0, 0, 0), made("clone3", bytes(64), 64),
 made("clone", 17 | 0x10000000, 0, 0, 0, 0), call("execve", b"/bin/true", None, None),
 call("execveat", AT, b"/bin/true", None, None, 0), call("unshare", 0x10000000)]
""",
    "native code": """
[call("mmap", 0, 4096, 7, 0x22, -1, 0), call("mmap", 0, 4096, 5, 0x22, -1, 0),
 call("mprotect", call("mmap", 0, 4096, 3, 0x22, -1, 0), 4096, 5), call("memfd_create", b"x", 0)]
""",
    "others": """
found = []
for pid in PIDS:
    found += [call("kill", pid, 0), call("tkill", pid, 0), call("tgkill", pid, pid, 0),
              call("pidfd_open", pid, 0), call("ptrace", 0x4206, pid, 0, 0),
              call("process_vm_readv", pid, None, 0, None, 0, 0), call("setpriority", 0, pid, 19),
              call("sched_setaffinity", pid, 8, bytes(8)), call("prlimit64", pid, 7, None, buffer(16))]
found + [call("kill", 0, 0), call("kill", -1, 0)]
""",
    "privileges": """
[call("setuid", 0), call("setresuid", 0, 0, 0), call("capset", bytes(8), bytes(24)),
 call("mount", b"x", b"/tmp", b"tmpfs", 0, None), call("prctl", 38, 0, 0, 0, 0) and "EPERM",
 call("bpf", 0, None, 0), call("keyctl", 0, -3, 0), call("io_uring_setup", 1, bytes(120)),
 call("setrlimit", 7, bytes(16)), call("sethostname", b"x", 1)]
""",
}


@pytest.mark.parametrize("uid", USERS)
def test_K1_every_wall_but_the_hiding_of_names_holds(uid: int | None, open_dir: Path) -> None:
    secret = open_dir / "secret"
    secret.write_text("canary")
    secret.chmod(0o666)
    before = secret.stat()
    inputs = {"SECRET": str(secret), "PIDS": [os.getpid(), os.getppid()]}
    got = outcomes({name: (code, {}, inputs) for name, code in PROBES.items()}, uid)
    for name in PROBES:
        assert got[name]["status"] == "ok", (name, got[name])
        answers = got[name]["value"]
        assert {answer for answer in answers if answer not in REFUSED | {"EISDIR"}} == set(), name
    after = secret.stat()
    assert secret.read_text() == "canary"
    assert (after.st_mode, after.st_mtime_ns, after.st_nlink) == (
        before.st_mode,
        before.st_mtime_ns,
        1,
    )
    assert sorted(open_dir.iterdir()) == [secret]


LIMITED: dict[str, Any] = {
    "memory": ("x = bytearray(10**9)", {"memory_bytes": 64 * 2**20}),
    "memory by maps": (
        "import mmap\nx = []\nwhile 1: x.append(mmap.mmap(-1, 2**20, flags=mmap.MAP_PRIVATE))",
        {},
    ),
    "cpu": ("while True: pass", {"cpu_s": 0.2}),
    "wall": ("import time; time.sleep(60)", {"wall_s": 0.3}),
    "output": ("while True: print('x' * 1000)", {"output_bytes": 10_000}),
    "open_files": ("x = []\nwhile True: x.append(os.dup(0))", {"open_files": 32}),
    "threads": ("import threading\nthreading.Thread(target=int).start()", {}),
}


@pytest.mark.parametrize("uid", USERS)
def test_R2_limits_hold(uid: int | None) -> None:
    got = outcomes(LIMITED, uid)
    for name in LIMITED:
        assert got[name]["status"] == "limit", (name, got[name])
        assert got[name]["limit"] == name.split()[0], name


@pytest.mark.parametrize("uid", USERS)
def test_R3_a_read_grant_works_and_no_further(uid: int | None, open_dir: Path) -> None:
    granted = open_dir / "granted"
    granted.mkdir()
    granted.chmod(0o755)
    (granted / "data").write_text("contents")
    (granted / "data").chmod(0o644)
    (granted / "link").symlink_to("../beside")
    (open_dir / "beside").write_text("canary")
    (open_dir / "beside").chmod(0o666)
    inputs = {"READ": str(granted), "OTHER": str(open_dir / "beside")}
    code = """
[open(READ + "/data").read(), sorted(os.listdir(READ)),
 call("openat", AT, OTHER.encode(), 0, 0), call("openat", AT, (READ + "/link").encode(), 0, 0),
 call("openat", AT, (READ + "/../beside").encode(), 0, 0), call("openat", AT, (READ + "/data").encode(), 1, 0),
 call("openat", AT, (READ + "/new").encode(), 0o101, 0o644)]
"""
    got = outcomes({"read": (code, {}, inputs)}, uid)["read"]
    assert got["status"] == "ok", got
    assert got["value"][:2] == ["contents", ["data", "link"]]
    assert set(got["value"][2:]) == {"EACCES"}


def test_C9_a_write_grant_is_refused_without_a_noexec_mount(open_dir: Path) -> None:
    code = """
import belljar
policy = belljar.Policy().allow(system_info=True, write=[PLACE])
try:
    belljar.run("print('ran')", policy)
except belljar.UnsupportedError as error:
    print(error)
"""
    said = run_host(code, {"PLACE": str(open_dir)}, **conditions(None)).stdout
    assert "native code" in said
    assert "drop the write grants" in said


def test_X7_denials_are_explained_there_too(open_dir: Path) -> None:
    path = str(open_dir / "secret")
    (open_dir / "secret").write_text("")
    got = outcomes({"read": ("open(SECRET)", {}, {"SECRET": path})}, layer=True)["read"]
    assert got["denials"] == [f'allow(read=["{path}"])']
    assert f"belljar refused read {path}" in got["error"]


HIDDEN = """
canary = [n for n, v in os.environ.items()]
fds = [n for n in range(4, 300) if not isinstance(call("fcntl", n, 1, 0), str)]
import sys
[canary, fds, sys.argv, [p for p in sys.path if "site-packages" in p]]
"""


def test_R6_environment_arguments_and_descriptors_stay_outside_there_too() -> None:
    got = outcomes({"hidden": HIDDEN})["hidden"]
    assert got["value"] == [[], [], ["<code>"], []]


def test_K10_nothing_is_left_there_either() -> None:
    code = """
import belljar, os, time
policy = belljar.Policy().allow(system_info=True)
def state():
    return len(os.listdir("/proc/self/fd")), open(f"/proc/self/task/{os.getpid()}/children").read().split()
belljar.run("1", policy)
first = state()
for code in ("1", "1/0", "import os; os.abort()", "while True: pass", "import os; os._exit(1)") * 8:
    belljar.run(code, policy.limit(cpu_s=0.02))
assert state()[0] == first[0], (first, state())
belljar.close()
print(state()[1])
"""
    assert run_host(code, **conditions(None)).stdout == "[]\n"


def test_K10_a_guest_dies_with_its_host_there_too() -> None:
    from .hosts import start_host
    from .watch import alive, descendants, eventually

    code = """
import belljar
belljar.run("print('inside', flush=True)\\nimport time\\ntime.sleep(3600)",
            belljar.Policy().allow(wall_s=3600, system_info=True),
            on_output=lambda s, d: print("running", flush=True))
"""
    with start_host(code, **conditions(None)) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "running\n"
        family = [p.pid for p in descendants(host.pid)]
        assert len(family) >= 2
        host.kill()
    assert eventually(lambda: not any(alive(pid) for pid in family))
