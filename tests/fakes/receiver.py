"""A webhook receiver on loopback: real HTTP over real sockets, scripted, good or hostile.

It parses requests by itself and answers with raw bytes, so that it can break every rule.
A behaviour takes the request and the connection's writer and answers (or does not); the connection
then takes the next request unless the behaviour closed it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.fakes.ports import free_port
from tests.kit.waiting import announced

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    Behaviour = Callable[["Request", asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Request:
    """One request as it came."""

    method: str
    target: str
    fields: tuple[tuple[str, str], ...]
    """Headers in order, names as sent."""
    body: bytes
    connection: int
    """Counts connections from 1."""
    peer_certificate: dict[str, object] | None = None

    @property
    def headers(self) -> dict[str, str]:
        """By lower-case name; a name sent twice fails the test that asks."""
        names = [name.lower() for name, _ in self.fields]
        assert len(names) == len(set(names)), names
        return {name.lower(): value for name, value in self.fields}


class Receiver:
    """Serves `script` (once each, in order), then `default`. Remembers every whole request."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.script: deque[Behaviour] = deque()
        self.default: Behaviour = answer()
        self.connections = 0
        self.open = 0
        """Requests whose behaviour has not ended."""
        self.most_open = 0
        self.lost = 0
        """Connections that the client dropped in mid-answer."""
        self._handlers: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._port = 0

    async def start(self, tls: ssl.SSLContext | None = None, port: int = 0) -> Receiver:
        """Listen; `port` to come back on the same one."""
        self._port = port or free_port()
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self._port, ssl=tls, limit=1 << 20
        )
        self._scheme = "https" if tls else "http"
        return self

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    def url(self, rest: str = "/hook", host: str = "127.0.0.1", userinfo: str = "") -> str:
        """An absolute URL of it."""
        return f"{self._scheme}://{userinfo}{host}:{self._port}{rest}"

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        self._server.close()
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)

    async def until(self, condition: Callable[[], bool], what: str = "") -> None:
        """Wait for the condition, checked at every request; fails after LIMIT seconds."""
        await announced(
            self._news, condition, what or "a request", lambda: f"{len(self.requests)} came"
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        self.connections += 1
        number = self.connections
        try:
            # A cancelled handler ends normally: start_server reports only other failures.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                while not writer.is_closing():
                    await self._one(reader, writer, number)
        finally:
            self._handlers.discard(task)
            with contextlib.suppress(OSError, RuntimeError):
                writer.transport.abort()

    async def _one(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")[:-2]
        method, target, _ = first.split(" ")
        fields = tuple(
            (name, value.strip()) for name, _, value in (x.partition(":") for x in lines)
        )
        length = next((int(v) for n, v in fields if n.lower() == "content-length"), 0)
        body = await reader.readexactly(length)
        request = Request(method, target, fields, body, number, writer.get_extra_info("peercert"))
        self.requests.append(request)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        self._news.set()
        behave = self.script.popleft() if self.script else self.default
        try:
            await behave(request, writer)
        except OSError:
            self.lost += 1
            raise
        finally:
            self.open -= 1
            self._news.set()


def raw(data: bytes, *, close: bool = False) -> Behaviour:
    """These very bytes."""

    async def behave(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if close:
            writer.close()

    return behave


def answer(status: int = 200, headers: tuple[str, ...] = (), body: bytes = b"") -> Behaviour:
    """A well-formed answer."""
    lines = (f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers, "", "")
    return raw("\r\n".join(lines).encode() + body)


def after(gate: asyncio.Event, then: Behaviour | None = None) -> Behaviour:
    """Nothing until the gate opens, then this."""

    async def behave(request: Request, writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        await (then or answer())(request, writer)

    return behave


def hang() -> Behaviour:
    """Never an answer."""
    return after(asyncio.Event())


def hang_up() -> Behaviour:
    """Close in good order without an answer."""
    return raw(b"", close=True)


def reset(before: bytes = b"") -> Behaviour:
    """TCP reset, after these bytes."""

    async def behave(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(before)
        await writer.drain()
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    return behave


def endless(head: bytes, chunk: bytes, pause: float = 0.0) -> Behaviour:
    """The head, then the chunk for ever; with a pause between, a drip."""

    async def behave(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(pause)

    return behave
