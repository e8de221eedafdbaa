"""A phone in somebody's hands, and a hub that takes its hosts' logs one before the other.

Whatever was taken first: one that went to another host and back was not unplugged, and one that
came back where it left was.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.fleet.hub.board import MOST_WAITS
from tests.fleet.world import (
    CONFIG,
    GONE_AFTER,
    MOVE_HOLD,
    OFFLINE,
    ONLINE,
    UNPLUGGED,
    UTILIZING,
    World,
)
from tests.kit.examples import examples

if TYPE_CHECKING:
    from agent.model import DeviceState

HEARD = 8.0
"""Seconds in which each host is heard after anything that happened."""
_ORDER = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(("row", "row", "log", "beat"))))
_CARRIED = st.text("ABC", min_size=2, max_size=7).filter(
    lambda path: all(a != b for a, b in itertools.pairwise(path))
)


async def take_in(world: World, order: list[tuple[int, str]], *, crash: int = -1) -> None:
    """What each host has, in that order, and at last all of it."""
    for number, (which, what) in enumerate(order):
        name = "ABC"[which]
        host, known = world.hosts[name], world.hub.core.hosts[name]
        if what == "beat":
            world.hub.core.beat(host.beat)
            await world.done()
            world.clock.advance(2.0)
            world.hear_itself()
            await world.done()
        else:
            await world.deliver(name, known.cursor + 1, 1 if what == "row" else 100)
        if number == crash:
            await world.restart()
            world.hear_itself()
    await world.flow()
    await world.wait(HEARD)
    assert not any(told.waits for told in world.hub.core.board.words())


def carry(world: World, path: str) -> None:
    """From host to host."""
    for before, after in itertools.pairwise(path):
        world.hosts[before].move("p", UNPLUGGED)
        world.hosts[after].move("p", ONLINE)


@settings(max_examples=examples(400), deadline=None)
@given(
    _CARRIED,
    _ORDER,
    st.integers(-1, 8),
)
def test_who_was_carried_was_not_unplugged(
    path: str, order: list[tuple[int, str]], crash: int
) -> None:
    """With a hub that ends in between."""

    async def body() -> None:
        world = World("ABC")
        await world.begin()
        world.hosts[path[0]].move("p", ONLINE)
        await world.flow()
        await world.wait(HEARD)
        carry(world, path)
        await take_in(world, order, crash=crash)
        assert (world.story("p"), world.owner("p")) == ([ONLINE], path[-1])
        await world.wait(3 * MOVE_HOLD)
        assert (world.story("p"), world.owner("p")) == ([ONLINE], path[-1])

    asyncio.run(body())


@settings(max_examples=examples(200), deadline=None)
@given(
    st.lists(st.sampled_from((ONLINE, OFFLINE, UTILIZING, UNPLUGGED)), min_size=1, max_size=12),
    _ORDER,
    st.integers(-1, 8),
)
def test_who_stayed_is_told_of_wholly(
    states: list[DeviceState], order: list[tuple[int, str]], crash: int
) -> None:
    """The other hosts have phones of their own."""

    async def body() -> None:
        world = World("ABC")
        await world.begin()
        for state in (ONLINE, *states):
            world.hosts["A"].move("p", state)
            for name in "BC":
                world.hosts[name].move(f"of {name}", state)
        await take_in(world, order, crash=crash)
        await world.wait(2 * MOVE_HOLD)
        for name, serial in (("A", "p"), ("B", "of B"), ("C", "of C")):
            log = [told.device.state for told in world.hosts[name].log]
            assert world.story(serial) == log
        ids = [each.message_id for each in world.store.callbacks]
        assert len(ids) == len(set(ids))

    asyncio.run(body())


@settings(max_examples=examples(200), deadline=None)
@given(st.text("ABC", min_size=1, max_size=12), st.lists(st.sampled_from((0.0, 2.0, 12.0))))
def test_what_is_heard_as_it_happens_is_told_as_it_was(path: str, pauses: list[float]) -> None:
    """It came back where it left, or went elsewhere; each is heard before the next one happens."""

    async def body() -> None:
        world = World("ABC")
        await world.begin()
        world.hosts[path[0]].move("p", ONLINE)
        await world.flow()
        await world.wait(HEARD)
        story = [ONLINE]
        for number, (before, after) in enumerate(itertools.pairwise(path)):
            world.hosts[before].move("p", UNPLUGGED)
            await world.flow()
            world.hosts[after].move("p", ONLINE)
            await world.flow()
            await world.wait(HEARD + (pauses[number] if number < len(pauses) else 0.0))
            story += [UNPLUGGED, ONLINE] if before == after else []
        assert (world.story("p"), world.owner("p")) == (story, path[-1])

    asyncio.run(body())


@pytest.fixture
async def world() -> World:
    made = World("ABC")
    await made.begin()
    made.hosts["A"].move("p", ONLINE)
    await made.flow()
    await made.wait(HEARD)
    return made


async def test_what_it_did_where_it_came_back_is_told_behind_it(world: World) -> None:
    host = world.hosts["A"]
    for state in (UNPLUGGED, ONLINE, OFFLINE, UTILIZING):
        host.move("p", state)
    await world.flow()
    assert world.story("p") == [ONLINE]
    host.move("p", OFFLINE)
    await world.wait(HEARD)
    assert world.story("p") == [ONLINE, UNPLUGGED, ONLINE, OFFLINE, UTILIZING, OFFLINE]


async def test_what_it_did_at_each_is_told_in_order(world: World) -> None:
    """A's log is taken first."""
    carry(world, "AB")
    world.hosts["B"].move("p", UTILIZING)
    carry(world, "BA")
    world.hosts["A"].move("p", OFFLINE)
    for name in "AB":
        await world.deliver(name, world.hub.core.hosts[name].cursor + 1, 9)
    await world.wait(HEARD)
    assert world.story("p") == [ONLINE, UTILIZING, ONLINE, OFFLINE]
    assert world.owner("p") == "A"


async def test_back_where_it_left_and_then_elsewhere(world: World) -> None:
    """Quicker than the others are heard."""
    carry(world, "AAB")
    for name in "AB":
        await world.deliver(name, world.hub.core.hosts[name].cursor + 1, 9)
    assert (world.story("p"), world.owner("p")) == ([ONLINE], "B")
    await world.wait(2 * HEARD)
    assert (world.story("p"), world.owner("p")) == ([ONLINE, UNPLUGGED, ONLINE], "B")


async def test_a_host_that_is_gone_ends_the_wait(world: World) -> None:
    world.hosts["B"].cut = True
    carry(world, "AA")
    await world.flow()
    await world.wait(GONE_AFTER - HEARD)
    assert world.story("p") == [ONLINE]
    await world.wait(2 * HEARD)
    assert world.story("p") == [ONLINE, UNPLUGGED, ONLINE]


async def test_so_much_waits_and_no_more(world: World) -> None:
    host = world.hosts["A"]
    world.hosts["B"].cut = True
    host.move("p", UNPLUGGED)
    for number in range(MOST_WAITS):
        host.move("p", (ONLINE, OFFLINE)[number % 2])
    await world.flow()
    assert world.story("p") == [ONLINE]
    host.move("p", UTILIZING)
    await world.flow()
    assert world.story("p") == [ONLINE, *(told.device.state for told in host.log[1:])]


async def test_a_log_that_ends_waits_no_more(world: World) -> None:
    host = world.hosts["A"]
    carry(world, "AA")
    await world.flow()
    host.begin_anew(empty=False)
    await world.beat("A")
    assert world.story("p") == [ONLINE, UNPLUGGED, ONLINE]


async def test_without_a_hold_nobody_is_waited_for() -> None:
    world = World("AB", text=CONFIG.replace('"10s"', '"0s"'))
    await world.begin()
    world.hosts["A"].move("p", ONLINE)
    carry(world, "AA")
    await world.flow()
    assert world.story("p") == [ONLINE, UNPLUGGED, ONLINE]


async def test_a_silence_that_begins_meanwhile_holds(world: World) -> None:
    host = world.hosts["A"]
    carry(world, "AA")
    await world.flow()
    host.silence("p", 300.0)
    world.hub.core.glimpse(host.snapshot)
    await world.done()
    await world.wait(HEARD)
    assert world.story("p") == [ONLINE, UNPLUGGED, ONLINE]
    assert list(world.told("p")) == [ONLINE]


async def test_what_waits_of_a_host_that_is_forgotten_is_told(world: World) -> None:
    carry(world, "AA")
    await world.flow()
    assert world.story("p") == [ONLINE]
    world.hub.core.drop("A")
    await world.done()
    assert world.story("p") == [ONLINE, UNPLUGGED, ONLINE]


async def test_a_visit_of_long_ago_does_not_stand_for_one_of_now(world: World) -> None:
    """It was carried there and back, and is plugged in anew at the same host later."""
    carry(world, "ABCA")
    for name in "BCA":
        await world.deliver(name, world.hub.core.hosts[name].cursor + 1, 9)
    await world.wait(HEARD)
    carry(world, "AA")
    await world.flow()
    await world.wait(HEARD)
    assert (world.story("p"), world.owner("p")) == ([ONLINE, UNPLUGGED, ONLINE], "A")
