"""Rows that agents tell of, read by their hub key by key: an agent's version may be another one."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from agent.clock import timestamp
from agent.text import shortened, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST: Final = 10_000
"""Characters of a text: a purpose or a reason may have as many."""


def text_of(row: Mapping[str, Any], key: str) -> str:
    """KeyError, TypeError."""
    value = row[key]
    if not isinstance(value, str):
        raise TypeError(key)
    return shortened(whole(value), LONGEST)


def number_of(row: Mapping[str, Any], key: str, most: float) -> float:
    """Likewise, and ValueError, OverflowError; from 0 to `most`: JSON has no NaN."""
    value = float(row[key])
    if not 0 <= value <= most:
        raise ValueError(key)
    return value


def time_of(row: Mapping[str, Any], key: str) -> str:
    """Likewise, and ValueError, OverflowError."""
    return timestamp(round(datetime.fromisoformat(text_of(row, key)).timestamp() * 1000))
