"""The agent's API over its socket, as the commands and the doctor ask it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from agent.errors import ApiError
from agent.wire.control import ControlSocket

if TYPE_CHECKING:
    from pathlib import Path


def control(path: Path) -> ControlSocket:
    return ControlSocket(path, 5.0, lambda _, error: f"away: {error}")


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
        async with control(path) as client:
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


@pytest.mark.parametrize("body", ["", "[]", "7", '{"error": "no"}', '{"error": {"code": "x"}}'])
async def test_what_refuses_in_other_words_than_an_agents_is_none(
    tmp_path: Path, body: str
) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=404, text=body, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{any:.*}", refuse)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.UnixSite(runner, tmp_path / "s").start()
        async with control(tmp_path / "s") as client:
            for ask in (
                lambda: client.ask("GET", "/v1/devices"),
                lambda: anext(client.lines("POST", "/v1/leases")),
                lambda: anext(client.events([], "", silence=5.0)),
                lambda: client.text("/metrics"),
            ):
                with pytest.raises(ApiError, match=r"away: .*404") as refused:
                    await ask()
                assert refused.value.code == "unreachable"
    finally:
        await runner.cleanup()
