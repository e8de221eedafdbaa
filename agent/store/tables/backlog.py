"""How many callbacks of each webhook are pending: counted once, then kept up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from agent.model import Callback
    from agent.store.tables.table import Access

COUNT: Final = """
SELECT webhook_id, count(*) FROM callbacks WHERE state = 'pending' GROUP BY webhook_id
"""


class Backlog:
    """The sizes; every change that moves callbacks says so once it is durable, in commit order."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._sizes: dict[int, int] | None = None
        self._counting: asyncio.Future[Any] | None = None

    async def sizes(self) -> dict[int, int]:
        """webhook_id → pending callbacks; one that has none may be left out.

        Counted once (60 ms of the writer's time for a million), then kept up with every commit:
        costs nothing to ask again, and is known while the disk fails.
        """
        if self._sizes is None:
            if self._counting is None or self._counting.done():
                self._counting = self._access.ask(_count, self._counted)
                self._counting.add_done_callback(_heard)
            # Whoever does not wait to the end leaves the question for the next one.
            await asyncio.shield(self._counting)
        return {} if self._sizes is None else dict(self._sizes)

    def add(self, stored: Iterable[Callback]) -> None:
        """These are pending now."""
        for each in stored:
            self.move(each.webhook_id, 1)

    def move(self, webhook_id: int, more: int) -> None:
        """So many more are pending of this webhook. What came before the count is in it."""
        if self._sizes is not None and more:
            self._sizes[webhook_id] = self._sizes.get(webhook_id, 0) + more

    def forget(self) -> None:
        """The store was made anew: what was saved is to be counted anew."""
        self._sizes = None

    def _counted(self, found: dict[int, int]) -> None:
        self._sizes = found


def _count(conn: sqlite3.Connection) -> dict[int, int]:
    return dict(conn.execute(COUNT).fetchall())


def _heard(future: asyncio.Future[Any]) -> None:
    """An error nobody waited for is no bug to be logged."""
    if not future.cancelled():
        future.exception()
