"""The OpenAPI 3.1 document: every path, what it takes and what it answers. In one place, by hand.

Loaded when somebody asks for it. Tests keep it complete (each route is in it, and no other) and
true (schemathesis sends a running agent what it allows, and holds the answers against it).
"""

from __future__ import annotations

from typing import Any

from agent import __version__
from agent.config import json_schema
from agent.model import CallbackState, DeviceState, Platform, Visibility

Schema = dict[str, Any]

ABOUT = """\
HTTP/JSON on the agent's unix socket for everything, and on a TCP address for reading; what changes
something is taken over TCP only with the token of `[api] token`, nowhere from web pages of another
origin, and with bodies in `application/json` alone. Times are UTC with milliseconds
(`2026-01-06T04:52:36.963Z`), durations seconds unless they are named otherwise. Every error is
`{"error": {"code", "message"}}`: the code is for programs, the message for people.
"""


def document() -> Schema:
    """The whole of it."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "device-agent",
            "version": __version__,
            "description": ABOUT,
            "license": {"name": "GPL-3.0-or-later", "identifier": "GPL-3.0-or-later"},
        },
        "servers": [{"url": "/", "description": "Where this document came from."}],
        "tags": [
            {"name": name, "description": text}
            for name, text in (
                ("devices", "Which phones there are, in which state, and why."),
                ("leases", "Who uses a phone, and takes it."),
                ("webhooks", "Who is called back."),
                ("deliveries", "What was sent, what waits, what died."),
                ("agent", "The agent itself."),
            )
        ],
        "paths": _paths(),
        "components": {
            "schemas": _schemas(),
            "parameters": _parameters(),
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`[api] token`. Over TCP only: the unix socket's mode says who "
                    "may use it.",
                }
            },
        },
    }


# --- how it is written ---------------------------------------------------------------------


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _object(*needed: str, **properties: Schema) -> Schema:
    """Needed "*": all of them."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if needed == ("*",) else list(needed),
        "additionalProperties": False,
    }


def _list(name: str, of: str) -> Schema:
    """`{"devices": [...]}`."""
    return _object("*", **{name: _array(_ref(of))})


def _text(about: str = "", **more: Any) -> Schema:
    return {"type": "string", **({"description": about} if about else {}), **more}


def _time(about: str = "", *, null: bool = False) -> Schema:
    kind: Any = ["string", "null"] if null else "string"
    return {"type": kind, "format": "date-time", **({"description": about} if about else {})}


def _one_of(values: Any, about: str = "", *, null: bool = False) -> Schema:
    words: list[Any] = [str(value) for value in values]
    return {
        "type": ["string", "null"] if null else "string",
        "enum": [*words, None] if null else words,
        **({"description": about} if about else {}),
    }


def _array(items: Schema, about: str = "", **more: Any) -> Schema:
    return {
        "type": "array",
        "items": items,
        **({"description": about} if about else {}),
        **more,
    }


def _get(tag: str, name: str, about: str, answer: Schema, **more: Any) -> Schema:
    return _operation(tag, name, about, {"200": (about, _json(answer))}, **more)


def _change(
    tag: str, name: str, about: str, answer: Schema, status: int = 200, **more: Any
) -> Schema:
    """Over TCP it needs the token."""
    errors = {
        400: "it makes no sense",
        401: "wrong token",
        403: "no token is set, leases are off, or a page of another origin asks",
        415: "the body is no application/json",
    }
    if "body" in more:
        errors |= {408: "the body came too slowly", 413: "the body is larger than 64 KiB"}
    more["errors"] = errors | more.get("errors", {})
    operation = _operation(tag, name, about, {str(status): (about, _json(answer))}, **more)
    operation["security"] = [{}, {"token": []}]
    return operation


def _operation(
    tag: str,
    name: str,
    about: str,
    answers: dict[str, tuple[str, Schema]],
    *,
    parameters: tuple[str | Schema, ...] = (),
    body: Schema | None = None,
    needed: bool = False,
    errors: dict[int, str] | None = None,
) -> Schema:
    operation: Schema = {"tags": [tag], "operationId": name, "summary": about}
    if parameters:
        operation["parameters"] = [
            {"$ref": f"#/components/parameters/{each}"} if isinstance(each, str) else each
            for each in parameters
        ]
    if body is not None:
        operation["requestBody"] = {"required": needed, "content": _json(body)}
    operation["responses"] = {
        **{
            key: {"description": text, "content": content}
            for key, (text, content) in answers.items()
        },
        **{
            str(status): {"description": text, "content": _json(_ref("Error"))}
            for status, text in sorted((errors or {}).items())
        },
        "default": {
            "description": "500: the agent failed at it; 503: it is busy; 400, 403: "
            "a request that is no HTTP, or asks by a foreign name (Host; see `[api] hosts`).",
            "content": _json(_ref("Error")),
        },
    }
    return operation


def _query(name: str, about: str, schema: Schema | None = None, *, many: bool = False) -> Schema:
    one = schema or {"type": "string"}
    result: Schema = {
        "name": name,
        "in": "query",
        "description": about,
        "schema": {"type": "array", "items": one} if many else one,
    }
    return result | ({"style": "form", "explode": True} if many else {})


# --- paths ---------------------------------------------------------------------------------


def _paths() -> Schema:
    return {
        **_device_paths(),
        **_lease_paths(),
        **_webhook_paths(),
        **_delivery_paths(),
        **_own_paths(),
    }


def _device_paths() -> Schema:
    return {
        "/v1/devices": {
            "get": _get(
                "devices", "listDevices", "All devices, by UDID.", _list("devices", "Device")
            )
        },
        "/v1/devices/{udid}": {
            "get": _get(
                "devices",
                "showDevice",
                "One device: its row, what its sources say now, and its last 50 transitions.",
                _ref("DeviceDetail"),
                parameters=("udid",),
                errors={404: "no such device; the message names the nearest"},
            )
        },
        "/v1/events": {"get": _events()},
    }


def _events() -> Schema:
    operation = _operation(
        "devices",
        "followEvents",
        "Follow the devices, as server-sent events.",
        {
            "200": (
                "Messages, for as long as the connection lasts; a comment every 15 s without any.",
                {"text/event-stream": {"schema": {"type": "string"}}},
            )
        },
        parameters=(
            _query("device", "Only this device; repeatable.", many=True),
            _query("platform", "Only this platform; repeatable.", _one_of(Platform), many=True),
            _query("tag", "Only devices that bear this tag; repeatable.", many=True),
            _query(
                "last_event_id",
                "As the header, for clients that cannot set it.",
                _text(pattern=_PLACE),
            ),
            {
                "name": "Last-Event-ID",
                "in": "header",
                "description": "The `id` of the last message that was taken: what came after it is "
                "told first, from the store. `0`: all that is stored. Browsers send it themselves.",
                "schema": _text(pattern=_PLACE),
            },
        ),
        errors={400: "no such filter or id", 404: "no such device"},
    )
    operation["description"] = (
        '`snapshot`: `{"devices": […]}`, all rows; what was known before is void. `device`: a row '
        'that changed. `removed`: `{"udid"}` of a device that is no longer shown. `transition`: a '
        'Transition, once it is stored; with an `id`. `reset`: `{"reason"}`, transitions were '
        "missed that are stored no more, and a snapshot follows. A reader that takes nothing for "
        "10 s is dropped."
    )
    return operation


_SINCE = (
    r"^([0-9]{1,5}(ms|s|m|h|d)"
    r"|20[0-9]{2}-0[1-9]-[0-2][1-8]T[01][0-9]:[0-5][0-9]:[0-5][0-9](\.[0-9]{3})?Z)$"
)
_PLACE = r"^[0-9]{1,18}(-[0-9]{1,18})?$"


def _lease_paths() -> Schema:
    gone = {404: "no such lease: the message says how it ended"}
    tied = {
        "description": "A stream that stays open: the lease, a line at each renewal, and "
        '`{"ended": why}` where somebody else ended it. The lease ends with the connection.',
        "schema": {"type": "string"},
    }
    acquire = _change(
        "leases",
        "acquireLease",
        "Take a device.",
        _ref("Lease"),
        201,
        body=_ref("LeaseRequest"),
        needed=True,
        errors={
            404: "no such device, or none that fits",
            409: "somebody else has it; the message says who, since when and why",
            503: "too many wait already",
        },
    )
    acquire["responses"]["201"]["content"]["application/x-ndjson"] = tied
    tie = _change(
        "leases",
        "tieLease",
        "Tie a lease to this connection.",
        {},
        parameters=("lease",),
        errors=gone,
    )
    tie["responses"]["200"]["content"] = {"application/x-ndjson": tied}
    return {
        "/v1/leases": {
            "get": _get(
                "leases",
                "listLeases",
                "The leases in force, oldest first.",
                _list("leases", "Lease"),
            ),
            "post": acquire,
        },
        "/v1/leases/{id}": {
            "delete": _change(
                "leases",
                "releaseLease",
                "End a lease.",
                _ref("Lease"),
                parameters=("lease",),
                errors=gone,
            )
        },
        "/v1/leases/{id}/renew": {
            "post": _change(
                "leases",
                "renewLease",
                "Let a lease last another TTL from now.",
                _ref("Lease"),
                parameters=("lease",),
                errors=gone,
            )
        },
        "/v1/leases/{id}/tie": {"post": tie},
    }


def _webhook_paths() -> Schema:
    unknown = {404: "no such webhook; the message names the nearest"}
    refused = {
        409: "the agent may not write its file, or the id belongs to another webhook",
        422: "it is no good webhook; `problems` says why",
    }
    return {
        "/v1/webhooks": {
            "get": _get(
                "webhooks",
                "listWebhooks",
                "All webhooks, and how the delivery to each stands.",
                _list("webhooks", "Webhook"),
            ),
            "post": _change(
                "webhooks",
                "createWebhook",
                "Make a webhook: it is in the file and in force when this is answered.",
                _ref("Webhook"),
                201,
                body=_ref("WebhookSettings"),
                needed=True,
                errors=refused,
            ),
        },
        "/v1/webhooks/{name}": {
            "get": _get(
                "webhooks",
                "showWebhook",
                "One webhook.",
                _ref("Webhook"),
                parameters=("webhook",),
                errors=unknown,
            ),
            "patch": _change(
                "webhooks",
                "editWebhook",
                "Set some keys of a webhook; null puts one back to its default.",
                _ref("Webhook"),
                parameters=("webhook",),
                body=_ref("WebhookChange"),
                errors=unknown | refused,
            ),
            "delete": _change(
                "webhooks",
                "deleteWebhook",
                "Delete a webhook; what waits for it is cancelled.",
                _object("*", id={"type": "integer"}, name=_text()),
                parameters=("webhook",),
                errors=unknown | refused,
            ),
        },
        "/v1/webhooks/{name}/test": {
            "post": _change(
                "webhooks",
                "testWebhook",
                "Send a marked sample to a webhook, once, and tell what came back.",
                _ref("Sample"),
                parameters=("webhook",),
                errors=unknown,
            )
        },
    }


def _delivery_paths() -> Schema:
    return {
        "/v1/deliveries": {
            "get": _get(
                "deliveries",
                "listDeliveries",
                "Stored callbacks, newest first.",
                _list("deliveries", "Delivery"),
                parameters=(
                    _query("webhook", "Only to this one, by name or id."),
                    _query("device", "Only about this one."),
                    _query("state", "Only in this state.", _one_of(CallbackState)),
                    _query(
                        "since",
                        "Created since: a time, or an age like `2h`.",
                        _text(pattern=_SINCE),
                    ),
                    _query("id", "Only this one."),
                    _query(
                        "limit",
                        "At most so many.",
                        {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
                    ),
                ),
                errors={400: "a filter makes no sense", 404: "no such webhook or device"},
            )
        },
        "/v1/deliveries/{id}": {
            "get": _get(
                "deliveries",
                "showDelivery",
                "One stored callback, with its body and every attempt.",
                _object("*", delivery=_ref("DeliveryDetail")),
                parameters=("delivery",),
                errors={404: "no such callback: mistyped, or older than delivery.retention"},
            )
        },
        "/v1/deliveries/replay": {
            "post": _change(
                "deliveries",
                "replayDeliveries",
                "Send finished callbacks again, oldest first: all that match, by default the dead.",
                _object("*", replayed=_array(_text(), "Their ids, oldest first.")),
                body=_object(
                    webhook=_text("By name or id."),
                    device=_text(),
                    state=_one_of(CallbackState),
                    since=_text("A time, or an age like `2h`.", pattern=_SINCE),
                    id=_text(),
                    limit=_text("1 to 1000.", pattern="^(1000|[1-9][0-9]{0,2})$"),
                ),
                errors={404: "no such webhook or device"},
            )
        },
    }


def _own_paths() -> Schema:
    ready = _get("agent", "ready", "States are derived, and can be stored.", _ref("Health"))
    ready["responses"]["503"] = {
        "description": "Not so; `problems` says why.",
        "content": _json(_ref("Health")),
    }
    metrics = _operation(
        "agent",
        "metrics",
        "Prometheus metrics.",
        {"200": ("In its text format.", {"text/plain": {"schema": {"type": "string"}}})},
    )
    return {
        "/-/healthy": {
            "get": _get(
                "agent", "healthy", "The process answers.", _object("*", status={"const": "ok"})
            )
        },
        "/-/ready": {"get": ready},
        "/metrics": {"get": metrics},
        "/v1/status": {
            "get": _get("agent", "status", "What works and what does not.", _ref("Status"))
        },
        "/v1/openapi.json": {"get": _get("agent", "openapi", "This document.", {"type": "object"})},
        "/v1/reload": {
            "post": _change(
                "agent",
                "reload",
                "Load the configuration anew; in force when this is answered.",
                _ref("Reloaded"),
                errors={
                    422: "it cannot be used, and the old one stays; `problems` has every mistake"
                },
            )
        },
    }


def _parameters() -> Schema:
    return {
        key: {
            "name": name,
            "in": "path",
            "required": True,
            "description": about,
            "schema": _text(minLength=1),
        }
        for key, name, about in (
            ("udid", "udid", "Letter case and dashes do not matter."),
            ("lease", "id", "As the lease says."),
            ("webhook", "name", "Its name or its id."),
            ("delivery", "id", "The `webhook-id` of its header."),
        )
    }


# --- what is sent and answered -------------------------------------------------------------


def _schemas() -> Schema:
    return {
        **_device_schemas(),
        **_lease_schemas(),
        **_webhook_schemas(),
        **_delivery_schemas(),
        **_own_schemas(),
    }


def _device_schemas() -> Schema:
    device: Schema = {
        "udid": _text("Android: the serial; iOS: the UDID with its dash."),
        "name": _text(),
        "platform": _one_of(Platform, "null: never seen.", null=True),
        "state": _one_of(DeviceState),
        "reason": _text("Why it is in that state, for people."),
        "since": _time("Of the state. null: never seen.", null=True),
        "holder": _text("Who uses it."),
        "port": _text("USB port path, `1-4.2`."),
        "tags": _array(_text()),
        "visibility": _one_of(Visibility),
        "flapping": {"type": "boolean"},
        "model": _text(),
    }
    readings = {
        f"{name}{suffix}": _text()
        for name in ("presence", "bridge", "usage")
        for suffix in ("", "_reason")
    }
    return {
        "Device": _object("*", **device),
        "DeviceDetail": _object(
            "*",
            **device,
            readings=_object("*", **readings) | {"description": "What its sources say now."},
            transitions=_array(_ref("Transition"), "Newest first."),
        ),
        "Transition": _object(
            "*",
            **{
                "id": _text("Of its message in `/v1/events`.", pattern=_PLACE),
                "at": _time(),
                "udid": _text(),
                "name": _text("As of now, like platform and tags."),
                "platform": _one_of(Platform, null=True),
                "tags": _array(_text()),
                "from": _one_of(DeviceState, "null: never seen before.", null=True),
                "to": _one_of(DeviceState),
                "reason": _text(),
                "holder": _text(),
            },
        ),
    }


def _lease_schemas() -> Schema:
    steal = _text("Why it is taken from whoever has it; empty: it is not.")
    any_ = _object(platform=_one_of(Platform, null=True), tags=_array(_text())) | {
        "description": "Whichever fits, is online and was used longest ago."
    }
    wish: Schema = {
        "holder": _text("Who takes it; printable, like the other texts.", minLength=1),
        "purpose": _text("What for."),
        "ttl": {"type": "number", "minimum": 1, "maximum": 86400, "default": 60},
        "wait": {
            "type": "number",
            "minimum": 0,
            "maximum": 86400,
            "default": 0,
            "description": "Seconds in the queue while somebody else has it.",
        },
        "tie": {
            "type": "boolean",
            "default": False,
            "description": "Answer with a stream; the lease lasts as long as the connection.",
        },
    }
    return {
        "Lease": _object(
            "*",
            id=_text(),
            udid=_text(),
            platform=_one_of(Platform, null=True),
            holder=_text(),
            purpose=_text(),
            since=_time(),
            ttl={"type": "number", "description": "Seconds after the last renewal."},
            expires=_time(),
            taken_from=_text("Whose it was, and why it was taken; empty: it was free."),
        ),
        "LeaseRequest": {
            "oneOf": [
                _object("udid", "holder", udid=_text("Which device."), steal=steal, **wish),
                _object("any", "holder", any=any_, **wish),
            ]
        },
    }


def _webhook_schemas() -> Schema:
    settings = _in_components(json_schema()["$defs"])
    webhook = settings["Webhook"]
    parts = {f"Config{name}": settings[name] for name in _parts(webhook, settings)}
    change = {
        key: {"anyOf": [schema, {"type": "null"}]} for key, schema in webhook["properties"].items()
    }
    strings = _array(_text())
    return {
        **parts,
        "WebhookSettings": webhook
        | {"description": "The keys of a `[[webhooks]]` table of the configuration file."},
        "WebhookChange": {"type": "object", "properties": change, "additionalProperties": False},
        "Webhook": _object(
            *_WEBHOOK_ALWAYS,
            id={"type": "integer"},
            name=_text(),
            url=_text("Without userinfo and query, which may be secret."),
            description=_text(),
            events=_array(_one_of(DeviceState)),
            enabled={"type": "boolean"},
            org_id={"type": "integer"},
            payload=_text(),
            devices=strings,
            tags=strings,
            platforms=_array(_one_of(Platform)),
            status=_text("How its delivery stands, for people."),
            paused={"type": "boolean", "description": "Its endpoint answered 410."},
            waiting_devices={"type": "integer", "description": "With callbacks that wait."},
            failures={"type": "integer", "description": "Attempts in a row."},
            failing_since=_time(null=True),
            last_error=_text(),
            last_success=_time(null=True),
        ),
        "Sample": _object(
            "*",
            webhook=_text(),
            id=_text(),
            url=_text(),
            ok={"type": "boolean", "description": "It was answered 2xx."},
            status={"type": ["integer", "null"]},
            error=_text(),
            answer=_text("At most 1 KiB of it."),
            duration_ms={"type": "integer"},
            body=_text("As it was sent."),
        ),
    }


_WEBHOOK_ALWAYS = (
    "id",
    "name",
    "url",
    "description",
    "events",
    "enabled",
    "org_id",
    "payload",
    "devices",
    "tags",
    "platforms",
    "status",
)


def _parts(node: Any, settings: Schema) -> set[str]:
    """What that schema of the configuration's refers to, and what that does."""
    if isinstance(node, list):
        return set().union(*(_parts(each, settings) for each in node))
    if not isinstance(node, dict):
        return set()
    found = set().union(*(_parts(each, settings) for each in node.values()))
    if isinstance(node.get("$ref"), str):
        name = node["$ref"].rpartition("/Config")[2]
        found |= {name} | _parts(settings[name], settings)
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


def _delivery_schemas() -> Schema:
    delivery: Schema = {
        "id": _text("The `webhook-id` of its header."),
        "webhook_id": {"type": "integer"},
        "webhook_name": _text("Empty: it is gone."),
        "udid": _text(),
        "device_state": _one_of(DeviceState, null=True),
        "created": _time(),
        "state": _one_of(CallbackState),
        "attempts": {"type": "integer"},
        "due": _time("Not sent before; null: at once, or it is finished.", null=True),
        "finished": _time(null=True),
        "status": {"type": ["integer", "null"], "description": "Of the last answer."},
        "error": _text("Of the last attempt."),
    }
    return {
        "Delivery": _object("*", **delivery),
        "DeliveryDetail": _object(
            "*",
            **delivery,
            headers={"type": "object", "additionalProperties": _text()},
            body=_text(),
            tries=_array(
                _object(
                    "*",
                    at=_time(),
                    duration_ms={"type": "integer"},
                    status={"type": ["integer", "null"]},
                    error=_text(),
                    answer=_text("At most 1 KiB of it."),
                )
            ),
        ),
    }


def _own_schemas() -> Schema:
    health: Schema = {
        "ready": {"type": "boolean"},
        "version": _text(),
        "since": _time(),
        "problems": _array(_text(), "What does not work, for people."),
        "reload": _object(
            "*",
            ok={"type": "boolean"},
            at=_time(null=True),
            by=_one_of(("start", "request", "edit", "signal", "file"), "What asked for it."),
            error=_text(),
        ),
    }
    target = _object(
        "*",
        target=_text(),
        state=_one_of(("unread", "good", "unknown")),
        reason=_text(),
        sessions={"type": "integer"},
        read=_time(null=True),
    )
    usage = _object("*", source=_text(), reason=_text(), targets=_array(target))
    problem = _object(
        "*", file=_text(), line={"type": "integer"}, column={"type": "integer"}, message=_text()
    )
    return {
        "Health": _object("*", **health),
        "Status": _object(
            "*",
            **health,
            usage=_array(usage, "Each usage source that is polled."),
            store=_object(
                "*",
                directory=_text(),
                sqlite=_text("Its version."),
                ok={"type": "boolean", "description": "It can be written."},
                error=_text("Why not."),
                waiting={"type": "integer", "description": "Changes kept in memory."},
                lost={"type": "integer", "description": "Changes refused: memory was full."},
                recovered_from=_text("The corrupt file that was set aside."),
                size={"type": "integer", "description": "Bytes."},
                free={"type": "integer", "description": "Bytes on its file system."},
            ),
        ),
        "Reloaded": _object(
            "*",
            changed=_array(_text(), "Tables of the file."),
            restarted_sources=_array(_text()),
            needs_restart=_array(_text(), "Keys that count at the next start only."),
        ),
        "Error": _object(
            "*",
            error=_object(
                "code",
                "message",
                code=_text(pattern="^[a-z0-9_]+$"),
                message=_text(),
                problems=_array(problem),
            ),
        ),
    }
