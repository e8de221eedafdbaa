"""Webhooks with `after` at the hub: as at an agent, by the hub's own time, with ids alike."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import parse
from agent.deliver.outbox import Outbox
from agent.model import DeviceState
from agent.track.derive import CALLS_BACK
from tests.fleet.test_walks import _WALK, Walk
from tests.fleet.world import (
    CONFIG,
    GONE_AFTER,
    LOST_AFTER,
    MOVE_HOLD,
    OFFLINE,
    ONLINE,
    UNPLUGGED,
    World,
)
from tests.kit.alone import EachAlone
from tests.kit.examples import examples, worlds
from tests.kit.seed import seed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.kit.alone import Told

TICK = 2
HEAD = CONFIG.partition("[[webhooks]]")[0]


def text(hooks: Mapping[int, float]) -> str:
    return HEAD + "".join(
        f'[[webhooks]]\nid = {id_}\nname = "hook {id_}"\nurl = "http://127.0.0.1:1/"\n'
        'events = ["online", "offline", "utilizing", "unplugged"]\npayload = "extended"\n'
        f'after = "{after:g}s"\n'
        for id_, after in hooks.items()
    )


def told(world: World) -> dict[int, list[Told]]:
    """What each webhook was told, and what it is told of the state before."""
    found: dict[int, list[Told]] = {}
    for callback in world.store.callbacks:
        assert callback.state is not None
        previous = json.loads(callback.body)["previousState"]
        move = None if previous is None else DeviceState(previous)
        found.setdefault(callback.webhook_id, []).append((move, callback.state))
    return found


def ids(world: World) -> list[tuple[int, str, str | None]]:
    return [(each.webhook_id, each.message_id, each.state) for each in world.store.callbacks]


async def begun(hooks: Mapping[int, float], names: str = "A") -> World:
    world = World(names, text(hooks))
    await world.begin()
    return world


async def move(world: World, state: DeviceState, host: str = "A") -> None:
    world.hosts[host].move("p", state)
    await world.flow()


async def come_back(world: World) -> None:
    """The hub begins again, and hears."""
    await world.restart()
    world.hear_itself()
    await world.beat()
    world.hear_itself()
    await world.done()


def waits(world: World) -> str:
    return world.store.devices["p"].waits


async def test_back_in_time_costs_nothing_and_what_lasts_is_told(tmp_path: object) -> None:
    world = await begun({1: 60, 2: 0})
    await move(world, ONLINE)
    assert told(world) == {2: [(None, ONLINE)]}
    await world.wait(60)
    assert told(world)[1] == [(None, ONLINE)]
    await move(world, OFFLINE)
    (wait,) = world.hub.waits("p")
    assert (wait.webhook, wait.previous) == (1, ONLINE)
    assert world.hub.wait_count == 1
    await world.wait(58)
    await move(world, ONLINE)
    assert waits(world) == ""
    await world.wait(600)
    assert told(world) == {
        1: [(None, ONLINE)],
        2: [(None, ONLINE), (ONLINE, OFFLINE), (OFFLINE, ONLINE)],
    }


async def test_two_hubs_make_the_same_ids() -> None:
    """Whoever begins again in between, too; and whichever of them has the wait from the other."""

    async def run(*, restarts: bool) -> World:
        world = await begun({1: 20, 2: 0})
        for state in (ONLINE, OFFLINE, UNPLUGGED, ONLINE):
            await move(world, state)
            if restarts:
                await world.wait(6)
                await come_back(world)
                await world.wait(30)
            else:
                await world.wait(36)
        return world

    one, other = await run(restarts=False), await run(restarts=True)
    assert sorted(ids(one)) == sorted(ids(other))
    assert [state for hook, _, state in ids(one) if hook == 1] == [
        ONLINE,
        OFFLINE,
        UNPLUGGED,
        ONLINE,
    ]
    assert len({id_ for _, id_, _ in ids(one)}) == len(ids(one))


async def test_a_host_that_was_lost_has_to_say_that_the_phone_stayed() -> None:
    for stayed in (True, False):
        world = await begun({1: 100})
        await move(world, ONLINE)
        await world.wait(100)
        await move(world, OFFLINE)
        await world.wait(40)
        world.hosts["A"].cut = True
        await world.wait(LOST_AFTER + 10)
        assert told(world)[1] == [(None, ONLINE)], "its time has come, and nobody can see it"
        world.hosts["A"].cut = False
        if not stayed:
            world.hosts["A"].move("p", ONLINE)
        await world.beat()
        await world.wait(2)
        expected = [(None, ONLINE), (ONLINE, OFFLINE)] if stayed else [(None, ONLINE)]
        assert told(world)[1] == expected
        await world.wait(300)
        assert told(world)[1] == expected


async def test_a_host_that_is_gone_is_told_once_that_has_lasted() -> None:
    world = await begun({1: 100})
    await move(world, ONLINE)
    await world.wait(100)
    world.hosts["A"].cut = True
    await world.wait(GONE_AFTER + 90)
    assert told(world)[1] == [(None, ONLINE)]
    await world.wait(10)
    assert told(world)[1] == [(None, ONLINE), (ONLINE, OFFLINE)]
    assert b"host A is lost" in world.store.callbacks[-1].body


async def test_a_phone_that_is_carried_to_another_host_waits_on() -> None:
    world = await begun({1: 100}, "AB")
    await move(world, OFFLINE)
    await world.wait(60)
    world.hosts["A"].move("p", UNPLUGGED)
    world.hosts["B"].move("p", OFFLINE)
    await world.flow()
    assert world.owner("p") == "B"
    await world.wait(38)
    assert told(world) == {}
    await world.wait(2)
    assert told(world) == {1: [(None, OFFLINE)]}
    assert json.loads(world.store.callbacks[0].body)["host"] == "B"


async def test_blind_time_does_not_count() -> None:
    world = await begun({1: 100})
    await move(world, OFFLINE)
    await world.wait(60)
    await world.wait(500, blind=True)
    world.hear_itself()
    await world.wait(38)
    assert told(world) == {}
    await world.wait(4)
    assert told(world) == {1: [(None, OFFLINE)]}


@pytest.mark.parametrize("jump", [-3600, 3600])
async def test_a_clock_that_is_set_changes_nothing_for_who_begins_again(jump: int) -> None:
    world = await begun({1: 100})
    await move(world, OFFLINE)
    await world.wait(20)
    world.clock.set_wall(jump)
    await world.wait(20)
    await come_back(world)
    await world.wait(58)
    assert told(world) == {}
    await world.wait(4)
    assert told(world) == {1: [(None, OFFLINE)]}


async def test_all_of_a_fleet_are_due_at_once() -> None:
    """What is told in one turn is bounded; the rest comes with the next."""
    world = await begun({1: 20, 2: 20})
    for n in range(50):
        world.hosts["A"].move(f"phone{n}", ONLINE)
    await world.flow()
    assert world.hub.wait_count == 100
    for _ in range(9):
        world.clock.advance(TICK)
        world.hear_itself()
    await world.done()
    world.clock.advance(TICK)
    world.hear_itself()
    turns = 0
    while world.hub.core.pay(0.0):
        turns += 1
    assert turns == 49
    await world.done()
    assert {each: len(moves) for each, moves in told(world).items()} == {1: 50, 2: 50}
    assert world.hub.wait_count == 0


class Alike:
    """A hub with one phone of one host, and each webhook alone."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.hooks = self.some_hooks()
        self.world = World("A", text(self.hooks))
        self.expected = EachAlone(self.hooks)
        self.host = self.world.hosts["A"]
        self.state: DeviceState | None = None
        self.silenced = False
        self.before: dict[int, int] = {}
        """How many callbacks went to webhooks that were there before, by id."""

    def know(self, hooks: dict[int, float]) -> None:
        found = told(self.world)
        self.before |= {each: len(found.get(each, ())) for each in hooks.keys() - self.hooks.keys()}
        self.hooks = hooks

    def some_hooks(self) -> dict[int, float]:
        chosen = self.rng.sample(range(1, 6), self.rng.randrange(1, 5))
        return {each: self.rng.choice([0, 0, 2, 6, 20, 40]) for each in sorted(chosen)}

    async def step(self) -> None:
        rng, world = self.rng, self.world
        match rng.choice(["enter", "enter", "wait", "wait", "silence", "reload", "restart"]):
            case "enter":
                state = rng.choice([ONLINE, OFFLINE, DeviceState.UTILIZING])
                if state is not self.state:
                    self.state = state
                    await move(world, state)
                    self.expected.enter(state)
            case "wait":
                await self.wait(rng.choice([0, 1, 2, 3, 10, 20]))
            case "silence" if self.state is not None:
                self.silenced = not self.silenced
                self.host.silence("p", 1e6 if self.silenced else None)
                world.hub.core.glimpse(self.host.snapshot)
                await world.done()
                self.expected.silence(on=self.silenced)
            case "reload":
                self.know(self.some_hooks())
                config = parse(text(self.hooks), "t")
                webhooks = {hook.id or 0: hook for hook in config.webhooks}
                world.hub.commits.outbox = Outbox(webhooks, config.org_of, "hub")
                world.hub.reconfigure(config)
                await world.done()
                self.expected.reload(self.hooks)
            case "restart":
                await self.restart()
        self.check()

    async def wait(self, ticks: int) -> None:
        for _ in range(ticks):
            await self.world.wait(TICK)
            self.expected.wait(TICK)

    async def restart(self) -> None:
        world, rng = self.world, self.rng
        down = rng.choice([0, TICK, 30])
        world.clock.advance(down)
        self.know(rng.choice([self.hooks, self.some_hooks()]))
        world.text = text(self.hooks)
        if self.state is not None:
            found = rng.choice([self.state, ONLINE, OFFLINE])
            self.host.move("p", found)
            self.state = found
        self.expected.restart(down, self.hooks, self.state, silenced=self.silenced)
        await come_back(world)
        world.hub.core.glimpse(self.host.snapshot)
        await world.done()

    def check(self) -> None:
        found = told(self.world)
        for each, moves in self.expected.told.items():
            assert found.get(each, [])[self.before.get(each, 0) :] == moves, each


@pytest.mark.parametrize("number", worlds(12))
async def test_each_webhook_is_told_what_it_would_be_told_alone(number: int) -> None:
    alike = Alike(random.Random(seed(number)))
    await alike.world.begin()
    for _ in range(60):
        await alike.step()


@settings(max_examples=examples(40), deadline=None)
@given(st.integers(2, 3), _WALK)
def test_whatever_happens_to_a_fleet(hosts: int, walk: list[tuple[str, int, int]]) -> None:
    """No state is told twice running, and in the end each goes by what is true."""

    async def body() -> None:
        made = Walk(World("ABC"[:hosts], text({1: 0, 2: 30, 3: 600})), ("p", "q"))
        await made.world.begin()
        for op, a, b in walk:
            await made.step(op, a, b)
        await made.end()
        await made.world.wait(700 + MOVE_HOLD)
        world = made.world
        assert len({id_ for _, id_, _ in ids(world)}) == len(ids(world))
        goes: dict[tuple[int, str], DeviceState | None] = {}
        for callback in world.store.callbacks:
            lane = callback.webhook_id, callback.udid
            previous = json.loads(callback.body)["previousState"]
            before = None if previous is None else DeviceState(previous)
            assert (before, callback.state) in CALLS_BACK
            last = goes.get(lane)
            assert last is before or (last, before) not in CALLS_BACK, lane
            goes[lane] = callback.state
        for udid, record in world.store.devices.items():
            if world.hub.core.board.of(udid) is not None:
                assert record.waits == "", udid
                for webhook in (1, 2, 3):
                    last = goes.get((webhook, udid))
                    assert last is record.state or (last, record.state) not in CALLS_BACK

    asyncio.run(body())
