"""USB/IP and endpoint 0 of a simulated device, seen from a host."""

from __future__ import annotations

import asyncio
import errno
import struct
from typing import TYPE_CHECKING

import pytest

from tests.lab.guest.usb.device import Configuration, Description, Device, Endpoint, Interface, Pipe
from tests.lab.guest.usb.usbip import IN, MOST, OUT, SHORT_NOT_OK
from tests.lab_phones.usb_host import LIMIT, StatusError, plugged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.lab_phones.usb_host import Plugged

STALL = -errno.EPIPE
BULK = (Endpoint(0x01), Endpoint(0x81))
DESCRIPTION = Description(
    vendor=0x18D1,
    product=0x4EE7,
    manufacturer="Maker",
    name="Gerät",
    serial="S1",
    configurations=(
        Configuration((Interface(0, (255, 66, 1), BULK, "Iface"),)),
        Configuration(
            (
                Interface(0, (255, 66, 1), BULK),
                Interface(1, (255, 253, 1)),
                Interface(1, (255, 253, 1), (Endpoint(0x05), Endpoint(0x85)), alternate=1),
            ),
            "Second",
        ),
    ),
)


class Echo:
    """Gives back each transfer; remembers when it was opened and closed."""

    def __init__(self) -> None:
        self.pipe: Pipe | None = None
        self.heard: list[bytes] = []

    def open(self, pipe: Pipe) -> None:
        self.pipe = pipe

    def receive(self, data: bytes) -> None:
        self.heard.append(data)
        if data and self.pipe is not None:
            self.pipe.write(data)

    def close(self) -> None:
        self.pipe = None


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def host(echo: Echo) -> AsyncIterator[Plugged]:
    device = Device(DESCRIPTION, {1: {1: echo}, 2: {1: echo}})
    async with plugged(device) as made:
        yield made


async def test_the_device_descriptor(host: Plugged) -> None:
    descriptor = await host.descriptor(1, length=64)
    assert len(descriptor) == 18 == descriptor[0]
    vendor, product, release, maker, name, serial, count = struct.unpack("<HHHBBBB", descriptor[8:])
    assert (vendor, product, release, count) == (0x18D1, 0x4EE7, 0x0100, 2)
    assert [await host.string(i) for i in (maker, name, serial)] == ["Maker", "Gerät", "S1"]


async def test_what_fits_of_a_descriptor_is_given(host: Plugged) -> None:
    whole = await host.descriptor(2)
    assert await host.descriptor(2, length=9) == whole[:9]
    assert struct.unpack_from("<H", whole, 2) == (len(whole),)
    assert await host.descriptor(3) == b"\x04\x03\x09\x04"


async def test_a_configuration_counts_interfaces_and_not_their_alternates(host: Plugged) -> None:
    descriptor = await host.descriptor(2, 1)
    assert descriptor[4:6] == bytes([2, 2])  # interfaces, value
    assert await host.string(descriptor[6]) == "Second"
    assert descriptor[9:18] == bytes([9, 4, 0, 0, 2, 255, 66, 1, 0])
    assert descriptor[18:25] == bytes([7, 5, 0x01, 2, 0, 2, 0])
    assert [d for d in _split(descriptor) if d[1] == 4][2][2:5] == bytes([1, 1, 2])


@pytest.mark.parametrize(("kind", "index"), [(3, 99), (6, 0), (7, 0), (15, 0), (2, 2), (3, 0xEE)])
async def test_descriptors_that_it_has_not_stall(host: Plugged, kind: int, index: int) -> None:
    with pytest.raises(StatusError) as failure:
        await host.descriptor(kind, index)
    assert failure.value.status == STALL
    assert await host.descriptor(1)  # and the next request is fine


async def test_requests_of_vendors_and_classes_stall(host: Plugged) -> None:
    for kind in (0xC0, 0x21, 0x40):
        with pytest.raises(StatusError, match=str(STALL)):
            await host.tell(kind, 0x52, 0)


async def test_being_configured(host: Plugged, echo: Echo) -> None:
    assert await host.ask(0x80, 8, 0, 0, 1) == b"\0"
    with pytest.raises(StatusError):
        await host.write(1, b"too early")
    await host.configure(2)
    assert await host.ask(0x80, 8, 0, 0, 1) == b"\2"
    await host.write(1, b"now")
    assert await host.read(1, 512) == b"now"
    await host.configure(0)
    assert echo.pipe is None
    with pytest.raises(StatusError):
        await host.configure(3)


async def test_alternate_settings_and_halts(host: Plugged) -> None:
    await host.configure(2)
    await host.tell(1, 11, 1, 1)
    assert await host.ask(0x81, 10, 0, 1, 1) == b"\1"
    with pytest.raises(StatusError):
        await host.tell(1, 11, 2, 1)
    await host.tell(2, 3, 0, 0x81)
    assert await host.ask(0x82, 0, 0, 0x81, 2) == b"\1\0"
    await host.tell(2, 1, 0, 0x81)
    assert await host.ask(0x82, 0, 0, 0x81, 2) == b"\0\0"
    assert await host.ask(0x80, 0, 0, 0, 2) == b"\1\0"
    with pytest.raises(StatusError):
        await host.tell(2, 1, 0, 0x83)


async def test_a_transfer_ends_a_request_and_goes_on_in_the_next(host: Plugged) -> None:
    await host.configure(1)
    await host.write(1, bytes(1024))
    assert len(await host.read(1, 16384)) == 1024  # as with a zero-length packet behind it
    await host.write(1, bytes(1000))
    assert [len(await host.read(1, n)) for n in (512, 512)] == [512, 488]


async def test_a_zero_length_packet_arrives_as_such(host: Plugged, echo: Echo) -> None:
    await host.configure(1)
    await host.write(1, b"")
    assert echo.heard == [b""]


async def test_short_is_an_error_where_the_host_says_so(host: Plugged) -> None:
    await host.configure(1)
    await host.write(1, b"abc")
    with pytest.raises(StatusError) as failure:
        await host.read(1, 512, flags=SHORT_NOT_OK)
    assert failure.value.args == (-errno.EREMOTEIO, b"abc")


async def test_unlinking_one_that_waits(host: Plugged) -> None:
    await host.configure(1)
    first, second = host.submit(1, IN, 512), host.submit(1, IN, 512)
    assert await host.unlink(first) == -errno.ECONNRESET
    await host.write(1, b"for the second")
    assert await host.answer(second) == b"for the second"
    assert not host.answered(first)


async def test_unlinking_one_that_is_done(host: Plugged) -> None:
    await host.configure(1)
    await host.write(1, b"x")
    done = host.submit(1, IN, 512)
    assert await host.answer(done) == b"x"
    assert await host.unlink(done) == 0
    assert await host.unlink(4711) == 0


async def test_endpoints_that_it_has_not_stall(host: Plugged) -> None:
    await host.configure(1)
    for endpoint, direction in ((2, OUT), (3, IN)):
        with pytest.raises(StatusError, match=str(STALL)):
            await host.answer(host.submit(endpoint, direction, b"" if direction == OUT else 8))


async def test_messages_in_pieces(host: Plugged, echo: Echo) -> None:
    await host.configure(1)
    message = struct.pack(">5I", 1, 900, 1, OUT, 1) + struct.pack(">Iiiii8x", 0, 3, 0, -1, 0)
    for byte in message + b"abc":
        host.writer.write(bytes([byte]))
        await host.writer.drain()
        await asyncio.sleep(0)
    host._answers[900], host._wanted[900] = asyncio.get_running_loop().create_future(), 0
    assert await host.answer(900) == b""
    assert echo.heard == [b"abc"]


@pytest.mark.parametrize(
    "message",
    [
        struct.pack(">5I28x", 7, 1, 1, 0, 0),
        struct.pack(">5I", 1, 1, 1, 2, 0) + struct.pack(">Iiiii8x", 0, 0, 0, 0, 0),
        struct.pack(">5I", 1, 1, 1, 0, 16) + struct.pack(">Iiiii8x", 0, 0, 0, 0, 0),
        struct.pack(">5I", 1, 1, 1, 0, 1) + struct.pack(">Iiiii8x", 0, -1, 0, 0, 0),
        struct.pack(">5I", 1, 1, 1, 0, 1) + struct.pack(">Iiiii8x", 0, MOST + 1, 0, 0, 0),
        struct.pack(">5I", 1, 1, 1, 1, 1) + struct.pack(">Iiiii8x", 0, 8, 0, 4, 1),
        2 * (struct.pack(">5I", 1, 1, 1, 1, 1) + struct.pack(">Iiiii8x", 0, 8, 0, 0, 0)),
    ],
    ids=["command", "direction", "endpoint", "negative", "huge", "isochronous", "twice"],
)
async def test_what_is_no_usbip_unplugs_it_with_a_reason(host: Plugged, message: bytes) -> None:
    await host.configure(1)
    host._next = 500  # numbers of its own
    host.writer.write(message)
    async with asyncio.timeout(LIMIT):
        await host.hung_up.wait()
    assert host.reason


async def test_an_unplug_ends_all_there_is(host: Plugged, echo: Echo) -> None:
    await host.configure(1)
    host.submit(1, IN, 512)
    host.export.unplug()
    async with asyncio.timeout(LIMIT):
        await host.hung_up.wait()
    assert (host.reason, echo.pipe, host.export.pending) == ("", None, 0)


def _split(descriptor: bytes) -> list[bytes]:
    found = []
    while descriptor:
        found.append(descriptor[: descriptor[0]])
        descriptor = descriptor[descriptor[0] :]
    return found
