"""How long to wait before the next try. Pure but for the wait."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent.clock import Clock

FIRST: Final = 0.5
LAST: Final = 15.0
"""Seconds; doubled from one to the other."""
WELL: Final = 15.0
"""Seconds of a connection after which the next one is tried without a long pause."""


class Backoff:
    """A pause that grows with each failure; jitter keeps a fleet from coming back at once."""

    def __init__(self, clock: Clock, first: float = FIRST, last: float = LAST) -> None:
        self._clock = clock
        self._first = first
        self._last = last
        self._next = first

    def pause(self) -> float:
        """Seconds until the next try: of a step between half and one and a half of it."""
        step, self._next = self._next, min(self._last, self._next * 2)
        return step * (0.5 + self._clock.jitter())

    def reset(self) -> None:
        """All is well: begin anew."""
        self._next = self._first


async def sleep(clock: Clock, seconds: float) -> None:
    """Wait by that clock."""
    over = asyncio.get_running_loop().create_future()
    timer = clock.call_later(seconds, _end, over)
    try:
        await over
    finally:
        timer.cancel()


def _end(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)
