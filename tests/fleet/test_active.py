"""Two hubs over a real broker, each with its store and its dispatcher, and one receiver.

What both make of the agents' logs is given to both, as their pipelines would, sooner or later. Time
goes ten times as fast for who leads.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from agent.fleet import subjects
from agent.fleet.hub import done
from agent.fleet.nats_link import dial
from agent.fleet.words import Leading, unpack
from tests.fakes.receiver import Receiver, after, answer
from tests.fleet.agent_side import fleet_of
from tests.fleet.hub_side import FAST, Hub, callbacks
from tests.kit.broker import Broker
from tests.kit.deliver import make_callback
from tests.kit.seed import seed
from tests.kit.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.model import Callback


class World:
    def __init__(self, broker: Broker, receiver: Receiver, hubs: list[Hub]) -> None:
        self.broker = broker
        self.receiver = receiver
        self.hubs = hubs
        self.made: list[Callback] = []

    def make(self, count: int, phones: int = 5) -> list[Callback]:
        fresh = [make_callback(udid=f"phone {n % phones}") for n in range(count)]
        self.made += fresh
        return fresh

    def sending(self) -> list[Hub]:
        return [hub for hub in self.hubs if hub.active.may_send()]

    async def active(self) -> tuple[Hub, Hub]:
        """Who sends, and who does not."""
        await eventually(self.sending, "a hub that sends")
        (sends,) = self.sending()
        (other,) = [hub for hub in self.hubs if hub is not sends]
        return sends, other

    @property
    def received(self) -> list[str]:
        return [each.headers["webhook-id"] for each in self.receiver.requests]

    def has(self, count: int) -> bool:
        """Whether so many have come."""
        return len(set(self.received)) >= count

    def check(self, most_repeated: int) -> None:
        """Nothing lost, each lane in order, and little repeated."""
        received = self.received
        assert set(received) == {each.message_id for each in self.made}
        assert len(received) - len(set(received)) <= most_repeated
        for udid in {each.udid for each in self.made}:
            lane = [each.message_id for each in self.made if each.udid == udid]
            first = list(dict.fromkeys(each for each in received if each in set(lane)))
            assert first == lane


@asynccontextmanager
async def world(tmp_path: Path) -> AsyncIterator[World]:
    broker = await Broker(tmp_path / "broker").start()
    receiver = await Receiver().start()
    hubs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        hubs.append(Hub(name, tmp_path / name, broker.url, receiver.url()))
    try:
        yield World(broker, receiver, hubs)
    finally:
        for hub in hubs:
            await hub.end()
        await receiver.close()
        broker.close()


async def test_one_sends_and_the_other_knows_all_of_it(tmp_path: Path) -> None:
    async with world(tmp_path) as them:
        sends, other = await them.active()
        fresh = them.make(60)
        await other.take(*fresh)
        assert them.received == []
        await sends.take(*fresh)
        await sends.all_final(60)
        await other.all_final(60)
        them.check(0)
        assert other.dispatcher.stats()[1].lanes == 0
        assert await other.store.backlog.sizes() in ({}, {1: 0})
        assert sends.active.leader.leading == sends.name
        # It learns what was delivered, and who leads, each by itself.
        await eventually(lambda: other.active.leader.leading == sends.name, "who leads")


async def test_a_hub_that_is_stopped_sends_nothing_before_it_noticed(tmp_path: Path) -> None:
    """Its clock goes on while it is stopped; then it follows, and repeats nothing."""
    async with world(tmp_path) as them:
        sends, other = await them.active()
        old = them.make(20)
        for hub in them.hubs:
            await hub.take(*old)
        await other.all_final(20)
        sends.stopped_by += 40.0  # SIGSTOP, SIGCONT: nothing of it ran in between
        assert not sends.active.may_send()
        new = them.make(20)
        await sends.take(*new)
        assert len(them.received) == 20
        # While it was stopped the other one took over.
        await sends.cut_off()
        await other.take(*new)
        await eventually(other.active.may_send, "a takeover")
        await other.all_final(40)
        sends.cut = False
        await sends.all_final(40)
        assert not sends.active.may_send()
        them.check(0)


async def test_a_takeover_repeats_what_was_under_way_alone(tmp_path: Path) -> None:
    async with world(tmp_path) as them:
        sends, other = await them.active()
        fresh = them.make(200)
        for hub in (other, sends):
            await hub.take(*fresh[:100])
        await sends.all_final(100)
        holding = asyncio.Event()
        them.receiver.default = after(holding)
        for hub in (other, sends):
            await hub.take(*fresh[100:])
        await them.receiver.until(lambda: them.receiver.open >= 4)
        await sends.end()  # killed, with four attempts under way
        holding.set()
        them.receiver.default = answer(200)
        await other.all_final(200)
        them.check(4)
        sends.begin()
        await sends.all_final(200)
        them.check(4)


async def test_who_leaves_in_order_lets_the_other_one_send_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as them:
        sends, other = await them.active()
        fresh = them.make(30)
        for hub in (sends, other):
            await hub.take(*fresh)
        await sends.end(leave=True)
        began = asyncio.get_running_loop().time()
        await eventually(other.active.may_send, "a takeover")
        assert asyncio.get_running_loop().time() - began < FAST.take
        await other.all_final(30)
        them.check(0)
        sends.begin()


async def test_what_was_delivered_before_it_is_made_here_is_not_sent(tmp_path: Path) -> None:
    """The standby is behind with a host's log; it is even begun anew meanwhile."""
    async with world(tmp_path) as them:
        sends, other = await them.active()
        fresh = them.make(50)
        await sends.take(*fresh)
        await sends.all_final(50)
        await eventually(lambda: other.active.follower.remembered == 50)
        await other.end()
        other.begin()
        await eventually(lambda: other.active.follower.remembered == 50)
        await sends.end(leave=True)
        await eventually(other.active.may_send, "a takeover")
        await other.take(*fresh)
        await other.all_final(50)
        assert other.active.follower.remembered == 0
        them.check(0)
        sends.begin()


async def test_it_opens_after_all_that_others_have_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as them:
        sends, other = await them.active()
        monkeypatch.setattr(done, "AT_ONCE", 3)
        fresh = them.make(100)
        await other.take(*fresh)
        await other.cut_off()  # it hears nothing of what is delivered
        await sends.take(*fresh)
        await sends.all_final(100)
        await eventually(lambda: not sends.active.teller._untold, "all is told")
        await sends.end()
        other.slow.goes_on.clear()
        other.cut = False
        await eventually(lambda: other.active.leader.leading == other.name, "a takeover")
        await eventually(lambda: len(other.active.follower._heard) > 20)
        assert not other.active.may_send(), "it has not read what was sent"
        assert sorted(them.received) == sorted(each.message_id for each in them.made)
        other.slow.goes_on.set()
        await eventually(other.active.may_send, "its beginning")
        await other.all_final(100)
        them.check(0)
        sends.begin()


async def test_a_broker_that_forgets_everything_loses_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as them:
        sends, other = await them.active()
        fresh = them.make(40)
        for hub in (sends, other):
            await hub.take(*fresh[:20])
        await other.all_final(20)
        # A broker may not forget within moments of a takeover (`leadership`): who has not seen that
        # one would go on counting from before it.
        await eventually(lambda: other.active.leader.leading == sends.name)
        await them.broker.restart(wipe=True)
        for hub in (other, sends):
            await hub.take(*fresh[20:])
        await them.active()
        for hub in (sends, other):
            await hub.all_final(40)
        them.check(0)


async def test_a_stream_that_is_deleted_is_made_anew_and_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(done, "CHECK", 0.2)
    async with world(tmp_path) as them:
        sends, other = await them.active()
        fresh = them.make(40)
        await sends.take(*fresh[:20])
        await sends.all_final(20)
        await eventually(lambda: other.active.follower.remembered == 20)
        await other.end()
        assert sends.link is not None
        await sends.link.request(f"$JS.API.STREAM.DELETE.{subjects.DONE}", b"", 5.0)
        await sends.take(*fresh[20:])
        await sends.all_final(40)
        other.begin()
        await other.take(*fresh)
        await other.all_final(40)
        assert sends.active.may_send()
        them.check(0)


@pytest.mark.parametrize("number", range(2))
async def test_any_history_loses_nothing_and_keeps_the_order(tmp_path: Path, number: int) -> None:
    chance = random.Random(seed(number))
    async with world(tmp_path) as them:
        repeated = 0
        fresh = them.make(600)
        left = {hub.name: list(fresh) for hub in them.hubs}
        while any(left.values()):
            for hub in them.hubs:
                some = left[hub.name][: chance.randrange(30)]
                del left[hub.name][: len(some)]
                await hub.take(*some)
            assert len(them.sending()) <= 1
            hub = chance.choice(them.hubs)
            roll = chance.random()
            if roll < 0.1:
                hub.stopped_by += chance.choice((0.5, 4))
                repeated += 8
            elif roll < 0.2:
                await hub.cut_off()
                repeated += 8
            elif roll < 0.5:
                hub.cut = False
            elif roll < 0.6:
                # Killed: what was not told yet, too, is sent again.
                repeated += 8 + len(hub.active.teller._untold)
                await hub.end()
                hub.begin()
            elif roll < 0.65:
                them.broker.stop()
                await asyncio.sleep(chance.random() * 2)
                them.broker.go_on()
            await asyncio.sleep(chance.random() * 0.3)
        for hub in them.hubs:
            hub.cut = False
        for hub in them.hubs:
            await hub.all_final(600)
        them.check(repeated)


async def test_processes_that_are_stopped_and_continued(tmp_path: Path) -> None:
    """SIGSTOP of whoever sends, again and again, for longer than it may lead."""
    count, stops = 900, 4
    broker = await Broker(tmp_path / "broker").start()
    receiver = await Receiver().start()
    link = await dial(fleet_of(broker.url))
    processes = {}
    try:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()
            argv = (name, tmp_path / name, broker.url, receiver.url(), str(count))
            processes[name] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.fleet.hub_side", *argv
            )
        them = World(broker, receiver, [])
        them.made = callbacks(count)
        for stop in range(1, stops + 1):
            share = count * stop // (stops + 1)
            await receiver.until(partial(them.has, share))
            entry = await link.get(subjects.HUB, subjects.LEADER)
            assert entry is not None
            process = processes[unpack(Leading, entry.value, "").hub]
            process.send_signal(signal.SIGSTOP)
            before = len(set(them.received))
            await receiver.until(partial(them.has, min(before + 21, count)))
            process.send_signal(signal.SIGCONT)
        await receiver.until(partial(them.has, count))
        # Four at once may be under way, and as many are not told yet.
        them.check(stops * 40)
    finally:
        for process in processes.values():
            process.kill()
            await process.wait()
        await link.close()
        await receiver.close()
        broker.close()
