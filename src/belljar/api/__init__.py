"""What a user calls: docstrings and delegation only."""

from __future__ import annotations

from .machine import close_all as close
from .run import run

__all__ = ["close", "run"]
