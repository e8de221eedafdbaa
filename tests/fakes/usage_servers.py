"""Appium and Selenium Grid as the agent sees them: real HTTP servers with the real ones' answers.

Appium's shapes are those of appium 3.8 with @appium/fake-driver 6.2, and of Appium 2's `/sessions`;
Grid's those of Selenium's `GridStatusHandler` and `NodeStatus` (4.x).
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DISCOVERY = (
    "Potentially insecure feature 'session_discovery' has not been enabled. If you want to enable "
    "this feature and accept the security ramifications, please do so by following the documented "
    "instructions at http://appium.io/docs/en/latest/guides/security/"
)
UNKNOWN = (
    "The requested resource could not be found, or a request was received using an HTTP method "
    "that is not supported by the mapped resource."
)


def w3c_error(error: str, message: str) -> dict[str, Any]:
    return {"value": {"error": error, "message": message, "stacktrace": f"{error}: {message}"}}


class FakeServer:
    """Listens on loopback; what it answers is set by its fields."""

    def __init__(self) -> None:
        self.port = 0
        self.asked: list[str] = []
        self.authorizations: list[str] = []
        self.hanging = False
        self.raw: web.Response | None = None
        """Answered to everything, where set."""
        self.credentials = ""
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def was_asked(self, times: int) -> bool:
        """Whether so many questions came."""
        return len(self.asked) >= times

    async def start(self) -> None:
        """Listen, where it listened before."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Refuse connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        self.authorizations.append(request.headers.get("Authorization", ""))
        if self.hanging:
            await asyncio.Event().wait()
        if self.raw is not None:
            return self.raw
        if self.credentials and self.authorizations[-1] != self.credentials:
            return web.json_response({}, status=401)
        return self.answer(request.path)

    def answer(self, path: str) -> web.Response:
        raise NotImplementedError


class FakeAppium(FakeServer):
    """Args: version 2 or 3; where it is mounted; whether session discovery is allowed."""

    def __init__(self, version: int = 3, base: str = "", *, discovery: bool = True) -> None:
        super().__init__()
        self.base = base
        self.discovery = discovery
        self.path = "/appium/sessions" if version == 3 else "/sessions"
        self.sessions: dict[str, dict[str, Any]] = {}

    def answer(self, path: str) -> web.Response:
        if path != self.base + self.path:
            return web.json_response(w3c_error("unknown command", UNKNOWN), status=404)
        if not self.discovery:
            return web.json_response(w3c_error("unknown error", DISCOVERY), status=500)
        return web.json_response(
            {
                "value": [
                    {"id": id_, "created": 1700000000000, "capabilities": capabilities}
                    for id_, capabilities in self.sessions.items()
                ]
            }
        )


Slots = list[tuple[dict[str, Any], dict[str, Any] | None]]


class FakeGrid(FakeServer):
    """`slots`: stereotype and the session in it, or None; `others`: those of further nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.slots: Slots = []
        self.registered = True
        """Whether the node of `slots` has told the hub of itself since it was started."""
        self.others: dict[str, Slots] = {}
        self.node: dict[str, Any] = {}
        """What the first node says of itself, where it is not the usual."""

    def answer(self, path: str) -> web.Response:
        if path != "/status":
            return web.json_response(w3c_error("unknown command", "no handler"), status=404)
        nodes = {"n": self.slots} if self.registered else {}
        value = [
            {
                "availability": "UP",
                "externalUri": f"http://node-{name}:5555",
                "heartbeatPeriod": 60000,
                "id": name,
                "slots": _slots(slots),
                "version": "4.27.0",
            }
            | (self.node if name == "n" else {})
            for name, slots in (nodes | self.others).items()
        ]
        return web.json_response({"value": {"ready": bool(value), "message": "", "nodes": value}})


def _slots(slots: Slots) -> list[dict[str, Any]]:
    return [
        {
            "id": {"hostId": "h", "id": f"s{number}"},
            "lastStarted": "2026-01-31T12:00:00Z",
            "session": session
            and {
                "capabilities": session,
                "sessionId": f"5e55{number}-0000",
                "start": "2026-01-31T12:00:00Z",
                "stereotype": stereotype,
                "uri": "http://10.0.0.7:5555",
            },
            "stereotype": stereotype,
        }
        for number, (stereotype, session) in enumerate(slots)
    ]


@contextlib.asynccontextmanager
async def serving(server: FakeServer) -> AsyncIterator[None]:
    """While it listens."""
    await server.start()
    try:
        yield
    finally:
        await server.stop()
