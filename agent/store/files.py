"""The store's files, and the steps by which one file takes another's place, safe against a crash.

`state.db` with its `-wal` is the store. A new one is built as `state.db.new`; one that replaces a
corrupt store is named `state.db.ready` when it is complete and the old one was set aside. Without
this a crash could leave a half-made store, or an old WAL beside a new file, which SQLite would
replay.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from agent.disk import sync_directory
from agent.store.faults import CorruptError
from agent.store.migrate import migrate, scripts, version

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STATE_NAME = "state.db"
COMPANIONS = ("-wal", "-shm", "-journal")
TABLES = (
    "meta",
    "devices",
    "transitions",
    "webhooks",
    "callbacks",
    "attempts",
    "leases",
    "silences",
    "fleet",
    "watching",
    "days",
)
_WAL_LIMIT = 16 * 1024 * 1024
_WAL_HEADER = 32
_WAL_MAGIC = (0x377F0682, 0x377F0683)
_BUSY_SECONDS = 1.0

# EXCLUSIVE before the first access: no -shm file, and other programs are kept out.
_PRAGMAS = (
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA temp_store = MEMORY",
    f"PRAGMA journal_size_limit = {_WAL_LIMIT}",
)


def beside(path: Path, suffix: str) -> Path:
    """The path with the suffix appended to its name."""
    return path.with_name(path.name + suffix)


def connect(path: Path, *, fresh: bool = False) -> sqlite3.Connection:
    """Open an existing file the store's one way; autocommit, transactions are explicit.

    Writes nothing unless the file is `fresh` (empty), so that a full disk can be opened.
    """
    conn = sqlite3.connect(
        path.absolute().as_uri() + "?mode=rw",
        uri=True,
        isolation_level=None,
        check_same_thread=False,  # opened by the caller of Store.open, then only the writer's
        timeout=_BUSY_SECONDS,
        cached_statements=64,
    )
    try:
        if fresh:
            conn.execute("PRAGMA auto_vacuum = INCREMENTAL")  # would write to an existing file
        for pragma in _PRAGMAS:
            conn.execute(pragma).fetchall()
    except BaseException:
        conn.close()
        raise
    return conn


def open_existing(path: Path) -> sqlite3.Connection:
    """Connect, bring the schema up to date, and look at every table once.

    Raises:
        CorruptError, sqlite3.DatabaseError: not a store (see `faults.trouble`).
        StoreVersionError: a newer agent wrote it.
    """
    if path.stat().st_size == 0:
        raise CorruptError("the file is empty")
    conn = connect(path)
    try:
        _bring_up(conn, path)
    except BaseException:
        conn.close()
        raise
    return conn


def _bring_up(conn: sqlite3.Connection, path: Path) -> None:
    if version(conn) == 0:
        raise CorruptError("the file is a database, but not a store of this agent")
    migrate(conn, path, scripts())
    missing = set(TABLES) - tables(conn)
    if missing:
        raise CorruptError(f"tables are missing: {', '.join(sorted(missing))}")
    for table in TABLES:
        conn.execute(f"SELECT 1 FROM {table} NOT INDEXED LIMIT 1").fetchone()  # noqa: S608 - constant names


def tables(conn: sqlite3.Connection) -> frozenset[str]:
    """The names of the schema's tables, SQLite's own left out."""
    rows = conn.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    )
    return frozenset(name for (name,) in rows)


def build(path: Path, fill: Callable[[sqlite3.Connection], None] | None = None) -> None:
    """Make a complete new store of that name, filled by `fill` in one transaction, and on disk."""
    discard(path)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    try:
        conn = connect(path, fresh=True)
        try:
            migrate(conn, path, scripts())
            if fill is not None:
                conn.execute("BEGIN IMMEDIATE")
                fill(conn)
                conn.execute("COMMIT")
        finally:
            conn.close()  # writes the WAL back and removes it
        sync(path)
    except BaseException:
        discard(path)
        raise
    if beside(path, "-wal").exists():
        discard(path)
        raise OSError(f"{path} could not be completed: its -wal could not be written back")


def create(path: Path) -> None:
    """Make an empty store, whole or not at all."""
    new = beside(path, ".new")
    build(new)
    new.rename(path)
    sync_directory(path.parent)


def install(path: Path) -> bool:
    """Put a `.ready` store in place, if there is one; the old file must have been set aside."""
    ready = beside(path, ".ready")
    if not ready.exists():
        return False
    for suffix in COMPANIONS:
        beside(path, suffix).unlink(missing_ok=True)
    ready.replace(path)
    sync_directory(path.parent)
    return True


def keep_copy(source: Path, target: Path) -> None:
    """Give the file a second name, or where links are impossible, a copy."""
    with suppress(OSError):
        target.hardlink_to(source)
        return
    try:
        shutil.copyfile(source, target)
        sync(target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def discard(path: Path) -> None:
    """Remove a file and its companions."""
    for suffix in ("", *COMPANIONS):
        beside(path, suffix).unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Fsync a file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def wal_is_garbage(path: Path) -> bool:
    """Is there a WAL whose header is none? SQLite would ignore it, and what it holds, silently.

    Header and checksum as in the SQLite file format, section "The Write-Ahead Log". A header is
    written within one sector, so that a power cut leaves no half one.
    """
    try:
        with beside(path, "-wal").open("rb") as wal:
            header = wal.read(_WAL_HEADER)
            first_frame = wal.read(_WAL_HEADER)
    except FileNotFoundError:
        return False
    if not any(header) and not any(
        first_frame
    ):  # created, and nothing written before the power cut
        return False
    if len(header) < _WAL_HEADER:
        return True
    (magic,) = struct.unpack_from(">I", header)
    if magic not in _WAL_MAGIC:
        return True
    words = struct.unpack_from(">6I" if magic & 1 else "<6I", header)
    first = second = 0
    for left, right in zip(words[::2], words[1::2], strict=True):
        first = (first + left + second) & 0xFFFFFFFF
        second = (second + right + first) & 0xFFFFFFFF
    return struct.unpack_from(">2I", header, 24) != (first, second)
