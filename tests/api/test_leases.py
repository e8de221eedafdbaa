"""Leases over HTTP: one that its holder cannot be told of is nobody's."""

from __future__ import annotations

import asyncio
import json
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from agent.api import leases
from agent.api.limits import Limits
from agent.api.request import CALLER, LIMITS, SERVICES
from tests.kit.agent import AgentProcess
from tests.kit.configs import NO_SOURCES
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

CONFIG = (
    NO_SOURCES
    + """\
[[devices]]
udid = "ce09"
"""
)


async def test_who_hangs_up_at_once_holds_nothing(place: Path) -> None:
    """Before the request was read, while it was stored, as it was answered: all in one burst."""
    body = json.dumps({"udid": "ce09", "holder": "gone", "ttl": 3600, "wait": 5}).encode()
    ask = (
        b"POST /v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    async with AgentProcess(place, CONFIG) as agent:
        await agent.start()
        loop = asyncio.get_running_loop()
        for _ in range(30):
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            await loop.sock_connect(client, str(agent.socket))
            await loop.sock_sendall(client, ask)
            client.close()
        async with asyncio.timeout(LIMIT):
            while (await agent.api("GET", "/v1/leases"))[1]["leases"]:  # noqa: ASYNC110 - its row
                await asyncio.sleep(0.05)
        code, lease = await agent.api("POST", "/v1/leases", {"udid": "ce09", "holder": "alice"})
        assert (code, lease["holder"]) == (201, "alice")
        assert not any("Traceback" in line for line in agent.log)


class Desk:
    """Gives one lease, and hangs up on its holder first."""

    def __init__(self) -> None:
        self.transport: asyncio.BaseTransport | None = None
        self.released: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def acquire(self, *_: object, **__: object) -> dict[str, Any]:
        assert isinstance(self.transport, asyncio.Transport)
        self.transport.abort()
        return {"id": "l1"}

    async def release(self, lease_id: str, why: str) -> None:
        assert lease_id == "l1"
        self.released.set_result(why)


async def test_a_lease_that_cannot_be_answered_with_ends() -> None:
    desk = Desk()

    @web.middleware
    async def prepare(request: web.Request, handler: Any) -> web.StreamResponse:
        desk.transport = request.transport
        request[CALLER] = "somebody"  # type: ignore[misc] # only shown
        answer: web.StreamResponse = await handler(request)
        return answer

    app = web.Application(middlewares=[prepare])
    app[SERVICES] = SimpleNamespace(leases=desk)  # type: ignore[misc] # all that is asked of it
    app[LIMITS] = Limits()
    leases.routes.add_to(app.router)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.post(server.make_url("/v1/leases"), json={"udid": "a", "holder": "b"})
        async with asyncio.timeout(LIMIT):
            assert await desk.released == "its holder went away before it was told"
