"""The devices."""

from __future__ import annotations

from typing import TypedDict

from aiohttp import web

from agent.api.request import SERVICES
from agent.api.route import Route, Routes
from agent.service.devices import DeviceDetail, DeviceRow

routes = Routes(
    "devices",
    "Which phones there are, in which state, and why.",
    udid="Letter case and dashes do not matter.",
)


class DeviceList(TypedDict):
    """All devices."""

    devices: list[DeviceRow]


@routes.add(Route("GET", "/v1/devices", everything=True))
async def list_devices(request: web.Request) -> DeviceList:
    """All devices, by UDID."""
    return {"devices": request.app[SERVICES].devices.rows()}


@routes.add(
    Route(
        "GET",
        "/v1/devices/{udid}",
        errors={404: "no such device; the message names the nearest"},
    )
)
async def show_device(request: web.Request) -> DeviceDetail:
    """One device: its row, what its sources say now, and its last 50 transitions."""
    return await request.app[SERVICES].devices.show(request.match_info["udid"])
