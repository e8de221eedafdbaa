"""Server-sent events: what happens, over a connection that stays open and can be resumed.

The format is that of the HTML standard (section 9.2). Messages are those of `agent.service.events`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from agent.api.caller import caller_of
from agent.api.request import LIMITS, SERVICES, BadRequestError
from agent.model import Platform
from agent.service.events import Selection, place_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.service.events import Message, Reader
    from agent.service.rows import Place

log = structlog.get_logger(__name__)

RETRY = 1000
"""Milliseconds after which a browser that lost the connection comes back."""
_PIECE = 32 * 1024
_KEYS = {"device", "platform", "tag", "last_event_id"}
_READERS = web.AppKey("readers", set["Reader"])


def add_routes(app: web.Application) -> None:
    """The path, and the end of all its connections when serving ends."""
    app[_READERS] = set()
    app.router.add_get("/v1/events", events, allow_head=False)
    app.on_shutdown.append(_end_all)


def lasts(request: web.Request) -> bool:
    """Whether the client's going away is to end the request itself."""
    return request.path == "/v1/events"


async def events(request: web.Request) -> web.StreamResponse:
    """Follow the devices: a snapshot, then what happens; with an id, first what came after it."""
    desk, readers = request.app[SERVICES].events, request.app[_READERS]
    limit = request.app[LIMITS].slow
    reader = await desk.open(_selection(request), _place(request))
    readers.add(reader)
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",  # nginx would keep events until it has some kilobytes
        }
    )
    try:
        await response.prepare(request)
        await _write(response, limit, f"retry: {RETRY}\n\n".encode())
        # On a connection that ends, the generator ends with it: nothing else would close it.
        async with contextlib.aclosing(desk.follow(reader)) as messages:
            async for message in messages:
                for piece in _pieces(message):
                    await _write(response, limit, piece)
    except TimeoutError:
        log.warning(
            "events.slow_reader",
            seconds=limit,
            hint="it was dropped; it may come back with its Last-Event-ID",
            **(await caller_of(request)).fields(),
        )
        if request.transport is not None:
            request.transport.abort()
    except ConnectionError:
        pass  # the reader went away
    finally:
        readers.discard(reader)
        desk.close(reader)
    return response


def _pieces(message: Message) -> Iterator[bytes]:
    """The message as it is sent, in pieces that are worth a system call."""
    piece = bytearray()
    if message.id:
        piece += f"id: {message.id}\n".encode()
    if message.kind:
        piece += f"event: {message.kind}\n".encode()
    else:
        piece += b":\n"
    for line in message.data:
        piece += b"data: " + line + b"\n"
        if len(piece) > _PIECE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece + b"\n")


async def _write(response: web.StreamResponse, limit: float, piece: bytes) -> None:
    async with asyncio.timeout(limit):
        await response.write(piece)


def _selection(request: web.Request) -> Selection:
    query, devices = request.query, request.app[SERVICES].devices
    if unknown := set(query) - _KEYS:
        raise BadRequestError(f"unknown filter {min(unknown)!r}: {', '.join(sorted(_KEYS))}")
    for platform in query.getall("platform", ()):
        if platform not in set(Platform):
            raise BadRequestError(f"no platform {platform!r}: {', '.join(Platform)}")
    return Selection(
        frozenset(devices.udid(text) for text in query.getall("device", ())),
        frozenset(query.getall("platform", ())),
        frozenset(query.getall("tag", ())),
    )


def _place(request: web.Request) -> Place | None:
    """Where to go on; the header, which a browser sends when it comes back, counts first."""
    text = request.headers.get("Last-Event-ID") or request.query.get("last_event_id", "")
    try:
        return place_of(text) if text else None
    except ValueError as error:
        raise BadRequestError(str(error)) from None


async def _end_all(app: web.Application) -> None:
    for reader in app[_READERS]:
        reader.end()
