"""What a callback says: its body and the headers that belong to the body. Pure.

The body is made once, when the transition is recorded, and stays byte-identical over retries.

`standard`, the nine keys of the product document, in its order:
    creationTime, eventType, eventActivity, eventDescription, deviceUdid, deviceName, orgId,
    webhookId, webhookName
`extended`, behind those nine:
    previousState  "online" | "offline" | "utilizing" | "unplugged" | null (never seen before)
    reason         why, in the operator's words; "" where the state needs no reason
    holder         who uses the device; "" when nobody does
    platform       "android" | "ios"
    deviceModel    market name or model; "" if unknown
    host           name of the server the device hangs on
    portPath       USB port path, `1-4.2`; "" if unknown
    tags           list of the device's tags
    reasonCode     the reason's, for programs; "" where there is no reason
    causeId        what took several phones at once; "" where this one left alone
`cloudevents`: CloudEvents 1.0 over HTTP in binary mode: `ce-*` headers, the nine keys as data.
    `ce-reasoncode` and `ce-causeid` are left out where they would be empty, as its rules want it.
`custom`: the webhook's own `body`; its placeholders are the keys of `extended`.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from agent.clock import timestamp
from agent.deliver.template import fill
from agent.model import DeviceState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agent.config import Webhook
    from agent.config.model import PayloadFormat
    from agent.model import Device, Transition

EVENT_TYPE: Final = "DEVICE"
EVENT_ACTIVITY: Final[Mapping[DeviceState, str]] = MappingProxyType(
    {
        DeviceState.ONLINE: "device.status.online",
        DeviceState.OFFLINE: "device.status.offline",
        DeviceState.UTILIZING: "device.state.utilizing",
        DeviceState.UNPLUGGED: "device.state.unplugged",
    }
)
EVENT_DESCRIPTION: Final[Mapping[DeviceState, str]] = MappingProxyType(
    {
        DeviceState.ONLINE: "Online",
        DeviceState.OFFLINE: "Offline",
        DeviceState.UTILIZING: "Utilizing",
        DeviceState.UNPLUGGED: "Unplugged",
    }
)

_JSON: Final = ("Content-Type", "application/json")
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
# CloudEvents HTTP binding 1.0.2, section 3.1.3.2: printable ASCII but space, quote and percent
# goes into a header as it is; everything else percent-encoded.
_HEADER_SAFE: Final = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"%')


def new_message_id() -> str:
    """A `webhook-id`: 144 random bits, free of dots (which Standard Webhooks reserves)."""
    return "msg_" + secrets.token_urlsafe(18)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What callbacks are made of."""

    transition: Transition
    device: Device
    webhook: Webhook
    org_id: int
    message_id: str
    created: str
    host: str


Headers = tuple[tuple[str, str], ...]


class Format(NamedTuple):
    """What a payload is made of."""

    body: Callable[[_Facts], str]
    """As JSON."""
    headers: Callable[[_Facts], Headers]
    """Behind the content type."""


def _nine(facts: _Facts) -> dict[str, object]:
    state, device, webhook = facts.transition.state, facts.device, facts.webhook
    return {
        "creationTime": facts.created,
        "eventType": EVENT_TYPE,
        "eventActivity": EVENT_ACTIVITY[state],
        "eventDescription": EVENT_DESCRIPTION[state],
        "deviceUdid": device.udid,
        "deviceName": device.name,
        "orgId": facts.org_id,
        "webhookId": webhook.id,
        "webhookName": webhook.name,
    }


def _extended(facts: _Facts) -> dict[str, object]:
    transition, device = facts.transition, facts.device
    return {
        **_nine(facts),
        "previousState": transition.previous,
        "reason": transition.reason,
        "holder": transition.holder,
        "platform": device.platform,
        "deviceModel": device.model,
        "host": facts.host,
        "portPath": device.port,
        "tags": device.tags,
        "reasonCode": transition.code,
        "causeId": transition.cause,
    }


def _custom(facts: _Facts) -> str:
    body = facts.webhook.body
    assert body is not None, "a configuration without it is refused"
    return fill(body, _extended(facts))


def _cloudevents(facts: _Facts) -> Headers:
    transition = facts.transition
    return (
        ("ce-specversion", "1.0"),
        ("ce-id", facts.message_id),
        ("ce-source", "urn:device-agent:" + _header(facts.host)),
        ("ce-type", EVENT_ACTIVITY[transition.state]),
        ("ce-time", facts.created),
        ("ce-subject", _header(facts.device.udid)),
        *((("ce-reasoncode", _header(transition.code)),) if transition.code else ()),
        *((("ce-causeid", _header(transition.cause)),) if transition.cause else ()),
    )


def _no_headers(_facts: _Facts) -> Headers:
    return ()


FORMATS: Final[Mapping[PayloadFormat, Format]] = MappingProxyType(
    {
        "standard": Format(lambda facts: _ENCODER.encode(_nine(facts)), _no_headers),
        "extended": Format(lambda facts: _ENCODER.encode(_extended(facts)), _no_headers),
        "cloudevents": Format(lambda facts: _ENCODER.encode(_nine(facts)), _cloudevents),
        "custom": Format(_custom, _no_headers),
    }
)
"""By a webhook's `payload`."""


def render(
    transition: Transition,
    device: Device,
    webhook: Webhook,
    *,
    org_id: int,
    message_id: str,
    created_ms: int,
    host: str,
) -> tuple[bytes, Headers]:
    """Body and body headers of one callback, as the webhook's `payload` asks.

    The webhook's id must be resolved. `host` is this server's name. Never raises on what a phone
    calls itself: text that is no valid Unicode is replaced by `?`.
    """
    created = timestamp(created_ms)
    facts = _Facts(transition, device, webhook, org_id, message_id, created, host)
    body, headers = FORMATS[webhook.payload]
    return body(facts).encode("utf-8", "replace"), (_JSON, *headers(facts))


def _header(text: str) -> str:
    return quote(text, safe=_HEADER_SAFE, errors="replace")
