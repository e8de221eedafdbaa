"""What each device went through."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agent.history.evidence import Move
from agent.model import DeviceState, Transition
from agent.store.faults import CorruptError
from agent.store.tables import days
from agent.store.tables.table import every, run

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from agent.history.days import Left
    from agent.store.tables.table import Access

_COLUMNS: Final = (
    "SELECT id, udid, previous, state, reason, at_ms, holder, host, why FROM transitions "
)
BEYOND_LAST: Final = 1 << 62
"""Above every id."""
_BETWEEN: Final = _COLUMNS + "WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
_NEWEST_ID: Final = "SELECT coalesce(max(id), 0) FROM transitions"
# Not by age: one that counts behind a later one comes later. The newest are looked at first.
_LAST_BEFORE: Final = """
SELECT id FROM transitions WHERE id >= ? AND +at_ms < ? ORDER BY id DESC LIMIT 1
"""
_FIRST_STAMP: Final = "SELECT min(at_ms) FROM transitions WHERE at_ms >= ?"
# The plus keeps SQLite from going through all that is older.
_STAMPED_BEFORE: Final = "SELECT 1 FROM transitions WHERE id > ? AND +at_ms < ? LIMIT 1"
_AFTER: Final = _COLUMNS + "WHERE id > ? ORDER BY id LIMIT ?"
_MOVES: Final = """
SELECT id, udid, state, at_ms, host, why, CASE why LIKE '%"cause"%' WHEN 1 THEN reason ELSE '' END
FROM transitions WHERE id > ? ORDER BY id LIMIT ?
"""
_CAUSED: Final = _COLUMNS + "WHERE id > ? AND why LIKE '%\"cause\"%' ORDER BY id DESC LIMIT ?"
_FIRST_SINCE: Final = "SELECT min(id) FROM transitions WHERE udid = ? AND at_ms >= ?"
_LAST_BELOW: Final = "SELECT max(id) FROM transitions WHERE udid = ? AND id < ?"
_OF_FROM: Final = _COLUMNS + "WHERE udid = ? AND id >= ? AND id < ? ORDER BY id DESC LIMIT ?"
_OF_FIRST: Final = _COLUMNS + "WHERE udid = ? ORDER BY id LIMIT 1"
_ADD: Final = """
INSERT INTO transitions (udid, previous, state, reason, at_ms, holder, host, why) VALUES {rows}
"""
_WHY: Final = ("code", "cause", "port")
"""The fields of a Transition that the column `why` holds, each where it is not empty."""
_STATES: Final = {state.value: state for state in DeviceState}
EXPIRE: Final = """
DELETE FROM transitions WHERE id IN (
    SELECT id FROM transitions AS old WHERE at_ms < ?1 AND id <= ?2 AND EXISTS (
        SELECT 1 FROM transitions AS newer WHERE newer.udid = old.udid AND newer.id > old.id
    ) AND NOT EXISTS (
        SELECT 1 FROM transitions AS older
        WHERE older.udid = old.udid AND older.id < old.id AND older.at_ms >= ?1
    ) ORDER BY at_ms LIMIT ?3
) RETURNING id
"""


class StoredTransition(NamedTuple):
    """A transition that is durable.

    Ids grow by one from one to the next: one that is left out was deleted by the retention. Only a
    store that was made anew after corruption begins again at 1.
    """

    id: int
    transition: Transition


class Transitions:
    """The transitions' rows; they are written by `Store.record`."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def newest(self) -> StoredTransition | None:
        """The last one; None: there is none."""
        return _one(await self._access.ask(every(_read, _COLUMNS + "ORDER BY id DESC LIMIT 1")))

    async def get(self, id_: int) -> StoredTransition | None:
        """The one with that id; None: it is not there (any more)."""
        return _one(await self._access.ask(every(_read, _COLUMNS + "WHERE id = ?", id_)))

    async def after(self, id_: int, limit: int) -> list[StoredTransition]:
        """Those with an id above that, in order, at most `limit`."""
        return await self._access.ask(lambda conn: after(conn, id_, limit))

    async def moves_after(self, id_: int, limit: int) -> list[Move]:
        """Likewise, of each what says who is suspect."""
        return await self._access.ask(lambda conn: moves_after(conn, id_, limit))

    async def of(self, udid: str, limit: int, before: int | None = None) -> list[StoredTransition]:
        """The last ones of one device, newest first, at most `limit`; those before that id."""
        statement = _COLUMNS + "WHERE udid = ? AND id < ? ORDER BY id DESC LIMIT ?"
        below = BEYOND_LAST if before is None else before
        return await self._access.ask(every(_read, statement, udid, below, limit))

    async def caused(self, among: int, limit: int) -> list[StoredTransition]:
        """Those with a cause, in order; of the last so many transitions, the last `limit`."""
        return await self._access.ask(lambda conn: caused(conn, among, limit))

    async def between(self, after_: int, through: int, limit: int) -> list[StoredTransition]:
        """Those with ids above the one, up to the other, in order, at most `limit`."""
        return await self._access.ask(lambda conn: between(conn, after_, through, limit))

    async def last_for(self, left: Left, until: int) -> int:
        """See the function."""
        return await self._access.ask(lambda conn: last_for(conn, left, until))

    async def within(self, udid: str, since: int, until: int, limit: int) -> list[StoredTransition]:
        """Those of one device that count in that range, and the one before them, in order.

        Of more than `limit` the last ones. Some that count later may be there, too; where all that
        are stored do, the first of them is.
        """
        return await self._access.ask(lambda conn: within(conn, udid, since, until, limit))

    async def within_of_many(
        self, udids: Sequence[str], since: int, until: int, limit: int
    ) -> dict[str, list[StoredTransition]]:
        """Likewise, of each of them."""
        return await self._access.ask(
            lambda conn: {udid: within(conn, udid, since, until, limit) for udid in udids}
        )


def within(
    conn: sqlite3.Connection, udid: str, since: int, until: int, limit: int
) -> list[StoredTransition]:
    """See `Transitions.within`.

    From the first one that was stamped then or later on all count so, however they are stamped.
    """
    (first,) = conn.execute(_FIRST_SINCE, (udid, since)).fetchone()
    below = BEYOND_LAST if first is None else first
    (base,) = conn.execute(_LAST_BELOW, (udid, below)).fetchone()
    begin = below if base is None else base
    found = every(_read, _OF_FROM, udid, begin, BEYOND_LAST, limit)(conn)
    if len(found) == limit:  # they may all be later ones: a phone that came and went all week
        (end,) = conn.execute(_FIRST_SINCE, (udid, until)).fetchone()
        if end is not None:
            found = every(_read, _OF_FROM, udid, begin, end, limit)(conn)
            found = found or every(_read, _OF_FIRST, udid)(conn)
    return found[::-1]


def caused(conn: sqlite3.Connection, among: int, limit: int) -> list[StoredTransition]:
    """See `Transitions.caused`."""
    (newest,) = conn.execute(_NEWEST_ID).fetchone()
    return every(_read, _CAUSED, newest - among, limit)(conn)[::-1]


def add(conn: sqlite3.Connection, transitions: Sequence[Transition]) -> None:
    """Add them, in order."""
    if transitions:
        days.spoil(conn, min(each.at_ms for each in transitions))
    run(conn, _ADD, [_row(transition) for transition in transitions])


def after(conn: sqlite3.Connection, id_: int, limit: int) -> list[StoredTransition]:
    """Those with an id above that, in order, at most `limit`."""
    return every(_read, _AFTER, id_, limit)(conn)


def moves_after(conn: sqlite3.Connection, id_: int, limit: int) -> list[Move]:
    """See `Transitions.moves_after`."""
    found: list[Move] = []
    known: dict[str, tuple[str, str, str]] = {}  # a rack's moves tell few codes and ports
    for number, udid, state, at_ms, host, why, reason in conn.execute(_MOVES, (id_, limit)):
        if (said := known.get(why)) is None:
            try:
                of = _why(why)
            except ValueError as error:
                raise _senseless(number, error) from error
            said = known[why] = (of.get("code", ""), of.get("cause", ""), of.get("port", ""))
        if (now := _STATES.get(state)) is None:
            raise _senseless(number, ValueError(f"{state!r} is no state"))
        found.append(Move(number, udid, now, at_ms, host, *said, reason))
    return found


def between(
    conn: sqlite3.Connection, after_: int, through: int, limit: int
) -> list[StoredTransition]:
    """Those with ids above the one, up to the other, in order, at most `limit`."""
    return every(_read, _BETWEEN, after_, through, limit)(conn)


def newest_id(conn: sqlite3.Connection) -> int:
    """Of the last one; 0: there is none."""
    (id_,) = conn.execute(_NEWEST_ID).fetchone()
    return int(id_)


def last_for(conn: sqlite3.Connection, left: Left, until: int) -> int:
    """Id up to which those stand that may count between what a day left and that time.

    What was written after a later day had become final counts behind that one.
    """
    packed = days.last_of(conn, until)
    if packed is not None:
        return packed
    found = conn.execute(_LAST_BEFORE, (left.next, until)).fetchone()
    after = days.final_from(conn, until)
    last = max(0, left.next - 1) if found is None else int(found[0])
    return last if after is None else min(last, after.through)


def first_stamp(conn: sqlite3.Connection, since: int) -> int | None:
    """The earliest time, from that one on, with which one is stamped."""
    (at,) = conn.execute(_FIRST_STAMP, (since,)).fetchone()
    return None if at is None else int(at)


def any_stamped_before(conn: sqlite3.Connection, before_ms: int, behind: int) -> bool:
    """Whether any with an id above that is stamped earlier."""
    return conn.execute(_STAMPED_BEFORE, (behind, before_ms)).fetchone() is not None


def expire(conn: sqlite3.Connection, before_ms: int, through: int, limit: int) -> list[int]:
    """Delete older ones up to that id, `limit` at most, each device's newest never; their ids.

    One that is stamped earlier than one before it of the same device counts at that one's time.
    """
    return [id_ for (id_,) in conn.execute(EXPIRE, (before_ms, through, limit)).fetchall()]


def _one(found: list[StoredTransition]) -> StoredTransition | None:
    return found[0] if found else None


def _read(row: tuple[Any, ...]) -> StoredTransition:
    id_, udid, previous, state, *told, why = row
    try:
        before = None if previous is None else DeviceState(previous)
        after = DeviceState(state)
        said = _why(why)
    except ValueError as error:
        raise _senseless(id_, error) from error
    return StoredTransition(id_, Transition(udid, before, after, *told, **said))


def _senseless(id_: int, error: ValueError) -> CorruptError:
    return CorruptError(f"the row of transition {id_} makes no sense: {error}")


def _why(text: str) -> dict[str, Any]:
    """The fields of a Transition that the column `why` holds; ValueError."""
    if not text:
        return {}
    said = json.loads(text)
    if not isinstance(said, dict):
        raise ValueError(f"{text!r} is no JSON object")  # noqa: TRY004 - as the others
    found = {name: said[name] for name in _WHY if name in said}
    if not all(isinstance(value, str) for value in found.values()):
        raise ValueError(f"{text!r} holds what is no text")
    return found


def _row(transition: Transition) -> tuple[Any, ...]:
    why = {name: value for name in _WHY if (value := getattr(transition, name))}
    return (
        transition.udid,
        None if transition.previous is None else transition.previous.value,
        transition.state.value,
        transition.reason,
        transition.at_ms,
        transition.holder,
        transition.host,
        json.dumps(why) if why else "",
    )
