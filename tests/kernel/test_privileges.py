"""no_new_privs, capabilities, rlimits: given up and never to be had again (M10, M12, R2)."""

from __future__ import annotations

import os

import pytest

from belljar.testing import run_confined

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to give up")


def test_no_new_privs(user):
    def body():
        from belljar.kernel import process

        assert process.prctl(process.PR_GET_NO_NEW_PRIVS) == 0
        process.set_no_new_privs()
        try:
            process.prctl(process.PR_SET_NO_NEW_PRIVS, 0)
        except OSError:
            return process.prctl(process.PR_GET_NO_NEW_PRIVS)

    assert run_confined(body, user=user) == 1


def test_no_new_privs_that_does_nothing_is_noticed():
    def body():
        from belljar.kernel import process

        process.libc.prctl = lambda *args: 0
        try:
            process.set_no_new_privs()
        except OSError as error:
            return str(error)

    assert "did not take effect" in run_confined(body)


def test_dumpable(user):
    def body():
        import os

        from belljar.kernel import process

        process.set_dumpable(False)
        hidden = os.stat("/proc/self/mem").st_uid
        process.set_dumpable(True)
        return [hidden, os.stat("/proc/self/mem").st_uid, os.getuid()]

    hidden, shown, uid = run_confined(body, user=user)
    assert (hidden, shown) == (0, uid)


def test_dumpable_that_does_nothing_is_noticed():
    def body():
        from belljar.kernel import process

        real = process.libc.prctl
        process.libc.prctl = lambda option, *rest: 0 if option == 4 else real(option, *rest)
        try:
            process.set_dumpable(False)
        except OSError as error:
            return str(error)

    assert "did not take effect" in run_confined(body)


@AS_ROOT
def test_capabilities_of_root_are_gone_for_good():
    def body(path):
        import os

        from belljar.kernel import caps

        assert caps.held()
        assert caps.bounded()
        caps.drop_bounding()
        assert caps.bounded() == 0
        caps.drop_all()
        assert caps.held() == 0
        tried = []
        for act in (
            lambda: os.chown(path, 1, 1),
            lambda: os.setuid(1),
            lambda: os.chroot("/"),
            lambda: os.open("/proc/1/environ", os.O_RDONLY),
        ):
            try:
                act()
            except PermissionError:
                tried.append("refused")
        # An exec as root would take the bounding set as its new capabilities.
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(write, 1)
            os.execv("/bin/cat", ["cat", "/proc/self/status"])
        os.close(write)
        status = b""
        while piece := os.read(read, 65536):
            status += piece
        os.waitpid(pid, 0)
        after = [line.split()[1] for line in status.decode().splitlines() if line[:3] == "Cap"]
        return [tried, after]

    tried, after = run_confined(body, __file__)
    assert tried == ["refused"] * 4
    assert after == ["0" * 16] * 5


def test_an_ordinary_user_has_nothing_to_drop_and_that_is_no_error():
    def body():
        from belljar.kernel import caps

        caps.drop_bounding()
        caps.drop_all()
        return caps.held()

    user = (65534, 65534) if os.geteuid() == 0 else None
    assert run_confined(body, user=user) == 0


@AS_ROOT
@pytest.mark.parametrize("verb", ["drop_bounding", "drop_all"])
def test_a_drop_that_does_nothing_is_noticed(verb):
    def body(verb):
        from belljar.kernel import caps

        real_prctl, real_syscall = caps.prctl, caps.syscall
        caps.prctl = lambda option, *rest: (
            0 if option == caps.PR_CAPBSET_DROP else real_prctl(option, *rest)
        )
        caps.syscall = lambda name, *rest: 0 if name == "capset" else real_syscall(name, *rest)
        try:
            getattr(caps, verb)()
        except OSError as error:
            return str(error)

    assert run_confined(body, verb)


@AS_ROOT
def test_a_drop_that_is_refused_is_an_error():
    def body():
        import errno

        from belljar.kernel import caps

        real = caps.prctl

        def refuse(option, *rest):
            if option == caps.PR_CAPBSET_DROP:
                raise OSError(errno.EPERM, "refused")
            return real(option, *rest)

        caps.prctl = refuse
        try:
            caps.drop_bounding()
        except PermissionError:
            return True

    assert run_confined(body)


# --- rlimits -----------------------------------------------------------------------------------


def test_every_rlimit_is_soft_and_hard_and_stays(user):
    def body():
        import resource

        from belljar.kernel import caps, rlimits

        caps.drop_all()
        out = {}
        for name, number in rlimits.NUMBERS.items():
            value = 1 << 30 if name in ("as", "stack") else 1000 if name == "cpu" else 20
            rlimits.set_rlimit(name, value)
            try:
                resource.setrlimit(number, (value, value + 1))
                out[name] = "raised"
            except (ValueError, OSError):
                out[name] = resource.getrlimit(number)[0]
        return out

    out = run_confined(body, user=user)
    assert "raised" not in out.values()
    assert out["nofile"] == 20
    assert out["as"] == 1 << 30


def test_an_rlimit_never_asks_for_more_than_is_left(user):
    def body():
        import resource

        from belljar.kernel import rlimits

        resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))
        rlimits.set_rlimit("nofile", 1 << 20)
        return resource.getrlimit(resource.RLIMIT_NOFILE)

    assert run_confined(body, user=user) == [50, 50]


def test_an_rlimit_that_does_nothing_is_noticed():
    def body():
        from belljar.kernel import rlimits

        rlimits.resource.setrlimit = lambda *args: None
        try:
            rlimits.set_rlimit("nofile", 20)
        except OSError as error:
            return str(error)

    assert "nofile did not take effect" in run_confined(body)


def test_address_space_counts_from_what_is_in_use(user):
    def body():
        from belljar.kernel import rlimits

        with open("/proc/self/statm", "rb") as file:
            statm = file.read()
        rlimits.set_rlimit("as", rlimits.address_space_in_use(statm) + (64 << 20))
        kept = bytearray(32 << 20)
        try:
            bytearray(64 << 20)
        except MemoryError:
            return len(kept)

    assert run_confined(body, user=user) == 32 << 20
    from belljar.kernel import rlimits

    assert rlimits.address_space_in_use(b"10 5 3 1 0 4 0\n") == 10 * os.sysconf("SC_PAGESIZE")


@pytest.mark.parametrize(("name", "act"), [("cpu", 9), ("fsize", 25)])
def test_limits_that_end_with_a_signal(name, act):
    def body(name, path):
        import os
        import signal

        from belljar.kernel import rlimits

        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        rlimits.set_rlimit(name, 1)
        if name == "cpu":
            while True:
                pass
        fd = os.open("/var/tmp", os.O_TMPFILE | os.O_WRONLY)
        os.write(fd, b"x")
        os.write(fd, b"x")

    run_confined(body, name, "", signal=act)
