"""The transitions as a log that a fleet's hub follows: gapless ids of one epoch.

Ids grow by one, and the newest row of each device is never deleted, so no id comes twice while the
file lives. Where the file has lost rows that may have been told (salvage, a lost WAL, a backup that
was put back), it begins a new epoch. What the hub has not acknowledged is not deleted by age.

A file that was put back, or a copy of it, may have grown beyond what the hub has by the time that
they meet. So each row has a check, and the hub goes on with a row only behind the one that it took
before: where the two have different rows of one id, the file begins a new epoch. The row that was
acknowledged last stays for that, however old.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.store.tables import devices, meta, transitions

if TYPE_CHECKING:
    import asyncio
    import sqlite3

    from agent.model import DeviceRecord
    from agent.store.tables.table import Access
    from agent.store.tables.transitions import StoredTransition

KEPT_BACK: Final = 1_000_000
"""Rows that are kept for a hub that does not acknowledge them, at most: some 150 MB."""
_IN_NO_FLEET: Final = -1
# -1 stays -1.
_BEGIN_ANEW: Final = """
UPDATE meta SET value = CASE key
    WHEN 'epoch' THEN random() & 0x7fffffffffffffff
    ELSE min(value, (SELECT coalesce(max(id), 0) FROM transitions))
END WHERE key IN ('epoch', 'fleet_acked')
"""
_NEWEST: Final = "SELECT coalesce(max(id), 0) FROM transitions"
# The newest transition of each device, where that is what made its state.
EVENTS: Final = """
SELECT d.udid, t.id FROM devices AS d CROSS JOIN transitions AS t
ON t.id = (SELECT max(id) FROM transitions WHERE udid = d.udid) WHERE t.state = d.state
"""


class LogState(NamedTuple):
    """Where the log stands."""

    epoch: int
    newest: int
    """Id of the newest row; 0: there was none yet."""
    acked: int | None
    """The hub has all up to that id; None: this agent is in no fleet."""

    @property
    def unsent(self) -> int:
        """Rows that the hub is not known to have."""
        return 0 if self.acked is None else max(0, self.newest - self.acked)


class LogRow(NamedTuple):
    """A transition, with what is stored of its device now."""

    stored: StoredTransition
    device: DeviceRecord
    check: int
    """See `check_of`."""
    before: int
    """Of the row before it; 0: that is not there any more."""


class LogSlice(NamedTuple):
    """Rows behind an id."""

    state: LogState
    rows: tuple[LogRow, ...]
    """In order, without a hole between them."""
    hole: bool
    """What should be the first of them was deleted; then there are none."""
    first: int
    """Id of the first row behind it that is there, hole or not; 0: none is."""
    check: int
    """Of the row with that id; 0: it is not there (any more)."""


class LogSnapshot(NamedTuple):
    """What all transitions together have come to, at one moment."""

    state: LogState
    check: int
    """Of the newest row."""
    devices: tuple[tuple[DeviceRecord, int], ...]
    """Each with the id of the transition that made its state; 0: that is stored no more."""


class Log:
    """What the fleet's uplink asks and changes."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def state(self) -> LogState:
        """Where it stands."""
        return await self._access.ask(state)

    async def after(self, id_: int, limit: int) -> LogSlice:
        """The rows behind that id, at most `limit`."""
        return await self._access.ask(lambda conn: _slice(conn, id_, limit))

    async def snapshot(self) -> LogSnapshot:
        """Every device that was ever stored, and the newest id, of one moment."""
        return await self._access.ask(_snapshot)

    def join(self) -> asyncio.Future[LogState]:
        """This agent is in a fleet: from the newest row on nothing is deleted unacknowledged.

        Where it was in one already, nothing changes.
        """
        return self._access.change(_join)

    def leave(self) -> asyncio.Future[None]:
        """This agent is in no fleet (any more): rows are deleted by age alone."""
        return self._access.change(_leave)

    def acknowledge(self, epoch: int, through: int, check: int) -> asyncio.Future[LogState]:
        """The hub has stored all up to that id; another epoch's, and what goes back, is nothing.

        Nor what it has of another file: see `compare`.
        """
        return self._access.change(lambda conn: _acknowledge(conn, epoch, through, check))

    def compare(self, epoch: int, through: int, check: int) -> asyncio.Future[LogState]:
        """A hub has taken the row of that id, with that check (0: not known).

        Where this file has another one there, or none yet, it is not the one that told it, but a
        backup that was put back, or a copy. It begins a new epoch.
        """
        return self._access.change(lambda conn: _compare(conn, epoch, through, check))


def state(conn: sqlite3.Connection) -> LogState:
    """Where the log stands."""
    (newest,) = conn.execute(_NEWEST).fetchone()
    acked = meta.get(conn, meta.FLEET_ACKED)
    return LogState(meta.get(conn, meta.EPOCH), newest, None if acked < 0 else acked)


def begin_anew(conn: sqlite3.Connection) -> None:
    """Begin a new epoch: rows that may have been told are lost. Whether in a fleet stays."""
    conn.execute(_BEGIN_ANEW)


def may_go(conn: sqlite3.Connection) -> tuple[int, int]:
    """Up to which id rows may be deleted by age, and up to which without any loss to a hub."""
    found = state(conn)
    if found.acked is None:
        return transitions.BEYOND_LAST, transitions.BEYOND_LAST
    return max(found.acked - 1, found.newest - KEPT_BACK), found.acked


def check_of(stored: StoredTransition) -> int:
    """Stands for what a row says: of two rows of one id it tells whether they are the same.

    Hubs keep it: what it is made of must not change within an epoch.
    """
    told = stored.transition
    said = (stored.id, told.udid, told.previous, told.state, told.reason, told.at_ms, told.holder)
    digest = blake2b(json.dumps(said).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1 or 1


def _check_at(conn: sqlite3.Connection, id_: int) -> int:
    found = transitions.between(conn, id_ - 1, id_, 1)
    return check_of(found[0]) if found else 0


def _slice(conn: sqlite3.Connection, id_: int, limit: int) -> LogSlice:
    check = before = _check_at(conn, id_)
    found = transitions.after(conn, id_, limit)
    whole = [each for place, each in enumerate(found, start=id_ + 1) if each.id == place]
    known = devices.get(conn, {each.transition.udid for each in whole})
    rows: list[LogRow] = []
    for each in whole:
        rows.append(LogRow(each, known[each.transition.udid], check_of(each), before))
        before = rows[-1].check
    hole, first = bool(found) and not whole, found[0].id if found else 0
    return LogSlice(state(conn), tuple(rows), hole=hole, first=first, check=check)


def _snapshot(conn: sqlite3.Connection) -> LogSnapshot:
    events = dict(conn.execute(EVENTS).fetchall())
    told = tuple((device, events.get(device.udid, 0)) for device in devices.all_of(conn))
    found = state(conn)
    return LogSnapshot(found, _check_at(conn, found.newest), told)


def _join(conn: sqlite3.Connection) -> LogState:
    found = state(conn)
    if found.acked is None:
        meta.put(conn, meta.FLEET_ACKED, found.newest)
    return state(conn)


def _leave(conn: sqlite3.Connection) -> None:
    meta.put(conn, meta.FLEET_ACKED, _IN_NO_FLEET)


def _acknowledge(conn: sqlite3.Connection, epoch: int, through: int, check: int) -> LogState:
    found = _compare(conn, epoch, through, check)
    if epoch == found.epoch and found.acked is not None and through > found.acked:
        meta.put(conn, meta.FLEET_ACKED, through)
    return state(conn)


def _compare(conn: sqlite3.Connection, epoch: int, through: int, check: int) -> LogState:
    found = state(conn)
    if epoch == found.epoch and found.acked is not None:
        ours = _check_at(conn, through)
        if through > found.newest or (check and ours and check != ours):
            begin_anew(conn)
    return state(conn)
