"""What an agent says of its phones' past: what nobody saw is no time in which they were online."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agent.clock import LoopClock
from agent.model import Bridge, Platform
from agent.sources.simulated import Phone
from tests.kit.rack import Rack

if TYPE_CHECKING:
    from pathlib import Path

NOTE = Phone("ce0917198075440c057e", "Galaxy Note 8", "1-1.2", Platform.ANDROID)
IPHONE = Phone("00008120-000A2D3C0E91801E", "Lab iPhone 15", "2-1", Platform.IOS)
CONFIG = """
[hold]
offline = "0s"
unplugged = "0s"
"""


async def test_the_time_in_which_no_agent_ran_is_nobodys(place: Path) -> None:
    async with Rack(place, CONFIG) as rack:
        rack.plug(NOTE)
        rack.plug(IPHONE)
        await rack.start()
        await rack.until_device(NOTE.serial, "state", "online")
        await rack.kill()
        died = LoopClock().wall_ms()

        rack.unplug(NOTE)
        began = LoopClock().wall_ms()
        await rack.start()
        await rack.until_device(NOTE.serial, "state", "unplugged")
        _, told = await rack.api("GET", f"/v1/devices/{NOTE.serial}/history")
        _, report = await rack.api("GET", "/v1/report?since=1h")

    online, unplugged = told["spans"]
    assert (online["state"], unplugged["state"]) == ("online", "unplugged")
    assert unplugged["to"] == told["until"]
    (gap,) = told["unseen"]
    assert "not running" in gap["why"]
    assert ms(gap["from"]) <= died
    assert began <= ms(gap["to"]) <= ms(unplugged["from"]) + 5_000
    assert not told["truncated"]

    assert report["until"] >= told["until"]
    rows = {row["key"]: row for row in report["rows"]}
    assert rows.keys() == {NOTE.serial, IPHONE.serial}
    for row in [*rows.values(), report["total"]]:
        assert row["seen_ms"] == sum(
            row[f"{state}_ms"] for state in ("online", "utilizing", "offline", "unplugged")
        )
    note = rows[NOTE.serial]
    assert note["unseen_ms"] == ms(gap["to"]) - ms(gap["from"])
    assert note["seen_ms"] + note["unseen_ms"] == ms(report["until"]) - ms(online["from"])
    assert note["unplugged_count"] == 1
    assert rows[IPHONE.serial]["availability"] == 1
    assert report["total"]["devices"] == 2


async def test_a_phone_that_is_back_was_repaired(place: Path) -> None:
    async with Rack(place, CONFIG) as rack:
        rack.plug(NOTE)
        await rack.start()
        rack.plug(NOTE, Bridge.NOT_READY, "unauthorized")
        await rack.until_device(NOTE.serial, "state", "offline")
        rack.plug(NOTE)
        await rack.until_device(NOTE.serial, "state", "online")
        _, told = await rack.api("GET", f"/v1/devices/{NOTE.serial}/history?since=1h")
        _, report = await rack.api("GET", "/v1/report?since=1h&by=platform")
    states = [span["state"] for span in told["spans"]]
    assert states == ["online", "offline", "online"]
    assert told["unseen"] == []
    offline = told["spans"][1]
    (row,) = report["rows"]
    assert row["key"] == "android"
    assert row["repair_ms_mean"] == row["offline_ms"] == ms(offline["to"]) - ms(offline["from"])
    assert (row["offline_count"], row["flaps"]) == (1, 1)
    assert [reason["ms"] for reason in row["reasons"]] == [row["offline_ms"]]


async def test_the_commands_show_it_and_say_what_is_wrong(place: Path) -> None:
    named = f'{CONFIG}[[devices]]\nudid = "{NOTE.serial}"\nname = "=cmd()"\ntags = ["rack-1"]\n'
    async with Rack(place, named) as rack:
        rack.plug(NOTE)
        await rack.start()
        await rack.until_device(NOTE.serial, "state", "online")

        code, out, _ = await rack.cli("history", NOTE.serial.upper())
        assert code == 0
        assert out.splitlines()[0].split()[0] == "FROM"
        assert "online" in out.splitlines()[1]
        code, out, _ = await rack.cli("history", NOTE.serial, "--csv", "--since", "1h")
        assert out.splitlines()[0].startswith("from,to,ms,state,seen,")
        assert ",online,true," in out.splitlines()[1]
        code, out, _ = await rack.cli("history", NOTE.serial, "--json")
        assert json.loads(out)["udid"] == NOTE.serial
        code, out, _ = await rack.cli("report", "--by", "tag")
        assert code == 0
        assert "rack-1" in out
        code, out, _ = await rack.cli("report", "--csv")
        assert f"{NOTE.serial},'=cmd(),1," in out.splitlines()[1]
        code, out, _ = await rack.cli("report", "--json", "--since", "2d", "--until", "1d")
        assert json.loads(out)["rows"] == []

        for words, said in (
            (("history", "ce0917198075440c057f"), "did you mean ce0917198075440c057e"),
            (("history", NOTE.serial, "--since", "tomorrow"), "'since' is 'tomorrow'"),
            (("report", "--since", "1d", "--until", "2d"), "not before 'until'"),
            (("report", "--since", "2999-01-01"), "not in the past"),
        ):
            code, _, err = await rack.cli(*words)
            assert code == 1
            assert said in err
        for path, status in (
            ("/v1/report?by=rack", 400),
            ("/v1/report?sinc=1d", 400),
            ("/v1/history?udid=nobody", 404),
            ("/v1/devices/nobody/history", 404),
        ):
            found, error = await rack.api("GET", path)
            assert (found, "message" in error["error"]) == (status, True), path
        _, picture = await rack.api("GET", f"/v1/history?since=1h&udid={NOTE.serial}")
        (row,) = picture["devices"]
        assert [each["state"] for each in row["spans"]] == ["online"]
        assert (row["name"], row["port"], picture["merged"]) == ("=cmd()", NOTE.port, 0)


def ms(text: Any) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)
