"""Markdown as far as the tests of the documentation need it: fences, markers, links, headings.

What: pure functions from text to values.  Because: the examples and links of the
documentation are promises, and a parser for the whole of Markdown would be a dependency for
four regular expressions.  Then: ``test_examples.py`` runs and resolves what is found here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,}|~{3,})[ ]*(?P<language>[\w+-]*)[ ]*$")
MARKER = re.compile(r"<!--\s*not executed:\s*(?P<reason>.*?)\s*-->")
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?(?P<target>[^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:\s*<?(?P<target>[^\s>]+)>?", re.MULTILINE)
HEADING = re.compile(r"^#{1,6}\s+(?P<title>.+?)\s*#*$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block: where it starts, its language, its text, why it is not run (if so)."""

    file: Path
    line: int
    language: str
    text: str
    skipped: str | None


@dataclass(frozen=True)
class Command:
    """One ``$`` line of a console block, with the output that follows it."""

    text: str
    output: str


def blocks(file: Path, text: str) -> list[Block]:
    """Every fenced block of ``text``.

    Raises:
        ValueError: a fence that is never closed, or a marker without a reason.
    """
    found: list[Block] = []
    lines = text.splitlines()
    before = ""  # the last line that is not blank: a marker stands right before its block
    number = 0
    while number < len(lines):
        fence = FENCE.match(lines[number])
        if fence is None:
            before = lines[number].strip() or before
            number += 1
            continue
        start = number + 1
        closing = fence["indent"] + fence["ticks"]
        end = next((n for n in range(start, len(lines)) if lines[n].rstrip() == closing), None)
        if end is None:
            raise ValueError(f"{file}:{start}: this block is never closed")
        marker = MARKER.fullmatch(before)
        if marker is not None and not marker["reason"]:
            raise ValueError(f"{file}:{start}: 'not executed' needs a reason")
        body = [line.removeprefix(fence["indent"]) for line in lines[start:end]]
        found.append(
            Block(
                file=file,
                line=start,
                language=fence["language"],
                text="\n".join(body) + "\n",
                skipped=marker["reason"] if marker else None,
            )
        )
        before = ""
        number = end + 1
    return found


def commands(text: str) -> list[Command]:
    """The commands of a console block."""
    found: list[Command] = []
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        found.append(Command(command.strip(), output))
    return found


def matches(shown: str, real: str) -> bool:
    """Is ``real`` what was ``shown``, where ``...`` stands for anything?

    Space at the ends of lines and of the whole does not count.
    """

    def tidy(text: str) -> str:
        return "\n".join(line.rstrip() for line in text.strip().splitlines())

    pattern = ".*".join(re.escape(part) for part in tidy(shown).split("..."))
    return re.fullmatch(pattern, tidy(real), re.DOTALL) is not None


def without_blocks(text: str) -> str:
    """``text`` without its fenced blocks: a comment in a program is no heading."""
    kept: list[str] = []
    closing = ""
    for line in text.splitlines():
        fence = FENCE.match(line)
        if closing:
            if line.rstrip() == closing:
                closing = ""
        elif fence is not None:
            closing = fence["indent"] + fence["ticks"]
        else:
            kept.append(line)
    return "\n".join(kept)


def links(text: str) -> list[str]:
    """Every link target of ``text``, outside code."""
    prose = re.sub(r"`[^`\n]*`", "", without_blocks(text))
    return [found["target"] for pattern in (LINK, REFERENCE) for found in pattern.finditer(prose)]


def anchors(text: str) -> set[str]:
    """The fragment names of the headings of ``text``, as the common forges make them."""
    made: set[str] = set()
    for heading in HEADING.finditer(without_blocks(text)):
        title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading["title"]).replace("`", "")
        slug = re.sub(r"[^\w\- ]", "", title.casefold()).replace(" ", "-")
        name, count = slug, 0
        while name in made:
            count += 1
            name = f"{slug}-{count}"
        made.add(name)
    return made
