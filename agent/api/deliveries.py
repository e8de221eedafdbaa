"""The stored callbacks: listed, shown, sent again."""

from __future__ import annotations

from typing import TypedDict

from aiohttp import web

from agent.api.request import SERVICES, body_of, text_of
from agent.api.route import Route, Routes
from agent.errors import BadRequestError
from agent.service.deliveries import DeliveryDetail, DeliveryList, ListFilters, ReplayFilters

routes = Routes(
    "deliveries", "What was sent, what waits, what died.", id="The `webhook-id` of its header."
)


class DeliveryShown(TypedDict):
    """One of them."""

    delivery: DeliveryDetail


class Replayed(TypedDict):
    """What is sent again."""

    replayed: list[str]
    """Their ids, oldest first."""


@routes.add(
    Route(
        "GET",
        "/v1/deliveries",
        query=ListFilters,
        errors={400: "a filter makes no sense", 404: "no such webhook or device"},
    )
)
async def list_deliveries(request: web.Request) -> DeliveryList:
    """Stored callbacks, newest first, page by page."""
    try:
        return await request.app[SERVICES].deliveries.page(dict(request.query))
    except ValueError as error:
        raise BadRequestError(str(error)) from None


@routes.add(
    Route(
        "GET",
        "/v1/deliveries/{id:(?!replay$)[^/]+}",
        errors={404: "no such callback: mistyped, or older than delivery.retention"},
    )
)
async def show_delivery(request: web.Request) -> DeliveryShown:
    """One stored callback, with its body and every attempt."""
    return {"delivery": await request.app[SERVICES].deliveries.show(request.match_info["id"])}


@routes.add(
    Route(
        "POST",
        "/v1/deliveries/replay",
        takes=ReplayFilters,
        needs_body=False,
        errors={404: "no such webhook or device"},
    )
)
async def replay_deliveries(request: web.Request) -> Replayed:
    """Send finished callbacks again, oldest first: all that match, by default the dead."""
    body = await body_of(request)
    query = {key: text_of(body, key) for key in body}
    try:
        return {"replayed": await request.app[SERVICES].deliveries.replay(query)}
    except ValueError as error:
        raise BadRequestError(str(error)) from None
