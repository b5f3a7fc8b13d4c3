"""C3: the table of C modules is whole, sane, and what the reference page prints.

After a change of the table, print it anew into the page with::

    python tests/policy/test_whitelist.py
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

import belljar
from belljar.policy.whitelist import ALLOWED, BLOCKED, FACADES, reason, standing
from belljar.python.interpreter import describe_interpreter

PAGE = pathlib.Path(__file__).parents[2] / "docs/reference/modules.md"
MODULES = sorted({*ALLOWED, *BLOCKED})

# Prints what is loaded, then what of it is C: built in, or from a file of machine code.
LOADED = """
import sys
for name, module in sorted(sys.modules.items()):
    origin = getattr(getattr(module, "__spec__", None), "origin", None) or ""
    if name in sys.builtin_module_names or origin.endswith(".so"):
        print(name)
"""


def table() -> str:
    """Every module of the table as it stands on the page, sorted by name."""
    rows = [
        f"| `{name}` | {'allowed' if standing(name) else '**blocked**'} | {reason(name)} |"
        for name in MODULES
    ]
    return "\n".join(["| module | standing | reason |", "| --- | --- | --- |", *rows]) + "\n"


def facades() -> str:
    """Every facade as it stands on the page, with what it needs."""
    rows = [
        f"| `{name}` | {', '.join(f'`{part}`' for part in needed)} |"
        for name, needed in sorted(FACADES.items())
    ]
    return "\n".join(["| module | needs |", "| --- | --- |", *rows]) + "\n"


HEADINGS = {"## Table": table, "## Modules that need a blocked one": facades}


def section(page: str, heading: str) -> tuple[str, str, str]:
    """``page`` up to the table under ``heading``, that table, and the rest."""
    lines = page.splitlines(keepends=True)
    start = end = lines.index(f"{heading}\n") + 1
    while end < len(lines) and not lines[end].startswith("#"):
        end += 1
    rows = [number for number in range(start, end) if lines[number].startswith("|")]
    first, last = (rows[0], rows[-1] + 1) if rows else (end, end)
    return "".join(lines[:first]), "".join(lines[first:last]), "".join(lines[last:])


def stdlib_c_modules() -> set[str]:
    """What C modules the running interpreter has: built in, and beside its library."""
    files = (name for folder in describe_interpreter().dynload for name in os.listdir(folder))
    return {*sys.builtin_module_names, *(n.partition(".")[0] for n in files if n.endswith(".so"))}


# ---------------------------------------------------------------------------- the data


def test_no_module_is_both_allowed_and_blocked() -> None:
    assert not ALLOWED.keys() & BLOCKED.keys()


def test_the_data_are_sorted() -> None:
    for data in (ALLOWED, BLOCKED, FACADES):
        assert list(data) == sorted(data)


@pytest.mark.parametrize("name", MODULES)
def test_each_reason_is_one_sentence(name: str) -> None:
    text = reason(name)
    assert 20 <= len(text) <= 160
    assert text == " ".join(text.split())
    assert text[-1].isalnum()
    assert not any(mark in text for mark in (". ", "|", "\n", "  "))


def test_a_module_stands_where_its_reason_does() -> None:
    assert {name for name in MODULES if standing(name)} == ALLOWED.keys()
    assert {name for name in MODULES if standing(name) is False} == BLOCKED.keys()
    assert standing("json") is None
    assert standing("_ctypes.tests") is None
    with pytest.raises(KeyError, match="json"):
        reason("json")


# --------------------------------------------------------------------- the interpreter


def test_every_c_module_of_this_interpreter_is_in_the_table() -> None:
    """C3: built-in modules, and those beside the library; a patched build may have its own."""
    unknown = sorted(stdlib_c_modules() - {*MODULES})
    assert not unknown, (
        f"{sys.executable} (Python {sys.version.split()[0]}) has C modules that "
        f"policy/whitelist.py does not know, so they are blocked without a reason: {unknown}"
    )


def test_what_the_interpreter_starts_with_is_allowed() -> None:
    """C3: no interpreter starts without it, so blocking it would refuse every run."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LOADED],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    loaded = set(done.stdout.split())
    assert {"sys", "builtins", "posix", "marshal", "_io"} <= loaded
    assert loaded <= ALLOWED.keys()


def test_what_a_guest_starts_with_is_allowed(walls: None) -> None:
    """C3, C5: belljar's own layer inside needs no blocked module."""
    loaded = set(belljar.run(LOADED).stdout.split())
    assert {"sys", "builtins", "posix", "marshal", "_io"} <= loaded
    assert loaded <= ALLOWED.keys()


# ------------------------------------------------------------------------- the facades


def test_facades_need_blocked_modules_only() -> None:
    assert {part for needed in FACADES.values() for part in needed} <= BLOCKED.keys()
    assert not FACADES.keys() & {*MODULES}


def test_no_facade_imports_without_its_c_modules() -> None:
    """Each one of this version, with any one of the C modules it needs taken away."""
    library = pathlib.Path(describe_interpreter().stdlib)
    code = """
import sys
sys.modules[sys.argv[1]] = None
try:
    __import__(sys.argv[2])
except ImportError as error:
    print(error)
"""
    tried = 0
    for name, needed in FACADES.items():
        place = library.joinpath(*name.split("."))
        if not (place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()):
            continue  # of another version, or in a package of the distribution's own
        for part in needed:
            done = subprocess.run(
                [sys.executable, "-I", "-c", code, part, name],
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
            assert done.stdout, f"{name} imports without {part}"
            tried += 1
    assert tried >= 2  # dbm.gnu and dbm.ndbm are in every build


# ---------------------------------------------------------------------------- the page


@pytest.mark.parametrize("heading", HEADINGS)
def test_the_page_prints_the_data(heading: str) -> None:
    printed = section(PAGE.read_text(encoding="utf-8"), heading)[1]
    assert printed == HEADINGS[heading](), f"print it anew: python {__file__}"


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    for title, made in HEADINGS.items():
        before, old, after = section(text, title)
        gap = "" if old or before.endswith("\n\n") else "\n"
        text = before + gap + made() + ("" if old or not after else "\n") + after
    PAGE.write_text(text, encoding="utf-8")
