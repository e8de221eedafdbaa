"""Moves stored callbacks to their endpoints: in order per (webhook, device), at least once.

A webhook has a `Worker` of its own, which holds what waits for it (`lane`), what is known of its
endpoint (`breaker`) and what was counted (`stats`). This is what all of them share, and the way in:
the store's lanes at the start, notifications of what is durable, reloads, the stop. Nothing polls:
an idle dispatcher runs no code at all.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from agent.deliver.lane import Memory
from agent.deliver.outcomes import Outcomes
from agent.deliver.policy import due_in
from agent.deliver.shared import Shared
from agent.deliver.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from agent.clock import Clock
    from agent.config import Delivery, Webhook
    from agent.deliver.outcomes import OnFinal
    from agent.deliver.policy import Decision
    from agent.deliver.sender import Sender
    from agent.deliver.stats import WebhookFigures, WebhookStats
    from agent.model import Attempt, Callback, CallbackState
    from agent.store import Callbacks, LaneHead

HELD: Final = 4096
"""Callbacks in memory from which on lanes leave theirs in the store."""


def _ignore(_callback: Callback, _attempt: Attempt, _decision: Decision) -> None:
    """Nobody listens."""


def tell_nobody(_state: CallbackState, _message_ids: Sequence[str]) -> None:
    """There are no other hubs."""


class Dispatcher:
    """Delivers what the store holds pending. All methods run on the event loop's thread.

    Args:
        store: the outbox.
        sender: makes the attempts.
        webhooks: by id; callbacks of disabled or unknown ones are held.
        settings: [delivery]; its `drain_rate` holds from a webhook's recovery until nothing of it
            is pending.
        clock: of the process.
        held: see HELD.
        on_attempt: told of every attempt and its decision, before they are durable; must be quick
            and must not raise.
        may_send: asked at the moment in which an attempt is to begin: no, while another hub sends.
            None: there is none.
        on_final: told of callbacks that are final, once that is durable; likewise.
    """

    def __init__(
        self,
        store: Callbacks,
        sender: Sender,
        *,
        webhooks: Mapping[int, Webhook],
        settings: Delivery,
        clock: Clock,
        held: int = HELD,
        on_attempt: Callable[[Callback, Attempt, Decision], None] = _ignore,
        may_send: Callable[[], bool] | None = None,
        on_final: OnFinal = tell_nobody,
    ) -> None:
        self._store = store
        self._outcomes = Outcomes(store, clock, on_final)
        self._shared = Shared(
            store=store,
            sender=sender,
            outcomes=self._outcomes,
            memory=Memory(held),
            settings=settings,
            clock=clock,
            on_attempt=on_attempt,
            may_send=may_send,
            on_final=on_final,
        )
        self._webhooks = dict(webhooks)
        self._workers: dict[int, Worker] = {}
        self._early: dict[tuple[int, str], int] = {}
        """Lanes to load at the start, each with the creation time of its first callback."""
        self._stopped = False

    @property
    def alive(self) -> bool:
        """Started, and no attempt outlasts its limit: what the watchdog may go by."""
        shared = self._shared
        now = shared.clock.monotonic()
        return shared.running and all(now < deadline for deadline in shared.deadlines.values())

    @property
    def sends(self) -> bool:
        """Whether it is this one that sends now; of several hubs one does."""
        may_send = self._shared.may_send
        return may_send is None or may_send()

    async def start(self) -> None:
        """Take in what is pending in the store, and begin. Raises StoreError.

        A retry's due time is kept over restarts, see `policy.due_in`.
        """
        pending = await self._store.lanes()
        if self._stopped:
            return
        shared = self._shared
        now = shared.clock.wall_ms()
        shared.clock_offset = now - round(shared.clock.monotonic() * 1000)
        shared.running = True
        for webhook_id in self._webhooks:
            self._worker(webhook_id)
        for found in pending:
            worker = self._worker(found.webhook_id)
            head = found.head
            delay = due_in(head.due_ms, head.attempts, now)
            if delay > 0:
                worker.wait(found.udid, head.rowid, head.created_ms, delay)
            else:
                worker.lanes.park(found.udid, head.rowid, head.created_ms)
        for (webhook_id, udid), created_ms in self._early.items():
            lanes = self._worker(webhook_id).lanes
            if udid not in lanes:
                lanes.park(udid, 0, created_ms)
        self._early.clear()
        for worker in self._workers.values():
            worker.pump()

    def notify(self, callbacks: Sequence[Callback]) -> None:
        """These are durable now, and carry their rowids; in commit order within each lane."""
        for callback in callbacks:
            if self._shared.running:
                self._worker(callback.webhook_id).take(callback)
            else:
                self._early.setdefault((callback.webhook_id, callback.udid), callback.created_ms)

    def opened(self) -> None:
        """It may send from now on (`may_send`): what is ready goes out."""
        for worker in self._workers.values():
            worker.pump()

    def settled(self, lanes: Iterable[LaneHead]) -> None:
        """Others have made callbacks of these final, and that is durable; see `Store.elsewhere`."""
        for lane in lanes:
            worker = self._workers.get(lane.webhook_id)
            if worker is not None:
                worker.settled(lane.udid, lane.rowid, lane.created_ms)

    def reconfigure(self, webhooks: Mapping[int, Webhook], settings: Delivery) -> None:
        """Swap webhooks and settings.

        An edited or re-enabled webhook is tried at once with all it has pending; one that is
        disabled or gone holds what it has; the others keep their due times. Attempts in flight
        end as they began.
        """
        self._shared.settings = settings
        self._webhooks = dict(webhooks)
        for webhook_id, worker in list(self._workers.items()):
            if webhook_id not in webhooks and not len(worker.lanes):
                worker.halt()
                del self._workers[webhook_id]
        for webhook_id in webhooks:
            self._worker(webhook_id)
        for webhook_id, worker in self._workers.items():
            worker.swap(self._sending(webhook_id))
        self._shared.sender.reconfigure(webhooks)

    async def stop(self, grace: float) -> None:
        """Send nothing new, give attempts in flight `grace` seconds, cancel what is left.

        What is cancelled stays pending and is sent again at the next start. The store must
        still be open.
        """
        self._shared.running = False
        self._stopped = True
        self._outcomes.close()
        for worker in self._workers.values():
            worker.halt()
        loop = asyncio.get_running_loop()
        end = loop.time() + grace
        for left in (self._shared.tasks, self._outcomes.under_way):
            if left:
                _, late = await asyncio.wait(left, timeout=max(0.0, end - loop.time()))
                for each in late:
                    each.cancel()
                await asyncio.gather(*late, return_exceptions=True)

    def stats(self) -> dict[int, WebhookStats]:
        """By id, of all webhooks that are configured or still have something pending.

        Costs time in proportion to the webhooks: what it says is counted as it changes.
        """
        return {webhook_id: worker.stats() for webhook_id, worker in self._workers.items()}

    def stats_of(self, webhook_id: int) -> WebhookStats | None:
        """Of one of them; None before the start."""
        worker = self._workers.get(webhook_id)
        return None if worker is None else worker.stats()

    def figures(self, webhook_id: int) -> tuple[WebhookStats, WebhookFigures]:
        """How one webhook's delivery stands, and what it has counted.

        Costs time in proportion to its lanes; all zero for a webhook not known yet.
        """
        worker = self._workers.get(webhook_id) or self._new(webhook_id)
        return worker.stats(), worker.counts.figures(worker.lanes.oldest_ms)

    def _worker(self, webhook_id: int) -> Worker:
        worker = self._workers.get(webhook_id)
        if worker is None:
            worker = self._workers[webhook_id] = self._new(webhook_id)
        return worker

    def _new(self, webhook_id: int) -> Worker:
        return Worker(webhook_id, self._sending(webhook_id), self._shared)

    def _sending(self, webhook_id: int) -> Webhook | None:
        webhook = self._webhooks.get(webhook_id)
        return webhook if webhook is not None and webhook.enabled else None
