"""Reading another process's memory; process_vm_readv(2).

What: stretches of it are copied into buffers of our own.  Because: it is one copy, made by the
kernel, and nothing is shared afterwards: no descriptor, no page, nothing that the other could
change once it has been looked at, cut off, or keep.  Then: an address is the other's claim,
and a wrong one is an error and not a fault.

The kernel allows it as it allows ptrace(2): to the user that the process runs as, where the
process is dumpable and no security module forbids it (Yama allows it to ancestors).
"""

from __future__ import annotations

import _ctypes
import _thread
import errno
import mmap
import os
import struct

from .libc import address_of, buffer, errno_of_last, libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_STEP_BYTES = 64 * 2**20  # a call is not interrupted in between
_HUGE_BYTES = 4 * 2**20  # from here on huge pages are worth their clearing
_SHARED_BYTES = 16 * 2**20  # from here on a second thread is worth its start
_PAGE_BYTES = 2 * 2**20  # no two threads fill one huge page


class _Byte(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "c"


def new_buffer(size: int) -> mmap.mmap:
    """Zeros that take no memory until they are written.  Raises ``OSError``."""
    made = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= _HUGE_BYTES:
        try:
            made.madvise(mmap.MADV_HUGEPAGE)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a kernel built without them
                raise
    return made


def copy_from(pid: int, stretches: Sequence[tuple[int, int]]) -> tuple[mmap.mmap, ...] | None:
    """Copies of stretches (address, size) of a process's memory; None where one cannot be read.

    The caller makes sure that the number is still that process's when this returns.
    """
    copies: list[mmap.mmap] = []
    for address, size in stretches:
        made = new_buffer(size)
        first: Any = _Byte
        anchor = first.from_buffer(made)  # holds the mapping while its address is in use
        if address + size >= 2**64 or not _copy(pid, address, anchor, size):
            return None
        copies.append(made)
    return tuple(copies)


def _copy(pid: int, there: int, anchor: Any, size: int) -> bool:
    """Whether all of it was copied: by two threads where it is much and there are cores."""
    here = address_of(anchor)
    if size < _SHARED_BYTES or (os.cpu_count() or 1) < 2:
        return _copy_part(pid, there, here, size)
    half = size // 2 & -_PAGE_BYTES
    done = _thread.allocate_lock()
    told: list[bool] = []

    def second() -> None:
        try:
            # The buffer is held from here, because the other thread may be interrupted.
            told.append(_copy_part(pid, there + half, address_of(anchor) + half, size - half))
        finally:
            done.release()

    done.acquire()
    try:
        _thread.start_new_thread(second, ())
    except RuntimeError:  # no thread can be had
        return _copy_part(pid, there, here, size)
    try:
        first = _copy_part(pid, there, here, half)
    finally:
        done.acquire()
    return first and told == [True]


def _copy_part(pid: int, there: int, here: int, size: int) -> bool:
    at = 0
    while at < size:
        step = min(size - at, _STEP_BYTES)
        own = buffer(struct.pack("=QQ", here + at, step))
        others = buffer(struct.pack("=QQ", there + at, step))
        count = libc.process_vm_readv(pid, own, 1, others, 1, 0)
        if count <= 0:
            if count < 0 and errno_of_last() == errno.EINTR:
                continue
            return False
        at += count
    return True
