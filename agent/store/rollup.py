"""Reckons up the days that are over, a bounded slice of the writer's time at a time.

A day is read from what is stored of it: how each phone stood at the end of the last day that was
reckoned up, the transitions behind that, and the times that were watched. Days in which nothing
happened and nobody looked have no row. While a day is worked on it is in memory alone; it is stored
at once, with how far the days are reckoned up: a SIGKILL in the middle costs the work, no figure.
Where something was written of that day meanwhile, because the clock was set, it is begun anew.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.history.days import DAY_MS, Day, day_of, pack
from agent.history.replay import Replay
from agent.history.seen import Watch
from agent.model import Platform
from agent.store.commit import roll_back
from agent.store.tables import days, meta, transitions, watching

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from agent.history.seen import Watched

GRACE_MS: Final = 300_000
"""How long a day must be over: what was watched last is stored by then."""


class _Work(NamedTuple):
    """A day that is being reckoned up."""

    day: int
    begin: int
    """What the day before left."""
    rolled: int | None
    epoch: int
    """Of the log: ids begin anew with it."""
    newest: int
    """Id of the last transition that there was when it was begun with."""
    last: int
    """Of the last one that may belong to it."""
    rows: list[Watched]
    replay: Replay


class Roller:
    """Reckons up; on the writer's thread alone.

    Args:
        page: transitions that are taken at once.
        seconds: that it works without a break; what is at once may take longer.
    """

    def __init__(self, page: int, seconds: float) -> None:
        self._page = page
        self._seconds = seconds
        self._work: _Work | None = None
        self._after = 0
        """Id of the last transition that was taken for it."""

    def step(self, conn: sqlite3.Connection, now_ms: int) -> bool:
        """Do some of it; whether there may be more. Leaves no transaction open."""
        until = time.monotonic() + self._seconds
        while more := self._step(conn, now_ms):
            if time.monotonic() >= until:
                break
        return more

    def _step(self, conn: sqlite3.Connection, now_ms: int) -> bool:
        work = self._work
        if work is None or not _goes_on(conn, work):
            return self._begin(conn, now_ms)
        page = transitions.between(conn, self._after, work.last, self._page)
        for each in page:
            work.replay.take(each.id, each.transition)
        if page:
            self._after = page[-1].id
        if len(page) == self._page:
            return True
        self._work = None
        self._store(conn, work)
        return True

    def _begin(self, conn: sqlite3.Connection, now_ms: int) -> bool:
        """Look for the next day; whether there is one, or may be."""
        self._work = None
        rolled, today = days.rolled(conn), day_of(now_ms - GRACE_MS)
        if rolled is not None and rolled >= today:
            return False
        day = _next_day(conn, rolled)
        if day is None or day >= today:
            if rolled is not None:
                _transact(conn, lambda: days.roll_on(conn, rolled, today))
            return False
        if days.is_final(conn, day):
            first = day if rolled is None else rolled
            _transact(conn, lambda: days.roll_on(conn, first, day + 1))
            return True
        left = days.left_before(conn, day)
        begin, end = day * DAY_MS, (day + 1) * DAY_MS
        newest = transitions.newest_id(conn)
        rows = watching.within(conn, left.end_ms, end)
        watch, of = Watch(rows), platforms(conn)
        replay = Replay(left.through, left.standing, watch, of, left.end_ms, begin, end)
        last = transitions.last_for(conn, left, end)
        self._work = _Work(
            day, left.end_ms, rolled, meta.get(conn, meta.EPOCH), newest, last, rows, replay
        )
        self._after = max(0, left.next - 1)
        return True

    def _store(self, conn: sqlite3.Connection, work: _Work) -> None:
        replay, end = work.replay, (work.day + 1) * DAY_MS
        replay.close()
        beyond = replay.beyond or work.last + 1
        packed = pack(Day(end, work.newest, work.last, beyond, replay.standing, replay.figures))

        def change() -> None:
            same = (
                _goes_on(conn, work)
                and work.rows == watching.within(conn, work.begin, end)
                and not transitions.any_stamped_before(conn, end, work.newest)
            )
            if same:
                rolled = work.day if work.rolled is None else work.rolled
                days.roll_on(conn, rolled, work.day + 1)
                days.put(conn, work.day, packed)
                days.expire(conn)

        _transact(conn, change)


def _next_day(conn: sqlite3.Connection, rolled: int | None) -> int | None:
    """The first that is not reckoned up, and in which anything happened, or somebody looked."""
    begin = 0 if rolled is None else rolled * DAY_MS
    times = [transitions.first_stamp(conn, begin), watching.first_since(conn, begin)]
    found = min((day_of(at) for at in times if at is not None), default=None)
    if rolled is not None and found != rolled:
        left = days.left_before(conn, rolled)
        if transitions.any_stamped_before(conn, begin, left.through):
            return rolled
    return found


def _goes_on(conn: sqlite3.Connection, work: _Work) -> bool:
    """Whether the day is still the next, and its ids mean what they meant."""
    return work.rolled == days.rolled(conn) and work.epoch == meta.get(conn, meta.EPOCH)


def _transact(conn: sqlite3.Connection, change: Callable[[], None]) -> None:
    try:
        conn.execute("BEGIN IMMEDIATE")
        change()
        conn.execute("COMMIT")
    except BaseException:
        roll_back(conn)
        raise


def platforms(conn: sqlite3.Connection) -> dict[str, Platform]:
    """Of each phone."""
    rows = conn.execute("SELECT udid, platform FROM devices")
    return {udid: Platform(platform) for udid, platform in rows}
