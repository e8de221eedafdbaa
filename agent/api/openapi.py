"""The OpenAPI 3.1 document: what the routes say of themselves, and the rows they answer.

Made when somebody asks for it. Tests keep it true: schemathesis sends a running agent what it
allows, and holds the answers against it.
"""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, get_origin, get_type_hints

from aiohttp import web

from agent import __version__
from agent.api.errors import ErrorRow
from agent.api.route import Foreign
from agent.api.schema import Schemas, properties

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agent.api.route import Route, Routes, Served
    from agent.api.schema import Schema

ABOUT = """\
HTTP/JSON on the agent's unix socket for everything, and on a TCP address for reading; what changes
something is taken over TCP only with the token of `[api] token` or that of a session, nowhere from
web pages of another origin, and with bodies in `application/json` alone. With `[api] read` =
"token" reading over TCP needs one of the two as well. Times are UTC with milliseconds
(`2026-01-06T04:52:36.963Z`), durations seconds unless they are named otherwise. Every error is
`{"error": {"code", "message"}}`: the code is for programs, the message for people.
"""
_CHANGE_ERRORS = {
    400: "it makes no sense",
    401: "wrong token, or its session has ended",
    403: "no token is set, leases are off, or a page of another origin asks",
    415: "the body is no application/json",
    429: "too many wrong tokens from this address; `Retry-After` says how long",
}
_READ_ERRORS = {
    401: 'over TCP, where it is not for everybody (`[api] read` = "token"): no token, a wrong one, '
    "or its session has ended",
    429: "likewise: too many wrong tokens from this address",
}
_BODY_ERRORS = {408: "the body came too slowly", 413: "the body is larger than 64 KiB"}
_ANY_ERROR = (
    "500: the agent failed at it; 503: it is busy; 400, 403: a request that is no HTTP, or asks by "
    "a foreign name (Host; see `[api] hosts`)."
)


def document(matters: Iterable[Routes]) -> Schema:
    """Of all of these routes."""
    matters = tuple(matters)
    schemas = Schemas()
    paths: dict[str, Schema] = {}
    for matter in matters:
        for served in matter.all:
            operations = paths.setdefault(served.route.shown, {})
            operations[served.route.method.lower()] = _operation(matter, served, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "device-agent",
            "version": __version__,
            "description": ABOUT,
            "license": {"name": "GPL-3.0-or-later", "identifier": "GPL-3.0-or-later"},
        },
        "servers": [{"url": "/", "description": "Where this document came from."}],
        "tags": [{"name": each.tag, "description": each.about} for each in matters if each.about],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.named.items())),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`[api] token`, or a session's. Over TCP only: the unix "
                    "socket's mode says who may use it.",
                }
            },
        },
    }


def _operation(matter: Routes, served: Served, schemas: Schemas) -> Schema:
    route, handler = served.route, served.handler
    summary, _, description = inspect.cleandoc(handler.__doc__ or "").partition("\n\n")
    operation: Schema = {
        "tags": [matter.tag],
        "operationId": handler.__name__,
        "summary": " ".join(summary.split()),
    }
    if description:
        operation["description"] = " ".join(description.split())
    if parameters := [*_parameters(matter, route, schemas)]:
        operation["parameters"] = parameters
    if route.takes is not None:
        takes = route.takes
        schema = takes.make(schemas) if isinstance(takes, Foreign) else schemas.of(takes)
        operation["requestBody"] = {"required": route.needs_body, "content": _json(schema)}
    operation["responses"] = _responses(served, operation["summary"], schemas)
    if route.who != "everybody":
        operation["security"] = [{}, {"token": []}]
    return operation


def _parameters(matter: Routes, route: Route, schemas: Schemas) -> Iterator[Schema]:
    for name in re.findall(r"\{(\w+)\}", route.shown):
        part: Schema = {"type": "string", "minLength": 1}
        yield _parameter("path", name, matter.parts[name], part) | {"required": True}
    if route.query is not None:
        for name, schema in properties(route.query, schemas).items():
            about = schema.pop("description", "")
            repeated: Schema = {}
            if schema["type"] == "array":
                repeated = {"style": "form", "explode": True}
            yield _parameter("query", name, about, schema) | repeated
    for header in route.headers:
        yield _parameter("header", header.name, header.about, schemas.of(header.kind))


def _parameter(place: str, name: str, about: str, schema: Schema) -> Schema:
    return {"name": name, "in": place, "description": about, "schema": schema}


def _responses(served: Served, about: str, schemas: Schemas) -> Schema:
    route = served.route
    content: Schema = {}
    row = _row_of(served)
    if row is not None:
        content = _json(schemas.of(row))
    if route.stream is not None:
        text = {"type": "string", "description": route.stream.about}
        content = {**content, route.stream.content_type: {"schema": text}}
    error = _json(schemas.of(ErrorRow))
    errors = {
        **_who_may_errors(route),
        **(_BODY_ERRORS if route.takes is not None else {}),
        **route.errors,
    }
    return {
        str(route.status): {"description": about, "content": content},
        **{
            str(code): {"description": text, "content": content}
            for code, text in route.not_so.items()
        },
        **{
            str(code): {"description": text, "content": error}
            for code, text in sorted(errors.items())
        },
        "default": {"description": _ANY_ERROR, "content": error},
    }


def _who_may_errors(route: Route) -> dict[int, str]:
    if route.changes:
        return _CHANGE_ERRORS
    return {} if route.who == "everybody" else _READ_ERRORS


def _row_of(served: Served) -> Any:
    """What is answered as JSON; None: nothing."""
    if served.route.answers is not None:
        return served.route.answers
    row = get_type_hints(served.handler)["return"]
    answers_itself = get_origin(row) is None and issubclass(row, web.StreamResponse)
    return None if answers_itself else row


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}
