"""K5: the trusted base is named, listed, and as large as the page says."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "docs/architecture.md").read_text().split("## The trusted base\n")[1]


def test_K5_the_trusted_base_is_as_large_as_the_page_says() -> None:
    claimed = re.search(r"some ([\d,]+) lines", SECTION)
    command = re.search(r"```sh\n(.*?)```", SECTION, re.DOTALL)
    assert claimed is not None
    assert command is not None
    done = subprocess.run(command[1], shell=True, cwd=ROOT, capture_output=True, check=True)
    counted = int(done.stdout.split()[-2])
    assert 0.9 * counted < int(claimed[1].replace(",", "")) < 1.1 * counted


def test_K5_every_part_of_the_package_is_named() -> None:
    package = ROOT / "src/belljar"
    parts = {path.relative_to(package).parts[0] for path in package.rglob("*.py")}
    parts = {part.removesuffix(".py") for part in parts}
    outside = {"cli", "guest", "testing"}
    plain = {"__init__", "__main__", "_record", "result", "artifact", "errors"}
    for part in parts - outside - plain:
        assert f"`{part}`" in SECTION or f"`{part}.py`" in SECTION, part
