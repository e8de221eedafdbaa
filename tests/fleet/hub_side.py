"""A hub's part in sending, with its store and its dispatcher; also as a process of its own.

Time goes ten times as fast for who leads.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from agent.clock import LoopClock
from agent.deliver.client import Client
from agent.deliver.dispatcher import Dispatcher
from agent.fleet.hub.active import ActiveHub
from agent.fleet.hub.leader import seconds
from agent.fleet.hub.leadership import Pace
from agent.fleet.link import LinkError
from agent.fleet.nats_link import dial
from agent.model import CallbackState
from agent.store import DeliveryQuery
from tests.fleet.agent_side import fleet_of
from tests.kit.deliver import make_callback, make_record, make_webhook, settings
from tests.kit.store import open_store
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agent.fleet.link import Link
    from agent.model import Callback
    from agent.store import Elsewhere, Followed, Outcome, Settled

FAST = Pace(renew=0.5, valid=1.0, take=1.5, again=1.1, empty=0.4, look=0.1, step=0.3, retry=0.1)
PHONES = 5


class SlowStore:
    """The real one, which may take its time to make final what others have sent."""

    def __init__(self, store: Elsewhere) -> None:
        self._store = store
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.followed, self.recent = store.followed, store.recent

    def settle(
        self, outcomes: Sequence[Outcome], followed: Followed, then: Callable[[Settled], None]
    ) -> asyncio.Future[Settled]:
        async def later() -> Settled:
            await self.goes_on.wait()
            return await self._store.settle(outcomes, followed, then)

        return asyncio.ensure_future(later())


class Hub:
    """One process's part: store, dispatcher, and what decides whether it sends."""

    def __init__(self, name: str, directory: Path, broker: str, receiver: str) -> None:
        self.name = name
        self.directory = directory
        self.fleet = fleet_of(broker)
        self.url = receiver
        self.stopped_by = 0.0
        """Its clock's seconds in which it was stopped and did nothing."""
        self.cut = False
        self.begin()

    def begin(self) -> None:
        self.store = open_store(self.directory)
        self.slow = SlowStore(self.store.elsewhere)
        self.client = Client()
        clock = LoopClock()
        self.active = ActiveHub(
            self.name,
            1,
            self.directory,
            self.slow,
            # The dispatcher is still to be made.
            notify=lambda callbacks: self.dispatcher.notify(callbacks),  # noqa: PLW0108 - see above
            settled=lambda lanes: self.dispatcher.settled(lanes),  # noqa: PLW0108 - see above
            opened=lambda: self.dispatcher.opened(),  # noqa: PLW0108 - see above
            now=lambda: seconds() + self.stopped_by,
            pace=FAST,
        )
        self.dispatcher = Dispatcher(
            self.store.callbacks,
            self.client,
            webhooks={1: make_webhook(self.url)},
            settings=settings(concurrency=4),
            clock=clock,
            may_send=self.active.may_send,
            on_final=self.active.final,
        )
        self.link: Link | None = None
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await self.dispatcher.start()
        while True:
            if self.cut:
                await asyncio.sleep(0.05)
                continue
            try:
                self.link = await dial(self.fleet)
                serving = asyncio.create_task(self.active.serve(self.link))
                lost = asyncio.create_task(self.link.lost())
                try:
                    await asyncio.wait({serving, lost}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for each in (serving, lost):
                        each.cancel()
                    ended, _ = await asyncio.gather(serving, lost, return_exceptions=True)
                    assert isinstance(ended, asyncio.CancelledError), ended
            except LinkError:
                await asyncio.sleep(0.05)
            finally:
                if self.link is not None:
                    await self.link.close()
                    self.link = None

    async def take(self, *callbacks: Callback) -> None:
        """Its pipeline made these."""
        for callback in callbacks:
            stored = await self.store.record(make_record(callback.udid), None, [callback])
            self.active.made(stored)

    async def cut_off(self) -> None:
        """The network to the broker is gone."""
        self.cut = True
        if self.link is not None:
            await self.link.close()

    async def states(self) -> dict[str, CallbackState]:
        rows = await self.store.deliveries.find(DeliveryQuery(limit=100_000))
        return {row.callback.message_id: row.state for row in rows}

    async def all_final(self, count: int) -> None:
        async with asyncio.timeout(LIMIT):
            while True:
                states = await self.states()
                if len(states) == count and set(states.values()) == {CallbackState.DELIVERED}:
                    return
                await asyncio.sleep(0.02)

    async def end(self, *, leave: bool = False) -> None:
        """In order (`leave`), or as if it were killed."""
        if leave:
            await self.dispatcher.stop(LIMIT)
            await self.active.leave(self.link)
        self.task.cancel()
        await asyncio.wait({self.task})
        if not leave:
            await self.dispatcher.stop(0)
        await self.client.close()
        await self.store.close()


def callbacks(count: int) -> list[Callback]:
    """The same ones in each process."""
    return [make_callback(message_id=f"msg_{n}", udid=f"phone {n % PHONES}") for n in range(count)]


async def run(name: str, directory: Path, broker: str, receiver: str, count: int) -> None:
    """Make so many callbacks, one after the other, for ever."""
    hub = Hub(name, directory, broker, receiver)
    for callback in callbacks(count):
        await hub.take(callback)
        await asyncio.sleep(0.01)
    await asyncio.Event().wait()


if __name__ == "__main__":
    _, its_name, place, servers, endpoint, many = sys.argv
    asyncio.run(run(its_name, Path(place), servers, endpoint, int(many)))
