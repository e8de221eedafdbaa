"""One timer, that is set or is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.clock import Clock, Timer


class Alarm:
    """Calls `ring` when its time has come."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._timer: Timer | None = None
        self.at = 0.0
        """When it rings, in monotonic seconds, while it is set."""

    @property
    def is_set(self) -> bool:
        """Whether it is going to ring."""
        return self._timer is not None

    def set(self, delay: float) -> None:
        """Ring in `delay` seconds, and not when it was to ring before."""
        self.cancel()
        delay = max(0.0, delay)
        self.at = self._clock.monotonic() + delay
        self._timer = self._clock.call_later(delay, self._fire)

    def cancel(self) -> None:
        """Do not ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        self._ring()
