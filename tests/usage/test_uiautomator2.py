"""UiAutomator2 behind a real adb server's forwards, with phones that speak adb's wire."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from agent.model import Platform
from agent.usage.base import Phone, UsageUnknownError
from agent.usage.uiautomator2 import Uiautomator2Source
from agent.wire.adb_lists import AdbProtocolError, Forward, parse_forwards
from tests.fakes.adb_server import BINARIES, RealAdbServer, request
from tests.fakes.phone import FakePhone
from tests.fakes.ports import free_port
from tests.usage import conformance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class FakeServer:
    """The UiAutomator2 server's `/sessions`."""

    def __init__(self) -> None:
        self.sessions: list[str] = []
        self.old = False
        """Answers under `/wd/hub` only."""
        self.hanging = False
        self.raw = b""

    def __call__(self, asked: bytes) -> bytes | None:
        if self.hanging:
            return None
        if self.raw:
            return self.raw
        path = "/wd/hub/sessions" if self.old else "/sessions"
        value = [{"id": id_, "capabilities": {}} for id_ in self.sessions]
        if asked.startswith(f"GET {path} ".encode()):
            return _http("200 OK", {"sessionId": None, "value": value})
        return _http("404 Not Found", {"value": {"error": "unknown command"}})


def _http(status: str, content: object) -> bytes:
    body = json.dumps(content).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class ForwardHarness:
    """See `conformance.Harness`."""

    away_is_unknown = False
    holder = "uiautomator2 session "

    def __init__(self, binary: Path, tmp_path: Path) -> None:
        self.adb = RealAdbServer(binary, tmp_path)
        self.server = FakeServer()
        self.phone = FakePhone()
        self.phones: tuple[Phone, ...] = ()
        self.udid = ""

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[None]:
        async with self.adb, self.phone:
            serial = self.udid = await self.adb.register(self.phone)
            await self.adb.until_listed(serial, "device")
            self.phone.apps[6790] = self.server
            self.phones = (Phone(serial, Platform.ANDROID, serial),)
            await self.forward("tcp:6790")
            self.source = Uiautomator2Source(self.adb.address, str)
            yield
            await self.source.close()

    async def forward(self, remote: str) -> int:
        port = free_port()
        await request(self.adb.port, f"host-serial:{self.udid}:forward:tcp:{port};{remote}")
        return port

    def hold(self) -> None:
        self.server.sessions = ["4f2a1c09-1111"]

    def end(self) -> None:
        self.server.sessions = []

    async def leave(self) -> None:
        self.phone.apps.clear()

    async def come_back(self) -> None:
        self.phone.apps[6790] = self.server

    def hang(self) -> None:
        self.server.hanging = True

    def babble(self) -> None:
        self.server.raw = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"

    def behave(self) -> None:
        self.server.hanging, self.server.raw = False, b""


@pytest.fixture(params=list(BINARIES.values()), ids=list(BINARIES))
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> ForwardHarness:
    return ForwardHarness(request.param, tmp_path)


async def test_conformance(harness: ForwardHarness) -> None:
    await conformance.check(harness)


async def test_only_forwards_of_ready_phones_to_its_port_are_asked(
    harness: ForwardHarness,
) -> None:
    async with harness.backend():
        await harness.forward("tcp:9999")
        (target,) = await harness.source.targets(harness.phones)
        assert target.udid == harness.udid
        assert target.key.endswith(f"of {harness.udid}")
        assert await harness.source.targets([Phone(harness.udid, Platform.ANDROID, "")]) == []
        second = await harness.forward("tcp:6790")
        keys = [each.key for each in await harness.source.targets(harness.phones)]
        assert len(keys) == 2
        assert f"forward tcp:{second} of {harness.udid}" in keys


async def test_a_forward_is_its_phones_by_whatever_name_adb_has_for_it(
    harness: ForwardHarness,
) -> None:
    """A phone on USB and on the network: the forward may be made over either."""
    async with harness.backend():
        harness.hold()
        source = Uiautomator2Source(harness.adb.address, {harness.udid: "R58M"}.get)
        (target,) = await source.targets([Phone("R58M", Platform.ANDROID, "R58M")])
        assert target.udid == "R58M"
        assert set(await source.read(target)) == {"R58M"}
        assert await source.targets([Phone("other", Platform.ANDROID, "other")]) == []
        twin = Phone("R58M", Platform.ANDROID, f"{harness.udid}#7")
        assert await source.targets([twin]) == [], "of two with one serial it does not tell which"
        await source.close()


async def test_an_older_server(harness: ForwardHarness) -> None:
    async with harness.backend():
        harness.server.old = True
        harness.hold()
        (target,) = await harness.source.targets(harness.phones)
        assert await harness.source.read(target) == {harness.udid: "uiautomator2 session 4f2a1c09"}


async def test_without_the_adb_server_its_targets_are_unknown(harness: ForwardHarness) -> None:
    async with harness.backend():
        await harness.adb.kill()
        with pytest.raises(UsageUnknownError, match="does not list its forwards"):
            await harness.source.targets(harness.phones)


def test_forwards_as_adb_lists_them() -> None:
    text = "R58M tcp:8200 tcp:6790\nodd serial tcp:1 localabstract:x\n"
    assert parse_forwards(text) == [
        Forward("R58M", "tcp:8200", "tcp:6790"),
        Forward("odd serial", "tcp:1", "localabstract:x"),
    ]
    assert parse_forwards("") == []
    with pytest.raises(AdbProtocolError):
        parse_forwards("R58M tcp:8200\n")
