"""What an interpreter begins with that a guest starts anew (``sys.executable``).

Who I am: ordinary code inside the walls, read by ``site`` through a ``.pth`` file.  What I
trust: nothing; whoever starts Python with ``-S`` does without me.  What I hold: nothing.

The walls are the process's, whatever it executes.  This is the shape that the first
interpreter of a guest has too: where the packages are, the stand-ins for what the kernel
refuses, bytecode from trusted places only, ``__sandboxed__``.
"""

from __future__ import annotations

import builtins
import os
import sys

from . import bytecode, imports, shape, standins
from .refusals import public_module


def start(stand_ins: dict[str, str], path: list[str], trusted: list[str], host_name: str) -> None:
    """Take the shape of a guest.

    Args:
        stand_ins: module -> file to load instead.
        path: directories to be searched for modules besides the standard library's.
        trusted: directories from which bytecode is loaded.
        host_name: what to call this host where the kernel may not be asked; else empty.
    """
    package = __name__.partition(".")[0]
    del sys.path[0]  # where this package was found
    sys.path.extend(place for place in path if place not in sys.path)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]
    shape.make_sandboxed_read_only(builtins, True)
    sys.modules["belljar"] = public_module(type(sys))
    bytecode.read_bytecode_only_from(trusted)
    finder = imports.Imports(stand_ins)
    finder.after("mmap", standins.share_mmap_by_files)
    finder.after("subprocess", standins.start_as_we_were)
    finder.after("socket", standins.listen_to_few)
    if host_name:
        standins.stand_in_for_uname(finder, host_name)
    for name in standins.ONE_THREAD:
        if name not in os.environ:
            os.putenv(name, "1")
    standins.use_one_arena()
    sys.meta_path.insert(0, finder)
    for name in stand_ins:
        sys.modules.pop(name, None)
