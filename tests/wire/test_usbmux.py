"""The client of usbmuxd, on what no usbmuxd should send."""

from __future__ import annotations

import asyncio
import plistlib
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from agent.wire.usbmux import (
    QUOTE,
    Attached,
    Detached,
    MalformedError,
    Paired,
    PhoneGoneError,
    PortClosedError,
    UsbmuxClient,
    attached_of,
    quoted,
)
from tests.fakes.usbmuxd import FakeUsbmuxd, frame
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def packed(payload: bytes) -> bytes:
    """An answer of these bytes to the first request."""
    return struct.pack("<IIII", 16 + len(payload), 1, 8, 1) + payload


@asynccontextmanager
async def answering(path: Path, answer: bytes) -> AsyncIterator[UsbmuxClient]:
    """To every request with these bytes, then the end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        size, *_ = struct.unpack("<IIII", await reader.readexactly(16))
        await reader.readexactly(size - 16)
        writer.write(answer)
        writer.close()

    async with await asyncio.start_unix_server(serve, path), asyncio.timeout(LIMIT):
        yield UsbmuxClient(str(path))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (frame({"DeviceList": []}, 7), "it answers request 7, not 1"),
        (struct.pack("<IIII", 20, 1, 3, 1) + bytes(4), "a message of kind 3, not 8"),
        (struct.pack("<IIII", 16, 1, 8, 1), "a message cannot be 16 bytes long"),
        (frame([], 1), "it answers []"),
        (frame({"DeviceList": {}}, 1), "its list of devices is {}"),
        (packed(b"<plist><date>yesterday</date></plist>"), "AttributeError"),
        (packed(b'<?xml version="1.0" encoding="none"?><plist/>'), "LookupError"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "16 bytes read, beginning 48 54 54 50"),
    ],
)
async def test_what_is_no_list(tmp_path: Path, answer: bytes, why: str) -> None:
    async with answering(tmp_path / "mux", answer) as client:
        with pytest.raises(MalformedError) as error:
            await client.rows()
    assert why in error.value.what


@pytest.mark.parametrize("answer", [b"", frame({"DeviceList": []}, 1)[:-5]])
async def test_an_end_in_the_middle(tmp_path: Path, answer: bytes) -> None:
    async with answering(tmp_path / "mux", answer) as client:
        with pytest.raises(ConnectionResetError):
            await client.rows()


@pytest.mark.parametrize(
    ("result", "error"),
    [
        (2, PhoneGoneError),
        (3, PortClosedError),
        (4, PortClosedError),
        (1, ConnectionError),
        ("0", ConnectionError),
    ],
)
async def test_what_a_refused_connection_means(
    tmp_path: Path, result: Any, error: type[Exception]
) -> None:
    answer = frame({"MessageType": "Result", "Number": result}, 1)
    async with answering(tmp_path / "mux", answer) as client:
        with pytest.raises(ConnectionError) as raised:
            await client.connect(5, 8100)
    assert type(raised.value) is error


async def test_the_first_record_that_there_is(tmp_path: Path) -> None:
    async with FakeUsbmuxd(tmp_path / "mux") as mux:
        mux.attach("A", record_name="A-dashed")
        client = UsbmuxClient(mux.address)
        assert plistlib.loads(await client.pair_record("A", "A-dashed"))["HostID"]
        assert await client.pair_record("A", "B") is None


async def test_announcements(tmp_path: Path) -> None:
    odd: list[tuple[Any, str]] = []
    async with FakeUsbmuxd(tmp_path / "mux") as mux, asyncio.timeout(LIMIT):
        phone = mux.attach("A", connection="Network")
        connection = await UsbmuxClient(mux.address).open()
        try:
            await connection.listen()

            async def told() -> Attached | Detached | Paired:
                return await connection.announcement(LIMIT, lambda row, why: odd.append((row, why)))

            assert await told() == Attached(phone.device_id, "A", "Network")
            mux.announce({"MessageType": "Attached", "DeviceID": 9})
            mux.announce({"MessageType": "Paired", "DeviceID": phone.device_id})
            assert await told() == Paired()
            assert [why for _, why in odd] == ["it has no properties"]
            mux.detach(phone)
            assert await told() == Detached(phone.device_id)
        finally:
            connection.close()


HUGE = b"<integer>0x" + b"f" * 5000 + b"</integer>"
"""Python reads it, and refuses to write it in decimal digits."""
DEEP = b"<array>" * 3000 + b"</array>" * 3000


@pytest.mark.parametrize("odd", [HUGE, DEEP], ids=["a number", "lists within lists"])
async def test_what_cannot_be_shown_hides_nobody(tmp_path: Path, odd: bytes) -> None:
    body = plistlib.dumps({"DeviceList": [{"DeviceID": "ODD", "Properties": {}}]})
    body = body.replace(b"<string>ODD</string>", odd)
    async with answering(tmp_path / "mux", packed(body)) as client:
        (found,) = await client.rows()
    with pytest.raises(ValueError, match="DeviceID is no number"):
        attached_of({**found, "Properties": {"SerialNumber": "A", "ConnectionType": "USB"}})
    assert 0 < len(quoted(found)) <= QUOTE
