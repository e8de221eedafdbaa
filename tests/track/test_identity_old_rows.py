"""What adb's list still says of a port whose phone left, when something else hangs there by now."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from agent.model import Bridge, Changed, DeviceState, Gone, Platform, Snapshot, UsbKind
from tests.kit.tracking import ADB, HOOK, UDEV, USBMUX, adb, house, usb

if TYPE_CHECKING:
    from pathlib import Path

    from agent.model import Observation, Sighting
    from tests.kit.tracking import House

ONLINE, OFFLINE, UNPLUGGED = DeviceState.ONLINE, DeviceState.OFFLINE, DeviceState.UNPLUGGED
ANYBODYS = "0123456789ABCDEF"
APPLE = "00008030-0001A2B3C4D5E6F7"
NAMELESS = "no-serial@1-1"


def iphone(port: str) -> Sighting:
    kind = UsbKind.APPLE
    return replace(usb(APPLE, port), platform=Platform.IOS, usb=kind)


def dfu(port: str) -> Sighting:
    told = replace(iphone(port), serial="CPID:8030 ECID:0001")
    return replace(told, usb=UsbKind.APPLE_RECOVERY)


def numbered(serial: str, port: str, number: int, bridge: Bridge = Bridge.READY) -> Sighting:
    """A row of adb that has another one of that serial beside it."""
    return replace(adb(serial, port, bridge), address=f"{serial}#{number}")


def told(h: House, *observations: Observation) -> None:
    for observation in observations:
        h.pipeline.observe(observation)


def left(port: str) -> Gone:
    return Gone(UDEV, f"/devices/{port}")


def shown(h: House) -> dict[str, tuple[DeviceState, str]]:
    return {view.udid: (view.state, view.port) for view in h.pipeline.views.all()}


async def test_it_does_not_speak_for_an_iphone_in_dfu_mode(tmp_path: Path) -> None:
    async with house(tmp_path, HOOK) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, left("1-1"), Changed(dfu("1-1")), Changed(usb("ce09", "1-2")))
        h.wait(60)
        assert shown(h) == {"ce09": (OFFLINE, "1-2")}


async def test_an_iphone_is_not_taken_for_it_when_it_goes_to_dfu_mode(tmp_path: Path) -> None:
    async with house(tmp_path, HOOK) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, left("1-1"), Changed(iphone("1-1")))
        h.wait(60)
        told(h, left("1-1"), Changed(dfu("1-1")))
        h.wait(60)
        assert shown(h) == {"ce09": (UNPLUGGED, "1-1"), APPLE: (OFFLINE, "1-1")}
        assert await h.came() == [("ce09", "Online"), ("ce09", "Unplugged"), (APPLE, "Offline")]


async def test_an_emergency_mode_is_of_whoever_was_there_last(tmp_path: Path) -> None:
    edl = replace(usb("", "1-1"), platform=None, usb=UsbKind.EMERGENCY)
    async with house(tmp_path) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, left("1-1"))
        h.see(usb("ZUG5", "1-1"), adb("ZUG5", "1-1"))
        h.wait(60)
        told(h, left("1-1"), Changed(edl))
        h.wait(2)
        told(h, Gone(ADB, "ZUG5"))
        h.wait(60)
        assert shown(h) == {"ce09": (UNPLUGGED, "1-1"), "ZUG5": (OFFLINE, "1-1")}
        assert await h.came() == [
            ("ce09", "Online"),
            ("ZUG5", "Online"),
            ("ce09", "Unplugged"),
            ("ZUG5", "Offline"),
        ]


async def test_it_is_no_phone_without_a_serial_though_its_own_has_come_to_another_port(
    tmp_path: Path,
) -> None:
    fastboot = replace(usb("", "1-1"), usb=UsbKind.FASTBOOT)
    async with house(tmp_path) as h:
        h.see(usb(ANYBODYS, "1-1"), adb(ANYBODYS, "1-1"))
        told(h, left("1-1"), Changed(replace(usb(ANYBODYS, "1-2"), usb=UsbKind.FASTBOOT)))
        told(h, Changed(usb(ANYBODYS, "1-3")), Changed(fastboot))
        told(h, Changed(numbered(ANYBODYS, "1-3", 6, Bridge.NOT_READY)))
        told(h, Changed(numbered(ANYBODYS, "1-1", 4)), Gone(ADB, ANYBODYS))
        h.wait(60)
        assert shown(h) == {
            ANYBODYS: (OFFLINE, "1-2"),
            f"{ANYBODYS}@1-3": (OFFLINE, "1-3"),
            NAMELESS: (OFFLINE, "1-1"),
        }


async def test_an_answer_elsewhere_does_not_make_it_new(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb(ANYBODYS, "1-1"), adb(ANYBODYS, "1-1"))
        told(h, left("1-1"))
        h.see(usb("", "1-1"), adb("????????????", "1-1", Bridge.NOT_READY))
        told(h, Changed(numbered(ANYBODYS, "1-2", 6)), Changed(numbered(ANYBODYS, "1-1", 1)))
        told(h, Gone(ADB, ANYBODYS), Changed(usb(ANYBODYS, "1-2")))
        h.wait(60)
        assert shown(h) == {ANYBODYS: (ONLINE, "1-2"), NAMELESS: (OFFLINE, "1-1")}


async def test_an_answer_at_that_port_does(tmp_path: Path) -> None:
    """A serial may be read late: what answers there is what hangs there."""
    async with house(tmp_path) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, left("1-1"), Changed(replace(usb("", "1-1"), usb=UsbKind.MTP)))
        told(h, Changed(adb("ce09", "1-1", Bridge.NOT_READY)), Changed(adb("ce09", "1-1")))
        told(h, Changed(usb("", "1-1")))
        h.wait(60)
        assert shown(h) == {"ce09": (ONLINE, "1-1")}
        assert await h.came() == [("ce09", "Online")]


async def test_a_row_that_went_and_came_again_is_a_new_one(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, left("1-1"), Gone(ADB, "ce09"))
        told(h, Changed(usb("", "1-1")), Changed(adb("ce09", "1-1", Bridge.NOT_READY)))
        h.wait(60)
        assert shown(h) == {"ce09": (OFFLINE, "1-1")}


async def test_it_is_nobody_after_a_restart_either(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb(ANYBODYS, "1-1"), adb(ANYBODYS, "1-1"))
        told(h, left("1-1"))
        h.see(usb("", "1-1"), adb("????????????", "1-1", Bridge.NOT_READY))
        h.wait(60)
        before = shown(h)
        assert before == {ANYBODYS: (UNPLUGGED, "1-1"), NAMELESS: (OFFLINE, "1-1")}
    rows = (
        adb(ANYBODYS, "1-1", Bridge.NOT_READY),
        adb("????????????", "1-1", Bridge.NOT_READY),
    )
    async with house(tmp_path, derives=False) as h:
        told(h, Snapshot(ADB, rows), Snapshot(UDEV, (usb("", "1-1"),)), Snapshot(USBMUX, ()))
        h.wait(300)
        assert shown(h) == before
        assert await h.came() == []
