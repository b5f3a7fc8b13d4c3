"""Landlock: what each class of right allows, and what is refused without it (R3, R4, R5)."""

from __future__ import annotations

import errno
import os

import pytest

from belljar.kernel.landlock import probe_abi
from belljar.plan import landlock as ll
from belljar.testing import run_confined

ABI = probe_abi()
pytestmark = pytest.mark.skipif(ABI == 0, reason="this kernel has no Landlock, or it is off")


# Each deed with the rights that it needs, on a tree that ``tree`` makes.  Every one of them.
DEEDS = {
    "read a file": ("open(p + '/file').read()", ll.READ_FILE),
    "list a directory": ("os.listdir(p)", ll.READ_DIR),
    "write a file": ("os.close(os.open(p + '/file', os.O_WRONLY))", ll.WRITE_FILE),
    "make a file": ("os.mknod(p + '/new', 0o100644)", ll.MAKE_REG),
    "make a directory": ("os.mkdir(p + '/new')", ll.MAKE_DIR),
    "make a symlink": ("os.symlink('x', p + '/new')", ll.MAKE_SYM),
    "make a fifo": ("os.mkfifo(p + '/new')", ll.MAKE_FIFO),
    "make a socket": ("os.mknod(p + '/new', 0o140644)", ll.MAKE_SOCK),
    "remove a file": ("os.unlink(p + '/file')", ll.REMOVE_FILE),
    "remove a directory": ("os.rmdir(p + '/empty')", ll.REMOVE_DIR),
    "execute a file": (
        "os.posix_spawn(p + '/program', ['program'], {})",
        ll.EXECUTE | ll.READ_FILE,
    ),
    "link across": ("os.link(p + '/sub/file', p + '/new')", ll.REFER | ll.MAKE_REG),
    "truncate": ("os.truncate(p + '/file', 0)", ll.TRUNCATE),
    "truncate on open": (
        "os.close(os.open(p + '/file', os.O_WRONLY | os.O_TRUNC))",
        ll.TRUNCATE | ll.WRITE_FILE,
    ),
}
# Before these ABIs the kernel knows no such right.
SINCE = {"link across": 2, "truncate": 3, "truncate on open": 3}


@pytest.fixture
def tree(place):
    for name in ("sub", "empty"):
        os.mkdir(f"{place}/{name}", 0o777)
        os.chmod(f"{place}/{name}", 0o777)
    for name in ("file", "sub/file", "program"):
        with open(f"{place}/{name}", "w") as file:
            file.write("#!/bin/true\n")
        os.chmod(f"{place}/{name}", 0o777)
        if os.geteuid() == 0:
            os.chown(f"{place}/{name}", 65534, 65534)
    return place


def attempt(deed: str, path: str, rights: int, user) -> int:
    """Do it under a ruleset that allows ``rights`` in ``path``: 0, or the error's number."""

    def body(deed, path, rights, abi):
        import os

        from belljar.kernel import landlock, process
        from belljar.plan import landlock as ll

        handled = ll.handled_fs(abi)
        ruleset = landlock.make_ruleset(abi, handled, ll.handled_net(abi), ll.scoped(abi))
        if rights & handled:
            landlock.allow_beneath(ruleset, path, rights & handled)
        # An interpreter of a script, and its libraries.
        for place in ("/bin", "/usr", "/lib", "/lib64"):
            real = os.path.realpath(place)  # a rule follows no link
            landlock.allow_beneath(ruleset, real, ll.EXECUTE | ll.READ_FILE)
        process.set_no_new_privs()
        landlock.restrict_self(ruleset, "/")
        try:
            exec(deed, {"os": os, "p": path})
        except OSError as error:
            return error.errno
        return 0

    return run_confined(body, deed, path, rights, ABI, user=user)


@pytest.mark.parametrize("name", DEEDS)
def test_each_right_allows_its_deed_and_nothing_else_does(name, tree, user):
    if SINCE.get(name, 1) > ABI:
        pytest.skip(f"this kernel's Landlock has ABI {ABI}")
    deed, needed = DEEDS[name]
    everything = ll.handled_fs(ABI)
    refused = (errno.EACCES, errno.EXDEV)  # EXDEV: the answer to links and renames across
    for bit in range(everything.bit_length()):
        if needed & 1 << bit:
            assert attempt(deed, tree, everything & ~(1 << bit), user) in refused
    assert attempt(deed, tree, needed, user) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes")
@pytest.mark.parametrize(("kind", "right"), [(0o020644, ll.MAKE_CHAR), (0o060644, ll.MAKE_BLOCK)])
def test_device_nodes(kind, right, place):
    deed = f"os.mknod(p + '/new', {kind}, os.makedev(1, 3))"
    assert attempt(deed, place, ll.handled_fs(ABI) & ~right, None) == errno.EACCES
    assert attempt(deed, place, right, None) == 0


def test_the_grants_of_a_plan_read_and_write(tree, user):
    for deed, _ in (DEEDS["read a file"], DEEDS["list a directory"]):
        assert attempt(deed, tree, ll.READ, user) == 0
    for name in ("write a file", "make a file", "remove a file", "truncate"):
        assert attempt(DEEDS[name][0], tree, ll.READ, user) == errno.EACCES
    for name in ("make a socket", "make a fifo", "execute a file"):
        assert attempt(DEEDS[name][0], tree, ll.WRITE, user) == errno.EACCES
    for name in ("write a file", "remove a directory", "remove a file"):
        assert attempt(DEEDS[name][0], tree, ll.WRITE, user) == 0


def test_nothing_around_a_grant_is_reached(tree, user):
    """R4: not by .., not by a symbolic link, not by a rename."""
    os.symlink("/etc", f"{tree}/way")
    for deed in (
        "os.listdir(p + '/..')",
        "open(p + '/way/passwd')",
        "os.rename(p + '/sub/file', '/var/tmp/belljar-moved')",
        "os.link('/etc/passwd', p + '/new')",
    ):
        assert attempt(deed, tree, ll.WRITE, user) in (errno.EACCES, errno.EXDEV, errno.EPERM)


def test_a_rule_on_a_file_is_for_that_file(tree, user):
    def body(path, abi):
        import errno

        from belljar.kernel import landlock, process
        from belljar.plan import landlock as ll

        ruleset = landlock.make_ruleset(abi, ll.handled_fs(abi), 0, 0)
        landlock.allow_beneath(ruleset, path + "/file", ll.WRITE & ll.handled_fs(abi))
        process.set_no_new_privs()
        landlock.restrict_self(ruleset, "/")
        out = []
        for name in ("/file", "/sub/file", "/absent"):
            try:
                open(path + name, "r+").close()
                out.append("open")
            except OSError as error:
                out.append(errno.errorcode[error.errno])
        return out

    # Absent and forbidden are told apart here: that is what system_info gives up (R5).
    assert run_confined(body, tree, ABI, user=user) == ["open", "EACCES", "ENOENT"]


def test_a_path_that_is_not_there_allows_nothing():
    def body(path, abi):
        import os

        from belljar.kernel import landlock, process
        from belljar.plan import landlock as ll

        ruleset = landlock.make_ruleset(abi, ll.handled_fs(abi), 0, 0)
        landlock.allow_beneath(ruleset, path, ll.READ)
        process.set_no_new_privs()
        landlock.restrict_self(ruleset, "/")
        try:
            os.listdir("/var/tmp")
        except PermissionError:
            return True

    assert run_confined(body, "/var/tmp/belljar-is-not-there", ABI)


@pytest.mark.skipif(ABI < 4, reason="network rules came with ABI 4")
def test_no_tcp(user):
    def body(abi):
        import errno
        import socket

        from belljar.kernel import landlock, process
        from belljar.plan import landlock as ll

        outside = socket.create_server(("127.0.0.1", 0))
        one, other = socket.socket(), socket.socket()
        ruleset = landlock.make_ruleset(abi, ll.handled_fs(abi), ll.handled_net(abi), 0)
        process.set_no_new_privs()
        landlock.restrict_self(ruleset, "/")
        out = []
        for act in (
            lambda: one.bind(("127.0.0.1", 0)),
            lambda: other.connect(outside.getsockname()),
        ):
            try:
                act()
                out.append("done")
            except OSError as error:
                out.append(errno.errorcode[error.errno])
        return out

    assert run_confined(body, ABI, user=user) == ["EACCES", "EACCES"]


@pytest.mark.skipif(ABI < 6, reason="scopes came with ABI 6")
def test_no_signal_and_no_abstract_socket_leaves_the_domain(user):
    def body(abi):
        import os
        import signal
        import socket

        from belljar.kernel import landlock, process
        from belljar.plan import landlock as ll

        name = f"\0belljar-{os.getpid()}"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(name)
        listener.listen()
        child = os.fork()
        if child == 0:
            os.closerange(0, 4096)
            signal.pause()
            os._exit(0)
        ruleset = landlock.make_ruleset(abi, ll.handled_fs(abi), 0, ll.scoped(abi))
        process.set_no_new_privs()
        landlock.restrict_self(ruleset, "/")
        out = []
        for act in (
            lambda: os.kill(child, signal.SIGKILL),
            lambda: socket.socket(socket.AF_UNIX).connect(name),
            lambda: os.kill(os.getpid(), 0),
        ):
            try:
                act()
                out.append("done")
            except PermissionError:
                out.append("refused")
        listener.close()
        return [out, child]

    out, child = run_confined(body, ABI, user=user)
    os.kill(child, 9)
    assert out == ["refused", "refused", "done"]


def test_a_domain_can_only_get_narrower(tree, user):
    """A second ruleset that allows everything gives nothing back (N1)."""

    def body(path, abi):
        import os

        from belljar.kernel import landlock, process
        from belljar.plan import landlock as ll

        wide = landlock.make_ruleset(abi, ll.READ_FILE, 0, 0)
        landlock.allow_beneath(wide, path, ll.READ_FILE)
        narrow = landlock.make_ruleset(abi, ll.handled_fs(abi), 0, 0)
        process.set_no_new_privs()
        landlock.restrict_self(narrow, "/")
        landlock.restrict_self(wide, "/")
        try:
            os.close(os.open(path + "/file", os.O_RDONLY))
        except PermissionError:
            return True

    assert run_confined(body, tree, ABI, user=user)


@pytest.mark.parametrize("abi", range(1, ABI + 1))
def test_the_masks_of_every_older_abi_are_taken(abi, user):
    def body(abi):
        from belljar.kernel import landlock, process
        from belljar.plan import landlock as ll

        masks = ll.handled_fs(abi), ll.handled_net(abi), ll.scoped(abi)
        ruleset = landlock.make_ruleset(abi, *masks)
        landlock.allow_beneath(ruleset, "/var/tmp", ll.WRITE & masks[0])
        process.set_no_new_privs()
        landlock.restrict_self(ruleset, "/")
        return True

    assert run_confined(body, abi, user=user)


def test_a_right_beyond_the_handled_ones_is_refused_by_the_kernel():
    """Why a plan cuts its rules down to what it handles."""

    def body():
        from belljar.kernel import landlock
        from belljar.plan import landlock as ll

        ruleset = landlock.make_ruleset(1, ll.handled_fs(1), 0, 0)
        try:
            landlock.allow_beneath(ruleset, "/var/tmp", ll.TRUNCATE)
        except OSError as error:
            return error.errno

    assert run_confined(body) == errno.EINVAL


def test_without_no_new_privs_an_ordinary_user_may_not():
    def body(abi):
        from belljar.kernel import landlock
        from belljar.plan import landlock as ll

        ruleset = landlock.make_ruleset(abi, ll.handled_fs(abi), 0, 0)
        try:
            landlock.restrict_self(ruleset, "/")
        except OSError as error:
            return error.errno

    user = (65534, 65534) if os.geteuid() == 0 else None
    assert run_confined(body, ABI, user=user) == errno.EPERM


def test_a_ruleset_that_does_nothing_is_noticed():
    def body(abi):
        from belljar.kernel import landlock
        from belljar.plan import landlock as ll

        ruleset = landlock.make_ruleset(abi, ll.handled_fs(abi), 0, 0)
        landlock.syscall = lambda *args: 0
        try:
            landlock.restrict_self(ruleset, "/")
        except OSError as error:
            return str(error)

    assert "did not take effect" in run_confined(body, ABI)


def test_a_ruleset_that_allows_too_much_is_noticed():
    def body(abi):
        from belljar.kernel import landlock, process
        from belljar.plan import landlock as ll

        ruleset = landlock.make_ruleset(abi, ll.handled_fs(abi), 0, 0)
        landlock.allow_beneath(ruleset, "/", ll.READ)
        process.set_no_new_privs()
        try:
            landlock.restrict_self(ruleset, "/")
        except OSError as error:
            return str(error)

    assert "did not take effect" in run_confined(body, ABI)


def test_a_kernel_without_landlock_has_abi_0(monkeypatch):
    from belljar.kernel import landlock

    def absent(*args):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(landlock, "syscall", absent)
    assert landlock.probe_abi() == 0


def test_R4_a_rule_follows_no_link(tree):
    """A guest of another policy may put one where this guest's right is to be given."""
    os.symlink("sub", f"{tree}/link")
    os.symlink(f"{tree}/sub", f"{tree}/sub/absolute")

    def body(place):
        import errno
        import os

        from belljar.kernel import landlock, process

        ruleset = landlock.make_ruleset(1, 0b1100, 0, 0)  # reading files and directories
        for name in ("link", "link/file", "sub/absolute"):
            landlock.allow_beneath(ruleset, f"{place}/{name}", 0b1100)
        landlock.allow_beneath(ruleset, f"{place}/empty", 0b1100)
        process.set_no_new_privs()
        landlock.restrict_self(ruleset, "/")
        found = [os.listdir(f"{place}/empty")]
        for name in ("link/file", "sub/file"):
            try:
                open(f"{place}/{name}").close()
            except OSError as error:
                found.append(errno.errorcode[error.errno])
        return found

    assert run_confined(body, tree) == [[], "EACCES", "EACCES"]
