"""A client of server-sent events, written against the HTML standard and nothing of the agent's."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp

from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path


class Event(NamedTuple):
    """One message; `id` is the client's last event id after it."""

    kind: str
    data: Any
    id: str


class Stream:
    """One connection; `last_id` is what a browser would come back with."""

    def __init__(self, response: aiohttp.ClientResponse, last_id: str = "") -> None:
        self.response = response
        self.last_id = last_id
        self.comments = 0

    async def next(self) -> Event:
        """The next message; EOFError where the connection ended."""
        kind, data = "", ""
        while True:
            async with asyncio.timeout(LIMIT):
                raw = await self.response.content.readline()
            if not raw.endswith(b"\n"):
                raise EOFError
            line = raw.decode().rstrip("\n")
            if not line:
                if data:
                    return Event(kind or "message", json.loads(data), self.last_id)
                kind = ""
                continue
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match field:
                case "":
                    self.comments += 1
                case "event":
                    kind = value
                case "data":
                    data += value + "\n"
                case "id":
                    self.last_id = value

    async def until(self, *kinds: str) -> Event:
        """The next message of one of those kinds."""
        while True:
            event = await self.next()
            if event.kind in kinds:
                return event

    async def all(self) -> AsyncIterator[Event]:
        """Every message until the connection ends."""
        with contextlib.suppress(EOFError, aiohttp.ClientError):
            while True:
                yield await self.next()


@contextlib.asynccontextmanager
async def follow(
    at: Path | str, query: str = "", last_id: str = "", limit: int = 2**16
) -> AsyncGenerator[Stream]:
    """Follow the events of the agent at that unix socket, or at that HOST:PORT."""
    unix = not isinstance(at, str)
    connector = aiohttp.UnixConnector(str(at)) if unix else aiohttp.TCPConnector()
    headers = {"Last-Event-ID": last_id} if last_id else {}
    async with (
        aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(None), read_bufsize=limit
        ) as session,
        session.get(
            f"http://{'localhost' if unix else at}/v1/events{query}", headers=headers
        ) as response,
    ):
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        yield Stream(response, last_id)
