"""Logging without being harmed by it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def say(write: Callable[..., Any], event: str, **keys: object) -> None:
    """Log it. Where that fails (a pipe without a reader, a full disk) nothing else may fail."""
    with contextlib.suppress(Exception):
        write(event, **keys)
