"""Policy x support -> plan: what to do here, decided in pure code.

``make_plan`` is the only decision; ``zygote.launcher`` and ``confine`` carry the steps
out without looking at a policy.  ``explain`` prints a plan for people.
"""

from __future__ import annotations

from .make import make_plan
from .steps import Held, Plan, Step
from .support import Support

__all__ = ["Held", "Plan", "Step", "Support", "make_plan"]
