"""What handlers read of a request, and what they find in its application."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

from agent.errors import BadRequestError
from agent.text import whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.api.caller import Caller
    from agent.api.grant import Grant
    from agent.api.limits import Limits
    from agent.service.services import Services

SERVICES: web.AppKey[Services] = web.AppKey("services")
STOPPING = web.AppKey("stopping", asyncio.Event)
"""Set before connections are closed by us."""
SHUT = web.AppKey("shut", asyncio.Event)
"""Set until it is in use, where the configuration that it is opened for closes reading: the one
that is in force by then may not."""
LISTING = web.AppKey("listing", asyncio.Lock)
"""Held by the one long answer that is being made."""

TRUSTED = web.AppKey("trusted", bool)
"""The unix socket, whose mode says who may; else TCP."""

ADDRESS: web.AppKey[Callable[[], str]] = web.AppKey("address")
"""HOST:PORT at which the same is served over TCP; "": nowhere."""

CALLER: web.RequestKey[Caller] = web.RequestKey("caller")
"""Of requests that change something."""
GRANT: web.RequestKey[Grant] = web.RequestKey("grant")
"""By what the request is allowed."""
LIMITS: web.AppKey[Limits] = web.AppKey("limits")


def allow(request: web.Request, grant: Grant) -> None:
    """By that it is allowed; who it is by is known with it."""
    request[GRANT] = grant
    if grant.session is not None and CALLER in request:
        request[CALLER] = request[CALLER].with_session(grant.session)


async def body_of(request: web.Request) -> dict[str, Any]:
    """The JSON object that was sent; an empty one for nothing."""
    limit = request.app[LIMITS].body
    try:
        async with asyncio.timeout(limit):
            text = (await request.read()).decode()  # whatever it says of itself: RFC 8259
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=f"the body did not come within {limit:g} s") from None
    except (web.RequestPayloadError, ConnectionError) as error:
        raise BadRequestError(f"the body did not come whole: {error}") from None
    except UnicodeDecodeError:
        raise BadRequestError("the body is no JSON: it must be in UTF-8") from None
    try:
        body = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"the body is no JSON: {error}") from None
    if not isinstance(body, dict):
        raise BadRequestError("the body must be a JSON object")
    return body


def text_of(body: dict[str, Any], key: str, default: str | None = None) -> str:
    """A string of it; the default where it is left out."""
    value = body.get(key, default)
    if not isinstance(value, str):
        raise BadRequestError(f"{key!r} must be a string")
    if whole(value) != value:
        # JSON can name it, and nothing can store it.
        raise BadRequestError(f"{key!r} holds half a character (a lone surrogate)")
    return value


def number_of(body: dict[str, Any], key: str, default: float) -> float:
    """A number of it; the default where it is left out."""
    value = body.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequestError(f"{key!r} must be a number of seconds, not {json.dumps(value)}")
    try:
        return float(value)
    except OverflowError:
        raise BadRequestError(f"{key!r} is too large a number") from None
