"""Stand-ins for what the walls refuse and ordinary code expects.

Shape, not wall: the kernel refuses whatever is done here.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class AfterImport:
    """A finder that finds nothing, and runs a function once a module has been loaded.

    For modules that are too slow to load before anybody asks for them.
    """

    def __init__(self, name: str, act: Callable[[], None]) -> None:
        self._name = name
        self._act = act

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        from importlib.util import find_spec

        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_act(module: Any) -> None:
                load(module)
                self._act()

            spec.loader.exec_module = load_and_act  # type: ignore[method-assign]
        return spec


def stand_in_for_mmap() -> None:
    """Let ``mmap.mmap(-1, n)`` give private memory.

    Its default is shared memory without a file, which the filter refuses because no limit
    counts it.  In a guest without other processes private memory is the same thing.
    """
    import mmap

    real: Any = mmap.mmap

    def _private(flags: int) -> int:
        return flags & ~mmap.MAP_SHARED | mmap.MAP_PRIVATE

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

    Mmap.__name__ = Mmap.__qualname__ = "mmap"
    Mmap.__module__ = "mmap"
    Mmap.__doc__ = real.__doc__
    mmap.mmap = Mmap  # type: ignore[misc]
