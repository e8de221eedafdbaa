"""The webhooks: shown, changed in the file, tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from aiohttp import web

from agent.api.request import SERVICES, body_of
from agent.api.route import Foreign, Route, Routes
from agent.config import json_schema
from agent.service.webhook_editor import DeletedWebhook
from agent.service.webhooks import (
    Draft,
    ListedWebhook,
    Preview,
    SampleRow,
    WebhookDetail,
    WebhookRow,
)

if TYPE_CHECKING:
    from agent.api.schema import Schema, Schemas

routes = Routes("webhooks", "Who is called back.", name="Its name or its id.")
_UNKNOWN = {404: "no such webhook; the message names the nearest"}
_REFUSED = {
    409: "it stands in the operator's file, which only its host may change (`provisioned`); the "
    "disk does not take it (`cannot_write`); or the id belongs to another webhook (`id_taken`)",
    422: "it is no good webhook; `problems` says why",
}


class WebhookList(TypedDict):
    """All webhooks."""

    webhooks: list[ListedWebhook]


def _settings(schemas: Schemas) -> Schema:
    """A table of the file; what it refers to is put among the schemas, as `Config…`."""
    tables = _in_components(json_schema()["$defs"])
    for name in _parts(tables["Webhook"], tables):
        schemas.put(f"Config{name}", tables[name])
    about = "The keys of a `[[webhooks]]` table of the configuration file."
    return schemas.put("WebhookSettings", tables["Webhook"] | {"description": about})


def _change(schemas: Schemas) -> Schema:
    """Of what is made by the route before it."""
    keys = {
        key: {"anyOf": [schema, {"type": "null"}]}
        for key, schema in schemas.named["WebhookSettings"]["properties"].items()
    }
    return schemas.put(
        "WebhookChange", {"type": "object", "properties": keys, "additionalProperties": False}
    )


@routes.add(Route("GET", "/v1/webhooks", everything=True))
async def list_webhooks(request: web.Request) -> WebhookList:
    """All webhooks, and how the delivery to each stands."""
    return {"webhooks": await request.app[SERVICES].webhooks.rows()}


@routes.add(Route("POST", "/v1/webhooks", status=201, takes=Foreign(_settings), errors=_REFUSED))
async def create_webhook(request: web.Request) -> WebhookRow:
    """Make a webhook: it is in the agent's own file and in force when this is answered."""
    services = request.app[SERVICES]
    return services.webhooks.row(await services.editor.create(await body_of(request)))


@routes.add(
    Route(
        "POST",
        "/v1/preview",
        takes=Draft,
        needs_body=False,
        errors={422: "it is no good webhook; `problems` says why"},
        who="readers",
    )
)
async def preview_webhook(request: web.Request) -> Preview:
    """What a webhook would be sent, by a marked sample; nothing is sent, stored or changed."""
    return await request.app[SERVICES].webhooks.preview(await body_of(request))


@routes.add(Route("GET", "/v1/webhooks/{name}", errors=_UNKNOWN))
async def show_webhook(request: web.Request) -> WebhookDetail:
    """One webhook, all that is set of it but for its secrets, and what deleting it would cancel."""
    return await request.app[SERVICES].webhooks.show(request.match_info["name"])


@routes.add(
    Route(
        "PATCH",
        "/v1/webhooks/{name}",
        takes=Foreign(_change),
        needs_body=False,
        errors=_UNKNOWN | _REFUSED,
    )
)
async def edit_webhook(request: web.Request) -> WebhookRow:
    """Set some keys of a managed webhook; null puts one back to its default."""
    services = request.app[SERVICES]
    id_ = await services.editor.edit(request.match_info["name"], await body_of(request))
    return services.webhooks.row(id_)


@routes.add(Route("DELETE", "/v1/webhooks/{name}", errors=_UNKNOWN | _REFUSED))
async def delete_webhook(request: web.Request) -> DeletedWebhook:
    """Delete a managed webhook; what waits for it is cancelled."""
    return await request.app[SERVICES].editor.delete(request.match_info["name"])


@routes.add(Route("POST", "/v1/webhooks/{name}/test", errors=_UNKNOWN))
async def test_webhook(request: web.Request) -> SampleRow:
    """Send a marked sample to a webhook, once, and tell what came back."""
    return await request.app[SERVICES].webhooks.test(request.match_info["name"])


# --- the configuration's own schema ----------------------------------------------------------


def _parts(node: Any, tables: Schema) -> set[str]:
    """What that schema refers to, and what that does."""
    if isinstance(node, list):
        return set().union(*(_parts(each, tables) for each in node))
    if not isinstance(node, dict):
        return set()
    found = set().union(*(_parts(each, tables) for each in node.values()))
    if isinstance(node.get("$ref"), str):
        name = node["$ref"].rpartition("/Config")[2]
        found |= {name} | _parts(tables[name], tables)
    return found


def _in_components(node: Any) -> Any:
    """The configuration's schema, its references led to where they stand here."""
    if isinstance(node, list):
        return [_in_components(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: value.replace("#/$defs/", "#/components/schemas/Config")
        if key == "$ref"
        else _in_components(value)
        for key, value in node.items()
    }
