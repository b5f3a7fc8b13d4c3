"""Tests of the API run guests as users do: with the Python layer on."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def machine_with_walls(walls: None) -> None:
    """Each test here needs a machine that can hold the empty policy."""
