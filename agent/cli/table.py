"""Text in columns, for every command that lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence


def columns(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    coloured: int,
    colours: Sequence[str | None],
) -> str:
    """The rows under bold headings.

    Args:
        headings: one per column.
        rows: the cells, as wide as they need to be.
        coloured: the column that has colours.
        colours: the colour of that column in each row; None for none.
    """
    widths = [max(map(len, cells)) for cells in zip(headings, *rows, strict=True)]

    def padded(cells: Sequence[str]) -> list[str]:
        return [text.ljust(width) for text, width in zip(cells, widths, strict=True)]

    lines = [click.style("  ".join(padded(headings)).rstrip(), bold=True)]
    for row, colour in zip(rows, colours, strict=True):
        cells = padded(row)
        cells[coloured] = click.style(cells[coloured], fg=colour)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
