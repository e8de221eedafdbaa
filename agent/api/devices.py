"""The devices."""

from __future__ import annotations

from typing import TypedDict

from aiohttp import web

from agent.api.request import SERVICES
from agent.api.route import Route, Routes
from agent.errors import BadRequestError
from agent.service.device_page import DeviceDetail, DeviceTransitions, TransitionFilters
from agent.service.devices import DeviceRow
from agent.service.port_tree import PortsRow

routes = Routes(
    "devices",
    "Which phones there are, in which state, and why.",
    udid="Letter case and dashes do not matter.",
)


class DeviceList(TypedDict):
    """All devices."""

    devices: list[DeviceRow]


class DeviceFilters(TypedDict, total=False):
    """Which devices are listed."""

    host: list[str]
    """Only devices of this host; repeatable."""


@routes.add(Route("GET", "/v1/devices", query=DeviceFilters, everything=True))
async def list_devices(request: web.Request) -> DeviceList:
    """All devices, by UDID."""
    rows = await request.app[SERVICES].devices.rows()
    hosts = request.query.getall("host", ())
    return {"devices": [row for row in rows if row["host"] in hosts] if hosts else rows}


@routes.add(
    Route(
        "GET",
        "/v1/devices/{udid}",
        errors={404: "no such device; the message names the nearest"},
    )
)
async def show_device(request: web.Request) -> DeviceDetail:
    """One device: why it is as it is, who has it, and what it went through.

    With its last 50 transitions, and the callbacks that each of them made.
    """
    return await request.app[SERVICES].device_page.show(request.match_info["udid"])


@routes.add(
    Route(
        "GET",
        "/v1/devices/{udid}/transitions",
        query=TransitionFilters,
        errors={
            400: "a filter makes no sense",
            404: "no such device; the message names the nearest",
        },
    )
)
async def list_transitions(request: web.Request) -> DeviceTransitions:
    """What one device went through, with the callbacks that each transition made.

    Newest first, page by page; a page ends early where its callbacks are very many.
    """
    query, udid = dict(request.query), request.match_info["udid"]
    try:
        return await request.app[SERVICES].device_page.transitions(udid, query)
    except ValueError as error:
        raise BadRequestError(str(error)) from None


@routes.add(Route("GET", "/v1/ports", everything=True))
async def list_ports(request: web.Request) -> PortsRow:
    """Controllers, hubs and ports of this host as they hang, with the phones at them.

    And with those that have left: each phone stands once, where it is or was last.
    """
    return await request.app[SERVICES].ports.row()
