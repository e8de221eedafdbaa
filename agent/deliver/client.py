"""Sends callbacks: the only outgoing HTTP for them. An attempt in, an `Answer` out, no error.

What is kept from one attempt to the next is an `Endpoint` for each webhook; where its requests go,
`destination` says; what an error means, `explain`. Files are read in threads, under the attempt's
limit: one that hangs holds up its webhook only.

What an answer or an error tells is free of secrets, of userinfo and of query strings, even when
the endpoint echoes what it was sent (see `redaction`).
"""

from __future__ import annotations

import asyncio
import functools
import time
from typing import TYPE_CHECKING, Final

from agent import __version__
from agent.deliver.destination import own_tls, tls_context
from agent.deliver.endpoint import CONNECT_SHARE, PATIENCE, Endpoint
from agent.deliver.explain import explain
from agent.deliver.policy import Answer
from agent.deliver.redaction import redact
from agent.deliver.template import MARK, unsealed
from agent.errors import AgentError
from agent.threads import SharedThread
from agent.wire.resolver import ThreadResolver

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    import aiohttp.abc

    from agent.config import Tls, Webhook
    from agent.model import Callback

TLS_TIME: Final = 10.0
"""Seconds for reading certificates."""
AT_ONCE: Final = 0.01
"""Seconds of preparing an attempt that are not taken off its limit."""


class Client:
    """Sends attempts for any number of webhooks; must be made and closed on the event loop."""

    def __init__(
        self,
        *,
        version: str = __version__,
        resolver: aiohttp.abc.AbstractResolver | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self._patience = patience
        self._user_agent = f"device-agent/{version}"
        self._resolver = resolver or ThreadResolver()
        self._endpoints: dict[int | None, Endpoint] = {}
        self._contexts: dict[Tls, SharedThread[ssl.SSLContext]] = {}
        """By what they are made of: those whose files are being read."""
        self._retired: set[Endpoint] = set()
        self._closing: set[asyncio.Task[None]] = set()

    async def attempt(
        self, webhook: Webhook, callback: Callback, now_ms: int, *, limit: float = 10.0
    ) -> Answer:
        """POST the callback once, within `limit` seconds (the webhook's own goes first).

        Raises nothing but CancelledError: whatever goes wrong is in the answer.
        """
        started = time.monotonic()
        limit = webhook.timeout or limit
        endpoint = self._known(webhook)
        private: list[str] = []
        try:
            if endpoint is None:
                endpoint = await self._make(webhook, limit)
            endpoint.users += 1
            values = await endpoint.secrets(limit)
            body = callback.body
            if MARK in body:
                held = () if webhook.body is None else webhook.body.held
                body = unsealed(body, values, held)
            headers = endpoint.headers(callback, body, now_ms // 1000, private, values)
            spent = time.monotonic() - started
            left = limit - spent if spent > AT_ONCE else limit
            answer = await endpoint.post(body, headers, left, private)
        except Exception as error:  # noqa: BLE001 - one bad endpoint must not end delivery
            kind, detail = explain(error, webhook.url, limit, limit * CONNECT_SHARE)
            answer = Answer(kind=kind, detail=redact(detail, private))
            let_go(error)
        finally:
            if endpoint is not None:
                endpoint.users -= 1
                if endpoint.retired and not endpoint.users:
                    self._close_soon(endpoint)
        duration_ms = round((time.monotonic() - started) * 1000)
        return answer._replace(started_ms=now_ms, duration_ms=duration_ms)

    def reconfigure(self, webhooks: Mapping[int, Webhook]) -> None:
        """Forget the sessions of webhooks that are gone or edited; attempts in flight end on them.

        Also of those with certificates of their own: the files may have been renewed.
        """
        for key, endpoint in list(self._endpoints.items()):
            webhook = endpoint.webhook
            if key is None or own_tls(webhook) or webhooks.get(key) != webhook:
                self._retire(self._endpoints.pop(key))

    async def close(self) -> None:
        """Close every session. Attempts must have ended or been cancelled before."""
        endpoints = [*self._endpoints.values(), *self._retired]
        self._endpoints.clear()
        self._retired.clear()
        await asyncio.gather(*self._closing, *[endpoint.close() for endpoint in endpoints])

    async def _make(self, webhook: Webhook, limit: float) -> Endpoint:
        context: ssl.SSLContext | bool = True
        if own_tls(webhook):
            context = await self._tls(webhook, limit)
            endpoint = self._known(webhook)  # another attempt may have been faster
            if endpoint is not None:
                return endpoint
        replaced = self._endpoints.pop(webhook.id, None)
        if replaced is not None:
            self._retire(replaced)
        endpoint = self._endpoints[webhook.id] = Endpoint(
            webhook, context, self._resolver, self._user_agent, self._patience
        )
        return endpoint

    async def _tls(self, webhook: Webhook, limit: float) -> ssl.SSLContext:
        """Reading certificates takes milliseconds of file and CPU time, or for ever."""
        reading = self._contexts.setdefault(webhook.tls, SharedThread())
        seconds = min(limit, TLS_TIME)
        try:
            async with asyncio.timeout(seconds):
                context = await reading.run(functools.partial(tls_context, webhook), "read tls")
        except TimeoutError:
            raise AgentError(
                f"the files under tls could not be read within {seconds:g} s:"
                " does their file system hang?"
            ) from None
        finally:
            if reading.idle:
                self._contexts.pop(webhook.tls, None)
        return context

    def _known(self, webhook: Webhook) -> Endpoint | None:
        endpoint = self._endpoints.get(webhook.id)
        if endpoint is None or endpoint.webhook is webhook:
            return endpoint
        if endpoint.webhook != webhook:
            return None
        endpoint.webhook = webhook
        return endpoint

    def _retire(self, endpoint: Endpoint) -> None:
        endpoint.retired = True
        self._retired.add(endpoint)
        if not endpoint.users:
            self._close_soon(endpoint)

    def _close_soon(self, endpoint: Endpoint) -> None:
        closing = asyncio.get_running_loop().create_task(endpoint.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        self._retired.discard(endpoint)


def let_go(error: BaseException) -> None:
    """Part an error, and those that it came from, from the frames that they went through.

    Such a frame (aiohttp's) knows the error in turn, and the whole request: eighty objects that go
    only when Python looks for garbage, which holds up the loop. Parted, they go at once.
    """
    several: list[BaseException | None] = [error]
    while several:
        each = several.pop()
        if each is not None and each.__traceback__ is not None:
            each.__traceback__ = None
            several += each.__cause__, each.__context__
