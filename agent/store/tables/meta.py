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
AGED = "aged"
"""The time up to which things have grown old, in ms; see `agent.store.ageing`."""
DONE_STREAM = "done_stream"
DONE_THROUGH = "done_through"
"""Of a hub: how far it has read what others delivered; see `elsewhere`."""


def get(conn: sqlite3.Connection, key: str) -> int:
    """One of them. CorruptError: it is missing, or no number."""
    row = conn.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    if row is None or not isinstance(row[0], int):
        raise CorruptError(f"meta: {key} is {'missing' if row is None else repr(row[0])}")
    return row[0]


def put(conn: sqlite3.Connection, key: str, value: int) -> None:
    """Set one of them."""
    conn.execute("UPDATE meta SET value = ? WHERE key = ?", (value, key))


def find(conn: sqlite3.Connection, key: str) -> int:
    """One that is there only once it was entered; 0: it was not."""
    row = conn.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return row[0] if row is not None and isinstance(row[0], int) else 0


def enter(conn: sqlite3.Connection, key: str, value: int) -> None:
    """Set it, be it there or not."""
    conn.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))
