"""How much of what runs outside runs inside: CPython's own tests, and popular packages.

``python -m compatibility`` writes ``docs/reference/compatibility.md``.
"""
