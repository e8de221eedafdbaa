"""Text in columns, for every command that lists."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from agent.cli.out import can_write, printable
from agent.text import CUT, columns_of, width

if TYPE_CHECKING:
    from collections.abc import Sequence

_GAP = "  "


def columns(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    coloured: int,
    colours: Sequence[str | None],
    *,
    room: int | None = None,
    shrink: Sequence[tuple[int, int]] = (),
) -> str:
    """The rows under bold headings.

    Args:
        headings: one per column.
        rows: the cells; what is not printable, which a phone's name may have, is shown as `?`.
        coloured: the column that has colours.
        colours: the colour of that column in each row; None for none.
        room: how wide it may be; None: as wide as it needs to be.
        shrink: (column, width) in the order in which they give up room where there is too little;
            0: the column is left out.
    """
    cells = [list(headings), *([printable(text) for text in row] for row in rows)]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    if room is not None:
        _shrink(widths, room, shrink)
    lines = []
    for number, row in enumerate(cells):
        parts = []
        for column, text in enumerate(row):
            if not widths[column]:
                continue
            part = fitted(text, widths[column])
            if number and column == coloured:
                part = click.style(part, fg=colours[number - 1])
            parts.append(part)
        line = _GAP.join(parts).rstrip()
        lines.append(line if number else click.style(line, bold=True))
    return "\n".join(lines)


def _shrink(widths: list[int], room: int, order: Sequence[tuple[int, int]]) -> None:
    for column, least in order:
        shown = [each for each in widths if each]
        excess = sum(shown) + len(_GAP) * (len(shown) - 1) - room
        if excess <= 0:
            return
        if not least:
            widths[column] = 0
        elif widths[column] > least:
            widths[column] = max(least, widths[column] - excess)


def fitted(text: str, room: int) -> str:
    """Exactly that wide: cut, with an ellipsis, or padded."""
    if (space := room - width(text)) >= 0:
        return text + " " * space
    cut = CUT if can_write(CUT) else "~"
    kept, used = "", 0
    for character in text:
        used += columns_of(character)
        if used > room - 1:
            break
        kept += character
    return kept + cut + " " * (room - 1 - width(kept))


def terminal() -> os.terminal_size | None:
    """The size of the terminal that is written to; None: it is none, or a dumb one."""
    if not sys.stdout.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return None
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return None
    return size if size.columns and size.lines else None
