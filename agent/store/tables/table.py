"""What every table's module stands on."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import asyncio
    import sqlite3
    from collections.abc import Callable, Sequence

T = TypeVar("T")

_ROWS = (64, 16, 4, 1)
"""Rows of one statement: few sizes, so that they stay prepared."""


class Access(Protocol):
    """The way to the writer thread.

    What is handed over runs there, inside a transaction that is not its own to end. It raises
    `StoreError` for what an operator must decide, and `CorruptError` for rows that make no sense;
    sqlite3's own errors pass through.
    """

    def ask(
        self, question: Callable[[sqlite3.Connection], T], then: Callable[[T], None] | None = None
    ) -> asyncio.Future[T]:
        """Answer it from what is stored."""

    def change(
        self, change: Callable[[sqlite3.Connection], T], then: Callable[[T], None] | None = None
    ) -> asyncio.Future[T]:
        """Make it durable; queued by the call.

        `then` hears each result on the loop, in the order of the commits, also if nobody waits.
        """


def every(
    read: Callable[[Any], T], statement: str, *values: object
) -> Callable[[sqlite3.Connection], list[T]]:
    """The question for all rows of the statement, each made by `read`."""
    return lambda conn: [read(row) for row in conn.execute(statement, values)]


def run(conn: sqlite3.Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
    """Run it for all rows, many at once (see `for_rows`); how many it touched."""
    if len(rows) == 1:  # as it is while little happens
        (row,) = rows
        return conn.execute(for_rows(statement, len(row), 1), row).rowcount
    touched = start = 0
    while start < len(rows):
        size = next(size for size in _ROWS if size <= len(rows) - start)
        chunk = rows[start : start + size]
        values = [value for row in chunk for value in row]
        touched += conn.execute(for_rows(statement, len(chunk[0]), size), values).rowcount
        start += size
    return touched


@lru_cache(maxsize=64)
def for_rows(statement: str, width: int, rows: int) -> str:
    """The statement with its `{rows}` filled in: `(?, ?), (?, ?)`."""
    return statement.format(rows=", ".join([f"({', '.join('?' * width)})"] * rows))
