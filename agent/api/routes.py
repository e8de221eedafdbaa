"""Every path of the API, one handler each, and the one shape of its errors.

Errors are `{"error": {"code": …, "message": …}}`; the message is for an operator's eyes.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from agent.api import leases
from agent.api.request import SERVICES, STOPPING, BadRequestError, body_of, text_of
from agent.errors import (
    AgentError,
    CannotWriteError,
    ConfigError,
    DeviceHeldError,
    EditError,
    IdTakenError,
    LeaseError,
    LeasesOffError,
    QueueFullError,
    UnknownDeliveryError,
    UnknownDeviceError,
    UnknownLeaseError,
    UnknownWebhookError,
)

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from agent.service.rows import Json
    from agent.service.services import Services

log = structlog.get_logger(__name__)

MAX_BODY = 64 * 1024
"""Bytes: requests carry a few names."""


def build(services: Services, *, trusted: bool) -> web.Application:
    """The application. Trusted: the unix socket, whose mode says who may; else TCP."""
    middlewares = [_errors] if trusted else [_host_check, _errors, _token_check]
    middlewares.append(_to_the_end)
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY)
    app[SERVICES] = services
    app[STOPPING] = asyncio.Event()
    app.router.add_get("/-/healthy", healthy)
    app.router.add_get("/-/ready", ready)
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/v1/status", status)
    app.router.add_get("/v1/devices", devices)
    app.router.add_get("/v1/webhooks", webhooks)
    app.router.add_post("/v1/webhooks", create_webhook)
    app.router.add_get("/v1/webhooks/{name}", webhook)
    app.router.add_patch("/v1/webhooks/{name}", edit_webhook)
    app.router.add_delete("/v1/webhooks/{name}", delete_webhook)
    app.router.add_get("/v1/deliveries", deliveries)
    app.router.add_get("/v1/deliveries/{id}", delivery)
    leases.add_routes(app.router)
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


async def devices(request: web.Request) -> web.Response:
    """All devices."""
    return web.json_response({"devices": request.app[SERVICES].devices.rows()})


async def webhooks(request: web.Request) -> web.Response:
    """All webhooks."""
    return web.json_response({"webhooks": request.app[SERVICES].webhooks.rows()})


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
        return _error(400, "bad_request", str(error))
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
        return _error(400, "bad_request", str(error))
    return web.json_response({"replayed": ids})


async def test_webhook(request: web.Request) -> web.Response:
    """Send a marked sample, once, and tell what came back."""
    return web.json_response(await request.app[SERVICES].webhooks.test(request.match_info["name"]))


async def reload(request: web.Request) -> web.Response:
    """Load the configuration anew; 422 with every mistake when it cannot be used."""
    return web.json_response(await request.app[SERVICES].reload())


def _error(status: int, code: str, message: str, **more: Any) -> web.Response:
    content: Json = {"error": {"code": code, "message": message, **more}}
    return web.json_response(content, status=status)


_CODES: tuple[tuple[type[AgentError], int, str], ...] = (
    (UnknownDeviceError, 404, "unknown_device"),
    (UnknownLeaseError, 404, "unknown_lease"),
    (UnknownWebhookError, 404, "unknown_webhook"),
    (UnknownDeliveryError, 404, "unknown_delivery"),
    (DeviceHeldError, 409, "device_held"),
    (LeasesOffError, 403, "leases_off"),
    (QueueFullError, 503, "queue_full"),
    (LeaseError, 400, "bad_lease"),
    (BadRequestError, 400, "bad_request"),
    (EditError, 400, "bad_edit"),
    (CannotWriteError, 409, "cannot_write"),
    (IdTakenError, 409, "id_taken"),
    (AgentError, 500, "failed"),
)


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ConfigError as error:
        problems = [
            {"file": p.file, "line": p.line, "column": p.column, "message": p.message}
            for p in error.problems
        ]
        return _error(422, "bad_config", str(error), problems=problems)
    except AgentError as error:
        status, code = next((s, c) for kind, s, c in _CODES if isinstance(error, kind))
        return _error(status, code, str(error))
    except web.HTTPException as error:
        return _error(error.status, error.reason.lower().replace(" ", "_"), error.text or "")
    except Exception:
        log.exception("api.failed", method=request.method, path=request.path)
        return _error(500, "internal", "the agent failed at this request; its log says why")


_running: set[asyncio.Task[web.StreamResponse]] = set()


@web.middleware
async def _to_the_end(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A client that goes away ends its own lease or its waiting for one, and nothing else."""
    if leases.lasts(request):
        return await handler(request)
    task: asyncio.Task[web.StreamResponse] = asyncio.ensure_future(handler(request))
    _running.add(task)  # the loop itself keeps no hold on it
    task.add_done_callback(_running.discard)
    return await asyncio.shield(task)


@web.middleware
async def _host_check(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Only literal addresses and localhost: a web page that rebinds its name gets nothing."""
    host = request.host.rpartition(":")[0] if request.host.count(":") == 1 else request.host
    host = host.partition("]")[0].lstrip("[") if host.startswith("[") else host
    if host != "localhost":
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return _error(
                403, "bad_host", f"ask by address or as localhost, not as {host!r} (Host header)"
            )
    return await handler(request)


@web.middleware
async def _token_check(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Over TCP anybody on the host may read; changing needs the token."""
    if request.method in {"GET", "HEAD"}:
        return await handler(request)
    token = request.app[SERVICES].tcp_token()
    if token is None:
        return _error(
            403, "no_token", "changes are taken on the unix socket, or here with [api] token set"
        )
    given = request.headers.get("Authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        return _error(401, "bad_token", "changes over TCP need 'Authorization: Bearer TOKEN'")
    return await handler(request)
