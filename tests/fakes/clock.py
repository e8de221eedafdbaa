"""A clock that a test turns, with timers that fire when it does."""

from __future__ import annotations

import heapq
from itertools import count
from math import inf
from typing import TYPE_CHECKING, cast

from agent.track.pace import Clocks

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

START_MS = 1_700_000_000_000


class StubTimer:
    """What `call_later` gives."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Do not fire."""
        self.callback = None


class StubClock:
    """Time stands still until `advance`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[tuple[float, int, StubTimer]] = []
        self._order = count()

    def wall_ms(self) -> int:
        """Wall clock that goes with the monotonic one."""
        return START_MS + int((self.now - 1000) * 1000)

    def call_later(self, delay: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """As the loop's."""
        timer = StubTimer(callback)
        heapq.heappush(self._timers, (self.now + delay, next(self._order), timer))
        return cast("asyncio.TimerHandle", timer)

    def advance(self, seconds: float) -> None:
        """Let time pass; timers fire in order, each at its moment."""
        end = self.now + seconds
        while self._timers and self._timers[0][0] <= end:
            when, _, timer = heapq.heappop(self._timers)
            self.now = max(self.now, when)
            if timer.callback is not None:
                timer.callback()
        self.now = end

    @property
    def armed(self) -> int:
        """How many timers are set."""
        return sum(timer.callback is not None for _, _, timer in self._timers)

    @property
    def next_in(self) -> float:
        """Seconds until the next timer fires; infinite where none is set."""
        return min((at for at, _, timer in self._timers if timer.callback), default=inf) - self.now

    @property
    def clocks(self) -> Clocks:
        """For the pipeline."""
        return Clocks(lambda: self.now, self.wall_ms, self.call_later)
