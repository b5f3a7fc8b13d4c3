"""The probes: true to this machine, changing nothing, leaving nothing (X6, K10)."""

from __future__ import annotations

import os
import threading

import pytest

from belljar.kernel import probe
from belljar.plan.support import NAMESPACE_KINDS
from belljar.testing import run_confined


def children() -> set[str]:
    found = set()
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children") as file:
            found |= set(file.read().split())
    return found


def test_the_quick_probe_asks_only_what_is_cheap():
    support = probe.probe_quick()
    assert support.namespaces == frozenset()
    assert (support.uid, support.gid) == (os.geteuid(), os.getegid())
    assert support.machine == os.uname().machine
    assert support.kernel >= (5, 0)


def test_the_probe_leaves_nothing_behind():
    before = (os.listdir("/proc/self/fd"), children(), os.stat("/proc/self/ns/mnt").st_ino)
    first = probe.probe_support()
    assert probe.probe_support() == first
    assert (os.listdir("/proc/self/fd"), children(), os.stat("/proc/self/ns/mnt").st_ino) == before


def test_a_process_with_threads_is_not_forked():
    """A lock that another thread holds would be held for ever in the child."""
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            sorted(range(100))

    workers = [threading.Thread(target=busy) for _ in range(3)]
    before = probe.probe_support()
    for worker in workers:
        worker.start()
    try:
        for _ in range(3):
            assert probe.probe_support() == before
    finally:
        stop.set()
        for worker in workers:
            worker.join()


def test_an_ordinary_user_is_probed_like_root(user):
    def body():
        from belljar.kernel.probe import probe_support

        support = probe_support()
        return [sorted(support.namespaces), support.mounts, support.landlock_abi, support.uid]

    kinds, mounts, abi, uid = run_confined(body, user=user)
    assert uid == (user[0] if user else os.geteuid())
    assert abi == probe.probe_quick().landlock_abi
    if kinds:
        assert set(kinds) <= set(NAMESPACE_KINDS)
    assert mounts in (True, False)


def test_what_a_filter_refuses_is_missing_with_the_kernels_answer():
    """As in default Docker: unshare is refused, and the reason says by what."""

    def body():
        from belljar.kernel import namespaces, probe

        def refuse(kinds):
            raise PermissionError(1, "Operation not permitted", "unshare " + "+".join(kinds))

        namespaces.unshare = refuse
        support = probe.probe_support()
        return [sorted(support.namespaces), support.mounts, support.isolated, dict(support.why)]

    kinds, mounts, isolated, why = run_confined(body)
    assert (kinds, mounts, isolated) == ([], False, False)
    assert set(why) == set(NAMESPACE_KINDS)
    assert why["user"].startswith("unshare user: EPERM, Operation not permitted")


def test_one_missing_kind_is_told_alone():
    def body():
        from belljar.kernel import namespaces, probe

        real = namespaces.unshare

        def refuse(kinds):
            if "net" in kinds:
                raise OSError(22, "Invalid argument", "unshare " + "+".join(kinds))
            real(kinds)

        namespaces.unshare = refuse
        support = probe.probe_support()
        why = [kind for kind, _ in support.why if kind != "cgroup"]
        return [sorted(support.namespaces), why, support.isolated]

    if not probe.probe_support().isolated:
        pytest.skip("no namespaces here")
    others = sorted({*NAMESPACE_KINDS} - {"net"})
    assert run_confined(body) == [others, ["net"], False]


def test_a_proc_that_cannot_be_mounted_is_told():
    def body():
        from belljar.kernel import mounts, probe

        real = mounts.new_filesystem

        def refuse(kind, options, attributes):
            if kind == b"proc":
                raise PermissionError(1, "Operation not permitted", "fsmount")
            return real(kind, options, attributes)

        mounts.new_filesystem = refuse
        support = probe.probe_support()
        why = [kind for kind, _ in support.why if kind != "cgroup"]
        return [support.mounts, support.proc, why]

    if not probe.probe_support().isolated:
        pytest.skip("no namespaces here")
    assert run_confined(body) == [True, False, ["proc"]]


@pytest.mark.parametrize(
    ("release", "kernel"),
    [
        ("6.18.44-fc-v595", (6, 18)),
        ("5.15.0-generic", (5, 15)),
        ("6.1-rc3", (6, 1)),
        ("6.12+", (6, 12)),
        ("7", (7, 0)),
        ("strange", (0, 0)),
    ],
)
def test_kernel_releases(release, kernel, monkeypatch):
    class Uname:
        def __init__(self) -> None:
            self.release = release
            self.machine = "x86_64"

    monkeypatch.setattr(probe.os, "uname", Uname)
    monkeypatch.setattr(probe, "check_machine", lambda: None)
    assert probe.probe_quick().kernel == kernel


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({"/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1\n"}, "AppArmor"),
        ({"/proc/sys/kernel/unprivileged_userns_clone": "0\n"}, "unprivileged_userns_clone=1"),
        ({"/proc/sys/user/max_user_namespaces": "0\n"}, "max_user_namespaces"),
        ({}, ""),
    ],
)
def test_known_restrictions_are_named_with_their_remedy(files, word, monkeypatch):
    monkeypatch.setattr(probe, "_read", lambda path: files.get(path, ""))
    monkeypatch.setattr(probe, "_container", lambda: "")
    answer = probe._restriction("user", "unshare user: EPERM")
    assert word in answer
    assert bool(answer) == bool(word)


@pytest.mark.parametrize(
    ("kind", "trouble", "word"),
    [
        ("user", "setresuid: EPERM, Operation not permitted", "alone in its user namespace"),
        ("user", "kill: EPERM, Operation not permitted", "add that capability"),
        ("user", "unshare user: ENOSPC, No space left on device", "user.max_user_namespaces"),
        ("mount", "unshare user+mount: ENOSPC, No space", "user.max_mnt_namespaces"),
        ("user", "/proc/self: ENOENT, No such file or directory", ""),
    ],
)
def test_the_kernels_answer_decides_the_remedy(kind, trouble, word, monkeypatch):
    monkeypatch.setattr(probe, "_read", lambda path: "")
    monkeypatch.setattr(probe, "_container", lambda: "Docker")
    answer = probe._restriction(kind, trouble)
    assert word in answer
    assert bool(answer) == bool(word)


def test_where_no_process_can_be_made_nothing_is_claimed(monkeypatch):
    """As inside a guest: a filter around answers fork and exec with EPERM."""

    def refuse(*arguments, **named):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(probe.process, "raw_clone", refuse)
    monkeypatch.setattr(probe.os, "posix_spawn", refuse)
    monkeypatch.setattr(probe.caps, "held", refuse)
    before = len(os.listdir("/proc/self/fd"))
    for answers in (probe.explore(), probe._explore_afresh()):
        assert answers["namespaces"] == []
        assert (answers["mounts"], answers["proc"]) == (False, False)
        assert "no process can be made here" in dict(answers["why"])["user"]
    assert probe.probe_quick().mounts_as_root is False
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("environment", "file", "name"),
    [
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "", "Kubernetes"),
        ({}, "/.dockerenv", "Docker"),
        ({}, "/run/.containerenv", "Podman"),
        ({}, "", ""),
    ],
)
def test_container_hints(environment, file, name, monkeypatch):
    monkeypatch.setattr(probe.os, "environ", environment)
    monkeypatch.setattr(probe.os.path, "exists", lambda path: path == file)
    monkeypatch.setattr(probe, "_read", lambda path: "")
    assert probe._container() == name
    hint = probe._restriction("user", "unshare user: EPERM")
    assert name in hint
    assert bool(hint) == bool(name)


@pytest.mark.parametrize(
    ("line", "writable", "found"),
    [
        ("0::/user.slice\n", True, "/sys/fs/cgroup/user.slice"),
        ("0::/user.slice\n", False, ""),
        ("4:memory:/\n", True, ""),
    ],
)
def test_a_group_that_is_not_ours_costs_no_closer_look(line, writable, found, monkeypatch):
    from belljar.kernel import cgroups

    finding = cgroups.Finding("/sys/fs/cgroup/user.slice", frozenset(["memory", "pids"]))
    monkeypatch.setattr(cgroups, "find", lambda: finding)
    monkeypatch.setattr(probe, "_read", lambda path: line)
    monkeypatch.setattr(probe.os, "access", lambda path, mode: writable)
    support = probe.probe_quick()
    assert support.cgroup == found
    assert support.controllers == (finding.controllers if found else frozenset())
