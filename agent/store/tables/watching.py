"""In which times somebody looked; see `agent.history.seen`."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from agent.history.seen import Watched
from agent.model import SourceName
from agent.store.tables import days
from agent.store.tables.table import every

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from agent.history.watch import Written
    from agent.store.tables.table import Access

_MOVE: Final = "UPDATE watching SET end_ms = ? WHERE rowid = ?"
_ADD: Final = "INSERT INTO watching (host, start_ms, end_ms, sees) VALUES (?, ?, ?, ?)"
_FIRST: Final = "SELECT min(max(start_ms, ?)) FROM watching WHERE end_ms > ?"
_EXPIRE: Final = """
DELETE FROM watching WHERE rowid IN (SELECT rowid FROM watching WHERE end_ms < ? LIMIT ?)
"""
_STORED_END: Final = "SELECT end_ms FROM watching WHERE rowid = ? AND host = ? AND start_ms = ?"
_WITHIN: Final = """
SELECT host, start_ms, end_ms, sees FROM watching WHERE end_ms > ? AND start_ms < ?
"""


class Watching:
    """The times that were watched."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def put(self, times: Sequence[Written]) -> asyncio.Future[None]:
        """Store them, or move the ends of those that are stored; each learns where it is."""
        made = asyncio.get_running_loop().create_future()
        taken = [(each, each.as_watched(), each.row) for each in times]
        stored = self._access.change(
            lambda conn: [put(conn, watched, row) for _, watched, row in taken]
        )

        def done(rows: asyncio.Future[list[int]]) -> None:
            if made.cancelled():
                return
            if (error := rows.exception()) is not None:
                made.set_exception(error)
                return
            for (each, _, _), row in zip(taken, rows.result(), strict=True):
                each.row = row
            made.set_result(None)

        stored.add_done_callback(done)
        return made

    async def within(self, since: int, until: int) -> list[Watched]:
        """Those that reach into that range."""
        return await self._access.ask(lambda conn: within(conn, since, until))


def first_since(conn: sqlite3.Connection, since: int) -> int | None:
    """When first anybody looked, from that time on."""
    (at,) = conn.execute(_FIRST, (since, since)).fetchone()
    return None if at is None else int(at)


def expire(conn: sqlite3.Connection, before_ms: int, limit: int) -> int:
    """Delete those that ended before that, `limit` at most; how many."""
    return conn.execute(_EXPIRE, (before_ms, limit)).rowcount


def put(conn: sqlite3.Connection, time: Watched, row: int | None) -> int:
    """Move the end of the one that is stored there, or add it; where it is."""
    if row is not None:
        found = conn.execute(_STORED_END, (row, time.host, time.start_ms)).fetchone()
        if found is not None:
            if found[0] < time.end_ms:
                days.spoil(conn, found[0])
                conn.execute(_MOVE, (time.end_ms, row))
            return row
    days.spoil(conn, time.start_ms)
    said = json.dumps(dict(sorted(time.sees.items())), separators=(",", ":"))
    added = conn.execute(_ADD, (time.host, time.start_ms, time.end_ms, said)).lastrowid
    assert added is not None
    return added


def within(conn: sqlite3.Connection, since: int, until: int) -> list[Watched]:
    """Those that reach into that range."""
    return every(_read, _WITHIN, since, until)(conn)


def _read(row: tuple[Any, ...]) -> Watched:
    """What it says of no source, or in no words, was not seen: a report is not worth a salvage."""
    host, start, end, sees = row
    try:
        said = json.loads(sees or "{}")
    except ValueError:
        said = {}
    known = said if isinstance(said, dict) else {}
    return Watched(
        host, start, end, {each: bool(known[each]) for each in SourceName if each in known}
    )
