"""One webhook's endpoint: its session, what stays the same from attempt to attempt, its requests.

Every webhook has a session of its own, so that pools, TLS contexts and DNS lookups of one cannot
hold up another; the environment's proxies (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`) are read when
it is built, unless the webhook names its own or none. No redirects, no cookies, no decompression,
no `.netrc`.

The status decides, as soon as it is there (see `answers`). Of the answer's body at most BODY_LIMIT
bytes are read, for at most PATIENCE seconds; an endless, dripping, broken or oversized body costs
the connection, never a success.

An attempt is one request, with one exception: when a kept-alive connection turns out to have been
closed by the endpoint (no byte of an answer came), the same request goes out once more, at once,
on a new one, never on another kept one. Receivers tell such twins by their `webhook-id`, as they
do retries.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextvars import ContextVar
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import aiohttp.abc
from multidict import CIMultiDict
from yarl import URL

from agent.config.secret import Kind, PrivateUrl, Secret
from agent.deliver.answers import Connection, Connector, Head
from agent.deliver.destination import as_written, proxy_for, refuse_address
from agent.deliver.policy import EXCERPT, Answer
from agent.deliver.redaction import (
    basic_auth,
    cut,
    private_parts,
    query_as_written,
    redact,
    redirect_target,
)
from agent.deliver.signing import PREFIX, Signer
from agent.errors import SecretError
from agent.threads import SharedThread

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

    from aiohappyeyeballs import AddrInfoType

    from agent.config import BasicAuth, Webhook
    from agent.model import Callback

BODY_LIMIT: Final = 16 * 1024
"""Bytes of an answer's body that are read at most."""
PATIENCE: Final = 2.0
"""Seconds that the rest of its head is waited for, once the status is there; then, its body."""
CONNECT_SHARE: Final = 0.9
"""Of an attempt's time: a connection that takes longer leaves no time for an answer."""
KEEPALIVE: Final = 15.0
"""Seconds an idle connection is kept: less than servers and NATs commonly do."""
KEY_PART: Final = 8
"""Characters of a part of a URL's secret path that is a secret by itself; less is a word."""


class _StaleError(Exception):
    """A kept-alive connection had been closed by the endpoint: no byte of an answer came."""


class _Sending:
    """What is known of one request on its way, whatever comes of it."""

    __slots__ = ("connection", "opened")

    def __init__(self) -> None:
        self.opened = False
        """Whether a socket was opened for it; if not, it went over a kept one."""
        self.connection: Connection | None = None
        """Over which it went: not the one to the proxy, whose answer is none."""


_SENDING: Final[ContextVar[_Sending]] = ContextVar("sending")
"""Found by what aiohttp calls in the same task, or in tasks made by it."""


class _Response(aiohttp.ClientResponse):
    """aiohttp's; tells over which connection it is expected."""

    async def start(self, connection: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        """Wait for the head."""
        protocol = connection.protocol
        assert isinstance(protocol, Connection)
        _SENDING.get().connection = protocol
        return await super().start(connection)


class Endpoint:
    """One webhook's session, and what stays the same from attempt to attempt."""

    def __init__(
        self,
        webhook: Webhook,
        tls: ssl.SSLContext | bool,
        resolver: aiohttp.abc.AbstractResolver,
        user_agent: str,
        patience: float,
    ) -> None:
        self._patience = patience
        self.webhook = webhook
        self._user_agent = user_agent
        self.users = 0
        self.retired = False
        self._tls = tls
        url = URL(webhook.url)
        # aiohttp would send the URL's userinfo in Latin-1; everything else is UTF-8.
        self._url = as_written(webhook.url)
        self._base = url.with_user(None)
        self._userinfo = basic_auth(url)
        self._secrets = _secrets(webhook)
        self._in_files = any(each.kind in {Kind.FILE, Kind.CREDENTIAL} for each in self._secrets)
        self._reading: SharedThread[dict[Secret, str]] = SharedThread()
        self._resolver = resolver
        self._timeout = aiohttp.ClientTimeout()
        self._signer: tuple[tuple[str, ...], Signer | None] = ((), None)
        self._proxy, credentials, private = proxy_for(webhook, self._url)
        self._private = [*query_as_written(self._url), *private]
        for _, each in webhook.secrets():
            if isinstance(each, PrivateUrl):
                parts = [part for part in each.key.split("/") if len(part) >= KEY_PART]
                self._private += (*private_parts(URL(each)), each.key, *parts)
        # A proxy gets them with the request itself, or with the CONNECT that goes before TLS.
        self._tunnel = self._url.scheme == "https"
        self._proxy_headers = credentials if self._tunnel else None
        self._with_request = {} if self._tunnel else credentials
        self._link_local = webhook.allow_link_local
        if self._proxy is not None and self._url.host and not self._link_local:
            # The socket factory sees the proxy only; an address in the URL can still be told.
            refuse_address(self._url.host)
        self._session = self._open(keepalive_timeout=KEEPALIVE)
        self._afresh: aiohttp.ClientSession | None = None
        """For what must not go over a kept connection; made when it is needed."""

    def _open(self, **more: Any) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=Connector(
                self._patience,
                limit=0,  # the dispatcher bounds concurrency; a pool queue would eat the timeout
                resolver=self._resolver,
                socket_factory=self._open_socket,
                **more,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            # trust_env would look into the environment and .netrc in a thread at every request.
            trust_env=False,
            read_bufsize=BODY_LIMIT,
            response_class=_Response,
        )

    async def secrets(self, limit: float) -> dict[Secret, str]:
        """The values of all that the webhook uses, read anew. Raises SecretError."""
        if not self._secrets:
            return {}
        if not self._in_files:
            return {each: each.read() for each in self._secrets}

        def read() -> dict[Secret, str]:
            return {each: each.read() for each in self._secrets}

        try:
            async with asyncio.timeout(limit):
                return await self._reading.run(read, "read secrets")
        except TimeoutError:
            places = ", ".join(str(e) for e in self._secrets if e.kind is not Kind.INLINE)
            raise SecretError(
                f"not read within {limit:g} s: {places}; does the file system hang?"
            ) from None

    def headers(
        self,
        callback: Callback,
        body: bytes,
        timestamp: int,
        private: list[str],
        values: Mapping[Secret, str],
    ) -> CIMultiDict[str]:
        """All headers of an attempt to send `body`; puts what must not be shown into `private`.

        Own headers come first: none of them can take the place of those that make the callback.
        Raises SecretError: a secret that is no key.
        """
        webhook = self.webhook
        private += self._private
        for value in values.values():
            private += (value, value.removeprefix(PREFIX))
        headers: CIMultiDict[str] = CIMultiDict()
        for name, secret in webhook.headers:
            headers[name] = values[secret]
        headers["User-Agent"] = self._user_agent
        headers["Accept-Encoding"] = "identity"
        for name, value in callback.headers:
            headers[name] = value
        headers["webhook-id"] = callback.message_id
        headers["webhook-timestamp"] = str(timestamp)
        if webhook.secret:
            texts = tuple([values[secret] for secret in webhook.secret])
            known, signer = self._signer
            if signer is None or texts != known:
                signer = Signer(texts)
                self._signer = (texts, signer)
            headers["webhook-signature"] = signer.sign(callback.message_id, timestamp, body)
        auth = webhook.auth
        if auth is not None:
            if auth.type == "basic":
                value = aiohttp.encode_basic_auth(auth.username, values[auth.password])
                private.append(value.removeprefix("Basic "))
            else:
                value = f"Bearer {values[auth.token]}"
            headers["Authorization"] = value
        elif self._userinfo:
            headers["Authorization"] = self._userinfo
        headers.update(self._with_request)
        if webhook.proxy_auth is not None:
            password = values[webhook.proxy_auth.password]
            self._authorise_to_proxy(webhook.proxy_auth, password, headers, private)
        return headers

    def _authorise_to_proxy(
        self, auth: BasicAuth, password: str, headers: CIMultiDict[str], private: list[str]
    ) -> None:
        value = aiohttp.encode_basic_auth(auth.username, password)
        private.append(value.removeprefix("Basic "))
        if self._tunnel:
            # aiohttp opens a new tunnel for other headers: a changed password counts at once.
            self._proxy_headers = {"Proxy-Authorization": value}
        else:
            headers["Proxy-Authorization"] = value

    async def post(
        self, body: bytes, headers: CIMultiDict[str], limit: float, private: list[str]
    ) -> Answer:
        """One POST; its answer, but for the times. Raises what aiohttp raises."""
        end = time.monotonic() + limit
        try:
            head, response = await self._send(self._session, body, headers, limit)
        except _StaleError:
            if self._afresh is None:
                self._afresh = self._open(force_close=True)
            left = end - time.monotonic()
            head, response = await self._send(self._afresh, body, headers, left)
        try:
            excerpt = (
                ""
                if response is None
                else await _excerpt(response.content, private, self._patience)
            )
        finally:
            if response is not None:
                # Keeps the connection if the body was read to its end, drops it otherwise.
                response.close()
        status = head.status
        if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            return Answer(status, excerpt=excerpt)
        target = ""
        if status < HTTPStatus.BAD_REQUEST:
            target = redirect_target(self._base, head.location, private)[:EXCERPT]
        return Answer(status, retry_after=head.retry_after, target=target, excerpt=excerpt)

    async def close(self) -> None:
        """Close the sessions and their connections."""
        await self._session.close()
        if self._afresh is not None:
            await self._afresh.close()

    async def _send(
        self, session: aiohttp.ClientSession, body: bytes, headers: CIMultiDict[str], limit: float
    ) -> tuple[Head, aiohttp.ClientResponse | None]:
        """One request; no response: it broke off behind its status. Raises likewise."""
        if limit <= 0:
            raise TimeoutError
        if self._timeout.total != limit:
            self._timeout = aiohttp.ClientTimeout(total=limit, connect=limit * CONNECT_SHARE)
        sending = _Sending()
        _SENDING.set(sending)
        try:
            response = await session.post(
                self._url,
                data=body,
                headers=headers,
                allow_redirects=False,
                timeout=self._timeout,
                ssl=self._tls,
                proxy=self._proxy,
                proxy_headers=self._proxy_headers,
            )
        except Exception as error:
            connection = sending.connection
            if connection is not None and connection.answered is not None:
                return connection.answered, None
            if (
                isinstance(
                    error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError | ConnectionError
                )
                and not isinstance(error, aiohttp.ClientConnectorError)
                and not sending.opened
                and (connection is None or not connection.heard)
            ):
                raise _StaleError from error
            raise
        assert sending.connection is not None
        return sending.connection.answered or Head(response.status), response

    def _open_socket(self, address: AddrInfoType) -> socket.socket:
        family, kind, proto, _, where = address
        if not self._link_local:
            refuse_address(str(where[0]))
        sending = _SENDING.get(None)
        if sending is not None:
            sending.opened = True
        return socket.socket(family, kind, proto)


def _secrets(webhook: Webhook) -> list[Secret]:
    """All secrets that an attempt of it needs."""
    return [each for _, each in webhook.secrets() if isinstance(each, Secret)]


async def _excerpt(content: aiohttp.StreamReader, private: list[str], patience: float) -> str:
    """The start of an answer's text; whatever is wrong with the body is not the caller's matter."""
    chunks: list[bytes] = []
    size = 0
    try:
        if not content.is_eof():
            async with asyncio.timeout(patience):
                while size < BODY_LIMIT and not content.at_eof():
                    chunk = await content.readany()
                    chunks.append(chunk)
                    size += len(chunk)
        else:
            chunks.append(content.read_nowait())
    except Exception:  # noqa: BLE001, S110 - the status is there: nothing behind it can undo it
        pass
    data = b"".join(chunks)
    if not data:
        return ""
    text = data[:BODY_LIMIT].decode("utf-8", "replace")
    return cut(redact(text, private))
