"""Random interleavings of all that may happen to delivery, on the real store, against a model.

Commits, notifications, loads, answers, reloads of equal and of changed webhooks (in mid-attempt,
too), webhooks turned off, deleted and put back, refusals of the store, stops and restarts, with
both kinds of backlog. Whatever the interleaving: nothing is lost, nothing is cancelled but by a
newer state or with its webhook, nothing overtakes within a lane, nothing is sent again once its
success is durable, what goes out twice is no more than what a stop cut off, a pause and a
`Retry-After` are kept, and what is counted as it changes is what there is.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, cast

import pytest

import agent.deliver.starts
from agent.clock import LoopClock
from agent.deliver.dispatcher import HELD, Dispatcher
from agent.deliver.policy import LONGEST, Answer, ErrorKind
from agent.errors import StoreError
from agent.model import CallbackState
from agent.store import DeliveryQuery
from agent.store.tables import callbacks
from tests.kit.clock import StubClock
from tests.kit.deliver import NOW_MS, make_callback, make_record, make_webhook, settings
from tests.kit.examples import worlds
from tests.kit.store import open_store
from tests.kit.waiting import LIMIT, eventually

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from agent.config import Webhook
    from agent.model import Callback
    from agent.store import Callbacks, PendingLane

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
    """A sender: answers at random, remembers what it was sent, and when it may."""

    def __init__(self, dice: Dice, clock: StubClock) -> None:
        self.dice = dice
        self.clock = clock
        self.failing = 0.2
        self.sent: dict[Lane, list[int]] = defaultdict(list)
        self.accepted: dict[int, int] = defaultdict(int)
        self.edits: dict[int, int] = defaultdict(int)
        """Of each webhook: edits, and restarts, after which all may be tried at once."""
        self.paused: dict[int, float] = {}
        self.asked: dict[Lane, float] = {}
        self.wrong: list[str] = []

    def edited(self, webhook_id: int) -> None:
        """The webhook is not what it was."""
        self.edits[webhook_id] += 1
        self.paused.pop(webhook_id, None)
        self.asked = {lane: at for lane, at in self.asked.items() if lane[0] != webhook_id}

    async def attempt(
        self,
        webhook: Webhook,  # noqa: ARG002 - the protocol's
        callback: Callback,
        now_ms: int,
        *,
        limit: float,  # noqa: ARG002 - the protocol's
    ) -> Answer:
        hook, lane = callback.webhook_id, (callback.webhook_id, callback.udid)
        now = self.clock.now + 0.002  # times are stored in milliseconds
        if now < self.paused.get(hook, 0):
            self.wrong.append(f"{callback.message_id} sent while paused")
        if now < self.asked.get(lane, 0):
            self.wrong.append(f"{callback.message_id} sent before what the endpoint asked for")
        edits = self.edits[hook]
        self.sent[lane].append(callback.rowid)
        await self.dice.wait(8)
        if self.dice.random.random() < self.failing:
            answer = self.dice.random.choice(
                [
                    Answer(500),
                    Answer(410),
                    Answer(429, retry_after="3600"),
                    Answer(kind=ErrorKind.RESET, detail="reset"),
                ]
            )
            if edits == self.edits[hook]:
                if answer.status == 410:
                    self.paused[hook] = self.clock.now + LONGEST
                if answer.status == 429:
                    self.asked[lane] = self.clock.now + 3600
            return answer
        self.accepted[callback.rowid] += 1
        if self.edits[hook] == edits:
            self.paused.pop(hook, None)
        await self.dice.wait()
        return Answer(200, started_ms=now_ms)

    def reconfigure(self, webhooks: Mapping[int, Webhook]) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        """Nothing is open."""


class SlowCallbacks:
    """The real ones, whose answers arrive some turns later, when other things have happened."""

    def __init__(self, callbacks: Callbacks, dice: Dice) -> None:
        self._callbacks = callbacks
        self._dice = dice
        self.refusing = 0.03

    def _may_refuse(self) -> None:
        if self._dice.random.random() < self.refusing:
            raise StoreError("too many changes wait")

    async def lanes(self) -> list[PendingLane]:
        found = await self._callbacks.lanes()
        await self._dice.wait(10)
        return found

    async def pending(self, *lane: Any) -> list[Callback]:
        await self._dice.wait()
        self._may_refuse()
        found = await self._callbacks.pending(*lane)
        await self._dice.wait(10)
        return found

    async def finish(self, *outcome: Any) -> None:
        await self._dice.wait()
        self._may_refuse()
        await self._callbacks.finish(*outcome)
        await self._dice.wait()

    async def supersede(self, *lane: Any) -> list[str]:
        await self._dice.wait()
        self._may_refuse()
        skipped = await self._callbacks.supersede(*lane)
        await self._dice.wait(10)
        return skipped


SHORT = worlds(12)
LONG = range(1000, 1300)


@pytest.fixture
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there for large numbers happens with few.

    A deleted webhook's backlog takes many steps to cancel; attempts wait for the loop's next turn.
    """
    monkeypatch.setattr(callbacks, "CANCEL_ROWS", 3)
    monkeypatch.setattr(agent.deliver.starts, "BEGIN", 2)


@pytest.mark.usefixtures("_small_steps")
@pytest.mark.parametrize("backlog", ["all", "latest"])
@pytest.mark.parametrize("seed", SHORT)
async def test_any_interleaving_keeps_order_and_loses_nothing(
    tmp_path: Path, seed: int, backlog: str
) -> None:
    await Walk(tmp_path, seed, backlog).play(count=250)


@pytest.mark.long
@pytest.mark.usefixtures("_small_steps")
@pytest.mark.parametrize("backlog", ["all", "latest"])
@pytest.mark.parametrize("seed", LONG)
async def test_many_interleavings(tmp_path: Path, seed: int, backlog: str) -> None:
    await Walk(tmp_path, seed, backlog).play(count=500)


class Walk:
    """One random history, and what must hold of it."""

    def __init__(self, directory: Path, seed: int, backlog: str) -> None:
        self.dice = Dice(seed)
        self.clock = StubClock(start_ms=NOW_MS, jitter=self.dice.random.random)
        self.store = open_store(directory)
        self.slow = SlowCallbacks(self.store.callbacks, self.dice)
        self.endpoint = Endpoint(self.dice, self.clock)
        self.backlog = backlog
        self.phones = self.dice.random.choice([2, 5])
        self.held = self.dice.random.choice([0, 4, HELD])
        self.webhooks = {number: self.webhook(number, 0) for number in (1, 2)}
        self.stored: dict[int, Callback] = {}
        self.deleted: dict[int, int] = defaultdict(int)
        """How often each webhook was."""
        self.born: dict[str, int] = {}
        """By message: how often its webhook had been deleted when it was made."""
        self.cut_off = 0
        self.cancelling: list[asyncio.Future[int]] = []
        self.dispatcher = self.make()

    def webhook(self, number: int, edition: int, **more: Any) -> Webhook:
        url = f"http://127.0.0.1:9/{edition}"
        return make_webhook(url, number, backlog=self.backlog, **more)

    def make(self) -> Dispatcher:
        return Dispatcher(
            cast("Callbacks", self.slow),  # the part of it that is used
            self.endpoint,
            webhooks=self.webhooks,
            settings=settings(concurrency=3),
            clock=self.clock,
            held=self.held,
        )

    async def commit(self, udid: str, hooks: list[int]) -> None:
        fresh = [
            make_callback(hook, udid, created_ms=self.clock.wall_ms())
            for hook in hooks
            if hook in self.webhooks
        ]
        for each in fresh:
            self.born[each.message_id] = self.deleted[each.webhook_id]
        done = await self.store.record(make_record(udid), None, fresh)
        self.stored |= {each.rowid: each for each in done}
        self.notify(done)

    def notify(self, callbacks: Sequence[Callback]) -> None:
        """They are durable."""
        self.dispatcher.notify(callbacks)

    async def more(self) -> None:
        """What else happens, in walks that build on this one."""

    def reload(self, webhooks: dict[int, Webhook]) -> None:
        """As the application does it: all in one turn of the loop."""
        for number in {*webhooks, *self.webhooks}:
            if webhooks.get(number) != self.webhooks.get(number):
                self.endpoint.edited(number)
            if number not in webhooks and number in self.webhooks:
                self.deleted[number] += 1
        self.webhooks = webhooks
        self.dispatcher.reconfigure(webhooks, settings(concurrency=3))
        self.cancelling.append(asyncio.ensure_future(self.store.webhooks.retain(webhooks)))

    def change(self) -> dict[int, Webhook]:
        """What the file says next."""
        roll = self.dice.random.random()
        number = self.dice.random.choice([1, 2])
        mine = self.webhooks.get(number)
        if roll < 0.4:  # an equal file
            return {n: w.model_copy(deep=True) for n, w in self.webhooks.items()}
        if roll < 0.6 or mine is None:
            edited = self.webhook(number, self.dice.random.randrange(1 << 30))
            return {**self.webhooks, number: edited}
        if roll < 0.75:
            turned = mine.model_copy(update={"enabled": not mine.enabled})
            return {**self.webhooks, number: turned}
        return {n: w for n, w in self.webhooks.items() if n != number}

    async def restart(self) -> None:
        for number in (1, 2):
            self.endpoint.edited(number)
        self.cut_off += sum(s.in_flight + s.unrecorded for s in self.dispatcher.stats().values())
        await self.dispatcher.stop(self.dice.random.choice([0, 0.001]))
        for number in (1, 2):
            self.endpoint.edited(number)  # what was answered meanwhile counts no more
        self.dispatcher = self.make()

    async def play(self, count: int) -> None:
        starting = asyncio.create_task(self.dispatcher.start())
        commits: set[asyncio.Task[None]] = set()
        back: dict[int, Webhook] = {}
        for _ in range(count):
            hooks = self.dice.random.sample([1, 2], self.dice.random.randint(1, 2))
            udid = f"phone {self.dice.random.randrange(self.phones)}"
            commits.add(asyncio.create_task(self.commit(udid, hooks)))
            await self.dice.wait(6)
            roll = self.dice.random.random()
            if roll < 0.1:
                self.clock.advance(self.dice.random.choice([0.5, 6, 40, 4000]))
            elif roll < 0.2:
                before = self.webhooks
                self.reload(self.change())
                gone = {n: w for n, w in before.items() if n not in self.webhooks}
                back = gone or back
            elif roll < 0.25 and back:  # what was deleted is put back, soon or late
                self.reload({**back, **self.webhooks})
                back = {}
            elif roll < 0.27:
                await starting
                await self.restart()
                starting = asyncio.create_task(self.dispatcher.start())
            await self.more()
            self.compare_counts()
            if self.dice.random.random() < 0.15:
                await starting
                await asyncio.gather(*commits)
                await self.compare_lanes()
        await starting
        await asyncio.gather(*commits)
        await self.end()
        await self.judge()
        await self.dispatcher.stop(LIMIT)
        await self.store.close()

    async def end(self) -> None:
        """All is well again."""
        self.endpoint.failing = 0
        self.slow.refusing = 0
        self.reload({n: self.webhook(n, 1 << 31) for n in (1, 2)})
        await asyncio.gather(*self.cancelling)

        def over() -> bool:
            self.clock.advance(6)  # the store's refusals are tried again
            return not any(s.lanes for s in self.dispatcher.stats().values())

        await eventually(over, "the end")
        self.compare_counts()

    def compare_counts(self) -> None:
        held = 0
        for number, stats in self.dispatcher.stats().items():
            them = self.dispatcher._workers[number].lanes
            lanes = [*them.active, *them.parked, *them.waiting]
            assert len(lanes) == len(set(lanes)), "in one stage each"
            ready = Counter(them.ready)
            assert set(ready.values()) <= {1}
            assert them.parked.keys() <= ready.keys() <= {*them.active, *them.parked}
            assert {(due, udid) for udid, (due, *_) in them.waiting.items()} <= set(them.due)
            queued = sum(len(lane.queue) for lane in them.active.values())
            assert stats.lanes == len(lanes)
            assert stats.waiting == len(them.waiting)
            assert stats.pending == queued + stats.in_flight
            held += queued
        assert held == self.dispatcher._shared.memory.callbacks

    async def compare_lanes(self) -> None:
        """What is stored and was notified is known; a restart must not be needed to find it."""
        for found in await self.store.callbacks.lanes():
            lane = found.webhook_id, found.udid
            if self.known(*lane) or not await self.store.callbacks.pending(*lane, 0, 1):
                continue
            # Another turn: its last outcome may have been stored this moment.
            assert self.known(*lane) or not await self.store.callbacks.pending(*lane, 0, 1), (
                f"lost in {lane}"
            )

    def known(self, webhook_id: int, udid: str) -> bool:
        worker = self.dispatcher._workers.get(webhook_id)
        return worker is not None and udid in worker.lanes

    async def judge(self) -> None:
        assert self.endpoint.wrong == []
        assert await self.store.callbacks.lanes() == []
        rows = await self.store.deliveries.find(DeliveryQuery(limit=1_000_000))
        assert {row.callback.rowid for row in rows} == set(self.stored)
        newest: dict[Lane, int] = defaultdict(int)
        for rowid, each in self.stored.items():
            lane = each.webhook_id, each.udid
            newest[lane] = max(newest[lane], rowid)
        for row in rows:
            each = row.callback
            if row.state is CallbackState.DELIVERED:
                assert self.endpoint.accepted[each.rowid]
                continue
            assert row.state is CallbackState.CANCELLED
            with_its_webhook = self.born[each.message_id] < self.deleted[each.webhook_id]
            by_a_newer = each.rowid < newest[each.webhook_id, each.udid]
            assert with_its_webhook or (self.backlog == "latest" and by_a_newer), each
        for lane, sent in self.endpoint.sent.items():
            assert sent == sorted(sent), f"overtaken in {lane}"
        twice = sum(self.endpoint.accepted.values()) - len(
            [each for each in self.endpoint.accepted.values() if each]
        )
        assert twice <= self.cut_off


async def test_out_of_order_notifications_lose_nothing(tmp_path: Path) -> None:
    """Against the contract, and still: late, never lost, never twice."""
    dice = Dice(7)
    store = open_store(tmp_path)
    clock = StubClock()
    endpoint = Endpoint(dice, clock)
    endpoint.failing = 0
    dispatcher = Dispatcher(
        store.callbacks,
        endpoint,
        webhooks={1: make_webhook()},
        settings=settings(),
        clock=LoopClock(),
    )
    await dispatcher.start()
    stored: list[Callback] = []
    for _ in range(100):
        stored += await store.record(make_record("phone"), None, [make_callback()])
    dice.random.shuffle(stored)
    for callback in stored:
        dispatcher.notify([callback])
        await dice.wait()
    await eventually(lambda: not dispatcher.stats()[1].lanes, "the end")
    assert await store.callbacks.lanes() == []
    assert sorted(endpoint.sent[1, "phone"]) == sorted(c.rowid for c in stored)
    await dispatcher.stop(LIMIT)
    await store.close()
