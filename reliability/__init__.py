"""Whether belljar lasts: very many runs of good and hostile code, and what is left of them.

``python -m reliability`` writes ``docs/reference/reliability.md``.
"""
