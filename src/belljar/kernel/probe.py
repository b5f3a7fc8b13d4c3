"""Asking this machine what it can enforce.  Changes nothing, leaves nothing behind.

``probe_quick`` asks only what costs microseconds; ``probe_support`` also tries, in a child
that exits at once, to make each kind of namespace and to mount a proc file system.
"""

from __future__ import annotations

import errno
import os

from ..errors import SHORTAGES, SetupFailed
from ..plan.support import MINIMUM_MOUNT_KERNEL, NAMESPACE_KINDS, UNPRIVILEGED_ID, Support
from ..wire.control import Unpacker
from . import caps, landlock, mounts, namespaces, process, seccomp
from .libc import MACHINE, check_machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_ANSWER_BYTES = 4096
_SHORT = "short: "  # of processes, memory, descriptors: no answer about the machine
_CAP_SYS_ADMIN = 1 << 21


def probe_quick() -> Support:
    """Everything but the namespaces, which are left empty."""
    check_machine()
    major, minor = map(int, _release())
    cgroup, controllers, _ = _find_cgroup() if _may_make_groups() else ("", frozenset[str](), "")
    return Support(
        machine=MACHINE,
        kernel=(major, minor),
        uid=os.geteuid(),
        gid=os.getegid(),
        landlock_abi=landlock.probe_abi(),
        seccomp=seccomp.action_available(seccomp.RET_KILL_PROCESS),
        namespaces=frozenset(),
        mounts=False,
        proc=False,
        mounts_as_root=bool(_capabilities() & _CAP_SYS_ADMIN),
        cgroup=cgroup,
        controllers=controllers,
    )


def probe_support() -> Support:
    """The whole of it, with a reason for each kind of namespace that is missing.

    Forks once for all and once for each missing kind; some milliseconds.  A process with
    threads is not forked (a lock that another thread holds would be held for ever): there
    a fresh Python does it, which takes as long as Python takes to start.
    """
    support = probe_quick()
    _, _, no_group = _find_cgroup()
    found = explore() if _alone() else _explore_afresh()
    return support.replace(
        namespaces=frozenset(found["namespaces"]),
        mounts=found["mounts"] and support.kernel >= MINIMUM_MOUNT_KERNEL,
        proc=found["proc"],
        container=_container(),
        why=(
            *((mechanism, why) for mechanism, why in found["why"]),
            *((("cgroup", no_group),) if no_group else ()),
        ),
    )


def explore() -> dict[str, Any]:
    """Which namespaces can be made here, and mounts in them, by trying.  Forks."""
    kinds = list(NAMESPACE_KINDS)
    why: list[list[str]] = []
    possible: list[str] = []
    if _try_namespaces(kinds) == "":
        possible.extend(kinds)
    else:
        for kind in kinds:
            trouble = _try_namespaces(["user"] if kind == "user" else ["user", kind])
            if trouble:
                why.append([kind, trouble + _restriction(kind, trouble)])
            else:
                possible.append(kind)
    has_mounts = proc = False
    if {"user", "mount", "pid"} <= {*possible}:
        answer = _in_namespaces(["user", "mount", "pid"], _try_mounts)
        has_mounts = answer in ("", "proc")
        proc = answer == ""
        if not has_mounts:
            why.append(["mounts", answer])
        elif not proc:
            why.append(["proc", "the kernel lends no new proc where parts of /proc are masked"])
    return {"namespaces": possible, "mounts": has_mounts, "proc": proc, "why": why}


def _explore_afresh() -> dict[str, Any]:
    """The same from a fresh Python, which has one thread."""
    python, argv = process.fresh_python(
        "import os; from belljar.kernel.probe import explore; "
        "from belljar.wire.control import pack; os.write(1, pack('explored', **explore()))"
    )
    reader, writer = os.pipe()
    try:
        actions: list[Any] = [(os.POSIX_SPAWN_DUP2, writer, 1)]
        pid = os.posix_spawn(python, argv, {}, file_actions=actions)
    except OSError as error:
        os.close(reader)
        why = [["user", _no_process(error)]]
        return {"namespaces": [], "mounts": False, "proc": False, "why": why}
    finally:
        os.close(writer)
    answer = _read_all(reader)
    _reap(pid)
    for _, fields in Unpacker().feed(answer):
        return fields
    raise SetupFailed("probe", f"{python} ended without an answer", retryable=True)


def _capabilities() -> int:
    """The effective ones; none where a filter around this process refuses to tell."""
    try:
        return caps.held()
    except OSError:
        return 0


def _alone() -> bool:
    """Whether this process is known to have one thread."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        return False


def _release() -> list[str]:
    """Major and minor version, as ``6.18`` or ``6.1-rc3`` begin."""
    found: list[str] = []
    for part in (*os.uname().release.split("."), "", "")[:2]:
        digits = len(part) - len(part.lstrip("0123456789"))
        found.append(part[:digits] or "0")
    return found


def _try_namespaces(kinds: Sequence[str]) -> str:
    """Nothing if a new user namespace can have these, else the kernel's answer."""
    return _in_namespaces(kinds, lambda: "")


def _in_namespaces(kinds: Sequence[str], act: Callable[[], str]) -> str:
    """What ``act`` says in a child that is in new namespaces, or why it could not get there."""
    reader, writer = os.pipe()
    try:
        pid = process.raw_clone(namespaces.SIGCHLD)
    except OSError as error:
        os.close(reader)
        os.close(writer)
        return _no_process(error)
    if pid == 0:
        answer = "the probe failed"
        try:
            if os.geteuid() == 0:
                process.become(UNPRIVILEGED_ID, UNPRIVILEGED_ID)  # as the launcher will
            uid, gid = os.geteuid(), os.getegid()
            namespaces.unshare(list(kinds))
            own = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)
            namespaces.map_identity(0, 0, uid, gid, own)
            # A PID namespace holds its first process only after a fork.
            child = process.raw_clone(namespaces.SIGCHLD)
            if child:
                os.waitpid(child, 0)
                os._exit(0)
            answer = act()
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "error")
            answer = f"{error.filename}: {name}, {error.strerror}"
            # No room for a namespace may be a setting; the rest is a matter of the moment.
            if error.errno in SHORTAGES and error.errno != errno.ENOSPC:
                answer = _SHORT + answer
        finally:
            os.write(writer, b"=" + answer.encode())
            os._exit(0)
    os.close(writer)
    data = _read_all(reader)
    _reap(pid)
    answer = data[1:].decode() if data else "the probe ended without an answer"
    if answer.startswith(_SHORT):
        raise SetupFailed("probe", answer.removeprefix(_SHORT), retryable=True)
    return answer


def _no_process(error: OSError) -> str:
    name = errno.errorcode.get(error.errno or 0, "error")
    return f"no process can be made here, as inside another sandbox: {name}, {error.strerror}"


def _read_all(fd: int) -> bytes:
    data = b""
    while piece := os.read(fd, _ANSWER_BYTES):
        data += piece
    os.close(fd)
    return data


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return  # the application reaps for itself


def _try_mounts() -> str:
    """Make what a canonical root is made of; ``"proc"`` if only that is missing."""
    mounts.make_private()
    tree = mounts.clone_tree("/usr", mounts.RDONLY | mounts.NOSUID | mounts.NODEV)
    os.close(tree)
    root = mounts.new_tmpfs(1 << 16, 16, 0o755, mounts.NOSUID)
    os.close(root)
    try:
        os.close(mounts.new_filesystem(b"proc", {}, mounts.NOSUID))
    except OSError:
        return "proc"
    return ""


def _restriction(kind: str, trouble: str) -> str:
    """The setting that is known to forbid a namespace, as a remedy."""
    if trouble.startswith("setresuid"):
        # A sandbox or a container without root that maps one user only.
        return (
            f"; root here is alone in its user namespace and cannot become user {UNPRIVILEGED_ID}: "
            "run the host program as an ordinary user"
        )
    if trouble.startswith("kill"):
        return (
            "; root here has no CAP_KILL and could not end a guest, which is another user's: "
            "add that capability, or run the host program as an ordinary user"
        )
    for path, bad, remedy in (
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "AppArmor restricts user namespaces: install a profile for this Python with "
            "'userns,' or set kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        (
            "/proc/sys/kernel/unprivileged_userns_clone",
            "0",
            "set kernel.unprivileged_userns_clone=1",
        ),
        ("/proc/sys/user/max_user_namespaces", "0", "raise user.max_user_namespaces"),
    ):
        if _read(path).strip() == bad:
            return f"; {remedy}"
    if "ENOSPC" in trouble:
        setting = f"user.max_{'mnt' if kind == 'mount' else kind}_namespaces"
        return f"; raise {setting}, here and in the user namespaces around"
    if kind == "user" and "EPERM" in trouble and _container():
        return (
            f"; this is a {_container()} container: its seccomp profile must allow unshare, "
            "mount, pivot_root and what else the how-to on Docker names"
        )
    return ""


def _container() -> str:
    """What kind of container this seems to be, or nothing."""
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return "Kubernetes"
    if os.path.exists("/.dockerenv"):
        return "Docker"
    if os.path.exists("/run/.containerenv"):
        return "Podman"
    return _read("/run/systemd/container").strip()


def _may_make_groups() -> bool:
    """Whether a closer look is worth its import: nobody else's group can be had."""
    for line in _read("/proc/self/cgroup").splitlines():
        if line.startswith("0::/"):
            return any(
                os.access(f"/sys/fs/cgroup{kind}{line[3:]}/cgroup.subtree_control", os.W_OK)
                for kind in ("", "/unified")
            )
    return False


def _find_cgroup() -> tuple[str, frozenset[str], str]:
    """Where groups can be made, the controllers there, and if nowhere, why."""
    from .cgroups import find

    found = find()
    return found.path, found.controllers, found.why


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_ANSWER_BYTES)
    except OSError:
        return ""
