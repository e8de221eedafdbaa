"""Whether, and how fast, a webhook's endpoint is tried: a circuit breaker for each. Pure.

From the first failure that no success followed, an endpoint is probed: at least every 15 s in the
first 10 minutes, and every minute in the first hour (see `policy.PROBES`), but not before a time
that it asked for. After BREAK_AFTER failures in a row a webhook is *failing* and gets one slot
instead of `concurrency`; its first success gives the others back. From then until nothing of it is
pending it *drains*: it is sent `drain_rate` callbacks a second at most. Answer 410 pauses a
webhook: nothing is sent until a probe is due or it is edited.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.deliver.policy import Delivered, Paused, Retry, probe_every

if TYPE_CHECKING:
    from agent.deliver.policy import Decision

BREAK_AFTER: Final = 5
"""Failures in a row after which a webhook is failing."""


@dataclass(slots=True, eq=False)
class Breaker:
    """What is known of one webhook's endpoint; `now` in monotonic seconds."""

    failures: int = 0
    """In a row."""
    failing_since_ms: int = 0
    """0: not failing."""
    recoveries: int = 0
    paused: str = ""
    """Why nothing is sent; "": it is."""
    draining: bool = False
    """It has answered again: what waited goes out at `drain_rate`, until nothing is pending."""
    last_error: str = ""
    last_error_ms: int = 0
    last_success_ms: int = 0
    down_since: float | None = None
    """The first failure that no success followed."""
    tried_at: float = 0.0
    """When its last attempt began."""
    asked_until: float = 0.0
    """Before this it asked not to be tried again."""
    _drain_at: float = 0.0
    """Before this a draining webhook sends nothing more."""

    @property
    def failing(self) -> bool:
        """It has failed often enough to be tried by one lane at a time."""
        return self.failures >= BREAK_AFTER

    def slots(self, concurrency: int) -> int:
        """Attempts that may be under way at once."""
        return 1 if self.failures >= BREAK_AFTER else concurrency

    def was_down(self, now: float) -> None:
        """A callback of it failed before the start, and nothing is known of it since."""
        self.down_since = self.tried_at = now

    def judge(self, decision: Decision, now_ms: int, now: float) -> bool:
        """What the outcome of an attempt says of the webhook as a whole.

        Whether it turned by it: a success ended its failing, a failure began it.
        """
        was_failing = self.failing
        if isinstance(decision, Delivered):
            self.last_success_ms = now_ms
            self._up()
            if was_failing:
                self.draining = True
                self.recoveries += 1
            return was_failing
        self.failures += 1
        self.last_error = decision.why
        self.last_error_ms = now_ms
        if self.down_since is None:
            self.down_since = self.tried_at
        if isinstance(decision, Retry) and decision.asked:
            asked = (decision.due_ms - now_ms) / 1000
            self.asked_until = max(self.asked_until, now + asked)
        elif isinstance(decision, Paused):
            self.failures = max(self.failures, BREAK_AFTER)
            self.paused = decision.why
        if was_failing or not self.failing:
            return False
        self.failing_since_ms = now_ms
        return True

    def edited(self) -> None:
        """Nothing is known against the new endpoint."""
        self.paused = ""
        self._up()

    def probe_in(self, delay: float, now: float) -> float | None:
        """Seconds until it is to be probed, where a lane waits for `delay`; None: no need to."""
        every = None if self.down_since is None else probe_every(now - self.down_since)
        if every is None:
            return None
        left = max(0.0, self.tried_at + every - now, self.asked_until - now)
        return left if left < delay else None

    def drain_in(self, rate: float, now: float) -> float:
        """Seconds until a draining webhook may send one more; 0: now, and that is counted."""
        if now < self._drain_at:
            return self._drain_at - now
        self._drain_at = now + 1 / rate
        return 0.0

    def _up(self) -> None:
        self.failures = self.failing_since_ms = 0
        self.down_since = None
        self.asked_until = 0.0
