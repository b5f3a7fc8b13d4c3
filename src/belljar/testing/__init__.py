"""The kit for testing belljar, and what is built on it.

``confined``      run a test that can never be taken back, in a process of its own
``faults``        let the n-th system call of a host, launcher, zygote or guest fail
``hostile_peer``  put a script where the guest would be, and let it say anything to the host

Nothing in belljar imports this package; it may import anything.
"""

from __future__ import annotations

from .confined import ConfinedFailure, run_confined

__all__ = ["ConfinedFailure", "run_confined"]
