"""Named, dated policies that are never edited.

What: whole policies written out in numbers.  Because: the defaults of a later version may
differ, and a job that was judged under known limits must stay under them.  Then: a change is
a new baseline with a new date; those that stand here stay as they are, which a test holds.
"""

from __future__ import annotations

from ..errors import PolicyError
from .checks import show
from .limits import Limits
from .policy import Policy, exactly

PREFIX = "baseline:"  # how the command line tells a baseline from a file

# Computing and printing, nothing granted: the defaults of November 2026.
COMPUTE_2026_11 = exactly(
    Policy(),
    Limits(
        wall_s=5.0,
        cpu_s=5.0,
        grace_s=0.0,
        pause_s=60.0,
        cpu_cores=1024.0,
        memory_bytes=268_435_456,
        output_bytes=1_048_576,
        output_bytes_per_s=1_099_511_627_776,
        processes=0,
        threads=16,
        open_files=64,
        work_bytes=67_108_864,
        work_files=4096,
        file_bytes=67_108_864,
        value_bytes=16_777_216,
        artifact_bytes=16_777_216,
    ),
)

BASELINES: dict[str, Policy] = {"compute-2026-11": COMPUTE_2026_11}


def baseline(name: str) -> Policy:
    """The baseline called ``name``, with or without the prefix ``baseline:``.

    Raises:
        PolicyError: there is none; the message lists those there are.
    """
    bare = name.removeprefix(PREFIX)
    if bare not in BASELINES:
        raise PolicyError(
            "policy", f"no baseline is called {show(bare)}; there are: {', '.join(BASELINES)}"
        )
    return BASELINES[bare]
