"""The two frequent changes as data, and many of them in a few statements.

Every statement gives the interpreter's lock away and has to get it back from a busy event loop, so
that one statement for 64 rows does more than spare the parsing. What each change means stays
written once, in `queries`: at the first thing that does not fit the usual case everything is taken
back, and the changes are applied one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agent.model import CallbackState
from agent.store import queries, sql

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from agent.model import Attempt, Callback, DeviceRecord, Transition

_ROWS = (64, 16, 4, 1)
"""Rows of one statement: few sizes, so that they stay prepared."""


class UnusualError(Exception):
    """Not to be applied in bulk; nothing of it may be committed."""


@dataclass(slots=True)
class Record:
    """A device's row, its transition and its callbacks; see `queries.record`."""

    device: DeviceRecord
    transition: Transition | None
    callbacks: tuple[Callback, ...]

    def __call__(self, conn: sqlite3.Connection) -> tuple[Callback, ...]:
        """Apply it alone."""
        return queries.record(conn, self.device, self.transition, self.callbacks)


@dataclass(slots=True)
class Finish:
    """What came of a callback; see `queries.finish`."""

    callback: Callback
    attempt: Attempt | None
    state: CallbackState
    due_ms: int
    now: int

    def __call__(self, conn: sqlite3.Connection) -> int:
        """Apply it alone."""
        return queries.finish(conn, self.callback, self.attempt, self.state, self.due_ms, self.now)


def apply(
    conn: sqlite3.Connection, changes: Sequence[Callable[[sqlite3.Connection], Any]]
) -> list[Any]:
    """Apply the changes; their results.

    Records and outcomes overtake one another (an outcome is of a callback that an earlier
    transaction stored), but none of their own kind, and no other change.

    Raises:
        UnusualError: to be rolled back, and applied one by one.
    """
    results: list[Any] = [None] * len(changes)
    records: list[tuple[int, Record]] = []
    outcomes: dict[int, tuple[int, Finish]] = {}

    def flush() -> None:
        for (place, _), stored in zip(records, _record(conn, [r for _, r in records]), strict=True):
            results[place] = stored
        records.clear()
        for place, finish in outcomes.values():
            results[place] = int(finish.state is CallbackState.PENDING) - 1
        _finish(conn, [finish for _, finish in outcomes.values()])
        outcomes.clear()

    for place, change in enumerate(changes):
        if isinstance(change, Record):
            records.append((place, change))
        elif (
            isinstance(change, Finish)
            and change.attempt is not None
            and change.callback.rowid not in outcomes
        ):
            outcomes[change.callback.rowid] = (place, change)
        else:
            flush()
            results[place] = change(conn)
    flush()
    return results


def _record(conn: sqlite3.Connection, records: Sequence[Record]) -> list[tuple[Callback, ...]]:
    _insert(conn, sql.PUT_DEVICE, [queries.device_row(record.device) for record in records])
    _insert(
        conn,
        sql.ADD_TRANSITION,
        [queries.transition_row(r.transition) for r in records if r.transition is not None],
    )
    if not any(record.callbacks for record in records):
        return [() for _ in records]
    (rowid,) = conn.execute(sql.LAST_CALLBACK).fetchone()
    stored = []
    for record in records:
        first, rowid = rowid + 1, rowid + len(record.callbacks)
        stored.append(queries.with_rowids(record.callbacks, first))
    _insert(
        conn, sql.ADD_CALLBACK, [queries.callback_row(each) for made in stored for each in made]
    )
    return stored


def _finish(conn: sqlite3.Connection, finishes: Sequence[Finish]) -> None:
    tried, moved = [], []
    for each in finishes:
        assert each.attempt is not None
        key = (each.callback.rowid, each.callback.message_id)
        finished_ms = None if each.state is CallbackState.PENDING else each.now
        tried.append((*key, *queries.attempt_row(each.attempt)))
        moved.append((*key, each.state.value, each.due_ms, finished_ms))
    found = _insert(conn, sql.ADD_ATTEMPTS, tried)
    if found == _insert(conn, sql.FINISH_ALL_PENDING, moved) == len(finishes):
        return
    raise UnusualError  # one is gone, or no longer pending


def _insert(conn: sqlite3.Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
    """Run it for all rows; how many it touched."""
    touched = start = 0
    while start < len(rows):
        size = next(size for size in _ROWS if size <= len(rows) - start)
        chunk = rows[start : start + size]
        values = [value for row in chunk for value in row]
        touched += conn.execute(sql.for_rows(statement, len(chunk[0]), size), values).rowcount
        start += size
    return touched
