"""What the default filter lets through, call by call, without a kernel (R2, C9, K1, K9)."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

import belljar.bpf as bpf
from belljar.bpf import (
    ALLOW,
    Action,
    Errno,
    FilterError,
    FilterFeatures,
    SeccompData,
    arch,
    compile_filter,
    emulate,
    guest_filter,
    reason,
    verify,
)
from belljar.bpf.guest import CLOCKS, OF_ANY_PROCESS
from belljar.bpf.refused import refused
from belljar.bpf.sets import (
    ABSENT,
    ALLOWED,
    CHECKED,
    MACHINE,
    PROCESSES,
    TIMESTAMPS,
    UNIX_SOCKETS,
    X86_64_ONLY,
)

EPERM, ENOSYS = Errno(errno.EPERM), Errno(errno.ENOSYS)
GARBAGE = 0xDEADBEEF << 32  # what a caller may leave above an int
_programs: dict[FilterFeatures, bytes] = {}

both = pytest.mark.parametrize("name", bpf.ARCHES)


def answer(features: FilterFeatures, call: str, *args: int) -> Action:
    if features not in _programs:
        _programs[features] = compile_filter(guest_filter(features))
        verify(_programs[features])
    target = arch(features.arch)
    padded = (*args, *(0,) * (6 - len(args)))
    data = SeccompData(target.table[call], target.audit, padded)  # type: ignore[arg-type]
    return emulate(_programs[features], data)


def every_features(name: str) -> list[FilterFeatures]:
    everything = FilterFeatures(
        name, processes=True, jit=True, own_root=True, sandboxed_signals=True, system_info=True
    )
    return [FilterFeatures(name), FilterFeatures(name, own_pid=7), everything]


# -- the lists -------------------------------------------------------------------------


def groups() -> list[dict[str, str]]:
    return [
        *ALLOWED.values(),
        CHECKED,
        ABSENT,
        TIMESTAMPS,
        PROCESSES,
        UNIX_SOCKETS,
        MACHINE,
        refused(),
    ]


def test_every_entry_has_a_written_reason() -> None:
    for group in groups():
        for name, why in group.items():
            assert len(why) >= 15, name
            assert reason(name) == why


def test_every_known_call_has_exactly_one_place() -> None:
    placed = [name for group in groups() for name in group]
    assert len(placed) == len(set(placed))
    assert set(placed) == {name for each in bpf.ARCHES for name in arch(each).table}
    assert reason("no_such_call") == ""


@both
def test_the_rules_are_those_of_the_lists(name: str) -> None:
    for features in every_features(name):
        rules = guest_filter(features).rules
        permitted = {call for group in ALLOWED.values() for call in group}
        permitted |= {*CHECKED, *TIMESTAMPS, *PROCESSES, *UNIX_SOCKETS, *MACHINE}
        assert {call for call, rule in rules.items() if rule != ENOSYS} <= permitted
        narrowed: set[str] = set()
        if features.own_pid is not None:  # calls that would answer for any process
            narrowed = {*OF_ANY_PROCESS, *CLOCKS, "getpriority"}
        for group in ALLOWED.values():
            assert all(rules[call] == ALLOW for call in group if call not in narrowed)


def test_optional_names_are_exactly_those_aarch64_lacks() -> None:
    everything = every_features("aarch64")[-1]
    used = set(guest_filter(everything).rules)
    assert used - set(arch("aarch64").table) == X86_64_ONLY
    assert used <= set(arch("x86_64").table)


@pytest.mark.parametrize(
    ("name", "count", "numbers"),
    [
        ("x86_64", 383, {"read": 0, "execve": 59, "rseq": 334, "clone3": 435}),
        ("aarch64", 325, {"io_setup": 0, "read": 63, "execve": 221, "wait4": 260, "rseq": 293}),
    ],
)
def test_the_tables_have_the_kernels_numbers(
    name: str, count: int, numbers: dict[str, int]
) -> None:
    table = arch(name).table
    assert len(table) == len(set(table.values())) == count
    assert {call: table[call] for call in numbers} == numbers
    assert (table["pidfd_send_signal"], table["mseal"], table["file_setattr"]) == (424, 462, 469)


# -- never -----------------------------------------------------------------------------

# fmt: off
DANGEROUS = [
    "acct", "add_key", "adjtimex", "bpf", "capset", "chown",
    "chroot", "clock_adjtime", "clock_settime", "create_module", "delete_module",
    "execveat", "fanotify_init", "fanotify_mark", "fchown", "fchownat",
    "finit_module", "fsconfig", "fsetxattr", "fsmount", "fsopen", "fspick", "get_mempolicy",
    "init_module", "inotify_add_watch", "inotify_init", "inotify_init1", "io_setup",
    "io_submit", "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load", "keyctl", "lchown",
    "listmount", "lookup_dcookie", "lsetxattr", "mbind", "memfd_create",
    "memfd_secret", "migrate_pages", "mincore", "mlock", "mlock2", "mlockall", "modify_ldt",
    "mount", "mount_setattr", "move_mount", "move_pages", "mq_open", "msgget",
    "name_to_handle_at", "nfsservctl", "open_by_handle_at", "open_tree", "open_tree_attr",
    "perf_event_open", "pidfd_getfd", "pidfd_open", "pidfd_send_signal", "pivot_root",
    "pkey_mprotect", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace",
    "quotactl", "quotactl_fd", "reboot", "recvmmsg", "remap_file_pages", "request_key",
    "rt_sigqueueinfo", "rt_tgsigqueueinfo", "sched_setaffinity", "sched_setattr",
    "sched_setparam", "sched_setscheduler", "seccomp", "semget", "sendmmsg", "set_mempolicy",
    "setdomainname", "setfsgid", "setfsuid", "setgid", "setgroups", "sethostname", "setns",
    "setregid", "setresgid", "setresuid", "setreuid", "setrlimit", "settimeofday", "setuid",
    "setxattr", "setxattrat", "shmat", "shmget", "splice", "statmount", "swapoff", "swapon",
    "sync", "syncfs", "syslog", "tee", "umount2", "unshare", "uselib", "userfaultfd", "vhangup",
    "vmsplice",
]
# fmt: on


@both
def test_no_dangerous_call_is_allowed_under_any_features(name: str) -> None:
    table = arch(name).table
    for features in every_features(name):
        for call in DANGEROUS:
            if call in table:
                assert answer(features, call) == EPERM, call
        for call in ABSENT:
            assert answer(features, call) == ENOSYS, call


@both
def test_calls_of_later_kernels_do_not_exist(name: str) -> None:
    target = arch(name)
    program = compile_filter(guest_filter(FilterFeatures(name)))
    for number in (470, 500, 1000, 0x3FFFFFFF):
        assert emulate(program, SeccompData(number, target.audit)) == ENOSYS


@pytest.mark.parametrize("call", ["fork", "vfork", "setsid", "setpgid", "execve"])
def test_processes_are_a_feature(call: str) -> None:
    assert answer(FilterFeatures("x86_64"), call) == EPERM
    assert answer(FilterFeatures("x86_64", processes=True), call) == ALLOW


@pytest.mark.parametrize("call", sorted(UNIX_SOCKETS))
def test_sockets_with_names_are_a_feature(call: str) -> None:
    assert answer(FilterFeatures("x86_64", processes=True), call) == EPERM
    assert answer(FilterFeatures("x86_64", unix_sockets=True), call) == ALLOW


def test_a_new_program_may_set_its_thread_storage() -> None:
    """The C library of a program sets the FS base once, before anything else of it runs."""
    set_fs = 0x1002
    assert answer(FilterFeatures("x86_64"), "arch_prctl", set_fs) == EPERM
    assert answer(FilterFeatures("x86_64", processes=True), "arch_prctl", set_fs) == ALLOW


# -- clone -----------------------------------------------------------------------------

GLIBC_THREAD, MUSL_THREAD = 0x3D0F00, 0x7D0F00
FORK, POSIX_SPAWN = 0x1200011, 0x4111
NAMESPACES = [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000]
# PIDFD, PTRACE, VFORK, PARENT, UNTRACED, IO
FOREIGN_BITS = [*NAMESPACES, 0x1000, 0x2000, 0x4000, 0x8000, 0x800000, 0x80000000]


@both
@pytest.mark.parametrize("flags", [GLIBC_THREAD, MUSL_THREAD, GLIBC_THREAD | GARBAGE])
def test_threads_of_both_c_libraries_start(name: str, flags: int) -> None:
    assert answer(FilterFeatures(name), "clone", flags) == ALLOW
    assert answer(FilterFeatures(name, processes=True), "clone", flags) == ALLOW
    refused_ = answer(FilterFeatures(name, threads=False), "clone", flags)
    assert refused_ == Errno(errno.EAGAIN)


@both
def test_a_thread_shares_everything_and_nothing_else(name: str) -> None:
    features = FilterFeatures(name, processes=True)
    for bit in (0x100, 0x200, 0x400, 0x800, 0x10000):
        assert answer(features, "clone", GLIBC_THREAD & ~bit) == EPERM
    for bit in FOREIGN_BITS:
        assert answer(features, "clone", GLIBC_THREAD | bit) == EPERM


@both
def test_processes_by_clone_only_if_granted_and_never_with_namespaces(name: str) -> None:
    for flags in (FORK, POSIX_SPAWN, 17, FORK | GARBAGE):
        assert answer(FilterFeatures(name), "clone", flags) == EPERM
        assert answer(FilterFeatures(name, processes=True), "clone", flags) == ALLOW
    for flags in (0, 9, FORK & ~0xFF, FORK & ~0xFF | 9, 0x100 | 17):
        assert answer(FilterFeatures(name, processes=True), "clone", flags) == EPERM
    for bit in FOREIGN_BITS:
        assert answer(FilterFeatures(name, processes=True), "clone", FORK | bit) == EPERM


# -- memory ----------------------------------------------------------------------------

READ, WRITE, EXEC = 1, 2, 4
SHARED, PRIVATE, FIXED, ANONYMOUS = 1, 2, 0x10, 0x20


def mmap(features: FilterFeatures, prot: int, flags: int) -> bool:
    result = answer(features, "mmap", 0, 4096, prot, flags, 3, 0)
    assert result in (ALLOW, EPERM)
    return result == ALLOW


@both
def test_data_never_becomes_code(name: str) -> None:
    """C9"""
    features = FilterFeatures(name)
    assert mmap(features, READ | WRITE, PRIVATE | ANONYMOUS)
    assert mmap(features, READ | WRITE, SHARED)
    assert mmap(features, READ | EXEC, PRIVATE | 0x800)  # as the dynamic loader does
    assert mmap(features, READ | EXEC, PRIVATE | FIXED | 0x800)
    assert not mmap(features, READ | EXEC, PRIVATE | ANONYMOUS)
    assert not mmap(features, READ | WRITE | EXEC, PRIVATE)
    assert not mmap(features, EXEC, SHARED)
    assert not mmap(features, EXEC, 3)  # MAP_SHARED_VALIDATE
    assert not mmap(features, EXEC, 8)  # MAP_DROPPABLE
    assert not mmap(features, READ | EXEC | GARBAGE, PRIVATE | ANONYMOUS)
    assert answer(features, "mprotect", 0, 4096, READ | WRITE) == ALLOW
    assert answer(features, "mprotect", 0, 4096, READ | EXEC) == EPERM
    assert answer(features, "mprotect", 0, 4096, EXEC | GARBAGE) == EPERM


@both
def test_no_executable_mapping_at_all_without_load_code(name: str) -> None:
    features = FilterFeatures(name, load_code=False)
    assert not mmap(features, READ | EXEC, PRIVATE)
    assert mmap(features, READ, PRIVATE)


@both
def test_jit_lifts_the_rule_and_only_that(name: str) -> None:
    features = FilterFeatures(name, jit=True)
    assert mmap(features, READ | WRITE | EXEC, PRIVATE | ANONYMOUS)
    assert answer(features, "mprotect", 0, 4096, READ | EXEC) == ALLOW
    assert not mmap(features, READ, PRIVATE | ANONYMOUS | 0x40000)
    assert answer(features, "pkey_mprotect", 0, 4096, READ) == EPERM


@both
@pytest.mark.parametrize("flag", [0x100, 0x2000, 0x40000, 0x80000, 1 << 26, 1 << 40])
def test_uncounted_and_unknown_mappings_are_refused(name: str, flag: int) -> None:
    """R1: growing, locked, huge, persistent, unknown."""
    assert not mmap(FilterFeatures(name), READ | WRITE, PRIVATE | ANONYMOUS | flag)


@both
def test_advice_that_tells_of_others_is_refused(name: str) -> None:
    features = FilterFeatures(name)
    for advice in (0, 4, 8, 15, 22, 102):
        assert answer(features, "madvise", 0, 4096, advice) == ALLOW
    for advice in (12, 13, 14, 21, 25, 100, 101, GARBAGE | 12):
        assert answer(features, "madvise", 0, 4096, advice) == EPERM


@both
def test_space_is_taken_only_where_the_size_limit_looks(name: str) -> None:
    """R2: KEEP_SIZE alone takes space beyond RLIMIT_FSIZE."""
    features = FilterFeatures(name)
    for mode in (0, 3, GARBAGE | 3):
        assert answer(features, "fallocate", 5, mode, 0, 1 << 30) == ALLOW
    for mode in (1, 2, 8, 16, 32, GARBAGE | 1):
        assert answer(features, "fallocate", 5, mode, 0, 1 << 30) == EPERM


@both
def test_a_pipe_is_not_made_to_keep_packets(name: str) -> None:
    """K1: each two bytes would wake the host."""
    direct = {"x86_64": 0x4000, "aarch64": 0x10000}[name]
    features = FilterFeatures(name)
    einval = Errno(errno.EINVAL)
    assert answer(features, "openat", 0, 0, direct | 1) == einval
    assert answer(features, "fcntl", 1, 4, direct | 1) == einval
    assert answer(features, "fcntl", 1, 4, 0x800) == ALLOW


@both
def test_shared_memory_without_a_file_is_refused(name: str) -> None:
    """R1: its pages outlive their mappings, and then nothing counts them."""
    features = FilterFeatures(name)
    for flags in (0x21, 0x21 | 0x4000, 0x23):
        assert answer(features, "mmap", 0, 4096, 3, flags, 2**64 - 1, 0) == EPERM
    for flags in (0x22, 0x01, 0x02):
        assert answer(features, "mmap", 0, 4096, 3, flags, 5, 0) == ALLOW


@both
def test_no_other_process_is_asked_about_where_all_have_numbers(name: str) -> None:
    """K9: without a PID namespace these calls would answer for the host's processes."""
    features = FilterFeatures(name, own_pid=77)
    for call in OF_ANY_PROCESS:
        assert answer(features, call, 0) == ALLOW
        assert answer(features, call, 77) == ALLOW
        for other in (1, 78, GARBAGE | 78):
            assert answer(features, call, other) == EPERM
    assert answer(features, "getpriority", 0, 77) == ALLOW
    assert answer(features, "getpriority", 0, 1) == EPERM
    assert answer(features, "getpriority", 2, 0) == EPERM
    for call in CLOCKS:
        assert answer(features, call, 2) == ALLOW
        assert answer(features, call, (~1234 << 3 | 2) & (2**64 - 1)) == EPERM


# -- options ---------------------------------------------------------------------------


@both
def test_prctl_names_and_questions_only(name: str) -> None:
    features = FilterFeatures(name)
    for option in (3, 15, 16, 21, 23, 39, 0x53564D41, GARBAGE | 15):
        assert answer(features, "prctl", option) == ALLOW
    # PDEATHSIG DUMPABLE KEEPCAPS SECCOMP CAPBSET_DROP SECUREBITS TIMERSLACK PERF MM
    # CHILD_SUBREAPER NO_NEW_PRIVS AMBIENT SCHED_CORE MDWE MERGE PTRACER
    for option in (1, 4, 8, 22, 24, 28, 29, 31, 32, 35, 36, 38, 47, 62, 65, 67, 0x59616D61):
        assert answer(features, "prctl", option) == EPERM
        assert answer(features, "prctl", option | GARBAGE) == EPERM


@both
def test_ioctl_few_questions_and_never_terminal_input(name: str) -> None:
    """K9: TIOCSTI types into the host's terminal, TIOCLINUX pastes into it."""
    features = FilterFeatures(name)
    for request in (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451, 0x802C542A):
        assert answer(features, "ioctl", 0, request) == ALLOW
    for request in (0x5412, 0x541C, 0x5402, 0x5403, 0x540E, 0x5410, 0x5422, 0x8901, 0x8912):
        assert answer(features, "ioctl", 0, request) == EPERM
        assert answer(features, "ioctl", 0, request | GARBAGE) == EPERM
    for request in (0x40049409, 0x4020940D):
        assert answer(features, "ioctl", 0, request) == Errno(errno.EOPNOTSUPP)


@both
def test_fcntl_no_kernel_memory_no_signals(name: str) -> None:
    features = FilterFeatures(name)
    for command in (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030, 1032, 1033, 1034):
        assert answer(features, "fcntl", 0, command) == ALLOW
    for command in (8, 9, 10, 11, 15, 16, 1024, 1025, 1026, 1031, 1031 | GARBAGE):
        assert answer(features, "fcntl", 0, command) == EPERM


@both
def test_the_rest_of_the_options(name: str) -> None:
    features = FilterFeatures(name)
    assert answer(features, "personality", 0xFFFFFFFF | GARBAGE) == ALLOW
    assert answer(features, "personality", 0x0400000) == EPERM
    assert answer(features, "prlimit64", 0, 7, 0, 0x1000) == ALLOW
    assert answer(features, "prlimit64", 0, 7, 0x1000, 0) == EPERM
    assert answer(features, "prlimit64", 0, 7, 1 << 32, 0) == EPERM
    assert answer(features, "prlimit64", 1, 7, 0, 0x1000) == EPERM
    own = FilterFeatures(name, own_pid=44)
    assert answer(own, "prlimit64", 44, 7, 0, 0x1000) == ALLOW
    assert answer(features, "setpriority", 0, 0, 5) == ALLOW
    assert answer(features, "setpriority", 0, 0, 0xFFFFFFFF) == EPERM
    assert answer(features, "setpriority", 0, 9, 5) == EPERM
    assert answer(features, "setpriority", 1, 0, 5) == EPERM
    assert answer(features, "sysinfo") == EPERM
    assert answer(features.replace(system_info=True), "sysinfo") == ALLOW
    assert answer(features, "uname") == ALLOW
    assert answer(features.replace(uname=False), "uname") == EPERM
    assert answer(features, "futex", 0, 0x189) == ALLOW  # WAIT_BITSET, private, realtime
    for operation in (6, 7, 8, 11, 12, 13, 0x86):  # priority inheritance
        assert answer(features, "futex", 0, operation) == ENOSYS


def test_arch_prctl_reads_only() -> None:
    features = FilterFeatures("x86_64")
    for code in (0x1003, 0x3001):
        assert answer(features, "arch_prctl", code) == ALLOW
    for code in (0x1001, 0x1002, 0x1004, 0x1012, 0x1023, 0x5001):
        assert answer(features, "arch_prctl", code) == EPERM


# -- signals ---------------------------------------------------------------------------

MINUS_1 = 0xFFFFFFFF


@both
def test_signals_reach_the_guest_only(name: str) -> None:
    """K9"""
    own = FilterFeatures(name, own_pid=44)
    for call in ("kill", "tgkill"):
        assert answer(own, call, 44, 44, 9) == ALLOW
        assert answer(own, call, 44 | GARBAGE, 44, 9) == ALLOW
        for other in (0, 1, 43, 45, MINUS_1, 44 ^ MINUS_1):
            assert answer(own, call, other, 44, 9) == EPERM
    assert answer(own, "tkill", 44, 9) == EPERM
    unconfined = FilterFeatures(name)
    for call in ("kill", "tgkill", "tkill"):
        assert answer(unconfined, call, 44, 44, 9) == EPERM


@both
def test_a_process_group_is_never_signalled_by_zero(name: str) -> None:
    """The guest is forked into the zygote's group, PID namespace or not."""
    features = FilterFeatures(name, sandboxed_signals=True)
    assert answer(features, "kill", 2, 15) == ALLOW
    assert answer(features, "tkill", 2, 15) == ALLOW
    assert answer(features, "tgkill", 2, 2, 15) == ALLOW
    for call in ("kill", "tkill", "tgkill"):  # the parked first process, which is not the guest's
        assert answer(features, call, 1, 15) == EPERM
        assert answer(features, call, GARBAGE | 1, 15) == EPERM
    for group in (0, GARBAGE, MINUS_1, MINUS_1 - 7):
        assert answer(features, "kill", group, 15) == EPERM
    granted = features.replace(processes=True)
    # With processes a guest leads a group of its own, and others may be its children's.
    for group in (0, GARBAGE, MINUS_1, MINUS_1 - 7):
        assert answer(granted, "kill", group, 15) == ALLOW
    assert answer(granted, "kill", GARBAGE | 1, 15) == EPERM


@pytest.mark.parametrize("pid", [0, -1, 1 << 31])
def test_own_pid_is_a_process_number(pid: int) -> None:
    with pytest.raises(FilterError, match="own_pid"):
        FilterFeatures("x86_64", own_pid=pid)


# -- sockets ---------------------------------------------------------------------------


@both
def test_no_socket_that_reaches_anybody(name: str) -> None:
    features = FilterFeatures(name)
    for family in (2, 10):
        for kind in (1, 2, 3, 5):
            assert answer(features, "socket", family, kind, 0) == Errno(errno.EACCES)
    for kind in (0, 2, 3, 4, 2 | 0x80000):
        assert answer(features, "socket", 1, kind, 0) == Errno(errno.EACCES)
    # Unconnected, and with nothing that would connect or name it.
    for kind in (1, 5):
        assert answer(features, "socket", 1, kind | 0x80800, 0) == ALLOW
    for call in ("bind", "connect", "listen", "accept", "accept4"):
        assert answer(features, call, 3, 0x1000, 16) == EPERM
    for family in (0, 16, 17, 38, 40):
        assert answer(features, "socket", family, 2, 0) == Errno(errno.EAFNOSUPPORT)
    for kind in (1, 5):
        assert answer(features, "socketpair", 1, kind, 0) == ALLOW
        assert answer(features, "socketpair", 1, kind | 0x80800 | GARBAGE, 0) == ALLOW
    for kind in (2, 3, 4, 2 | 0x80000):
        assert answer(features, "socketpair", 1, kind, 0) == EPERM
    assert answer(features, "socketpair", 2, 1, 0) == EPERM


@both
def test_sending_has_no_address_and_no_exotic_flag(name: str) -> None:
    features = FilterFeatures(name)
    assert answer(features, "sendto", 3, 0x1000, 1, 0x4040, 0, 0) == ALLOW
    for address in (1, 1 << 32, 0x7FFF_0000_0000):
        assert answer(features, "sendto", 3, 0x1000, 1, 0, address, 16) == EPERM
    for flag in (0x1, 0x4, 0x200, 0x4000000, 0x20000000):
        assert answer(features, "sendto", 3, 0x1000, 1, flag, 0, 0) == EPERM
        assert answer(features, "sendmsg", 3, 0x1000, flag) == EPERM
    assert answer(features, "recvfrom", 3, 0x1000, 1, 0x2, 0, 0) == ALLOW
    assert answer(features, "recvmsg", 3, 0x1000, 0x40000000) == ALLOW
    assert answer(features, "recvfrom", 3, 0x1000, 1, 0x1, 0, 0) == EPERM
    assert answer(features, "recvmsg", 3, 0x1000, 0x2001) == EPERM


@both
def test_socket_options_tell_nothing_of_the_peer_and_take_no_memory(name: str) -> None:
    features = FilterFeatures(name)
    for option in (3, 4, 38, 39):
        assert answer(features, "getsockopt", 3, 1, option) == ALLOW
    for option in (17, 31, 59, 77):
        assert answer(features, "getsockopt", 3, 1, option) == EPERM
    assert answer(features, "getsockopt", 3, 6, 3) == EPERM
    assert answer(features, "setsockopt", 3, 1, 20) == ALLOW
    for option in (7, 8, 16, 26, 32, 33, 50, 60):
        assert answer(features, "setsockopt", 3, 1, option) == EPERM


# -- files -----------------------------------------------------------------------------

CREATE, TMPFILE = 0x40, 0x400000


@both
def test_no_file_with_set_id_bits_is_made(name: str) -> None:
    features = FilterFeatures(name, own_root=True)
    assert answer(features, "openat", 0, 1, CREATE, 0o666) == ALLOW
    assert answer(features, "openat", 0, 1, 0, 0o6777) == ALLOW  # no file is made
    for flags in (CREATE, TMPFILE, CREATE | GARBAGE):
        for mode in (0o4755, 0o2755, 0o6000):
            assert answer(features, "openat", 0, 1, flags, mode) == EPERM
    assert answer(features, "mknodat", 0, 1, 0o010644) == ALLOW
    for mode in (0o104755, 0o020666, 0o060666, 0o140666, 0o050666):
        assert answer(features, "mknodat", 0, 1, mode) == EPERM
    for call in ("fchmodat", "fchmodat2"):
        assert answer(features, call, 0, 1, 0o1777) == ALLOW
        assert answer(features, call, 0, 1, 0o4755) == EPERM
    assert answer(features, "fchmod", 3, 0o2755) == EPERM


def test_the_older_calls_are_held_the_same() -> None:
    features = FilterFeatures("x86_64", own_root=True)
    assert answer(features, "open", 1, CREATE, 0o666) == ALLOW
    assert answer(features, "open", 1, CREATE, 0o4755) == EPERM
    assert answer(features, "creat", 1, 0o4755) == EPERM
    assert answer(features, "mknod", 1, 0o020666) == EPERM
    assert answer(features, "chmod", 1, 0o2755) == EPERM


@both
def test_metadata_is_written_only_in_a_root_of_ones_own(name: str) -> None:
    """Landlock does not look at chmod and utimensat."""
    table = arch(name).table
    for call in ("chmod", "fchmod", "fchmodat", "fchmodat2", *TIMESTAMPS):
        if call in table:
            assert answer(FilterFeatures(name), call) == EPERM
            assert answer(FilterFeatures(name, own_root=True), call) == ALLOW


@both
def test_the_small_flags(name: str) -> None:
    features = FilterFeatures(name)
    assert answer(features, "pipe2", 0, 0x80800) == ALLOW
    assert answer(features, "pipe2", 0, 0x80) == EPERM  # O_NOTIFICATION_PIPE
    assert answer(features, "close_range", 3, 9, 4) == ALLOW
    assert answer(features, "close_range", 3, 9, 2) == EPERM  # CLOSE_RANGE_UNSHARE
    assert answer(features, "renameat2", 0, 0, 0, 0, 3) == ALLOW
    assert answer(features, "renameat2", 0, 0, 0, 0, 4) == EPERM  # RENAME_WHITEOUT


# -- the package -----------------------------------------------------------------------


def test_every_public_name_resolves() -> None:
    assert all(getattr(bpf, name) is not None for name in bpf.__all__)
    assert sorted(bpf.__all__, key=lambda name: (not name.isupper(), name.islower(), name)) == (
        bpf.__all__
    )
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = bpf.no_such_name


def test_a_run_imports_nothing_heavy() -> None:
    """The compiler's imports are on the way to every guest's first instruction."""
    code = (
        "import sys; before = set(sys.modules);"
        "from belljar.bpf import compile_filter, guest_filter, FilterFeatures;"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path = {sys.path!r}; {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    extra = {name for name in done.stdout.split() if not name.startswith("belljar")}
    assert extra <= {"__future__", "_struct", "errno", "struct"}


@both
@pytest.mark.parametrize("confined", ["own pid", "namespace", "processes"])
def test_M1_who_is_stopped_between_runs_cannot_let_itself_go_on(name: str, confined: str) -> None:
    """SIGCONT comes by kill, or by a timer that was made to send it."""
    free = {
        "own pid": FilterFeatures(name, own_pid=7),
        "namespace": FilterFeatures(name, sandboxed_signals=True),
        "processes": FilterFeatures(name, sandboxed_signals=True, processes=True),
    }[confined]
    kept = free.replace(continues=False)
    sigcont, pid = 18, 7
    calls = {"kill": (pid,), "tgkill": (pid, pid)}
    if confined != "own pid":
        calls["tkill"] = (pid,)
    for call, target in calls.items():
        assert answer(free, call, *target, sigcont) == ALLOW
        for above in (0, GARBAGE):
            assert answer(kept, call, *target, sigcont | above) == EPERM
        for number in (0, 2, 9, 15, 17, 19):
            assert answer(kept, call, *target, number) == ALLOW
            assert answer(kept, call, *target, number) == answer(free, call, *target, number)
    for target in (0, -1, -7):  # groups
        assert answer(kept, "kill", target & 0xFFFF_FFFF, sigcont) == EPERM
    for clock in (0, 1, 7):
        assert answer(free, "timer_create", clock) == ALLOW
        assert answer(kept, "timer_create", clock) == EPERM
    for call in ("setitimer", "alarm", "timerfd_create"):
        if call in arch(name).table:
            assert answer(kept, call) == answer(free, call) == ALLOW, "their signals wait"
    for call in ("rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_send_signal"):
        assert answer(kept, call, pid, sigcont) != ALLOW


@both
def test_M1_no_descriptor_sends_a_signal_of_the_guests_choice(name: str) -> None:
    """F_SETOWN, F_SETSIG, F_SETOWN_EX, F_NOTIFY, F_SETLEASE; PR_SET_PDEATHSIG."""
    kept = FilterFeatures(name, sandboxed_signals=True, processes=True, continues=False)
    for command in (8, 10, 15, 1026, 1024):
        assert answer(kept, "fcntl", 1, command, 18) != ALLOW
    assert answer(kept, "prctl", 1, 18) != ALLOW
    # The signal that tells of a child's end is SIGCHLD and no other.
    assert answer(kept, "clone", 17) == ALLOW
    assert answer(kept, "clone", 18) != ALLOW


@both
def test_M1_without_timers_nothing_else_differs(name: str) -> None:
    for free in every_features(name):
        kept = free.replace(continues=False)
        for call in arch(name).table:
            if call not in ("timer_create", "kill", "tkill", "tgkill"):
                assert answer(kept, call) == answer(free, call), call
