"""Which phone a name means, and what becomes of phones when what sees them is turned off."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.config import parse
from agent.errors import UnknownDeviceError
from agent.model import (
    Bridge,
    Changed,
    DeviceState,
    Gone,
    Snapshot,
    Usage,
    UsageReading,
)
from agent.service.devices import Devices
from agent.subscribers import Topic
from tests.kit.tracking import (
    ADB,
    HOOK,
    ONLY_ANDROID,
    UDEV,
    House,
    adb,
    far,
    house,
    reconfigure,
    usb,
)

if TYPE_CHECKING:
    from pathlib import Path

SERIAL = "0123456789ABCDEF"
SCOPED = HOOK + 'devices = ["{}"]\n'
FAR = "[android]\nnetwork_devices = true\n[ios]\nenabled = false\n"


def twins(h: House) -> None:
    h.see(usb(SERIAL, "1-1"), adb(SERIAL, "1-1"))
    h.see(usb(SERIAL, "1-2"))
    h.see(replace(adb(SERIAL, "1-1"), address=f"{SERIAL}#1"))
    h.see(replace(adb(SERIAL, "1-2"), address=f"{SERIAL}#2"))
    h.pipeline.observe(Gone(ADB, SERIAL))
    h.wait(60)


def turn(h: House, text: str) -> None:
    config = parse(text, "new.toml")
    reconfigure(h.pipeline, config, {hook.id or 0: hook for hook in config.webhooks})


async def test_a_webhook_for_a_serial_is_for_both_twins(tmp_path: Path) -> None:
    async with house(tmp_path, ONLY_ANDROID + SCOPED.format(SERIAL)) as h:
        twins(h)
        assert await h.came() == [(SERIAL, "Online"), (f"{SERIAL}@1-2", "Online")]


async def test_a_webhook_for_one_twin_is_for_that_one(tmp_path: Path) -> None:
    async with house(tmp_path, ONLY_ANDROID + SCOPED.format(f"{SERIAL}@1-2")) as h:
        twins(h)
        assert await h.came() == [(f"{SERIAL}@1-2", "Online")]


async def test_a_more_exact_entry_goes_before_the_serials(tmp_path: Path) -> None:
    entries = (
        f'[[devices]]\nudid = "{SERIAL}"\nname = "both"\ntags = ["rack"]\n'
        f'[[devices]]\nudid = "{SERIAL}@1-2"\nname = "second"\n'
    )
    async with house(tmp_path, ONLY_ANDROID + entries) as h:
        twins(h)
        shown = {view.udid: (view.name, view.tags) for view in h.pipeline.views.all()}
        assert shown == {SERIAL: ("both", ("rack",)), f"{SERIAL}@1-2": ("second", ())}


async def test_one_phone_by_the_serial_of_two_is_refused(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        twins(h)
        devices = Devices(h.pipeline, "rack-1")
        assert devices.udid(SERIAL) == SERIAL, "a UDID as a row has it is that row's"
        assert "shared by another phone" in (await devices.rows())[0]["reason"]
        with pytest.raises(UnknownDeviceError, match="may be") as refused:
            devices.udid(SERIAL.lower())
        assert f"{SERIAL} (" in str(refused.value)
        assert f"{SERIAL}@1-2 (" in str(refused.value)
        assert devices.udid(f"{SERIAL}@1-1") == SERIAL
        assert devices.udid(f"{SERIAL}@1-2".lower().replace("@1-2", "@1-2")) == f"{SERIAL}@1-2"
        with pytest.raises(UnknownDeviceError):
            devices.udid(f"{SERIAL}@12")
        assert h.pipeline.roster.find(SERIAL) is None
        h.pipeline.observe(Gone(UDEV, "/devices/1-1"))
        h.pipeline.observe(Gone(ADB, f"{SERIAL}#1"))
        assert h.pipeline.roster.find(SERIAL) == f"{SERIAL}@1-2", "as adb takes it"


async def test_a_twin_without_a_port_is_shown_and_told_to_nobody(tmp_path: Path) -> None:
    """All that adb tells of the second is a transport id, which lasts as long as its server."""
    async with house(tmp_path, ONLY_ANDROID + "[usb]\nenabled = false\n" + HOOK) as h:
        h.see(replace(adb(SERIAL, ""), address=f"{SERIAL}#1"))
        h.wait(60)
        h.see(replace(adb(SERIAL, ""), address=f"{SERIAL}#2"))
        h.wait(60)
        shown = {view.udid: (view.state, view.reason) for view in h.pipeline.views.all()}
        assert shown[SERIAL][0] is DeviceState.ONLINE
        (other,) = set(shown) - {SERIAL}
        assert shown[other][0] is DeviceState.OFFLINE
        assert "nothing tells the two apart" in shown[other][1]
        assert [phone.udid for phone in h.pipeline.views.phones()] == [SERIAL]
        h.pipeline.observe(Gone(ADB, f"{SERIAL}#2"))
        h.wait(60)
        assert [view.udid for view in h.pipeline.views.all()] == [SERIAL]
        assert await h.came() == [(SERIAL, "Online")]


async def test_the_very_spelling_goes_before_a_likeness(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("abc-d", "1-1"), adb("abc-d", "1-1"), usb("ABCD", "1-2"), adb("ABCD", "1-2"))
        devices = Devices(h.pipeline, "rack-1")
        assert devices.udid("ABCD") == "ABCD"
        assert devices.udid("abc-d") == "abc-d"
        with pytest.raises(UnknownDeviceError, match="may be"):
            devices.udid("abcd")


async def test_an_address_is_an_alias_everywhere(tmp_path: Path) -> None:
    listed = '[[devices]]\nudid = "10.0.0.5:5555"\nname = "Wall"\ntags = ["wifi"]\n'
    text = FAR + listed + SCOPED.format("10.0.0.5:5555")
    async with house(tmp_path, text) as h:
        assert [view.udid for view in h.pipeline.views.all()] == ["10.0.0.5:5555"], "listed"
        h.see(far("10.0.0.5:5555", "ce09"))
        h.wait(60)
        (view,) = h.pipeline.views.all()
        assert (view.udid, view.name, view.tags) == ("ce09", "Wall", ("wifi",))
        assert h.pipeline.roster.find("10.0.0.5:5555") == "ce09"
        assert Devices(h.pipeline, "rack-1").udid("10.0.0.5:5555") == "ce09"
        assert await h.came() == [("ce09", "Online")]
        h.pipeline.observe(Gone(ADB, "10.0.0.5:5555"))
        h.wait(60)
        assert await h.came() == [("ce09", "Online"), ("ce09", "Unplugged")]
    async with house(tmp_path, text) as h:
        assert [(v.udid, v.name) for v in h.pipeline.views.all()] == [("ce09", "Wall")]


async def test_a_network_phone_is_shown_by_its_address_with_the_reason(tmp_path: Path) -> None:
    async with house(tmp_path, FAR + HOOK) as h:
        h.see(far("10.0.0.5:5555", ""))
        assert h.state("10.0.0.5:5555") == (
            DeviceState.ONLINE,
            "shown by its address: it told no serial yet",
        )


async def test_an_entry_that_is_taken_out_never_seen_is_gone(tmp_path: Path) -> None:
    listed = '[[devices]]\nudid = "ce09"\n[[devices]]\nudid = "seen"\n'
    async with house(tmp_path, ONLY_ANDROID + listed + HOOK) as h:
        h.see(usb("seen"), adb("seen"))
        told: list[str] = []
        h.news.subscribe(Topic.DEVICE, told.append)
        turn(h, ONLY_ANDROID + HOOK)
        assert [view.udid for view in h.pipeline.views.all()] == ["seen"]
        await h.heard()
        assert "ce09" in told
        assert h.pipeline.roster.find("ce09") is None


async def test_blanks_in_a_serial_are_no_other_phone(tmp_path: Path) -> None:
    listed = '[[devices]]\nudid = "ZUG 5S"\nname = "Blanks"\n'
    async with house(tmp_path, ONLY_ANDROID + listed + SCOPED.format("ZUG 5S")) as h:
        h.see(usb("ZUG_5S"))
        h.wait(60)
        h.see(adb("ZUG 5S"))
        h.wait(60)
        (view,) = h.pipeline.views.all()
        assert (view.udid, view.name, view.state) == ("ZUG 5S", "Blanks", DeviceState.ONLINE)
        assert await h.came() == [("ZUG 5S", "Offline"), ("ZUG 5S", "Online")]
        assert h.pipeline.roster.find("ZUG_5S") == h.pipeline.roster.find("ZUG 5S") == "ZUG 5S"


async def test_a_twin_that_comes_in_a_hold_costs_no_time(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb(SERIAL, "1-1"), adb(SERIAL, "1-1"))
        h.see(adb(SERIAL, "1-1", Bridge.NOT_READY))
        h.wait(4)
        h.see(usb(SERIAL, "1-2"))
        h.wait(1)
        assert await h.came() == [(SERIAL, "Online"), (SERIAL, "Offline")]


async def test_a_better_name_takes_over_what_is_under_way(tmp_path: Path) -> None:
    async with house(tmp_path, FAR + HOOK) as h:
        h.see(far("10.0.0.5:5555", "", Bridge.NOT_READY))
        h.pipeline.use("10.0.0.5:5555", UsageReading(Usage.IN_USE, "alice"))
        h.wait(4)
        h.see(far("10.0.0.5:5555", "ce09", Bridge.NOT_READY))
        h.wait(1)
        assert await h.came() == [("ce09", "Offline")], "the hold goes on"
        assert "held by alice" in h.state("ce09")[1]


OFF = {
    "network": ("[android]\nnetwork_devices = false\n[ios]\nenabled = false\n", {"ce77"}),
    "usb": ("[usb]\nenabled = false\n" + FAR, {"r58m"}),
    "android": ("[android]\nenabled = false\n[ios]\nenabled = false\n", {"ce77", "r58m", "ce09"}),
}


@pytest.mark.parametrize("what", OFF)
async def test_what_is_turned_off_by_a_reload_calls_nobody(tmp_path: Path, what: str) -> None:
    text, gone = OFF[what]
    phones = (usb("ce09", "1-1"), usb("r58m", "1-2")), (adb("ce09"), far("10.0.0.7:5555", "ce77"))
    async with house(tmp_path, FAR + HOOK) as h:
        for sightings in phones:
            h.see(*sightings)
        h.wait(60)
        before = await h.came()
        assert len(before) == 3
        told: list[str] = []
        h.news.subscribe(Topic.DEVICE, told.append)
        turn(h, text + HOOK)
        if what == "network":
            h.pipeline.observe(Gone(ADB, "10.0.0.7:5555"))  # the source does not list it any more
        h.wait(3600)
        shown = {view.udid for view in h.pipeline.views.all()}
        assert shown == {"ce09", "r58m", "ce77"} - gone
        assert sum(h.pipeline.views.census().states.values()) == len(shown)
        assert not {phone.udid for phone in h.pipeline.views.phones()} & gone
        assert await h.came() == before
        await h.heard()
        assert gone <= set(told)
        turn(h, FAR + HOOK)
        for source, sightings in zip((UDEV, ADB), phones, strict=True):
            h.wait(2)
            h.pipeline.observe(Snapshot(source, sightings))
        h.wait(3600)
        assert {view.udid for view in h.pipeline.views.all()} == {"ce09", "r58m", "ce77"}
        assert await h.came() == before
        turn(h, text + HOOK)
        await h.came()
    async with house(tmp_path, text + HOOK, derives=False) as h:
        h.pipeline.observe(Snapshot(UDEV, phones[0]))
        h.pipeline.observe(Snapshot(ADB, phones[1]))
        h.wait(3600)
        assert {view.udid for view in h.pipeline.views.all()} == {"ce09", "r58m", "ce77"} - gone
        assert await h.came() == [], "nor does a restart"


async def test_what_left_while_it_was_turned_off_is_told_when_it_is_turned_on(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, FAR + HOOK) as h:
        h.pipeline.observe(Changed(far("10.0.0.7:5555", "ce77")))
        turn(h, OFF["network"][0] + HOOK)
        h.wait(60)
        turn(h, FAR + HOOK)
        h.wait(60)
        assert await h.came() == [("ce77", "Online")]
        h.pipeline.observe(Snapshot(ADB, ()))
        h.wait(60)
        assert await h.came() == [("ce77", "Online"), ("ce77", "Unplugged")]
