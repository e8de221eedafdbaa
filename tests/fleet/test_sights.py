"""Whose phones a hub sees, as far as reports go: of hosts that are there, as their agents tell."""

from __future__ import annotations

import pytest

from agent.fleet.hub.seen_time import BLIND
from agent.fleet.telling import down_of
from agent.fleet.words import Heartbeat
from agent.history.watch import Sight
from agent.model import SourceName
from tests.fleet.world import World

ADB, USBMUX, UDEV = SourceName.ADB, SourceName.USBMUX, SourceName.UDEV
ALL = {ADB: True, USBMUX: True, UDEV: True}


async def test_a_host_is_seen_while_it_is_heard_and_all_it_said_is_taken() -> None:
    world = World()
    assert world.hub.sights() == {}
    await world.begin()
    assert {host: sight.sees for host, sight in world.hub.sights().items()} == {"A": ALL, "B": ALL}
    world.hosts["A"].cut = True
    await world.wait(10)
    sights = world.hub.sights()
    assert sights["A"].silent >= 10
    assert sights["B"].silent < 5
    await world.wait(120)
    assert world.hub.sights().keys() == {"B"}


async def test_a_blind_hub_sees_nobody() -> None:
    world = World()
    await world.begin()
    world.clock.advance(BLIND / 2)
    # It has not heard itself for so long, and so the host neither.
    assert world.hub.sights()["A"].silent == pytest.approx(BLIND / 2)
    world.clock.advance(BLIND)
    assert world.hub.sights() == {}


async def test_a_host_sees_what_its_agent_says() -> None:
    world = World()
    await world.begin()
    beat = world.hosts["A"].beat
    world.hub.core.beat(beat.model_copy(update={"down": ("adb", "a source that is to come")}))
    await world.done()
    assert world.hub.sights()["A"].sees == {ADB: False, USBMUX: True, UDEV: True}
    world.hub.core.beat(world.hosts["A"].beat)
    assert world.hub.sights()["A"].sees == ALL


@pytest.mark.parametrize(
    ("sees", "down"),
    [
        (ALL, ()),
        ({**ALL, UDEV: False}, ("udev",)),
        # A udev that is off, or was never there, is not needed; a bridge that is off sees nobody.
        ({ADB: True, USBMUX: True}, ()),
        ({ADB: False}, ("adb", "usbmux")),
    ],
)
def test_an_agent_tells_what_cannot_see(
    sees: dict[SourceName, bool], down: tuple[str, ...]
) -> None:
    assert down_of({"": Sight(sees)}) == down


def test_an_agent_that_derives_nothing_sees_nothing() -> None:
    assert set(down_of({})) == set(SourceName)


def test_an_older_agent_tells_of_no_source() -> None:
    assert Heartbeat(host="A", epoch=1, instance="i", last=0).down == ()
