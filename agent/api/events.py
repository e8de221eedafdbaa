"""Server-sent events: what happens, over a connection that stays open and can be resumed.

The format is that of the HTML standard (section 9.2). Messages are those of `agent.service.events`.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypedDict

import structlog
from aiohttp import web

from agent.api.caller import caller_of
from agent.api.request import GRANT, LIMITS, SERVICES
from agent.api.route import Header, Route, Routes, Stream
from agent.errors import BadRequestError
from agent.model import Platform
from agent.service.events import Selection, place_of
from agent.service.rows import MessageId

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.api.grant import Grant
    from agent.service.events import Message, Reader
    from agent.service.rows import Place

log = structlog.get_logger(__name__)

RETRY = 1000
"""Milliseconds after which a browser that lost the connection comes back."""
_PIECE = 32 * 1024
_READERS = web.AppKey("readers", dict["Reader", "Grant"])


routes = Routes("devices")


class EventFilters(TypedDict, total=False):
    """Which devices are told of: those that fit one of each kind that is named."""

    device: list[str]
    """Only this device; repeatable."""
    platform: list[Platform]
    """Only this platform; repeatable."""
    tag: list[str]
    """Only devices that bear this tag; repeatable."""
    host: list[str]
    """Only devices of this host; repeatable."""
    last_event_id: MessageId
    """As the header, for clients that cannot set it."""


def set_up(app: web.Application) -> None:
    """All connections end when serving ends."""
    app[_READERS] = {}
    app.on_shutdown.append(_end_all)


def end_unlawful(app: web.Application) -> None:
    """End what is followed by a session that has ended, or may not be read any more."""
    for reader, grant in app[_READERS].items():
        if not grant.holds(app[SERVICES]):
            reader.end()


@routes.add(
    Route(
        "GET",
        "/v1/events",
        query=EventFilters,
        headers=(
            Header(
                "Last-Event-ID",
                "The `id` of the last message that was taken: what came after it is told first, "
                "from the store. `0`: all that is stored. Browsers send it themselves.",
                MessageId,
            ),
        ),
        stream=Stream(
            "text/event-stream",
            "Messages, for as long as the connection lasts; a comment every 15 s without any.",
        ),
        errors={400: "no such filter or id", 404: "no such device"},
        lasts=True,
    )
)
async def follow_events(request: web.Request) -> web.StreamResponse:
    """Follow the devices, as server-sent events.

    `snapshot`: `{"devices": […]}`, all rows; what was known before is void. `device`: a row that
    changed. `removed`: `{"udid"}` of a device that is no longer shown. `transition`: a Transition,
    once it is stored; with an `id`. `silences`: `{"silences": […]}`, all that are in force,
    whenever one began or ended, and behind a snapshot where there are any. `reset`: `{"reason"}`,
    transitions were missed that are stored no more, and a snapshot follows. A reader that takes
    nothing for 10 s is dropped. What is followed with a session ends with it, and over TCP with a
    reload by which it may not be read any more; a session does not end by idleness while something
    is followed with it.
    """
    desk, readers = request.app[SERVICES].events, request.app[_READERS]
    limit = request.app[LIMITS].slow
    reader = await desk.open(_selection(request), _place(request))
    grant = request[GRANT]
    readers[reader] = grant
    response = web.StreamResponse(
        headers={
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",  # nginx would keep events until it has some kilobytes
        }
    )
    try:
        with _in_use(request, grant):
            await response.prepare(request)
            await _write(response, limit, f"retry: {RETRY}\n\n".encode())
            if not grant.holds(request.app[SERVICES]):
                reader.end()  # while it was opened
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
        readers.pop(reader)
        desk.close(reader)
    return response


def _in_use(request: web.Request, grant: Grant) -> contextlib.AbstractContextManager[None]:
    """While it is followed, the session that does so is not idle."""
    if grant.session is None:
        return contextlib.nullcontext()
    return request.app[SERVICES].sessions.streaming(grant.session)


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
    keys = EventFilters.__annotations__.keys()
    if unknown := set(query) - keys:
        raise BadRequestError(f"unknown filter {min(unknown)!r}: {', '.join(sorted(keys))}")
    for platform in query.getall("platform", ()):
        if platform not in set(Platform):
            raise BadRequestError(f"no platform {platform!r}: {', '.join(Platform)}")
    hosts = set(query.getall("host", ()))
    if devices.host in hosts:
        hosts.add("")
    return Selection(
        frozenset(devices.udid(text) for text in query.getall("device", ())),
        frozenset(query.getall("platform", ())),
        frozenset(query.getall("tag", ())),
        frozenset(hosts),
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
