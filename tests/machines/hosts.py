"""Which Python runs a host program as which user of this machine."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import belljar


def environment() -> dict[str, str]:
    """What such a program is started with: this checkout's belljar, and no more."""
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": str(Path(belljar.__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def python_for(user: int | None, *, plain: bool = False) -> tuple[str, dict[str, Any]]:
    """The interpreter for this user id, and the arguments of ``Popen`` that make it so.

    ``plain``: where root has no capability to read what only others may read.
    """
    if user is None and plain:
        return (_open_python() if os.geteuid() == 0 else sys.executable), {}
    if user is None:
        return sys.executable, {}
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    return _open_python(), {"user": user, "group": user, "extra_groups": []}


@cache
def _open_python() -> str:
    """A Python that every user of this machine can execute; skips without."""
    if not _open_to_all(Path(belljar.__file__)):
        pytest.skip("an ordinary user cannot read this checkout")
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        if os.path.exists(python) and _open_to_all(Path(python)):
            code = "import sys; sys.exit(sys.version_info < (3, 11))"
            if subprocess.run([python, "-c", code], check=False).returncode == 0:
                return python
    pytest.skip("an ordinary user can execute no Python 3.11 or newer here")


def _open_to_all(path: Path) -> bool:
    return all(one.stat().st_mode & stat.S_IXOTH for one in path.parents)
