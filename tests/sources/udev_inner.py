"""The udev source against libudev itself: its netlink, its enumeration, a fake sysfs.

Runs only inside a namespace of its own; test_udev.py brings it there and shows each result.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from agent.model import Changed, Down, Gone, Platform, Sighting, Snapshot, SourceName, UsbKind
from agent.sources.udev import UdevSource
from tests.fakes.recorder import Recorder
from tests.fakes.udev_namespace import lab as lab_root
from tests.fakes.udev_net import UdevNet, message
from tests.fakes.udev_sysfs import (
    ADB,
    APPLE_MUX,
    FASTBOOT,
    KEYBOARD,
    MTP,
    FakeSysfs,
    FakeUsbDevice,
)
from tests.kit.waiting import LIMIT, eventually
from tests.sources.conformance import Lab, SourceConformance, serials, watching

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from agent.model import BatteryRead, Observation
    from tests.fakes.udev_dump import Dumped

RETRY = 0.05
JUNK = "0123456789ABCDEF"
STORAGE = (0x08, 0x06, 0x50)
VENDOR = (0xFF, 0xFF, 0x00)
WIPED = {"ID_SERIAL_SHORT": None, "ID_USB_INTERFACES": None, "ID_MODEL": None}
"""What `unbind` leaves of udev's database, and a first message may come without."""


class UdevLab(Lab):
    """A host: its USB tree, and its udevd, played over netlink."""

    def __init__(self) -> None:
        self.sysfs = FakeSysfs(lab_root())
        self.net = UdevNet()

    def close(self) -> None:
        """Leave the host empty for the next test."""
        self.net.close()
        self.sysfs.clear()

    def source(self) -> UdevSource:
        return UdevSource(retry=RETRY, compare=RETRY)

    async def start(self) -> None:
        self.sysfs.start_udevd()

    async def kill(self) -> None:
        self.sysfs.stop_udevd()

    async def add(self, number: int) -> str:
        return self.plug(f"1-{number}", f"SERIAL{number}").serial

    async def remove(self, number: int) -> None:
        self.unplug(f"1-{number}")

    def plug(self, port: str, serial: str, *args: Any, **kwargs: Any) -> FakeUsbDevice:
        """As FakeSysfs.add_phone; udevd tells of it, if it runs."""
        device = self.sysfs.add_phone(port, serial, *args, **kwargs)
        self.say("add", device)
        return device

    def unplug(self, port: str) -> FakeUsbDevice | Dumped:
        """As the kernel and udevd do it: unbind, which wipes the database, then remove."""
        device = self.sysfs.remove(port)
        self.say("unbind", device, **WIPED)
        self.say("remove", device, **WIPED)
        return device

    def say(self, action: str, device: FakeUsbDevice | Dumped, **changed: str | None) -> None:
        """Udevd tells of the device, if it runs."""
        if self.sysfs.control.exists():
            self.net.send(action, device, **changed)


@pytest.fixture
def lab() -> Iterator[UdevLab]:
    host = UdevLab()
    yield host
    host.close()


@pytest.fixture
def host(lab: UdevLab) -> UdevLab:
    """A lab whose udevd runs."""
    lab.sysfs.start_udevd()
    return lab


class TestUdevConformance(SourceConformance):
    """What every source must do. Two cases have their own tests below or cannot be."""

    # libudev drops malformed messages itself: test_garbage_is_ignored.
    test_garbage_is_down_then_a_snapshot_and_no_false_edge = None  # type: ignore[assignment]  # left out
    # udevd is never asked anything, so it cannot leave an answer out.
    test_a_hanging_peer_is_down_within_the_limit = None  # type: ignore[assignment]  # left out


def sees_only(recorder: Recorder, serial: str) -> bool:
    return serials(recorder) == {serial}


def seen_at(recorder: Recorder, port: str) -> Sighting | None:
    """What is visible at that port now."""
    return next((s for s in recorder.visible.values() if s.port == port), None)


def open_descriptors() -> set[int]:
    """All of this process, but the one that lists them."""
    return {int(entry.name) for entry in list(Path("/proc/self/fd").iterdir()) if entry.exists()}


def readers() -> list[threading.Thread]:
    """The source's threads that look into sysfs now."""
    return [thread for thread in threading.enumerate() if thread.name == "udev"]


def kind_at(recorder: Recorder, port: str) -> UsbKind | None:
    """The kind of what is visible at that port now."""
    sighting = seen_at(recorder, port)
    return None if sighting is None else sighting.usb


def reason_at(recorder: Recorder, port: str) -> str:
    """The reason of what is visible at that port now."""
    sighting = seen_at(recorder, port)
    return "" if sighting is None else sighting.reason


async def settled(lab: UdevLab, recorder: Recorder) -> None:
    """All that was said so far is read: a phone that comes last is seen."""
    lab.plug("9-9", "LAST")
    await recorder.until(lambda: "LAST" in serials(recorder), "the last phone")
    lab.unplug("9-9")
    await recorder.until(lambda: "LAST" not in serials(recorder), "its going")


# --- what a sighting says ---------------------------------------------------------------------


@pytest.mark.parametrize("first_seen_by", ["enumeration", "message"])
async def test_a_sighting_says_all_that_udev_knows(host: UdevLab, first_seen_by: str) -> None:
    if first_seen_by == "enumeration":
        phone = host.plug(
            "3-4.2", "R58M12ABCDE", 0x04E8, 0x6860, [MTP, ADB], model="SAMSUNG Android"
        )
    async with watching(host) as recorder:
        await recorder.next_after(0)
        if first_seen_by == "message":
            phone = host.plug(
                "3-4.2", "R58M12ABCDE", 0x04E8, 0x6860, [MTP, ADB], model="SAMSUNG Android"
            )
        await recorder.until(lambda: bool(recorder.visible), "the phone")
        assert list(recorder.visible.values()) == [
            Sighting(
                source=SourceName.UDEV,
                address=phone.devpath,
                serial="R58M12ABCDE",
                platform=Platform.ANDROID,
                port="3-4.2",
                usb=UsbKind.ADB,
                model="SAMSUNG Android",
            )
        ]


async def test_without_udevs_rules_sysfs_tells_the_same(host: UdevLab) -> None:
    host.plug("1-1", "ENUMERATED", 0x18D1, 0x4EE2, [MTP, ADB], in_database=False)
    async with watching(host) as recorder:
        await recorder.next_after(0)
        later = host.sysfs.add_phone("1-2", "HEARD", 0x18D1, 0x4EE2, [MTP, ADB])
        host.say("add", later, **WIPED)
        await recorder.until(lambda: len(recorder.visible) == 2, "both")
        await recorder.until(lambda: serials(recorder) == {"ENUMERATED", "HEARD"}, "serials")
        for port in ("1-1", "1-2"):
            sighting = seen_at(recorder, port)
            assert sighting is not None
            assert sighting.usb is UsbKind.ADB
            assert sighting.model == "Pixel 7"


async def test_hubs_serialless_things_and_interfaces_are_no_sightings(host: UdevLab) -> None:
    host.sysfs.add_hub("1-1")
    host.plug("1-2", "", 0x046D, 0xC31C, [KEYBOARD], model="Keyboard")
    async with watching(host) as recorder:
        await recorder.next_after(0)
        host.say("add", host.sysfs.add_hub("1-3"))
        host.plug("1-4", "", 0x046D, 0xC31C, [KEYBOARD], model="Keyboard")
        interface = host.sysfs.plugged["1-4"]
        host.say("add", interface, DEVTYPE="usb_interface", ID_SERIAL_SHORT="INTERFACE")
        await settled(host, recorder)
        assert {
            s.serial for o in recorder.seen if isinstance(o, Changed) for s in [o.sighting]
        } == {"LAST"}
        assert recorder.seen[0] == Snapshot(SourceName.UDEV, ())


@pytest.mark.parametrize("first_seen_by", ["enumeration", "message"])
async def test_what_has_a_phones_serial_and_is_none(host: UdevLab, first_seen_by: str) -> None:
    """Serials that makers leave as they found them; each thing as public dumps show it."""

    def plug_all() -> None:
        host.plug("1-1", JUNK, 0x0E8D, 0x2008, [VENDOR], mtp=True, model="MT65xx Android Phone")
        host.plug("1-2", JUNK, 0x12D1, 0x15B6, [(255, 2, 18), STORAGE], model="HUAWEI_MOBILE")
        host.plug("1-3", JUNK, 0x0781, 0x5567, [STORAGE], model="Cruzer Blade")
        host.plug("1-4", JUNK, 0x046D, 0xC31C, [KEYBOARD], model="Keyboard")
        host.plug("1-5", JUNK, 0x04A9, 0x31C0, [MTP], model="Canon Digital Camera")
        host.plug("1-6", JUNK, 0x03F0, 0x0F2A, [(7, 1, 2)], model="LaserJet")
        host.plug("1-7", JUNK, 0x2C7C, 0x0125, [(255, 255, 255)], model="EC25 Modem")

    if first_seen_by == "enumeration":
        plug_all()
    async with watching(host) as recorder:
        await recorder.next_after(0)
        if first_seen_by == "message":
            plug_all()
        await settled(host, recorder)
        assert [(s.port, s.usb) for s in recorder.visible.values()] == [("1-1", UsbKind.MTP)]
        assert {
            s.port
            for o in recorder.seen
            for s in (o.sightings if isinstance(o, Snapshot) else ())
            if s.serial == JUNK
        } <= {"1-1"}


@pytest.mark.parametrize(
    ("interfaces", "product"),
    [
        ([(0xE0, 1, 3), (0x0A, 0, 0)], 0x4EE3),  # USB tethering
        ([STORAGE], 0x4E21),  # as phones of Android 2 and 3 were disks
        ([(1, 1, 0), (1, 3, 0)], 0x4EE8),  # MIDI
        ([(0xFF, 0xFF, 0)], 0x2D00),  # an accessory's
        ([(1, 1, 0), (1, 2, 0)], 0x2D02),  # audio source
        ([], 0x4EE1),  # charging only
    ],
    ids=["tethering", "storage", "MIDI", "accessory", "audio", "nothing"],
)
async def test_a_phone_with_debugging_off_may_look_like_much_else(
    host: UdevLab, interfaces: list[tuple[int, int, int]], product: int
) -> None:
    async with watching(host) as recorder:
        await recorder.next_after(0)
        host.plug("1-1", "PHONE", 0x18D1, product, interfaces)
        await recorder.until(lambda: kind_at(recorder, "1-1") is UsbKind.OTHER, "the phone")


async def test_an_emergency_mode_says_which_and_needs_no_serial(host: UdevLab) -> None:
    async with watching(host) as recorder:
        await recorder.next_after(0)
        host.plug("1-1", "", 0x05C6, 0x9008, [(255, 255, 255)], model="QHSUSB__BULK")
        await recorder.until(lambda: kind_at(recorder, "1-1") is UsbKind.EMERGENCY, "the phone")
        sighting = seen_at(recorder, "1-1")
        assert sighting is not None
        assert sighting.platform is Platform.ANDROID
        assert "EDL" in sighting.reason
        assert sighting.code == "emergency_mode"
        assert "restart" in sighting.reason


async def test_without_mtp_probe_the_interfaces_name_tells_mtp(host: UdevLab) -> None:
    """Of a maker that no list has; a camera of one says PTP, or nothing."""
    host.plug("1-1", "ENUMERATED", 0xABCD, 1, [MTP], interface_name="MTP")
    host.plug("1-2", "CAMERA", 0xABCD, 2, [MTP], interface_name="PTP")
    async with watching(host) as recorder:
        await recorder.next_after(0)
        host.plug("1-3", "HEARD", 0xABCD, 1, [MTP], interface_name="MTP")
        host.plug("1-4", "CAMERA2", 0xABCD, 2, [MTP])
        host.plug("1-5", "VENDORS", 0xABCD, 3, [VENDOR], interface_name="MTP")
        await recorder.until(lambda: kind_at(recorder, "1-5") is UsbKind.MTP, "vendor-specific MTP")
        await recorder.until(lambda: kind_at(recorder, "1-3") is UsbKind.MTP, "the phone")
        await settled(host, recorder)
        assert serials(recorder) == {"ENUMERATED", "HEARD", "VENDORS"}


# --- blocked by USB authorization ---------------------------------------------------------------


@pytest.mark.parametrize("first_seen_by", ["enumeration", "message"])
async def test_a_blocked_phone_says_so_until_it_is_allowed(
    host: UdevLab, first_seen_by: str
) -> None:
    if first_seen_by == "enumeration":
        host.plug("1-1", "PHONE", authorized=False)
    async with watching(host) as recorder:
        await recorder.next_after(0)
        if first_seen_by == "message":
            host.plug("1-1", "PHONE", authorized=False)
        await recorder.until(lambda: "USB authorization" in reason_at(recorder, "1-1"), "why")
        assert kind_at(recorder, "1-1") is UsbKind.ADB
        assert "/sys/bus/usb/devices/1-1/authorized" in reason_at(recorder, "1-1")
        assert {each.code for each in recorder.visible.values()} == {"blocked"}
        host.sysfs.authorize("1-1")
        await recorder.until(lambda: reason_at(recorder, "1-1") == "", "its being allowed")
        host.sysfs.authorize("1-1", authorized=False)
        await recorder.until(lambda: "USB authorization" in reason_at(recorder, "1-1"), "again")
        assert serials(recorder) == {"PHONE"}
        assert recorder.count(Gone) == 0


async def test_a_blocked_interface_is_named(host: UdevLab) -> None:
    phone = host.sysfs.add_phone("1-1", "PHONE", interfaces=[MTP, ADB])
    (host.sysfs.directory(phone) / "1-1:1.1" / "authorized").write_text("0\n")
    async with watching(host) as recorder:
        await recorder.next_after(0)
        assert "/sys/bus/usb/devices/1-1:1.1/authorized" in reason_at(recorder, "1-1")


async def test_a_device_that_tells_no_name_has_the_databases(host: UdevLab) -> None:
    async with watching(host) as recorder:
        await recorder.next_after(0)
        phone = host.sysfs.add_phone("1-1", "NAMELESS", 0x22B8, 0x2E81, model="")
        host.say("add", phone, ID_MODEL_FROM_DATABASE="Moto X4")
        await recorder.until(lambda: bool(recorder.visible), "the phone")
        sighting = seen_at(recorder, "1-1")
        assert sighting is not None
        assert sighting.model == "Moto X4"


async def test_a_phone_kind_without_a_serial_is_shown(host: UdevLab) -> None:
    async with watching(host) as recorder:
        await recorder.next_after(0)
        host.plug("1-1", "", 0x18D1, 0x4EE7, [ADB])
        await recorder.until(lambda: kind_at(recorder, "1-1") is UsbKind.ADB, "the phone")


# --- numbers ------------------------------------------------------------------------------------


async def test_a_thousand_phones_are_enumerated(host: UdevLab) -> None:
    expected = {
        host.sysfs.add_phone(f"{n // 100 + 1}-{n % 100 // 10}.{n % 10}", f"S{n:04}").serial
        for n in range(1000)
    }
    async with watching(host) as recorder:
        snapshot = await recorder.next_after(0)
        assert isinstance(snapshot, Snapshot)
        assert {sighting.serial for sighting in snapshot.sightings} == expected
        assert len(snapshot.sightings) == 1000


async def test_a_burst_is_read_in_full_and_leaves_the_loop_its_turns(host: UdevLab) -> None:
    ports = [f"1-1.{n}" for n in range(1000)]
    recorder = Recorder()
    turn = 0
    turns_of_edges: set[int] = set()

    async def take_turns() -> None:
        nonlocal turn
        while True:
            await asyncio.sleep(0)
            turn += 1

    def emit(observation: Observation | BatteryRead) -> None:
        turns_of_edges.add(turn)
        recorder(observation)

    source = UdevSource(retry=RETRY)  # compares nothing while this lasts
    running = [asyncio.create_task(source.run(emit)), asyncio.create_task(take_turns())]
    await recorder.next_after(0)
    turns_of_edges.clear()
    phones = [host.plug(port, f"S{port}") for port in ports]
    for phone in phones:
        host.say("remove", phone, **WIPED)
    await recorder.until(lambda: recorder.count(Gone) == 1000, "1,000 removals")
    for task in running:
        task.cancel()
    await asyncio.wait(running)
    assert recorder.count(Snapshot) == 1, "this test's socket buffer must hold the burst"
    assert [o.sighting.port for o in recorder.seen if isinstance(o, Changed)] == ports
    assert [o.address for o in recorder.seen if isinstance(o, Gone)] == [
        phone.devpath for phone in phones
    ]
    assert len(turns_of_edges) >= 7, "2,000 messages, at most 256 in one turn"


async def test_after_an_overflow_a_snapshot_tells_the_truth(host: UdevLab) -> None:
    host.plug("1-1", "LEAVES")
    with structlog.testing.capture_logs() as logs:
        recorder = Recorder()
        source = UdevSource(retry=RETRY, receive_buffer=32 * 1024)  # some 20 messages
        task = asyncio.create_task(source.run(recorder))
        await recorder.next_after(0)
        host.unplug("1-1")
        for n in range(500):  # nothing reads meanwhile: this test holds the loop
            host.plug(f"1-2.{n}", f"S{n}")
        await recorder.until(lambda: recorder.count(Snapshot) == 2, "the fresh snapshot")
        assert serials(recorder) == {f"S{n}" for n in range(500)}
        await settled(host, recorder)
        task.cancel()
        await asyncio.wait({task})
    assert recorder.count(Down) == 0
    overflows = [entry for entry in logs if entry["event"] == "udev.overflow"]
    assert len(overflows) == 1
    assert overflows[0]["log_level"] == "warning"


# --- coming, going, changing --------------------------------------------------------------------


async def test_a_removal_is_known_by_its_path_when_the_serial_is_wiped(host: UdevLab) -> None:
    async with watching(host) as recorder:
        await recorder.next_after(0)
        phone = host.plug("1-4.2", "PHONE")
        await recorder.until(lambda: serials(recorder) == {"PHONE"}, "the phone")
        host.unplug("1-4.2")
        await recorder.until(lambda: recorder.count(Gone) > 0, "its going")
        came = recorder.seen[1]
        assert isinstance(came, Changed)
        assert recorder.seen[1:] == [came, Gone(SourceName.UDEV, phone.devpath)]


async def test_what_is_known_is_not_told_again(host: UdevLab) -> None:
    known = host.plug("1-1", "ENUMERATED")
    async with watching(host) as recorder:
        await recorder.next_after(0)
        for phone in (known, host.plug("1-2", "HEARD")):
            for action in ("add", "bind", "change"):
                host.say(action, phone)
        await settled(host, recorder)
        told = [o.sighting.serial for o in recorder.seen if isinstance(o, Changed)]
        assert told == ["HEARD", "LAST"]


async def test_removals_of_the_unknown_are_nothing(host: UdevLab) -> None:
    async with watching(host) as recorder:
        await recorder.next_after(0)
        host.say("remove", host.sysfs.remove(host.sysfs.add_phone("1-7", "NEVER").port), **WIPED)
        await settled(host, recorder)
        assert recorder.count(Gone) == 1, "only the settling phone's"


async def test_what_an_add_left_out_a_bind_brings(host: UdevLab) -> None:
    async with watching(host) as recorder:
        await recorder.next_after(0)
        # Neither udev nor sysfs has the serial or an interface yet.
        phone = host.sysfs.add_phone("1-1", "", 0x18D1, 0x4EE7, [])
        host.say("add", phone)
        await settled(host, recorder)
        assert seen_at(recorder, "1-1") is None
        host.sysfs.remove("1-1")
        phone = host.sysfs.add_phone("1-1", "SLOW", 0x18D1, 0x4EE7, [ADB])
        host.say("bind", phone)
        await recorder.until(lambda: serials(recorder) == {"SLOW"}, "the phone")
        assert kind_at(recorder, "1-1") is UsbKind.ADB


async def test_interfaces_that_come_late_change_the_kind_once(host: UdevLab) -> None:
    async with watching(host) as recorder:
        await recorder.next_after(0)
        phone = host.sysfs.add_phone("1-1", "SLOW", 0x18D1, 0x4EE7, [])
        host.say("add", phone)
        await recorder.until(lambda: kind_at(recorder, "1-1") is UsbKind.OTHER, "the device")
        host.sysfs.remove("1-1")
        phone = host.sysfs.add_phone("1-1", "SLOW", 0x18D1, 0x4EE7, [ADB])
        host.say("bind", phone)
        host.say("change", phone)
        await recorder.until(lambda: kind_at(recorder, "1-1") is UsbKind.ADB, "the phone")
        await settled(host, recorder)
        kinds = [
            o.sighting.usb
            for o in recorder.seen
            if isinstance(o, Changed) and o.sighting.port == "1-1"
        ]
        assert kinds == [UsbKind.OTHER, UsbKind.ADB]


async def test_a_bind_with_a_wiped_database_takes_nothing_away(host: UdevLab) -> None:
    async with watching(host) as recorder:
        await recorder.next_after(0)
        phone = host.plug("1-1", "PHONE")
        host.say("bind", phone, **WIPED)
        host.say("change", phone, **WIPED)
        await settled(host, recorder)
        assert serials(recorder) == {"PHONE"}
        assert recorder.count(Changed) == 2, "the phone's and the settling one's"


async def test_mtp_toggled_is_the_same_serial_at_the_same_port(host: UdevLab) -> None:
    host.plug("1-4.2", "PHONE", 0x18D1, 0x4EE1, [MTP], mtp=True)
    async with watching(host) as recorder:
        await recorder.next_after(0)
        assert kind_at(recorder, "1-4.2") is UsbKind.MTP
        host.unplug("1-4.2")
        host.plug("1-4.2", "PHONE", 0x18D1, 0x4EE2, [MTP, ADB], mtp=True)
        await recorder.until(lambda: kind_at(recorder, "1-4.2") is UsbKind.ADB, "debugging")
        assert serials(recorder) == {"PHONE"}
        assert len({s.address for s in recorder.visible.values()}) == 1


async def test_another_phone_on_the_port_whose_removal_was_not_heard(host: UdevLab) -> None:
    phone = host.plug("1-1", "FIRST")
    async with watching(host) as recorder:
        await recorder.next_after(0)
        host.sysfs.remove("1-1")
        host.plug("1-1", "SECOND", 0x18D1, 0x4EE1, [MTP])
        await recorder.until(lambda: serials(recorder) == {"SECOND"}, "the second phone")
        last = recorder.seen[-1]
        assert isinstance(last, Changed)
        assert last.sighting.address == phone.devpath
        host.sysfs.remove("1-1")
        host.plug("1-1", "", 0x046D, 0xC31C, [KEYBOARD])
        await recorder.until(lambda: not recorder.visible, "nothing of interest")
        assert recorder.seen[-1] == Gone(SourceName.UDEV, phone.devpath)


async def test_fastboot(host: UdevLab) -> None:
    host.plug("1-1", "PHONE")
    async with watching(host) as recorder:
        await recorder.next_after(0)
        host.unplug("1-1")
        host.plug("1-1", "PHONE", 0x18D1, 0x4EE0, [FASTBOOT])
        await recorder.until(lambda: kind_at(recorder, "1-1") is UsbKind.FASTBOOT, "fastboot")
        assert serials(recorder) == {"PHONE"}


async def test_an_iphone_through_recovery_and_dfu_on_one_port(host: UdevLab) -> None:
    modes = [
        ("00008030001A2B3C4D5E6F70", 0x12A8, [MTP, APPLE_MUX], UsbKind.APPLE),
        ("SDOM:01 CPID:8030 ECID:0001A2B3", 0x1281, [(0xFE, 1, 0)], UsbKind.APPLE_RECOVERY),
        ("CPID:8030 CPRV:11 ECID:0001A2B3", 0x1227, [(0xFE, 1, 0)], UsbKind.APPLE_RECOVERY),
    ]
    async with watching(host) as recorder:
        await recorder.next_after(0)
        for serial, pid, interfaces, kind in modes:
            host.plug("1-1", serial, 0x05AC, pid, interfaces)
            await recorder.until(partial(sees_only, recorder, serial), serial)
            sighting = seen_at(recorder, "1-1")
            assert sighting is not None
            assert (sighting.usb, sighting.platform) == (kind, Platform.IOS)
            host.unplug("1-1")
            await recorder.until(lambda: not recorder.visible, "its going")


async def test_a_hub_with_ten_phones_is_lost(host: UdevLab) -> None:
    host.sysfs.add_hub("1-4")
    for n in range(1, 11):
        host.plug(f"1-4.{n}", f"S{n}")
    host.plug("1-5", "STAYS")
    async with watching(host) as recorder:
        await recorder.next_after(0)
        assert len(recorder.visible) == 11
        for n in range(1, 11):
            host.unplug(f"1-4.{n}")
        host.unplug("1-4")
        await recorder.until(lambda: recorder.count(Gone) == 10, "ten removals")
        assert serials(recorder) == {"STAYS"}
        await settled(host, recorder)
        assert recorder.count(Gone) == 11, "the hub itself was none"


# --- messages while enumerating -----------------------------------------------------------------


class HangingAttribute:
    """A `serial` in sysfs that holds its reader, as the kernel does for a device that hangs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        self._writer = -1

    async def held(self) -> None:
        """Until somebody reads it."""

        def opened() -> bool:
            try:
                self._writer = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nobody reads
                    return False
                raise
            return True

        await eventually(opened, "a reader")

    def answer(self, text: str) -> None:
        """Let the reader go on; whoever reads later is not held."""
        self._path.unlink(missing_ok=True)
        if self._path.parent.exists():
            self._path.write_text(text)
        os.write(self._writer, text.encode())
        os.close(self._writer)


def hanging(lab: UdevLab, port: str) -> tuple[FakeUsbDevice, HangingAttribute]:
    """A phone whose serial only sysfs has, and does not yield."""
    device = lab.sysfs.add_phone(port, "HANGS", in_database=False)
    return device, HangingAttribute(lab.sysfs.directory(device) / "serial")


async def test_what_is_heard_while_enumerating_wins(host: UdevLab) -> None:
    host.plug("1-1", "LEAVES")
    host.plug("1-2", "STAYS")
    _, attribute = hanging(host, "1-9")  # enumerated last: all before it has been read by then
    async with watching(host) as recorder:
        await attribute.held()
        host.unplug("1-1")
        host.plug("1-3", "COMES")
        swapped = host.unplug("1-2")
        host.plug("1-2", "SWAPPED")
        for _ in range(5):  # the loop reads all of it
            await asyncio.sleep(0)
        assert recorder.seen == []
        attribute.answer("HANGS")
        snapshot = await recorder.next_after(0)
        assert isinstance(snapshot, Snapshot)
        assert {s.serial for s in snapshot.sightings} == {"HANGS", "COMES", "SWAPPED"}
        host.unplug("1-2")
        await recorder.next_after(1)
        assert recorder.seen[1:] == [Gone(SourceName.UDEV, swapped.devpath)]


async def test_an_incomplete_message_while_enumerating_is_read_up_afterwards(
    host: UdevLab,
) -> None:
    _, attribute = hanging(host, "1-9")
    async with watching(host) as recorder:
        await attribute.held()
        host.say("add", host.sysfs.add_phone("1-1", "FROMSYSFS"), **WIPED)
        for _ in range(5):
            await asyncio.sleep(0)
        attribute.answer("HANGS")
        await recorder.until(lambda: serials(recorder) == {"HANGS", "FROMSYSFS"}, "both")


async def test_a_phone_that_hangs_holds_up_no_other(host: UdevLab) -> None:
    async with watching(host) as recorder:
        await recorder.next_after(0)
        phone, attribute = hanging(host, "1-1")
        host.say("add", phone, ID_SERIAL_SHORT=None)
        await attribute.held()
        host.say("bind", phone, ID_SERIAL_SHORT=None)
        host.say("change", phone, ID_SERIAL_SHORT=None)
        host.plug("1-2", "WELL")
        host.say("add", host.sysfs.add_phone("1-3", "ALSOWELL"), **WIPED)
        await recorder.until(lambda: {"WELL", "ALSOWELL"} <= serials(recorder), "the others")
        await eventually(lambda: len(readers()) == 1, "one thread, held by the one phone")
        attribute.answer("HANGS")
        await recorder.until(lambda: "HANGS" in serials(recorder), "the phone that hung")


async def test_a_phone_unplugged_while_it_hangs_stays_gone(host: UdevLab) -> None:
    async with watching(host) as recorder:
        await recorder.next_after(0)
        phone, attribute = hanging(host, "1-1")
        host.say("add", phone, ID_SERIAL_SHORT=None)
        await attribute.held()
        host.unplug("1-1")
        await recorder.until(lambda: recorder.count(Gone) == 1, "its going")
        attribute.answer("HANGS")
        await eventually(lambda: not readers(), "the end of the thread that hung")
        await settled(host, recorder)
        assert "HANGS" not in {o.sighting.serial for o in recorder.seen if isinstance(o, Changed)}


async def test_an_enumeration_that_hangs_is_down_until_it_ends(host: UdevLab) -> None:
    _, attribute = hanging(host, "1-1")
    recorder = Recorder()
    task = asyncio.create_task(UdevSource(retry=RETRY, patience=0.05).run(recorder))
    await attribute.held()
    down = await recorder.next_after(0)
    assert isinstance(down, Down)
    assert "hangs in the kernel" in down.reason
    attribute.answer("HANGS")
    await recorder.until(lambda: serials(recorder) == {"HANGS"}, "the snapshot")
    assert [type(o) for o in recorder.seen] == [Down, Snapshot]
    task.cancel()
    await asyncio.wait({task})


async def test_cancelling_takes_its_reader_off_the_loop(host: UdevLab) -> None:
    before = open_descriptors()
    async with watching(host) as recorder:
        await recorder.next_after(0)
        own = open_descriptors() - before
        assert own
    # A reader left behind would fire for whatever gets the descriptor's number next.
    loop = asyncio.get_running_loop()
    assert not any(loop.remove_reader(descriptor) for descriptor in own)


async def test_cancelled_while_a_phone_hangs_it_ends_at_once_and_leaves_nothing(
    host: UdevLab,
) -> None:
    async with watching(host) as recorder:
        await recorder.next_after(0)
    before = open_descriptors()
    _, attribute = hanging(host, "1-1")
    async with watching(host) as recorder:
        await attribute.held()
    attribute.answer("HANGS")
    await eventually(lambda: open_descriptors() <= before, "descriptors")
    assert recorder.seen == []


# --- udevd ----------------------------------------------------------------------------------------


async def test_no_udevd_is_one_down_that_names_the_remedy(lab: UdevLab) -> None:
    lab.sysfs.add_phone("1-1", "PHONE")
    async with watching(lab) as recorder:
        down = await recorder.next_after(0)
        assert isinstance(down, Down)
        assert "/run/udev/control" in down.reason
        assert "systemctl start" in down.reason
        await asyncio.sleep(RETRY * 4)  # several looks later it is still said once
        assert recorder.seen == [down]
        lab.sysfs.start_udevd()
        await recorder.until(lambda: serials(recorder) == {"PHONE"}, "the phone")
        lab.plug("1-2", "LATER")
        await recorder.until(lambda: serials(recorder) == {"PHONE", "LATER"}, "the next")
        lab.sysfs.stop_udevd()
        await recorder.until(lambda: recorder.count(Down) == 2, "the next outage")


async def test_a_new_udevd_is_met_with_a_new_snapshot(host: UdevLab) -> None:
    async with watching(host) as recorder:
        await recorder.next_after(0)
        host.sysfs.add_phone("1-1", "UNHEARD")
        host.sysfs.start_udevd()
        await recorder.until(lambda: serials(recorder) == {"UNHEARD"}, "the phone")
        assert [type(o) for o in recorder.seen] == [Snapshot, Snapshot]


async def test_a_control_file_that_libudev_does_not_see_is_down(
    lab: UdevLab, tmp_path: Path
) -> None:
    # libudev looks at /run/udev/control itself, and its monitor then hears nothing at all.
    control = tmp_path / "control"
    control.touch()
    recorder = Recorder()
    task = asyncio.create_task(UdevSource(control=control, retry=RETRY).run(recorder))
    down = await recorder.next_after(0)
    assert isinstance(down, Down)
    assert "hears nothing" in down.reason
    lab.sysfs.start_udevd()
    await recorder.until(lambda: recorder.count(Snapshot) == 1, "the snapshot")
    task.cancel()
    await asyncio.wait({task})


FIRST_WORD = """
import asyncio, sys
from agent.sources.udev import UdevSource

async def main():
    said = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(UdevSource().run(lambda o: said.done() or said.set_result(o)))
    async with asyncio.timeout(15):
        print(await said)
    task.cancel()

asyncio.run(main())
"""


def first_word(hidden: list[Path]) -> str:
    """What a new process says first where these files cannot be read as what they are."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    assert mount
    assert umount
    with ExitStack() as undoing:
        for path in hidden:
            subprocess.run([mount, "--bind", "/dev/null", path], check=True, timeout=LIMIT)
            undoing.callback(partial(subprocess.run, [umount, path], check=True, timeout=LIMIT))
        ended = subprocess.run(
            [sys.executable, "-c", FIRST_WORD],
            capture_output=True,
            text=True,
            timeout=LIMIT * 2,
            check=True,
            # Nothing that ctypes.util.find_library asks: no compiler, no linker.
            env={**os.environ, "PATH": "/nowhere"},
        )
    return ended.stdout.splitlines()[-1]


LDCONFIG = Path("/sbin/ldconfig")


async def test_libudev_is_found_where_ctypes_cannot_look_for_it(host: UdevLab) -> None:
    host.plug("1-1", "PHONE")
    said = await asyncio.to_thread(first_word, [LDCONFIG])
    assert said.startswith("Snapshot(")
    assert "PHONE" in said


async def test_no_libudev_is_down_that_names_the_package(host: UdevLab) -> None:
    async with watching(host) as recorder:
        await recorder.next_after(0)  # this process has it loaded now
    maps = Path("/proc/self/maps").read_text().split()
    library = {Path(word).resolve() for word in maps if "libudev.so." in word}
    assert library
    host.plug("1-1", "PHONE")
    said = await asyncio.to_thread(first_word, [LDCONFIG, *library])
    assert said.startswith("Down(")
    assert "libudev1" in said
    assert "libudev.so.1" in said
    assert "missing=False" in said, "udevd is there: phones that only it sees keep their state"


# --- is udevd missing, or down? -------------------------------------------------------------------


async def test_a_udevd_that_was_never_there_is_missing(lab: UdevLab, tmp_path: Path) -> None:
    recorder = Recorder()
    control = tmp_path / "control"
    task = asyncio.create_task(UdevSource(control=control, retry=RETRY).run(recorder))
    down = await recorder.next_after(0)
    assert isinstance(down, Down)
    assert down.missing
    # It comes, but cannot be heard: from now on phones that only it sees keep their state.
    control.touch()
    later = await recorder.next_after(1)
    assert isinstance(later, Down)
    assert not later.missing
    lab.sysfs.start_udevd()
    await recorder.until(lambda: recorder.count(Snapshot) == 1, "the snapshot")
    task.cancel()
    await asyncio.wait({task})


async def test_a_udevd_that_was_there_is_down_and_never_missing(host: UdevLab) -> None:
    host.plug("1-1", "PHONE")
    async with watching(host) as recorder:
        await recorder.next_after(0)
        host.sysfs.stop_udevd()
        await recorder.until(lambda: recorder.count(Down) == 1, "the outage")
    # A source made anew, as a reload or its failure makes it, knows so too.
    async with watching(host) as again:
        await again.next_after(0)
        for seen in (recorder, again):
            assert [o.missing for o in seen.seen if isinstance(o, Down)] == [False]
        assert recorder.count(Gone) == 0


# --- what nobody told -----------------------------------------------------------------------------


async def test_what_came_and_went_unheard_is_found_out(host: UdevLab) -> None:
    host.plug("1-1", "PULLED")
    host.plug("1-2", "SWAPPED")
    host.plug("1-3", "STAYS", 0x18D1, 0x4EE1, [MTP], mtp=True)
    async with watching(host) as recorder:
        await recorder.next_after(0)
        # udevd was killed and is not back: its control file stays, and nobody tells.
        host.sysfs.remove("1-1")
        host.sysfs.remove("1-2")
        host.sysfs.add_phone("1-2", "OTHER")
        host.sysfs.add_phone("1-4", "CAME", in_database=False)
        host.sysfs.remove("1-3")
        host.sysfs.add_phone("1-3", "STAYS", 0x18D1, 0x4EE2, [MTP, ADB], mtp=True)
        await recorder.until(lambda: serials(recorder) == {"OTHER", "CAME", "STAYS"}, "the truth")
        await recorder.until(lambda: kind_at(recorder, "1-3") is UsbKind.ADB, "its debugging")
        assert kind_at(recorder, "1-4") is UsbKind.ADB
        assert recorder.count(Snapshot) == 1


async def test_a_made_up_remove_is_found_out(host: UdevLab) -> None:
    phone = host.plug("1-1", "PHONE")
    async with watching(host) as recorder:
        await recorder.next_after(0)
        host.say("remove", phone)  # udevadm trigger --action=remove
        await recorder.until(lambda: recorder.count(Gone) == 1, "what was said")
        await recorder.until(lambda: serials(recorder) == {"PHONE"}, "what is true")
        assert recorder.count(Gone) == 1


async def test_comparing_finds_nothing_where_all_is_known(host: UdevLab) -> None:
    """Hubs, other things, phones with and without a serial: none of it is told again."""
    host.sysfs.add_hub("1-1")
    host.plug("1-1.1", "HEARD")
    host.plug("1-2", "", 0x046D, 0xC31C, [KEYBOARD], model="Keyboard")
    host.plug("1-3", "", 0x18D1, 0x4EE7, [ADB])
    with structlog.testing.capture_logs() as logs:
        recorder = Recorder()
        source = host.source()
        task = asyncio.create_task(source.run(recorder))
        await recorder.next_after(0)
        for _ in range(5):
            await source.recheck()
        assert [type(o) for o in recorder.seen] == [Snapshot]
        assert not [entry for entry in logs if entry["event"] == "udev.unheard"]
        task.cancel()
        await asyncio.wait({task})


@asynccontextmanager
async def rechecking(host: UdevLab) -> AsyncIterator[tuple[UdevSource, Recorder]]:
    """A source that compares nothing by itself, after its first word."""
    recorder = Recorder()
    source = UdevSource(retry=RETRY, compare=3600.0)
    task = asyncio.create_task(source.run(recorder))
    try:
        await recorder.next_after(0)
        yield source, recorder
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_a_recheck_returns_when_the_truth_is_told(host: UdevLab) -> None:
    host.plug("1-1", "PULLED")
    async with rechecking(host) as (source, recorder):
        host.sysfs.remove("1-1")
        host.sysfs.add_phone("1-2", "CAME")
        await asyncio.gather(*(source.recheck() for _ in range(80)))
        assert serials(recorder) == {"CAME"}
        host.sysfs.remove("1-2")
        await source.recheck()
        assert serials(recorder) == set()


async def test_a_recheck_reads_first_what_waits_in_the_socket(host: UdevLab) -> None:
    host.plug("1-1", "REPLUGGED")
    async with rechecking(host) as (source, recorder):
        for n in range(600):  # more than a batch; the loop has no turn meanwhile, as when frozen
            host.plug(f"1-2.{n}", f"S{n}")
        host.unplug("1-1")
        host.plug("1-1", "REPLUGGED")
        await source.recheck()
        assert serials(recorder) == {"REPLUGGED", *(f"S{n}" for n in range(600))}
        assert recorder.count(Gone) == 1
        assert recorder.count(Snapshot) == 1


async def test_a_recheck_after_an_overflow_waits_for_the_snapshot(host: UdevLab) -> None:
    host.plug("1-1", "LEAVES")
    recorder = Recorder()
    source = UdevSource(retry=RETRY, receive_buffer=32 * 1024, compare=3600.0)
    task = asyncio.create_task(source.run(recorder))
    await recorder.next_after(0)
    host.unplug("1-1")
    for n in range(500):
        host.plug(f"1-2.{n}", f"S{n}")
    await source.recheck()
    assert recorder.count(Snapshot) == 2
    assert serials(recorder) == {f"S{n}" for n in range(500)}
    task.cancel()
    await asyncio.wait({task})


async def test_a_recheck_of_a_source_that_is_down_returns_at_once(lab: UdevLab) -> None:
    async with rechecking(lab) as (source, recorder):
        await source.recheck()
        assert [type(o) for o in recorder.seen] == [Down]
    await UdevSource().recheck()  # never run: nothing to hold against the truth


async def test_a_recheck_waits_for_no_phone_that_hangs(host: UdevLab) -> None:
    host.plug("1-1", "WELL")
    async with rechecking(host) as (source, recorder):
        _, attribute = hanging(host, "1-9")
        host.sysfs.remove("1-1")
        await source.recheck()
        assert not recorder.visible or serials(recorder) == {""}
        await attribute.held()
        attribute.answer("HANGS")
        await recorder.until(lambda: serials(recorder) == {"HANGS"}, "the phone that hung")


async def test_a_reading_that_fails_is_made_again(host: UdevLab) -> None:
    async with rechecking(host) as (source, recorder):
        phone = host.sysfs.add_phone("1-1", "PHONE", in_database=False)
        threading.stack_size(1 << 47)  # past all addresses: no thread can be had
        try:
            host.say("add", phone, **WIPED)
            await source.recheck()
        finally:
            threading.stack_size(0)
        assert "PHONE" not in serials(recorder)
        host.say("bind", phone, **WIPED)
        await recorder.until(lambda: serials(recorder) == {"PHONE"}, "the phone")


# --- hostile input --------------------------------------------------------------------------------


def malformed(device: FakeUsbDevice | Dumped) -> list[bytes]:
    """Messages that no udevd sends."""
    properties = {"ACTION": "add", "SEQNUM": "1", **device.properties}
    good = message(properties)
    return [
        b"\0",
        b"garbage",
        b"libudev\0",
        os.urandom(200),
        # libudev believes a cut message whose first properties are whole: no serial, no phone.
        *(good[:length] for length in range(8, good.index(b"ID_USB_INTERFACES"))),
        good[:40],
        good[:16] + (2**31).to_bytes(4, "little") + good[20:],  # properties' offset
        good + bytes(9000),
        b"add@/devices/usb\0ACTION=add\0DEVPATH=/devices/usb\0",
        message({**properties, "DEVPATH": ""}),
        message({**properties, "SEQNUM": "none"}),
        message({**properties, "ACTION": "explode"}),
        message({**properties, "ID_SERIAL_SHORT": "\udcff\udcfe"}),
    ]


async def test_garbage_is_ignored(host: UdevLab) -> None:
    ghost = host.sysfs.remove(host.sysfs.add_phone("1-1", "GHOST").port)
    async with watching(host) as recorder:
        await recorder.next_after(0)
        for data in malformed(ghost):
            host.net.send_raw(data)
        await settled(host, recorder)
        assert recorder.count(Snapshot) == 1
        assert recorder.count(Down) == 0
        assert len(recorder.seen) == 3, "the settling phone's coming and going alone"


async def test_odd_property_values_are_no_phones_and_no_crash(host: UdevLab) -> None:
    odd = {"PRODUCT": "x/y", "TYPE": "", "ID_USB_INTERFACES": ":zz:ff42:ff420101::"}
    async with watching(host) as recorder:
        await recorder.next_after(0)
        phone = host.sysfs.add_phone("1-1", "ODD", interfaces=[])
        host.say("add", phone, **odd)
        await recorder.until(lambda: serials(recorder) == {"ODD"}, "the device")
        assert kind_at(recorder, "1-1") is UsbKind.OTHER


def test_the_namespace_is_private() -> None:
    names = {name for _, name in socket.if_nameindex()}
    assert names == {"lo"}
