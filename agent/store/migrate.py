"""Brings a store's file to the schema of this agent, one numbered script at a time."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from agent.errors import StoreVersionError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from pathlib import Path


def scripts() -> tuple[str, ...]:
    """The migrations of this agent, in order: script n brings the file to `user_version` n + 1."""
    folder = files("agent.store") / "schema"
    found = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".sql")),
        key=lambda entry: entry.name,
    )
    return tuple(entry.read_text(encoding="utf-8") for entry in found)


def version(conn: sqlite3.Connection) -> int:
    """The file's schema version; 0: an empty file."""
    (number,) = conn.execute("PRAGMA user_version").fetchone()
    return int(number)


def migrate(conn: sqlite3.Connection, path: Path, migrations: Sequence[str]) -> None:
    """Apply what is missing, each script in its own transaction; a failed one leaves no trace.

    Raises:
        StoreVersionError: a newer agent wrote the file; it is not touched.
        sqlite3.Error: the script failed (disk full, say).
    """
    have = version(conn)
    if have > len(migrations):
        raise StoreVersionError(
            f"{path} has schema version {have}, but this agent knows versions up to"
            f" {len(migrations)}: a newer agent wrote it. Run that version again, or give this"
            " agent another state_dir."
        )
    for number, script in enumerate(migrations[have:], start=have + 1):
        try:
            conn.executescript(
                f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;"
            )
        except BaseException:
            if conn.in_transaction:
                conn.execute("ROLLBACK")
            raise
