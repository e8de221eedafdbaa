"""Deletes finished history that is older than the retention, a bounded slice at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from agent.store.commit import roll_back
from agent.store.tables import callbacks, log, transitions

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


def sweep(conn: sqlite3.Connection, before_ms: int) -> Swept:
    """Delete one slice of what finished before that time.

    Pending callbacks, devices and each device's newest transition stay whatever their age; so do
    transitions that the fleet's hub has not acknowledged, as far as `log.KEPT_BACK` goes.
    """
    try:
        conn.execute("BEGIN IMMEDIATE")
        deleted = callbacks.expire(conn, before_ms, SLICE)
        may_go, told = log.may_go(conn)
        gone = transitions.expire(conn, before_ms, may_go, SLICE)
        conn.execute("COMMIT")
    except BaseException:
        roll_back(conn)
        raise
    more = max(deleted, len(gone)) >= SLICE or _give_back(conn)
    return Swept(more, sum(id_ > told for id_ in gone))


def _give_back(conn: sqlite3.Connection) -> bool:
    """Shorten the file by one slice of its free pages, if they are many."""
    (free,) = conn.execute("PRAGMA freelist_count").fetchone()
    (pages,) = conn.execute("PRAGMA page_count").fetchone()
    if free <= max(_FREE_PAGES_KEPT, pages // 4):
        return False
    # `execute` would stop after one page: the pragma steps through rows without columns.
    conn.executescript(f"PRAGMA incremental_vacuum({SLICE})")
    return True
