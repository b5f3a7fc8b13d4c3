"""Tries the system calls that a privileged process is there for.

tries:  setuid, mount, unshare, setns, chroot, ptrace
expect: ok
value:  []
"""

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
worked = []

CLONE_NEWUSER = 0x10000000  # linux/sched.h
CLONE_NEWNS = 0x00020000
MS_BIND = 4096  # linux/mount.h
PTRACE_ATTACH = 16  # linux/ptrace.h
PTRACE_TRACEME = 0


def attempt(what, action):
    """Counts ``what`` as worked if it neither raises nor gives a negative number."""
    try:
        result = action()
        if isinstance(result, int) and result < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    except (OSError, AttributeError) as refused:
        print(f"{what}: {type(refused).__name__}: {refused}")
    else:
        worked.append(what)


def become(uid):
    if os.getuid() == uid:
        raise PermissionError(f"is {uid} in its own user namespace already")
    os.setresuid(uid, uid, uid)


os.makedirs("root", exist_ok=True)
attempt("become another user", lambda: become(12345))
attempt("become root", lambda: become(0))
attempt("mount a file system", lambda: libc.mount(b"none", b"root", b"tmpfs", 0, None))
attempt("bind the root", lambda: libc.mount(b"/", b"root", None, MS_BIND, None))
attempt("unmount", lambda: libc.umount2(b"/proc", 2))
attempt("a new user namespace", lambda: libc.unshare(CLONE_NEWUSER))
attempt("a new mount namespace", lambda: libc.unshare(CLONE_NEWNS))
attempt("join a namespace", lambda: libc.setns(os.open("/proc/1/ns/mnt", os.O_RDONLY), 0))
attempt("change the root", lambda: os.chroot("root"))
attempt("trace a process", lambda: libc.ptrace(PTRACE_ATTACH, os.getppid() or 1, 0, 0))
attempt("be traced", lambda: libc.ptrace(PTRACE_TRACEME, 0, 0, 0))
attempt("rename the machine", lambda: libc.sethostname(b"owned", 5))
attempt("make a device", lambda: os.mknod("root/null", 0o20666, os.makedev(1, 3)))
attempt("take a higher priority", lambda: os.setpriority(os.PRIO_PROCESS, 0, -5))
attempt("read kernel messages", lambda: libc.klogctl(3, ctypes.create_string_buffer(64), 64))

worked
