"""What the rows of several matters have in common.

A row is a `TypedDict`: what the API answers as JSON, made as fast as a plain dict. Its class is the
one place of its keys: the OpenAPI document is made from the types, and from the docstrings of the
class and its keys (`agent.api.schema`). What JSON Schema can say beyond a type stands in the
`Annotated` of a key, as `Also`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NotRequired, TypedDict

from agent.clock import timestamp
from agent.reasons import LONGEST, ReasonCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.errors import Problem

Json = dict[str, Any]
"""A webhook's keys as somebody sent them: checked by whoever writes the file."""


class Also:
    """Keywords of JSON Schema, besides those that the type says."""

    def __init__(self, **keywords: str | float) -> None:
        self.keywords = keywords


Time = Annotated[str, Also(format="date-time")]
"""UTC with milliseconds and Z, as in callbacks."""
PLACE = r"^[0-9]{1,18}(-[0-9]{1,18})?$"
MessageId = Annotated[str, Also(pattern=PLACE)]
"""Of a message in `/v1/events`; see `Place`."""


ReasonCodeText = Annotated[
    str,
    Also(
        pattern=rf"^[a-z0-9_]{{0,{LONGEST}}}$",
        description="The reason, for programs. Empty: there is no reason, or it was stored by an "
        "agent that knew no codes. Another host's newer agent may tell others than these: "
        f"{', '.join(ReasonCode)}.",
    ),
]
CauseId = Annotated[
    str,
    Also(
        description="What its last transition had in common with those of other devices: theirs "
        "have the same. Empty: nothing."
    ),
]
Cursor = Annotated[str, Also(pattern="^[0-9]{1,18}$")]
"""Where a page ended: the `next` of its answer, to be handed back as it is."""


class ProblemRow(TypedDict):
    """A mistake of the configuration file."""

    file: str
    line: int
    column: int
    message: str
    key: NotRequired[str]
    """Where a webhook that was sent is refused: which key of it, as `url` or `tls.ca`; "": none."""


class Place(NamedTuple):
    """Which stored transition; the time tells another store's ids apart."""

    id: int
    at_ms: int | None = None

    def __str__(self) -> str:
        return f"{self.id}-{self.at_ms or 0}"


def iso(ms: int) -> str | None:
    """A `Time`; None for 0 (never)."""
    return timestamp(ms) if ms else None


def problem_rows(problems: Iterable[Problem], *, sent: bool = False) -> list[ProblemRow]:
    """Mistakes as they are answered; `sent`: all of them are of what the request itself sent."""
    rows: list[ProblemRow] = []
    for each in problems:
        row: ProblemRow = {
            "file": each.file,
            "line": each.line,
            "column": each.column,
            "message": each.message,
        }
        rows.append({**row, "key": each.key} if sent else row)
    return rows


def cursor_of(text: str) -> int:
    """What a `Cursor` names; ValueError: it is none."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):  # noqa: PLR2004 - SQLite's
        raise ValueError(f"'cursor' is what the page before answered as 'next', not {text!r}")
    return int(text)


def limit_of(query: Mapping[str, str], default: int, most: int) -> int:
    """How many rows are wanted; ValueError."""
    text = query.get("limit", str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= most):  # noqa: PLR2004 - before it is read as a number
        raise ValueError(f"'limit' is 1 to {most}, not {text!r}")
    return int(text)
