"""An iPhone's battery: told by lockdownd in the session that is there, and never in the way."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from agent.model import Battery, BatteryRead, Bridge, SourceName
from agent.sources.lockdown_check import battery_of
from tests.fakes.recorder import Recorder
from tests.fakes.usbmuxd import BATTERY, FakeUsbmuxd
from tests.kit.sources import usbmux_source
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SERIAL = "00008110-000A1234A1B2C3D4"


@pytest.fixture
async def mux(tmp_path: Path) -> AsyncIterator[FakeUsbmuxd]:
    async with FakeUsbmuxd(tmp_path / "mux") as mux:
        yield mux


@asynccontextmanager
async def watching(mux: FakeUsbmuxd, records: Path, **how: Any) -> AsyncIterator[Recorder]:
    recorder = Recorder()
    how = {"probe_interval": 0.05, "probe_timeout": LIMIT, **how}
    task = asyncio.create_task(usbmux_source(mux.address, records, **how).run(recorder))
    try:
        yield recorder
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()


def is_ready(recorder: Recorder) -> bool:
    return [each.bridge for each in recorder.visible.values()] == [Bridge.READY]


async def test_it_is_one_question_more_in_the_session_that_is_there(
    mux: FakeUsbmuxd, tmp_path: Path
) -> None:
    phone = mux.attach(SERIAL)
    async with watching(mux, tmp_path) as recorder:
        await recorder.until(lambda: len(recorder.batteries) >= 3, "batteries")
        read = BatteryRead(SourceName.USBMUX, str(phone.device_id), Battery(87, charging=True))
        assert recorder.batteries[:3] == [read] * 3
        assert is_ready(recorder)
    assert phone.battery_asked <= phone.sessions <= phone.checks


@pytest.mark.parametrize(
    ("domain", "battery"),
    [
        (None, None),
        ("garbage", None),
        ([1, 2], None),
        ({}, None),
        ({"BatteryCurrentCapacity": 0}, Battery(0)),
    ],
)
async def test_one_without_the_domain_is_ready_all_the_same(
    mux: FakeUsbmuxd, tmp_path: Path, domain: object, battery: Battery | None
) -> None:
    mux.attach(SERIAL, battery=domain)
    async with watching(mux, tmp_path) as recorder:
        await recorder.until(lambda: len(recorder.batteries) >= 2, "answers")
        assert {read.battery for read in recorder.batteries} == {battery}
        assert is_ready(recorder)


async def test_one_that_never_answers_that_is_ready_all_the_same(
    mux: FakeUsbmuxd, tmp_path: Path
) -> None:
    """Even where the time for the check is shorter than that for the battery."""
    mux.attach(SERIAL, battery=...)
    async with watching(mux, tmp_path, probe_timeout=1.5) as recorder:
        await recorder.until(lambda: len(recorder.batteries) >= 1, "an answer")
        assert recorder.batteries[0].battery is None
        assert is_ready(recorder)


async def test_one_that_does_not_trust_this_host_is_not_asked(
    mux: FakeUsbmuxd, tmp_path: Path
) -> None:
    phone = mux.attach(SERIAL, trusted=False)
    async with watching(mux, tmp_path, retry=0.02) as recorder:
        await recorder.until(lambda: phone.checks >= 1 and bool(recorder.visible), "a check")
        await recorder.until(
            lambda: all(s.reason.startswith("not trusted") for s in recorder.visible.values()),
            "what came of it",
        )
        assert (phone.battery_asked, recorder.batteries) == (0, [])


@pytest.mark.parametrize("keys", [{"battery": False}, {"probe_interval": 0.0}])
async def test_it_is_not_told_where_it_is_turned_off_or_would_be_told_once_for_all(
    mux: FakeUsbmuxd, tmp_path: Path, keys: dict[str, object]
) -> None:
    phone = mux.attach(SERIAL)
    async with watching(mux, tmp_path, **keys) as recorder:
        await recorder.until(lambda: is_ready(recorder), "the phone")
        assert (phone.battery_asked, recorder.batteries) == (0, [])


@pytest.mark.parametrize(
    ("said", "battery"),
    [
        (BATTERY, Battery(87, charging=True)),
        ({**BATTERY, "HasBattery": False}, None),
        ({"BatteryCurrentCapacity": 101}, None),
        ({"BatteryCurrentCapacity": -1}, None),
        ({"BatteryCurrentCapacity": True}, None),
        ({"BatteryCurrentCapacity": "87"}, None),
        ({"BatteryCurrentCapacity": 87.0, "BatteryIsCharging": False}, Battery(charging=False)),
        ({"BatteryCurrentCapacity": 87, "BatteryIsCharging": 1}, Battery(87)),
        ({"BatteryIsCharging": b"yes"}, None),
    ],
)
def test_what_makes_no_sense_is_unknown(said: dict[str, Any], battery: Battery | None) -> None:
    assert battery_of(said) == battery
