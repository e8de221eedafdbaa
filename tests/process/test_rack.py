"""A rack (tests/kit/rack.py): its phones hang there whatever becomes of the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.model import Bridge, Platform
from agent.sources.simulated import Phone
from tests.kit.configs import AT_ONCE
from tests.kit.rack import Rack

if TYPE_CHECKING:
    from pathlib import Path

PHONE = Phone("ce0917198075440c057e", "Galaxy Note 8", "1-1", Platform.ANDROID)
IPHONE = Phone("00008120-000A2D3C0E91801E", "Lab iPhone 15", "2-1", Platform.IOS)


async def test_phones_hang_there_whether_it_runs_or_not(place: Path) -> None:
    async with Rack(place, AT_ONCE) as rack:
        rack.plug(PHONE)
        await rack.start()
        await rack.until_device(PHONE.serial, "state", "online")
        rack.plug(IPHONE, Bridge.NOT_READY, "not trusted")
        row = await rack.until_device(IPHONE.serial, "state", "offline")
        assert row["reason"] == "not trusted"
        rack.plug(IPHONE)
        await rack.until_device(IPHONE.serial, "state", "online")
        await rack.kill()
        rack.unplug(PHONE)
        rack.plug(IPHONE, Bridge.NOT_READY, "locked")
        await rack.start()
        await rack.until_device(PHONE.serial, "state", "unplugged")
        await rack.until_device(IPHONE.serial, "reason", "locked")
        assert [phone.serial for phone in rack.phones] == [IPHONE.serial]


async def test_it_ends_with_who_started_it(place: Path) -> None:
    async with Rack(place, AT_ONCE) as rack:
        await rack.start()
        assert rack.process is not None
        assert rack.process.stdin is not None
        rack.process.stdin.close()
        assert await rack.ended() == 0
        assert any("rack.left_alone" in line for line in rack.log)
