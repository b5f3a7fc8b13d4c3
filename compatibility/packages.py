"""``python -m compatibility.packages``: what runs inside of the packages that people use.

What: installs the distributions of ``packages.txt`` into an environment of their own, runs
the program of each in ``smoke/`` outside and inside, and prints one table.  Because: the
share of ordinary programs that run unmodified is a measured figure.  Then: the table is a
section of ``docs/reference/compatibility.md``.

A program's last expression is true where everything that it did came out right.  A program
in ``smoke/refused/`` does what a wall refuses: it must work outside and fail inside.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path

from belljar import Policy, run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
REQUIREMENTS = Path(__file__).with_name("packages.txt")
PROGRAMS = Path(__file__).with_name("smoke")
ENVIRONMENT = REPOSITORY / ".venv" / "packages"
PYTHON = ENVIRONMENT / "bin" / "python"
INSTALLED = ENVIRONMENT / "installed"  # what packages.txt said when it was installed

MIB = 2**20
STANDARD = ("sqlite3", "ssl")  # not to be installed, but asked for as often
TIME_S = 60  # a library of 200 MiB is read from a cold disk
END_S = 180  # for an outside program and for a host with its guest; nothing here takes as long

# What a program needs beyond packages=[name]: grants and limits, as arguments of allow().
# The memory is address space: OpenBLAS reserves 40 MiB for each thread, once in NumPy and
# once in SciPy, so that a machine with more than a few processors needs more.
_BLAS = {"memory_bytes": 512 * MIB}
NEEDS: dict[str, dict[str, Any]] = {
    "duckdb": {"memory_bytes": 512 * MIB},
    "numba": {"jit": True, "memory_bytes": 1024 * MIB},
    "opencv-python-headless": _BLAS,
    # It finds out the kind of processor with machine code that it writes at run time.
    "polars": {"memory_bytes": 512 * MIB, "env": {"POLARS_SKIP_CPU_CHECK": "1"}},
    "psutil": {"system_info": True},
    "scikit-image": _BLAS,
    "scikit-learn": _BLAS,
    "scipy": _BLAS,
    "statsmodels": {"memory_bytes": 1024 * MIB},
}

# Programs of smoke/refused/: (what fails, the guarantee that refuses it).
REFUSED = {
    "cffi": ("`ffi.callback()`", "no new native code"),
    "psutil": ("other processes", "no other process is seen"),
}

# Runs in the environment: the version of a distribution, and whether it or one that it
# requires holds native code.
_DESCRIBE = """
import json, sys
from importlib.metadata import distribution
from packaging.requirements import Requirement
waiting, seen, native = [sys.argv[1]], set(), False
while waiting:
    name = waiting.pop()
    if name not in seen:
        seen.add(name)
        found = distribution(name)
        native |= any(".so" in file.suffixes for file in found.files or ())
        for wanted in map(Requirement, found.requires or ()):
            if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
                waiting.append(wanted.name)
print(json.dumps([distribution(sys.argv[1]).version, native]))
"""

# Runs in the environment: the value of the program.
_OUTSIDE = """
import ast, json, sys
name, code = json.load(sys.stdin)
tree = ast.parse(code)
last = ast.Expression(tree.body.pop().value)
namespace = {"__name__": "__main__"}
exec(compile(tree, name, "exec"), namespace)
value = eval(compile(last, name, "eval"), namespace)
print()
print(json.dumps(value is True))
"""


@dataclass(frozen=True)
class Row:
    """One line of the table.  ``verdict`` is ``ok``, ``refused``, ``failed`` or ``missing``."""

    name: str
    version: str
    kind: str
    verdict: str
    inside: str
    needs: str


def distributions() -> list[str]:
    """The names in ``packages.txt``, and their order in the table."""
    lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    return [line.partition(">")[0] for line in lines if line and line[0] != "#"]


# -- the environment ----------------------------------------------------------------------


def install() -> None:
    """Make the environment, or complete it; nothing happens where it is up to date."""
    wanted = f"{sys.version}\n{REQUIREMENTS.read_text(encoding='utf-8')}"
    if INSTALLED.is_file() and INSTALLED.read_text(encoding="utf-8") == wanted:
        return
    say("installing the packages")
    if not _usable():
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
    if not _pip("install", "--requirement", str(REQUIREMENTS)):
        # One without a wheel for this Python must not keep the others out.
        for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
            if line and line[0] != "#" and not _pip("install", line):
                say(f"{line} cannot be installed for this Python")
    INSTALLED.write_text(wanted, encoding="utf-8")


def _usable() -> bool:
    """Whether the environment is of this Python, and has a pip that works."""
    if not PYTHON.exists() or not _pip("--version"):
        return False
    code = "import sys; print(sys.version, end='')"
    done = subprocess.run([PYTHON, "-I", "-c", code], stdout=subprocess.PIPE, text=True)
    return done.stdout == sys.version


def _pip(verb: str, *arguments: str) -> bool:
    options = ["--quiet", "--only-binary", ":all:"] if verb == "install" else []
    done = subprocess.run(
        [PYTHON, "-m", "pip", "--disable-pip-version-check", verb, *options, *arguments],
        stdout=subprocess.DEVNULL,
    )
    return done.returncode == 0


def describe(name: str) -> tuple[str, str] | None:
    """Version and kind of a distribution; None if the environment does not have it."""
    if name in STANDARD:
        return ".".join(map(str, sys.version_info[:3])), "standard library"
    done = subprocess.run(
        [PYTHON, "-I", "-c", _DESCRIBE, name],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    if done.returncode:
        return None
    version, native = json.loads(done.stdout)
    return version, "compiled" if native else "pure"


# -- one program --------------------------------------------------------------------------


def run_outside(name: str, code: str) -> bool:
    """Whether the program is right without belljar."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [PYTHON, "-I", "-c", _OUTSIDE],
            input=json.dumps([name, code]),
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env={"HOME": folder, "PATH": os.defpath},
            timeout=END_S,
        )
    return done.returncode == 0 and json.loads(done.stdout.splitlines()[-1]) is True


def run_inside(name: str, code: str) -> tuple[str, bool, str]:
    """The status of the program inside, whether its value is right, and the error's type."""
    grants: dict[str, Any] = {"wall_s": TIME_S, "cpu_s": TIME_S, **NEEDS.get(name, {})}
    if name not in STANDARD:
        grants["packages"] = [name]
    result = run(code, Policy().allow(python=str(ENVIRONMENT), **grants))
    return result.status, result.value is True, result.error.type if result.error else ""


# -- the table ----------------------------------------------------------------------------


def measure(names: Iterable[str]) -> Iterator[Row]:
    """One row for each name."""
    for name in names:
        say(name)
        described = describe(name)
        if described is None:
            yield Row(name, "", "", "missing", "no wheel for this Python", "")
        else:
            yield Row(name, *described, *_judge(name), needed(name))


def _judge(name: str) -> tuple[str, str]:
    """Verdict and text of the column *inside*: what works must work, what is refused must fail."""
    texts: list[str] = []
    program = PROGRAMS / f"{name}.py"
    works = program.exists()
    if works:
        code = program.read_text(encoding="utf-8")
        if not run_outside(name, code):
            return "failed", "failed outside too"
        status, right, error = run_inside(name, code)
        if not right:
            return "failed", f"failed: {error or status}"
        texts.append("ok")
    if name in REFUSED:
        what, guarantee = REFUSED[name]
        code = (PROGRAMS / "refused" / f"{name}.py").read_text(encoding="utf-8")
        if not run_outside(name, code):
            return "failed", f"{what} failed outside too".strip()
        if run_inside(name, code)[1]:
            return "failed", f"{what} not refused".strip()
        texts.append(f"{what} refused: {guarantee}".strip())
    return "ok" if works else "refused", "; ".join(texts)


def needed(name: str) -> str:
    """What ``NEEDS`` says of a package, as the table shows it."""
    parts: list[str] = []
    for key, value in NEEDS.get(name, {}).items():
        text = f"{value // MIB} MiB" if key == "memory_bytes" else json.dumps(value)
        parts.append(f"{key} {text}" if key == "memory_bytes" else f"`{key}={text}`")
    return ", ".join(parts).replace("=true", "=True")


def table(rows: list[Row]) -> str:
    """The Markdown of the section: totals first."""

    def names(verdict: str) -> str:
        return ", ".join(row.name for row in rows if row.verdict == verdict) or "none"

    tried = [row for row in rows if row.verdict != "missing"]
    ok = [row for row in rows if row.verdict == "ok"]
    plain = [row for row in ok if not row.needs]
    compiled = [row for row in tried if row.kind == "compiled"]
    python = ".".join(map(str, sys.version_info[:3]))
    lines = [
        "## Packages",
        "",
        "```sh",
        "python -m compatibility.packages",
        "```",
        "",
        f"{len(ok)} of {len(tried)} run inside as outside (CPython {python}), {len(plain)} of them "
        f"with `packages=[name]` and the default memory. {len(compiled)} are compiled: they "
        "hold native code, or require a package that does. Each program uses the "
        "package for what it is used for, and its value is checked. The time limits are raised "
        f"to {TIME_S} s, for cold disks.",
        "",
        f"- refused: {names('refused')}",
        f"- failed: {names('failed')}",
        f"- no wheel for this Python: {names('missing')}",
        "",
        "| package | version | kind | inside | beyond `packages=[name]` |",
        "| --- | --- | --- | --- | --- |",
        *(
            f"| {row.name} | {row.version} | {row.kind} | {row.inside} | {row.needs} |"
            for row in rows
        ),
    ]
    return "\n".join(lines) + "\n"


def section() -> str:
    """Measure everything; the section of the compatibility page."""
    install()
    return table(list(measure((*distributions(), *STANDARD))))


def say(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Print the section; 1 if anything failed that should not."""
    parser = argparse.ArgumentParser(prog="python -m compatibility.packages", description=__doc__)
    parser.add_argument("name", nargs="*", help="only these packages")
    chosen = parser.parse_args().name
    install()
    rows = list(measure(chosen or (*distributions(), *STANDARD)))
    print(table(rows), end="")
    return int(any(row.verdict == "failed" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
