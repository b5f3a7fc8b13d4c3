"""What several directories of tests share.

What: a check that this machine has the walls, and a place on the host that permissions leave
open to everybody.  Because: a canary that only root could read would be guarded by its mode
and not by belljar, and a machine without namespaces fails every test with one and the same
sentence.  Then: such a machine skips with that sentence, and every canary is world-readable.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import belljar
from belljar.kernel import cgroups

# Whoever starts the tests may ignore Ctrl-C, as `nohup` and a shell's `&` do.  It is inherited by
# the programs that the tests start, and those that are about Ctrl-C would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)
for _number in (signal.SIGQUIT, signal.SIGHUP):
    signal.signal(_number, signal.SIG_DFL)


@pytest.fixture(scope="session")
def walls() -> None:
    """Skips where this machine cannot enforce the empty policy, with what is missing."""
    try:
        belljar.run("None")
    except belljar.UnsupportedError as error:
        pytest.skip(str(error))


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory of the host that everybody may read, write and search."""
    path = Path(tempfile.mkdtemp(prefix="belljar-test-", dir="/var/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def cgroup() -> Iterator[str]:
    """An empty group of cgroup v2 that this user owns; controllers or not."""
    for mount in cgroups.MOUNTS:
        if os.path.exists(f"{mount}/cgroup.procs") and os.access(mount, os.W_OK):
            path = f"{mount}/test-{os.urandom(6).hex()}"
            os.mkdir(path)
            yield path
            for place, _, _ in os.walk(path, topdown=False):
                os.rmdir(place)
            return
    pytest.skip("no cgroup v2 file system that this user may write to")


@pytest.fixture(scope="session")
def cases() -> Path:
    """The folder of real programs and attacks that lies beside the repository."""
    path = cases_folder()
    if path is None:
        pytest.skip("no cases: ../shared/cases is not there and BELLJAR_CASES is not set")
    return path


def cases_folder() -> Path | None:
    """``$BELLJAR_CASES``, else ``../shared/cases`` beside the repository, if it exists."""
    named = os.environ.get("BELLJAR_CASES")
    path = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "cases"
    return path if path.is_dir() else None
