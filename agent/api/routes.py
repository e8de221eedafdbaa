"""All matters of the API as one application, and what every request goes through."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from agent.api import (
    causes,
    deliveries,
    devices,
    events,
    history,
    hosts,
    leases,
    own,
    page,
    sessions,
    silences,
    webhooks,
)
from agent.api.access import access
from agent.api.caller import caller_of
from agent.api.errors import answer_to, error_answer
from agent.api.guard import READING, guard
from agent.api.headers import protect
from agent.api.limits import MAX_BODY
from agent.api.request import CALLER, LIMITS, LISTING, SERVICES, SHUT, STOPPING, TRUSTED
from agent.api.route import SERVED, WHO_MAY
from agent.errors import AgentError

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from agent.api.limits import Limits
    from agent.service.services import Services

log = structlog.get_logger(__name__)

MATTERS = tuple(
    each.routes
    for each in (
        devices,
        causes,
        history,
        hosts,
        events,
        leases,
        silences,
        webhooks,
        deliveries,
        sessions,
        own,
        page,
    )
)
_LASTING = {
    (served.route.method, served.route.shown)
    for matter in MATTERS
    for served in matter.all
    if served.route.lasts
}
_WHO_MAY = {
    (served.route.method, served.route.shown): served.route.who
    for matter in MATTERS
    for served in matter.all
}


def build(services: Services, limits: Limits, *, trusted: bool) -> web.Application:
    """The application.

    Args:
        services: what is served.
        limits: what a client may.
        trusted: the unix socket, whose mode says who may; else TCP.
    """
    middlewares = [_to_the_end, _audit, _errors, guard, access]
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY)
    app.on_response_prepare.append(protect)
    app[TRUSTED] = trusted
    app[WHO_MAY] = _WHO_MAY
    app[SERVICES] = services
    app[LIMITS] = limits
    app[STOPPING] = asyncio.Event()
    app[SHUT] = asyncio.Event()
    app[LISTING] = asyncio.Lock()
    app[SERVED] = MATTERS
    events.set_up(app)
    for matter in MATTERS:
        matter.add_to(app.router)
    return app


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except (AgentError, web.HTTPException) as error:
        return answer_to(error, request)
    except Exception:
        log.exception("api.failed", method=request.method, path=request.path)
        return error_answer(500, "internal", "the agent failed at this request; its log says why")


@web.middleware
async def _audit(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Who changed what, or tried to. Renewals, which come every few seconds, at level debug."""
    if request.method in READING:
        return await handler(request)
    request[CALLER] = await caller_of(request)
    status: int | str = "gone"
    try:
        response = await handler(request)
        status = response.status
        return response
    finally:
        say = log.debug if request.path.endswith("/renew") else log.info
        say(
            "api.change",
            method=request.method,
            path=request.path,
            status=status,
            **request[CALLER].fields(),
        )


_running: set[asyncio.Task[web.StreamResponse]] = set()


@web.middleware
async def _to_the_end(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A client that goes away ends its own lease or its waiting for one, and nothing else."""
    resource = request.match_info.route.resource
    if resource is not None and (request.method, resource.canonical) in _LASTING:
        return await handler(request)
    task: asyncio.Task[web.StreamResponse] = asyncio.ensure_future(handler(request))
    _running.add(task)  # the loop itself keeps no hold on it
    task.add_done_callback(_running.discard)
    return await asyncio.shield(task)
