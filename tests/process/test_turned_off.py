"""What the file does not watch any more is gone from every view, and calls nobody back."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.fakes.usbmuxd import FakeUsbmuxd
from tests.kit.agent import AgentProcess

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.receiver import Receiver

UDID = "00008110-000A1234A1B2C3D4"
CONFIG = """
[usb]
enabled = false
[hold]
offline = "200ms"
unplugged = "200ms"
source_grace = "500ms"
[android]
enabled = true # android
adb_server = "{adb}"
network_devices = true # network
start_server = false
probe_interval = "0s"
[ios]
enabled = true # ios
usbmuxd = "{mux}"
[usage]
uiautomator2 = false
wda = false
[[webhooks]]
name = "all"
url = "{url}"
events = ["online", "offline", "utilizing", "unplugged"]
"""
OFF = {
    "android": ("enabled = true # android", "enabled = false", {"wire", "radio"}),
    "network": ("network_devices = true # network", "network_devices = false", {"radio"}),
    "ios": ("enabled = true # ios", "enabled = false", {UDID}),
}


def told(receiver: Receiver) -> list[tuple[str, str]]:
    bodies = [json.loads(request.body) for request in receiver.requests]
    return [(body["deviceUdid"], body["eventDescription"]) for body in bodies]


async def shown(agent: AgentProcess) -> dict[str, str]:
    rows: list[dict[str, Any]] = (await agent.api("GET", "/v1/devices"))[1]["devices"]
    return {row["udid"]: row["state"] for row in rows}


@pytest.mark.parametrize("what", OFF)
async def test_what_a_reload_turns_off_is_gone_and_comes_back_as_it_was(
    place: Path, receiver: Receiver, what: str
) -> None:
    on, off, gone = OFF[what]
    async with FakeAdbHost() as adb, FakeUsbmuxd(place / "m") as mux:
        text = CONFIG.format(adb=adb.address, mux=place / "m", url=receiver.url())
        async with AgentProcess(place, text) as agent:
            await agent.start()
            adb.set(
                Listed("wire", port="1-1", told="serialno=wire"),
                Listed("10.0.0.5:5555", told="serialno=radio"),
            )
            mux.attach(UDID)
            for udid in ("wire", "radio", UDID):
                await agent.until_device(udid, "state", "online")
            await agent.until_delivered()
            everything = await shown(agent)
            assert everything == dict.fromkeys(("wire", "radio", UDID), "online")
            receiver.requests.clear()

            agent.write(text.replace(on, off))
            code, _, err = await agent.cli("reload")
            assert (code, err) == (0, "")
            left = {udid: state for udid, state in everything.items() if udid not in gone}
            assert await shown(agent) == left
            for udid in gone:
                assert (await agent.api("GET", f"/v1/devices/{udid}"))[0] == 404
            counted = re.findall(r"(?m)^device_agent_devices{.*} (\d+)", await agent.metrics())
            assert sum(map(int, counted)) == len(left)
            # A whole sequence of theirs comes and goes while they are not watched.
            adb.remove("10.0.0.5:5555")
            adb.set(Listed("10.0.0.5:5555", told="serialno=radio"))
            # Longer than every hold: another phone has come and gone meanwhile.
            other = "later" if what != "android" else "00008110-000A1234A1B2C3D5"
            if what == "android":
                phone = mux.attach(other)
                await agent.until_device(other, "state", "online")
                mux.detach(phone)
            else:
                adb.set(Listed(other, port="1-2", told="serialno=later"))
                await agent.until_device(other, "state", "online")
                adb.remove(other)
            await agent.until_device(other, "state", "unplugged")
            await agent.until_delivered()
            assert {udid for udid, _ in told(receiver)} == {other}
            assert {u: s for u, s in (await shown(agent)).items() if u != other} == left
            receiver.requests.clear()

            # Nor by a restart with the same file.
            assert await agent.stop() == 0
            await agent.start()
            assert {u: s for u, s in (await shown(agent)).items() if u != other} == left
            assert told(receiver) == []

            # Turned on again they are what they were.
            agent.write(text)
            assert (await agent.cli("reload"))[0] == 0
            for udid in gone:
                await agent.until_device(udid, "state", "online")
            assert told(receiver) == []


async def test_a_listed_device_that_was_never_seen_is_gone_with_its_entry(
    place: Path, receiver: Receiver
) -> None:
    """Its neighbour, which was seen, stays; so does a spelling of the same UDID."""
    async with FakeAdbHost() as adb:
        text = CONFIG.format(adb=adb.address, mux="/nowhere", url=receiver.url())
        entry = '[[devices]]\nudid = "{}"\n'
        listed = text + "".join(
            entry.format(udid) for udid in ("never", "wire", UDID.replace("-", ""))
        )
        async with AgentProcess(place, listed) as agent:
            await agent.start()
            adb.set(Listed("wire", port="1-1", told="serialno=wire"))
            await agent.until_device("wire", "state", "online")
            assert await shown(agent) == {
                "never": "unplugged",
                "wire": "online",
                UDID: "unplugged",
            }
            agent.write(text + entry.format(UDID.lower()))
            assert (await agent.cli("reload"))[0] == 0
            assert await shown(agent) == {"wire": "online", UDID: "unplugged"}
            assert (await agent.api("GET", "/v1/devices/never"))[0] == 404
            assert "never" not in await agent.devices()
            agent.write(text)
            assert (await agent.cli("reload"))[0] == 0
            assert await shown(agent) == {"wire": "online"}
            agent.write(text + entry.format("never"))
            assert (await agent.cli("reload"))[0] == 0
            assert await shown(agent) == {"never": "unplugged", "wire": "online"}
            assert {udid for udid, _ in told(receiver)} == {"wire"}
