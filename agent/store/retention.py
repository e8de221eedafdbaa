"""Deletes finished history that is older than the retention, a bounded slice at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.history.days import DAY_MS
from agent.store.commit import roll_back
from agent.store.tables import callbacks, days, log, transitions, watching

if TYPE_CHECKING:
    import sqlite3

SLICE = 500
"""Rows deleted in one transaction, at most, of each kind: some 10 ms of the writer's time."""
_FREE_PAGES_KEPT = 1_024
"""Free pages below this (4 MiB) are kept for reuse; above, a quarter of the file may be free."""


class Swept(NamedTuple):
    """What came of a sweep."""

    more: bool
    """There may be more to delete."""
    untold: int
    """Transitions that are gone, and that the fleet's hub never had: it stays away too long."""
    unrolled: int
    """Transitions that are gone, and were never reckoned up for reports: they were too many."""


def sweep(conn: sqlite3.Connection, before_ms: int) -> Swept:
    """Delete one slice of what finished before that time.

    Pending callbacks, devices and each device's newest transition stay whatever their age; so do
    transitions that the fleet's hub has not acknowledged, and those of days that are not reckoned
    up yet (`rollup`), as far as `log.KEPT_BACK` goes.
    """
    try:
        conn.execute("BEGIN IMMEDIATE")
        deleted = callbacks.expire(conn, before_ms, SLICE)
        may_go, told = log.may_go(conn)
        limit_ms = min(before_ms, (days.rolled(conn) or 0) * DAY_MS)
        through = days.through_final(conn, limit_ms)
        reckoned = may_go if through is None else min(may_go, through)
        gone = transitions.expire(conn, limit_ms, reckoned, SLICE)
        lost: list[int] = []
        if not gone and limit_ms < before_ms:
            too_many = min(may_go, transitions.newest_id(conn) - log.KEPT_BACK)
            gone = lost = transitions.expire(conn, before_ms, too_many, SLICE)
        watched = watching.expire(conn, limit_ms, SLICE)
        if watched or len(gone) > len(lost):
            days.close(conn, limit_ms)
        conn.execute("COMMIT")
    except BaseException:
        roll_back(conn)
        raise
    more = max(deleted, len(gone), watched) >= SLICE or _give_back(conn)
    return Swept(more, sum(id_ > told for id_ in gone), len(lost))


def _give_back(conn: sqlite3.Connection) -> bool:
    """Shorten the file by one slice of its free pages, if they are many."""
    (free,) = conn.execute("PRAGMA freelist_count").fetchone()
    (pages,) = conn.execute("PRAGMA page_count").fetchone()
    if free <= max(_FREE_PAGES_KEPT, pages // 4):
        return False
    # `execute` would stop after one page: the pragma steps through rows without columns.
    conn.executescript(f"PRAGMA incremental_vacuum({SLICE})")
    return True
