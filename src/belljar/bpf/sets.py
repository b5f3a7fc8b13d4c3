"""What a guest may call, and why.

What: the system calls that CPython 3.11 to 3.14 with its standard library and the usual
packages need, in groups, each with its reason; the calls that are allowed for some
arguments only (``CHECKED``; the rules stand in ``guest``); those that are answered as if
the kernel were older (``ABSENT``).  Because: the default filter is an allow-list, and an
entry that nobody can justify does not belong there.  Then: every call that is in none of
these groups fails with ``EPERM``; ``refused`` says why, call by call, and a test holds
that no call of the tables is left without a reason.

The lists rest on strace runs over the standard library and NumPy, on seccomp(2) and on the
man page of each call.  Landlock and the mounts decide *which* files; nothing here does.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

FILE_READ: Final = {
    "access": "tests whether a path may be used; os.access and the dynamic loader ask",
    "chdir": "moves the guest's own working directory, within what it can see",
    "faccessat": "access relative to a directory, what aarch64 has instead",
    "faccessat2": "faccessat with flags; the C library tries it first",
    "fchdir": "chdir to an open directory; shutil.rmtree and os.fwalk use it",
    "fgetxattr": "reads an attribute of an open file; shutil.copystat does",
    "flistxattr": "lists attributes of an open file; shutil.copystat does",
    "fstat": "every open() of Python asks for size and type of the file",
    "fstatfs": "free space of an open file's file system; os.fstatvfs",
    "getcwd": "os.getcwd and every relative path made absolute",
    "getdents64": "reads a directory: os.listdir, os.scandir and the import system",
    "getxattr": "reads an attribute; shutil.copystat raises if it cannot ask",
    "lgetxattr": "getxattr of a symbolic link itself, for shutil.copystat",
    "listxattr": "lists attributes; shutil.copystat raises on a refusal",
    "llistxattr": "listxattr of a symbolic link itself, for shutil.copystat",
    "lseek": "file positions: every seek() and tell()",
    "lstat": "stat that does not follow the last link; os.path and shutil",
    "newfstatat": "what stat() of the C library is today",
    "pread64": "reads at an offset; sqlite and the dynamic loader",
    "preadv": "pread into several buffers; os.preadv",
    "preadv2": "preadv with flags; os.preadv uses it where it exists",
    "read": "reads from a descriptor that the guest already holds",
    "readlink": "os.readlink and realpath",
    "readlinkat": "readlink relative to a directory, what aarch64 has instead",
    "readv": "read into several buffers; os.readv",
    "stat": "older C libraries still make this call for os.stat",
    "statfs": "free space of a file system; shutil.disk_usage",
    "statx": "the extended stat that musl and newer C libraries use",
}

FILE_WRITE: Final = {
    "copy_file_range": "copies inside the kernel; os.copy_file_range and shutil",
    "fdatasync": "makes one file durable; sqlite commits with it",
    "flock": "advisory locks on files that the guest has open",
    "fsync": "makes one file durable; os.fsync and sqlite",
    "ftruncate": "cuts or extends an open file within RLIMIT_FSIZE",
    "link": "a second name; Landlock ties it to the rights of both directories",
    "linkat": "link relative to directories, what aarch64 has instead",
    "mkdir": "a new directory where Landlock lets the guest write",
    "mkdirat": "mkdir relative to a directory, what aarch64 has instead",
    "pwrite64": "writes at an offset; sqlite",
    "pwritev": "pwrite from several buffers; os.pwritev",
    "pwritev2": "pwritev with flags; os.pwritev uses it where it exists",
    "rename": "atomic replacement of files, the usual way to save one",
    "renameat": "rename relative to directories, what aarch64 has instead",
    "rmdir": "removes an empty directory; shutil.rmtree, tempfile",
    "symlink": "a symbolic link; what it names is checked when somebody follows it",
    "symlinkat": "symlink relative to a directory, what aarch64 has instead",
    "truncate": "cuts a file by name; Landlock checks it from ABI 3 on",
    "umask": "changes the guest's own mask for new files",
    "unlink": "removes a name; tempfile and every clean-up",
    "unlinkat": "unlink relative to a directory; shutil.rmtree",
    "write": "writes to a descriptor that the guest already holds",
    "writev": "write from several buffers; os.writev and the C library's stdio",
}

MEMORY: Final = {
    "brk": "the C library's heap, within RLIMIT_DATA",
    "mremap": "grows or moves a mapping of the guest; protections stay as they are",
    "msync": "writes a mapped file back; mmap.flush",
    "munmap": "gives memory back to the kernel",
}

THREADS: Final = {
    "exit": "ends one thread of the guest",
    "gettid": "the caller's own thread number; threading.get_native_id",
    "membarrier": "orders memory between the guest's threads; used by runtimes",
    "rseq": "the C library registers each new thread's restartable sequences",
    "sched_yield": "gives up the rest of a time slice; OpenBLAS spins with it",
    "set_robust_list": "the C library registers each thread's held mutexes",
    "set_tid_address": "the C library's note of where to announce a thread's end",
}

TIME: Final = {
    "alarm": "a timer that signals the guest itself; signal.alarm",
    "clock_getres": "resolution of a clock; time.get_clock_info",
    "clock_gettime": "reads a clock where the vDSO cannot",
    "clock_nanosleep": "sleeps for a time or until one; time.sleep",
    "getitimer": "reads the guest's own timer; signal.getitimer",
    "gettimeofday": "the older way to read the clock",
    "nanosleep": "the older way to sleep, still used by C libraries",
    "setitimer": "a timer that signals the guest itself; signal.setitimer",
    "time": "seconds since 1970, where the vDSO does not answer",
    "timer_create": "a timer of the guest's own; RLIMIT_SIGPENDING bounds their number",
    "timer_delete": "removes one of the guest's own timers",
    "timer_getoverrun": "reads one of the guest's own timers",
    "timer_gettime": "reads one of the guest's own timers",
    "timer_settime": "arms one of the guest's own timers",
    "timerfd_create": "a timer as a descriptor; os.timerfd_create of Python 3.13",
    "timerfd_gettime": "reads such a timer; os.timerfd_gettime",
    "timerfd_settime": "arms such a timer; os.timerfd_settime",
    "times": "CPU time used so far; os.times",
}

SIGNALS: Final = {
    "pause": "waits for a signal; signal.pause",
    "restart_syscall": "made by the kernel itself to resume an interrupted sleep",
    "rt_sigaction": "sets the guest's own handlers; signal.signal",
    "rt_sigpending": "asks which signals wait; signal.sigpending",
    "rt_sigprocmask": "blocks signals in the caller's own thread",
    "rt_sigreturn": "the way back from every signal handler",
    "rt_sigsuspend": "waits for a signal with another mask; pause() on aarch64",
    "rt_sigtimedwait": "waits for a signal; signal.sigwait and sigtimedwait",
    "sigaltstack": "a stack for handlers; faulthandler",
}

IDENTITY: Final = {
    "getegid": "reads the guest's own group; os.getegid, site",
    "geteuid": "reads the guest's own user; os.geteuid, site",
    "getgid": "reads the guest's own group; os.getgid, site",
    "getgroups": "reads the guest's own groups; os.getgroups",
    "getpgid": "reads a process group number; os.getpgid",
    "getpgrp": "reads the guest's own process group; os.getpgrp",
    "getpid": "reads the guest's own number; random seeding and multiprocessing",
    "getppid": "reads the parent's number, 0 in a PID namespace of its own",
    "getpriority": "reads a nice value; os.nice begins with it",
    "getresgid": "reads the guest's own groups; os.getresgid",
    "getresuid": "reads the guest's own users; os.getresuid",
    "getsid": "reads a session number; os.getsid",
    "getuid": "reads the guest's own user; os.getuid, pathlib.Path.home",
}

POLLING: Final = {
    "epoll_create": "the older epoll_create1, still made by some C code",
    "epoll_create1": "asyncio's event loop waits with epoll",
    "epoll_ctl": "adds one of the guest's own descriptors to an epoll set",
    "epoll_pwait": "what epoll_wait is on aarch64",
    "epoll_pwait2": "epoll_pwait with nanoseconds; newer C libraries",
    "epoll_wait": "asyncio's event loop waits with it",
    "eventfd": "the older eventfd2, still made by some C code",
    "eventfd2": "a counter as a descriptor, 8 bytes; os.eventfd",
    "poll": "waits for descriptors; select.poll, selectors, multiprocessing",
    "ppoll": "what poll is on aarch64",
    "pselect6": "what select is on aarch64 and in newer C libraries",
    "select": "waits for descriptors; select.select",
}

DESCRIPTORS: Final = {
    "close": "gives up a descriptor of the guest",
    "dup": "a second number for an open file, within RLIMIT_NOFILE",
    "dup2": "dup to a chosen number; redirection of standard streams",
    "dup3": "dup2 with close-on-exec; os.dup2",
    "pipe": "the older pipe2; the buffers count as the guest's memory",
}

SOCKETPAIRS: Final = {
    "getpeername": "reads the other end's address; socket objects and asyncio do",
    "getsockname": "reads the own address; socket objects and asyncio do",
    "shutdown": "ends one direction of a socket that the guest holds",
}

PROCESS: Final = {
    "exit_group": "ends the guest; the way out of every program",
    "wait4": "waits for own children; without any it says so with ECHILD",
    "waitid": "waits for own children; without any it says so with ECHILD",
}

SYSTEM: Final = {
    "getcpu": "which CPU the caller runs on; OpenBLAS and allocators ask",
    "getrandom": "random bytes; hashing, secrets and ssl begin with it",
    "getrlimit": "reads the guest's own limits; resource.getrlimit",
    "getrusage": "reads the guest's own use; resource.getrusage",
    "sched_get_priority_max": "a constant of the kernel; os.sched_get_priority_max",
    "sched_get_priority_min": "a constant of the kernel; os.sched_get_priority_min",
    "sched_getaffinity": "how many CPUs may be used; os.cpu_count, OpenBLAS, pools",
    "sched_getparam": "reads a scheduling parameter; the C library's pthread_getattr",
    "sched_getscheduler": "reads a scheduling policy; the C library's pthread_getattr",
}

ALLOWED: Final = {
    "FILE_READ": FILE_READ,
    "FILE_WRITE": FILE_WRITE,
    "MEMORY": MEMORY,
    "THREADS": THREADS,
    "TIME": TIME,
    "SIGNALS": SIGNALS,
    "IDENTITY": IDENTITY,
    "POLLING": POLLING,
    "DESCRIPTORS": DESCRIPTORS,
    "SOCKETPAIRS": SOCKETPAIRS,
    "PROCESS": PROCESS,
    "SYSTEM": SYSTEM,
}

# Allowed with a feature only.
TIMESTAMPS: Final = {  # own_root
    "futimesat": "the older utimensat, still made by some C code",
    "utime": "the oldest way to set a file's times",
    "utimensat": "sets a file's times; os.utime, shutil.copystat and archives",
    "utimes": "the older utimensat, still made by some C code",
}
PROCESSES: Final = {  # processes
    "execve": "starts a program; Landlock and the mounts decide which, and set-id bits do nothing",
    "fork": "another process; RLIMIT_NPROC and the PID cgroup bound their number",
    "setpgid": "puts own children into a group of their own, for job control",
    "setsid": "starts a session of its own, which only leaves the parent's",
    "vfork": "fork for a child that executes at once; subprocess uses it",
}
UNIX_SOCKETS: Final = {  # unix_sockets
    "accept": "takes a connection; the listener is the guest's own",
    "accept4": "accept with flags; Python's socket.accept",
    "bind": "gives a Unix socket a name in the guest's own tree or network namespace",
    "connect": "reaches such a socket; no other kind can be made",
    "listen": "waits for connections, one or two of them; multiprocessing's managers and fork server",
}
MACHINE: Final = {
    "sysinfo": "memory and load of the whole machine; with the grant system_info only",
    "uname": "platform and os.uname ask; the kernel release shows, no filter can edit it",
}

CHECKED: Final = {
    "arch_prctl": "reading the FS base and the shadow-stack state; setting the base only to start programs",
    "chmod": "permission bits without set-id, in a file tree of the guest's own only",
    "clone": "threads that share everything; processes only if granted, namespaces never",
    "close_range": "closing many; not UNSHARE, which would double the limit on open files",
    "creat": "open for writing; without set-id bits",
    "fadvise64": "hints about reading to come; not DONTNEED, which evicts what others use",
    "fallocate": "reserves space within RLIMIT_FSIZE; not KEEP_SIZE, which goes around it",
    "fchmod": "permission bits without set-id, in a file tree of the guest's own only",
    "fchmodat": "permission bits without set-id, in a file tree of the guest's own only",
    "fchmodat2": "permission bits without set-id, in a file tree of the guest's own only",
    "fcntl": "flags, duplicates, locks and seals; not pipe sizes, owners, leases, notifications",
    "futex": "waits and wakes; not priority inheritance, the part with the worst record",
    "ioctl": "a handful of harmless questions; every driver hides behind this call",
    "kill": "to the guest itself, or to what its PID namespace or signal scope shows",
    "madvise": "advice about own pages; not merging or eviction, through which others are seen",
    "mknod": "regular files and FIFOs; no devices, no set-id bits",
    "mknodat": "regular files and FIFOs; no devices, no set-id bits",
    "mmap": "memory and files; executable only as an unwritable private mapping of a file",
    "mprotect": "every protection but executable: data never becomes code",
    "open": "Landlock decides on the path; here: no new file with set-id bits",
    "openat": "Landlock decides on the path; here: no new file with set-id bits",
    "personality": "the query only; READ_IMPLIES_EXEC would make memory executable",
    "pipe2": "pipes; not the notification queues behind O_NOTIFICATION_PIPE",
    "prctl": "names of threads and mappings, and questions; every other option stays shut",
    "prlimit64": "reading the guest's own limits; they are set once and from outside",
    "recvfrom": "plain receiving; not the out-of-band data of Unix sockets",
    "recvmsg": "plain receiving; not the out-of-band data of Unix sockets",
    "renameat2": "NOREPLACE and EXCHANGE; not WHITEOUT, which leaves a device node behind",
    "sendmsg": "plain sending; its address is behind a pointer, so no datagram socket is made",
    "sendto": "plain sending on a connected socket, never to an address",
    "getsockopt": "type, error, sizes and time-outs; not who the peer is",
    "setpriority": "making oneself nicer; the kernel lets nobody go back",
    "setsockopt": "time-outs; buffer sizes are kernel memory, filters are code",
    "socket": "always refused, with the error that socket(2) has for it",
    "socketpair": "connected stream pairs; a datagram socket could be aimed at any address",
    "tgkill": "raise and pthread_kill, to the guest's own threads",
    "tkill": "what musl's raise makes, where signals cannot leave the sandbox",
}

# Answered with ENOSYS, as a kernel without them would: callers then take the older way.
ABSENT: Final = {
    "clone3": "its flags sit behind a pointer that BPF cannot read; the C library then uses clone",
    "futex_requeue": "a second futex interface that no C library needs yet",
    "futex_wait": "a second futex interface that no C library needs yet",
    "futex_waitv": "a second futex interface that no C library needs yet",
    "futex_wake": "a second futex interface that no C library needs yet",
    "io_uring_enter": "does other calls' work where no filter sees it; libraries fall back",
    "io_uring_register": "does other calls' work where no filter sees it; libraries fall back",
    "io_uring_setup": "does other calls' work where no filter sees it; libraries fall back",
    "landlock_add_rule": "nested sandboxes are the host's to make; libraries go on without",
    "landlock_create_ruleset": "nested sandboxes are the host's to make; libraries go on without",
    "landlock_restrict_self": "nested sandboxes are the host's to make; libraries go on without",
    "openat2": "mode and flags sit behind a pointer, so set-id bits could; callers use openat",
    "sendfile": "pages of a file in a socket's buffer are in nobody's account; callers read and write",
}

# Names of the above that aarch64 never had.
# fmt: off
X86_64_ONLY: Final = frozenset((
    "access", "alarm", "arch_prctl", "chmod", "creat", "dup2", "epoll_create", "epoll_wait",
    "eventfd", "fork", "futimesat", "getpgrp", "link", "lstat", "mkdir", "mknod", "open",
    "pause", "pipe", "poll", "readlink", "rename", "rmdir", "select", "stat", "symlink", "time",
    "unlink", "utime", "utimes", "vfork",
))
# fmt: on
