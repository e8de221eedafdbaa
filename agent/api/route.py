"""A route: declared once, beside its handler; the router and the OpenAPI document are made from it.

A handler takes the request and returns the row that it answers, of the type of its annotation; or
answers itself, where that is not one JSON object. Its name is the operation's, its docstring the
summary and, behind an empty line, the description.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from aiohttp import web

from agent.api.request import LISTING
from agent.service.slices import Slices

if TYPE_CHECKING:
    from agent.api.schema import Schema, Schemas

SERVED: web.AppKey[tuple[Routes, ...]] = web.AppKey("served")
"""All that is served."""
WhoMay = Literal["usual", "readers", "everybody", "bearers"]
"""Over TCP. `usual`: reading is for everybody unless `[api] read` closes it, changing for who bears
the token or a session; `readers`: as reading, for what is asked with a body and changes nothing.
The other two are whatever the configuration says."""
WHO_MAY: web.AppKey[Mapping[tuple[str, str], WhoMay]] = web.AppKey("who_may")
"""By method and path."""
Handler = Callable[[web.Request], Awaitable[Any]]
_Handler = TypeVar("_Handler", bound=Handler)


class Stream(NamedTuple):
    """An answer that is no JSON object."""

    content_type: str
    about: str


class Header(NamedTuple):
    """A header that means something here."""

    name: str
    about: str
    kind: Any


class Foreign(NamedTuple):
    """A body whose schema is made elsewhere."""

    make: Callable[[Schemas], Schema]


@dataclass(frozen=True, slots=True)
class Route:
    """What is asked, what it takes, and what it answers."""

    method: str
    path: str
    """As the router takes it; patterns of its parts are not in the document."""
    _: KW_ONLY
    status: int = 200
    """Of the good answer."""
    answers: Any = None
    """Its row; None: what the handler's annotation says, if that is one."""
    stream: Stream | None = None
    """What it answers instead, or may be asked for."""
    query: Any = None
    """A row whose keys are the query's."""
    headers: tuple[Header, ...] = ()
    takes: Any = None
    """The body: a row, a union of rows, or `Foreign`. None: nothing."""
    needs_body: bool = True
    errors: Mapping[int, str] = field(default_factory=dict)
    """In the one shape of errors, besides those that every request may meet."""
    not_so: Mapping[int, str] = field(default_factory=dict)
    """Other statuses of the same row."""
    everything: bool = False
    """Whether it lists all there is: such answers are made one after the other, in turns of the
    loop of their own, however many ask at once."""
    at_once: int = 50
    """Of such a list: rows that are written as JSON in one turn of the loop: a few ms."""
    lasts: bool = False
    """Whether the client's going away is to end the request itself."""
    who: WhoMay = "usual"

    @property
    def shown(self) -> str:
        """The path as the document names it, and aiohttp's resources do."""
        return re.sub(r"\{(\w+):[^}]*\}", r"{\1}", self.path)

    @property
    def changes(self) -> bool:
        """Whether it changes something, which needs the token or a session over TCP."""
        return self.method != "GET" and self.who != "readers"


@dataclass(frozen=True, slots=True)
class Served:
    """A route and who answers it."""

    route: Route
    handler: Handler

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """With the handler's row, or as it does itself."""
        if self.route.everything:
            async with request.app[LISTING]:
                await asyncio.sleep(0)
                return await self._answer(request)
        return await self._answer(request)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        row = await self.handler(request)
        if isinstance(row, web.StreamResponse):
            return row
        text = await _text(row, self.route.at_once) if self.route.everything else json.dumps(row)
        return web.json_response(text=text, status=self.route.status)


async def _text(row: Mapping[str, Any], some: int) -> str:
    """As JSON; a hub's lists have ten thousand rows, of which some are written in one turn."""
    parts, slices = [], Slices()
    for key, value in row.items():
        if isinstance(value, list):
            pieces = []
            for start in range(0, len(value), some):
                pieces.append(json.dumps(value[start : start + some])[1:-1])
                await slices.let_go()
            text = f"[{', '.join(pieces)}]"
        else:
            text = json.dumps(value)
        parts.append(f"{json.dumps(key)}: {text}")
    return f"{{{', '.join(parts)}}}"


class Routes:
    """The routes of one matter.

    Args:
        tag: the matter's name in the document.
        about: one line about it; "" where another file has it.
        parts: what the parts of its paths mean.
    """

    def __init__(self, tag: str, about: str = "", **parts: str) -> None:
        self.tag = tag
        self.about = about
        self.parts = parts
        self.all: list[Served] = []

    def add(self, route: Route) -> Callable[[_Handler], _Handler]:
        """Decorates the route's handler."""

        def take(handler: _Handler) -> _Handler:
            self.all.append(Served(route, handler))
            return handler

        return take

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Serve them."""
        for served in self.all:
            route = served.route
            router.add_route(route.method, route.path, served.answer)
            if route.method == "GET" and not route.lasts:
                router.add_route("HEAD", route.path, served.answer)
