"""Batteries in a fleet: told by the agents, shown and gone by at the hub, and kept nowhere."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.clock import LoopClock
from agent.fleet import subjects
from agent.fleet.session import BATTERIES_LATER
from agent.fleet.telling import device_told
from agent.fleet.words import BadMessageError, BatteryTold, DeviceTold, pack, unpack
from agent.model import Battery, BatteryHealth, BatteryRead, DeviceState, Platform
from agent.service.devices import device_row
from tests.fleet.agent_side import HOST, Hub, agent, fleet_of
from tests.fleet.world import GONE_AFTER, ONLINE, World
from tests.kit.tracking import ADB, adb, house, usb
from tests.kit.waiting import LIMIT, eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.clock import Timer
    from tests.kit.broker import Broker

TOLD = BatteryTold(level=9, temperature=31.5, health="good", charging=False, low=True, at_ms=7)
KNOWN = Battery(9, 31.5, BatteryHealth.GOOD, charging=False, low=True, at_ms=7)


async def test_an_agent_tells_it_as_it_is_shown(tmp_path: Path) -> None:
    async with house(tmp_path) as made:
        made.see(usb("A"), adb("A"))
        await made.pipeline.commits.drain()
        (found,) = (await made.store.log.snapshot()).devices
        assert device_told(*found, made.pipeline.views, 0).battery is None
        made.pipeline.observe(BatteryRead(ADB, "A", replace(KNOWN, low=False, at_ms=0)))
        told = device_told(*found, made.pipeline.views, 0)
        assert told.battery == TOLD.model_copy(update={"at_ms": made.clock.wall_ms()})
        assert unpack(DeviceTold, pack(told), "") == told


def test_versions_live_side_by_side() -> None:
    plain = DeviceTold(udid="A", platform=Platform.ANDROID, state=DeviceState.ONLINE, since_ms=1)
    assert unpack(DeviceTold, pack(plain), "").battery is None
    text = pack(plain.model_copy(update={"battery": TOLD})).decode()
    newer = text.replace('"level":9', '"level":9,"cycles":800').replace('"good"', '"swollen"')
    battery = unpack(DeviceTold, newer.encode(), "").battery
    assert battery == TOLD.model_copy(update={"health": "swollen"})
    for nonsense in ('"level":-1', '"level":"full"', '"level":101', '"at_ms":1e99', '"low":3'):
        key = nonsense.partition(":")[0]
        odd = text.replace(f"{key}:9", nonsense).replace(f"{key}:7", nonsense)
        odd = odd.replace(f"{key}:true", nonsense)
        assert odd != text
        with pytest.raises(BadMessageError):
            unpack(DeviceTold, odd.encode(), "")


def tell(world: World, battery: BatteryTold | None) -> None:
    host = world.hosts["A"]
    host.devices["x"] = host.devices["x"].model_copy(update={"battery": battery})
    world.hub.core.glimpse(host.snapshot)


def known(world: World) -> Battery | None:
    view = world.hub.views.one("x")
    assert view is not None
    assert world.hub.views.battery("x") == view.battery
    return view.battery


async def test_a_hub_shows_it_and_keeps_nothing_of_it() -> None:
    world = World()
    world.hosts["A"].move("x", ONLINE)
    await world.begin()
    stored, moves = dict(world.store.rows), len(world.store.moves)
    for battery, shown in (
        (TOLD, KNOWN),
        (TOLD.model_copy(update={"level": 8}), replace(KNOWN, level=8)),
        (TOLD.model_copy(update={"health": "swollen"}), replace(KNOWN, health=None)),
        (None, None),
        (TOLD, KNOWN),
    ):
        world.changed.clear()
        tell(world, battery)
        await world.done()
        assert known(world) == shown
        assert "x" in world.changed
    assert world.store.rows == stored
    assert len(world.store.moves) == moves
    view = world.hub.views.one("x")
    assert view is not None
    row = device_row(view, "hub")["battery"]
    assert row is not None
    assert (row["level"], row["temperature"], row["low"]) == (9, 31.5, True)
    await world.restart()
    assert known(world) is None, "unknown until it is told anew"
    await world.begin()
    tell(world, TOLD)
    await world.done()
    assert known(world) == KNOWN


async def test_that_of_a_host_that_is_silent_is_not_known() -> None:
    world = World()
    world.hosts["A"].move("x", ONLINE)
    await world.begin()
    tell(world, TOLD)
    await world.done()
    world.hosts["A"].cut = True
    await world.wait(GONE_AFTER + 10)
    assert known(world) is None


async def test_what_else_its_word_changes_is_stored_with_it() -> None:
    world = World()
    world.hosts["A"].move("x", ONLINE)
    await world.begin()
    stored = dict(world.store.rows)
    host = world.hosts["A"]
    host.devices["x"] = host.devices["x"].model_copy(update={"battery": TOLD, "name": "Rack 3"})
    world.hub.core.glimpse(host.snapshot)
    await world.done()
    assert known(world) == KNOWN
    assert world.store.rows != stored
    assert "battery" not in "".join(row.said for row in world.store.rows.values())


class _Clock(LoopClock):
    """The real one; the wait for changed batteries ends when the test says so."""

    def __init__(self) -> None:
        self.waits: list[Callable[..., object]] = []

    def call_later(self, delay: float, callback: Callable[..., object], *args: object) -> Timer:
        if delay != BATTERIES_LATER:
            return super().call_later(delay, callback, *args)
        self.waits.append(callback)
        return asyncio.get_running_loop().call_later(3600.0, callback)


async def test_a_thousand_batteries_that_change_are_one_snapshot_in_a_while(
    tmp_path: Path, broker: Broker
) -> None:
    fleet, clock = fleet_of(broker.url), _Clock()
    hub = await Hub(fleet).start()
    async with agent(tmp_path / "a", fleet, clock=clock) as made:
        await eventually(lambda: made.status.snapshot_bytes)
        assert hub.link is not None
        first = await hub.link.get(subjects.HOSTS, HOST)
        assert first is not None
        for _ in range(1_000):
            made.uplink.batteries_changed()
        assert len(clock.waits) == 1
        clock.waits.pop()()
        async with asyncio.timeout(LIMIT):
            while True:
                entry = await hub.link.get(subjects.HOSTS, HOST)
                assert entry is not None
                if entry.revision != first.revision:
                    break
        made.uplink.batteries_changed()
        assert len(clock.waits) == 1
    await hub.stop()
