"""What devices went through, and reports of it."""

from __future__ import annotations

from aiohttp import web

from agent.api.request import SERVICES
from agent.api.route import Route, Routes
from agent.errors import BadRequestError
from agent.service.history import DeviceHistory, Picture, PictureFilters
from agent.service.ranges import RangeFilters
from agent.service.report import Report, ReportFilters

routes = Routes(
    "history",
    "What devices went through: their states over time, how available they were, what broke them.",
    udid="Letter case and dashes do not matter.",
)
_BAD = "a filter makes no sense"
_UNKNOWN = "no such device; the message names the nearest"


@routes.add(
    Route(
        "GET",
        "/v1/devices/{udid}/history",
        query=RangeFilters,
        errors={400: _BAD, 404: _UNKNOWN},
    )
)
async def show_history(request: web.Request) -> DeviceHistory:
    """One device's states over time, and when nobody could see it.

    Of the last 7 days, where nothing else is asked for.
    """
    query, udid = dict(request.query), request.match_info["udid"]
    try:
        return await request.app[SERVICES].history.of(udid, query)
    except ValueError as error:
        raise BadRequestError(str(error)) from None


@routes.add(
    Route(
        "GET",
        "/v1/history",
        query=PictureFilters,
        errors={400: _BAD, 404: _UNKNOWN},
        everything=True,
        at_once=1,
    )
)
async def show_histories(request: web.Request) -> Picture:
    """All devices' states over time, as a picture needs them.

    Of the last 24 hours, where nothing else is asked for.
    """
    udids = request.query.getall("udid", ())
    try:
        return await request.app[SERVICES].history.picture(dict(request.query), udids)
    except ValueError as error:
        raise BadRequestError(str(error)) from None


@routes.add(Route("GET", "/v1/report", query=ReportFilters, errors={400: _BAD}, everything=True))
async def show_report(request: web.Request) -> Report:
    """How available, used and broken devices were.

    Of the last 30 days and by device, where nothing else is asked for.
    """
    try:
        return await request.app[SERVICES].reports.report(dict(request.query))
    except ValueError as error:
        raise BadRequestError(str(error)) from None
