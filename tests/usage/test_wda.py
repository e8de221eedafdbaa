"""WebDriverAgent through a usbmuxd that speaks the wire."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from agent.model import Platform
from agent.usage.base import Phone, UsageUnknownError
from agent.usage.wda import MAX_ANSWER, WdaSource
from tests.fakes.usbmuxd import FakeUsbmuxd
from tests.kit.waiting import LIMIT
from tests.usage import conformance

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

UDID = "00008110-000A1234A1B2C3D4"


class FakeWda:
    """WebDriverAgent's `/status`: sessionId at the top level, as `FBResponsePayload` writes it."""

    def __init__(self) -> None:
        self.session: str | None = None
        self.hanging = False
        self.raw = b""
        self.asked = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        if self.hanging:
            await reader.read()
            return
        if self.raw:
            writer.write(self.raw)
            writer.close()
            return
        value = {"ready": True, "state": "success", "os": {"name": "iOS", "version": "17.5"}}
        body = json.dumps({"value": value, "sessionId": self.session}).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        writer.write(head.encode() + b"\r\n\r\n" + body)
        writer.close()


class WdaHarness:
    """See `conformance.Harness`."""

    away_is_unknown = False
    holder = "wda session "
    udid = UDID

    def __init__(self, path: Path) -> None:
        self.mux = FakeUsbmuxd(path)
        self.wda = FakeWda()
        self.source = WdaSource(str(path), [8100])
        self.phones: tuple[Phone, ...] = ()

    @asynccontextmanager
    async def backend(self) -> AsyncIterator[None]:
        async with self.mux:
            self.phone = self.mux.attach(UDID, apps={8100: self.wda})
            self.phones = (Phone(UDID, Platform.IOS, str(self.phone.device_id)),)
            yield

    def hold(self) -> None:
        self.wda.session = "4F2A1C09-1111-2222-3333-444455556666"

    def end(self) -> None:
        self.wda.session = None

    async def leave(self) -> None:
        self.phone.apps.clear()

    async def come_back(self) -> None:
        self.phone.apps[8100] = self.wda

    def hang(self) -> None:
        self.wda.hanging = True

    def babble(self) -> None:
        self.wda.raw = b"SSH-2.0-OpenSSH_9.2\r\n"

    def behave(self) -> None:
        self.wda.hanging, self.wda.raw = False, b""


async def test_conformance(tmp_path: Path) -> None:
    await conformance.check(WdaHarness(tmp_path / "mux"))


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[WdaHarness]:
    it = WdaHarness(tmp_path / "mux")
    async with it.backend():
        yield it


async def test_a_usbmuxd_that_refuses_says_nothing_of_its_phones(harness: WdaHarness) -> None:
    """Its socket's file is left over: that is no phone on which nothing listens."""
    (target,) = await harness.source.targets([Phone(UDID, Platform.IOS, "1")])
    await harness.mux.kill(leave_socket=True)
    with pytest.raises(UsageUnknownError, match="cannot be asked"):
        await harness.source.read(target)


async def test_every_port_of_every_ready_iphone_is_a_target(tmp_path: Path) -> None:
    source = WdaSource(str(tmp_path / "none"), [8100, 8101])
    phones = [
        Phone("A", Platform.IOS, "1"),
        Phone("B", Platform.IOS, ""),
        Phone("C", Platform.ANDROID, "C"),
    ]
    targets = await source.targets(phones)
    assert [(target.key, target.udid) for target in targets] == [
        ("port 8100 of A", "A"),
        ("port 8101 of A", "A"),
    ]


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\n\r\nnot json",
        b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (MAX_ANSWER + 1),
        b"\x00\xff" * 2000,
    ],
    ids=["half", "no json", "too long", "bytes"],
)
async def test_what_is_no_answer_is_unknown(harness: WdaHarness, raw: bytes) -> None:
    harness.wda.raw = raw
    (target,) = await harness.source.targets(harness.phones)
    with pytest.raises(UsageUnknownError, match="wda_ports"):
        await harness.source.read(target)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"hello": 1}, "is no WebDriverAgent"),
        ([], "is no WebDriverAgent"),
        ({"value": {"ready": False}, "sessionId": None}, "is not ready"),
        ({"value": {"error": "unknown error"}, "sessionId": None}, "is not ready"),
    ],
)
async def test_an_answer_that_does_not_say_so_is_not_idle(
    harness: WdaHarness, content: object, words: str
) -> None:
    body = json.dumps(content).encode()
    harness.wda.raw = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    (target,) = await harness.source.targets(harness.phones)
    with pytest.raises(UsageUnknownError, match=words):
        await harness.source.read(target)


async def test_a_phone_that_went_is_unknown(harness: WdaHarness) -> None:
    (target,) = await harness.source.targets(harness.phones)
    harness.mux.detach(harness.phone)
    with pytest.raises(UsageUnknownError, match="no longer attached"):
        await harness.source.read(target)


async def test_usbmuxd_down_is_unknown(harness: WdaHarness) -> None:
    (target,) = await harness.source.targets(harness.phones)
    await harness.mux.kill()
    with pytest.raises(UsageUnknownError, match="cannot be asked"):
        await harness.source.read(target)


async def test_one_that_hangs_delays_nobody(harness: WdaHarness) -> None:
    harness.hang()
    others = []
    for number in range(20):
        wda = FakeWda()
        wda.session = f"{number:08}"
        phone = harness.mux.attach(f"00008110-{number:016X}", apps={8100: wda})
        others.append(Phone(phone.serial, Platform.IOS, str(phone.device_id)))
    (stuck,) = await harness.source.targets(harness.phones)
    hanging = asyncio.create_task(_read(harness.source, stuck))
    try:
        async with asyncio.timeout(LIMIT):
            targets = await harness.source.targets(others)
            told = await asyncio.gather(*[harness.source.read(target) for target in targets])
        assert all(told)
        assert not hanging.done() or hanging.exception() is not None
    finally:
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)


async def _read(source: WdaSource, target: object) -> None:
    await source.read(target)  # type: ignore[arg-type]  # from `targets`, as object


async def test_garbage_from_usbmuxd_is_unknown(tmp_path: Path) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(16)
        writer.write(b"\xff" * 64)
        writer.close()

    path = tmp_path / "mux"
    server = await asyncio.start_unix_server(babble, path)
    source = WdaSource(str(path), [8100])
    (target,) = await source.targets([Phone("A", Platform.IOS, "1")])
    with pytest.raises(UsageUnknownError, match="no usbmuxd"):
        await source.read(target)
    server.close()
