"""Capabilities: all of them go, and the bounding set with them.  See capabilities(7)."""

from __future__ import annotations

import ctypes
import struct

from .libc import syscall
from .process import PR_CAPBSET_DROP, PR_CAPBSET_READ, prctl

_VERSION_3 = 0x20080522
_LAST_POSSIBLE = 63  # two 32-bit words hold the sets, so no kernel can have more


def held() -> int:
    """The effective, permitted and inheritable sets of this thread, or-ed together."""
    header = struct.pack("Ii", _VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    syscall("capget", header, data)
    words: tuple[int, ...] = struct.unpack("6I", data.raw)
    return (words[0] | words[1] | words[2]) | (words[3] | words[4] | words[5]) << 32


def drop_bounding() -> None:
    """Empty the bounding set: no exec and no set-id file can give a capability back."""
    for number in range(_LAST_POSSIBLE + 1):
        try:
            if prctl(PR_CAPBSET_READ, number) == 1:
                prctl(PR_CAPBSET_DROP, number)
        except OSError:
            break  # the first unknown number: there are no more


def drop_all() -> None:
    """Give up every capability of this thread, ambient ones included, for ever."""
    prctl(47, 4)  # PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL
    syscall("capset", struct.pack("Ii", _VERSION_3, 0), b"\0" * 24)
    if held():
        raise OSError(0, "capabilities are still held", "capset")
