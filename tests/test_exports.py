"""What ``import belljar`` offers, and what it costs (start-up time is a headline figure, X1)."""

from __future__ import annotations

import subprocess
import sys

import pytest

import belljar

# Not one of them is needed to run code; together they cost more than the run.
HEAVY = {
    "argparse",
    "asyncio",
    "ast",
    "contextlib",
    "dataclasses",
    "enum",
    "inspect",
    "json",
    "logging",
    "pathlib",
    "re",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "subprocess",
    "tempfile",
    "tomllib",
    "typing",
}


def new_modules(code: str) -> set[str]:
    """The modules that code brings in, in a fresh interpreter."""
    script = f"import sys; before = {{*sys.modules}}\n{code}\nprint(*({{*sys.modules}} - before))"
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.split())


def test_dir_is_what_is_offered() -> None:
    assert sorted(dir(belljar)) == sorted(belljar.__all__)
    assert len(set(belljar.__all__)) == len(belljar.__all__)
    constants_first = sorted(belljar.__all__, key=lambda name: (not name.isupper(), name))
    assert constants_first == belljar.__all__


@pytest.mark.parametrize("name", belljar.__all__)
def test_every_name_is_there(name: str) -> None:
    value = getattr(belljar, name)
    assert getattr(value, "__name__", name) == name or name == "close"
    assert getattr(value, "__doc__", None) or name == "__version__"


def test_every_error_is_offered() -> None:
    """Each exception that belljar raises can be caught by a public name."""
    from belljar import errors

    assert set(errors.__all__) <= set(belljar.__all__)
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), belljar.BelljarError)


def test_other_names_are_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        belljar.nothing  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError):
        from belljar import nothing  # type: ignore[attr-defined]  # noqa: F401


def test_import_belljar_brings_next_to_nothing() -> None:
    assert new_modules("import belljar") <= {"belljar", "__future__"}


def test_the_way_to_a_run_brings_nothing_heavy() -> None:
    found = new_modules("import belljar; belljar.run; belljar.Policy; belljar.Result")
    assert "belljar.drivers.blocking" in found
    assert not found & HEAVY
    assert not {name for name in found if name.startswith(("belljar.cli", "belljar.testing"))}


def test_a_run_brings_nothing_heavy(walls: None) -> None:
    found = new_modules("import belljar; assert belljar.run('1 + 1').value == 2")
    assert not found & HEAVY
