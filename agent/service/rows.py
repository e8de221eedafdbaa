"""What the rows of several matters have in common.

A row is a `TypedDict`: what the API answers as JSON, made as fast as a plain dict. Its class is the
one place of its keys: the OpenAPI document is made from the types, and from the docstrings of the
class and its keys (`agent.api.schema`). What JSON Schema can say beyond a type stands in the
`Annotated` of a key, as `Also`.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from agent.clock import timestamp

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


class Place(NamedTuple):
    """Which stored transition; the time tells another store's ids apart."""

    id: int
    at_ms: int | None = None

    def __str__(self) -> str:
        return f"{self.id}-{self.at_ms or 0}"


def iso(ms: int) -> str | None:
    """A `Time`; None for 0 (never)."""
    return timestamp(ms) if ms else None
