"""Judging facts: pure functions, facts in, findings out."""
