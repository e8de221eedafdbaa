"""Deletes finished history that is older than the retention, a bounded slice at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.store.commit import roll_back
from agent.store.tables import callbacks, transitions

if TYPE_CHECKING:
    import sqlite3

SLICE = 500
"""Rows deleted in one transaction, at most, of each kind: some 10 ms of the writer's time."""
_FREE_PAGES_KEPT = 1_024
"""Free pages below this (4 MiB) are kept for reuse; above, a quarter of the file may be free."""


def sweep(conn: sqlite3.Connection, before_ms: int) -> bool:
    """Delete one slice of what finished before that time; returns whether there may be more.

    Pending callbacks, devices and each device's newest transition stay whatever their age.
    """
    try:
        conn.execute("BEGIN IMMEDIATE")
        deleted = callbacks.expire(conn, before_ms, SLICE)
        most = max(deleted, transitions.expire(conn, before_ms, SLICE))
        conn.execute("COMMIT")
    except BaseException:
        roll_back(conn)
        raise
    return most >= SLICE or _give_back(conn)


def _give_back(conn: sqlite3.Connection) -> bool:
    """Shorten the file by one slice of its free pages, if they are many."""
    (free,) = conn.execute("PRAGMA freelist_count").fetchone()
    (pages,) = conn.execute("PRAGMA page_count").fetchone()
    if free <= max(_FREE_PAGES_KEPT, pages // 4):
        return False
    # `execute` would stop after one page: the pragma steps through rows without columns.
    conn.executescript(f"PRAGMA incremental_vacuum({SLICE})")
    return True
