"""Confinement of a guest: the steps of a plan, in order, never to be taken back.

Who I am: a fork of the zygote that is about to meet untrusted code.  What I trust: the
plan, whose steps I carry out without judging them.  What I hold: the guest's four
descriptors.  How I die: any step that fails ends the process before the code arrives.

Each step is one small function; the kernel layer checks that it took effect.
"""

from __future__ import annotations

import os

from .kernel import caps, landlock, mounts, namespaces, process, rlimits, seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

ATTRIBUTES = mounts.NOSUID | mounts.NODEV | mounts.NOEXEC
# A directory that every proc has.  Parts of a mount can be copied only while it is attached
# somewhere (before Linux 6.15).
_BEHIND = "fs"


class StepFailed(Exception):
    """A step did not take effect: its verb and the kernel's error."""

    def __init__(self, verb: str, error: OSError) -> None:
        super().__init__(verb, error)
        self.verb = verb
        self.error = error


class Confinement:
    """The verbs of ``Plan.guest``.

    ``program`` is the compiled filter, ``pid_mark`` what stands in it for this process's
    number, ``proc`` where a whole proc file system is, ``parent`` what ``getppid`` says while
    the zygote lives, ``group`` the descriptor that leads into this guest's cgroup.  ``show_work``
    is given a descriptor of ``/work`` as soon as there is one, to be handed to the host.
    """

    def __init__(
        self,
        program: bytes,
        pid_mark: int | None,
        proc: str,
        parent: int,
        group: int = -1,
        show_work: Callable[[int], None] | None = None,
    ) -> None:
        self._program = program
        self._parent = parent
        self._pid_mark = pid_mark
        self._proc = proc
        self._proc_self = -1
        self._group = group
        self._show_work = show_work

    def apply(self, steps: list[list[Any]]) -> None:
        """Carry out every step; raises ``StepFailed`` at the first that fails."""
        try:
            own = f"{self._proc}/self"
            self._proc_self = os.open(own, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise StepFailed("open_proc", error) from error
        for verb, *args in steps:
            try:
                getattr(self, verb)(*args)
            except OSError as error:
                raise StepFailed(verb, error) from error
        os.close(self._proc_self)
        if self._group >= 0:
            raise StepFailed("join_group", OSError(0, "no step of the plan used its cgroup"))

    def die_with_zygote(self) -> None:
        process.die_with_parent(self._parent)

    def join_group(self) -> None:
        """Into its own cgroup.  The kernel moves whoever writes a 0, or says why not."""
        os.write(self._group, b"0")
        os.close(self._group)
        self._group = -1

    def mount_own(
        self,
        size: int,
        files: int,
        proc_parts: list[str],
        links: list[list[str]],
        hidden: list[str],
        shared: str,
    ) -> None:
        """A mount namespace of its own with empty ``/work`` and ``/tmp`` in one tmpfs.

        ``links`` are ``[where, to]`` for granted places that show there; ``hidden`` are mounts
        that the zygote needed and the guest does not.  A guest of several
        processes shares memory in files at ``shared``, and has a network namespace of its own:
        in a common one the guests of a zygote could meet by the names of Unix sockets.
        """
        namespaces.unshare(["mount", "net"] if shared else ["mount"])
        own = mounts.new_tmpfs(size, files, 0o755, ATTRIBUTES)
        places = [("work", 0o755, "/work"), ("tmp", 0o1777, "/tmp")]
        if shared:
            places.append(("shm", 0o1777, shared))
        # Both go with the zygote's proc, which is let go of below.
        mounts.attach(os.dup(own), f"{self._proc}/{_BEHIND}")
        for name, mode, where in places:
            os.mkdir(name, mode, dir_fd=own)
            os.chmod(name, mode, dir_fd=own)
            mounts.attach(mounts.subtree(own, name.encode()), where)
        os.close(own)
        self.link_places(links)
        for path in hidden:
            mounts.detach(path)
        if proc_parts:
            mounts.show_self(proc_parts, f"{self._proc}/{_BEHIND}")
        mounts.detach(self._proc)
        os.chdir("/work")
        self.hand_over_work()

    def hand_over_work(self) -> None:
        """A descriptor of ``/work``, the current directory, to the host.

        Now, because later the limit on open files is in force, and the kernel holds it against
        whoever passes descriptors.
        """
        if self._show_work is not None:
            work = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            self._show_work(work)
            os.close(work)

    def link_places(self, links: list[list[str]]) -> None:
        """Links in the guest's own places to granted ones: ``[where, to]``."""
        for where, to in links:
            os.makedirs(os.path.dirname(where), 0o755, exist_ok=True)
            os.symlink(to, where)

    def lead_session(self) -> None:
        os.setsid()

    def own_user_namespace(self, uid: int, gid: int) -> None:
        """Out of the user namespace that owns the mounts, into one that owns nothing."""
        namespaces.unshare(["user"])
        namespaces.map_identity(uid, gid, 0, 0, self._proc_self)

    def limit_address_space(self, extra: int) -> None:
        """``extra`` bytes beyond what the interpreter and its preloads map already."""
        fd = os.open("statm", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc_self)
        in_use = rlimits.address_space_in_use(os.read(fd, 256))
        os.close(fd)
        rlimits.set_rlimit("as", in_use + extra)

    def limit(self, name: str, value: int) -> None:
        rlimits.set_rlimit(name, value)

    def drop_capabilities(self) -> None:
        caps.drop_bounding()
        caps.drop_all()

    def no_new_privs(self) -> None:
        process.set_no_new_privs()

    def landlock(
        self, abi: int, handled_fs: int, handled_net: int, scoped: int, rules: list[list[Any]]
    ) -> None:
        ruleset = landlock.make_ruleset(abi, handled_fs, handled_net, scoped)
        for path, rights in rules:
            landlock.allow_beneath(ruleset, path, rights)
        landlock.restrict_self(ruleset, "/")
        os.close(ruleset)

    def seccomp(self) -> None:
        program = self._program
        if self._pid_mark is not None:
            mark = self._pid_mark.to_bytes(4, "little")
            if mark not in program:
                raise OSError(0, "the filter has no place for the process's own number", "seccomp")
            program = program.replace(mark, os.getpid().to_bytes(4, "little"))
        seccomp.install_filter(program)
