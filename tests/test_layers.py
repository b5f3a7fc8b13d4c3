"""The map in ``belljar/__init__.py`` is true: imports point down only, pure parts are pure.

The contracts are in ``.importlinter``.  Each is also shown to be able to break.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import belljar

ROOT = Path(__file__).parents[1]
SOURCE = Path(belljar.__file__).parent


def lint(config: Path, path: Path) -> subprocess.CompletedProcess[str]:
    """import-linter over the package that lies in ``path``."""
    code = (
        f"import sys; sys.path.insert(0, {str(path)!r}); "
        "from importlinter.cli import lint_imports_command as lint; lint()"
    )
    return subprocess.run(
        [sys.executable, "-c", code, "--no-cache", "--config", str(config)],
        capture_output=True,
        text=True,
        cwd=config.parent,
        check=False,
        timeout=120,
    )


def test_the_layers_hold() -> None:
    done = lint(ROOT / ".importlinter", ROOT / "src")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("kernel/rlimits.py", "from ..engine import events", "Imports point down only"),
        ("errors.py", "from . import policy", "Imports point down only"),
        ("drivers/blocking.py", "from .. import testing", "Nothing imports the testing kit"),
        ("plan/root.py", "import os", "Pure parts do no input and output"),
        ("guest/report.py", "from ..kernel import caps", "The guest has only the wire"),
        ("drawer.py", "", "Imports point down only"),
    ],
)
def test_each_contract_can_break(tmp_path: Path, file: str, line: str, contract: str) -> None:
    shutil.copytree(SOURCE, tmp_path / "belljar", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    with (tmp_path / "belljar" / file).open("a", encoding="utf-8") as source:
        source.write(f"\n{line}\n")
    done = lint(tmp_path / ".importlinter", tmp_path)
    assert done.returncode != 0
    assert re.search(f"{contract}.* BROKEN", done.stdout), done.stdout + done.stderr


def test_the_map_names_every_part() -> None:
    """The first comment of ``__init__`` lists what there is, in the order of the contract."""
    config = (ROOT / ".importlinter").read_text(encoding="utf-8")
    block = config.partition("layers =\n")[2].partition("\n;")[0]
    layers = [re.split(r"\W+", line.strip()) for line in block.splitlines()]
    named = re.findall(r"^    (\w+(?:, \w+)?)", belljar.__doc__ or "", re.MULTILINE)
    parts = [part for names in named for part in names.split(", ") if part != "belljar"]
    wanted = [part for layer in layers for part in layer if not part.startswith("_")]
    assert set(wanted) <= set(parts)
    files = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py"}
    folders = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert {name for name in files | folders if name[0] != "_"} - {"testing"} == set(wanted)
