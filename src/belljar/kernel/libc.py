"""System calls with Python errors.

The C library of the running process is reached through the C half of ctypes, because
belljar ships no compiled code, and because the Python half costs 2.7 ms to import in each
of the two processes that start for ``belljar run`` (measured; the C half costs 1.3).  Then
a failed call raises ``OSError`` with errno and the call's name.  System call numbers above
424 are the same on every architecture; the few older ones that the C library does not wrap
stand in a table here.
"""

from __future__ import annotations

import _ctypes
import os

from ..errors import UnsupportedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class _Int(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "i"


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "l"


class _Char(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "c"


class _IntFunction(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Int


class _LongFunction(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO
    _restype_ = _Long


_this_process: Any = None
_handle: int = _ctypes.dlopen(_this_process, os.RTLD_NOW)


def address(name: str) -> int:
    """Where the C library has a function."""
    return int(_ctypes.dlsym(_handle, name))


def _wide(args: tuple[Any, ...]) -> list[Any]:
    """Integers as C ``long``: a plain Python int would be passed as 32 bits, with garbage above."""
    return [_Long(arg) if isinstance(arg, int) else arg for arg in args]


class _Library:
    """Functions of the C library that return ``int``, by name.

    Integers are passed as C ``long``, bytes and buffers as pointers, ``None`` as 0.
    """

    def __getattr__(self, name: str) -> Callable[..., int]:
        function: Any = _IntFunction(address(name))

        def call(*args: int | bytes | Any | None) -> int:
            result: int = function(*_wide(args))
            return result

        setattr(self, name, call)
        return call


libc = _Library()
_syscall: Any = _LongFunction(address("syscall"))


def buffer(contents: int | bytes) -> Any:
    """Memory that the kernel may write: so many zero bytes, or a copy of some.

    Its bytes are ``.raw``; its address comes from ``address_of``.
    """
    size = contents if isinstance(contents, int) else len(contents)
    made: Any = (_Char * size)()
    if isinstance(contents, bytes):
        made.raw = contents
    return made


def address_of(made: Any) -> int:
    """Where a buffer lies, for structures that hold pointers."""
    return _ctypes.addressof(made)


def errno_of_last() -> int:
    """The error number of this thread's last call."""
    return _ctypes.get_errno()


MACHINE = os.uname().machine

_BY_MACHINE = {
    "x86_64": {
        "pivot_root": 155,
        "seccomp": 317,
        "capset": 126,
        "capget": 125,
        "clone": 56,
        "kcmp": 312,
    },
    "aarch64": {
        "pivot_root": 41,
        "seccomp": 277,
        "capset": 91,
        "capget": 90,
        "clone": 220,
        "kcmp": 272,
    },
}
_EVERYWHERE = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "pidfd_open": 434,
    "close_range": 436,
    "openat2": 437,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
}
SYSCALLS: dict[str, int] = {**_EVERYWHERE, **_BY_MACHINE.get(MACHINE, {})}


def check_machine() -> None:
    """Raise ``UnsupportedError`` on an architecture for which no filter is written."""
    if MACHINE not in _BY_MACHINE:
        raise UnsupportedError(
            [f"system call filters for the {MACHINE} architecture"],
            ["run belljar on x86_64 or aarch64"],
        )


def syscall(name: str, *args: int | bytes | Any | None) -> int:
    """Call the kernel by name.  Raises ``OSError`` with the call's name as its file name."""
    result: int = _syscall(_Long(SYSCALLS[name]), *_wide(args))
    if result < 0:
        raise failure(name)
    return result


def failure(name: str) -> OSError:
    """The ``OSError`` of the last failed call of this thread."""
    number = errno_of_last()
    return OSError(number, os.strerror(number), name)
