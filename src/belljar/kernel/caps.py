"""Capabilities: all of them go, and the bounding set with them.  See capabilities(7)."""

from __future__ import annotations

import errno
import struct

from .libc import buffer, syscall
from .process import PR_CAPBSET_DROP, PR_CAPBSET_READ, prctl

_VERSION_3 = 0x20080522
_CAP_SETPCAP = 8
KILL = 1 << 5  # CAP_KILL: to signal other users' processes
SYS_ADMIN = 1 << 21  # CAP_SYS_ADMIN: in a user namespace that owns nothing, a new view of mounts
_LAST_POSSIBLE = 63  # two 32-bit words hold the sets, so no kernel can have more


def held() -> int:
    """The effective, permitted and inheritable sets of this thread, or-ed together."""
    header = struct.pack("Ii", _VERSION_3, 0)
    data = buffer(24)
    syscall("capget", header, data)
    words: tuple[int, ...] = struct.unpack("6I", data.raw)
    return (words[0] | words[1] | words[2]) | (words[3] | words[4] | words[5]) << 32


def bounded() -> int:
    """The bounding set of this thread: what an exec could give back."""
    found = 0
    for number in range(_LAST_POSSIBLE + 1):
        try:
            found |= prctl(PR_CAPBSET_READ, number) << number
        except OSError:
            break  # the first unknown number: there are no more
    return found


def drop_bounding() -> None:
    """Empty the bounding set: no exec and no set-id file can give a capability back.

    Needs ``CAP_SETPCAP``.  A process without it keeps the set, which bounds nothing once no
    new privileges are set.
    """
    if not held() & 1 << _CAP_SETPCAP:
        return
    for number in range(_LAST_POSSIBLE + 1):
        try:
            prctl(PR_CAPBSET_DROP, number)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            break
    if bounded():
        raise OSError(0, "the bounding set is not empty", "prctl")


def drop_all() -> None:
    """Give up every capability of this thread, ambient ones included, for ever."""
    prctl(47, 4)  # PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL
    syscall("capset", struct.pack("Ii", _VERSION_3, 0), b"\0" * 24)
    if held():
        raise OSError(0, "capabilities are still held", "capset")


def keep_only(capabilities: int) -> None:
    """Give up every capability of this thread but these, which no exec hands on."""
    prctl(47, 4)  # PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL
    low, high = capabilities & 0xFFFF_FFFF, capabilities >> 32
    data = struct.pack("6I", low, low, 0, high, high, 0)
    syscall("capset", struct.pack("Ii", _VERSION_3, 0), data)
    if held() != capabilities:
        raise OSError(0, "other capabilities are held", "capset")
