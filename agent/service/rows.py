"""What the rows of several matters have in common."""

from __future__ import annotations

from typing import Any, NamedTuple

from agent.clock import timestamp

Json = dict[str, Any]


class Place(NamedTuple):
    """Which stored transition; the time tells another store's ids apart."""

    id: int
    at_ms: int | None = None

    def __str__(self) -> str:
        return f"{self.id}-{self.at_ms or 0}"


def iso(ms: int) -> str | None:
    """UTC with milliseconds and Z, as in callbacks; None for 0 (never)."""
    return timestamp(ms) if ms else None
