"""The agent itself: does it work, what does it count, what does it serve, and loading its file."""

from __future__ import annotations

import asyncio
from typing import Literal, TypedDict

from aiohttp import web

from agent.api.request import SERVICES
from agent.api.route import SERVED, Route, Routes, Stream
from agent.service.doctor import DoctorRow
from agent.service.health import HealthRow, StatusRow
from agent.service.reload import Reloaded

routes = Routes("agent", "The agent itself.")


class Healthy(TypedDict):
    """It answers."""

    status: Literal["ok"]


@routes.add(Route("GET", "/-/healthy", who="everybody"))
async def healthy(request: web.Request) -> Healthy:
    """The process answers."""
    del request
    return {"status": "ok"}


@routes.add(
    Route("GET", "/-/ready", answers=HealthRow, not_so={503: "Not so; `problems` says why."})
)
async def ready(request: web.Request) -> web.Response:
    """States are derived, and can be stored."""
    health = request.app[SERVICES].health.row()
    return web.json_response(health, status=200 if health["ready"] else 503)


@routes.add(Route("GET", "/metrics", stream=Stream("text/plain", "In its text format.")))
async def metrics(request: web.Request) -> web.Response:
    """Prometheus metrics."""
    body, content_type = await request.app[SERVICES].scraper.scrape()
    return web.Response(body=body, headers={"Content-Type": content_type})


@routes.add(Route("GET", "/v1/status"))
async def status(request: web.Request) -> StatusRow:
    """What works and what does not."""
    return request.app[SERVICES].health.status()


@routes.add(
    Route(
        "GET",
        "/v1/doctor",
        errors={
            404: "nobody is there to look: this agent runs without a configuration file",
            503: "it takes too long; ask again later",
        },
    )
)
async def doctor(request: web.Request) -> DoctorRow:
    """What is well around the agent and what is not, and what to do.

    As `device-agent doctor` says it; takes up to 10 s. Who asks at once, or within 5 s, is told the
    same.
    """
    return await request.app[SERVICES].doctor.row()


@routes.add(Route("GET", "/v1/openapi.json", answers=dict[str, object]))
async def openapi(request: web.Request) -> web.Response:
    """This document."""
    from agent.api.openapi import document  # noqa: PLC0415 - few ask for it, once each

    served = request.app[SERVED]
    return web.json_response(await asyncio.to_thread(document, served))


@routes.add(
    Route(
        "POST",
        "/v1/reload",
        errors={422: "it cannot be used, and the old one stays; `problems` has every mistake"},
    )
)
async def reload(request: web.Request) -> Reloaded:
    """Load the configuration anew; in force when this is answered."""
    return await request.app[SERVICES].reload()
