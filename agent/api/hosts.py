"""The hosts of a hub's fleet."""

from __future__ import annotations

from aiohttp import web

from agent.api.request import SERVICES
from agent.api.route import Route, Routes
from agent.service.hosts import HostList

routes = Routes("hosts", "Which hosts a hub follows, and how it stands with each.")


@routes.add(Route("GET", "/v1/hosts"))
async def list_hosts(request: web.Request) -> HostList:
    """All hosts, by name; none where this agent is no hub."""
    return request.app[SERVICES].hosts.rows()
