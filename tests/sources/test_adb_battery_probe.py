"""A phone that lives is not taken for a silent one, whatever becomes of its battery."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from agent.model import Battery, BatteryHealth, BatteryRead, Bridge, SourceName
from agent.sources.adb_probe import ALIVE, ALIVE_AND_BATTERY
from tests.fakes.adb_server import BINARIES, RealAdbServer
from tests.fakes.fake_adb_host import FakeAdbHost, Listed
from tests.fakes.phone import ENDLESS, SILENCE, FakePhone
from tests.fakes.recorder import Recorder
from tests.kit.sources import adb_source
from tests.sources.test_adb_battery import OREO_SAMSUNG, PIE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

TOLD = "device_name=Rack 3\nmarketname=\nmodel=Pixel 8\nserialno=R58M\n"
FULL = Battery(100, 27.4, BatteryHealth.GOOD, charging=False)
HALF = PIE[: PIE.index("274")]


@asynccontextmanager
async def watching(address: str, **keys: object) -> AsyncIterator[Recorder]:
    recorder = Recorder()
    settings = {"probe_interval": 0.02, "probe_timeout": 1.0, "compare_interval": 0.2, **keys}
    task = asyncio.create_task(adb_source(address, **settings).run(recorder))  # type: ignore[arg-type]  # as given
    try:
        yield recorder
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()


async def heard(recorder: Recorder, count: int) -> list[BatteryRead]:
    """The first so many."""
    await recorder.until(lambda: len(recorder.batteries) >= count, "batteries")
    return recorder.batteries[:count]


def was_ready_ever_since(recorder: Recorder, serial: str) -> bool:
    """Since it first was."""
    found = [
        sighting.bridge
        for each in recorder.seen
        if (sighting := getattr(each, "sighting", None)) is not None and sighting.serial == serial
    ]
    return Bridge.READY in found and set(found[found.index(Bridge.READY) :]) == {Bridge.READY}


@pytest.fixture
async def host() -> AsyncIterator[FakeAdbHost]:
    async with FakeAdbHost() as host:
        yield host


async def test_it_comes_with_the_probe_and_costs_no_further_connection(host: FakeAdbHost) -> None:
    host.set(Listed("R58M", told=TOLD, battery=PIE))
    async with watching(host.address) as recorder:
        reads = await heard(recorder, 3)
        assert reads == [BatteryRead(SourceName.ADB, "R58M", FULL)] * 3
        probes = [command for _, command in host.shells if "device_name" not in command]
        assert set(probes) == {ALIVE_AND_BATTERY}
        assert len(probes) <= len(recorder.batteries) + 1


@pytest.mark.parametrize(
    ("battery", "then", "said"),
    [
        ("", "", None),
        ("garbage \ufffd\0\n" * 50, "", None),
        ("Can't find service: battery\n", "", None),
        ("", "silence", None),
        (HALF, "silence", Battery(100, None, BatteryHealth.GOOD, charging=False)),
        (PIE, "silence", FULL),
        (PIE, "endless", FULL),
        ("x" * 1_000_000, "", None),
        (HALF, "reset", Battery(100, None, BatteryHealth.GOOD, charging=False)),
        (PIE + "y" * 1_000_000, "reset", FULL),
    ],
)
async def test_whatever_it_says_of_its_battery_it_lives(
    host: FakeAdbHost, battery: str, then: str, said: Battery | None
) -> None:
    host.set(Listed("R58M", told=TOLD, battery=battery, then=then))
    async with watching(host.address, probe_timeout=0.5) as recorder:
        reads = await heard(recorder, 2)
        assert {read.battery for read in reads} <= {said, None}
        assert said in {read.battery for read in reads}
        assert was_ready_ever_since(recorder, "R58M")


async def test_what_hangs_on_a_phone_is_not_made_more_of_with_each_probe(host: FakeAdbHost) -> None:
    host.set(Listed("R58M", told=TOLD, battery="", then="silence"))
    # Not shorter: a phone that is found silent meanwhile is asked for nothing else.
    async with watching(host.address, probe_timeout=1.0) as recorder:
        await heard(recorder, 4)
    probes = [command for _, command in host.shells if "device_name" not in command]
    asked = [n for n, command in enumerate(probes) if command == ALIVE_AND_BATTERY]
    assert [after - before for before, after in pairwise(asked[:4])] == [2, 4, 8]
    assert set(probes) == {ALIVE, ALIVE_AND_BATTERY}


async def test_a_phone_that_says_nothing_at_all_is_silent(host: FakeAdbHost) -> None:
    phone = Listed("R58M", told=TOLD, battery=PIE)
    host.set(phone)
    async with watching(host.address, probe_timeout=0.2) as recorder:
        await heard(recorder, 1)
        phone.answers = False
        await recorder.until(
            lambda: recorder.visible["R58M"].reason.startswith("unresponsive"), "its silence"
        )
        asked = len(host.shells)
        phone.answers = True
        await recorder.until(lambda: recorder.visible["R58M"].bridge is Bridge.READY, "its return")
        assert host.shells[asked][1] == ALIVE, "it has enough to do"
        told = len(recorder.batteries)
        await recorder.until(lambda: len(recorder.batteries) > told, "its battery again")


async def test_it_is_not_asked_where_that_is_turned_off(host: FakeAdbHost) -> None:
    host.set(Listed("R58M", told=TOLD, battery=PIE))
    async with watching(host.address, battery=False) as recorder:
        await recorder.until(lambda: "R58M" in recorder.visible, "the phone")
        async with asyncio.timeout(10):
            while [command for _, command in host.shells].count(ALIVE) < 3:  # noqa: ASYNC110 - the fake tells nobody
                await asyncio.sleep(0.005)
        assert recorder.batteries == []
        assert ALIVE_AND_BATTERY not in {command for _, command in host.shells}


async def test_twins_have_a_battery_each(host: FakeAdbHost) -> None:
    host.set(
        Listed("0123456789ABCDEF", port="1-1", told=TOLD, battery=PIE),
        Listed("0123456789ABCDEF", port="1-2", told=TOLD, battery=OREO_SAMSUNG),
    )
    async with watching(host.address) as recorder:
        await recorder.until(lambda: len({r.address for r in recorder.batteries}) == 2, "both")
        told = {read.address: read.battery for read in recorder.batteries}
        assert told["0123456789ABCDEF#1"] == FULL
        assert told["0123456789ABCDEF#2"] != FULL
        assert told.keys() == recorder.visible.keys()


@pytest.mark.parametrize("binary", BINARIES)
async def test_real_servers_hand_on_what_comes_as_it_comes(binary: str, tmp_path: Path) -> None:
    """The first line is there before the rest of it, which may never come."""
    async with (
        RealAdbServer(BINARIES[binary], tmp_path) as server,
        FakePhone(device_name="one") as whole,
        FakePhone(device_name="two") as half,
        FakePhone(device_name="three") as endless,
        FakePhone(device_name="four") as old,
    ):
        whole.battery, half.battery, endless.battery = PIE, HALF + SILENCE, PIE + ENDLESS
        phones = (whole, half, endless, old)
        for phone in phones:
            await server.register(phone)
        async with watching(server.address, probe_timeout=2.0) as recorder:
            for phone in phones:
                await recorder.until(
                    lambda serial=phone.serial: serial in {r.address for r in recorder.batteries},  # type: ignore[misc]  # bound now
                    phone.serial,
                )
            first = {read.address: read.battery for read in reversed(recorder.batteries)}
            assert first[whole.serial] == first[endless.serial] == FULL
            assert first[half.serial] == Battery(100, None, BatteryHealth.GOOD, charging=False)
            assert first[old.serial] is None
            assert all(was_ready_ever_since(recorder, phone.serial) for phone in phones)
