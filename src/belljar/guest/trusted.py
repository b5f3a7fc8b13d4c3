"""The first code of a trusted interpreter (M1): no walls, and the agent that guests have.

Who I am: an ordinary Python of the host's, executed afresh, with its environment and its
files.  What I trust: the host, whose equal I am, and the code that it sends.  What I hold: the
link to the host, the three standard streams, and one end of a socket whose other end is the
host's life.  How I die: with the host, which the kernel sees to, or when the link closes.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import sys

from . import agent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

LINK_FD = 3
LIFE_FD = 4


def main(path: list[str]) -> NoReturn:
    """Take runs from the host until it closes the link.

    ``sys.argv[1]`` is the directory to work in; ``path`` the modules' search path for the code.
    """
    code = 1
    try:
        _end_with(LIFE_FD)
        os.chdir(sys.argv[1])
        sys.path[:] = path
        agent.prepare_trusted()
        code = agent.serve(LINK_FD)
    except BaseException as fault:
        sys.excepthook(type(fault), fault, fault.__traceback__)
    finally:
        os._exit(code)


def _end_with(fd: int) -> None:
    """Have the kernel kill this process, and what it starts, when a socket's other end closes.

    What: SIGIO for the socket, which F_SETSIG makes SIGKILL, to the process group.  Because: the
    parent-death signal comes when the *thread* that made this process ends, and a process that
    is stopped between two runs can watch nothing.  Then: nothing is ever sent on that socket.
    See F_SETSIG in fcntl(2).
    """
    os.set_inheritable(fd, False)
    fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(fd, 0)
    if poll.poll(0):
        os._exit(1)  # closed before the kernel was told
