"""Landlock: a ruleset that the process and all it starts can never leave.

See landlock(7) and the kernel's Documentation/userspace-api/landlock.rst.  Which rights a
kernel knows depends on its ABI version; ``plan.landlock`` decides, this file acts.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from ..plan.landlock import OF_A_FILE as _OF_A_FILE
from .libc import syscall
from .mounts import open_path

_VERSION_FLAG = 1
_RULE_PATH_BENEATH = 1


def probe_abi() -> int:
    """The kernel's Landlock ABI version, 0 where Landlock is missing or switched off."""
    try:
        return syscall("landlock_create_ruleset", None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def make_ruleset(abi: int, handled_fs: int, handled_net: int, scoped: int) -> int:
    """A new ruleset as a descriptor.  The masks must be ones that ``abi`` knows."""
    words = [handled_fs]
    if abi >= 4:
        words.append(handled_net)
    if abi >= 6:
        words.append(scoped)
    attributes = struct.pack(f"{len(words)}Q", *words)
    return syscall("landlock_create_ruleset", attributes, len(attributes), 0)


def allow_beneath(ruleset: int, path: str, rights: int) -> None:
    """Allow rights on a file, or on a directory and all beneath it.

    Rights that apply only to directories are left out for a file, which the kernel demands.
    A path that does not exist, or leads through a symbolic link, is left out: nothing is
    allowed there, now or later.  In a granted folder somebody else may put a link at any
    moment, and the right would go to wherever it leads.
    """
    try:
        fd = open_path(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return
        raise
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_A_FILE
        allow_in(ruleset, fd, rights)
    finally:
        os.close(fd)


def allow_in(ruleset: int, fd: int, rights: int) -> None:
    """Allow rights on what a descriptor names, and on all beneath it."""
    attributes = struct.pack("=Qi", rights, fd)
    syscall("landlock_add_rule", ruleset, _RULE_PATH_BENEATH, attributes, 0)


def restrict_self(ruleset: int, forbidden: str) -> None:
    """Enter the ruleset, for ever.  No new privileges must be set before.

    ``forbidden`` is a directory that exists and that no rule allows to list: it is opened
    to see that the wall stands.
    """
    syscall("landlock_restrict_self", ruleset, 0)
    try:
        os.close(os.open(forbidden, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except PermissionError:
        return
    raise OSError(0, "the ruleset did not take effect", "landlock_restrict_self")
