"""Where a webhook's requests go: its URL as written, its proxy, its TLS, and what is refused."""

from __future__ import annotations

import errno
import ipaddress
import os
import ssl
from typing import TYPE_CHECKING, Final
from urllib.parse import quote
from urllib.request import getproxies

from yarl import URL

from agent.address import bracketed, host_port
from agent.deliver import no_proxy
from agent.deliver.explain import ForbiddenAddressError, os_words
from agent.deliver.redaction import basic_auth, private_parts
from agent.errors import AgentError

if TYPE_CHECKING:
    from agent.config import Webhook

_LINK_LOCAL: Final = (ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10"))
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))


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
        raise ForbiddenAddressError(
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
    value = basic_auth(proxy)
    credentials = {"Proxy-Authorization": value} if value else {}
    return proxy.with_user(None), credentials, private_parts(proxy)


def own_tls(webhook: Webhook) -> bool:
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
        raise AgentError(f"tls.ca {tls.ca}: {os_words(error)}; it must be a PEM file") from None
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert:
        try:
            # A passphrase would be asked for on the terminal, which a daemon has not.
            context.load_cert_chain(tls.cert, tls.key, password=_no_passphrase)
        except (OSError, ValueError) as error:
            files = f"tls.cert {tls.cert}" + (f", tls.key {tls.key}" if tls.key else "")
            raise AgentError(f"{files}: {os_words(error)}") from None
    return context


def _no_passphrase() -> str:
    raise ValueError("the key has a passphrase; give the agent a key without one")
