"""Resource limits, soft and hard at once so that nothing inside can raise them again.

See getrlimit(2).
"""

from __future__ import annotations

import os
import resource

NUMBERS: dict[str, int] = {
    "as": resource.RLIMIT_AS,
    "core": resource.RLIMIT_CORE,
    "cpu": resource.RLIMIT_CPU,
    "fsize": resource.RLIMIT_FSIZE,
    "memlock": resource.RLIMIT_MEMLOCK,
    "msgqueue": resource.RLIMIT_MSGQUEUE,
    "nice": resource.RLIMIT_NICE,
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
    "rtprio": resource.RLIMIT_RTPRIO,
    "sigpending": resource.RLIMIT_SIGPENDING,
    "stack": resource.RLIMIT_STACK,
}


def set_rlimit(name: str, value: int) -> None:
    """Set one limit, soft and hard, never above the hard limit in force."""
    number = NUMBERS[name]
    hard = resource.getrlimit(number)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(number, (value, value))
    if resource.getrlimit(number) != (value, value):
        raise OSError(0, f"limit {name} did not take effect", "setrlimit")


def address_space_in_use(statm: bytes) -> int:
    """Bytes of address space, from the text of ``/proc/self/statm``."""
    return int(statm.split()[0]) * os.sysconf("SC_PAGESIZE")
