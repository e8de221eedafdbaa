"""What handlers read of a request, and what they find in its application."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

from agent.errors import AgentError

if TYPE_CHECKING:
    from agent.service.services import Services

SERVICES: web.AppKey[Services] = web.AppKey("services")
STOPPING = web.AppKey("stopping", asyncio.Event)
"""Set before connections are closed by us."""


class BadRequestError(AgentError):
    """The request's body makes no sense; the message says what was expected."""


async def body_of(request: web.Request) -> dict[str, Any]:
    """The JSON object that was sent; an empty one for nothing."""
    try:
        body = json.loads(await request.text() or "{}")
    except ValueError as error:
        raise BadRequestError(f"the body is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise BadRequestError("the body must be a JSON object")
    return body


def text_of(body: dict[str, Any], key: str, default: str | None = None) -> str:
    """A string of it; the default where it is left out."""
    value = body.get(key, default)
    if not isinstance(value, str):
        raise BadRequestError(f"{key!r} must be a string")
    return value


def number_of(body: dict[str, Any], key: str, default: float) -> float:
    """A number of it; the default where it is left out."""
    value = body.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequestError(f"{key!r} must be a number of seconds, not {json.dumps(value)}")
    return float(value)
