"""What counts is stored, with its callbacks, before anybody learns of it.

The call queues it: the store commits in the order of the calls, which is the order of what was
seen. There is no await between a reading and that call.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from agent.errors import StoreError
from agent.track.cause_list import CauseList
from agent.track.counts import Counts
from agent.track.derive import CALLS_BACK
from agent.track.telling import say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

    from agent.deliver.outbox import Outbox
    from agent.model import Callback, Device, DeviceRecord, Transition

log = structlog.get_logger(__name__)


class Recorder(Protocol):
    """What is needed of the store."""

    def record(
        self,
        record: DeviceRecord,
        transition: Transition | None,
        callbacks: Sequence[Callback],
    ) -> Awaitable[tuple[Callback, ...]]:
        """Commit all or nothing; queued by the call, resolves when durable."""


class Commits:
    """Hands to the store what is to be durable, and tells of it once it is.

    Args:
        store: where it is committed.
        outbox: which callbacks a transition makes.
        notify: told of callbacks once they are durable, in order.
        stored: called whenever a transition became durable: it is to publish that alone.
    """

    def __init__(
        self,
        store: Recorder,
        outbox: Outbox,
        notify: Callable[[Sequence[Callback]], None],
        stored: Callable[[], None],
    ) -> None:
        self.outbox = outbox
        self.counts = Counts()
        self.causes = CauseList()
        self._store = store
        self._notify = notify
        self._stored = stored
        self._under_way: set[asyncio.Future[Any]] = set()

    def enter(
        self,
        record: DeviceRecord,
        transition: Transition | None,
        told: Iterable[tuple[Transition, Collection[int] | None]],
        device: Device,
    ) -> int:
        """A transition counts: store it, with one callback for each webhook that wants it.

        Args:
            record: the device's, from then on.
            transition: None: none does, webhooks are told what was kept back, or waited.
            told: what webhooks are told, who may have been told less before, in order; and which:
                by id, or None: all that do not wait.
            device: as they are told of it.

        Returns how many callbacks that are.
        """
        callbacks: list[Callback] = []
        for each, webhooks in told:
            if (each.previous, each.state) not in CALLS_BACK:
                continue
            made = self.outbox.make(each, device, webhooks)
            callbacks += made.callbacks
            self.counts.lost += len(made.failed)
            for webhook, error in made.failed:
                say(
                    log.error,
                    "callback.not_made",
                    webhook=webhook,
                    udid=device.udid,
                    state=str(each.state),
                    exc_info=error,
                )
        self._commit(record, transition, callbacks)
        if transition is not None:
            self.counts.transitions[transition.state] += 1
            self.causes.take(transition)
        return len(callbacks)

    def keep(self, record: DeviceRecord) -> None:
        """Store what is known of a device, where no state of it changed."""
        self._commit(record, None, ())

    async def drain(self) -> None:
        """Wait until everything handed over so far is durable (or the store has refused it)."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    def _commit(
        self,
        record: DeviceRecord,
        transition: Transition | None,
        callbacks: Sequence[Callback],
    ) -> None:
        stored = asyncio.ensure_future(self._store.record(record, transition, callbacks))
        self._under_way.add(stored)
        stored.add_done_callback(partial(self._committed, record, transition, len(callbacks)))

    def _committed(
        self,
        record: DeviceRecord,
        transition: Transition | None,
        callbacks: int,
        stored: asyncio.Future[tuple[Callback, ...]],
    ) -> None:
        self._under_way.discard(stored)
        try:
            durable = stored.result()
        except StoreError as error:
            self.counts.lost += callbacks
            say(
                log.error,  # the message says it all; no traceback for operators
                "store.refused",
                udid=record.udid,
                state=str(record.state),
                callbacks_lost=callbacks,
                error=str(error),
            )
            return
        if transition is not None:
            self._stored()
        if durable:
            self.counts.callbacks.update(callback.webhook_id for callback in durable)
            self._notify(durable)
