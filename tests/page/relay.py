"""What stands between a browser and the agent, as `ssh -L` does, and notes what goes through."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    Note = Callable[["_Connection", bytes], None]

_HEAD = re.compile(rb"(?P<method>[A-Z]+) (?P<target>\S+) HTTP/1\.1\r\n(?P<fields>(?:.+\r\n)*)\r\n")
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@dataclass
class Asked:
    """One request that went through, and its answer's status; 0: none came yet."""

    method: str
    target: str
    headers: dict[str, str]
    """By lower-case name."""
    status: int = 0


@dataclass
class _Connection:
    all_asked: list[Asked]
    """The relay's."""
    asked: list[Asked] = field(default_factory=list)
    closed: bool = False


class Relay:
    """From a port of its own to the agent's TCP port (`HOST:PORT`) or unix socket (a path).

    Over the socket a browser may do all that whoever may open it may: no token is asked for, and
    what pages of other origins ask is kept out by the agent's guard alone.
    """

    def __init__(self, to: str | Path, host: str = "127.0.0.1") -> None:
        self._to = to
        self._host = host
        self.asked: list[Asked] = []
        """All requests, in their order."""
        self.own: dict[str, str] = {}
        """Target → HTML that is answered in the agent's place, without any policy: as by somebody
        whose name led elsewhere a moment ago."""
        self._connections: list[_Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.base = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self._host, 0)
        self.base = f"http://{self._host}:{self._server.sockets[0].getsockname()[1]}/"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def open(self, target: str) -> int:
        """How many connections are held by a request for that."""
        return sum(
            not each.closed and bool(each.asked) and each.asked[-1].target == target
            for each in self._connections
        )

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._serve(reader, writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self.asked)
        self._connections.append(connection)
        try:
            first = await reader.read(1 << 16)
            match = _HEAD.match(first)
            if match is not None and (page := self.own.get(match["target"].decode())) is not None:
                head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n"
                writer.write(f"{head}Content-Length: {len(page)}\r\n\r\n{page}".encode())
                await writer.drain()
                return
            if isinstance(self._to, Path):
                theirs = await asyncio.open_unix_connection(str(self._to))
            else:
                host, _, port = self._to.rpartition(":")
                theirs = await asyncio.open_connection(host, int(port))
            ways = (
                asyncio.create_task(_pump(first, reader, theirs[1], connection, _request)),
                asyncio.create_task(_pump(b"", theirs[0], writer, connection, _answer)),
            )
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                theirs[1].close()
        finally:
            connection.closed = True
            writer.close()


async def _pump(
    data: bytes,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    connection: _Connection,
    note: Note,
) -> None:
    with contextlib.suppress(OSError):
        while data := data or await reader.read(1 << 16):
            note(connection, data)
            writer.write(data)
            await writer.drain()
            data = b""


def _request(connection: _Connection, data: bytes) -> None:
    """Browsers write each head at once, and wait for an answer before the next."""
    if (match := _HEAD.match(data)) is None:
        return
    lines = match["fields"].decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines if line)
    headers = {name.lower(): value.strip() for name, _, value in fields}
    asked = Asked(match["method"].decode(), match["target"].decode(), headers)
    connection.asked.append(asked)
    connection.all_asked.append(asked)


def _answer(connection: _Connection, data: bytes) -> None:
    if connection.asked and not connection.asked[-1].status and (match := _STATUS.match(data)):
        connection.asked[-1].status = int(match[1])
