"""Installing a filter, and noticing one that is not there (K1)."""

from __future__ import annotations

import platform

import pytest

from belljar.testing import run_confined

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "aarch64"), reason="no filter for this machine"
)


def test_a_filter_is_in_force_and_stays(user):
    def body():
        import errno
        import os
        import socket

        from belljar.bpf.compiler import compile_filter
        from belljar.bpf.features import FilterFeatures
        from belljar.bpf.guest import guest_filter
        from belljar.kernel import process, seccomp

        program = compile_filter(
            guest_filter(FilterFeatures(os.uname().machine, sandboxed_signals=True))
        )
        process.set_no_new_privs()
        seccomp.install_filter(program)
        out = []
        for act in (os.fork, socket.socket, lambda: os.execv("/bin/true", ["true"])):
            try:
                act()
                out.append("done")
            except OSError as error:
                out.append(errno.errorcode[error.errno])
        return out

    assert run_confined(body, user=user) == ["EPERM", "EACCES", "EPERM"]


def test_without_no_new_privs_an_ordinary_user_may_not():
    import errno
    import os

    def body():
        from belljar.kernel import seccomp

        allow = (6).to_bytes(2, "little") + bytes(2) + (0x7FFF0000).to_bytes(4, "little")
        try:
            seccomp.install_filter(allow)
        except OSError as error:
            return error.errno

    user = (65534, 65534) if os.geteuid() == 0 else None
    assert run_confined(body, user=user) == errno.EACCES


def test_a_filter_that_allows_everything_is_noticed():
    def body():
        from belljar.kernel import process, seccomp

        allow = (6).to_bytes(2, "little") + bytes(2) + (0x7FFF0000).to_bytes(4, "little")
        process.set_no_new_privs()
        try:
            seccomp.install_filter(allow)
        except OSError as error:
            return str(error)

    assert "did not take effect" in run_confined(body)


@pytest.mark.parametrize("mode", [0, 2])
def test_an_install_that_does_nothing_is_noticed(mode):
    """Also where the process is under a filter already, as in a container."""

    def body(mode):
        from belljar.kernel import seccomp

        seccomp.syscall = lambda *args: 0
        seccomp.prctl = lambda option: mode
        try:
            seccomp.install_filter(bytes(8))
        except OSError as error:
            return str(error)

    assert "did not take effect" in run_confined(body, mode)


def test_an_install_that_does_nothing_is_noticed_under_a_containers_filter():
    """Default Docker refuses unshare by itself, so that this call tells nothing there."""

    def body():
        from belljar.kernel import process, seccomp

        def ins(code, jt, jf, k):
            return code.to_bytes(2, "little") + bytes([jt, jf]) + k.to_bytes(4, "little")

        import os

        unshare = 272 if os.uname().machine == "x86_64" else 97
        docker = (
            ins(0x20, 0, 0, 0)  # load the number
            + ins(0x15, 0, 1, unshare)
            + ins(0x06, 0, 0, 0x00050001)  # EPERM
            + ins(0x06, 0, 0, 0x7FFF0000)  # allow
        )
        process.set_no_new_privs()
        import ctypes
        import struct

        code = ctypes.create_string_buffer(docker, len(docker))
        header = struct.pack("HxxxxxxQ", len(docker) // 8, ctypes.addressof(code))
        seccomp.syscall("seccomp", 1, 0, header)
        assert seccomp._unshare_nothing() == 1
        seccomp.syscall = lambda *args: 0
        try:
            seccomp.install_filter(docker)
        except OSError as error:
            return str(error)

    assert "did not take effect" in run_confined(body)


def test_actions_are_known_or_not():
    from belljar.kernel.seccomp import RET_KILL_PROCESS, action_available

    assert action_available(RET_KILL_PROCESS)
    assert not action_available(0x12340000)
