"""Fuzzers: ``python -m tests.fuzz NAME --seconds 60`` runs one, ``--seed S --index N`` one input."""
