"""Tests of the API run guests as users do: with the Python layer on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import belljar
from belljar import PolicyError, Result


@pytest.fixture(autouse=True)
def machine_with_walls(walls: None) -> None:
    """Each test here needs a machine that can hold the empty policy."""


@pytest.fixture
def taken_or_refused() -> Callable[..., Result | None]:
    """``run`` for an odd argument: its result, or None if a ``PolicyError`` names the argument.

    Any other exception is a failure of the test.
    """

    def run(key: str, *arguments: Any, **named: Any) -> Result | None:
        try:
            return belljar.run(*arguments, **named)
        except PolicyError as error:
            if not error.key.startswith(key):
                raise
            return None

    return run
