"""The first code of a zygote: how belljar's own modules get into its memory.

What: while belljar is imported, its bytecode files are read by ``read`` here.  Because: each
holds the path that its source has on the host (``co_filename``), and what was read stays in
memory that the interpreter has freed, in the zygote and so in every guest.  Then: the host's
path is overwritten in the one buffer that it was read into, before anything copies it.

Nothing of belljar can be imported when this runs: ``python -c`` executes the text of the file.
"""

# Without ``from __future__``, which is a module: it would be there in every guest.
import _frozen_importlib_external as external
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# How a string begins in the marshal format: its type, here always with the bit that says it
# is referred to again, and its length in one byte or in four.
_SHORT = (0xFA, 0xDA)
_LONG = (0xE1, 0xC1, 0xF5, 0xF4)
_TEXT = b"\xf5"


def put_path(data: bytearray, path: str, tail: str) -> bool:
    """Write ``path`` in place of the path that bytecode was compiled for; False if none is found.

    ``tail`` is how both end.
    """
    new = path.encode("utf-8", "surrogatepass")
    new = _TEXT + len(new).to_bytes(4, "little") + new
    common = tail.encode("utf-8", "surrogatepass")
    found = False
    end = 0
    while (at := data.find(common, end)) >= 0:
        end = at + len(common)
        head, start = _string_around(data, at, end)
        if head >= 0:
            data[start:at] = b"/" * (at - start)  # first, because a longer path moves the rest
            data[head:end] = new
            end = head + len(new)
            found = True
    return found


def _string_around(data: bytearray, at: int, end: int) -> tuple[int, int]:
    """Where the string that ends with ``data[at:end]`` has its head and its start, or -1."""
    # A path has no NUL, and the length of a long string ends with one.
    start = data.rfind(0, 0, at) + 1
    length = int.from_bytes(data[start - 4 : start], "little") if start > 4 else -1
    if length == end - start and data[start - 5] in _LONG:
        return start - 5, start
    for start in range(at, 1, -1):
        if data[start - 1] == end - start and data[start - 2] in _SHORT:
            return start - 2, start
    return -1, -1


def read(loader: "Any", path: str) -> bytes | bytearray:
    """``SourceFileLoader.get_data``, unbuffered for belljar's bytecode.

    Where that has no path to replace it is refused, and the source is compiled.
    """
    ours = f"{sys.path[0]}/belljar/"
    if not path.startswith(ours) or not path.endswith(".pyc"):
        data: bytes = external.FileLoader.get_data(loader, path)
        return data
    fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        buffer = bytearray(posix.fstat(fd).st_size)
        whole = posix.readv(fd, [buffer]) == len(buffer)
    finally:
        posix.close(fd)
    source: str = loader.path
    if not whole or not put_path(buffer, source, "belljar/" + source.removeprefix(ours)):
        raise OSError("this bytecode was compiled for something else")
    return buffer


def start() -> None:
    """Import what a zygote needs, and be one."""
    fresh = frozenset(sys.modules)
    loader: Any = external.SourceFileLoader
    loader.get_data = read
    from belljar.wire import late
    from belljar.zygote.server import main

    late.load()
    del loader.get_data  # back to what it inherits
    main(fresh)


if __name__ == "__main__":
    start()
