"""A webhook receiver in a process of its own that notes when it answered each message first.

`python -m benchmarks.fleet_receiver` prints its port and answers every POST with 200. For each line
of standard input it prints a line of JSON: `{MESSAGE ID: MONOTONIC}` of what came since the last
one, and how many came twice (`""`). It ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time

from benchmarks.receiver import ANSWER

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_ID = re.compile(rb"webhook-id: *([^\r]+)", re.IGNORECASE)


class Noting(asyncio.Protocol):
    """One connection."""

    came: dict[str, float] = {}  # noqa: RUF012 - of all connections
    seen: set[bytes] = set()  # noqa: RUF012
    again = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It begins."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        """Note and answer every whole request."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(self._received, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(self._received) < whole:
                return
            found = _ID.search(self._received, 0, end)
            self._received = self._received[whole:]
            self._transport.write(ANSWER)
            assert found is not None
            if found[1] in Noting.seen:
                Noting.again += 1
            else:
                Noting.seen.add(found[1])
                Noting.came[found[1].decode()] = time.monotonic()


async def serve() -> None:
    """Serve until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Noting, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        came, Noting.came = Noting.came, {}
        print(json.dumps({**came, "": Noting.again}), flush=True)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve())
