"""One connection to the API: bounded in number and in time, and refused in the API's own words."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from agent.api.errors import error_answer, error_text
from agent.api.headers import DATA, put

if TYPE_CHECKING:
    from collections.abc import Callable

    from agent.api.limits import Limits

log = structlog.get_logger(__name__)


class Gate:
    """Makes the protocol of each connection, and counts those that are open.

    Args:
        server: who answers.
        most: connections at once.
        limits: what a client may.
        handshake: seconds within which TLS has begun, or the connection is given up; 0: no TLS.
    """

    def __init__(self, server: web.Server, most: int, limits: Limits, handshake: float) -> None:
        self._server = server
        self._most = most
        self._limits = limits
        self._handshake = handshake
        self._open = 0

    def __call__(self) -> asyncio.Protocol:
        """For `create_server`."""
        if self._open >= self._most:
            return _Refusal(self._most)
        self._open += 1
        loop = asyncio.get_running_loop()
        connection = _Connection(
            self._server,
            self._closed,
            keepalive_timeout=self._limits.idle,
            lingering_time=self._limits.linger,
            access_log=None,
            loop=loop,
        )
        if self._handshake:
            # Of a handshake that fails asyncio tells the protocol nothing.
            loop.call_later(self._handshake + 1, connection.give_up_unmade)
        return connection

    def _closed(self) -> None:
        self._open -= 1


class _Connection(web.RequestHandler):
    """Tells what aiohttp itself refuses (no HTTP, a head too long) as the API tells errors."""

    __slots__ = ("_closed", "_made")

    def __init__(self, server: web.Server, closed: Callable[[], None], **limits: Any) -> None:
        super().__init__(server, **limits)
        self._closed = closed
        self._made = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._made = True
        super().connection_made(transport)

    def give_up_unmade(self) -> None:
        """Count no longer what never came to be: its handshake has failed by now."""
        if not self._made:
            self._closed()

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
        put(response.headers, response.content_type)
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
            f"Content-Length: {len(body)}\r\nConnection: close\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in DATA.items())
            + "\r\n"
        )
        transport.write(head.encode() + body.encode())
        transport.close()
