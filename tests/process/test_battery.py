"""Batteries in a whole agent: of phones on an adb server, shown everywhere, called back never."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.fakes.adb_server import BINARIES, RealAdbServer
from tests.fakes.phone import FakePhone
from tests.kit.agent import AgentProcess
from tests.kit.configs import only_adb
from tests.sources.test_adb_battery import LOLLIPOP

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.receiver import Receiver

CONFIG = """
{adb}probe_interval = "100ms"
[battery]
per_device_metrics = true
[[webhooks]]
name = "board"
url = "{url}"
events = ["online", "offline", "utilizing", "unplugged"]
"""
EMPTY = LOLLIPOP.replace("level: 64", "level: 9")
HOT = LOLLIPOP.replace("temperature: 283", "temperature: 466")


async def test_they_are_shown_and_gone_by_and_call_nobody_back(
    place: Path, tmp_path: Path, receiver: Receiver
) -> None:
    adb = RealAdbServer(BINARIES["bundled"], tmp_path)
    one, two, three = phones = FakePhone(), FakePhone(), FakePhone()
    config = CONFIG.format(adb=only_adb(adb.address), url=receiver.url())
    async with adb, one, two, three, AgentProcess(place, config) as agent:
        one.battery, two.battery = LOLLIPOP, EMPTY
        await agent.start()
        for phone in phones:
            await adb.register(phone)
            await agent.until_device(phone.serial, "state", "online")
        row = await agent.until_device(two.serial, "reason", "battery 9 %: low")
        assert (row["reason_code"], row["state"]) == ("battery_low", "online")
        assert row["battery"].pop("at") is not None
        assert row["battery"] == {
            "level": 9,
            "temperature": 28.3,
            "health": "good",
            "charging": True,
            "hot": False,
            "low": True,
        }
        one.battery = HOT
        await agent.until_device(one.serial, "reason", "battery 47 °C: too hot")
        assert (await agent.devices())[three.serial]["battery"] is None
        await agent.until_metric(
            r'devices_battery{condition="known"} 2',
            r'devices_battery{condition="hot"} 1',
            r'devices_battery{condition="low"} 1',
            r"device_agent_battery_temperature_max_celsius 46\.6",
            r"device_agent_battery_level_min_ratio 0\.09",
            rf'device_battery_level_ratio{{udid="{one.serial}"}} 0\.64',
            rf'device_battery_temperature_celsius{{udid="{one.serial}"}} 46\.6',
        )
        code, table, _ = await agent.cli("devices")
        assert code == 0
        assert "BATTERY" in table
        assert "9%+ 28°C" in table
        assert "64%+ 47°C" in table
        code, shown, _ = await agent.cli("devices", "--json")
        levels = {each["udid"]: each["battery"] for each in json.loads(shown)["devices"]}
        assert (code, levels[two.serial]["level"], levels[three.serial]) == (0, 9, None)
        _, told, _ = await agent.cli("doctor")
        assert "its battery is too hot" in told
        assert "its battery is low" in told
        lease = {"any": {"platform": "android"}, "holder": "alice"}
        _, given = await agent.api("POST", "/v1/leases", lease)
        assert given["udid"] == three.serial, "one of which nothing is known counts as fine"
        one.battery, two.battery = LOLLIPOP, LOLLIPOP
        await agent.until_metric(r'condition="hot"} 0', r'condition="low"} 0')
        rows = await agent.devices()
        assert {rows[phone.serial]["reason"] for phone in (one, two)} == {""}
        await agent.until_delivered()
        sent = [json.loads(request.body)["eventDescription"] for request in receiver.requests]
        assert sorted(sent) == ["Online"] * 3 + ["Utilizing"]
