"""What another hub has delivered: it is final here too, and how far that was read.

Each hub of a fleet makes the same callbacks. One of them sends; the others follow what it tells.
The same but for what ripens by a hub's own time: one may have taken a host for lost a moment before
it was back, and the other not. What one hub alone made is given up once another has gone on behind
it: it would otherwise be sent after a take-over, long after what came later.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.model import CallbackState
from agent.store.tables import meta

if TYPE_CHECKING:
    import asyncio
    import sqlite3
    from collections.abc import Callable, Sequence

    from agent.clock import Clock
    from agent.store.tables.backlog import Backlog
    from agent.store.tables.table import Access

_SETTLE: Final = """
UPDATE callbacks SET state = ?2, finished_ms = ?3,
    attempts = CASE ?2 WHEN 'cancelled' THEN attempts ELSE max(attempts, 1) END
WHERE message_id = ?1 AND state = 'pending' RETURNING webhook_id, udid, id
"""
# Whoever sends keeps to the order of each lane: all that it made before this one is final, too.
_GIVE_UP: Final = """
UPDATE callbacks SET state = 'cancelled', finished_ms = ?4
WHERE state = 'pending' AND webhook_id = ?1 AND udid = ?2 AND id < ?3
"""
_KNOWN: Final = "SELECT 1 FROM callbacks WHERE message_id = ?"
HEAD: Final = """
SELECT id, created_ms FROM callbacks
WHERE state = 'pending' AND webhook_id = ? AND udid = ? ORDER BY id LIMIT 1
"""
# What is cancelled and its webhook in force was superseded; all else is each hub's own affair.
RECENT: Final = """
SELECT c.message_id, c.state FROM callbacks AS c
WHERE c.finished_ms > ?1 AND (
    c.state <> 'cancelled'
    OR EXISTS (SELECT 1 FROM webhooks AS w WHERE w.id = c.webhook_id AND w.in_force = 1)
)
ORDER BY c.finished_ms LIMIT ?2
"""


class Outcome(NamedTuple):
    """One callback that is final, and where in the stream that is told."""

    number: int
    message_id: str
    state: CallbackState


class Followed(NamedTuple):
    """How far a stream was read: all up to `through` is in this store."""

    stream: int = 0
    """Tells two streams of one name apart."""
    through: int = 0


class LaneHead(NamedTuple):
    """Of a (webhook, device): its first pending callback, if there is one."""

    webhook_id: int
    udid: str
    rowid: int
    """0: nothing is pending."""
    created_ms: int


class Settled(NamedTuple):
    """What came of it."""

    unknown: tuple[Outcome, ...]
    """There are no such callbacks, or not yet."""
    lanes: tuple[LaneHead, ...]
    """Those of which something was pending."""
    moved: tuple[tuple[int, int], ...]
    """How many callbacks of which webhook."""


class Elsewhere:
    """What other hubs have made of the callbacks that this store has, too."""

    def __init__(self, access: Access, backlog: Backlog, clock: Clock) -> None:
        self._access = access
        self._backlog = backlog
        self._clock = clock

    async def followed(self) -> Followed:
        """How far that is known here."""
        return await self._access.ask(_followed)

    def settle(
        self,
        outcomes: Sequence[Outcome],
        followed: Followed,
        then: Callable[[Settled], None],
    ) -> asyncio.Future[Settled]:
        """Make those final that are pending, and remember how far the stream was read.

        It was read up to `followed` at most; less, where a callback is not known (yet).

        `then` is called when it is durable, and before anybody is notified of a callback that was
        stored later: a lane of which nothing was pending may have something again by then.
        """
        now = self._clock.wall_ms()
        change = partial(_settle, tuple(outcomes), followed, now)
        return self._access.change(change, partial(self._settled, then))

    async def recent(self, seconds: float, most: int) -> list[tuple[str, CallbackState]]:
        """What became final here within that time, oldest first."""
        since = self._clock.wall_ms() - round(seconds * 1000)

        def question(conn: sqlite3.Connection) -> list[tuple[str, CallbackState]]:
            rows = conn.execute(RECENT, (since, most))
            return [(message_id, CallbackState(state)) for message_id, state in rows]

        return await self._access.ask(question)

    def _settled(self, then: Callable[[Settled], None], settled: Settled) -> None:
        for webhook_id, count in settled.moved:
            self._backlog.move(webhook_id, -count)
        then(settled)


def _followed(conn: sqlite3.Connection) -> Followed:
    return Followed(meta.find(conn, meta.DONE_STREAM), meta.find(conn, meta.DONE_THROUGH))


def _settle(
    outcomes: Sequence[Outcome], followed: Followed, now_ms: int, conn: sqlite3.Connection
) -> Settled:
    unknown, counts = [], dict[int, int]()
    lanes: dict[tuple[int, str], int] = {}
    """To the last one of each that is final."""
    for final in outcomes:
        row = conn.execute(_SETTLE, (final.message_id, final.state.value, now_ms)).fetchall()
        if row:
            ((webhook_id, udid, rowid),) = row
            lanes[webhook_id, udid] = max(rowid, lanes.get((webhook_id, udid), 0))
            counts[webhook_id] = counts.get(webhook_id, 0) + 1
        elif conn.execute(_KNOWN, (final.message_id,)).fetchone() is None:
            unknown.append(final)
    for (webhook_id, udid), last in lanes.items():
        given_up = conn.execute(_GIVE_UP, (webhook_id, udid, last, now_ms)).rowcount
        counts[webhook_id] += given_up
    stream, through = followed
    if unknown:
        through = min(through, min(each.number for each in unknown) - 1)
    known = _followed(conn)
    if stream and (stream != known.stream or through > known.through):
        meta.enter(conn, meta.DONE_STREAM, stream)
        meta.enter(conn, meta.DONE_THROUGH, max(0, through))
    heads = tuple(_head(conn, *lane) for lane in lanes)
    return Settled(tuple(unknown), heads, tuple(counts.items()))


def _head(conn: sqlite3.Connection, webhook_id: int, udid: str) -> LaneHead:
    rowid, created_ms = conn.execute(HEAD, (webhook_id, udid)).fetchone() or (0, 0)
    return LaneHead(webhook_id, udid, rowid, created_ms)
