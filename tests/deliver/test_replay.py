"""Replays through the real store and dispatcher: oldest first, all of them, whatever fails."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from agent.clock import LoopClock
from agent.config import Config
from agent.deliver.client import Client
from agent.deliver.dispatcher import Dispatcher
from agent.errors import StoreError
from agent.model import Attempt, CallbackState
from agent.service.deliveries import Deliveries
from agent.service.live import Live
from agent.store import DeliveryQuery
from agent.store.tables.deliveries import REVIVE_ROWS
from tests.fakes.receiver import Receiver, after
from tests.kit.deliver import NOW_MS, make_callback, make_record, make_webhook, settings
from tests.kit.store import open_store
from tests.kit.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.model import Callback
    from agent.service.devices import Devices
    from agent.store.tables.deliveries import Deliveries as StoredDeliveries


class House:
    def __init__(self, directory: Path, receiver: Receiver) -> None:
        self.store = open_store(directory)
        self.receiver = receiver
        self.client = Client()
        webhooks = {1: make_webhook(receiver.url())}
        self.live = Live(Config(), {}, webhooks)
        self.dispatcher = Dispatcher(
            self.store.callbacks,
            self.client,
            webhooks=webhooks,
            settings=settings(),
            clock=LoopClock(),
        )
        self.deliveries = self.over(self.store)

    def over(self, store: Any) -> Deliveries:
        no_devices = cast("Devices", None)  # none is asked for
        return Deliveries(self.live, store, self.dispatcher, no_devices, LoopClock())

    async def die(self, count: int, phones: int, webhook_id: int = 1) -> list[Callback]:
        """So many dead callbacks."""
        made: list[Callback] = []
        for number in range(phones):
            udid = f"phone {number}"
            fresh = [make_callback(webhook_id, udid) for _ in range(count // phones)]
            made += await self.store.record(make_record(udid), None, fresh)
        refused = [
            self.store.callbacks.finish(
                c, Attempt(c.message_id, NOW_MS, 1, 500, "no", ""), CallbackState.DEAD
            )
            for c in made
        ]
        await asyncio.gather(*refused)
        return made

    async def states(self) -> dict[CallbackState, int]:
        rows = await self.store.deliveries.find(DeliveryQuery(limit=100_000))
        states = [row.state for row in rows]
        return {state: states.count(state) for state in set(states)}

    async def close(self) -> None:
        await self.dispatcher.stop(0)
        await self.client.close()
        await self.store.close()


@pytest.fixture
async def house(tmp_path: Path, receiver: Receiver) -> AsyncIterator[House]:
    it = House(tmp_path, receiver)
    await it.dispatcher.start()
    yield it
    await it.close()


def sent(receiver: Receiver) -> list[str]:
    return [request.headers["webhook-id"] for request in receiver.requests]


async def test_all_that_died_goes_again_oldest_first(house: House) -> None:
    dead = await house.die(2_500, phones=5)
    ids = await house.deliveries.replay({})
    assert ids == [c.message_id for c in dead]
    await house.receiver.until(lambda: len(house.receiver.requests) == 2_500)
    for number in range(5):
        mine = [c.message_id for c in dead if c.udid == f"phone {number}"]
        assert [each for each in sent(house.receiver) if each in set(mine)] == mine
    await eventually(lambda: house.dispatcher.stats()[1].lanes == 0)
    assert await house.states() == {CallbackState.DELIVERED: 2_500}


async def test_a_replay_goes_before_what_is_newer(house: House) -> None:
    """Also if that waits in memory already."""
    dead = await house.die(40, phones=1)
    gate = asyncio.Event()
    house.receiver.script.append(after(gate))
    newer = [make_callback(udid="phone 0") for _ in range(3)]
    stored = await house.store.record(make_record("phone 0"), None, newer)
    house.dispatcher.notify(stored)
    await house.receiver.until(lambda: house.receiver.open == 1)
    await house.deliveries.replay({})
    gate.set()
    await house.receiver.until(lambda: len(house.receiver.requests) == 43)
    in_order = [newer[0], *dead, *newer[1:]]
    assert sent(house.receiver) == [c.message_id for c in in_order]


class Failing:
    """The real deliveries, whose disk is full after one step of a replay."""

    def __init__(self, deliveries: StoredDeliveries) -> None:
        self._deliveries = deliveries

    async def revive(self, *about: Any) -> AsyncIterator[Callback]:
        count = 0
        async for callback in self._deliveries.revive(*about):
            yield callback
            count += 1
            if count == REVIVE_ROWS:
                raise StoreError("disk full: /var/lib/device-agent")


async def test_an_error_in_the_middle_leaves_nothing_unsent_that_is_pending(house: House) -> None:
    dead = await house.die(1_200, phones=3)
    broken = house.over(SimpleNamespace(deliveries=Failing(house.store.deliveries)))
    with pytest.raises(
        StoreError, match=r"500 callbacks will be sent again, the oldest.*disk full"
    ):
        await broken.replay({})
    await house.receiver.until(lambda: len(house.receiver.requests) == 500)
    await eventually(lambda: house.dispatcher.stats()[1].lanes == 0)
    assert await house.states() == {CallbackState.DELIVERED: 500, CallbackState.DEAD: 700}
    assert set(sent(house.receiver)) == {c.message_id for c in dead[:500]}
    # Again, as the message says: the rest goes.
    assert len(await house.deliveries.replay({})) == 700
    await house.receiver.until(lambda: len(house.receiver.requests) == 1_200)


async def test_what_was_for_a_webhook_that_is_gone_stays(house: House) -> None:
    await house.die(3, phones=1, webhook_id=9)
    assert await house.deliveries.replay({}) == []
    assert await house.states() == {CallbackState.DEAD: 3}


async def test_a_time_without_a_zone_is_utc_wherever_the_agent_is(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.die(2, phones=1)
    made = datetime.fromtimestamp(NOW_MS / 1000, UTC)
    before, after = ((made + timedelta(minutes=by)).isoformat()[:19] for by in (-30, 30))
    queries = ({"since": before, "until": after}, {"until": before}, {"since": after})
    for zone in ("UTC", "Asia/Tokyo", "America/New_York"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        try:
            counts = [len((await house.deliveries.page(query))["deliveries"]) for query in queries]
        finally:
            monkeypatch.undo()
            time.tzset()
        assert counts == [2, 0, 0], zone


async def test_one_callback_or_a_few(house: House) -> None:
    dead = await house.die(10, phones=1)
    assert await house.deliveries.replay({"id": dead[3].message_id}) == [dead[3].message_id]
    assert await house.deliveries.replay({"id": "msg_unknown"}) == []
    assert await house.deliveries.replay({"limit": "2"}) == [c.message_id for c in dead[:2]]
    await house.receiver.until(lambda: len(house.receiver.requests) == 3)
