"""Stand-ins for what the walls refuse and ordinary code expects.

Shape, not wall: the kernel refuses whatever is done here.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def stand_in_for_mmap() -> None:
    """Let ``mmap.mmap(-1, n)`` give private memory.

    Its default is shared memory without a file, which the filter refuses because no limit
    counts it.  In a guest without other processes private memory is the same thing.
    """
    import mmap

    real: Any = mmap.mmap

    class Mmap(real):  # type: ignore[misc]
        def __new__(cls, fileno: int, length: int, *args: Any, **kwargs: Any) -> Any:
            if fileno == -1:
                if args:
                    if args[0] == mmap.MAP_SHARED:
                        args = (mmap.MAP_PRIVATE, *args[1:])
                elif "access" in kwargs:
                    access = kwargs.pop("access")
                    kwargs["flags"] = mmap.MAP_PRIVATE
                    if access == mmap.ACCESS_READ:
                        kwargs["prot"] = mmap.PROT_READ
                elif kwargs.get("flags", mmap.MAP_SHARED) == mmap.MAP_SHARED:
                    kwargs["flags"] = mmap.MAP_PRIVATE
            return real.__new__(cls, fileno, length, *args, **kwargs)

    Mmap.__name__ = Mmap.__qualname__ = "mmap"
    Mmap.__module__ = "mmap"
    Mmap.__doc__ = real.__doc__
    mmap.mmap = Mmap  # type: ignore[misc]
