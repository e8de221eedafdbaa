"""The other facts, on real parts: sockets, sysfs trees, stores, commands."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.config import Ios
from agent.config.model import Fleet
from agent.doctor.facts import User
from agent.doctor.gather import users
from agent.doctor.gather.agent import ask_agent
from agent.doctor.gather.fleet import look_at_fleet
from agent.doctor.gather.host import look_at_clock, look_at_store
from agent.doctor.gather.ios import look_at_usbmuxd
from agent.doctor.gather.limit import in_thread, output_of, survived
from agent.doctor.gather.unit import ask_systemd
from agent.doctor.gather.usb import look_at_usb
from agent.model import UsbKind
from tests.fakes.udev_dump import parse
from tests.fakes.udev_sysfs import ADB, APPLE_MUX, KEYBOARD, FakeSysfs
from tests.fakes.usbmuxd import FakeUsbmuxd, Lockdown
from tests.fleet.agent_side import agent, fleet_of
from tests.kit.broker import Broker
from tests.kit.settings import section
from tests.kit.store import open_store
from tests.kit.waiting import eventually

if TYPE_CHECKING:
    from agent.doctor.facts import UsbFacts, UsbmuxFacts

UDID = "00008120-000A2D3C0E91801E"
OTHER = "00008110-000A1234A1B2C3D4"


# --- USB --------------------------------------------------------------------------------------


async def look(sysfs: FakeSysfs, dev: Path) -> UsbFacts:
    return await look_at_usb(enabled=True, sysfs=sysfs.sys, run=sysfs.run, dev=dev)


async def test_the_tree_of_usb(tmp_path: Path) -> None:
    sysfs = FakeSysfs(tmp_path)
    sysfs.start_udevd()
    root = sysfs.sys / "devices/pci0000:00/0000:00:14.0/usb1"
    root.mkdir(parents=True, exist_ok=True)
    (root / "uevent").write_text("BUSNUM=001\nPRODUCT=1d6b/2/515\nTYPE=9/0/1\n")
    (root / "product").write_text("xHCI Host Controller\n")
    (sysfs.sys / "bus/usb/devices/usb1").symlink_to(root)
    sysfs.add_hub("1-4")
    first = sysfs.add_phone("1-4.2", "R58M1", 0x04E8, 0x6860, [ADB], speed="480")
    sysfs.add_phone("1-4.10", "M2", 0x04E8, 0x6860, [(0xFF, 0xFF, 0x00)], mtp=True, speed="12")
    sysfs.add_phone("2-1", UDID.replace("-", ""), 0x05AC, 0x12A8, [APPLE_MUX], speed="5000")
    sysfs.add_phone("1-7", "K1", 0x046D, 0xC31C, [KEYBOARD], speed="1.5")
    node = tmp_path / "dev" / first.kernel_properties["DEVNAME"]
    node.parent.mkdir(parents=True)
    node.touch()
    node.chmod(0o640)
    for number in range(3):
        (sysfs.directory(first) / "1-4.2:1.0" / f"ep_0{number}").mkdir()
    found = await look(sysfs, tmp_path / "dev")
    assert found.udevd
    assert found.devices is not None
    assert [
        (each.port, each.kind, each.is_phone, each.speed, each.hubs) for each in found.devices
    ] == [
        ("usb1", None, False, 0.0, 0),
        ("1-4", None, False, 480.0, 0),
        ("1-4.2", UsbKind.ADB, True, 480.0, 1),
        ("1-4.10", UsbKind.MTP, True, 12.0, 1),
        ("1-7", UsbKind.OTHER, False, 1.5, 0),
        ("2-1", UsbKind.APPLE, True, 5000.0, 0),
    ]
    phone = found.devices[2]
    assert {each.controller for each in found.devices} == {"0000:00:14.0"}
    assert (phone.serial, phone.product, phone.bus, phone.endpoints) == ("R58M1", "Pixel 7", 1, 3)
    assert phone.node is not None
    assert (phone.node.path, phone.node.mode) == (str(node), 0o640)
    assert (phone.node.owner, phone.node.group) == (os.geteuid(), os.getegid())
    assert found.devices[3].node is None


async def test_what_is_blocked_and_what_is_in_an_emergency_mode(tmp_path: Path) -> None:
    sysfs = FakeSysfs(tmp_path)
    sysfs.add_phone("1-1", "A1", authorized=False)
    half = sysfs.add_phone("1-2", "B2")
    (sysfs.directory(half) / "1-2:1.0" / "authorized").write_text("0\n")
    sysfs.add_phone("1-3", "", 0x05C6, 0x9008, [(255, 255, 255)])
    found = await look(sysfs, tmp_path)
    assert found.devices is not None
    assert [each.blocked for each in found.devices] == [True, True, False]
    assert found.devices[2].kind is UsbKind.EMERGENCY
    assert found.devices[2].is_phone
    assert "EDL" in found.devices[2].mode


async def test_a_devices_dump_can_be_tried_on_elsewhere(tmp_path: Path) -> None:
    """The bundle carries it; tests/sources/udev_dumps_inner.py tries such on."""
    sysfs = FakeSysfs(tmp_path / "there")
    phone = sysfs.add_phone("1-4.2", "R58M1", 0x04E8, 0x6860, [ADB], model="Galaxy\x1b]0;evil")
    found = await look(sysfs, tmp_path)
    assert found.devices is not None
    text = found.devices[0].dump
    assert "\x1b" not in text
    dumped, *rest = parse(text)
    assert rest == []
    assert (
        dumped.properties.items()
        >= {
            "DEVPATH": phone.devpath,
            "PRODUCT": "4e8/6860/100",
            "ID_SERIAL_SHORT": "R58M1",
            "ID_USB_INTERFACES": ":ff4201:",
        }.items()
    )
    assert dumped.attributes["authorized"] == "1"
    assert dumped.interfaces == ((0xFF, 0x42, 0x01),)


async def test_without_usb_and_udevd(tmp_path: Path) -> None:
    found = await look_at_usb(enabled=False, sysfs=tmp_path, run=tmp_path, dev=tmp_path)
    assert (found.enabled, found.udevd, found.devices) == (False, False, ())


async def test_a_device_that_hangs_in_the_kernel(tmp_path: Path) -> None:
    """Its attribute does not answer, as a FIFO nobody writes to does not."""
    sysfs = FakeSysfs(tmp_path)
    phone = sysfs.add_phone("1-4", "R58M1")
    attribute = sysfs.directory(phone) / "serial"
    attribute.unlink()
    os.mkfifo(attribute)
    found = await look(sysfs, tmp_path)
    assert found.devices is None
    os.close(os.open(attribute, os.O_WRONLY))  # lets the thread go


async def test_a_device_that_leaves_meanwhile(tmp_path: Path) -> None:
    sysfs = FakeSysfs(tmp_path)
    sysfs.add_phone("1-3", "A1")
    gone = sysfs.add_phone("1-4", "R58M1")
    (sysfs.directory(gone) / "uevent").unlink()
    found = await look(sysfs, tmp_path)
    assert found.devices is not None
    assert [each.port for each in found.devices] == ["1-3"]


# --- usbmuxd ----------------------------------------------------------------------------------


async def look_at_mux(address: str | Path, place: Path) -> UsbmuxFacts:
    return await look_at_usbmuxd(
        Ios(usbmuxd=str(address)), place / "state", lockdown=place / "lockdown"
    )


async def test_iphones_and_their_records(place: Path) -> None:
    for folder, name in (("lockdown", OTHER), ("state/pairing", "00008101-0" + "A" * 15)):
        (place / folder).mkdir(parents=True)
        (place / folder / f"{name}.plist").write_text("<plist/>")
    async with FakeUsbmuxd(place / "mux") as mux:
        mux.attach(UDID.replace("-", ""))
        mux.attach(OTHER, record=False)
        mux.attach("00008101-0" + "A" * 15, record=False)
        mux.attach("00008101-0" + "B" * 15, record=False, lockdown=Lockdown.SILENT)
        mux.attach("00008101-0" + "C" * 15, connection="Network")
        found = await look_at_mux(mux.address, place)
    assert found.there
    assert found.error == ""
    assert found.listed == (UDID, OTHER, "00008101-0" + "A" * 15, "00008101-0" + "B" * 15)
    assert dict(found.records) == {
        UDID: "usbmuxd",
        OTHER: str(place / "lockdown" / f"{OTHER}.plist"),
        "00008101-0" + "A" * 15: str(place / "state" / "pairing" / f"00008101-0{'A' * 15}.plist"),
        "00008101-0" + "B" * 15: "",
    }


async def test_odd_rows_of_usbmuxd_cost_nobody_else(place: Path) -> None:
    odd = ["odd", 7, [], {}, {"Properties": []}, {"Properties": {"ConnectionType": "USB"}}]
    odd.append({"Properties": {"ConnectionType": "USB", "SerialNumber": b"x"}})
    async with FakeUsbmuxd(place / "mux") as mux:
        mux.rows += odd
        mux.attach(UDID)
        found = await look_at_mux(mux.address, place)
    assert (found.error, found.there, found.local) == ("", True, True)
    assert found.listed == (UDID,)
    assert found.raw[: len(odd)] == tuple(odd)


async def test_another_hosts_pairing_records_are_not_looked_for_here(place: Path) -> None:
    (place / "lockdown").mkdir(exist_ok=True)
    (place / "lockdown" / f"{UDID}.plist").write_text("a record of this host")
    async with FakeUsbmuxd("127.0.0.1:0") as mux:
        mux.attach(UDID, record=False)
        found = await look_at_mux(mux.address, place)
    assert (found.local, found.records) == (False, ((UDID, ""),))


async def test_usbmuxd_over_tcp(place: Path) -> None:
    async with FakeUsbmuxd("127.0.0.1:0") as mux:
        mux.attach(UDID)
        assert (await look_at_mux(mux.address, place)).listed == (UDID,)


async def test_usbmuxd_that_is_away_dead_or_hangs(place: Path) -> None:
    found = await look_at_mux(place / "mux", place)
    assert (found.there, found.error) == (False, "")
    async with FakeUsbmuxd(place / "mux") as mux:
        mux.hang()
        assert (await look_at_mux(mux.address, place)).error == "no answer within 3 s"
        await mux.kill(leave_socket=True)
        found = await look_at_mux(mux.address, place)
        assert (found.there, found.error) == (True, "its socket is there, and nobody answers at it")


async def test_what_answers_may_be_no_usbmuxd(place: Path) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP ready")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_unix_server(answer, place / "mux"):
        assert "no usbmuxd" in (await look_at_mux(place / "mux", place)).error


# --- the host ---------------------------------------------------------------------------------


async def test_the_store_at_rest_and_in_use(tmp_path: Path) -> None:
    me = users.own()
    found = await look_at_store(tmp_path / "state", me, runs=False, sqlite="")
    assert (found.state, found.exists) == ("absent", False)
    store = open_store(tmp_path / "state")
    found = await look_at_store(tmp_path / "state", me, runs=False, sqlite="9.9.9")
    assert (found.state, found.sqlite) == ("busy", "9.9.9")
    await store.close()
    found = await look_at_store(tmp_path / "state", me, runs=False, sqlite="")
    assert (found.state, found.exists, found.usable, found.read_only) == ("ok", True, True, False)
    assert 0 < found.free <= found.total
    found = await look_at_store(tmp_path / "state", me, runs=True, sqlite="")
    assert found.state == ""
    nobody = User("x", 2**30, frozenset())
    assert not (await look_at_store(tmp_path / "state", nobody, runs=True, sqlite="")).usable


def test_the_clock() -> None:
    found = look_at_clock()
    assert found.name == socket.gethostname()
    assert abs(found.now - time.time()) < 60
    assert found.synchronised in {True, False, None}
    assert found.max_error >= 0


# --- systemd ----------------------------------------------------------------------------------


def systemctl(tmp_path: Path, script: str) -> str:
    path = tmp_path / "systemctl"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


async def test_what_systemd_says(tmp_path: Path) -> None:
    script = 'echo "$@" >"$0.asked"; echo LoadState=loaded; echo StatusText=a=b'
    found = await ask_systemd("device-agent", systemctl(tmp_path, script), tmp_path)
    assert found.booted
    assert found.properties == {"LoadState": "loaded", "StatusText": "a=b"}
    asked = (tmp_path / "systemctl.asked").read_text()
    assert asked.startswith("show device-agent --property=LoadState,")


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("exec sleep 60", "did not answer within 3 s"),
        ("echo no bus >&2; exit 1", "systemctl failed: no bus"),
    ],
)
async def test_systemd_in_trouble(tmp_path: Path, script: str, says: str) -> None:
    found = await ask_systemd("device-agent", systemctl(tmp_path, script), tmp_path)
    assert says in found.error


async def test_without_systemd(tmp_path: Path) -> None:
    assert not (await ask_systemd("device-agent", "systemctl", tmp_path / "none")).booted
    found = await ask_systemd("device-agent", str(tmp_path / "none"), tmp_path)
    assert "cannot be run" in found.error


# --- the agent --------------------------------------------------------------------------------


async def test_an_agent_that_is_not_there_dead_or_silent(place: Path) -> None:
    found = await ask_agent(place / "s")
    assert (found.runs, found.there) == (False, False)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(place / "s"))
    found = await ask_agent(place / "s")
    assert (found.runs, found.there, found.error) == (False, True, "nobody answers at it")
    (place / "s").unlink()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(place / "s"))
        silent.listen()
        found = await ask_agent(place / "s")
    assert (found.there, found.error) == (True, "no answer within 3 s")


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        ("404 Not Found", "", "404"),
        ("200 OK", '{"version": "0.0.1"}', "version 0.0.1 runs, and version"),
        ("200 OK", "{", "not understood"),
    ],
)
async def test_what_answers_may_be_no_agent_or_an_old_one(
    place: Path, status: str, body: str, says: str
) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = f"Content-Type: application/json\r\nContent-Length: {len(body)}"
        writer.write(f"HTTP/1.1 {status}\r\n{head}\r\nConnection: close\r\n\r\n{body}".encode())
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_unix_server(answer, place / "s"):
        found = await ask_agent(place / "s")
    assert found.there
    assert says in found.error


# --- limits -----------------------------------------------------------------------------------


async def test_blocking_work_is_left_behind() -> None:
    reading, writing = os.pipe()
    with pytest.raises(TimeoutError):
        await in_thread(lambda: os.read(reading, 1), 0.05)
    os.write(writing, b"x")  # lets the thread go
    assert await in_thread(lambda: 5, 5.0) == 5
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0, 5.0)
    os.close(writing)


async def test_a_server_whose_name_has_no_address(place: Path) -> None:
    found = await look_at_mux("nowhere.invalid:27015", place)
    assert found.there
    assert found.error


async def test_a_check_that_fails_itself_tells_where_and_no_words() -> None:
    async def broken() -> str:
        raise RuntimeError("hunter2")

    async def works() -> str:
        return "well"

    assert await survived(works(), str) == "well"
    said = await survived(broken(), str)
    assert said.startswith("this check itself failed (RuntimeError in test_gather.py:")
    assert "hunter" not in said


async def test_a_command_is_killed_at_its_limit(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        await output_of("sh", "-c", f"echo $$ >{tmp_path}/pid; exec sleep 600", limit=1.0)
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()
    assert await output_of("sh", "-c", "echo a; echo b >&2; exit 3", limit=5.0) == (3, "a\nb\n")


# --- the fleet --------------------------------------------------------------------------------


async def test_the_fleets_broker(tmp_path: Path) -> None:
    assert await look_at_fleet(section(Fleet), runs=False) is None
    nowhere = await look_at_fleet(fleet_of("nats://127.0.0.1:1"), runs=False)
    assert nowhere is not None
    assert "nothing listens there" in nowhere.error
    broker = await Broker(tmp_path / "broker").start()
    try:
        fleet = fleet_of(broker.url)
        found = await look_at_fleet(fleet, runs=False)
        assert found is not None
        assert (found.error, found.taken, found.host) == ("", False, "rack-3")
        assert found.servers == broker.url
        async with agent(tmp_path / "a", fleet) as made:
            await eventually(lambda: made.status.connected)
            taken = await look_at_fleet(fleet, runs=False)
            assert taken is not None
            assert taken.taken
            own = await look_at_fleet(fleet, runs=True)
            assert own is not None
            assert not own.taken
    finally:
        broker.close()
