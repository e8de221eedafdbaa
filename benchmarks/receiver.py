"""A webhook receiver in a process of its own that costs as little as possible.

`python -m benchmarks.receiver` prints its port, answers every POST with 200 and ends with its
standard input. It reads Content-Length bodies over kept-alive connections, as aiohttp sends them.
POSTs to `/hang` are never answered, those to `/drip` with a byte a second.
"""

from __future__ import annotations

import asyncio
import re
import sys

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Answering(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It begins."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        """Answer every whole request."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            found = _LENGTH.search(self._received, 0, end)
            whole = end + 4 + (int(found[1]) if found else 0)
            if len(self._received) < whole:
                return
            path = self._received[: self._received.find(b" HTTP/1.1")]
            self._received = self._received[whole:]
            if path == b"POST /drip":
                self._drip(0)
            elif path != b"POST /hang":
                self._transport.write(ANSWER)

    def _drip(self, at: int) -> None:
        if at < len(ANSWER) and not self._transport.is_closing():
            self._transport.write(ANSWER[at : at + 1])
            asyncio.get_running_loop().call_later(1, self._drip, at + 1)


async def serve() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await until_stdin_ends()
    server.close()


async def until_stdin_ends() -> None:
    """Whoever started this process holds the other end, and so ends it even when it dies."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


if __name__ == "__main__":
    asyncio.run(serve())
