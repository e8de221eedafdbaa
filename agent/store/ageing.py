"""By what time stored things grow old: the wall clock, once it has run on for an hour. Pure.

A clock that is set far ahead for some minutes (a host whose time was lost, a slip of the hand)
makes all that is finished old enough to be deleted, and what is deleted is gone. So a clock that
leaps ahead is believed only after an hour; until then time goes on from where it was. A clock that
goes back is believed at once: nothing gets older by that.
"""

from __future__ import annotations

from typing import Final

LEAP_MS: Final = 60_000
"""Milliseconds that the clock may be corrected by without being doubted."""
AWAY_MS: Final = 86_400_000
"""Milliseconds since the last sweep, as the clock says, that an agent may have been stopped."""
HOUR: Final = 3600.0
"""Seconds for which a clock that leapt must have run on."""


class Ageing:
    """The time that deletions go by.

    Args:
        last_ms: what `now` said last before the agent was stopped; 0: it never did.
        wall_ms: now.
        steady: likewise, in seconds of a clock that only grows.
    """

    def __init__(self, last_ms: int, wall_ms: int, steady: float) -> None:
        self._seen = self._believed = wall_ms - round(steady * 1000)
        self._since = steady
        if last_ms and wall_ms - last_ms > AWAY_MS:
            self._believed -= wall_ms - last_ms

    def now(self, wall_ms: int, steady: float) -> int:
        """In milliseconds."""
        offset = wall_ms - round(steady * 1000)
        if abs(offset - self._seen) > LEAP_MS:
            self._since = steady
            self._seen = offset
        if steady - self._since >= HOUR:
            self._seen = self._believed = offset
        near = abs(offset - self._believed) <= LEAP_MS
        if near or offset < self._believed:
            self._believed = offset
        return round(steady * 1000) + self._believed

    @property
    def doubts(self) -> bool:
        """Whether the wall clock is ahead of the time that is gone by."""
        return self._seen > self._believed + LEAP_MS
