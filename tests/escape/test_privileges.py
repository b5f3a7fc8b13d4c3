"""M3, M10, M12, K9: no privilege is held or can be gained, and the policy stays as it is.

What: the calls of somebody who has, or wants, power over the machine or over the own
confinement.  Because: what is irreversible for the guest is the ground that every other wall
stands on.  Then: each is refused, and the kernel's own account of the guest, read by the
host, shows a process that is nobody.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from belljar import Policy

from .conftest import Wall
from .native import outcome, outside
from .watch import descendants

CALLS = """
import struct
T = buffer(4096)
{
    "setuid": call("setuid", 0), "setgid": call("setgid", 0),
    "setresuid": call("setresuid", 0, 0, 0), "setresgid": call("setresgid", 0, 0, 0),
    "setreuid": call("setreuid", 0, 0), "setfsuid": call("setfsuid", 0),
    "setgroups": call("setgroups", 0, None),
    "capset": call("capset", struct.pack("Ii", 0x20080522, 0), bytes([255] * 24)),
    "ambient": call("prctl", 47, 2, 21, 0, 0), "keep": call("prctl", 8, 1, 0, 0, 0),
    "secure bits": call("prctl", 28, 0, 0, 0, 0),
    "new user": call("unshare", 0x10000000), "new mounts": call("unshare", 0x20000),
    "new pid": call("unshare", 0x20000000), "new net": call("unshare", 0x40000000),
    "new ipc": call("unshare", 0x8000000), "new names": call("unshare", 0x4000000),
    "new cgroup": call("unshare", 0x2000000), "own files": call("unshare", 0x400),
    "own files by closing": call("close_range", 1000, 1001, 2),
    "enter": call("setns", 0, 0),
    "chroot": call("chroot", b"/work"), "pivot": call("pivot_root", b".", b"."),
    "mount": call("mount", b"none", b"/work", b"tmpfs", 0, None),
    "remount": call("mount", b"none", b"/usr", None, 32 | 4096, None),
    "bind": call("mount", b"/usr", b"/work", None, 4096, None),
    "unmount": call("umount2", b"/work", 2),
    "tree": call("open_tree", AT, b"/", 1), "move": call("move_mount", AT, b"/work", AT, b"/tmp", 0),
    "file system": call("fsopen", b"proc", 0), "attributes": call("mount_setattr", AT, b"/", 0, T, 32),
    "mounts of the machine": call("listmount", T, T, 8, 0),
    "host name": call("sethostname", b"x", 1), "domain": call("setdomainname", b"x", 1),
    "clock": call("settimeofday", T, None), "clock too": call("clock_settime", 0, T),
    "tick": call("adjtimex", T), "tick too": call("clock_adjtime", 0, T),
    "restart": call("reboot", 0, 0, 0, None), "module": call("init_module", T, 8, b""),
    "module file": call("finit_module", 0, b"", 0), "unload": call("delete_module", b"x", 0),
    "another kernel": call("kexec_load", 0, 0, None, 0),
    "swap": call("swapon", b"/work", 0), "no swap": call("swapoff", b"/work"),
    "quota": call("quotactl", 0, None, 0, None), "accounting": call("acct", None),
    "log": call("syslog", 3, T, 4096), "ports": call("iopl", 3), "port": call("ioperm", 0, 1, 1),
    "hang up": call("vhangup"),
    "bpf": call("bpf", 0, T, 128), "perf": call("perf_event_open", T, 0, -1, -1, 0),
    "keys": call("add_key", b"user", b"a", b"b", 1, -2), "ring": call("keyctl", 0, -3, 0),
    "ask": call("request_key", b"user", b"a", None, 0),
    "io_uring": call("io_uring_setup", 1, T), "aio": call("io_setup", 1, T),
    "faults": call("userfaultfd", 0), "fanotify": call("fanotify_init", 0, 0),
    "lsm": call("lsm_set_self_attr", 100, T, 16, 0),
    "filter": call("seccomp", 1, 0, T), "strict": call("prctl", 22, 1, 0, 0, 0),
    "privileges again": call("prctl", 38, 0, 0, 0, 0),
    "dumpable": call("prctl", 4, 1, 0, 0, 0), "traceable": call("prctl", 0x59616D61, -1, 0, 0, 0),
    "orphans": call("prctl", 36, 1, 0, 0, 0), "no death signal": call("prctl", 1, 0, 0, 0, 0),
    "timing": call("prctl", 26, 1, 0, 0, 0), "speculation": call("prctl", 53, 0, 0, 0, 0),
    "scheduling core": call("prctl", 62, 1, 0, 0, 0), "no THP": call("prctl", 41, 1, 0, 0, 0),
    "memory map": call("prctl", 35, 1, 0, 0, 0), "subreaper of I/O": call("prctl", 57, 1, 0, 0, 0),
    "guard": call("arch_prctl", 0x1002, 0x1000), "persona": call("personality", 0x40000),
    "real time": call("sched_setscheduler", 0, 1, struct.pack("i", 1)),
    "deadline": call("sched_setattr", 0, T, 0), "one core": call("sched_setaffinity", 0, 8, T),
    "idle I/O": call("ioprio_set", 1, 0, 0), "more urgent": call("setpriority", 0, 0, -1),
    "limit": call("setrlimit", 7, struct.pack("QQ", 4096, 4096)),
    "limit too": call("prlimit64", 0, 7, struct.pack("QQ", 64, 64), None),
    "lock": call("mlock", T, 4096), "lock all": call("mlockall", 1),
    "placement": call("mbind", T, 4096, 0, None, 0, 0), "seal": call("mseal", T, 0, 0),
    "Landlock": call("landlock_create_ruleset", None, 0, 1),
    "handle": call("open_by_handle_at", AT, T, 0), "name of handle": call("name_to_handle_at", AT, b"/", T, T, 0),
    "old": call("_sysctl", T), "server": call("nfsservctl", 0, T, T), "unknown": -1,
}
"""


@pytest.mark.parametrize("call_wall", ["all", "no root"], indirect=True)
def test_M10_the_filter_refuses_every_call_of_power(call_wall: Wall) -> None:
    found = outcome(CALLS, call_wall.policy)
    found.pop("unknown")
    assert {name: got for name, got in found.items() if got not in ("EPERM", "ENOSYS")} == {}


def test_M10_unknown_and_foreign_calls_are_absent() -> None:
    code = """
[_syscall(_ctypes.c_long(n)) and _errno.errorcode[_ctypes.get_errno()]
 for n in (600, 4095, 100_000, 0x3FFF_FFFF)]
"""
    assert set(outcome(code)) == {"ENOSYS"}


def test_M10_the_other_x86_interface_ends_the_guest() -> None:
    """x32 numbers have a bit set; a filter that compares numbers only would let them through."""
    from belljar.kernel.libc import MACHINE

    if MACHINE != "x86_64":
        pytest.skip("x32 belongs to x86_64")
    from .native import attack

    result = attack("_syscall(_ctypes.c_long(0x40000000 + 39))")
    assert (result.status, result.signal) == ("crashed", 31)


@pytest.mark.parametrize("call_wall", ["no filter"], indirect=True)
def test_M10_without_the_filter_there_is_still_no_power(call_wall: Wall) -> None:
    """No capability, no way to one, in a user namespace that owns nothing of the host's."""
    code = """
T = buffer(4096)
{
    "setuid": call("setuid", 0), "setgid": call("setgid", 0), "setgroups": call("setgroups", 0, None),
    "capset": call("capset", b"\\x22\\x05\\x08\\x20\\0\\0\\0\\0", bytes([255] * 24)),
    "mount": call("mount", b"none", b"/work", b"tmpfs", 0, None),
    "remount": call("mount", b"none", b"/usr", None, 32 | 4096, None),
    "unmount": call("umount2", b"/work", 2), "chroot": call("chroot", b"/work"),
    "new mounts": call("unshare", 0x20000), "new net": call("unshare", 0x40000000),
    "host name": call("sethostname", b"x", 1), "clock": call("settimeofday", bytes(16), None),
    "module": call("init_module", T, 8, b""), "restart": call("reboot", 0, 0, 0, None),
    "swap": call("swapon", b"/work", 0), "log": call("syslog", 3, T, 4096),
    "ports": call("iopl", 3), "raw socket": call("socket", 2, 3, 1), "packet": call("socket", 17, 3, 0),
    "device": call("mknodat", AT, b"/work/d", 0o020666, 0x0103),
    "handle": call("open_by_handle_at", AT, T, 0), "accounting": call("acct", None),
    "more urgent": call("setpriority", 0, 0, -5),
    "limit": call("setrlimit", 7, (1 << 16).to_bytes(8, "little") * 2),
}
"""
    found = outcome(code)
    assert {n: g for n, g in found.items() if not isinstance(g, str)} == {}


STATUS = """
lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
{name: lines[name].split() for name in (
    "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs",
    "Seccomp", "TracerPid", "Pid", "PPid")}
"""


def test_M12_the_guest_is_nobody() -> None:
    found = outcome(STATUS)
    assert found["Uid"] == ["1000"] * 4
    assert found["Gid"] == ["1000"] * 4
    assert found["Groups"] == []
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(found[name][0], 16) == 0, name
    assert (found["NoNewPrivs"], found["Seccomp"]) == (["1"], ["2"])
    assert (found["Pid"], found["PPid"]) == (["2"], ["0"])


def test_M12_the_host_sees_an_ordinary_user_in_namespaces_of_its_own() -> None:
    """Read by the host while the guest runs: what it says of itself would be a claim."""
    seen: dict[str, object] = {}

    def look(stream: str, data: bytes) -> None:
        (guest,) = [p for p in descendants() if p.name == "python3"]
        status = Path(f"/proc/{guest.pid}/status").read_text()
        lines = dict(line.split(":", 1) for line in status.splitlines())
        seen["uid"] = lines["Uid"].split()
        seen["capabilities"] = int(lines["CapEff"], 16) | int(lines["CapBnd"], 16)
        for kind in ("user", "mnt", "pid", "net", "ipc", "uts"):
            ours = os.readlink(f"/proc/self/ns/{kind}")
            seen[kind] = os.readlink(f"/proc/{guest.pid}/ns/{kind}") != ours

    outcome("print('here', flush=True)\nimport time; time.sleep(0.3)", on_output=look)
    assert "0" not in seen["uid"]  # type: ignore[operator]
    assert seen["capabilities"] == 0
    assert all(seen[kind] for kind in ("user", "mnt", "pid", "net", "ipc", "uts"))


def test_M12_a_plain_process_is_not_confined() -> None:
    """The probes of this file can tell: outside, the kernel answers otherwise."""
    found = outside(
        "[open('/proc/self/status').read().count('Seccomp:\\t2'), call('personality', -1)]"
    )
    assert found[1] == 0
    code = "[call('prctl', 39, 0, 0, 0, 0), call('prctl', 21, 0, 0, 0, 0)]"
    assert outcome(code) == [1, 2]


FOR_EVER = """
import resource
before = [resource.getrlimit(getattr(resource, n)) for n in NAMES]
raised = {}
for name in NAMES:
    soft, hard = resource.getrlimit(getattr(resource, name))
    for value in ((hard + 1, hard + 1), (-1, -1), (soft, -1)):
        raised[f"{name} {value}"] = attempt(resource.setrlimit, getattr(resource, name), value)
after = [resource.getrlimit(getattr(resource, n)) for n in NAMES]
(before == after, [soft == hard for soft, hard in before], raised)
"""


def test_M3_limits_are_hard_and_stay(call_wall: Wall) -> None:
    names = [f"RLIMIT_{name}" for name in ("AS", "CORE", "CPU", "FSIZE", "MEMLOCK", "NOFILE")]
    same, hard, raised = outcome(FOR_EVER, call_wall.policy, inputs={"NAMES": names})
    assert same is True
    assert all(hard)
    assert all(isinstance(got, str) for got in raised.values())


def test_M3_python_state_of_the_agent_is_no_wall() -> None:
    """The guest tears apart everything it shares its process with, and is confined as before."""
    code = """
import gc, sys
frame = sys._getframe()
while frame:
    if "/belljar/" in frame.f_code.co_filename:
        frame.f_globals.clear()
    frame = frame.f_back
vars(__builtins__)["__sandboxed__"] = False
got = [call("openat", AT, b"/etc", 0, 0), call("socket", 2, 1, 0), call("fork"),
       call("mmap", 0, 4096, 7, 0x22, -1, 0), call("unshare", 0x10000000)]
import os
os.write(1, repr(got).encode())
"""
    from .native import attack

    result = attack(code, Policy())
    found = eval(result.stdout)
    assert len(found) == 5
    assert all(isinstance(got, str) for got in found)
    assert result.status in ("ok", "raised", "exited", "crashed")
