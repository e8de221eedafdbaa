"""Many changes in one transaction, of which a bad one takes nobody else down."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from agent.store import bulk
from agent.store.faults import Trouble, trouble
from agent.store.tables import meta

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Outcome(NamedTuple):
    """What one change returned, or why it was refused."""

    result: Any
    refusal: Exception | None


class UncertainCommitError(Exception):
    """COMMIT itself failed: on another connection the batch may turn out to be stored."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        super().__init__("the commit failed")
        self.outcomes = outcomes


def commit(
    conn: sqlite3.Connection, changes: Sequence[Callable[[sqlite3.Connection], Any]], batch: int
) -> list[Outcome]:
    """Apply all changes, in order, in one transaction; durable on return. Leaves none open.

    A change that fails by its own fault (a constraint, a value that cannot be stored) is left out,
    with the reason as its outcome.

    Raises:
        UncertainCommitError: from COMMIT; its cause is the error.
        Exception: the disk or the file is at fault (see `faults.trouble`); nothing was stored.
    """
    try:
        return _transaction(conn, changes, batch, _apply_all)
    except bulk.UnusualError:
        return _transaction(conn, changes, batch, _apply_each)


def _transaction(
    conn: sqlite3.Connection,
    changes: Sequence[Callable[[sqlite3.Connection], Any]],
    batch: int,
    apply: Callable[
        [sqlite3.Connection, Sequence[Callable[[sqlite3.Connection], Any]]], list[Outcome]
    ],
) -> list[Outcome]:
    try:
        conn.execute("BEGIN IMMEDIATE")
        outcomes = apply(conn, changes)
        meta.put(conn, meta.BATCH, batch)
        try:
            conn.execute("COMMIT")
        except sqlite3.Error as error:
            raise UncertainCommitError(outcomes) from error
    except BaseException:
        roll_back(conn)
        raise
    return outcomes


def _apply_all(
    conn: sqlite3.Connection, changes: Sequence[Callable[[sqlite3.Connection], Any]]
) -> list[Outcome]:
    try:
        return [Outcome(result, None) for result in bulk.apply(conn, changes)]
    except Exception as error:
        if trouble(error) is Trouble.CHANGE:
            raise bulk.UnusualError from error
        raise


def _apply_each(
    conn: sqlite3.Connection, changes: Sequence[Callable[[sqlite3.Connection], Any]]
) -> list[Outcome]:
    return [_apply_alone(conn, change) for change in changes]


def _apply_alone(conn: sqlite3.Connection, change: Callable[[sqlite3.Connection], Any]) -> Outcome:
    conn.execute("SAVEPOINT one")
    try:
        outcome = Outcome(change(conn), None)
    except Exception as error:
        if trouble(error) is not Trouble.CHANGE:
            raise
        conn.execute("ROLLBACK TO one")
        outcome = Outcome(None, error)
    conn.execute("RELEASE one")
    return outcome


def roll_back(conn: sqlite3.Connection) -> None:
    """End the transaction, if SQLite has not done so already."""
    if conn.in_transaction:
        with suppress(sqlite3.Error):
            conn.execute("ROLLBACK")
