"""Where phones hang, by what a whole pipeline knows of them: with udev, without it, elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from agent.model import Down, Gone
from agent.service.causes import Causes
from agent.service.ports import Ports
from agent.sources.usb_reading import Reading
from tests.kit.tracking import ADB, ONLY_ANDROID, UDEV, adb, far, house, usb
from tests.service.test_port_tree import at, rows

if TYPE_CHECKING:
    from pathlib import Path

    from agent.service.port_tree import PortsRow
    from agent.sources.supervisor import Supervisor
    from tests.kit.tracking import House

BUS = "/devices/pci0000:00/0000:00:14.0/usb1"
HOLDS = '[hold]\noffline = "0s"\nunplugged = "3s"\narrival = "0s"\n'


class Udev:
    """What is plugged in; stands for the supervisor, which hands on what udev's source knows."""

    def __init__(self, *readings: Reading) -> None:
        self.readings = readings

    def plugged_in(self) -> tuple[Reading, ...]:
        return self.readings


def reading(address: str, serial: str = "", device_class: int = 0) -> Reading:
    return Reading(
        address=address,
        vendor=0x18D1,
        product=0x4EE7,
        device_class=device_class,
        interfaces=frozenset({(0xFF, 0x42, 0x01)} if serial else ()),
        is_mtp=False,
        is_android=False,
        appliance="",
        names="",
        serial=serial,
        model="Pixel 7",
        maker="Google",
        speed=480.0,
        port_count=4 if device_class else 0,
    )


async def ask(made: House, *readings: Reading) -> PortsRow:
    causes = Causes(made.pipeline, made.store, made.clock, "rack-1")
    return await Ports(made.pipeline, cast("Supervisor", Udev(*readings)), causes, "rack-1").row()


async def test_a_phone_is_at_its_port_and_then_was(tmp_path: Path) -> None:
    address = f"{BUS}/1-4/1-4.2"
    hub, phone = reading(f"{BUS}/1-4", device_class=9), reading(address, "ce09")
    async with house(tmp_path, ONLY_ANDROID + HOLDS) as h:
        h.see(replace(usb("ce09", "1-4.2"), address=address), adb("ce09", "1-4.2"))
        h.wait(60)
        answer = await ask(h, hub, phone)
        row = at(answer, "1-4.2")
        assert row["device"] is not None
        assert (row["device"]["udid"], row["device"]["state"]) == ("ce09", "online")
        assert (row["vendor"], row["product"], row["speed"]) == ("Google", "Pixel 7", 480.0)
        assert (at(answer, "1-4")["kind"], at(answer, "1-4")["port_count"]) == ("hub", 4)
        assert (answer["host"], answer["reason"]) == ("rack-1", "")
        h.pipeline.observe(Gone(UDEV, address))
        h.pipeline.observe(Gone(ADB, "ce09"))
        row = at(await ask(h, hub), "1-4.2")
        assert (row["device"], row["kind"]) == (None, "empty")
        assert [(left["udid"], left["at"]) for left in row["left"]] == [("ce09", None)]
        h.wait(60)
        (left,) = at(await ask(h, hub), "1-4.2")["left"]
        assert left["state"] == "unplugged"
        assert left["at"] is not None
        moved = replace(usb("ce09", "1-3"), address=f"{BUS}/1-3")
        h.see(moved)
        answer = await ask(h, hub, reading(moved.address, "ce09"))
        assert at(answer, "1-3")["kind"] == "phone"
        assert "1-4.2" not in {row["port"] for row in rows(answer)}, "it is nobody's last place"


async def test_an_ignored_phone_is_some_usb_device(tmp_path: Path) -> None:
    listed = '[[devices]]\nudid = "ce09"\nvisibility = "ignore"\n'
    async with house(tmp_path, ONLY_ANDROID + HOLDS + listed) as h:
        address = f"{BUS}/1-1"
        h.see(replace(usb("ce09"), address=address))
        h.wait(60)
        answer = await ask(h, reading(address, "ce09"))
        assert (at(answer, "1-1")["kind"], at(answer, "1-1")["device"]) == ("other", None)
        assert "ce09" not in str(answer)


async def test_while_udev_is_down_a_phone_is_where_it_was(tmp_path: Path) -> None:
    address = f"{BUS}/1-1"
    async with house(tmp_path, ONLY_ANDROID + HOLDS) as h:
        h.see(replace(usb("ce09"), address=address), adb("ce09", ""))
        h.wait(60)
        h.pipeline.observe(Down(UDEV, "udevd is not running"))
        answer = await ask(h)
        row = at(answer, "1-1")
        assert row["device"] is not None
        assert row["device"]["udid"] == "ce09"
        assert "udevd is not running" in answer["reason"]
        assert [each["controller"] for each in answer["controllers"]] == ["0000:00:14.0"]


async def test_without_udev_a_port_is_where_adb_says(tmp_path: Path) -> None:
    async with house(tmp_path, ONLY_ANDROID + HOLDS + "[usb]\nenabled = false\n") as h:
        assert (await ask(h))["controllers"] == []
        assert "[usb] enabled = false" in (await ask(h))["reason"]
        h.see(adb("ce09", "2-1.3"), adb("emulator-5554", ""))
        h.wait(60)
        answer = await ask(h)
        assert [row["port"] for row in rows(answer)] == ["usb2", "2-1", "2-1.3"]
        assert [one["udid"] for one in answer["unplaced"]] == ["emulator-5554"]
        h.pipeline.observe(Gone(ADB, "ce09"))
        h.pipeline.observe(Gone(ADB, "emulator-5554"))
        h.wait(60)
        answer = await ask(h)
        assert [left["udid"] for left in at(answer, "2-1.3")["left"]] == ["ce09"]
        assert answer["unplaced"] == [], "it was at no port, and is not there"


async def test_another_hosts_ports_are_none_of_ours(tmp_path: Path) -> None:
    text = ONLY_ANDROID + HOLDS + '[android]\nadb_server = "192.0.2.7:5037"\n'
    async with house(tmp_path, text + "network_devices = true\n") as h:
        h.see(adb("ce09", "1-1"), far("10.0.0.5:5555", "r58m"))
        h.wait(60)
        answer = await ask(h)
        assert answer["controllers"] == []
        assert [one["udid"] for one in answer["unplaced"]] == ["ce09", "r58m"]
        h.pipeline.observe(Gone(ADB, "ce09"))
        h.pipeline.observe(Gone(ADB, "10.0.0.5:5555"))
        h.wait(60)
        answer = await ask(h)
        assert (answer["controllers"], answer["unplaced"]) == ([], [])
