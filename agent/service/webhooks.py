"""The webhooks: their rows with how their delivery stands, and a marked sample to try one."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from yarl import URL

from agent.clock import wall_ms
from agent.deliver.client import bare_url
from agent.deliver.payload import new_message_id, render
from agent.deliver.policy import describe
from agent.model import Callback, Device, Platform, Transition
from agent.service.rows import iso

if TYPE_CHECKING:
    from agent.config import Webhook
    from agent.deliver.client import Client
    from agent.deliver.dispatcher import Dispatcher, WebhookStats
    from agent.service.live import Live
    from agent.service.rows import Json


class Webhooks:
    """Reads the configuration in force and the dispatcher's state; tests through its client."""

    def __init__(self, live: Live, dispatcher: Dispatcher, client: Client) -> None:
        self._live = live
        self._dispatcher = dispatcher
        self._client = client

    def rows(self) -> list[Json]:
        """Rows of `/v1/webhooks`; no secrets, no userinfo or query of URLs."""
        return [self.row(id_) for id_ in self._live.webhooks]

    def row(self, id_: int) -> Json:
        """One of them."""
        webhook = self._live.webhooks[id_]
        return {
            **settings_row(webhook, id_, self._live.config.org_of(webhook)),
            **_delivery_state(webhook, self._dispatcher.stats_of(id_)),
        }

    async def test(self, name: str) -> Json:
        """Send a marked sample to that webhook, once, and tell what came; UnknownWebhookError."""
        id_ = self._live.webhook_id(name)
        webhook = self._live.webhooks[id_]
        now = wall_ms()
        message_id = new_message_id()
        transition = Transition(
            "device-agent-test", None, webhook.events[0], "sent by `webhooks test`", now
        )
        device = Device(
            "device-agent-test", Platform.ANDROID, "TEST: no real device (webhooks test)"
        )
        body, headers = render(
            transition,
            device,
            webhook,
            org_id=self._live.config.org_of(webhook),
            message_id=message_id,
            created_ms=now,
            host=socket.gethostname(),
        )
        sample = Callback(message_id, id_, device.udid, now, body, headers)
        limit = webhook.timeout or self._live.config.delivery.timeout
        answer = await self._client.attempt(webhook, sample, now, limit=limit)
        return {
            "webhook": webhook.name,
            "id": message_id,
            "url": bare_url(URL(webhook.url)),
            "ok": answer.status is not None and 200 <= answer.status < 300,  # noqa: PLR2004 - 2xx
            "status": answer.status,
            "error": describe(answer),
            "answer": answer.excerpt,
            "duration_ms": answer.duration_ms,
            "body": body.decode(),
        }


def settings_row(webhook: Webhook, id_: int | None, org_id: int) -> Json:
    """What the file says of a webhook, as JSON, but for its secrets; id None: not known."""
    return {
        "id": id_,
        "name": webhook.name,
        "url": bare_url(URL(webhook.url)),
        "description": webhook.description,
        "events": [str(event) for event in webhook.events],
        "enabled": webhook.enabled,
        "org_id": org_id,
        "payload": webhook.payload,
        "devices": list(webhook.devices),
        "tags": list(webhook.tags),
        "platforms": [str(platform) for platform in webhook.platforms],
    }


def _delivery_state(webhook: Webhook, stats: WebhookStats | None) -> Json:
    """How a webhook's delivery stands, for people (`status`) and programs."""
    if stats is None:  # asked in the instant before the dispatcher starts
        return {"status": "starting"}
    if not webhook.enabled:
        status = "disabled"
    elif stats.paused:
        status = f"paused: {stats.paused}"
    elif stats.failing_since_ms:
        status = f"failing since {iso(stats.failing_since_ms)}: {stats.last_error}"
    else:
        status = "good"
    return {
        "status": status,
        "paused": bool(stats.paused),
        "waiting_devices": stats.lanes,
        "failures": stats.failures,
        "failing_since": iso(stats.failing_since_ms),
        "last_error": stats.last_error,
        "last_success": iso(stats.last_success_ms),
    }
