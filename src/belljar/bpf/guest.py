"""The filter of a guest.

Example::

    program = compile_filter(guest_filter(FilterFeatures("x86_64", sandboxed_signals=True)))

What: ``guest_filter`` joins the lists of ``sets`` with a rule for each call that is
checked by argument.  Because: some calls are many calls in one (ioctl, prctl, fcntl), and
some are harmless in one shape only (clone, mmap).  Then: the plan picks the features, the
kernel layer installs the program, the golden files show what it comes to.

All numbers here are those of asm-generic, which x86_64 and aarch64 share.
"""

from __future__ import annotations

import errno

from .expr import ALLOW, NOTIFY, Arg, Choice, Errno, Filter, If
from .features import BRANCH, TAKE, FilterFeatures
from .sets import ABSENT, ALLOWED, MACHINE, PROCESSES, TIMESTAMPS, UNIX_SOCKETS, X86_64_ONLY

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .expr import Condition, Rule

_EPERM = Errno(errno.EPERM)


def guest_filter(features: FilterFeatures) -> Filter:
    """The default filter for a guest with ``features``.

    Calls that no rule names fail with EPERM, numbers that belljar does not know with
    ENOSYS.  Raises ``FilterError`` (on compiling) for an unknown architecture.
    """
    rules: dict[str, Rule] = {}
    for group in ALLOWED.values():
        rules.update(dict.fromkeys(group, ALLOW))
    rules.update(dict.fromkeys(ABSENT, Errno(errno.ENOSYS)))
    rules.update(_files(features))
    rules.update(_memory(features))
    rules.update(_tasks(features))
    rules.update(_signals(features))
    rules.update(_sockets(features))
    rules.update(_system(features))
    return Filter(features.arch, rules, optional=X86_64_ONLY)


def _only(condition: Condition) -> Rule:
    return Choice(condition, ALLOW, _EPERM)


# -- files -----------------------------------------------------------------------------

_SET_ID = 0o6000  # S_ISUID | S_ISGID
_MAKES_FILE = 0x40 | 0x40_0000  # O_CREAT | __O_TMPFILE: only then does open read its mode
_S_IFMT, _S_IFREG, _S_IFIFO = 0o170000, 0o100000, 0o010000
_RENAME_FLAGS = 1 | 2  # RENAME_NOREPLACE | RENAME_EXCHANGE
_PIPE_FLAGS = 0x80000 | 0x800  # O_CLOEXEC | O_NONBLOCK
_CLOSE_RANGE_CLOEXEC = 4

_O_DIRECT = {"x86_64": 0x4000, "aarch64": 0x10000}
_F_SETFL = 4
_PUNCH_HOLE_KEEP_SIZE = 3
_POSIX_FADV_DONTNEED = 4

# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW,
# F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW,
# F_DUPFD_CLOEXEC, F_GETPIPE_SZ, F_ADD_SEALS, F_GET_SEALS
_FCNTL = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032, 1033, 1034)
# TCGETS and TCGETS2 (isatty), TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
_IOCTL = (0x5401, 0x802C542A, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# FICLONE, FICLONERANGE: pathlib of Python 3.14 tries to clone before it copies, and falls
# back on EOPNOTSUPP, not on EPERM
_IOCTL_CLONE = (0x40049409, 0x4020940D)


def _files(features: FilterFeatures) -> dict[str, Rule]:
    # On a pipe it means that every write is read alone: a guest's two bytes cost the host a
    # whole wake-up.  EINVAL is what a file system without it answers.
    o_direct = _O_DIRECT.get(features.arch, 0)

    def no_set_id(mode: int) -> Condition:
        # A set-id file in a granted host directory would lend the guest's user to whoever
        # runs it there.
        return (Arg(mode, width=32) & _SET_ID) == 0

    def opens(flags: int) -> Rule:
        makes_none = (Arg(flags, width=32) & _MAKES_FILE) == 0
        direct = (Arg(flags, width=32) & o_direct) != 0
        return If(direct, Errno(errno.EINVAL)).else_(_only(makes_none | no_set_id(flags + 1)))

    def makes_node(mode: int) -> Rule:
        kind = Arg(mode, width=32) & _S_IFMT
        return _only(kind.is_in((0, _S_IFREG, _S_IFIFO)) & no_set_id(mode))

    rules: dict[str, Rule] = {
        "open": opens(1),
        "openat": opens(2),
        "creat": _only(no_set_id(1)),
        "mknod": makes_node(1),
        "mknodat": makes_node(2),
        "renameat2": _only(Arg(4, width=32).has_only(_RENAME_FLAGS)),
        "pipe2": _only(Arg(1, width=32).has_only(_PIPE_FLAGS)),
        "close_range": _only(Arg(2, width=32).has_only(_CLOSE_RANGE_CLOEXEC)),
        "fcntl": If(
            (Arg(1, width=32) == _F_SETFL) & ((Arg(2, width=32) & o_direct) != 0),
            Errno(errno.EINVAL),
        ).else_(_only(Arg(1, width=32).is_in(_FCNTL))),
        # With KEEP_SIZE alone space is taken beyond what RLIMIT_FSIZE looks at.
        "fallocate": _only(Arg(1, width=32).is_in((0, _PUNCH_HOLE_KEEP_SIZE))),
        # It throws pages out of memory that other processes use too.
        "fadvise64": _only(Arg(3, width=32) != _POSIX_FADV_DONTNEED),
        "ioctl": If(Arg(1, width=32).is_in(_IOCTL), ALLOW)
        .elif_(Arg(1, width=32).is_in(_IOCTL_CLONE), Errno(errno.EOPNOTSUPP))
        .else_(_EPERM),
    }
    if features.own_root:
        rules.update(dict.fromkeys(TIMESTAMPS, ALLOW))
        for name, mode in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("fchmodat2", 2)):
            rules[name] = _only(no_set_id(mode))
    return rules


# -- memory ----------------------------------------------------------------------------

_PROT_WRITE, _PROT_EXEC = 2, 4
_MAP_PRIVATE, _MAP_TYPE, _MAP_ANONYMOUS = 0x02, 0x0F, 0x20
# Not among them, hence refused: MAP_GROWSDOWN (grows by touching, nothing has used it since
# LinuxThreads), MAP_LOCKED (pins pages against the host's reclaim), MAP_HUGETLB (a pool that
# the memory limits do not count), MAP_SYNC (persistent memory only).
_MAP_FLAGS = (
    _MAP_TYPE  # SHARED, PRIVATE, SHARED_VALIDATE, DROPPABLE
    | 0x10  # FIXED
    | _MAP_ANONYMOUS
    | 0x40  # 32BIT
    | 0x80  # ABOVE4G
    | 0x800  # DENYWRITE, which the dynamic loader sets and the kernel ignores
    | 0x1000  # EXECUTABLE, likewise
    | 0x4000  # NORESERVE
    | 0x8000  # POPULATE
    | 0x10000  # NONBLOCK
    | 0x20000  # STACK
    | 0x100000  # FIXED_NOREPLACE
)
# NORMAL RANDOM SEQUENTIAL WILLNEED DONTNEED FREE REMOVE DONTFORK DOFORK NOHUGEPAGE
# DONTDUMP DODUMP WIPEONFORK KEEPONFORK COLD POPULATE_READ POPULATE_WRITE DONTNEED_LOCKED
# GUARD_INSTALL GUARD_REMOVE.  Not MERGEABLE: merged pages tell what others hold.
# Not PAGEOUT: it evicts pages that others share.
# Not HUGEPAGE, not COLLAPSE: a huge page of which one small page is left counts as that one.
_MADVISE = (0, 1, 2, 3, 4, 8, 9, 10, 11, 15, 16, 17, 18, 19, 20, 22, 23, 24, 102, 103)


def _memory(features: FilterFeatures) -> dict[str, Rule]:
    # prot and flags are unsigned long: the kernel reads all 64 bits of them.
    # Shared memory without a file outlives its mappings for as long as one page of it is
    # mapped, and then no limit counts it.  Nothing is lost: there is no other process to
    # share it with.
    kind = Arg(3) & (_MAP_TYPE | _MAP_ANONYMOUS)
    plain = Arg(3).has_only(_MAP_FLAGS) & (
        (kind == (_MAP_PRIVATE | _MAP_ANONYMOUS)) | ((Arg(3) & _MAP_ANONYMOUS) == 0)
    )
    data = (Arg(2) & _PROT_EXEC) == 0
    code_of_file = ((Arg(2) & _PROT_WRITE) == 0) & (
        (Arg(3) & (_MAP_TYPE | _MAP_ANONYMOUS)) == _MAP_PRIVATE
    )
    rules: dict[str, Rule] = {"madvise": _only(Arg(2, width=32).is_in(_MADVISE))}
    if features.jit:
        rules["mmap"] = _only(plain)
        rules["mprotect"] = ALLOW
    else:
        rules["mmap"] = _only(plain & (data | code_of_file if features.load_code else data))
        rules["mprotect"] = _only(data)
    return rules


# -- threads and processes -------------------------------------------------------------

_SIGCHLD = 17
_CSIGNAL = 0xFF
_CLONE_VM, _CLONE_VFORK, _CLONE_THREAD = 0x100, 0x4000, 0x1_0000
# VM, FS, FILES, SIGHAND, THREAD.  FS and FILES as well, because a thread with descriptors
# of its own would have a limit on open files of its own.
_THREAD = _CLONE_VM | 0x200 | 0x400 | 0x800 | _CLONE_THREAD
_TIDS = 0x10_0000 | 0x20_0000 | 0x100_0000  # PARENT_SETTID, CHILD_CLEARTID, CHILD_SETTID
# SYSVSEM, SETTLS, and DETACHED, which musl sets and the kernel ignores
_THREAD_MAY = _TIDS | 0x4_0000 | 0x8_0000 | 0x40_0000
_WORD = 0xFFFF_FFFF
# WAIT WAKE REQUEUE CMP_REQUEUE WAKE_OP WAIT_BITSET WAKE_BITSET
_FUTEX = (0, 1, 3, 4, 5, 9, 10)
_FUTEX_FLAGS = 128 | 256  # PRIVATE_FLAG, CLOCK_REALTIME


def _tasks(features: FilterFeatures) -> dict[str, Rule]:
    # The kernel takes the lower half of clone's flags (kernel/fork.c, clone).
    flags = Arg(0, width=32)
    is_thread = (flags & (_WORD & ~_THREAD_MAY)) == _THREAD
    # EAGAIN is what pthread_create(3) documents for "no more threads".
    clone = If(is_thread, ALLOW if features.threads else Errno(errno.EAGAIN))
    rules: dict[str, Rule] = {
        # ENOSYS is what a kernel without these operations answers; the C library copes.
        "futex": If((Arg(1, width=32) & (_WORD & ~_FUTEX_FLAGS)).is_in(_FUTEX), ALLOW).else_(
            Errno(errno.ENOSYS)
        ),
    }
    if features.processes:
        rules.update(dict.fromkeys(PROCESSES, ALLOW))
        # fork, and the vfork of posix_spawn.  The exit signal is SIGCHLD and no other, as
        # it goes to the parent.
        shapes = (_SIGCHLD, _SIGCHLD | _CLONE_VM | _CLONE_VFORK)
        clone = clone.elif_((flags & (_WORD & ~_TIDS)).is_in(shapes), ALLOW)
    if features.branches:
        # The host holds the listener and lets it happen once for each branch that it asks for.
        # All 64 bits, and no memory of the caller's is named: what waits is what happens.
        clone = clone.elif_(Arg(0).is_in((BRANCH, TAKE)), NOTIFY)
    rules["clone"] = clone.else_(_EPERM)
    return rules


# -- signals ---------------------------------------------------------------------------

_SIGCONT = 18


def _signals(features: FilterFeatures) -> dict[str, Rule]:
    if features.branches:
        # Branches have their parent's PID namespace and its filter, in which no number can stand
        # for whoever asks.
        return dict.fromkeys(("kill", "tgkill", "tkill"), _EPERM)
    pid = Arg(0, width=32)
    if features.own_pid is not None:
        own = pid == features.own_pid
        # tkill names a thread of no stated process
        return _signal_rules({"kill": own, "tgkill": own}, features)
    if not features.sandboxed_signals:
        return {}
    # 0 is the caller's process group, and a group may reach out of a PID namespace: a guest
    # that is one process was forked into the zygote's.  Negative numbers are groups within
    # it, or all.
    # 1 is the first process of the namespace, which is not the guest's: it shares the
    # zygote's memory and must never run a signal handler.
    first = pid == 1
    kill = ~first if features.processes else (pid != 0) & (pid <= 0x7FFF_FFFF) & ~first
    return _signal_rules({"kill": kill, "tgkill": ~first, "tkill": ~first}, features)


def _signal_rules(targets: dict[str, Condition], features: FilterFeatures) -> dict[str, Rule]:
    if features.continues:
        return {name: _only(target) for name, target in targets.items()}
    # A guest that stays is stopped between two runs.  SIGCONT undoes that, even before a thread
    # has taken notice of the SIGSTOP.
    numbers = {"kill": 1, "tkill": 1, "tgkill": 2}
    return {
        name: _only(target & (Arg(numbers[name], width=32) != _SIGCONT))
        for name, target in targets.items()
    }


# -- sockets ---------------------------------------------------------------------------

_AF_UNIX, _AF_INET, _AF_INET6 = 1, 2, 10
_SOCK_STREAM, _SOCK_SEQPACKET = 1, 5
_SOCK_FLAGS = 0x80000 | 0x800  # SOCK_CLOEXEC | SOCK_NONBLOCK
_SOL_SOCKET = 1
# DONTWAIT, EOR, NOSIGNAL, MORE.  Not OOB: it was the way out of a browser's sandbox in 2025
# (CVE-2025-38236).  Not ZEROCOPY: it pins pages.
_SEND_FLAGS = 0x40 | 0x80 | 0x4000 | 0x8000
# PEEK, TRUNC, DONTWAIT, WAITALL, NOSIGNAL, CMSG_CLOEXEC
_RECEIVE_FLAGS = 0x2 | 0x20 | 0x40 | 0x100 | 0x4000 | 0x4000_0000
# SO_REUSEADDR TYPE ERROR SNDBUF RCVBUF KEEPALIVE RCVTIMEO SNDTIMEO ACCEPTCONN PROTOCOL
# DOMAIN.  Not PEERCRED, PEERGROUPS, PEERPIDFD: they tell who and where the host is.
_GETSOCKOPT = (2, 3, 4, 7, 8, 9, 20, 21, 30, 38, 39)
_SO_REUSEADDR = 2  # which says nothing of a Unix socket, and multiprocessing sets it
_SETSOCKOPT = (20, 21)  # SO_RCVTIMEO, SO_SNDTIMEO
# A connection that nobody has accepted is no descriptor of anybody's, and holds up to 360 KiB
# of kernel memory: with the usual 4096 one listener would hold 1.5 GiB that no limit counts.
_MOST_BACKLOG = 1


_ADDRESSLESS = (_SOCK_STREAM, _SOCK_SEQPACKET)  # kinds that ignore or refuse an address


def _sockets(features: FilterFeatures) -> dict[str, Rule]:
    level = Arg(1, width=32) == _SOL_SOCKET
    kind = Arg(1, width=32) & (_WORD & ~_SOCK_FLAGS)
    option = Arg(2, width=32)
    settable = (_SO_REUSEADDR, *_SETSOCKOPT) if features.unix_sockets else _SETSOCKOPT
    rules: dict[str, Rule] = {
        # EACCES is socket(2)'s own word for it and arrives as PermissionError.  For the
        # families that programs merely probe (netlink, the kernel's ciphers, vsock),
        # EAFNOSUPPORT makes them take the way of a kernel without them.
        # A Unix socket of a kind that ignores or refuses an address can be made, because
        # asyncio's users probe for it; as nothing can be bound or connected, it leads nowhere.
        "socket": If((Arg(0, width=32) == _AF_UNIX) & kind.is_in(_ADDRESSLESS), ALLOW)
        .elif_(Arg(0, width=32).is_in((_AF_UNIX, _AF_INET, _AF_INET6)), Errno(errno.EACCES))
        .else_(Errno(errno.EAFNOSUPPORT)),
        # Not SOCK_DGRAM: sendmsg's address lies behind a pointer, and on a datagram socket
        # it reaches any Unix socket of the machine.  The two kinds here ignore or refuse it.
        "socketpair": _only((Arg(0, width=32) == _AF_UNIX) & kind.is_in(_ADDRESSLESS)),
        "sendto": _only((Arg(4) == 0) & Arg(3, width=32).has_only(_SEND_FLAGS)),
        "sendmsg": _only(Arg(2, width=32).has_only(_SEND_FLAGS)),
        "recvfrom": _only(Arg(3, width=32).has_only(_RECEIVE_FLAGS)),
        "recvmsg": _only(Arg(2, width=32).has_only(_RECEIVE_FLAGS)),
        "getsockopt": _only(level & option.is_in(_GETSOCKOPT)),
        "setsockopt": _only(level & option.is_in(settable)),
    }
    if features.unix_sockets:
        rules.update(dict.fromkeys(UNIX_SOCKETS, ALLOW))
        rules["listen"] = _only(Arg(1, width=32) <= _MOST_BACKLOG)
    return rules


# -- the rest --------------------------------------------------------------------------

# PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_GET_SECCOMP, PR_CAPBSET_READ,
# PR_GET_TIMERSLACK, PR_GET_NO_NEW_PRIVS, PR_GET_THP_DISABLE, PR_SET_VMA (names mappings)
_PRCTL = (3, 15, 16, 21, 23, 30, 39, 42, 0x53564D41)
_ARCH_SET_FS = 0x1002  # the first thread's own storage: the C library sets it once, at its start
_ARCH_PRCTL = (0x1003, 0x3001, 0x5005)  # ARCH_GET_FS, ARCH_CET_STATUS, ARCH_SHSTK_STATUS
_PERSONALITY_QUERY = 0xFFFF_FFFF
_PRIO_PROCESS = 0
_NICEST = 19


OF_ANY_PROCESS = (
    "getpgid",
    "getsid",
    "sched_getaffinity",
    "sched_getparam",
    "sched_getscheduler",
)
CLOCKS = ("clock_getres", "clock_gettime", "clock_nanosleep", "timer_create")
_INT_MAX = 0x7FFF_FFFF


def _is_own(features: FilterFeatures, number: int) -> Condition:
    """Whether an argument is 0 or the guest's own process number."""
    if features.own_pid is None:
        return Arg(number, width=32) == 0
    return Arg(number, width=32).is_in((0, features.own_pid))


def _system(features: FilterFeatures) -> dict[str, Rule]:
    own = _is_own(features, 0)
    rules: dict[str, Rule] = {
        "prctl": _only(Arg(0, width=32).is_in(_PRCTL)),
        "arch_prctl": _only(
            Arg(0, width=32).is_in(
                (*_ARCH_PRCTL, _ARCH_SET_FS) if features.processes else _ARCH_PRCTL
            )
        ),
        "personality": _only(Arg(0, width=32) == _PERSONALITY_QUERY),
        "prlimit64": _only(own & (Arg(2) == 0)),  # new_limit is NULL: a question
        "setpriority": _only(
            (Arg(0, width=32) == _PRIO_PROCESS)
            & (Arg(1, width=32) == 0)
            & (Arg(2, width=32) <= _NICEST)
        ),
    }
    if features.own_pid is not None:
        # Every process of the machine has a number here, and these calls answer for any.
        rules.update(dict.fromkeys(OF_ANY_PROCESS, _only(own)))
        rules["getpriority"] = _only((Arg(0, width=32) == _PRIO_PROCESS) & _is_own(features, 1))
    if features.own_pid is not None or features.branches:
        # Negative clocks are the processor time of whatever process they encode.
        rules.update({name: _only(Arg(0, width=32) <= _INT_MAX) for name in CLOCKS})
    if features.branches:
        rules.update(dict.fromkeys(OF_ANY_PROCESS, _only(own)))
        rules["getpriority"] = _only((Arg(0, width=32) == _PRIO_PROCESS) & _is_own(features, 1))
    if not features.continues:
        # A guest that stays is stopped between two runs, and only the host may let it go on.
        # setitimer stays: its signals wait as everything does.
        rules["timer_create"] = Errno(errno.EPERM)
    granted = {"sysinfo": features.system_info, "uname": features.uname}
    rules.update({name: ALLOW for name in MACHINE if granted[name]})
    return rules
