"""This process's cgroups: one tree for all guests, and a janitor that outlives us.

Who the janitor is: a small Python of its own that does nothing but wait for the end of a
pipe that only the host holds.  Because: a host that is killed runs no exit function, its
zygotes die with it, and a cgroup is a directory that nobody removes by himself.  What it
holds: the pipe, and the name of the tree.  How it dies: when the pipe ends, after it has
killed and removed what is in the tree.  If it is killed too, the next program that starts
in the same delegated group removes the tree (``kernel.cgroups.sweep``).
"""

from __future__ import annotations

import os
import sys

from ..errors import SHORTAGES, SetupFailed
from ..kernel import cgroups, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..plan.groups import GroupLimits

# The C half, which every interpreter has loaded; the Python half would bring ``enum``.
_signal: Any = sys.modules["_signal"]
_SIGNALS = [number for number in range(1, 32) if number not in (9, 19)]  # but KILL and STOP


class Groups:
    """The groups of this process's guests.  Safe under threads.

    Raises ``SetupFailed`` where the kernel refuses what the probe found possible.
    """

    def __init__(self, base: str, *, fork: bool = False) -> None:
        self.base = base
        try:
            self._tree = cgroups.Tree(base)
        except OSError as error:
            raise _failed(error) from error
        try:
            self._janitor = Janitor(base, self._tree.name, fork=fork)
        except OSError as error:
            self._tree.close()
            raise _failed(error) from error

    def make(self, limits: GroupLimits, more_bytes: int = 0) -> cgroups.Group:
        """A group for one guest.  ``more_bytes`` is what it may copy of its zygote."""
        try:
            return self._tree.make(limits.memory_bytes + more_bytes, limits.tasks, limits.cpu_share)
        except OSError as error:
            raise _failed(error) from error

    def close(self) -> None:
        """Remove them all; returns when they are gone, and the janitor with them."""
        # First the janitor, which is in the group that this process may have moved to.
        self._janitor.dismiss()
        self._tree.close()

    def forget(self) -> None:
        """In a fork of the host: let go without ending what belongs to the parent."""
        self._janitor.forget()
        self._tree.forget()


class Janitor:
    """The process that removes a tree when its owner is gone."""

    def __init__(self, base: str, name: str, *, fork: bool = False) -> None:
        reader, self._pipe = os.pipe()
        try:
            self._pid = _fork(reader, base, name) if fork else _spawn(reader, base, name)
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(reader)

    def dismiss(self) -> None:
        """Tell it that there is nothing to do, and wait for its end."""
        try:
            process.write_to_guest(self._pipe, b"0")
        except OSError:
            pass  # it has ended already, by somebody's hand
        self.forget()
        try:
            os.waitpid(self._pid, 0)
        except ChildProcessError:
            return  # the application reaps for itself

    def forget(self) -> None:
        """Let go of the pipe; if nobody else holds it, the janitor goes to work."""
        os.close(self._pipe)


def _fork(reader: int, base: str, name: str) -> int:
    """For the command, whose process has one thread and no secrets."""
    host = os.getpid()
    before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _SIGNALS)
    try:
        pid = os.fork()
    finally:
        if os.getpid() == host:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, before)
    if pid == 0:
        try:
            process.keep_only([reader])
            for _ in range(2):
                os.open("/dev/null", os.O_RDWR)
            main(base, name)
        finally:
            os._exit(0)
    return pid


def _spawn(reader: int, base: str, name: str) -> int:
    python, argv = process.fresh_python(
        f"from belljar.drivers.groups import main; main({base!r}, {name!r})"
    )
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        actions: list[Any] = [(os.POSIX_SPAWN_DUP2, reader, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, null, number) for number in (1, 2)]
        return os.posix_spawn(
            python, argv, {}, file_actions=actions, setsigdef=_SIGNALS, setsigmask=_SIGNALS
        )
    finally:
        os.close(null)


def main(base: str, name: str) -> None:
    """The janitor's life."""
    process.close_from(3)
    os.setsid()
    os.chdir("/")
    process.set_name(b"belljar-janitor")
    while True:
        try:
            if os.read(0, 1):
                return  # the host has removed it by itself
            break
        except InterruptedError:
            continue
    cgroups.clear(base, name)


def _failed(error: OSError) -> SetupFailed:
    where = f" ({error.filename})" if error.filename else ""
    return SetupFailed(
        "cgroup", f"{error.strerror or error}{where}", retryable=error.errno in SHORTAGES
    )
