"""What the service manager is told: ready, a reload, the status line, that the agent is alive."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from agent.app.parts import Parts
    from agent.clock import Timer
    from agent.wire.systemd import Notifier

log = structlog.get_logger(__name__)

STATUS_DELAY = 1.0
"""Seconds that changes are gathered for before `STATUS=` tells of them."""
OVERDUE_LIMIT = 10.0
"""Seconds that a timed decision may be late before the watchdog is no longer fed."""


class Lifecycle:
    """Tells systemd how the agent does, from when its parts run.

    Args:
        notifier: speaks to it.
        parts: of the agent.
        ready: set once states are derived.
    """

    def __init__(self, notifier: Notifier, parts: Parts, ready: asyncio.Event) -> None:
        self._notifier = notifier
        self._parts = parts
        self._ready = ready
        self._timer: Timer | None = None

    def ready(self) -> None:
        """States are derived from now on."""
        self._ready.set()
        self._notifier.ready()
        self._tell()

    def reloading(self) -> None:
        """A reload begins; during the start systemd is told nothing of it."""
        if self._ready.is_set():
            self._notifier.reloading()

    def reloaded(self) -> None:
        """It is done, whatever came of it."""
        if self._ready.is_set():
            self._notifier.ready()
        self._tell()

    def status_soon(self) -> None:
        """Something changed that the status line may tell of."""
        if self._timer is None:
            self._timer = self._parts.clock.call_later(STATUS_DELAY, self._tell)

    async def feed_watchdog(self) -> None:
        """While the loop turns, decisions are on time and the dispatcher lives, say so."""
        pipeline, dispatcher = self._parts.pipeline, self._parts.dispatcher
        while True:
            if pipeline.overdue() < OVERDUE_LIMIT and dispatcher.alive:
                self._notifier.alive()
            else:
                log.error("watchdog.starved", overdue_s=pipeline.overdue())
            await asyncio.sleep(self._notifier.watchdog_interval)

    @property
    def has_watchdog(self) -> bool:
        """Whether it is to be fed."""
        return bool(self._notifier.watchdog_interval)

    def close(self) -> None:
        """Tell nothing more."""
        if self._timer is not None:
            self._timer.cancel()

    def _tell(self) -> None:
        self._timer = None
        self._notifier.status(self._parts.services.health.status_line())
