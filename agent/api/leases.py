"""Leases over HTTP: asked for, waited for, and tied to a connection.

A *tied* lease is answered with a stream of JSON lines that stays open: the lease, then a line at
each renewal, which the agent does itself, and at last `{"ended": why}` where somebody else ended
it. When the client closes the connection, or dies, the lease ends at once; until then it has no
TTL. When the agent stops, it stays for its TTL, within which the client ties itself to it again.
"""

from __future__ import annotations

import contextlib
import json
import socket
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from agent.api.request import (
    CALLER,
    SERVICES,
    STOPPING,
    BadRequestError,
    body_of,
    list_of,
    number_of,
    text_of,
)
from agent.errors import UnknownLeaseError
from agent.model import Platform

if TYPE_CHECKING:
    from agent.service.rows import Json

log = structlog.get_logger(__name__)

DEFAULT_TTL = 60.0
"""Seconds of a lease whose request names none."""
_KEYS = {"udid", "any", "holder", "purpose", "ttl", "wait", "steal", "tie"}


def add_routes(router: web.UrlDispatcher) -> None:
    """All paths under `/v1/leases`."""
    router.add_get("/v1/leases", rows)
    router.add_post("/v1/leases", acquire)
    router.add_post("/v1/leases/{id}/renew", renew)
    router.add_post("/v1/leases/{id}/tie", tie)
    router.add_delete("/v1/leases/{id}", release)


def lasts(request: web.Request) -> bool:
    """Whether the client's going away is to end the request itself."""
    return request.method == "POST" and (
        request.path == "/v1/leases" or request.path.endswith("/tie")
    )


async def rows(request: web.Request) -> web.Response:
    """The leases in force."""
    return await list_of(request, "leases", request.app[SERVICES].leases.rows)


async def acquire(request: web.Request) -> web.StreamResponse:
    """Take a device: `{"udid" or "any", "holder", "purpose"?, "ttl"?, "wait"?, "steal"?, "tie"?}`.

    `any` is `{"platform"?, "tags"?}`; times are seconds.
    """
    body = await body_of(request)
    if unknown := set(body) - _KEYS:
        raise BadRequestError(f"unknown key {min(unknown)!r}")
    tied = body.get("tie", False)
    if not isinstance(tied, bool):
        raise BadRequestError("'tie' must be true or false")
    lease = await _give(request, body)
    if tied:
        return await _tied(request, lease["id"], 201)
    return await _told(request, lease)


async def renew(request: web.Request) -> web.Response:
    """Another TTL for a lease."""
    return web.json_response(await request.app[SERVICES].leases.renew(request.match_info["id"]))


async def tie(request: web.Request) -> web.StreamResponse:
    """Tie an existing lease to this connection."""
    lease = await request.app[SERVICES].leases.renew(request.match_info["id"])
    caller = str(request[CALLER])
    log.info("lease.tied", udid=lease["udid"], holder=lease["holder"], caller=caller)
    return await _tied(request, lease["id"], 200)


async def release(request: web.Request) -> web.Response:
    """End a lease."""
    desk, caller = request.app[SERVICES].leases, str(request[CALLER])
    return web.json_response(await desk.release(request.match_info["id"], caller=caller))


async def _give(request: web.Request, body: dict[str, Any]) -> Json:
    desk = request.app[SERVICES].leases
    holder, purpose = text_of(body, "holder"), text_of(body, "purpose", default="")
    ttl, wait = number_of(body, "ttl", DEFAULT_TTL), number_of(body, "wait", 0.0)
    steal = text_of(body, "steal", default="")
    wanted, caller = body.get("any"), str(request[CALLER])
    if wanted is None:
        udid = text_of(body, "udid")
        return await desk.acquire(udid, holder, purpose, ttl, wait=wait, steal=steal, caller=caller)
    if "udid" in body or steal:
        raise BadRequestError("'any' goes with neither 'udid' nor 'steal'")
    if not isinstance(wanted, dict) or set(wanted) - {"platform", "tags"}:
        raise BadRequestError("'any' must be an object with 'platform' and 'tags', or empty")
    platform, tags = wanted.get("platform"), wanted.get("tags", [])
    if platform is not None and platform not in list(Platform):  # it may be no string at all
        raise BadRequestError(f"no platform {json.dumps(platform)}: {', '.join(Platform)}")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise BadRequestError("'tags' must be an array of strings")
    return await desk.acquire_any(
        Platform(platform) if platform else None,
        tuple(tags),
        holder,
        purpose,
        ttl,
        wait=wait,
        caller=caller,
    )


async def _told(request: web.Request, lease: Json) -> web.StreamResponse:
    """Answer with the lease; one whose holder cannot be told of it would be nobody's for a TTL."""
    # No await between here and `try`: the client may be gone already.
    response = web.json_response(lease, status=201)
    told = False
    try:
        await response.prepare(request)
        await response.write_eof()
        told = request.transport is not None and not request.transport.is_closing()
    except ConnectionError:
        pass  # it hung up
    finally:
        if not told:
            with contextlib.suppress(UnknownLeaseError):  # it was taken meanwhile
                desk = request.app[SERVICES].leases
                await desk.release(lease["id"], "its holder went away before it was told")
    return response


async def _tied(request: web.Request, lease_id: str, status: int) -> web.StreamResponse:
    # No await between here and `try`: a cancelled request must not leave it tied.
    desk, stopping = request.app[SERVICES].leases, request.app[STOPPING]
    lease = desk.tie(lease_id)
    try:
        _notice_a_vanished_host(request, lease["ttl"])
        response = web.StreamResponse(
            status=status,
            headers={
                "Content-Type": "application/x-ndjson",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
            },
        )
        await response.prepare(request)
        line: Json = lease
        while True:
            await response.write(json.dumps(line).encode() + b"\n")
            why = await desk.ended(lease_id, lease["ttl"] / 3)
            if why is not None:
                await response.write(json.dumps({"ended": why}).encode() + b"\n")
                return response
            line = {"renewed": (await desk.renew(lease_id))["expires"]}
    finally:
        await desk.untie(lease_id, stopping=stopping.is_set())


def _notice_a_vanished_host(request: web.Request, ttl: float) -> None:
    """Over TCP nobody tells of a host that lost its power: silence of a TTL ends the connection.

    TCP_USER_TIMEOUT (tcp(7)) counts milliseconds that what was sent stays unacknowledged; a line
    is sent three times a TTL.
    """
    sock = request.transport.get_extra_info("socket") if request.transport else None
    if sock is None or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    with contextlib.suppress(OSError):  # it has gone already: the next line says so
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(ttl * 1000))
