"""What each kind of machine does with each kind of policy, as text under version control (X6).

``full`` and ``docker_user`` are written out for one policy each, the rest as the lines that
differ: from the same machine's first plan, or from the same policy's plan on one of these two.

A change of a plan shows as a readable difference here.  After looking at it, regenerate with::

    BELLJAR_REGENERATE=1 pytest tests/plan/test_golden.py
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

import pytest

from belljar.errors import UnsupportedError
from belljar.policy import Policy

from .machines import FULL, MACHINES, POLICIES, plan_for, show

GOLDEN = Path(__file__).parent / "golden"
WITH_NAMESPACES, WITHOUT = "full", "docker_user"


def outcome(machine: str, policy: Policy) -> str:
    try:
        return show(plan_for(policy, MACHINES[machine]), with_root=True)
    except UnsupportedError as error:
        lines = [f"  missing: {line}" for line in error.missing]
        lines += [f"  remedy:  {line}" for line in error.remedy]
        return "\n".join(["refused:", *lines])


def difference(title: str, base: str, text: str) -> str:
    """The lines that ``text`` has otherwise than ``base``, each under its section."""
    if base == text:
        return f"{title}, the same"
    section = ""
    lines = [title]
    for line in difflib.ndiff(base.splitlines(), text.splitlines()):
        if line[2:].endswith(":") and line[2] != " ":
            section = line[2:]
        if line[0] in "+-":
            if section:
                lines.append(f"  {section}")
                section = ""
            lines.append(f"  {line}")
    return "\n".join(lines)


def report(machine: str) -> str:
    base = WITH_NAMESPACES if MACHINES[machine].isolated else WITHOUT
    first = ""
    parts: list[str] = []
    seen: dict[str, str] = {}
    for name, policy in POLICIES.items():
        text = outcome(machine, policy)
        written = text
        if text in seen:
            written = f"as {seen[text]}, the same"
        elif not text.startswith("refused"):
            if machine != base and not outcome(base, policy).startswith("refused"):
                written = difference(f"as on {base}", outcome(base, policy), text)
            elif first:
                written = difference(f"as {first}", outcome(machine, POLICIES[first]), text)
            first = first or name
        seen.setdefault(text, name)
        parts.append(f"=== {name}\n{written}\n")
    return "\n".join(parts)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_plan_is_the_reviewed_one(machine: str) -> None:
    file = GOLDEN / f"{machine}.txt"
    made = report(machine)
    if os.environ.get("BELLJAR_REGENERATE"):
        file.write_text(made, encoding="utf-8")
    assert made == file.read_text(encoding="utf-8")


def test_every_golden_file_belongs_to_a_machine() -> None:
    assert {file.stem for file in GOLDEN.iterdir()} == set(MACHINES)


def test_the_machines_that_others_are_compared_with_are_what_they_are_called() -> None:
    assert MACHINES[WITH_NAMESPACES] is FULL
    assert FULL.isolated
    assert not MACHINES[WITHOUT].isolated
