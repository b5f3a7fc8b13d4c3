"""Programs of the compatibility table whose packages the development environment has."""

from __future__ import annotations

from pathlib import Path

import pytest

import belljar
from belljar import Policy

SMOKE = Path(__file__).resolve().parents[2] / "compatibility" / "smoke"


@pytest.mark.usefixtures("walls")
@pytest.mark.parametrize("name", ["msgpack", "packaging", "pygments", "rich"])
def test_a_granted_package_works_with_the_default_limits(name: str) -> None:
    code = (SMOKE / f"{name}.py").read_text(encoding="utf-8")
    assert belljar.run(code, Policy().allow(packages=[name])).unwrap() is True


@pytest.mark.usefixtures("walls")
@pytest.mark.parametrize("name", ["sqlite3", "ssl"])
def test_native_code_of_the_standard_library_works_without_grants(name: str) -> None:
    """C9: what is on disk may run, though nothing new may be made."""
    code = (SMOKE / f"{name}.py").read_text(encoding="utf-8")
    assert belljar.run(code).unwrap() is True
