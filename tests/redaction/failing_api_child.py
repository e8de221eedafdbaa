"""The real API and log over an agent that fails with a secret at hand: STYLE SOCKET SECRET."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace
from typing import Any, cast

from aiohttp import web

from agent import log
from agent.api.limits import Limits
from agent.api.routes import build


class Failing:
    """Every question ends in a bug, in frames whose variables hold the secret."""

    def __init__(self, secret: str) -> None:
        self.secret = secret


class Devices(Failing):
    def rows(self) -> list[Any]:
        password = self.secret
        return [{"password": password}["none"]]


class Deliveries(Failing):
    async def page(self, query: dict[str, str]) -> list[Any]:
        headers = {"Authorization": f"Bearer {self.secret}", **query}
        async with asyncio.TaskGroup() as group:
            group.create_task(self._fail(headers))
        return []

    async def _fail(self, headers: dict[str, str]) -> None:
        try:
            int(headers["Authorization"][:0])
        except ValueError as error:
            raise RuntimeError("a bug of the agent") from error


async def serve(style: str, path: str, secret: str) -> None:
    """Until SIGTERM."""
    log.to_stderr("debug", style)
    services = SimpleNamespace(devices=Devices(secret), deliveries=Deliveries(secret), names=tuple)
    runner = web.AppRunner(build(cast("Any", services), Limits(), trusted=True))
    await runner.setup()
    await web.UnixSite(runner, path).start()
    print("listening", flush=True)
    await asyncio.Event().wait()


asyncio.run(serve(*sys.argv[1:]))
