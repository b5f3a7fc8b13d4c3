"""A guest without walls that says on its link whatever a test wants.

What: ``play`` drives the host's own loop and state machine, and puts a function of the test's
where the guest would be.  Because: a guest has to get through the sandbox and its own agent
before it can lie, and some lies (a first word before ``Ready``, bytes between two frames) it
could only tell with luck.  Then: the function runs in a process of its own, forked here, holds
the real sockets and pipes, and is killed, waited for and reported on as a guest is.

It is for code that you trust: nothing confines it.

Example::

    def two_answers(peer):
        peer.say(READY)
        peer.hear()  # the run
        peer.say(finished(1) + finished(2))

    result = play(two_answers)
    assert result.value == 1
"""

from __future__ import annotations

import _socket
import os
import select
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any

from ..api import machine
from ..api.run import execute, make_feed, make_order
from ..artifact import Artifact
from ..drivers.zygotes import GuestEnds
from ..kernel import fdpass, process
from ..policy import Policy
from ..result import Result
from ..wire.control import pack
from ..wire.encoder import encode
from ..wire.frames import encode_frame

__all__ = ["READY", "Peer", "Script", "denied", "finished", "forge", "play", "shown"]

_PIECE = 1 << 16
_READY, _DENIED, _FINISHED, _ARTIFACT = 0x81, 0x82, 0x83, 0x85


def forge(kind: int, fields: object) -> bytes:
    """A frame of any kind with any payload; nothing is checked."""
    payload = fields if isinstance(fields, bytes) else encode(fields)
    return encode_frame(kind, payload, 2**31)


def denied(*entries: tuple[str, str, str], run_id: int = 1) -> bytes:
    """The frame with which a guest tells what it was refused: action, target, grant."""
    return forge(_DENIED, [run_id, [list(entry) for entry in entries]])


def finished(value: object = None, run_id: int = 1) -> bytes:
    """The frame with which a guest ends a run well."""
    truncated: list[str] = []
    return forge(_FINISHED, [run_id, "ok", encode(value), None, None, None, truncated])


def shown(media_type: str, data: bytes, name: str = "", run_id: int = 1) -> bytes:
    """The frame with which a guest shows something."""
    metadata: dict[str, int] = {}
    return forge(_ARTIFACT, [run_id, name, {media_type: data}, metadata])


_STAGES: dict[str, float] = {}
READY = forge(_READY, [_STAGES])


class Peer:
    """What a script holds: the guest's ends, as descriptors."""

    def __init__(self, link: int, stdout: int, stderr: int) -> None:
        self.link = link
        self.stdout = stdout
        self.stderr = stderr

    def say(self, data: bytes) -> None:
        """Write all of it on the link.  Raises ``OSError`` when the host listens no more."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.link, view) :]

    def hear(self) -> bytes:
        """What the host says next; empty at its end."""
        return os.read(self.link, _PIECE)


Script = Callable[[Peer], object]


def play(
    script: Script,
    policy: Policy | None = None,
    on_output: Callable[[str, bytes], object] | None = None,
    on_artifact: Callable[[Artifact], object] | None = None,
) -> Result:
    """Run ``script`` as the guest; returns what ``belljar.run`` would.

    The process ends with code 0 when the script returns, with 1 and a traceback on its
    standard error when it raises.

    Args:
        script: called with a ``Peer``, in a process forked from this one.
        policy: its limits of time and output hold as for any guest.
        on_output, on_artifact: as for ``belljar.run``.

    Raises:
        SandboxFailure: as ``belljar.run`` does.
    """
    policy = policy or Policy()
    order = make_order("", policy, None, (), None, "peer.py")
    stand_in: Any = _Zygote(script)
    prepared = machine.prepare(policy)
    feed = make_feed(b"", policy)
    began = time.monotonic()
    return execute(prepared, stand_in, order, feed, on_output, began, on_artifact=on_artifact)


class _Zygote:
    """As much of a zygote as the loop looks at; each guest has a keeper of its own."""

    ahead_s = 0.0

    def __init__(self, script: Script) -> None:
        self._script = script
        self.ready_at = time.monotonic()

    def ensure_ready(self) -> None:
        """It is."""

    def close(self) -> None:
        """Nothing is held: the keeper goes with its guest."""

    def request(self, *_what: object, **_options: object) -> GuestEnds:
        status, their_status = fdpass.message_pair()
        link, their_link = fdpass.stream_pair()
        stdout, their_stdout = os.pipe()
        stderr, their_stderr = os.pipe()
        with warnings.catch_warnings():
            # The child takes no lock that a thread of this process could hold.
            warnings.simplefilter("ignore", DeprecationWarning)
            keeper = os.fork()
        if keeper == 0:
            try:
                _keep(self._script, their_status, their_link.fileno(), their_stdout, their_stderr)
            finally:
                os._exit(1)
        their_status.close()
        their_link.close()
        os.close(their_stdout)
        os.close(their_stderr)
        link.setblocking(False)
        return _Ends(status, link, stdout, stderr, keeper)


class _Ends(GuestEnds):
    """The host's ends, and the keeper to wait for."""

    def __init__(
        self, status: _socket.socket, link: _socket.socket, stdout: int, stderr: int, keeper: int
    ) -> None:
        super().__init__(status, link, None, stdout, stderr)
        self._keeper = keeper

    def close(self) -> None:
        super().close()
        os.waitpid(self._keeper, 0)


def _keep(script: Script, status: _socket.socket, link: int, stdout: int, stderr: int) -> None:
    """The zygote's part: fork the guest, report its end.  Does not return."""
    process.keep_only([status.fileno(), stdout, stderr, link])
    status.detach()
    status = _socket.socket(fileno=0)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            status.close()
            script(Peer(3, 1, 2))
            code = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode("utf-8", "backslashreplace"))
        finally:
            os._exit(code)
    os.closerange(1, 4)
    pidfd = process.open_pidfd(pid)
    now = time.monotonic()
    fdpass.send(status, pack("spawned", at=now), [pidfd])
    fdpass.send(status, pack("confined", at=now))
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(status.fileno(), 0)  # hang-up: the host let go of its guest
    if pidfd not in dict(poll.poll()):
        process.signal_pidfd(pidfd, process.SIGKILL)
    _, ended, usage = os.wait4(pid, 0)
    report = pack(
        "exited",
        signal=os.WTERMSIG(ended) if os.WIFSIGNALED(ended) else 0,
        code=os.WEXITSTATUS(ended) if os.WIFEXITED(ended) else 0,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_memory_bytes=usage.ru_maxrss * 1024,
        at=time.monotonic(),
    )
    try:
        fdpass.send(status, report)
    except OSError:
        os._exit(1)  # the host is gone
    os._exit(0)
