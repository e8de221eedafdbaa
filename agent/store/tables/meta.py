"""Single numbers of the store itself; the schema says what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.store.faults import CorruptError

if TYPE_CHECKING:
    import sqlite3

BATCH = "batch"
WEBHOOK_FLOOR = "webhook_floor"
EPOCH = "epoch"
FLEET_ACKED = "fleet_acked"


def get(conn: sqlite3.Connection, key: str) -> int:
    """One of them. CorruptError: it is missing, or no number."""
    row = conn.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    if row is None or not isinstance(row[0], int):
        raise CorruptError(f"meta: {key} is {'missing' if row is None else repr(row[0])}")
    return row[0]


def put(conn: sqlite3.Connection, key: str, value: int) -> None:
    """Set one of them."""
    conn.execute("UPDATE meta SET value = ? WHERE key = ?", (value, key))
