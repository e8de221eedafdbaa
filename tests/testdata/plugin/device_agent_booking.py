"""A usage source of another package: phones that a booking system has given out.

Its server answers `{"UDID": "who has it", …}`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp

from agent.usage.base import Target, UsageUnknownError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.usage.base import Phone


class BookingSource:
    """Asks one server."""

    name = "booking"

    def __init__(self, url: str) -> None:
        self._url = url
        self._session: aiohttp.ClientSession | None = None

    async def targets(self, phones: Sequence[Phone]) -> Sequence[Target]:
        """The one server, whatever phones there are."""
        del phones
        return [Target(self._url)]

    async def read(self, target: Target) -> Mapping[str, str]:
        """Who has which phone."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=4))
        try:
            async with self._session.get(target.key, raise_for_status=True) as answer:
                booked = await answer.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            why = type(error).__name__
            raise UsageUnknownError(f"{target.key} does not say what is booked: {why}") from None
        if not isinstance(booked, dict):
            raise UsageUnknownError(f"{target.key} does not answer with a list of bookings")
        return {udid: f"booking of {who}" for udid, who in booked.items()}

    async def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()


def make(options: Mapping[str, Any]) -> BookingSource:
    """What the entry point names; `options` is the table [usage.plugins.booking]."""
    return BookingSource(options["url"])
