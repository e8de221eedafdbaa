"""What adb's list still says of a port whose phone left, when something else hangs there by now."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agent.model import Bridge, Changed, DeviceState, Down, Gone, Platform, Snapshot, UsbKind
from tests.kit.tracking import ADB, HOOK, UDEV, USBMUX, adb, far, house, usb

if TYPE_CHECKING:
    from pathlib import Path

    from agent.model import Observation, Sighting, SourceName
    from tests.kit.tracking import House

ONLINE, OFFLINE, UNPLUGGED = DeviceState.ONLINE, DeviceState.OFFLINE, DeviceState.UNPLUGGED
ANYBODYS = "0123456789ABCDEF"
APPLE = "00008030-0001A2B3C4D5E6F7"
NAMELESS = "no-serial@1-1"
EDL = replace(usb("", "1-1"), platform=None, usb=UsbKind.EMERGENCY)


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
    async with house(tmp_path) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, left("1-1"))
        h.see(usb("ZUG5", "1-1"), adb("ZUG5", "1-1"))
        h.wait(60)
        told(h, left("1-1"), Changed(EDL))
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


async def test_an_answer_does_so_at_once(tmp_path: Path) -> None:
    """Whatever udev still says of it, there is no phone without a serial beside it."""
    async with house(tmp_path, HOOK) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, left("1-1"), Changed(usb("", "1-1")))
        told(h, Changed(adb("ce09", "1-1", Bridge.NOT_READY)), Changed(adb("ce09", "1-1")))
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


# --- what a row that is new in adb's list is worth, after a start above all -----------------


async def test_of_two_rows_at_a_port_the_one_that_is_ready_hangs_there_while_udev_is_down(
    tmp_path: Path,
) -> None:
    there = adb("????????????", "1-1")
    async with house(tmp_path, HOOK) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, left("1-1"))
        h.wait(60)
        h.see(there, usb("", "1-1"))
        h.wait(60)
        assert shown(h) == {"ce09": (UNPLUGGED, "1-1"), NAMELESS: (ONLINE, "1-1")}
        await h.pipeline.close()
    rows = Snapshot(ADB, (there, adb("ce09", "1-1", Bridge.NOT_READY)))
    async with house(tmp_path, HOOK, derives=False) as h:
        told(h, Down(UDEV, "away"), Snapshot(USBMUX, ()), rows, Snapshot(UDEV, (usb("", "1-1"),)))
        h.wait(60)
        assert shown(h) == {"ce09": (UNPLUGGED, "1-1"), NAMELESS: (ONLINE, "1-1")}
        assert await h.came() == []


async def test_the_other_one_is_no_further_twin(tmp_path: Path) -> None:
    twins = [numbered(ANYBODYS, f"1-{n}", n) for n in (2, 3)]
    there = adb("????????????", "1-1")
    async with house(tmp_path, HOOK) as h:
        h.see(usb("", "1-1"), there, usb(ANYBODYS, "1-2"), usb(ANYBODYS, "1-3"), *twins)
        h.wait(60)
        before = shown(h)
        assert len(before) == 3
        await h.pipeline.close()
    rows = Snapshot(ADB, (numbered(ANYBODYS, "1-1", 1, Bridge.NOT_READY), there, *twins))
    async with house(tmp_path, HOOK, derives=False) as h:
        told(h, Down(UDEV, "away"), Snapshot(USBMUX, ()), rows)
        h.wait(60)
        assert shown(h) == before
        assert await h.came() == []


async def test_a_phone_that_left_while_udev_was_down_is_unplugged_after_a_restart_too(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, HOOK) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, Down(UDEV, "away"))
        await h.pipeline.close()
    silent = Snapshot(ADB, (adb("ce09", "1-1", Bridge.NOT_READY),))
    async with house(tmp_path, HOOK, derives=False) as h:
        told(h, Down(UDEV, "away"), silent, Snapshot(USBMUX, ()))
        await h.pipeline.close()
    async with house(tmp_path, HOOK, derives=False) as h:
        told(h, Snapshot(UDEV, ()), silent, Snapshot(USBMUX, ()))
        h.wait(60)
        assert shown(h) == {"ce09": (UNPLUGGED, "1-1")}
        assert await h.came() == [("ce09", "Unplugged")]


@pytest.mark.parametrize("last", [UDEV, ADB])
async def test_it_is_where_udev_saw_it_last_and_not_where_an_old_row_has_it(
    tmp_path: Path, last: SourceName
) -> None:
    async with house(tmp_path, HOOK) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, left("1-1"), Changed(replace(usb("ce09", "1-2"), usb=UsbKind.MTP)))
        h.wait(60)
        told(h, left("1-2"))
        await h.pipeline.close()
    first_words = [
        Snapshot(USBMUX, ()),
        Snapshot(UDEV, ()),
        Snapshot(ADB, (adb("ce09", "1-1", Bridge.NOT_READY),)),
    ]
    async with house(tmp_path, HOOK, derives=False) as h:
        told(h, *sorted(first_words, key=lambda word: word.source is last))
        h.wait(60)
        assert shown(h) == {"ce09": (UNPLUGGED, "1-2")}
        assert await h.came() == [("ce09", "Unplugged")]


async def test_what_answered_beyond_udev_is_there_after_a_restart(tmp_path: Path) -> None:
    async with house(tmp_path, HOOK) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1", Bridge.NOT_READY))
        told(h, left("1-1"), Changed(adb("ce09", "1-1")))
        h.wait(60)
        assert shown(h) == {"ce09": (ONLINE, "1-1")}
        await h.pipeline.close()
    async with house(tmp_path, HOOK, derives=False) as h:
        told(h, Snapshot(USBMUX, ()), Snapshot(ADB, (adb("ce09", "1-1"),)), Snapshot(UDEV, ()))
        h.wait(60)
        assert shown(h) == {"ce09": (ONLINE, "1-1")}
        assert await h.came() == []


async def test_it_is_no_twin_in_an_emergency_mode_after_a_restart(tmp_path: Path) -> None:
    there = (usb("ZUG5", "1-2"), EDL)
    rows = (numbered("ZUG5", "1-1", 1, Bridge.NOT_READY), numbered("ZUG5", "1-2", 2))
    expected = {"ce09": (OFFLINE, "1-1"), "ZUG5": (ONLINE, "1-2")}
    async with house(tmp_path, HOOK) as h:
        h.see(usb("ZUG5", "1-1"), adb("ZUG5", "1-1"))
        told(h, left("1-1"))
        h.wait(60)
        h.see(usb("ce09", "1-1"))
        h.wait(60)
        told(h, left("1-1"), Changed(EDL), *map(Changed, rows), Gone(ADB, "ZUG5"))
        h.see(there[0])
        h.wait(60)
        assert shown(h) == expected
        await h.pipeline.close()
    async with house(tmp_path, HOOK, derives=False) as h:
        told(h, Snapshot(USBMUX, ()), Snapshot(ADB, rows), Snapshot(UDEV, there))
        h.wait(60)
        assert shown(h) == expected
        told(h, left("1-2"), Gone(ADB, rows[1].address), Changed(usb("ZUG5", "1-2")))
        told(h, Changed(rows[1]))
        h.wait(60)
        assert shown(h) == expected
        assert await h.came() == []


async def test_one_that_goes_to_an_emergency_mode_is_there_and_not_where_it_hung(
    tmp_path: Path,
) -> None:
    edl = replace(EDL, address="/devices/1-2", port="1-2")
    async with house(tmp_path, HOOK) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, left("1-1"))
        h.see(numbered("ce09", "1-2", 4), numbered("ce09", "1-1", 1), usb("ce09", "1-2"))
        told(h, Gone(ADB, "ce09"))
        h.wait(60)
        assert shown(h) == {"ce09": (ONLINE, "1-2")}
        told(h, left("1-2"), Changed(edl), Changed(adb("ce09", "1-1")))
        told(h, Gone(ADB, "ce09#4"), Gone(ADB, "ce09#1"))
        h.wait(60)
        assert shown(h) == {"ce09": (OFFLINE, "1-2")}
        await h.pipeline.close()
    silent = adb("ce09", "1-1", Bridge.NOT_READY)
    async with house(tmp_path, HOOK, derives=False) as h:
        told(h, Snapshot(USBMUX, ()), Snapshot(ADB, (silent,)), Snapshot(UDEV, (edl,)))
        h.wait(60)
        assert shown(h) == {"ce09": (OFFLINE, "1-2")}
        assert await h.came() == []


async def test_it_makes_nothing_in_an_emergency_mode_online(tmp_path: Path) -> None:
    async with house(tmp_path, HOOK) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, left("1-1"))
        h.wait(60)
        h.see(EDL)
        h.wait(60)
        assert h.state("ce09") == (
            OFFLINE,
            "in an emergency mode of its chip: restart the phone",
        )
        # It was another one.
        h.see(adb("ZUG5", "1-1"))
        told(h, left("1-1"), Changed(usb("ZUG5", "1-1")))
        h.wait(60)
        assert shown(h) == {"ce09": (UNPLUGGED, "1-1"), "ZUG5": (ONLINE, "1-1")}
        assert ("ce09", "Online") not in (await h.came())[1:]


async def test_it_takes_no_port_from_whom_udev_saw_there_last(tmp_path: Path) -> None:
    async with house(tmp_path, HOOK) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, left("1-1"))
        h.wait(60)
        h.see(iphone("1-1"))
        h.wait(60)
        told(h, left("1-1"), Changed(dfu("1-1")))
        h.wait(60)
        await h.pipeline.close()
    silent = Snapshot(ADB, (adb("ce09", "1-1", Bridge.NOT_READY),))
    async with house(tmp_path, HOOK, derives=False) as h:
        told(h, Down(UDEV, "away"), Snapshot(USBMUX, ()), silent, Snapshot(UDEV, (dfu("1-1"),)))
        h.wait(60)
        assert shown(h) == {"ce09": (UNPLUGGED, "1-1"), APPLE: (OFFLINE, "1-1")}
        assert await h.came() == []


async def test_an_answer_does_while_udev_is_down(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ZUG5", "1-1"))
        h.wait(60)
        told(h, Down(UDEV, "away"), Changed(adb("ce09", "1-1", Bridge.NOT_READY)))
        told(h, Changed(adb("ce09", "1-1")), Snapshot(UDEV, (EDL,)))
        told(h, Gone(ADB, "ce09"))
        h.wait(60)
        assert shown(h) == {"ZUG5": (UNPLUGGED, "1-1"), "ce09": (OFFLINE, "1-1")}


async def test_another_number_makes_it_no_twin_while_udev_is_down(tmp_path: Path) -> None:
    async with house(tmp_path, HOOK) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, left("1-1"))
        h.wait(60)
        h.see(iphone("1-1"), usb("ce09", "1-2"))
        h.see(numbered("ce09", "1-2", 4), numbered("ce09", "1-1", 1))
        told(h, Gone(ADB, "ce09"))
        h.wait(60)
        told(h, Down(UDEV, "away"), Changed(adb("ce09", "1-1")))
        told(h, Gone(ADB, "ce09#4"), Gone(ADB, "ce09#1"), Snapshot(UDEV, (iphone("1-1"),)))
        h.wait(60)
        assert shown(h) == {"ce09": (UNPLUGGED, "1-2"), APPLE: (OFFLINE, "1-1")}


async def test_in_an_emergency_mode_a_cable_that_flickers_does_not_move_it_there(
    tmp_path: Path,
) -> None:
    edl = replace(EDL, address="/devices/1-2", port="1-2")
    async with house(tmp_path, HOOK) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, left("1-1"), Changed(usb("ce09", "1-2")))
        h.wait(60)
        told(h, left("1-2"), Changed(edl))
        h.wait(60)
        told(h, left("1-2"))
        h.wait(1)
        h.see(edl)
        h.wait(60)
        assert shown(h) == {"ce09": (OFFLINE, "1-2")}
        assert await h.came() == [("ce09", "Online"), ("ce09", "Offline")]


@pytest.mark.parametrize("udev_is_down", [False, True])
async def test_who_hung_at_a_port_when_the_agent_stopped_is_not_it(
    tmp_path: Path, *, udev_is_down: bool
) -> None:
    mtp = replace(usb("", "1-1"), usb=UsbKind.MTP)
    expected = {"ce09": (UNPLUGGED, "1-2"), NAMELESS: (OFFLINE, "1-1")}
    async with house(tmp_path, HOOK) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, left("1-1"), Changed(usb("ce09", "1-2")))
        h.wait(60)
        told(h, left("1-2"), Changed(mtp))
        h.wait(60)
        assert shown(h) == expected
        await h.pipeline.close()
    silent = Snapshot(ADB, (adb("ce09", "1-1", Bridge.NOT_READY),))
    async with house(tmp_path, HOOK, derives=False) as h:
        if udev_is_down:
            told(h, Down(UDEV, "away"))
        told(h, Snapshot(USBMUX, ()), silent, Snapshot(UDEV, (mtp,)))
        h.wait(60)
        if udev_is_down:
            expected["ce09"] = (UNPLUGGED, "1-1")  # as adb said while nobody knew better
        assert shown(h) == expected
        assert await h.came() == []


async def test_another_address_makes_it_no_twin_after_a_restart(tmp_path: Path) -> None:
    async with house(tmp_path, HOOK) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, left("1-1"))
        await h.pipeline.close()
    silent = Snapshot(ADB, (adb("ce09", "1-1", Bridge.NOT_READY),))
    async with house(tmp_path, HOOK, derives=False) as h:
        told(h, Snapshot(USBMUX, ()), silent, Snapshot(UDEV, ()))
        h.see(numbered("ce09", "1-2", 4), numbered("ce09", "1-1", 1, Bridge.NOT_READY))
        told(h, Gone(ADB, "ce09"), Changed(usb("ce09", "1-2")))
        h.wait(60)
        assert shown(h) == {"ce09": (ONLINE, "1-2")}
        assert "shared" not in h.state("ce09")[1]
        assert await h.came() == []


async def test_nor_the_phone_that_hangs_there_by_now(tmp_path: Path) -> None:
    other = (numbered(ANYBODYS, "1-2", 4), usb(ANYBODYS, "1-2"))
    async with house(tmp_path, HOOK) as h:
        h.see(usb(ANYBODYS, "1-1"), adb(ANYBODYS, "1-1"), other[1])
        h.wait(60)
        told(h, Down(UDEV, "away"))
        await h.pipeline.close()
    silent = Snapshot(ADB, (adb(ANYBODYS, "1-1", Bridge.NOT_READY),))
    async with house(tmp_path, HOOK, derives=False) as h:
        told(h, Down(UDEV, "away"), silent, Snapshot(USBMUX, ()), Snapshot(UDEV, ()))
        h.wait(60)
        h.see(replace(usb("", "1-1"), usb=UsbKind.MTP))
        h.wait(60)
        h.see(other[0], numbered(ANYBODYS, "1-1", 1, Bridge.NOT_READY))
        told(h, Gone(ADB, ANYBODYS), Changed(other[1]))
        h.wait(60)
        assert shown(h) == {
            ANYBODYS: (UNPLUGGED, "1-1"),
            f"{ANYBODYS}@1-2": (ONLINE, "1-2"),
            NAMELESS: (OFFLINE, "1-1"),
        }


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("restart", [False, True])
async def test_a_phone_without_a_serial_is_not_one_whose_serial_udev_has_read(
    tmp_path: Path, *, moved: bool, restart: bool
) -> None:
    """Nobody saw the one leave and the other come."""
    there = replace(usb("", "1-1"), usb=UsbKind.FASTBOOT)
    row = adb("ce09", "1-1", Bridge.NOT_READY)
    async with house(tmp_path, HOOK) as h:
        h.see(usb("ce09", "1-1"), row)
        if moved:
            told(h, left("1-1"), Changed(replace(usb("ce09", "1-2"), usb=UsbKind.MTP)))
        h.wait(60)
        assert await h.came() == [("ce09", "Offline")]
        told(h, Down(UDEV, "away"))
        if not restart:
            told(h, Snapshot(UDEV, (there,)))
            h.wait(60)
            assert [udid for udid, _ in await h.came()] == ["ce09", "ce09", NAMELESS]
            expected = shown(h)
        await h.pipeline.close()
    async with house(tmp_path, HOOK, derives=False) as h:
        told(h, Snapshot(USBMUX, ()), Snapshot(ADB, (row,)), Snapshot(UDEV, (there,)))
        h.wait(60)
        if restart:
            assert await h.came() == [("ce09", "Unplugged"), (NAMELESS, "Offline")]
            expected = shown(h)
        assert expected == {
            "ce09": (UNPLUGGED, "1-2" if moved else "1-1"),
            NAMELESS: (OFFLINE, "1-1"),
        }
        assert shown(h) == expected


async def test_an_answer_shows_that_it_is_though_udev_reads_it_no_more(tmp_path: Path) -> None:
    async with house(tmp_path, HOOK) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        await h.pipeline.close()
    silent = Snapshot(ADB, (adb("ce09", "1-1", Bridge.NOT_READY),))
    async with house(tmp_path, HOOK, derives=False) as h:
        told(h, Snapshot(USBMUX, ()), silent, Snapshot(UDEV, (usb("", "1-1"),)))
        h.wait(1)
        h.see(adb("ce09", "1-1"))
        h.wait(60)
        assert shown(h) == {"ce09": (ONLINE, "1-1")}
        assert await h.came() == []


async def test_one_whose_serial_udev_never_read_is_itself_after_a_restart(tmp_path: Path) -> None:
    async with house(tmp_path, HOOK) as h:
        h.see(adb("ce09", "1-1", Bridge.NOT_READY), usb("", "1-1"))
        h.wait(60)
        told(h, Down(UDEV, "away"), Snapshot(UDEV, (usb("", "1-1"),)))
        h.wait(60)
        await h.pipeline.close()
    silent = Snapshot(ADB, (adb("ce09", "1-1", Bridge.NOT_READY),))
    async with house(tmp_path, HOOK, derives=False) as h:
        told(h, Snapshot(USBMUX, ()), silent, Snapshot(UDEV, (usb("", "1-1"),)))
        h.wait(60)
        assert shown(h) == {"ce09": (OFFLINE, "1-1")}
        assert await h.came() == []


async def test_who_was_taken_for_it_in_an_emergency_mode_makes_no_twin_of_it(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, HOOK) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, left("1-1"))
        h.wait(60)
        h.see(EDL)
        h.wait(60)
        await h.pipeline.close()
    silent = adb("ce09", "1-1", Bridge.NOT_READY)
    async with house(tmp_path, HOOK, derives=False) as h:
        told(h, Snapshot(USBMUX, ()), Snapshot(ADB, (silent,)), Snapshot(UDEV, (EDL,)))
        h.wait(60)
        h.see(usb("ce09", "1-2"), numbered("ce09", "1-2", 4))
        h.see(numbered("ce09", "1-1", 1, Bridge.NOT_READY))
        told(h, Gone(ADB, "ce09"))
        h.wait(60)
        assert shown(h) == {"ce09": (ONLINE, "1-2")}


async def test_what_answers_at_a_port_is_alone_there(tmp_path: Path) -> None:
    answers = adb("????????????", "1-1")
    async with house(tmp_path, HOOK) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, Down(UDEV, "away"), Changed(answers), Snapshot(UDEV, (usb("", "1-1"),)))
        h.wait(60)
        assert shown(h) == {"ce09": (UNPLUGGED, "1-1"), NAMELESS: (ONLINE, "1-1")}


async def test_no_phone_is_offline_for_it_while_udev_is_down(tmp_path: Path) -> None:
    async with house(tmp_path, HOOK) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1", Bridge.NOT_READY))
        told(h, left("1-1"))
        h.wait(60)
        told(h, Down(UDEV, "away"))
        h.wait(300)
        assert shown(h) == {"ce09": (UNPLUGGED, "1-1")}


async def test_it_says_nothing_of_a_phone_that_answers_over_the_network(tmp_path: Path) -> None:
    text = "[android]\nnetwork_devices = true\n[ios]\nenabled = false\n" + HOOK
    async with house(tmp_path, text) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"), far("10.0.0.7:5555", "ce09"))
        told(h, left("1-1"))
        h.wait(60)
        told(h, Down(UDEV, "away"))
        h.wait(300)
        assert h.state("ce09") == (ONLINE, "")
        assert await h.came() == [("ce09", "Online")]


async def test_one_without_a_serial_is_back_from_an_emergency_mode_as_the_same(
    tmp_path: Path,
) -> None:
    row = adb("????????????", "1-1", Bridge.NOT_READY)
    async with house(tmp_path, HOOK) as h:
        h.see(usb("", "1-1"), row)
        h.wait(60)
        told(h, left("1-1"), Gone(ADB, row.address), Changed(EDL))
        h.wait(60)
        told(h, Changed(row), left("1-1"), Changed(usb("", "1-1")))
        h.wait(60)
        assert shown(h) == {NAMELESS: (OFFLINE, "1-1")}


async def test_who_hung_last_where_an_emergency_mode_is_now_is_one_phone_elsewhere(
    tmp_path: Path,
) -> None:
    mux = replace(iphone("1-2"), source=USBMUX, address="3", port="", usb=None)
    async with house(tmp_path, HOOK) as h:
        h.see(iphone("1-1"))
        h.wait(60)
        told(h, left("1-1"))
        h.wait(60)
        told(h, Down(UDEV, "away"))
        h.see(replace(mux, bridge=Bridge.READY))
        told(h, Snapshot(UDEV, (EDL, iphone("1-2"))))
        h.wait(60)
        assert shown(h) == {APPLE: (ONLINE, "1-2")}


async def test_one_that_answered_elsewhere_and_went_is_not_there_for_its_old_row(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, HOOK) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, left("1-1"), Changed(usb("ce09", "1-2")))
        h.wait(60)
        told(h, left("1-2"))
        h.wait(60)
        h.see(numbered("ce09", "1-3", 4), numbered("ce09", "1-1", 1))
        told(h, Gone(ADB, "ce09"), Changed(adb("ce09", "1-1")))
        told(h, Gone(ADB, "ce09#4"), Gone(ADB, "ce09#1"))
        h.wait(60)
        assert shown(h)["ce09"][0] is UNPLUGGED


async def test_a_modem_with_the_phones_serial_makes_no_old_row_of_it(tmp_path: Path) -> None:
    modem = replace(usb(ANYBODYS, "1-4"), platform=None, usb=UsbKind.OTHER)
    async with house(tmp_path, HOOK) as h:
        h.see(modem, adb(ANYBODYS, "1-1", Bridge.NOT_READY))
        told(h, Gone(ADB, ANYBODYS))
        h.wait(60)
        assert shown(h) == {}
