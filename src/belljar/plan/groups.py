"""The cgroup of a guest: how much its processes may make the kernel hold, all together.

What: ``GroupLimits``, made of the policy's limits.  Because: ``memory.max`` counts more than
RLIMIT_AS does (files in memory, page cache, kernel memory) and other things less (address
space that was never touched), so the same number cannot serve for both.  Then: RLIMIT_AS is
met first by code that only allocates, and gives it a ``MemoryError``; the group is the wall
behind it, for what no process limit counts, and its end is a kill.
"""

from __future__ import annotations

from .._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..policy import Limits
    from .support import Support

MIB = 2**20
# What a guest costs that is neither its data nor its files: pages of the interpreter that it
# copies by counting references (some 10 MiB), page tables (1 in 512 of what is mapped), 16 KiB of
# kernel stack for each thread, and what lies in pipes and sockets (open_files times at most
# 208 KiB, 13 MiB by default).
OWN_BYTES = 32 * MIB
FILE_BYTES = 2048  # an inode and a name in memory for each file in /work: 1.1 KiB on 6.12
PREFERRED = ("memory", "pids")


class GroupLimits(Record):
    """A group to be made for each guest.

    ``base`` is the delegated directory, ``memory_bytes`` goes to ``memory.max``, ``tasks`` to
    ``pids.max``, ``cpu_share`` (processors' worth of time, None for no bound) to ``cpu.max``.
    """

    base: str
    memory_bytes: int
    tasks: int
    cpu_share: float | None = None


def make_group(limits: Limits, support: Support) -> GroupLimits | None:
    """The group of each guest on this machine, or None where none can be had."""
    if not support.cgroup:
        return None
    files = limits.work_bytes + limits.work_files * FILE_BYTES if support.isolated else 0
    return GroupLimits(
        base=support.cgroup,
        memory_bytes=limits.memory_bytes + files + OWN_BYTES,
        tasks=limits.threads + 1 + limits.processes,
    )
