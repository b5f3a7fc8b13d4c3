"""What a filter depends on, apart from the filter itself.

A plan names the features long before anyone compiles the filter, and often while another
process starts; so they have a module that costs nothing to import.
"""

from __future__ import annotations

from .._record import Record
from ..errors import BelljarError

# What a guest asks clone(2) for, to make a branch: the zygote's child like its parent, in a mount
# namespace of its own.  CLONE_PARENT, CLONE_NEWNS, SIGCHLD.
BRANCH = 0x8000 | 0x2_0000 | 17
# What the branch asks for then, which is never carried out: the host's answer is its descriptors.
TAKE = 0x8000 | 0x2_0000


class FilterError(BelljarError, ValueError):
    """A filter, an expression or a program makes no sense: a mistake of its author."""


class FilterFeatures(Record):
    """What the plan knows about the guest.  The defaults are the narrowest filter that
    runs CPython; every True is something granted, or something another wall holds.

    ``processes``: fork and execve are granted.  ``unix_sockets``: so are Unix sockets with a
    name, where none of anybody else can be reached.  ``threads``: so are threads.  ``jit``: native code
    may be made from data.  ``load_code``: extension modules may still be mapped; False
    where writable places are not ``noexec`` and everything native is preloaded.
    ``own_root``: the file tree is the guest's own, so changing permissions and times
    touches nobody else's files (Landlock does not check these).  ``own_pid``: the only
    process that may be signalled.  ``sandboxed_signals``: a PID namespace or Landlock's
    signal scope already confines them.  ``system_info``: sysinfo.  ``uname``: False makes
    it EPERM, which hides the kernel release where the Python layer answers instead.
    ``continues``: it may let itself go on when it is stopped, by a POSIX timer or by kill with SIGCONT.
    ``branches``: the host may let it make a copy of itself; then it signals nobody.
    """

    arch: str
    processes: bool = False
    unix_sockets: bool = False
    threads: bool = True
    jit: bool = False
    load_code: bool = True
    own_root: bool = False
    own_pid: int | None = None
    sandboxed_signals: bool = False
    system_info: bool = False
    uname: bool = True
    continues: bool = True
    branches: bool = False

    def __post_init__(self) -> None:
        if self.own_pid is not None and not 1 <= self.own_pid <= 0x7FFF_FFFF:
            raise FilterError(f"own_pid must be a process number, not {self.own_pid}")
