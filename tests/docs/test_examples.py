"""Every example of the documentation runs, every relative link leads somewhere.

What: each fenced ``python`` block of README.md and docs/ is a program of its own and must end
with 0; each ``console`` block is replayed.  Because: an example that does not work is worse
than none.  Then: what cannot be run says why, in a comment right before the block:
``<!-- not executed: reason -->``.

In a console block ``$ belljar …`` is run and its output compared, with ``...`` for anything.
``$ cat NAME`` makes that file from the text shown, and ``$ echo $?`` tells the exit code of
the command before it, which is otherwise 0.  Other commands are for the reader.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest


def _markdown() -> Any:
    """The module beside this one; test files are not in a package."""
    spec = importlib.util.spec_from_file_location(
        "docs_markdown", Path(__file__).with_name("markdown.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


markdown = _markdown()

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/**/*.md")])
EXECUTED = [page for page in PAGES if page == ROOT / "README.md" or ROOT / "docs" in page.parents]
# A block in another language is for reading.  One that is spelt differently would not be run.
LANGUAGES = {"python", "console", "toml", "json", "text", "c", "sh", "ini", "diff", "dockerfile"}
TIMEOUT_S = 120  # an example that takes longer is not an example


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _blocks(language: str) -> list[Any]:
    """A parameter for each block of ``language``, skipped ones with their reason."""
    return [
        pytest.param(
            block,
            id=f"{_name(block.file)}:{block.line}",
            marks=[pytest.mark.skip(reason=f"not executed: {block.skipped}")]
            if block.skipped
            else [],
        )
        for page in EXECUTED
        for block in markdown.blocks(page, page.read_text(encoding="utf-8"))
        if block.language == language
    ]


def _environment() -> dict[str, str]:
    """This environment, with the commands of this installation first."""
    scripts = sysconfig.get_path("scripts")
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST")}
    return {**kept, "PATH": f"{scripts}:{os.environ.get('PATH', os.defpath)}"}


@pytest.mark.parametrize("block", _blocks("python"))
def test_program(block: Any, tmp_path: Path) -> None:
    """A ``python`` block ends with 0 in a process of its own, without a warning."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-"],
        input="\n" * block.line + block.text,  # so that a traceback has the page's line numbers
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=_environment(),
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, f"{_name(block.file)}, line numbers are the page's:\n{done.stderr}"


@pytest.mark.parametrize("block", _blocks("console"))
def test_console(block: Any, tmp_path: Path) -> None:
    """A ``console`` block gives the output and the exit codes that it shows."""
    where = f"{_name(block.file)}:{block.line}"
    code: int | None = None  # of the last command, until it is asked for or the next one runs
    for command in markdown.commands(block.text):
        if command.text == "echo $?":
            assert code is not None, f"{where}: echo $? without a command before it"
            assert command.output.strip() == str(code), f"{where}: the exit code is {code}"
            code = None
            continue
        assert not code, f"{where}: the command before '$ {command.text}' ended with {code}"
        words = command.text.split()
        if len(words) == 2 and words[0] == "cat":
            (tmp_path / words[1]).write_text(command.output, encoding="utf-8")
        elif words[0] == "belljar":
            text, code = _shell(command.text, tmp_path)
            assert markdown.matches(command.output, text), (
                f"{where}: $ {command.text}\nshown:\n{command.output}\nreal:\n{text}"
            )
    assert not code, f"{where}: the last command ended with {code}"


def _shell(command: str, directory: Path) -> tuple[str, int]:
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=directory,
        env=_environment(),
        timeout=TIMEOUT_S,
        check=False,
    )
    return done.stdout, done.returncode


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_fences(page: Path) -> None:
    """Every block names a language, spelt so that the tests above find it."""
    for block in markdown.blocks(page, page.read_text(encoding="utf-8")):
        assert block.language in LANGUAGES, f"{_name(page)}:{block.line}: {block.language!r}"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links(page: Path) -> None:
    """Every relative link leads to a file, and its fragment to a heading there."""
    broken: list[str] = []
    for target in markdown.links(page.read_text(encoding="utf-8")):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        resolved = file.exists() and file.is_relative_to(ROOT)
        if resolved and fragment:
            resolved = fragment in markdown.anchors(file.read_text(encoding="utf-8"))
        if not resolved:
            broken.append(target)
    assert not broken


# ------------------------------------------------------------------- the tests' own tools


def test_blocks_are_found() -> None:
    """Language, text, line, indentation and the reason of a marker."""
    text = "a\n\n```python\nx = 1\n```\n\n<!-- not executed: needs a moon -->\n\n  ```console\n  $ a\n  ```\n"
    first, second = markdown.blocks(Path("a.md"), text)
    assert (first.language, first.text, first.line, first.skipped) == ("python", "x = 1\n", 3, None)
    assert (second.language, second.text, second.skipped) == ("console", "$ a\n", "needs a moon")


@pytest.mark.parametrize("text", ["```python\nx\n", "<!-- not executed: -->\n```python\nx\n```\n"])
def test_bad_blocks_are_refused(text: str) -> None:
    """A block that is not closed, a marker without a reason."""
    with pytest.raises(ValueError, match=r"a\.md:"):
        markdown.blocks(Path("a.md"), text)


def test_output_is_compared_with_wildcards() -> None:
    """``...`` stands for anything, everything else for itself."""
    assert markdown.matches("took ... ms\nend", "took 1.5 ms  \nend\n")
    assert markdown.matches("a\n...\nz", "a\nb\nc\nz")
    assert not markdown.matches("took ... ms", "took 1.5 s")
    assert not markdown.matches("a.c", "abc")


def test_commands_are_split() -> None:
    """A command and what follows it, up to the next one."""
    made = markdown.commands("$ belljar run a.py\n1\n2\n$ echo $?\n0\n")
    assert [(c.text, c.output) for c in made] == [
        ("belljar run a.py", "1\n2\n"),
        ("echo $?", "0\n"),
    ]


def test_links_and_headings_are_found() -> None:
    """Inline and reference links, none in code; headings as fragments, repeated ones numbered."""
    text = "# A `b` & c\n## A\n## A\n[x](y.md#z) `[no](a)` ![i](i.png)\n[r]: z.md\n```text\n[n](o)\n# no\n```\n"
    assert markdown.links(text) == ["y.md#z", "i.png", "z.md"]
    assert markdown.anchors(text) == {"a-b--c", "a", "a-1"}
