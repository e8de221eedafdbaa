"""The metrics of one moment, for many who ask at once."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest

from agent.app import App
from agent.config import parse
from tests.kit.waiting import LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.service.scrape import Scraper


@pytest.fixture
async def scraper(tmp_path: Path) -> AsyncIterator[Scraper]:
    """Of an agent that looks at nothing."""
    config = parse(
        f'[agent]\nstate_dir = "{tmp_path}"\n[api]\nlisten = ""\n'
        "[usb]\nenabled = false\n[android]\nenabled = false\n[ios]\nenabled = false\n",
        "agent.toml",
    )
    app = App(lambda: config, config, {})
    running = asyncio.create_task(app.run())
    async with asyncio.timeout(LIMIT):
        await app.ready()
    yield app.services.scraper
    app.stop()
    async with asyncio.timeout(LIMIT):
        await running


async def test_who_asks_while_one_is_written_shares_the_next(scraper: Scraper) -> None:
    first, *others = await asyncio.gather(*[scraper.scrape() for _ in range(10)])
    assert b"device_agent_ready 1.0" in first[0]
    assert all(each is others[0] for each in others)
    assert others[0] is not first, "begun before they asked"
    assert await scraper.scrape() is not others[0]


async def test_who_goes_away_costs_the_others_nothing(scraper: Scraper) -> None:
    asked = [asyncio.create_task(scraper.scrape()) for _ in range(3)]
    await asyncio.sleep(0)
    asked[0].cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asked[0]
    second, third = await asyncio.gather(*asked[1:])
    assert second is third
    assert b"device_agent_ready 1.0" in second[0]
