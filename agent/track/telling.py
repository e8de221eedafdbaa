"""Telling others without being harmed by them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

log = structlog.get_logger(__name__)


def say(write: Callable[..., Any], event: str, **keys: object) -> None:
    """Log it. Where that fails (a pipe without a reader, a full disk) nothing else may fail."""
    with contextlib.suppress(Exception):
        write(event, **keys)


def tell(watchers: Iterable[Callable[..., None]], *what: object) -> None:
    """Call each of them; one that fails harms nobody else, and is said."""
    for watcher in watchers:
        try:
            watcher(*what)
        except Exception:  # noqa: BLE001 - said
            say(log.exception, "watcher.failed", watcher=repr(watcher))
