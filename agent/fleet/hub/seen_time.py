"""Time as the hub saw it: it goes on only while the hub hears itself through the broker. Pure.

A hub that hears nothing must not take that for the silence of its hosts. It tells itself its own
heartbeat, and what ripens by time ripens by this time: cut off, stopped or without a broker it
stands still, and so do all its decisions.
"""

from __future__ import annotations

from typing import Final

BEAT_EVERY: Final = 2.0
"""Seconds between two own heartbeats."""
STEP: Final = 3.0
"""Seconds by which the time goes on with a heartbeat, at most; one that was longer under way than
that was held up, and says nothing of now."""
BLIND: Final = 3 * BEAT_EVERY
"""Seconds without an own heartbeat after which the hub is blind."""


class SeenTime:
    """Seconds. `now` is of a monotonic clock."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._heard_at: float | None = None

    def heard(self, sent_at: float, now: float) -> bool:
        """An own heartbeat came that was sent then; whether it says anything of now."""
        if now - sent_at > STEP:
            return False
        if self._heard_at is not None:
            self.seconds += min(max(now - self._heard_at, 0.0), STEP)
        self._heard_at = now
        return True

    def lost(self) -> None:
        """The connection is: nothing is seen until a heartbeat comes over the next."""
        self._heard_at = None

    def since(self, now: float) -> float:
        """Seconds that have passed since the hub heard itself, which are in no `seconds` yet."""
        return 0.0 if self._heard_at is None else max(now - self._heard_at, 0.0)

    def blind(self, now: float) -> bool:
        """Whether it cannot be known how anybody is now."""
        return self._heard_at is None or now - self._heard_at > BLIND
