"""Sends callbacks: the only outgoing HTTP for them. An attempt in, an `Answer` out, no error.

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

Files are read in threads, under the attempt's limit: one that hangs holds up its webhook only.

What an answer or an error tells is free of secrets, of userinfo and of query strings, even when
the endpoint echoes what it was sent.
"""

from __future__ import annotations

import asyncio
import base64
import errno
import functools
import html
import ipaddress
import json
import os
import socket
import ssl
import time
from contextvars import ContextVar
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus, unquote
from urllib.request import getproxies

import aiohttp
import aiohttp.abc
from multidict import CIMultiDict
from yarl import URL

from agent import __version__
from agent.address import bracketed, host_port
from agent.config.secret import Kind, PrivateUrl, Secret
from agent.deliver import no_proxy
from agent.deliver.answers import Connection, Connector, Head
from agent.deliver.policy import EXCERPT, Answer, ErrorKind
from agent.deliver.signing import PREFIX, Signer
from agent.errors import AgentError, SecretError
from agent.threads import SharedThread
from agent.wire.resolver import ThreadResolver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from aiohappyeyeballs import AddrInfoType

    from agent.config import BasicAuth, Webhook
    from agent.model import Callback

BODY_LIMIT: Final = 16 * 1024
"""Bytes of an answer's body that are read at most."""
PATIENCE: Final = 2.0
"""Seconds that the rest of its head is waited for, once the status is there; then, its body."""
TLS_TIME: Final = 10.0
"""Seconds for reading certificates."""
AT_ONCE: Final = 0.01
"""Seconds of preparing an attempt that are not taken off its limit."""
CONNECT_SHARE: Final = 0.9
"""Of an attempt's time: a connection that takes longer leaves no time for an answer."""
KEEPALIVE: Final = 15.0
"""Seconds an idle connection is kept: less than servers and NATs commonly do."""
_LINK_LOCAL: Final = (ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10"))
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))
_SHORTEST_REDACTED: Final = 4
"""Shorter secrets would turn an excerpt into stars, and guard nothing."""


class Client:
    """Sends attempts for any number of webhooks; must be made and closed on the event loop."""

    def __init__(
        self,
        *,
        version: str = __version__,
        resolver: aiohttp.abc.AbstractResolver | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        patience: float = PATIENCE,
    ) -> None:
        self._patience = patience
        self._user_agent = f"device-agent/{version}"
        self._resolver = resolver or ThreadResolver()
        self._monotonic = monotonic
        self._endpoints: dict[int | None, _Endpoint] = {}
        self._contexts: dict[tuple[object, ...], SharedThread[ssl.SSLContext]] = {}
        """By what they are made of: those whose files are being read."""
        self._retired: set[_Endpoint] = set()
        self._closing: set[asyncio.Task[None]] = set()

    async def attempt(
        self, webhook: Webhook, callback: Callback, now_ms: int, *, limit: float = 10.0
    ) -> Answer:
        """POST the callback once, within `limit` seconds (the webhook's own goes first).

        Raises nothing but CancelledError: whatever goes wrong is in the answer.
        """
        started = self._monotonic()
        limit = webhook.timeout or limit
        endpoint = self._known(webhook)
        private: list[str] = []
        fields: dict[str, Any]
        try:
            if endpoint is None:
                endpoint = await self._make(webhook, limit)
            endpoint.users += 1
            values = await endpoint.secrets(limit)
            headers = endpoint.headers(callback, now_ms // 1000, private, values)
            spent = self._monotonic() - started
            left = limit - spent if spent > AT_ONCE else limit
            fields = await endpoint.post(callback.body, headers, left, private)
        except Exception as error:  # noqa: BLE001 - one bad endpoint must not end delivery
            kind, detail = _explain(error, webhook.url, limit)
            fields = {"kind": kind, "detail": redact(detail, private)}
            _let_go(error)
        finally:
            if endpoint is not None:
                endpoint.users -= 1
                if endpoint.retired and not endpoint.users:
                    self._close_soon(endpoint)
        duration_ms = round((self._monotonic() - started) * 1000)
        return Answer(started_ms=now_ms, duration_ms=duration_ms, **fields)

    def reconfigure(self, webhooks: Mapping[int, Webhook]) -> None:
        """Forget the sessions of webhooks that are gone or edited; attempts in flight end on them.

        Also of those with certificates of their own: the files may have been renewed.
        """
        for key, endpoint in list(self._endpoints.items()):
            webhook = endpoint.webhook
            if key is None or _own_tls(webhook) or webhooks.get(key) != webhook:
                self._retire(self._endpoints.pop(key))

    async def close(self) -> None:
        """Close every session. Attempts must have ended or been cancelled before."""
        endpoints = [*self._endpoints.values(), *self._retired]
        self._endpoints.clear()
        self._retired.clear()
        await asyncio.gather(*self._closing, *[endpoint.close() for endpoint in endpoints])

    async def _make(self, webhook: Webhook, limit: float) -> _Endpoint:
        context: ssl.SSLContext | bool = True
        if _own_tls(webhook):
            context = await self._tls(webhook, limit)
            endpoint = self._known(webhook)  # another attempt may have been faster
            if endpoint is not None:
                return endpoint
        replaced = self._endpoints.pop(webhook.id, None)
        if replaced is not None:
            self._retire(replaced)
        endpoint = self._endpoints[webhook.id] = _Endpoint(
            webhook, context, self._resolver, self._user_agent, self._patience
        )
        return endpoint

    async def _tls(self, webhook: Webhook, limit: float) -> ssl.SSLContext:
        """Reading certificates takes milliseconds of file and CPU time, or for ever."""
        tls = webhook.tls
        made_of = (tls.ca, tls.cert, tls.key, tls.verify)
        reading = self._contexts.setdefault(made_of, SharedThread())
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
                self._contexts.pop(made_of, None)
        return context

    def _known(self, webhook: Webhook) -> _Endpoint | None:
        endpoint = self._endpoints.get(webhook.id)
        if endpoint is None or endpoint.webhook is webhook:
            return endpoint
        if endpoint.webhook != webhook:
            return None
        endpoint.webhook = webhook
        return endpoint

    def _retire(self, endpoint: _Endpoint) -> None:
        endpoint.retired = True
        self._retired.add(endpoint)
        if not endpoint.users:
            self._close_soon(endpoint)

    def _close_soon(self, endpoint: _Endpoint) -> None:
        closing = asyncio.get_running_loop().create_task(endpoint.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        self._retired.discard(endpoint)


def _own_tls(webhook: Webhook) -> bool:
    """Whether it needs a context of its own; all others share aiohttp's."""
    tls = webhook.tls
    return bool(tls.ca or tls.cert) or not tls.verify


def tls_context(webhook: Webhook) -> ssl.SSLContext:
    """The TLS context of a webhook's own `tls` table. Blocking.

    Raises AgentError naming the file that cannot be used.
    """
    tls = webhook.tls
    try:
        context = ssl.create_default_context(cafile=tls.ca)
    except (OSError, ValueError) as error:
        raise AgentError(f"tls.ca {tls.ca}: {_os_words(error)}; it must be a PEM file") from None
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert:
        try:
            # A passphrase would be asked for on the terminal, which a daemon has not.
            context.load_cert_chain(tls.cert, tls.key, password=_no_passphrase)
        except (OSError, ValueError) as error:
            files = f"tls.cert {tls.cert}" + (f", tls.key {tls.key}" if tls.key else "")
            raise AgentError(f"{files}: {_os_words(error)}") from None
    return context


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase; give the agent a key without one")


class _ForbiddenAddressError(OSError):
    """A destination that callbacks never go to."""


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


class _Endpoint:
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
        self._userinfo = _basic_auth(url)
        self._secrets = _secrets(webhook)
        self._in_files = any(each.kind in {Kind.FILE, Kind.CREDENTIAL} for each in self._secrets)
        self._reading: SharedThread[dict[Secret, str]] = SharedThread()
        self._resolver = resolver
        self._timeout = aiohttp.ClientTimeout()
        self._signer: tuple[tuple[str, ...], Signer | None] = ((), None)
        self._proxy, credentials, private = proxy_for(webhook, self._url)
        self._private = [*_query_as_written(self._url), *private]
        for _, each in webhook.secrets():
            if isinstance(each, PrivateUrl):
                self._private += private_parts(URL(each))
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
        timestamp: int,
        private: list[str],
        values: Mapping[Secret, str],
    ) -> CIMultiDict[str]:
        """All headers of an attempt; puts what must not be shown into `private`.

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
            headers["webhook-signature"] = signer.sign(
                callback.message_id, timestamp, callback.body
            )
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
    ) -> dict[str, Any]:
        """One POST; returns the fields of an `Answer`. Raises what aiohttp raises."""
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
        fields: dict[str, Any] = {"status": head.status, "excerpt": excerpt}
        if head.status >= HTTPStatus.MULTIPLE_CHOICES or head.status < HTTPStatus.OK:
            fields["retry_after"] = head.retry_after
            if head.status < HTTPStatus.BAD_REQUEST:
                fields["target"] = _target(self._base, head.location, private)[:EXCERPT]
        return fields

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


def refuse_address(host: str) -> None:
    """The one place for rules about destination addresses.

    Raises OSError for a link-local address (cloud metadata), also written as IPv4 in IPv6.
    Private ranges and loopback are fine: labs are there. A name is fine: it is looked at again
    as an address when it connects.
    """
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in _LINK_LOCAL):
        raise _ForbiddenAddressError(
            errno.EACCES,
            f"{address} is a link-local address (cloud metadata lives there):"
            " callbacks are not sent to it unless the webhook sets allow_link_local = true",
        )


def as_written(text: str) -> URL:
    """A checked URL, to be sent with its path and query as they stand in the file.

    A signature in a query may be one of its very spelling (`%2F`, `%7E`, a bare `?`). Only what no
    request line can carry is percent-encoded. Userinfo and fragment are left out.
    """
    parsed = URL(text)
    _, _, rest = text.partition("://")
    start = next((place for place, each in enumerate(rest) if each in "/?#"), len(rest))
    target = rest[start:].partition("#")[0]
    if not target.startswith("/"):
        target = "/" + target
    host = parsed.raw_host or ""
    port = parsed.explicit_port
    return URL.build(
        scheme=parsed.scheme,
        authority=bracketed(host) if port is None else host_port(host, port),
        # yarl would drop a bare `?`: for it, all of this is a path.
        path=quote(target, safe=_PRINTABLE),
        encoded=True,
    )


def _secrets(webhook: Webhook) -> list[Secret]:
    """All secrets that an attempt of it needs."""
    return [each for _, each in webhook.secrets() if isinstance(each, Secret)]


def bare_url(url: URL) -> str:
    """A URL without userinfo, query and fragment: fit for messages."""
    return str(url.with_user(None).with_query(None).with_fragment(None))


def proxy_for(webhook: Webhook, url: URL) -> tuple[URL | None, dict[str, str], list[str]]:
    """The webhook's proxy, else the environment's as urllib reads it; its credentials; secrets.

    Which hosts go past the environment's, `no_proxy` says.

    The credentials are a header, the secrets those of the proxy's own URL, for redaction.
    """
    text: str | None = webhook.proxy
    if text is None and not no_proxy.bypasses(url.host or "", url.port, os.environ):
        text = getproxies().get(url.scheme)
    if not text:
        return None, {}, []
    proxy = URL(text if "://" in text else f"http://{text}")
    value = _basic_auth(proxy)
    credentials = {"Proxy-Authorization": value} if value else {}
    return proxy.with_user(None), credentials, private_parts(proxy)


def _basic_auth(url: URL) -> str:
    """A URL's userinfo as the value of a header; "" if it has none."""
    user, password = url.user or "", url.password or ""
    return aiohttp.encode_basic_auth(user, password) if user or password else ""


def private_parts(url: URL) -> list[str]:
    """What is secret of a URL, as it is and as it is sent: userinfo, query, fragment."""
    return [
        *(url.raw_user or "", url.raw_password or "", url.user or "", url.password or ""),
        _basic_auth(url).removeprefix("Basic "),
        *(url.raw_query_string, url.query_string, url.raw_fragment, url.fragment),
        *(value or name for name, value in url.query.items()),
    ]


def _query_as_written(url: URL) -> list[str]:
    """What is secret of a URL that `as_written` made, in the spelling that an endpoint gets."""
    query = url.raw_path.partition("?")[2]
    pairs = [pair.partition("=") for pair in query.split("&")]
    return [query, *(value or name for name, _, value in pairs)]


def _target(url: URL, location: str, private: list[str]) -> str:
    """Where a redirect goes; of its path nothing if that repeats a secret, in whatever spelling."""
    if not location:
        return ""
    try:
        target = url.join(URL(location))
        path = unquote(target.path)
        return f"{target.origin()}/***" if redact(path, private) != path else bare_url(target)
    except ValueError:
        return "an unreadable address"


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
    return _cut(redact(text, private))


def _let_go(error: BaseException) -> None:
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


def _cut(text: str) -> str:
    """At most EXCERPT bytes of UTF-8, without control characters."""
    if not text.isprintable():
        text = "".join([c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text[:EXCERPT]])
    return text.encode("utf-8", "replace")[:EXCERPT].decode("utf-8", "ignore")


def redact(text: str, private: Iterable[str]) -> str:
    """The text without these secrets, also as they are written in JSON, URLs, HTML or base64."""
    # No form is shorter than the secret, so most answers cost nothing here.
    fitting = {each for each in private if _SHORTEST_REDACTED <= len(each) <= len(text)}
    if not fitting:
        return text
    forms = {form for secret in fitting for form in _forms(secret)}
    for form in sorted(forms, key=len, reverse=True):  # one may be a part of another
        text = text.replace(form, "***")
    return text


def _forms(secret: str) -> set[str]:
    encoded = base64.b64encode(secret.encode()).decode()
    return {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1].replace("/", "\\/"),
        quote(secret, safe=""),
        quote(secret),
        quote(secret, safe="/:@!$&'()*+,;="),
        quote_plus(secret),
        html.escape(secret),
        html.escape(secret, quote=False),
        encoded.rstrip("="),
        encoded.rstrip("=").translate({43: "-", 47: "_"}),
    }


def _explain(  # noqa: C901, PLR0911, PLR0912 - a table: one line for each kind of error
    error: Exception, url: str, limit: float
) -> tuple[ErrorKind, str]:
    """What an operator reads of an exception.

    Of exceptions' own texts only the operating system's and OpenSSL's go on: aiohttp's quote URLs
    and headers.
    """
    where = _origin(url)
    match error:
        case SecretError():
            return ErrorKind.SECRET, str(error)
        case AgentError():
            return ErrorKind.CONFIG, str(error)
        case _ForbiddenAddressError():
            return ErrorKind.FORBIDDEN, error.strerror or ""
        case aiohttp.ConnectionTimeoutError():
            return ErrorKind.TIMEOUT, f"no connection to {where} within {limit * CONNECT_SHARE:g} s"
        case TimeoutError():
            return ErrorKind.TOO_SLOW, f"no answer from {where} within {limit:g} s"
        case aiohttp.ClientConnectorDNSError():
            return ErrorKind.DNS, f"cannot resolve the host of {where}: {error.os_error.strerror}"
        case aiohttp.ClientConnectorCertificateError():
            return (
                ErrorKind.TLS,
                f"certificate of {where} refused: {_os_words(error.certificate_error)}",
            )
        case aiohttp.ClientProxyConnectionError():
            return ErrorKind.PROXY, f"cannot reach the proxy: {_os_words(error.os_error)}"
        case aiohttp.ClientConnectorError():
            return explain_connect(error.os_error, where)
        case aiohttp.ClientHttpProxyError():
            return ErrorKind.PROXY, f"the proxy refused to connect to {where}: HTTP {error.status}"
        case aiohttp.ClientOSError() if isinstance(error.__cause__, ssl.SSLError):
            return ErrorKind.TLS, f"TLS with {where} failed: {_os_words(error.__cause__)}"
        case aiohttp.ServerDisconnectedError():
            return ErrorKind.RESET, f"{where} closed the connection without an answer"
        case aiohttp.ClientOSError() | ConnectionError():
            return ErrorKind.RESET, f"connection to {where} lost: {_os_words(error)}"
        case aiohttp.ClientResponseError():
            return ErrorKind.BAD_HTTP, f"{where} does not answer in HTTP"
        case aiohttp.InvalidURL():
            return ErrorKind.CONFIG, f"the webhook's url cannot be used: {where}"
        case aiohttp.ClientPayloadError():
            return ErrorKind.BAD_HTTP, f"{where} broke off its answer"
        case ValueError() | TypeError():
            return ErrorKind.CONFIG, "the webhook's url or a header of it cannot be sent"
        case _:
            return ErrorKind.INTERNAL, f"unexpected {type(error).__name__} while sending to {where}"


def explain_connect(error: OSError, where: str) -> tuple[ErrorKind, str]:
    """Why there is no connection to `host:port`, for operators."""
    words = _os_words(error)
    if isinstance(error, ssl.SSLError):
        return ErrorKind.TLS, f"TLS with {where} failed: {words}"
    if isinstance(error, _ForbiddenAddressError) or error.errno == errno.EACCES:
        return ErrorKind.FORBIDDEN, words
    if error.errno == errno.ECONNREFUSED:
        return ErrorKind.REFUSED, f"{where} refuses connections: nothing listens there"
    if isinstance(error, ConnectionResetError | BrokenPipeError):  # asyncio's have no errno
        return ErrorKind.RESET, f"connection to {where} lost: {words}"
    return ErrorKind.UNREACHABLE, f"cannot connect to {where}: {words}"


def _os_words(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or error.strerror or type(error).__name__).replace("_", " ").lower()
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error)


@functools.lru_cache(maxsize=256)
def _origin(url: str) -> str:
    """`host:port` of a URL, for messages."""
    try:
        parsed = URL(url)
    except ValueError:
        return "the webhook's url"
    return host_port(parsed.host or "?", parsed.port)
