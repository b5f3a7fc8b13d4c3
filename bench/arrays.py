"""A large array out of a sandbox, and into one, against one copy of it in memory."""

from __future__ import annotations

import belljar
from belljar import Policy

from .measure import Figure, in_turn

_MIB = 2**20
NUMBERS = 13_107_200  # of 8 bytes: 100 MiB


def rows(turns: int) -> list[Figure]:
    """Two rows; none where NumPy is not there for host and guest."""
    try:
        import numpy
    except ImportError:
        return []
    policy = Policy().allow(
        packages=["numpy"], memory_bytes=1024 * _MIB, value_bytes=200 * _MIB, wall_s=60, cpu_s=3600
    )
    array = numpy.random.default_rng(1).random(NUMBERS)
    with belljar.Sandbox(policy, preload=["numpy"]) as sandbox:
        sandbox.set(array=array)

        def out() -> None:
            sandbox.get("array")

        def into() -> None:
            sandbox.set(array=array)

        def copy() -> None:
            array.copy()

        out()
        return [
            in_turn(
                "100 MiB out", ("sandbox.get", out), ("array.copy()", copy), turns=turns, aim=1.5
            ),
            in_turn("100 MiB in", ("sandbox.set", into), ("array.copy()", copy), turns=turns),
        ]
