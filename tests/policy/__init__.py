"""A package, so that the test files here share their strategies."""
