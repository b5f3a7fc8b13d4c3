"""Namespaces: own views, one identity, and a first process that is nobody's target (R8, R9, K9)."""

from __future__ import annotations

import pytest

from belljar.kernel.probe import probe_support
from belljar.testing import run_confined

SUPPORT = probe_support()
pytestmark = pytest.mark.skipif(
    not SUPPORT.isolated, reason=f"no namespaces here: {dict(SUPPORT.why)}"
)


def test_each_kind_is_left_for_a_new_one(user):
    def body():
        import os

        from belljar.kernel import namespaces

        files = {"mount": "mnt", "user": "user", "ipc": "ipc", "uts": "uts", "net": "net"}
        before = {kind: os.stat(f"/proc/self/ns/{name}").st_ino for kind, name in files.items()}
        namespaces.unshare(list(files))
        return [
            kind
            for kind, name in files.items()
            if os.stat(f"/proc/self/ns/{name}").st_ino == before[kind]
        ]

    assert run_confined(body, user=user) == []


def test_an_unshare_that_is_refused_names_what_was_asked():
    def body():
        from belljar.kernel import namespaces

        try:
            namespaces.unshare(["mount", "net"])
        except PermissionError as error:
            return error.filename

    user = (65534, 65534) if SUPPORT.uid == 0 else None
    assert run_confined(body, user=user) == "unshare mount+net"


def test_one_identity_and_no_groups(user):
    def body():
        import os

        from belljar.kernel import namespaces

        uid, gid = os.getuid(), os.getgid()
        namespaces.unshare(["user"])
        own = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)
        namespaces.map_identity(1000, 1001, uid, gid, own)
        refused = []
        for act in (lambda: os.setgroups([5]), lambda: os.setuid(0), lambda: os.setgid(0)):
            try:
                act()
            except OSError:
                refused.append(True)
        with open("/proc/self/uid_map") as file:
            return [os.getresuid(), os.getresgid(), refused, file.read().split()[0:3:2]]

    uids, gids, refused, mapped = run_confined(body, user=user)
    assert (uids, gids, mapped) == ([1000] * 3, [1001] * 3, ["1000", "1"])
    assert refused == [True] * 3


def test_an_identity_map_that_does_nothing_is_noticed(user):
    def body():
        import os

        from belljar.kernel import namespaces

        namespaces.unshare(["user"])
        namespaces._write = lambda *args: None
        try:
            namespaces.map_identity(1000, 1000, 0, 0, os.open("/proc/self", os.O_PATH))
        except OSError as error:
            return str(error)

    assert "did not take effect" in run_confined(body, user=user)


def test_the_host_name_is_another_one_inside_only(user):
    import os

    def body():
        import os

        from belljar.kernel import namespaces

        namespaces.unshare(["user", "uts"])
        namespaces.set_host_name(b"belljar")
        return list(os.uname())[1]

    before = os.uname().nodename
    assert run_confined(body, user=user) == "belljar"
    assert os.uname().nodename == before


def test_a_host_name_that_does_nothing_is_noticed():
    def body():
        from belljar.kernel import namespaces

        class Idle:
            def sethostname(self, *args):
                return 0

            setdomainname = sethostname

        namespaces.libc = Idle()
        try:
            namespaces.set_host_name(b"some-other-name")
        except OSError as error:
            return str(error)

    assert "did not take effect" in run_confined(body)


@pytest.mark.skipif("time" not in SUPPORT.namespaces, reason="no time namespaces here")
def test_clocks_are_others_for_the_children(user):
    def body():
        import os
        import time

        from belljar.kernel import namespaces, process

        uid, gid = os.getuid(), os.getgid()
        namespaces.unshare(["user", "time"])
        own = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)
        namespaces.map_identity(0, 0, uid, gid, own)
        before = time.monotonic()
        ahead = namespaces.set_clocks(70_000, own)
        reader, writer = os.pipe()
        if process.raw_clone(namespaces.SIGCHLD) == 0:
            clocks = (time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME)
            os.write(writer, repr([time.clock_gettime(clock) for clock in clocks]).encode())
            os._exit(0)
        os.wait()
        return before, ahead, os.read(reader, 100).decode()

    before, ahead, told = run_confined(body, user=user)
    monotonic, boot = (float(word) for word in told.strip("[]").split(","))
    assert 70_000 < boot <= 70_000 + 600
    assert 70_000 < monotonic <= boot
    assert 0 <= monotonic - ahead - before < 600


def test_an_empty_network(user):
    def body():
        import errno
        import socket

        from belljar.kernel import namespaces

        namespaces.unshare(["user", "net"])
        try:
            socket.socket().connect(("127.0.0.1", 9))
        except OSError as error:
            return [socket.if_nameindex(), errno.errorcode[error.errno]]

    assert run_confined(body, user=user) == [[[1, "lo"]], "ENETUNREACH"]


# --- PID namespaces ------------------------------------------------------------------------------

PREPARE = """
def body():
    import os, signal, time
    from belljar.kernel import namespaces, process
    from belljar.kernel.namespaces import ParkedInit, PidNamespaces

    uid, gid = os.getuid(), os.getgid()
    namespaces.unshare(["user", "mount", "pid"])
    namespaces.map_identity(0, 0, uid, gid, os.open("/proc/self", os.O_PATH))
    # A namespace of our own, of which our child is the first process, as the zygote is.
    zygote = os.fork()
    if zygote:
        return os.waitstatus_to_exitcode(os.waitpid(zygote, 0)[1])
    from belljar.kernel import mounts
    mounts.make_private()
    mounts.attach(mounts.new_filesystem(b"proc", {}, 0), "/mnt")
    spaces = PidNamespaces("/mnt")

    def spawn(act):
        spaces.enter_new()
        parked = ParkedInit()
        pid = os.fork()
        if pid == 0:
            try:
                os._exit(act() or 0)
            finally:
                os._exit(99)
        spaces.leave()
        return parked, pid

    def end(parked, pid):
        status = os.waitpid(pid, 0)[1]
        parked.end()
        return os.waitstatus_to_exitcode(status)
"""


def in_zygote(lines: str, user) -> int:
    """Lines that end with ``return``-less ``done(…)``: their value becomes the exit code."""
    source = PREPARE + "\n".join("    " + line for line in lines.strip().splitlines())
    return run_confined(source + "\n    os._exit(77)\n", user=user)


def test_the_guest_is_the_second_process_of_its_namespace(user):
    assert in_zygote("os._exit(end(*spawn(os.getpid)))", user) == 2


def test_a_second_namespace_after_the_first(user):
    lines = """
one, other = spawn(os.getpid), spawn(os.getpid)
os._exit(10 * end(*one) + end(*other))
"""
    assert in_zygote(lines, user) == 22


def test_the_guest_has_no_parent_in_sight(user):
    assert in_zygote("os._exit(5 + end(*spawn(os.getppid)))", user) == 5


def test_abort_is_told_as_what_it_is(user):
    """The first process of a namespace would be immune to its own abort."""
    assert in_zygote("os._exit(100 + end(*spawn(os.abort)))", user) == 94


def test_no_signal_from_inside_ends_the_parked_process(user):
    lines = """
def act():
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP, signal.SIGSEGV):
        os.kill(1, number)
    time.sleep(0.05)
    os.kill(1, 0)
    return 3
os._exit(end(*spawn(act)))
"""
    assert in_zygote(lines, user) == 3


def test_everybody_in_sight_is_oneself_and_the_parked(user):
    """K9: signals to all reach nobody else."""
    lines = """
def act():
    try:
        os.kill(-1, signal.SIGKILL)
        return 7
    except ProcessLookupError:
        pass  # there is nobody else
    found = []
    for number in range(1, 200):
        try:
            os.kill(number, 0)
            found.append(number)
        except ProcessLookupError:
            pass
    return 4 if found == [1, 2] else 5
os._exit(end(*spawn(act)))
"""
    assert in_zygote(lines, user) == 4


def test_the_end_of_the_parked_process_ends_the_namespace(user):
    """K10, M2: what a guest left behind goes with it, whatever it is."""
    lines = """
read, write = os.pipe()
def act():
    if os.fork() == 0:
        os.setsid()
        time.sleep(60)
    return 0
parked, pid = spawn(act)
os.close(write)
assert os.waitpid(pid, 0)[1] == 0
before = time.monotonic()
parked.end()
assert os.read(read, 1) == b""
os._exit(6)
"""
    assert in_zygote(lines, user) == 6


def test_the_end_of_the_zygote_ends_its_guests(user):
    def body():
        import os
        import time

        from belljar.kernel import namespaces

        uid, gid = os.getuid(), os.getgid()
        read, write = os.pipe()
        namespaces.unshare(["user", "pid"])
        namespaces.map_identity(0, 0, uid, gid, os.open("/proc/self", os.O_PATH))
        zygote = os.fork()
        if zygote == 0:
            if os.fork() == 0:
                time.sleep(60)
            os._exit(0)
        os.close(write)
        os.waitpid(zygote, 0)
        return len(os.read(read, 1))

    assert run_confined(body, user=user, timeout_s=20) == 0


def test_the_parent_death_signal_survives_what_follows(user):
    """A change of credentials may clear it, and a guest changes its own."""

    def body():
        import ctypes
        import os

        from belljar.kernel import caps, namespaces, process

        uid, gid = os.getuid(), os.getgid()
        process.die_with_parent(os.getppid())
        namespaces.unshare(["user"])
        namespaces.map_identity(1000, 1000, uid, gid, os.open("/proc/self", os.O_PATH))
        caps.drop_bounding()
        caps.drop_all()
        process.set_no_new_privs()
        number = ctypes.c_int()
        process.prctl(2, ctypes.addressof(number))
        return number.value

    assert run_confined(body, user=user) == 9


def test_a_parent_that_died_too_early_is_noticed():
    def body():
        import os

        from belljar.kernel import process

        pid = os.fork()
        if pid == 0:
            process.die_with_parent(os.getppid() + 1)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert run_confined(body) == 1


def test_the_reaping_init_collects_orphans_and_counts_them():
    """R2: the first process of a namespace waits for those whose parent has ended."""

    def body():
        import os
        import time

        from belljar.kernel import namespaces

        namespaces.unshare(["user", "pid"])
        init = namespaces.ReapingInit()
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                until = time.process_time() + 0.05
                while time.process_time() < until:
                    pass
                os.write(writer, b"x")
            os._exit(0)
        os.waitpid(child, 0)
        os.read(reader, 1)
        left = True
        for _ in range(1000):
            with open(f"/proc/{init.pid}/task/{init.pid}/children") as file:
                left = bool(file.read().split())
            if not left:
                break
            time.sleep(0.01)
        return left, init.end() >= 0.04

    assert run_confined(body) == [False, True]
