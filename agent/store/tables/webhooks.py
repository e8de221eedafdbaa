"""Which id each webhook has, and which are in force."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from agent.config.carried import InForce, carried, unsure
from agent.errors import IdTakenError
from agent.store.tables import callbacks, meta

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Sequence

    from agent.clock import Clock
    from agent.config.carried import Carried, Wanted
    from agent.store.tables.backlog import Backlog
    from agent.store.tables.table import Access

log = structlog.get_logger(__name__)

# The id given to the name; for one that always had explicit ids, the last of those.
_OF_NAME: Final = """
SELECT id FROM webhooks WHERE org_id = ? AND name = ? ORDER BY explicit, taken DESC LIMIT 1
"""
_OF_ID: Final = "SELECT org_id, name, in_force FROM webhooks WHERE id = ?"
_LAST_GIVEN: Final = "SELECT coalesce(max(id), 0) FROM webhooks WHERE explicit = 0"
_TAKE: Final = """
INSERT INTO webhooks (id, org_id, name, explicit, taken)
SELECT ?, ?, ?, ?, 1 + coalesce(max(taken), 0) FROM webhooks
"""
_TAKE_AGAIN: Final = """
UPDATE webhooks SET taken = 1 + (SELECT max(taken) FROM webhooks) WHERE id = ?
"""
_RENAME: Final = """
UPDATE webhooks
SET org_id = ?, name = ?, explicit = 1, taken = 1 + (SELECT max(taken) FROM webhooks)
WHERE id = ?
"""
# What the name once had stands back behind what comes to it now.
_NOT_GIVEN: Final = "UPDATE webhooks SET explicit = 1 WHERE org_id = ? AND name = ?"
_MOVE: Final = """
UPDATE webhooks SET org_id = ?, taken = 1 + (SELECT max(taken) FROM webhooks) WHERE id = ?
"""
_IN_FORCE: Final = "SELECT id, org_id, name FROM webhooks WHERE in_force = 1"
_NONE_IN_FORCE: Final = "UPDATE webhooks SET in_force = 0 WHERE in_force = 1"
_PUT_IN_FORCE: Final = "UPDATE webhooks SET in_force = 1 WHERE id = ?"
WITH_PENDING: Final = """
WITH RECURSIVE seen (id) AS (
    SELECT min(webhook_id) FROM callbacks WHERE state = 'pending'
    UNION ALL
    SELECT (SELECT min(webhook_id) FROM callbacks WHERE state = 'pending' AND webhook_id > seen.id)
    FROM seen WHERE seen.id IS NOT NULL
)
SELECT id FROM seen WHERE id IS NOT NULL
"""
CANCEL: Final = """
UPDATE callbacks SET state = 'cancelled', finished_ms = ?
WHERE id IN (SELECT id FROM callbacks WHERE state = 'pending' AND webhook_id = ? LIMIT ?)
"""


class Webhooks:
    """Webhooks' ids, and which are in force: what is pending for others is cancelled."""

    def __init__(self, access: Access, backlog: Backlog, clock: Clock) -> None:
        self._access = access
        self._backlog = backlog
        self._clock = clock
        self._in_force: frozenset[int] = frozenset()
        self.cancelled = 0
        """Callbacks cancelled because their webhooks were gone, since the opening."""

    async def ids(self, wanted: Sequence[Wanted]) -> list[int]:
        """The id of each webhook (org_id, name, explicit id or None), in the order asked.

        Explicit ids are taken as they are. Others are given once per (org, name) and kept for ever
        (for a name that had explicit ids before: the latest of them). No id is ever given, or
        accepted, that another webhook used; an explicit id that is in force (`retain`), by a name
        that is asked for no more, is that webhook's under its new name. Ids that are known already
        are told even while the disk is full; new ones wait for it.

        Raises:
            StoreError: an explicit id belongs to another name; nothing is stored.
        """
        kept = tuple(wanted)
        known = await self._access.ask(partial(_known, kept))
        if known is not None:
            return known
        return await self._access.change(partial(_take_all, kept))

    def retain(self, keep: Collection[int]) -> asyncio.Task[int]:
        """These are in force; cancel what is pending for all others: returns how many callbacks.

        In force from the call on, before it is awaited: to be called in the same turn of the loop
        as whatever makes callbacks for other webhooks. A large backlog is cancelled in several
        transactions; other changes go on between them, and each goes by what was called last.
        """
        self._in_force = frozenset(keep)
        return asyncio.create_task(self._until_all(self._cancel_others()), name="retain")

    async def _until_all(self, first: asyncio.Future[list[tuple[int, int]]]) -> int:
        last = total = sum(count for _, count in await first)
        while last == callbacks.CANCEL_ROWS:
            last = sum(count for _, count in await self._cancel_others())
            total += last
        return total

    def _cancel_others(self) -> asyncio.Future[list[tuple[int, int]]]:
        return self._access.change(
            partial(_retain, self._in_force, self._clock.wall_ms()), self._gone
        )

    def _gone(self, cancelled: list[tuple[int, int]]) -> None:
        for webhook_id, count in cancelled:
            self.cancelled += count
            self._backlog.move(webhook_id, -count)


def _retain(keep: frozenset[int], now_ms: int, conn: sqlite3.Connection) -> list[tuple[int, int]]:
    """Cancels CANCEL_ROWS callbacks at most; how many of which webhook.

    Fewer than CANCEL_ROWS together: that was all.
    """
    if {each.id for each in _in_force(conn)} != keep:
        conn.execute(_NONE_IN_FORCE)
        conn.executemany(_PUT_IN_FORCE, [(id_,) for id_ in keep])
    gone = [webhook for (webhook,) in conn.execute(WITH_PENDING) if webhook not in keep]
    cancelled = []
    room = callbacks.CANCEL_ROWS
    for webhook in gone:
        count = conn.execute(CANCEL, (now_ms, webhook, room)).rowcount
        cancelled.append((webhook, count))
        room -= count
    return cancelled


def _known(wanted: Sequence[Wanted], conn: sqlite3.Connection) -> list[int] | None:
    """The ids of all, where nothing has to be written for it; None otherwise."""
    if _carried(conn, wanted):
        return None
    ids = []
    for org_id, name, explicit in wanted:
        known = conn.execute(_OF_NAME, (org_id, name)).fetchone()
        if known is None or explicit not in {None, known[0]}:
            return None
        ids.append(int(known[0]))
    return ids


def _take_all(wanted: Sequence[Wanted], conn: sqlite3.Connection) -> list[int]:
    """The ids of all webhooks of a configuration.

    Explicit ids first: one of them must not be given to a name that stands above it in the file. An
    explicit id whose webhook is in force by a name that the configuration has no more stays that
    webhook's, under its new name; the id of one that is not in force is nobody else's. One without
    an explicit id that has another organisation than before, and nothing else new, is the same.
    """
    names = {(org_id, name) for org_id, name, _ in wanted}
    for org_id, name, explicit in wanted:
        if explicit is not None:
            _take_explicit(conn, org_id, name, explicit, names)
    for moved in _carried(conn, wanted):
        (old,) = moved.old
        log.warning(
            "webhook.moved",
            webhook=moved.name,
            id=old.id,
            org_id=moved.org_id,
            before=old.org_id,
            hint="it keeps its id, and what waits for it",
        )
        conn.execute(_NOT_GIVEN, (moved.org_id, moved.name))
        conn.execute(_MOVE, (moved.org_id, old.id))
    return [
        _given(conn, org_id, name) if explicit is None else explicit
        for org_id, name, explicit in wanted
    ]


def _carried(conn: sqlite3.Connection, wanted: Sequence[Wanted]) -> list[Carried]:
    """Raises IdTakenError where it cannot be told which webhook is meant."""
    found = carried(_in_force(conn), wanted)
    for each in found:
        if not each.sure:
            raise IdTakenError(unsure(each))
    return found


def _in_force(conn: sqlite3.Connection) -> list[InForce]:
    return [InForce._make(row) for row in conn.execute(_IN_FORCE)]


def _take_explicit(
    conn: sqlite3.Connection, org_id: int, name: str, wish: int, names: set[tuple[int, str]]
) -> None:
    owner = conn.execute(_OF_ID, (wish,)).fetchone()
    if owner is None:
        conn.execute(_TAKE, (wish, org_id, name, 1))
    elif owner[:2] == (org_id, name):
        conn.execute(_TAKE_AGAIN, (wish,))
    elif owner[2] and owner[:2] not in names:
        conn.execute(_RENAME, (org_id, name, wish))
    else:
        raise IdTakenError(
            f"webhook {name!r} (org {org_id}) asks for id {wish}, but that id belongs to webhook"
            f" {owner[1]!r} (org {owner[0]}), and ids are never used twice, not even after a"
            " webhook was deleted. Give it another id, or leave the id out to be given one."
        )


def _given(conn: sqlite3.Connection, org_id: int, name: str) -> int:
    known = conn.execute(_OF_NAME, (org_id, name)).fetchone()
    if known is not None:
        return int(known[0])
    (last,) = conn.execute(_LAST_GIVEN).fetchone()
    free: int = max(last, meta.get(conn, meta.WEBHOOK_FLOOR)) + 1
    while conn.execute(_OF_ID, (free,)).fetchone() is not None:
        free += 1
    conn.execute(_TAKE, (free, org_id, name, 0))
    return free
