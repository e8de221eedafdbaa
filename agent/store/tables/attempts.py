"""How each sending of a callback went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from agent.model import Attempt
from agent.store.tables.table import every, run

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable

    from agent.store.tables.table import Access

_OF_MESSAGE: Final = """
SELECT c.message_id, a.started_ms, a.duration_ms, a.status, a.error, a.answer
FROM callbacks AS c JOIN attempts AS a ON a.callback_id = c.id
WHERE c.message_id = ? ORDER BY a.number
"""
# Rows: the callback's id and message id, started, duration, status, error, answer.
ADD: Final = """
INSERT INTO attempts (callback_id, number, started_ms, duration_ms, status, error, answer)
SELECT c.id, c.attempts + 1, new.column3, new.column4, new.column5, new.column6, new.column7
FROM (VALUES {rows}) AS new CROSS JOIN callbacks AS c
ON c.id = new.column1 AND c.message_id = new.column2
"""


class Attempts:
    """The attempts' rows; they are written by `Callbacks.finish`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def of(self, message_id: str) -> list[Attempt]:
        """All attempts of one callback, in order; empty for an unknown one."""
        question = every(lambda row: Attempt(*row), _OF_MESSAGE, message_id)
        return await self._access.ask(question)


def add(conn: sqlite3.Connection, made: Iterable[tuple[int, str, Attempt]]) -> int:
    """Add them, each to the callback with that id and message id; how many of those are there.

    Each is numbered by the callback's count, which does not yet have it.
    """
    rows = [
        (id_, message_id, each.started_ms, each.duration_ms, each.status, each.error, each.answer)
        for id_, message_id, each in made
    ]
    return run(conn, ADD, rows)
