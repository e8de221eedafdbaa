r"""What servers in the field said, replayed: the next report is tried on in ten lines.

A report is a bundle of `device-agent doctor` (docs/field-report.md): its `adb.json` and
`usbmuxd.json` hold the rows as they came. Put them here (or load the files), say what the agent
should make of them, and run it:

    await FakeAdbHost.replay(json.loads(adb_json))     # what trackers, devices, devices-l answer
    host.set(Listed(serial, transport_id=2, told=…))   # what that phone's shell answers
    await FakeUsbmuxd.replay(json.loads(usbmuxd_json))
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from agent.config import Android, Ios
from agent.doctor.bundle import rows_of
from agent.doctor.gather import users
from agent.doctor.gather.android import look_at_adb
from agent.doctor.gather.ios import look_at_usbmuxd
from agent.model import Bridge
from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.fakes.recorder import Recorder
from tests.fakes.usbmuxd import FakeUsbmuxd
from tests.kit.sources import adb_source, usbmux_source
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.sources.adb import AdbSource
    from agent.sources.base import DeviceSource

TOLD = "device_name=Rack 3\nmarketname=\nmodel=Pixel 8\nserialno=\n"


@asynccontextmanager
async def watching(source: DeviceSource) -> AsyncIterator[Recorder]:
    recorder = Recorder()
    task = asyncio.create_task(source.run(recorder))
    try:
        yield recorder
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=5)


def over_network(host: FakeAdbHost) -> AdbSource:
    return adb_source(host.address, network_devices=True, probe_interval=600.0, probe_timeout=LIMIT)


ADB = {
    "adb 35 with libusb (scrcpy #6664)": (
        {
            "host:devices": ["bd9d00cc\tdevice"],
            "host:devices-l": [
                "bd9d00cc   device 3-1 product:manet model:23127PN0CC device:manet transport_id:2"
            ],
        },
        {"bd9d00cc": (Bridge.READY, "3-1")},
    ),
    "a blank in the serial (AndroidViewClient #153)": (
        {
            "host:devices": ["ZUG 5S\tdevice", "emulator-5554\toffline"],
            "host:devices-l": [
                "ZUG 5S                 device usb:1-4.2 product:z model:ZUG_5S transport_id:2",
                "emulator-5554          offline transport_id:3",
            ],
        },
        {"ZUG 5S": (Bridge.READY, "1-4.2"), "emulator-5554": (Bridge.NOT_READY, "")},
    ),
    "a phone on the network that waits for its prompt (openstf #1266)": (
        {
            "host:devices": ["10.0.0.5:5555\tunauthorized"],
            "host:devices-l": {"FAIL": "unknown host service"},
        },
        {"10.0.0.5:5555": (Bridge.NOT_READY, "")},
    ),
}


@pytest.mark.parametrize(("said", "expected"), ADB.values(), ids=ADB.keys())
async def test_an_adb_server(
    said: dict[str, list[str] | dict[str, str]], expected: dict[str, tuple[Bridge, str]]
) -> None:
    async with FakeAdbHost() as host:
        host.set(Listed("behind the rows", transport_id=2, told=TOLD))
        host.replay(said)
        async with watching(over_network(host)) as recorder:
            await recorder.until(
                lambda: {a: (s.bridge, s.port) for a, s in recorder.visible.items()} == expected
            )


async def test_a_usbmuxd(tmp_path: Path) -> None:
    rows = [
        {"MessageType": "Attached", "DeviceID": 4, "Properties": {"SerialNumber": "00008110-1"}},
        {
            "MessageType": "Attached",
            "DeviceID": 5,
            "Properties": {"ConnectionType": "USB", "DeviceID": 5, "SerialNumber": "00008110-2"},
        },
    ]
    async with FakeUsbmuxd(tmp_path / "mux") as mux:
        mux.replay(rows)
        source = usbmux_source(mux.address, tmp_path, probe_timeout=LIMIT)
        async with watching(source) as recorder:
            await recorder.until(
                lambda: [s.bridge for s in recorder.visible.values()] == [Bridge.READY]
            )
            assert [s.serial for s in recorder.visible.values()] == ["00008110-2"]


async def test_what_a_bundle_holds_is_what_is_replayed(tmp_path: Path) -> None:
    """From a server's rows, odd ones too, through the bundle's files, to the same rows."""
    plain = "ZUG 5S\tdevice\nodd\n\tdevice\n10.0.0.5:5555\toffline\n"
    long = "ZUG 5S                 device 3-1 transport_id:2\nodd\n"
    async with FakeAdbHost() as field, FakeAdbHost() as desk:
        field.say(plain, long)
        field.fails["host:list-forward"] = "no\ntoday"
        android = Android(adb_server=field.address)
        facts = await look_at_adb(android, local=False, state_dir=tmp_path, user=users.own())
        assert facts.rows == (("10.0.0.5:5555", "offline"), ("ZUG 5S", "device"))
        desk.replay(json.loads(rows_of(facts.raw)))
        assert (desk.frame(), desk.long_frame()) == (field.frame(), field.long_frame())
        assert desk.fails["host:list-forward"] == "no\ntoday"
    async with FakeUsbmuxd(tmp_path / "field") as mux:
        good = mux.attach("00008110-000A1234A1B2C3D4")
        mux.rows += ["odd", {"Properties": {"NetworkAddress": b"\x02\x00"}}]
        found = await look_at_usbmuxd(Ios(usbmuxd=mux.address), tmp_path)
    assert (found.error, found.listed) == ("", (good.serial,))
    odd, odder, row = json.loads(rows_of(found.raw))
    assert (odd, odder) == ("odd", {"Properties": {"NetworkAddress": {"hex": "0200"}}})
    assert row["Properties"]["SerialNumber"] == good.serial
