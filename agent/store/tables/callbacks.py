"""The outbox: what is pending, in its order, and what became of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import structlog

from agent.model import Attempt, Callback, CallbackState, DeviceState
from agent.store.bulk import Bulk, UnusualError
from agent.store.faults import CorruptError
from agent.store.tables import attempts
from agent.store.tables.table import every, run

if TYPE_CHECKING:
    import asyncio
    import sqlite3
    from collections.abc import Sequence

    from agent.clock import Clock
    from agent.store.tables.backlog import Backlog
    from agent.store.tables.table import Access

log = structlog.get_logger(__name__)

CANCEL_ROWS = 2_000
"""How many callbacks one change cancels: tens of milliseconds' worth."""
_NO_HEADERS = "[]"

# Ids are given by the writer, the only one who does: a statement for many rows tells none.
_LAST_GIVEN: Final = (
    "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'callbacks'), 0)"
)
_ADD: Final = """
INSERT INTO callbacks (id, message_id, webhook_id, udid, created_ms, body, headers, device_state,
                       attempts, due_ms, state)
VALUES {rows}
"""
COLUMNS: Final = """c.message_id, c.webhook_id, c.udid, c.created_ms, c.body, c.headers,
       c.device_state, c.id, c.attempts, c.due_ms"""
"""What `read` reads."""
# `state = 'pending'` stands literally wherever it should be answered by the partial index.
PENDING: Final = f"""
SELECT {COLUMNS} FROM callbacks AS c
WHERE state = 'pending' AND webhook_id = ? AND udid = ? AND id > ? ORDER BY id LIMIT ?
"""  # noqa: S608 - constant columns
# A loose index scan: from the head of one lane a seek or two find the head of the next.
# (SQLite would use only the first column of a row value's comparison.)
LANES: Final = f"""
WITH RECURSIVE head (webhook_id, udid, id) AS (
    SELECT * FROM (
        SELECT webhook_id, udid, id FROM callbacks WHERE state = 'pending'
        ORDER BY webhook_id, udid, id LIMIT 1
    )
    UNION ALL
    SELECT next.webhook_id, next.udid, next.id FROM head CROSS JOIN callbacks AS next
    WHERE next.id = coalesce(
        (SELECT id FROM callbacks
         WHERE state = 'pending' AND webhook_id = head.webhook_id AND udid > head.udid
         ORDER BY udid, id LIMIT 1),
        (SELECT id FROM callbacks
         WHERE state = 'pending' AND webhook_id > head.webhook_id
         ORDER BY webhook_id, udid, id LIMIT 1)
    )
)
SELECT {COLUMNS} FROM head CROSS JOIN callbacks AS c ON c.id = head.id
ORDER BY c.webhook_id, c.udid
"""  # noqa: S608 - constant columns
# Rows: id, message id, state, due, finished. `+`: by the id, not by the index of what is pending.
FINISH_PENDING: Final = """
UPDATE callbacks
SET attempts = attempts + 1, state = new.column3, due_ms = new.column4, finished_ms = new.column5
FROM (VALUES {rows}) AS new
WHERE callbacks.id = new.column1 AND message_id = new.column2 AND +callbacks.state = 'pending'
"""
_KNOWN: Final = "SELECT message_id FROM callbacks WHERE message_id IN ({marks})"
_KNOWN_AT_ONCE: Final = 500
_FINISH: Final = """
UPDATE callbacks
SET attempts = attempts + 1, due_ms = ?4, finished_ms = ?5,
    state = CASE state WHEN 'delivered' THEN state ELSE ?3 END
WHERE id = ?1 AND message_id = ?2
"""
_COUNT_ATTEMPT: Final = (
    "UPDATE callbacks SET attempts = attempts + 1 WHERE id = ? AND message_id = ?"
)
# Of one lane all but the newest, oldest first.
SUPERSEDE: Final = """
UPDATE callbacks SET state = 'cancelled', finished_ms = ?1
WHERE id IN (
    SELECT id FROM callbacks WHERE state = 'pending' AND webhook_id = ?2 AND udid = ?3 AND id < (
        SELECT max(id) FROM callbacks WHERE state = 'pending' AND webhook_id = ?2 AND udid = ?3
    ) ORDER BY id LIMIT ?4
) RETURNING message_id
"""
EXPIRE: Final = """
DELETE FROM callbacks WHERE id IN (
    SELECT id FROM callbacks WHERE finished_ms < ? ORDER BY finished_ms LIMIT ?
)
"""

Columns = tuple[str, int, str, int, bytes, str, str | None, int, int, int]


class PendingLane(NamedTuple):
    """One (webhook, device) that has callbacks to send, with the first of them."""

    webhook_id: int
    udid: str
    head: Callback


class Callbacks:
    """What the dispatcher asks and changes; `Store.record` adds callbacks."""

    def __init__(self, access: Access, backlog: Backlog, clock: Clock) -> None:
        self._access = access
        self._backlog = backlog
        self._clock = clock

    async def lanes(self) -> list[PendingLane]:
        """One per (webhook, device) that has pending callbacks, with the first. O(lanes)."""
        heads = await self._access.ask(every(read, LANES))
        return [PendingLane(head.webhook_id, head.udid, head) for head in heads]

    async def pending(self, webhook_id: int, udid: str, after: int, limit: int) -> list[Callback]:
        """Pending callbacks of one lane with rowid > after, in order, at most `limit`."""
        return await self._access.ask(every(read, PENDING, webhook_id, udid, after, limit))

    def finish(
        self, callback: Callback, attempt: Attempt, state: CallbackState, due_ms: int = 0
    ) -> asyncio.Future[int]:
        """Record the attempt and move the callback on; returns by how much more is pending.

        PENDING with `due_ms` is a retry; else DELIVERED or DEAD. A retry does not revive a callback
        that was cancelled meanwhile. A callback that the store no longer has is logged and ignored.
        """
        return self._access.change(
            Finish(callback, attempt, state, due_ms, self._clock.wall_ms()),
            partial(self._backlog.move, callback.webhook_id),
        )

    def supersede(self, webhook_id: int, udid: str) -> asyncio.Future[list[str]]:
        """Cancel what one lane has pending, but for its newest; returns their message ids.

        At most a few thousand at once: to be asked for until nothing older is left.
        """
        now = self._clock.wall_ms()

        def change(conn: sqlite3.Connection) -> list[str]:
            rows = conn.execute(SUPERSEDE, (now, webhook_id, udid, CANCEL_ROWS))
            return [message_id for (message_id,) in rows]

        return self._access.change(change, lambda ids: self._backlog.move(webhook_id, -len(ids)))


@dataclass(slots=True, eq=False)
class Finish(Bulk[int]):
    """What came of a callback; the result is by how much more is pending."""

    callback: Callback
    attempt: Attempt
    state: CallbackState
    due_ms: int
    now_ms: int

    @property
    def subject(self) -> int:
        """The callback."""
        return self.callback.rowid

    @classmethod
    def apply_all(cls, conn: sqlite3.Connection, changes: Sequence[Finish]) -> list[int]:
        """All of them are pending, or it is unusual."""
        tried = attempts.add(conn, [(*_key(each), each.attempt) for each in changes])
        moved = run(conn, FINISH_PENDING, [_outcome(each) for each in changes])
        if not tried == moved == len(changes):
            raise UnusualError  # one is gone, or no longer pending
        return [int(each.state is CallbackState.PENDING) - 1 for each in changes]

    def __call__(self, conn: sqlite3.Connection) -> int:
        """First as the pending one that it nearly always is, so that it is known whether it was."""
        attempts.add(conn, [(*_key(self), self.attempt)])
        retry = self.state is CallbackState.PENDING
        if run(conn, FINISH_PENDING, [_outcome(self)]):
            return int(retry) - 1
        # A retry's outcome never revives a callback that was cancelled meanwhile.
        late = (_COUNT_ATTEMPT, _key(self)) if retry else (_FINISH, _outcome(self))
        if not conn.execute(*late).rowcount:
            log.warning(
                "store.callback_unknown",
                message_id=self.callback.message_id,
                webhook_id=self.callback.webhook_id,
                device=self.callback.udid,
                state=self.state.value,
                hint="its row was deleted or lost to corruption; nothing to update",
            )
        return 0


def _key(finish: Finish) -> tuple[int, str]:
    return finish.callback.rowid, finish.callback.message_id


def _outcome(finish: Finish) -> tuple[int, str, str, int, int | None]:
    """A row of FINISH_PENDING, or the values of _FINISH."""
    finished_ms = None if finish.state is CallbackState.PENDING else finish.now_ms
    return (*_key(finish), finish.state.value, finish.due_ms, finished_ms)


def add(
    conn: sqlite3.Connection, groups: Sequence[tuple[Callback, ...]]
) -> list[tuple[Callback, ...]]:
    """Add them, pending; returns them with their ids."""
    if not any(groups):
        return list(groups)
    (last,) = conn.execute(_LAST_GIVEN).fetchone()
    stored = []
    for group in groups:
        stored.append(_with_rowids(group, last + 1))
        last += len(group)
    run(conn, _ADD, [_row(each) for group in stored for each in group])
    return stored


def new(conn: sqlite3.Connection, callbacks: Sequence[Callback]) -> tuple[Callback, ...]:
    """Those of them whose message ids are not there yet, each once.

    A hub makes the ids out of what it was told: what it is told again makes the same ones.
    """
    found = {each.message_id: each for each in callbacks}
    ids = list(found)
    for start in range(0, len(ids), _KNOWN_AT_ONCE):
        chunk = ids[start : start + _KNOWN_AT_ONCE]
        marks = ", ".join("?" * len(chunk))
        for (known,) in conn.execute(_KNOWN.format(marks=marks), chunk).fetchall():
            del found[known]
    return tuple(found.values())


def expire(conn: sqlite3.Connection, before_ms: int, limit: int) -> int:
    """Delete what finished before that time, `limit` at most; how many."""
    return conn.execute(EXPIRE, (before_ms, limit)).rowcount


def read(row: Columns) -> Callback:
    """A callback from its COLUMNS."""
    message_id, webhook_id, udid, created_ms, body, headers, state, rowid, attempts_, due_ms = row
    try:
        return Callback(
            message_id=message_id,
            webhook_id=webhook_id,
            udid=udid,
            created_ms=created_ms,
            body=body,
            headers=read_headers(headers),
            state=None if state is None else DeviceState(state),
            rowid=rowid,
            attempts=attempts_,
            due_ms=due_ms,
        )
    except ValueError as error:
        # SQLite has no checksums: damage inside a value is found by whoever reads it.
        raise CorruptError(f"the row of callback {rowid} makes no sense: {error}") from error


def read_headers(text: str) -> tuple[tuple[str, str], ...]:
    """A callback's headers as they are stored; ValueError."""
    if text == _NO_HEADERS:
        return ()
    try:
        return tuple((str(name), str(value)) for name, value in json.loads(text))
    except TypeError as error:
        raise ValueError(str(error)) from None


def _row(callback: Callback) -> tuple[Any, ...]:
    return (
        callback.rowid,
        callback.message_id,
        callback.webhook_id,
        callback.udid,
        callback.created_ms,
        callback.body,
        _headers(callback.headers),
        None if callback.state is None else callback.state.value,
        callback.attempts,
        callback.due_ms,
        "pending",
    )


@lru_cache(maxsize=64)
def _headers(headers: tuple[tuple[str, str], ...]) -> str:
    return json.dumps(headers) if headers else _NO_HEADERS


def _with_rowids(callbacks: tuple[Callback, ...], first: int) -> tuple[Callback, ...]:
    return tuple(
        # Three times as fast as `dataclasses.replace`, and done for every callback.
        Callback(
            each.message_id,
            each.webhook_id,
            each.udid,
            each.created_ms,
            each.body,
            each.headers,
            each.state,
            rowid,
            each.attempts,
            each.due_ms,
        )
        for rowid, each in enumerate(callbacks, start=first)
    )
