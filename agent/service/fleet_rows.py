"""Rows that agents tell of, read by their hub key by key: an agent's version may be another one."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from agent.clock import timestamp
from agent.text import whole

if TYPE_CHECKING:
    from collections.abc import Mapping


def text_of(row: Mapping[str, Any], key: str) -> str:
    """KeyError, TypeError."""
    value = row[key]
    if not isinstance(value, str):
        raise TypeError(key)
    return whole(value)


def time_of(row: Mapping[str, Any], key: str) -> str:
    """Likewise, and ValueError, OverflowError."""
    return timestamp(round(datetime.fromisoformat(text_of(row, key)).timestamp() * 1000))
