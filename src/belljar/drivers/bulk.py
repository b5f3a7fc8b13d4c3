"""Large parts of values: what the engine's ``Fetch`` comes to, for every driver."""

from __future__ import annotations

import select

from ..kernel import memory
from .account import pid_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


def fetch(pidfd: int | None, stretches: Sequence[tuple[int, int]]) -> tuple[Any, ...] | None:
    """Copies of stretches of a guest's memory; None where they cannot be had.

    A process's number may be another's as soon as it has ended, so what was read is believed
    only if the guest is still there afterwards.
    """
    pid = pid_of(pidfd) if pidfd is not None else None
    if pid is None or pidfd is None:
        return None
    copies = memory.copy_from(pid, stretches)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return None if poll.poll(0) else copies
