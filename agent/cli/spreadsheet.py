"""Cells for a spreadsheet."""

from __future__ import annotations

import re

from agent.cli.out import printable

_FORMULA = re.compile(r"(^|;)(\s*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])")
"""What begins a formula, where a cell begins: where semicolons part cells, too (Excel in much of
Europe takes no comma for that), and as wide as East Asian keyboards write it."""


def safe(value: object) -> str:
    """A cell that no spreadsheet takes for a formula, whatever a phone is called; all of it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    return _FORMULA.sub(r"\1'\2", printable(value, None))
