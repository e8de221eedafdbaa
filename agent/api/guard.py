"""What a request must look like before anybody asks what it wants: web pages are kept out.

A browser on any machine that reaches a listener (the TCP address, or the unix socket through
`ssh -L` or a proxy) sends what a foreign page tells it to. Such a page cannot choose the Host that
it asks by, unless it rebinds its own name; cannot hide where it comes from; and cannot send JSON
without asking first, which is answered by nothing.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import web

from agent.api.errors import error_answer
from agent.api.request import SERVICES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp.typedefs import Handler

READING = {"GET", "HEAD"}
"""Methods that change nothing."""
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.%\w]+\]|[^\[\]:/@]+)(?::\d*)?")
_PORTS = {"http": 80, "https": 443}
"""Which a browser leaves out, and some proxies put in."""
_OWN = {"same-origin", "none"}
"""Of Sec-Fetch-Site: a page of our own, or no page at all. `same-site` is another port."""


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what is asked under a foreign name, by a foreign page, or with a body that is none."""
    hosts = request.headers.getall("Host", [])
    if not _is_ours(hosts, request.app[SERVICES].names()):
        shown = ", ".join(map(repr, hosts)) or "no Host header"
        return error_answer(
            403,
            "bad_host",
            f"ask by address, as localhost, or by a name of [api] hosts, not as {shown}",
        )
    if request.method not in READING:
        if not _is_of_no_other_page(request, hosts[0].strip()):
            return error_answer(
                403,
                "cross_site",
                "changes are not taken from pages of another origin (Sec-Fetch-Site, Origin)",
            )
        if request.body_exists and request.content_type != "application/json":
            return error_answer(
                415,
                "unsupported_media_type",
                "a body is JSON, and says so: Content-Type: application/json",
            )
    return await handler(request)


def _is_ours(hosts: Sequence[str], names: Sequence[str]) -> bool:
    """Literal addresses, localhost, and what the file names; a page may rebind any other name."""
    if len(hosts) != 1 or (match := _HOST.fullmatch(hosts[0].strip())) is None:
        return False
    name = match["name"].removeprefix("[").removesuffix("]").lower().removesuffix(".")
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in names
    return True


def _is_of_no_other_page(request: web.Request, host: str) -> bool:
    """By what browsers say, and pages cannot change; what is no browser says nothing."""
    sites = request.headers.getall("Sec-Fetch-Site", [])
    if sites:
        return _OWN.issuperset(site.strip().lower() for site in sites)
    return all(
        _is_origin_of(origin, host, secure=request.secure)
        for origin in request.headers.getall("Origin", [])
    )


def _is_origin_of(text: str, host: str, *, secure: bool) -> bool:
    """Whether that origin is the host itself. `secure`: it was asked with TLS.

    Without TLS here a proxy may have had it, and the page be https; with it no page that came
    without TLS is ours, for anybody on the way may have written it.
    """
    try:
        origin = urlsplit(text)
    except ValueError:  # a bracket that is not closed
        return False
    port = _PORTS.get(origin.scheme)
    if port is None or (secure and origin.scheme != "https"):
        return False
    if origin.path or origin.query or origin.fragment:
        return False
    return origin.netloc.lower().removesuffix(f":{port}") == host.lower().removesuffix(f":{port}")
