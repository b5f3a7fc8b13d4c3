"""Descriptors: only those that are meant, wherever they stood before (R6, K3)."""

from __future__ import annotations

import itertools
import os

import pytest

from belljar.testing import run_confined


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_keep_only_moves_descriptors_that_stand_in_each_others_way(order):
    def body(order):
        import json
        import os

        from belljar.kernel import process

        process.close_from(0)
        # Pipes 0-1, 2-3, …; each write end is told apart by what it brings.
        pipes = [os.pipe() for _ in range(4)]
        out = os.memfd_create("out", 0)
        assert pipes == [(0, 1), (2, 3), (4, 5), (6, 7)]
        for number, (_, write) in enumerate(pipes):
            os.write(write, b"%d" % number)
        process.keep_only([pipes[number][0] for number in order] + [out])
        found = [int(os.read(fd, 9)) for fd in range(4)]
        flags = [os.get_inheritable(fd) for fd in range(5)]
        left = []
        for fd in range(5, 256):
            try:
                os.fstat(fd)
                left.append(fd)
            except OSError:
                pass
        os.write(4, json.dumps([found, flags, left]).encode())
        os.lseek(4, 0, 0)
        os._exit(0 if [found, flags, left] == [list(order), [True] * 5, []] else 1)

    def wrapped(order, source):
        import os

        pid = os.fork()
        if pid == 0:
            space = {}
            exec(source, space)
            try:
                space["body"](order)
            finally:
                os._exit(9)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    import inspect
    import textwrap

    assert run_confined(wrapped, order, textwrap.dedent(inspect.getsource(body))) == 0


def test_the_same_descriptor_twice():
    def body():
        import os

        pid = os.fork()
        if pid == 0:
            from belljar.kernel import process

            fd = os.open("/dev/null", os.O_RDWR)
            process.keep_only([fd, fd, fd])
            same = {os.fstat(n).st_rdev for n in range(3)}
            os._exit(len(same))
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert run_confined(body) == 1


@pytest.mark.parametrize("call", ["close_range", "without it"])
def test_close_from_leaves_what_is_below(call):
    def body(call):
        import errno
        import os

        from belljar.kernel import process

        if call == "without it":

            def absent(*args):
                raise OSError(errno.ENOSYS, "no such call")

            process.syscall = absent
        pid = os.fork()
        if pid == 0:
            high = os.dup2(0, 900)
            process.close_from(5)
            open_now = []
            for fd in (0, 1, 2, 5, 6, high):
                try:
                    os.fstat(fd)
                    open_now.append(fd)
                except OSError:
                    pass
            os._exit(0 if open_now == [0, 1, 2] else 1)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert run_confined(body, call) == 0


# --- pidfds ------------------------------------------------------------------------------------


def test_a_pidfd_ends_its_process_and_only_that():
    from belljar.kernel import process

    pid = os.fork()
    if pid == 0:
        import time

        time.sleep(60)
        os._exit(0)
    pidfd = process.open_pidfd(pid)
    try:
        assert process.signal_pidfd(pidfd, 0)
        assert process.signal_pidfd(pidfd, process.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
        assert not process.signal_pidfd(pidfd, process.SIGKILL)
    finally:
        os.close(pidfd)


def test_a_pidfd_of_nobody():
    from belljar.kernel import process

    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(ProcessLookupError) as caught:
        process.open_pidfd(pid)
    assert caught.value.filename == "pidfd_open"


def test_the_name_that_ps_shows():
    def body():
        from belljar.kernel import process

        process.set_name(b"a-name-that-is-too-long")
        with open("/proc/self/comm") as file:
            return file.read()

    assert run_confined(body) == "a-name-that-is-\n"


def test_the_personality_is_plain():
    def body():
        from belljar.kernel import process

        process.libc.personality(0x0400000)  # READ_IMPLIES_EXEC
        process.reset_personality()
        return process.libc.personality(0xFFFFFFFF)

    assert run_confined(body) == 0


def test_a_personality_that_stays_is_noticed():
    def body():
        from belljar.kernel import process

        class Idle:
            personality = staticmethod(lambda persona: 0)

        process.libc.personality(0x0400000)
        process.libc = Idle()
        try:
            process.reset_personality()
        except OSError:
            return True

    assert run_confined(body)


# --- system calls by name --------------------------------------------------------------------------


def test_a_failed_call_is_an_oserror_with_its_name():
    from belljar.kernel.libc import syscall

    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        syscall("pidfd_send_signal", -1, 0, None, 0)
    assert caught.value.filename == "pidfd_send_signal"


def test_another_architecture_is_refused(monkeypatch):
    from belljar.errors import UnsupportedError
    from belljar.kernel import libc

    monkeypatch.setattr(libc, "MACHINE", "riscv64")
    with pytest.raises(UnsupportedError, match="riscv64"):
        libc.check_machine()
