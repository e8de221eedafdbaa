"""Writes down in which times somebody looked: timer and store around `agent.history.watch`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import structlog

from agent.history.watch import LOOK_EVERY, Looks

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Mapping, Sequence

    from agent.clock import Clock, Timer
    from agent.history.seen import Watched
    from agent.history.watch import Sight, Written

log = structlog.get_logger(__name__)

FLUSH_EVERY: Final = 30.0
"""Seconds after which the store hears that it was watched on: what a SIGKILL costs, at most."""


class WatchedTimes(Protocol):
    """See `agent.store.tables.watching.Watching`."""

    def put(self, times: Sequence[Written]) -> asyncio.Future[None]:
        """Store them, or move the ends of those that are stored."""


class Watching:
    """Looks, and has it stored.

    Args:
        times: where it is stored.
        sights: what can be seen now, by host.
        clock: of the process.
    """

    def __init__(
        self, times: WatchedTimes, sights: Callable[[], Mapping[str, Sight]], clock: Clock
    ) -> None:
        self._times = times
        self._sights = sights
        self._clock = clock
        self._looks = Looks()
        self._timer: Timer | None = None
        self._begun = False
        self._flushed_at = 0.0
        self._under_way: asyncio.Future[None] | None = None

    def begin(self, since_ms: int, since: float) -> None:
        """States have been derived since then: those of that moment are seen, too.

        Args:
            since_ms: by the wall clock.
            since: by the monotonic one.
        """
        self._begun = True
        clock = self._clock
        self._looks.begin(clock.wall_ms(), clock.monotonic(), self._sights(), since_ms, since)
        self.look()

    def look(self) -> None:
        """What can be seen may be different; does nothing before `begin` and after `end`."""
        if not self._begun:
            return
        self._look()
        now = self._clock.monotonic()
        if self._looks.urgent or now - self._flushed_at >= FLUSH_EVERY:
            self._flush(now)

    def known(self) -> tuple[int, list[Watched]]:
        """Now, in wall-clock milliseconds, and what was watched that the store may not know yet."""
        if self._begun:
            self._look()
            return self._looks.looked_ms, self._looks.unsaved()
        return self._clock.wall_ms(), self._looks.unsaved()

    def end(self) -> None:
        """Nobody looks from now on."""
        if not self._begun:
            return
        self._look()
        self._begun = False
        self._looks.end()
        if self._timer is not None:
            self._timer.cancel()
        self._under_way = None  # what that did not take is queued behind it
        self._flush(self._clock.monotonic())

    def _look(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._looks.look(self._clock.wall_ms(), self._clock.monotonic(), self._sights())
        self._timer = self._clock.call_later(LOOK_EVERY, self.look)

    def _flush(self, now: float) -> None:
        if self._under_way is not None:
            return  # a disk that cannot write: it is tried again, and nothing is queued meanwhile
        self._flushed_at = now
        if taken := self._looks.take():
            self._under_way = self._times.put(taken)
            self._under_way.add_done_callback(lambda done: self._done(done, taken))

    def _done(self, done: asyncio.Future[None], taken: Sequence[Written]) -> None:
        if done is self._under_way:
            self._under_way = None
        if done.cancelled():
            return
        if (error := done.exception()) is None:
            self._looks.stored(taken)
            return
        self._looks.put_back(taken)
        log.warning("watching.not_stored", error=str(error))
