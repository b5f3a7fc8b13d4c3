"""Every guarantee, the mechanisms that can hold it, and what to do where none can.

The table is the support matrix as data; ``judge`` reads it for one policy and machine.
"""

from __future__ import annotations

from .._record import Record
from .steps import Held
from .support import MINIMUM_MOUNT_KERNEL, NAMESPACE_KINDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..policy import Policy
    from .support import Support

SYSTEM_INFO_NEEDED = (
    "grant system_info: without namespaces Landlock, seccomp and rlimits hold every guarantee "
    "except the hiding of names and metadata"
)


class Mechanism(Record):
    """One way to hold a guarantee: its name, and the support it needs."""

    name: str
    present: Callable[[Support], bool]
    remedy: str = ""
    applied: Callable[[Policy], bool] = lambda policy: True  # what a grant does not switch off


class Guarantee(Record):
    """A promise, the feature ids it stands for, its mechanisms, and how to live without it.

    One mechanism that is present holds the promise; all of them are applied, unless the
    policy takes the promise away.
    """

    name: str
    promise: str
    rows: tuple[str, ...]
    mechanisms: tuple[Mechanism, ...]
    given_up_by: Callable[[Policy], bool] = lambda policy: False
    give_up_remedy: str = ""
    taken_away_by: Callable[[Policy], bool] = lambda policy: False


def _isolated(support: Support) -> bool:
    return support.isolated


def _one_process(policy: Policy) -> bool:
    return policy.limits.processes == 0


def _several(policy: Policy) -> bool:
    return policy.limits.processes > 0


def _seccomp(support: Support) -> bool:
    return support.seccomp


def _always(support: Support) -> bool:
    return True


NAMESPACES_REMEDY = "allow user namespaces for this user (see the how-to on restricted machines)"
LANDLOCK_REMEDY = (
    "boot a kernel with Landlock: 5.13 or newer (6.2 where there are no namespaces), "
    "with landlock in its lsm= list"
)
SECCOMP_REMEDY = (
    "use a kernel with CONFIG_SECCOMP_FILTER, and no sandbox around that refuses filters"
)

CGROUP_REMEDY = (
    "use a delegated cgroup v2 group: start the program with "
    "systemd-run --user --scope -p Delegate=yes"
)

SECCOMP = "seccomp filter"
ROOT = Mechanism("canonical root in a mount namespace", _isolated, NAMESPACES_REMEDY)
# Alone it must also refuse truncation, which it learnt with ABI 3.
LANDLOCK = Mechanism(
    "Landlock ruleset", lambda s: s.landlock_abi >= (1 if s.isolated else 3), LANDLOCK_REMEDY
)
FILTER = Mechanism(SECCOMP, _seccomp, SECCOMP_REMEDY)
COUNTED_TASKS = Mechanism(
    "cgroup pids.max", lambda s: bool(s.cgroup) and "pids" in s.controllers, CGROUP_REMEDY
)
HOST_CLOCK = Mechanism("host's clock and pidfd kill", _always)

GUARANTEES: tuple[Guarantee, ...] = (
    Guarantee(
        "filter",
        "only listed system calls reach the kernel",
        ("K1", "C9"),
        (FILTER,),
    ),
    Guarantee(
        "files",
        "no file outside the grants is read, written, made or listed",
        ("R3", "R4", "R5"),
        (ROOT, LANDLOCK),
    ),
    Guarantee(
        "names",
        "no path, host name, user, address or process of the host is in sight",
        ("R8", "R9"),
        (Mechanism("user, mount, pid, net, ipc and uts namespaces", _isolated, NAMESPACES_REMEDY),),
        lambda policy: policy.system_info,
        SYSTEM_INFO_NEEDED,
    ),
    Guarantee(
        "network",
        "no network, no socket that reaches anybody",
        ("R10", "R11"),
        (
            FILTER,
            Mechanism("empty network namespace", _isolated, NAMESPACES_REMEDY),
            Mechanism("Landlock network rules", lambda s: s.landlock_abi >= 4, LANDLOCK_REMEDY),
        ),
    ),
    Guarantee(
        "processes",
        "no process is made and no program executed but those that are granted",
        ("R2", "C9"),
        (
            Mechanism(SECCOMP, _seccomp, SECCOMP_REMEDY, _one_process),
            Mechanism("RLIMIT_NPROC", lambda s: s.counts_threads, NAMESPACES_REMEDY),
            COUNTED_TASKS,
            Mechanism(
                "canonical root with just these programs", _isolated, NAMESPACES_REMEDY, _several
            ),
            Mechanism(
                "Landlock execute rules", lambda s: s.landlock_abi >= 1, LANDLOCK_REMEDY, _several
            ),
        ),
    ),
    Guarantee(
        "native code",
        "no executable memory is made from data",
        ("C9",),
        (FILTER, Mechanism("noexec mounts", _isolated, NAMESPACES_REMEDY)),
        taken_away_by=lambda policy: policy.jit,
    ),
    Guarantee(
        "C modules",
        "no C extension module is read or mapped that the whitelist does not allow",
        ("C3", "C4"),
        (
            ROOT,
            Mechanism("noexec standard library", _isolated, NAMESPACES_REMEDY),
            LANDLOCK,
        ),
    ),
    Guarantee(
        "others",
        "no other process is seen, signalled, traced or reached by IPC",
        ("K9", "R6"),
        (
            FILTER,
            Mechanism("pid and ipc namespaces", _isolated, NAMESPACES_REMEDY),
            Mechanism("Landlock scopes", lambda s: s.landlock_abi >= 6, LANDLOCK_REMEDY),
        ),
    ),
    Guarantee(
        "privileges",
        "no privilege is held or can be gained",
        ("M10", "M12"),
        (
            Mechanism("no_new_privs", _always),
            Mechanism("empty capability sets", _always),
            Mechanism("user namespace of its own", _isolated, NAMESPACES_REMEDY),
        ),
    ),
    Guarantee(
        "memory",
        "heap, maps, stacks and files in memory stay within memory_bytes and work_bytes",
        ("R1",),
        (
            Mechanism("RLIMIT_AS", _always),
            Mechanism("sized tmpfs", _isolated, NAMESPACES_REMEDY),
            # RLIMIT_AS is of each process; where there is a group, the kernel adds them up.
            Mechanism("host's watch over all processes", lambda s: not s.cgroup, "", _several),
            Mechanism("cgroup memory.max", lambda s: bool(s.cgroup), CGROUP_REMEDY),
        ),
    ),
    Guarantee(
        "threads",
        "no more threads than granted",
        ("R2",),
        (
            Mechanism(
                "RLIMIT_NPROC in a user namespace of its own",
                lambda s: s.counts_threads,
                NAMESPACES_REMEDY,
            ),
            FILTER,
        ),
    ),
    Guarantee(
        "cpu",
        "CPU time ends at cpu_s",
        ("R2",),
        (
            HOST_CLOCK,
            Mechanism("RLIMIT_CPU", _always),
            Mechanism("cgroup cpu.stat", lambda s: bool(s.cgroup), CGROUP_REMEDY),
        ),
    ),
    Guarantee("wall", "wall time ends at wall_s", ("R2", "K1"), (HOST_CLOCK,)),
    Guarantee(
        "output",
        "no more output than output_bytes is kept, and the guest is ended",
        ("R2", "R13"),
        (Mechanism("pipes read and counted by the host", _always),),
    ),
    Guarantee(
        "descriptors",
        "no descriptor of the host's is inside; open_files and file_bytes hold",
        ("R2", "R6", "K3"),
        (
            Mechanism("executed afresh, all descriptors closed", _always),
            Mechanism("RLIMIT_NOFILE and RLIMIT_FSIZE", _always),
        ),
    ),
    Guarantee(
        "end",
        "nothing outlives the host or the zygote",
        ("K10", "M2"),
        (
            Mechanism("parent-death signals and closed sockets", _always),
            Mechanism("end of the PID namespace", _isolated, NAMESPACES_REMEDY),
        ),
    ),
)


def judge(
    policy: Policy, support: Support, hides_modules: bool = False
) -> tuple[tuple[Held, ...], tuple[str, ...], tuple[str, ...]]:
    """Which guarantees hold here and by what, what nothing holds, and the remedies.

    ``hides_modules``: single C modules of granted distributions are to be kept away.
    """
    held: list[Held] = []
    missing: list[str] = []
    remedy: list[str] = []
    for guarantee in GUARANTEES:
        mechanisms = [m for m in guarantee.mechanisms if m.applied(policy)]
        present = tuple(m.name for m in mechanisms if m.present(support))
        lacking = [m for m in mechanisms if m.remedy and not m.present(support)]
        taken_away = guarantee.taken_away_by(policy)
        if taken_away:
            present = ()
        lost = not present
        if lost and not taken_away and not guarantee.given_up_by(policy):
            names = " or ".join(m.name for m in lacking)
            missing.append(f"{guarantee.name}: {guarantee.promise} (needs {names})")
            wanted = [m.remedy for m in lacking] + [guarantee.give_up_remedy]
            remedy.extend(line for line in wanted if line and line not in remedy)
        held.append(
            Held(
                name=guarantee.name,
                promise=guarantee.promise,
                rows=guarantee.rows,
                mechanisms=present,
                lacking=tuple(m.name for m in lacking),
                lost=lost,
            )
        )
    for wish in _cannot_be_had(policy, support, hides_modules):
        missing.append(wish[0])
        remedy.extend(line for line in wish[1:] if line not in remedy)
    if not support.isolated and missing:
        remedy.extend(explain_namespaces(support))
    return tuple(held), tuple(missing), tuple(remedy)


def _cannot_be_had(policy: Policy, support: Support, hides_modules: bool) -> list[tuple[str, ...]]:
    """What the policy grants and this machine cannot give without breaking a promise.

    Each as what is missing, then the remedies.
    """
    wishes: list[tuple[str, ...]] = []
    if policy.limits.processes and not support.counts_threads:
        wishes.append(
            (
                "processes: nothing counts the processes of one guest here",
                f"leave processes at 0, or {NAMESPACES_REMEDY}",
            )
        )
    if support.isolated:
        return wishes
    if policy.write:
        # Any file that can be mapped can be mapped as code, and no system call filter sees
        # which file it is; only a noexec mount refuses that.
        wishes.append(
            (
                "native code: what the guest writes could be mapped as code (needs noexec mounts)",
                NAMESPACES_REMEDY,
                "drop the write grants",
            )
        )
    if hides_modules:
        # Landlock opens whole trees: it cannot take one file out of a package.
        wishes.append(
            (
                f"C modules: those of a package cannot be hidden one by one (needs {ROOT.name})",
                NAMESPACES_REMEDY,
                "block the whole package instead",
            )
        )
    for grant in (*policy.read, *policy.write):
        if grant.inside != grant.host:
            wishes.append(
                (
                    f"files: {grant.host} cannot be shown as {grant.inside} (needs {ROOT.name})",
                    NAMESPACES_REMEDY,
                    "grant each path under its own name",
                )
            )
    return wishes


def explain_namespaces(support: Support) -> list[str]:
    """Why namespaces are not to be had here, a line for each cause found."""
    lines: list[str] = []
    if "user" not in support.namespaces and support.reason("user"):
        return [f"user namespace: {support.reason('user')}"]  # the others hang on this one
    if support.kernel < MINIMUM_MOUNT_KERNEL:
        version = ".".join(map(str, MINIMUM_MOUNT_KERNEL))
        lines.append(f"use Linux {version} or newer, which has mount_setattr")
    elif support.reason("mounts"):
        lines.append(f"mounts: {support.reason('mounts')}")
    for kind in NAMESPACE_KINDS:
        reason = support.reason(kind)
        if kind not in support.namespaces and reason:
            lines.append(f"{kind} namespace: {reason}")
    return lines
