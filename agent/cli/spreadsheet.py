"""Cells for a spreadsheet."""

from __future__ import annotations

from agent.cli.out import printable

_FORMULA = ("=", "+", "-", "@")


def safe(value: object) -> str:
    """A cell that no spreadsheet takes for a formula, whatever a phone is called."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    text = printable(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text
