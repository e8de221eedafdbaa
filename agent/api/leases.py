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
from typing import Annotated, Any, NotRequired, TypedDict

import structlog
from aiohttp import web

from agent.api.request import (
    CALLER,
    SERVICES,
    STOPPING,
    body_of,
    number_of,
    text_of,
)
from agent.api.route import Route, Routes, Stream
from agent.errors import BadRequestError, UnknownLeaseError
from agent.model import Platform
from agent.service.leases import LeaseRow
from agent.service.rows import Also, Time

log = structlog.get_logger(__name__)

DEFAULT_TTL = 60.0
"""Seconds of a lease whose request names none."""
MOST = 86_400
"""Seconds of a TTL or a wait, at most."""

routes = Routes("leases", "Who uses a phone, and takes it.", id="As the lease says.")
_GONE = {404: "no such lease: the message says how it ended"}
_TIED = Stream(
    "application/x-ndjson",
    'A stream that stays open: the lease, a line at each renewal, and `{"ended": why}` where '
    "somebody else ended it. The lease ends with the connection.",
)


class LeaseList(TypedDict):
    """The leases in force."""

    leases: list[LeaseRow]


class AnyDevice(TypedDict, total=False):
    """Whichever fits, is online and was used longest ago; those with hot or low batteries last."""

    platform: Platform | None
    tags: list[str]
    """All of them."""


class _Wish(TypedDict):
    holder: Annotated[str, Also(minLength=1)]
    """Who takes it; printable, like the other texts."""
    purpose: NotRequired[str]
    """What for."""
    ttl: NotRequired[Annotated[float, Also(minimum=1, maximum=MOST, default=DEFAULT_TTL)]]
    """Seconds after the last renewal."""
    wait: NotRequired[Annotated[float, Also(minimum=0, maximum=MOST, default=0)]]
    """Seconds in the queue while somebody else has it."""
    tie: NotRequired[Annotated[bool, Also(default=False)]]
    """Answer with a stream; the lease lasts as long as the connection."""


class OneWish(_Wish):
    """A certain device."""

    udid: str
    """Which."""
    steal: NotRequired[str]
    """Why it is taken from whoever has it; empty: it is not."""


class AnyWish(_Wish):
    """A device that fits."""

    any: AnyDevice


class Ended(TypedDict):
    """A line of a tied lease, the last."""

    ended: str


class Renewed(TypedDict):
    """A line of a tied lease."""

    renewed: Time


LeaseRequest = OneWish | AnyWish
_KEYS = OneWish.__annotations__.keys() | AnyWish.__annotations__.keys()


@routes.add(Route("GET", "/v1/leases", everything=True))
async def list_leases(request: web.Request) -> LeaseList:
    """The leases in force, oldest first."""
    return {"leases": request.app[SERVICES].leases.rows()}


@routes.add(
    Route(
        "POST",
        "/v1/leases",
        status=201,
        takes=LeaseRequest,
        answers=LeaseRow,
        stream=_TIED,
        errors={
            404: "no such device, or none that fits",
            409: "somebody else has it; the message says who, since when and why",
            503: "too many wait already",
        },
        lasts=True,
    )
)
async def acquire_lease(request: web.Request) -> web.StreamResponse:
    """Take a device."""
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


@routes.add(Route("DELETE", "/v1/leases/{id}", errors=_GONE))
async def release_lease(request: web.Request) -> LeaseRow:
    """End a lease."""
    desk, caller = request.app[SERVICES].leases, str(request[CALLER])
    return await desk.release(request.match_info["id"], caller=caller)


@routes.add(Route("POST", "/v1/leases/{id}/renew", errors=_GONE))
async def renew_lease(request: web.Request) -> LeaseRow:
    """Let a lease last another TTL from now."""
    return await request.app[SERVICES].leases.renew(request.match_info["id"])


@routes.add(Route("POST", "/v1/leases/{id}/tie", stream=_TIED, errors=_GONE, lasts=True))
async def tie_lease(request: web.Request) -> web.StreamResponse:
    """Tie a lease to this connection."""
    lease = await request.app[SERVICES].leases.renew(request.match_info["id"])
    caller = str(request[CALLER])
    log.info("lease.tied", udid=lease["udid"], holder=lease["holder"], caller=caller)
    return await _tied(request, lease["id"], 200)


async def _give(request: web.Request, body: dict[str, Any]) -> LeaseRow:
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
    return await desk.acquire(
        None,
        holder,
        purpose,
        ttl,
        platform=Platform(platform) if platform else None,
        tags=tuple(tags),
        wait=wait,
        caller=caller,
    )


async def _told(request: web.Request, lease: LeaseRow) -> web.StreamResponse:
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
        await response.write(_line(lease))
        while (why := await desk.ended(lease_id, lease["ttl"] / 3)) is None:
            again = await desk.renew(lease_id)
            await response.write(_line({"renewed": again["expires"]}))
        await response.write(_line({"ended": why}))
        return response
    finally:
        await desk.untie(lease_id, stopping=stopping.is_set())


def _line(row: LeaseRow | Renewed | Ended) -> bytes:
    return json.dumps(row).encode() + b"\n"


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
