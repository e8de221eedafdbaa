"""A store, a client and receivers, and the dispatcher that runs on them; its clock is stubbed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agent.config import Delivery
from agent.deliver.client import Client
from agent.deliver.dispatcher import Dispatcher
from agent.store import DeliveryQuery
from tests.fakes.receiver import Receiver
from tests.kit.clock import StubClock
from tests.kit.deliver import NOW_MS, make_record, settings
from tests.kit.store import open_store
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import Webhook
    from agent.deliver.policy import Decision
    from agent.model import Attempt, Callback, CallbackState


class House:
    """A store, a client and receivers, and the dispatcher that runs on them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = StubClock(start_ms=NOW_MS)
        self.store = open_store(directory)
        self.client = Client()
        self.receivers: list[Receiver] = []
        self.attempts: list[tuple[Callback, Attempt, Decision]] = []
        self.dispatcher: Dispatcher | None = None

    async def receiver(self) -> Receiver:
        it = await Receiver().start()
        self.receivers.append(it)
        return it

    def make(self, *webhooks: Webhook, store: Any = None, **more: Any) -> Dispatcher:
        """A dispatcher that is not started yet; `more` may hold keys of [delivery]."""
        keys = {key: more.pop(key) for key in Delivery.model_fields if key in more}
        self.dispatcher = Dispatcher(
            store or self.store.callbacks,
            self.client,
            webhooks={w.id: w for w in webhooks if w.id is not None},
            clock=self.clock,
            settings=settings(**keys),
            **{"on_attempt": lambda *about: self.attempts.append(about), **more},
        )
        return self.dispatcher

    async def start(self, *webhooks: Webhook, **more: Any) -> Dispatcher:
        dispatcher = self.make(*webhooks, **more)
        await dispatcher.start()
        return dispatcher

    async def commit(self, *callbacks: Callback, notify: bool = True) -> list[Callback]:
        """Store callbacks, in order, and tell the dispatcher."""
        pending = [self.store.record(make_record(c.udid), None, [c]) for c in callbacks]
        stored = [(await each)[0] for each in pending]
        if notify and self.dispatcher is not None:
            self.dispatcher.notify(stored)
        return stored

    async def state(self, callback: Callback) -> CallbackState:
        (row,) = await self.store.deliveries.find(DeliveryQuery(message_id=callback.message_id))
        return row.state

    async def settled(self, callback: Callback, state: CallbackState) -> None:
        async with asyncio.timeout(LIMIT):
            while await self.state(callback) is not state:  # noqa: ASYNC110 - as `eventually`
                await asyncio.sleep(0.002)

    async def restart_store(self) -> None:
        await self.store.close()
        self.store = open_store(self.directory)

    async def close(self) -> None:
        if self.dispatcher is not None:
            await self.dispatcher.stop(0)
        await self.client.close()
        await self.store.close()
        for receiver in self.receivers:
            await receiver.close()
