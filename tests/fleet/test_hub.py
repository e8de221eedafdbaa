"""A hub over a real broker, with its real store: what the broker loses is asked for."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from agent.clock import LoopClock
from agent.config import parse
from agent.deliver.outbox import Outbox
from agent.errors import HostAliveError, UnknownHostError
from agent.fleet import subjects
from agent.fleet.hub.hosts import Presence
from agent.fleet.hub.intake import Intake
from agent.fleet.hub.pipeline import Ears, FleetPipeline
from agent.fleet.hub.stored import read
from agent.fleet.link import LinkError
from agent.fleet.nats_link import dial
from agent.store import DeliveryQuery
from tests.fleet.host_side import AgentSide
from tests.fleet.linking import NotingDial
from tests.fleet.world import CONFIG, OFFLINE, ONLINE, UNPLUGGED, UTILIZING, SimHost
from tests.kit.store import open_store
from tests.kit.waiting import LIMIT, eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from pathlib import Path

    from agent.fleet.link import Dial, Link
    from agent.model import Callback
    from agent.store import Store
    from tests.kit.broker import Broker


class Side:
    """A hub that runs."""

    def __init__(
        self, pipeline: FleetPipeline, intake: Intake, store: Store, sent: list[Callback]
    ) -> None:
        self.pipeline = pipeline
        self.intake = intake
        self.store = store
        self.sent = sent

    def states(self) -> dict[str, Any]:
        return {view.udid: view.state for view in self.pipeline.views.all()}

    async def story(self, udid: str) -> list[Any]:
        rows = await self.store.transitions.of(udid, 10_000)
        return [row.transition.state for row in reversed(rows)]

    def caught_up(self, *agents: AgentSide) -> bool:
        marks = self.pipeline.durable
        return all(
            (mark := marks.get(each.host.name)) is not None
            and (mark.epoch, mark.cursor) == (each.host.epoch, len(each.host.log))
            for each in agents
        )


async def _alone(_link: Link) -> None:
    """No other hub is there."""
    await asyncio.Event().wait()


@asynccontextmanager
async def running(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """These, until the end; one that fails fails the test."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def hub(
    place: Path, broker: Broker, text: str = CONFIG, *, active: bool = True, dial: Dial = dial
) -> AsyncIterator[Side]:
    config = parse(text.replace("nats://127.0.0.1:4222", broker.url), "test.toml")
    store = open_store(place)
    webhooks = {w.id or 0: w for w in config.webhooks}
    sent: list[Callback] = []
    ears = Ears(
        notify=sent.extend,
        stored=lambda: None,
        changed=lambda _: None,
        silenced=lambda: None,
    )
    kept = read(await store.fleet.all())
    pipeline = FleetPipeline(
        config,
        await store.devices.all(),
        kept,
        store,
        Outbox(webhooks, config.org_of, "hub"),
        LoopClock(),
        ears,
    )
    intake = Intake(
        pipeline,
        config.fleet,
        "hub",
        dial,
        kept.position,
        LoopClock(),
        lambda: active,
        _alone,
        beat_every=0.1,
        make_every=0.2,
    )
    side = Side(pipeline, intake, store, sent)
    try:
        async with running(intake.run()):
            yield side
        await pipeline.close()
    finally:
        await store.close()


def agent(broker: Broker, name: str = "A", epoch: int = 7) -> AgentSide:
    config = parse(CONFIG.replace("nats://127.0.0.1:4222", broker.url), "test.toml")
    fleet = config.fleet.model_copy(update={"host": name, "role": "agent"})
    return AgentSide(SimHost(name, epoch), fleet, dial)


def move(side: AgentSide, udid: str, *states: Any) -> None:
    for state in states:
        side.host.move(udid, state)
    side.news.set()


async def test_a_log_goes_from_a_host_to_the_hubs_disk_and_is_acknowledged(
    tmp_path: Path, broker: Broker
) -> None:
    a = agent(broker)
    move(a, "p", ONLINE)
    async with hub(tmp_path / "hub", broker) as side, running(a.run()):
        await eventually(partial(side.caught_up, a))
        move(a, "p", UTILIZING, ONLINE, OFFLINE)
        move(a, "q", ONLINE)
        await eventually(lambda: a.acked == 5)
        assert await side.story("p") == [ONLINE, UTILIZING, ONLINE, OFFLINE]
        assert [(each.udid, each.state) for each in side.sent] == [
            ("p", ONLINE),
            ("p", UTILIZING),
            ("p", OFFLINE),
            ("q", ONLINE),
        ]
        stored = await side.store.deliveries.find(DeliveryQuery(limit=99))
        assert len(stored) == 4
        (status,) = side.pipeline.hosts()
        assert (status.presence, status.caught_up, status.lag) == (Presence.ALIVE, True, 0)
        assert side.intake.status.bad_messages == 0


async def test_a_standby_acknowledges_nothing(tmp_path: Path, broker: Broker) -> None:
    a = agent(broker)
    async with hub(tmp_path / "hub", broker, active=False) as side, running(a.run()):
        await eventually(partial(side.caught_up, a))
        move(a, "p", ONLINE)
        await eventually(partial(side.caught_up, a))
        await eventually(lambda: side.states() == {"p": ONLINE})
        assert a.acked == 0


async def test_what_the_stream_lost_is_asked_for(tmp_path: Path, broker: Broker) -> None:
    a = agent(broker)
    async with hub(tmp_path / "hub", broker) as side, running(a.run()):
        await eventually(partial(side.caught_up, a))
        a.silent = True
        a.news.set()
        move(a, "p", *[ONLINE, OFFLINE] * 250)
        await eventually(partial(side.caught_up, a))
        assert await side.story("p") == [ONLINE, OFFLINE] * 250
        a.sent, a.silent = len(a.host.log), False
        move(a, "p", UTILIZING)
        await eventually(partial(side.caught_up, a))
        assert side.states() == {"p": UTILIZING}


async def test_the_broker_is_wiped_and_nothing_is_lost(tmp_path: Path, broker: Broker) -> None:
    a, b = agent(broker), agent(broker, "B", 9)
    async with hub(tmp_path / "hub", broker) as side, running(a.run(), b.run()):
        await eventually(partial(side.caught_up, a, b))
        for _ in range(3):
            move(a, "p", ONLINE, OFFLINE)
            move(b, "q", ONLINE, UTILIZING)
            await broker.restart(wipe=True)
            move(a, "p", UTILIZING, OFFLINE)
            await eventually(partial(side.caught_up, a, b))
        assert await side.story("p") == [told.device.state for told in a.host.log]
        assert await side.story("q") == [told.device.state for told in b.host.log]
        ids = [each.message_id for each in side.sent]
        assert len(ids) == len(set(ids))


async def test_a_hub_that_begins_again_goes_on_where_it_was(tmp_path: Path, broker: Broker) -> None:
    a = agent(broker)
    async with running(a.run()):
        for _ in range(3):
            async with hub(tmp_path / "hub", broker) as side:
                await eventually(partial(side.caught_up, a))
                move(a, "p", ONLINE, OFFLINE)
                await eventually(partial(side.caught_up, a))
            move(a, "p", UTILIZING, OFFLINE)
            assert a.snapshots == 1
        async with hub(tmp_path / "hub", broker) as side:
            await eventually(partial(side.caught_up, a))
            assert await side.story("p") == [told.device.state for told in a.host.log]


async def beating(side: AgentSide) -> None:
    """It says all the time that it lives."""
    while True:
        side.news.set()
        await asyncio.sleep(0.005)


def _has_sent_all(side: AgentSide) -> bool:
    return side.sent == len(side.host.log)


async def test_the_stream_is_read_before_hosts_are_asked(tmp_path: Path, broker: Broker) -> None:
    """It alone has the order of what happened at two of them."""
    a, b = agent(broker), agent(broker, "B", 9)
    async with running(a.run(), b.run()):
        async with hub(tmp_path / "hub", broker) as side:
            await eventually(partial(side.caught_up, a, b))
            move(a, "p", ONLINE)
            await eventually(partial(side.caught_up, a, b))
        move(a, "q", *[ONLINE, OFFLINE] * 700)
        for here, there in (a, b), (b, a), (a, b):
            move(here, "p", UNPLUGGED)
            await eventually(partial(_has_sent_all, here))
            move(there, "p", UTILIZING if there is b else ONLINE)
            await eventually(partial(_has_sent_all, there))
        async with hub(tmp_path / "hub", broker) as side, running(beating(a), beating(b)):
            await eventually(partial(side.caught_up, a, b))
            assert await side.story("p") == [ONLINE, UTILIZING, ONLINE, UTILIZING]
        assert (a.asked, b.asked) == (0, 0)


async def test_a_moved_phone_over_the_wire_and_an_unplugged_one(
    tmp_path: Path, broker: Broker
) -> None:
    a, b = agent(broker), agent(broker, "B", 9)
    text = CONFIG.replace('"10s"', '"1s"')
    async with hub(tmp_path / "hub", broker, text) as side, running(a.run(), b.run()):
        await eventually(partial(side.caught_up, a, b))
        move(a, "p", ONLINE)
        move(a, "q", ONLINE)
        await eventually(partial(side.caught_up, a, b))
        move(a, "p", UNPLUGGED)
        move(a, "q", UNPLUGGED)
        move(b, "p", ONLINE)
        await eventually(lambda: side.states() == {"p": ONLINE, "q": UNPLUGGED})
        assert await side.story("p") == [ONLINE]
        assert [view.host for view in side.pipeline.views.all()] == ["B", "A"]


async def test_a_host_is_lost_and_back(tmp_path: Path, broker: Broker) -> None:
    a = agent(broker)
    text = CONFIG.replace('"60s"', '"1s"') + "[hold]\nsource_grace = '1s'\n"
    async with hub(tmp_path / "hub", broker, text) as side:
        async with running(a.run()):
            await eventually(partial(side.caught_up, a))
            move(a, "p", ONLINE)
            await eventually(lambda: side.states() == {"p": ONLINE})
        await eventually(lambda: side.states() == {"p": OFFLINE})
        assert "host A is lost" in side.pipeline.problems[0]
        async with running(a.run()):
            await eventually(lambda: side.states() == {"p": ONLINE})
        assert await side.story("p") == [ONLINE, OFFLINE, ONLINE]


async def test_a_host_is_forgotten_and_comes_back_as_a_new_one(
    tmp_path: Path, broker: Broker
) -> None:
    a, b = agent(broker), agent(broker, "B", 8)
    text = CONFIG.replace('"60s"', '"1s"')
    async with (
        hub(tmp_path / "hub", broker, text) as side,
        running(b.run()),
        linked(broker) as link,
    ):
        async with running(a.run()):
            await eventually(partial(side.caught_up, a, b))
            move(a, "p", ONLINE)
            await eventually(lambda: side.states() == {"p": ONLINE})
            with pytest.raises(HostAliveError, match="A is alive"):
                await side.intake.forget("A")
        assert await link.get(subjects.HOSTS, "A") is not None
        await eventually(lambda: any("A is lost" in each for each in side.pipeline.problems))
        assert (await side.intake.forget("A")).devices == 1
        assert side.states() == {}
        assert await link.get(subjects.HOSTS, "A") is None
        assert {(row.host, row.udid) for row in await side.store.fleet.all()} >= {("B", "")}
        assert ("A", "p") not in {(row.host, row.udid) for row in await side.store.fleet.all()}
        with pytest.raises(UnknownHostError):
            await side.intake.forget("A")
        async with running(a.run()):
            await eventually(lambda: side.states() == {"p": ONLINE})
            await eventually(partial(side.caught_up, a, b))
        assert await side.story("p") == [ONLINE]


async def test_what_is_deleted_at_the_broker_is_made_anew(tmp_path: Path, broker: Broker) -> None:
    a = agent(broker)
    async with (
        hub(tmp_path / "hub", broker) as side,
        running(a.run()),
        linked(broker) as link,
    ):
        await eventually(partial(side.caught_up, a))
        before, _ = await link.last_number(subjects.TRANSITIONS)
        await link.request(f"$JS.API.STREAM.DELETE.{subjects.TRANSITIONS}", b"", 5.0)

        async with asyncio.timeout(LIMIT):
            while True:
                with contextlib.suppress(LinkError):
                    if (await link.last_number(subjects.TRANSITIONS))[0] != before:
                        break
                await asyncio.sleep(0.02)
        move(a, "p", ONLINE)
        await eventually(lambda: side.states() == {"p": ONLINE})
        assert side.intake.link is not None


async def test_a_broker_that_stands_still_makes_nobody_lost(tmp_path: Path, broker: Broker) -> None:
    a = agent(broker)
    text = CONFIG.replace('"60s"', '"4s"') + "[hold]\nsource_grace = '0s'\n"
    async with hub(tmp_path / "hub", broker, text) as side, running(a.run()):
        await eventually(partial(side.caught_up, a))
        move(a, "p", ONLINE)
        await eventually(lambda: side.states() == {"p": ONLINE})
        broker.stop()
        await eventually(lambda: side.pipeline.blind, "blindness")
        assert not side.pipeline.derives
        broker.go_on()
        await eventually(lambda: not side.pipeline.blind, "sight")
        move(a, "p", UTILIZING)
        await eventually(partial(side.caught_up, a))
        assert await side.story("p") == [ONLINE, UTILIZING]


@asynccontextmanager
async def linked(broker: Broker) -> AsyncIterator[Link]:
    link = await dial(agent(broker, "x").fleet)
    try:
        yield link
    finally:
        await link.close()


async def test_a_broker_that_was_lost_is_named_when_the_next_one_is_dialled(
    tmp_path: Path, broker: Broker
) -> None:
    noting = NotingDial()
    async with hub(tmp_path / "hub", broker, dial=noting) as side:
        await eventually(lambda: side.intake.link is not None)
        first = side.intake.link
        await broker.restart()
        await eventually(lambda: side.intake.link not in {None, first})
    assert noting.lost[0] == ""
    assert set(noting.lost[1:]) == {broker.url}


async def test_nonsense_is_counted_and_holds_nobody_up(tmp_path: Path, broker: Broker) -> None:
    a = agent(broker)
    async with AsyncExitStack() as stack:
        side = await stack.enter_async_context(hub(tmp_path / "hub", broker))
        await eventually(lambda: side.intake.link is not None)
        await stack.enter_async_context(running(a.run()))
        await eventually(partial(side.caught_up, a))
        link = await stack.enter_async_context(linked(broker))
        before = len(a.host.log)
        move(a, "p", ONLINE)
        told = a.host.log[before]
        for number in range(3000):
            for body in (b"", b"{", b"\xff", told.model_dump_json().encode()):
                await link.publish(subjects.beat("evil"), body)
            with contextlib.suppress(Exception):
                await link.append(
                    subjects.t("evil"), b"[]" if number % 2 else b"x" * 99, f"{number}"
                )
            if number == 1500:
                move(a, "p", OFFLINE)
        move(a, "p", UTILIZING)
        await eventually(partial(side.caught_up, a))
        assert await side.story("p") == [ONLINE, OFFLINE, UTILIZING]
        assert side.intake.status.bad_messages > 100
