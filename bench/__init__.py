"""Measurements: every figure is a ratio of two things timed in turn in one run.

These machines are shared and noisy, so an absolute time says little and a ratio of medians,
taken turn by turn, says what belljar adds.
"""
