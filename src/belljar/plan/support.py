"""What this kernel, container and user can enforce, as one value.

``kernel.probe`` fills it in; everything that decides takes it as an argument, so every
machine there is can be tried on any other.
"""

from __future__ import annotations

from .._record import Record

NAMESPACE_KINDS = ("user", "mount", "pid", "net", "ipc", "uts", "cgroup", "time")
_OPTIONAL = frozenset(["cgroup", "time"])  # what they hide is little, and kernels may lack them

UNPRIVILEGED_ID = 65534  # whom a host that is root lends to its guests: the overflow user
MINIMUM_MOUNT_KERNEL = (5, 12)  # mount_setattr(2), the recursive read-only bind
MINIMUM_COUNT_KERNEL = (5, 14)  # RLIMIT_NPROC counted per user namespace


class Support(Record):
    """The findings of the probes.

    ``kernel`` is (major, minor).  ``landlock_abi`` is 0 where Landlock is missing or off.
    ``namespaces`` holds the kinds that this user can make; without ``user`` and ``mount``
    none is used.  ``mounts`` is the descriptor interface for mounts; ``proc`` whether a
    new proc file system may be mounted in a user namespace (a container that masks parts
    of ``/proc`` forbids it).  ``mounts_as_root`` matters where ``uid`` is 0: whether that root
    holds ``CAP_SYS_ADMIN``, which a container's often does not.  ``why`` maps a missing mechanism to what the kernel
    answered; ``container`` is a hint for people, never a basis of a decision.  ``cgroup`` is the
    directory of cgroup v2 in which this process may make groups with a memory limit, and
    ``controllers`` what else such groups can limit.
    """

    machine: str
    kernel: tuple[int, int]
    uid: int
    gid: int
    landlock_abi: int
    seccomp: bool
    namespaces: frozenset[str]
    mounts: bool
    proc: bool
    mounts_as_root: bool = True
    cgroup: str = ""
    controllers: frozenset[str] = frozenset()
    container: str = ""
    why: tuple[tuple[str, str], ...] = ()

    @property
    def isolated(self) -> bool:
        """Whether guests get namespaces and a canonical root of their own."""
        return self.mounts and frozenset(NAMESPACE_KINDS) - _OPTIONAL <= self.namespaces

    @property
    def counts_threads(self) -> bool:
        """Whether RLIMIT_NPROC counts one guest alone."""
        return self.isolated and self.kernel >= MINIMUM_COUNT_KERNEL

    def reason(self, mechanism: str) -> str:
        """What the kernel said when a missing mechanism was probed, or nothing."""
        return dict(self.why).get(mechanism, "")


def assume_isolated(support: Support) -> Support:
    """The same machine, taken to allow every namespace.

    The probe of the namespaces costs a process; a run that simply tries learns the same,
    and fails closed.
    """
    return support.replace(
        namespaces=frozenset(NAMESPACE_KINDS),
        mounts=support.kernel >= MINIMUM_MOUNT_KERNEL,
        proc=True,
    )
