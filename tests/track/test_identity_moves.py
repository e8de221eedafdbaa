"""A phone that moves, what adb's list still says of its old port; things of a phone's serial."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest

from agent.model import (
    Bridge,
    Changed,
    DeviceState,
    Down,
    Gone,
    Observation,
    Snapshot,
    UsbKind,
)
from tests.kit.tracking import ADB, HOOK, UDEV, adb, house, usb

if TYPE_CHECKING:
    from pathlib import Path

    from agent.model import Sighting
    from tests.kit.tracking import House

ANYBODYS = "0123456789ABCDEF"


def numbered(serial: str, port: str, number: int, bridge: Bridge = Bridge.READY) -> Sighting:
    """A row of adb that has another one of that serial beside it."""
    row = adb(serial, port, bridge, name="")
    return replace(row, address=f"{serial}#{number}", reason="" if bridge is Bridge.READY else "x")


def told(h: House, *observations: Observation) -> None:
    for observation in observations:
        h.pipeline.observe(observation)


def shown(h: House) -> dict[str, tuple[DeviceState, str]]:
    return {view.udid: (view.state, view.reason) for view in h.pipeline.views.all()}


MOVE: dict[str, list[Observation]] = {
    "udev": [Gone(UDEV, "/devices/1-1"), Changed(usb("ce09", "1-2"))],
    "adb": [
        Changed(numbered("ce09", "1-1", 1)),
        Changed(numbered("ce09", "1-2", 2)),
        Gone(ADB, "ce09"),
    ],
}


@pytest.mark.parametrize(
    "turns", sorted(set(permutations(["udev", "udev", "adb", "adb", "adb"]))), ids="-".join
)
@pytest.mark.parametrize("old", [Bridge.READY, Bridge.NOT_READY])
async def test_a_phone_that_moves_and_stays_in_adbs_list_where_it_hung_is_one_phone(
    tmp_path: Path, turns: tuple[str, ...], old: Bridge
) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        await h.came()
        if old is not Bridge.READY:
            h.see(adb("ce09", "1-1", old))
        left = {source: list(steps) for source, steps in MOVE.items()}
        left["adb"][0] = Changed(numbered("ce09", "1-1", 1, old))
        for source in turns:
            told(h, left[source].pop(0))
            h.wait(0.1)
            assert set(shown(h)) == {"ce09"}
            assert "shared" not in shown(h)["ce09"][1]
        h.wait(60)
        assert shown(h) == {"ce09": (DeviceState.ONLINE, "")}
        told(h, Changed(adb("ce09", "1-2")), Gone(ADB, "ce09#1"), Gone(ADB, "ce09#2"))
        h.wait(60)
        assert await h.came() == [("ce09", "Online")]
        (record,) = await h.store.devices.all()
        assert (record.shared, record.port) == (False, "1-2")


async def test_a_device_on_the_network_that_has_the_serial_makes_no_twin_of_one_that_moves(
    tmp_path: Path,
) -> None:
    text = "[ios]\nenabled = false\n[android]\nnetwork_devices = true\n" + HOOK
    far = replace(adb("10.0.0.7:5555", ""), network=True)
    async with house(tmp_path, text) as h:
        h.see(replace(far, bridge=Bridge.NOT_READY))
        h.wait(5)
        h.see(replace(far, usb_serial="ce09"), usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, MOVE["udev"][0], *MOVE["adb"], MOVE["udev"][1])
        h.wait(60)
        assert {udid: state for udid, (state, _) in shown(h).items()} == {
            "10.0.0.7:5555": DeviceState.ONLINE,
            "ce09": DeviceState.ONLINE,
        }


async def test_the_old_row_does_not_speak_for_the_phone_at_its_new_port(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, *MOVE["udev"], *MOVE["adb"])
        h.see(numbered("ce09", "1-2", 2, Bridge.NOT_READY))
        h.wait(5)
        assert await h.came() == [("ce09", "Online"), ("ce09", "Offline")]


async def test_a_phone_that_moved_is_unplugged_though_both_its_rows_stay(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, *MOVE["udev"], *MOVE["adb"])
        told(h, Gone(UDEV, "/devices/1-2"))
        h.wait(3)
        assert await h.came() == [("ce09", "Online"), ("ce09", "Unplugged")]
        assert set(shown(h)) == {"ce09"}


@pytest.mark.parametrize("udev_first", [False, True])
async def test_a_list_of_two_ports_at_the_start_is_one_phone_where_udev_sees_it_once(
    tmp_path: Path, *, udev_first: bool
) -> None:
    async with house(tmp_path, derives=False) as h:
        rows = (numbered("ce09", "1-1", 1), numbered("ce09", "1-2", 2))
        said: list[Observation] = [Snapshot(UDEV, (usb("ce09", "1-2"),)), Snapshot(ADB, rows)]
        told(h, *(said if udev_first else reversed(said)))
        h.wait(60)
        assert await h.came() == [("ce09", "Online")]
        assert "shared" not in shown(h)["ce09"][1]


async def test_a_stale_list_read_anew_makes_no_twin_of_a_phone_on_its_way(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        rows = (numbered("ce09", "1-1", 1), numbered("ce09", "1-2", 2))
        told(h, Gone(UDEV, "/devices/1-1"), Down(ADB, "hangs"), Snapshot(ADB, rows))
        h.wait(1)
        told(h, Changed(usb("ce09", "1-2")))
        h.wait(60)
        assert await h.came() == [("ce09", "Online")]
        assert "shared" not in shown(h)["ce09"][1]


async def test_a_twin_is_a_twin_once_udev_has_seen_both(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, *MOVE["adb"])
        h.wait(60)
        assert set(shown(h)) == {"ce09"}, "udev has not said yet whether one hangs there"
        h.see(usb("ce09", "1-2"))
        h.wait(60)
        assert await h.came() == [("ce09", "Online"), ("ce09@1-2", "Online")]


async def test_a_row_left_behind_is_no_third_beside_twins(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, *MOVE["udev"], *MOVE["adb"])
        h.see(usb("ce09", "1-3"), numbered("ce09", "1-3", 3))
        h.wait(60)
        assert await h.came() == [("ce09", "Online"), ("ce09@1-3", "Online")]
        assert set(shown(h)) == {"ce09", "ce09@1-3"}


@pytest.mark.parametrize("missing", [False, True])
async def test_where_udev_is_not_there_two_ports_are_two_phones(
    tmp_path: Path, *, missing: bool
) -> None:
    async with house(tmp_path, derives=False) as h:
        told(h, Down(UDEV, "no udevd", missing=missing), Snapshot(ADB, ()))
        h.see(numbered("ce09", "1-1", 1), numbered("ce09", "1-2", 2))
        h.wait(60)
        assert await h.came() == [("ce09", "Online"), ("ce09@1-2", "Online")]


async def test_one_that_moves_while_udev_is_away_and_stays_listed_is_two_and_both_are_told(
    tmp_path: Path,
) -> None:
    """Both rows are ready: nobody can know that one of them is old. Udev ends the one it is not."""
    async with house(tmp_path) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, Down(UDEV, "stopped"))
        h.see(numbered("ce09", "1-2", 2), numbered("ce09", "1-1", 1))
        told(h, Gone(ADB, "ce09"))
        h.wait(60)
        told(h, Snapshot(UDEV, (usb("ce09", "1-2"),)))
        h.wait(60)
        assert await h.came() == [
            ("ce09", "Online"),
            ("ce09@1-2", "Online"),
            ("ce09", "Unplugged"),
        ]


async def test_two_phones_of_a_serial_that_udev_never_saw_are_two(tmp_path: Path) -> None:
    """A forwarded adb server of another host, whose ports are no ports of this one."""
    async with house(tmp_path) as h:
        h.see(numbered("ce09", "1-1", 1), numbered("ce09", "1-2", 2))
        h.wait(60)
        assert await h.came() == [("ce09", "Online"), ("ce09@1-2", "Online")]


async def test_a_row_left_behind_makes_no_twin_while_udevd_is_started_anew(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, *MOVE["udev"], *MOVE["adb"])
        told(h, Down(UDEV, "stopped"))
        h.see(numbered("ce09", "1-2", 2, Bridge.NOT_READY))
        h.see(numbered("ce09", "1-2", 2))
        h.wait(60)
        told(h, Snapshot(UDEV, (usb("ce09", "1-2"),)))
        h.wait(60)
        assert await h.came() == [("ce09", "Online")]
        assert "shared" not in shown(h)["ce09"][1]


async def test_a_phone_that_came_just_before_udevd_was_stopped_takes_nobodys_name(
    tmp_path: Path,
) -> None:
    fastboot = replace(usb("ce09", "1-1"), usb=UsbKind.FASTBOOT)
    async with house(tmp_path) as h:
        h.see(fastboot)
        h.wait(5)
        h.see(adb("ce09", "1-2"))
        told(h, Down(UDEV, "stopped"))
        h.wait(60)
        assert await h.came() == [("ce09", "Offline")], "udev saw that one elsewhere"
        told(h, Snapshot(UDEV, (fastboot, usb("ce09", "1-2"))))
        h.wait(60)
        assert await h.came() == [("ce09", "Offline"), ("ce09@1-2", "Online")]


async def test_an_answer_is_proof_also_of_a_phone_that_udev_had_no_word_on(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(replace(usb("ce09", "1-1"), usb=UsbKind.FASTBOOT))
        h.wait(5)
        h.see(adb("ce09", "1-2", Bridge.UNKNOWN))
        told(h, Down(UDEV, "stopped"))
        h.wait(60)
        assert await h.came() == [("ce09", "Offline")]
        h.see(adb("ce09", "1-2"))
        assert await h.came() == [("ce09", "Offline"), ("ce09", "Online")]


async def test_a_row_whose_port_is_somebody_elses_by_now_speaks_for_no_twin(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09", "1-1"), usb("ce09", "1-2"))
        h.see(numbered("ce09", "1-1", 1, Bridge.NOT_READY), numbered("ce09", "1-2", 2))
        h.wait(5)
        assert await h.came() == [("ce09@1-2", "Online"), ("ce09", "Offline")]
        told(h, Gone(UDEV, "/devices/1-2"))
        h.see(usb("r58m", "1-2"))
        h.wait(3)
        assert (await h.came())[2:] == [("ce09@1-2", "Unplugged")]
        assert shown(h)["ce09"][0] is DeviceState.OFFLINE


async def test_a_row_whose_port_is_somebody_elses_by_now_is_no_further_twin(tmp_path: Path) -> None:
    rows = (numbered("ce09", "1-1", 1), numbered("ce09", "1-2", 2))
    async with house(tmp_path) as h:
        h.see(usb("ce09", "1-1"), usb("ce09", "1-2"), *rows)
        told(h, Gone(UDEV, "/devices/1-2"))
        h.see(usb("r58m", "1-2"))
        h.wait(3)
        told(h, Down(ADB, "hangs"), Snapshot(ADB, rows))
        assert set(shown(h)) == {"ce09", "ce09@1-2", "r58m"}
        assert shown(h)["ce09@1-2"][0] is DeviceState.UNPLUGGED


async def test_a_row_whose_port_is_somebody_elses_by_now_makes_no_phone_of_a_thing(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        h.see(replace(usb("ce09", "1-3"), usb=UsbKind.OTHER, platform=None))
        told(h, Gone(UDEV, "/devices/1-1"))
        h.see(usb("r58m", "1-1"))
        h.wait(3)
        assert await h.came() == [("ce09", "Online"), ("ce09", "Unplugged")]
        told(h, Gone(ADB, "ce09"))
        h.wait(60)
        assert [udid for udid, _ in await h.came()] == ["ce09", "ce09", "r58m"]


async def test_a_phone_without_a_serial_that_left_is_not_the_next_one_at_its_port(
    tmp_path: Path,
) -> None:
    nameless = adb("????????????", "1-1", Bridge.NOT_READY)
    async with house(tmp_path) as h:
        h.see(usb("", "1-1"), nameless)
        h.wait(5)
        told(h, Gone(UDEV, "/devices/1-1"))
        h.see(usb("ce09", "1-1"))
        told(h, Gone(ADB, "????????????"))
        h.see(adb("ce09", "1-1"))
        h.wait(60)
        assert sorted(await h.came()) == [
            ("ce09", "Online"),
            ("no-serial@1-1", "Offline"),
            ("no-serial@1-1", "Unplugged"),
        ]


async def test_a_row_left_behind_does_not_speak_for_a_phone_in_its_boot_loader(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, Gone(UDEV, "/devices/1-1"))
        h.see(replace(usb("ce09", "1-2"), usb=UsbKind.FASTBOOT))
        h.wait(60)
        assert await h.came() == [("ce09", "Online"), ("ce09", "Offline")]


async def test_of_two_rows_at_one_port_the_newest_speaks(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, Gone(UDEV, "/devices/1-1"))
        h.see(usb("ce09", "1-1"), numbered("ce09", "1-1", 9))
        h.see(numbered("ce09", "1-1", 10, Bridge.NOT_READY))
        told(h, Gone(ADB, "ce09"))
        h.wait(60)
        assert await h.came() == [("ce09", "Online"), ("ce09", "Offline")]


async def test_a_row_left_behind_is_not_the_next_phone_at_its_port_that_has_no_serial(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        told(h, Gone(UDEV, "/devices/1-1"))
        h.see(replace(usb("", "1-1"), usb=UsbKind.MTP))
        h.wait(60)
        assert sorted(await h.came()) == [
            ("ce09", "Online"),
            ("ce09", "Unplugged"),
            ("no-serial@1-1", "Offline"),
        ]


@pytest.mark.parametrize("edl", [False, True])
async def test_a_row_left_behind_without_a_serial_does_not_speak_for_the_next_phone_there(
    tmp_path: Path, *, edl: bool
) -> None:
    next_one = replace(usb("ce09", "1-1"), usb=UsbKind.MTP)
    async with house(tmp_path) as h:
        h.see(usb("", "1-1"), adb("????????????", "1-1"))
        told(h, Gone(UDEV, "/devices/1-1"))
        h.wait(3)
        h.see(next_one)
        h.wait(60)
        if edl:
            told(h, Gone(UDEV, "/devices/1-1"))
            h.see(replace(next_one, serial="", usb=UsbKind.EMERGENCY, platform=None))
            h.wait(60)
        assert await h.came() == [
            ("no-serial@1-1", "Online"),
            ("no-serial@1-1", "Unplugged"),
            ("ce09", "Offline"),
        ]


async def test_a_serial_that_was_told_late_is_remembered_over_a_restart(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.see(usb("", "1-1"))
        h.wait(60)
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        assert await h.came() == [("no-serial@1-1", "Offline"), ("no-serial@1-1", "Online")]
    async with house(tmp_path, derives=False) as h:
        told(h, Snapshot(UDEV, (usb("ce09", "1-1"),)), Snapshot(ADB, (adb("ce09", "1-1"),)))
        h.wait(60)
        assert await h.came() == []
        assert set(shown(h)) == {"no-serial@1-1"}


def at(bus: int, controller: str, **more: Any) -> Sighting:
    """A phone of nobody's serial at the first port of a controller."""
    devpath = f"/devices/pci0000:00/0000:00:{controller}.0/usb{bus}/{bus}-1"
    return replace(usb(ANYBODYS, f"{bus}-1"), address=devpath, **more)


async def test_while_udev_is_not_there_a_twin_is_known_by_its_port_on_its_very_bus(
    tmp_path: Path,
) -> None:
    twins = (at(1, "14"), at(2, "15"))
    async with house(tmp_path) as h:
        h.see(*twins)
        h.wait(60)
        assert len(await h.came()) == 2
        before = set(shown(h))
    async with house(tmp_path, derives=False) as h:
        told(h, Down(UDEV, "stopped"), Snapshot(ADB, ()))
        h.see(adb(ANYBODYS, "3-1"))
        h.wait(60)
        new = set(shown(h)) - before
        assert await h.came() == [(udid, "Online") for udid in new], "on a third bus: a third one"
        told(h, Gone(ADB, ANYBODYS))
        h.see(replace(adb(ANYBODYS, "2-1"), address=f"{ANYBODYS}#2"))
        h.wait(60)
        (second,) = {udid for udid in before if "0:15" in udid or "00:15" in udid}
        assert (await h.came())[-1] == (second, "Online")


async def test_a_port_whose_bus_has_another_number_since_a_reboot_is_not_that_one(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as h:
        h.see(at(1, "14"), at(2, "15"))
        h.wait(60)
        told(h, Gone(UDEV, at(1, "14").address), Gone(UDEV, at(2, "15").address))
        h.wait(60)
        assert len(await h.came()) == 4
    async with house(tmp_path, derives=False) as h:
        other = at(2, "14", serial="ce09")
        told(h, Snapshot(UDEV, (other,)), Snapshot(ADB, ()), Down(UDEV, "stopped"))
        h.see(adb(ANYBODYS, "1-1"))
        h.wait(60)
        assert [udid for udid, _ in await h.came()] == [f"{ANYBODYS}@1-1"], "nobody hung there"


# --- things -----------------------------------------------------------------------------------


@pytest.mark.parametrize("serial", ["ce09", ANYBODYS])
@pytest.mark.parametrize("left", ["before", "meanwhile"])
@pytest.mark.parametrize("twice", [False, True])
async def test_a_thing_of_a_phones_serial_is_not_that_phone_after_a_restart(
    tmp_path: Path, serial: str, left: str, *, twice: bool
) -> None:
    thing = replace(usb(serial, "1-2"), usb=UsbKind.OTHER, platform=None)
    async with house(tmp_path) as h:
        h.see(usb(serial, "1-1"), adb(serial, "1-1"))
        if left == "before":
            told(h, Gone(ADB, serial), Gone(UDEV, "/devices/1-1"))
            h.wait(3)
        await h.came()
    async with house(tmp_path, derives=False) as h:
        told(h, Snapshot(ADB, ()), Snapshot(UDEV, (thing,)))
        h.wait(60)
        assert await h.came() == ([] if left == "before" else [(serial, "Unplugged")])
        if twice:
            told(h, Gone(UDEV, "/devices/1-2"), Changed(thing), Down(UDEV, "x"))
            told(h, Snapshot(UDEV, (thing,)))
            h.wait(60)
        assert shown(h)[serial][0] is DeviceState.UNPLUGGED
        h.sent.clear()
        h.see(usb(serial, "1-1"), adb(serial, "1-1"))
        h.wait(60)
        assert await h.came() == [(serial, "Online")]
        told(h, Gone(ADB, serial), Gone(UDEV, "/devices/1-1"))
        h.wait(60)
        assert await h.came() == [(serial, "Online"), (serial, "Unplugged")]


async def test_a_thing_that_stood_beside_a_phone_is_not_that_phone_whatever_is_started_anew(
    tmp_path: Path,
) -> None:
    thing = replace(usb("ce09", "1-2"), usb=UsbKind.OTHER, platform=None)
    async with house(tmp_path) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"), thing)
        told(h, Gone(ADB, "ce09"), Gone(UDEV, "/devices/1-1"))
        h.wait(3)
        told(h, Down(UDEV, "stopped"), Snapshot(UDEV, (thing,)))
        h.wait(60)
        told(h, Gone(UDEV, "/devices/1-2"), Changed(thing))
        h.wait(60)
        assert await h.came() == [("ce09", "Online"), ("ce09", "Unplugged")]


async def test_a_phone_is_itself_in_its_place_after_a_restart_whatever_its_mode(
    tmp_path: Path,
) -> None:
    charging = replace(usb("ce09", "1-1"), usb=UsbKind.OTHER, platform=None)
    async with house(tmp_path) as h:
        h.see(usb("ce09", "1-1"), adb("ce09", "1-1"))
        await h.came()
    async with house(tmp_path, derives=False) as h:
        told(h, Snapshot(ADB, ()), Snapshot(UDEV, (charging,)))
        h.wait(60)
        assert await h.came() == [("ce09", "Offline")]
        told(h, Gone(UDEV, "/devices/1-1"))
        h.see(replace(charging, address="/devices/1-2", port="1-2"))
        h.wait(60)
        assert len(await h.came()) == 1, "moved while it was looked at"
