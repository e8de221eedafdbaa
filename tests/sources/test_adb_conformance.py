"""The source suite over real adb servers with wire-level phones, and over a scripted server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fakes.adb_server import BINARIES, RealAdbServer
from tests.fakes.fake_adb_host import FakeAdbHost, Listed, Mode
from tests.fakes.phone import FakePhone
from tests.kit.sources import adb_source
from tests.sources.conformance import Lab, SourceConformance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.sources.adb import AdbSource


class RealLab(Lab):
    def __init__(self, server: RealAdbServer) -> None:
        self.server = server
        self.up = False
        self.phones: dict[int, FakePhone] = {}
        self.answer_limit = 5.0

    def source(self) -> AdbSource:
        return adb_source(
            self.server.address,
            probe_interval=0.2,
            probe_timeout=5.0,
            compare_interval=0.2,
            answer_limit=self.answer_limit,
        )

    async def start(self) -> None:
        await self.server.start()
        self.up = True
        for phone in self.phones.values():
            await self.server.register(phone)

    async def add(self, number: int) -> str:
        phone = self.phones[number] = FakePhone(device_name=f"Phone {number}")
        await phone.start()
        if self.up:
            await self.server.register(phone)
        return phone.serial

    async def remove(self, number: int) -> None:
        await self.phones.pop(number).close()

    async def kill(self) -> None:
        self.up = False
        await self.server.kill()

    async def hang(self) -> None:
        self.server.freeze()
        self.answer_limit = 0.3

    async def end(self) -> None:
        await self.server.kill()
        for phone in self.phones.values():
            await phone.close()


class ScriptedLab(Lab):
    def __init__(self) -> None:
        self.host = FakeAdbHost()
        self.answer_limit = 5.0

    def source(self) -> AdbSource:
        return adb_source(
            self.host.address,
            probe_interval=0.2,
            probe_timeout=5.0,
            compare_interval=0.2,
            answer_limit=self.answer_limit,
        )

    async def start(self) -> None:
        self.host.mode = Mode.ANSWER
        await self.host.start()

    async def add(self, number: int) -> str:
        self.host.set(Listed(f"SERIAL{number}", port=f"1-{number}"))
        return f"SERIAL{number}"

    async def remove(self, number: int) -> None:
        self.host.remove(f"SERIAL{number}")

    async def kill(self) -> None:
        await self.host.kill()

    async def garble(self) -> None:
        self.host.push_raw(b"\x00\xff\x00\xffgarbage")

    async def hang(self) -> None:
        self.host.mode = Mode.HANG
        self.answer_limit = 0.3


class TestRealAdb(SourceConformance):
    @pytest.fixture(params=BINARIES)
    async def lab(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RealLab]:
        lab = RealLab(RealAdbServer(BINARIES[request.param], tmp_path))
        yield lab
        await lab.end()


class TestScriptedAdb(SourceConformance):
    @pytest.fixture
    async def lab(self) -> AsyncIterator[ScriptedLab]:
        lab = ScriptedLab()
        await lab.host.start()  # for its port
        await lab.host.kill()
        yield lab
        await lab.host.kill()
