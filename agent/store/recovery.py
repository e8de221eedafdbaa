"""Sets a corrupt store aside and puts a fresh one, filled with what was readable, in its place."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from agent.disk import sync_directory
from agent.store import files
from agent.store.faults import explain
from agent.store.salvage import Report, salvage, working_copy

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

log = structlog.get_logger(__name__)


def tidy(path: Path) -> None:
    """Finish or undo what a crash interrupted; nothing may have the file open."""
    files.install(path)
    for suffix in (".new", ".fresh", ".salvage"):
        files.discard(files.beside(path, suffix))


def recover(path: Path, error: Exception) -> Path:
    """Replace the corrupt store at `path` (not open); returns the name it was set aside under.

    A crash at any point leaves either the corrupt store or the complete new one in place. The -wal
    is set aside too, unless SQLite wrote it back into the file when it closed it.

    Raises:
        OSError, sqlite3.Error: the disk is full or failing; to be tried again.
    """
    tidy(path)
    aside = _aside(path)
    report = Report()
    fresh = files.beside(path, ".fresh")
    copy: Path | None = None

    def fill(new: sqlite3.Connection) -> None:
        nonlocal report
        report = salvage(copy, new)

    new = files.beside(path, ".new")
    try:
        files.build(fresh)
        copy = working_copy(path, fresh)
        files.build(new, fill)
        for suffix in ("", *files.COMPANIONS):
            if files.beside(path, suffix).exists():
                files.keep_copy(files.beside(path, suffix), files.beside(aside, suffix))
        sync_directory(path.parent)
    except BaseException:
        files.discard(aside)
        raise
    finally:
        files.discard(fresh)
        if copy is not None:
            files.discard(copy)
    new.rename(files.beside(path, ".ready"))
    sync_directory(path.parent)
    files.install(path)
    log.error(
        "store.corrupt",
        file=str(path),
        error=explain(error),
        set_aside=str(aside),
        salvaged=", ".join(f"{count} {table}" for table, count in report.kept.items()) or "nothing",
        lost="; ".join(report.lost) or "nothing but the history of what was delivered",
        hint="the agent goes on with a fresh store; check the disk, keep the file for analysis",
    )
    return aside


def set_wal_aside(path: Path) -> Path:
    """Take a WAL that is none out of SQLite's way, which would ignore and overwrite it silently."""
    aside = files.beside(_aside(path), "-wal")
    files.beside(path, "-wal").rename(aside)
    sync_directory(path.parent)
    log.error(
        "store.corrupt",
        file=str(files.beside(path, "-wal")),
        error="the write-ahead log has no valid header",
        set_aside=str(aside),
        lost="changes since the last checkpoint (the newest states and callbacks)",
        hint="the agent goes on with the rest of the store; check the disk",
    )
    return aside


def _aside(path: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = files.beside(path, f".corrupt-{stamp}")
    number = 1
    while any(files.beside(aside, suffix).exists() for suffix in ("", "-wal")):
        number += 1
        aside = files.beside(path, f".corrupt-{stamp}.{number}")
    return aside
