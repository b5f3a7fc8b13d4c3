"""Made-up distributions in an environment of their own.

What: a virtual environment without anything, and ``install`` that puts files into it as pip
would.  Because: what a package brings along (C modules, requirements, extras) must be of the
test's choice.  Then: a C module of a made-up package is a copy of one of the interpreter's
own, since only a compiler could make another; its file keeps its name, so that the function
that makes it is found.
"""

from __future__ import annotations

import os
import venv
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from belljar import Policy
from belljar.python.interpreter import describe_interpreter


class Environment:
    """A virtual environment of the running interpreter, readable by everybody."""

    def __init__(self, path: Path) -> None:
        self.path = path
        venv.create(path, symlinks=True, with_pip=False)
        (self.site,) = path.glob("lib/python*/site-packages")

    def install(
        self,
        name: str,
        files: Mapping[str, str | bytes],
        requires: Iterable[str] = (),
        extras: Iterable[str] = (),
    ) -> None:
        """Put a distribution there, version 1.0."""
        lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0"]
        lines += [f"Requires-Dist: {text}" for text in requires]
        lines += [f"Provides-Extra: {text}" for text in extras]
        info = f"{name}-1.0.dist-info"
        every = {**files, f"{info}/METADATA": "\n".join(lines) + "\n"}
        record = "".join(f"{path},,\n" for path in [*every, f"{info}/RECORD"])
        for path, contents in {**every, f"{info}/RECORD": record}.items():
            target = self.site / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(contents if isinstance(contents, bytes) else contents.encode())

    @property
    def policy(self) -> Policy:
        """Guests with this environment's interpreter, and none of its packages yet."""
        return Policy().allow(python=str(self.path))


def c_module(name: str) -> tuple[str, bytes]:
    """File name and bytes of a C module of the interpreter; skips where it is built in."""
    for found, path in describe_interpreter().extensions:
        if found == name:
            return os.path.basename(path), Path(path).read_bytes()
    pytest.skip(f"{name} is no file of its own in this interpreter")
