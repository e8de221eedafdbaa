"""AdbSource, a real adb server and wire-level phones: what happens in a rack."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from agent.model import Bridge, Changed, Down, Gone, Snapshot
from tests.fakes.adb_server import BINARIES, RealAdbServer
from tests.fakes.phone import FakePhone
from tests.fakes.recorder import Recorder
from tests.kit.sources import adb_source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture(params=BINARIES)
async def server(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RealAdbServer]:
    async with RealAdbServer(BINARIES[request.param], tmp_path) as server:
        yield server


@asynccontextmanager
async def watching(
    server: RealAdbServer, probe_interval: float = 0.0, probe_timeout: float = 10.0
) -> AsyncIterator[Recorder]:
    source = adb_source(
        server.address,
        probe_interval=probe_interval,
        probe_timeout=probe_timeout,
        compare_interval=0.2,
    )
    recorder = Recorder()
    task = asyncio.create_task(source.run(recorder))
    try:
        await recorder.next_after(0)
        yield recorder
    finally:
        task.cancel()
        await asyncio.wait({task}, timeout=5)
        assert task.cancelled()


async def until(recorder: Recorder, phone: FakePhone, bridge: Bridge, reason: str = "") -> None:
    def is_so() -> bool:
        sighting = recorder.visible.get(phone.serial)
        return (
            sighting is not None
            and sighting.bridge is bridge
            and sighting.reason.startswith(reason)
        )

    await recorder.until(is_so, f"{phone.serial} {bridge} {reason}")


async def test_a_phones_life(server: RealAdbServer) -> None:
    async with (
        FakePhone(device_name="Rack 3", marketname="Galaxy S21", model="SM-G991B") as phone,
        watching(server, probe_interval=0.1, probe_timeout=0.5) as recorder,
    ):
        await server.register(phone)
        await until(recorder, phone, Bridge.READY)
        await recorder.until(lambda: recorder.visible[phone.serial].name == "Rack 3", "its name")
        sighting = recorder.visible[phone.serial]
        assert (sighting.model, sighting.network, sighting.port) == ("Galaxy S21", False, "")
        phone.revoke()
        await until(recorder, phone, Bridge.NOT_READY, "unauthorized: accept")
        phone.accept()
        await until(recorder, phone, Bridge.READY)
        phone.stall()
        await until(recorder, phone, Bridge.NOT_READY, "unresponsive")
        phone.resume()
        await until(recorder, phone, Bridge.READY)
        assert recorder.count(Gone) == 0
        phone.hang_up()
        await recorder.until(lambda: not recorder.visible, "its going")
        await server.register(phone)
        await until(recorder, phone, Bridge.READY)
        await recorder.until(lambda: recorder.visible[phone.serial].name == "Rack 3", "its name")
        assert recorder.count(Down) == 0
        names = [command for command in phone.commands if "device_name" in command]
        assert len(names) == 2, "one question per appearance"


async def test_a_phone_behind_the_prompt_from_the_start(server: RealAdbServer) -> None:
    async with FakePhone(authorised=False) as phone, watching(server) as recorder:
        await server.register(phone)
        await until(recorder, phone, Bridge.NOT_READY, "unauthorized")
        phone.accept()
        await until(recorder, phone, Bridge.READY)


async def test_two_hundred_at_once(server: RealAdbServer) -> None:
    async with AsyncExitStack() as stack:
        phones = [
            await stack.enter_async_context(FakePhone(device_name=f"Phone {n}")) for n in range(200)
        ]
        async with watching(server) as recorder:
            await asyncio.gather(*(server.register(phone) for phone in phones))
            expected = {phone.serial: phone.device_name for phone in phones}
            # Cheap first: the whole table is added up only when enough was said.
            await recorder.until(lambda: recorder.count(Changed) >= 200, "the phones")
            named: dict[str, str] = {}
            seen = 0

            def all_named() -> bool:
                nonlocal seen
                for one in recorder.seen[seen:]:
                    if isinstance(one, Changed):
                        named[one.sighting.serial] = one.sighting.name
                seen = len(recorder.seen)
                return named == expected

            await recorder.until(all_named, "their names")
            assert {s.bridge for s in recorder.visible.values()} == {Bridge.READY}
            assert recorder.count(Gone) == recorder.count(Down) == 0


async def test_a_killed_server_forgets_its_phones_and_is_believed_when_it_is_back(
    server: RealAdbServer,
) -> None:
    async with FakePhone() as stays, FakePhone() as leaves, watching(server) as recorder:
        for phone in (stays, leaves):
            await server.register(phone)
            await until(recorder, phone, Bridge.READY)
        await server.kill()
        await recorder.until(lambda: recorder.count(Down) == 1, "Down")
        assert recorder.count(Gone) == 0
        leaves.hang_up()
        await server.start()
        await server.register(stays)
        await until(recorder, stays, Bridge.READY)
        assert recorder.visible.keys() == {stays.serial}
        assert recorder.count(Snapshot) == 2
        assert recorder.count(Down) == 1


async def test_a_frozen_server_is_down_and_its_phones_come_back_with_it(
    server: RealAdbServer,
) -> None:
    source = adb_source(
        server.address,
        probe_timeout=1.0,
        compare_interval=0.1,
        answer_limit=0.5,
    )
    recorder = Recorder()
    async with FakePhone() as phone:
        task = asyncio.create_task(source.run(recorder))
        try:
            await server.register(phone)
            await until(recorder, phone, Bridge.READY)
            server.freeze()
            await recorder.until(lambda: isinstance(recorder.seen[-1], Down), "Down")
            assert recorder.count(Gone) == 0
            server.thaw()
            await until(recorder, phone, Bridge.READY)
        finally:
            server.thaw()
            task.cancel()
            await asyncio.wait({task}, timeout=5)


async def test_stalled_phones_delay_nobody_elses_appearance(server: RealAdbServer) -> None:
    async with (
        FakePhone() as one,
        FakePhone() as two,
        FakePhone(device_name="third") as third,
        watching(server, probe_interval=0.1, probe_timeout=0.5) as recorder,
    ):
        for phone in (one, two):
            await server.register(phone)
            await until(recorder, phone, Bridge.READY)
            phone.stall()
        for phone in (one, two):
            await until(recorder, phone, Bridge.NOT_READY, "unresponsive")
        await server.register(third)
        await until(recorder, third, Bridge.READY)
        await recorder.until(lambda: recorder.visible[third.serial].name == "third", "its name")
        for phone in (one, two):
            assert recorder.visible[phone.serial].bridge is Bridge.NOT_READY
