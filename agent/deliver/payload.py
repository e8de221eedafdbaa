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
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from agent.clock import timestamp
from agent.model import DeviceState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config import Webhook
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
# CloudEvents HTTP binding 1.0.2, section 3.1.3.2: printable ASCII but space, quote and percent
# goes into a header as it is; everything else percent-encoded.
_HEADER_SAFE: Final = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"%')


def new_message_id() -> str:
    """A `webhook-id`: 144 random bits, free of dots (which Standard Webhooks reserves)."""
    return "msg_" + secrets.token_urlsafe(18)


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
    activity = EVENT_ACTIVITY[transition.state]
    body: dict[str, object] = {
        "creationTime": created,
        "eventType": EVENT_TYPE,
        "eventActivity": activity,
        "eventDescription": EVENT_DESCRIPTION[transition.state],
        "deviceUdid": device.udid,
        "deviceName": device.name,
        "orgId": org_id,
        "webhookId": webhook.id,
        "webhookName": webhook.name,
    }
    headers: tuple[tuple[str, str], ...] = (_JSON,)
    if webhook.payload == "extended":
        body |= {
            "previousState": transition.previous,
            "reason": transition.reason,
            "holder": transition.holder,
            "platform": device.platform,
            "deviceModel": device.model,
            "host": host,
            "portPath": device.port,
            "tags": device.tags,
        }
    elif webhook.payload == "cloudevents":
        headers = (
            _JSON,
            ("ce-specversion", "1.0"),
            ("ce-id", message_id),
            ("ce-source", "urn:device-agent:" + _header(host)),
            ("ce-type", activity),
            ("ce-time", created),
            ("ce-subject", _header(device.udid)),
        )
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace"), headers


def _header(text: str) -> str:
    return quote(text, safe=_HEADER_SAFE, errors="replace")
