"""M1: a guest that is quicker than the zygote's word of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import Any

from belljar.drivers.blocking import Feed, Loop
from belljar.drivers.zygotes import GuestEnds
from belljar.kernel import fdpass, process
from belljar.policy import Limits
from belljar.wire.connection import Connection
from belljar.wire.control import pack
from belljar.wire.events import Ready, Run
from belljar.wire.limits import Budget


class Zygote:
    """What a loop asks of one."""

    ready_at = ahead_s = 0.0

    def ensure_ready(self) -> None:
        """It is."""


def test_m1_a_guest_gets_no_run_before_it_can_be_stopped() -> None:
    status, theirs = fdpass.message_pair()
    link, inside = fdpass.stream_pair()
    pipes = [os.pipe(), os.pipe()]
    zygote: Any = Zygote()
    now = time.monotonic()
    ends = GuestEnds(status, link, None, pipes[0][0], pipes[1][0])
    order = Run(1, "1", "c", {}, settings={"keep": True})
    loop = Loop(ends, order, Limits(), Budget(), Feed(), None, zygote, now, now, keep=True)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as guest:
        told: list[bytes] = []

        def tell() -> None:
            inside.setblocking(False)
            time.sleep(0.2)
            try:
                told.append(inside.recv(1))
            except BlockingIOError:
                told.append(b"nothing yet")
            pidfd = process.open_pidfd(guest.pid)
            fdpass.send(theirs, pack("spawned", at=now), [pidfd])
            os.close(pidfd)

        inside.sendall(Connection("guest").send(Ready({})))
        thread = threading.Thread(target=tell)
        thread.start()
        loop.round(loop.poll.poll())
        thread.join()
        assert told == [b"nothing yet"]
        assert ends.pidfd is not None
        assert inside.recv(1 << 16)
    ends.close()
    for end in (theirs, inside):
        end.close()
    for _, writing in pipes:
        os.close(writing)
