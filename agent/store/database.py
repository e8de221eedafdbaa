"""The one connection: opened, reopened after a failing disk, replaced after corruption."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from agent.errors import StoreError
from agent.store import files, recovery
from agent.store.commit import Outcome, UncertainCommitError, commit
from agent.store.faults import CorruptError, Trouble, explain, primary_code, trouble
from agent.store.lock import DirectoryLock, prepare
from agent.store.tables import log as transition_log
from agent.store.tables import meta

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

log = structlog.get_logger(__name__)

SQLITE_VERSION = sqlite3.sqlite_version
"""Of the library that this Python uses."""
_RECOVERY_PAUSE = 60.0
"""Seconds between two recoveries: on a dying disk set-aside files must not pile up."""
_FAILURES_TO_REOPEN = 3


class Database:
    """The store's file, with the lock on its directory.

    Not thread-safe: after `open` it belongs to the writer thread.
    """

    def __init__(self, directory: Path) -> None:
        self._lock: DirectoryLock | None = None
        self.path = directory / files.STATE_NAME
        self.recovered_from = ""
        self._conn: sqlite3.Connection | None = None
        self._batch = 0
        self._failures = 0
        self._uncertain: list[Outcome] | None = None
        self._next_recovery = 0.0

    def open(self) -> None:
        """Open the store, made or recovered where needed; milliseconds, except for a recovery.

        Raises:
            StoreLockedError: another agent has the directory.
            StoreVersionError: a newer agent wrote the store.
            StoreError: the directory or the disk; nothing is left open.
        """
        prepare(self.path.parent)
        self._lock = DirectoryLock(self.path.parent)
        try:
            self._connect(create=True)
            self._batch = self.read(partial(meta.get, key=meta.BATCH))  # damage may show only here
        except BaseException as error:
            self.close()
            if isinstance(error, OSError | sqlite3.Error | CorruptError):
                raise StoreError(
                    f"cannot open the store {self.path}: {explain(error)}. Check the disk's space"
                    f" and health, and that user id {os.geteuid()} may write there."
                ) from error
            raise

    def _connect(self, *, create: bool) -> sqlite3.Connection:
        recovery.tidy(self.path)
        wal_lost = False
        if not self.path.exists():
            if not create:
                # Its disk is away, say: an empty store in its place would hide that.
                raise OSError(f"{self.path} is gone; is its file system still mounted?")
            if files.beside(self.path, "-wal").exists():
                self.recovered_from = str(recovery.set_wal_aside(self.path))
            files.create(self.path)
        elif files.wal_is_garbage(self.path):
            self.recovered_from = str(recovery.set_wal_aside(self.path))
            wal_lost = True
        try:
            self._conn = files.open_existing(self.path)
        except (CorruptError, sqlite3.Error) as error:
            if trouble(error) is not Trouble.CORRUPT:
                raise
            self._conn = self._replace(error)
        if wal_lost:
            transition_log.begin_anew(self._conn)
        return self._conn

    def _replace(self, error: Exception) -> sqlite3.Connection:
        if time.monotonic() < self._next_recovery:
            raise error
        self._drop_connection()
        self.recovered_from = str(recovery.recover(self.path, error))
        self._next_recovery = time.monotonic() + _RECOVERY_PAUSE
        self._conn = files.open_existing(self.path)
        return self._conn

    def commit(self, changes: Sequence[Callable[[sqlite3.Connection], Any]]) -> list[Outcome]:
        """Store the changes in one transaction.

        To be repeated with the same changes (more may be added behind them) until it succeeds. May
        return outcomes of fewer changes than were given: the first ones, which an earlier call
        that failed has stored after all.

        Raises:
            OSError, sqlite3.Error, StoreError: not stored; try again later.
        """
        try:
            conn = self._connected()
            if self._uncertain is not None:
                done, self._uncertain = self._uncertain, None
                if self._was_stored(conn):
                    self._failures = 0
                    return done
            outcomes = commit(conn, changes, self._batch + 1)
        except UncertainCommitError as failure:
            self._uncertain = failure.outcomes
            cause = failure.__cause__
            assert isinstance(cause, Exception)
            self._failed(cause)
            raise cause from None
        except Exception as error:
            self._failed(error)
            raise
        self._batch += 1
        self._failures = 0
        return outcomes

    def _was_stored(self, conn: sqlite3.Connection) -> bool:
        """Is the batch whose COMMIT failed in the file after all, found so by a new connection?

        What the failed fsync left in memory is then forced to disk by a checkpoint.
        """
        if meta.get(conn, meta.BATCH) != self._batch + 1:
            return False
        (busy, _, _) = conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise OSError("the write-ahead log could not be written back")
        self._batch += 1
        return True

    def read(self, question: Callable[[sqlite3.Connection], Any]) -> Any:
        """Answer a question about what is stored.

        Raises:
            OSError, sqlite3.Error, StoreError: it cannot be read now.
        """
        try:
            return question(self._connected())
        except (sqlite3.Error, CorruptError) as error:
            if trouble(error) is not Trouble.CORRUPT:
                raise
            return question(self._replace(error))

    def _connected(self) -> sqlite3.Connection:
        return self._conn or self._connect(create=False)

    def _failed(self, error: Exception) -> None:
        """After a failed commit: see to a connection that the next one can use."""
        self._failures += 1
        kind = trouble(error)
        if kind is Trouble.CORRUPT:
            self._replace(error)
        elif (
            self._failures % _FAILURES_TO_REOPEN == 0
            and primary_code(error) not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY)
            and os.access(self.path.parent, os.W_OK)
        ):
            # A device that went and came back leaves the old descriptors dead for ever. On a
            # read-only file system a new connection could not even read: keep the old one.
            log.info("store.reopening", file=str(self.path), error=explain(error))
            self._drop_connection()

    def _drop_connection(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            with suppress(sqlite3.Error):
                conn.close()

    def close(self) -> None:
        """Write the WAL back, close, and let other agents in; never raises."""
        self._drop_connection()
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def explain_write(path: Path, error: Exception) -> str:
    """Why nothing can be written, for the operator."""
    return (
        f"cannot write {path}: {explain(error)}. Changes are kept in memory and written when it is"
        " possible again; free space or repair the disk."
    )
