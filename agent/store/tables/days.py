"""Whole UTC days, packed (`agent.history.days`): what is left of them once they are old.

`meta` has `rolled_days`: the first day that is not reckoned up yet. What is written of a day before
that, because the wall clock was set back, takes it back to that day (`spoil`). A row counts where
its day is before that, or where it is final: its transitions are deleted, and nothing can be
reckoned anew. Any other row is left from before the clock was set back.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import structlog

from agent.history.days import DAY_MS, OPEN, Left, day_of, left_of
from agent.store.tables import meta
from agent.store.tables.table import every

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from agent.store.tables.table import Access

log = structlog.get_logger(__name__)

KEPT: Final = 1_100
"""Days that are kept: three years."""
ROLLED: Final = "rolled_days"
_LIST: Final = """
SELECT day, substr(said, 1, 1) FROM days WHERE day < ? OR substr(said, 1, 1) > x'01' ORDER BY day
"""
_LAST: Final = """
SELECT day, said FROM days WHERE day < ? AND (day < ? OR substr(said, 1, 1) > x'01')
ORDER BY day DESC LIMIT 1
"""
_OF: Final = "SELECT said FROM days WHERE day = ? AND day < ? AND substr(said, 1, 1) = x'01'"
_FINAL: Final = """
SELECT said FROM days WHERE day >= ? AND substr(said, 1, 1) > x'01' ORDER BY day LIMIT 1
"""
_LAST_FINAL: Final = """
SELECT day, said FROM days WHERE substr(said, 1, 1) > x'01' ORDER BY day DESC LIMIT 1
"""
_SAID: Final = "SELECT said FROM days WHERE day IN ({days}) ORDER BY day"
_PUT: Final = "INSERT OR REPLACE INTO days (day, said) VALUES (?, ?)"
_CLEAR: Final = "DELETE FROM days WHERE day >= ? AND day < ? AND substr(said, 1, 1) = x'01'"
_CLOSE: Final = """
UPDATE days SET said = CAST(x'02' || substr(said, 2) AS BLOB)
WHERE day < ? AND substr(said, 1, 1) = x'01'
"""
_EXPIRE: Final = """
DELETE FROM days WHERE day < (SELECT day FROM days ORDER BY day DESC LIMIT 1 OFFSET ?)
"""


class Listed(NamedTuple):
    """A day that counts."""

    day: int
    final: bool
    """Its transitions are deleted."""


class DaysListed(NamedTuple):
    """Which days there are."""

    rolled: int | None
    """The first that is not reckoned up; None: none was."""
    days: tuple[Listed, ...]
    """Those that count, in order; where one is missing, nothing happened, and nobody looked."""


class Days:
    """The days."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def listed(self) -> DaysListed:
        """Which there are."""
        return await self._access.ask(listed)

    async def left_before(self, day: int) -> Left:
        """What the last day before that one left that counts, and can be read."""
        return await self._access.ask(lambda conn: left_before(conn, day))

    async def packed(self, days: Sequence[int]) -> list[bytes]:
        """Those days, in order; one that is gone meanwhile is left out."""
        marks = ", ".join("?" * len(days))
        return await self._access.ask(
            every(lambda row: bytes(row[0]), _SAID.format(days=marks), *days)
        )


def rolled(conn: sqlite3.Connection) -> int | None:
    """The first day that is not reckoned up; None: none was."""
    row = conn.execute("SELECT value FROM meta WHERE key = ?", (ROLLED,)).fetchone()
    return None if row is None else int(row[0])


def listed(conn: sqlite3.Connection) -> DaysListed:
    """Which days there are."""
    first = rolled(conn)
    rows = conn.execute(_LIST, (first or 0,)).fetchall()
    return DaysListed(first, tuple(Listed(day, mark != OPEN) for day, mark in rows))


def left_before(conn: sqlite3.Connection, day: int) -> Left:
    """What the last day before that one left that counts, and can be read."""
    first = rolled(conn) or 0
    while (found := conn.execute(_LAST, (day, first)).fetchone()) is not None:
        day, said = found
        try:
            return left_of(bytes(said))
        except ValueError as error:
            log.error("store.day_unreadable", day=day, error=str(error))  # noqa: TRY400 - says it
    return Left()


def through_final(conn: sqlite3.Connection, end_ms: int) -> int | None:
    """What the last final day knew of, where it ends behind that time; None: it does not.

    What was written later and stamped before its end counts behind it.
    """
    found = conn.execute(_LAST_FINAL).fetchone()
    if found is None or (found[0] + 1) * DAY_MS <= end_ms:
        return None
    with suppress(ValueError):
        return left_of(bytes(found[1])).through
    return None


def last_of(conn: sqlite3.Connection, before_ms: int) -> int | None:
    """Id of the last transition of the packed day in which that time ends; None: it is none."""
    day = day_of(before_ms - 1)
    found = conn.execute(_OF, (day, rolled(conn) or 0)).fetchone()
    if found is None:
        return None
    with suppress(ValueError):
        return left_of(bytes(found[0])).last
    return None


def final_from(conn: sqlite3.Connection, at_ms: int) -> Left | None:
    """What the first day from that time on left that is final; None: there is none."""
    found = conn.execute(_FINAL, (-(-at_ms // DAY_MS),)).fetchone()
    if found is None:
        return None
    try:
        return left_of(bytes(found[0]))
    except ValueError:  # it is told where it is needed
        return None


def is_final(conn: sqlite3.Connection, day: int) -> bool:
    """Whether nothing can be reckoned up of that day any more."""
    found = conn.execute("SELECT substr(said, 1, 1) FROM days WHERE day = ?", (day,)).fetchone()
    return found is not None and found[0] != OPEN


def put(conn: sqlite3.Connection, day: int, packed: bytes) -> None:
    """Reckoned up; what was there of it, and was not final, is replaced."""
    assert packed[:1] == OPEN
    conn.execute(_PUT, (day, packed))


def roll_on(conn: sqlite3.Connection, begin: int, end: int) -> None:
    """All days before `end` are reckoned up; what is there from `begin` on was not final is old."""
    conn.execute(_CLEAR, (begin, end))
    meta.enter(conn, ROLLED, end)


def close(conn: sqlite3.Connection, before_ms: int) -> None:
    """Transitions older than that are about to be deleted: their days are final."""
    conn.execute(_CLOSE, (-(-before_ms // DAY_MS),))


def expire(conn: sqlite3.Connection) -> None:
    """Delete the days that are too many."""
    conn.execute(_EXPIRE, (KEPT - 1,))


def forget_ids(conn: sqlite3.Connection) -> None:
    """The ids of transitions begin anew: those that the days were reckoned up from are gone."""
    conn.execute("UPDATE days SET said = CAST(x'03' || substr(said, 2) AS BLOB)")


def spoil(conn: sqlite3.Connection, at_ms: int) -> None:
    """Something is written that counts at that time: its day is to be reckoned up anew."""
    first = rolled(conn)
    if first is not None and day_of(at_ms) < first:
        meta.enter(conn, ROLLED, day_of(at_ms))
