"""What the rows of several matters have in common."""

from __future__ import annotations

from typing import Any

from agent.clock import timestamp

Json = dict[str, Any]


def iso(ms: int) -> str | None:
    """UTC with milliseconds and Z, as in callbacks; None for 0 (never)."""
    return timestamp(ms) if ms else None
