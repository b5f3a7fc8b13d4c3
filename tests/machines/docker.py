"""A process of this machine as it would be in a container of Docker, by its documented defaults.

What: a prelude for a host program that puts the default seccomp profile's refusals, the masks
over ``/proc``, the read-only ``/proc/sys`` and, for root, the default capabilities on itself.
Because: the container engine is not needed for what its kernel settings do.  Then: with the
additions of ``docs/how-to/docker.md`` taken out of the refusals, the same process has what
that page says it has.

It is a simulation: the calls that the profile refuses and belljar or its guests might make are
listed here, not the profile; AppArmor's part is missing.
"""

from __future__ import annotations

# Without CAP_SYS_ADMIN and its like, the default profile refuses these with EPERM.
REFUSED = [
    "unshare",
    "setns",
    "mount",
    "umount2",
    "pivot_root",
    "open_tree",
    "move_mount",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "mount_setattr",
    "sethostname",
    "setdomainname",
    "bpf",
    "perf_event_open",
    "userfaultfd",
    "keyctl",
    "add_key",
    "request_key",
    "chroot",
    "quotactl",
    "swapon",
    "swapoff",
    "reboot",
    "init_module",
    "finit_module",
    "delete_module",
    "kexec_load",
    "acct",
    "settimeofday",
    "clock_settime",
    "clock_adjtime",
    "adjtimex",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "open_by_handle_at",
    "lookup_dcookie",
    "mbind",
    "set_mempolicy",
    "move_pages",
    "kcmp",
    "vhangup",
]
NAMESPACE_FLAGS = 0x7E020000
PERSONALITIES = (0, 8, 0x20000, 0x20008, 0xFFFFFFFF)
MASKED = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi"]
READ_ONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
CAPABILITIES = 0xA80425FB

_PRELUDE = """
def enter_container():
    import ctypes, errno, os, struct
    from belljar.bpf import ALLOW, Arg, Errno, Filter, If, compile_filter
    from belljar.bpf.syscalls import arch
    from belljar.kernel import libc, process
    C = ctypes.CDLL(None, use_errno=True)
    def mount(source, target, flags):
        if C.mount(source and source.encode(), target.encode(), None, flags, None):
            raise OSError(ctypes.get_errno(), "mount " + target)
    if MASKS:
        # As root by right; as an ordinary user by a user namespace of its own, as rootless engines do.
        uid, gid = os.getuid(), os.getgid()
        if C.unshare(0x00020000 | (0x10000000 if uid else 0)):
            raise OSError(ctypes.get_errno(), "unshare")
        if uid:
            for name, line in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
                with open("/proc/self/" + name, "w") as file:
                    file.write(line)
        mount(None, "/", 1 << 18 | 16384)
        os.makedirs("/var/tmp/belljar-empty", exist_ok=True)
        for path in MASKED:
            if os.path.exists(path):
                mount("/dev/null" if os.path.isfile(path) else "/var/tmp/belljar-empty", path, 4096)
        for path in READ_ONLY:
            if os.path.exists(path):
                mount(path, path, 4096 | 16384)
                mount(None, path, 4096 | 32 | 1 | 2 | 4 | 8)
    if os.geteuid() == 0:
        for number in range(41):
            if not CAPABILITIES >> number & 1:
                C.prctl(24, number, 0, 0, 0)
    head = struct.pack("II", 0x20080522, 0)
    low = (CAPABILITIES if os.getuid() == 0 else 0) & 0xFFFFFFFF
    libc.syscall("capset", head, struct.pack("6I", low, low, 0, 0, 0, 0))
    known = arch(libc.MACHINE).table
    refused = Errno(errno.EPERM)
    rules = {name: refused for name in REFUSED if name in known}
    rules["clone"] = If((Arg(0, width=32) & FLAGS) != 0, refused).else_(ALLOW)
    rules["clone3"] = Errno(errno.ENOSYS)
    rule = refused
    for value in PERSONALITIES:
        rule = If(Arg(0, width=32) == value, ALLOW).else_(rule)
    rules["personality"] = rule
    rules["socket"] = If(Arg(0, width=32) == 40, refused).else_(ALLOW)
    program = compile_filter(Filter(libc.MACHINE, rules, default=ALLOW))
    process.set_no_new_privs()
    code = ctypes.create_string_buffer(program, len(program))
    libc.syscall("seccomp", 1, 0, struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code)))
enter_container()
"""


def container(*, additions: frozenset[str] = frozenset(), masks: bool = True) -> str:
    """The prelude.  ``additions`` are calls that a profile allows beyond the default."""
    names = {
        "REFUSED": [name for name in REFUSED if name not in additions],
        "FLAGS": NAMESPACE_FLAGS,
        "PERSONALITIES": list(PERSONALITIES),
        "MASKS": masks,
        "MASKED": MASKED,
        "READ_ONLY": READ_ONLY,
        "CAPABILITIES": CAPABILITIES,
    }
    return "\n".join(f"{name} = {value!r}" for name, value in names.items()) + _PRELUDE
