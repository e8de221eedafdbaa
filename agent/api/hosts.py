"""The hosts of a hub's fleet."""

from __future__ import annotations

from aiohttp import web

from agent.api.request import SERVICES
from agent.api.route import Route, Routes
from agent.service.hosts import HostList, HostRow

routes = Routes(
    "hosts",
    "Which hosts a hub follows, and how it stands with each.",
    name="Of a host, as `[fleet] host` of its agent says.",
)


@routes.add(Route("GET", "/v1/hosts"))
async def list_hosts(request: web.Request) -> HostList:
    """All hosts, by name; none where this agent is no hub."""
    return request.app[SERVICES].hosts.rows()


@routes.add(
    Route(
        "DELETE",
        "/v1/hosts/{name}",
        errors={
            404: "no such host; the message names the others",
            409: "it is alive, or may be: the message says since when",
            503: "the hub is blind, or the broker does not do it",
        },
    )
)
async def forget_host(request: web.Request) -> HostRow:
    """Forget a host that was taken down for good; answers it as it was.

    Its phones are shown no more, but for those that another host has. They call nobody back; one
    that turns up at another host goes on from its last state. An agent that comes back under that
    name is a new host. Of two hubs each is told.
    """
    return await request.app[SERVICES].hosts.forget(request.match_info["name"])
