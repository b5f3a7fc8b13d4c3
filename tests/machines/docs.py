"""The texts that the how-to pages tell people to use, as the tests use them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to"


def texts(page: str, language: str) -> list[str]:
    """The fenced blocks of one page in one language, without their indentation."""
    text = (HOW_TO / page).read_text(encoding="utf-8")
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return [re.sub(f"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


def seccomp_object() -> dict[str, Any]:
    """What docker.md adds to the list of system calls of a seccomp profile."""
    (text,) = texts("docker.md", "json")
    found: dict[str, Any] = json.loads(text)
    return found


def seccomp_additions() -> frozenset[str]:
    return frozenset(seccomp_object()["names"])
