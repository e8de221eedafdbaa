"""What a device went through, as operators ask for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from agent.history.watch import Written
from agent.model import DeviceState, SourceName
from agent.service.devices import Devices
from agent.service.history import MOST, History
from agent.track.watching import Watching
from tests.kit.tracking import ONLY_ANDROID, House, adb, house, usb

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3_600_000
DAY = 24 * HOUR
ONLINE, OFFLINE = DeviceState.ONLINE, DeviceState.OFFLINE


def service(h: House) -> History:
    watching = Watching(h.store.watching, dict, h.clock)
    return History(h.pipeline, h.store, Devices(h.pipeline, "rack-1"), watching)


async def come_and_go(h: House, times: int, until: int) -> None:
    """One transition a second, the last one then."""
    (first,) = await h.store.transitions.of("S1", 1)
    (record,) = await h.store.devices.all()
    moves = [
        replace(
            first.transition,
            previous=OFFLINE if number % 2 else ONLINE,
            state=ONLINE if number % 2 else OFFLINE,
            at_ms=until - (times - number) * 1_000,
        )
        for number in range(times)
    ]
    await asyncio.gather(*(h.store.record(record, each, ()) for each in moves))


async def test_a_week_that_is_over_is_told_however_much_came_after_it(tmp_path: Path) -> None:
    async with house(tmp_path, ONLY_ANDROID) as h:
        h.see(usb("S1", "1-4.1"), adb("S1", "1-4.1"))
        h.wait(60)
        await h.came()
        h.clock.advance(20 * DAY / 1000)
        await come_and_go(h, MOST + 100, h.clock.wall_ms())
        past = {"since": "21d", "until": "10d"}
        told = await service(h).of("S1", past)
        assert [each["state"] for each in told["spans"]] == [ONLINE]
        assert not told["truncated"]
        (line,) = (await service(h).picture(past, ()))["devices"]
        assert [each["state"] for each in line["spans"]] == [ONLINE]

        told = await service(h).of("S1", {"since": "21d"})
        assert len(told["spans"]) == MOST
        assert told["truncated"]
        before = await service(h).of("S1", {"since": "30d", "until": "25d"})
        assert (before["spans"], before["unseen"], before["truncated"]) == ([], [], False)


async def test_an_adb_server_that_dies_all_day_makes_no_endless_answer(tmp_path: Path) -> None:
    async with house(tmp_path, ONLY_ANDROID) as h:
        ports = [f"1-4.{number}" for number in range(1, 5)]
        h.see(*(one(f"S{port}", port) for port in ports for one in (usb, adb)))
        h.wait(60)
        await h.came()
        begin = h.clock.wall_ms()
        sees = [{SourceName.ADB: up, SourceName.UDEV: True} for up in (True, False)]
        await h.store.watching.put(
            [
                Written("", begin + n * 10_000, begin + (n + 1) * 10_000, sees[n % 2])
                for n in range(8_000)
            ]
        )
        h.clock.advance(80_000)
        told = await service(h).of(f"S{ports[0]}", {"since": "1d"})
        assert 900 <= len(told["unseen"]) <= 1_000
        picture = await service(h).picture({}, ())
        assert [len(each["unseen"]) <= 50 for each in picture["devices"]] == [True] * 4
        assert all(each["unseen"] for each in picture["devices"])
