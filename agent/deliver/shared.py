"""What the workers of all webhooks have in common: the store, the sender, the clock, limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from agent.deliver.policy import decide, step_of
from agent.deliver.starts import Starts

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from agent.clock import Clock
    from agent.config import Delivery
    from agent.deliver.lane import Lane, Memory
    from agent.deliver.outcomes import OnFinal, Outcomes
    from agent.deliver.policy import Answer, Decision
    from agent.deliver.sender import Sender
    from agent.model import Attempt, Callback
    from agent.store import Callbacks

JUMP_MS: Final = 60_000
"""The wall clock is ahead of the monotonic one by so much: it was set, it did not just drift."""


@dataclass(slots=True, eq=False)
class Shared:
    """Made by the dispatcher, and handed to each of its workers."""

    store: Callbacks
    sender: Sender
    outcomes: Outcomes
    memory: Memory
    settings: Delivery
    """Of now: a reload changes them."""
    clock: Clock
    on_attempt: Callable[[Callback, Attempt, Decision], None]
    may_send: Callable[[], bool] | None
    """Of several hubs one sends: asked when an attempt is to begin, by a clock that has not stood
    still while the process did. None: there are no others."""
    on_final: OnFinal
    starts: Starts = field(default_factory=Starts)
    running: bool = False
    clock_offset: int = 0
    """Milliseconds from the monotonic clock to the wall clock, at the start."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    deadlines: dict[Lane, float] = field(default_factory=dict)
    """When the attempts under way must have ended."""

    @property
    def is_open(self) -> bool:
        """Whether an attempt may begin at this moment; those under way end as they began."""
        return self.running and (self.may_send is None or self.may_send())

    def decide(self, callback: Callback, answer: Answer, now: int) -> Decision:
        """What to do after this attempt."""
        made = callback.attempts + 1
        created = self._created_ms(callback, now)
        step = step_of(made, (now - created) / 1000)
        return decide(answer, made, created, now, self.clock.jitter(), self.settings.max_age, step)

    def _created_ms(self, callback: Callback, now: int) -> int:
        """When it was made, for its age: a clock set forward since the start ages nothing.

        Which callbacks are older than the jump is not known, so all may live longer by its size.
        """
        jump = now - round(self.clock.monotonic() * 1000) - self.clock_offset
        return min(now, callback.created_ms + jump) if jump > JUMP_MS else callback.created_ms
