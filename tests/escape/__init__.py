"""Attacks: one file for each class.  Every guarantee has a test that allows and one that denies."""
