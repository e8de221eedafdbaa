"""A small USB host at the other end of a simulated phone's socket: what the kernel does, in short.

async with plugged(phone.device()) as host:
    await host.configure(1)
    await host.write(1, b"…")
    await host.read(1, 512)
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING

from tests.lab.guest.usb.usbip import (
    CMD_SUBMIT,
    CMD_UNLINK,
    HEADER,
    IN,
    OUT,
    RET_SUBMIT,
    RET_UNLINK,
    Export,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.lab.guest.usb.device import Device

LIMIT = 10.0
"""Seconds before a wait in here fails the test."""


class StatusError(Exception):
    """A transfer that ended with something else than 0: the kernel's error number, negative."""

    @property
    def status(self) -> int:
        return int(self.args[0])


class Host:
    """Speaks USB/IP on one socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self._reader = reader
        self._next = 1
        self._wanted: dict[int, int] = {}  # IN transfers' numbers → bytes asked for
        self._answers: dict[int, asyncio.Future[bytes]] = {}
        self._unlinks: dict[int, asyncio.Future[int]] = {}
        self.hung_up = asyncio.Event()
        """The phone is unplugged."""
        self._task = asyncio.create_task(self._listen())

    async def close(self) -> None:
        self.writer.close()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def submit(  # one of the kernel's submissions, word by word
        self,
        endpoint: int,
        direction: int,
        data: bytes | int,
        *,
        setup: bytes = bytes(8),
        flags: int = 0,
    ) -> int:
        """Submit a transfer: bytes to send, or how many to ask for. Returns its number."""
        number, self._next = self._next, self._next + 1
        length = data if isinstance(data, int) else len(data)
        self.writer.write(
            struct.pack(">5I", CMD_SUBMIT, number, 1, direction, endpoint)
            + struct.pack(">Iiiii8s", flags, length, 0, 0, 0, setup)
            + (data if isinstance(data, bytes) else b"")
        )
        self._wanted[number] = length if direction == IN else 0
        self._answers[number] = asyncio.get_running_loop().create_future()
        return number

    async def answer(self, number: int) -> bytes:
        """What a transfer brought, once it is done; StatusError where that was not well."""
        async with asyncio.timeout(LIMIT):
            return await self._answers[number]

    def answered(self, number: int) -> bool:
        return self._answers[number].done()

    async def unlink(self, unlinked: int) -> int:
        """Take a transfer back; the status of that."""
        number, self._next = self._next, self._next + 1
        self._unlinks[number] = asyncio.get_running_loop().create_future()
        self.writer.write(
            struct.pack(">6I24x", CMD_UNLINK, number, 1, 0, 0, unlinked),
        )
        async with asyncio.timeout(LIMIT):
            return await self._unlinks[number]

    async def read(self, endpoint: int, length: int, *, flags: int = 0) -> bytes:
        return await self.answer(self.submit(endpoint, IN, length, flags=flags))

    async def write(self, endpoint: int, data: bytes) -> None:
        await self.answer(self.submit(endpoint, OUT, data))

    async def ask(self, kind: int, request: int, value: int, index: int, length: int) -> bytes:
        """A control transfer that reads."""
        setup = struct.pack("<BBHHH", kind, request, value, index, length)
        return await self.answer(self.submit(0, IN, length, setup=setup))

    async def tell(self, kind: int, request: int, value: int, index: int = 0) -> None:
        """A control transfer without data."""
        setup = struct.pack("<BBHHH", kind, request, value, index, 0)
        await self.answer(self.submit(0, OUT, b"", setup=setup))

    async def descriptor(self, kind: int, index: int = 0, length: int = 255) -> bytes:
        return await self.ask(0x80, 6, kind << 8 | index, 0x0409 if kind == 3 else 0, length)

    async def string(self, index: int) -> str:
        return (await self.descriptor(3, index))[2:].decode("utf-16-le")

    async def configure(self, value: int) -> None:
        await self.tell(0, 9, value)

    async def _listen(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await self._reader.readexactly(HEADER)
                command, number, devid, direction, endpoint = struct.unpack_from(">5I", head)
                assert (devid, direction, endpoint) == (0, 0, 0)
                status, length = struct.unpack_from(">ii", head, 20)
                if command == RET_UNLINK:
                    self._unlinks.pop(number).set_result(status)
                    continue
                assert command == RET_SUBMIT
                wanted = self._wanted.pop(number)
                assert length <= wanted or not wanted
                data = await self._reader.readexactly(length if wanted else 0)
                future = self._answers[number]
                if status:
                    future.set_exception(StatusError(status, data))
                    future.exception()  # a test that does not ask does not mind
                else:
                    future.set_result(data)
        self.hung_up.set()


class Plugged(Host):
    """A host that a device is plugged into."""

    export: Export
    reason: str | None = None
    """Why the device's end is over; "" where it just is, None while it is not."""


@contextlib.asynccontextmanager
async def plugged(device: Device) -> AsyncIterator[Plugged]:
    """Plug a device into a host."""
    mine, theirs = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=mine)
    host = Plugged(reader, writer)

    def ended(reason: str) -> None:
        host.reason = reason

    host.export = Export(device, ended)
    await asyncio.get_running_loop().connect_accepted_socket(lambda: host.export, theirs)
    try:
        yield host
    finally:
        host.export.unplug()
        async with asyncio.timeout(LIMIT):
            await host.hung_up.wait()
        await host.close()
