"""What took several phones at once, and what is to be changed."""

from __future__ import annotations

from aiohttp import web

from agent.api.request import SERVICES
from agent.api.route import Route, Routes
from agent.service.causes import CauseRows, SuspectRows

routes = Routes(
    "causes", "What took several phones at once, and which phone, port or hub is to be changed."
)


@routes.add(Route("GET", "/v1/causes", everything=True))
async def list_causes(request: web.Request) -> CauseRows:
    """Hubs, controllers, sources and hosts that were lost with at least three phones.

    The last 64, the newest first, those from before the start too.
    """
    return await request.app[SERVICES].causes.rows()


@routes.add(Route("GET", "/v1/suspects", everything=True))
async def list_suspects(request: web.Request) -> SuspectRows:
    """Phones, ports and hubs that were interrupted far more often than the rest of their rack.

    By the last 30 days, as far as they are stored, and at most the last 100,000 transitions.
    """
    return await request.app[SERVICES].causes.suspects()
