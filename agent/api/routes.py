"""Every path of the API, one handler each, and what all requests go through."""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from agent.api import events, leases
from agent.api.caller import caller_of
from agent.api.errors import answer_to, error_answer
from agent.api.guard import READING, guard
from agent.api.limits import MAX_BODY
from agent.api.request import (
    CALLER,
    LIMITS,
    LISTING,
    NAMES,
    SERVICES,
    STOPPING,
    body_of,
    list_of,
    text_of,
)
from agent.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiohttp.typedefs import Handler

    from agent.api.limits import Limits
    from agent.service.services import Services

log = structlog.get_logger(__name__)


def build(
    services: Services,
    limits: Limits,
    *,
    trusted: bool,
    names: Callable[[], Sequence[str]] = tuple,
) -> web.Application:
    """The application.

    Args:
        services: what is served.
        limits: what a client may.
        trusted: the unix socket, whose mode says who may; else TCP.
        names: those of `[api] hosts` that are in force.
    """
    middlewares = [_to_the_end, _audit, _errors, guard]
    if not trusted:
        middlewares.append(_token_check)
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY)
    app[SERVICES] = services
    app[LIMITS] = limits
    app[NAMES] = names
    app[STOPPING] = asyncio.Event()
    app[LISTING] = asyncio.Lock()
    app.router.add_get("/-/healthy", healthy)
    app.router.add_get("/-/ready", ready)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/v1/status", status)
    app.router.add_get("/v1/openapi.json", openapi)
    app.router.add_get("/v1/devices", devices)
    app.router.add_get("/v1/devices/{udid}", device)
    app.router.add_get("/v1/webhooks", webhooks)
    app.router.add_post("/v1/webhooks", create_webhook)
    app.router.add_get("/v1/webhooks/{name}", webhook)
    app.router.add_patch("/v1/webhooks/{name}", edit_webhook)
    app.router.add_delete("/v1/webhooks/{name}", delete_webhook)
    app.router.add_get("/v1/deliveries", deliveries)
    app.router.add_get("/v1/deliveries/{id:(?!replay$)[^/]+}", delivery)
    leases.add_routes(app.router)
    events.add_routes(app)
    app.router.add_post("/v1/deliveries/replay", replay)
    app.router.add_post("/v1/webhooks/{name}/test", test_webhook)
    app.router.add_post("/v1/reload", reload)
    return app


async def healthy(request: web.Request) -> web.Response:
    """The process answers."""
    del request
    return web.json_response({"status": "ok"})


async def ready(request: web.Request) -> web.Response:
    """200 when states are derived and can be stored; 503 with the reasons else."""
    health = request.app[SERVICES].health.report()
    return web.json_response(health, status=200 if health["ready"] else 503)


async def metrics(request: web.Request) -> web.Response:
    """For Prometheus, in its text format."""
    body, content_type = await request.app[SERVICES].scraper.scrape()
    return web.Response(body=body, headers={"Content-Type": content_type})


async def status(request: web.Request) -> web.Response:
    """What works and what does not, whatever it is."""
    health = request.app[SERVICES].health
    return web.json_response({**health.report(), "usage": health.usage(), "store": health.store()})


async def openapi(request: web.Request) -> web.Response:
    """What this API is, for programs."""
    del request
    from agent.api.openapi import document  # noqa: PLC0415 - few ask for it, once each

    return web.json_response(await asyncio.to_thread(document))


async def devices(request: web.Request) -> web.Response:
    """All devices."""
    return await list_of(request, "devices", request.app[SERVICES].devices.rows)


async def device(request: web.Request) -> web.Response:
    """One device, and why it is as it is."""
    return web.json_response(await request.app[SERVICES].devices.show(request.match_info["udid"]))


async def webhooks(request: web.Request) -> web.Response:
    """All webhooks."""
    return await list_of(request, "webhooks", request.app[SERVICES].webhooks.rows)


async def webhook(request: web.Request) -> web.Response:
    """One webhook, by name or id."""
    services = request.app[SERVICES]
    id_ = services.live.webhook_id(request.match_info["name"])
    return web.json_response(services.webhooks.row(id_))


async def create_webhook(request: web.Request) -> web.Response:
    """A new one: the keys of its [[webhooks]] table as JSON. In the file and in force."""
    services = request.app[SERVICES]
    id_ = await services.editor.create(await body_of(request))
    return web.json_response(services.webhooks.row(id_), status=201)


async def edit_webhook(request: web.Request) -> web.Response:
    """Set some of its keys; null puts one back to its default."""
    services = request.app[SERVICES]
    id_ = await services.editor.edit(request.match_info["name"], await body_of(request))
    return web.json_response(services.webhooks.row(id_))


async def delete_webhook(request: web.Request) -> web.Response:
    """Delete it; what waits for it is cancelled."""
    return web.json_response(await request.app[SERVICES].editor.delete(request.match_info["name"]))


async def deliveries(request: web.Request) -> web.Response:
    """Stored callbacks, newest first."""
    try:
        rows = await request.app[SERVICES].deliveries.rows(dict(request.query))
    except ValueError as error:
        return error_answer(400, "bad_request", str(error))
    return web.json_response({"deliveries": rows})


async def delivery(request: web.Request) -> web.Response:
    """One stored callback, with its body and attempts."""
    row = await request.app[SERVICES].deliveries.show(request.match_info["id"])
    return web.json_response({"delivery": row})


async def replay(request: web.Request) -> web.Response:
    """Send again: the filters of the list as JSON, `{"id"}` among them; dead ones by default."""
    body = await body_of(request)
    query = {key: text_of(body, key) for key in body}
    try:
        ids = await request.app[SERVICES].deliveries.replay(query)
    except ValueError as error:
        return error_answer(400, "bad_request", str(error))
    return web.json_response({"replayed": ids})


async def test_webhook(request: web.Request) -> web.Response:
    """Send a marked sample, once, and tell what came back."""
    return web.json_response(await request.app[SERVICES].webhooks.test(request.match_info["name"]))


async def reload(request: web.Request) -> web.Response:
    """Load the configuration anew; 422 with every mistake when it cannot be used."""
    return web.json_response(await request.app[SERVICES].reload())


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
    caller = request[CALLER] = await caller_of(request)
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
            **caller.fields(),
        )


_running: set[asyncio.Task[web.StreamResponse]] = set()


@web.middleware
async def _to_the_end(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A client that goes away ends its own lease or its waiting for one, and nothing else."""
    if leases.lasts(request) or events.lasts(request):
        return await handler(request)
    task: asyncio.Task[web.StreamResponse] = asyncio.ensure_future(handler(request))
    _running.add(task)  # the loop itself keeps no hold on it
    task.add_done_callback(_running.discard)
    return await asyncio.shield(task)


@web.middleware
async def _token_check(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Over TCP anybody on the host may read; changing needs the token."""
    if request.method in READING:
        return await handler(request)
    token = request.app[SERVICES].tcp_token()
    if token is None:
        return error_answer(
            403, "no_token", "changes are taken on the unix socket, or here with [api] token set"
        )
    given = request.headers.get("Authorization", "")
    # What is no UTF-8 came as half characters (PEP 383).
    if not hmac.compare_digest(given.encode(errors="surrogateescape"), f"Bearer {token}".encode()):
        return error_answer(401, "bad_token", "changes over TCP need 'Authorization: Bearer TOKEN'")
    return await handler(request)
