"""Why the other calls are refused.

What: a reason for every system call of the tables that no list of ``sets`` allows, checks
or hides.  Because: "not on the list" is a poor answer to somebody whose program was
refused, and a call that is new in the tables must not be forgotten.  Then: ``explain``
prints the reason; a test holds that every call of both tables has exactly one place.

Not imported by a run: the filter needs no entry to refuse a call.
"""

from __future__ import annotations

from .sets import ABSENT, ALLOWED, CHECKED, MACHINE, PROCESSES, TIMESTAMPS, UNIX_SOCKETS

# reason -> the calls it holds for
_REASONS = {
    "another program would run with the guest's rights; execution is a grant of its own": (
        "execveat uselib"
    ),
    "the network is the host's to reach, by grant": ("recvmmsg sendmmsg"),
    "reads, writes or steers other processes": (
        "ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp"
        " pidfd_open pidfd_getfd pidfd_send_signal migrate_pages move_pages get_robust_list"
    ),
    "a signal with forged sender or to a chosen thread; raise and kill do without": (
        "rt_sigqueueinfo rt_tgsigqueueinfo"
    ),
    "signals as descriptors, which nothing in the guest's stack uses": "signalfd signalfd4",
    "the file tree is settled before the first instruction": (
        "mount umount2 pivot_root chroot move_mount open_tree open_tree_attr fsopen fsconfig"
        " fsmount fspick mount_setattr swapon swapoff quotactl quotactl_fd"
    ),
    "tells mounts of the machine": "statmount listmount ustat sysfs",
    "namespaces are settled before the first instruction": "unshare setns",
    "users, groups and capabilities are settled before the first instruction": (
        "setuid setgid setreuid setregid setresuid setresgid setgroups setfsuid setfsgid"
        " capget capset"
    ),
    "owners of files do not change; there is one user inside": ("chown fchown lchown fchownat"),
    "attributes carry capabilities and labels; shutil.copystat goes on without": (
        "setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr setxattrat"
        " getxattrat listxattrat removexattrat file_getattr file_setattr"
    ),
    "opens files by number, past every path check": "name_to_handle_at open_by_handle_at",
    "watches use up a small quota that the user has once for all processes": (
        "inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_init fanotify_mark"
    ),
    "writes the whole machine's files out, at everybody's cost": ("sync syncfs sync_file_range"),
    "memory that no limit of the guest counts": (
        "memfd_create memfd_secret mlock mlock2 mlockall munlock munlockall vmsplice splice tee"
    ),
    "System V and POSIX IPC objects outlive the guest and are counted to nobody": (
        "shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl"
        " mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr"
    ),
    "executable or rearranged memory behind the back of mmap's check": (
        "pkey_mprotect pkey_alloc pkey_free remap_file_pages map_shadow_stack"
    ),
    "fault handling in user space makes kernel races easy to win": "userfaultfd",
    "tells what lies in the page cache, that is, what others read": "mincore cachestat",
    "placement in memory, which is the host's choice; NumPy goes on without": (
        "mbind set_mempolicy get_mempolicy set_mempolicy_home_node"
    ),
    "scheduling is the host's choice; a pinned guest picks its neighbour": (
        "sched_setaffinity sched_setscheduler sched_setparam sched_setattr sched_getattr"
        " sched_rr_get_interval ioprio_set ioprio_get"
    ),
    "limits are set once and from outside": "setrlimit",
    "loads code into the kernel or measures it": (
        "bpf perf_event_open init_module finit_module delete_module kexec_load"
        " kexec_file_load seccomp"
    ),
    "kernel key rings are shared beyond the guest": "add_key request_key keyctl",
    "the machine's own settings": (
        "reboot sethostname setdomainname settimeofday clock_settime clock_adjtime adjtimex"
        " syslog acct vhangup iopl ioperm modify_ldt set_thread_area get_thread_area"
        " lookup_dcookie lsm_get_self_attr lsm_set_self_attr lsm_list_modules"
    ),
    "kernel-side asynchronous I/O with a quota for the whole machine": (
        "io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents"
    ),
    "superseded, and made by no C library of today": (
        "getdents readahead epoll_ctl_old epoll_wait_old nfsservctl _sysctl create_module"
        " get_kernel_syms query_module getpmsg putpmsg afs_syscall tuxcall security vserver"
    ),
    "made by the kernel's own probes only, which no filter sees": "uretprobe uprobe",
    "locks mappings of the guest for good; nothing in its stack asks": "mseal",
}


def refused() -> dict[str, str]:
    """Name -> reason, for the calls that always fail with EPERM."""
    return {name: reason for reason, names in _REASONS.items() for name in names.split()}


def reason(name: str) -> str:
    """Why the call ``name`` is allowed, checked, hidden or refused; empty if unknown."""
    for group in (*ALLOWED.values(), CHECKED, ABSENT, TIMESTAMPS, PROCESSES, UNIX_SOCKETS, MACHINE):
        if name in group:
            return group[name]
    return refused().get(name, "")
