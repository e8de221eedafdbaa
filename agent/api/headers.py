"""What every answer tells a browser: run nothing but our own, show it in nobody's page, keep none.

The page's files (HTML, scripts, styles) get a policy under which their own parts work and nothing
else does; all other answers one under which nothing does, should somebody open them as a page.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web
    from multidict import CIMultiDict

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types device-agent"
)
DATA_POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
ALWAYS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
DATA: Mapping[str, str] = {
    **ALWAYS,
    "Content-Security-Policy": DATA_POLICY,
    "Cache-Control": "no-store",
}
"""Of what is no part of the page: JSON, metrics, events, errors."""
PAGE: Mapping[str, str] = {**ALWAYS, "Content-Security-Policy": PAGE_POLICY}
"""Of the page's parts; how long they are kept says whoever serves them."""
_PAGE_TYPES = {"text/html", "text/javascript", "text/css", "image/svg+xml", "image/png"}


async def protect(request: web.Request, response: web.StreamResponse) -> None:
    """Before any answer's head is sent."""
    del request
    put(response.headers, response.content_type)


def put(headers: CIMultiDict[str], content_type: str) -> None:
    """Likewise, for what is answered past the application; what the answer says itself stays."""
    for name, value in (PAGE if content_type in _PAGE_TYPES else DATA).items():
        headers.setdefault(name, value)
