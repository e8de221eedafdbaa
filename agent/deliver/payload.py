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
`cloudevents`: CloudEvents 1.0 over HTTP in binary mode: `ce-*` headers, the nine keys as data.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from agent.clock import timestamp
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
    message_id: str
    created: str
    host: str


class Format(NamedTuple):
    """What a payload carries besides the nine keys and the content type."""

    keys: Callable[[_Facts], dict[str, object]]
    """Behind the nine, in this order."""
    headers: Callable[[_Facts], tuple[tuple[str, str], ...]]


def _extended(facts: _Facts) -> dict[str, object]:
    transition, device = facts.transition, facts.device
    return {
        "previousState": transition.previous,
        "reason": transition.reason,
        "holder": transition.holder,
        "platform": device.platform,
        "deviceModel": device.model,
        "host": facts.host,
        "portPath": device.port,
        "tags": device.tags,
    }


def _cloudevents(facts: _Facts) -> tuple[tuple[str, str], ...]:
    return (
        ("ce-specversion", "1.0"),
        ("ce-id", facts.message_id),
        ("ce-source", "urn:device-agent:" + _header(facts.host)),
        ("ce-type", EVENT_ACTIVITY[facts.transition.state]),
        ("ce-time", facts.created),
        ("ce-subject", _header(facts.device.udid)),
    )


FORMATS: Final[Mapping[PayloadFormat, Format]] = MappingProxyType(
    {
        "standard": Format(lambda _: {}, lambda _: ()),
        "extended": Format(_extended, lambda _: ()),
        "cloudevents": Format(lambda _: {}, _cloudevents),
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
) -> tuple[bytes, tuple[tuple[str, str], ...]]:
    """Body and body headers of one callback, as the webhook's `payload` asks.

    The webhook's id must be resolved. `host` is this server's name. Never raises on what a phone
    calls itself: text that is no valid Unicode is replaced by `?`.
    """
    created = timestamp(created_ms)
    facts = _Facts(transition, device, message_id, created, host)
    keys, headers = FORMATS[webhook.payload]
    body: dict[str, object] = {
        "creationTime": created,
        "eventType": EVENT_TYPE,
        "eventActivity": EVENT_ACTIVITY[transition.state],
        "eventDescription": EVENT_DESCRIPTION[transition.state],
        "deviceUdid": device.udid,
        "deviceName": device.name,
        "orgId": org_id,
        "webhookId": webhook.id,
        "webhookName": webhook.name,
        **keys(facts),
    }
    return _ENCODER.encode(body).encode("utf-8", "replace"), (_JSON, *headers(facts))


def _header(text: str) -> str:
    return quote(text, safe=_HEADER_SAFE, errors="replace")
