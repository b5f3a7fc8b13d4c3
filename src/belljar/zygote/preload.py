"""Preloads: the operator's packages, imported in the zygote, and what may be left of that.

What: imports by name, then checks and repairs of the process that they ran in.  Because: every
guest is a copy of it, and the zygote itself has to go on with it: text in a buffer would be
printed by each guest, shared memory would be a channel between them, a handler for ended
children would take from the zygote what it waits for.  Then: what can be put right is, and
what cannot is the answer to the host, which starts no guest.
"""

from __future__ import annotations

import gc
import os
import sys
import time

from ..guest import agent
from ..kernel import process
from ..kernel.libc import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Its Python half costs a start of ``enum``, and the interpreter has this one loaded.
_signal: Any = sys.modules["_signal"]
TROUBLE_CHARS = 2000  # of what a preload has to say
_LAST_MOMENT_S = 1.0  # for threads that were joined and are not quite gone
_LOOK_S = 0.001


def load(names: list[str], refused: list[str], proc: str) -> str:
    """Import the preloads; returns what went wrong, or nothing.

    ``refused`` C modules are refused to them too: where no mount hides their files, a preload
    would leave their code in every guest.  ``proc`` is a whole ``/proc``.
    """
    own = os.getpid()
    for name in names:
        try:
            agent.preload(name, refused)
        except BaseException as error:
            # Code of the operator's packages: whatever it raises is the answer.
            trouble = f"import {name}: {type(error).__name__}: {error}"
        else:
            trouble = ""
        if os.getpid() != own:
            os._exit(0)  # a fork that the import left behind; one of us goes on
        if trouble:
            text = trouble[:TROUBLE_CHARS]
            return text.encode("utf-8", "backslashreplace").decode()
    put_right()
    left = left_behind(proc)
    return f"{', '.join(names)}: {left}" if left else ""


def put_right() -> None:
    """What the zygote needs to be as it was, and what guests must not find."""
    sys.settrace(None)
    sys.setprofile(None)
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError, AttributeError):
            continue  # it was closed or replaced
    libc.fflush(None)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)
    process.set_dumpable(False)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    _signal.set_wakeup_fd(-1)  # descriptors have other numbers in a guest
    for timer in (_signal.ITIMER_REAL, _signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF):
        _signal.setitimer(timer, 0)


def left_behind(proc: str) -> str:
    """What guests cannot be forked with: processes, threads, shared memory.

    A fork copies one thread, so none but this one may be left.  Some libraries end theirs
    before any fork and start them again when they are needed; so one fork comes first.
    """
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        pass
    else:
        return "a child process is left, which the zygote cannot keep"
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    until = time.monotonic() + _LAST_MOMENT_S
    while (threads := len(os.listdir(f"{proc}/self/task"))) > 1:
        if time.monotonic() > until:
            return f"{threads - 1} threads are left running, which no fork copies"
        time.sleep(_LOOK_S)
    gc.collect()  # what nobody refers to any more is not left
    shared = shared_bytes(f"{proc}/self/maps")
    if shared:
        return f"{shared} bytes of shared memory are left, which guests could write to each other"
    return ""


def _lines(maps: str) -> list[str]:
    with open(maps, encoding="utf-8", errors="replace", newline="\n") as file:
        return file.read().split("\n")[:-1]


def shared_bytes(maps: str) -> int:
    """How much memory is shared and writable.  See proc_pid_maps(5)."""
    found = 0
    for line in _lines(maps):
        bounds, mode, *_ = line.split(None, 2)
        if "w" in mode and "s" in mode:
            low, _, high = bounds.partition("-")
            found += int(high, 16) - int(low, 16)
    return found


def writable_code(maps: str) -> str:
    """The first line of a file ``/proc/self/maps`` whose code a guest could change; else empty.

    What: memory that is executable and writable, or executable and shared, or a file that is
    mapped both as code and shared.  Because: guests inherit it, and no filter sees who made it:
    a preload that compiles at run time, a library that asks for an executable stack.  Then: no
    guest is made of it.  Executable memory that can only be read stays: a guest that makes it
    writable cannot make it executable again.
    """
    code: dict[tuple[str, str], str] = {}  # (device, inode) -> line
    shared: set[tuple[str, str]] = set()
    for line in _lines(maps):
        _, bits, _, device, inode = line.split(None, 5)[:5]
        if "x" in bits:
            if "w" in bits or "s" in bits:
                return line
            if inode != "0":
                code[device, inode] = line
        elif "s" in bits:
            shared.add((device, inode))
    return next((line for file, line in code.items() if file in shared), "")
