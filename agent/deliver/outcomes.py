"""Has the store make the outcomes of attempts durable, however long it takes to accept them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import structlog

from agent.errors import StoreError
from agent.model import CallbackState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.clock import Clock
    from agent.deliver.policy import Decision
    from agent.model import Attempt, Callback
    from agent.store import Callbacks

    Done = Callable[[BaseException | None], None]
    OnFinal = Callable[[CallbackState, Sequence[str]], None]
    """Told of the message ids of callbacks that are final, once that is durable; must be quick and
    must not raise."""

log = structlog.get_logger(__name__)

STORE_RETRY: Final = 5.0
"""Seconds before a refused store operation is tried again."""


class Outcomes:
    """Those on their way into the store. Nothing waits for one: who handed it over is called."""

    def __init__(self, store: Callbacks, clock: Clock, on_final: OnFinal) -> None:
        self._store = store
        self._clock = clock
        self._on_final = on_final
        self._closed = False
        self.under_way: set[asyncio.Future[Any]] = set()

    def close(self) -> None:
        """Try nothing again."""
        self._closed = True

    def record(self, callback: Callback, attempt: Attempt, decision: Decision, done: Done) -> None:
        """Call `done` when it is durable, or with what is a bug.

        What the store refuses is tried again; after `close` no more, and then nothing is called.
        """
        stored = asyncio.ensure_future(
            self._store.finish(callback, attempt, decision.state, decision.due_ms)
        )
        self.under_way.add(stored)
        stored.add_done_callback(partial(self._recorded, callback, attempt, decision, done))

    def _recorded(
        self,
        callback: Callback,
        attempt: Attempt,
        decision: Decision,
        done: Done,
        stored: asyncio.Future[Any],
    ) -> None:
        self.under_way.discard(stored)
        if stored.cancelled():
            return
        error = stored.exception()
        if not isinstance(error, StoreError):
            if error is None and decision.state is not CallbackState.PENDING:
                self._on_final(decision.state, (callback.message_id,))
            done(error)
            return
        # Sending on without the outcome would break order or repeat for ever.
        log.warning(
            "dispatcher.unrecorded",
            webhook_id=callback.webhook_id,
            udid=callback.udid,
            message_id=callback.message_id,
            reason=str(error),
        )
        if not self._closed:
            self._clock.call_later(STORE_RETRY, self._again, callback, attempt, decision, done)

    def _again(self, callback: Callback, attempt: Attempt, decision: Decision, done: Done) -> None:
        if not self._closed:
            self.record(callback, attempt, decision, done)
