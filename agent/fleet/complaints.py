"""Messages that are none of ours: counted, and said now and then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import structlog

from agent.fleet.words import BadMessageError, unpack
from agent.track.telling import say

if TYPE_CHECKING:
    from agent.clock import Clock
    from agent.fleet.link import Incoming
    from agent.fleet.words import Word

log = structlog.get_logger(__name__)
W = TypeVar("W", bound="Word")

SAID_EVERY: Final = 60.0
"""Seconds between two lines."""


class Complaints:
    """Counts them."""

    def __init__(self, clock: Clock) -> None:
        self.count = 0
        self._clock = clock
        self._said_at: float | None = None

    def add(self, why: str) -> None:
        """Another one came."""
        self.count += 1
        now = self._clock.monotonic()
        if self._said_at is None or now - self._said_at >= SAID_EVERY:
            self._said_at = now
            say(log.warning, "fleet.bad_message", error=why, so_far=self.count)

    def read(self, kind: type[W], message: Incoming) -> W | None:
        """The message; None: it is none of that kind."""
        try:
            return unpack(kind, message.body, message.subject)
        except BadMessageError as error:
            self.add(str(error))
            return None
