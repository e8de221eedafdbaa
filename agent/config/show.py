"""Problems for a terminal, with the lines they are on; whatever may be a secret is covered."""

from __future__ import annotations

import re
from operator import itemgetter
from typing import TYPE_CHECKING

from agent.config.document import Document
from agent.config.shape import all_sections, is_open
from agent.errors import ConfigError
from agent.text import CUT, columns_of, is_printable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from agent.errors import Problem


MARGIN = "    "
"""Before a line that is shown."""


def format_problems(
    problems: Sequence[Problem],
    text_of: Callable[[str], str] | None = None,
    width: int = 200,
    style: Callable[[str], str] = str,
) -> str:
    """One `file:line:column: message` per line; given a reader of files, each with its place shown.

    Of the lines shown, whatever may be a secret is covered, and no more than fits a terminal of
    `width` columns; `style` is put on the caret.
    """
    texts: dict[str, list[str]] = {}
    blocks = []
    for problem in problems:
        block = str(problem)
        if text_of is not None:
            if problem.file not in texts:
                texts[problem.file] = _shown_lines(_text(text_of, problem.file))
            lines = texts[problem.file]
            if problem.line <= len(lines) and lines[problem.line - 1].strip():
                room = max(20, width - len(MARGIN))
                line, before = _fitting(lines[problem.line - 1], problem.column - 1, room)
                block += f"\n{MARGIN}{line}\n{MARGIN}{' ' * before}{style('^')}"
        blocks.append(block)
    return "\n".join(blocks)


def _fitting(line: str, at: int, room: int) -> tuple[str, int]:
    """As much of the line as fits around the character `at`, and the terminal's columns before it.

    What was left out on either side is an ellipsis.
    """
    cells = [columns_of(character) for character in line]
    start, end = 0, len(line)
    if sum(cells) > room:
        while start < at and sum(cells[start:at]) > room * 2 // 3:
            start += 1
        start = start + 1 if start else 0  # the ellipsis takes a column
        end = start
        while end < len(line) and sum(cells[start : end + 1]) < room - 1:
            end += 1
    left, right = CUT if start else "", CUT if end < len(line) else ""
    return f"{left}{line[start:end]}{right}", len(left) + sum(cells[start:at])


def _text(text_of: Callable[[str], str], file: str) -> str:
    try:
        return text_of(file)
    except (OSError, UnicodeDecodeError):
        return ""  # the problem itself says so


def _shown_lines(text: str) -> list[str]:
    """The document's lines, what may be secret covered; every character keeps its column."""
    lines = text.replace("\r\n", "\n").split("\n")
    try:
        document = Document(text, "")
    except ConfigError:
        # A broken file may hold anything anywhere; only what looks right up to its value is shown.
        known = {name for section in all_sections().values() for name in section.model_fields}
        shown = [_covered(line, known) for line in lines]
    else:
        shown = _covered_lines(document, lines)
    return ["".join(each if is_printable(each) else " " for each in line) for line in shown]


def _covered(line: str, known: Collection[str] | None) -> str:
    """Only a header, or a key and its `=`, stay; of keys the known ones (None: any)."""
    match = re.match(r"\s*\[[\[\]A-Za-z0-9_ .-]*$|[ \t]*([A-Za-z0-9_-]+)[ \t]*=[ \t]*", line)
    kept = match[0] if match and (not match[1] or known is None or match[1] in known) else ""
    return kept + re.sub(r"\S", "•", line[len(kept) :])


def _covered_lines(document: Document, lines: list[str]) -> list[str]:
    """Whole are the lines on which only known keys stand whose values are no secrets."""
    by_place = itemgetter(1)
    whole: dict[int, bool] = {}
    starts: set[int] = set()
    last = True
    for path, (line, column) in sorted(document.places.items(), key=by_place):
        if not lines[line - 1][: column - 1].strip(" \t["):
            starts.add(line)
        last, before = is_open(tuple(part for part in path if isinstance(part, str))), last
        # Before the first key of a line may stand the rest of a value from further up.
        whole[line] = whole.get(line, line in starts or before) and last
    return [
        line if whole.get(number, False) else _covered(line, None if number in starts else ())
        for number, line in enumerate(lines, start=1)
    ]
