"""Who runs the irreversible tests, and where: as we are, and as an ordinary user."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

NOBODY = (65534, 65534)


@pytest.fixture(params=["as we are", "as an ordinary user"])
def user(request: pytest.FixtureRequest) -> tuple[int, int] | None:
    """Both kinds of user, where there are two to be had."""
    if request.param == "as we are":
        return None
    if os.geteuid() != 0:
        pytest.skip("this is an ordinary user already")
    return NOBODY


@pytest.fixture
def place() -> Iterator[str]:
    """An empty directory of the host that every user may use."""
    path = tempfile.mkdtemp(prefix="belljar-kernel-", dir="/var/tmp")
    os.chmod(path, 0o777)
    yield path
    shutil.rmtree(path)
