"""A handler that keeps what it heard, and tells of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.kit.waiting import LIMIT, announced

if TYPE_CHECKING:
    from agent.fleet.link import Incoming


class Heard:
    """To be handed over as a handler."""

    def __init__(self) -> None:
        self.messages: list[Incoming] = []
        self._news = asyncio.Event()

    def __call__(self, message: Incoming) -> None:
        self.messages.append(message)
        self._news.set()

    @property
    def bodies(self) -> list[bytes]:
        """Of all, in order."""
        return [each.body for each in self.messages]

    async def until(self, count: int, limit: float = LIMIT) -> list[Incoming]:
        """Until there are so many."""
        await announced(
            self._news,
            lambda: len(self.messages) >= count,
            f"{count} messages",
            lambda: f"there were {len(self.messages)}: {self.messages[-3:]}",
            limit,
        )
        return self.messages

    async def body(self, body: bytes) -> None:
        """Until that one was heard."""
        await announced(
            self._news, lambda: body in self.bodies, repr(body), lambda: str(self.messages[-3:])
        )
