"""How far one comes towards each webhook: name, connection, TLS. Nothing is asked of it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

from yarl import URL

from agent.address import host_port
from agent.deliver.destination import proxy_for, refuse_address, tls_context
from agent.deliver.explain import explain_connect
from agent.doctor.facts import Reach
from agent.doctor.gather.limit import in_thread, survived
from agent.errors import AgentError
from agent.wire.resolver import ThreadResolver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from agent.config import Webhook

LIMIT = 3.0
"""Seconds for each; all go side by side."""


async def reach_all(webhooks: Iterable[Webhook]) -> tuple[Reach, ...]:
    """Of those that are enabled, in their order; raises nothing."""

    def each(webhook: Webhook) -> Awaitable[Reach]:
        return survived(_reach(webhook), lambda why: Reach(webhook.name, "", why))

    return tuple(await asyncio.gather(*map(each, (one for one in webhooks if one.enabled))))


async def _reach(webhook: Webhook) -> Reach:
    started = time.monotonic()
    url = URL(webhook.url)
    where, what, error, tls, expires = "", "connection to", "", False, 0.0
    proxy = None
    try:
        proxy, _, _ = proxy_for(webhook, url)
        target = proxy or url
        where = _where(target)
        if proxy is not None and not webhook.allow_link_local:
            refuse_address(url.host or "")
        async with asyncio.timeout(LIMIT):
            tls = target.scheme == "https"
            context = await in_thread(lambda: _context(webhook, own=proxy is None), LIMIT)
            sock = await _open(target, webhook)
            try:
                if tls:
                    what = "TLS handshake with"
                    expires = await _shake_hands(sock, context, target.host or "")
            finally:
                sock.close()
    except TimeoutError:
        error = f"no {what} {where} within {LIMIT:g} s"
    except socket.gaierror as failure:
        error = f"cannot resolve the host of {where}: {failure.strerror}"
    except OSError as failure:
        _, error = explain_connect(failure, where)
    except AgentError as failure:
        error = str(failure)
    except ValueError:
        error = "its url, or that of its proxy, cannot be used"
    return Reach(
        webhook.name,
        where,
        error,
        proxy=proxy is not None,
        tls=tls,
        expires=expires,
        took=time.monotonic() - started,
    )


def _where(url: URL) -> str:
    return host_port(url.host or "?", url.port)


def _context(webhook: Webhook, *, own: bool) -> ssl.SSLContext:
    """As the client has it; a proxy gets the system's authorities."""
    return tls_context(webhook) if own else ssl.create_default_context()


async def _open(url: URL, webhook: Webhook) -> socket.socket:
    """A connection to the first address that takes one. Raises OSError."""
    assert url.host is not None
    assert url.port is not None
    found = await ThreadResolver().resolve(url.host, url.port)
    failure: OSError | None = None
    for each in found:
        sock = socket.socket(each["family"], socket.SOCK_STREAM)
        try:
            if not webhook.allow_link_local:
                refuse_address(each["host"])
            sock.setblocking(False)
            async with asyncio.timeout(LIMIT / len(found)):  # one that is silent leaves the others
                await asyncio.get_running_loop().sock_connect(sock, (each["host"], each["port"]))
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure or OSError("the name has no address")


async def _shake_hands(sock: socket.socket, context: ssl.SSLContext, host: str) -> float:
    """When the certificate expires; 0: unknown, for it was not looked at."""
    _, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=host)
    try:
        certificate: dict[str, Any] = writer.get_extra_info("peercert") or {}
    finally:
        writer.transport.abort()
    until = certificate.get("notAfter")
    return ssl.cert_time_to_seconds(until) if until else 0.0
