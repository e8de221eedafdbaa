"""Where a browser finds the page, and whether its way there is private. Pure."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, NamedTuple

from agent.address import host_port, is_loopback

if TYPE_CHECKING:
    from agent.config import Api


class Page(NamedTuple):
    """Where it is."""

    url: str
    """Ends in a slash; "": it is not served over TCP."""
    exposed: bool
    """Whether it is served beyond this host without TLS."""


def page_of(api: Api, served: str) -> Page:
    """Of what is served at HOST:PORT; "": nothing.

    By a name of `hosts` where all addresses are served, or a certificate bears a name; of all
    addresses without a name this host's own is as good as any.
    """
    if not served:
        return Page("", exposed=False)
    host, _, port = served.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    exposed = api.cert is None and not is_loopback(host)
    everywhere = ipaddress.ip_address(host).is_unspecified
    if api.hosts and (everywhere or api.cert is not None):
        host = api.hosts[0]
    elif everywhere:
        host = "::1" if ":" in host else "127.0.0.1"
    scheme = "http" if api.cert is None else "https"
    return Page(f"{scheme}://{host_port(host, port)}/", exposed)
