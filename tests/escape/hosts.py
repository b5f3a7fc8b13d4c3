"""Other hosts: a program of its own that imports belljar, under conditions of its own.

What: runs a script as a fresh process, as another user, under a filter that forbids
namespaces, with few descriptors, or to be killed.  Because: what belljar promises it promises
to every kind of program, and most of these conditions cannot be taken back.  Then: the test
says the condition and reads what the script printed.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import belljar

SOURCE = str(Path(belljar.__file__).parents[1])
TIMEOUT_S = 300  # only a hang takes so long
ORDINARY_ID = 1234  # no user of any machine

# What Docker's default profile does to namespaces and mounts, by belljar's own compiler.
NO_NAMESPACES = """
def forbid_namespaces():
    import ctypes, errno, struct
    from belljar.bpf import ALLOW, Arg, Errno, Filter, If, compile_filter
    from belljar.kernel import libc, process
    names = ("unshare setns mount umount2 pivot_root open_tree move_mount fsopen fsmount "
             "fsconfig fspick mount_setattr").split()
    refused = Errno(errno.EPERM)
    rules = dict.fromkeys(names, refused)
    rules["clone"] = If((Arg(0, width=32) & 0x7E020000) != 0, refused).else_(ALLOW)
    rules["clone3"] = Errno(errno.ENOSYS)
    program = compile_filter(Filter(libc.MACHINE, rules, default=ALLOW))
    process.set_no_new_privs()
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    libc.syscall("seccomp", 1, 0, header)
forbid_namespaces()
"""


@cache
def ordinary_python() -> str:
    """A Python that an ordinary user of this machine can execute; skips without."""
    if os.geteuid() != 0:
        return sys.executable
    if not _open_to_all(Path(SOURCE)):
        pytest.skip("an ordinary user cannot read this checkout")
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        if _open_to_all(Path(python)):
            code = "import sys; sys.exit(sys.version_info < (3, 11))"
            if subprocess.run([python, "-c", code], check=False).returncode == 0:
                return python
    pytest.skip("an ordinary user can execute no Python 3.11 or newer here")


def _open_to_all(path: Path) -> bool:
    if not path.exists():
        return False
    return all(p.stat().st_mode & stat.S_IXOTH for p in [path, *path.parents])


def start_host(
    code: str,
    names: Mapping[str, Any] | None = None,
    *,
    uid: int | None = None,
    namespaces: bool = True,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    **popen: Any,
) -> subprocess.Popen[str]:
    """Start ``code`` as a program of its own, with ``names`` in its namespace.

    ``uid``: as this user and group, which needs root.  ``namespaces=False``: under a filter
    that refuses them.
    """
    popen.setdefault("cwd", "/")
    parts = [f"{name} = {value!r}" for name, value in (names or {}).items()]
    if not namespaces:
        parts.append(NO_NAMESPACES)
    python = sys.executable
    if uid is not None:
        python = ordinary_python()
        popen.update(user=uid, group=uid, extra_groups=[])
    return subprocess.Popen(
        [python, "-c", "\n".join([*parts, code]), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": SOURCE, "PYTHONDONTWRITEBYTECODE": "1", **(environment or {})},
        **popen,
    )


def run_host(
    code: str, names: Mapping[str, Any] | None = None, **conditions: Any
) -> subprocess.CompletedProcess[str]:
    """``start_host`` to its end, which must be a good one."""
    with start_host(code, names, **conditions) as process:
        try:
            out, err = process.communicate(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0, f"{process.returncode}\n{out}\n{err}"
    return subprocess.CompletedProcess(process.args, 0, out, err)
