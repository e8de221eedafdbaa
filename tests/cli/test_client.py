"""How commands read an answer that goes on: a lease's lines."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import web

from agent.cli.common import AgentClient

if TYPE_CHECKING:
    from pathlib import Path


async def test_who_reads_lines_ends_when_cancelled_even_as_one_arrives(tmp_path: Path) -> None:
    """`use` cancels its reader when its command ends, and waits for it: it must end, whenever."""
    turn = asyncio.Event()

    async def lines(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"{}\n")
        await turn.wait()
        await response.write(b"{}\n")
        await asyncio.Event().wait()
        return response

    app = web.Application()
    app.router.add_get("/", lines)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    path = tmp_path / "s"
    await web.UnixSite(runner, path).start()

    async def read() -> None:
        async for _ in client.lines("GET", "/"):
            started.set()

    try:
        async with AgentClient(path) as client:
            for turns in range(40):
                started = asyncio.Event()
                turn.clear()
                reader = asyncio.create_task(read())
                await started.wait()
                turn.set()
                for _ in range(turns):
                    await asyncio.sleep(0)  # not for time: each round cancels one turn later
                reader.cancel()
                async with asyncio.timeout(5):
                    await asyncio.wait({reader})
                assert reader.cancelled(), f"{turns} turns of the loop after the line was sent"
    finally:
        await runner.cleanup()
