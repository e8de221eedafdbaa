"""One connection to the API: bounded in number and in time, and refused in the API's own words."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from agent.api.errors import error_answer, error_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.api.limits import Limits

log = structlog.get_logger(__name__)


class Gate:
    """Makes the protocol of each connection, and counts those that are open."""

    def __init__(self, server: web.Server, most: int, limits: Limits) -> None:
        self._server = server
        self._most = most
        self._limits = limits
        self._open = 0

    def __call__(self) -> asyncio.Protocol:
        """For `create_server`."""
        if self._open >= self._most:
            return _Refusal(self._most)
        self._open += 1
        return _Connection(
            self._server,
            self._closed,
            keepalive_timeout=self._limits.idle,
            lingering_time=self._limits.linger,
            access_log=None,
            loop=asyncio.get_running_loop(),
        )

    def _closed(self) -> None:
        self._open -= 1


class _Connection(web.RequestHandler):
    """Tells what aiohttp itself refuses (no HTTP, a head too long) as the API tells errors."""

    __slots__ = ("_closed",)

    def __init__(self, server: web.Server, closed: Callable[[], None], **limits: Any) -> None:
        super().__init__(server, **limits)
        self._closed = closed

    def connection_lost(self, exc: BaseException | None) -> None:
        self._closed()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= 500:  # noqa: PLR2004 - our fault
            log.error("api.failed", method=request.method, path=request.path, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer was sent already")
        text = " ".join((message or "this is no HTTP request").split())
        code = "bad_request" if status < 500 else "internal"  # noqa: PLR2004 - as above
        response = error_answer(status, code, text)
        response.force_close()
        return response


class _Refusal(asyncio.Protocol):
    """Answers one too many, and hangs up."""

    def __init__(self, most: int) -> None:
        self._most = most

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        body = error_text("busy", f"{self._most} connections are open already")
        head = (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json; charset=utf-8\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        transport.write(head.encode() + body.encode())
        transport.close()
