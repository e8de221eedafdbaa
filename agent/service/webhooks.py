"""The webhooks: their rows with how their delivery stands, and a marked sample to try one."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final, Literal, TypedDict

from agent.clock import timestamp
from agent.config import BasicAuth, draft
from agent.deliver.payload import new_message_id, render
from agent.deliver.policy import describe
from agent.deliver.template import shown
from agent.errors import StoreError
from agent.model import Callback, Device, DeviceState, Platform, Transition
from agent.reasons import ReasonCode
from agent.service.rows import Also, Json, Time, iso
from agent.threads import in_thread

if TYPE_CHECKING:
    from agent.clock import Clock
    from agent.config import Config, Webhook
    from agent.deliver.dispatcher import Dispatcher
    from agent.deliver.payload import Headers
    from agent.deliver.sender import Sender
    from agent.deliver.stats import WebhookStats
    from agent.model import Attempt
    from agent.service.live import Live
    from agent.store import Backlog

STORE_LIMIT: Final = 1.0
"""Seconds that the store may take to say what is pending: a disk that hangs hides no webhook."""


_SAMPLE: Final = Device(
    "device-agent-test", Platform.ANDROID, "TEST: no real device (webhooks test)"
)
_DRAFT: Final[Json] = {"name": "Webhook", "url": "http://localhost/", "events": ["online"]}
"""What a draft need not say."""


class WebhookSettings(TypedDict):
    """What the file says of a webhook, but for its secrets."""

    name: str
    url: str
    """Without userinfo and query, which may be secret."""
    description: str
    events: list[DeviceState]
    enabled: bool
    after: float
    """Seconds that a state must have lasted for it to count; 0: it counts at once."""
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


class LastAttempt(TypedDict):
    """The attempt that ended last."""

    at: Time
    duration_ms: int
    status: int | None
    error: str
    """Empty: it was answered 2xx."""


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
    last_attempt: LastAttempt | None
    """null: none since the agent started."""
    next_try: Time | None
    """When what waits is tried again; null: nothing waits, or it is disabled."""


class WebhookRow(WebhookSettings, _Delivery):
    """One webhook, and how the delivery to it stands."""

    id: int
    status: str
    """How its delivery stands, for people."""


class ListedWebhook(WebhookRow):
    """One webhook, and what deleting it would cancel."""

    pending: int | None
    """Callbacks that wait for it; of `waiting_devices` devices. null: the store cannot be read."""


class TlsShown(TypedDict):
    """TLS of one webhook: its files, not what is in them."""

    ca: str | None
    cert: str | None
    key: str | None
    verify: bool


class AuthShown(TypedDict):
    """How the agent shows an endpoint who it is, without the secret of it."""

    type: Literal["basic", "bearer"]
    username: str
    """Of `basic`."""


class _More(TypedDict):
    """The rest of the keys, as far as they are no secrets."""

    url_private: bool
    """Its URL has a query, a fragment or a userinfo, which is shown nowhere."""
    body: object
    """Of payload `custom`, any JSON value: a secret in it by its place. null: none."""
    backlog: Literal["all", "latest"]
    timeout: float | None
    """Seconds; null: that of [delivery]."""
    allow_link_local: bool
    proxy: str | None
    """Without userinfo; "": none; null: that of the environment."""
    proxy_private: bool
    """The proxy's URL has a userinfo, or `proxy_auth` is set."""
    tls: TlsShown
    secrets: int
    """With how many secrets callbacks are signed."""
    auth: AuthShown | None
    headers: list[str]
    """Their names."""


class WebhookDetail(ListedWebhook, _More):
    """One webhook, and all that is set of it but for its secrets."""


class KnownWebhook(WebhookSettings):
    """What is known of a webhook with an agent and without one, who reads the file alone."""

    id: int | None
    """None: only the agent knows it."""
    status: str


class KnownDetail(KnownWebhook, _More):
    """Likewise, and all that is set of it."""


class Draft(TypedDict, total=False):
    """As much of a webhook as its payload is made of; null: the default."""

    id: Annotated[int, Also(minimum=1)] | None
    """Default: 1, for one that has none yet."""
    org_id: Annotated[int, Also(minimum=1)] | None
    name: str | None
    events: list[DeviceState] | None
    """The sample tells of the first."""
    payload: str | None
    body: object


class Preview(TypedDict):
    """A marked sample of what a webhook would be sent, not sent."""

    headers: dict[str, str]
    """Those that belong to the body."""
    body: str
    """In a secret's place, where that is."""


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
    """As it was sent; in a secret's place, where that is."""


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
        self._judging = asyncio.Lock()

    async def rows(self) -> list[ListedWebhook]:
        """Rows of `/v1/webhooks`; no secrets, no userinfo or query of URLs."""
        pending = await self._pending()
        return [self._listed(id_, pending) for id_ in self._live.webhooks]

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

    async def show(self, name: str) -> WebhookDetail:
        """One of them, and all that is set of it; UnknownWebhookError."""
        pending = await self._pending()
        id_ = self._live.webhook_id(name)
        return {**self._listed(id_, pending), **more_of(self._live.webhooks[id_])}

    def _listed(self, id_: int, pending: dict[int, int] | None) -> ListedWebhook:
        return {**self.row(id_), "pending": None if pending is None else pending.get(id_, 0)}

    async def _pending(self) -> dict[int, int] | None:
        try:
            async with asyncio.timeout(STORE_LIMIT):
                return await self._backlog.sizes()
        except (TimeoutError, StoreError):
            return None

    async def test(self, name: str) -> SampleRow:
        """Send a marked sample to that webhook, once, and tell what came; UnknownWebhookError."""
        id_ = self._live.webhook_id(name)
        webhook = self._live.webhooks[id_]
        now = self._clock.wall_ms()
        message_id = new_message_id()
        body, headers = self._sample(webhook, message_id, now)
        sample = Callback(message_id, id_, _SAMPLE.udid, now, body, headers)
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
            "body": shown(body),
        }

    async def preview(self, fields: Json) -> Preview:
        """What a webhook like that would be sent; DraftRefusedError says all that is wrong.

        Anybody who reads may ask, and thousands of mistakes take a second to be told: in a thread,
        so that everything else goes on, and one at a time.
        """
        known = {key: value for key, value in fields.items() if value is not None}
        async with self._judging:
            webhook = await in_thread(partial(draft, {**_DRAFT, **known}), "judge a draft")
        if webhook.id is None:
            webhook = webhook.model_copy(update={"id": 1})
        body, headers = self._sample(webhook, new_message_id(), self._clock.wall_ms())
        return {"headers": dict(headers), "body": shown(body)}

    def _sample(self, webhook: Webhook, message_id: str, now: int) -> tuple[bytes, Headers]:
        why = "sent by `webhooks test`"
        return render(
            Transition(_SAMPLE.udid, None, webhook.events[0], why, now, code=ReasonCode.SAMPLE),
            _SAMPLE,
            webhook,
            org_id=self._live.config.org_of(webhook),
            message_id=message_id,
            created_ms=now,
            host=socket.gethostname(),
        )


def settings_row(webhook: Webhook, config: Config) -> WebhookSettings:
    """What the files say of a webhook."""
    origin = config.origin_of(webhook)
    return {
        "name": webhook.name,
        "url": webhook.url.bare,
        "description": webhook.description,
        "events": list(webhook.events),
        "enabled": webhook.enabled,
        "after": webhook.after,
        "org_id": config.org_of(webhook),
        "payload": webhook.payload,
        "devices": list(webhook.devices),
        "tags": list(webhook.tags),
        "platforms": list(webhook.platforms),
        "managed": origin is not None and origin.managed,
        "file": origin.file if origin is not None else "",
        "line": origin.line if origin is not None else 0,
    }


def more_of(webhook: Webhook) -> _More:
    """The rest of it, without secrets."""
    tls, auth, proxy = webhook.tls, webhook.auth, webhook.proxy
    username = auth.username if isinstance(auth, BasicAuth) else ""
    return {
        "url_private": not webhook.url.is_bare,
        "body": None if webhook.body is None else webhook.body.value,
        "backlog": webhook.backlog,
        "timeout": webhook.timeout,
        "allow_link_local": webhook.allow_link_local,
        "proxy": None if proxy is None else proxy.bare,
        "proxy_private": webhook.proxy_auth is not None or not (proxy is None or proxy.is_bare),
        "tls": {"ca": tls.ca, "cert": tls.cert, "key": tls.key, "verify": tls.verify},
        "secrets": len(webhook.secret),
        "auth": None if auth is None else {"type": auth.type, "username": username},
        "headers": [name for name, _ in webhook.headers],
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
        "last_attempt": None if stats.last_attempt is None else _attempt(stats.last_attempt),
        "next_try": iso(stats.next_try_ms),
    }


def _attempt(attempt: Attempt) -> LastAttempt:
    return {
        "at": timestamp(attempt.started_ms),
        "duration_ms": attempt.duration_ms,
        "status": attempt.status,
        "error": attempt.error,
    }
