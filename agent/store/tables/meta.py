"""Single numbers of the store itself; the schema says what they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

BATCH = "batch"
WEBHOOK_FLOOR = "webhook_floor"


def get(conn: sqlite3.Connection, key: str) -> int:
    """One of them."""
    (value,) = conn.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return int(value)


def put(conn: sqlite3.Connection, key: str, value: int) -> None:
    """Set one of them."""
    conn.execute("UPDATE meta SET value = ? WHERE key = ?", (value, key))
