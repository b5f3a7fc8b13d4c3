"""Faults of the kernel, one at a time: the n-th call of one process fails.

What: a host program in a process of its own, whose system calls, and those of the launcher,
the zygote and the guest that come from it, are all asked about first (seccomp user
notification).  Because: what belljar does when a call fails must be tried for every call of
every process, and none of them may hold code for that.  Then: the supervisor in the test lets
all calls pass and answers one of them with an error number; belljar's own code is as shipped.

Example::

    with FaultyHost() as host:
        calls = host.trace("cold")                       # what a run consists of
        outcome = host.attempt("cold", Fault("zygote", "clone", 1, errno.EAGAIN))
        assert outcome.kind == "SetupFailed" and outcome.retryable
        assert not outcome.leaked

A process that has asked to be supervised stays so, hence the process of its own.  The answer
"go on" is safe here, because nobody supervised is hostile (see seccomp_unotify(2)).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import struct
import subprocess
import sys
import threading
from _socket import AF_UNIX, SOCK_SEQPACKET, socketpair
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from ..bpf.syscalls import arch
from ..errors import SHORTAGES
from ..kernel import fdpass
from ..kernel.libc import MACHINE

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["ERRORS", "Fault", "FaultyHost", "Outcome", "Site", "faults_at", "what_is_wrong"]

_E = errno
_DESCRIPTOR = (_E.EMFILE, _E.ENFILE, _E.ENOMEM)
_MOUNT = (_E.ENOMEM, _E.ENOSPC, _E.EPERM, _E.EIO)
_RIGHT = (_E.EPERM, _E.ENOMEM, _E.EAGAIN)
_MESSAGE = (_E.ENOMEM, _E.EINTR, _E.ENOBUFS)
_FILE = (_E.EIO, _E.EINTR, _E.ENOMEM)
_BY_ERRORS = {
    "openat openat2 open_tree fsopen fsmount dup dup2 dup3 fcntl pipe pipe2 pidfd_open": _DESCRIPTOR,
    "socketpair landlock_create_ruleset": _DESCRIPTOR,
    "clone clone3 fork vfork": (_E.EAGAIN, _E.ENOMEM, _E.ENOSPC, _E.EPERM),
    "unshare": (_E.ENOSPC, _E.ENOMEM, _E.EPERM),
    "setns": (_E.ENOMEM, _E.EPERM),
    "mount move_mount pivot_root mount_setattr fsconfig umount2": _MOUNT,
    "mkdir mkdirat symlink symlinkat fchmodat fchmodat2 chmod": _MOUNT,
    "execve": (_E.ENOMEM, _E.EAGAIN, _E.EIO, _E.ENFILE),
    "mmap mprotect mremap setsockopt": (_E.ENOMEM,),
    "write": (_E.EIO, _E.ENOSPC, _E.EINTR, _E.ENOMEM, _E.EPERM),
    "read pread64 readv getdents64": _FILE,
    "newfstatat fstat fstatfs statx": (_E.EIO, _E.ENOMEM),
    "sendmsg sendto recvmsg recvfrom": _MESSAGE,
    "poll ppoll": (_E.ENOMEM, _E.EINTR),
    "wait4 waitid": (_E.EINTR,),
    "pidfd_send_signal": (_E.EPERM, _E.ENOMEM),
    "prctl capset capget setresuid setresgid setgroups prlimit64": _RIGHT,
    "sethostname setdomainname setsid personality": _RIGHT,
    "seccomp landlock_add_rule landlock_restrict_self close_range": (_E.ENOMEM, _E.EPERM),
    "chdir fchdir": (_E.ENOMEM, _E.EPERM),
}
# What each call may fail with on a machine that is short of something, or that refuses it.
# ``close`` is not among them: an answer without the call would leave the descriptor open; nor is
# ``kill``, which cannot fail for one's own child.
ERRORS = {name: errors for names, errors in _BY_ERRORS.items() for name in names.split()}

_LOST_IN_IMPORTS = ("openat", "newfstatat", "fstat", "read", "getdents64", "mmap", "mprotect")
_NEVER_READY = "it ended before it was ready"

ROLES = ("host", "launcher", "zygote", "guest")  # in the order in which they are made
PATIENCE_S = 150.0  # START_S and REPORT_S of belljar together, and some

# Calls that are not asked about: those that cannot fail, or fail only if called wrongly, and
# those that are so frequent that asking would be most of what happens.
_UNASKED = """
exit exit_group rt_sigreturn rt_sigaction rt_sigprocmask restart_syscall futex brk munmap madvise
getpid gettid getppid getuid getgid geteuid getegid getresuid getresgid clock_gettime
gettimeofday time lseek set_tid_address set_robust_list rseq arch_prctl sched_yield getrandom
umask uname pause sigaltstack clock_nanosleep nanosleep membarrier sched_getaffinity
"""

_MARK = 0x62656C6C  # an option that prctl(2) does not have
_RECEIVE, _SEND, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082104
_SIZE = 80  # of struct seccomp_notif
_GO_ON = 1
_SYNC_WAKE_UP = 1


class Site(NamedTuple):
    """One call of one process: the ``nth`` of its name there, from 1."""

    role: str
    call: str
    nth: int


class Fault(NamedTuple):
    """What is to fail, and with which error number."""

    role: str
    call: str
    nth: int
    errno: int


class Outcome(NamedTuple):
    """What came of one run."""

    kind: str  # "result", else the name of the exception; "lost" if the host program ended
    typed: bool  # a result or one of belljar's own exceptions
    status: str
    value: Any
    stage: str
    retryable: bool | None
    text: str
    hit: bool  # whether the call was made, and failed
    again: str  # what the next run came to: "ok" if it was right
    leaked: list[str]  # descriptors, children and mounts that were not there before
    survivors: list[int]  # processes that outlived ``belljar.close``


class FaultyHost:
    """A supervised host program.  Use it in a ``with`` block, from one thread.

    ``unasked``: calls that are let pass without a question, which makes each run quicker.
    """

    def __init__(self, unasked: Collection[str] = ()) -> None:
        self._fault: Fault | None = None
        self._armed = False
        self._hit = False
        self._roles: dict[int, str] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._trace: list[Site] = []
        self._names = {number: name for name, number in arch(MACHINE).table.items()}
        self._trouble = ""
        ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        link_fd = theirs.fileno()
        known = [name for name in (*_UNASKED.split(), *unasked) if name in arch(MACHINE).table]
        arguments = json.dumps([known, _MARK, link_fd])
        self._host = subprocess.Popen(
            [sys.executable, "-m", "belljar.testing.faulted", arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[link_fd],
            env={"PYTHONPATH": source, "PYTHONDONTWRITEBYTECODE": "1"},
            cwd="/",
        )
        theirs.close()
        _, (self._listener,) = fdpass.receive(ours)
        ours.close()
        # Both sides take turns, so one core is best; older kernels do not know this.
        try:
            fcntl.ioctl(self._listener, _SET_FLAGS, _SYNC_WAKE_UP)
        except OSError:
            pass
        self._thread = threading.Thread(target=self._supervise, daemon=True)
        self._thread.start()

    def __enter__(self) -> FaultyHost:
        if self._answer() != "ready":
            raise AssertionError(self._last_words())
        return self

    def __exit__(self, *_: object) -> None:
        self._host.kill()
        self._host.wait()
        self._thread.join()
        os.close(self._listener)
        for stream in (self._host.stdin, self._host.stdout, self._host.stderr):
            if stream is not None:
                stream.close()

    @property
    def alive(self) -> bool:
        """Whether the host program still answers; a fault may have ended it."""
        return self._host.poll() is None

    def trace(self, mode: str) -> list[Site]:
        """The calls of a run without a fault, in order.

        ``mode``: "cold", with a new zygote; "warm", with one that is there; "own", as the
        command does it.
        """
        outcome = self.attempt(mode, None)
        if outcome.kind != "result":
            raise AssertionError(outcome)
        return list(self._trace)

    def attempt(self, mode: str, fault: Fault | None) -> Outcome:
        """One run with one fault, then one without, then ``belljar.close``."""
        if self._host.stdin is None:
            raise AssertionError("the host program has no standard input")
        self._fault = fault
        self._host.stdin.write(json.dumps(mode).encode() + b"\n")
        self._host.stdin.flush()
        said = self._answer()
        stays = ("host", "zygote") if mode == "warm" else ("host",)
        others = [pid for pid, role in self._roles.items() if pid > 0 and role not in stays]
        if said is None:
            kind, text = "lost", self._last_words()
            return Outcome(kind, False, "", None, "", None, text, self._hit, "", [], [])
        again = said["again"]
        return Outcome(
            kind=said["kind"],
            typed=said["typed"],
            status=said.get("status", ""),
            value=said.get("value"),
            stage=said.get("stage", ""),
            retryable=said.get("retryable"),
            text=said["text"],
            hit=self._hit,
            again="ok" if again.get("value") == 2 else again["text"],
            leaked=said["leaked"],
            survivors=[pid for pid in others if _survives(pid)],
        )

    # --- the host program's answers --------------------------------------------------------

    def _answer(self) -> Any:
        stream = self._host.stdout
        if stream is None:
            raise AssertionError("the host program has no standard output")
        poll = select.poll()
        poll.register(stream.fileno(), select.POLLIN)
        if not poll.poll(PATIENCE_S * 1000):
            self._host.kill()
            return None
        line = stream.readline()
        return json.loads(line) if line else None

    def _last_words(self) -> str:
        self._host.kill()
        self._host.wait()
        said = self._host.stderr.read() if self._host.stderr is not None else b""
        return f"{self._trouble}{self._host.returncode}: {said.decode(errors='replace')}"

    # --- the supervisor --------------------------------------------------------------------

    def _supervise(self) -> None:
        """Answer until nobody is left to be asked about."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        request = bytearray(_SIZE)
        answer = bytearray(24)
        while True:
            ((_, event),) = poll.poll()
            if not event & select.POLLIN:
                return
            request[:] = bytes(_SIZE)
            try:
                fcntl.ioctl(self._listener, _RECEIVE, request, True)
            except OSError:
                continue  # the process was killed meanwhile
            number, pid, _, call, _, _, *arguments = struct.unpack("=QIIiIQ6Q", request)
            error = self._judge(pid, self._names.get(call, str(call)), arguments)
            flags = _GO_ON if error is None else 0
            struct.pack_into("=QqiI", answer, 0, number, 0, -(error or 0), flags)
            try:
                fcntl.ioctl(self._listener, _SEND, answer, True)
            except OSError:
                continue  # the same

    def _judge(self, pid: int, name: str, arguments: list[int]) -> int | None:
        """The error number to answer with; 0 for success without a call, None to let it pass."""
        first, armed, zygote = arguments[:3]
        if name == "prctl" and first == _MARK:
            if armed:
                self._roles = {pid: "host"}
                if zygote:
                    self._roles |= {-1: "launcher", zygote: "zygote"}
                self._counts.clear()
                self._trace = []
                self._hit = False
            self._armed = bool(armed)
            return 0
        if not self._armed:
            return None
        role = self._roles.get(pid)
        if role is None:
            made = len(self._roles)
            role = ROLES[made] if made < len(ROLES) else f"other{made}"
            self._roles[pid] = role
        self._counts[role, name] += 1
        site = Site(role, name, self._counts[role, name])
        self._trace.append(site)
        fault = self._fault
        if fault is not None and site == fault[:3]:
            self._hit = True
            return fault.errno
        return None


def faults_at(sites: list[Site]) -> list[Fault]:
    """Every error that every one of these calls may meet."""
    return [Fault(*site, number) for site in sites for number in ERRORS.get(site.call, ())]


def what_is_wrong(fault: Fault, outcome: Outcome) -> list[str]:
    """How an outcome breaks the promise; nothing if it keeps it.

    The promise: a right result or one typed error, a shortage says that a retry may help,
    nothing is left, and the next run works.  After its confinement a guest that meets an error
    is a program that meets an error: its own ending is a right result.
    """
    wrong: list[str] = []
    # What an agent says that cannot even start is a claim; nobody reads it for reasons.  And an
    # interpreter that lacks memory for a module says in most cases that there is no such module.
    claim = fault.role == "guest" and outcome.stage == "start"
    claim = claim or (fault.call in _LOST_IN_IMPORTS and _NEVER_READY in outcome.text)
    if outcome.kind == "result":
        if fault.role != "guest" and (outcome.status, outcome.value) != ("ok", 2):
            wrong.append("a wrong result")
    elif not outcome.typed:
        wrong.append("not a typed error")
    elif fault.errno in SHORTAGES and not outcome.retryable and not claim:
        wrong.append("not retryable")
    if outcome.again != "ok":
        wrong.append(f"the next run: {outcome.again}")
    wrong += [f"left: {name}" for name in outcome.leaked]
    wrong += [f"process {pid} lives on" for pid in outcome.survivors]
    return wrong


def _survives(pid: int) -> bool:
    """Whether a process is there, and still is after a generous time."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return False
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    gone = poll.poll(10_000)
    os.close(pidfd)
    return not gone
