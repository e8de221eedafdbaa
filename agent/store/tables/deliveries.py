"""Callbacks as operators see them: listed with what became of them, and sent again."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.model import CallbackState
from agent.store.tables.callbacks import COLUMNS, read

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Callable, Collection, Sequence

    from agent.model import Callback
    from agent.store.tables.backlog import Backlog
    from agent.store.tables.table import Access

WINDOW_ROWS = 5_000
"""How many callbacks one step looks at: a few milliseconds' worth."""
REVIVE_ROWS = 500
"""How many callbacks one change makes pending again."""
MOMENTS = 5
"""Of how many moments one step finds the callbacks: a few milliseconds' worth."""
_BEYOND_LAST = 1 << 62

# The history is looked through in windows of ids, so that no question about a long one holds up
# commits: this is the lowest id of the window below `?`.
WINDOW: Final = "SELECT id FROM callbacks WHERE id < ? ORDER BY id DESC LIMIT 1 OFFSET ?"
_MATCHES: Final = """(:webhook_id IS NULL OR c.webhook_id = :webhook_id)
  AND (:udid IS NULL OR c.udid = :udid)
  AND (:state IS NULL OR c.state = :state)
  AND (:message_id IS NULL OR c.message_id = :message_id)
  AND (:since_ms IS NULL OR c.created_ms >= :since_ms)
  AND (:until_ms IS NULL OR c.created_ms < :until_ms)"""
"""A DeliveryQuery."""
_FIND: Final = f"""
SELECT c.state, c.finished_ms, a.status, coalesce(a.error, ''), {COLUMNS}
FROM callbacks AS c LEFT JOIN attempts AS a ON a.callback_id = c.id AND a.number = c.attempts
WHERE c.id >= :low AND c.id < :high AND {_MATCHES}
ORDER BY c.id DESC LIMIT :limit
"""  # noqa: S608 - constants
# The same windows, upwards, and what is finished in them.
WINDOW_UP: Final = "SELECT id FROM callbacks WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?"
_NEXT: Final = "SELECT id, created_ms FROM callbacks WHERE id >= ? ORDER BY id LIMIT 1"
_LATER: Final = "SELECT id FROM callbacks WHERE id >= ? AND created_ms > ? ORDER BY id LIMIT 1"
_LAST: Final = "SELECT coalesce(max(id), 0) FROM callbacks"
_FINISHED: Final = f"""
SELECT {COLUMNS} FROM callbacks AS c
WHERE c.id > :low AND c.id <= :high AND c.state <> 'pending' AND {_MATCHES}
ORDER BY c.id LIMIT :limit
"""  # noqa: S608 - constants
_REVIVE: Final = """
UPDATE callbacks SET state = 'pending', due_ms = 0, finished_ms = NULL WHERE id = ?
"""


class DeliveryQuery(NamedTuple):
    """Which callbacks; None matches all."""

    webhook_id: int | None = None
    udid: str | None = None
    state: CallbackState | None = None
    message_id: str | None = None
    since_ms: int | None = None
    """Created at or after."""
    until_ms: int | None = None
    """Created before."""
    below: int | None = None
    """Only those with a lower rowid: older ones than that one, which ended a page."""
    limit: int = 100


class DeliveryRow(NamedTuple):
    """One callback and what became of it."""

    callback: Callback
    state: CallbackState
    finished_ms: int | None
    """When it was delivered, died or was cancelled; None while pending."""
    status: int | None
    """HTTP status of the last attempt; None if there was no attempt or no answer."""
    error: str
    """Of the last attempt; "" if there was none."""


class _Revived(NamedTuple):
    """One step of a replay."""

    callbacks: tuple[Callback, ...]
    """Pending again, oldest first."""
    last: int
    """Rowid up to which all was looked at."""


class Deliveries:
    """The history of callbacks, looked through in steps of milliseconds."""

    def __init__(self, access: Access, backlog: Backlog) -> None:
        self._access = access
        self._backlog = backlog

    async def find(self, query: DeliveryQuery) -> list[DeliveryRow]:
        """Callbacks that match, newest first."""
        if query.message_id is not None:
            rowid = await self._access.ask(partial(_id_of, query.message_id))
            if rowid is None or (query.below is not None and rowid >= query.below):
                return []
            return await self._window(query, rowid, rowid + 1, query.limit)
        found: list[DeliveryRow] = []
        high = _BEYOND_LAST if query.below is None else query.below
        while high > 0 and len(found) < query.limit:
            low = await self._access.ask(partial(_window_low, high))
            found += await self._window(query, low, high, query.limit - len(found))
            high = low
        return found

    async def made_at(self, udid: str, moments: Sequence[int], limit: int) -> list[DeliveryRow]:
        """One device's callbacks that were made at these times, newest first, at most `limit`.

        A transition's callbacks are made at its very time. There is no index of times: they are
        found by halving, as ids follow the time, but for a time that the clock went through twice.
        """
        found: list[DeliveryRow] = []
        for start in range(0, len(moments), MOMENTS):
            some = tuple(moments[start : start + MOMENTS])
            found += await self._access.ask(partial(_made_at, udid, some, limit - len(found)))
            if len(found) >= limit:
                break
        return found

    async def _window(
        self, query: DeliveryQuery, low: int, high: int, limit: int
    ) -> list[DeliveryRow]:
        return await self._access.ask(partial(_find, query, low, high, limit))

    async def revive(
        self,
        query: DeliveryQuery,
        webhooks: Callable[[], Collection[int]],
        told: Callable[[Sequence[Callback]], None],
    ) -> AsyncIterator[Callback]:
        """Make finished callbacks that match pending again, oldest first, `query.limit` at most.

        Those of other webhooks than `webhooks` says, asked at each step, are left as they are. What
        is pending again is told on the loop in commit order, before it is yielded, and also if
        whoever waits for it has gone.
        """
        after, end = 0, await self._access.ask(_last)
        if query.message_id is not None:
            rowid = await self._access.ask(partial(_id_of, query.message_id))
            after, end = (0, 0) if rowid is None else (rowid - 1, rowid)
        left = query.limit

        def revived(step: _Revived) -> None:
            self._backlog.add(step.callbacks)
            told(step.callbacks)

        while after < end and left > 0:
            change = partial(_revive, query, frozenset(webhooks()), after, left)
            step = await self._access.change(change, revived)
            after = step.last
            left -= len(step.callbacks)
            for callback in step.callbacks:
                yield callback


def _id_of(message_id: str, conn: sqlite3.Connection) -> int | None:
    row = conn.execute("SELECT id FROM callbacks WHERE message_id = ?", (message_id,)).fetchone()
    return None if row is None else int(row[0])


def _last(conn: sqlite3.Connection) -> int:
    return int(conn.execute(_LAST).fetchone()[0])


def _window_low(high: int, conn: sqlite3.Connection) -> int:
    """The lowest id of the WINDOW_ROWS callbacks below `high`; 0 when that reaches the first."""
    row = conn.execute(WINDOW, (high, WINDOW_ROWS - 1)).fetchone()
    return 0 if row is None else int(row[0])


def _find(
    query: DeliveryQuery, low: int, high: int, limit: int, conn: sqlite3.Connection
) -> list[DeliveryRow]:
    """Those with low <= id < high, newest first."""
    return [
        DeliveryRow(read(columns), CallbackState(state), finished_ms, status, error)
        for state, finished_ms, status, error, *columns in conn.execute(
            _FIND, _values(query, low, high, limit)
        )
    ]


def _made_at(
    udid: str, moments: Sequence[int], limit: int, conn: sqlite3.Connection
) -> list[DeliveryRow]:
    end = _last(conn) + 1
    found: list[DeliveryRow] = []
    for at_ms in moments:
        if len(found) >= limit:
            break
        low = _first_since(conn, at_ms, end)
        row = conn.execute(_LATER, (low, at_ms)).fetchone()
        high = end if row is None else row[0]
        query = DeliveryQuery(udid=udid, since_ms=at_ms, until_ms=at_ms + 1)
        found += _find(query, low, high, limit - len(found), conn)
    return found


def _first_since(conn: sqlite3.Connection, at_ms: int, end: int) -> int:
    """The lowest id of those made at that time or later; `end` where there is none."""
    low, high = 0, end
    while low < high:
        middle = (low + high) // 2
        row = conn.execute(_NEXT, (middle,)).fetchone()
        if row is None or row[0] >= high or row[1] >= at_ms:
            high = middle
        else:
            low = row[0] + 1
    row = conn.execute(_NEXT, (low,)).fetchone()
    return end if row is None else int(row[0])


def _revive(
    query: DeliveryQuery,
    webhooks: frozenset[int],
    after: int,
    limit: int,
    conn: sqlite3.Connection,
) -> _Revived:
    """Looks at the WINDOW_ROWS ids above `after`, takes REVIVE_ROWS or `limit` of them at most."""
    window = conn.execute(WINDOW_UP, (after, WINDOW_ROWS - 1)).fetchone()
    high = _last(conn) if window is None else int(window[0])
    limit = min(limit, REVIVE_ROWS)
    found = [read(row) for row in conn.execute(_FINISHED, _values(query, after, high, limit))]
    again = tuple(replace(each, due_ms=0) for each in found if each.webhook_id in webhooks)
    conn.executemany(_REVIVE, [(each.rowid,) for each in again])
    return _Revived(again, found[-1].rowid if len(found) == limit else high)


def _values(query: DeliveryQuery, low: int, high: int, limit: int) -> dict[str, Any]:
    return {
        "webhook_id": query.webhook_id,
        "udid": query.udid,
        "state": None if query.state is None else query.state.value,
        "message_id": query.message_id,
        "since_ms": query.since_ms,
        "until_ms": query.until_ms,
        "low": low,
        "high": high,
        "limit": limit,
    }
