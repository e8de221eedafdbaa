"""One GET over a stream that is already connected, bounded in size; the caller limits the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h11

if TYPE_CHECKING:
    import asyncio


async def get(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, limit: int
) -> bytes:
    """The body of the answer, whatever its status.

    Raises:
        ValueError: what comes is no HTTP, no whole answer, or more than `limit` bytes.
        OSError: the connection broke.
    """
    http = h11.Connection(h11.CLIENT)
    headers = [("Host", "localhost"), ("Connection", "close"), ("Accept", "*/*")]
    writer.write(http.send(h11.Request(method="GET", target=path, headers=headers)) or b"")
    writer.write(http.send(h11.EndOfMessage()) or b"")
    body = bytearray()
    try:
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(limit))
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > limit:
                    raise ValueError(f"an answer of more than {limit} bytes")
            elif isinstance(event, h11.EndOfMessage):
                return bytes(body)
            elif isinstance(event, h11.ConnectionClosed):
                raise ValueError("no answer")
    except h11.RemoteProtocolError as error:
        raise ValueError(str(error)) from None
