"""Fixtures of the attacks: no Python layer, and each wall by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest

from belljar import Policy
from belljar.api import machine

from .native import landlock_abi, no_namespaces, without


@pytest.fixture(autouse=True)
def kernel_only(walls: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Guests without the Python layer: whatever is refused is refused by the kernel."""
    monkeypatch.setattr(machine, "explain_refusals", False)
    machine._known.prepared.clear()
    yield
    machine._known.prepared.clear()


class Wall:
    """One arrangement of walls: the grant that it needs, and what it is called."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def policy(self) -> Policy:
        """The emptiest policy that can be held by these walls."""
        return Policy().allow(system_info=True) if self.name == "no root" else Policy()


_WITHOUT = {
    "all": nullcontext,
    "no Landlock": lambda: without("landlock"),
    "no filter": lambda: without("seccomp"),
    "no root": no_namespaces,
}


def _arrange(name: str) -> Iterator[Wall]:
    if name in ("no Landlock", "no root") and not landlock_abi():
        pytest.skip("this kernel has no Landlock")
    with _WITHOUT[name]():
        yield Wall(name)


@pytest.fixture(params=["all", "no Landlock", "no root"])
def file_wall(request: pytest.FixtureRequest) -> Iterator[Wall]:
    """The walls around files together and each alone: canonical root, Landlock."""
    yield from _arrange(request.param)


@pytest.fixture(params=["all", "no Landlock", "no filter"])
def tree_wall(request: pytest.FixtureRequest) -> Iterator[Wall]:
    """The walls around a granted directory, which exists with a canonical root only."""
    yield from _arrange(request.param)


@pytest.fixture(params=["all", "no filter", "no root"])
def call_wall(request: pytest.FixtureRequest) -> Iterator[Wall]:
    """The walls around processes and network together, without the filter, with it alone."""
    yield from _arrange(request.param)
