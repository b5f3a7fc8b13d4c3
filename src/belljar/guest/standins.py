"""Stand-ins for what the walls refuse and ordinary code expects.

Shape, not wall: the kernel refuses whatever is done here.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .imports import Imports


def stand_in_for_mmap(mmap: Any) -> None:
    """Let ``mmap.mmap(-1, n)`` give private memory.

    Its default is shared memory without a file, which the filter refuses because no limit
    counts it.  In a guest without other processes private memory is the same thing.
    """
    real: Any = mmap.mmap

    def _private(flags: int) -> int:
        private: int = flags & ~mmap.MAP_SHARED | mmap.MAP_PRIVATE
        return private

    class Mmap(real):  # type: ignore[misc]
        def __new__(cls, fileno: int, length: int, *args: Any, **kwargs: Any) -> Any:
            if fileno == -1:
                if args:
                    args = (_private(args[0]), *args[1:])
                elif "access" in kwargs:
                    access = kwargs.pop("access")
                    kwargs["flags"] = mmap.MAP_PRIVATE
                    if access == mmap.ACCESS_READ:
                        kwargs["prot"] = mmap.PROT_READ
                else:
                    kwargs["flags"] = _private(kwargs.get("flags", mmap.MAP_SHARED))
            return real.__new__(cls, fileno, length, *args, **kwargs)

        def __repr__(self) -> str:
            # The C code puts the bare name of a class that is not its own.
            text: str = real.__repr__(self)
            return text.replace("<mmap ", "<mmap.mmap ", 1)

    Mmap.__name__ = Mmap.__qualname__ = "mmap"
    Mmap.__module__ = "mmap"
    Mmap.__doc__ = real.__doc__
    mmap.mmap = Mmap


# The oldest kernel on which guests have a root of their own: programs that ask what they may
# use must not be told too much.
_RELEASE = "5.12.0"


def stand_in_for_uname(imports: Imports, host_name: str) -> None:
    """Let ``os.uname`` and ``socket.gethostname`` answer without asking the kernel.

    The filter refuses uname(2), because no namespace hides the kernel's release.
    """
    import os
    import posix

    answer = os.uname_result(("Linux", host_name, _RELEASE, "#1", _machine()))

    def uname() -> os.uname_result:
        """Return an object identifying the current operating system."""
        return answer

    def gethostname() -> str:
        """gethostname() -> string

        Return the current host name.
        """
        return host_name

    for module in (os, posix):
        setattr(module, "uname", uname)  # noqa: B010 - two modules, one of them without a stub
    for name in ("_socket", "socket"):
        imports.after(name, lambda module: setattr(module, "gethostname", gethostname))


def _machine() -> str:
    """The architecture, from the tag in the names of extension modules."""
    import _imp

    for suffix in _imp.extension_suffixes():
        for name in ("x86_64", "aarch64"):
            if name in suffix:
                return name
    return ""


def reseed() -> None:
    """New seeds for generators that a preload has made; ``random`` does so by itself (M9)."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()
    uuid: Any = sys.modules.get("uuid")
    if uuid is not None:
        # libuuid keeps its node for itself, where nothing can change it.
        uuid._generate_time_safe = None
        uuid._last_timestamp = None
        uuid._node = uuid._random_getnode()
    multiprocessing: Any = sys.modules.get("multiprocessing.process")
    if multiprocessing is not None:
        import os

        multiprocessing.current_process().authkey = os.urandom(32)
