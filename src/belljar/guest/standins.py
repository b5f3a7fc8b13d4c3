"""Stand-ins for what the walls refuse and ordinary code expects.

Shape, not wall: the kernel refuses whatever is done here.
"""

from __future__ import annotations

import io
import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .imports import Imports


# What: numeric libraries start one thread where they would start one for each processor.
# Because: each reserves some 40 MiB of address space, which memory_bytes counts, so that on a
# machine with eight processors NumPy would not even import.  Then: who wants more says so by
# env, and grants the memory.
ONE_THREAD = (
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)
_PIPE_BYTES = 1 << 16  # what fits into a pipe that nobody reads yet


def use_one_arena() -> None:
    """Let all threads allocate from one arena, as the first interpreter does by its environment.

    glibc reserves up to 128 MiB of address space for each thread's own, and RLIMIT_AS counts
    what is reserved.  See mallopt(3); where that is not to be had, there is nothing to do.
    """
    m_arena_max = -8
    try:
        import _ctypes

        own: Any = None  # all that is loaded already
        mallopt = _ctypes.dlsym(_ctypes.dlopen(own, 0), "mallopt")
        _ctypes.call_function(mallopt, (m_arena_max, 1))
    except (ImportError, OSError):
        return
    del sys.modules["_ctypes"]


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

    _take_the_place(Mmap, mmap)


def share_mmap_by_files(mmap: Any) -> None:
    """Let ``mmap.mmap(-1, n)`` give memory that forks share, as its default is.

    The filter refuses shared memory without a file, because no limit counts it.  A file
    without a name in the guest's own tmpfs is the same, and ``work_bytes`` counts it.
    """
    real: Any = mmap.mmap

    class Mmap(real):  # type: ignore[misc]
        def __new__(cls, fileno: int, length: int, *args: Any, **kwargs: Any) -> Any:
            flags = args[0] if args else kwargs.get("flags", mmap.MAP_SHARED)
            access = kwargs.get("access", mmap.ACCESS_DEFAULT)
            if fileno != -1 or flags & mmap.MAP_PRIVATE or access == mmap.ACCESS_COPY:
                return real.__new__(cls, fileno, length, *args, **kwargs)
            file = _nameless_file(length)
            try:
                if args:
                    args = (flags & ~mmap.MAP_ANONYMOUS, *args[1:])
                elif "flags" in kwargs:
                    kwargs["flags"] = flags & ~mmap.MAP_ANONYMOUS
                return real.__new__(cls, file, length, *args, **kwargs)
            finally:
                posix.close(file)

    _take_the_place(Mmap, mmap)


def _take_the_place(made: Any, mmap: Any) -> None:
    """Let a subclass be ``mmap.mmap``, and look like it."""
    real: Any = mmap.mmap

    def represent(self: Any) -> str:
        # The C code puts the bare name of a class that is not its own.
        text: str = real.__repr__(self)
        return text.replace("<mmap ", "<mmap.mmap ", 1)

    made.__repr__ = represent
    made.__name__ = made.__qualname__ = "mmap"
    made.__module__ = "mmap"
    made.__doc__ = real.__doc__
    mmap.mmap = made


def _nameless_file(size: int) -> int:
    """A descriptor of a new file in shared memory that has no name any more."""
    flags = posix.O_RDWR | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC
    while True:
        name = f"/dev/shm/mmap-{posix.getpid()}-{posix.urandom(8).hex()}"
        try:
            file = posix.open(name, flags, 0o600)
        except FileExistsError:
            continue
        try:
            posix.unlink(name)
            if size > 0:
                # All of it now: a page that cannot be had later is a SIGBUS, not an exception.
                posix.posix_fallocate(file, 0, size)
        except BaseException:
            posix.close(file)
            raise
        return file


def open_text(fd: int, mode: str, errors: str) -> io.TextIOWrapper:
    """One of the standard streams, by its number."""
    raw = io.FileIO(fd, mode, closefd=False)
    buffer = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
    text = io.TextIOWrapper(buffer, "utf-8", errors, line_buffering=mode == "w")
    raw.name = ("<stdin>", "<stdout>", "<stderr>")[fd]
    return text


def standard_input(data: bytes) -> Any:
    """Make these bytes what is read from descriptor 0 and from ``sys.stdin``, with an end."""
    if len(data) <= _PIPE_BYTES:
        reading, writing = posix.pipe()
        posix.write(writing, data)
        posix.close(writing)
    else:
        try:
            reading = posix.open("/tmp", posix.O_RDWR | posix.O_TMPFILE | posix.O_CLOEXEC, 0o600)
        except OSError:
            # The host's own /tmp, in a trusted interpreter, may be on what knows no such files.
            reading = posix.memfd_create("stdin")
        view = memoryview(data)
        while view:
            view = view[posix.write(reading, view) :]
        posix.lseek(reading, 0, 0)
    posix.dup2(reading, 0)
    posix.close(reading)
    return open_text(0, "r", "strict")


def start_as_we_were(subprocess: Any) -> None:
    """Let children of ``multiprocessing`` start as an ordinary interpreter does.

    They are given the flags of this one, and ``-S`` would leave out ``site``, by which an
    interpreter inside finds the packages.
    """
    real: Any = subprocess._args_from_interpreter_flags

    def _args_from_interpreter_flags() -> list[str]:
        """Return the command-line arguments reproducing the current settings in sys.flags."""
        return [flag for flag in real() if flag not in ("-I", "-S", "-B")]

    subprocess._args_from_interpreter_flags = _args_from_interpreter_flags


MOST_BACKLOG = 1  # what the filter takes; connecting waits for its turn


def listen_to_few(socket: Any) -> None:
    """Let ``listen`` ask for no more waiting connections than the filter allows.

    Those that nobody has accepted hold kernel memory that no limit counts.
    """
    real: Any = socket.socket.listen

    def listen(self: Any, backlog: int = MOST_BACKLOG, /) -> None:
        """listen([backlog])

        Enable a server to accept connections.
        """
        real(self, min(backlog, MOST_BACKLOG))

    socket.socket.listen = listen


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
