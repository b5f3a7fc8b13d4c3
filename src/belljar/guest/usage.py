"""``belljar.usage()``, ``belljar.limits``, ``belljar.abilities``: what was used, and what may be.

For code that plans its work: stop reading when memory gets short, save before time is up.
A convenience; the host counts by itself and believes none of it.
"""

from __future__ import annotations

import os
import resource
import sys
import time

from . import artifacts, denials

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import MappingProxyType, ModuleType, SimpleNamespace
    from typing import Any, TypeVar

    _Value = TypeVar("_Value")

_STATM = "/proc/self/statm"
_Namespace: Any = type(
    sys.implementation
)  # types.SimpleNamespace; types itself costs a millisecond
_ReadOnly: Any = type(object.__dict__)  # types.MappingProxyType
_began = 0.0  # on the monotonic clock
_first = 0  # the process that was handed the code
_getrusage, _monotonic = resource.getrusage, time.monotonic


def publish(public: ModuleType) -> None:
    """Before there is code: make this module its ``belljar``, with what is here."""
    names: Any = public.__dict__
    names.update(
        abilities=_read_only({}), display=artifacts.display, limits=_read_only({}), usage=usage
    )
    sys.modules["belljar"] = public


def begin(limits: Mapping[str, float], abilities: Mapping[str, Any]) -> None:
    """The code is here: time counts from now, and these are its limits and abilities."""
    global _began, _first
    _began = _monotonic()
    _first = os.getpid()
    public: Any = sys.modules["belljar"]
    public.limits = _read_only(limits)
    public.abilities = _read_only(abilities)


def _read_only(values: Mapping[str, _Value]) -> MappingProxyType[str, _Value]:
    """Limits in force or abilities granted, by their names in a policy."""
    proxy: MappingProxyType[str, _Value] = _ReadOnly(dict(values))
    return proxy


def usage() -> SimpleNamespace:
    """What has been used so far: cpu_s, memory_bytes, peak_memory_bytes, wall_s.

    CPU time is that of all threads and of processes that were waited for; memory is resident,
    the interpreter's own part included, and that of this process; ``memory_bytes`` is None where
    there is no /proc, and in further processes.
    """
    own = _getrusage(resource.RUSAGE_SELF)
    theirs = _getrusage(resource.RUSAGE_CHILDREN)
    held = _resident_bytes()
    now: SimpleNamespace = _Namespace(
        cpu_s=own.ru_utime + own.ru_stime + theirs.ru_utime + theirs.ru_stime,
        memory_bytes=held,
        peak_memory_bytes=max(own.ru_maxrss * 1024, held or 0),
        wall_s=_monotonic() - _began,
    )
    return now


def _resident_bytes() -> int | None:
    # What is shown as /proc/self is the guest's first process, whoever looks.
    if os.getpid() != _first or denials.would_note("read", _STATM):
        return None
    try:
        fd = os.open(_STATM, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return int(os.read(fd, 256).split()[1]) * resource.getpagesize()
    finally:
        os.close(fd)


usage.__module__ = "belljar"
