"""When to ask: every interval, more often while something is about to change, never in a burst."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.clock import Clock
    from agent.config import UsageSection

QUICK = 5
"""Readings an interval while something is about to change."""
SHORTEST = 0.2
"""Seconds between two readings of a target, at least."""


class Schedule:
    """What all that is asked has in common.

    Args:
        settings: [usage]; a reload changes them.
        clock: of the process.
    """

    def __init__(self, settings: UsageSection, clock: Clock) -> None:
        self.settings = settings
        self._clock = clock

    @property
    def interval(self) -> float:
        """Seconds between two readings of a target."""
        return self.settings.interval

    def soon(self) -> float:
        """Until when something that changes now is asked quickly."""
        return self._clock.monotonic() + 2 * self.interval

    def is_past(self, when: float) -> bool:
        """Whether it is that late."""
        return self._clock.monotonic() >= when

    def delay(self, *, quick: bool) -> float:
        """Seconds until the next reading."""
        if quick:
            return max(SHORTEST, self.interval / QUICK)
        # Spread, so that a hundred phones are not asked in one instant for ever.
        return self.interval * (0.9 + 0.2 * self._clock.jitter())

    async def pause(self, wake: asyncio.Event, delay: float) -> bool:
        """Wait that long; True when it was woken before."""
        up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self._clock.call_later(delay, lambda: _wake(up))
        waiting = asyncio.ensure_future(wake.wait())
        both: set[asyncio.Future[Any]] = {up, waiting}
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            waiting.cancel()
        return wake.is_set()

    async def breathe(self) -> None:
        """After having been woken: a burst of nudges must not become a burst of questions."""
        await self.pause(asyncio.Event(), SHORTEST)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
