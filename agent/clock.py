"""The wall clock, and how its moments are written."""

from __future__ import annotations

import time


def wall_ms() -> int:
    """Now, in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def timestamp(ms: int) -> str:
    """Wall-clock milliseconds as UTC with milliseconds: `2023-01-06T04:52:36.963Z`."""
    seconds, rest = divmod(ms, 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:03d}Z"
