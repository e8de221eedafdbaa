"""A wire that loses a message: TCP between a link and its server, taken apart on its way back."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Lossy:
    """Hands all on but the messages that `loses` says."""

    def __init__(self) -> None:
        self.port = 0
        self.loses: Callable[[bytes], bool] = lambda _: False
        """Told the body of each."""
        self.lost: list[bytes] = []

    async def back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """From server to link."""
        while line := await reader.readline():
            frame = line
            if line.startswith((b"MSG ", b"HMSG ")):
                body = await reader.readexactly(int(line.split()[-1]) + 2)
                head = int(line.split()[-2]) if line.startswith(b"HMSG ") else 0
                if self.loses(body[head:-2]):
                    self.lost.append(body[head:-2])
                    continue
                frame += body
            writer.write(frame)
            await writer.drain()

    @staticmethod
    async def forth(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """From link to server."""
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def lossy(port: int) -> AsyncIterator[Lossy]:
    """Before the server at that port of loopback."""
    wire = Lossy()
    writers: list[asyncio.StreamWriter] = []
    tasks: list[asyncio.Task[None]] = []

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection("127.0.0.1", port)
        writers.extend((writer, here))
        tasks.append(asyncio.ensure_future(wire.back(there, writer)))
        tasks.append(asyncio.ensure_future(wire.forth(reader, here)))

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for each in writers:
            each.transport.abort()
            with contextlib.suppress(OSError):
                await each.wait_closed()
