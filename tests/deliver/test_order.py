"""Random interleavings of commits, notifications, loads, answers and restarts, on the real store.

Whatever the interleaving: nothing is lost, nothing overtakes within a lane, nothing is sent again
once its success is durable, and what goes out twice is no more than what a stop cut off.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from agent.deliver.dispatcher import Dispatcher
from agent.deliver.policy import Answer, ErrorKind
from agent.model import CallbackState
from agent.store import DeliveryQuery, Store
from tests.deliver.kit import Clock, eventually, make_callback, make_record, make_webhook
from tests.fakes.recorder import LIMIT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agent.config import Webhook
    from agent.model import Callback
    from agent.store import PendingLane

Lane = tuple[int, str]


class Dice:
    """Waits a few turns of the loop, or a few milliseconds, at random."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    async def wait(self, most: int = 4) -> None:
        if self.random.random() < 0.1:
            await asyncio.sleep(self.random.random() * 0.004)  # about as long as a commit takes
        for _ in range(self.random.randrange(most)):
            await asyncio.sleep(0)


class Endpoint:
    """Stands in for the client: answers at random, remembers what it was sent."""

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.failing = 0.2
        self.sent: dict[Lane, list[int]] = defaultdict(list)
        self.accepted: dict[int, int] = defaultdict(int)

    async def attempt(
        self,
        webhook: Webhook,  # noqa: ARG002 - the client's
        callback: Callback,
        now_ms: int,
        *,
        limit: float,  # noqa: ARG002 - the client's
    ) -> Answer:
        self.sent[callback.webhook_id, callback.udid].append(callback.rowid)
        await self.dice.wait(8)
        if self.dice.random.random() < self.failing:
            return self.dice.random.choice(
                [Answer(500), Answer(410), Answer(kind=ErrorKind.RESET, detail="reset")]
            )
        self.accepted[callback.rowid] += 1
        await self.dice.wait()
        return Answer(200, started_ms=now_ms)

    def reconfigure(self, webhooks: Mapping[int, Webhook]) -> None:
        """Nothing is kept."""


class SlowStore:
    """The real store, whose answers arrive some turns later, when other things have happened."""

    def __init__(self, store: Store, dice: Dice) -> None:
        self._store = store
        self._dice = dice

    async def lanes(self) -> list[PendingLane]:
        found = await self._store.lanes()
        await self._dice.wait(10)
        return found

    async def pending(self, *lane: Any) -> list[Callback]:
        await self._dice.wait()
        found = await self._store.pending(*lane)
        await self._dice.wait(10)
        return found

    async def finish(self, *outcome: Any) -> None:
        await self._dice.wait()
        await self._store.finish(*outcome)
        await self._dice.wait()

    async def supersede(self, *lane: Any) -> int:
        await self._dice.wait()
        count = await self._store.supersede(*lane)
        await self._dice.wait(10)
        return count


@pytest.mark.parametrize("seed", range(12))
async def test_any_interleaving_keeps_order_and_loses_nothing(tmp_path: Path, seed: int) -> None:
    await play(tmp_path, seed, count=250)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1000, 1200))
async def test_many_interleavings(tmp_path: Path, seed: int) -> None:
    await play(tmp_path, seed, count=500)


async def play(  # noqa: PLR0915 - one story
    directory: Path, seed: int, count: int
) -> None:
    dice = Dice(seed)
    clock = Clock()
    store = Store.open(directory)
    endpoint = Endpoint(dice)
    webhooks = {number: make_webhook(number=number) for number in (1, 2)}
    stored: list[Callback] = []
    cut_off = 0

    def make() -> Dispatcher:
        return Dispatcher(
            SlowStore(store, dice),  # type: ignore[arg-type] - the part of it that is used
            endpoint,  # type: ignore[arg-type] - likewise
            webhooks=webhooks,
            concurrency=3,
            now_ms=clock.now_ms,
            jitter=dice.random.random,
            call_later=clock.call_later,
            monotonic=lambda: clock.seconds,
            drain_rate=math.inf,
        )

    async def commit(udid: str, hooks: list[int]) -> None:
        fresh = [make_callback(hook, udid, created_ms=clock.now_ms()) for hook in hooks]
        done = await store.record(make_record(udid), None, fresh)
        stored.extend(done)
        dispatcher.notify(done)

    dispatcher = make()
    starting = asyncio.create_task(dispatcher.start())
    commits: set[asyncio.Task[None]] = set()
    for _ in range(count):
        hooks = dice.random.sample([1, 2], dice.random.randint(1, 2))
        commits.add(asyncio.create_task(commit(f"phone {dice.random.randrange(5)}", hooks)))
        await dice.wait(6)
        roll = dice.random.random()
        if roll < 0.1:
            clock.advance(dice.random.choice([0.5, 6, 40, 4000]))
        elif roll < 0.13:
            on = dice.random.random() < 0.5
            webhooks = {n: w.model_copy(update={"enabled": on}) for n, w in webhooks.items()}
            dispatcher.reconfigure(webhooks)
        elif roll < 0.16:
            edited = make_webhook(f"http://127.0.0.1:9/{dice.random.random()}")
            webhooks = {**webhooks, 1: edited}
            dispatcher.reconfigure(webhooks)
        elif roll < 0.18:
            await starting
            cut_off += sum(s.in_flight + s.unrecorded for s in dispatcher.stats().values())
            await dispatcher.stop(dice.random.choice([0, 0.001]))
            dispatcher = make()
            starting = asyncio.create_task(dispatcher.start())
    await starting
    await asyncio.gather(*commits)
    endpoint.failing = 0
    dispatcher.reconfigure({n: make_webhook(f"http://127.0.0.1:9/end{n}", n) for n in (1, 2)})
    await eventually(lambda: not any(s.lanes for s in dispatcher.stats().values()), "the end")

    assert await store.lanes() == []
    rows = await store.deliveries(DeliveryQuery(limit=10 * count))
    assert {row.callback.rowid for row in rows} == {callback.rowid for callback in stored}
    assert {row.state for row in rows} == {CallbackState.DELIVERED}
    for lane, sent in endpoint.sent.items():
        assert sent == sorted(sent), f"overtaken in {lane}"
        assert set(sent) == {c.rowid for c in stored if (c.webhook_id, c.udid) == lane}
    assert set(endpoint.accepted) == {callback.rowid for callback in stored}
    assert sum(endpoint.accepted.values()) - len(endpoint.accepted) <= cut_off
    await dispatcher.stop(LIMIT)
    await store.close()


async def test_out_of_order_notifications_lose_nothing(tmp_path: Path) -> None:
    """Against the contract, and still: late, never lost, never twice."""
    dice = Dice(7)
    store = Store.open(tmp_path)
    endpoint = Endpoint(dice)
    endpoint.failing = 0
    dispatcher = Dispatcher(store, endpoint, webhooks={1: make_webhook()})  # type: ignore[arg-type] - what is used of a client
    await dispatcher.start()
    stored: list[Callback] = []
    for _ in range(100):
        stored += await store.record(make_record("phone"), None, [make_callback()])
    dice.random.shuffle(stored)
    for callback in stored:
        dispatcher.notify([callback])
        await dice.wait()
    await eventually(lambda: not dispatcher.stats()[1].lanes, "the end")
    assert await store.lanes() == []
    assert sorted(endpoint.sent[1, "phone"]) == sorted(c.rowid for c in stored)
    await dispatcher.stop(LIMIT)
    await store.close()
