"""The webhooks: their rows with how their delivery stands, and a marked sample to try one."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, TypedDict

from agent.deliver.payload import new_message_id, render
from agent.deliver.policy import describe
from agent.errors import StoreError
from agent.model import Callback, Device, DeviceState, Platform, Transition
from agent.service.rows import Time, iso

if TYPE_CHECKING:
    from agent.clock import Clock
    from agent.config import Config, Webhook
    from agent.deliver.dispatcher import Dispatcher
    from agent.deliver.sender import Sender
    from agent.deliver.stats import WebhookStats
    from agent.service.live import Live
    from agent.store import Backlog


class WebhookSettings(TypedDict):
    """What the file says of a webhook, but for its secrets."""

    name: str
    url: str
    """Without userinfo and query, which may be secret."""
    description: str
    events: list[DeviceState]
    enabled: bool
    org_id: int
    payload: str
    devices: list[str]
    tags: list[str]
    platforms: list[Platform]
    managed: bool
    """It is in the agent's own file: the API may change and delete it."""
    file: str
    """In which it stands; "": in none."""
    line: int


class _Delivery(TypedDict, total=False):
    """Left out in the instant before the first callback may be sent."""

    paused: bool
    """Its endpoint answered 410."""
    waiting_devices: int
    """With callbacks that wait."""
    failures: int
    """Attempts in a row."""
    failing_since: Time | None
    last_error: str
    last_success: Time | None


class WebhookRow(WebhookSettings, _Delivery):
    """One webhook, and how the delivery to it stands."""

    id: int
    status: str
    """How its delivery stands, for people."""


class WebhookDetail(WebhookRow):
    """One webhook, and what deleting it would cancel."""

    pending: int | None
    """Callbacks that wait for it; of `waiting_devices` devices. null: the store cannot be read."""


class KnownWebhook(WebhookSettings):
    """What is known of a webhook with an agent and without one, who reads the file alone."""

    id: int | None
    """None: only the agent knows it."""
    status: str


class SampleRow(TypedDict):
    """What came of a marked sample."""

    webhook: str
    id: str
    """The `webhook-id` of its header."""
    url: str
    ok: bool
    """It was answered 2xx."""
    status: int | None
    error: str
    answer: str
    """At most 1 KiB of it."""
    duration_ms: int
    body: str
    """As it was sent."""


class Webhooks:
    """Reads the configuration in force and the dispatcher's state; tests through its sender."""

    def __init__(
        self, live: Live, dispatcher: Dispatcher, backlog: Backlog, sender: Sender, clock: Clock
    ) -> None:
        self._live = live
        self._backlog = backlog
        self._dispatcher = dispatcher
        self._sender = sender
        self._clock = clock

    def rows(self) -> list[WebhookRow]:
        """Rows of `/v1/webhooks`; no secrets, no userinfo or query of URLs."""
        return [self.row(id_) for id_ in self._live.webhooks]

    def row(self, id_: int) -> WebhookRow:
        """One of them."""
        webhook = self._live.webhooks[id_]
        stats = self._dispatcher.stats_of(id_)
        return {
            "id": id_,
            **settings_row(webhook, self._live.config),
            "status": _status(webhook, stats),
            **_delivery(stats),
        }

    async def show(self, id_: int) -> WebhookDetail:
        """One of them, and how many callbacks wait for it."""
        pending: int | None
        try:
            pending = (await self._backlog.sizes()).get(id_, 0)
        except StoreError:
            pending = None
        return {**self.row(id_), "pending": pending}

    async def test(self, name: str) -> SampleRow:
        """Send a marked sample to that webhook, once, and tell what came; UnknownWebhookError."""
        id_ = self._live.webhook_id(name)
        webhook = self._live.webhooks[id_]
        now = self._clock.wall_ms()
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
        answer = await self._sender.attempt(webhook, sample, now, limit=limit)
        return {
            "webhook": webhook.name,
            "id": message_id,
            "url": webhook.url.bare,
            "ok": answer.status is not None and 200 <= answer.status < 300,  # noqa: PLR2004 - 2xx
            "status": answer.status,
            "error": describe(answer),
            "answer": answer.excerpt,
            "duration_ms": answer.duration_ms,
            "body": body.decode(),
        }


def settings_row(webhook: Webhook, config: Config) -> WebhookSettings:
    """What the files say of a webhook."""
    origin = config.origin_of(webhook)
    return {
        "name": webhook.name,
        "url": webhook.url.bare,
        "description": webhook.description,
        "events": list(webhook.events),
        "enabled": webhook.enabled,
        "org_id": config.org_of(webhook),
        "payload": webhook.payload,
        "devices": list(webhook.devices),
        "tags": list(webhook.tags),
        "platforms": list(webhook.platforms),
        "managed": origin is not None and origin.managed,
        "file": origin.file if origin is not None else "",
        "line": origin.line if origin is not None else 0,
    }


def _status(webhook: Webhook, stats: WebhookStats | None) -> str:
    if stats is None:  # asked in the instant before the dispatcher starts
        return "starting"
    if not webhook.enabled:
        return "disabled"
    if stats.paused:
        return f"paused: {stats.paused}"
    if stats.failing_since_ms:
        return f"failing since {iso(stats.failing_since_ms)}: {stats.last_error}"
    return "good"


def _delivery(stats: WebhookStats | None) -> _Delivery:
    if stats is None:
        return {}
    return {
        "paused": bool(stats.paused),
        "waiting_devices": stats.lanes,
        "failures": stats.failures,
        "failing_since": iso(stats.failing_since_ms),
        "last_error": stats.last_error,
        "last_success": iso(stats.last_success_ms),
    }
