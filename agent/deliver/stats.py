"""How delivery stands, and what it has counted: for metrics and for the API."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.deliver.policy import Dead, Delivered, failure_kind
from agent.histogram import Histogram

if TYPE_CHECKING:
    from agent.deliver.policy import Answer, Decision
    from agent.histogram import Tally
    from agent.model import Attempt

DURATION_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds: from a receiver on the same host to the longest timeouts that make sense."""


class WebhookStats(NamedTuple):
    """How one webhook's delivery stands. What memory holds; the store knows the whole backlog."""

    pending: int
    """Callbacks in memory, those in flight included."""
    lanes: int
    """Devices with something pending."""
    waiting: int
    """Of these, how many wait for a retry."""
    in_flight: int
    unrecorded: int
    """Answered, and the outcome not durable yet."""
    failures: int
    """In a row."""
    failing_since_ms: int
    """0: not failing."""
    paused: str
    """Why nothing is sent; "": it is."""
    held: bool
    """Disabled or deleted: what is pending is kept."""
    last_error: str
    last_error_ms: int
    last_success_ms: int
    last_attempt: Attempt | None
    """Since the start."""
    next_try_ms: int
    """When what waits is tried again; 0: nothing waits, or it is held."""


class WebhookFigures(NamedTuple):
    """What one webhook's delivery has counted since the start, and its age now."""

    delivered: int
    dead: int
    superseded: int
    """Cancelled for a newer one of the same device (`backlog = "latest"`)."""
    failures: dict[str, int]
    """Attempts that failed, by `policy.failure_kind`."""
    durations: Tally
    """Seconds that attempts took, whatever came of them."""
    oldest_ms: int
    """When the oldest pending callback was created; 0: none is pending."""


@dataclass(slots=True, eq=False)
class Counts:
    """One webhook's, as they grow."""

    delivered: int = 0
    dead: int = 0
    superseded: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    durations: Histogram = field(default_factory=lambda: Histogram(DURATION_BOUNDS))

    def count(self, answer: Answer, decision: Decision) -> None:
        """An attempt has ended."""
        self.durations.observe(answer.duration_ms / 1000)
        if isinstance(decision, Delivered):
            self.delivered += 1
            return
        self.failures[failure_kind(answer)] += 1
        self.dead += isinstance(decision, Dead)

    def figures(self, oldest_ms: int) -> WebhookFigures:
        """As they are now."""
        return WebhookFigures(
            delivered=self.delivered,
            dead=self.dead,
            superseded=self.superseded,
            failures=dict(self.failures),
            durations=self.durations.tally(),
            oldest_ms=oldest_ms,
        )
