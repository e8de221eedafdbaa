"""What a server says that nobody expects, told once and not at every list."""

from __future__ import annotations

import structlog

log = structlog.get_logger(__name__)

COMPLAINTS = 256
"""Oddities that are remembered as said; past them nothing more is told."""


class Oddities:
    """Of one source; lasts as long as it, over all its connections."""

    def __init__(self) -> None:
        self._said: set[tuple[str, str]] = set()

    def warn(self, event: str, about: str, **words: object) -> None:
        """Log a warning, unless that was said of `about`."""
        if (event, about) not in self._said and len(self._said) < COMPLAINTS:
            self._said.add((event, about))
            log.warning(event, **words)
