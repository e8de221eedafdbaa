"""How long a test waits, and how it waits for what nothing announces."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 20.0
"""Seconds before a wait fails the test: far beyond what anything here takes."""


async def announced(
    news: asyncio.Event,
    condition: Callable[[], object],
    what: str,
    seen: Callable[[], object] = lambda: "",
    limit: float = LIMIT,
) -> None:
    """Wait until the condition is true, looked at whenever there is news; fails after `limit`.

    Args:
        news: set by who tells it.
        condition: what is waited for.
        what: it is, in words.
        seen: what there was instead, for the failure.
        limit: seconds.
    """
    try:
        async with asyncio.timeout(limit):
            while not condition():
                news.clear()
                await news.wait()
    except TimeoutError:
        raise AssertionError(f"waited {limit} s for {what}; {seen()}") from None


async def eventually(
    condition: Callable[[], object], what: str = "a condition", limit: float = LIMIT
) -> None:
    """Wait for what tells nobody: a fake's counter, another thread or process.

    Fails after the limit, in seconds. Where an event can tell it, wait for that.
    """
    try:
        async with asyncio.timeout(limit):
            while not condition():  # noqa: ASYNC110 - what is waited for tells nobody
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"waited {limit} s for {what}") from None
